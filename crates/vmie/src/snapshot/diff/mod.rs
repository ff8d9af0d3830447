//! What differs between two memories, byte by byte and region by region.
//!
//! The spans of both are merged into *segments* within which neither changes. What is mapped on one
//! side only has appeared or disappeared; what is mapped on both is compared by windows, in place
//! wherever both sides lend their bytes and from copies otherwise. What cannot be read on either side is
//! counted and never called equal.
//!
//! The reference implementation for tests, `naive`, asks both sides about each byte.

#[cfg(test)]
mod naive;
mod segments;
mod side;

use std::fmt;
use std::ops::ControlFlow;

use crate::addr::{AddrRange, Address};
use crate::memory::{Cause, Coverage, Memory, Prot};
use crate::scan::Run;

use super::Filter;
#[cfg(test)]
pub(super) use naive::naive;
use segments::{Segment, Segments, State};
use side::{Side, broken_page, each_difference, page_of};

/// Bytes compared at once: two of these stay in the second-level cache.
const WINDOW: u64 = 256 << 10;

/// What to compare.
#[derive(Clone, Debug)]
pub struct DiffOptions<A: Address> {
    /// Only addresses in this range.
    pub range: AddrRange<A>,
    /// Only regions that pass, before or after.
    pub filter: Filter,
}

impl<A: Address> Default for DiffOptions<A> {
    fn default() -> Self {
        Self {
            range: AddrRange::all(),
            filter: Filter::default(),
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
    /// Whether `emit`, or cancelling the run, ended it before the end.
    pub stopped: bool,
}

/// Compares two memories and passes what differs to `emit`, in the order of the addresses; where a
/// change of protection and changed bytes begin together, the protection comes first.
///
/// Changed bytes that touch and have the same protection now are one run. What is beyond the bound of the run counts as
/// lost; `emit` may end the comparison. It runs on the calling thread.
///
/// # Cost
///
/// One read of what is mapped on both sides. Memory: two windows, and none that grows with what differs.
pub fn diff<A: Address>(
    before: &dyn Memory<Addr = A>,
    after: &dyn Memory<Addr = A>,
    options: &DiffOptions<A>,
    mut run: Run<'_>,
    emit: impl FnMut(Change<A>) -> ControlFlow<()>,
) -> DiffOutcome<A> {
    diff_knowing(before, after, options, None, &mut Steps::of(&mut run), emit)
}

/// A run of which a comparison is a part.
pub(super) struct Steps<'s> {
    step: Box<dyn FnMut(u64) -> ControlFlow<()> + 's>,
    /// Bytes that may be compared.
    bound: u64,
    /// Bytes that were compared before.
    done: u64,
}

impl<'s> Steps<'s> {
    pub(super) fn of(run: &'s mut Run<'_>) -> Self {
        let bound = run.bound();
        Self {
            step: Box::new(|done| run.step(done)),
            bound,
            done: 0,
        }
    }

    /// The same, where so many bytes were compared before.
    pub(super) fn after(self, done: u64) -> Self {
        Self { done, ..self }
    }

    fn step(&mut self, read: u64) -> ControlFlow<()> {
        (self.step)(self.done.saturating_add(read))
    }
}

/// How many bytes from the beginning of a range on are known to be the same on both sides, and readable.
pub(super) type Same<'s, A> = dyn Fn(AddrRange<A>) -> u64 + 's;

/// As [`diff`]; what `same` knows is not looked at, and the rest is read by the page.
pub(super) fn diff_knowing<A: Address>(
    before: &dyn Memory<Addr = A>,
    after: &dyn Memory<Addr = A>,
    options: &DiffOptions<A>,
    same: Option<&Same<'_, A>>,
    steps: &mut Steps<'_>,
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
        left: steps.bound,
        same,
    };
    let mut flow = ControlFlow::Continue(());
    for segment in Segments::new(before, after, options.range) {
        flow = compare.segment(&segment, options.filter, &mut rows, steps);
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
    same: Option<&'m Same<'m, A>>,
}

impl<A: Address> Compare<'_, A> {
    fn segment<E: FnMut(Change<A>) -> ControlFlow<()>>(
        &mut self,
        segment: &Segment<A>,
        filter: Filter,
        rows: &mut Rows<A, E>,
        steps: &mut Steps<'_>,
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
                let coverage = &mut self.outcome.coverage;
                match cause.is_away() {
                    true => coverage.add_absent(start, len, cause),
                    false => coverage.add_lost(start, len, cause),
                }
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
            steps.step(self.outcome.coverage.read)?;
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
        if self.same.is_some_and(|same| same(window) == window.len()) {
            coverage.add_read(window.len());
            return ControlFlow::Continue(());
        }
        let mut differ = |at: A, one: &[u8], other: &[u8]| {
            coverage.add_read(one.len() as u64);
            each_difference(one, other, &mut |from, len| {
                *modified += len as u64;
                on(A::new(at.raw() + from as u64), len as u64)
            })
        };
        self.before.forget();
        self.after.forget();
        if self.same.is_none()
            && let (Some(one), Some(other)) = (
                self.before.memory.borrow(window),
                self.after.memory.borrow(window),
            )
        {
            return differ(window.start(), one, other);
        }
        let (mut at, mut known) = (window.start(), 0);
        loop {
            let rest = AddrRange::inclusive(at, window.last()).expect("within the window");
            let lent = match self.same {
                // To fill a window for a page that differs would cost more than the page.
                Some(_) => (None, None),
                None => (
                    self.before.lend(window, rest),
                    self.after.lend(window, rest),
                ),
            };
            let page = page_of(rest);
            let done = match lent {
                _ if self.same.is_some_and(|same| same(page) == page.len()) => {
                    known += page.len();
                    page.len()
                }
                (Some(one), Some(other)) => {
                    let len = one.len().min(other.len());
                    differ(at, &one[..len], &other[..len])?;
                    len as u64
                }
                _ => {
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
        self.outcome.coverage.add_read(known);
        for (part, cause) in missing {
            let coverage = &mut self.outcome.coverage;
            coverage.add_absent(part.start(), part.len(), cause);
        }
        ControlFlow::Continue(())
    }
}
