//! One way to send a scanner over memory: what to look at ([`Selection`]), how ([`Run`]), what came of it ([`Outcome`]).
//!
//! Every [`Scanner`] (a set of signatures, values, text, references) goes this way, over whatever memory. Results are
//! collected, or handed on one by one where there may be too many ([`scan_each`]).
//!
//! ```
//! use vmie::scan::{Run, Selection, scan};
//! use vmie::signature::{Set, Signature};
//! # fn over(memory: &dyn vmie::Memory<Addr = vmie::Gva>) -> Result<(), Box<dyn std::error::Error>> {
//! let set = Set::compile(vec![Signature::parse("call", "E8 ?? ?? ?? ?? 84 C0")?])?;
//! let outcome = scan(memory, &set, &Selection::all(), Run::new());
//! for (address, index) in &outcome.items {
//!     println!("{address} {}", set.signatures()[*index].name());
//! }
//! assert!(outcome.is_complete(), "{:?}", outcome.coverage);
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::addr::{AddrRange, Address, Gva};
use crate::memory::{Coverage, Memory, Prot};
use crate::paging::AddressSpace;
use crate::sweep::{DEFAULT_MAX_BYTES, Scanner, SweepOptions, SweepOutcome, seek, seek_space};

/// Which part of a memory is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Selection<A: Address> {
    /// Only addresses in this range. What is not mapped within it is a gap; without a range, nobody asked for what is not
    /// mapped.
    pub range: Option<AddrRange<A>>,
    /// Only regions that allow at least this. Regions left out are no gaps.
    pub perm: Prot,
}

impl<A: Address> Selection<A> {
    /// All that is mapped.
    pub fn all() -> Self {
        Self {
            range: None,
            perm: Prot::NONE,
        }
    }

    /// Of that, these addresses; `None` for all.
    #[must_use]
    pub fn range(mut self, range: Option<AddrRange<A>>) -> Self {
        self.range = range;
        self
    }

    /// Of that, what allows at least this.
    #[must_use]
    pub fn perm(mut self, perm: Prot) -> Self {
        self.perm = perm;
        self
    }
}

impl<A: Address> Default for Selection<A> {
    fn default() -> Self {
        Self::all()
    }
}

/// How a scan runs.
pub struct Run<'r> {
    threads: usize,
    max_bytes: u64,
    progress: Option<Box<dyn FnMut(u64) + 'r>>,
    cancel: Option<&'r AtomicBool>,
}

impl<'r> Run<'r> {
    /// On all threads that the machine has, without telling how far it is.
    pub fn new() -> Self {
        Self {
            threads: 0,
            max_bytes: DEFAULT_MAX_BYTES,
            progress: None,
            cancel: None,
        }
    }

    /// On so many threads; 0 for as many as the machine has. With 1, everything runs on the calling thread.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Looking at no more bytes than this; what is beyond counts as lost.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Told after each window how many bytes are done, on the calling thread.
    #[must_use]
    pub fn progress(mut self, progress: impl FnMut(u64) + 'r) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// Until this is set, from whichever thread: looked at after each window.
    #[must_use]
    pub fn cancel(mut self, cancel: &'r AtomicBool) -> Self {
        self.cancel = Some(cancel);
        self
    }

    fn options<A: Address>(&self, selection: &Selection<A>) -> SweepOptions<A> {
        SweepOptions {
            range: selection.range,
            perm: selection.perm,
            threads: self.threads,
            max_bytes: self.max_bytes,
            ..SweepOptions::default()
        }
    }

    fn step(&mut self, done: u64) -> ControlFlow<()> {
        if let Some(progress) = &mut self.progress {
            progress(done);
        }
        match self.cancel {
            Some(cancel) if cancel.load(Ordering::Relaxed) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

impl Default for Run<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("threads", &self.threads)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}

/// What a scan found, and what it looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[must_use = "without its coverage a scan cannot tell `nothing found` from `could not look`"]
pub struct Outcome<A, T> {
    /// What was found, by address.
    pub items: Vec<(A, T)>,
    /// What was looked at, and what could not be.
    pub coverage: Coverage<A>,
    /// Whether it was cancelled before its end.
    pub stopped: bool,
}

impl<A: Address, T> Outcome<A, T> {
    /// The same of a range that was not asked for by its addresses: what is not mapped in it is not missing.
    pub(crate) fn of_what_is_mapped(mut self) -> Self {
        let coverage = &mut self.coverage;
        let kept = coverage.gaps.len();
        coverage.gaps.retain(|gap| !gap.cause.is_unmapped());
        coverage.gap_count -= (kept - coverage.gaps.len()) as u64;
        coverage.unmapped = 0;
        self
    }

    /// Whether all that was asked for was looked at.
    pub fn is_complete(&self) -> bool {
        !self.stopped && self.coverage.is_complete()
    }
}

/// Sends a scanner over a memory and collects what it finds.
///
/// Cost: one pass over what is selected, and memory for what is found.
pub fn scan<A: Address, S: Scanner + ?Sized>(
    memory: &dyn Memory<Addr = A>,
    scanner: &S,
    selection: &Selection<A>,
    run: Run<'_>,
) -> Outcome<A, S::Item> {
    collect(|emit| scan_each(memory, scanner, selection, run, emit))
}

/// As [`scan`], handing on what is found one by one, by address. `emit` may end it.
pub fn scan_each<A: Address, S: Scanner + ?Sized>(
    memory: &dyn Memory<Addr = A>,
    scanner: &S,
    selection: &Selection<A>,
    mut run: Run<'_>,
    emit: &mut dyn FnMut(A, S::Item) -> ControlFlow<()>,
) -> SweepOutcome<A> {
    let options = run.options(selection);
    seek(memory, scanner, &options, &mut |done| run.step(done), emit)
}

/// As [`scan`], over one address space: where it maps many of its frames more than once, each is looked at once.
pub fn scan_space<S: Scanner + ?Sized>(
    space: &AddressSpace,
    scanner: &S,
    selection: &Selection<Gva>,
    mut run: Run<'_>,
) -> Outcome<Gva, S::Item> {
    let options = run.options(selection);
    collect(|emit| seek_space(space, scanner, &options, &mut |done| run.step(done), emit))
}

fn collect<A: Address, T>(
    scan: impl FnOnce(&mut dyn FnMut(A, T) -> ControlFlow<()>) -> SweepOutcome<A>,
) -> Outcome<A, T> {
    let mut items = Vec::new();
    let outcome = scan(&mut |at, item| {
        items.push((at, item));
        ControlFlow::Continue(())
    });
    Outcome {
        items,
        coverage: outcome.coverage,
        stopped: outcome.stopped,
    }
}
