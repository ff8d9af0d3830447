//! Blocks of pages, compressed and decompressed.

use std::borrow::Cow;
use std::sync::OnceLock;

use xxhash_rust::xxh3::xxh3_64;

use super::super::slot::Slot;
use super::{BLOCK_PAGES, Compression, FileErrorKind as Kind};
use crate::scan::Run;
use crate::sweep::Pool;

/// Blocks compressed together by each thread.
const BLOCKS_PER_THREAD: usize = 16;

/// A block as it stands in the file.
struct Packed<'c> {
    bytes: Cow<'c, [u8]>,
    sum: u64,
}

/// How to save.
#[derive(Clone, Copy, Debug, Default)]
pub struct SaveOptions {
    /// How to compress.
    pub compression: Compression,
}

/// Compresses blocks, on as many threads as were asked for.
#[derive(Debug)]
pub(in super::super) struct Packer {
    compression: Compression,
    threads: usize,
    /// Started when there is something to compress; `None` where one thread will do, or the system refuses more.
    pool: OnceLock<Option<Pool>>,
}

impl Packer {
    /// On so many threads; 0 for as many as the machine has.
    pub(in super::super) fn new(compression: Compression, threads: usize) -> Self {
        Self {
            compression,
            threads,
            pool: OnceLock::new(),
        }
    }

    /// On the threads of a run.
    pub(super) fn of_run(compression: Compression, run: &Run<'_>) -> Self {
        let mut packer = Self::new(compression, run.thread_count());
        if let Some(shared) = run.shared_pool() {
            packer.pool = OnceLock::from(Some(shared.clone()));
        }
        packer
    }

    fn pool(&self) -> Option<&Pool> {
        let start = || match self.threads {
            1 => None,
            // Without threads it takes longer, and that is all.
            threads => Pool::new(threads).ok(),
        };
        let pool = self.pool.get_or_init(start).as_ref();
        pool.filter(|pool| pool.threads() > 1)
    }

    /// Passes on the blocks of these pages in order, each with its checksum. `gather` gives the bytes of up to
    /// [`BLOCK_PAGES`] of them.
    pub(in super::super) fn pack<'c>(
        &self,
        order: &[Slot],
        gather: impl Fn(&[Slot]) -> Result<Cow<'c, [u8]>, Kind> + Sync,
        mut emit: impl FnMut(&[u8], u64) -> Result<(), Kind>,
    ) -> Result<(), Kind> {
        let one = |pages: &[Slot]| self.block(gather(pages)?);
        let pool = self.pool();
        let threads = pool.map_or(1, Pool::threads);
        for batch in order.chunks(threads * BLOCKS_PER_THREAD * BLOCK_PAGES) {
            let blocks: Vec<Result<Packed<'_>, Kind>> = match pool {
                Some(pool) => {
                    let chunks: Vec<&[Slot]> = batch.chunks(BLOCK_PAGES).collect();
                    pool.map(chunks.len(), &|index| one(chunks[index]))
                }
                None => batch.chunks(BLOCK_PAGES).map(one).collect(),
            };
            for block in blocks {
                let block = block?;
                emit(&block.bytes, block.sum)?;
            }
        }
        Ok(())
    }

    fn block<'c>(&self, plain: Cow<'c, [u8]>) -> Result<Packed<'c>, Kind> {
        let packed = match self.compression {
            Compression::None => None,
            Compression::Lz4 => Some(lz4_flex::block::compress(&plain)),
            #[cfg(feature = "zstd")]
            Compression::Zstd => Some(zstd::bulk::compress(
                &plain,
                zstd::DEFAULT_COMPRESSION_LEVEL,
            )?),
        };
        // What does not get smaller is kept as it is, which is told by its length.
        let bytes = match packed {
            Some(packed) if packed.len() < plain.len() => Cow::Owned(packed),
            _ => plain,
        };
        Ok(Packed {
            sum: xxh3_64(&bytes),
            bytes,
        })
    }
}

/// Decompresses a block of this size, or answers `None`.
pub(in super::super) fn unpack(
    compression: Compression,
    packed: &[u8],
    size: usize,
) -> Option<Vec<u8>> {
    let mut bytes = vec![0; size];
    let len = match compression {
        Compression::None => return None,
        Compression::Lz4 => lz4_flex::block::decompress_into(packed, &mut bytes).ok()?,
        #[cfg(feature = "zstd")]
        Compression::Zstd => zstd::bulk::decompress_to_buffer(packed, &mut bytes).ok()?,
    };
    (len == size).then_some(bytes)
}
