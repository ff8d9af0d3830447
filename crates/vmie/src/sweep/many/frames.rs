//! Sets of page frames, and frames put one behind another.
//!
//! A set has a bit for each frame of physical memory. Page tables name a frame as often as they like;
//! putting it into the set again costs a few instructions and no memory, which is what makes sharing
//! cheap and hostile tables harmless.

use std::sync::Arc;

use crate::addr::{AddrRange, Address, Gpa, Gva, PAGE_SIZE};
use crate::memory::{Cause, Fault, Memory, Prot, Span, SpanKind, Spans};

/// The most frames a guest may declare: 16 TiB, for which a set takes 512 MiB. (Of which only what is
/// used is ever touched.)
const MAX_FRAMES: u64 = 1 << 32;

/// From how many bytes on a run of frames is shown in place, if the memory lends it. Shorter runs are
/// copied together, since a scanner may take longer to set out than to look at one page.
const IN_PLACE: u64 = 64 << 10;

/// Which frames there are: those that lie wholly in what physical memory declares.
#[derive(Debug)]
pub(super) struct Ram {
    /// In ascending order.
    regions: Vec<RamRegion>,
    frames: u64,
}

#[derive(Clone, Copy, Debug)]
struct RamRegion {
    /// Number of the first frame.
    first: u64,
    /// Number of the frame behind the last.
    end: u64,
    /// How many frames lie in the regions before.
    before: u64,
}

impl Ram {
    /// `None` when there are more frames than fit a set.
    pub(super) fn of(phys: &dyn Memory<Addr = Gpa>) -> Option<Self> {
        let mut regions: Vec<RamRegion> = Vec::new();
        let mut frames: u64 = 0;
        for region in phys.regions(AddrRange::all()) {
            let last_end = regions.last().map_or(0, |last| last.end);
            let first = region.start.raw().div_ceil(PAGE_SIZE).max(last_end);
            // The frame that ends at 2^64 is nobody's RAM.
            let end = region.range().last().raw().saturating_add(1) / PAGE_SIZE;
            if first < end {
                let before = frames;
                frames = frames.checked_add(end - first)?;
                regions.push(RamRegion { first, end, before });
            }
        }
        (frames <= MAX_FRAMES).then_some(Self { regions, frames })
    }

    /// How many frames there are.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// Whether the frame at `gpa` is there, and for how many of `len` bytes that answer holds. Both
    /// are multiples of the page size.
    pub(super) fn declared(&self, gpa: u64, len: u64) -> (bool, u64) {
        let (index, frames) = self.find(gpa / PAGE_SIZE);
        (index.is_some(), frames.saturating_mul(PAGE_SIZE).min(len))
    }

    /// The number within the set of frame `frame`, if it is there, and for how many frames from it on
    /// that holds.
    #[inline]
    fn find(&self, frame: u64) -> (Option<u64>, u64) {
        let next = self.regions.partition_point(|region| region.first <= frame);
        if let Some(region) = next.checked_sub(1).map(|i| self.regions[i])
            && frame < region.end
        {
            let index = region.before + (frame - region.first);
            return (Some(index), region.end - frame);
        }
        let next = self.regions.get(next);
        (None, next.map_or(u64::MAX, |next| next.first - frame))
    }
}

/// A set of frames.
#[derive(Debug)]
pub(super) struct FrameSet {
    ram: Arc<Ram>,
    bits: Vec<u64>,
}

impl FrameSet {
    /// An empty set.
    pub(super) fn new(ram: &Arc<Ram>) -> Self {
        let words =
            usize::try_from(ram.frames.div_ceil(64)).expect("there are at most 2^32 frames");
        Self {
            ram: Arc::clone(ram),
            bits: vec![0; words],
        }
    }

    pub(super) fn ram(&self) -> &Arc<Ram> {
        &self.ram
    }

    /// Puts in all frames that hold some of the bytes, as far as there are such frames.
    #[inline]
    pub(super) fn insert(&mut self, gpa: u64, len: u64) {
        self.each_word(gpa, len, |word, mask| *word |= mask);
    }

    /// As [`FrameSet::insert`], and answers how many bytes are in frames that were not in the set
    /// before. Frames that there are not count as never seen.
    pub(super) fn insert_new(&mut self, gpa: u64, len: u64) -> u64 {
        let mut old = 0;
        self.each_word(gpa, len, |word, mask| {
            old += u64::from((*word & mask).count_ones());
            *word |= mask;
        });
        len.saturating_sub(old * PAGE_SIZE)
    }

    /// Takes out the frames that hold some of the bytes.
    pub(super) fn remove(&mut self, gpa: u64, len: u64) {
        self.each_word(gpa, len, |word, mask| *word &= !mask);
    }

    #[inline]
    fn each_word(&mut self, gpa: u64, len: u64, mut change: impl FnMut(&mut u64, u64)) {
        let Self { ram, bits } = self;
        for (index, frames) in indices(ram, gpa, len) {
            for (word, mask) in words(index, frames) {
                change(&mut bits[word], mask);
            }
        }
    }

    /// Whether any frame that holds some of the bytes is in the set.
    #[inline]
    pub(super) fn any(&self, gpa: u64, len: u64) -> bool {
        indices(&self.ram, gpa, len).any(|(index, frames)| {
            words(index, frames).any(|(word, mask)| self.bits[word] & mask != 0)
        })
    }

    /// Whether the frame at `gpa` is in the set, and for how many of `len` bytes that answer holds.
    /// Both are multiples of the page size, `len` not zero.
    #[inline]
    pub(super) fn run(&self, gpa: u64, len: u64) -> (bool, u64) {
        let (index, frames) = self.ram.find(gpa / PAGE_SIZE);
        let Some(index) = index else {
            return (false, frames.saturating_mul(PAGE_SIZE).min(len));
        };
        // A run may go on in the next region; the caller asks again.
        let frames = frames.min(len / PAGE_SIZE);
        let holds = self.bits[(index / 64) as usize] >> (index % 64) & 1 != 0;
        let mut same = 0;
        for (word, mask) in words(index, frames) {
            let bits = self.bits[word];
            let others = mask & if holds { !bits } else { bits };
            if others != 0 {
                same += u64::from(others.trailing_zeros() - mask.trailing_zeros());
                return (holds, same * PAGE_SIZE);
            }
            same += u64::from(mask.count_ones());
        }
        (holds, same * PAGE_SIZE)
    }

    /// The frames of the set as runs that are as long as possible: address and length.
    pub(super) fn runs(&self) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for region in &self.ram.regions {
            let (mut gpa, end) = (region.first * PAGE_SIZE, region.end * PAGE_SIZE);
            while gpa < end {
                let (holds, len) = self.run(gpa, end - gpa);
                match runs.last_mut() {
                    Some((start, n)) if holds && *start + *n == gpa => *n += len,
                    _ if holds => runs.push((gpa, len)),
                    _ => {}
                }
                gpa += len;
            }
        }
        runs
    }
}

/// Where the frames that hold the bytes are in a set: index and number, region by region.
#[inline]
fn indices(ram: &Ram, gpa: u64, len: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
    let mut frame = gpa / PAGE_SIZE;
    let end = gpa.saturating_add(len).div_ceil(PAGE_SIZE);
    std::iter::from_fn(move || {
        while frame < end {
            let (index, frames) = ram.find(frame);
            let frames = frames.min(end - frame);
            frame += frames;
            if let Some(index) = index {
                return Some((index, frames));
            }
        }
        None
    })
}

/// The words that hold `count` bits from `index` on, with the bits.
#[inline]
fn words(index: u64, count: u64) -> impl Iterator<Item = (usize, u64)> {
    let mut at = index;
    let end = index + count;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let first = at % 64;
        let bits = (64 - first).min(end - at);
        let mask = (u64::MAX >> (64 - bits)) << first;
        let word = (at / 64) as usize;
        at += bits;
        Some((word, mask))
    })
}

/// The frames of a set, put one behind another: a memory that no guest has.
///
/// Short runs touch, so that windows are cut from many of them; each long run stands alone, so that its
/// windows can be borrowed.
pub(super) struct Lineup<'p> {
    phys: &'p dyn Memory<Addr = Gpa>,
    /// In ascending order of both addresses.
    runs: Vec<Placed>,
}

/// A run of frames in a [`Lineup`].
#[derive(Clone, Copy, Debug)]
struct Placed {
    at: u64,
    gpa: u64,
    len: u64,
}

impl<'p> Lineup<'p> {
    pub(super) fn new(phys: &'p dyn Memory<Addr = Gpa>, frames: &FrameSet) -> Self {
        let mut at = 0;
        let mut long_before = false;
        let runs = frames.runs().into_iter().map(|(gpa, len)| {
            let long = len >= IN_PLACE;
            if long || long_before {
                at += PAGE_SIZE;
            }
            long_before = long;
            let placed = Placed { at, gpa, len };
            at += len;
            placed
        });
        Self {
            runs: runs.collect(),
            phys,
        }
    }

    /// The run at `at`, if there is one, and its place in the list.
    fn find(&self, at: u64) -> Option<(usize, Placed)> {
        let index = self
            .runs
            .partition_point(|run| run.at <= at)
            .checked_sub(1)?;
        let run = self.runs[index];
        (at - run.at < run.len).then_some((index, run))
    }

    /// The physical address of what stands at `at`.
    ///
    /// # Panics
    ///
    /// When nothing does.
    pub(super) fn gpa(&self, at: u64) -> u64 {
        let (_, run) = self.find(at).expect("only what is there is looked at");
        run.gpa + (at - run.at)
    }

    /// Puts the frames that lie wholly in `range` into a set.
    pub(super) fn mark(&self, range: AddrRange<Gva>, frames: &mut FrameSet) {
        let (start, last) = (range.start().raw(), range.last().raw());
        let first = self.runs.partition_point(|run| run.at + run.len <= start);
        for run in self.runs[first..].iter().take_while(|run| run.at <= last) {
            let from = (start.max(run.at) - run.at).next_multiple_of(PAGE_SIZE);
            let to = (last.min(run.at + (run.len - 1)) - run.at + 1) & !(PAGE_SIZE - 1);
            if from < to {
                frames.insert(run.gpa + from, to - from);
            }
        }
    }
}

impl Memory for Lineup<'_> {
    type Addr = Gva;

    fn spans(&self, range: AddrRange<Gva>) -> Spans<'_, Gva> {
        let mut rest = &self.runs[..];
        let spans = std::iter::from_fn(move || {
            let touching = |pair: &[Placed]| pair[0].at + pair[0].len == pair[1].at;
            let count = rest.windows(2).take_while(|pair| touching(pair)).count() + 1;
            let (first, last) = (rest.first()?.at, rest[count - 1]);
            rest = &rest[count..];
            AddrRange::new(Gva(first), last.at + last.len - first)
        });
        mapped(spans, range)
    }

    fn read(&self, addr: Gva, buf: &mut [u8]) -> Result<(), Fault<Gva>> {
        let mut done = 0;
        let mut next = self.find(addr.raw()).map(|(index, _)| index);
        while done < buf.len() {
            let here = addr.raw().wrapping_add(done as u64);
            let run = next.and_then(|index| self.runs.get(index)).copied();
            let Some(run) = run.filter(|run| run.at <= here) else {
                return Err(nothing_at(here));
            };
            let skip = here - run.at;
            let len = usize::try_from(run.len - skip).unwrap_or(usize::MAX);
            let part = &mut buf[done..];
            let len = len.min(part.len());
            let gpa = Gpa(run.gpa + skip);
            self.phys
                .read(gpa, &mut part[..len])
                .map_err(|fault| moved(fault, gpa, here))?;
            done += len;
            next = next.map(|index| index + 1);
        }
        Ok(())
    }

    fn borrow(&self, range: AddrRange<Gva>) -> Option<&[u8]> {
        let (_, run) = self.find(range.start().raw())?;
        let skip = range.start().raw() - run.at;
        if range.len() > run.len - skip {
            return None;
        }
        self.phys
            .borrow(AddrRange::new(Gpa(run.gpa + skip), range.len())?)
    }
}

/// What of a made-up memory stands in `range`.
pub(super) fn mapped<'a>(
    spans: impl Iterator<Item = AddrRange<Gva>> + Send + 'a,
    range: AddrRange<Gva>,
) -> Spans<'a, Gva> {
    Box::new(spans.filter_map(move |span| {
        let cut = span.intersect(range)?;
        Some(Span {
            start: cut.start(),
            len: cut.len(),
            kind: SpanKind::Mapped(Prot::RWX),
        })
    }))
}

/// The fault of a made-up memory where nothing stands.
pub(super) fn nothing_at(at: u64) -> Fault<Gva> {
    Fault {
        addr: Gva(at),
        cause: Cause::NonCanonical,
    }
}

/// A fault of physical memory as that of a made-up one, in which what is at `gpa` stands at `at`.
pub(super) fn moved(fault: Fault<Gpa>, gpa: Gpa, at: u64) -> Fault<Gva> {
    let done = fault.addr.offset_from(gpa).unwrap_or(0);
    Fault {
        addr: Gva(at.saturating_add(done)),
        cause: fault.cause,
    }
}
