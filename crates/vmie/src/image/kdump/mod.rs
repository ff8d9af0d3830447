//! Compressed dumps of kdump: what makedumpfile writes, and QEMU's `dump-guest-memory` with `-z`, `-l`, `-s`.
//!
//! ```text
//! block 0             header: how many blocks each part has, how many pages the machine may have
//! 1 ..                sub header: physical base, notes (ELF notes), from version 6 on numbers of 64 bits
//! + sub header        bitmap 1: pages that there are; bitmap 2: pages that are in the file
//! + bitmaps           a descriptor of 24 bytes for each page of bitmap 2: offset, size, compression
//! behind them         pages, each compressed by itself (zlib, LZO, snappy, Zstandard) or as it is
//! ```
//!
//! A block is a page. Pages of bitmap 1 that are not in bitmap 2 were left out by makedumpfile, *whatever they
//! held*: they are absent and never zeros. A page whose data the file does not reach is missing.
//!
//! Descriptors are numbered like the bits of bitmap 2, so consecutive pages have consecutive descriptors, and a
//! segment is a run of them ([`Backing::Page`](super::segments::Backing)): the table stays small, and a page
//! is decompressed when it is read ([`pages`]). Opening reads the bitmaps and every descriptor once, 24 bytes for
//! each 4 KiB of memory, to know what is missing. Long runs of uncompressed pages are taken for what they
//! are, bytes in the file that can be borrowed.
//!
//! What damage can be noticed: nothing but zlib has a checksum, so a flipped bit in other page data is a flipped
//! byte, or with LZO and snappy a spoilt page. A bit that is flipped in bitmap 2 would move all later
//! pages by one; as page data begins where the descriptors end, that shows, and the file is refused.
//!
//! Rejected: dumps that were split over several files; makedumpfile puts them together.
//!
//! Sources: makedumpfile's `diskdump_mod.h` and `IMPLEMENTATION`, QEMU's `include/sysemu/dump.h` and `dump/dump.c`
//! for the layouts and constants.

mod flat;
mod lzo;
mod pages;

use super::advice::Advice;
use super::error::OpenErrorKind;
use super::format::Format;
use super::notes::Notes;
use super::opening::{OpenOptions, Opened, Parsed, TOO_MANY_PARTS};
use super::segments::SegmentsBuilder;
use crate::addr::PAGE_SIZE;
use crate::filemap::FileMap;
use crate::hints::Hints;
use flat::{Bytes, Flat};
use pages::Stored;

/// Bytes in a block of the file, which is a page of the machine: dumps of x86 are read.
const BLOCK: u64 = PAGE_SIZE;
/// Bytes of a page descriptor.
const DESCRIPTOR: u64 = 24;
/// Runs of uncompressed pages that are shorter than this many are not worth a segment.
const LONG_RUN: u64 = 16;
/// How much of bitmaps and descriptors is read at a time.
const CHUNK: u64 = 64 << 10;
/// The most bytes of notes that are looked at.
const MAX_NOTES: u64 = 16 << 20;
/// Status: makedumpfile ran out of room.
const INCOMPLETE: u32 = 8;

const SAVE_AGAIN: Advice = Advice::Other("the file was cut or overwritten; save the memory again");

/// Where fields stand; those of the header, then those of the sub header.
struct Layout {
    status: u64,
    block_size: u64,
    dump_split: u64,
    vmcoreinfo: (u64, u64),
    note: (u64, u64),
    wide: bool,
    max_mapnr_64: u64,
}

const LAYOUT_64: Layout = Layout {
    status: 424,
    block_size: 428,
    dump_split: 12,
    vmcoreinfo: (32, 40),
    note: (48, 56),
    wide: true,
    max_mapnr_64: 96,
};

const LAYOUT_32: Layout = Layout {
    status: 412,
    block_size: 416,
    dump_split: 8,
    vmcoreinfo: (20, 28),
    note: (32, 40),
    wide: false,
    max_mapnr_64: 72,
};

/// `utsname.machine` in the header.
const MACHINE: u64 = 12 + 4 * 65;

fn damaged(
    what: &'static str,
    offset: u64,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> OpenErrorKind {
    OpenErrorKind::Damaged {
        what,
        offset,
        expected: expected.into(),
        found: found.into(),
        advice: SAVE_AGAIN,
    }
}

/// Where the parts of a dump are.
struct Parts {
    /// Offset of bitmap 1.
    bitmaps: u64,
    /// Bytes of one bitmap.
    bitmap_len: u64,
    /// Bits of a bitmap that mean something.
    pages: u64,
    descriptors: u64,
    incomplete: bool,
    layout: &'static Layout,
    /// Offset of the sub header, and the version that says how far it goes.
    sub: u64,
    version: u32,
}

/// Opens a kdump. A stream of records begins otherwise than the file that is made of it.
pub(super) fn open(map: FileMap, _: &OpenOptions) -> Result<Opened, OpenErrorKind> {
    let flattened = map.array(0) != Some(*b"KDUMP");
    let parsed = parse(&map, flattened)?;
    Ok(Opened::one(map, Format::Kdump, parsed))
}

/// Reads header, bitmaps and descriptors; `flattened` when the file is a stream of records.
fn parse(map: &FileMap, flattened: bool) -> Result<Parsed, OpenErrorKind> {
    let flat = flattened.then(|| Flat::index(map)).transpose()?;
    let bytes = Bytes::new(map, flat.as_ref());
    let parts = header(&bytes)?;
    // Headers are written twice when their numbers are known late; pages and descriptors once.
    if let Some(flat) = flat
        .as_ref()
        .filter(|flat| flat.rewritten > parts.descriptors)
    {
        let expected = "records of pages that do not overlap";
        let found = format!("an overlap before {:#x} of the dump", flat.rewritten);
        return Err(damaged("flattened kdump", 0, expected, found));
    }
    let mut oddities = Vec::new();
    if flat.as_ref().is_some_and(|flat| !flat.ended) {
        oddities.push("the file has no end mark: the rest of the dump is missing".to_owned());
    }
    if parts.incomplete {
        oddities.push("makedumpfile has marked the file as incomplete".to_owned());
    }
    let builder = table(&bytes, &parts, map.len(), flattened)?;
    let (hints, more) = notes(&bytes, &parts);
    oddities.extend(more);
    Ok(Parsed {
        builder,
        hints,
        notes: oddities,
        advice: Vec::new(),
        pages: Some(Box::new(Stored::new(parts.descriptors, flat))),
    })
}

fn header(bytes: &Bytes<'_>) -> Result<Parts, OpenErrorKind> {
    const WHAT: &str = "kdump header";
    let word = |at| bytes.array(at).map(u32::from_le_bytes);
    let short = || {
        let found = format!("the end of the file at {:#x}", bytes.len());
        damaged(WHAT, 0, "a header of one block", found)
    };
    if bytes.array(0) != Some(*b"KDUMP   ") {
        return Err(damaged(WHAT, 0, "\"KDUMP   \"", "something else"));
    }
    let version = word(8).ok_or_else(short)?;
    if !(1..=6).contains(&version) {
        return Err(damaged(WHAT, 8, "version 1 to 6", version.to_string()));
    }
    // The header does not say which machine wrote it; only with the right layout the size of blocks is that
    // of x86's pages.
    let is = |layout: &Layout| word(layout.block_size) == Some(BLOCK as u32);
    let machine: [u8; 7] = bytes.array(MACHINE).ok_or_else(short)?;
    let layout = match (is(&LAYOUT_64), is(&LAYOUT_32)) {
        (true, true) if machine.starts_with(b"i") => &LAYOUT_32,
        (true, _) => &LAYOUT_64,
        (false, true) => &LAYOUT_32,
        (false, false) => {
            let found = word(LAYOUT_64.block_size).ok_or_else(short)?;
            let expected = format!("blocks of {BLOCK} bytes, as x86 machines have");
            let found = format!("{found}");
            return Err(damaged(WHAT, LAYOUT_64.block_size, expected, found));
        }
    };
    let field = |number: u64| word(layout.block_size + 4 * number).ok_or_else(short);
    let (sub_blocks, bitmap_blocks) = (u64::from(field(1)?), u64::from(field(2)?));
    let status = word(layout.status).ok_or_else(short)?;
    let sub = BLOCK;
    if sub_blocks == 0 {
        return Err(damaged(WHAT, layout.block_size + 4, "a sub header", "none"));
    }
    let pages = if version >= 6 {
        let wide = bytes.array(sub + layout.max_mapnr_64);
        wide.map(u64::from_le_bytes).ok_or_else(short)?
    } else {
        u64::from(field(3)?)
    };
    if version >= 2 && word(sub + layout.dump_split).ok_or_else(short)? != 0 {
        return Err(OpenErrorKind::Unsupported {
            found: "one part of a kdump that was split over several files".into(),
            advice: Advice::Other("put them together with `makedumpfile --reassemble PART... OUT`"),
        });
    }
    let bitmaps = (1 + sub_blocks) * BLOCK;
    let needed = 2 * pages.div_ceil(8).div_ceil(BLOCK);
    if bitmap_blocks != needed {
        let expected = format!("{needed} blocks of bitmaps for {pages} pages");
        let found = bitmap_blocks.to_string();
        return Err(damaged(WHAT, layout.block_size + 8, expected, found));
    }
    let descriptors = bitmaps + bitmap_blocks * BLOCK;
    if descriptors > bytes.len() {
        let found = format!("the end of the file at {:#x}", bytes.len());
        let expected = format!("bitmaps up to {descriptors:#x}");
        return Err(damaged("kdump bitmaps", bitmaps, expected, found));
    }
    Ok(Parts {
        bitmaps,
        bitmap_len: bitmap_blocks / 2 * BLOCK,
        pages,
        descriptors,
        incomplete: status & INCOMPLETE != 0,
        layout,
        sub,
        version,
    })
}

/// What a run of pages is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    /// Compressed, from this descriptor on.
    Pages(u64),
    /// As they are, from this file offset on; and from this descriptor on.
    Plain(u64, u64),
    /// Declared to be at this offset, where nothing is.
    Missing(u64),
    /// Left out.
    Absent,
}

/// Consecutive pages of which the same can be said.
struct Run {
    page: u64,
    count: u64,
    what: What,
}

impl Run {
    /// Whether a page with `what` goes on with the run.
    fn continues(&self, page: u64, what: What) -> bool {
        self.page + self.count == page
            && match (self.what, what) {
                (What::Pages(first), What::Pages(index)) => first + self.count == index,
                (What::Plain(first, _), What::Plain(offset, _)) => {
                    first + self.count * BLOCK == offset
                }
                (What::Missing(_), What::Missing(_)) | (What::Absent, What::Absent) => true,
                _ => false,
            }
    }

    fn add(&self, builder: &mut SegmentsBuilder) {
        let (gpa, len) = (self.page * BLOCK, self.count * BLOCK);
        // Addresses beyond 52 bits cannot come up: that would take a bitmap of 128 GiB, within the file.
        match self.what {
            What::Plain(offset, _) if self.count >= LONG_RUN => builder.add_file(gpa, len, offset),
            What::Pages(index) | What::Plain(_, index) => {
                builder.add_pages(gpa, len, index * BLOCK)
            }
            What::Missing(offset) => builder.add_truncated(gpa, len, offset),
            What::Absent => builder.add_absent(gpa, len),
        };
    }
}

fn table(
    bytes: &Bytes<'_>,
    parts: &Parts,
    file_len: u64,
    flattened: bool,
) -> Result<SegmentsBuilder, OpenErrorKind> {
    let mut builder = SegmentsBuilder::new(file_len);
    let mut descriptors = Descriptors {
        bytes,
        start: parts.descriptors,
        count: 0,
        chunk: Vec::new(),
        at: 0,
        lowest: u64::MAX,
        unwritten: None,
        unknown: false,
    };
    let mut run: Option<Run> = None;
    let mut first = Vec::new();
    let mut second = Vec::new();
    for from in (0..parts.bitmap_len).step_by(CHUNK as usize) {
        let len = CHUNK.min(parts.bitmap_len - from);
        for (bitmap, start) in [(&mut first, 0), (&mut second, parts.bitmap_len)] {
            bitmap.resize(len as usize, 0);
            let at = parts.bitmaps + start + from;
            if !bytes.read_with_gaps(at, bitmap) {
                return Err(damaged("kdump bitmaps", at, "a bitmap", "a gap"));
            }
        }
        let words = first
            .as_chunks::<8>()
            .0
            .iter()
            .zip(second.as_chunks::<8>().0);
        for (index, (exists, dumped)) in words.enumerate() {
            let dumped = u64::from_le_bytes(*dumped);
            let mut left = u64::from_le_bytes(*exists) | dumped;
            while left != 0 {
                let bit = left.trailing_zeros();
                left &= left - 1;
                let page = 8 * from + 64 * index as u64 + u64::from(bit);
                if page >= parts.pages {
                    let expected = format!("no page from {:#x} on", parts.pages);
                    let at = parts.bitmaps + page / 8;
                    return Err(damaged("kdump bitmaps", at, expected, format!("{page:#x}")));
                }
                let what = match dumped >> bit & 1 {
                    1 => descriptors.next(flattened),
                    _ => What::Absent,
                };
                match &mut run {
                    Some(run) if run.continues(page, what) => run.count += 1,
                    _ => {
                        let begun = Run {
                            page,
                            count: 1,
                            what,
                        };
                        if let Some(done) = run.replace(begun) {
                            done.add(&mut builder);
                        }
                        if builder.is_full() {
                            return Err(TOO_MANY_PARTS);
                        }
                    }
                }
            }
        }
    }
    if let Some(done) = run {
        done.add(&mut builder);
    }
    descriptors.agree_with_data()?;
    if descriptors.unknown {
        return Err(OpenErrorKind::Unsupported {
            found: "a kdump with pages compressed by Zstandard".into(),
            advice: Advice::Other("use a vmie that was built with the feature `zstd`"),
        });
    }
    // A stream that came to its end holds all pages, unless there was no room for them.
    if let Some(offset) = descriptors
        .unwritten
        .filter(|_| bytes.is_whole() && !parts.incomplete)
    {
        let expected = format!("a record for the page at {offset:#x} of the dump");
        return Err(damaged("flattened kdump", 0, expected, "none"));
    }
    Ok(builder)
}

/// The page descriptors, in order.
struct Descriptors<'a> {
    bytes: &'a Bytes<'a>,
    start: u64,
    /// How many were read.
    count: u64,
    chunk: Vec<u8>,
    /// Position in the chunk.
    at: usize,
    /// Of page data.
    lowest: u64,
    /// Offset of the first page that is described and not there.
    unwritten: Option<u64>,
    /// Whether a page is compressed in a way that this build cannot undo.
    unknown: bool,
}

impl Descriptors<'_> {
    fn next(&mut self, flattened: bool) -> What {
        let index = self.count;
        let offset = self.start + index * DESCRIPTOR;
        self.count += 1;
        if self.at + DESCRIPTOR as usize > self.chunk.len() {
            let whole = self.bytes.len().saturating_sub(offset) / DESCRIPTOR * DESCRIPTOR;
            let len = whole.min(CHUNK / DESCRIPTOR * DESCRIPTOR);
            self.chunk.resize(len as usize, 0);
            self.at = 0;
            if !self.bytes.read_with_gaps(offset, &mut self.chunk) {
                self.chunk.clear();
            }
        }
        let here = self.chunk.get(self.at..).and_then(<[u8]>::first_chunk);
        let Some(one) = here.map(pages::Descriptor::parse) else {
            return What::Missing(offset);
        };
        self.at += DESCRIPTOR as usize;
        self.unknown |= one.is_unknown();
        if one.offset != 0 {
            self.lowest = self.lowest.min(one.offset);
        }
        let end = one.offset.checked_add(u64::from(one.size));
        if one.offset == 0 {
            return What::Missing(0);
        }
        if end.is_none_or(|end| end > self.bytes.len()) {
            self.unwritten.get_or_insert(one.offset);
            return What::Missing(one.offset);
        }
        if !flattened && one.is_plain() {
            return What::Plain(one.offset, index);
        }
        if self.bytes.has(one.offset, u64::from(one.size)) {
            What::Pages(index)
        } else {
            self.unwritten.get_or_insert(one.offset);
            What::Missing(one.offset)
        }
    }

    /// Page data begins where the descriptors end, or with a page of zeros that is not always used.
    fn agree_with_data(&self) -> Result<(), OpenErrorKind> {
        let end = self.start + self.count * DESCRIPTOR;
        let gap = self.lowest.wrapping_sub(end);
        if self.lowest == u64::MAX || gap == 0 || (BLOCK..u64::MAX / 2).contains(&gap) {
            return Ok(());
        }
        let expected = format!(
            "descriptors of {} pages up to {:#x}",
            self.count, self.lowest
        );
        Err(damaged(
            "kdump bitmaps",
            self.start,
            expected,
            format!("{end:#x}"),
        ))
    }
}

/// What the sub header leads to: ELF notes from version 4 on, with CPUs as QEMU notes them, and the text of a
/// VMCOREINFO note from version 3 on, which both writers say the place of.
fn notes(bytes: &Bytes<'_>, parts: &Parts) -> (Hints, Vec<String>) {
    let mut notes = Notes::default();
    if parts.version >= 4
        && let Some(copy) = part(bytes, parts, parts.layout.note, MAX_NOTES)
    {
        // QEMU uses wide headers also for 32-bit guests with much memory; the registers of the first CPU (336
        // bytes in long mode) tell.
        let first: Option<&[u8; 12]> = copy.first_chunk();
        let x86_64 =
            parts.layout.wide && first.is_none_or(|head| head[4..8] != 144_u32.to_le_bytes());
        let map = FileMap::from_bytes(copy);
        notes.read(&map, 0, map.len(), x86_64);
    }
    if parts.version >= 3
        && let Some(text) = part(
            bytes,
            parts,
            parts.layout.vmcoreinfo,
            Hints::MAX_VMCOREINFO as u64,
        )
    {
        notes.hints.vmcoreinfo.get_or_insert(text);
    }
    (notes.hints, notes.oddities)
}

/// Bytes of the file whose offset and length the sub header says; as many as there are, up to `most`.
fn part(bytes: &Bytes<'_>, parts: &Parts, fields: (u64, u64), most: u64) -> Option<Vec<u8>> {
    let at = u64::from_le_bytes(bytes.array(parts.sub + fields.0)?);
    let len_at = parts.sub + fields.1;
    let len = match parts.layout.wide {
        true => u64::from_le_bytes(bytes.array(len_at)?),
        false => u64::from(u32::from_le_bytes(bytes.array(len_at)?)),
    };
    let len = len.min(most).min(bytes.len().saturating_sub(at));
    let mut copy = vec![0; usize::try_from(len).ok()?];
    let there = at != 0 && !copy.is_empty() && bytes.read_with_gaps(at, &mut copy);
    there.then_some(copy)
}
