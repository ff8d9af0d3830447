//! The record of a search: what was looked at, and what was seen there.

use crate::os::Step;

/// How many notes, and how many token tables, are looked into before giving up.
pub(super) const MAX_CANDIDATES: usize = 64;

/// The record of a search.
#[derive(Debug, Default)]
pub(super) struct Log(Vec<Step>);

impl Log {
    /// Adds a step.
    pub(super) fn say(&mut self, name: &'static str, seen: impl Into<String>) {
        // A hostile guest can offer many wrong candidates; nobody reads more than this.
        if self.0.len() < MAX_CANDIDATES {
            let seen = seen.into();
            self.0.push(Step { name, seen });
        }
    }

    /// The steps, in order.
    pub(super) fn into_steps(self) -> Vec<Step> {
        self.0
    }
}
