//! How wide code or pointers are.

use clap::ValueEnum;
use vmie::ProgramWidth;
use vmie::xref::CodeBits;

/// How wide code or pointers are, as typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum BitsArg {
    /// As wide as the process's program; without a process, by the paging mode: 64 in long mode, else 32
    Auto,
    /// 32 bits
    #[value(name = "32")]
    B32,
    /// 64 bits
    #[value(name = "64")]
    B64,
}

impl BitsArg {
    /// The width of the code of a program that is this wide.
    pub(crate) fn code(self, program: ProgramWidth) -> CodeBits {
        match self {
            Self::B32 => CodeBits::B32,
            Self::B64 => CodeBits::B64,
            Self::Auto => program.code.unwrap_or(CodeBits::B64),
        }
    }
}
