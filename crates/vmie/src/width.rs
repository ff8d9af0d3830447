//! How wide programs are: their pointers, and their code.
//!
//! The two usually go together, and not always: programs of the x32 ABI run 64-bit code with pointers of 32
//! bits. So they are told apart everywhere, and each may be unknown.

use std::fmt;

/// How wide a pointer is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Width {
    /// 32 bits.
    Four,
    /// 64 bits.
    #[default]
    Eight,
}

impl Width {
    /// In bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// An alignment, brought to a power of two and to no more than the width.
    pub(crate) fn alignment(self, align: u64) -> u64 {
        1 << align.clamp(1, self.bytes() as u64).ilog2()
    }
}

/// How wide code is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CodeBits {
    /// 32-bit code, protected mode.
    B32,
    /// 64-bit code.
    B64,
}

impl CodeBits {
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::B32 => 32,
            Self::B64 => 64,
        }
    }
}

/// How wide a program is, as far as that is known.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ProgramWidth {
    /// Its pointers.
    pub pointers: Option<Width>,
    /// Its code.
    pub code: Option<CodeBits>,
}

impl ProgramWidth {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self {
        pointers: None,
        code: None,
    };

    /// 32-bit code and pointers: i386 programs.
    pub const I386: Self = Self {
        pointers: Some(Width::Four),
        code: Some(CodeBits::B32),
    };

    /// 64-bit code with pointers of 32 bits: programs of the x32 ABI.
    pub const X32: Self = Self {
        pointers: Some(Width::Four),
        code: Some(CodeBits::B64),
    };

    /// 64-bit code and pointers.
    pub const X86_64: Self = Self {
        pointers: Some(Width::Eight),
        code: Some(CodeBits::B64),
    };

    /// What is unknown taken from what is usual there. Narrow pointers alone are taken for those of 32-bit code: x32
    /// programs, which have them too, are rare.
    #[must_use]
    pub const fn or(self, usual: Self) -> Self {
        let (pointers, code) = match (self.pointers, self.code) {
            (None, None) => (usual.pointers, usual.code),
            (Some(Width::Four), None) => (self.pointers, Some(CodeBits::B32)),
            (Some(Width::Eight), None) => (self.pointers, Some(CodeBits::B64)),
            (None, Some(CodeBits::B32)) => (Some(Width::Four), self.code),
            (None, Some(CodeBits::B64)) => (usual.pointers, self.code),
            (Some(_), Some(_)) => (self.pointers, self.code),
        };
        Self { pointers, code }
    }
}

impl fmt::Display for ProgramWidth {
    /// `32-bit code and pointers`, `64-bit code with 32-bit pointers`, `32-bit pointers`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pointers = self.pointers.map(|width| width.bytes() * 8);
        let code = self.code.map(|code| code.number() as usize);
        match (code, pointers) {
            (Some(code), Some(pointers)) if code == pointers => {
                write!(f, "{code}-bit code and pointers")
            }
            (Some(code), Some(pointers)) => {
                write!(f, "{code}-bit code with {pointers}-bit pointers")
            }
            (Some(code), None) => write!(f, "{code}-bit code"),
            (None, Some(pointers)) => write!(f, "{pointers}-bit pointers"),
            (None, None) => f.write_str("unknown width"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NARROW: ProgramWidth = ProgramWidth {
        pointers: Some(Width::Four),
        code: None,
    };

    #[test]
    fn what_is_unknown_is_what_is_usual() {
        let usual = ProgramWidth::X86_64;
        assert_eq!(ProgramWidth::UNKNOWN.or(usual), usual);
        assert_eq!(NARROW.or(usual), ProgramWidth::I386);
        assert_eq!(ProgramWidth::X32.or(usual), ProgramWidth::X32);
        let code = |code| ProgramWidth {
            pointers: None,
            code: Some(code),
        };
        assert_eq!(code(CodeBits::B32).or(usual), ProgramWidth::I386);
        assert_eq!(code(CodeBits::B64).or(usual), usual);
    }

    #[test]
    fn widths_in_words() {
        for (width, words) in [
            (ProgramWidth::I386, "32-bit code and pointers"),
            (ProgramWidth::X86_64, "64-bit code and pointers"),
            (ProgramWidth::X32, "64-bit code with 32-bit pointers"),
            (NARROW, "32-bit pointers"),
            (ProgramWidth::UNKNOWN, "unknown width"),
        ] {
            assert_eq!(width.to_string(), words);
        }
    }
}
