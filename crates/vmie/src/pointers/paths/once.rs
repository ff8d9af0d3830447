//! Paths without an index: one sweep over memory for each level.
//!
//! Right for a single question of little depth, and the reference implementation of the search with an index.

use std::ops::ControlFlow;

use super::intervals::{Interval, within};
use super::levels::{Place, Pointers, levels};
use super::{Path, PathOptions, PathOutcome, chains};
use crate::addr::{AddrRange, Address};
use crate::memory::{Coverage, Memory};
use crate::pointers::build::number;
use crate::pointers::runs::Runs;
use crate::pointers::{BuildError, PointerOptions, Referrers};
use crate::scan::Run;
use crate::sweep::seek;

/// Searches memory for paths to `target`, shortest first, without an index: as
/// [`find_paths`](super::find_paths()) over an index of `pointers`. Answers the coverage of the first sweep as
/// well; it is `None` when the search was over before one.
///
/// # Errors
///
/// When memory is too large or lies in too many pieces, as for an index.
///
/// # Cost
///
/// One [sweep](crate::sweep()) for each step of depth, and as much memory as levels need: places from
/// which no base can be reached are in them, as nothing is known about the bases.
pub fn find_paths_once<A: Address>(
    memory: &dyn Memory<Addr = A>,
    pointers: &PointerOptions<A>,
    target: A,
    options: &PathOptions<A>,
    run: &Run<'_>,
    emit: &mut dyn FnMut(Path<A>) -> ControlFlow<()>,
) -> Result<(PathOutcome, Option<Coverage<A>>), BuildError> {
    let mut swept = Swept {
        memory,
        pointers,
        run,
        runs: number(memory, pointers)?,
        coverage: None,
    };
    let (levels, mut outcome) = levels(&mut swept, target, options, &mut || run.check());
    if !outcome.stopped {
        outcome.stopped =
            chains::write(&levels, target, options, &mut || run.check(), emit).is_break();
    }
    Ok((outcome, swept.coverage))
}

struct Swept<'m, A: Address> {
    memory: &'m dyn Memory<Addr = A>,
    pointers: &'m PointerOptions<A>,
    run: &'m Run<'m>,
    /// What a pointer leads to has to be mapped.
    runs: Runs,
    coverage: Option<Coverage<A>>,
}

impl<A: Address> Pointers for Swept<'_, A> {
    fn into(
        &mut self,
        windows: &[Interval],
        _left: usize,
        most: usize,
        places: &mut Vec<Place>,
        progress: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> ControlFlow<(), bool> {
        let hull = windows.first().zip(windows.last());
        let Some(hull) =
            hull.and_then(|(first, last)| AddrRange::inclusive(A::new(first.0), A::new(last.1)))
        else {
            return ControlFlow::Continue(true);
        };
        let options = self.run.options(&self.pointers.selection());
        let scanner = Referrers::new(hull, self.pointers.width, self.pointers.align);
        let (mut whole, mut near) = (true, 0);
        let outcome = seek(
            self.memory,
            &scanner,
            &options,
            &mut |_| progress(),
            |at, value| {
                let mapped = self.runs.find(value, &mut near).is_some();
                if !mapped || !within(windows, value) {
                    return ControlFlow::Continue(());
                }
                if places.len() == most {
                    whole = false;
                    return ControlFlow::Break(());
                }
                places.push((at.raw(), value));
                ControlFlow::Continue(())
            },
        );
        self.coverage.get_or_insert(outcome.coverage);
        if outcome.stopped && whole {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(whole)
    }
}
