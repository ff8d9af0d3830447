//! Builds the arrays of an index in one sweep over memory.
//!
//! ```text
//! scan      words of a window -> those between the lowest and the highest mapped address (lanes.rs)
//!           -> those that are the address of something mapped, as numbers (runs.rs)
//! arrange   edges, in the order they stand in, sorted by where they lead (arrange.rs)
//! ```

use std::ops::ControlFlow;

use super::arrange::{Batch, arrange};
use super::runs::{Runs, Unnumbered};
use super::tables::Tables;
use super::words::Words;
use super::{BuildError, MAX_EDGES, PointerOptions};
use crate::addr::{AddrRange, Address};
use crate::memory::{Coverage, Memory};
use crate::scan::Run;
use crate::sweep::{Found, SweepOptions, Window, sweep};

/// No more memory than this is numbered: what is left of a word beside the offset.
const MAX_NUMBERED: u64 = 1 << (64 - Batch::OFFSET);

/// No more runs than this: an index of them takes a few hundred MiB.
const MAX_RUNS: usize = 1 << 22;

/// What a build makes.
pub(super) struct Built<A> {
    pub(super) runs: Runs,
    pub(super) tables: Tables,
    pub(super) coverage: Coverage<A>,
}

pub(super) fn build<A: Address>(
    memory: &dyn Memory<Addr = A>,
    options: &PointerOptions<A>,
    mut run: Run<'_>,
) -> Result<Built<A>, BuildError> {
    let runs = number(memory, options)?;
    let most = options.max_edges.min(MAX_EDGES);
    let scan = Scan::new(&runs, options);
    let mut batches: Vec<Batch> = Vec::new();
    let mut edges = 0_u64;
    let mut too_many = false;
    let outcome = sweep(
        memory,
        &scan.sweep(options, &run),
        &mut |done| run.step(done),
        |window, found| scan.window(window, found),
        |batch| {
            edges += batch.edges.len() as u64;
            too_many = edges > most;
            batches.push(batch);
            if too_many {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        },
    );
    if too_many {
        return Err(BuildError::TooMany { most });
    }
    if outcome.stopped {
        return Err(BuildError::Stopped);
    }
    let tables = arrange(batches, edges, runs.total(), scan.words.align);
    Ok(Built {
        runs,
        tables,
        coverage: outcome.coverage,
    })
}

/// Numbers what is mapped, as far as that is bounded.
pub(super) fn number<A: Address>(
    memory: &dyn Memory<Addr = A>,
    options: &PointerOptions<A>,
) -> Result<Runs, BuildError> {
    let range = options.range.unwrap_or_else(AddrRange::all);
    Runs::of(memory.spans(range), MAX_RUNS, MAX_NUMBERED).map_err(|error| match error {
        Unnumbered::Runs(most) => BuildError::Scattered { most },
        Unnumbered::Bytes(most) => BuildError::TooLarge { most },
    })
}

/// Finds the pointers in a window.
pub(super) struct Scan<'r> {
    runs: &'r Runs,
    words: Words,
}

impl<'r> Scan<'r> {
    pub(super) fn new<A: Address>(runs: &'r Runs, options: &PointerOptions<A>) -> Self {
        // Without runs nothing passes: no number is less than zero above the largest.
        let (low, high) = runs.bounds().unwrap_or((u64::MAX, u64::MAX));
        let words = Words {
            low,
            span: high - low,
            width: options.width,
            align: options.alignment(),
        };
        Self { runs, words }
    }

    pub(super) fn sweep<A: Address>(
        &self,
        options: &PointerOptions<A>,
        run: &Run<'_>,
    ) -> SweepOptions<A> {
        SweepOptions {
            overlap: self.words.overlap(),
            ..run.options(&options.selection())
        }
    }

    pub(super) fn window<A: Address>(&self, window: &Window<'_, A>, found: &mut Found<Batch>) {
        let mut near = 0;
        // What was mapped after the runs were listed has no numbers: a guest that runs is an index of
        // the moment in which it was listed.
        let Some(&run) = self.runs.find(window.start.raw(), &mut near) else {
            return;
        };
        let ahead = window.start.raw() - run.start;
        let (number, room) = (run.first + ahead, run.last - run.start - ahead);
        let align = self.words.align;
        let first = number.next_multiple_of(align);
        let mut edges = Vec::new();
        let (bytes, start) = (window.bytes, window.start.raw());
        self.words
            .each(bytes, window.owned, start, |offset, value| {
                if let Some(target) = self.runs.number(value, &mut near)
                    && offset as u64 <= room
                {
                    let place = (number + offset as u64 - first) / align;
                    edges.push(Batch::edge(target, place));
                }
            });
        if !edges.is_empty() {
            let first = first / align;
            found.push(Batch { first, edges });
        }
    }
}
