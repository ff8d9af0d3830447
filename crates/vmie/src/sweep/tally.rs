//! Adds up the coverage of a sweep.

use crate::addr::{AddrRange, Address};
use crate::memory::{Cause, Coverage, Gap, Memory};
use crate::sweep::look::Looked;
use crate::sweep::plan::Task;

/// Which total of the coverage a gap belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Heading {
    Absent,
    Lost,
    Unmapped,
}

impl Heading {
    /// Of a span of which nothing can be read.
    pub(super) fn of_span(cause: Cause) -> Self {
        match cause.is_away() {
            true => Self::Absent,
            false => Self::Lost,
        }
    }
}

/// Adds up the coverage in address order.
///
/// Gaps that touch and have the same kind of cause are joined here before they are counted, so that
/// the number of gaps does not depend on how windows were cut.
pub(super) struct Tally<'m, A: Address> {
    memory: &'m dyn Memory<Addr = A>,
    coverage: Coverage<A>,
    pending: Option<(Gap<A>, Heading)>,
    done: u64,
    wants_all: bool,
}

impl<'m, A: Address> Tally<'m, A> {
    pub(super) fn new(memory: &'m dyn Memory<Addr = A>) -> Self {
        Self {
            memory,
            coverage: Coverage::default(),
            pending: None,
            done: 0,
            wants_all: false,
        }
    }

    pub(super) fn read(&mut self, len: u64) {
        self.coverage.add_read(len);
    }

    /// Adds a part that touches no gap that was counted before.
    pub(super) fn merge(&mut self, part: &Coverage<A>) {
        self.flush();
        self.coverage.merge(part);
    }

    pub(super) fn window(&mut self, window: &Looked<A>) {
        self.read(window.read);
        for &hole in &window.holes {
            self.gap(hole, Heading::Absent);
        }
    }

    pub(super) fn done_with(&mut self, task: &Task<A>) -> u64 {
        self.done = self.done.saturating_add(task.owned as u64);
        self.done
    }

    /// Nothing is mapped in `range`. The spans do not say why; a read of its first byte does.
    pub(super) fn unmapped(&mut self, range: AddrRange<A>) {
        let (start, len) = (range.start(), range.len());
        match self.memory.read(start, &mut [0]) {
            Err(fault) => {
                let cause = fault.cause;
                self.gap(Gap { start, len, cause }, Heading::Unmapped);
            }
            // Mapped since it was enumerated, which happens in a live guest: no reason to give.
            Ok(()) => self.coverage.unmapped = self.coverage.unmapped.saturating_add(len),
        }
    }

    /// Has each address of the range be asked for, so that what is not mapped is missing.
    pub(super) fn want_all(&mut self) {
        self.wants_all = true;
    }

    pub(super) fn gap(&mut self, gap: Gap<A>, heading: Heading) {
        if let Some((last, last_heading)) = &mut self.pending
            && *last_heading == heading
            && last.start.checked_add(last.len) == Some(gap.start)
            && last.cause.label() == gap.cause.label()
        {
            last.len = last.len.saturating_add(gap.len);
            return;
        }
        self.flush();
        self.pending = Some((gap, heading));
    }

    fn flush(&mut self) {
        if let Some((gap, heading)) = self.pending.take() {
            count(&mut self.coverage, gap, heading, self.wants_all);
        }
    }

    /// What was counted, the last gap included.
    pub(super) fn finish(mut self) -> Coverage<A> {
        self.flush();
        self.coverage
    }

    /// As [`Tally::finish`], of what may go on.
    pub(super) fn so_far(&self) -> Coverage<A> {
        let mut coverage = self.coverage.clone();
        if let Some((gap, heading)) = self.pending {
            count(&mut coverage, gap, heading, self.wants_all);
        }
        coverage
    }
}

fn count<A: Address>(coverage: &mut Coverage<A>, gap: Gap<A>, heading: Heading, wants_all: bool) {
    let Gap { start, len, cause } = gap;
    match heading {
        Heading::Absent => coverage.add_absent(start, len, cause),
        Heading::Lost => coverage.add_lost(start, len, cause),
        Heading::Unmapped if wants_all => coverage.add_unmapped(start, len, cause),
        Heading::Unmapped => coverage.add_not_mapped(start, len, cause),
    }
}
