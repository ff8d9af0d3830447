//! Pointers of the guest's: what one can lead to, and text behind one.
//!
//! [`link`] says whether a pointer can lead to an object of the kernel at all, before anything is read there, and
//! [`BadLink`] says what is wrong with it otherwise.

use std::fmt;

use crate::addr::{Address, Gva};
use crate::memory::{Fault, Memory};
use crate::os::FindingKind;

/// The text before the first NUL, with what is not UTF-8 replaced.
pub fn until_nul(bytes: &[u8]) -> String {
    let len = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..len]).into_owned()
}

/// Reads a NUL-terminated text of at most `limit` bytes; what is longer is cut there, and what is not UTF-8 replaced.
///
/// # Errors
///
/// When the pointer leads nowhere, or what is there cannot be read.
pub fn read_text(
    memory: &dyn Memory<Addr = Gva>,
    pointer: u64,
    limit: usize,
) -> Result<String, BadLink> {
    let bytes = read_bytes(memory, pointer, limit)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The bytes of a NUL-terminated text, without the NUL: at most `limit`, what is longer is cut there.
pub(super) fn read_bytes(
    memory: &dyn Memory<Addr = Gva>,
    pointer: u64,
    limit: usize,
) -> Result<Vec<u8>, BadLink> {
    const PAGE: usize = crate::addr::PAGE_SIZE as usize;
    let mut bytes = Vec::new();
    let at = address(pointer)?;
    while bytes.len() < limit {
        // Up to the next page border: what lies behind may not be mapped.
        let here = at.raw().wrapping_add(bytes.len() as u64);
        let len = (PAGE - here as usize % PAGE)
            .min(limit - bytes.len())
            .min(64);
        let old = bytes.len();
        bytes.resize(old + len, 0);
        memory
            .read(Gva(here), &mut bytes[old..])
            .map_err(|fault| BadLink::Fault { pointer, fault })?;
        if let Some(end) = memchr::memchr(0, &bytes[old..]) {
            bytes.truncate(old + end);
            break;
        }
    }
    Ok(bytes)
}

/// A pointer that does not lead to an object of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadLink {
    /// It is null.
    Null,
    /// It leads into the half of the address space that is not the kernel's.
    User(u64),
    /// No object of the kernel can be there.
    Unaligned(u64),
    /// What is there is in use by nobody.
    Unused(u64),
    /// There is nothing there, or it is not known what.
    Fault {
        /// Where it leads.
        pointer: u64,
        /// What stopped the read.
        fault: Fault<Gva>,
    },
}

impl BadLink {
    /// How to report it.
    pub fn kind(self) -> FindingKind {
        match self {
            Self::Fault { fault, .. } if !fault.cause.is_unmapped() => FindingKind::Unreadable,
            _ => FindingKind::Damaged,
        }
    }
}

impl fmt::Display for BadLink {
    /// Goes on from "the link", "the pointer": `is null`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("is null"),
            Self::User(pointer) => write!(f, "leads into user memory, to {pointer:#x}"),
            Self::Unaligned(pointer) => write!(f, "leads to {pointer:#x}, which is unaligned"),
            Self::Unused(pointer) => {
                write!(f, "leads to {pointer:#x}, which is in use by nobody")
            }
            Self::Fault { pointer, fault } => {
                write!(f, "leads to {pointer:#x}, which cannot be read: {fault}")
            }
        }
    }
}

/// The object that a pointer leads to. Nothing is read.
///
/// # Errors
///
/// When it is null, not of the upper half of the address space, or no multiple of eight.
pub fn link(pointer: u64) -> Result<Gva, BadLink> {
    let at = address(pointer)?;
    match pointer % 8 {
        0 => Ok(at),
        _ => Err(BadLink::Unaligned(pointer)),
    }
}

/// The kernel's text or object that a pointer leads to, aligned or not. Nothing is read.
///
/// # Errors
///
/// When it is null, or not of the upper half of the address space.
pub fn address(pointer: u64) -> Result<Gva, BadLink> {
    match pointer {
        0 => Err(BadLink::Null),
        _ if pointer >> 63 == 0 => Err(BadLink::User(pointer)),
        _ => Ok(Gva(pointer)),
    }
}
