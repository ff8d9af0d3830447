//! What the regions of a space are called: of a process, what it has arranged to be mapped; of the
//! kernel, the image that an address lies in.

use vmie::os::Place;
use vmie::{AddrRange, Address, Gva};

use crate::exit::Failure;
use crate::guest::{self, tell_findings};
use crate::names::Names;
use crate::report::Reporter;

/// The names of a space's regions.
pub(crate) struct Regions<'a, 's> {
    names: &'a Names<'s>,
    arranged: Arranged,
}

impl<'a, 's> Regions<'a, 's> {
    /// Asks for what a process has arranged, and warns of what does not add up.
    pub(crate) fn new(names: &'a Names<'s>, reporter: &Reporter) -> Result<Self, Failure> {
        let arranged = Arranged::of(names, reporter)?;
        Ok(Self { names, arranged })
    }

    /// Of a saved moment, which keeps what was arranged.
    pub(crate) fn of_snapshot(names: &'a Names<'s>, arranged: Arranged) -> Self {
        Self { names, arranged }
    }

    /// The parts of a region, each with its name.
    pub(crate) fn cut(&self, region: AddrRange<Gva>) -> Vec<(AddrRange<Gva>, Option<String>)> {
        let mut parts = Vec::new();
        let mut at = region.start();
        let inside = self.arranged.from(at).iter();
        for (range, name) in inside.take_while(|(range, _)| range.start() <= region.last()) {
            let Some(part) =
                AddrRange::inclusive(at, region.last()).and_then(|rest| range.intersect(rest))
            else {
                // A damaged list may overlap itself.
                continue;
            };
            if let Some(before) = part.start().checked_sub(1).filter(|&last| last >= at) {
                parts.extend(AddrRange::inclusive(at, before).map(|gap| (gap, None)));
            }
            parts.push((part, name.clone()));
            match part.last().checked_add(1) {
                Some(next) => at = next,
                None => return parts,
            }
        }
        if let Some(rest) = AddrRange::inclusive(at, region.last()) {
            parts.push((rest, image(self.names, at)));
        }
        parts
    }
}

/// What a process has arranged to be mapped and what that is called, ascending; nothing for other spaces.
#[derive(Default)]
pub(crate) struct Arranged(Vec<(AddrRange<Gva>, Option<String>)>);

impl Arranged {
    /// Asks for it, and warns of what does not add up.
    pub(crate) fn of(names: &Names<'_>, reporter: &Reporter) -> Result<Self, Failure> {
        let Some((os, process)) = names.process() else {
            return Ok(Self::default());
        };
        let listing = os.guest().vmas(process);
        let listing = listing.map_err(|error| guest::failed(&error))?;
        tell_findings(&listing.findings, reporter);
        let named = listing.items.into_iter().map(|vma| (vma.range, vma.name));
        Ok(Self(named.collect()))
    }

    /// What a snapshot says was arranged, in whatever order.
    pub(crate) fn kept(named: impl Iterator<Item = (AddrRange<Gva>, String)>) -> Self {
        let mut all: Vec<_> = named.map(|(range, name)| (range, Some(name))).collect();
        all.sort_by_key(|(range, _)| range.start());
        Self(all)
    }

    /// Whether nothing has a name.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What has a name.
    pub(crate) fn named(&self) -> impl Iterator<Item = (AddrRange<Gva>, &str)> {
        let named = self.0.iter();
        named.filter_map(|(range, name)| Some((*range, name.as_deref()?)))
    }

    /// What does not end before `va`.
    fn from(&self, va: Gva) -> &[(AddrRange<Gva>, Option<String>)] {
        &self.0[self.0.partition_point(|(range, _)| range.last() < va)..]
    }

    /// The name of what `va` lies in.
    pub(crate) fn name(&self, names: &Names<'_>, va: Gva) -> Option<String> {
        match self.from(va).first() {
            Some((range, name)) if range.contains(va) => name.clone(),
            _ => image(names, va),
        }
    }
}

/// The image that an address lies in.
fn image(names: &Names<'_>, va: Gva) -> Option<String> {
    let Place { module, .. } = names.resolver()?.name(va)?;
    Some(module.unwrap_or("kernel").to_owned())
}
