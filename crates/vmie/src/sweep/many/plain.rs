//! The reference implementation: each space swept on its own. It is also the way out where the other one would take
//! too much memory, and what sweeps odd zones.

use std::ops::ControlFlow;

use super::{Many, Piece, Show, Sighting};
use crate::addr::{AddrRange, Gva};
use crate::memory::{Coverage, Fault, Memory, Spans};
use crate::paging::AddressSpace;
use crate::sweep::{Found, SweepOptions, SweepOutcome, sweep};

/// A part of a space as a memory.
struct Part<'a> {
    space: &'a AddressSpace,
    range: AddrRange<Gva>,
}

/// It is only ever read where it has spans.
impl Memory for Part<'_> {
    type Addr = Gva;

    fn spans(&self, range: AddrRange<Gva>) -> Spans<'_, Gva> {
        match range.intersect(self.range) {
            Some(range) => self.space.spans(range),
            None => Box::new(std::iter::empty()),
        }
    }

    fn read(&self, addr: Gva, buf: &mut [u8]) -> Result<(), Fault<Gva>> {
        self.space.read(addr, buf)
    }

    fn borrow(&self, range: AddrRange<Gva>) -> Option<&[u8]> {
        self.space.borrow(range)
    }
}

/// Sweeps `range` of a space; the options' own range only says whether what is not mapped counts.
pub(super) fn sweep_part<R: Send>(
    space: &AddressSpace,
    range: AddrRange<Gva>,
    options: &SweepOptions<Gva>,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    scan: &Show<'_, R>,
    emit: &mut dyn FnMut(Gva, R) -> ControlFlow<()>,
) -> SweepOutcome<Gva> {
    let options = SweepOptions {
        range: options.range.and(Some(range)),
        ..options.clone()
    };
    sweep(
        &Part { space, range },
        &options,
        progress,
        |window, found: &mut Found<(Gva, R)>| {
            found.gather(
                |hits| scan(&Piece::of(window), hits),
                |(offset, item)| (window.addr(offset), item),
            );
        },
        |(addr, item)| emit(addr, item),
    )
}

impl<R: Clone + Send> Many<'_, R> {
    /// Sweeps part `index`, the next one, on its own.
    pub(super) fn sweep_plainly(&mut self, index: usize) -> ControlFlow<()> {
        let part = self.parts[index];
        let Some(range) = part.asked(self.options) else {
            self.coverage.push(Coverage::default());
            return ControlFlow::Continue(());
        };
        let base = self.looked_at;
        let outcome = sweep_part(
            part.space,
            range,
            self.options,
            &mut |done| (self.progress)(base + done),
            self.scan,
            &mut |addr, item| {
                (self.emit)(Sighting {
                    space: index,
                    addr,
                    item,
                })
            },
        );
        self.looked_at += outcome.coverage.read;
        self.coverage.push(outcome.coverage);
        if outcome.stopped {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}
