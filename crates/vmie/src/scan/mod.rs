//! One way to send a scanner over memory: what to look at ([`Selection`]), how ([`Run`]), what came of it ([`Outcome`]).
//!
//! Every [`Scanner`] (a set of signatures, values, text, strings, pointers, references from code) goes this way, over every
//! [`Target`]: a memory, an address space, many address spaces at once. [`scan`] picks the path: where a space maps many of
//! its frames more than once, or several spaces share them, each frame is looked at once, and what is found is the same.
//!
//! | form | for |
//! |---|---|
//! | [`scan`] | all results in a list |
//! | [`scan_each`] | one by one to a function, which may end it: where there may be too many to keep |
//! | [`Scan`] | an iterator over one memory |
//!
//! ```
//! use vmie::scan::{Run, Selection, scan};
//! use vmie::signature::{Set, Signature};
//! # fn over(memory: &dyn vmie::Memory<Addr = vmie::Gva>) -> Result<(), Box<dyn std::error::Error>> {
//! let set = Set::compile(vec![Signature::parse("call", "E8 ?? ?? ?? ?? 84 C0")?])?;
//! let outcome = scan(memory, &set, &Selection::all(), Run::new());
//! for found in &outcome.items {
//!     println!("{}+{} {}", found.start, found.len, set.signatures()[found.item.sig].name());
//! }
//! assert!(outcome.is_complete(), "{:?}", outcome.coverage);
//! # Ok(())
//! # }
//! ```

mod outcome;
mod run;
mod target;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::ops::ControlFlow;

use crate::addr::{AddrRange, Address};
use crate::memory::{Memory, Prot};
pub use crate::sweep::Pool;
use crate::sweep::{Cursor, Look, Piece, Scanner, SweepOptions, around};
pub use outcome::{Match, Outcome};
pub use run::Run;
pub use target::Target;

/// Which part of a memory is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Selection<A: Address> {
    /// Only addresses in this range. What is not mapped within it is told in the coverage
    /// ([`Coverage::unmapped`](crate::Coverage::unmapped)), and is not missing.
    pub range: Option<AddrRange<A>>,
    /// Whether the range is a part of memory, as if there were nothing else: then what is not mapped in it is not told.
    pub part: bool,
    /// Only regions that allow at least this. Regions left out are no gaps.
    pub perm: Prot,
}

impl<A: Address> Selection<A> {
    /// All that is mapped.
    pub fn all() -> Self {
        Self {
            range: None,
            part: false,
            perm: Prot::NONE,
        }
    }

    /// Of that, these addresses; `None` for all.
    #[must_use]
    pub fn range(mut self, range: impl Into<Option<AddrRange<A>>>) -> Self {
        self.range = range.into();
        self
    }

    /// Of that, the addresses that make up a part of memory, the half of user mode for instance; `None` for all.
    #[must_use]
    pub fn part(mut self, part: impl Into<Option<AddrRange<A>>>) -> Self {
        self.range = part.into();
        self.part = true;
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

/// Sends a scanner over a target and collects what it finds, by space, then by address.
///
/// Cost: one pass over what is selected, and memory for what is found.
pub fn scan<T: Target + ?Sized, S: Scanner + ?Sized>(
    target: &T,
    scanner: &S,
    selection: &Selection<T::Addr>,
    run: Run<'_>,
) -> Outcome<T::Addr, S::Item> {
    let mut items = Vec::new();
    let outcome = scan_each(target, scanner, selection, run, |found| {
        items.push(found);
        ControlFlow::Continue(())
    });
    Outcome { items, ..outcome }
}

/// As [`scan`], handing on what is found one by one, in the same order, and keeping nothing: the outcome has no items.
/// `emit` runs on the calling thread and may end the scan.
///
/// Cost: one pass, and memory for a few windows a thread.
pub fn scan_each<T: Target + ?Sized, S: Scanner + ?Sized>(
    target: &T,
    scanner: &S,
    selection: &Selection<T::Addr>,
    mut run: Run<'_>,
    mut emit: impl FnMut(Match<T::Addr, S::Item>) -> ControlFlow<()>,
) -> Outcome<T::Addr, S::Item> {
    target.send(scanner, selection, &mut run, &mut emit)
}

/// A scan of one memory as an iterator over what it finds, by address. What was looked at so far is told at any time, and
/// at the end: [`Scan::outcome`].
///
/// ```
/// use vmie::scan::{Run, Scan, Selection};
/// # use vmie::signature::{Set, Signature};
/// # fn over(memory: &dyn vmie::Memory<Addr = vmie::Gpa>) -> Result<(), Box<dyn std::error::Error>> {
/// # let set = Set::compile(vec![Signature::parse("call", "E8 ?? ?? ?? ?? 84 C0")?])?;
/// let mut scan = Scan::new(memory, &set, &Selection::all(), Run::new());
/// let first: Vec<_> = scan.by_ref().take(10).collect();
/// println!("{first:?}, and {} bytes were looked at", scan.outcome().coverage.read);
/// # Ok(())
/// # }
/// ```
pub struct Scan<'m, A: Address, S: Scanner + ?Sized> {
    cursor: Cursor<'m, A, (A, S::Item)>,
    scanner: &'m S,
    run: Run<'m>,
    ready: VecDeque<Match<A, S::Item>>,
    stopped: bool,
}

impl<'m, A: Address, S: Scanner + ?Sized> Scan<'m, A, S> {
    /// Nothing is looked at before the first result is asked for.
    pub fn new(
        memory: &'m dyn Memory<Addr = A>,
        scanner: &'m S,
        selection: &Selection<A>,
        run: Run<'m>,
    ) -> Self {
        let options: SweepOptions<A> = around(scanner, &run.options(selection));
        let look: Box<Look<'m, A, (A, S::Item)>> = Box::new(move |window, found| {
            found.gather(
                |hits| scanner.scan(&Piece::of(window), hits),
                |(offset, item)| (window.addr(offset), item),
            );
        });
        Self {
            cursor: Cursor::new(memory, &options, look),
            scanner,
            run,
            ready: VecDeque::new(),
            stopped: false,
        }
    }

    /// What was looked at so far, and whether it was cancelled; without items.
    pub fn outcome(&self) -> Outcome<A, S::Item> {
        let coverage = self.cursor.coverage();
        Outcome {
            items: Vec::new(),
            looked_at: coverage.read,
            coverage,
            spaces: Vec::new(),
            stopped: self.stopped,
        }
    }
}

impl<A: Address, S: Scanner + ?Sized> Iterator for Scan<'_, A, S> {
    type Item = Match<A, S::Item>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.stopped {
            let (results, done) = self.cursor.next_window()?;
            let scanner = self.scanner;
            let matches = results
                .into_iter()
                .map(|(start, item)| Match::of(scanner, 0, start, item));
            self.ready.extend(matches);
            self.stopped = self.run.step(done).is_break();
        }
        self.ready.pop_front()
    }
}

impl<A: Address, S: Scanner + ?Sized> fmt::Debug for Scan<'_, A, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan")
            .field("stopped", &self.stopped)
            .finish_non_exhaustive()
    }
}
