//! The pages of a series: one file that only grows, of blocks as snapshots have them.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `vmiepags` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | compression of blocks, as in the tables of a snapshot |
//! | 16 | | blocks without gaps |
//!
//! Which blocks there are is said by the snapshots. Every block is full: the last one of each snapshot is filled
//! up with zeros, so that a page is found by its number. What follows the last block that a snapshot knows of
//! was written by a process that was killed; whoever adds the next snapshot cuts it off.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use vmie_replace::Replacement;

use super::super::file::{BLOCK_PAGES, Compression, FileError, FileErrorKind as Kind, unpack};
use super::super::layout::SNAPSHOT_PAGE;
use super::super::slot::{Slot, ZERO};
use crate::blocks::BlockCache;
use crate::filemap::FileMap;

const MAGIC: &[u8; 8] = b"vmiepags";
const VERSION: u32 = 1;
pub(super) const HEADER: usize = 16;

/// Bytes of a block before it is compressed.
pub(super) const BLOCK: usize = BLOCK_PAGES * SNAPSHOT_PAGE;

/// Bytes of decompressed blocks that are kept while snapshots are added.
const CACHE: usize = 4 << 20;

/// Where the pages of a series are.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("pages.vmie")
}

/// What is wrong with that file.
pub(super) fn error(dir: &Path, kind: Kind) -> FileError {
    let path = path(dir);
    FileError { path, kind }
}

/// How the blocks of a series are compressed, by the beginning of its pages.
pub(super) fn header(bytes: &[u8]) -> Result<Compression, Kind> {
    let header = bytes.get(..HEADER).ok_or(Kind::Foreign)?;
    let number = |at: usize| {
        let bytes = header[at..].first_chunk().expect("within the header");
        u32::from_le_bytes(*bytes)
    };
    if !header.starts_with(MAGIC) {
        return Err(Kind::Foreign);
    }
    match number(8) {
        VERSION => Compression::of_tag(number(12)),
        found => Err(Kind::Version {
            found,
            expected: VERSION,
        }),
    }
}

/// The pages of a series, to be read by all of its snapshots.
pub(super) fn map(dir: &Path) -> Result<(FileMap, Compression), Kind> {
    let map = super::super::file::map(&path(dir))?;
    let compression = header(map.slice(0, HEADER).unwrap_or_default())?;
    Ok((map, compression))
}

/// The pages of a series, to be added to by one process at a time.
#[derive(Debug)]
pub(super) struct Store {
    file: File,
    pub(super) compression: Compression,
    /// Length and checksum of each block.
    pub(super) blocks: Vec<(u64, u64)>,
    /// Where each block begins, and where the next one will.
    offsets: Vec<u64>,
    /// The first page of each hash.
    by_hash: HashMap<u64, Slot>,
    cache: BlockCache,
}

impl Store {
    /// A new file, that must not be there.
    pub(super) fn create(dir: &Path, compression: Compression) -> Result<Self, Kind> {
        let mut file = Replacement::create(&path(dir))?;
        // Before anybody else can see it.
        lock(file.file())?;
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..].copy_from_slice(&compression.tag().to_le_bytes());
        file.write_all(&header)?;
        let file = file.commit_new()?;
        Ok(Self::new(file, compression))
    }

    /// The file of a series.
    pub(super) fn open(dir: &Path) -> Result<Self, Kind> {
        let mut file = OpenOptions::new().read(true).write(true).open(path(dir))?;
        lock(&file)?;
        let mut bytes = [0; HEADER];
        match file.read_exact(&mut bytes) {
            Ok(()) => {}
            // Cut off, or of a file system that has neither links nor files without names.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(Kind::Foreign);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Self::new(file, header(&bytes)?))
    }

    fn new(file: File, compression: Compression) -> Self {
        Self {
            file,
            compression,
            blocks: Vec::new(),
            offsets: vec![HEADER as u64],
            by_hash: HashMap::new(),
            cache: BlockCache::new(CACHE),
        }
    }

    /// Takes these blocks for the whole file, and cuts off what is behind them.
    pub(super) fn take_over(&mut self, blocks: &[(u64, u64)]) -> Result<(), Kind> {
        for &(len, sum) in blocks {
            self.note(len, sum);
        }
        let end = self.end();
        if self.file.metadata()?.len() < end {
            return Err(Kind::Length {
                found: self.file.metadata()?.len(),
                expected: end,
            });
        }
        Ok(self.file.set_len(end)?)
    }

    fn note(&mut self, len: u64, sum: u64) {
        self.blocks.push((len, sum));
        self.offsets.push(self.end() + len);
    }

    fn end(&self) -> u64 {
        self.offsets.last().copied().unwrap_or(HEADER as u64)
    }

    /// How many pages there are, with those that fill up blocks.
    pub(super) fn pages(&self) -> u64 {
        (self.blocks.len() * BLOCK_PAGES) as u64
    }

    /// The page of this hash; it may be another one than is looked for.
    pub(super) fn by_hash(&self, hash: u64) -> Option<Slot> {
        self.by_hash.get(&hash).copied()
    }

    /// Remembers the first page of a hash.
    pub(super) fn remember(&mut self, hash: u64, page: Slot) {
        self.by_hash.entry(hash).or_insert(page);
    }

    /// The number of the `more`th page that is not written yet; `None` when there are no numbers left.
    pub(super) fn next(&self, more: usize) -> Option<Slot> {
        // So that the block it will be in can be filled up.
        let last = self.pages() + (more + BLOCK_PAGES) as u64;
        Slot::try_from(last).ok().filter(|&last| last < ZERO)?;
        Slot::try_from(self.pages() + more as u64).ok()
    }

    /// Writes a block behind the others.
    pub(super) fn write(&mut self, bytes: &[u8], sum: u64) -> Result<(), Kind> {
        self.file.seek(SeekFrom::Start(self.end()))?;
        self.file.write_all(bytes)?;
        self.note(bytes.len() as u64, sum);
        Ok(())
    }

    /// Makes what was written last.
    pub(super) fn sync(&self) -> Result<(), Kind> {
        Ok(self.file.sync_data()?)
    }

    /// Looks at the bytes of a page that was written.
    pub(super) fn page<R>(&self, page: Slot, look: impl FnOnce(&[u8]) -> R) -> Result<R, Kind> {
        let index = page as usize / BLOCK_PAGES;
        let block = self.cache.get(index as u64, || self.block(index))?;
        Ok(look(
            &block[page as usize % BLOCK_PAGES * SNAPSHOT_PAGE..][..SNAPSHOT_PAGE],
        ))
    }

    fn block(&self, index: usize) -> Result<Vec<u8>, Kind> {
        let (len, offset) = (self.blocks[index].0, self.offsets[index]);
        let damaged = Kind::Damaged {
            part: "contents",
            offset,
            len,
        };
        // A block is never longer than its pages.
        let mut bytes = vec![0; len.min(BLOCK as u64) as usize];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut bytes)?;
        if bytes.len() < BLOCK {
            bytes = unpack(self.compression, &bytes, BLOCK).ok_or(damaged)?;
        }
        Ok(bytes)
    }
}

/// Two processes that write would write over each other.
fn lock(file: &File) -> Result<(), Kind> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Kind::Busy),
        // Where files cannot be locked, nobody else is told either.
        Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
            Ok(())
        }
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}
