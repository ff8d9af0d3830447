//! What a scan found, and what it looked at.

use crate::addr::{AddrRange, Address};
use crate::memory::Coverage;
use crate::sweep::{ManyOutcome, Scanner, SweepOutcome};

/// What a scanner found: where it stands, and what it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub struct Match<A, T> {
    /// Index of the space among those that were scanned, 0 where it was one memory.
    pub space: usize,
    /// Its first byte.
    pub start: A,
    /// How many bytes it takes, at least one.
    pub len: usize,
    /// What the scanner knows of it.
    pub item: T,
}

impl<A: Address, T> Match<A, T> {
    pub(super) fn of<S: Scanner<Item = T> + ?Sized>(
        scanner: &S,
        space: usize,
        start: A,
        item: T,
    ) -> Self {
        Self {
            space,
            start,
            len: scanner.len_of(&item).max(1),
            item,
        }
    }

    /// The bytes it takes, as far as there are addresses.
    pub fn range(&self) -> AddrRange<A> {
        let last = self.start.raw().saturating_add(self.len as u64 - 1);
        AddrRange::inclusive(self.start, A::new(last))
            .expect("a match does not end before it starts")
    }

    /// The first byte behind it; `None` where it ends with the last address there is.
    pub fn end(&self) -> Option<A> {
        self.start.checked_add(self.len as u64)
    }
}

/// What a scan found, and what it looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[must_use = "without its coverage a scan cannot tell `nothing found` from `could not look`"]
pub struct Outcome<A, T> {
    /// What was found, by space, then by address.
    pub items: Vec<Match<A, T>>,
    /// What was looked at, and what could not be, in all spaces together.
    pub coverage: Coverage<A>,
    /// The same for each of several spaces; nothing for one memory. When the scan was stopped, this says nothing of the
    /// spaces behind the one in which it was.
    pub spaces: Vec<Coverage<A>>,
    /// Bytes of physical memory that were looked at, each frame counted as often as that was.
    pub looked_at: u64,
    /// Whether it was stopped before its end.
    pub stopped: bool,
}

impl<A: Address, T> Outcome<A, T> {
    /// Whether all that was asked for was looked at.
    pub fn is_complete(&self) -> bool {
        !self.stopped && self.coverage.is_complete()
    }

    pub(super) fn of_one(outcome: SweepOutcome<A>) -> Self {
        Self {
            items: Vec::new(),
            looked_at: outcome.coverage.read,
            coverage: outcome.coverage,
            spaces: Vec::new(),
            stopped: outcome.stopped,
        }
    }
}

impl<T> Outcome<crate::Gva, T> {
    pub(super) fn of_many(outcome: ManyOutcome) -> Self {
        Self {
            items: Vec::new(),
            coverage: outcome.total(),
            looked_at: outcome.looked_at,
            stopped: outcome.stopped,
            spaces: outcome.coverage,
        }
    }
}
