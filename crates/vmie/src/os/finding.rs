//! Lists of a guest, and what did not add up while they were read.

use std::fmt;

use crate::addr::Gva;

/// Rows, and what did not add up while they were read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listing<T> {
    /// The rows.
    pub items: Vec<T>,
    /// What did not add up.
    pub findings: Vec<Finding>,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            findings: Vec::new(),
        }
    }
}

/// Something about a guest that does not add up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What sort of thing it is.
    pub kind: FindingKind,
    /// The structure it is about, where there is one.
    pub at: Option<Gva>,
    /// What was seen, in words.
    pub text: String,
}

/// The sorts of [`Finding`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum FindingKind {
    /// A structure cannot be what it should be: a link into nowhere, a loop, an absurd count.
    Damaged,
    /// One view of the guest has what another one lacks.
    Hidden,
    /// Two statements about the same thing differ.
    Inconsistent,
    /// Something could not be read, so rows may be missing.
    Unreadable,
    /// A bound on the work was reached, so rows may be missing.
    Limit,
}

impl FindingKind {
    /// One word for tables and JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Hidden => "hidden",
            Self::Inconsistent => "inconsistent",
            Self::Unreadable => "unreadable",
            Self::Limit => "limit",
        }
    }
}

impl Finding {
    /// Whether rows may be missing for it. What is hidden from one view is in the answer, and so is what two statements
    /// differ about.
    pub fn costs_rows(&self) -> bool {
        !matches!(self.kind, FindingKind::Hidden | FindingKind::Inconsistent)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.label(), self.text)?;
        match self.at {
            Some(at) => write!(f, " (at {at})"),
            None => Ok(()),
        }
    }
}
