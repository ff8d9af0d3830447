//! Code references: which instructions refer to an address.
//!
//! Decoding everything finds them and is slow, and it would have to be done from every place where an
//! instruction can begin, for nobody knows where code does. So it is done the other way round:
//!
//! ```text
//! filter   every position that could refer there        additions and comparisons, in vectors
//! resolve  of these, the instructions that really do    decoded
//! ```
//!
//! Both are the architecture's (`arch/code/`); here is what any architecture's code has in common: targets, windows,
//! the order of results, and an index of all references.
//!
//! # What a reference is
//!
//! A **field** of an instruction that stands for an address: the distance of a jump or call, the displacement of an
//! operand relative to the instruction pointer, an absolute displacement, an immediate number. For each field there is one
//! result. Which fields count, the [`InstructionSet`] says. The answer is the same as that of a decode from every place; that
//! is the reference implementation in the tests.
//!
//! # Linear decode
//!
//! Where any bytes make instructions (x86), what refers somewhere may be no code at all. [`Xref::linear`] says
//! whether decodes that begin a little before arrive at the instruction. It is a judgement of what stands
//! nearby, so it depends neither on windows nor on the memory far away. References where it is `false` are mostly data that
//! looks like code.

mod index;
#[cfg(test)]
mod tests;

use crate::addr::{AddrRange, Gva};
pub use crate::arch::InstructionSet;
use crate::arch::code::CodeWindow;
pub use crate::arch::code::{FilterKind, Xref, XrefKind};
use crate::sweep::{Found, Piece, Scanner};
pub use crate::width::CodeBits;
pub use index::XrefIndex;

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
    code: InstructionSet,
    filter: FilterKind,
}

impl Xrefs {
    /// References to any address of a range from code in these instructions: an [`InstructionSet`], or the width of x86 code.
    pub fn to(targets: AddrRange<Gva>, code: impl Into<InstructionSet>) -> Self {
        Self::to_any([targets], code)
    }

    /// References to any address of some ranges: what [`Xrefs::to`] finds for each, once.
    ///
    /// All are looked for in one pass, a window at a time. Each range costs as much as one does, but for
    /// getting at the memory: of many that are mapped, [`XrefIndex`] is the faster way.
    pub fn to_any(
        targets: impl IntoIterator<Item = AddrRange<Gva>>,
        code: impl Into<InstructionSet>,
    ) -> Self {
        Self {
            targets: targets.into_iter().collect(),
            code: code.into(),
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
        let mut found = Found::with_limit(usize::MAX);
        if !code.is_empty() {
            self.look(&CodeWindow::alone(start, code), &mut found);
        }
        found.into_items()
    }

    /// Pushes the references of a window whose instructions start in what it owns.
    fn look(&self, window: &CodeWindow<'_>, found: &mut Found<Xref>) {
        let mut hits = Vec::new();
        let code = self.code.code();
        code.references(window, &self.targets, self.filter, &mut |hit| {
            let offset = hit.va.0.wrapping_sub(window.start.0);
            if offset < window.owned as u64 {
                hits.push(hit);
            }
        });
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
        self.code.code().limits().behind
    }

    fn overlap(&self) -> usize {
        self.code.code().limits().overlap
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
        let window = CodeWindow {
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
