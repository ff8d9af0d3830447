//! Code references: which instructions refer to an address.
//!
//! Decoding everything finds them and is slow, and it would have to be done from every byte, for nobody
//! knows where code begins. So it is done the other way round:
//!
//! ```text
//! filter   every position of four bytes that could refer there     additions and comparisons, in vectors
//! resolve  of these, the instructions that really do               decoded from each possible start
//! ```
//!
//! # What a reference is
//!
//! A **field** of four or eight bytes (one, of short jumps) in an instruction that stands for an
//! address: the distance of a jump or call, the displacement of an operand relative to the instruction
//! pointer, an absolute displacement, an immediate number. Fields of two bytes are none: they cannot hold
//! an address (jumps of 16-bit code in 32-bit code excepted, which are left out). Displacements
//! relative to `fs` and `gs` are none either.
//!
//! For each field there is one result. If several starts make an instruction that has it as a field
//! (`8b 05` is one, and so is `48 8b 05`), the one at which a linear decode arrives is taken, else the
//! longest. The answer is the same as that of a decode from every byte of memory; that is the twin in the
//! tests.
//!
//! # Linear decode
//!
//! x86 instructions have no marks, and any bytes decode to something. But a decode that starts anywhere
//! falls into step with the code after a few instructions. [`Xref::linear`] says whether it arrives at the
//! instruction: five decodes begin at neighbouring bytes, 64 to 60 before the field (or one, where memory
//! begins, if that is nearer), and more than half must come by. It is a judgement of what stands nearby,
//! so it depends neither on windows nor on the memory far away. References where it is `false` are
//! mostly data that looks like code.

mod field;
mod filter;
mod index;
#[cfg(test)]
mod naive;
mod resolve;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::addr::{AddrRange, Gva};
use crate::sweep::{Found, Piece, Scanner, Window};
pub use crate::width::CodeBits;
pub use filter::FilterKind;
pub use index::XrefIndex;
use resolve::{BEFORE, Resolver};

/// No x86 instruction is longer.
const MAX_INSTRUCTION: usize = 15;

/// What an instruction does with the address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum XrefKind {
    /// Calls it.
    Call,
    /// Jumps there.
    Jump,
    /// Jumps there under a condition, loops included.
    Branch,
    /// Calls what the pointer there points to.
    CallThrough,
    /// Jumps to what the pointer there points to.
    JumpThrough,
    /// Computes the address (`lea`).
    Address,
    /// Reads or writes there, or does something else with memory.
    Memory,
    /// Has the address as an immediate number.
    Immediate,
}

impl XrefKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Call,
        Self::Jump,
        Self::Branch,
        Self::CallThrough,
        Self::JumpThrough,
        Self::Address,
        Self::Memory,
        Self::Immediate,
    ];

    /// A short name: `call`, `jmp`, `jcc`, `call-ptr`, `jmp-ptr`, `lea`, `mem`, `imm`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Jump => "jmp",
            Self::Branch => "jcc",
            Self::CallThrough => "call-ptr",
            Self::JumpThrough => "jmp-ptr",
            Self::Address => "lea",
            Self::Memory => "mem",
            Self::Immediate => "imm",
        }
    }
}

impl fmt::Display for XrefKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An instruction that refers to an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Xref {
    /// Where the instruction begins.
    pub va: Gva,
    /// Where in it the field is, in bytes.
    pub field: u8,
    /// How long the instruction is, in bytes.
    pub len: u8,
    /// What it does with the address.
    pub kind: XrefKind,
    /// The address.
    pub target: Gva,
    /// Whether a linear decode arrives at the instruction, see the module.
    pub linear: bool,
}

/// Addresses to find references to.
///
/// ```
/// use vmie::xref::{CodeBits, XrefKind, Xrefs};
/// use vmie::{AddrRange, Gva};
///
/// // 0x1000: call 0x2000; lea rax, [rip+0x100a]; ret
/// let code = b"\xe8\xfb\x0f\0\0\x48\x8d\x05\xf4\x0f\0\0\xc3";
/// let xrefs = Xrefs::to(AddrRange::new(Gva(0x2000), 1).unwrap(), CodeBits::B64);
/// let found = xrefs.find(Gva(0x1000), code);
/// assert_eq!(found.len(), 2);
/// assert_eq!((found[0].va, found[0].kind), (Gva(0x1000), XrefKind::Call));
/// assert_eq!((found[1].va, found[1].kind), (Gva(0x1005), XrefKind::Address));
/// ```
#[derive(Clone, Debug)]
pub struct Xrefs {
    targets: Vec<AddrRange<Gva>>,
    bits: CodeBits,
    filter: FilterKind,
}

impl Xrefs {
    /// References to any address of a range from code of this width.
    pub fn to(targets: AddrRange<Gva>, bits: CodeBits) -> Self {
        Self::to_any([targets], bits)
    }

    /// References to any address of some ranges: what [`Xrefs::to`] finds for each, once.
    ///
    /// All are looked for in one pass, a window at a time. Each range costs as much as one does, but for
    /// getting at the memory: of many that are mapped, [`XrefIndex`] is the faster way.
    pub fn to_any(targets: impl IntoIterator<Item = AddrRange<Gva>>, bits: CodeBits) -> Self {
        Self {
            targets: targets.into_iter().collect(),
            bits,
            filter: FilterKind::best(),
        }
    }

    /// The same with a certain filter, for tests and benches that compare them.
    ///
    /// Answers `None` where this machine cannot run it.
    pub fn with_filter(self, filter: FilterKind) -> Option<Self> {
        filter.is_available().then_some(Self { filter, ..self })
    }

    /// All references in some bytes of which the first is at `start`, by address, then by field.
    ///
    /// Memory is taken to begin and end with the bytes.
    pub fn find(&self, start: Gva, code: &[u8]) -> Vec<Xref> {
        let window = Window {
            start,
            bytes: code,
            owned: code.len(),
            before: &[],
        };
        let mut found = Found::with_limit(usize::MAX);
        if !code.is_empty() {
            self.look(&window, &mut found);
        }
        found.into_items()
    }

    /// Pushes the references of a window whose instructions start in what it owns.
    fn look(&self, window: &Window<'_, Gva>, found: &mut Found<Xref>) {
        let mut resolver = Resolver::new(window, self.bits);
        let count = window
            .bytes
            .len()
            .min(window.owned.saturating_add(MAX_INSTRUCTION));
        let mut hits = Vec::new();
        for &targets in &self.targets {
            let mut resolve = |field: usize| {
                let hit = resolver.resolve(field, targets);
                let starts_here = |hit: &Xref| {
                    let offset = hit.va.0.wrapping_sub(window.start.0);
                    offset < window.owned as u64
                };
                hits.extend(hit.filter(starts_here));
            };
            let search = filter::Search::new(window.start, targets);
            filter::long(&search, self.filter, &window.bytes[..count], &mut resolve);
            filter::short(&search, &window.bytes[..count], &mut resolve);
        }
        // An instruction can have two fields, and the starts of two can be in either order.
        hits.sort_unstable();
        hits.dedup();
        found.extend(hits, false);
    }
}

/// Results are by address, then by field; of each the item has the address of the instruction, too.
///
/// What is not code should be left out with [`Selection::perm`](crate::scan::Selection::perm).
///
/// # Cost
///
/// One pass at the speed of memory where a vector unit helps, and some microseconds for each reference.
/// Of targets that make up a large part of what code refers to, decoding takes most of the time.
impl Scanner for Xrefs {
    type Item = Xref;

    fn behind(&self) -> usize {
        BEFORE
    }

    fn overlap(&self) -> usize {
        // To see whole instructions that have a field in common with one that starts at the last byte.
        2 * MAX_INSTRUCTION
    }

    fn knows_address(&self) -> bool {
        true
    }

    fn len_of(&self, xref: &Xref) -> usize {
        xref.len.into()
    }

    /// # Panics
    ///
    /// When the piece has no address, which a scan gives to scanners that [ask for it](Scanner::knows_address).
    fn scan(&self, piece: &Piece<'_>, found: &mut Found<(usize, Xref)>) {
        let start = piece.start.expect("asked for");
        let window = Window {
            start: Gva(start),
            bytes: piece.bytes,
            owned: piece.owned,
            before: piece.before,
        };
        found.gather(
            |hits| self.look(&window, hits),
            |xref| (xref.va.0.wrapping_sub(start) as usize, xref),
        );
    }
}
