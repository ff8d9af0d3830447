//! x86 of 32 and 64 bits.

pub(crate) mod kvm;
pub(crate) mod paging;
mod registers;

pub use registers::{CpuState, DescriptorTable, Registers, Segment, Segments};
