//! Builds guests: physical memory, page tables of every kind, and the truth about them.
//!
//! ```
//! use vmie_synth::guest::{Flags, Machine, Paging, PageSize, Space};
//!
//! let mut machine = Machine::new(0..16 << 20);
//! let space = Space::new(&mut machine, Paging::FourLevel);
//! let gpa = machine.frames.alloc();
//! space.map(&mut machine, 0x7fff_0000_0000, gpa, PageSize::Size4K, Flags::DATA);
//! space.write(&mut machine, 0x7fff_0000_0000, b"hello");
//!
//! let truth = space.truth(&machine);
//! assert_eq!(truth.translate(0x7fff_0000_0003), Some(gpa + 3));
//! ```
//!
//! The pieces, bottom up: [`Phys`] holds bytes and says where RAM is; [`Frames`] hands out page
//! frames in a chosen order; a [`Machine`] is both, plus a record of the page tables built in it; a
//! [`Space`] is one root in a machine, through which pages are mapped; [`Truth`] is what the builder
//! knows to be mapped, computed from that record and never by decoding the tables' bytes.

mod asm;
mod bare;
mod entry;
mod frames;
mod machine;
mod phys;
mod program;
mod random;
mod rng;
mod scattered;
mod space;
#[cfg(test)]
mod tests;
mod truth;

pub use asm::{Assembler, CodeRef, RefKind};
pub use bare::{Bare, bare};
pub(crate) use bare::{Journal, journal, share_pages};
pub use entry::{Flags, PageSize, Paging, leaf_entry, reserved_bits, table_entry};
pub use frames::Frames;
pub use machine::Machine;
pub use phys::{Absent, PAGE, Phys};
pub use program::{
    Cargo, Encoding, Function, ListEnd, Pointer, Program, ProgramPlan, Ship, Text, World,
};
pub use random::{Knobs, RandomGuest, random};
pub use rng::Rng;
pub use scattered::{Scattered, scattered, scattered_in};
pub use space::{PathStep, Space};
pub use truth::{Repeat, Rights, Truth, TruthPage, TruthRegion, VaRange};
