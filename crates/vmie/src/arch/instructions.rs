//! What code is written in, and who knows it.

use std::fmt;

use super::code::Code;
use super::x86;
use crate::width::CodeBits;

/// What code is written in: an architecture's instructions, of one width.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum InstructionSet {
    /// x86, of 32 or 64 bits.
    ///
    /// Fields have four or eight bytes (one, of short jumps). Fields of two bytes are none: they cannot hold an address (jumps of
    /// 16-bit code in 32-bit code excepted, which are left out). Displacements relative to `fs` and `gs` are none either.
    ///
    /// If several starts make an instruction that has the same field (`8b 05` is one, and so is `48 8b 05`), the one at which
    /// a linear decode arrives is taken, else the longest. [`Xref::linear`](crate::xref::Xref::linear): five decodes begin at neighbouring bytes, 64 to 60
    /// before the field (or one, where memory begins, if that is nearer), and more than half must come by.
    X86(CodeBits),
}

impl InstructionSet {
    /// What knows it.
    pub(crate) fn code(self) -> &'static dyn Code {
        match self {
            Self::X86(CodeBits::B32) => &x86::code::B32,
            Self::X86(CodeBits::B64) => &x86::code::B64,
        }
    }
}

/// x86 code of this width.
impl From<CodeBits> for InstructionSet {
    fn from(bits: CodeBits) -> Self {
        Self::X86(bits)
    }
}

impl fmt::Display for InstructionSet {
    /// `32-bit x86`, `64-bit x86`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::X86(bits) => write!(f, "{}-bit x86", bits.number()),
        }
    }
}
