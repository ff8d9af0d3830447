//! Snapshots as sources: opening them, and what they say about where they come from.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use vmie::snapshot::{self, FileError, FileErrorKind, Origin};
use vmie::{AddrRange, Gva};
use vmie_rows::Time;

use crate::candidates::Whose;
use crate::escape;
use crate::exit::Failure;
use crate::regions::Arranged;
use crate::report::Reporter;
use crate::source::Source;
use crate::space::{Space, Target};

/// What a snapshot says about itself, as JSON in the file.
#[derive(Serialize, Deserialize)]
struct About {
    /// The image or guest. For messages.
    source: String,
    space: Whose,
    /// What a process has arranged to be mapped, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    regions: Vec<Named>,
}

/// Addresses with a name.
#[derive(Serialize, Deserialize)]
struct Named {
    va: u64,
    len: u64,
    name: String,
}

/// What a snapshot of this space is told about its origin.
///
/// What the regions of a process are called is asked now; where that cannot be told, they have no names.
pub(crate) fn origin(
    source: &Source,
    space: &Space<'_>,
    reporter: &Reporter,
) -> Result<Origin, Failure> {
    if let Target::Saved(snapshot) = &space.target {
        // It is still of what it was of.
        return Ok(snapshot.origin().clone());
    }
    let arranged = Arranged::of(&space.names, reporter).unwrap_or_else(|failure| {
        let what = &failure.what;
        reporter.warn(&format!("its regions have no names: {what}"));
        Arranged::default()
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
    let space = match &space.target {
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

fn about(origin: &Origin) -> Option<About> {
    serde_json::from_str(&origin.about).ok()
}

/// Whose memory a snapshot is of.
pub(crate) fn whose(origin: &Origin) -> Whose {
    let told = about(origin).map(|about| about.space);
    told.unwrap_or_else(|| match origin.space {
        Some((root, mode)) => Whose::Root {
            cr3: root.0,
            paging: mode.to_string(),
        },
        None => Whose::Phys,
    })
}

/// What a snapshot of a process says its regions are called.
pub(crate) fn regions(origin: &Origin) -> Arranged {
    let named = about(origin).map_or_else(Vec::new, |about| about.regions);
    // A file can say anything.
    Arranged::kept(named.into_iter().filter_map(|one| {
        let range = AddrRange::new(Gva(one.va), one.len)?;
        Some((range, one.name))
    }))
}

/// What a snapshot is of, in words.
pub(crate) fn of(origin: &Origin) -> String {
    match about(origin) {
        Some(about) => format!("{} of {}", about.space, about.source),
        None => whose(origin).to_string(),
    }
}

/// A moment in words, in universal time.
pub(crate) fn when(time: SystemTime) -> Time {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, second) = (since.as_secs() / 86400, since.as_secs() % 86400);
    let (year, month, day) = date(days);
    Time(format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    ))
}

/// Year, month and day of so many days after 1970-01-01, by the Gregorian calendar.
fn date(days: u64) -> (u64, u64, u64) {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    // 400 years always have the same number of days.
    let (mut year, mut left) = (1970 + days / 146_097 * 400, days % 146_097);
    while left >= 365 + u64::from(is_leap(year)) {
        left -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    for len in [
        31,
        28 + u64::from(is_leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ] {
        if left < len {
            break;
        }
        left -= len;
        month += 1;
    }
    (year, month, left + 1)
}

/// What kind of memory a file is a snapshot of, if it is one.
pub(crate) fn kind(path: &Path) -> Option<&'static str> {
    // What cannot be opened is told when it is opened as an image.
    path.is_file()
        .then(|| snapshot::holds(path).ok().flatten())?
}

/// What to try when a file of ours is not opened.
pub(crate) fn not_opened(error: &FileError) -> Failure {
    let failure = Failure::new(error.to_string());
    match error.kind {
        FileErrorKind::Length { .. } | FileErrorKind::Damaged { .. } => {
            failure.hint("--salvage, to read what is intact")
        }
        _ => failure,
    }
}

/// Warns of what is damaged, of the first parts one by one.
pub(crate) fn tell_damage(problems: impl ExactSizeIterator<Item = String>, reporter: &Reporter) {
    const SHOWN: usize = 8;
    let more = problems.len().saturating_sub(SHOWN);
    problems
        .take(SHOWN)
        .for_each(|problem| reporter.warn(&problem));
    if more > 0 {
        reporter.warn(&format!("{more} more damaged parts"));
    }
}

/// A snapshot of one address space was asked for another.
pub(crate) fn no_other_space(source: &Source) -> Failure {
    let failure = Failure::new(format!(
        "{} is a snapshot of one address space and holds no other memory",
        source.name()
    ));
    let of = source
        .saved()
        .map(|snapshot| escape::plain(&of(snapshot.origin())).into_owned());
    of.into_iter()
        .fold(failure, Failure::found)
        .hint("leave out --pid, --process, --kernel, --cr3 and --phys")
}

/// A snapshot of one address space has no page tables.
pub(crate) fn no_tables(source: &Source, so: &str) -> Failure {
    Failure::new(format!(
        "{so}: {} is a snapshot of one address space, without page tables and frames",
        source.name()
    ))
    .hint("the image or guest it was taken of, or a snapshot with --phys")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_by_the_calendar() {
        let at = |seconds| when(UNIX_EPOCH + Duration::from_secs(seconds)).0;
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(4_107_542_399), "2100-02-28T23:59:59.000Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000Z");
        assert_eq!(at(1_792_540_799), "2026-10-20T23:59:59.000Z");
    }
}
