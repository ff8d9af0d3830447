//! Where the pages of a snapshot are: spans of addresses, and a number for each page that was kept.
//!
//! Contents are kept by the page, aligned in the address space. Addresses are not always mapped by
//! the page (physical memory can end anywhere), so spans say which bytes there are and pages where
//! they stand; a page at the border of a span is kept whole, zero where nothing is mapped.

use crate::addr::{AddrRange, Address};
use crate::memory::{Cause, Coverage, Gap, Span, SpanKind};

use super::Filter;

/// Bytes in a page of a snapshot: the unit of its files and of its comparisons, whatever the pages of the guest.
pub(super) const SNAPSHOT_PAGE: usize = 4096;
const SHIFT: u32 = SNAPSHOT_PAGE.trailing_zeros();

/// Consecutive pages that were kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PageRun {
    /// Address of the first page, in pages.
    pub(super) first: u64,
    /// How many.
    pub(super) count: u64,
    /// Number of the first page among all that were kept.
    pub(super) index: u64,
}

impl PageRun {
    /// Address of the first byte.
    pub(super) fn start<A: Address>(self) -> A {
        A::new(self.first << SHIFT)
    }
}

/// What was asked for, what was mapped there, and what of it was kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Layout<A: Address> {
    asked: AddrRange<A>,
    filter: Filter,
    /// In order, disjoint, within `asked`.
    spans: Vec<Span<A>>,
    /// Mapped bytes that pass the filter and could not be read; in order, disjoint.
    gaps: Vec<Gap<A>>,
    runs: Vec<PageRun>,
    pages: u64,
}

impl<A: Address> Layout<A> {
    /// Of spans in order; `None` when they overlap, leave what was asked for, or are empty.
    pub(super) fn new(asked: AddrRange<A>, filter: Filter, spans: Vec<Span<A>>) -> Option<Self> {
        let range = |span: &Span<A>| AddrRange::new(span.start, span.len);
        let inside = |span| range(span).is_some_and(|range| asked.covers(range));
        let apart = |pair: &[Span<A>]| match (range(&pair[0]), range(&pair[1])) {
            (Some(one), Some(next)) => one.last() < next.start(),
            _ => false,
        };
        if !spans.iter().all(inside) || !spans.windows(2).all(apart) {
            return None;
        }
        let mut runs: Vec<PageRun> = Vec::new();
        let mut pages = 0;
        for span in spans.iter().filter(|span| filter.keeps(span.kind)) {
            let (mut first, last) = (
                span.start.raw() >> SHIFT,
                span.range().last().raw() >> SHIFT,
            );
            if let Some(run) = runs.last_mut() {
                let next = run.first + run.count;
                // A page may hold the end of one span and the beginning of the next.
                first = first.max(next);
                if first == next {
                    let more = (last + 1).saturating_sub(first);
                    run.count += more;
                    pages += more;
                    continue;
                }
            }
            let count = last + 1 - first;
            runs.push(PageRun {
                first,
                count,
                index: pages,
            });
            pages += count;
        }
        Some(Self {
            asked,
            filter,
            spans,
            gaps: Vec::new(),
            runs,
            pages,
        })
    }

    /// Notes what could not be read: in order, disjoint, or else `None`.
    pub(super) fn with_gaps(mut self, gaps: Vec<Gap<A>>) -> Option<Self> {
        let range = |gap: &Gap<A>| AddrRange::new(gap.start, gap.len);
        let whole = |gap| range(gap).is_some();
        let apart = |pair: &[Gap<A>]| match (range(&pair[0]), range(&pair[1])) {
            (Some(one), Some(next)) => one.last() < next.start(),
            _ => false,
        };
        if !gaps.iter().all(whole) || !gaps.windows(2).all(apart) {
            return None;
        }
        self.gaps = gaps;
        Some(self)
    }

    pub(super) fn asked(&self) -> AddrRange<A> {
        self.asked
    }

    pub(super) fn filter(&self) -> Filter {
        self.filter
    }

    pub(super) fn all_spans(&self) -> &[Span<A>] {
        &self.spans
    }

    pub(super) fn gaps(&self) -> &[Gap<A>] {
        &self.gaps
    }

    pub(super) fn runs(&self) -> &[PageRun] {
        &self.runs
    }

    /// How many pages were kept.
    pub(super) fn pages(&self) -> u64 {
        self.pages
    }

    /// What was read and what could not be.
    pub(super) fn coverage(&self) -> Coverage<A> {
        let mut coverage = Coverage::default();
        for span in &self.spans {
            match span.kind {
                SpanKind::Lost(cause) => coverage.add_lost(span.start, span.len, cause),
                kind if self.filter.keeps(kind) => coverage.add_read(span.len),
                SpanKind::Away(prot, cause) if self.filter.passes(prot) => {
                    coverage.add_absent(span.start, span.len, cause);
                }
                SpanKind::Mapped(_) | SpanKind::Away(..) => {}
            }
        }
        for gap in &self.gaps {
            coverage.mapped = coverage.mapped.saturating_sub(gap.len);
            coverage.read = coverage.read.saturating_sub(gap.len);
            coverage.add_absent(gap.start, gap.len, gap.cause);
        }
        coverage
    }

    /// What was mapped in a range and was not kept or could not be read; not in order.
    pub(super) fn missing(&self, range: AddrRange<A>) -> impl Iterator<Item = Gap<A>> {
        let gap = |part: AddrRange<A>, cause| Gap {
            start: part.start(),
            len: part.len(),
            cause,
        };
        let first = self
            .spans
            .partition_point(|span| span.range().last() < range.start());
        let left_out = self.spans[first..]
            .iter()
            .map_while(move |span| Some((span.kind, span.range().intersect(range)?)))
            .filter(|(kind, _)| matches!(kind, SpanKind::Mapped(_)) && !self.filter.keeps(*kind))
            .map(move |(_, part)| gap(part, Cause::NotCaptured));
        let first = self.gaps.partition_point(|gap| gap.start <= range.start());
        let unread = self.gaps[first.saturating_sub(1)..]
            .iter()
            .take_while(move |gap| gap.start <= range.last())
            .filter_map(move |one| {
                let part = AddrRange::new(one.start, one.len)?.intersect(range)?;
                Some(gap(part, one.cause))
            });
        left_out.chain(unread)
    }

    /// What is known within `range`: also that nobody asked about what lies outside of `asked`.
    pub(super) fn spans(&self, range: AddrRange<A>) -> impl Iterator<Item = Span<A>> + Send {
        let outside = |range: Option<AddrRange<A>>| {
            range.map(|range| Span {
                start: range.start(),
                len: range.len(),
                kind: SpanKind::Lost(Cause::NotCaptured),
            })
        };
        let before = self.asked.start().checked_sub(1).and_then(|last| {
            AddrRange::inclusive(A::new(0), last).and_then(|all| all.intersect(range))
        });
        let behind = self
            .asked
            .end()
            .and_then(|end| AddrRange::from(end).intersect(range));
        let first = self
            .spans
            .partition_point(|span| span.range().last() < range.start());
        let within = self.spans[first..].iter().map_while(move |span| {
            let cut = span.range().intersect(range)?;
            Some(Span {
                start: cut.start(),
                len: cut.len(),
                kind: span.kind,
            })
        });
        outside(before)
            .into_iter()
            .chain(within)
            .chain(outside(behind))
    }

    /// How many bytes from `addr` on were kept and read, or why the one at `addr` was not.
    pub(super) fn readable(&self, addr: A) -> Result<u64, Cause> {
        if !self.asked.contains(addr) {
            return Err(Cause::NotCaptured);
        }
        let behind = self.spans.partition_point(|span| span.start <= addr);
        let span = self.spans[..behind].last();
        let Some(span) = span.filter(|span| span.range().contains(addr)) else {
            return Err(Cause::NothingThere);
        };
        match span.kind {
            SpanKind::Lost(cause) | SpanKind::Away(_, cause) => return Err(cause),
            kind if !self.filter.keeps(kind) => return Err(Cause::NotCaptured),
            SpanKind::Mapped(_) => {}
        }
        let last = span.range().last();
        let next = self.gaps.partition_point(|gap| gap.start <= addr);
        if let Some(gap) = next.checked_sub(1).map(|at| self.gaps[at])
            && addr.raw() - gap.start.raw() < gap.len
        {
            return Err(gap.cause);
        }
        let end = self.gaps.get(next).map_or(last, |gap| {
            last.min(A::new(gap.start.raw().saturating_sub(1)))
        });
        Ok((end.raw() - addr.raw()).saturating_add(1))
    }

    /// The number of the page that holds `addr`, and how many kept pages there are from it on in a row.
    pub(super) fn page(&self, addr: A) -> Option<(u64, u64)> {
        let page = addr.raw() >> SHIFT;
        let behind = self.runs.partition_point(|run| run.first <= page);
        let run = self.runs[..behind].last()?;
        let at = page - run.first;
        (at < run.count).then(|| (run.index + at, run.count - at))
    }
}
