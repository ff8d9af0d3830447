//! What the regions of a space are called: of a process, what it has arranged to be mapped; of the
//! kernel, the image that an address lies in.

use vmie::os::{Place, Vma};
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

    /// The parts of a region, each with its name.
    pub(crate) fn cut(&self, region: AddrRange<Gva>) -> Vec<(AddrRange<Gva>, Option<String>)> {
        let mut parts = Vec::new();
        let mut at = region.start();
        let inside = self.arranged.from(at).iter();
        for vma in inside.take_while(|vma| vma.range.start() <= region.last()) {
            let Some(part) =
                AddrRange::inclusive(at, region.last()).and_then(|rest| vma.range.intersect(rest))
            else {
                // A damaged list may overlap itself.
                continue;
            };
            if let Some(before) = part.start().checked_sub(1).filter(|&last| last >= at) {
                parts.extend(AddrRange::inclusive(at, before).map(|gap| (gap, None)));
            }
            parts.push((part, vma.name.clone()));
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

/// What a process has arranged to be mapped, ascending; nothing for other spaces.
#[derive(Default)]
pub(crate) struct Arranged(Vec<Vma>);

impl Arranged {
    /// Asks for it, and warns of what does not add up.
    pub(crate) fn of(names: &Names<'_>, reporter: &Reporter) -> Result<Self, Failure> {
        let Some((os, process)) = names.process() else {
            return Ok(Self::default());
        };
        let listing = os.guest().vmas(process);
        let listing = listing.map_err(|error| guest::failed(&error))?;
        tell_findings(&listing.findings, reporter);
        Ok(Self(listing.items))
    }

    /// What does not end before `va`.
    fn from(&self, va: Gva) -> &[Vma] {
        &self.0[self.0.partition_point(|vma| vma.range.last() < va)..]
    }

    /// The name of what `va` lies in.
    pub(crate) fn name(&self, names: &Names<'_>, va: Gva) -> Option<String> {
        match self.from(va).first() {
            Some(vma) if vma.range.contains(va) => vma.name.clone(),
            _ => image(names, va),
        }
    }
}

/// The image that an address lies in.
fn image(names: &Names<'_>, va: Gva) -> Option<String> {
    let Place { module, .. } = names.resolver()?.name(va)?;
    Some(module.unwrap_or("kernel").to_owned())
}
