//! LiME and AVML: ranges of memory with a header before each.
//!
//! A header has 32 bytes: magic, version, first and last physical address, 8 bytes reserved, all
//! little-endian. Behind a header with magic `EMiL` and version 1 stand the range's bytes as they are;
//! behind one with `AVML` and version 2 a compressed block, see [`avml`](super::avml). AVML writes the
//! former when it does not compress, so the same walk serves both, and files that mix them.
//!
//! Versions of AVML up to 0.17.0 wrote the header of a block before they looked whether the block holds only
//! zeros, and wrote nothing else then. So a block of at most 16 MiB that is its header alone is zeros:
//!
//! * After the header of a compressed block stands a stream or, in its place, the next header. The two
//!   cannot be confused.
//! * After the header of a plain range, what looks like a header may be memory of the guest. It is taken for
//!   that when another header, or the end of the file, stands where this memory would end; and for a header
//!   only when what it says fits: addresses above those before it, nothing in the reserved bytes, and again
//!   a header, a stream or the end of the file behind what it announces.
//! * A header at the end of the file may be zeros, or the file was cut exactly there. For a compressed block
//!   it is zeros, with a note; for a plain range, which LiME writes as well, only if there were others like it.
//!
//! Sources: `src/lime.h`, `src/main.c` of LiME 1.9; `src/image.rs` of AVML 0.14 and 0.17.
//!
//! What the walk does when a file is not as it should be:
//!
//! * A range that ends behind the end of the file is kept, its end declared as truncated. It is the
//!   last one.
//! * Zeros between or behind the ranges are skipped (block devices, preallocated files), with a note.
//! * Anything else where a header should be is an error. It would be easy to stop there and open what
//!   came before, but then a part of the guest of which we do not even know the addresses would be
//!   missing from every coverage.

use super::advice::Advice;
use super::avml;
use super::error::OpenErrorKind;
use super::format::Format;
use super::opening::{OpenOptions, Opened, Parsed, TOO_MANY_PARTS};
use super::segments::{Added, GPA_LIMIT, SegmentsBuilder};
use crate::addr::{AddrRange, Gpa};
use crate::filemap::FileMap;
use crate::hints::Hints;

/// Length of a header in bytes.
const HEADER: u64 = 32;

/// How many zero bytes in a row are taken for padding.
const MAX_PADDING: u64 = 64 << 20;

const CUT: Advice = Advice::Other(
    "the file was cut or overwritten there; to read what comes before, cut it with \
     `truncate -s OFFSET` on a copy",
);

/// What a header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    /// Whether a compressed block follows.
    pub(super) compressed: bool,
    /// First physical address.
    pub(super) start: u64,
    /// Length in bytes, not zero; the range lies below [`GPA_LIMIT`].
    pub(super) len: u64,
    /// Whether the reserved bytes are zeros, as they should be.
    clean: bool,
}

impl Header {
    fn range(&self) -> AddrRange<Gpa> {
        AddrRange::new(Gpa(self.start), self.len).expect("the range was checked with the header")
    }

    /// The first address behind the range.
    fn end(&self) -> u64 {
        self.start + self.len
    }
}

/// Reads the header at `offset`.
fn header(map: &FileMap, offset: u64) -> Result<Header, OpenErrorKind> {
    // By what the file began with: what is here may be anything.
    let what = match map.array(0) {
        Some(magic) if &magic == b"AVML" => "AVML header",
        _ => "LiME header",
    };
    let damaged = |offset, expected: String, found: String| OpenErrorKind::Damaged {
        what,
        offset,
        expected,
        found,
        advice: CUT,
    };
    let bytes: [u8; HEADER as usize] = map.array(offset).ok_or_else(|| {
        damaged(
            offset,
            format!("a header of {HEADER} bytes"),
            format!("{} bytes", map.len().saturating_sub(offset)),
        )
    })?;
    let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    let compressed = match (&bytes[..4], word(4)) {
        (b"EMiL", 1) => false,
        (b"AVML", 2) => true,
        (b"EMiL" | b"AVML", version) => {
            return Err(damaged(
                offset + 4,
                "version 1 of LiME or version 2 of AVML".to_owned(),
                format!("version {version}"),
            ));
        }
        (magic, _) => {
            return Err(damaged(
                offset,
                "the magic number \"EMiL\" or \"AVML\"".to_owned(),
                format!("\"{}\"", magic.escape_ascii()),
            ));
        }
    };
    let (first, last) = (long(8), long(16));
    if last < first || last >= GPA_LIMIT {
        return Err(damaged(
            offset + 8,
            "first and last physical address, ascending and below 2^52".to_owned(),
            format!("{first:#x} and {last:#x}"),
        ));
    }
    Ok(Header {
        compressed,
        start: first,
        len: last - first + 1,
        clean: long(24) == 0,
    })
}

/// What stands behind a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Behind {
    /// What the header announces.
    Content,
    /// The next header: the block is zeros.
    Header,
    /// The end of the file, where AVML has written a block of zeros so, or the file was cut.
    End,
}

/// Whether a block is its header alone, which ends at `offset`. `others` says of how many before it that is
/// known.
fn behind(map: &FileMap, header: &Header, offset: u64, others: u64, first: bool) -> Behind {
    if header.len > avml::BLOCK {
        return Behind::Content;
    }
    if offset == map.len() {
        // A file that is one header holds no memory that anybody knows of.
        let zeros = !first && (header.compressed || others != 0);
        return if zeros { Behind::End } else { Behind::Content };
    }
    if header.compressed {
        return match is_header(map, offset) {
            true => Behind::Header,
            false => Behind::Content,
        };
    }
    let fits = |next: &Header| next.clean && next.start >= header.end();
    match self::header(map, offset).ok().filter(fits) {
        Some(next) if !ends_well(map, offset + header.len) => {
            match announces_well(map, &next, offset) {
                true => Behind::Header,
                false => Behind::Content,
            }
        }
        _ => Behind::Content,
    }
}

/// Whether a header or the end of the file is at `offset`.
fn ends_well(map: &FileMap, offset: u64) -> bool {
    offset == map.len() || header(map, offset).is_ok()
}

/// Whether what stands behind the header at `offset` may be what it announces, or nothing.
fn announces_well(map: &FileMap, next: &Header, offset: u64) -> bool {
    let content = offset + HEADER;
    if ends_well(map, content) {
        return true;
    }
    match next.compressed {
        true => map.array(content) == Some(*avml::STREAM_IDENTIFIER),
        // Cut, or whole.
        false => content + next.len > map.len() || ends_well(map, content + next.len),
    }
}

/// Whether there is the magic number of a header at `offset`. The rest is left to [`header`].
fn is_header(map: &FileMap, offset: u64) -> bool {
    matches!(map.array(offset), Some(magic) if matches!(&magic, b"AVML" | b"EMiL"))
}

/// Opens a LiME or AVML file. It is AVML's if any of its blocks is compressed.
pub(super) fn open(map: FileMap, _: &OpenOptions) -> Result<Opened, OpenErrorKind> {
    let (format, parsed) = parse(&map)?;
    Ok(Opened::one(map, format, parsed))
}

/// Walks the headers of a LiME or AVML file. Plain ranges cost one page fault each; compressed ones
/// one for each frame, see [`avml::index`].
fn parse(map: &FileMap) -> Result<(Format, Parsed), OpenErrorKind> {
    let mut builder = SegmentsBuilder::new(map.len());
    let mut notes = Vec::new();
    let mut format = Format::Lime;
    let mut wrong_lengths = 0u64;
    let mut padding = 0u64;
    let mut last_end = None;
    let mut zero_blocks = false;
    let mut cut = None;
    let (mut bare, mut plain_bare) = (0u64, 0u64);
    let mut bare_end = None;

    let mut offset = 0;
    while offset < map.len() {
        let zeros = if offset == 0 {
            0
        } else {
            zeros_at(map, offset)
        };
        if zeros != 0 {
            padding += zeros;
            offset += zeros;
            continue;
        }
        let header = header(map, offset)?;
        offset += HEADER;
        if last_end.is_some_and(|end| avml::may_be_left_out(end, header.start)) {
            zero_blocks = true;
        }
        let first = last_end.is_none();
        last_end = Some(header.end());
        if header.compressed {
            format = Format::Avml;
        }
        let behind = behind(map, &header, offset, bare, first);
        if behind != Behind::Content {
            bare += 1;
            plain_bare += u64::from(!header.compressed);
            if behind == Behind::End {
                bare_end = Some(header);
            }
            builder.add_zeros(header.start, header.len);
        } else if header.compressed {
            match avml::index(map, offset, header.range(), &mut builder)? {
                avml::Indexed::Whole { end, length_ok } => {
                    wrong_lengths += u64::from(!length_ok);
                    offset = end;
                }
                avml::Indexed::Truncated => {
                    cut = Some(header);
                    break;
                }
            }
        } else {
            match builder.add_file(header.start, header.len, offset) {
                Added::Truncated => {
                    cut = Some(header);
                    break;
                }
                // `header` has checked the range, so it is not refused.
                Added::Whole | Added::Refused => offset += header.len,
            }
        }
        if builder.is_full() {
            return Err(TOO_MANY_PARTS);
        }
    }

    if let Some(header) = cut {
        notes.push(format!(
            "the file ends within the range {:#x}+{:#x}; ranges that may have followed are not known",
            header.start, header.len
        ));
    }
    if plain_bare != 0 {
        notes.push(format!(
            "{plain_bare} ranges are a header with nothing behind it; read as zeros, which AVML up to 0.17.0 \
             wrote so"
        ));
    }
    if let Some(header) = bare_end {
        notes.push(format!(
            "the file ends right behind the header of the range {:#x}+{:#x}; read as zeros, which AVML up to \
             0.17.0 wrote so, unless the file was cut there",
            header.start, header.len
        ));
    }
    if padding != 0 {
        notes.push(format!(
            "skipped {padding:#x} zero bytes between or behind the ranges"
        ));
    }
    if wrong_lengths != 0 {
        notes.push(format!(
            "{wrong_lengths} compressed blocks are not followed by their length; the file may be \
             damaged"
        ));
    }
    // Whoever writes the headers of such blocks does not leave them out.
    if zero_blocks && bare == 0 && format == Format::Avml {
        notes.push(
            "AVML leaves out blocks of 16 MiB that hold only zeros; such blocks cannot be told from \
             memory that was never there and count as absent"
                .to_owned(),
        );
    }
    Ok((
        format,
        Parsed {
            builder,
            hints: Hints::default(),
            notes,
            advice: Vec::new(),
            pages: None,
        },
    ))
}

/// How many zero bytes stand at `offset`, when that many can only be padding: none of a header's
/// bytes is part of it. Zero when a header may begin at `offset`.
fn zeros_at(map: &FileMap, offset: u64) -> u64 {
    let mut page = [0; 4096];
    let mut zeros = 0;
    loop {
        let at = offset + zeros;
        let len = page
            .len()
            .min(usize::try_from(map.len() - at).unwrap_or(usize::MAX));
        if len == 0 || !map.read(at, &mut page[..len]) {
            return zeros;
        }
        match page[..len].iter().position(|&b| b != 0) {
            Some(n) => return zeros + n as u64,
            None => zeros += len as u64,
        }
        if zeros > MAX_PADDING {
            return 0;
        }
    }
}
