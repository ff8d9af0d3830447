//! A range of memory as an alternation of bytes and gaps.
//!
//! Walks the spans of the range rather than its pages, so that a range of many terabytes with a few
//! pages in it costs what the pages cost. Bytes come in bounded pieces; a gap comes in one, however
//! long it is.

use std::ops::ControlFlow;

use vmie::{AddrRange, Address, Cause, Coverage, Memory, Stretch, Stretches, SweepOptions};

use crate::exit::Result;

/// How many bytes come at a time.
const CHUNK: usize = 256 << 10;

/// A part of the range.
pub(super) enum Piece<'a, A> {
    /// Bytes that were read. They continue the piece before when that was bytes too.
    Bytes { start: A, bytes: &'a [u8] },
    /// Nothing could be read here.
    Gap { start: A, len: u64, cause: Cause },
}

/// Takes the pieces in ascending order.
type Take<'t, A> = &'t mut dyn FnMut(Piece<'_, A>) -> Result<ControlFlow<()>>;

/// Hands every part of `range` to `take` until it breaks, and counts what was read.
pub(super) fn walk<A: Address>(
    memory: &dyn Memory<Addr = A>,
    range: AddrRange<A>,
    coverage: &mut Coverage<A>,
    take: Take<'_, A>,
) -> Result<ControlFlow<()>> {
    let options = SweepOptions {
        range: Some(range),
        window: CHUNK,
        max_bytes: u64::MAX,
        ..SweepOptions::default()
    };
    let mut stretches = Stretches::new(memory, &options).wanting_all();
    let mut walk = Walk { take, gap: None };
    let mut flow = ControlFlow::Continue(());
    while flow.is_continue()
        && let Some(stretch) = stretches.next()
    {
        flow = match stretch {
            Stretch::Gap { range, cause } => walk.gap(range, cause)?,
            Stretch::Bytes { start, bytes, .. } if walk.flush()?.is_continue() => {
                (walk.take)(Piece::Bytes { start, bytes })?
            }
            Stretch::Bytes { .. } => ControlFlow::Break(()),
        };
    }
    if flow.is_continue() {
        flow = walk.flush()?;
    }
    coverage.merge(&stretches.coverage());
    Ok(flow)
}

struct Walk<'w, A: Address> {
    take: Take<'w, A>,
    /// A gap that may still grow.
    gap: Option<(AddrRange<A>, Cause)>,
}

impl<A: Address> Walk<'_, A> {
    fn gap(&mut self, range: AddrRange<A>, cause: Cause) -> Result<ControlFlow<()>> {
        if let Some((last, last_cause)) = &mut self.gap
            && last.end() == Some(range.start())
            && last_cause.label() == cause.label()
            && let Some(joined) = AddrRange::inclusive(last.start(), range.last())
        {
            *last = joined;
            return Ok(ControlFlow::Continue(()));
        }
        let flow = self.flush()?;
        self.gap = Some((range, cause));
        Ok(flow)
    }

    /// Hands over the gap that was still growing.
    fn flush(&mut self) -> Result<ControlFlow<()>> {
        let Some((range, cause)) = self.gap.take() else {
            return Ok(ControlFlow::Continue(()));
        };
        let (start, len) = (range.start(), range.len());
        (self.take)(Piece::Gap { start, len, cause })
    }
}
