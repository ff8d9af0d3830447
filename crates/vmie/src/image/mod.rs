//! Saved guest memory: files of every kind as one [`Memory`] of physical addresses.
//!
//! [`Image::open`] recognises the format by content ([`probe`]), has the format's module turn the file
//! into a table of segments ([`segments`]), and from then on all formats are the same: a lookup in
//! that table and a copy out of the mapped file ([`filemap`](crate::filemap)).
//!
//! Opening is lazy: the file is mapped and only its headers are touched, so images larger than the
//! memory of this machine work.
//!
//! Image files are hostile. Whatever they contain, opening and reading end with an answer: no panic,
//! no allocation by a number that the file's size does not bear out. A file that lies about what it
//! holds opens with the missing part declared: [`Memory::spans`] lists it as lost, reading it faults
//! with [`Cause::Truncated`](crate::Cause::Truncated) or [`Cause::Absent`](crate::Cause::Absent), and
//! [`ImageInfo::notes`] tells the user.

mod avml;
#[cfg(feature = "cloud-hypervisor")]
mod cloud_hypervisor;
mod elfcore;
mod error;
mod firecracker;
mod kdump;
mod layers;
mod layout;
mod lime;
mod notes;
mod overlap;
mod probe;
mod raw;
mod segments;

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::addr::{AddrRange, Address, Gpa};
use crate::blocks::BlockCache;
use crate::cpu::CpuState;
use crate::memory::{Cause, Fault, Memory, Spans};
use crate::view::View;

use crate::filemap::{FileMap, Writers, zeros};
pub use error::{OpenError, OpenErrorKind};
pub use layout::{Layout, LayoutPart, ParseLayoutError};
use overlap::Overlap;
use probe::Kind;
use segments::{Backing, Segments, SegmentsBuilder};

/// The kinds of memory image that vmie reads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Format {
    /// The bytes as they are, without any header.
    Raw,
    /// LiME: ranges with a 32-byte header each. AVML version 1 is the same.
    Lime,
    /// AVML version 2: ranges compressed with snappy.
    Avml,
    /// An ELF core with physical addresses, as QEMU, VirtualBox and kdump write it.
    Elf,
    /// A compressed dump, as makedumpfile and QEMU write it, flattened or not.
    Kdump,
    /// The directory of a Cloud Hypervisor snapshot. Read with the feature `cloud-hypervisor`, for it takes JSON.
    CloudHypervisor,
    /// The memory file of a Firecracker snapshot, laid out by its state file ([`OpenOptions::state`]).
    Firecracker,
}

impl Format {
    /// With its article, for messages.
    fn article_name(self) -> &'static str {
        match self {
            Self::Raw => "raw memory",
            Self::Lime => "a LiME image",
            Self::Avml => "an AVML image",
            Self::Elf => "an ELF file",
            Self::Kdump => "a compressed kdump",
            Self::CloudHypervisor => "a Cloud Hypervisor snapshot",
            Self::Firecracker => "a Firecracker snapshot",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Raw => "raw",
            Self::Lime => "lime",
            Self::Avml => "avml",
            Self::Elf => "elf",
            Self::Kdump => "kdump",
            Self::CloudHypervisor => "cloud-hypervisor",
            Self::Firecracker => "firecracker",
        })
    }
}

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
    /// CPUs, where the format records them.
    pub cpus: Vec<CpuState>,
    /// Whether the file may change while it is read: its bytes are copied and never lent.
    ///
    /// True for the RAM file of a running guest, and also where the operating system does not tell.
    pub live: bool,
    /// Oddities met while opening, for the user.
    pub notes: Vec<String>,
}

/// A saved memory image, or the RAM file of a running guest.
///
/// Cheap to share between threads. Reading costs a few nanoseconds besides the copy.
#[derive(Debug)]
pub struct Image {
    map: FileMap,
    /// Where the image is in several files that lie on each other: those below `map`.
    below: Vec<FileMap>,
    segments: Segments,
    /// Decompressed blocks of it.
    cache: BlockCache,
    /// What it takes to read compressed pages, where the format has them.
    pages: Option<kdump::Pages>,
    info: ImageInfo,
}

/// Bytes of a compressed page.
const PAGE: u64 = 4096;

/// Bytes of decompressed blocks that are kept: more than the page tables of one address space touch.
const CACHE: usize = 32 << 20;

/// The answer to a file whose headers would fill this machine's memory.
const TOO_MANY_PARTS: OpenErrorKind = OpenErrorKind::Unsupported {
    found: std::borrow::Cow::Borrowed("an image in more than 33 million pieces"),
    advice: "convert it to raw memory",
};

/// What a format's module makes of a file.
struct Parsed {
    builder: SegmentsBuilder,
    cpus: Vec<CpuState>,
    notes: Vec<String>,
    /// For segments of compressed pages.
    pages: Option<kdump::Pages>,
}

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
            _ => Self::of_map(FileMap::from_bytes(bytes), options),
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
        #[cfg(feature = "cloud-hypervisor")]
        if cloud_hypervisor::is_snapshot(path) {
            let format = Format::CloudHypervisor;
            if options.state.is_some() || !options.bases.is_empty() {
                return Err(OpenErrorKind::NotLayered {
                    found: format.article_name().into(),
                });
            }
            if let Some(layout) = &options.layout {
                return Err(OpenErrorKind::LayoutForFormat {
                    found: format.article_name(),
                    layout: layout.to_string(),
                });
            }
            let (map, parsed) = cloud_hypervisor::open(path)?;
            return Self::assemble(map, Vec::new(), format, parsed);
        }
        let file = open_file(path)?;
        let map = FileMap::new(&file).map_err(|source| OpenErrorKind::Io {
            doing: "mapping the file",
            source,
        })?;
        Self::of_map(map, options)
    }

    fn of_map(map: FileMap, options: &OpenOptions) -> Result<Self, OpenErrorKind> {
        let mut head = vec![0; probe::HEAD.min(usize::try_from(map.len()).unwrap_or(probe::HEAD))];
        let kind = map
            .read(0, &mut head)
            .then(|| probe::probe(&head))
            .flatten();
        if options.state.is_none() && options.bases.is_empty() {
            return Self::recognise(map, &head, kind, options);
        }
        match kind {
            Some(Kind::Beside { what, advice }) => Err(OpenErrorKind::Beside {
                found: what,
                advice,
            }),
            Some(Kind::Foreign { what, advice }) if options.layout.is_none() => {
                Err(OpenErrorKind::Unsupported {
                    found: what.into(),
                    advice,
                })
            }
            Some(Kind::Known(format)) => Err(OpenErrorKind::NotLayered {
                found: format.article_name().into(),
            }),
            _ => Self::layered(map, options),
        }
    }

    /// Raw memory that a state file lays out, or that lies on other files.
    fn layered(map: FileMap, options: &OpenOptions) -> Result<Self, OpenErrorKind> {
        let (mut maps, format, parsed) = layers::parse(map, options)?;
        let below = maps.split_off(1);
        let map = maps.remove(0);
        let mut image = Self::assemble(map, below, format, parsed)?;
        let note = layers::lost_holes(&image, &image.info.cpus);
        image.info.notes.extend(note);
        Ok(image)
    }

    /// Reads the headers of what is in one file.
    fn recognise(
        map: FileMap,
        head: &[u8],
        kind: Option<Kind>,
        options: &OpenOptions,
    ) -> Result<Self, OpenErrorKind> {
        let layout = options.layout.as_ref();
        let (format, parsed) = match (kind, layout) {
            (Some(Kind::Beside { what, advice }), None) => {
                return Err(OpenErrorKind::Beside {
                    found: what,
                    advice,
                });
            }
            (Some(Kind::Foreign { what, advice }), None) => {
                return Err(OpenErrorKind::Unsupported {
                    found: what.into(),
                    advice,
                });
            }
            (Some(Kind::Known(format)), Some(layout)) if !matches!(layout, Layout::Explicit(_)) => {
                return Err(OpenErrorKind::LayoutForFormat {
                    found: format.article_name(),
                    layout: layout.to_string(),
                });
            }
            (Some(Kind::Known(Format::Elf)), None) => (Format::Elf, elfcore::parse(&map)?),
            (Some(Kind::Known(Format::Kdump)), None) => {
                let flattened = !head.starts_with(b"KDUMP");
                (Format::Kdump, kdump::parse(&map, flattened)?)
            }
            (Some(Kind::Known(_)), None) => lime::parse(&map)?,
            (kind, layout) => {
                let mut parsed = raw::parse(&map, layout)?;
                if kind.is_some() {
                    parsed.notes.push(
                        "the file does not look like raw memory; read as raw because a layout was \
                         given"
                            .to_owned(),
                    );
                }
                (Format::Raw, parsed)
            }
        };
        Self::assemble(map, Vec::new(), format, parsed)
    }

    fn assemble(
        map: FileMap,
        below: Vec<FileMap>,
        format: Format,
        parsed: Parsed,
    ) -> Result<Self, OpenErrorKind> {
        let Parsed {
            builder,
            cpus,
            notes,
            pages,
        } = parsed;
        let (segments, overlapping) = builder.finish();
        if !segments.has_bytes() {
            return Err(OpenErrorKind::NoMemory {
                found: format.article_name(),
                advice: "the file was cut, or saving it was interrupted; save the memory again",
            });
        }
        let writers: Vec<Writers> = below.iter().chain([&map]).map(FileMap::writers).collect();
        let info = ImageInfo {
            format,
            size: map.len(),
            ranges: segments.ranges(),
            cpus,
            live: writers.iter().any(|&writers| writers != Writers::None),
            notes,
        };
        let mut image = Self {
            map,
            below,
            segments,
            cache: BlockCache::new(CACHE),
            pages,
            info,
        };
        if !overlapping.is_empty() {
            let read = |backing, buf: &mut [u8]| image.stored(backing, buf);
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
        Ok(image)
    }

    /// The file that holds a segment's bytes as they are, and where they begin in it.
    #[inline]
    fn place(&self, backing: Backing) -> Option<Place<'_>> {
        match backing {
            Backing::File(offset) => Some((&self.map, offset)),
            Backing::Layer { layer: 0, offset } => Some((&self.map, offset)),
            Backing::Layer { layer, offset } => {
                let map = self.below.get(layer as usize - 1)?;
                Some((map, offset))
            }
            _ => None,
        }
    }

    /// Reads what does not lie in one piece.
    #[cold]
    fn read_pieces(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
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
            match self.stored(backing, &mut rest[..len]) {
                Some(count) => done += count,
                None => {
                    let offset = match (backing, &self.pages) {
                        (Backing::Frame { offset, .. }, _) => offset,
                        (Backing::Page(position), Some(pages)) => pages.descriptor(position / PAGE),
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
    fn stored(&self, backing: Backing, buf: &mut [u8]) -> Option<usize> {
        match backing {
            Backing::File(_) | Backing::Layer { .. } => {
                let (map, offset) = self.place(backing)?;
                map.read(offset, buf).then_some(buf.len())
            }
            Backing::Frame { offset, skip } => {
                let good = avml::read(&self.map, &self.cache, offset, skip as usize, buf);
                good.then_some(buf.len())
            }
            Backing::Page(position) => {
                let left = (PAGE - position % PAGE) as usize;
                let count = buf.len().min(left);
                let pages = self.pages.as_ref()?;
                let buf = &mut buf[..count];
                pages
                    .read(&self.map, &self.cache, position, buf)
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

/// Opens a regular file for reading; everything else is refused before it is opened, because opening
/// a pipe waits and opening a device may have effects.
fn open_file(path: &Path) -> Result<File, OpenErrorKind> {
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
