//! Physical memory kept together with views of it, so that a translation need not ask for one.
//!
//! A view borrows from the memory it is of; to keep both in one value takes a lifetime that the
//! language cannot name, and that is all this module is about.
#![allow(unsafe_code)]

use std::sync::Arc;

use crate::addr::{AddrRange, Address};
use crate::memory::Memory;
use crate::view::View;

/// Memory kept together with views of it, so that they need not be asked for on every read.
///
/// Physical memory is one or two stretches on nearly every machine; the first few are kept.
///
/// Views are handed out by reference and never copied on the hot path: a copy loads in larger pieces
/// what was stored in smaller ones, which the CPU cannot forward, so it waits for everything before
/// it. That alone made random reads half as fast.
#[derive(Clone)]
pub(crate) struct Viewed<A: Address> {
    /// Views into what `owner` points at; `'static` stands for "as long as `owner`", and no method
    /// lets it out for longer than a borrow of `self`.
    first: Option<View<'static, A>>,
    others: Arc<[View<'static, A>]>,
    owner: Arc<dyn Memory<Addr = A>>,
}

impl<A: Address> Viewed<A> {
    /// How many stretches are kept.
    const KEPT: usize = 8;

    /// Keeps `owner` and what views it offers, that around `favourite` in front.
    pub(crate) fn new(owner: Arc<dyn Memory<Addr = A>>, favourite: A) -> Self {
        // SAFETY: what `owner` points at stays where it is and is only ever borrowed shared until the
        // last clone of the `Arc` is gone; `self` holds one, and drops it after the views, which
        // have no destructor. So a borrow of it may last as long as `self`.
        let lasting: &'static dyn Memory<Addr = A> = unsafe { &*Arc::as_ptr(&owner) };
        let others = lasting
            .regions(AddrRange::all())
            .take(Self::KEPT)
            .filter_map(|region| lasting.view(region.start))
            .collect();
        Self {
            first: lasting.view(favourite),
            others,
            owner,
        }
    }

    /// The memory.
    pub(crate) fn memory(&self) -> &Arc<dyn Memory<Addr = A>> {
        &self.owner
    }

    /// The view that is looked at first.
    #[inline]
    pub(crate) fn first(&self) -> Option<&View<'_, A>> {
        self.first.as_ref()
    }

    /// The views to try when the first does not hold an address.
    pub(crate) fn others(&self) -> &[View<'_, A>] {
        &self.others
    }
}
