//! How a command ends: its exit status, and the one error type that leads to it.
//!
//! The status is a contract that scripts rely on:
//!
//! | status | meaning |
//! |---|---|
//! | 0 | found, or done |
//! | 1 | looked, and there is nothing |
//! | 2 | error; also when nothing at all could be looked at |
//! | 3 | incomplete: under `--strict`, and whenever Ctrl-C stopped a search |
//!
//! "Nothing found" and "could not look" are different answers, so a verb must not answer
//! [`Done::nothing`] unless it read something. A reader that closes the pipe has seen enough: that is
//! success, and nothing is printed about it.
//!
//! An error says what was asked, what was found, and what to try, in this order; [`Failure`] has one
//! place for each.

use std::io;

use crate::interrupt;

/// Exit status for "found, or done".
pub(crate) const FOUND: u8 = 0;
/// Exit status for "looked, and there is nothing".
pub(crate) const NOTHING: u8 = 1;
/// Exit status for errors.
pub(crate) const ERROR: u8 = 2;
/// Exit status for an incomplete answer under `--strict`.
pub(crate) const INCOMPLETE: u8 = 3;

/// How a verb that ran to its end ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Done {
    /// Whether there was anything to show.
    pub(crate) found: bool,
    /// Whether everything that was asked for could be looked at.
    pub(crate) complete: bool,
}

impl Done {
    /// Something was found or done, and nothing is missing.
    pub(crate) const FOUND: Self = Self {
        found: true,
        complete: true,
    };

    /// The exit status.
    pub(crate) fn status(self, strict: bool) -> u8 {
        match self {
            Self {
                complete: false, ..
            } if strict => INCOMPLETE,
            Self { found: true, .. } => FOUND,
            Self { found: false, .. } => NOTHING,
        }
    }
}

/// What a verb returns: how it ended, or why it stopped.
pub(crate) type Result<T> = std::result::Result<T, Stop>;

/// Why a verb stopped early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The reader of the results closed the pipe: success.
    ClosedPipe,
    /// Ctrl-C, before there was any answer; what there is to say of that.
    Interrupted(Box<Failure>),
    /// An error.
    Failed(Box<Failure>),
    /// Errors that the user has been told of.
    Told,
}

/// The exit status of what ended so. What Ctrl-C cut short is incomplete for everybody.
pub(crate) fn status(ended: &Result<Done>, strict: bool) -> u8 {
    match ended {
        Ok(done) if !done.complete && interrupt::asked() => INCOMPLETE,
        Ok(done) => done.status(strict),
        Err(Stop::ClosedPipe) => FOUND,
        Err(Stop::Interrupted(_)) => INCOMPLETE,
        Err(Stop::Failed(_) | Stop::Told) => ERROR,
    }
}

impl Stop {
    /// Classifies the failure of a write to the results.
    pub(crate) fn writing(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::ClosedPipe
        } else {
            Failure::new(format!("cannot write the results: {error}")).into()
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

/// An error for the user: what was asked, what was found, what to try.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// What was asked and went wrong, one line.
    pub(crate) what: String,
    /// What was seen instead, a line each.
    pub(crate) found: Vec<String>,
    /// What to do about it, a line each.
    pub(crate) hints: Vec<String>,
}

impl Failure {
    /// An error that says what went wrong.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            found: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// Adds a line about what was seen.
    #[must_use]
    pub(crate) fn found(mut self, line: impl Into<String>) -> Self {
        self.found.push(line.into());
        self
    }

    /// Adds a line about what to try.
    #[must_use]
    pub(crate) fn hint(mut self, line: impl Into<String>) -> Self {
        self.hints.push(line.into());
        self
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)?;
        self.found
            .iter()
            .try_for_each(|found| write!(f, "; {found}"))?;
        self.hints
            .iter()
            .try_for_each(|hint| write!(f, "; try {hint}"))
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_the_contract() {
        let done = |found, complete| Done { found, complete };
        assert_eq!(done(true, true).status(false), 0);
        assert_eq!(done(false, true).status(false), 1);
        assert_eq!(done(true, false).status(false), 0);
        assert_eq!(done(false, false).status(false), 1);
        assert_eq!(done(true, true).status(true), 0);
        assert_eq!(done(false, true).status(true), 1);
        assert_eq!(done(true, false).status(true), 3);
        assert_eq!(done(false, false).status(true), 3);
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let closed = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(matches!(Stop::writing(&closed), Stop::ClosedPipe));
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert!(matches!(Stop::writing(&full), Stop::Failed(_)));
    }
}
