//! Many address spaces at once, every physical frame looked at once however many of them map it.
//!
//! Processes share frames: libraries, the zero page, shared memory. Sweeping each space on its own
//! scans them again and again, and visits frames in virtual order, which memory is slow at.
//! [`sweep_many`] gives the same results in the same order and looks at each frame once, in physical
//! order. What makes that possible is that the result of a scanner is *local*: what starts at a byte
//! depends on that byte's surroundings, `behind` bytes before and `overlap` bytes after it, and on
//! nothing else. (A sweep asks the same, or its results would depend on the window size.) So wherever
//! the surroundings are the same bytes, the results are.
//!
//! ```text
//! cut     page tables -> whole pieces, seams, odd zones               walks each space
//! look    the frames of all whole pieces, in physical order           one sweep over a made-up memory
//!         each distinct seam, a few bytes on either side              one sweep over another
//! report  cut once more; for each piece and seam what was found there     by space, then by address
//! ```
//!
//! * A **whole piece** is a run of pages that lie side by side in virtual *and* in physical memory,
//!   as long as it goes: a large page or a contiguous file is one piece. What starts in it, not too
//!   close to its ends, has its surroundings in the same frames in every space.
//! * A **seam** is where a whole piece ends: what starts near it has its surroundings on both sides.
//!   Which frames meet there is a matter of each space, but the same two meet in every process that
//!   maps a library, and equal seams are looked at once.
//! * An **odd zone** is everything else: a page that is not (wholly) in the image, the cut end of a
//!   range, pieces shorter than the surroundings. Those are swept in their space as [`sweep`] does.
//!   With surroundings longer than a page, this is all that is mapped by small pages.
//!
//! The two made-up memories put frames, and bytes around seams, one behind another, so that a
//! scanner sees windows of the usual size and not thousands of tiny ones. What it finds across the
//! joints of such a memory is not there in any space, and is dropped: it does not lie inside of a
//! piece.
//!
//! # What is promised
//!
//! What [`sweep`] promises for one space, holes, borders, coverage, order and threads, for each. The
//! sweep one by one ([`plain`]) is the reference implementation that tests compare this one with, and the way out where
//! this one would take too much memory, see [`Limits`].
//!
//! Memory is bounded by the size of physical memory, not by what page tables claim: three bits for
//! each frame, sixteen bytes for each distinct seam. Of the mappings a bounded amount is kept; what does
//! not fit is walked again when results are reported. Work is bounded by [`SweepOptions::max_bytes`] for each space.
//!
//! Rejected: keeping the pieces of all spaces in a list (a database server may map the same gigabytes
//! a thousand times); an inverse map from frames to mappings (the same, and results would come in
//! physical order); having the scanner tell how long each result is, so that only results that cross
//! a border need care (what a scanner *looked at* counts, not what it reports: a string is reported
//! where no text stands before it).
//!
//! [`sweep`]: crate::sweep()

mod cut;
mod frames;
mod look;
mod plain;
mod reach;
mod repeats;
mod report;
mod seams;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;

use crate::addr::{AddrRange, Address, Gva};
use crate::memory::Coverage;
use crate::paging::AddressSpace;
use crate::sweep::{Found, SweepOptions, Window};
use frames::Ram;
use look::Unfinished;
use reach::Reach;
pub(super) use repeats::repeats_frames;

/// Bounds on the memory that a batch of spaces may take. What does not fit is swept one by one, which
/// holds back nothing.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Distinct seams for each frame of physical memory. A frame has one neighbour on each side; that
    /// it has several is the exception.
    seams_per_frame: u64,
    /// Distinct seams in any case.
    seams: u64,
    /// Bytes of results in frames, and at seams. Memory full of results takes long to print anyhow.
    found_bytes: usize,
    /// Bytes of what walks over page tables met.
    walked_bytes: usize,
}

impl Limits {
    /// For a guest of 4 GiB: 64 MiB for all kinds of seams, twice 256 MiB for results.
    const USUAL: Self = Self {
        seams_per_frame: 2,
        seams: 1 << 20,
        found_bytes: 256 << 20,
        walked_bytes: 32 << 20,
    };
}

/// A part of an address space, the half of user mode for instance: what else the space maps is left
/// out, as if it were not there.
///
/// Unlike [`SweepOptions::range`] it does not ask for addresses: what is not mapped is no gap.
#[derive(Clone, Copy, Debug)]
pub struct SpacePart<'a> {
    /// The space.
    pub space: &'a AddressSpace,
    /// Where the part is.
    pub range: AddrRange<Gva>,
}

impl<'a> SpacePart<'a> {
    /// All of a space.
    pub fn all(space: &'a AddressSpace) -> Self {
        Self {
            space,
            range: AddrRange::all(),
        }
    }

    /// What of it the options ask for.
    fn asked(&self, options: &SweepOptions<Gva>) -> Option<AddrRange<Gva>> {
        match options.range {
            Some(range) => range.intersect(self.range),
            None => Some(self.range),
        }
    }
}

/// A window as a scanner sees it that works for many spaces: with an address only where it asks for one.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// The bytes the window owns, then its look-ahead.
    pub bytes: &'a [u8],
    /// How many bytes the window owns, never zero. A result belongs to this window if and only if
    /// it starts in `bytes[..owned]`.
    pub owned: usize,
    /// Look-behind: the bytes that end just before `bytes`.
    pub before: &'a [u8],
    /// The address of `bytes[0]` modulo [`Piece::ALIGN`].
    pub phase: u64,
    /// The address of `bytes[0]`, where these bytes are looked at in one space. A scanner sees it for certain if it
    /// [asks for it](super::Scanner::knows_address), and must not depend on it otherwise.
    pub start: Option<u64>,
}

impl<'a> Piece<'a> {
    /// The coarsest alignment of an address that a scanner can see.
    pub const ALIGN: u64 = 64;

    pub(crate) fn of<A: Address>(window: &Window<'a, A>) -> Self {
        let start = window.start.raw();
        Self {
            bytes: window.bytes,
            owned: window.owned,
            before: window.before,
            phase: start % Self::ALIGN,
            start: Some(start),
        }
    }
}

/// A result in a space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Sighting<R> {
    /// Index of the space among the parts.
    pub space: usize,
    /// Where it starts.
    pub addr: Gva,
    /// What the scanner said.
    pub item: R,
}

/// What became of a sweep over many spaces.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "a sweep without its coverage cannot tell `nothing found` from `could not look`"]
pub struct ManyOutcome {
    /// What was looked at, and what could not be, for each part. When the sweep was stopped, this
    /// says nothing about the spaces behind the one in which it was stopped.
    pub coverage: Vec<Coverage<Gva>>,
    /// Bytes of physical memory that were looked at, each frame counted as often as that was. Compare
    /// with the bytes read in the coverage, where each mapping counts.
    pub looked_at: u64,
    /// Whether `emit` or `progress` ended the sweep before its end.
    pub stopped: bool,
}

impl ManyOutcome {
    /// The coverage of all spaces together. Its gaps are addresses in different spaces.
    pub fn total(&self) -> Coverage<Gva> {
        self.coverage
            .iter()
            .fold(Coverage::default(), |mut total, one| {
                total.merge(one);
                total
            })
    }
}

/// Shows the memory of many spaces to `scan` and passes its results to `emit`, by the order of the
/// parts, then by address: what [`sweep`] finds in each, for little more than the cost of looking at
/// each physical frame once.
///
/// `scan` pushes offsets into [`Piece::bytes`] with its results, by ascending offset. What starts at a
/// byte may depend only on [`SweepOptions::behind`] bytes before it, [`SweepOptions::overlap`] bytes
/// after it (and on where memory begins or ends within those), and on its address modulo
/// [`Piece::ALIGN`]. The same bytes may be shown more than once.
///
/// `options` apply to each space; [`SweepOptions::max_bytes`] should be a small multiple of the size of
/// physical memory, since page tables can claim any amount. `progress` and `emit` are as for [`sweep`];
/// `progress` counts physical memory, and no result comes before nearly all of it is done.
///
/// # Cost
///
/// One walk of each space's page tables (two, where they describe a great many pieces), one pass over the frames in physical order, `2 * (overlap +
/// behind)` bytes (rounded up to cache lines) more for each page border at which different frames
/// meet. With `overlap + behind` beyond a page, small pages are looked at once for each mapping.
/// Memory: three bits for each frame of physical memory, sixteen bytes for each distinct border, and
/// the distinct results.
///
/// [`sweep`]: crate::sweep()
pub fn sweep_many<R: Clone + Send>(
    parts: &[SpacePart<'_>],
    options: &SweepOptions<Gva>,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    scan: impl Fn(&Piece<'_>, &mut Found<(usize, R)>) + Sync,
    mut emit: impl FnMut(Sighting<R>) -> ControlFlow<()>,
) -> ManyOutcome {
    sweep_within(Limits::USUAL, parts, options, progress, &scan, &mut emit)
}

/// The same, each space on its own: for scanners whose results depend on the address.
pub(crate) fn sweep_each<R: Clone + Send>(
    parts: &[SpacePart<'_>],
    options: &SweepOptions<Gva>,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    scan: impl Fn(&Piece<'_>, &mut Found<(usize, R)>) + Sync,
    mut emit: impl FnMut(Sighting<R>) -> ControlFlow<()>,
) -> ManyOutcome {
    let mut many = Many::new(Limits::USUAL, parts, options, progress, &scan, &mut emit);
    let stopped = (0..parts.len()).try_for_each(|index| many.sweep_plainly(index));
    many.finish(stopped.is_break())
}

fn sweep_within<R: Clone + Send>(
    limits: Limits,
    parts: &[SpacePart<'_>],
    options: &SweepOptions<Gva>,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    scan: &Show<'_, R>,
    emit: &mut dyn FnMut(Sighting<R>) -> ControlFlow<()>,
) -> ManyOutcome {
    let mut many = Many::new(limits, parts, options, progress, scan, emit);
    let stopped = many.run().is_break();
    many.finish(stopped)
}

/// What looks at pieces. Called once for each, so that what is around it is compiled once for each kind of result.
type Show<'t, R> = dyn Fn(&Piece<'_>, &mut Found<(usize, R)>) + Sync + 't;

/// A sweep while it runs.
struct Many<'t, R> {
    parts: &'t [SpacePart<'t>],
    options: &'t SweepOptions<Gva>,
    reach: Reach,
    limits: Limits,
    scan: &'t Show<'t, R>,
    progress: &'t mut dyn FnMut(u64) -> ControlFlow<()>,
    emit: &'t mut dyn FnMut(Sighting<R>) -> ControlFlow<()>,
    /// Of the parts that are done, in order.
    coverage: Vec<Coverage<Gva>>,
    looked_at: u64,
}

impl<'t, R: Clone + Send> Many<'t, R> {
    fn new(
        limits: Limits,
        parts: &'t [SpacePart<'t>],
        options: &'t SweepOptions<Gva>,
        progress: &'t mut dyn FnMut(u64) -> ControlFlow<()>,
        scan: &'t Show<'t, R>,
        emit: &'t mut dyn FnMut(Sighting<R>) -> ControlFlow<()>,
    ) -> Self {
        Self {
            parts,
            options,
            reach: Reach::of(options),
            limits,
            scan,
            progress,
            emit,
            coverage: Vec::with_capacity(parts.len()),
            looked_at: 0,
        }
    }

    fn finish(self, stopped: bool) -> ManyOutcome {
        let mut coverage = self.coverage;
        coverage.resize(self.parts.len(), Coverage::default());
        ManyOutcome {
            coverage,
            looked_at: self.looked_at,
            stopped,
        }
    }

    fn run(&mut self) -> ControlFlow<()> {
        let parts = self.parts;
        let Some(first) = parts.first() else {
            return Continue(());
        };
        let Some(ram) = Ram::of(&**first.space.phys()).map(Arc::new) else {
            return (0..parts.len()).try_for_each(|index| self.sweep_plainly(index));
        };
        while self.coverage.len() < parts.len() {
            let next = self.coverage.len();
            let batch = self.gather(&ram);
            if batch.count == 0 {
                self.sweep_plainly(next)?;
                continue;
            }
            let all = next..next + batch.count;
            match self.look(batch) {
                Ok(seen) => all
                    .into_iter()
                    .try_for_each(|i| self.report(i, i - next, &seen))?,
                Err(Unfinished::TooMuchFound) => {
                    all.into_iter().try_for_each(|i| self.sweep_plainly(i))?;
                }
                Err(Unfinished::Stopped) => return Break(()),
            }
        }
        Continue(())
    }
}
