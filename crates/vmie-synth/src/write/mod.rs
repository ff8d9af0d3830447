//! Writers of saved-memory formats: raw, LiME, AVML, ELF core, kdump, snapshots of
//! Cloud Hypervisor and Firecracker.
//!
//! They are written from the formats' publications and share nothing with the engine's readers, so a
//! mistake on one side shows on the other. Each takes the guest's physical ranges and a [`Source`] of
//! bytes, and streams: the memory needed does not depend on the size of the guest.
//!
//! ```
//! use vmie_synth::write::{self, Elf};
//!
//! // A guest whose every page holds the page's number.
//! let mut memory = |gpa: u64, buf: &mut [u8]| {
//!     for (i, byte) in buf.iter_mut().enumerate() {
//!         *byte = ((gpa + i as u64) >> 12) as u8;
//!     }
//!     Ok(())
//! };
//! let ranges = [0..0xa_0000, 0x10_0000..0x20_0000];
//! let mut image = Vec::new();
//! write::lime(&mut image, &ranges, &mut memory)?;
//! write::elf(&mut image, &ranges, &mut memory, &Elf::default())?;
//! # Ok::<(), std::io::Error>(())
//! ```

mod avml;
mod cloud_hypervisor;
mod elf;
mod firecracker;
mod kdump;
mod kvm;
mod notes;

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;

pub use avml::{Avml, Zeros, avml};
pub use cloud_hypervisor::cloud_hypervisor;
pub use elf::{Elf, ElfClass, Order, elf};
pub use firecracker::{Firecracker, FirecrackerForm, Hotplug, firecracker};
pub use kdump::{Compression, Kdump, kdump};
pub use notes::{Cpu, Flavour};

/// How much is read from a source at once, in bytes.
const CHUNK: usize = 1 << 20;

/// Where the bytes of a guest's physical memory come from.
///
/// Implemented by closures `FnMut(gpa, buf) -> io::Result<()>` and by [`RamFile`].
pub trait Source {
    /// Fills `buf` with the memory from `gpa` on.
    ///
    /// # Errors
    /// When the memory is not there or cannot be read; the writer stops with that error.
    fn read(&mut self, gpa: u64, buf: &mut [u8]) -> io::Result<()>;
}

impl<F: FnMut(u64, &mut [u8]) -> io::Result<()>> Source for F {
    fn read(&mut self, gpa: u64, buf: &mut [u8]) -> io::Result<()> {
        self(gpa, buf)
    }
}

/// A machine's RAM file as a source.
#[derive(Debug)]
pub struct RamFile {
    file: File,
    parts: Vec<RamPart>,
}

/// One piece of a [`RamFile`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RamPart {
    /// Guest physical addresses.
    pub range: Range<u64>,
    /// Where their bytes begin in the file.
    pub offset: u64,
}

impl RamFile {
    /// The pieces of `file` that are guest memory.
    pub fn new(file: File, parts: Vec<RamPart>) -> Self {
        Self { file, parts }
    }

    /// The pieces' physical ranges.
    pub fn ranges(&self) -> Vec<Range<u64>> {
        self.parts.iter().map(|part| part.range.clone()).collect()
    }
}

impl Source for RamFile {
    fn read(&mut self, mut gpa: u64, mut buf: &mut [u8]) -> io::Result<()> {
        use std::os::unix::fs::FileExt;

        while !buf.is_empty() {
            let part = self
                .parts
                .iter()
                .find(|part| part.range.contains(&gpa))
                .ok_or_else(|| {
                    io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        format!("the RAM file has no part for physical address {gpa:#x}"),
                    )
                })?;
            let left = part.range.end - gpa;
            let len = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
            let (now, later) = buf.split_at_mut(len);
            self.file
                .read_exact_at(now, part.offset + (gpa - part.range.start))?;
            gpa += len as u64;
            buf = later;
        }
        Ok(())
    }
}

/// Writes the ranges back to back, as a machine's RAM file holds them: without what lies between.
///
/// # Errors
/// The source's or the output's.
pub fn raw(
    out: &mut (impl Write + ?Sized),
    ranges: &[Range<u64>],
    source: &mut (impl Source + ?Sized),
) -> io::Result<()> {
    let mut buf = Vec::new();
    for range in ranges {
        copy(out, range.clone(), source, &mut buf)?;
    }
    Ok(())
}

/// Writes a LiME image: before each range a header of 32 bytes with magic, version, first and last
/// address (`lime.h` of LiME 1.9).
///
/// # Errors
/// The source's or the output's.
pub fn lime(
    out: &mut (impl Write + ?Sized),
    ranges: &[Range<u64>],
    source: &mut (impl Source + ?Sized),
) -> io::Result<()> {
    let mut buf = Vec::new();
    for range in ranges {
        out.write_all(&lime_header(b"EMiL", 1, range))?;
        copy(out, range.clone(), source, &mut buf)?;
    }
    Ok(())
}

/// The header that LiME and AVML share.
fn lime_header(magic: &[u8; 4], version: u32, range: &Range<u64>) -> [u8; 32] {
    let mut header = [0; 32];
    header[..4].copy_from_slice(magic);
    header[4..8].copy_from_slice(&version.to_le_bytes());
    header[8..16].copy_from_slice(&range.start.to_le_bytes());
    header[16..24].copy_from_slice(&(range.end - 1).to_le_bytes());
    header
}

/// Copies one range, using `buf` as scratch.
fn copy(
    out: &mut (impl Write + ?Sized),
    range: Range<u64>,
    source: &mut (impl Source + ?Sized),
    buf: &mut Vec<u8>,
) -> io::Result<()> {
    buf.resize(CHUNK, 0);
    let mut at = range.start;
    while at < range.end {
        let left = range.end - at;
        let len = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
        source.read(at, &mut buf[..len])?;
        out.write_all(&buf[..len])?;
        at += len as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lime_has_a_header_before_each_range() {
        let mut memory = |gpa: u64, buf: &mut [u8]| {
            buf.fill((gpa >> 12) as u8);
            Ok(())
        };
        let mut image = Vec::new();
        lime(&mut image, &[0x1000..0x1004, 0x3000..0x3002], &mut memory).expect("writes");
        assert_eq!(image.len(), 32 + 4 + 32 + 2);
        assert_eq!(
            image[..32],
            *b"EMiL\x01\0\0\0\0\x10\0\0\0\0\0\0\x03\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
        );
        assert_eq!(image[32..36], [1; 4]);
        assert_eq!(image[36..40], *b"EMiL");
        assert_eq!(image[68..], [3; 2]);
    }

    #[test]
    fn a_ram_file_is_read_across_parts_and_not_beyond() {
        let path = std::env::temp_dir().join(format!("vmie-synth-ram-{}", std::process::id()));
        std::fs::write(&path, (0..64u8).collect::<Vec<_>>()).expect("temporary file");
        let file = File::open(&path).expect("opens");
        std::fs::remove_file(&path).expect("removes");
        let mut ram = RamFile::new(
            file,
            vec![
                RamPart {
                    range: 0..16,
                    offset: 0,
                },
                RamPart {
                    range: 16..32,
                    offset: 48,
                },
            ],
        );
        let mut buf = [0; 4];
        ram.read(14, &mut buf).expect("both parts");
        assert_eq!(buf, [14, 15, 48, 49]);
        assert!(ram.read(30, &mut buf).is_err());
        let mut image = Vec::new();
        raw(&mut image, &[4..6, 20..22], &mut ram).expect("writes");
        assert_eq!(image, [4, 5, 52, 53]);
    }
}
