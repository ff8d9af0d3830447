//! x86 of 32 and 64 bits.

pub(super) mod code;
pub(crate) mod kvm;
pub(crate) mod paging;
mod registers;

pub use registers::{CpuState, DescriptorTable, Registers, Segment, Segments};
