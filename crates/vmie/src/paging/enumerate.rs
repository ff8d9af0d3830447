//! What an enumeration yields: the runs of the walk (`walk.rs`) put together to regions, and to extents.

use std::iter::FusedIterator;

use super::walk::{RunKind, WalkStats, Walker};
use crate::addr::{Address, Gpa, Gva};
use crate::memory::{Cause, Prot, Span, SpanKind};

/// Regions of an address space in ascending order, with what could not be determined between them.
///
/// Made by [`AddressSpace::region_walk`](super::AddressSpace::region_walk).
pub struct RegionWalk<'a> {
    walker: Walker<'a>,
    ahead: Option<Span<Gva>>,
}

impl<'a> RegionWalk<'a> {
    pub(super) fn new(walker: Walker<'a>) -> Self {
        Self {
            walker,
            ahead: None,
        }
    }

    /// What the walk has met so far.
    pub fn stats(&self) -> &WalkStats {
        self.walker.stats()
    }
}

impl Iterator for RegionWalk<'_> {
    type Item = Span<Gva>;

    fn next(&mut self) -> Option<Span<Gva>> {
        loop {
            let next = self.walker.next_run().map(|run| Span {
                start: Gva(run.va),
                len: run.len,
                kind: match run.kind {
                    RunKind::Mapped { prot, .. } => SpanKind::Mapped(prot),
                    RunKind::Lost(cause) => SpanKind::Lost(cause),
                    RunKind::Away(prot, cause) => SpanKind::Away(prot, cause),
                },
            });
            match (&mut self.ahead, next) {
                (Some(ahead), Some(span))
                    if ahead.start.checked_add(ahead.len) == Some(span.start)
                        && same_kind(ahead.kind, span.kind) =>
                {
                    ahead.len += span.len;
                }
                (_, None) => return self.ahead.take(),
                (_, Some(span)) => {
                    if let Some(done) = self.ahead.replace(span) {
                        return Some(done);
                    }
                }
            }
        }
    }
}

impl FusedIterator for RegionWalk<'_> {}

/// Lost neighbours make one span when their reasons are of one kind; the first reason stands.
fn same_kind(a: SpanKind, b: SpanKind) -> bool {
    match (a, b) {
        (SpanKind::Mapped(a), SpanKind::Mapped(b)) => a == b,
        (SpanKind::Lost(a), SpanKind::Lost(b)) => a.label() == b.label(),
        (SpanKind::Away(a, why), SpanKind::Away(b, again)) => {
            a == b && why.label() == again.label()
        }
        _ => false,
    }
}

/// Part of a region that is also physically contiguous and mapped by pages of one size.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Extent {
    /// First virtual address.
    pub va: Gva,
    /// First physical address.
    pub gpa: Gpa,
    /// Length in bytes, never zero.
    pub len: u64,
    /// Bytes in a page.
    pub page_size: u64,
    /// Effective protection.
    pub prot: Prot,
}

/// What an [`ExtentWalk`] yields.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ExtentItem {
    /// Mapped.
    Extent(Extent),
    /// It could not be determined what is mapped here.
    Lost {
        /// First virtual address.
        va: Gva,
        /// Length in bytes, never zero.
        len: u64,
        /// Why.
        cause: Cause,
    },
    /// The operating system maps something here that is in no frame.
    Away {
        /// First virtual address.
        va: Gva,
        /// Length in bytes, never zero.
        len: u64,
        /// What may be done with it.
        prot: Prot,
        /// Where it is instead.
        cause: Cause,
    },
}

impl ExtentItem {
    /// Takes `next` in when it continues `self`.
    fn extend_by(&mut self, next: Self) -> bool {
        match (self, next) {
            (Self::Extent(a), Self::Extent(b))
                if a.va.checked_add(a.len) == Some(b.va)
                    && a.gpa.checked_add(a.len) == Some(b.gpa)
                    && (a.page_size, a.prot) == (b.page_size, b.prot) =>
            {
                a.len += b.len;
            }
            (
                Self::Lost { va, len, cause },
                Self::Lost {
                    va: at,
                    len: more,
                    cause: again,
                },
            ) if va.checked_add(*len) == Some(at) && cause.label() == again.label() => {
                *len += more;
            }
            (
                Self::Away {
                    va,
                    len,
                    prot,
                    cause,
                },
                Self::Away {
                    va: at,
                    len: more,
                    prot: same,
                    cause: again,
                },
            ) if va.checked_add(*len) == Some(at)
                && *prot == same
                && cause.label() == again.label() =>
            {
                *len += more;
            }
            _ => return false,
        }
        true
    }
}

/// Extents of an address space in ascending order.
///
/// Made by [`AddressSpace::extents`](super::AddressSpace::extents).
pub struct ExtentWalk<'a> {
    walker: Walker<'a>,
    ahead: Option<ExtentItem>,
}

impl<'a> ExtentWalk<'a> {
    pub(super) fn new(walker: Walker<'a>) -> Self {
        Self {
            walker,
            ahead: None,
        }
    }

    /// What the walk has met so far.
    pub fn stats(&self) -> &WalkStats {
        self.walker.stats()
    }
}

impl Iterator for ExtentWalk<'_> {
    type Item = ExtentItem;

    fn next(&mut self) -> Option<ExtentItem> {
        loop {
            let next = self.walker.next_run().map(|run| match run.kind {
                RunKind::Mapped {
                    prot,
                    gpa,
                    page_size,
                } => ExtentItem::Extent(Extent {
                    va: Gva(run.va),
                    gpa: Gpa(gpa),
                    len: run.len,
                    page_size,
                    prot,
                }),
                RunKind::Lost(cause) => ExtentItem::Lost {
                    va: Gva(run.va),
                    len: run.len,
                    cause,
                },
                RunKind::Away(prot, cause) => ExtentItem::Away {
                    va: Gva(run.va),
                    len: run.len,
                    prot,
                    cause,
                },
            });
            if let (Some(ahead), Some(next)) = (&mut self.ahead, next)
                && ahead.extend_by(next)
            {
                continue;
            }
            match next {
                None => return self.ahead.take(),
                Some(item) => {
                    if let Some(done) = self.ahead.replace(item) {
                        return Some(done);
                    }
                }
            }
        }
    }
}

impl FusedIterator for ExtentWalk<'_> {}
