//! Which part of an address space is a process's own.

use vmie::paging::Mode;
use vmie::{AddrRange, Address};

/// The half of a space that is a process's own; `None` where that is not a matter of the paging mode.
pub(crate) fn own_half<A: Address>(mode: Mode) -> Option<AddrRange<A>> {
    let bits = match mode {
        Mode::FourLevel => 47,
        Mode::FiveLevel => 56,
        Mode::X86 | Mode::Pae => return None,
    };
    AddrRange::new(A::new(0), 1 << bits)
}
