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
//! 6. Better still, implement [`Scanner`]: written for a [`Piece`], it says itself how far it looks, and
//!    [`scan`](crate::scan) sends it over everything that can be scanned, many address spaces at once included.

mod cursor;
mod look;
mod many;
mod plan;
mod pool;
mod scanner;
mod stretches;
mod tally;
#[cfg(test)]
mod tests;
mod unseen;

use std::ops::ControlFlow;

use crate::addr::{AddrRange, Address};
use crate::memory::{Coverage, Memory, Prot};
pub(crate) use cursor::{Cursor, Look};
pub(crate) use look::{Part, read_pieces};
pub(crate) use many::sweep_each;
pub use many::{ManyOutcome, Piece, Sighting, SpacePart, sweep_many};
pub use pool::Pool;
pub use scanner::Scanner;
pub(crate) use scanner::{around, seek, seek_many, seek_space};
pub use stretches::{Stretch, Stretches};

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
    /// Whether the range is a part of memory, as if there were nothing else, and not a question about its addresses: what is not
    /// mapped in it is not told.
    pub part: bool,
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
    /// Threads to use instead of some that are started for this sweep; [`SweepOptions::threads`] says how many windows
    /// are prepared for them.
    pub pool: Option<Pool>,
    /// Look at no more bytes than this; what is beyond counts as [`Coverage::lost`] with
    /// [`Cause::Limit`](crate::Cause::Limit).
    pub max_bytes: u64,
}

impl<A: Address> Default for SweepOptions<A> {
    fn default() -> Self {
        Self {
            range: None,
            part: false,
            perm: Prot::NONE,
            window: DEFAULT_WINDOW,
            overlap: 0,
            behind: 0,
            threads: 0,
            pool: None,
            max_bytes: DEFAULT_MAX_BYTES,
        }
    }
}

impl<A: Address> SweepOptions<A> {
    /// The addresses of which is told what is not mapped.
    fn asked(&self) -> Option<AddrRange<A>> {
        self.range.filter(|_| !self.part)
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
    let mut cursor = Cursor::new(memory, options, Box::new(scan));
    while let Some((results, done)) = cursor.next_window() {
        for result in results {
            if emit(result).is_break() {
                return cursor.finish(true);
            }
        }
        if progress(done).is_break() {
            return cursor.finish(true);
        }
    }
    cursor.finish(false)
}
