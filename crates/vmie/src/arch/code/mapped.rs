//! What a space maps, for whoever asks often and does not need to know exactly.

use crate::addr::{AddrRange, Gva};

/// Regions with less than this between them are taken as one.
const GAP: u64 = 1 << 20;

/// What is mapped, roughly: small gaps count as mapped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mapped {
    /// First and last address of each region, in order, not touching.
    regions: Vec<(u64, u64)>,
}

impl Mapped {
    /// Of ranges in order.
    pub(crate) fn new(ranges: impl IntoIterator<Item = AddrRange<Gva>>) -> Self {
        let mut regions: Vec<(u64, u64)> = Vec::new();
        for range in ranges {
            let (first, last) = (range.start().0, range.last().0);
            match regions.last_mut() {
                Some(before) if first - before.1 <= GAP => before.1 = last,
                _ => regions.push((first, last)),
            }
        }
        Self { regions }
    }

    /// Whether something is mapped at an address. Costs a binary search.
    #[inline]
    pub(crate) fn has(&self, va: u64) -> bool {
        let index = self.regions.partition_point(|region| region.1 < va);
        let region = self.regions.get(index);
        region.is_some_and(|region| region.0 <= va)
    }

    /// The first and the last address at which something is mapped.
    #[inline]
    pub(crate) fn ends(&self) -> Option<(u64, u64)> {
        Some((self.regions.first()?.0, self.regions.last()?.1))
    }

    /// All regions: first and last address.
    pub(crate) fn regions(&self) -> &[(u64, u64)] {
        &self.regions
    }

    /// What of the regions lies from `first` to `last`.
    pub(crate) fn within(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let from = self.regions.partition_point(|region| region.1 < first);
        let those = self.regions[from..].iter();
        those
            .take_while(move |region| region.0 <= last)
            .map(move |region| (region.0.max(first), region.1.min(last)))
    }
}
