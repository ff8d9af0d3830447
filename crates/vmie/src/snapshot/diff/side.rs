//! The bytes of two sides, in place or copied, and where they differ.

use std::ops::{ControlFlow, Range};

use crate::addr::{AddrRange, Address};
use crate::memory::{Cause, Memory};
use crate::snapshot::layout::SNAPSHOT_PAGE;
use crate::sweep::{Part, read_pieces};

/// The first page of a range, or the part of it that is in the range.
pub(super) fn page_of<A: Address>(range: AddrRange<A>) -> AddrRange<A> {
    let end = A::new(range.start().raw() | (SNAPSHOT_PAGE as u64 - 1));
    AddrRange::inclusive(range.start(), range.last().min(end)).expect("not empty")
}

/// Compares a page of which one side cannot read all.
#[cold]
pub(super) fn broken_page<A: Address>(
    sides: [&dyn Memory<Addr = A>; 2],
    page: AddrRange<A>,
    differ: &mut impl FnMut(A, &[u8], &[u8]) -> ControlFlow<()>,
    missing: &mut impl FnMut(AddrRange<A>, Cause),
) -> ControlFlow<()> {
    let len = page.len() as usize;
    let mut bytes = [[0; SNAPSHOT_PAGE]; 2];
    // Of each side: where each part ends, and why it cannot be read.
    let mut parts: [Vec<(usize, Option<Cause>)>; 2] = Default::default();
    for ((side, bytes), parts) in sides.into_iter().zip(&mut bytes).zip(&mut parts) {
        read_pieces(side, page.start(), &mut bytes[..len], &mut |part| {
            parts.push(match part {
                Part::Bytes { at, bytes } => (at + bytes.len(), None),
                Part::Hole { at, len, fault } => (at + len, Some(fault.cause)),
            });
        });
    }
    let mut at = 0;
    while at < len {
        let states = parts
            .each_ref()
            .map(|parts| parts.iter().find(|(end, _)| *end > at));
        let ends = states
            .iter()
            .map(|state| state.map_or(len, |(end, _)| *end));
        let end = ends.min().unwrap_or(len);
        let addr = A::new(page.start().raw() + at as u64);
        let causes = states.iter().flatten().filter_map(|(_, cause)| *cause);
        // What one side was never asked to keep counts for nothing, whatever the other says.
        match causes.min_by_key(|cause| *cause != Cause::NotCaptured) {
            None => differ(addr, &bytes[0][at..end], &bytes[1][at..end])?,
            Some(cause) => {
                let part = AddrRange::new(addr, (end - at) as u64);
                missing(part.expect("a part of the page"), cause);
            }
        }
        at = end;
    }
    ControlFlow::Continue(())
}

/// One of the two memories, and a window of it where it has to be copied.
pub(super) struct Side<'m, A: Address> {
    pub(super) memory: &'m dyn Memory<Addr = A>,
    buffer: Vec<u8>,
    /// Whether the buffer holds this window.
    filled: bool,
    /// Whether the last window was filled because its pages were lent from here and there.
    scattered: bool,
    /// Where the page that was lent last ends in our memory, and how many in a row began elsewhere.
    end: usize,
    jumps: u32,
    /// Parts of the buffer that could not be read: where they begin and end.
    holes: Vec<(usize, usize)>,
}

impl<'m, A: Address> Side<'m, A> {
    pub(super) fn new(memory: &'m dyn Memory<Addr = A>) -> Self {
        Self {
            memory,
            buffer: Vec::new(),
            filled: false,
            scattered: false,
            end: 0,
            jumps: 0,
            holes: Vec::new(),
        }
    }

    /// The next window is another one.
    pub(super) fn forget(&mut self) {
        self.scattered = self.jumps > 0 && self.filled;
        self.filled = false;
        self.jumps = 0;
    }

    /// Whether a page that is lent is the last straw: to copy a window of scattered frames, which asks the
    /// memory for each before it is needed, is quicker than to wait for one after the other. Moments lie in one
    /// piece but for their pages of zeros.
    fn is_scattered(&mut self, lent: Range<*const u8>) -> bool {
        if lent.start.addr() != self.end {
            self.jumps += 1;
        } else {
            self.jumps = 0;
        }
        self.end = lent.end.addr();
        self.jumps > if self.scattered { 1 } else { 8 }
    }

    /// Bytes from the beginning of `rest` on, which is what is left of the window: as many as are at hand;
    /// `None` when some of the first page cannot be read.
    pub(super) fn lend(&mut self, window: AddrRange<A>, rest: AddrRange<A>) -> Option<&[u8]> {
        let most = rest.len() as usize;
        let page = page_of(rest);
        if !self.filled {
            if let Some(bytes) = self
                .memory
                .view(page.start())
                .and_then(|view| view.rest(page.start()))
                && bytes.len() as u64 >= page.len()
            {
                return Some(&bytes[..bytes.len().min(most)]);
            }
            if let Some(bytes) = self.memory.borrow(page)
                && !self.is_scattered(bytes.as_ptr_range())
            {
                return Some(bytes);
            }
            self.fill(window);
        }
        let at = (rest.start().raw() - window.start().raw()) as usize;
        let next = self.holes.partition_point(|hole| hole.1 <= at);
        let hole = self.holes.get(next).map_or(usize::MAX, |hole| hole.0);
        let whole = hole >= at + page.len() as usize;
        // What lies before the page of a hole.
        let end = (at + most).min(hole);
        let end = if end < at + most {
            let tail = (window.start().raw() + end as u64) % SNAPSHOT_PAGE as u64;
            end - (tail as usize).min(end - at)
        } else {
            end
        };
        whole.then(|| &self.buffer[at..end])
    }

    fn fill(&mut self, window: AddrRange<A>) {
        let len = window.len() as usize;
        if self.buffer.len() < len {
            self.buffer.resize(len, 0);
        }
        self.filled = true;
        self.holes.clear();
        let (buffer, holes) = (&mut self.buffer[..len], &mut self.holes);
        read_pieces(self.memory, window.start(), buffer, &mut |part| {
            if let Part::Hole { at, len, .. } = part {
                holes.push((at, at + len));
            }
        });
    }
}

/// Calls `on` with offset and length of each maximal run of bytes that differ.
pub(super) fn each_difference(
    one: &[u8],
    other: &[u8],
    on: &mut impl FnMut(usize, usize) -> ControlFlow<()>,
) -> ControlFlow<()> {
    // Most pages are equal, and nothing tells that faster than the comparison of slices.
    const BLOCK: usize = 4096;
    let mut run: Option<usize> = None;
    for (index, (left, right)) in one.chunks(BLOCK).zip(other.chunks(BLOCK)).enumerate() {
        let base = index * BLOCK;
        if left == right {
            if let Some(start) = run.take() {
                on(start, base - start)?;
            }
            continue;
        }
        let mut at = 0;
        while at < left.len() {
            if let (Some(a), Some(b)) = (left[at..].first_chunk(), right[at..].first_chunk()) {
                let differ = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
                // Eight bytes that say nothing new: all the same as the byte before.
                let goes_on = match run {
                    None => differ == 0,
                    Some(_) => has_no_zero_byte(differ),
                };
                if goes_on {
                    at += 8;
                    continue;
                }
            }
            match (left[at] == right[at], run) {
                (true, Some(start)) => {
                    on(start, base + at - start)?;
                    run = None;
                }
                (false, None) => run = Some(base + at),
                _ => {}
            }
            at += 1;
        }
    }
    match run {
        Some(start) => on(start, one.len() - start),
        None => ControlFlow::Continue(()),
    }
}

/// Whether each of the eight bytes is other than zero.
fn has_no_zero_byte(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    word.wrapping_sub(ONES) & !word & (ONES << 7) == 0
}
