//! Capture: what is mapped is listed, then read straight to where it stays.
//!
//! Bytes are read in windows to the end of what was kept so far, while they are in the cache pages of
//! zeros are taken out and those behind them moved up. Rejected: looking for pages that are there
//! already. It would make each capture as slow as hashing, and a file does it anyway.

use std::time::{Instant, SystemTime};

use crate::addr::{AddrRange, Address};
use crate::memory::{Gap, Memory, Span};
use crate::scan::Run;
use crate::sweep::{Part, read_pieces};

use super::content::{Chunks, Content};
use super::layout::{Layout, PageRun, SNAPSHOT_PAGE};
use super::slot::{Slot, Slots, ZERO};
use super::{Filter, Origin, Snapshot};

/// How many mapped bytes a snapshot takes unless said otherwise: 64 GiB.
pub const DEFAULT_MAX_BYTES: u64 = 64 << 30;

/// Pages read at once: what is read is still in the second-level cache when it is looked at.
pub(super) const WINDOW: usize = 64;

/// What to capture.
#[derive(Clone, Debug)]
pub struct TakeOptions<A: Address> {
    /// Only addresses in this range.
    pub range: AddrRange<A>,
    /// Only the bytes of regions that pass.
    pub filter: Filter,
    /// Refuse to take more mapped bytes than this. Page tables can map a frame over and over.
    pub max_bytes: u64,
    /// Keep no more bytes than this in memory; pages of zeros take none.
    pub max_kept: u64,
}

impl<A: Address> Default for TakeOptions<A> {
    fn default() -> Self {
        Self {
            range: AddrRange::all(),
            filter: Filter::default(),
            max_bytes: DEFAULT_MAX_BYTES,
            max_kept: u64::MAX,
        }
    }
}

/// How many bytes a capture may sensibly keep of this machine's memory: nine tenths of what it has left, or
/// `u64::MAX` where that is not known. Systems promise more memory than there is, and end whoever takes it.
pub fn memory_available() -> u64 {
    let bytes = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("MemAvailable:"))?;
            let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            kib.checked_mul(1024)
        });
    bytes.map_or(u64::MAX, |bytes| bytes / 10 * 9)
}

/// Why nothing was captured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeError {
    /// More is mapped than may be taken.
    #[error("{mapped:#x} bytes or more are mapped, and {max:#x} may be taken")]
    TooLarge {
        /// Bytes that were counted before giving up.
        mapped: u64,
        /// The bound.
        max: u64,
    },
    /// More regions are mapped than a list of them may hold.
    #[error("more than {max} regions are mapped")]
    TooManyRegions {
        /// The bound.
        max: usize,
    },
    /// There is no memory for it.
    #[error("no memory for more than {kept:#x} bytes")]
    NoMemory {
        /// Bytes that were captured before.
        kept: u64,
    },
    /// The run was cancelled.
    #[error("stopped")]
    Stopped,
}

/// Regions in a snapshot: some hundred MiB of list.
const MAX_SPANS: usize = 1 << 22;

/// Captures what is mapped.
///
/// Runs on the calling thread; the bound of the run does not count, [`TakeOptions::max_bytes`] does.
///
/// # Errors
///
/// When more is mapped than may be taken, there is no memory for it, or the run is cancelled. What cannot
/// be read is no error: the snapshot says so, see [`Snapshot::coverage`].
///
/// # Cost
///
/// One read of the mapped bytes, and memory for all of them that are not pages of zeros.
pub fn take<A: Address>(
    memory: &dyn Memory<Addr = A>,
    options: &TakeOptions<A>,
    mut run: Run<'_>,
) -> Result<Snapshot<A>, TakeError> {
    let (taken, began) = (SystemTime::now(), Instant::now());
    let layout = list(memory, options)?;
    let mut taking = Taking {
        memory,
        chunks: Chunks::default(),
        slots: Slots::new(),
        gaps: Vec::new(),
        left: layout.pages(),
        max_pages: options.max_kept / SNAPSHOT_PAGE as u64,
    };
    let kept = usize::try_from(layout.pages()).ok();
    let reserved = kept.and_then(|pages| taking.slots.try_reserve_exact(pages).ok());
    reserved.ok_or(TakeError::NoMemory { kept: 0 })?;
    let mut kept = layout
        .all_spans()
        .iter()
        .filter(|span| options.filter.keeps(span.kind))
        .peekable();
    for &pages in layout.runs() {
        taking.run(pages, &mut kept, &mut run)?;
    }
    drop(kept);
    let layout = layout.with_gaps(taking.gaps).expect("gaps come in order");
    let coverage = layout.coverage();
    Ok(Snapshot {
        layout,
        slots: taking.slots,
        content: Content::Memory(taking.chunks),
        coverage,
        taken,
        took: began.elapsed(),
        origin: Origin::default(),
    })
}

/// What is mapped, within bounds.
pub(super) fn list<A: Address>(
    memory: &dyn Memory<Addr = A>,
    options: &TakeOptions<A>,
) -> Result<Layout<A>, TakeError> {
    let max = options.max_bytes;
    let (mut spans, mut mapped) = (Vec::new(), 0u64);
    for span in memory.spans(options.range).filter(|span| span.len > 0) {
        if options.filter.keeps(span.kind) {
            mapped = mapped.saturating_add(span.len);
        }
        if mapped > max {
            return Err(TakeError::TooLarge { mapped, max });
        }
        if spans.len() == MAX_SPANS {
            return Err(TakeError::TooManyRegions { max: MAX_SPANS });
        }
        spans.push(span);
    }
    Ok(Layout::new(options.range, options.filter, spans).expect("spans come in order"))
}

struct Taking<'m, A: Address> {
    memory: &'m dyn Memory<Addr = A>,
    chunks: Chunks,
    slots: Slots,
    gaps: Vec<Gap<A>>,
    /// Pages that are still to come.
    left: u64,
    /// Pages that may be kept.
    max_pages: u64,
}

impl<A: Address> Taking<'_, A> {
    /// Captures the pages of one run.
    fn run<'s>(
        &mut self,
        run: PageRun,
        spans: &mut std::iter::Peekable<impl Iterator<Item = &'s Span<A>>>,
        steps: &mut Run<'_>,
    ) -> Result<(), TakeError> {
        let mut done = 0;
        while done < run.count {
            let no_memory = TakeError::NoMemory {
                kept: (self.chunks.len() * SNAPSHOT_PAGE) as u64,
            };
            let wanted = (run.count - done).min(WINDOW as u64) as usize;
            let room = self.chunks.room(wanted, self.left).ok_or(no_memory)?;
            let start: A = A::new(run.start::<A>().raw() + done * SNAPSHOT_PAGE as u64);
            let window = AddrRange::new(start, room.len() as u64).expect("pages are in the space");
            fill(self.memory, window, room, spans, &mut self.gaps);
            let pages = room.len() / SNAPSHOT_PAGE;
            let mut kept = 0;
            let first = self.slots.len();
            for page in 0..pages {
                if is_zero(&room[page * SNAPSHOT_PAGE..][..SNAPSHOT_PAGE]) {
                    self.slots.push(ZERO);
                    continue;
                }
                if kept < page {
                    room.copy_within(
                        page * SNAPSHOT_PAGE..(page + 1) * SNAPSHOT_PAGE,
                        kept * SNAPSHOT_PAGE,
                    );
                }
                self.slots.push(kept as Slot);
                kept += 1;
            }
            if (self.chunks.len() + kept) as u64 > self.max_pages {
                return Err(no_memory);
            }
            let base = self.chunks.keep(kept).ok_or(no_memory)?;
            let added = self.slots[first..].iter_mut();
            added
                .filter(|slot| **slot != ZERO)
                .for_each(|slot| *slot += base);
            done += pages as u64;
            self.left -= pages as u64;
            let bytes = self.slots.len() as u64 * SNAPSHOT_PAGE as u64;
            if steps.step(bytes).is_break() {
                return Err(TakeError::Stopped);
            }
        }
        Ok(())
    }
}

/// Reads the mapped bytes of a window of whole pages; everything else is zero.
pub(super) fn fill<'s, A: Address>(
    memory: &dyn Memory<Addr = A>,
    window: AddrRange<A>,
    room: &mut [u8],
    spans: &mut std::iter::Peekable<impl Iterator<Item = &'s Span<A>>>,
    gaps: &mut Vec<Gap<A>>,
) {
    let offset = |addr: A| (addr.raw() - window.start().raw()) as usize;
    let mut end = 0;
    while let Some(span) = spans.peek()
        && let Some(part) = span.range().intersect(window)
    {
        // Spans that touch are read in one go: what they differ in is not asked here.
        let (from, mut to) = (offset(part.start()), offset(part.last()) + 1);
        let mut last = span.range().last();
        while last <= window.last() {
            spans.next();
            let next = spans.peek().and_then(|next| next.range().intersect(window));
            let Some(next) = next.filter(|next| offset(next.start()) == to) else {
                break;
            };
            to = offset(next.last()) + 1;
            last = spans.peek().map_or(last, |next| next.range().last());
        }
        room[end..from].fill(0);
        read(memory, part.start(), &mut room[from..to], gaps);
        end = to;
        if last > window.last() {
            break;
        }
    }
    room[end..].fill(0);
}

/// Reads what can be read, and notes what cannot, joined with what was noted before.
fn read<A: Address>(
    memory: &dyn Memory<Addr = A>,
    start: A,
    bytes: &mut [u8],
    gaps: &mut Vec<Gap<A>>,
) {
    let mut holes = Vec::new();
    read_pieces(memory, start, bytes, &mut |part| {
        if let Part::Hole { at, len, fault } = part {
            holes.push((at, len, fault.cause));
        }
    });
    for (at, len, cause) in holes {
        bytes[at..at + len].fill(0);
        let (hole, len) = (A::new(start.raw() + at as u64), len as u64);
        match gaps.last_mut() {
            Some(last)
                if last.start.checked_add(last.len) == Some(hole)
                    && last.cause.label() == cause.label() =>
            {
                last.len += len;
            }
            _ => gaps.push(Gap {
                start: hole,
                len,
                cause,
            }),
        }
    }
}

/// Whether a page holds nothing but zeros; most others are told by their first bytes.
pub(super) fn is_zero(page: &[u8]) -> bool {
    static ZEROS: [u8; SNAPSHOT_PAGE] = [0; SNAPSHOT_PAGE];
    // Nothing looks through the rest faster than the comparison of slices.
    page.starts_with(&[0; 16]) && page == &ZEROS[..page.len()]
}
