//! A range of memory as an alternation of bytes and gaps.
//!
//! Walks the spans of the range rather than its pages, so that a range of many terabytes with a few
//! pages in it costs what the pages cost. Bytes come in bounded pieces; a gap comes in one, however
//! long it is.

use std::ops::ControlFlow;

use vmie::{AddrRange, Address, Cause, Coverage, Memory, SpanKind, read_around_holes};

use crate::exit::Result;

/// How many bytes come at a time; a multiple of the page size.
const CHUNK: usize = 256 << 10;
/// Holes are found page by page.
const PAGE: u64 = 4096;

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
    let mut walk = Walk {
        coverage,
        take,
        gap: None,
        chunk: Vec::new(),
    };
    let mut next = Some(range.start());
    for span in memory.spans(range) {
        let span_range = span.range();
        if let Some(at) = next
            && let Some(unmapped) = before(at, span_range.start())
            && walk.unmapped(memory, unmapped)?.is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
        let flow = match span.kind {
            SpanKind::Lost(cause) | SpanKind::Away(_, cause) => walk.gap(span_range, cause)?,
            SpanKind::Mapped(_) => walk.mapped(memory, span_range)?,
        };
        if flow.is_break() {
            return Ok(flow);
        }
        next = span_range.end();
    }
    if let Some(at) = next
        && let Some(unmapped) = AddrRange::inclusive(at, range.last())
        && walk.unmapped(memory, unmapped)?.is_break()
    {
        return Ok(ControlFlow::Break(()));
    }
    walk.flush()
}

/// The addresses from `at` up to `end`, which is not included.
fn before<A: Address>(at: A, end: A) -> Option<AddrRange<A>> {
    AddrRange::inclusive(at, end.checked_sub(1)?)
}

struct Walk<'w, A: Address> {
    coverage: &'w mut Coverage<A>,
    take: Take<'w, A>,
    /// A gap that may still grow.
    gap: Option<(AddrRange<A>, Cause)>,
    /// Room for one piece of bytes.
    chunk: Vec<u8>,
}

impl<A: Address> Walk<'_, A> {
    /// Nothing is mapped in `range`. The spans do not say why; a read of its first byte does.
    fn unmapped(
        &mut self,
        memory: &dyn Memory<Addr = A>,
        range: AddrRange<A>,
    ) -> Result<ControlFlow<()>> {
        match memory.read(range.start(), &mut [0]) {
            Err(fault) => self.gap(range, fault.cause),
            // Mapped since the spans were listed: a live guest.
            Ok(()) => self.mapped(memory, range),
        }
    }

    fn mapped(
        &mut self,
        memory: &dyn Memory<Addr = A>,
        range: AddrRange<A>,
    ) -> Result<ControlFlow<()>> {
        let mut at = Some(range.start());
        while let Some(part) = at.and_then(|at| AddrRange::inclusive(at, range.last())) {
            // Up to a chunk border, so that later chunks begin with a page.
            let to_border = CHUNK as u64 - (part.start().raw() & (CHUNK as u64 - 1));
            let len = part.len().min(to_border);
            let mut chunk = std::mem::take(&mut self.chunk);
            chunk.resize(len as usize, 0);
            let flow = self.read(memory, part.start(), &mut chunk)?;
            self.chunk = chunk;
            if flow.is_break() {
                return Ok(flow);
            }
            at = part.start().checked_add(len);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn read(
        &mut self,
        memory: &dyn Memory<Addr = A>,
        start: A,
        chunk: &mut [u8],
    ) -> Result<ControlFlow<()>> {
        let mut holes = Vec::new();
        read_around_holes(memory, start, chunk, PAGE, |offset, len, fault| {
            holes.push((offset, len, fault.cause));
        });
        let addr = |offset: usize| start.checked_add(offset as u64);
        let mut from = 0;
        for (offset, len, cause) in holes {
            if self.bytes(addr(from), &chunk[from..offset])?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if let Some(hole) = addr(offset).and_then(|at| AddrRange::new(at, len as u64))
                && self.gap(hole, cause)?.is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
            from = offset + len;
        }
        self.bytes(addr(from), &chunk[from..])
    }

    fn bytes(&mut self, start: Option<A>, bytes: &[u8]) -> Result<ControlFlow<()>> {
        let Some(start) = start.filter(|_| !bytes.is_empty()) else {
            return Ok(ControlFlow::Continue(()));
        };
        if self.flush()?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        self.coverage.add_read(bytes.len() as u64);
        (self.take)(Piece::Bytes { start, bytes })
    }

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
        self.coverage.add_gap(start, len, cause);
        (self.take)(Piece::Gap { start, len, cause })
    }
}
