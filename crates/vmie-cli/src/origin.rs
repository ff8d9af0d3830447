//! What a snapshot is told about where it comes from.

use vmie::AddrRange;
use vmie::Gva;
use vmie::snapshot::Origin;
use vmie::views::Regions;

use crate::exit::Failure;
use crate::regions;
use crate::report::Reporter;
use crate::saved::{About, Named};
use crate::source::Source;
use crate::space::{Space, Target};

/// What a snapshot of this space is told about its origin.
///
/// What the regions of a process are called is asked now; where that cannot be told, they have no names.
pub(crate) fn origin(
    source: &Source,
    space: &Space<'_>,
    reporter: &Reporter,
) -> Result<Origin, Failure> {
    if let Target::Saved(snapshot) = &space.of.target {
        // It is still of what it was of.
        return Ok(snapshot.origin().clone());
    }
    let arranged = regions::of(&space.names, reporter).unwrap_or_else(|failure| {
        let what = &failure.what;
        reporter.warn(&format!("its regions have no names: {what}"));
        Regions::default()
    });
    let named = |(range, name): (AddrRange<Gva>, &str)| Named {
        va: range.start().0,
        len: range.len(),
        name: name.to_owned(),
    };
    let about = About {
        source: source.name(),
        space: space.whose(),
        regions: arranged.named().map(named).collect(),
    };
    let about = serde_json::to_string(&about)
        .map_err(|error| Failure::new(format!("the snapshot cannot be described: {error}")))?;
    let width = space.known_width(reporter);
    let space = match &space.of.target {
        Target::Virtual(space) => Some((space.root(), space.mode())),
        Target::Saved(snapshot) => snapshot.origin().space,
        Target::Physical(_) => None,
    };
    Ok(Origin {
        about,
        space,
        cpus: source.info().hints.cpus.clone(),
        width,
    })
}
