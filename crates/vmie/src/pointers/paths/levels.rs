//! The levels of a search: which places lead to the target in how many steps.

use std::ops::ControlFlow;

use super::intervals::{Interval, windows};
use super::{PathOptions, PathOutcome};
use crate::addr::Address;

/// A pointer of a level: where it stands and where it leads.
pub(super) type Place = (u64, u64);

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
