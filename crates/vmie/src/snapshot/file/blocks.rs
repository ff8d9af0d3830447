//! The contents of a file, decompressed when they are asked for.

use super::super::layout::SNAPSHOT_PAGE;
use super::super::slot::Slot;
use super::{BLOCK_PAGES, Compression, unpack};
use crate::blocks::{BlockCache, Reader};
use crate::filemap::FileMap;
use crate::memory::Cause;

/// Where a block is.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Place {
    pub(in super::super) offset: u64,
    pub(in super::super) len: u32,
    /// Whether its bytes are what was written.
    pub(in super::super) intact: bool,
}

/// A mapped file and what was lately read of it.
pub(in super::super) struct Blocks {
    map: FileMap,
    compression: Compression,
    pages: u64,
    places: Vec<Place>,
    cache: BlockCache,
}

impl Blocks {
    /// Bytes of decompressed blocks that are kept.
    const CACHE: usize = 8 << 20;

    pub(in super::super) fn new(
        map: FileMap,
        compression: Compression,
        pages: u64,
        places: Vec<Place>,
    ) -> Self {
        Self {
            map,
            compression,
            pages,
            places,
            cache: BlockCache::new(Self::CACHE),
        }
    }

    /// Distinct pages.
    pub(in super::super) fn pages(&self) -> u64 {
        self.pages
    }

    /// Copies a part of a page, from its byte `skip` on.
    pub(in super::super) fn read(
        &self,
        slot: Slot,
        skip: usize,
        buf: &mut [u8],
    ) -> Result<(), Cause> {
        let index = slot as usize / BLOCK_PAGES;
        let from = slot as usize % BLOCK_PAGES * SNAPSHOT_PAGE + skip;
        let place = self.places[index];
        let damaged = Cause::Damaged {
            offset: place.offset,
        };
        if !place.intact {
            return Err(damaged);
        }
        if place.len as usize == self.size(index) {
            // Stored as it is.
            return match self.map.read(place.offset + from as u64, buf) {
                true => Ok(()),
                false => Err(damaged),
            };
        }
        let unpacked = self
            .cache
            .read(index as u64, from, buf, Reader::Looking, || {
                let packed = self.map.slice(place.offset, place.len as usize)?;
                unpack(self.compression, packed, self.size(index))
            });
        if unpacked { Ok(()) } else { Err(damaged) }
    }

    /// Bytes in a block when it is decompressed.
    fn size(&self, index: usize) -> usize {
        let first = (index * BLOCK_PAGES) as u64;
        (self.pages - first).min(BLOCK_PAGES as u64) as usize * SNAPSHOT_PAGE
    }
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blocks")
            .field("map", &self.map)
            .field("pages", &self.pages)
            .finish_non_exhaustive()
    }
}
