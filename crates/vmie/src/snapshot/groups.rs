//! Which bytes tell groups of snapshots apart: constant within each group, different between all of them.
//!
//! That is how the variable behind an event is found: some snapshots before it, some after it, and what
//! stays the same on either side and differs across.
//!
//! The reference implementation for tests asks every snapshot about each byte.

use std::ops::ControlFlow;

use crate::addr::{AddrRange, Address};
use crate::memory::{Coverage, Memory, SpanKind};
use crate::scan::Run;
use crate::sweep::{Part, read_pieces};

use super::DiffOptions;
use super::diff::Same;
use super::layout::SNAPSHOT_PAGE;

/// Bytes looked at once, of each snapshot: some dozens of snapshots stay in the second-level cache.
const WINDOW: u64 = 16 << 10;

/// What became of a comparison of groups.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "without its coverage a comparison cannot tell `no such bytes` from `could not look`"]
pub struct GroupsOutcome<A> {
    /// Of the bytes that the first snapshot maps: those read in every snapshot (`read`), those that some
    /// moment could not give, for whatever cause (`absent`), and what is not known to be mapped in the
    /// first snapshot or lies beyond the bound of the run (`lost`). A byte that is not mapped in the
    /// first snapshot cannot be constant in its group and is not counted.
    pub coverage: Coverage<A>,
    /// Bytes that tell the groups apart.
    pub telling: u64,
    /// Whether `emit`, or cancelling the run, ended it before the end.
    pub stopped: bool,
}

/// Passes to `emit` the runs of bytes that are constant within each group of snapshots and different
/// between any two groups, in order and as long as they are.
///
/// A byte that cannot be read in some snapshot is not constant; it is counted in the coverage. The filter
/// of `options` is asked about the protection in the first snapshot. With a single group, runs are what is
/// constant; groups without a snapshot are left out, and without any snapshot there is nothing to look at.
/// `emit` may end the comparison, which runs on the calling thread. The bytes of a run can be read from any snapshot of each group.
///
/// # Cost
///
/// At most one read of each snapshot, of what the first one maps. Memory: a window for each snapshot, and none
/// that grows with what is found.
pub fn tell_apart<A: Address>(
    groups: &[Vec<&dyn Memory<Addr = A>>],
    options: &DiffOptions<A>,
    mut run: Run<'_>,
    emit: impl FnMut(AddrRange<A>) -> ControlFlow<()>,
) -> GroupsOutcome<A> {
    tell_apart_knowing(groups, options, None, &mut run, emit)
}

/// As [`tell_apart`]; what `same` knows to be the same in all snapshots is not looked at.
pub(super) fn tell_apart_knowing<A: Address>(
    groups: &[Vec<&dyn Memory<Addr = A>>],
    options: &DiffOptions<A>,
    same: Option<&Same<'_, A>>,
    run: &mut Run<'_>,
    mut emit: impl FnMut(AddrRange<A>) -> ControlFlow<()>,
) -> GroupsOutcome<A> {
    let mut outcome = GroupsOutcome {
        coverage: Coverage::default(),
        telling: 0,
        stopped: false,
    };
    let mut open: Option<AddrRange<A>> = None;
    let mut flow = look(groups, options, same, run, &mut outcome, &mut |run| {
        if let Some(before) = &mut open
            && before.last().checked_add(1) == Some(run.start())
            && let Some(joined) = AddrRange::inclusive(before.start(), run.last())
        {
            *before = joined;
            return ControlFlow::Continue(());
        }
        open.replace(run)
            .map_or(ControlFlow::Continue(()), &mut emit)
    });
    if flow.is_continue() {
        flow = open.map_or(ControlFlow::Continue(()), &mut emit);
    }
    outcome.stopped = flow.is_break();
    outcome
}

/// Everything but joining the runs that touch.
fn look<A: Address>(
    groups: &[Vec<&dyn Memory<Addr = A>>],
    options: &DiffOptions<A>,
    same: Option<&Same<'_, A>>,
    run: &mut Run<'_>,
    outcome: &mut GroupsOutcome<A>,
    on: &mut impl FnMut(AddrRange<A>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let Some(&first) = groups.iter().flatten().next() else {
        return ControlFlow::Continue(());
    };
    let mut window = Window::new(groups);
    let mut left = run.bound();
    for span in first.spans(options.range).filter(|span| span.len > 0) {
        let prot = match span.kind {
            SpanKind::Mapped(prot) => prot,
            // Nobody asked the snapshot about this.
            SpanKind::Lost(crate::Cause::NotCaptured) => continue,
            SpanKind::Lost(cause) => {
                outcome.coverage.add_lost(span.start, span.len, cause);
                continue;
            }
            SpanKind::Away(prot, cause) => {
                if options.filter.passes(prot) {
                    outcome.coverage.add_absent(span.start, span.len, cause);
                }
                continue;
            }
        };
        if !options.filter.passes(prot) {
            continue;
        }
        let mut at = 0;
        while at < span.len {
            let here = A::new(span.start.raw() + at);
            // Windows end at multiples of their size, so that pages are never cut.
            let len = (WINDOW - here.raw() % WINDOW).min(span.len - at);
            if len > left {
                let cause = crate::Cause::Limit;
                outcome.coverage.add_lost(here, span.len - at, cause);
                break;
            }
            left -= len;
            let range = AddrRange::new(here, len).expect("within the span");
            if same.is_some_and(|same| same(range) == len) {
                outcome.coverage.add_read(len);
                at += len;
                run.step(outcome.coverage.read)?;
                continue;
            }
            window.fill(here, len as usize, &mut outcome.coverage);
            window.runs(&mut |from, len| {
                outcome.telling += len as u64;
                let start = A::new(here.raw() + from as u64);
                on(AddrRange::new(start, len as u64).expect("within the window"))
            })?;
            at += len;
            run.step(outcome.coverage.read)?;
        }
    }
    ControlFlow::Continue(())
}

/// One moment, and a window of it.
type Moment<'m, A> = (&'m dyn Memory<Addr = A>, Vec<u8>);

/// The same addresses in all snapshots.
struct Window<'m, A: Address> {
    /// Group by group, without those that are empty.
    moments: Vec<Vec<Moment<'m, A>>>,
    /// Why a byte cannot be read in the first snapshot that cannot give it.
    unread: Vec<Option<crate::Cause>>,
    len: usize,
}

impl<'m, A: Address> Window<'m, A> {
    fn new(groups: &[Vec<&'m dyn Memory<Addr = A>>]) -> Self {
        let groups = groups.iter().filter(|group| !group.is_empty());
        let moments = groups.map(|group| {
            let moments = group.iter();
            moments
                .map(|&memory| (memory, vec![0; WINDOW as usize]))
                .collect()
        });
        Self {
            moments: moments.collect(),
            unread: vec![None; WINDOW as usize],
            len: 0,
        }
    }

    fn fill(&mut self, start: A, len: usize, coverage: &mut Coverage<A>) {
        self.len = len;
        let unread = &mut self.unread[..len];
        unread.fill(None);
        for (memory, buffer) in self.moments.iter_mut().flatten() {
            read_pieces(*memory, start, &mut buffer[..len], &mut |part| {
                if let Part::Hole { at, len, fault } = part {
                    for cause in &mut unread[at..at + len] {
                        cause.get_or_insert(fault.cause);
                    }
                }
            });
        }
        let mut at = 0;
        for same in unread.chunk_by(|one, next| one == next) {
            let (from, count) = (A::new(start.raw() + at), same.len() as u64);
            match same[0] {
                None => coverage.add_read(count),
                Some(cause) => coverage.add_absent(from, count, cause),
            }
            at += count;
        }
    }

    /// Calls `on` with offset and length of each maximal run of bytes that tell the groups apart.
    fn runs(&self, on: &mut impl FnMut(usize, usize) -> ControlFlow<()>) -> ControlFlow<()> {
        let mut run: Option<usize> = None;
        for at in (0..self.len).step_by(SNAPSHOT_PAGE) {
            let end = (at + SNAPSHOT_PAGE).min(self.len);
            // Most pages never change, and nothing tells that faster than the comparison of slices.
            let same = match &self.moments[..] {
                [one, other, ..] => one[0].1[at..end] == other[0].1[at..end],
                _ => false,
            };
            for at in at..end {
                match (!same && self.tells(at), run) {
                    (true, None) => run = Some(at),
                    (false, Some(start)) => {
                        on(start, at - start)?;
                        run = None;
                    }
                    _ => {}
                }
                if same {
                    break;
                }
            }
        }
        run.map_or(ControlFlow::Continue(()), |start| {
            on(start, self.len - start)
        })
    }

    fn tells(&self, at: usize) -> bool {
        if self.unread[at].is_some() {
            return false;
        }
        // Which of the 256 values some group has already.
        let mut taken = [0u64; 4];
        self.moments.iter().all(|group| {
            let value = group[0].1[at];
            let (word, bit) = (usize::from(value / 64), 1 << (value % 64));
            let is_new = taken[word] & bit == 0;
            taken[word] |= bit;
            is_new && group.iter().all(|(_, bytes)| bytes[at] == value)
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::tests::any_moved;
    use super::*;
    use crate::addr::Gva;
    use crate::scan::Run;
    use crate::testmem::TestMemory;

    type Test = TestMemory<Gva>;

    /// Every moment, asked about each byte: addresses that tell, and how many were read in all snapshots,
    /// not read in some, and lost in the first.
    fn naive(
        groups: &[Vec<&dyn Memory<Addr = Gva>>],
        range: AddrRange<Gva>,
    ) -> (Vec<u64>, [u64; 3]) {
        let (mut telling, mut totals) = (Vec::new(), [0; 3]);
        for at in range.start().0..=range.last().0 {
            let one = AddrRange::new(Gva(at), 1).unwrap();
            match groups[0][0].spans(one).next().map(|span| span.kind) {
                None => continue,
                Some(SpanKind::Lost(_) | SpanKind::Away(..)) => {
                    totals[2] += 1;
                    continue;
                }
                Some(SpanKind::Mapped(_)) => {}
            }
            let read = |memory: &&dyn Memory<Addr = Gva>| {
                let mut byte = [0];
                memory.read(Gva(at), &mut byte).ok().map(|()| byte[0])
            };
            let values = |group: &Vec<_>| group.iter().map(read).collect::<Option<Vec<_>>>();
            let Some(values) = groups.iter().map(values).collect::<Option<Vec<_>>>() else {
                totals[1] += 1;
                continue;
            };
            totals[0] += 1;
            let constant = values
                .iter()
                .all(|group| group.iter().all(|&value| value == group[0]));
            let differ = (0..values.len()).all(|i| (0..i).all(|j| values[i][0] != values[j][0]));
            if constant && differ {
                telling.push(at);
            }
        }
        (telling, totals)
    }

    /// A memory at several snapshots: some bytes of it take one of few values at each, some snapshots are
    /// those of another memory.
    pub(in super::super) fn moments() -> impl Strategy<Value = Vec<Test>> {
        let edits = prop::collection::vec((0usize..0x1000, 1usize..40, 0u8..3), 0..8);
        let moment = (prop::bool::weighted(0.1), edits);
        let moments = prop::collection::vec(moment, 6);
        (any_moved(), any_moved(), moments).prop_map(|(base, other, moments)| {
            let made = moments.into_iter().map(|(strange, edits)| {
                let mut memory = if strange { other.clone() } else { base.clone() };
                for part in &mut memory.parts {
                    for &(at, len, value) in &edits {
                        part.bytes
                            .iter_mut()
                            .skip(at)
                            .take(len)
                            .for_each(|byte| *byte = value);
                    }
                }
                memory
            });
            made.collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn what_tells_groups_apart_is_what_the_reference_says(
            moments in moments(),
            letters in prop::collection::vec(0usize..3, 6),
        ) {
            let mut groups: Vec<Vec<&dyn Memory<Addr = Gva>>> = vec![Vec::new(); 3];
            for (memory, group) in moments.iter().zip(letters) {
                groups[group].push(memory);
            }
            let range = AddrRange::new(Gva(0x3c000), 0xc000).unwrap();
            let options = DiffOptions { range, ..DiffOptions::default() };
            let mut runs: Vec<AddrRange<Gva>> = Vec::new();
            let outcome = tell_apart(&groups, &options, Run::new(), |run| {
                runs.push(run);
                ControlFlow::Continue(())
            });
            groups.retain(|group| !group.is_empty());
            let (telling, totals) = naive(&groups, range);
            let bytes = runs.iter().flat_map(|run| run.start().0..=run.last().0);
            prop_assert_eq!(bytes.collect::<Vec<_>>(), &telling[..]);
            prop_assert!(runs.windows(2).all(|two| two[0].last().0 + 1 < two[1].start().0));
            let coverage = &outcome.coverage;
            prop_assert_eq!([coverage.read, coverage.absent, coverage.lost], totals);
            prop_assert_eq!((outcome.telling, outcome.stopped), (telling.len() as u64, false));
        }
    }

    #[test]
    fn the_variable_behind_an_event_is_found() {
        let with = |door: u8, clock: u8| {
            let mut bytes = vec![7; 0x6000];
            (bytes[0x1234], bytes[0x3fff], bytes[0x4000]) = (clock, door, door);
            Test::of(0x1000, &bytes)
        };
        let moments = [with(0, 1), with(0, 2), with(1, 3), with(1, 4)];
        let all = moments
            .each_ref()
            .map(|memory| memory as &dyn Memory<Addr = Gva>);
        let found = |groups: &[Vec<&dyn Memory<Addr = Gva>>], max_bytes| {
            let options = DiffOptions::default();
            let mut runs = Vec::new();
            let bounded = Run::new().max_bytes(max_bytes);
            let outcome = tell_apart(groups, &options, bounded, |run| {
                runs.push((run.start().0, run.len()));
                ControlFlow::Continue(())
            });
            (runs, outcome.coverage.is_complete())
        };
        let groups = [all[..2].to_vec(), all[2..].to_vec()];
        // Over the border of a page, as one run.
        assert_eq!(found(&groups, u64::MAX), (vec![(0x4fff, 2)], true));
        assert_eq!(found(&groups, 0x1000), (vec![], false));
        assert_eq!(found(&[], u64::MAX), (vec![], true));
        let stopped = tell_apart(&groups, &DiffOptions::default(), Run::new(), |_| {
            ControlFlow::Break(())
        });
        assert!(stopped.stopped);
    }
}
