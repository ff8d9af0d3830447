//! Distinct seams, and the bytes around them put one behind another.
//!
//! A seam is two addresses: where the frames on its left end and where those on its right begin. The
//! same two frames meet in every process that maps the same part of a file, so seams come in again and
//! again, mostly from one space to the next. A small table of those seen lately keeps most repetitions
//! out of the list; sorting it now and then removes the others.

use std::ops::ControlFlow::{self, Break, Continue};

use super::frames::{FrameSet, mapped, moved, nothing_at};
use super::reach::Reach;
use crate::addr::{AddrRange, Gpa, Gva, PAGE_SIZE};
use crate::memory::{Fault, Memory, Spans};

/// Where memory goes over from one frame to another that is not the next one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Seam {
    /// Where the last frame on the left ends, or [`Seam::NOTHING`].
    pub(super) left: u64,
    /// Where the first frame on the right begins, or [`Seam::NOTHING`].
    pub(super) right: u64,
}

impl Seam {
    /// Memory begins or ends here. No frame does: it is not a multiple of the page size.
    pub(super) const NOTHING: u64 = u64::MAX;

    /// An address in one of its frames, always the same.
    pub(super) fn frame(self) -> u64 {
        if self.left == Self::NOTHING {
            self.right
        } else {
            self.left - PAGE_SIZE
        }
    }
}

/// Collects distinct seams.
pub(super) struct Seams {
    list: Vec<Seam>,
    /// Seams seen lately, by a hash.
    recent: Box<[Seam]>,
    /// At which length the list is sorted next.
    sort_at: usize,
    /// How many distinct seams are too many.
    limit: usize,
}

impl Seams {
    /// How many seams the table remembers, 256 KiB of them.
    const RECENT: usize = 1 << 14;

    /// The list is not sorted before it has this length.
    const SORT_AT: usize = 1 << 16;

    /// Room for `limit` distinct seams.
    pub(super) fn with_limit(limit: u64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let nothing = Seam {
            left: Seam::NOTHING,
            right: Seam::NOTHING,
        };
        Self {
            list: Vec::new(),
            recent: vec![nothing; Self::RECENT].into(),
            sort_at: Self::SORT_AT.min(limit.saturating_add(1)),
            limit,
        }
    }

    /// Adds a seam; breaks off when there are too many.
    #[inline]
    pub(super) fn push(&mut self, seam: Seam) -> ControlFlow<()> {
        let mixed = (seam.left.rotate_left(20) ^ seam.right).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let recent = &mut self.recent[(mixed >> 50) as usize];
        if *recent == seam {
            return Continue(());
        }
        *recent = seam;
        self.list.push(seam);
        if self.list.len() < self.sort_at {
            return Continue(());
        }
        self.sort();
        if self.list.len() > self.limit {
            return Break(());
        }
        self.sort_at = (self.list.len() * 2)
            .max(Self::SORT_AT)
            .min(self.limit.saturating_add(self.limit / 2 + 1));
        Continue(())
    }

    fn sort(&mut self) {
        self.list.sort_unstable();
        self.list.dedup();
    }

    /// The seams in order, each once.
    pub(super) fn finish(mut self) -> Vec<Seam> {
        self.sort();
        self.list
    }
}

/// The bytes around seams, one seam behind another: a memory that no guest has.
///
/// Each seam has a slot of twice the reach, left and right half. A half that is missing is not mapped,
/// so that the scanner sees where memory begins or ends.
///
/// Seams are in the order of their left sides, the right sides lie anywhere. That does no harm where
/// memory can be looked at directly; but where it has to be decoded, a piece at a time, each would cost a
/// piece. There all halves are read beforehand, in the order of their addresses.
pub(super) struct SeamLineup<'p> {
    phys: &'p dyn Memory<Addr = Gpa>,
    seams: Vec<Seam>,
    reach: Reach,
    /// All of it, where it was read beforehand; what is missing is zeros.
    bytes: Option<Vec<u8>>,
}

/// A half of a slot: where it starts, where its bytes are.
struct Half {
    at: u64,
    gpa: u64,
}

impl<'p> SeamLineup<'p> {
    /// How many halves ahead memory is asked for: each lies somewhere else, and waiting for one after
    /// the other would take longer than looking at whole frames does.
    const AHEAD: u64 = 16;

    /// How many seams should come together at most: what takes 128 MiB.
    pub(super) fn most(reach: Reach) -> usize {
        usize::try_from((64 << 20) / reach.both.max(1)).map_or(1, |most| most.max(1))
    }

    /// Leaves out seams of which a frame was not read.
    pub(super) fn new(
        phys: &'p dyn Memory<Addr = Gpa>,
        seams: &[Seam],
        read: &FrameSet,
        reach: Reach,
    ) -> Self {
        let was_read = |gpa| read.run(gpa, PAGE_SIZE).0;
        let seams: Vec<Seam> = seams
            .iter()
            .copied()
            .filter(|seam| {
                (seam.left == Seam::NOTHING || was_read(seam.left - PAGE_SIZE))
                    && (seam.right == Seam::NOTHING || was_read(seam.right))
            })
            .collect();
        let mut lineup = Self {
            phys,
            seams,
            reach,
            bytes: None,
        };
        lineup.bytes = lineup.read_beforehand();
        lineup
    }

    /// Reads everything, if that is better than as it comes. Where a half cannot be read, everything is
    /// left alone.
    fn read_beforehand(&self) -> Option<Vec<u8>> {
        let both = usize::try_from(self.reach.both).ok()?;
        let halves = 0..self.seams.len() * 2;
        let mut order: Vec<(u64, usize)> = halves
            .filter_map(|index| Some((self.half(index as u64)?.gpa, index)))
            .collect();
        if self.phys.view(Gpa(order.first()?.0)).is_some() {
            return None;
        }
        order.sort_unstable();
        let mut bytes = vec![0; self.seams.len() * 2 * both];
        for (gpa, index) in order {
            let half = &mut bytes[index * both..][..both];
            self.phys.read(Gpa(gpa), half).ok()?;
        }
        Some(bytes)
    }

    /// What was read beforehand of `len` bytes at `at`.
    fn ready(&self, at: u64, len: usize) -> Option<&[u8]> {
        let at = usize::try_from(at).ok()?;
        self.bytes.as_ref()?.get(at..at.checked_add(len)?)
    }

    /// To which seam a place belongs and how far from it, if what starts there is the seam's.
    pub(super) fn place(&self, at: u64) -> Option<(Seam, i64)> {
        let half = self.reach.both;
        let seam = self.seams[usize::try_from(at / (2 * half)).ok()?];
        // Less than 2^21.
        let rel = (at % (2 * half)).cast_signed() - half.cast_signed();
        let owned = -self.reach.overlap.cast_signed()..self.reach.behind.cast_signed();
        owned.contains(&rel).then_some((seam, rel))
    }

    /// Takes the frames beside all these seams out of a set.
    pub(super) fn forget(&self, frames: &mut FrameSet) {
        for index in 0..self.seams.len() as u64 * 2 {
            if let Some(Half { gpa, .. }) = self.half(index) {
                frames.remove(gpa, self.reach.both);
            }
        }
    }

    /// Half number `index`, if it is not missing.
    #[inline]
    fn half(&self, index: u64) -> Option<Half> {
        let seam = self.seams.get(usize::try_from(index / 2).ok()?)?;
        let at = index * self.reach.both;
        match index % 2 {
            0 if seam.left != Seam::NOTHING => {
                let gpa = seam.left - self.reach.both;
                Some(Half { at, gpa })
            }
            1 if seam.right != Seam::NOTHING => {
                let gpa = seam.right;
                Some(Half { at, gpa })
            }
            _ => None,
        }
    }

    /// The half at `at`.
    #[inline]
    fn half_at(&self, at: u64) -> Option<Half> {
        self.half(at.checked_div(self.reach.both)?)
    }
}

impl Memory for SeamLineup<'_> {
    type Addr = Gva;

    fn spans(&self, range: AddrRange<Gva>) -> Spans<'_, Gva> {
        let halves = self.seams.len() as u64 * 2;
        let mut index = 0;
        let spans = std::iter::from_fn(move || {
            let first = (index..halves).find(|&index| self.half(index).is_some())?;
            let missing = (first + 1..halves).find(|&index| self.half(index).is_none());
            index = missing.unwrap_or(halves);
            let both = self.reach.both;
            AddrRange::new(Gva(first * both), (index - first) * both)
        });
        mapped(spans, range)
    }

    fn read(&self, addr: Gva, buf: &mut [u8]) -> Result<(), Fault<Gva>> {
        if let Some(bytes) = self.ready(addr.0, buf.len()) {
            buf.copy_from_slice(bytes);
            return Ok(());
        }
        let first = self.half_at(addr.0).map(|half| Gpa(half.gpa));
        let view = first.and_then(|gpa| self.phys.view(gpa));
        let soon = Self::AHEAD * self.reach.both;
        let mut done = 0;
        while done < buf.len() {
            let here = addr.0.wrapping_add(done as u64);
            let half = self.half_at(here).ok_or_else(|| nothing_at(here))?;
            if let Some(view) = &view
                && let Some(half) = self.half_at(half.at.saturating_add(soon))
            {
                view.prefetch(Gpa(half.gpa));
            }
            let skip = here - half.at;
            let len = usize::try_from(self.reach.both - skip).unwrap_or(usize::MAX);
            let part = &mut buf[done..];
            let len = len.min(part.len());
            let gpa = Gpa(half.gpa + skip);
            if !view.is_some_and(|view| view.read(gpa, &mut part[..len])) {
                self.phys
                    .read(gpa, &mut part[..len])
                    .map_err(|fault| moved(fault, gpa, here))?;
            }
            done += len;
        }
        Ok(())
    }

    fn borrow(&self, range: AddrRange<Gva>) -> Option<&[u8]> {
        if self.bytes.is_some() {
            return self.ready(range.start().0, usize::try_from(range.len()).ok()?);
        }
        let half = self.half_at(range.start().0)?;
        let skip = range.start().0 - half.at;
        if range.len() > self.reach.both - skip {
            return None;
        }
        self.phys
            .borrow(AddrRange::new(Gpa(half.gpa + skip), range.len())?)
    }
}
