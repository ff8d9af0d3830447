//! References in x86 code, of 32 and of 64 bits.
//!
//! ```text
//! filter    every position of four bytes that could refer there     additions and comparisons, in vectors
//! resolve   of these, the instructions that really do               decoded from each possible start
//! collector every position that could refer to anything mapped      by the bytes before it, in vectors
//! naive     a decode from every byte                                what the others are compared with
//! ```
//!
//! # Fields
//!
//! A field of four or eight bytes (one, of short jumps) in an instruction stands for an address: the distance of
//! a jump or call, the displacement of an operand relative to the instruction pointer, an absolute displacement, an
//! immediate number. Fields of two bytes are none: they cannot hold an address (jumps of 16-bit code in
//! 32-bit code excepted, which are left out). Displacements relative to `fs` and `gs` are none either.
//!
//! # Linear decode
//!
//! x86 instructions have no marks, and any bytes decode to something. But a decode that starts anywhere
//! falls into step with the code after a few instructions. [`Xref::linear`] says whether it arrives at the
//! instruction: five decodes begin at neighbouring bytes, 64 to 60 before the field (or one, where memory
//! begins, if that is nearer), and more than half must come by. It is a judgement of what stands nearby,
//! so it depends neither on windows nor on the memory far away. References where it is `false` are
//! mostly data that looks like code.
//!
//! If several starts make an instruction that has the same field (`8b 05` is one, and so is `48 8b 05`), the one at
//! which a linear decode arrives is taken, else the longest.

mod collector;
mod field;
mod filter;
#[cfg(test)]
mod naive;
mod resolve;
#[cfg(test)]
mod tests;

use crate::addr::{AddrRange, Gva};
use crate::arch::code::{Code, CodeWindow, Collector, FilterKind, GROUPS, Limits, Mapped, Xref};
use crate::width::CodeBits;
use resolve::{BEFORE, Resolver};

/// No x86 instruction is longer.
const MAX_INSTRUCTION: usize = 15;

/// The longest immediate behind a displacement.
const MAX_TAIL: u64 = 4;

static LIMITS: Limits = Limits {
    behind: BEFORE,
    // To see whole instructions that have a field in common with one that starts at the last byte.
    overlap: 2 * MAX_INSTRUCTION,
    // The length of what is behind a displacement is not known without a decode, so a candidate is kept under the
    // address without it.
    tail: MAX_TAIL,
    // More than a short jump reaches.
    short: 256,
    // Its opcode.
    short_before: 1,
}
.checked();

/// x86 code of one width.
pub(in crate::arch) struct X86 {
    bits: CodeBits,
}

pub(in crate::arch) static B32: X86 = X86 {
    bits: CodeBits::B32,
};
pub(in crate::arch) static B64: X86 = X86 {
    bits: CodeBits::B64,
};

impl Code for X86 {
    fn limits(&self) -> &'static Limits {
        &LIMITS
    }

    fn references(
        &self,
        window: &CodeWindow<'_>,
        targets: &[AddrRange<Gva>],
        filter: FilterKind,
        on: &mut dyn FnMut(Xref),
    ) {
        let mut resolver = Resolver::new(window, self.bits);
        let count = window
            .bytes
            .len()
            .min(window.owned.saturating_add(MAX_INSTRUCTION));
        let bytes = &window.bytes[..count];
        for &targets in targets {
            let mut resolve = |field: usize| {
                if let Some(xref) = resolver.resolve(field, targets) {
                    on(xref);
                }
            };
            let search = filter::Search::new(window.start, targets);
            filter::long(&search, filter, bytes, &mut resolve);
            filter::short(&search, bytes, &mut resolve);
        }
    }

    fn resolve(
        &self,
        window: &CodeWindow<'_>,
        field: usize,
        targets: AddrRange<Gva>,
    ) -> Option<Xref> {
        Resolver::new(window, self.bits).resolve(field, targets)
    }

    fn short(&self, start: Gva, bytes: &[u8], targets: AddrRange<Gva>, on: &mut dyn FnMut(usize)) {
        filter::short(&filter::Search::new(start, targets), bytes, on);
    }

    fn origins(&self, code: u64) -> [u64; GROUPS] {
        collector::Where::ALL.map(|place| place.origin(code, self.bits))
    }

    fn collector(&self, mapped: Mapped, filter: FilterKind) -> Box<dyn Collector> {
        Box::new(collector::Collecting::new(mapped, self.bits, filter))
    }

    #[cfg(test)]
    fn naive(&self, start: Gva, bytes: &[u8], targets: AddrRange<Gva>) -> Vec<Xref> {
        naive::find(start.0, bytes, targets, self.bits)
    }
}
