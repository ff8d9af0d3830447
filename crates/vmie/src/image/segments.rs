//! The table that leads from a guest physical address to where its bytes are.
//!
//! Every format boils down to the same thing: a list of [`Part`]s, each saying "so many bytes from
//! this guest physical address on are there in the file". [`SegmentsBuilder`] collects them as the
//! file gives them (in any order, overlapping, reaching beyond the end of the file) and makes a
//! [`Segments`] of them: sorted, disjoint, and with everything that is not in the file split off.
//! After that no read needs a check against the file's size.
//!
//! Overlaps: bytes that are in the file win over bytes that are not; otherwise the part that came
//! first wins. Whether parts that overlap agree is found out by [`overlap`](super::overlap).
//!
//! A missing part can be declared as large as an address space by a few damaged bytes, so it is kept
//! and enumerated as one [`SpanKind::Lost`] span: whoever walks the spans pays for it once, and not
//! for each page.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::addr::{AddrRange, Gpa, PAGE_SIZE};
use crate::memory::{Cause, Prot, Span, SpanKind};

/// The first address that is not a physical address: the architecture has at most 52 bits.
pub(super) const GPA_LIMIT: u64 = 1 << 52;

/// How many parts an image may have. The largest number in sight are the frames of compressed
/// images: 64 KiB each, so this allows for a guest of 2 TiB and for 1 GiB of table.
const MAX_PARTS: usize = 1 << 25;

/// Bytes in a page of those that files hold compressed one by one: the formats that do so are of x86.
pub(super) const STORED_PAGE: u64 = PAGE_SIZE;

/// Where the bytes of a segment are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Backing {
    /// In the file as they are, from this offset on.
    File(u64),
    /// In one of several files that lie on each other, as they are.
    Layer {
        /// Which one, from the source down.
        layer: u32,
        /// Where in it.
        offset: u64,
    },
    /// In the compressed frame at `offset`.
    Frame {
        /// Where the frame is in the file.
        offset: u64,
        /// How many bytes of the decoded frame come before the segment.
        skip: u32,
    },
    /// In pages of [`STORED_PAGE`] bytes each, compressed: so many bytes into all pages of the file, one after the other.
    Page(u64),
    /// Zeros, of which the file says no more than that they are there.
    Zero,
    /// Declared to be at this offset, which the file does not reach.
    Truncated(u64),
    /// Declared to exist, but not stored.
    Absent,
}

impl Backing {
    pub(super) fn is_missing(self) -> bool {
        matches!(self, Self::Truncated(_) | Self::Absent)
    }

    /// The backing of what lies `by` bytes into a segment.
    pub(super) fn skip(self, by: u64) -> Self {
        match self {
            Self::File(offset) => Self::File(offset + by),
            Self::Layer { layer, offset } => Self::Layer {
                layer,
                offset: offset + by,
            },
            Self::Frame { offset, skip } => Self::Frame {
                offset,
                // A decoded frame has at most 64 KiB, so this does not saturate.
                skip: skip.saturating_add(u32::try_from(by).unwrap_or(u32::MAX)),
            },
            Self::Page(position) => Self::Page(position.saturating_add(by)),
            Self::Zero => Self::Zero,
            Self::Truncated(offset) => Self::Truncated(offset.saturating_add(by)),
            Self::Absent => Self::Absent,
        }
    }
}

/// Consecutive guest physical addresses with one backing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    /// First address.
    pub(super) start: u64,
    /// Length in bytes, never zero; `start + len` is at most [`GPA_LIMIT`].
    pub(super) len: u64,
    /// Where the segment's bytes are.
    pub(super) backing: Backing,
}

impl Segment {
    /// Why the byte `at` bytes into the segment cannot be read, if it cannot.
    pub(super) fn missing(&self, at: u64) -> Option<Cause> {
        let gpa = Gpa(self.start + at);
        match self.backing {
            Backing::Truncated(offset) => Some(Cause::Truncated {
                gpa,
                offset: offset.saturating_add(at),
            }),
            Backing::Absent => Some(Cause::Absent { gpa }),
            Backing::File(_)
            | Backing::Layer { .. }
            | Backing::Frame { .. }
            | Backing::Page(_)
            | Backing::Zero => None,
        }
    }

    /// The segment without its first `cut` bytes and not longer than `len`.
    fn part(&self, cut: u64, len: u64) -> Self {
        Self {
            start: self.start + cut,
            len,
            backing: self.backing.skip(cut),
        }
    }
}

/// Collects what a file says about itself.
#[derive(Default, Debug)]
pub(super) struct SegmentsBuilder {
    parts: Vec<Segment>,
    file_len: u64,
}

/// What a part turned out to be when it was added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Added {
    /// Nothing wrong with it.
    Whole,
    /// Its end is not in the file.
    Truncated,
    /// It holds no bytes, or no physical addresses, and was left out.
    Refused,
}

impl SegmentsBuilder {
    /// For a file of `file_len` bytes.
    pub(super) fn new(file_len: u64) -> Self {
        Self {
            parts: Vec::new(),
            file_len,
        }
    }

    /// Whether no more parts can be taken.
    pub(super) fn is_full(&self) -> bool {
        self.parts.len() >= MAX_PARTS
    }

    /// Adds `len` bytes from `gpa` on that are in the file as they are, from `offset` on.
    pub(super) fn add_file(&mut self, gpa: u64, len: u64, offset: u64) -> Added {
        if !Self::is_valid(gpa, len) {
            return Added::Refused;
        }
        let inside = self.file_len.saturating_sub(offset).min(len);
        self.push(gpa, inside, Backing::File(offset));
        self.push(
            gpa + inside,
            len - inside,
            Backing::Truncated(offset.saturating_add(inside)),
        );
        if inside == len {
            Added::Whole
        } else {
            Added::Truncated
        }
    }

    /// Adds `len` bytes from `gpa` on that are in a file of several, which reaches that far.
    pub(super) fn add_layer(&mut self, gpa: u64, len: u64, layer: u32, offset: u64) -> Added {
        if !Self::is_valid(gpa, len) {
            return Added::Refused;
        }
        debug_assert!(
            offset + len <= self.file_len,
            "layers are as long as the source"
        );
        self.push(gpa, len, Backing::Layer { layer, offset });
        Added::Whole
    }

    /// Adds `len` bytes from `gpa` on that the compressed frame at `offset` decodes to.
    pub(super) fn add_frame(&mut self, gpa: u64, len: u32, offset: u64) -> Added {
        if !Self::is_valid(gpa, u64::from(len)) {
            return Added::Refused;
        }
        self.push(gpa, u64::from(len), Backing::Frame { offset, skip: 0 });
        Added::Whole
    }

    /// Adds `len` bytes from `gpa` on that stand in compressed pages, from `position` on: whole pages.
    pub(super) fn add_pages(&mut self, gpa: u64, len: u64, position: u64) -> Added {
        if !Self::is_valid(gpa, len) {
            return Added::Refused;
        }
        self.push(gpa, len, Backing::Page(position));
        Added::Whole
    }

    /// Adds `len` zeros from `gpa` on, for which nothing is stored.
    pub(super) fn add_zeros(&mut self, gpa: u64, len: u64) -> Added {
        if !Self::is_valid(gpa, len) {
            return Added::Refused;
        }
        self.push(gpa, len, Backing::Zero);
        Added::Whole
    }

    /// Adds `len` bytes from `gpa` on that are declared to be at `offset`, where the file has ended.
    pub(super) fn add_truncated(&mut self, gpa: u64, len: u64, offset: u64) -> Added {
        if !Self::is_valid(gpa, len) {
            return Added::Refused;
        }
        self.push(gpa, len, Backing::Truncated(offset));
        Added::Truncated
    }

    /// Adds `len` bytes from `gpa` on that are declared to exist and not stored.
    pub(super) fn add_absent(&mut self, gpa: u64, len: u64) -> Added {
        if !Self::is_valid(gpa, len) {
            return Added::Refused;
        }
        self.push(gpa, len, Backing::Absent);
        Added::Whole
    }

    /// Whether these are physical addresses.
    fn is_valid(gpa: u64, len: u64) -> bool {
        len != 0 && gpa.checked_add(len).is_some_and(|end| end <= GPA_LIMIT)
    }

    fn push(&mut self, start: u64, len: u64, backing: Backing) {
        if len != 0 {
            self.parts.push(Segment {
                start,
                len,
                backing,
            });
        }
    }

    /// Sorts the parts and makes them disjoint. Answers the table, and if any parts overlap, all of them, to be
    /// [compared](super::overlap).
    pub(super) fn finish(self) -> (Segments, Vec<Segment>) {
        let disjoint = self
            .parts
            .windows(2)
            .all(|w| w[0].start + w[0].len <= w[1].start);
        let (pieces, overlap) = if disjoint {
            (self.parts, Vec::new())
        } else {
            let (pieces, overlap) = flatten(&self.parts);
            (pieces, if overlap { self.parts } else { Vec::new() })
        };
        let mut merged: Vec<Segment> = Vec::with_capacity(pieces.len().min(1 << 16));
        for part in pieces {
            if let Some(last) = merged.last_mut()
                && last.start + last.len == part.start
                && last.backing.skip(last.len) == part.backing
            {
                last.len += part.len;
            } else {
                merged.push(part);
            }
        }
        (Segments::new(merged), overlap)
    }
}

/// Makes parts disjoint by sweeping over their borders: at each border the parts that cover the
/// addresses behind it wait in a heap, best first. O(n log n), and at most 2n-1 pieces come out. Says also
/// whether there was more than one part anywhere.
fn flatten(parts: &[Segment]) -> (Vec<Segment>, bool) {
    let mut by_start: Vec<usize> = (0..parts.len()).collect();
    by_start.sort_by_key(|&i| parts[i].start);
    let overlap = by_start
        .windows(2)
        .any(|w| parts[w[0]].start + parts[w[0]].len > parts[w[1]].start);
    let mut borders: Vec<u64> = parts
        .iter()
        .flat_map(|p| [p.start, p.start + p.len])
        .collect();
    borders.sort_unstable();
    borders.dedup();

    let mut out: Vec<Segment> = Vec::with_capacity(parts.len());
    let mut next = by_start.into_iter().peekable();
    // Parts whose beginning was passed, best first: in the file before missing, then file order.
    let mut open: BinaryHeap<Reverse<(bool, usize)>> = BinaryHeap::new();
    for pair in borders.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        while let Some(&i) = next.peek()
            && parts[i].start <= from
        {
            open.push(Reverse((parts[i].backing.is_missing(), i)));
            next.next();
        }
        // The best part that reaches beyond `from`; parts that have ended are dropped on the way.
        while let Some(&Reverse((_, i))) = open.peek() {
            if parts[i].start + parts[i].len > from {
                out.push(parts[i].part(from - parts[i].start, to - from));
                break;
            }
            open.pop();
        }
    }
    (out, overlap)
}

/// The sorted, disjoint table.
#[derive(Default, Debug)]
pub(super) struct Segments {
    segments: Vec<Segment>,
    /// Maximal runs, for enumeration.
    spans: Vec<Span<Gpa>>,
}

impl Segments {
    fn new(segments: Vec<Segment>) -> Self {
        let mut spans: Vec<Span<Gpa>> = Vec::new();
        for segment in &segments {
            let kind = segment
                .missing(0)
                .map_or(SpanKind::Mapped(Prot::RWX), SpanKind::Lost);
            if let Some(last) = spans.last_mut()
                && last.start.0 + last.len == segment.start
                && last.kind == kind
            {
                last.len += segment.len;
            } else {
                spans.push(Span {
                    start: Gpa(segment.start),
                    len: segment.len,
                    kind,
                });
            }
        }
        Self { segments, spans }
    }

    /// The segment that holds `gpa`.
    #[inline]
    pub(super) fn find(&self, gpa: u64) -> Option<&Segment> {
        // Nearly every image has one or two: a short scan beats the branches of a binary search.
        if self.segments.len() <= 4 {
            return self
                .segments
                .iter()
                .find(|s| gpa.wrapping_sub(s.start) < s.len);
        }
        let after = self.segments.partition_point(|s| s.start <= gpa);
        self.segments[..after]
            .last()
            .filter(|s| gpa - s.start < s.len)
    }

    /// The segments from the one that holds `gpa` on; of an address without one, those behind it.
    pub(super) fn from(&self, gpa: u64) -> impl Iterator<Item = &Segment> {
        let first = self.segments.partition_point(|s| s.start + s.len <= gpa);
        self.segments[first..].iter()
    }

    /// How many segments there are.
    pub(super) fn len(&self) -> usize {
        self.segments.len()
    }

    /// What there is within `range`.
    pub(super) fn spans(&self, range: AddrRange<Gpa>) -> impl Iterator<Item = Span<Gpa>> + Send {
        let first = self
            .spans
            .partition_point(|s| s.range().last() < range.start());
        self.spans[first..]
            .iter()
            .map_while(move |span| span.range().intersect(range).map(|cut| (span, cut)))
            .map(|(span, cut)| {
                let kind = match span.kind {
                    SpanKind::Lost(Cause::Truncated { gpa, offset }) => {
                        let skip = cut.start().0 - gpa.0;
                        SpanKind::Lost(Cause::Truncated {
                            gpa: cut.start(),
                            offset: offset.saturating_add(skip),
                        })
                    }
                    SpanKind::Lost(Cause::Absent { .. }) => {
                        SpanKind::Lost(Cause::Absent { gpa: cut.start() })
                    }
                    kind => kind,
                };
                Span {
                    start: cut.start(),
                    len: cut.len(),
                    kind,
                }
            })
    }

    /// Everything the image declares, stored or not, adjacent ranges merged.
    pub(super) fn ranges(&self) -> Vec<AddrRange<Gpa>> {
        let mut ranges: Vec<AddrRange<Gpa>> = Vec::new();
        for span in &self.spans {
            match ranges.last_mut() {
                Some(last) if last.end() == Some(span.start) => {
                    if let Some(both) = AddrRange::inclusive(last.start(), span.range().last()) {
                        *last = both;
                    }
                }
                _ => ranges.push(span.range()),
            }
        }
        ranges
    }

    /// Whether any byte can be read.
    pub(super) fn has_bytes(&self) -> bool {
        self.segments.iter().any(|s| !s.backing.is_missing())
    }

    /// Bytes that are declared and not stored.
    pub(super) fn missing_bytes(&self) -> u64 {
        self.spans
            .iter()
            .filter(|s| s.region().is_none())
            .fold(0, |sum, s| sum.saturating_add(s.len))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the table should say about one address, by looking at every part: bytes in the file before
    /// missing ones, then the first.
    fn naive(parts: &[Segment], gpa: u64) -> Option<Backing> {
        let mut found: Vec<(bool, Backing)> = parts
            .iter()
            .filter(|p| gpa.wrapping_sub(p.start) < p.len)
            .map(|p| (p.backing.is_missing(), p.backing.skip(gpa - p.start)))
            .collect();
        found.sort_by_key(|&(missing, _)| missing);
        found.first().map(|&(_, backing)| backing)
    }

    fn parts() -> impl Strategy<Value = Vec<(u64, u64, u64, u8)>> {
        // Few offsets, so that parts often agree with each other.
        prop::collection::vec((0..48u64, 1..24u64, 0..3u64, 0..4u8), 0..9)
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_looking_at_every_part(parts in parts()) {
            const FILE: u64 = 60;
            let mut builder = SegmentsBuilder::new(FILE);
            for &(gpa, len, offset, kind) in &parts {
                match kind {
                    0 => builder.add_absent(gpa, len),
                    1 => builder.add_frame(gpa, len as u32, 100 + offset),
                    // The same distance for all, so that overlaps agree, or any.
                    2 => builder.add_file(gpa, len, gpa),
                    _ => builder.add_file(gpa, len, offset * 17),
                };
            }
            let all = builder.parts.clone();
            let (table, overlapping) = builder.finish();
            let overlap = (0..80).any(|gpa| {
                all.iter().filter(|part| part.start <= gpa && gpa < part.start + part.len).count() > 1
            });
            prop_assert_eq!(overlapping, if overlap { all.clone() } else { Vec::new() });

            let mut mapped = Vec::new();
            for gpa in 0..80 {
                let want = naive(&all, gpa);
                let got = table.find(gpa).map(|s| s.backing.skip(gpa - s.start));
                prop_assert_eq!(got, want, "at {}", gpa);
                if let Some(Backing::File(offset)) = got {
                    prop_assert!(offset < FILE);
                }
                mapped.push(want.map(Backing::is_missing));
            }

            // The spans are the runs of the same answer, cut to what was asked for.
            for (from, to) in [(0, 79), (7, 31), (20, 20)] {
                let range = AddrRange::inclusive(Gpa(from), Gpa(to)).expect("ascending");
                let mut seen = [None; 80];
                for span in table.spans(range) {
                    prop_assert!(range.covers(span.range()));
                    for gpa in span.start.0..span.start.0 + span.len {
                        prop_assert_eq!(seen[gpa as usize], None);
                        seen[gpa as usize] = Some(span.region().is_none());
                    }
                    if let SpanKind::Lost(cause) = span.kind {
                        let segment = table.find(span.start.0).expect("listed");
                        let at = span.start.0 - segment.start;
                        prop_assert_eq!(Some(cause), segment.missing(at));
                    }
                }
                prop_assert_eq!(&seen[from as usize..=to as usize], &mapped[from as usize..=to as usize]);
            }
            for pair in table.spans.windows(2) {
                let touch = pair[0].start.0 + pair[0].len == pair[1].start.0;
                let both = pair[0].region().is_some() && pair[1].region().is_some();
                prop_assert!(!(touch && both), "spans are maximal");
            }
        }
    }

    #[test]
    fn what_is_no_physical_memory_is_refused() {
        let mut builder = SegmentsBuilder::new(0x1000);
        for (gpa, len) in [
            (0, 0),
            (GPA_LIMIT, 1),
            (GPA_LIMIT - 1, 2),
            (u64::MAX, 2),
            (1, u64::MAX),
        ] {
            assert_eq!(builder.add_file(gpa, len, 0), Added::Refused);
            assert_eq!(builder.add_absent(gpa, len), Added::Refused);
        }
        assert_eq!(builder.add_file(GPA_LIMIT - 1, 1, 0), Added::Whole);
        assert_eq!(builder.add_file(0, 0x1001, 0), Added::Truncated);
        assert_eq!(builder.add_file(0, 1, u64::MAX), Added::Truncated);
        let (table, _) = builder.finish();
        assert!(table.find(GPA_LIMIT).is_none() && table.find(u64::MAX).is_none());
        assert_eq!(table.ranges().len(), 2);
    }

    /// Many parts over the same addresses must not cost their number squared.
    #[test]
    fn piled_up_parts_are_cheap() {
        let mut builder = SegmentsBuilder::new(1 << 20);
        for i in 0..200_000u64 {
            builder.add_file(i, (1 << 19) - 2 * i.min(1 << 17), i * 3 % 7);
        }
        let start = std::time::Instant::now();
        let (table, parts) = builder.finish();
        assert!(!parts.is_empty() && table.find(1 << 18).is_some());
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }
}
