//! Snapshots as files: each distinct page once, compressed, with checksums, opened by mapping.
//!
//! ```text
//! tables | block | block | ... | tables
//! ```
//!
//! The [`tables`] say what was mapped, which content each page has, and where each block is. They stand
//! at both ends: a file that was cut has lost blocks and not the knowledge of what is in the others, and
//! damage to one copy leaves the other. A block holds up to [`BLOCK_PAGES`] distinct pages, compressed
//! together where that makes them smaller, and has a checksum (XXH3) of its own.
//!
//! Opening verifies everything and refuses a file of which anything is not what was written.
//! [`Snapshot::salvage`] takes what is intact; the rest faults with [`Cause::Damaged`](crate::Cause::Damaged).
//!
//! Pages with the same hash are shared only if their bytes are the same: guests can make pages that
//! collide.

mod blocks;
mod pack;
mod read;
mod tables;
#[cfg(test)]
mod tests;
mod write;

use std::io;
use std::path::{Path, PathBuf};

pub(super) use blocks::Blocks;
pub use pack::SaveOptions;
pub(super) use pack::{Packer, unpack};
pub(super) use read::{map, places};
pub(super) use tables::{Form, Tables};
pub use write::Saved;

#[cfg(doc)]
use super::Snapshot;

/// Distinct pages in one block: 64 KiB of them compress nearly as well as more, and reading a page
/// decompresses no more than that.
pub(super) const BLOCK_PAGES: usize = 16;

/// How blocks are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4: fast in both directions.
    #[default]
    Lz4,
    /// Zstandard: smaller files, written at a third of the speed.
    #[cfg(feature = "zstd")]
    Zstd,
}

impl Compression {
    /// The number that stands for it in files.
    pub(super) fn tag(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Lz4 => 1,
            #[cfg(feature = "zstd")]
            Self::Zstd => 2,
        }
    }

    pub(super) fn of_tag(tag: u32) -> Result<Self, FileErrorKind> {
        match tag {
            0 => Ok(Self::None),
            1 => Ok(Self::Lz4),
            #[cfg(feature = "zstd")]
            2 => Ok(Self::Zstd),
            #[cfg(not(feature = "zstd"))]
            2 => Err(FileErrorKind::Compression("Zstandard")),
            _ => Err(FileErrorKind::Inconsistent("its compression")),
        }
    }

    /// The name the command uses: `none`, `lz4`, `zstd`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            #[cfg(feature = "zstd")]
            Self::Zstd => "zstd",
        }
    }
}

/// A snapshot that could not be saved or opened.
#[derive(Debug, thiserror::Error)]
#[error("{}: {kind}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub kind: FileErrorKind,
}

/// What is wrong with a file of a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileErrorKind {
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It does not begin as a snapshot does.
    #[error("not a snapshot")]
    Foreign,
    /// It was written by another version of vmie.
    #[error("a snapshot of format version {found}; this vmie reads version {expected}")]
    Version {
        /// What the file says.
        found: u32,
        /// What would do.
        expected: u32,
    },
    /// It is a snapshot of physical memory where one of virtual memory was expected, or the reverse.
    #[error("a snapshot of {found} memory, where one of {expected} memory was expected")]
    Space {
        /// What the file says.
        found: &'static str,
        /// What would do.
        expected: &'static str,
    },
    /// It is compressed in a way that this build does not know.
    #[error("compressed with {0}, which this build of vmie leaves out")]
    Compression(&'static str),
    /// The file ends before the snapshot does, or goes on behind it.
    #[error("the file has {found} bytes, and the snapshot {expected}: it was cut or added to")]
    Length {
        /// Bytes in the file.
        found: u64,
        /// Bytes there should be.
        expected: u64,
    },
    /// The bytes are not those that were written.
    #[error("damaged: the {part} at offset {offset:#x} ({len} bytes) do not have their checksum")]
    Damaged {
        /// Which part.
        part: &'static str,
        /// Where it begins.
        offset: u64,
        /// How long it is.
        len: u64,
    },
    /// The checksums are right, and what is said makes no sense.
    #[error("not a snapshot that vmie wrote: {0}")]
    Inconsistent(&'static str),
    /// The snapshot cannot be read itself, so it cannot be saved.
    #[error("the contents at page {page} cannot be read: {cause}")]
    Unreadable {
        /// The number of the page.
        page: u64,
        /// Why.
        cause: crate::Cause,
    },
    /// The pages of the series that a moment is of cannot be read.
    #[error("its pages: {0}")]
    Pages(#[source] Box<FileError>),
    /// The directory holds no series.
    #[error("no series of moments: it has no pages.vmie")]
    NoSeries,
    /// The directory holds a series already.
    #[error("it holds a series of moments already")]
    Exists,
    /// Another process is adding moments to the series.
    #[error("another process is adding moments to it")]
    Busy,
    /// `progress` ended it.
    #[error("stopped")]
    Stopped,
}

/// What a file says it is a snapshot of, or a moment of a series, by its first bytes: `"physical"` or `"virtual"`
/// memory, or `None` when it is neither.
///
/// # Errors
///
/// When the file cannot be read.
pub fn holds(path: impl AsRef<Path>) -> io::Result<Option<&'static str>> {
    use std::io::Read as _;

    let mut head = [0; tables::SPACE_AT + 1];
    match std::fs::File::open(path)?.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let form = Form::ALL
        .into_iter()
        .find(|form| head.starts_with(form.magic()));
    Ok(form.map(|_| tables::space_name(head[tables::SPACE_AT])))
}
