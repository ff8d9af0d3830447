//! Builds the arrays of an index in one sweep over memory.
//!
//! ```text
//! scan      words of a window -> those between the lowest and the highest mapped address (lanes.rs)
//!           -> those that are the address of something mapped, as numbers (runs.rs)
//! arrange   edges, in the order they stand in, sorted by where they lead (arrange.rs)
//! ```

use std::ops::ControlFlow;

use super::arrange::{Batch, arrange};
use super::lanes::{self, BLOCK, Indices};
use super::runs::{Runs, Unnumbered};
use super::tables::Tables;
use super::{BuildError, MAX_EDGES, PointerOptions, Width};
use crate::addr::{AddrRange, Address};
use crate::memory::{Coverage, Memory};
use crate::sweep::{DEFAULT_WINDOW, Found, SweepOptions, Window, sweep};

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
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Built<A>, BuildError> {
    let range = options.range.unwrap_or_else(AddrRange::all);
    let runs =
        Runs::of(memory.spans(range), MAX_RUNS, MAX_NUMBERED).map_err(|error| match error {
            Unnumbered::Runs(most) => BuildError::Scattered { most },
            Unnumbered::Bytes(most) => BuildError::TooLarge { most },
        })?;
    let most = options.max_edges.min(MAX_EDGES);
    let scan = Scan::new(&runs, options);
    let mut batches: Vec<Batch> = Vec::new();
    let mut edges = 0_u64;
    let mut too_many = false;
    let outcome = sweep(
        memory,
        &scan.sweep(options),
        progress,
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
    let tables = arrange(batches, edges, runs.total(), scan.align);
    Ok(Built {
        runs,
        tables,
        coverage: outcome.coverage,
    })
}

/// Finds the pointers in a window.
pub(super) struct Scan<'r> {
    runs: &'r Runs,
    width: Width,
    align: u64,
    low: u64,
    span: u64,
}

impl<'r> Scan<'r> {
    pub(super) fn new<A: Address>(runs: &'r Runs, options: &PointerOptions<A>) -> Self {
        // Without runs nothing passes: no number is less than zero above the largest.
        let (low, high) = runs.bounds().unwrap_or((u64::MAX, u64::MAX));
        Self {
            runs,
            width: options.width,
            align: options.alignment(),
            low,
            span: high - low,
        }
    }

    pub(super) fn sweep<A: Address>(&self, options: &PointerOptions<A>) -> SweepOptions<A> {
        SweepOptions {
            range: options.sources.or(options.range),
            perm: options.perm,
            window: DEFAULT_WINDOW,
            overlap: self.width.bytes() - 1,
            threads: options.threads,
            max_bytes: options.max_bytes,
            ..SweepOptions::default()
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
        let first = number.next_multiple_of(self.align);
        let mut edges = Vec::new();
        self.words(window, |offset, value| {
            if let Some(target) = self.runs.number(value, &mut near)
                && offset as u64 <= room
            {
                let place = (number + offset as u64 - first) / self.align;
                edges.push(Batch::edge(target, place));
            }
        });
        if !edges.is_empty() {
            let first = first / self.align;
            found.push(Batch { first, edges });
        }
    }

    /// Offset and value of each word between the lowest and the highest mapped address, by ascending
    /// offset.
    pub(super) fn words<A: Address>(
        &self,
        window: &Window<'_, A>,
        mut word: impl FnMut(usize, u64),
    ) {
        let align = self.align as usize;
        let skip = (window.start.raw() as usize).wrapping_neg() & (align - 1);
        match (self.width, align) {
            (Width::Eight, 8) => self.aligned(window, skip, &mut word),
            (Width::Eight, _) => {
                each::<8>(window, skip, align, |at, bytes| {
                    (at, u64::from_le_bytes(bytes))
                })
                .filter(|&(_, value)| value.wrapping_sub(self.low) <= self.span)
                .for_each(|(at, value)| word(at, value));
            }
            (Width::Four, _) => {
                each::<4>(window, skip, align, |at, bytes| {
                    (at, u64::from(u32::from_le_bytes(bytes)))
                })
                .filter(|&(_, value)| value.wrapping_sub(self.low) <= self.span)
                .for_each(|(at, value)| word(at, value));
            }
        }
    }

    fn aligned<A: Address>(
        &self,
        window: &Window<'_, A>,
        skip: usize,
        word: &mut impl FnMut(usize, u64),
    ) {
        // Words that begin in what the window owns; the last one may end behind it.
        let end = window.bytes.len().min(window.owned + 7);
        let bytes = window.bytes.get(skip..end).unwrap_or_default();
        let mut indices: Indices = [0; BLOCK + 8];
        let mut at = skip;
        for block in bytes.as_chunks::<8>().0.chunks(BLOCK) {
            let count = lanes::select(block, self.low, self.span, &mut indices);
            for &index in &indices[..count] {
                let index = index as usize;
                word(at + index * 8, u64::from_le_bytes(block[index]));
            }
            at += block.len() * 8;
        }
    }
}

/// The words of `N` bytes that begin in what a window owns, from `skip` on, `align` apart.
fn each<'w, const N: usize>(
    window: &'w Window<'_, impl Address>,
    skip: usize,
    align: usize,
    word: impl Fn(usize, [u8; N]) -> (usize, u64) + 'w,
) -> impl Iterator<Item = (usize, u64)> + 'w {
    let end = window.bytes.len().min(window.owned + N - 1);
    let bytes = window.bytes.get(skip..end).unwrap_or_default();
    let words = bytes.windows(N).step_by(align).enumerate();
    words.filter_map(move |(index, bytes)| {
        let bytes = bytes.first_chunk::<N>()?;
        Some(word(skip + index * align, *bytes))
    })
}
