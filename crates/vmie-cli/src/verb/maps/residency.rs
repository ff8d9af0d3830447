//! How much of a mapped range the image holds.
//!
//! Regions and their frames come from two walks side by side, never from one walk per region: the
//! work of a walk is bounded, that of a walk for each of a hostile guest's regions would not be.

use std::iter::Peekable;

use vmie::paging::{Extent, ExtentItem, ExtentWalk};
use vmie::{AddrRange, AddressSpace, Cause, Coverage, Gpa, Gva, Region};

/// What the image really holds, ascending.
pub(super) fn held(space: &AddressSpace) -> Vec<AddrRange<Gpa>> {
    space
        .phys()
        .regions(AddrRange::all())
        .map(Region::range)
        .collect()
}

/// Counts the bytes of an extent as in the image or absent; answers how many are absent.
pub(super) fn count(held: &[AddrRange<Gpa>], extent: Extent, coverage: &mut Coverage<Gva>) -> u64 {
    let Some(frames) = AddrRange::new(extent.gpa, extent.len) else {
        // Frames past the end of physical memory: no image holds them.
        coverage.add_gap(extent.va, extent.len, Cause::Absent { gpa: extent.gpa });
        return extent.len;
    };
    let first = held.partition_point(|range| range.last() < frames.start());
    let mut absent = 0;
    let mut at = 0;
    let mut missing = |from: u64, to: u64, coverage: &mut Coverage<Gva>| {
        if from < to {
            absent += to - from;
            let gpa = Gpa(frames.start().0 + from);
            coverage.add_gap(Gva(extent.va.0 + from), to - from, Cause::Absent { gpa });
        }
    };
    for part in held[first..]
        .iter()
        .map_while(|range| range.intersect(frames))
    {
        let from = part.start().0 - frames.start().0;
        missing(at, from, coverage);
        coverage.add_read(part.len());
        at = from + part.len();
    }
    missing(at, extent.len, coverage);
    absent
}

/// The space, with a bound on how many of its tables are followed down to frames.
///
/// The walk over regions sums shared tables up, a walk over frames cannot: tables that describe the
/// same page over and over would keep it busy for minutes. Mapping all of RAM eight times over takes
/// no more than this.
pub(super) fn bounded(space: &AddressSpace) -> AddressSpace {
    const PAGES_OF_A_TABLE: u64 = 2 << 20;
    let ram: u64 = held(space)
        .iter()
        .fold(0, |sum, range| range.len().saturating_add(sum));
    let limit = (ram / PAGES_OF_A_TABLE).saturating_mul(8).max(16 << 10);
    space.clone().with_table_limit(limit)
}

/// How much of a range is there.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Counted {
    /// Bytes that the page tables map.
    pub(super) mapped: u64,
    /// Of these, bytes that the image does not hold.
    pub(super) absent: u64,
}

/// Tells, for ranges in ascending order, how much of each is mapped and how much of that the image
/// holds.
pub(super) struct Residency<'a> {
    walk: Peekable<ExtentWalk<'a>>,
    /// What the last range left of an extent.
    rest: Option<Extent>,
    held: Vec<AddrRange<Gpa>>,
}

impl<'a> Residency<'a> {
    /// For the ranges of a space that is [`bounded`].
    pub(super) fn new(space: &'a AddressSpace, range: AddrRange<Gva>) -> Self {
        Self {
            walk: space.extents(range).peekable(),
            rest: None,
            held: held(space),
        }
    }

    /// Counts the bytes of a region, all of which is mapped; answers how many are absent, `None` when
    /// that is not known.
    pub(super) fn of(
        &mut self,
        region: AddrRange<Gva>,
        coverage: &mut Coverage<Gva>,
    ) -> Option<u64> {
        let counted = self.within(region, coverage);
        if counted.mapped == region.len() {
            return Some(counted.absent);
        }
        // The walk over frames reached its bound before the walk over regions did.
        let rest = region.len().saturating_sub(counted.mapped);
        coverage.add_gap(region.start(), rest, Cause::Limit);
        None
    }

    /// Counts the mapped bytes of a range.
    pub(super) fn within(
        &mut self,
        range: AddrRange<Gva>,
        coverage: &mut Coverage<Gva>,
    ) -> Counted {
        let mut counted = Counted::default();
        while let Some(extent) = self.next_up_to(range.last()) {
            let Some(part) =
                AddrRange::new(extent.va, extent.len).and_then(|whole| whole.intersect(range))
            else {
                continue;
            };
            let skipped = part.start().0 - extent.va.0;
            let extent = Extent {
                va: part.start(),
                gpa: Gpa(extent.gpa.0.saturating_add(skipped)),
                len: part.len(),
                ..extent
            };
            counted.absent += count(&self.held, extent, coverage);
            counted.mapped += extent.len;
        }
        counted
    }

    /// The next extent, or part of one, that starts and ends at or below `last`.
    fn next_up_to(&mut self, last: Gva) -> Option<Extent> {
        let extent = match self.rest.take() {
            Some(rest) if rest.va > last => {
                self.rest = Some(rest);
                return None;
            }
            Some(rest) => rest,
            None => loop {
                match self.walk.next_if(|item| start(item) <= last)? {
                    ExtentItem::Extent(extent) => break extent,
                    ExtentItem::Lost { .. } | ExtentItem::Away { .. } => {}
                }
            },
        };
        let head = last.0 - extent.va.0;
        if extent.len - 1 <= head {
            return Some(extent);
        }
        let head = head + 1;
        self.rest = Some(Extent {
            va: Gva(extent.va.0 + head),
            gpa: Gpa(extent.gpa.0.saturating_add(head)),
            len: extent.len - head,
            ..extent
        });
        Some(Extent {
            len: head,
            ..extent
        })
    }
}

fn start(item: &ExtentItem) -> Gva {
    match *item {
        ExtentItem::Extent(extent) => extent.va,
        ExtentItem::Lost { va, .. } | ExtentItem::Away { va, .. } => va,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmie::Prot;

    #[test]
    fn frames_are_counted_against_what_the_image_holds() {
        let range = |start, len| AddrRange::new(Gpa(start), len).expect("not empty");
        let held = [
            range(0x1000, 0x2000),
            range(0x4000, 0x1000),
            range(0x9000, 0x1000),
        ];
        let frames = |gpa, len| {
            let extent = Extent {
                va: Gva(0x70_0000),
                gpa: Gpa(gpa),
                len,
                page_size: 0x1000,
                prot: Prot::R,
            };
            let mut coverage = Coverage::default();
            let absent = count(&held, extent, &mut coverage);
            assert_eq!(coverage.absent, absent);
            assert_eq!(coverage.read + absent, len, "every byte is counted once");
            let gaps: Vec<_> = coverage
                .gaps
                .iter()
                .map(|gap| (gap.start.0, gap.len))
                .collect();
            (absent, gaps)
        };
        assert_eq!(frames(0x1000, 0x2000), (0, vec![]));
        assert_eq!(frames(0x6000, 0x2000), (0x2000, vec![(0x70_0000, 0x2000)]));
        assert_eq!(frames(0xa000, 0x1000), (0x1000, vec![(0x70_0000, 0x1000)]));
        assert_eq!(
            frames(0, 0xb000),
            (
                0x7000,
                vec![
                    (0x70_0000, 0x1000),
                    (0x70_3000, 0x1000),
                    (0x70_5000, 0x4000),
                    (0x70_a000, 0x1000),
                ]
            )
        );
        assert_eq!(frames(0x2000, 0x3000), (0x1000, vec![(0x70_1000, 0x1000)]));
        assert_eq!(
            frames(u64::MAX - 0xfff, 0x2000).0,
            0x2000,
            "past the end of the space"
        );
    }
}
