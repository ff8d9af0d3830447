//! Processor architectures: what the engine must know of one, in one place.
//!
//! | what | where |
//! |---|---|
//! | page-table formats, as data | `paging.rs` of the architecture, in the words of [`Spec`] |
//! | paging modes, user-space and kernel ranges | [`Mode`] |
//! | registers of a CPU | [`x86::CpuState`] |
//! | what its code refers to | `code/` of the architecture, behind the interface in `arch/code/`; [`InstructionSet`] |
//!
//! # How to add an architecture
//!
//! 1. A folder beside [`x86`], with its page-table formats as `static`s and its registers.
//! 2. A variant of [`Architecture`], and one of [`Mode`] for each format, with name, width and format.
//! 3. In `vmie-synth`, an encoder for its entries (`guest/entry.rs`), written from the manual and not from here; the
//!    modes in the lists of the paging tests. The walk, its reference implementation and the translation need no change: they know
//!    spaces with a root for each half ([`Above::Alike`] and [`Roots`](crate::paging::Roots)). A mode has one arm in `by_mode`
//!    (`paging/space.rs`), which makes its format a constant.
//! 4. Its code, by the checklist in `arch/code/mod.rs`. The search for references and its index need no change.
//! 5. Where sources know its registers: `image/notes.rs`, `live/registers.rs`.

pub(crate) mod code;
mod instructions;
mod mode;
mod spec;
pub mod x86;

use std::fmt;

use crate::width::CodeBits;
pub use instructions::InstructionSet;
pub use mode::{Mode, UnknownMode};
pub use spec::{Above, EntryKind, Flag, Level, Rights, Spec, Target, Test};

/// A processor architecture.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Architecture {
    /// x86 of 32 and 64 bits.
    X86,
}

impl Architecture {
    /// Its paging modes, the deepest first.
    pub const fn modes(self) -> &'static [Mode] {
        match self {
            Self::X86 => &[Mode::FiveLevel, Mode::FourLevel, Mode::Pae, Mode::X86],
        }
    }

    /// What its code of a width is written in.
    pub const fn code(self, bits: CodeBits) -> InstructionSet {
        match self {
            Self::X86 => InstructionSet::X86(bits),
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::X86 => "x86",
        })
    }
}
