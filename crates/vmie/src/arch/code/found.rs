//! What a reference is, for code of any architecture.

use std::fmt;

use crate::addr::Gva;

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
    /// Whether a linear decode arrives at the instruction; see [`xref`](crate::xref).
    pub linear: bool,
}
