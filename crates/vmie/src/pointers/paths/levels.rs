//! The levels of a search: which places lead to the target in how many steps.

use std::ops::ControlFlow;

use super::reach::Reach;
use super::{PathOptions, PathOutcome};
use crate::addr::Address;
use crate::pointers::{Edge, PointerMap};

/// A pointer of a level: where it stands and where it leads.
pub(super) type Place = (u64, u64);

/// First and last address.
pub(super) type Interval = (u64, u64);

/// Where the pointers of a level come from: an index, or a sweep.
pub(super) trait Pointers {
    /// Adds the pointers that lead into one of the windows, which ascend and do not overlap. `left` is
    /// how many pointers may be followed before one of these. At most `most` are added; fewer than
    /// there are only when it answers `false`.
    fn into(
        &mut self,
        windows: &[Interval],
        left: usize,
        most: usize,
        places: &mut Vec<Place>,
        progress: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> ControlFlow<(), bool>;
}

/// The levels, the first at index 0, each by ascending place.
pub(super) fn levels<A: Address>(
    pointers: &mut impl Pointers,
    target: A,
    options: &PathOptions<A>,
    progress: &mut dyn FnMut() -> ControlFlow<()>,
) -> (Vec<Vec<Place>>, PathOutcome) {
    let mut levels: Vec<Vec<Place>> = Vec::new();
    let mut room = options.max_places;
    let mut stopped = false;
    while levels.len() < options.depth {
        let windows = match levels.last() {
            None => windows([target.raw()].into_iter(), options.back, options.max_offset),
            Some(level) => windows(
                level.iter().map(|&(place, _)| place),
                options.back,
                options.max_offset,
            ),
        };
        let left = options.depth - levels.len() - 1;
        let mut level = Vec::new();
        match pointers.into(&windows, left, room, &mut level, progress) {
            ControlFlow::Break(()) => {
                stopped = true;
                break;
            }
            // A level that is not whole would pass for one that is.
            ControlFlow::Continue(false) => break,
            ControlFlow::Continue(true) => {}
        }
        level.sort_unstable();
        level.dedup();
        room -= level.len();
        let end = level.is_empty();
        levels.push(level);
        if end {
            // Nothing leads there: all longer paths are found too.
            levels.resize(options.depth, Vec::new());
        }
    }
    let depth = levels.len();
    (levels, PathOutcome { stopped, depth })
}

/// Where a pointer must lead so that one of these places, which ascend, comes within the offsets.
pub(super) fn windows(
    places: impl Iterator<Item = u64>,
    back: u64,
    max_offset: u64,
) -> Vec<Interval> {
    merge(places.map(|place| (place.saturating_sub(max_offset), place.saturating_add(back))))
}

/// Intervals by ascending start, those that touch or overlap made one.
pub(super) fn merge(intervals: impl Iterator<Item = Interval>) -> Vec<Interval> {
    let mut merged: Vec<Interval> = Vec::new();
    for (low, high) in intervals {
        match merged.last_mut() {
            Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
            _ => merged.push((low, high)),
        }
    }
    merged
}

/// Whether one of these intervals, which ascend, holds a number.
pub(super) fn within(intervals: &[Interval], number: u64) -> bool {
    let at = intervals.partition_point(|&(_, high)| high < number);
    intervals.get(at).is_some_and(|&(low, _)| low <= number)
}

/// The pointers of an index.
pub(super) struct Indexed<'s, 'm, A: Address> {
    map: &'m PointerMap<A>,
    reach: &'s mut Reach,
    options: &'m PathOptions<A>,
}

impl<'s, 'm, A: Address> Indexed<'s, 'm, A> {
    pub(super) fn new(
        map: &'m PointerMap<A>,
        reach: &'s mut Reach,
        options: &'m PathOptions<A>,
    ) -> Self {
        Self {
            map,
            reach,
            options,
        }
    }
}

impl<A: Address> Pointers for Indexed<'_, '_, A> {
    fn into(
        &mut self,
        windows: &[Interval],
        left: usize,
        most: usize,
        places: &mut Vec<Place>,
        progress: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> ControlFlow<(), bool> {
        let look = self.map.tables.look();
        let ranks = windows.iter().map(|&(low, high)| {
            let numbers = self.map.runs.numbers(low, high);
            look.ranks(numbers)
        });
        let ranks: Vec<_> = ranks.filter(|ranks| !ranks.is_empty()).collect();
        let candidates = ranks.iter().map(|ranks| ranks.end - ranks.start).sum();
        let near = self.reach.within(left, self.map, self.options, candidates);
        for (index, ranks) in ranks.into_iter().enumerate() {
            if index % 4096 == 0 {
                progress()?;
            }
            for Edge { at, value } in self.map.edges(look.ranked(ranks)) {
                if near.is_some_and(|near| !within(near, at.raw())) {
                    continue;
                }
                if places.len() == most {
                    return ControlFlow::Continue(false);
                }
                places.push((at.raw(), value.raw()));
            }
        }
        ControlFlow::Continue(true)
    }
}
