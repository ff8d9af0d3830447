//! What a scanner is, and how it is sent over one memory or over many spaces.

use std::ops::ControlFlow;

use crate::addr::{Address, Gva};
use crate::memory::Memory;
use crate::paging::AddressSpace;
use crate::sweep::many::repeats_frames;
use crate::sweep::{
    Found, ManyOutcome, Piece, Sighting, SpacePart, SweepOptions, SweepOutcome, sweep, sweep_each,
    sweep_many,
};

/// Looks for something in pieces of memory; [`scan`](crate::scan::scan()) sends it over one.
///
/// What starts at a byte may depend only on [`Scanner::behind`] bytes before it, on
/// [`Scanner::overlap`] bytes after it, on where memory begins or ends within those, and on the address
/// modulo [`Piece::ALIGN`]. Then results are the same for every window size, and a frame that many
/// processes map needs to be looked at once. One that [knows its address](Scanner::knows_address) may depend on all of
/// the address, and looks at such a frame in each of them.
pub trait Scanner: Sync {
    /// What is known of a result besides its address.
    type Item: Clone + Send;

    /// How many bytes before a result it may depend on.
    fn behind(&self) -> usize;

    /// How many bytes after the first byte of a result it may depend on.
    fn overlap(&self) -> usize;

    /// Whether results depend on the address that bytes stand at, beyond its alignment. Only then does every piece have
    /// a [`Piece::start`].
    fn knows_address(&self) -> bool {
        false
    }

    /// How many bytes a result takes, from its address on: at least one.
    fn len_of(&self, item: &Self::Item) -> usize;

    /// Pushes what starts in `piece.bytes[..piece.owned]`, as offset and item, by ascending offset.
    fn scan(&self, piece: &Piece<'_>, found: &mut Found<(usize, Self::Item)>);
}

impl<S: Scanner + ?Sized> Scanner for &S {
    type Item = S::Item;

    fn behind(&self) -> usize {
        (**self).behind()
    }

    fn overlap(&self) -> usize {
        (**self).overlap()
    }

    fn knows_address(&self) -> bool {
        (**self).knows_address()
    }

    fn len_of(&self, item: &Self::Item) -> usize {
        (**self).len_of(item)
    }

    fn scan(&self, piece: &Piece<'_>, found: &mut Found<(usize, Self::Item)>) {
        (**self).scan(piece, found);
    }
}

/// Sends a scanner over a memory: [`sweep`], with the surroundings that the scanner asks for whatever
/// `options` says.
pub(crate) fn seek<A: Address, S: Scanner + ?Sized>(
    memory: &dyn Memory<Addr = A>,
    scanner: &S,
    options: &SweepOptions<A>,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    mut emit: impl FnMut(A, S::Item) -> ControlFlow<()>,
) -> SweepOutcome<A> {
    sweep(
        memory,
        &around(scanner, options),
        progress,
        |window, found| {
            found.gather(
                |hits| scanner.scan(&Piece::of(window), hits),
                |(offset, item)| (window.addr(offset), item),
            );
        },
        |(addr, item)| emit(addr, item),
    )
}

/// Sends a scanner over one address space: as [`seek`], but where the space maps many of its frames
/// more than once each frame is looked at once, as [`seek_many`] does it.
///
/// Results, their order and the coverage are the same either way. Where frames are looked at once, no
/// result comes before nearly all of them are done. Costs a walk over the page tables more than `seek`.
pub(crate) fn seek_space<S: Scanner + ?Sized>(
    space: &AddressSpace,
    scanner: &S,
    options: &SweepOptions<Gva>,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    mut emit: impl FnMut(Gva, S::Item) -> ControlFlow<()>,
) -> SweepOutcome<Gva> {
    let part = SpacePart::all(space);
    if scanner.knows_address() || !repeats_frames(part, options) {
        return seek(space, scanner, options, progress, emit);
    }
    let many = seek_many(&[part], scanner, options, progress, |found| {
        emit(found.addr, found.item)
    });
    SweepOutcome {
        coverage: many.coverage.into_iter().next().unwrap_or_default(),
        stopped: many.stopped,
    }
}

/// Sends a scanner over many spaces at once: [`sweep_many`], with the surroundings that the scanner
/// asks for whatever `options` says.
pub(crate) fn seek_many<S: Scanner + ?Sized>(
    parts: &[SpacePart<'_>],
    scanner: &S,
    options: &SweepOptions<Gva>,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    emit: impl FnMut(Sighting<S::Item>) -> ControlFlow<()>,
) -> ManyOutcome {
    let options = around(scanner, options);
    let scan = |piece: &Piece<'_>, found: &mut Found<_>| scanner.scan(piece, found);
    if scanner.knows_address() {
        return sweep_each(parts, &options, progress, scan, emit);
    }
    sweep_many(parts, &options, progress, scan, emit)
}

pub(crate) fn around<A: Address, S: Scanner + ?Sized>(
    scanner: &S,
    options: &SweepOptions<A>,
) -> SweepOptions<A> {
    SweepOptions {
        behind: scanner.behind(),
        overlap: scanner.overlap(),
        ..options.clone()
    }
}
