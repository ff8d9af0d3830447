//! Windows over memory: the only code that knows window edges, holes and threads.
//!
//! A scanner wants to see bytes; memory comes in regions of different protection, in pages that may
//! be absent, in address spaces far larger than RAM. [`sweep`] stands between the two: it cuts what
//! is mapped into [`Window`]s, hands each to the scanner, and gives the results back in address
//! order together with the [`Coverage`].
//!
//! # What is promised
//!
//! * **Every readable byte that was asked for is owned by exactly one window**, and every other one
//!   is counted in the coverage exactly once. Look-ahead is never counted.
//! * **Windows see across borders and never across holes.** A *run* is a maximal sequence of
//!   selected regions that touch each other; windows are cut from runs, so a match that begins in a
//!   `r-x` page and ends in the `rw-` page behind it is found when both pass the filter. Where a
//!   page cannot be read, the window is cut before it and a new one begins behind it.
//! * **Results do not depend on the number of threads or the window size**, provided that the
//!   scanner asks for enough look-ahead (and look-behind), see below.
//! * **Memory use is bounded**: windows are planned lazily, so an address space of 2^47 mapped bytes
//!   costs nothing before it is visited; a window with too many results is halved and scanned again.
//! * **Work is bounded** by [`SweepOptions::max_bytes`].
//!
//! # How it works
//!
//! ```text
//! plan   spans -> runs -> steps: a window to look at, or a gap to count    (lazy, one at a time)
//! look   borrow or read the window, cut it at holes, call the scanner      (any thread)
//! emit   count the coverage, pass the results on                           (calling thread, in order)
//! ```
//!
//! With several threads a batch of windows is looked at together and then emitted in order. A batch
//! is small (a few MiB), so the barrier at its end costs little and nothing piles up. Rejected: an
//! ordered channel between workers and the emitter; it needs the same bound on what may run ahead,
//! and a slow `emit` stalls it just the same.
//!
//! # How to add a scanner
//!
//! 1. Write it over `&[u8]` and `owned`: report what *starts* in `bytes[..owned]`; read on into the
//!    rest to complete it. Push results in ascending order of address.
//! 2. Set [`SweepOptions::overlap`] to the longest result less one byte, so that a result which
//!    starts at the last owned byte is seen whole.
//! 3. If it must know what stands before a result (a string starts where the byte before is no
//!    text), set [`SweepOptions::behind`] and look at [`Window::before`]; it is shorter than asked
//!    for exactly where memory begins or a hole ends.
//! 4. Alignment is that of the address, `window.start`, never of the offset in the window.
//! 5. Test it with the window sizes 1, 2, 3 and 7, with holes, and with 1 and 2 threads.
//! 6. Better still, implement [`Scanner`]: written for a [`Piece`], it does without addresses, says
//!    itself how far it looks, and works on many address spaces at once ([`seek_many`]).

mod look;
mod many;
mod plan;
mod scanner;
#[cfg(test)]
pub(crate) mod testmem;
#[cfg(test)]
mod tests;
mod unseen;

use std::ops::ControlFlow;

use rayon::prelude::*;

use crate::addr::{AddrRange, Address};
use crate::memory::{Cause, Coverage, Gap, Memory, Prot};
use look::{Buffers, Looked, look};
pub(crate) use look::{Part, read_pieces};
pub use many::{ManyOutcome, Piece, Sighting, SpacePart, sweep_many};
use plan::{Plan, Step, Task};
pub use scanner::{Scanner, seek, seek_many, seek_space};

/// Bytes owned by one window unless said otherwise: 256 KiB.
///
/// Small enough that a window, copied from scattered frames, is still in the L2 cache when it is
/// scanned; large enough that what is done once a window does not show.
pub const DEFAULT_WINDOW: usize = 256 << 10;

/// The largest window: 64 MiB. Larger requests are cut to it.
pub const MAX_WINDOW: usize = 64 << 20;

/// How many bytes a sweep looks at unless said otherwise: 16 TiB.
///
/// More than any guest's RAM. Page tables can map one frame over and over and so make a small image
/// look like 128 TiB; whoever knows the size of physical memory should set a closer bound.
pub const DEFAULT_MAX_BYTES: u64 = 16 << 40;

/// How many results one window may have before it is halved and scanned again.
const RESULTS_PER_WINDOW: usize = 32 << 10;

/// Windows in a batch for each thread.
const WINDOWS_PER_THREAD: usize = 8;

/// Steps in a batch for each thread: bounds a batch that consists of gaps.
const STEPS_PER_THREAD: usize = 256;

/// What to sweep, and how.
#[derive(Clone, Debug)]
pub struct SweepOptions<A: Address> {
    /// Only addresses in this range. What is not mapped within it counts as
    /// [`Coverage::unmapped`]; without a range, nobody asked for what is not mapped.
    pub range: Option<AddrRange<A>>,
    /// Only regions that allow at least this. Regions left out are no gaps: nobody asked for them.
    pub perm: Prot,
    /// Bytes owned by one window; 1 to [`MAX_WINDOW`], other values are brought into these bounds.
    pub window: usize,
    /// Look-ahead: bytes that a window shows behind those it owns, where memory goes on.
    pub overlap: usize,
    /// Look-behind: bytes that a window shows before those it owns, where memory goes on.
    pub behind: usize,
    /// How many threads scan; 0 takes as many as the machine has. With 1, everything runs on the
    /// calling thread.
    pub threads: usize,
    /// Look at no more bytes than this; what is beyond counts as [`Coverage::lost`] with
    /// [`Cause::Limit`](crate::Cause::Limit).
    pub max_bytes: u64,
}

impl<A: Address> Default for SweepOptions<A> {
    fn default() -> Self {
        Self {
            range: None,
            perm: Prot::NONE,
            window: DEFAULT_WINDOW,
            overlap: 0,
            behind: 0,
            threads: 0,
            max_bytes: DEFAULT_MAX_BYTES,
        }
    }
}

/// A bounded piece of memory without holes, as a scanner sees it.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a, A> {
    /// Address of `bytes[0]`.
    pub start: A,
    /// The bytes the window owns, then its look-ahead.
    pub bytes: &'a [u8],
    /// How many bytes the window owns, never zero. A result belongs to this window if and only if
    /// it starts in `bytes[..owned]`.
    pub owned: usize,
    /// Look-behind: the bytes that end just before `start`.
    pub before: &'a [u8],
}

impl<A: Address> Window<'_, A> {
    /// The address of `bytes[offset]`.
    ///
    /// # Panics
    ///
    /// When `offset` lies so far outside the window that the address passes 2^64.
    pub fn addr(&self, offset: usize) -> A {
        self.start
            .checked_add(offset as u64)
            .expect("a window does not wrap")
    }
}

/// Where a scanner puts the results of one window, in ascending order.
///
/// It holds a bounded number of results. When more come, they are dropped, and the sweep discards
/// everything, halves the window and scans each half. A scanner need not care, but one that can
/// yield many results a byte should return when [`Found::is_full`] says that its work is wasted.
#[derive(Debug)]
pub struct Found<R> {
    items: Vec<R>,
    limit: usize,
    overflow: bool,
}

impl<R> Found<R> {
    /// Room for `limit` results.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            items: Vec::new(),
            limit,
            overflow: false,
        }
    }

    /// Adds a result, or drops it when there are too many.
    #[inline]
    pub fn push(&mut self, result: R) {
        if self.items.len() < self.limit {
            self.items.push(result);
        } else {
            self.overflow = true;
        }
    }

    /// Whether a result had to be dropped: the window will be scanned again in halves, and whatever
    /// is pushed from now on is dropped too.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.overflow
    }

    /// Adds many. `overflow` says that more of them were dropped already.
    pub fn extend(&mut self, results: impl IntoIterator<Item = R>, overflow: bool) {
        self.overflow |= overflow;
        results.into_iter().for_each(|result| self.push(result));
    }

    /// Lets `scan` find things of another kind, as many as fit here, and adds each as `item` makes of it.
    pub(crate) fn gather<T>(&mut self, scan: impl FnOnce(&mut Found<T>), item: impl FnMut(T) -> R) {
        let mut found = Found::with_limit(self.limit);
        scan(&mut found);
        let overflow = found.overflow;
        self.extend(found.items.into_iter().map(item), overflow);
    }

    /// Takes everything out and keeps the room.
    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.overflow = false;
    }

    /// Brings the results into ascending order, each once.
    pub(crate) fn sort(&mut self)
    where
        R: Ord,
    {
        self.items.sort_unstable();
        self.items.dedup();
    }

    /// How many results it takes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The results so far.
    pub fn items(&self) -> &[R] {
        &self.items
    }

    /// The results.
    pub fn into_items(self) -> Vec<R> {
        self.items
    }
}

/// What became of a sweep.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "a sweep without its coverage cannot tell `nothing found` from `could not look`"]
pub struct SweepOutcome<A> {
    /// What was looked at, and what could not be. When the sweep was stopped, this ends with the
    /// window in which it was stopped, and says nothing about what lies behind.
    pub coverage: Coverage<A>,
    /// Whether `emit` or `progress` ended the sweep before its end.
    pub stopped: bool,
}

/// A `progress` for those who need none.
pub fn quiet(_done: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Shows `memory` to `scan` window by window and passes its results to `emit` in address order.
///
/// `progress` is called on the calling thread after each window with the number of bytes done so
/// far, and may end the sweep; [`quiet`] does nothing. `emit` runs on the calling thread as well, and
/// may end the sweep when it has seen enough.
///
/// `scan` runs on [`SweepOptions::threads`] threads and may be called again for parts of a window
/// that had too many results.
///
/// # Cost
///
/// One pass over the bytes; windows of sources that cannot [`borrow`](Memory::borrow) are copied,
/// `window + overlap` bytes at a time. Memory: a few windows a thread, and at most some ten
/// thousand results for each.
pub fn sweep<A, R>(
    memory: &dyn Memory<Addr = A>,
    options: &SweepOptions<A>,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    scan: impl Fn(&Window<'_, A>, &mut Found<R>) + Sync,
    mut emit: impl FnMut(R) -> ControlFlow<()>,
) -> SweepOutcome<A>
where
    A: Address,
    R: Send,
{
    let mut plan = Plan::new(memory, options);
    let buffers = Buffers::default();
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    let view = |task: &Task<A>, limit| look(memory, task, options.behind, &buffers, &scan, limit);

    let mut tally = Tally::new(memory);
    let mut pool = None;
    let mut steps = Vec::new();
    loop {
        let windows = plan.batch(
            &mut steps,
            if threads == 1 {
                1
            } else {
                threads * WINDOWS_PER_THREAD
            },
            threads * STEPS_PER_THREAD,
        );
        if steps.is_empty() {
            break;
        }
        if windows > 1 && pool.is_none() {
            // Without a pool (the system may refuse threads) everything still works on this one.
            pool = Some(
                rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .ok(),
            );
        }
        let mut looked: Vec<Option<Looked<A, R>>> = match &pool {
            Some(Some(pool)) if windows > 1 => pool.install(|| {
                steps
                    .par_iter()
                    .with_max_len(1)
                    .map(|step| match step {
                        Step::Look(task) => Some(view(task, RESULTS_PER_WINDOW)),
                        _ => None,
                    })
                    .collect()
            }),
            _ => Vec::new(),
        };
        for (i, step) in steps.drain(..).enumerate() {
            let task = match step {
                Step::Look(task) => task,
                Step::Lost(gap) => {
                    tally.gap(gap, Heading::of_span(gap.cause));
                    continue;
                }
                Step::Unmapped(range) => {
                    tally.unmapped(range);
                    continue;
                }
            };
            let ready = looked.get_mut(i).and_then(Option::take);
            let mut on_window = |window: Looked<A, R>, task: &Task<A>| {
                tally.window(&window);
                for result in window.results {
                    emit(result)?;
                }
                progress(tally.done_with(task))
            };
            if let ControlFlow::Break(()) = settle(&task, ready, options, &view, &mut on_window) {
                return tally.finish(true);
            }
        }
    }
    tally.finish(false)
}

/// Passes on what was seen in `task`, halving it as long as it has too many results.
fn settle<A: Address, R>(
    task: &Task<A>,
    ready: Option<Looked<A, R>>,
    options: &SweepOptions<A>,
    view: &impl Fn(&Task<A>, usize) -> Looked<A, R>,
    on_window: &mut impl FnMut(Looked<A, R>, &Task<A>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    // A window of one byte cannot be halved. What can start at one byte is bounded by the scanner.
    let limit = if task.owned == 1 {
        usize::MAX
    } else {
        RESULTS_PER_WINDOW
    };
    let window = match ready {
        Some(window) if !window.overflow || limit == RESULTS_PER_WINDOW => window,
        _ => view(task, limit),
    };
    if !window.overflow {
        return on_window(window, task);
    }
    drop(window);
    for half in task.halves(options.overlap, options.behind) {
        settle(&half, None, options, view, on_window)?;
    }
    ControlFlow::Continue(())
}

/// Which total of the coverage a gap belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heading {
    Absent,
    Lost,
    Unmapped,
}

impl Heading {
    /// Of a span of which nothing can be read.
    fn of_span(cause: Cause) -> Self {
        match cause.is_away() {
            true => Self::Absent,
            false => Self::Lost,
        }
    }
}

/// Adds up the coverage in address order.
///
/// Gaps that touch and have the same kind of cause are joined here before they are counted, so that
/// the number of gaps does not depend on how windows were cut.
struct Tally<'m, A: Address> {
    memory: &'m dyn Memory<Addr = A>,
    coverage: Coverage<A>,
    pending: Option<(Gap<A>, Heading)>,
    done: u64,
}

impl<'m, A: Address> Tally<'m, A> {
    fn new(memory: &'m dyn Memory<Addr = A>) -> Self {
        Self {
            memory,
            coverage: Coverage::default(),
            pending: None,
            done: 0,
        }
    }

    fn read(&mut self, len: u64) {
        self.coverage.add_read(len);
    }

    /// Adds a part that touches no gap that was counted before.
    fn merge(&mut self, part: &Coverage<A>) {
        self.flush();
        self.coverage.merge(part);
    }

    fn window<R>(&mut self, window: &Looked<A, R>) {
        self.read(window.read);
        for &hole in &window.holes {
            self.gap(hole, Heading::Absent);
        }
    }

    fn done_with(&mut self, task: &Task<A>) -> u64 {
        self.done = self.done.saturating_add(task.owned as u64);
        self.done
    }

    /// Nothing is mapped in `range`. The spans do not say why; a read of its first byte does.
    fn unmapped(&mut self, range: AddrRange<A>) {
        let (start, len) = (range.start(), range.len());
        match self.memory.read(start, &mut [0]) {
            Err(fault) => {
                let cause = fault.cause;
                self.gap(Gap { start, len, cause }, Heading::Unmapped);
            }
            // Mapped since it was enumerated, which happens in a live guest: no reason to give.
            Ok(()) => self.coverage.unmapped = self.coverage.unmapped.saturating_add(len),
        }
    }

    fn gap(&mut self, gap: Gap<A>, heading: Heading) {
        if let Some((last, last_heading)) = &mut self.pending
            && *last_heading == heading
            && last.start.checked_add(last.len) == Some(gap.start)
            && last.cause.label() == gap.cause.label()
        {
            last.len = last.len.saturating_add(gap.len);
            return;
        }
        self.flush();
        self.pending = Some((gap, heading));
    }

    fn flush(&mut self) {
        if let Some((Gap { start, len, cause }, heading)) = self.pending.take() {
            match heading {
                Heading::Absent => self.coverage.add_absent(start, len, cause),
                Heading::Lost => self.coverage.add_lost(start, len, cause),
                Heading::Unmapped => self.coverage.add_unmapped(start, len, cause),
            }
        }
    }

    fn finish(mut self, stopped: bool) -> SweepOutcome<A> {
        self.flush();
        SweepOutcome {
            coverage: self.coverage,
            stopped,
        }
    }
}
