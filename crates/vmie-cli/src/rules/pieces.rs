//! Memory as the rules engine takes it: pieces of consecutive bytes, one after the other.
//!
//! A string is found within a piece only, so a piece is as long as memory goes: it crosses the borders of
//! pages and of regions, wherever their frames are, and ends where nothing is mapped or where a page is not
//! in the image. What is not there is no piece, and counted.
//!
//! Pieces are lent where memory can lend them, and else copied into one buffer. To bound that, and the time
//! until Ctrl-C is noticed, what is longer than [`Bounds::piece`] comes in several pieces that overlap by
//! [`Bounds::overlap`]. A match in an overlap is found twice: rows show it once, but conditions that count
//! (`#a`) count it twice.
//!
//! The engine goes through the pieces once to find strings. Conditions such as `uint16(@a)` ask for single
//! pieces again; those are not counted again, and the piece that was asked for last is still there.

use std::fmt;
use std::sync::Mutex;

use boreal::memory::{FragmentedMemory, MemoryParams, Region, RegionDescription};
use indicatif::ProgressBar;
use vmie::{AddrRange, Address, Cause, Coverage, Memory, Prot, Span, SpanKind, Spans};

use crate::interrupt;

/// Presence is a matter of pages.
const PAGE: u64 = 4096;

/// Bounds on memory and time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes of a piece.
    pub(crate) piece: u64,
    /// Bytes that two pieces of the same memory have in common; less than a piece.
    pub(crate) overlap: u64,
    /// How many pieces there may be: a guest may have any number of holes.
    pub(crate) pieces: usize,
    /// How many bytes are looked at: page tables may claim any amount.
    pub(crate) bytes: u64,
}

impl Bounds {
    /// For looking at up to `bytes` bytes.
    pub(crate) fn of(bytes: u64) -> Self {
        Self {
            piece: 256 << 20,
            overlap: 1 << 20,
            pieces: 4 << 20,
            bytes,
        }
    }
}

/// A piece: first address and length.
type Piece = (u64, usize);

/// The pieces of a memory, one after the other.
pub(crate) struct Pieces<'m, A: Address> {
    memory: &'m dyn Memory<Addr = A>,
    perm: Prot,
    bounds: Bounds,
    /// What is mapped and was not looked at. Behind a lock because it cannot be shared otherwise.
    spans: Mutex<Spans<'m, A>>,
    /// A span that was taken too early.
    ahead: Option<Span<A>>,
    /// What was asked for by address and not come by yet: what of it is not mapped counts.
    unseen: Option<AddrRange<A>>,
    /// What is left of the memory that pieces are made of: first address and length.
    run: Option<(u64, u64)>,
    /// All pieces so far.
    found: Vec<Piece>,
    /// The next of them, once they are gone through again.
    again: Option<usize>,
    /// The piece that was named last.
    current: Option<Piece>,
    /// What the buffer, or what was lent, is.
    held: Option<Piece>,
    buffer: Vec<u8>,
    lent: Option<&'m [u8]>,
    coverage: Coverage<A>,
    /// The first address that is not counted.
    counted: u64,
    bar: ProgressBar,
}

impl<A: Address> fmt::Debug for Pieces<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces")
            .field("found", &self.found.len())
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

impl<'m, A: Address> Pieces<'m, A> {
    /// What of `range` is mapped with at least `perm`. If it was `asked` for by address, what is not mapped
    /// counts.
    pub(crate) fn new(
        memory: &'m dyn Memory<Addr = A>,
        (range, asked): (AddrRange<A>, bool),
        perm: Prot,
        bounds: Bounds,
        bar: ProgressBar,
    ) -> Self {
        Self {
            memory,
            perm,
            bounds,
            spans: Mutex::new(memory.spans(range)),
            ahead: None,
            unseen: asked.then_some(range),
            run: None,
            found: Vec::new(),
            again: None,
            current: None,
            held: None,
            buffer: Vec::new(),
            lent: None,
            coverage: Coverage::default(),
            counted: 0,
            bar,
        }
    }

    /// What was looked at.
    pub(crate) fn coverage(&self) -> &Coverage<A> {
        &self.coverage
    }

    fn next_span(&mut self) -> Option<Span<A>> {
        if self.ahead.is_some() {
            return self.ahead.take();
        }
        // Nobody panics while holding the lock.
        let span = self.spans.get_mut().ok().and_then(Iterator::next);
        if let Some(unseen) = self.unseen.take() {
            let before = match span {
                Some(span) => span.start.checked_sub(1),
                None => Some(unseen.last()),
            };
            let gap = before.and_then(|last| AddrRange::inclusive(unseen.start(), last));
            if let Some(gap) = gap {
                self.unmapped(gap);
            }
            let behind = span.and_then(|span| span.start.checked_add(span.len));
            self.unseen = behind.and_then(|start| AddrRange::inclusive(start, unseen.last()));
        }
        span
    }

    /// Nothing is mapped in a range. The spans do not say why; a read of its first byte does.
    fn unmapped(&mut self, range: AddrRange<A>) {
        let (start, len) = (range.start(), range.len());
        match self.memory.read(start, &mut [0]) {
            Err(fault) => self.coverage.add_unmapped(start, len, fault.cause),
            // A running guest has mapped it since.
            Ok(()) => self.coverage.unmapped = self.coverage.unmapped.saturating_add(len),
        }
    }

    /// The next run of memory that is wanted and has no gap.
    fn next_run(&mut self) -> Option<(u64, u64)> {
        let mut run: Option<(u64, u64)> = None;
        while let Some(span) = self.next_span() {
            let start = span.start.raw();
            match (span.kind, &mut run) {
                (SpanKind::Mapped(prot), _) if !prot.contains(self.perm) => {}
                (SpanKind::Mapped(_), Some((at, len))) if at.checked_add(*len) == Some(start) => {
                    *len += span.len;
                }
                (_, Some(_)) => {
                    self.ahead = Some(span);
                    return run;
                }
                (SpanKind::Mapped(_), None) => run = Some((start, span.len)),
                (SpanKind::Lost(cause), None) => {
                    self.coverage.add_lost(span.start, span.len, cause);
                }
                (SpanKind::Away(prot, cause), None) => {
                    if prot.contains(self.perm) {
                        self.coverage.add_absent(span.start, span.len, cause);
                    }
                }
            }
        }
        run
    }

    /// The next piece that was not looked at, which is held then.
    fn discover(&mut self) -> Option<Piece> {
        loop {
            if interrupt::asked() {
                return None;
            }
            let run = self.run.take();
            let (at, left) = match run {
                Some(run) => run,
                None => self.next_run()?,
            };
            if self.bounds.bytes == 0 || self.found.len() >= self.bounds.pieces {
                let from = at.max(self.counted);
                let left = left.saturating_sub(from - at);
                if left > 0 {
                    self.coverage.add_lost(A::new(from), left, Cause::Limit);
                }
                continue;
            }
            let want = left.min(self.bounds.piece).min(self.bounds.bytes);
            let (good, cause) = self.hold(at, want);
            self.count(at, good);
            self.bounds.bytes -= good;
            self.run = match cause {
                Some(cause) => {
                    let hole = at + good;
                    let len = (PAGE - hole % PAGE).min(left - good);
                    self.coverage.add_absent(A::new(hole), len, cause);
                    self.counted = hole.saturating_add(len);
                    behind(at, left, good + len)
                }
                None if want == self.bounds.piece && want < left => {
                    behind(at, left, want - self.bounds.overlap)
                }
                None => behind(at, left, want),
            };
            if good > 0 {
                let piece = (at, good as usize);
                self.found.push(piece);
                self.held = Some(piece);
                self.bar.inc(good);
                return Some(piece);
            }
        }
    }

    /// Gets hold of bytes; how many there are before the first that cannot be read, and why it cannot.
    fn hold(&mut self, at: u64, want: u64) -> (u64, Option<Cause>) {
        let start = A::new(at);
        self.held = None;
        self.lent = AddrRange::new(start, want).and_then(|range| self.memory.borrow(range));
        if self.lent.is_some() {
            return (want, None);
        }
        let len = want as usize;
        if self.buffer.len() < len {
            self.buffer.resize(len, 0);
        }
        match self.memory.read(start, &mut self.buffer[..len]) {
            Ok(()) => (want, None),
            Err(fault) => {
                let good = fault.addr.raw().saturating_sub(at).min(want - 1);
                (good, Some(fault.cause))
            }
        }
    }

    fn count(&mut self, at: u64, len: u64) {
        let end = at.saturating_add(len);
        let from = at.max(self.counted);
        if from < end {
            self.coverage.add_read(end - from);
            self.counted = end;
        }
    }
}

/// What is left of `len` bytes at `at` behind the first `done`.
fn behind(at: u64, len: u64, done: u64) -> Option<(u64, u64)> {
    (done < len).then(|| (at + done, len - done))
}

impl<A: Address> FragmentedMemory for &mut Pieces<'_, A> {
    fn next(&mut self, _: &MemoryParams) -> Option<RegionDescription> {
        self.current = match &mut self.again {
            None => self.discover(),
            Some(_) if interrupt::asked() => None,
            Some(index) => {
                *index += 1;
                self.found.get(*index - 1).copied()
            }
        };
        self.current.map(|(start, length)| RegionDescription {
            start: start as usize,
            length,
        })
    }

    fn fetch(&mut self, _: &MemoryParams) -> Option<Region<'_>> {
        let piece = self.current?;
        let (at, len) = piece;
        if self.held != Some(piece) {
            // What a running guest has unmapped in between is not there any more.
            let (_, fault) = self.hold(at, len as u64);
            if fault.is_some() {
                return None;
            }
            self.held = Some(piece);
        }
        let mem = match self.lent {
            Some(bytes) => bytes,
            None => self.buffer.get(..len)?,
        };
        Some(Region {
            start: at as usize,
            mem,
        })
    }

    fn reset(&mut self) {
        self.again = Some(0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use vmie::{Fault, Gpa, Gva};
    use vmie_synth::guest::Rng;

    use super::*;

    /// Regions, and pages of them that are not there.
    struct Parts {
        parts: Vec<(u64, u64, Prot)>,
        absent: Vec<u64>,
        lost: Option<(u64, u64)>,
    }

    impl Parts {
        fn byte(&self, at: u64) -> Option<u8> {
            let mapped = self
                .parts
                .iter()
                .any(|&(start, len, _)| at >= start && at - start < len);
            (mapped && !self.absent.contains(&(at / PAGE))).then_some((at % 251) as u8)
        }

        /// What can be read with `perm`.
        fn readable(&self, perm: Prot) -> BTreeMap<u64, u8> {
            let parts = self.parts.iter().filter(|part| part.2.contains(perm));
            let all = parts.flat_map(|&(start, len, _)| start..start + len);
            all.filter_map(|at| Some((at, self.byte(at)?))).collect()
        }
    }

    impl Memory for Parts {
        type Addr = Gva;

        fn spans(&self, _: AddrRange<Gva>) -> Spans<'_, Gva> {
            let mapped = self.parts.iter().map(|&(start, len, prot)| Span {
                start: Gva(start),
                len,
                kind: SpanKind::Mapped(prot),
            });
            let lost = self.lost.iter().map(|&(start, len)| Span {
                start: Gva(start),
                len,
                kind: SpanKind::Lost(Cause::Limit),
            });
            Box::new(mapped.chain(lost))
        }

        fn read(&self, addr: Gva, buf: &mut [u8]) -> std::result::Result<(), Fault<Gva>> {
            for (at, byte) in buf.iter_mut().enumerate() {
                let addr = Gva(addr.0 + at as u64);
                let cause = Cause::Absent { gpa: Gpa(0) };
                *byte = self.byte(addr.0).ok_or(Fault { addr, cause })?;
            }
            Ok(())
        }
    }

    fn parameters() -> MemoryParams {
        MemoryParams {
            max_fetched_region_size: 0,
            memory_chunk_size: None,
            can_refetch_regions: true,
        }
    }

    fn all_of(mut pieces: &mut Pieces<'_, Gva>) -> Vec<(u64, Vec<u8>)> {
        let parameters = parameters();
        let mut all = Vec::new();
        while let Some(told) = pieces.next(&parameters) {
            let region = pieces.fetch(&parameters).expect("it was there");
            assert_eq!((region.start, region.mem.len()), (told.start, told.length));
            all.push((region.start as u64, region.mem.to_vec()));
        }
        all
    }

    #[test]
    fn pieces_hold_all_that_can_be_read_and_whatever_is_as_long_as_their_overlap() {
        let mut rng = Rng::new(11);
        for _ in 0..60 {
            let mut memory = Parts {
                parts: Vec::new(),
                absent: Vec::new(),
                lost: Some((0x100_0000, 0x1000)),
            };
            let mut at = 0x1000;
            for _ in 0..rng.below(5) + 1 {
                let len = (rng.below(4) + 1) * PAGE;
                let prot = if rng.below(3) == 0 {
                    Prot::R
                } else {
                    Prot::RWX
                };
                memory.parts.push((at, len, prot));
                at += len + rng.below(2) * PAGE;
            }
            memory.absent = (0..rng.below(4)).map(|_| 1 + rng.below(12)).collect();
            let perm = if rng.below(2) == 0 {
                Prot::W
            } else {
                Prot::NONE
            };
            let overlap = rng.below(40);
            let bounds = Bounds {
                piece: overlap + 1 + rng.below(9000),
                overlap,
                ..Bounds::of(u64::MAX)
            };
            let bar = ProgressBar::hidden();
            let all = (AddrRange::all(), false);
            let mut pieces = Pieces::new(&memory, all, perm, bounds, bar);
            let all = all_of(&mut pieces);
            let readable = memory.readable(perm);
            let mut seen = BTreeMap::new();
            for (start, bytes) in &all {
                assert!(bytes.len() as u64 <= bounds.piece);
                seen.extend((*start..).zip(bytes.iter().copied()));
            }
            assert_eq!(seen, readable);
            for &first in readable.keys() {
                let last = first + overlap;
                if (first..=last).all(|at| readable.contains_key(&at)) {
                    let holds =
                        |start: u64, len: usize| start <= first && last < start + len as u64;
                    assert!(
                        all.iter().any(|(start, bytes)| holds(*start, bytes.len())),
                        "{first:#x}..={last:#x}"
                    );
                }
            }
            let coverage = pieces.coverage().clone();
            assert_eq!(coverage.read, readable.len() as u64);
            assert_eq!(coverage.lost, 0x1000);
            let wanted = memory.parts.iter().filter(|part| part.2.contains(perm));
            assert_eq!(coverage.mapped, wanted.map(|part| part.1).sum::<u64>());
            // The same once more, and nothing is counted twice.
            (&mut pieces).reset();
            assert_eq!(all_of(&mut pieces), all);
            assert_eq!(pieces.coverage(), &coverage);
        }
    }

    #[test]
    fn what_is_not_mapped_counts_where_it_was_asked_for() {
        let memory = Parts {
            parts: vec![(0x1000, PAGE, Prot::RWX), (0x4000, PAGE, Prot::RWX)],
            absent: vec![],
            lost: None,
        };
        let bar = ProgressBar::hidden();
        let range = AddrRange::new(Gva(0), 0x8000).expect("not empty");
        let mut pieces = Pieces::new(&memory, (range, true), Prot::NONE, Bounds::of(1 << 20), bar);
        all_of(&mut pieces);
        let coverage = pieces.coverage();
        assert_eq!((coverage.read, coverage.unmapped), (2 * PAGE, 6 * PAGE));
        assert_eq!(coverage.gap_count, 3);
    }

    #[test]
    fn what_is_behind_a_bound_is_lost_and_not_silent() {
        let memory = Parts {
            parts: vec![(0x1000, 3 * PAGE, Prot::RWX), (0x8000, PAGE, Prot::RWX)],
            absent: vec![2],
            lost: None,
        };
        for (bytes, pieces, read) in [(100, 9, 100), (PAGE + 10, 9, PAGE + 10), (1 << 20, 1, PAGE)]
        {
            let bounds = Bounds {
                pieces,
                ..Bounds::of(bytes)
            };
            let bar = ProgressBar::hidden();
            let all = (AddrRange::all(), false);
            let mut pieces = Pieces::new(&memory, all, Prot::NONE, bounds, bar);
            all_of(&mut pieces);
            let coverage = pieces.coverage();
            assert_eq!(coverage.read, read);
            assert_eq!(coverage.mapped + coverage.lost, 4 * PAGE, "{coverage:?}");
        }
    }
}
