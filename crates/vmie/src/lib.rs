//! vmie looks into a virtual machine from outside: a running guest, or a saved image of its memory.
//!
//! Given the guest's physical memory and the root of one address space (CR3), it answers questions
//! about that address space: what is mapped, how an address translates, where byte signatures occur.
//!
//! See ARCHITECTURE.md for the invariants the crate keeps.

mod addr;
mod cpu;
pub mod dissect;
mod filemap;
mod image;
#[cfg(all(feature = "live", target_os = "linux"))]
mod live;
mod memory;
pub mod os;
pub mod paging;
pub mod pointers;
pub mod replace;
mod scratch;
pub mod search;
pub mod signature;
pub mod snapshot;
mod sweep;
mod view;
mod width;
pub mod xref;

pub use addr::{AddrRange, Address, Gpa, Gva};
pub use cpu::CpuState;
pub use image::{
    Format, Image, ImageInfo, Layout, LayoutPart, OpenError, OpenErrorKind, OpenOptions,
    ParseLayoutError,
};
#[cfg(all(feature = "live", target_os = "linux"))]
pub use live::{LiveError, LiveErrorKind, LiveGuest, LiveInfo, Paused};
pub use memory::{
    Cause, Coverage, Fault, Gap, Memory, Prot, Region, Span, SpanKind, Spans, read_around_holes,
};
pub use paging::{AddressSpace, Mode};
pub use sweep::{
    DEFAULT_MAX_BYTES, DEFAULT_WINDOW, Found, MAX_WINDOW, ManyOutcome, Piece, Scanner, Sighting,
    SpacePart, SweepOptions, SweepOutcome, Window, quiet, seek, seek_many, seek_space, sweep,
    sweep_many,
};
pub use view::View;
pub use width::ProgramWidth;
