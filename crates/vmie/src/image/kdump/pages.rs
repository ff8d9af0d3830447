//! One page at a time: its descriptor, and its bytes decompressed.

use super::super::opening::Pages;
use super::flat::{Bytes, Flat};
use super::{BLOCK, DESCRIPTOR, lzo};
use crate::blocks::{BlockCache, Reader};
use crate::filemap::FileMap;

/// The largest compressed page: what no compressor makes smaller grows by at most a fifth.
const MAX_SIZE: u32 = 2 * BLOCK as u32;

const ZLIB: u32 = 1;
const LZO: u32 = 2;
const SNAPPY: u32 = 4;
const ZSTD: u32 = 0x20;

/// Where a page is, and how it is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Descriptor {
    pub(super) offset: u64,
    pub(super) size: u32,
    flags: u32,
}

impl Descriptor {
    pub(super) fn parse(bytes: &[u8; DESCRIPTOR as usize]) -> Self {
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        Self {
            offset: u64::from_le_bytes(std::array::from_fn(|i| bytes[i])),
            size: word(8),
            flags: word(12),
        }
    }

    /// Whether reading the page takes what this build does not have.
    pub(super) fn is_unknown(self) -> bool {
        cfg!(not(feature = "zstd")) && self.flags == ZSTD
    }

    /// Whether the page is stored as it is.
    pub(super) fn is_plain(self) -> bool {
        self.flags == 0 && u64::from(self.size) == BLOCK
    }
}

/// What it takes to read pages.
#[derive(Debug)]
pub(super) struct Stored {
    /// Offset of the first descriptor.
    descriptors: u64,
    flat: Option<Flat>,
}

impl Stored {
    pub(super) fn new(descriptors: u64, flat: Option<Flat>) -> Self {
        Self { descriptors, flat }
    }

    /// Where the descriptor of a page is.
    fn descriptor(&self, page: u64) -> u64 {
        self.descriptors
            .saturating_add(page.saturating_mul(DESCRIPTOR))
    }
}

impl Pages for Stored {
    fn described_at(&self, page: u64) -> u64 {
        self.descriptor(page)
    }

    fn read(
        &self,
        map: &FileMap,
        cache: &BlockCache,
        position: u64,
        buf: &mut [u8],
        reader: Reader,
    ) -> bool {
        let bytes = Bytes::new(map, self.flat.as_ref());
        let Some(raw) = bytes.array(self.descriptor(position / BLOCK)) else {
            return false;
        };
        let page = Descriptor::parse(&raw);
        let skip = (position % BLOCK) as usize;
        if page.is_plain() {
            let at = page.offset.checked_add(skip as u64);
            return at.is_some_and(|at| bytes.read(at, buf));
        }
        if page.offset == 0 {
            return false;
        }
        // Writers store a page of zeros once for all: known by where it is, not by its number. Two
        // descriptors of one place that differ are damage, and one of them would not decompress.
        let key = page.offset ^ u64::from(page.size) << 40 ^ u64::from(page.flags) << 56;
        cache.read(key, skip, buf, reader, || decode(&bytes, page))
    }
}

/// The bytes of a page; `None` unless they are exactly a page.
fn decode(bytes: &Bytes<'_>, page: Descriptor) -> Option<Vec<u8>> {
    if page.size == 0 || page.size > MAX_SIZE {
        return None;
    }
    let mut packed = vec![0; page.size as usize];
    if !bytes.read(page.offset, &mut packed) {
        return None;
    }
    let mut out = vec![0; BLOCK as usize];
    let len = match page.flags {
        ZLIB => {
            let parts = std::iter::once(packed.as_slice());
            miniz_oxide::inflate::decompress_slice_iter_to_slice(&mut out, parts, true, false)
                .ok()?
        }
        LZO => lzo::decompress(&packed, &mut out)?,
        SNAPPY => {
            // Looked at first: the decoder would make room for what is announced.
            if snap::raw::decompress_len(&packed).ok()? != out.len() {
                return None;
            }
            snap::raw::Decoder::new()
                .decompress(&packed, &mut out)
                .ok()?
        }
        ZSTD => zstd_page(&packed, &mut out)?,
        _ => return None,
    };
    (len == out.len()).then_some(out)
}

#[cfg(feature = "zstd")]
fn zstd_page(packed: &[u8], out: &mut [u8]) -> Option<usize> {
    zstd::bulk::decompress_to_buffer(packed, out).ok()
}

#[cfg(not(feature = "zstd"))]
fn zstd_page(_: &[u8], _: &mut [u8]) -> Option<usize> {
    None
}
