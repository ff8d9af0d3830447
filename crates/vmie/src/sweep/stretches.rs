//! Memory as an alternation of bytes and gaps, for whoever must see them one after the other on one thread: an output of
//! bytes, an engine that wants long pieces, a search that stops at the first find.
//!
//! The steps are those of a sweep, so holes, borders, bounds and the coverage are, too.

use std::collections::VecDeque;
use std::fmt;

use super::SweepOptions;
use super::look::{Part, read_pieces};
use super::plan::{Plan, Step};
use super::tally::{Heading, Tally};
use crate::addr::{AddrRange, Address, PAGE_SIZE};
use crate::memory::{Cause, Coverage, Gap, Memory, Prot};

/// A part of a memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stretch<'b, A: Address> {
    /// Bytes that were read. They go on where the last stretch of bytes ended if no gap was told in between and their first
    /// new address is the one behind it.
    Bytes {
        /// Address of the first of them.
        start: A,
        /// The bytes.
        bytes: &'b [u8],
        /// How many of them were in the stretch before already: look-behind.
        seen: usize,
    },
    /// Nothing could be read here. Gaps that touch may come as several.
    Gap {
        /// Where.
        range: AddrRange<A>,
        /// Why.
        cause: Cause,
    },
}

/// Goes over a memory stretch by stretch, in order of address.
///
/// [`SweepOptions::window`] says how many new bytes a stretch has at most, up to [`Stretches::LONGEST`], and
/// [`SweepOptions::behind`] how many bytes of the one before it shows again where memory goes on; look-ahead and threads mean
/// nothing here.
///
/// Cost: one pass over the bytes. What the memory cannot [lend](Memory::borrow) is copied into one buffer of a window and its
/// look-behind.
pub struct Stretches<'m, A: Address> {
    memory: &'m dyn Memory<Addr = A>,
    plan: Plan<'m, A>,
    tally: Tally<'m, A>,
    buffer: Vec<u8>,
    lent: Option<&'m [u8]>,
    /// Where the buffer begins, and how many of its bytes are look-behind.
    held: (A, usize),
    parts: VecDeque<Seen>,
    /// Where in the buffer the last stretch of bytes is.
    last: (usize, usize),
    /// What is left of a range that was not mapped when spans were listed.
    rest: Option<AddrRange<A>>,
}

/// A part of the window that is held, in offsets from its first byte.
#[derive(Clone, Copy)]
enum Seen {
    Bytes { at: usize, len: usize },
    Hole { at: usize, len: usize, cause: Cause },
}

impl<'m, A: Address> Stretches<'m, A> {
    /// A stretch has no more new bytes than this: 1 GiB.
    pub const LONGEST: usize = 1 << 30;

    /// Over what `options` select.
    pub fn new(memory: &'m dyn Memory<Addr = A>, options: &SweepOptions<A>) -> Self {
        let options = SweepOptions {
            overlap: 0,
            ..options.clone()
        };
        Self {
            memory,
            plan: Plan::within(memory, &options, Self::LONGEST),
            tally: Tally::new(memory),
            buffer: Vec::new(),
            lent: None,
            held: (A::new(0), 0),
            parts: VecDeque::new(),
            last: (0, 0),
            rest: None,
        }
    }

    /// Of that, only regions of which `keep` accepts the protection.
    #[must_use]
    pub fn keeping(mut self, keep: impl Fn(Prot) -> bool + Send + 'm) -> Self {
        self.plan.keep(Box::new(keep));
        self
    }

    /// Each address of the range is asked for: what is not mapped is missing, and not only told.
    #[must_use]
    pub fn wanting_all(mut self) -> Self {
        self.tally.want_all();
        self
    }

    /// The next stretch. Empty ones do not come.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator cannot lend what it holds"
    )]
    pub fn next(&mut self) -> Option<Stretch<'_, A>> {
        loop {
            if let Some(seen) = self.parts.pop_front() {
                let (first, behind) = self.held;
                let addr = |at: usize| {
                    let addr = first.checked_add(at as u64);
                    addr.expect("a window does not wrap")
                };
                match seen {
                    Seen::Bytes { at, len } if at + len <= behind => {}
                    Seen::Bytes { at, len } => {
                        let seen = behind.saturating_sub(at);
                        self.tally.read((len - seen) as u64);
                        let start = addr(at);
                        self.last = (at, len);
                        let bytes = self.bytes();
                        return Some(Stretch::Bytes { start, bytes, seen });
                    }
                    Seen::Hole { at, len, cause } => {
                        let (low, high) = (at.max(behind), at + len);
                        if low < high {
                            let gap = Gap {
                                start: addr(low),
                                len: (high - low) as u64,
                                cause,
                            };
                            return Some(self.gap(gap, Heading::Absent));
                        }
                    }
                }
                continue;
            }
            let step = match self.rest.take() {
                Some(rest) => Step::Unmapped(rest),
                None => self.plan.next()?,
            };
            match step {
                Step::Look(task) => {
                    let first = task.start.checked_sub(task.behind as u64);
                    let first = first.expect("look-behind lies in the run");
                    self.held = (first, task.behind);
                    self.hold(first, task.behind + task.owned);
                }
                Step::Lost(gap) => return Some(self.gap(gap, Heading::of_span(gap.cause))),
                Step::Unmapped(range) => {
                    if let Some(gap) = self.not_mapped(range) {
                        return Some(self.gap(gap, Heading::Unmapped));
                    }
                }
            }
        }
    }

    /// The bytes of the last stretch that had any.
    pub fn bytes(&self) -> &[u8] {
        let (at, len) = self.last;
        let bytes = match self.lent {
            Some(lent) => lent,
            None => &self.buffer,
        };
        bytes.get(at..at + len).unwrap_or_default()
    }

    /// Why the start of a range is not mapped, unless it is by now: a running guest may have mapped it since. Then its
    /// first page is looked at, and the rest comes next.
    fn not_mapped(&mut self, range: AddrRange<A>) -> Option<Gap<A>> {
        let (start, len) = (range.start(), range.len());
        if let Err(fault) = self.memory.read(start, &mut [0]) {
            let cause = fault.cause;
            return Some(Gap { start, len, cause });
        }
        let page = (PAGE_SIZE - start.raw() % PAGE_SIZE).min(len);
        self.plan.found(AddrRange::new(start, page)?);
        let behind = start.checked_add(page);
        self.rest = behind.and_then(|behind| AddrRange::inclusive(behind, range.last()));
        // The page comes before the rest does.
        if let Some(Step::Look(task)) = self.plan.next() {
            self.held = (task.start, 0);
            self.hold(task.start, task.owned);
        }
        None
    }

    fn gap(&mut self, gap: Gap<A>, heading: Heading) -> Stretch<'_, A> {
        self.tally.gap(gap, heading);
        let range = AddrRange::new(gap.start, gap.len).unwrap_or_else(|| {
            AddrRange::inclusive(gap.start, A::new(u64::MAX)).expect("up to the last address")
        });
        Stretch::Gap {
            range,
            cause: gap.cause,
        }
    }

    /// Gets hold of the bytes of a window.
    fn hold(&mut self, first: A, len: usize) {
        let range = AddrRange::new(first, len as u64);
        let lent = range.and_then(|range| self.memory.borrow(range));
        self.lent = lent.filter(|bytes| bytes.len() == len);
        if self.lent.is_some() {
            self.parts.push_back(Seen::Bytes { at: 0, len });
            return;
        }
        if self.buffer.len() < len {
            self.buffer.resize(len, 0);
        }
        let parts = &mut self.parts;
        read_pieces(self.memory, first, &mut self.buffer[..len], &mut |part| {
            parts.push_back(match part {
                Part::Bytes { at, bytes } => {
                    let len = bytes.len();
                    Seen::Bytes { at, len }
                }
                Part::Hole { at, len, fault } => {
                    let cause = fault.cause;
                    Seen::Hole { at, len, cause }
                }
            });
        });
    }

    /// Looks at nothing more: what is left counts as lost, by [`Cause::Limit`].
    pub fn give_up(&mut self) {
        self.plan.exhaust();
        let (first, behind) = self.held;
        for seen in self.parts.drain(..) {
            let (Seen::Bytes { at, len } | Seen::Hole { at, len, .. }) = seen;
            let low = at.max(behind);
            if let Some(start) = first.checked_add(low as u64).filter(|_| low < at + len) {
                let gap = Gap {
                    start,
                    len: (at + len - low) as u64,
                    cause: Cause::Limit,
                };
                self.tally.gap(gap, Heading::Lost);
            }
        }
    }

    /// What was looked at so far.
    pub fn coverage(&self) -> Coverage<A> {
        self.tally.so_far()
    }
}

impl<A: Address> fmt::Debug for Stretches<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stretches")
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::addr::Gva;
    use crate::sweep::{Found, quiet, sweep};
    use crate::testany::any_memory;
    use crate::testmem::TestMemory;

    proptest! {
        #[test]
        fn stretches_are_what_can_be_read(
            memory in any_memory(),
            lends: bool,
            window in 1usize..0x3000,
            behind in 0usize..0x1800,
            range in prop::option::of((0u64..0x9000, 1u64..0x6000)),
            perm in prop::sample::select(vec![Prot::NONE, Prot::W]),
            max_bytes in prop::sample::select(vec![u64::MAX, 5000]),
        ) {
            let memory: TestMemory<Gva> = memory;
            let memory = if lends { memory.lending() } else { memory };
            let range = range.and_then(|(start, len)| AddrRange::new(Gva(start), len));
            let options = SweepOptions { range, perm, window, behind, max_bytes, threads: 1, ..SweepOptions::default() };
            let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
            let mut stretches = Stretches::new(&memory, &options);
            let mut gaps = 0;
            let mut last = None;
            while let Some(stretch) = stretches.next() {
                match stretch {
                    Stretch::Bytes { start, bytes, seen } => {
                        prop_assert!(seen < bytes.len() && seen <= behind && bytes.len() - seen <= window);
                        let fresh = start.0 + seen as u64;
                        match runs.last_mut() {
                            Some((at, run)) if *at + run.len() as u64 == fresh => {
                                prop_assert_eq!(&run[run.len() - seen..], &bytes[..seen]);
                                run.extend(&bytes[seen..]);
                            }
                            _ => runs.push((fresh, bytes[seen..].to_vec())),
                        }
                        last = Some(fresh);
                    }
                    Stretch::Gap { range, .. } => {
                        prop_assert!(last.is_none_or(|last| last < range.start().0));
                        last = Some(range.last().0);
                        gaps += range.len();
                    }
                }
            }
            let outcome = sweep(&memory, &options, &mut quiet, |_, _: &mut Found<()>| (), |()| {
                std::ops::ControlFlow::Continue(())
            });
            let coverage = stretches.coverage();
            prop_assert_eq!(&coverage, &outcome.coverage);
            prop_assert_eq!(gaps, coverage.absent + coverage.lost + coverage.unmapped);
            if max_bytes == u64::MAX {
                prop_assert_eq!(runs, memory.readable(perm, range));
            }
        }
    }

    #[test]
    fn what_is_left_of_a_window_is_lost_too() {
        let memory = TestMemory::<Gva>::of(0x1000, &[7; 0x3000]).absent(0x2000, 0x1000);
        let mut stretches = Stretches::new(&memory, &SweepOptions::default());
        assert!(stretches.next().is_some());
        stretches.give_up();
        assert_eq!(stretches.next(), None);
        let coverage = stretches.coverage();
        assert_eq!((coverage.read, coverage.lost), (0x1000, 0x2000));
    }

    #[test]
    fn who_gives_up_is_told_what_was_left() {
        let memory = TestMemory::<Gva>::of(0x1000, &[7; 64]);
        let options = SweepOptions {
            window: 8,
            ..SweepOptions::default()
        };
        let mut stretches = Stretches::new(&memory, &options);
        assert!(stretches.next().is_some());
        stretches.give_up();
        while stretches.next().is_some() {}
        let coverage = stretches.coverage();
        assert_eq!((coverage.read, coverage.lost), (8, 56));
    }

    #[test]
    fn what_is_wanted_is_missing() {
        let memory = TestMemory::<Gva>::of(0x1000, &[7; 64]);
        let range = AddrRange::new(Gva(0xff0), 32);
        let options = SweepOptions {
            range,
            ..SweepOptions::default()
        };
        let end = |mut stretches: Stretches<'_, Gva>| {
            while stretches.next().is_some() {}
            stretches.coverage()
        };
        let told = end(Stretches::new(&memory, &options));
        assert_eq!((told.unmapped, told.is_complete()), (16, true));
        let missing = end(Stretches::new(&memory, &options).wanting_all());
        assert_eq!((missing.unmapped, missing.is_complete()), (16, false));
    }
}
