//! Guest physical memory: declared RAM, and everything else is a hole.
//!
//! Two stores behind one type. *Sparse* keeps only pages that were written, so a guest may own RAM
//! at 0 and above 4 GiB and cost a few pages; RAM that was never written reads as zeros. *Dense* is
//! one buffer from address 0, for the benches, where a lookup for each page would dominate.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
#[cfg(unix)]
use std::os::unix::fs::FileExt as _;

use crate::write::{RamPart, Source};

/// Bytes in a page frame.
pub const PAGE: u64 = 4096;

const PAGE_BYTES: usize = PAGE as usize;

type Frame = Box<[u8; PAGE_BYTES]>;

/// The first address of a read at which there is no RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there is no RAM at physical address {gpa:#x}")]
pub struct Absent {
    /// The physical address.
    pub gpa: u64,
}

#[derive(Clone)]
enum Store {
    Sparse(BTreeMap<u64, Frame>),
    Dense(Vec<u8>),
}

/// Physical memory of a guest.
#[derive(Clone)]
pub struct Phys {
    store: Store,
    /// Sorted, disjoint, not touching, page-aligned.
    ranges: Vec<Range<u64>>,
}

impl Phys {
    /// Sparse memory without any RAM yet.
    pub fn sparse() -> Self {
        Self {
            store: Store::Sparse(BTreeMap::new()),
            ranges: Vec::new(),
        }
    }

    /// Dense memory with RAM from 0 to `len`, all zeros.
    ///
    /// # Panics
    /// When `len` is zero or not a multiple of the page size.
    pub fn dense(len: u64) -> Self {
        let bytes = usize::try_from(len).expect("dense memory fits the host's address space");
        let mut phys = Self {
            store: Store::Dense(vec![0; bytes]),
            ranges: Vec::new(),
        };
        phys.add_ram(0..len);
        phys
    }

    /// Declares `range` to be RAM. Ranges may touch or overlap earlier ones.
    ///
    /// # Panics
    /// When the range is empty, not page-aligned, past 2^52 (the architecture's limit), or outside
    /// the buffer of a dense memory.
    pub fn add_ram(&mut self, range: Range<u64>) {
        check(&range);
        if let Store::Dense(bytes) = &self.store {
            assert!(range.end <= bytes.len() as u64, "RAM outside dense memory");
        }
        self.ranges.push(range);
        self.ranges.sort_unstable_by_key(|r| r.start);
        let mut merged: Vec<Range<u64>> = Vec::with_capacity(self.ranges.len());
        for range in self.ranges.drain(..) {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        self.ranges = merged;
    }

    /// Declares that `range` holds no RAM, and forgets what was there.
    ///
    /// # Panics
    /// When the range is empty, not page-aligned or past 2^52.
    pub fn make_absent(&mut self, range: Range<u64>) {
        check(&range);
        self.ranges = std::mem::take(&mut self.ranges)
            .into_iter()
            .flat_map(|r| {
                [
                    r.start..r.end.min(range.start),
                    r.start.max(range.end)..r.end,
                ]
            })
            .filter(|r| !r.is_empty())
            .collect();
        match &mut self.store {
            Store::Sparse(frames) => {
                let mut tail = frames.split_off(&(range.start / PAGE));
                frames.append(&mut tail.split_off(&(range.end / PAGE)));
            }
            Store::Dense(bytes) => {
                let end = range.end.min(bytes.len() as u64) as usize;
                let start = (range.start as usize).min(end);
                bytes[start..end].fill(0);
            }
        }
    }

    /// Where RAM is: sorted, page-aligned ranges that neither overlap nor touch.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// Bytes of RAM.
    pub fn ram_bytes(&self) -> u64 {
        self.ranges.iter().map(|r| r.end - r.start).sum()
    }

    /// Whether all of `len` bytes from `gpa` are RAM.
    pub fn contains(&self, gpa: u64, len: u64) -> bool {
        self.ram_from(gpa) >= len
    }

    /// Bytes of RAM from `gpa` to the end of its range; zero in a hole.
    fn ram_from(&self, gpa: u64) -> u64 {
        let behind = self.ranges.partition_point(|r| r.start <= gpa);
        behind
            .checked_sub(1)
            .map_or(0, |i| self.ranges[i].end.saturating_sub(gpa))
    }

    /// Fills `buf` from `gpa` on.
    ///
    /// # Errors
    /// The first address without RAM; `buf` then holds the bytes before it.
    pub fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), Absent> {
        let wanted = buf.len() as u64;
        let here = self.ram_from(gpa).min(wanted);
        let buf_here = &mut buf[..here as usize];
        match &self.store {
            Store::Dense(bytes) => {
                let start = gpa as usize;
                if here > 0 {
                    buf_here.copy_from_slice(&bytes[start..start + buf_here.len()]);
                }
            }
            Store::Sparse(frames) => {
                for (pfn, offset, part) in pieces(gpa, buf_here.len()) {
                    let out = &mut buf_here[part];
                    match frames.get(&pfn) {
                        Some(frame) => out.copy_from_slice(&frame[offset..offset + out.len()]),
                        None => out.fill(0),
                    }
                }
            }
        }
        if here == wanted {
            Ok(())
        } else {
            Err(Absent { gpa: gpa + here })
        }
    }

    /// Writes a raw file that has its parts where they say: what was never written, and what lies between parts, are holes in it.
    ///
    /// # Errors
    /// The file's.
    #[cfg(unix)]
    pub fn save(&self, file: &File, parts: &[RamPart]) -> io::Result<()> {
        let len = parts
            .iter()
            .map(|part| part.offset + (part.range.end - part.range.start));
        file.set_len(len.max().unwrap_or(0))?;
        let pages: Vec<(u64, Vec<u8>)> = match &self.store {
            Store::Sparse(frames) => {
                let page = |(pfn, frame): (&u64, &Frame)| (pfn * PAGE, frame.to_vec());
                frames.iter().map(page).collect()
            }
            Store::Dense(bytes) => {
                let pages = (0..).step_by(PAGE_BYTES).zip(bytes.chunks(PAGE_BYTES));
                pages.map(|(gpa, page)| (gpa, page.to_vec())).collect()
            }
        };
        for (gpa, page) in pages {
            for part in parts.iter().filter(|part| part.range.contains(&gpa)) {
                file.write_all_at(&page, part.offset + (gpa - part.range.start))?;
            }
        }
        Ok(())
    }

    /// Stores `data` at `gpa`.
    ///
    /// # Panics
    /// When any of it would lie outside RAM.
    pub fn write(&mut self, gpa: u64, data: &[u8]) {
        assert!(
            self.contains(gpa, data.len() as u64),
            "writing {} bytes at {gpa:#x}, where there is no RAM",
            data.len()
        );
        match &mut self.store {
            Store::Dense(bytes) => {
                let start = gpa as usize;
                bytes[start..start + data.len()].copy_from_slice(data);
            }
            Store::Sparse(frames) => {
                for (pfn, offset, part) in pieces(gpa, data.len()) {
                    let frame = frames
                        .entry(pfn)
                        .or_insert_with(|| Box::new([0; PAGE_BYTES]));
                    frame[offset..offset + part.len()].copy_from_slice(&data[part]);
                }
            }
        }
    }

    /// Reads a little-endian number of `size` (4 or 8) bytes.
    ///
    /// # Errors
    /// As for [`Phys::read`].
    pub fn read_uint(&self, gpa: u64, size: u64) -> Result<u64, Absent> {
        let mut bytes = [0; 8];
        self.read(gpa, &mut bytes[..size as usize])?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Stores the low `size` (4 or 8) bytes of `value`, little-endian.
    ///
    /// # Panics
    /// When they would lie outside RAM.
    pub fn write_uint(&mut self, gpa: u64, value: u64, size: u64) {
        self.write(gpa, &value.to_le_bytes()[..size as usize]);
    }

    /// All of physical memory as one buffer from address 0 to the end of RAM, holes as zeros.
    /// Copies, unless the memory is dense already; as large as the highest RAM address.
    pub fn into_dense(self) -> Vec<u8> {
        let end = self.ranges.last().map_or(0, |r| r.end) as usize;
        match self.store {
            Store::Dense(mut bytes) => {
                bytes.truncate(end);
                bytes
            }
            Store::Sparse(frames) => {
                let mut bytes = vec![0; end];
                for (pfn, frame) in frames {
                    let start = (pfn * PAGE) as usize;
                    bytes[start..start + PAGE_BYTES].copy_from_slice(&frame[..]);
                }
                bytes
            }
        }
    }
}

/// Physical memory as the source of an image: `write::raw(out, phys.ranges(), &mut &phys)`.
impl Source for &Phys {
    fn read(&mut self, gpa: u64, buf: &mut [u8]) -> io::Result<()> {
        Phys::read(self, gpa, buf).map_err(|absent| io::Error::new(io::ErrorKind::NotFound, absent))
    }
}

/// Splits `len` bytes from `gpa` at page borders: frame number, offset in it, part of the buffer.
fn pieces(gpa: u64, len: usize) -> impl Iterator<Item = (u64, usize, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = gpa + done as u64;
        let offset = (at % PAGE) as usize;
        let part = done..len.min(done + PAGE_BYTES - offset);
        done = part.end;
        Some((at / PAGE, offset, part))
    })
}

fn check(range: &Range<u64>) {
    assert!(
        range.start < range.end
            && range.start.is_multiple_of(PAGE)
            && range.end.is_multiple_of(PAGE)
            && range.end <= 1 << 52,
        "not a range of whole pages below 2^52: {range:#x?}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_merge_and_split() {
        let mut phys = Phys::sparse();
        phys.add_ram(0x5000..0x9000);
        phys.add_ram(0..0x2000);
        phys.add_ram(0x2000..0x3000);
        assert_eq!(phys.ranges(), [0..0x3000, 0x5000..0x9000]);
        phys.make_absent(0x6000..0x7000);
        phys.make_absent(0x2000..0x4000);
        assert_eq!(phys.ranges(), [0..0x2000, 0x5000..0x6000, 0x7000..0x9000]);
        assert_eq!(phys.ram_bytes(), 0x5000);
    }

    #[test]
    fn both_stores_read_alike() {
        let mut sparse = Phys::sparse();
        sparse.add_ram(0..0x4000);
        let mut dense = Phys::dense(0x4000);
        for phys in [&mut sparse, &mut dense] {
            phys.write(0xffe, b"abcd");
            phys.write_uint(0x3ffc, 0x1122_3344, 4);
            phys.make_absent(0x2000..0x3000);

            let mut buf = [0xee; 8];
            assert_eq!(phys.read(0xffc, &mut buf), Ok(()));
            assert_eq!(&buf, b"\0\0abcd\0\0");
            buf = [0xee; 8];
            assert_eq!(phys.read(0x1ffc, &mut buf), Err(Absent { gpa: 0x2000 }));
            assert_eq!(buf, [0, 0, 0, 0, 0xee, 0xee, 0xee, 0xee]);
            assert_eq!(phys.read(0x2abc, &mut buf), Err(Absent { gpa: 0x2abc }));
            assert_eq!(phys.read(0x3ffc, &mut buf), Err(Absent { gpa: 0x4000 }));
            assert_eq!(phys.read_uint(0x3ffc, 4), Ok(0x1122_3344));
            assert_eq!(phys.read(u64::MAX, &mut buf), Err(Absent { gpa: u64::MAX }));
        }
        assert_eq!(sparse.into_dense(), dense.into_dense());
    }

    #[test]
    fn absent_memory_is_forgotten() {
        let mut phys = Phys::sparse();
        phys.add_ram(0..0x3000);
        phys.write(0x1000, b"gone");
        phys.write(0x2000, b"kept");
        phys.make_absent(0x1000..0x2000);
        phys.add_ram(0x1000..0x2000);
        assert_eq!(phys.read_uint(0x1000, 4), Ok(0));
        assert_eq!(
            phys.read_uint(0x2000, 4),
            Ok(u64::from(u32::from_le_bytes(*b"kept")))
        );
    }

    #[test]
    fn is_a_source_of_images() {
        let mut phys = Phys::sparse();
        phys.add_ram(0x1000..0x2000);
        phys.add_ram(0x1_0000_0000..0x1_0000_1000);
        phys.write(0x1_0000_0000, b"high");
        let mut image = Vec::new();
        crate::write::raw(&mut image, phys.ranges(), &mut &phys).expect("all of it is RAM");
        assert_eq!(image.len(), 0x2000);
        assert_eq!(&image[0x1000..0x1004], b"high");
    }

    #[test]
    #[should_panic(expected = "no RAM")]
    fn writing_into_a_hole_panics() {
        let mut phys = Phys::sparse();
        phys.add_ram(0..0x1000);
        phys.write(0xfff, b"xy");
    }
}
