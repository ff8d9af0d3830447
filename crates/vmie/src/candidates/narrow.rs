//! Looks again at all that a file holds.

use std::ops::ControlFlow::{self, Break, Continue};

use super::{CandidatesError, Saved, Writer};
use crate::addr::Address;
use crate::memory::{Coverage, Memory};
use crate::scan::Run;
use crate::search::{Candidate, Narrowing, Relation, Verdict};

/// A candidate that was not ruled out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Again<'v, A> {
    /// Index of its space in the file.
    pub space: usize,
    /// Where it is.
    pub addr: A,
    /// Index of its query in the file.
    pub query: usize,
    /// Its bytes as they were.
    pub old: &'v [u8],
    /// Its bytes now; `None` where they cannot be read, so that nothing is known of it.
    pub new: Option<&'v [u8]>,
}

/// What came of looking again.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[must_use = "without its coverage a search cannot tell `nothing found` from `could not look`"]
pub struct Narrowed<A> {
    /// What was looked at, for each space of the file. What was in spaces that are gone counts as unmapped.
    pub coverage: Vec<Coverage<A>>,
    /// How many candidates there were in each space, of those that were come to.
    pub candidates: Vec<u64>,
    /// How many could not be read.
    pub unread: u64,
    /// Whether it was stopped before its end.
    pub stopped: bool,
}

enum Over {
    Stopped,
    Failed(CandidatesError),
}

impl From<CandidatesError> for Over {
    fn from(error: CandidatesError) -> Self {
        Self::Failed(error)
    }
}

impl Saved {
    /// Looks at all candidates again, in the order of the file, and hands on those for which all of `relations` of their query
    /// hold, and those that cannot be read: nothing is known of them. `memories` has the memory of each space of the file,
    /// `None` of one that is gone. `next` gets what is handed on, with its bytes of now, or those of then where there are
    /// none.
    ///
    /// The run tells how many bytes of the file are done.
    ///
    /// Cost: as [`Narrowing`]; a block of the file in memory.
    ///
    /// # Errors
    ///
    /// When the file cannot be read on, or `next` not written.
    ///
    /// # Panics
    ///
    /// When there are fewer memories than spaces in the file.
    pub fn narrow<A: Address>(
        &mut self,
        memories: &[Option<&dyn Memory<Addr = A>>],
        relations: &[Vec<Relation>],
        mut next: Option<&mut Writer>,
        mut run: Run<'_>,
        mut emit: impl FnMut(Again<'_, A>) -> ControlFlow<()>,
    ) -> Result<Narrowed<A>, CandidatesError> {
        let spaces = self.header.spaces.len();
        let mut narrowed = Narrowed {
            coverage: vec![Coverage::default(); spaces],
            candidates: vec![0; spaces],
            unread: 0,
            stopped: false,
        };
        let mut current: Option<(usize, Narrowing<'_, A>)> = None;
        let done = self.each_block(|records, at| {
            if run.step(at).is_break() {
                return Err(Over::Stopped);
            }
            for records in records.chunk_by(|a, b| a.space == b.space) {
                let space = records[0].space;
                narrowed.candidates[space] += records.len() as u64;
                let candidates: Vec<Candidate<'_, A>> = records
                    .iter()
                    .map(|record| Candidate {
                        addr: A::new(record.va),
                        query: record.query,
                        old: record.value,
                    })
                    .collect();
                let mut failed = None;
                let mut take = |candidate: &Candidate<'_, A>, new: Option<&[u8]>| {
                    narrowed.unread += u64::from(new.is_none());
                    let &Candidate { addr, query, old } = candidate;
                    if let Some(next) = &mut next
                        && let Err(error) =
                            next.push(addr.raw(), space as u32, query as u16, new.unwrap_or(old))
                    {
                        failed = Some(error);
                        return Break(());
                    }
                    emit(Again {
                        space,
                        addr,
                        query,
                        old,
                        new,
                    })
                };
                let flow = match memories[space] {
                    Some(memory) => {
                        if current.as_ref().is_none_or(|(of, _)| *of != space) {
                            settle(&mut current, &mut narrowed.coverage);
                        }
                        let (_, narrowing) = current
                            .get_or_insert_with(|| (space, Narrowing::new(memory, relations)));
                        narrowing.look(&candidates, |candidate, verdict| match verdict {
                            Verdict::Fails => Continue(()),
                            Verdict::Holds(new) => take(candidate, Some(new)),
                            Verdict::Unread(_) => take(candidate, None),
                        })
                    }
                    None => {
                        let gone = &mut narrowed.coverage[space];
                        candidates.iter().try_for_each(|candidate| {
                            gone.unmapped += candidate.old.len() as u64;
                            gone.unmapped_wanted += candidate.old.len() as u64;
                            take(candidate, None)
                        })
                    }
                };
                if let Some(error) = failed {
                    return Err(Over::Failed(error));
                }
                if flow.is_break() {
                    return Err(Over::Stopped);
                }
            }
            Ok(())
        });
        settle(&mut current, &mut narrowed.coverage);
        match done {
            Ok(()) => {}
            Err(Over::Stopped) => narrowed.stopped = true,
            Err(Over::Failed(error)) => return Err(error),
        }
        Ok(narrowed)
    }
}

/// Adds up what was looked at of the space that is left.
fn settle<A: Address>(
    current: &mut Option<(usize, Narrowing<'_, A>)>,
    coverage: &mut [Coverage<A>],
) {
    if let Some((space, narrowing)) = current.take() {
        coverage[space].merge(narrowing.coverage());
    }
}
