//! How far the bases reach: which places can be come to from one of them by following so many pointers.

use super::PathOptions;
use super::intervals::{Interval, merge};
use crate::addr::{AddrRange, Address};
use crate::pointers::PointerMap;

/// So many places are followed forward at the cost of one place that is kept in a level: the level below
/// looks up what leads there.
const FOLLOWED: u64 = 4;

/// What can be reached, worked out as far as somebody wanted to know.
#[derive(Debug)]
pub(super) struct Reach {
    /// At index `n` what can be reached by following up to `n` pointers.
    within: Vec<Vec<Interval>>,
    /// How many places would have been tested against the next step, had it been known.
    missed: u64,
}

impl Reach {
    pub(super) fn new<A: Address>(options: &PathOptions<A>) -> Self {
        let ranges = options
            .ranges
            .iter()
            .map(|range| (range.start().raw(), range.last().raw()));
        let values = options
            .values
            .iter()
            .map(|value| window(value.raw(), options));
        Self {
            within: vec![sorted(ranges.chain(values).collect())],
            missed: 0,
        }
    }

    /// The places that can be reached by following up to `steps` pointers; `None` where that is not
    /// known.
    ///
    /// A step is worked out when so many `candidates` went untested for want of it as it costs: whatever
    /// comes, that is at most twice the work of knowing beforehand.
    pub(super) fn within<A: Address>(
        &mut self,
        steps: usize,
        map: &PointerMap<A>,
        options: &PathOptions<A>,
        candidates: u64,
    ) -> Option<&[Interval]> {
        if self.within.len() <= steps {
            self.missed = self.missed.saturating_add(candidates);
        }
        while self.within.len() <= steps {
            let last = self.within.last()?;
            let look_up = last.len() as u64;
            if look_up > self.missed {
                return None;
            }
            let look = map.tables.look();
            let range = |&(low, high): &Interval| AddrRange::inclusive(A::new(low), A::new(high));
            let ranges = last.iter().filter_map(range);
            let places: Vec<_> = ranges.map(|range| map.places(&look, range)).collect();
            let pointers: u64 = places.iter().map(|places| places.end - places.start).sum();
            let cost = look_up.saturating_add(pointers / FOLLOWED);
            if cost > self.missed {
                // What was just spent on looking up is not spent on the same again so soon.
                self.missed -= look_up;
                return None;
            }
            self.missed -= cost;
            let edges = map.edges(places.into_iter().flatten().map(|place| look.placed(place)));
            let mut next: Vec<Interval> = edges
                .map(|edge| window(edge.value.raw(), options))
                .collect();
            next.extend_from_slice(last);
            self.within.push(sorted(next));
        }
        self.within.get(steps).map(Vec::as_slice)
    }
}

/// The places that a pointer leads to.
fn window<A: Address>(pointer: u64, options: &PathOptions<A>) -> Interval {
    (
        pointer.saturating_sub(options.back),
        pointer.saturating_add(options.max_offset),
    )
}

fn sorted(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort_unstable();
    merge(intervals.into_iter())
}
