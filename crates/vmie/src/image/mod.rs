//! Saved guest memory: files of every kind as one [`Memory`] of physical addresses.
//!
//! [`Image::open`] recognises the format by content and has the format's module turn the file into a table of
//! segments ([`segments`]), and from then on all formats are the same: a lookup in that table and a copy out of
//! the mapped file ([`filemap`](crate::filemap)). Which formats there are, how each is told and what opens it stands
//! in one [`table`].
//!
//! Opening is lazy: the file is mapped and only its headers are touched, so images larger than the
//! memory of this machine work.
//!
//! Image files are hostile. Whatever they contain, opening and reading end with an answer: no panic,
//! no allocation by a number that the file's size does not bear out. A file that lies about what it
//! holds opens with the missing part declared: [`Memory::spans`] lists it as lost, reading it faults
//! with [`Cause::Truncated`](crate::Cause::Truncated) or [`Cause::Absent`](crate::Cause::Absent), and
//! [`ImageInfo::notes`] tells the user.

mod advice;
mod avml;
#[cfg(feature = "cloud-hypervisor")]
mod cloud_hypervisor;
mod elfcore;
mod error;
mod firecracker;
mod format;
mod kdump;
mod layers;
mod layout;
mod lime;
mod notes;
mod opening;
mod overlap;
mod plausible;
mod raw;
mod refused;
mod segments;
mod table;

use std::path::Path;

use crate::addr::{AddrRange, Address, Gpa};
use crate::blocks::{BlockCache, Reader};
use crate::hints::Hints;
use crate::memory::{Cause, Fault, Memory, Spans, Whole};
use crate::view::View;

use crate::filemap::{FileMap, Writers, zeros};
pub use advice::Advice;
pub use error::{OpenError, OpenErrorKind};
pub use format::Format;
pub use layout::{Layout, LayoutPart, ParseLayoutError};
pub use opening::OpenOptions;
use opening::{Opened, Pages, Parsed, map_file};
use overlap::Overlap;
use segments::{Backing, STORED_PAGE, Segments};

/// What is known about an open image.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ImageInfo {
    /// The format that was recognised.
    pub format: Format,
    /// Length of the file in bytes.
    pub size: u64,
    /// Physical memory that the image declares, ascending, adjacent ranges merged. Parts of it may be
    /// missing from the file; `notes` says so.
    pub ranges: Vec<AddrRange<Gpa>>,
    /// What the image says of the guest: its CPUs, where the format records them, and more.
    pub hints: Hints,
    /// Whether the file may change while it is read: its bytes are copied and never lent.
    ///
    /// True for the RAM file of a running guest, and also where the operating system does not tell.
    pub live: bool,
    /// Oddities met while opening, for the user.
    pub notes: Vec<String>,
    /// What the notes say to try.
    pub advice: Vec<Advice>,
}

/// A saved memory image, or the RAM file of a running guest.
///
/// Cheap to share between threads. Reading costs a few nanoseconds besides the copy.
#[derive(Debug)]
pub struct Image {
    /// The file, or several that lie on each other, the one on top first.
    maps: Vec<FileMap>,
    segments: Segments,
    /// Decompressed blocks of it.
    cache: BlockCache,
    /// What it takes to read compressed pages, where the format has them.
    pages: Option<Box<dyn Pages>>,
    info: ImageInfo,
}

/// Bytes of decompressed blocks that are kept: more than the page tables of one address space touch.
const CACHE: usize = 32 << 20;

/// The same where the blocks are single pages, of which fewer bytes hold as many tables.
const PAGE_CACHE: usize = 8 << 20;

/// A file and the offset in it at which bytes are.
type Place<'a> = (&'a FileMap, u64);

impl Image {
    /// Opens an image whose format is recognised by content.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, is of no use as a memory image, or is damaged so that nothing
    /// can be read from it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_with(path, &OpenOptions::default())
    }

    /// Opens an image of which something is known beforehand.
    ///
    /// # Errors
    ///
    /// As [`Image::open`], and when the layout does not fit the file.
    pub fn open_with(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self, OpenError> {
        let path = path.as_ref();
        Self::open_kind(path, options).map_err(|kind| OpenError {
            path: path.to_owned(),
            kind,
        })
    }

    /// Takes bytes in memory for an image file's: for tests, fuzzing and what is too small for a file.
    ///
    /// # Errors
    ///
    /// As [`Image::open_with`]; the path in the error is `(bytes in memory)`.
    pub fn from_bytes(bytes: Vec<u8>, options: &OpenOptions) -> Result<Self, OpenError> {
        let kind = match bytes.len() {
            0 => Err(OpenErrorKind::TooShort { size: 0 }),
            _ => table::open_file(FileMap::from_bytes(bytes), options)
                .and_then(|opened| Self::assemble(opened, options)),
        };
        kind.map_err(|kind| OpenError {
            path: "(bytes in memory)".into(),
            kind,
        })
    }

    /// What is known about the image.
    pub fn info(&self) -> &ImageInfo {
        &self.info
    }

    fn open_kind(path: &Path, options: &OpenOptions) -> Result<Self, OpenErrorKind> {
        let opened = match path.is_dir() {
            true => table::open_directory(path, options)?,
            false => table::open_file(map_file(path)?, options)?,
        };
        Self::assemble(opened, options)
    }

    fn assemble(opened: Opened, options: &OpenOptions) -> Result<Self, OpenErrorKind> {
        let Opened {
            maps,
            format,
            parsed,
        } = opened;
        let Parsed {
            builder,
            hints,
            notes,
            advice,
            pages,
        } = parsed;
        let (segments, overlapping) = builder.finish();
        if !segments.has_bytes() {
            return Err(OpenErrorKind::NoMemory {
                found: format.article(),
                advice: Advice::Other(
                    "the file was cut, or saving it was interrupted; save the memory again",
                ),
            });
        }
        let writers: Vec<Writers> = maps.iter().map(FileMap::writers).collect();
        let info = ImageInfo {
            format,
            size: maps.first().map_or(0, FileMap::len),
            ranges: segments.ranges(),
            hints,
            live: writers.iter().any(|&writers| writers != Writers::None),
            notes,
            advice,
        };
        let mut image = Self {
            maps,
            segments,
            cache: BlockCache::new(if pages.is_some() { PAGE_CACHE } else { CACHE }),
            pages,
            info,
        };
        if !overlapping.is_empty() {
            let read = |backing, buf: &mut [u8]| image.stored(backing, buf, Reader::Pass);
            let overlap = Overlap::of(&overlapping, &image.segments, read);
            image.info.notes.extend(overlap.notes());
        }
        let missing = image.segments.missing_bytes();
        if missing != 0 {
            image.info.notes.push(format!(
                "{missing:#x} bytes of memory that the image declares are not in the file"
            ));
        }
        if writers.contains(&Writers::Some) {
            image.info.notes.push(
                "the file is open for writing by another process: treated as a live guest"
                    .to_owned(),
            );
        }
        if options.has_companions() {
            let note = layers::lost_holes(&image, &image.info.hints.cpus);
            image.info.notes.extend(note);
        }
        Ok(image)
    }

    /// The file that holds a segment's bytes as they are, and where they begin in it.
    #[inline]
    fn place(&self, backing: Backing) -> Option<Place<'_>> {
        match backing {
            Backing::File(offset) => Some((self.maps.first()?, offset)),
            Backing::Layer { layer, offset } => Some((self.maps.get(layer as usize)?, offset)),
            _ => None,
        }
    }

    /// Reads what does not lie in one piece.
    #[cold]
    fn read_pieces(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        let reader = Reader::of(buf.len());
        let mut done = 0;
        while done < buf.len() {
            let absent = |gpa| Fault {
                addr: gpa,
                cause: Cause::Absent { gpa },
            };
            let here = addr
                .checked_add(done as u64)
                .ok_or_else(|| absent(Gpa(u64::MAX)))?;
            let segment = self.segments.find(here.0).ok_or_else(|| absent(here))?;
            let at = here.0 - segment.start;
            let rest = &mut buf[done..];
            let len = usize::try_from(segment.len - at).map_or(rest.len(), |n| n.min(rest.len()));
            let fault = |cause| Fault { addr: here, cause };
            if let Some(cause) = segment.missing(at) {
                return Err(fault(cause));
            }
            let backing = segment.backing.skip(at);
            match self.stored(backing, &mut rest[..len], reader) {
                Some(count) => done += count,
                None => {
                    let offset = match (backing, &self.pages) {
                        (Backing::Frame { offset, .. }, _) => offset,
                        (Backing::Page(position), Some(pages)) => {
                            pages.described_at(position / STORED_PAGE)
                        }
                        // The table holds only what lies within the file; see `SegmentsBuilder`.
                        _ => return Err(absent(here)),
                    };
                    return Err(fault(Cause::Corrupt { gpa: here, offset }));
                }
            }
        }
        Ok(())
    }

    /// Copies bytes from the start of a backing that is stored, as many as lie in one piece, and says how many
    /// those are; nothing if they are damaged.
    fn stored(&self, backing: Backing, buf: &mut [u8], reader: Reader) -> Option<usize> {
        match backing {
            Backing::File(_) | Backing::Layer { .. } => {
                let (map, offset) = self.place(backing)?;
                map.read(offset, buf).then_some(buf.len())
            }
            Backing::Frame { offset, skip } => {
                let good = avml::read(
                    self.maps.first()?,
                    &self.cache,
                    offset,
                    skip as usize,
                    buf,
                    reader,
                );
                good.then_some(buf.len())
            }
            Backing::Page(position) => {
                let left = (STORED_PAGE - position % STORED_PAGE) as usize;
                let count = buf.len().min(left);
                let pages = self.pages.as_ref()?;
                let buf = &mut buf[..count];
                pages
                    .read(self.maps.first()?, &self.cache, position, buf, reader)
                    .then_some(count)
            }
            Backing::Zero => {
                buf.fill(0);
                Some(buf.len())
            }
            Backing::Absent | Backing::Truncated(_) => None,
        }
    }
}

impl Memory for Image {
    type Addr = Gpa;

    fn spans(&self, range: AddrRange<Gpa>) -> Spans<'_, Gpa> {
        Box::new(self.segments.spans(range))
    }

    #[inline]
    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        if let Some(segment) = self.segments.find(addr.0) {
            let at = addr.0 - segment.start;
            if let Some((map, offset)) = self.place(segment.backing)
                && buf.len() as u64 <= segment.len - at
                && map.read(offset + at, buf)
            {
                return Ok(());
            }
        }
        self.read_pieces(addr, buf)
    }

    #[inline]
    fn view(&self, addr: Gpa) -> Option<View<'_, Gpa>> {
        let segment = self.segments.find(addr.0)?;
        let (map, offset) = self.place(segment.backing)?;
        map.view(Gpa(segment.start), offset, segment.len)
    }

    #[inline]
    fn borrow(&self, range: AddrRange<Gpa>) -> Option<&[u8]> {
        let segment = self.segments.find(range.start().0)?;
        let at = range.start().0 - segment.start;
        if range.len() > segment.len - at {
            return None;
        }
        let len = usize::try_from(range.len()).ok()?;
        if segment.backing == Backing::Zero {
            return zeros(len);
        }
        let (map, offset) = self.place(segment.backing)?;
        map.slice(offset + at, len)
    }
}

impl Whole for Image {}
