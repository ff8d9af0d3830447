//! Candidates: what an index keeps of code, in a form that sorts by target.
//!
//! Most are *keys*, a word each. Targets that are near to each other are in one group, which has an origin:
//!
//! ```text
//! how far the target is from the group's origin: 33 bits | how far the field is from the beginning of its GiB of code: 31 bits
//! ```

use super::CodeWindow;

/// Bits of a key that say where the field is.
pub(crate) const FIELD_BITS: u32 = 31;

/// A group's targets lie within so many bytes.
pub(crate) const SPAN: u64 = 1 << (u64::BITS - FIELD_BITS);

/// Code that begins in one of these, aligned, has its groups in common.
pub(crate) const CODE: u64 = 1 << 30;

/// How many groups of targets such a piece of code has.
pub(crate) const GROUPS: usize = 3;

/// A field that may stand for an address which no group holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Candidate {
    pub(crate) target: u64,
    pub(crate) field: u64,
}

/// What one window has.
#[derive(Debug)]
pub(crate) struct Candidates {
    /// Keys, by group, in any order. The beginning of the window cut to [`CODE`] is what fields count from, and
    /// [`Code::origins`](super::Code::origins) of it are what targets count from.
    pub(crate) keys: [Vec<u64>; GROUPS],
    /// What no group holds, in any order.
    pub(crate) far: Vec<Candidate>,
}

/// Collects candidates, window by window, on several threads.
pub(crate) trait Collector: Sync {
    /// The candidates of a window: fields of instructions that start in what it owns, and perhaps others.
    ///
    /// It may pass too much: a query decodes what it asks for. What it leaves out of a window with all its
    /// surroundings is never found, but for fields that reach no further than
    /// [`Limits::short`](super::Limits::short).
    fn collect(&self, window: &CodeWindow<'_>) -> Candidates;
}
