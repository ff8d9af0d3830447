//! How much may still be walked, and what did not add up meanwhile.

use std::cell::RefCell;
use std::fmt;

use super::error::ObjectError;
use super::pointer::BadLink;
use crate::addr::Gva;
use crate::os::{Finding, FindingKind};

/// How many findings a listing keeps; of the rest, their number.
const MAX_FINDINGS: usize = 256;

/// How much more may be walked. One budget is shared by all lists of a listing: a guest can make a
/// thousand lists end in the same long one.
#[derive(Debug)]
pub struct Budget(pub usize);

impl Budget {
    /// Takes one step; whether there was one left.
    pub fn take(&mut self) -> bool {
        let left = self.0 > 0;
        self.0 = self.0.saturating_sub(1);
        left
    }
}

/// Collects findings, so that a hostile guest cannot make a million of them.
#[derive(Debug, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    dropped: usize,
}

impl Findings {
    /// Adds one, unless there are too many already: then it is only counted.
    pub fn add(&mut self, kind: FindingKind, at: Option<Gva>, text: impl Into<String>) {
        if self.kept.len() == MAX_FINDINGS {
            self.dropped += 1;
            return;
        }
        let text = text.into();
        self.kept.push(Finding { kind, at, text });
    }

    /// Something of `at` that `what` names does not lead anywhere.
    pub fn bad_link(&mut self, bad: BadLink, at: Gva, what: impl fmt::Display) {
        self.add(bad.kind(), Some(at), format!("{what} {bad}"));
    }

    /// Whether there are none so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are so far.
    pub fn len(&self) -> usize {
        self.kept.len() + self.dropped
    }

    /// Whether something could not be read, going by what came behind the first `len`.
    pub fn unreadable_since(&self, len: usize) -> bool {
        let mut since = self.kept.iter().skip(len);
        since.any(|finding| finding.kind == FindingKind::Unreadable)
    }

    /// All that were kept, and a last one that says how many were not.
    pub fn finish(mut self) -> Vec<Finding> {
        if self.dropped > 0 {
            let text = format!("{} more of these are left out", self.dropped);
            self.kept.push(Finding {
                kind: FindingKind::Limit,
                at: None,
                text,
            });
        }
        self.kept
    }
}

/// One question that is put to a guest: how far it may still walk, and what did not add up so far.
///
/// All walks of one question share it, by shared reference, so that the body of a loop over one list can walk another.
#[derive(Debug)]
pub struct Walk {
    state: RefCell<(Budget, Findings)>,
}

impl Walk {
    /// A question that may look at so many nodes, entries and pages of tables in all.
    pub fn new(steps: usize) -> Self {
        Self {
            state: RefCell::new((Budget(steps), Findings::default())),
        }
    }

    /// Notes something that does not add up.
    pub fn note(&self, kind: FindingKind, at: Option<Gva>, text: impl Into<String>) {
        self.state.borrow_mut().1.add(kind, at, text);
    }

    /// What could be read, or else a finding that names `what` it belongs to.
    pub fn keep<T>(&self, read: Result<T, ObjectError>, what: impl fmt::Display) -> Option<T> {
        read.map_err(|error| {
            self.note(error.kind(), error.at(), format!("{what}: {error}"));
        })
        .ok()
    }

    /// How many findings there are so far.
    pub fn findings(&self) -> usize {
        self.state.borrow().1.len()
    }

    /// Everything that did not add up.
    pub fn finish(self) -> Vec<Finding> {
        self.state.into_inner().1.finish()
    }

    /// Hands both parts to a walk.
    pub(crate) fn with<R>(&self, walk: impl FnOnce(&mut Budget, &mut Findings) -> R) -> R {
        let (budget, findings) = &mut *self.state.borrow_mut();
        walk(budget, findings)
    }
}
