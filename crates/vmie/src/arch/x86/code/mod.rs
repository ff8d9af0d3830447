//! References in x86 code, of 32 and of 64 bits.
//!
//! ```text
//! filter    every position of four bytes that could refer there     additions and comparisons, in vectors
//! resolve   of these, the instructions that really do               decoded from each possible start
//! collector every position that could refer to anything mapped      by the bytes before it, in vectors
//! naive     a decode from every byte                                what the others are compared with
//! ```
//!
//! What counts as a field, and when a reference is [linear](Xref::linear), [`InstructionSet::X86`](crate::arch::InstructionSet::X86)
//! says. x86 instructions have no marks, and any bytes decode to something; but a decode that starts anywhere falls into step
//! with the code after a few instructions.

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
