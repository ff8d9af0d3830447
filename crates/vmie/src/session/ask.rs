//! The shortest way to the three questions that are asked most: what occurs here, what changed, how is it reached.
//!
//! Each is the engine's own function over [`Space::user_range`], with its usual options; whoever wants others calls it.

use std::ops::ControlFlow;

use super::space::{Space, SpaceError, Target};
use crate::addr::Gva;
use crate::pointers::{PointerMap, PointerOptions};
use crate::scan::{Outcome, Run, Selection, scan};
use crate::snapshot::{Change, DiffOptions, DiffOutcome, diff};
use crate::sweep::Scanner;

/// What changed between two moments.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Changes {
    /// The changes, by address.
    pub items: Vec<Change<Gva>>,
    /// What was compared, and what could not be.
    pub outcome: DiffOutcome<Gva>,
}

impl Changes {
    /// Whether all that is mapped on both sides was compared.
    pub fn is_complete(&self) -> bool {
        !self.outcome.stopped && self.outcome.coverage.is_complete()
    }
}

impl Space<'_> {
    /// Sends a scanner over what [`Space::user_range`] says is meant, and collects what it finds. Physical memory
    /// has [`scan()`] and [`Session::physical`](super::Session::physical).
    ///
    /// # Errors
    ///
    /// [`SpaceError::NotVirtual`].
    pub fn scan<S: Scanner + ?Sized>(
        &self,
        scanner: &S,
        run: Run<'_>,
    ) -> Result<Outcome<Gva, S::Item>, SpaceError> {
        // Nobody expects all of a space to be mapped.
        let selection = Selection::all().part(self.user_range());
        match &self.target {
            Target::Physical(_) => Err(SpaceError::NotVirtual),
            Target::Virtual(space) => Ok(scan(space, scanner, &selection, run)),
            Target::Saved(snapshot) => Ok(scan(&**snapshot, scanner, &selection, run)),
        }
    }

    /// What changed from this space to the same one in a later image.
    ///
    /// Cost: one pass over both, except where they share what they read.
    ///
    /// # Errors
    ///
    /// [`SpaceError::NotVirtual`], where one of them is physical memory.
    pub fn changes(&self, later: &Space<'_>) -> Result<Changes, SpaceError> {
        let before = self.by_virtual().ok_or(SpaceError::NotVirtual)?;
        let after = later.by_virtual().ok_or(SpaceError::NotVirtual)?;
        let options = DiffOptions {
            range: self.part(),
            ..DiffOptions::default()
        };
        let mut items = Vec::new();
        let outcome = diff(before, after, &options, Run::new(), |change| {
            items.push(change);
            ControlFlow::Continue(())
        });
        Ok(Changes { items, outcome })
    }

    /// All pointers of this space, by where they lead.
    ///
    /// # Errors
    ///
    /// [`SpaceError::NotVirtual`], and [`SpaceError::Pointers`] when they are too many.
    pub fn pointers(&self) -> Result<PointerMap<Gva>, SpaceError> {
        let options = PointerOptions {
            range: self.user_range(),
            width: self.width(),
            ..PointerOptions::default()
        };
        let memory = self.by_virtual().ok_or(SpaceError::NotVirtual)?;
        PointerMap::build(memory, &options, Run::new()).map_err(SpaceError::Pointers)
    }
}
