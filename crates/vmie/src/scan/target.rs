//! What a scanner is sent over, and by which path.

use std::ops::ControlFlow;

use super::{Match, Outcome, Run, Selection};
use crate::addr::{Address, Gva};
use crate::memory::{Memory, Whole};
use crate::paging::AddressSpace;
use crate::sweep::{Scanner, SpacePart, seek, seek_many, seek_space};

/// What a scanner can be sent over: a memory, an [`AddressSpace`], parts of many address spaces.
pub trait Target {
    /// The addresses in it.
    type Addr: Address;

    /// Sends a scanner over it: what [`scan_each`](super::scan_each) does.
    fn send<S: Scanner + ?Sized>(
        &self,
        scanner: &S,
        selection: &Selection<Self::Addr>,
        run: &mut Run<'_>,
        emit: &mut dyn FnMut(Match<Self::Addr, S::Item>) -> ControlFlow<()>,
    ) -> Outcome<Self::Addr, S::Item>;
}

/// Any memory, from end to end.
impl<A: Address> Target for dyn Memory<Addr = A> + '_ {
    type Addr = A;

    fn send<S: Scanner + ?Sized>(
        &self,
        scanner: &S,
        selection: &Selection<A>,
        run: &mut Run<'_>,
        emit: &mut dyn FnMut(Match<A, S::Item>) -> ControlFlow<()>,
    ) -> Outcome<A, S::Item> {
        over(self, scanner, selection, run, emit)
    }
}

/// A memory of this crate's, from end to end.
impl<M: Whole> Target for M {
    type Addr = <M as Memory>::Addr;

    fn send<S: Scanner + ?Sized>(
        &self,
        scanner: &S,
        selection: &Selection<Self::Addr>,
        run: &mut Run<'_>,
        emit: &mut dyn FnMut(Match<Self::Addr, S::Item>) -> ControlFlow<()>,
    ) -> Outcome<Self::Addr, S::Item> {
        over(self, scanner, selection, run, emit)
    }
}

/// Sends a scanner over a memory from end to end.
fn over<A: Address, S: Scanner + ?Sized>(
    memory: &dyn Memory<Addr = A>,
    scanner: &S,
    selection: &Selection<A>,
    run: &mut Run<'_>,
    emit: &mut dyn FnMut(Match<A, S::Item>) -> ControlFlow<()>,
) -> Outcome<A, S::Item> {
    let options = run.options(selection);
    let outcome = seek(
        memory,
        scanner,
        &options,
        &mut |done| run.step(done),
        |start, item| emit(Match::of(scanner, 0, start, item)),
    );
    Outcome::of_one(outcome)
}

/// One address space. Where it maps many of its frames more than once, each is looked at once, and no result comes before
/// nearly all of them are done.
impl Target for AddressSpace {
    type Addr = Gva;

    fn send<S: Scanner + ?Sized>(
        &self,
        scanner: &S,
        selection: &Selection<Gva>,
        run: &mut Run<'_>,
        emit: &mut dyn FnMut(Match<Gva, S::Item>) -> ControlFlow<()>,
    ) -> Outcome<Gva, S::Item> {
        let options = run.options(selection);
        let outcome = seek_space(
            self,
            scanner,
            &options,
            &mut |done| run.step(done),
            |start, item| emit(Match::of(scanner, 0, start, item)),
        );
        Outcome::of_one(outcome)
    }
}

/// Parts of many address spaces: each physical frame is looked at once however many of them map it, except by scanners
/// that depend on addresses ([`Scanner::knows_address`]), which go over the spaces one by one.
impl Target for [SpacePart<'_>] {
    type Addr = Gva;

    fn send<S: Scanner + ?Sized>(
        &self,
        scanner: &S,
        selection: &Selection<Gva>,
        run: &mut Run<'_>,
        emit: &mut dyn FnMut(Match<Gva, S::Item>) -> ControlFlow<()>,
    ) -> Outcome<Gva, S::Item> {
        let options = run.options(selection);
        let outcome = seek_many(
            self,
            scanner,
            &options,
            &mut |done| run.step(done),
            |found| emit(Match::of(scanner, found.space, found.addr, found.item)),
        );
        Outcome::of_many(outcome)
    }
}
