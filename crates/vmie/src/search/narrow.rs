//! Looks again at places where something was found before.
//!
//! Candidates come by the tens of millions, a thousand of them on a page, so they are read by the page:
//! those that follow one another closely and start on the same page are one read, from the first byte of the
//! first to the last byte of the last. Where that read stops, the candidates before the hole have been read, those
//! across it are unread, and a new read begins behind. One read for each candidate is the reference implementation
//! that tests compare this with.
//!
//! What cannot be read is not judged: it is neither changed nor unchanged.

use std::ops::ControlFlow::{self, Continue};

use super::relation::Relation;
use crate::addr::{Address, PAGE_SIZE};
use crate::memory::{Cause, Coverage, Fault, Memory};

/// Candidates are read together when they start on the same page, and no more bytes than this lie between them: a read
/// costs as much as a few cache lines.
const GAP: u64 = 256;

/// A place where something was found at an earlier moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate<'v, A> {
    /// Where it is.
    pub addr: A,
    /// Index of the query that found it.
    pub query: usize,
    /// The bytes as they were; as many are looked at now.
    pub old: &'v [u8],
}

/// What became of a candidate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict<'n, A: Address> {
    /// Everything that is asked holds. These are its bytes now.
    Holds(&'n [u8]),
    /// Something that is asked does not hold.
    Fails,
    /// It could not be looked at.
    Unread(Fault<A>),
}

/// Looks at candidates again, batch by batch, and adds up what could be read.
///
/// Cost: one read for each page that is full of candidates, or for each of few; ten to twenty nanoseconds for
/// a candidate. Memory: a page, and the longest candidate.
pub struct Narrowing<'m, A: Address> {
    memory: &'m dyn Memory<Addr = A>,
    relations: &'m [Vec<Relation>],
    coverage: Coverage<A>,
    /// The first address that is not counted in the coverage.
    counted: A,
    buffer: Vec<u8>,
}

impl<'m, A: Address> Narrowing<'m, A> {
    /// Looks at `memory`; of a candidate of query `q` all of `relations[q]` must hold.
    pub fn new(memory: &'m dyn Memory<Addr = A>, relations: &'m [Vec<Relation>]) -> Self {
        Self {
            memory,
            relations,
            coverage: Coverage::default(),
            counted: A::new(0),
            buffer: Vec::new(),
        }
    }

    /// Looks at `candidates` and passes each to `emit` with what became of it, in their order, until that
    /// breaks. Those of a query without relations hold.
    ///
    /// They should ascend by address, within a batch and from batch to batch. If they do not, verdicts are
    /// right all the same; it takes longer, and bytes that candidates share are counted more than once or
    /// not at all.
    pub fn look<'v>(
        &mut self,
        candidates: &[Candidate<'v, A>],
        mut emit: impl FnMut(&Candidate<'v, A>, Verdict<'_, A>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut at = 0;
        while at < candidates.len() {
            let (count, len) = together(&candidates[at..]);
            let group = &candidates[at..at + count];
            if self.buffer.len() < len {
                self.buffer.resize(len, 0);
            }
            at += match self.memory.read(group[0].addr, &mut self.buffer[..len]) {
                Ok(()) if len > 0 => self.judge(group, len, &mut emit)?,
                Ok(()) => {
                    // Goes beyond all addresses.
                    let (addr, cause) = (group[0].addr, Cause::NonCanonical);
                    self.judge_to(group, 0, Fault { addr, cause }, &mut emit)?
                }
                Err(fault) => self.judge_to(group, len, fault, &mut emit)?,
            };
        }
        Continue(())
    }

    /// Judges a group that was read as a whole, and says how many that are.
    fn judge<'v>(
        &mut self,
        group: &[Candidate<'v, A>],
        len: usize,
        emit: &mut impl FnMut(&Candidate<'v, A>, Verdict<'_, A>) -> ControlFlow<()>,
    ) -> ControlFlow<(), usize> {
        let bytes = &self.buffer[..len];
        let start = group[0].addr.raw();
        let mut read = 0;
        let mut flow = Continue(());
        for candidate in group {
            let at = candidate.addr.raw();
            let new = &bytes[(at - start) as usize..][..candidate.old.len()];
            let end = at.saturating_add(new.len() as u64);
            let counted = self.counted.raw().clamp(at, end);
            read += end - counted;
            self.counted = self.counted.max(A::new(end));
            let holds = all_hold(self.relations, candidate, new);
            let verdict = if holds {
                Verdict::Holds(new)
            } else {
                Verdict::Fails
            };
            flow = emit(candidate, verdict);
            if flow.is_break() {
                break;
            }
        }
        if read > 0 {
            self.coverage.add_read(read);
        }
        flow?;
        Continue(group.len())
    }

    /// Judges a group of which the read has stopped, up to the first candidate behind that place, of which
    /// it says nothing, and says how many those are: at least one.
    fn judge_to<'v>(
        &mut self,
        group: &[Candidate<'v, A>],
        len: usize,
        stop: Fault<A>,
        emit: &mut impl FnMut(&Candidate<'v, A>, Verdict<'_, A>) -> ControlFlow<()>,
    ) -> ControlFlow<(), usize> {
        let start = group[0].addr.raw();
        for (index, candidate) in group.iter().enumerate() {
            if index > 0 && stop.addr < candidate.addr {
                return Continue(index);
            }
            let at = candidate.addr.raw();
            let good = stop.addr.raw().saturating_sub(at);
            let new = self.buffer[..len].get((at - start) as usize..);
            let new = new.and_then(|rest| rest.get(..candidate.old.len()));
            let new = new.filter(|new| new.len() as u64 <= good);
            let fault = new.is_none().then_some(stop);
            count(&mut self.coverage, &mut self.counted, candidate, fault);
            let verdict = match new {
                None => Verdict::Unread(stop),
                Some(new) if all_hold(self.relations, candidate, new) => Verdict::Holds(new),
                Some(_) => Verdict::Fails,
            };
            emit(candidate, verdict)?;
        }
        Continue(group.len())
    }

    /// What was looked at so far: the bytes of candidates, each once.
    pub fn coverage(&self) -> &Coverage<A> {
        &self.coverage
    }
}

#[inline]
fn all_hold<A>(relations: &[Vec<Relation>], candidate: &Candidate<'_, A>, new: &[u8]) -> bool {
    let relations = relations.get(candidate.query);
    relations.is_none_or(|all| all.iter().all(|one| one.holds(candidate.old, new)))
}

/// Counts the bytes of a candidate that begin at `counted` or behind it, and moves that on.
fn count<A: Address>(
    coverage: &mut Coverage<A>,
    counted: &mut A,
    candidate: &Candidate<'_, A>,
    fault: Option<Fault<A>>,
) {
    let end = candidate
        .addr
        .raw()
        .saturating_add(candidate.old.len() as u64);
    let from = candidate.addr.max(*counted).raw();
    if from >= end {
        return;
    }
    *counted = A::new(end);
    let bad = fault.map_or(end, |fault| fault.addr.raw().clamp(from, end));
    if from < bad {
        coverage.add_read(bad - from);
    }
    if let Some(fault) = fault.filter(|_| bad < end) {
        coverage.add_gap(A::new(bad), end - bad, fault.cause);
    }
}

/// How many candidates at the front are read together, at least one, and how many bytes that takes: none
/// for one that goes beyond all addresses.
fn together<A: Address>(candidates: &[Candidate<'_, A>]) -> (usize, usize) {
    let mut len = 0;
    let mut start = None;
    for (count, candidate) in candidates.iter().enumerate() {
        let at = candidate.addr.raw();
        let size = candidate.old.len();
        let start = *start.get_or_insert(at);
        let near =
            at >= start && at / PAGE_SIZE == start / PAGE_SIZE && at - start <= len as u64 + GAP;
        let fits = at.checked_add((size as u64).saturating_sub(1)).is_some();
        if !near || !fits {
            return (count.max(1), len);
        }
        len = len.max((at - start) as usize + size);
    }
    (candidates.len(), len)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow::Break;

    use proptest::prelude::*;

    use super::*;
    use crate::addr::Gva;
    use crate::memory::Prot;
    use crate::search::{ValueQuery, ValueType};
    use crate::testmem::TestMemory;

    #[derive(Clone, PartialEq, Debug)]
    enum Seen {
        Holds(Vec<u8>),
        Fails,
        Unread(Fault<Gva>),
    }

    impl From<Verdict<'_, Gva>> for Seen {
        fn from(verdict: Verdict<'_, Gva>) -> Self {
            match verdict {
                Verdict::Holds(new) => Self::Holds(new.to_vec()),
                Verdict::Fails => Self::Fails,
                Verdict::Unread(fault) => Self::Unread(fault),
            }
        }
    }

    /// One read for each candidate.
    fn naive(
        memory: &TestMemory<Gva>,
        relations: &[Vec<Relation>],
        candidates: &[Candidate<'_, Gva>],
    ) -> Vec<Seen> {
        let look = |candidate: &Candidate<'_, Gva>| {
            let mut new = vec![0; candidate.old.len()];
            if let Err(fault) = memory.read(candidate.addr, &mut new) {
                return Seen::Unread(fault);
            }
            let all = &relations[candidate.query];
            let holds = all.iter().all(|one| one.holds(candidate.old, &new));
            if holds { Seen::Holds(new) } else { Seen::Fails }
        };
        candidates.iter().map(look).collect()
    }

    fn seen(narrowing: &mut Narrowing<'_, Gva>, candidates: &[Candidate<'_, Gva>]) -> Vec<Seen> {
        let mut all = Vec::new();
        let flow = narrowing.look(candidates, |_, verdict| {
            all.push(verdict.into());
            Continue(())
        });
        assert!(flow.is_continue());
        all
    }

    fn relation() -> impl Strategy<Value = Relation> {
        prop_oneof![
            Just(Relation::Changed),
            Just(Relation::Unchanged),
            Just(Relation::Increased(ValueType::U16)),
            Just(Relation::Decreased(ValueType::I8)),
            Just(Relation::Equal(
                ValueQuery::parse(ValueType::U16, "1..300").unwrap()
            )),
            Just(Relation::StartsWith(vec![1])),
        ]
    }

    proptest! {
        #[test]
        fn batches_see_what_single_reads_see(
            bytes in prop::collection::vec(0u8..3, 3 * 4096),
            start in prop::sample::select(vec![0u64, 0x1000, 0x1ffa]),
            holes in prop::collection::vec((0u64..3 * 4096, 1u64..5000), 0..3),
            places in prop::collection::vec(
                (0u64..4 * 4096, 0usize..2, prop::collection::vec(0u8..3, 0..12)), 0..60),
            relations in prop::collection::vec(prop::collection::vec(relation(), 0..2), 2),
            sorted: bool,
            batch in 1usize..70,
        ) {
            let mut memory = TestMemory::<Gva>::new();
            // Two regions with a gap between them.
            memory = memory.part(start, &bytes[..4096], Prot::RWX);
            memory = memory.part(start + 8192, &bytes[4096..], Prot::RWX);
            for (at, len) in holes {
                memory = memory.absent(start + at, len);
            }
            let mut places = places;
            if sorted {
                places.sort();
            }
            let candidates: Vec<Candidate<'_, Gva>> = places
                .iter()
                .map(|(at, query, old)| Candidate { addr: Gva(start + at), query: *query, old })
                .collect();
            let naive = naive(&memory, &relations, &candidates);
            let mut narrowing = Narrowing::new(&memory, &relations);
            let mut all = Vec::new();
            for part in candidates.chunks(batch) {
                all.extend(seen(&mut narrowing, part));
            }
            prop_assert_eq!(&all, &naive);
            let coverage = narrowing.coverage();
            prop_assert_eq!(coverage.mapped, coverage.read + coverage.absent);
            if sorted {
                // Each byte of a candidate once, up to where it could not be read.
                let mut bytes = std::collections::BTreeSet::new();
                for candidate in &candidates {
                    bytes.extend(candidate.addr.0..candidate.addr.0 + candidate.old.len() as u64);
                }
                prop_assert_eq!(coverage.mapped + coverage.unmapped, bytes.len() as u64);
                let bad = all.iter().any(|one| matches!(one, Seen::Unread(_)));
                prop_assert_eq!(bad, !coverage.is_complete());
            }
        }
    }

    #[test]
    fn the_end_of_all_addresses_is_no_trap() {
        let memory = TestMemory::<Gva>::of(u64::MAX - 0xfff, &[7; 0x1000]);
        let relations = [vec![Relation::Unchanged]];
        let at = |addr| Candidate {
            addr: Gva(addr),
            query: 0,
            old: &[7; 4],
        };
        let mut narrowing = Narrowing::new(&memory, &relations);
        let candidates = [u64::MAX - 4, u64::MAX - 3, u64::MAX - 2, u64::MAX].map(at);
        let seen = seen(&mut narrowing, &candidates);
        assert_eq!(seen[0], Seen::Holds(vec![7; 4]));
        assert_eq!(seen[1], Seen::Holds(vec![7; 4]));
        assert!(matches!(seen[2], Seen::Unread(_)));
        assert!(matches!(seen[3], Seen::Unread(_)));
    }

    #[test]
    fn it_stops_when_told() {
        let memory = TestMemory::<Gva>::of(0x1000, &[0; 64]);
        let candidates = [0x1000, 0x1001, 0x1002].map(|addr| Candidate {
            addr: Gva(addr),
            query: 0,
            old: &[0],
        });
        let relations = [Vec::new()];
        let mut narrowing = Narrowing::new(&memory, &relations);
        let mut count = 0;
        let flow = narrowing.look(&candidates, |_, _| {
            count += 1;
            if count == 2 { Break(()) } else { Continue(()) }
        });
        assert!(flow.is_break());
        assert_eq!((count, narrowing.coverage().read), (2, 2));
    }
}
