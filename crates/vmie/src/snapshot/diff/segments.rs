//! Where two memories can differ: their spans, cut at each other's borders.

use std::iter::Peekable;

use crate::addr::{AddrRange, Address};
use crate::memory::{Cause, Memory, Prot, Span, SpanKind, Spans};
use crate::snapshot::Filter;

/// What one side says about a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Nothing,
    Mapped(Prot),
    Lost(Cause),
}

impl State {
    pub(super) fn of(kind: SpanKind) -> Self {
        match kind {
            SpanKind::Mapped(prot) => Self::Mapped(prot),
            SpanKind::Lost(cause) | SpanKind::Away(_, cause) => Self::Lost(cause),
        }
    }

    pub(super) fn passes(self, filter: Filter) -> bool {
        matches!(self, Self::Mapped(prot) if filter.passes(prot))
    }
}

/// Addresses about which each side says one thing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<A: Address> {
    pub(super) range: AddrRange<A>,
    pub(super) before: State,
    pub(super) after: State,
}

/// Joins mapped spans that touch and say the same, which not every source of memory does.
fn maximal<'m, A: Address>(spans: impl Iterator<Item = Span<A>> + Send + 'm) -> Spans<'m, A> {
    let mut spans = spans.filter(|span| span.len > 0).peekable();
    Box::new(std::iter::from_fn(move || {
        let mut span = spans.next()?;
        while matches!(span.kind, SpanKind::Mapped(_))
            && let Some(next) = spans.next_if(|next| {
                next.kind == span.kind && span.start.checked_add(span.len) == Some(next.start)
            })
        {
            span.len += next.len;
        }
        Some(span)
    }))
}

/// Cuts two lists of spans at each other's borders. What neither side maps is left out.
pub(super) struct Segments<I: Iterator, A> {
    before: Peekable<I>,
    after: Peekable<I>,
    at: Option<A>,
}

impl<'m, A: Address> Segments<Spans<'m, A>, A> {
    pub(super) fn new(
        before: &'m dyn Memory<Addr = A>,
        after: &'m dyn Memory<Addr = A>,
        range: AddrRange<A>,
    ) -> Self {
        Self {
            before: maximal(before.spans(range)).peekable(),
            after: maximal(after.spans(range)).peekable(),
            at: Some(range.start()),
        }
    }
}

impl<I: Iterator<Item = Span<A>>, A: Address> Iterator for Segments<I, A> {
    type Item = Segment<A>;

    fn next(&mut self) -> Option<Segment<A>> {
        let at = self.at?;
        /// The next span that does not lie before `at`.
        fn current<A: Address>(
            spans: &mut Peekable<impl Iterator<Item = Span<A>>>,
            at: A,
        ) -> Option<Span<A>> {
            while spans.next_if(|span| span.range().last() < at).is_some() {}
            spans.peek().copied()
        }
        let sides = [current(&mut self.before, at), current(&mut self.after, at)];
        let first = sides
            .iter()
            .flatten()
            .map(|span| span.start.max(at))
            .min()?;
        // Up to where either side says something else: a span's end, or another one's beginning.
        let last = sides.iter().flatten().map(|span| {
            if span.start <= first {
                span.range().last()
            } else {
                A::new(span.start.raw() - 1)
            }
        });
        let last = last.min()?;
        let state = |side: Option<Span<A>>| match side {
            Some(span) if span.start <= first => State::of(span.kind),
            _ => State::Nothing,
        };
        self.at = last.checked_add(1);
        Some(Segment {
            range: AddrRange::inclusive(first, last)?,
            before: state(sides[0]),
            after: state(sides[1]),
        })
    }
}
