//! What differs between two memories, byte by byte and region by region.
//!
//! The spans of both are merged into *segments* within which neither changes. What is mapped on one
//! side only has appeared or disappeared; what is mapped on both is compared by windows, in place
//! wherever both sides lend their bytes and from copies otherwise. What cannot be read on either side is
//! counted and never called equal.
//!
//! The twin for tests, [`naive`], asks both sides about each byte.

use std::fmt;
use std::iter::Peekable;
use std::ops::{ControlFlow, Range};

use crate::addr::{AddrRange, Address};
use crate::memory::{Cause, Coverage, Memory, Prot, Span, SpanKind, Spans};
use crate::sweep::{Part, read_pieces};

use super::Filter;
use super::layout::PAGE;

/// Bytes compared at once: two of these stay in the second-level cache.
const WINDOW: u64 = 256 << 10;

/// What to compare.
#[derive(Clone, Debug)]
pub struct DiffOptions<A: Address> {
    /// Only addresses in this range.
    pub range: AddrRange<A>,
    /// Only regions that pass, before or after.
    pub filter: Filter,
    /// Compare no more bytes than this; what is beyond counts as lost.
    pub max_bytes: u64,
}

impl<A: Address> Default for DiffOptions<A> {
    fn default() -> Self {
        Self {
            range: AddrRange::all(),
            filter: Filter::default(),
            max_bytes: crate::sweep::DEFAULT_MAX_BYTES,
        }
    }
}

/// How a run of addresses differs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ChangeKind {
    /// Mapped on both sides, with another protection. Its bytes are compared as well.
    Protection,
    /// Not mapped before, mapped now.
    Appeared,
    /// Mapped before, not mapped now.
    Disappeared,
    /// Mapped on both sides, and every one of these bytes differs.
    Modified,
}

impl ChangeKind {
    /// The name in output: `modified`, `appeared`, `disappeared`, `protection`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Protection => "protection",
            Self::Appeared => "appeared",
            Self::Disappeared => "disappeared",
            Self::Modified => "modified",
        }
    }
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A run of addresses that differs, as long as it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Change<A> {
    /// First address.
    pub start: A,
    /// Length in bytes, never zero.
    pub len: u64,
    /// The current protection; none where nothing is mapped now.
    pub prot: Prot,
    /// The earlier protection; none where nothing was mapped.
    pub was: Prot,
    /// What differs.
    pub kind: ChangeKind,
}

/// What became of a comparison.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "without its coverage a comparison cannot tell `the same` from `could not look`"]
pub struct DiffOutcome<A> {
    /// Of the bytes that are mapped on both sides: those that were compared, and those that were not
    /// because one side or both could not be read; and what is not known to be mapped on some side.
    pub coverage: Coverage<A>,
    /// Bytes that differ.
    pub modified: u64,
    /// Whether `emit` or `progress` ended it before the end.
    pub stopped: bool,
}

/// Compares two memories and passes what differs to `emit`, in the order of the addresses; where a
/// change of protection and changed bytes begin together, the protection comes first.
///
/// Changed bytes that touch and have the same protection now are one run. `progress` is called now and
/// then with the number of bytes compared, and may end the comparison, as `emit` may.
///
/// # Cost
///
/// One read of what is mapped on both sides. Memory: two windows, and none that grows with what differs.
pub fn diff<A: Address>(
    before: &dyn Memory<Addr = A>,
    after: &dyn Memory<Addr = A>,
    options: &DiffOptions<A>,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    emit: impl FnMut(Change<A>) -> ControlFlow<()>,
) -> DiffOutcome<A> {
    let mut rows = Rows {
        emit,
        open: None,
        held: Vec::new(),
    };
    let mut compare = Compare {
        before: Side::new(before),
        after: Side::new(after),
        outcome: DiffOutcome {
            coverage: Coverage::default(),
            modified: 0,
            stopped: false,
        },
        left: options.max_bytes,
    };
    let mut flow = ControlFlow::Continue(());
    for segment in Segments::new(before, after, options.range) {
        flow = compare.segment(&segment, options.filter, &mut rows, progress);
        if flow.is_break() {
            break;
        }
    }
    // What differs up to where it was stopped is said too, unless nobody wants to hear more.
    if flow.is_continue() {
        flow = rows.flush();
    }
    compare.outcome.stopped = flow.is_break();
    compare.outcome
}

/// What one side says about a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Nothing,
    Mapped(Prot),
    Lost(Cause),
}

impl State {
    fn of(kind: SpanKind) -> Self {
        match kind {
            SpanKind::Mapped(prot) => Self::Mapped(prot),
            SpanKind::Lost(cause) => Self::Lost(cause),
        }
    }

    fn passes(self, filter: Filter) -> bool {
        matches!(self, Self::Mapped(prot) if filter.passes(prot))
    }
}

/// Addresses about which each side says one thing.
#[derive(Clone, Copy, Debug)]
struct Segment<A: Address> {
    range: AddrRange<A>,
    before: State,
    after: State,
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
struct Segments<I: Iterator, A> {
    before: Peekable<I>,
    after: Peekable<I>,
    at: Option<A>,
}

impl<'m, A: Address> Segments<Spans<'m, A>, A> {
    fn new(
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

/// Puts rows in order and joins changed bytes that touch.
struct Rows<A, E> {
    emit: E,
    /// Changed bytes that may go on.
    open: Option<Change<A>>,
    /// Rows that begin where the open one ends, if it does.
    held: Vec<Change<A>>,
}

impl<A: Address, E: FnMut(Change<A>) -> ControlFlow<()>> Rows<A, E> {
    /// A row that is not about bytes.
    fn mapping(&mut self, row: Change<A>) -> ControlFlow<()> {
        let touches = |open: &Change<A>| open.start.checked_add(open.len) == Some(row.start);
        if self.open.as_ref().is_some_and(touches) {
            self.held.push(row);
            return ControlFlow::Continue(());
        }
        self.flush()?;
        (self.emit)(row)
    }

    /// Changed bytes.
    fn bytes(&mut self, row: Change<A>) -> ControlFlow<()> {
        if let Some(open) = &mut self.open
            && open.prot == row.prot
            && open.start.checked_add(open.len) == Some(row.start)
        {
            open.len += row.len;
            return ControlFlow::Continue(());
        }
        self.flush()?;
        self.open = Some(row);
        ControlFlow::Continue(())
    }

    fn flush(&mut self) -> ControlFlow<()> {
        self.open
            .take()
            .map_or(ControlFlow::Continue(()), &mut self.emit)?;
        self.held.drain(..).try_for_each(&mut self.emit)
    }
}

struct Compare<'m, A: Address> {
    before: Side<'m, A>,
    after: Side<'m, A>,
    outcome: DiffOutcome<A>,
    /// Bytes that may still be compared.
    left: u64,
}

impl<A: Address> Compare<'_, A> {
    fn segment<E: FnMut(Change<A>) -> ControlFlow<()>>(
        &mut self,
        segment: &Segment<A>,
        filter: Filter,
        rows: &mut Rows<A, E>,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let (start, len) = (segment.range.start(), segment.range.len());
        let row = |kind, was, prot| Change {
            start,
            len,
            prot,
            was,
            kind,
        };
        let meant = segment.before.passes(filter) || segment.after.passes(filter);
        let (was, prot) = match (segment.before, segment.after) {
            // Nobody asked the snapshot about this.
            (State::Lost(Cause::NotCaptured), _) | (_, State::Lost(Cause::NotCaptured)) => {
                return ControlFlow::Continue(());
            }
            (State::Lost(cause), _) | (_, State::Lost(cause)) => {
                self.outcome.coverage.add_lost(start, len, cause);
                return ControlFlow::Continue(());
            }
            _ if !meant => return ControlFlow::Continue(()),
            (State::Nothing, State::Nothing) => return ControlFlow::Continue(()),
            (State::Nothing, State::Mapped(prot)) => {
                return rows.mapping(row(ChangeKind::Appeared, Prot::NONE, prot));
            }
            (State::Mapped(was), State::Nothing) => {
                return rows.mapping(row(ChangeKind::Disappeared, was, Prot::NONE));
            }
            (State::Mapped(was), State::Mapped(prot)) => (was, prot),
        };
        if was != prot {
            rows.mapping(row(ChangeKind::Protection, was, prot))?;
        }
        let mut at = 0;
        while at < len {
            let here = A::new(start.raw() + at);
            // Windows end at multiples of their size, so that pages are never cut.
            let window = (WINDOW - here.raw() % WINDOW).min(len - at);
            if window > self.left {
                let rest = len - at;
                self.outcome.coverage.add_lost(here, rest, Cause::Limit);
                return ControlFlow::Continue(());
            }
            self.left -= window;
            let window = AddrRange::new(here, window).expect("within the segment");
            self.window(window, &mut |start, len| {
                rows.bytes(Change {
                    start,
                    len,
                    prot,
                    was,
                    kind: ChangeKind::Modified,
                })
            })?;
            at += window.len();
            progress(self.outcome.coverage.read)?;
        }
        ControlFlow::Continue(())
    }

    /// Compares what is mapped on both sides.
    fn window(
        &mut self,
        window: AddrRange<A>,
        on: &mut impl FnMut(A, u64) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let (coverage, modified) = (&mut self.outcome.coverage, &mut self.outcome.modified);
        let mut missing: Vec<(AddrRange<A>, Cause)> = Vec::new();
        let mut differ = |at: A, one: &[u8], other: &[u8]| {
            coverage.add_read(one.len() as u64);
            each_difference(one, other, &mut |from, len| {
                *modified += len as u64;
                on(A::new(at.raw() + from as u64), len as u64)
            })
        };
        self.before.forget();
        self.after.forget();
        if let (Some(one), Some(other)) = (
            self.before.memory.borrow(window),
            self.after.memory.borrow(window),
        ) {
            return differ(window.start(), one, other);
        }
        let mut at = window.start();
        loop {
            let rest = AddrRange::inclusive(at, window.last()).expect("within the window");
            let done = match (
                self.before.lend(window, rest),
                self.after.lend(window, rest),
            ) {
                (Some(one), Some(other)) => {
                    let len = one.len().min(other.len());
                    differ(at, &one[..len], &other[..len])?;
                    len as u64
                }
                _ => {
                    let page = page_of(rest);
                    let sides = [self.before.memory, self.after.memory];
                    broken_page(sides, page, &mut differ, &mut |part, cause| match cause {
                        // Nobody asked the snapshot about this.
                        Cause::NotCaptured => {}
                        cause => missing.push((part, cause)),
                    })?;
                    page.len()
                }
            };
            if done == rest.len() {
                break;
            }
            at = A::new(at.raw() + done);
        }
        for (part, cause) in missing {
            let coverage = &mut self.outcome.coverage;
            coverage.add_absent(part.start(), part.len(), cause);
        }
        ControlFlow::Continue(())
    }
}

/// The first page of a range, or the part of it that is in the range.
fn page_of<A: Address>(range: AddrRange<A>) -> AddrRange<A> {
    let end = A::new(range.start().raw() | (PAGE as u64 - 1));
    AddrRange::inclusive(range.start(), range.last().min(end)).expect("not empty")
}

/// Compares a page of which one side cannot read all.
#[cold]
fn broken_page<A: Address>(
    sides: [&dyn Memory<Addr = A>; 2],
    page: AddrRange<A>,
    differ: &mut impl FnMut(A, &[u8], &[u8]) -> ControlFlow<()>,
    missing: &mut impl FnMut(AddrRange<A>, Cause),
) -> ControlFlow<()> {
    let len = page.len() as usize;
    let mut bytes = [[0; PAGE]; 2];
    // Of each side: where each part ends, and why it cannot be read.
    let mut parts: [Vec<(usize, Option<Cause>)>; 2] = Default::default();
    for ((side, bytes), parts) in sides.into_iter().zip(&mut bytes).zip(&mut parts) {
        read_pieces(side, page.start(), &mut bytes[..len], |part| {
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
struct Side<'m, A: Address> {
    memory: &'m dyn Memory<Addr = A>,
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
    fn new(memory: &'m dyn Memory<Addr = A>) -> Self {
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
    fn forget(&mut self) {
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
    fn lend(&mut self, window: AddrRange<A>, rest: AddrRange<A>) -> Option<&[u8]> {
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
            let tail = (window.start().raw() + end as u64) % PAGE as u64;
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
        read_pieces(self.memory, window.start(), buffer, |part| {
            if let Part::Hole { at, len, .. } = part {
                holes.push((at, at + len));
            }
        });
    }
}

/// Calls `on` with offset and length of each maximal run of bytes that differ.
fn each_difference(
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

/// Asks both sides about each byte: the twin of [`diff`] for tests.
#[cfg(test)]
pub(super) fn naive<A: Address>(
    before: &dyn Memory<Addr = A>,
    after: &dyn Memory<Addr = A>,
    options: &DiffOptions<A>,
) -> (Vec<Change<A>>, [u64; 3]) {
    let state = |memory: &dyn Memory<Addr = A>, at: A| {
        let mut spans = memory.spans(AddrRange::new(at, 1).expect("a byte"));
        spans
            .next()
            .map_or(State::Nothing, |span| State::of(span.kind))
    };
    let byte = |memory: &dyn Memory<Addr = A>, at: A| {
        let mut byte = [0];
        memory.read(at, &mut byte).map(|()| byte[0])
    };
    let mut rows: Vec<Change<A>> = Vec::new();
    let mut totals = [0; 3];
    let [compared, unreadable, lost] = &mut totals;
    let mut add = |at: A, kind, was, prot| {
        let same = |row: &&mut Change<A>| row.kind == kind && row.prot == prot;
        let same = |row: &&mut Change<A>| {
            same(row)
                && (kind == ChangeKind::Modified || row.was == was)
                && row.start.raw() + row.len == at.raw()
        };
        match rows.iter_mut().rev().find(same) {
            Some(row) => row.len += 1,
            None => rows.push(Change {
                start: at,
                len: 1,
                prot,
                was,
                kind,
            }),
        }
    };
    for at in options.range.start().raw()..=options.range.last().raw() {
        let at = A::new(at);
        let (one, other) = (state(before, at), state(after, at));
        let is_lost = |state| matches!(state, State::Lost(cause) if cause != Cause::NotCaptured);
        let is_left_out = |state| matches!(state, State::Lost(Cause::NotCaptured));
        if is_left_out(one) || is_left_out(other) {
            continue;
        }
        if is_lost(one) || is_lost(other) {
            *lost += 1;
            continue;
        }
        if !one.passes(options.filter) && !other.passes(options.filter) {
            continue;
        }
        match (one, other) {
            (State::Nothing, State::Mapped(prot)) => {
                add(at, ChangeKind::Appeared, Prot::NONE, prot);
            }
            (State::Mapped(was), State::Nothing) => {
                add(at, ChangeKind::Disappeared, was, Prot::NONE);
            }
            (State::Mapped(was), State::Mapped(prot)) => {
                if was != prot {
                    add(at, ChangeKind::Protection, was, prot);
                }
                match (byte(before, at), byte(after, at)) {
                    (Ok(one), Ok(other)) => {
                        *compared += 1;
                        if one != other {
                            add(at, ChangeKind::Modified, was, prot);
                        }
                    }
                    (one, other) => {
                        let left_out = |side: &Result<u8, crate::Fault<A>>| matches!(side, Err(fault) if fault.cause == Cause::NotCaptured);
                        if !left_out(&one) && !left_out(&other) {
                            *unreadable += 1;
                        }
                    }
                }
            }
            _ => {}
        }
    }
    rows.sort_by_key(|row| (row.start, row.kind));
    (rows, totals)
}
