//! The contents of a file, decompressed when they are asked for.

use std::sync::{Arc, Mutex, PoisonError};

use super::super::content::Slot;
use super::super::layout::PAGE;
use super::{BLOCK_PAGES, Compression, unpack};
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
    cache: [Mutex<Shelf>; Blocks::SHELVES],
}

/// A few decompressed blocks, the one used last at the end.
type Shelf = Vec<(usize, Arc<[u8]>)>;

impl Blocks {
    // 16 * 8 blocks are 8 MiB; threads that sweep rarely meet at the same shelf.
    const SHELVES: usize = 16;
    const PER_SHELF: usize = 8;

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
            cache: std::array::from_fn(|_| Mutex::default()),
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
        let from = slot as usize % BLOCK_PAGES * PAGE + skip;
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
        let block = self.block(index, place).ok_or(damaged)?;
        let bytes = block.get(from..from + buf.len()).ok_or(damaged)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }

    /// Bytes in a block when it is decompressed.
    fn size(&self, index: usize) -> usize {
        let first = (index * BLOCK_PAGES) as u64;
        (self.pages - first).min(BLOCK_PAGES as u64) as usize * PAGE
    }

    fn block(&self, index: usize, place: Place) -> Option<Arc<[u8]>> {
        let lock = || {
            // A panic while the lock is held cannot leave a shelf in a wrong state.
            let shelf = self.cache[index % Self::SHELVES].lock();
            shelf.unwrap_or_else(PoisonError::into_inner)
        };
        {
            let mut shelf = lock();
            if let Some(at) = shelf.iter().position(|(one, _)| *one == index) {
                shelf[at..].rotate_left(1);
                return shelf.last().map(|(_, block)| Arc::clone(block));
            }
        }
        // Outside the lock: two threads may decompress the same block, none waits for another's.
        let packed = self.map.slice(place.offset, place.len as usize)?;
        let block: Arc<[u8]> = unpack(self.compression, packed, self.size(index))?.into();
        let mut shelf = lock();
        if shelf.len() == Self::PER_SHELF {
            shelf.remove(0);
        }
        shelf.push((index, Arc::clone(&block)));
        Some(block)
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
