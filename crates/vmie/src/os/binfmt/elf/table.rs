//! Tables of an image, some of whose bytes may not be there.

use super::ElfImage;
use crate::addr::{AddrRange, Gva, PAGE_SIZE};
use crate::memory::read_around_holes;

/// No table is read beyond this.
const MAX_TABLE: u64 = 128 << 20;

/// How long one name may be. C++ makes names of some thousand bytes.
pub(super) const MAX_NAME: usize = 32 << 10;

/// Bytes of the image, some of which may not have been readable.
pub(super) struct Table {
    pub(super) bytes: Vec<u8>,
    /// Start and end of each hole, ascending.
    pub(super) holes: Vec<(usize, usize)>,
}

impl Table {
    /// Reads what can be read of a table that must lie within the image.
    pub(super) fn of_image(image: &ElfImage<'_>, at: Gva, len: u64) -> Option<Self> {
        let range = AddrRange::new(at, len)?;
        if !image.range.covers(range) || len > MAX_TABLE {
            return None;
        }
        let mut bytes = vec![0; len as usize];
        let mut holes = Vec::new();
        read_around_holes(image.memory, at, &mut bytes, PAGE_SIZE, |at, len, _| {
            holes.push((at, at + len));
        });
        Some(Self { bytes, holes })
    }

    /// Reads what can be read of a table in the file.
    pub(super) fn of_file(file: &dyn Fn(u64, &mut [u8]) -> bool, offset: u64, len: u64) -> Self {
        let mut bytes = vec![0; len as usize];
        let mut holes = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let here = offset.wrapping_add(at as u64);
            let len = ((PAGE_SIZE - here % PAGE_SIZE) as usize).min(bytes.len() - at);
            if !file(here, &mut bytes[at..at + len]) {
                holes.push((at, at + len));
            }
            at += len;
        }
        Self { bytes, holes }
    }

    /// Whether any of these bytes could not be read.
    fn has_hole(&self, from: usize, to: usize) -> bool {
        let behind = self.holes.partition_point(|&(_, end)| end <= from);
        self.holes.get(behind).is_some_and(|&(start, _)| start < to)
    }

    pub(super) fn get(&self, at: usize, len: usize) -> Option<&[u8]> {
        let end = at.checked_add(len)?;
        let bytes = self.bytes.get(at..end)?;
        (!self.has_hole(at, end)).then_some(bytes)
    }

    /// The text from `at` on up to its NUL.
    pub(super) fn text(&self, at: usize) -> Option<&[u8]> {
        let rest = self.bytes.get(at..)?;
        let len = memchr::memchr(0, &rest[..rest.len().min(MAX_NAME)])?;
        self.get(at, len + 1).map(|text| &text[..len])
    }
}
