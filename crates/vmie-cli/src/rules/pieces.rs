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
use std::sync::{Mutex, PoisonError};

use boreal::memory::{FragmentedMemory, MemoryParams, Region, RegionDescription};
use indicatif::ProgressBar;
use vmie::{AddrRange, Address, Coverage, Memory, Prot, Stretch, Stretches, SweepOptions};

use crate::interrupt;

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
    /// What was not looked at yet. Behind a lock because it cannot be shared otherwise.
    stretches: Mutex<Stretches<'m, A>>,
    most: usize,
    /// All pieces so far.
    found: Vec<Piece>,
    /// The next of them, once they are gone through again.
    again: Option<usize>,
    /// The piece that was named last.
    current: Option<Piece>,
    /// What is held.
    held: Option<Held<'m>>,
    /// Of a piece that was asked for once more, where it had to be copied.
    buffer: Vec<u8>,
    bar: ProgressBar,
}

/// A piece and where its bytes are.
#[derive(Clone, Copy)]
struct Held<'m> {
    piece: Piece,
    at: Where<'m>,
}

#[derive(Clone, Copy)]
enum Where<'m> {
    /// Held by the stretches, which came to it last.
    Stretches,
    Lent(&'m [u8]),
    Buffer,
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
    /// is told.
    pub(crate) fn new(
        memory: &'m dyn Memory<Addr = A>,
        (range, asked): (AddrRange<A>, bool),
        perm: Prot,
        bounds: Bounds,
        bar: ProgressBar,
    ) -> Self {
        let options = SweepOptions {
            range: Some(range),
            part: !asked,
            perm,
            window: usize::try_from(bounds.piece - bounds.overlap).unwrap_or(usize::MAX),
            behind: usize::try_from(bounds.overlap).unwrap_or(usize::MAX),
            max_bytes: bounds.bytes,
            ..SweepOptions::default()
        };
        Self {
            memory,
            stretches: Mutex::new(Stretches::new(memory, &options)),
            most: bounds.pieces,
            found: Vec::new(),
            again: None,
            current: None,
            held: None,
            buffer: Vec::new(),
            bar,
        }
    }

    /// What was looked at.
    pub(crate) fn coverage(&self) -> Coverage<A> {
        let stretches = self.stretches.lock();
        stretches.unwrap_or_else(PoisonError::into_inner).coverage()
    }

    /// The next piece that was not looked at, which is held then.
    fn discover(&mut self) -> Option<Piece> {
        let stretches = self.stretches.get_mut();
        let stretches = stretches.unwrap_or_else(PoisonError::into_inner);
        loop {
            if interrupt::asked() {
                return None;
            }
            if self.found.len() >= self.most {
                stretches.give_up();
            }
            if let Stretch::Bytes { start, bytes, seen } = stretches.next()? {
                self.bar.inc((bytes.len() - seen) as u64);
                let piece = (start.raw(), bytes.len());
                self.found.push(piece);
                let at = Where::Stretches;
                self.held = Some(Held { piece, at });
                return Some(piece);
            }
        }
    }

    /// Gets hold of a piece once more; whether it is still there.
    fn hold(&mut self, piece: Piece) -> bool {
        let (start, len) = (A::new(piece.0), piece.1);
        self.held = None;
        let lent = AddrRange::new(start, len as u64).and_then(|range| self.memory.borrow(range));
        let at = if let Some(bytes) = lent {
            Where::Lent(bytes)
        } else {
            self.buffer.resize(len, 0);
            if self.memory.read(start, &mut self.buffer).is_err() {
                return false;
            }
            Where::Buffer
        };
        self.held = Some(Held { piece, at });
        true
    }
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
        // What a running guest has unmapped in between is not there any more.
        if self.held.is_none_or(|held| held.piece != piece) && !self.hold(piece) {
            return None;
        }
        let mem = match self.held?.at {
            Where::Stretches => {
                let stretches = self.stretches.get_mut();
                stretches.unwrap_or_else(PoisonError::into_inner).bytes()
            }
            Where::Lent(bytes) => bytes,
            Where::Buffer => &self.buffer,
        };
        Some(Region {
            start: piece.0 as usize,
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

    use vmie::Gva;
    use vmie_synth::guest::Rng;

    use super::*;
    use crate::testmem::TestMemory;

    const PAGE: u64 = 4096;

    /// Regions of bytes that are different, and pages of them that are not there.
    fn memory(parts: &[(u64, u64, Prot)], absent: &[u64]) -> TestMemory<Gva> {
        let mut memory = TestMemory::new();
        for &(start, len, prot) in parts {
            let bytes: Vec<u8> = (start..start + len).map(|at| (at % 251) as u8).collect();
            memory = memory.part(start, &bytes, prot);
        }
        let absent = absent.iter().map(|page| page * PAGE);
        absent.fold(memory, |memory, page| memory.absent(page, PAGE))
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
            let mut parts = Vec::new();
            let mut at = 0x1000;
            for _ in 0..rng.below(5) + 1 {
                let len = (rng.below(4) + 1) * PAGE;
                let prot = if rng.below(3) == 0 {
                    Prot::R
                } else {
                    Prot::RWX
                };
                parts.push((at, len, prot));
                at += len + rng.below(2) * PAGE;
            }
            let absent: Vec<u64> = (0..rng.below(4)).map(|_| 1 + rng.below(12)).collect();
            let memory = memory(&parts, &absent).lost(0x100_0000, 0x1000);
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
            let readable = memory.readable(perm, None);
            let readable: BTreeMap<u64, u8> = readable
                .into_iter()
                .flat_map(|(start, bytes)| (start..).zip(bytes))
                .collect();
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
            let wanted = parts.iter().filter(|part| part.2.contains(perm));
            assert_eq!(coverage.mapped, wanted.map(|part| part.1).sum::<u64>());
            // The same once more, and nothing is counted twice.
            (&mut pieces).reset();
            assert_eq!(all_of(&mut pieces), all);
            assert_eq!(pieces.coverage(), coverage);
        }
    }

    #[test]
    fn what_is_not_mapped_counts_where_it_was_asked_for() {
        let memory = memory(&[(0x1000, PAGE, Prot::RWX), (0x4000, PAGE, Prot::RWX)], &[]);
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
        let memory = memory(
            &[(0x1000, 3 * PAGE, Prot::RWX), (0x8000, PAGE, Prot::RWX)],
            &[2],
        );
        // As in every scan, what was looked at and is not there counts towards the bound.
        for (bytes, pieces, read) in [
            (100, 9, 100),
            (PAGE + 10, 9, PAGE),
            (2 * PAGE + 10, 9, PAGE + 10),
            (1 << 20, 1, PAGE),
        ] {
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
