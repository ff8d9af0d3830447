//! What a format's module is given to open, and what it makes of it.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::advice::Advice;
use super::error::OpenErrorKind;
use super::format::Format;
use super::layout::Layout;
use super::segments::SegmentsBuilder;
use crate::blocks::{BlockCache, Reader};
use crate::filemap::FileMap;
use crate::hints::Hints;

/// What can be said about a file beforehand.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OpenOptions {
    /// Where the bytes of a raw image belong. `None` lays it out from address 0 on.
    ///
    /// With a layout, a file that vmie would name and refuse (a compressed file, a foreign dump) is
    /// read as raw memory. A file in a format that vmie reads needs an explicit layout for that; a
    /// machine's layout is an error for it.
    pub layout: Option<Layout>,
    /// The state file of a Firecracker snapshot whose memory file is opened. It says where the bytes belong and
    /// what the CPUs were doing, so a layout beside it is an error.
    ///
    /// What is a hole in the memory file and in all [`bases`](Self::bases) is absent, unless
    /// [`holes_are_zeros`](Self::holes_are_zeros).
    pub state: Option<PathBuf>,
    /// What lies under a raw image that holds only what has changed and has holes for the rest: the files to
    /// see through its holes, from the one right below it down to the oldest. All have the same length.
    pub bases: Vec<PathBuf>,
    /// Whether a hole in the oldest file (of [`bases`](Self::bases), or with [`state`](Self::state) the image itself) is
    /// zeros that a copy left out, and not memory that was never saved.
    pub holes_are_zeros: bool,
}

impl OpenOptions {
    /// Whether there are files beside the source or under it.
    pub(crate) fn has_companions(&self) -> bool {
        self.state.is_some() || !self.bases.is_empty()
    }
}

/// What a format's module makes of it.
pub(super) struct Opened {
    /// The files that hold the memory, the one on top first.
    pub(super) maps: Vec<FileMap>,
    /// What it is after all: some formats have two names.
    pub(super) format: Format,
    pub(super) parsed: Parsed,
}

impl Opened {
    /// An image that is in one file.
    pub(super) fn one(map: FileMap, format: Format, parsed: Parsed) -> Self {
        Self {
            maps: vec![map],
            format,
            parsed,
        }
    }
}

/// What the headers say.
pub(super) struct Parsed {
    pub(super) builder: SegmentsBuilder,
    pub(super) hints: Hints,
    /// Oddities, for the user.
    pub(super) notes: Vec<String>,
    /// What the notes say to try.
    pub(super) advice: Vec<Advice>,
    /// For segments of pages that are stored one by one
    /// ([`Backing::Page`](super::segments::Backing::Page)).
    pub(super) pages: Option<Box<dyn Pages>>,
}

/// What it takes to read pages that a format stores one by one, most of them compressed.
pub(super) trait Pages: Send + Sync + fmt::Debug {
    /// Copies bytes that begin at this position of all pages in the file, one after the other, and do not
    /// reach into the next page. Answers `false` when the page does not decompress to a page.
    #[must_use]
    fn read(
        &self,
        map: &FileMap,
        cache: &BlockCache,
        position: u64,
        buf: &mut [u8],
        reader: Reader,
    ) -> bool;

    /// Where in the file it is said where a page is, for messages.
    fn described_at(&self, page: u64) -> u64;
}

/// The answer to a file whose headers would fill this machine's memory.
pub(super) const TOO_MANY_PARTS: OpenErrorKind = OpenErrorKind::Unsupported {
    found: Cow::Borrowed("an image in more than 33 million pieces"),
    advice: Advice::Other("convert it to raw memory"),
};

/// Opens and maps a regular file.
pub(super) fn map_file(path: &Path) -> Result<FileMap, OpenErrorKind> {
    let file = open_file(path)?;
    FileMap::new(&file).map_err(|source| OpenErrorKind::Io {
        doing: "mapping the file",
        source,
    })
}

/// Opens a regular file for reading; everything else is refused before it is opened, because opening
/// a pipe waits and opening a device may have effects.
pub(super) fn open_file(path: &Path) -> Result<File, OpenErrorKind> {
    let io = |doing| move |source| OpenErrorKind::Io { doing, source };
    let check = |meta: &std::fs::Metadata| match not_a_file(meta.file_type()) {
        Some(found) => Err(OpenErrorKind::NotAFile { found }),
        None if meta.len() == 0 => Err(OpenErrorKind::TooShort { size: 0 }),
        None => Ok(()),
    };
    check(&std::fs::metadata(path).map_err(io("looking at the file"))?)?;
    let file = File::open(path).map_err(io("opening the file"))?;
    // Once more on what was opened: the path may lead elsewhere by now.
    check(&file.metadata().map_err(io("looking at the file"))?)?;
    Ok(file)
}

/// What the path leads to when it is not a regular file.
fn not_a_file(kind: std::fs::FileType) -> Option<&'static str> {
    if kind.is_file() {
        return None;
    }
    if kind.is_dir() {
        return Some("a directory");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return Some("a pipe");
        }
        if kind.is_socket() {
            return Some("a socket");
        }
        if kind.is_block_device() || kind.is_char_device() {
            return Some("a device");
        }
    }
    Some("not a regular file")
}
