//! The account of what was asked for by address and is not mapped.

use crate::addr::{AddrRange, Address};

/// Of the addresses that were asked for, those of which it is not yet known whether they are mapped.
///
/// What is mapped comes in ascending order; what lies between is not mapped. Nothing is left when
/// nobody asked by address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unseen<A: Address>(Option<AddrRange<A>>);

impl<A: Address> Unseen<A> {
    /// All of what was asked for.
    pub(super) fn new(asked: Option<AddrRange<A>>) -> Self {
        Self(asked)
    }

    /// Takes out what lies before `next`, the address at which something is known again.
    pub(super) fn before(&mut self, next: A) -> Option<AddrRange<A>> {
        let unseen = self.0?;
        let skipped = AddrRange::inclusive(unseen.start(), next.checked_sub(1)?)?;
        self.0 = AddrRange::inclusive(next, unseen.last());
        unseen.intersect(skipped)
    }

    /// Notes that the answer for `len` bytes from `start` on is known.
    pub(super) fn seen(&mut self, start: A, len: u64) {
        self.0 = self.0.and_then(|unseen| {
            AddrRange::inclusive(unseen.start().max(start.checked_add(len)?), unseen.last())
        });
    }

    /// Takes out the rest: nothing more is mapped.
    pub(super) fn rest(&mut self) -> Option<AddrRange<A>> {
        self.0.take()
    }
}
