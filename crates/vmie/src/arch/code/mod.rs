//! How code refers to addresses: what the search for references ([`xref`](crate::xref)) asks an architecture.
//!
//! The search knows memory, windows, targets and the order of results. What an instruction is, how long,
//! which of its bytes stand for an address, and what to look at to find it quickly, the architecture knows.
//! Only plain things go from one to the other (bytes, addresses, ranges), in one call for a window or for a
//! candidate, never for a byte.
//!
//! # How to add the code of an architecture
//!
//! 1. A variant of [`InstructionSet`](super::InstructionSet), and what [`Architecture::code`](super::Architecture::code) says of it.
//! 2. A `static` that implements [`Code`], in a folder `code/` of the architecture. A field of an instruction of fixed length is the
//!    instruction; an address that several instructions make together (a page, then an offset in it) is a reference of the
//!    last one, and [`Limits::behind`] says how far before it the others may stand.
//! 3. [`Code::naive`], the reference implementation: a plain decode from every place where an instruction can begin. It shares with
//!    the fast one what a field is, and nothing of the search.
//! 4. A table of cases in `code/tests.rs`, and in `xref/tests.rs` code and places to draw from: what is said there of windows, holes and
//!    the index holds for any instruction set.

mod candidates;
mod filter;
mod found;
mod mapped;
mod window;

use crate::addr::{AddrRange, Gva};
pub(crate) use candidates::{CODE, Candidate, Candidates, Collector, FIELD_BITS, GROUPS, SPAN};
pub use filter::FilterKind;
pub use found::{Xref, XrefKind};
pub(crate) use mapped::Mapped;
pub(crate) use window::CodeWindow;

/// What is known of an instruction set in numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Look-behind, in bytes: how far before its first byte a reference depends on what is there.
    pub(crate) behind: usize,
    /// Look-ahead, in bytes: how far behind its first byte.
    pub(crate) overlap: usize,
    /// How many bytes the target of a candidate may lie below the real one.
    pub(crate) tail: u64,
    /// Fields that reach no further than this, in bytes, are no candidates: a query looks for them around its targets
    /// ([`Code::short`]). Zero where all are.
    pub(crate) short: u64,
    /// Bytes of an instruction before such a field, which have to be there for it to be seen.
    pub(crate) short_before: u64,
}

impl Limits {
    /// The surroundings of one reference have no more bytes than this.
    pub(crate) const AROUND: usize = 128;

    /// The same, looked at by the compiler.
    ///
    /// # Panics
    ///
    /// When the surroundings are too large.
    pub(crate) const fn checked(self) -> Self {
        assert!(self.behind + self.overlap < Self::AROUND);
        self
    }
}

/// What an architecture knows about one instruction set.
pub(crate) trait Code: Sync {
    /// What of it is numbers.
    fn limits(&self) -> &'static Limits;

    /// Passes on what refers to one of the targets in a window, in any order, and perhaps more than once. What
    /// starts in what the window owns has to be there; what starts elsewhere may be.
    fn references(
        &self,
        window: &CodeWindow<'_>,
        targets: &[AddrRange<Gva>],
        filter: FilterKind,
        on: &mut dyn FnMut(Xref),
    );

    /// The reference whose field is at `field`, an offset in the window, if it stands for one of the targets.
    fn resolve(
        &self,
        window: &CodeWindow<'_>,
        field: usize,
        targets: AddrRange<Gva>,
    ) -> Option<Xref>;

    /// Passes on the offsets of fields that reach no further than [`Limits::short`] and may stand for one of the targets.
    fn short(&self, start: Gva, bytes: &[u8], targets: AddrRange<Gva>, on: &mut dyn FnMut(usize));

    /// What targets count from, group by group, in code from `code` on, a multiple of [`CODE`].
    fn origins(&self, code: u64) -> [u64; GROUPS];

    /// What collects candidates for targets that are mapped.
    fn collector(&self, mapped: Mapped, filter: FilterKind) -> Box<dyn Collector>;

    /// All references to the targets in bytes that are all there is, by address, then by field: by a decode from
    /// every place, for tests that compare.
    #[cfg(test)]
    fn naive(&self, start: Gva, bytes: &[u8], targets: AddrRange<Gva>) -> Vec<Xref>;
}
