//! ELF images as they are in memory: programs and libraries that have been loaded.
//!
//! What a loader maps is not the file. Section headers are usually left out, some pages are not present,
//! and addresses have moved by a *bias*, the distance between where the file says that it should be and
//! where it is. So everything goes by segments:
//!
//! ```text
//! header -> program headers -> PT_LOAD       what is mapped where, from which the bias follows
//!                              PT_DYNAMIC -> symbols, their names, a hash table that tells their number
//! ```
//!
//! Addresses in the dynamic section may have been moved already (glibc does that) or not (musl, the
//! vdso): one that lies within the image is taken as it is.
//!
//! Symbols that only the file's section headers know (`.symtab`) are not loaded. They are read when the
//! caller knows what is in the file.
//!
//! What an image imports goes by relocations, and by the code that jumps through what these fill: see
//! `imports.rs` and `stubs.rs`.
//!
//! The image belongs to the guest. All numbers are bounded by the image's own extent and by fixed
//! limits, and what is in a hole is left out and counted. The `object` crate reads files, whole and
//! trusted to be readable; it has nothing for images with holes.

mod dynamic;
mod imports;
mod stubs;
mod symbols;
mod table;
#[cfg(test)]
mod tests;

use crate::addr::{AddrRange, Address, Gva, PAGE_SIZE};
use crate::memory::{Fault, Memory, Prot};
use crate::width::ProgramWidth;

/// How many program headers are read. Linkers make some fifteen.
const MAX_SEGMENTS: u64 = 512;

/// How large one may be. They have 56 bytes.
const MAX_HEADER: u64 = 256;

/// How large a dynamic section is read.
const MAX_DYNAMIC: u64 = 64 << 10;

/// Numbers of the format, by the names they have in `elf.h`.
mod num {
    pub(super) const EM_386: u64 = 3;
    /// What the kernel takes for i386 as well.
    pub(super) const EM_486: u64 = 6;
    pub(super) const EM_X86_64: u64 = 62;
    pub(super) const ET_EXEC: u64 = 2;
    pub(super) const ET_DYN: u64 = 3;
    pub(super) const PT_LOAD: u64 = 1;
    pub(super) const PT_DYNAMIC: u64 = 2;
    pub(super) const PT_GNU_RELRO: u64 = 0x6474_e552;
    pub(super) const PF_X: u64 = 1;
    pub(super) const PF_W: u64 = 2;
}

/// How many bytes of a file its identity takes: magic, class, byte order, kind and machine.
pub const IDENTITY: usize = 20;

/// How wide a program is by the identity that its file begins with: its class tells of pointers, the machine that
/// it is for of code. `None` for what is no little-endian ELF file for x86.
pub fn program_width(identity: &[u8; IDENTITY]) -> Option<ProgramWidth> {
    let [0x7f, b'E', b'L', b'F', class, 1, ..] = *identity else {
        return None;
    };
    let machine = u64::from(u16::from_le_bytes([identity[18], identity[19]]));
    match (class, machine) {
        (1, num::EM_386 | num::EM_486) => Some(ProgramWidth::I386),
        (1, num::EM_X86_64) => Some(ProgramWidth::X32),
        (2, num::EM_X86_64) => Some(ProgramWidth::X86_64),
        _ => None,
    }
}

/// Why an image was not opened, or has no symbols.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ElfError {
    /// It does not start like an ELF image.
    #[error("there is no ELF header")]
    NotElf,
    /// It is an ELF image of a sort that is not read.
    #[error("it is ELF, but {0}")]
    Unsupported(&'static str),
    /// What it says of itself makes no sense.
    #[error("its {0}")]
    Damaged(String),
    /// What is needed of it could not be read.
    #[error("its {what} cannot be read: {fault}")]
    Unreadable {
        /// What.
        what: &'static str,
        /// Where and why.
        fault: Fault<Gva>,
    },
    /// It has no symbols in memory.
    #[error("no table of its symbols is in memory")]
    NoSymbols,
}

/// A part of the image that is loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Where it is.
    pub range: AddrRange<Gva>,
    /// Where it starts in the file.
    pub offset: u64,
    /// How much of it is in the file; the rest is zeroed.
    pub file_len: u64,
    /// What the file allows.
    pub prot: Prot,
}

/// An opened image.
pub struct ElfImage<'m> {
    memory: &'m dyn Memory<Addr = Gva>,
    wide: bool,
    machine: u64,
    base: Gva,
    bias: u64,
    range: AddrRange<Gva>,
    segments: Vec<Segment>,
    dynamic: Option<(Gva, u64)>,
    /// What the loader makes read-only once it has filled it.
    relro: Option<AddrRange<Gva>>,
    /// Offset, size of each, and number of the section headers.
    sections: (u64, u64, u64),
}

impl std::fmt::Debug for ElfImage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ElfImage")
            .field("range", &self.range)
            .field("bias", &self.bias)
            .finish_non_exhaustive()
    }
}

/// Widths of fields, by class.
#[derive(Clone, Copy)]
struct Fields<'b> {
    bytes: &'b [u8],
    wide: bool,
}

impl Fields<'_> {
    /// A little-endian number; what is cut off counts as zero.
    fn number(self, at: usize, len: usize) -> u64 {
        let mut value = [0; 8];
        let bytes = self.bytes.get(at..).unwrap_or_default();
        let len = len.min(bytes.len());
        value[..len].copy_from_slice(&bytes[..len]);
        u64::from_le_bytes(value)
    }

    /// The number at `narrow` or `wide`, of 4 or 8 bytes, by class.
    fn address(self, narrow: usize, wide: usize) -> u64 {
        match self.wide {
            true => self.number(wide, 8),
            false => self.number(narrow, 4),
        }
    }

    /// The number of `len` bytes at `narrow` or `wide`, by class.
    fn fixed(self, narrow: usize, wide: usize, len: usize) -> u64 {
        self.number(if self.wide { wide } else { narrow }, len)
    }
}

impl<'m> ElfImage<'m> {
    /// Opens the image whose header is at `base`.
    ///
    /// Cost: two small reads.
    ///
    /// # Errors
    ///
    /// [`ElfError`].
    pub fn open(memory: &'m dyn Memory<Addr = Gva>, base: Gva) -> Result<Self, ElfError> {
        let damaged = |what: &str| ElfError::Damaged(what.to_owned());
        let mut header = [0; 64];
        memory
            .read(base, &mut header)
            .map_err(|fault| ElfError::Unreadable {
                what: "header",
                fault,
            })?;
        let wide = match header[..6] {
            [0x7f, b'E', b'L', b'F', 2, 1] => true,
            [0x7f, b'E', b'L', b'F', 1, 1] => false,
            [0x7f, b'E', b'L', b'F', _, 2] => return Err(ElfError::Unsupported("big-endian")),
            _ => return Err(ElfError::NotElf),
        };
        let fields = Fields {
            bytes: &header,
            wide,
        };
        let kind = fields.number(16, 2);
        if kind != num::ET_EXEC && kind != num::ET_DYN {
            return Err(ElfError::Unsupported("neither a program nor a library"));
        }
        let offset = fields.address(28, 32);
        let (each, count) = (fields.fixed(42, 54, 2), fields.fixed(44, 56, 2));
        let least = if wide { 56 } else { 32 };
        if !(least..=MAX_HEADER).contains(&each) || count == 0 || count > MAX_SEGMENTS {
            return Err(damaged("program headers are of impossible size or number"));
        }
        let start = base.checked_add(offset);
        let start = start.ok_or_else(|| damaged("program headers are nowhere"))?;
        let mut headers = vec![0; (each * count) as usize];
        memory
            .read(start, &mut headers)
            .map_err(|fault| ElfError::Unreadable {
                what: "program headers",
                fault,
            })?;
        let headers: Vec<Fields<'_>> = headers
            .chunks_exact(each as usize)
            .map(|bytes| Fields { bytes, wide })
            .collect();
        let bias = bias(base, &headers, kind)?;
        let mut image = Self {
            memory,
            wide,
            machine: fields.number(18, 2),
            base,
            bias,
            range: AddrRange::new(base, 1).expect("one byte"),
            segments: Vec::new(),
            dynamic: None,
            relro: None,
            sections: (
                fields.address(32, 40),
                fields.fixed(46, 58, 2),
                fields.fixed(48, 60, 2),
            ),
        };
        for header in headers {
            image.take(header)?;
        }
        let first = image.segments.iter().map(|s| s.range.start()).min();
        let last = image.segments.iter().map(|s| s.range.last()).max();
        let (first, last) = first
            .zip(last)
            .ok_or_else(|| damaged("segments are none"))?;
        let first = first.align_down(PAGE_SIZE);
        let last = Gva(last.raw() | (PAGE_SIZE - 1));
        image.range =
            AddrRange::inclusive(first, last).ok_or_else(|| damaged("segments are in no order"))?;
        Ok(image)
    }

    /// Takes a program header.
    fn take(&mut self, header: Fields<'_>) -> Result<(), ElfError> {
        let kind = header.number(0, 4);
        let va = Gva(header.address(8, 16).wrapping_add(self.bias));
        let len = header.address(20, 40);
        match kind {
            num::PT_LOAD if len > 0 => {
                let range = AddrRange::new(va, len).ok_or_else(|| {
                    ElfError::Damaged(format!("segment of {len:#x} bytes at {va} wraps around"))
                })?;
                let flags = header.fixed(24, 4, 4);
                let flag = |bit, prot| if flags & bit != 0 { prot } else { Prot::NONE };
                self.segments.push(Segment {
                    range,
                    offset: header.address(4, 8),
                    file_len: header.address(16, 32).min(len),
                    prot: Prot::R
                        .union(flag(num::PF_W, Prot::W))
                        .union(flag(num::PF_X, Prot::X)),
                });
            }
            num::PT_DYNAMIC => self.dynamic = Some((va, len.min(MAX_DYNAMIC))),
            num::PT_GNU_RELRO => self.relro = AddrRange::new(va, len),
            _ => {}
        }
        Ok(())
    }

    /// From the first to the last byte of its segments, in whole pages.
    pub fn range(&self) -> AddrRange<Gva> {
        self.range
    }

    /// What to add to an address in the file to get where it is; wraps.
    pub fn bias(&self) -> u64 {
        self.bias
    }

    /// What is loaded, in the order of the file.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Where the header is.
    pub fn base(&self) -> Gva {
        self.base
    }
}

/// How far the image is from where the file says that it should be: the segment that holds the start of
/// the file holds the header.
fn bias(base: Gva, headers: &[Fields<'_>], kind: u64) -> Result<u64, ElfError> {
    let first = headers.iter().find(|header| {
        let offset = header.address(4, 8);
        header.number(0, 4) == num::PT_LOAD && offset < PAGE_SIZE
    });
    let Some(first) = first else {
        return Err(ElfError::Damaged(
            "header is in none of its segments".into(),
        ));
    };
    let (offset, va) = (first.address(4, 8), first.address(8, 16));
    let bias = base.raw().wrapping_sub(va.wrapping_sub(offset));
    match kind {
        num::ET_EXEC if bias != 0 => Err(ElfError::Damaged(format!(
            "header is at {base}, but such a program cannot be moved there"
        ))),
        _ => Ok(bias),
    }
}
