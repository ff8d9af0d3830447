//! What the regions of a space are called: of a process, what it has arranged to be mapped; of everything else, the image
//! that an address lies in.

use crate::addr::{AddrRange, Address as _, Gva};
use crate::os::{Finding, Guest, OsError, Place, Process, Resolver};

/// What images of the kernel itself are called.
const KERNEL: &str = "kernel";

/// What a process has arranged to be mapped and what that is called, by address; nothing for other spaces.
#[derive(Clone, Default, Debug)]
pub struct Regions {
    named: Vec<(AddrRange<Gva>, Option<String>)>,
    /// What did not add up in the list.
    pub findings: Vec<Finding>,
}

impl Regions {
    /// Of a process.
    ///
    /// # Errors
    ///
    /// As [`Guest::vmas`].
    pub fn of_process(guest: &dyn Guest, process: &Process) -> Result<Self, OsError> {
        let listing = guest.vmas(process)?;
        let named = listing.items.into_iter().map(|vma| (vma.range, vma.name));
        Ok(Self {
            named: named.collect(),
            findings: listing.findings,
        })
    }

    /// As they were kept with a snapshot, in whatever order.
    pub fn kept(named: impl Iterator<Item = (AddrRange<Gva>, String)>) -> Self {
        let mut named: Vec<_> = named.map(|(range, name)| (range, Some(name))).collect();
        named.sort_by_key(|(range, _)| range.start());
        Self {
            named,
            findings: Vec::new(),
        }
    }

    /// Whether nothing has a name.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// What has a name.
    pub fn named(&self) -> impl Iterator<Item = (AddrRange<Gva>, &str)> {
        let named = self.named.iter();
        named.filter_map(|(range, name)| Some((*range, name.as_deref()?)))
    }

    /// The name of what `va` lies in: that of a region, or else of an image that `resolver` knows.
    pub fn name(&self, va: Gva, resolver: Option<&Resolver<'_>>) -> Option<String> {
        match self.from(va).first() {
            Some((range, name)) if range.contains(va) => name.clone(),
            _ => image(resolver, va),
        }
    }

    /// Where all that is called `name` lies, as one range: regions of one name that nothing of another name lies between
    /// (a file that is mapped with several protections). `None` where nothing is called so.
    ///
    /// # Errors
    ///
    /// Where regions of the name lie in several places: each of these, ascending.
    pub fn range_of(&self, name: &str) -> Result<Option<AddrRange<Gva>>, Vec<AddrRange<Gva>>> {
        let mut places: Vec<AddrRange<Gva>> = Vec::new();
        let mut goes_on = false;
        for (range, of) in &self.named {
            match of.as_deref() {
                Some(of) if of == name => match places.last_mut() {
                    Some(place) if goes_on && place.last() < range.last() => {
                        *place =
                            AddrRange::inclusive(place.start(), range.last()).unwrap_or(*place);
                    }
                    _ => places.push(*range),
                },
                // What has no name between two segments of a file is no other's.
                None => continue,
                Some(_) => {}
            }
            goes_on = of.as_deref() == Some(name);
        }
        match places[..] {
            [] => Ok(None),
            [place] => Ok(Some(place)),
            _ => Err(places),
        }
    }

    /// The parts of a run of mapped bytes, each with its name: it is cut wherever a region begins or ends.
    pub fn cut(
        &self,
        run: AddrRange<Gva>,
        resolver: Option<&Resolver<'_>>,
    ) -> Vec<(AddrRange<Gva>, Option<String>)> {
        let mut parts = Vec::new();
        let mut at = run.start();
        let inside = self.from(at).iter();
        for (range, name) in inside.take_while(|(range, _)| range.start() <= run.last()) {
            let Some(part) =
                AddrRange::inclusive(at, run.last()).and_then(|rest| range.intersect(rest))
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
        if let Some(rest) = AddrRange::inclusive(at, run.last()) {
            parts.push((rest, image(resolver, at)));
        }
        parts
    }

    /// What does not end before `va`.
    fn from(&self, va: Gva) -> &[(AddrRange<Gva>, Option<String>)] {
        &self.named[self.named.partition_point(|(range, _)| range.last() < va)..]
    }
}

/// The image that an address lies in.
fn image(resolver: Option<&Resolver<'_>>, va: Gva) -> Option<String> {
    let Place { module, .. } = resolver?.name(va)?;
    Some(module.unwrap_or(KERNEL).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_all_that_is_called_so() {
        let named = |names: &[&str]| {
            let at = |index: usize| range(0x1000 * (index as u64 + 1), 0x800);
            Regions {
                named: names
                    .iter()
                    .enumerate()
                    .map(|(index, name)| (at(index), (!name.is_empty()).then(|| name.to_string())))
                    .collect(),
                findings: Vec::new(),
            }
        };
        let regions = named(&["libc", "", "libc", "libc", "", "[heap]", "pool", "[heap]"]);
        assert_eq!(regions.range_of("libc"), Ok(Some(range(0x1000, 0x3800))));
        assert_eq!(regions.range_of("pool"), Ok(Some(range(0x7000, 0x800))));
        assert_eq!(regions.range_of("other"), Ok(None));
        assert_eq!(
            regions.range_of("[heap]"),
            Err(vec![range(0x6000, 0x800), range(0x8000, 0x800)])
        );
    }

    fn range(start: u64, len: u64) -> AddrRange<Gva> {
        AddrRange::new(Gva(start), len).expect("a range")
    }

    #[test]
    fn a_run_is_cut_where_regions_begin_and_end() {
        let named = [
            (range(0x3000, 0x1000), "[heap]".to_owned()),
            (range(0x1000, 0x1000), "server".to_owned()),
        ];
        let regions = Regions::kept(named.into_iter());
        let heap = Some("[heap]".to_owned());
        let server = Some("server".to_owned());
        assert_eq!(
            regions.cut(range(0x1800, 0x3000), None),
            [
                (range(0x1800, 0x800), server.clone()),
                (range(0x2000, 0x1000), None),
                (range(0x3000, 0x1000), heap.clone()),
                (range(0x4000, 0x800), None),
            ]
        );
        assert_eq!(regions.name(Gva(0x1fff), None), server);
        assert_eq!(regions.name(Gva(0x2000), None), None);
        // What begins and ends with a region is that region, and nothing behind the last address.
        assert_eq!(
            regions.cut(range(0x3000, 0x1000), None),
            [(range(0x3000, 0x1000), heap)]
        );
        let top = Regions::kept([(range(u64::MAX - 0xfff, 0x1000), "top".to_owned())].into_iter());
        let parts = top.cut(range(u64::MAX - 0xfff, 0x1000), None);
        assert_eq!(
            parts,
            [(range(u64::MAX - 0xfff, 0x1000), Some("top".to_owned()))]
        );
    }
}
