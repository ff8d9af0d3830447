//! Compressed kdumps, as makedumpfile and QEMU write them, flattened or not.
//!
//! Sources: `diskdump_mod.h` and `IMPLEMENTATION` of makedumpfile; `include/sysemu/dump.h` of QEMU; RFC 1950; snappy's
//! `format_description.txt`; RFC 8878; `staging/lzo.rst` of Linux's documentation.

use std::io::{self, Write};
use std::ops::Range;

use super::Source;
use super::notes::{Cpu, Flavour, notes, vmcoreinfo};

const PAGE: u64 = 4096;

/// How pages are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Compression {
    /// As they are.
    Plain,
    /// zlib.
    #[default]
    Zlib,
    /// LZO1X.
    Lzo,
    /// Snappy, without frames.
    Snappy,
    /// Zstandard: frames with blocks that are stored or a repeated byte.
    Zstd,
}

impl Compression {
    fn flag(self) -> u32 {
        match self {
            Self::Plain => 0,
            Self::Zlib => 1,
            Self::Lzo => 2,
            Self::Snappy => 4,
            Self::Zstd => 0x20,
        }
    }

    fn pack(self, page: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => page.to_vec(),
            Self::Zlib => miniz_oxide::deflate::compress_to_vec_zlib(page, 1),
            Self::Lzo => lzo(page),
            Self::Snappy => snap::raw::Encoder::new()
                .compress_vec(page)
                .unwrap_or_else(|_| page.to_vec()),
            Self::Zstd => zstd(page),
        }
    }
}

/// What a kdump looks like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kdump {
    /// Header version, 1 to 6.
    pub version: u32,
    /// Whether the fields are those of a 64-bit machine.
    pub wide: bool,
    /// How pages are stored that get smaller by it.
    pub compression: Compression,
    /// Whether pages of zeros are stored once, as both writers do.
    pub share_zeros: bool,
    /// Pages that there are and that were left out; whole pages.
    pub excluded: Vec<Range<u64>>,
    /// The CPUs in the notes; from version 4 on.
    pub cpus: Vec<Cpu>,
    /// The text of a VMCOREINFO note, which the sub header leads to; from version 3 on.
    pub vmcoreinfo: String,
    /// Whether the sub header says that the dump was split.
    pub split: bool,
    /// Whether it is written as a stream of records, in an order that is not that of the file.
    pub flattened: bool,
}

impl Default for Kdump {
    fn default() -> Self {
        Self {
            version: 6,
            wide: true,
            compression: Compression::default(),
            share_zeros: true,
            excluded: Vec::new(),
            cpus: Vec::new(),
            vmcoreinfo: String::new(),
            split: false,
            flattened: false,
        }
    }
}

/// Writes a kdump of whole pages.
///
/// # Errors
/// The source's or the output's; and when a range does not consist of whole pages.
pub fn kdump(
    out: &mut (impl Write + ?Sized),
    ranges: &[Range<u64>],
    source: &mut (impl Source + ?Sized),
    options: &Kdump,
) -> io::Result<()> {
    let parts = parts(ranges, source, options)?;
    if options.flattened {
        return flatten(out, &parts);
    }
    let mut at = 0;
    for (offset, bytes) in &parts {
        out.write_all(&vec![0; (offset - at) as usize])?;
        out.write_all(bytes)?;
        at = offset + bytes.len() as u64;
    }
    Ok(())
}

/// The pieces of the file, ascending.
fn parts(
    ranges: &[Range<u64>],
    source: &mut (impl Source + ?Sized),
    options: &Kdump,
) -> io::Result<Vec<(u64, Vec<u8>)>> {
    let all = || ranges.iter().chain(&options.excluded);
    if all().any(|range| range.start % PAGE != 0 || range.end % PAGE != 0) {
        let why = "a kdump holds whole pages";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let pages = all().map(|range| range.end / PAGE).max().unwrap_or(0);
    let bitmap_blocks = pages.div_ceil(8).div_ceil(PAGE);
    let mut bitmaps = vec![0; (2 * bitmap_blocks * PAGE) as usize];
    let second = (bitmap_blocks * PAGE) as usize;
    let mut set = |page: u64, at: usize| bitmaps[at + (page / 8) as usize] |= 1 << (page % 8);
    for range in all() {
        for page in range.start / PAGE..range.end / PAGE {
            set(page, 0);
        }
    }
    let mut dumped: Vec<u64> = ranges
        .iter()
        .flat_map(|range| range.start / PAGE..range.end / PAGE)
        .collect();
    dumped.sort_unstable();
    for &page in &dumped {
        set(page, second);
    }

    let mut notes = if options.version >= 4 {
        notes(Flavour::Qemu, &options.cpus, options.wide)
    } else {
        Vec::new()
    };
    let note_at = 2 * PAGE;
    let mut text_at = 0;
    let mut note_len = notes.len();
    if !options.vmcoreinfo.is_empty() && options.version >= 3 {
        // Version 3 knows no notes, and holds the text alone.
        let note = vmcoreinfo(&options.vmcoreinfo);
        text_at = note_at + notes.len() as u64 + 24;
        notes.extend(note);
        note_len = if options.version >= 4 { notes.len() } else { 0 };
    }
    let places = Places {
        notes: (note_at, note_len as u64),
        text: (text_at, options.vmcoreinfo.len() as u64),
    };
    let sub_blocks = 1 + (notes.len() as u64).div_ceil(PAGE);
    let bitmap_at = (1 + sub_blocks) * PAGE;
    let table_at = bitmap_at + 2 * bitmap_blocks * PAGE;
    let data_at = table_at + 24 * dumped.len() as u64;

    let mut table = Vec::new();
    let mut data = Vec::new();
    let mut describe = |bytes: &[u8], flag: u32, shared: Option<u64>, data: &mut Vec<u8>| {
        let offset = shared.unwrap_or(data_at + data.len() as u64);
        table.extend(offset.to_le_bytes());
        table.extend((bytes.len() as u32).to_le_bytes());
        table.extend(flag.to_le_bytes());
        table.extend(0_u64.to_le_bytes());
        if shared.is_none() {
            data.extend(bytes);
        }
    };
    let zeros = options.compression.pack(&[0; PAGE as usize]);
    let mut page = vec![0; PAGE as usize];
    if options.share_zeros {
        data.extend(&zeros);
    }
    for &number in &dumped {
        source.read(number * PAGE, &mut page)?;
        if options.share_zeros && page.iter().all(|&byte| byte == 0) {
            describe(&zeros, options.compression.flag(), Some(data_at), &mut data);
            continue;
        }
        let packed = options.compression.pack(&page);
        if packed.len() < page.len() {
            describe(&packed, options.compression.flag(), None, &mut data);
        } else {
            describe(&page, 0, None, &mut data);
        }
    }
    Ok(vec![
        (0, header(options, pages, sub_blocks, 2 * bitmap_blocks)),
        (PAGE, sub_header(options, pages, &places)),
        (note_at, notes),
        (bitmap_at, bitmaps),
        (table_at, table),
        (data_at, data),
    ])
}

fn header(options: &Kdump, pages: u64, sub_blocks: u64, bitmap_blocks: u64) -> Vec<u8> {
    let mut out = b"KDUMP   ".to_vec();
    out.extend(options.version.to_le_bytes());
    out.resize(12 + 4 * 65, 0);
    let machine: &[u8] = if options.wide { b"x86_64" } else { b"i686" };
    out.extend(machine);
    // Up to the status, behind the time.
    out.resize(if options.wide { 424 } else { 412 }, 0);
    let mapnr = u32::try_from(pages).unwrap_or(u32::MAX);
    for field in [
        options.compression.flag(),
        PAGE as u32,
        sub_blocks as u32,
        bitmap_blocks as u32,
        mapnr,
        0,
        0,
        0,
        0,
        options.cpus.len() as u32,
    ] {
        out.extend(field.to_le_bytes());
    }
    out
}

/// Offsets and lengths in the file.
struct Places {
    notes: (u64, u64),
    text: (u64, u64),
}

fn sub_header(options: &Kdump, pages: u64, places: &Places) -> Vec<u8> {
    let mut out = Vec::new();
    // What is an unsigned long there.
    let long = |out: &mut Vec<u8>, value: u64| {
        if options.wide {
            out.extend(value.to_le_bytes());
        } else {
            out.extend((value as u32).to_le_bytes());
        }
    };
    long(&mut out, 0);
    out.extend(1_u32.to_le_bytes());
    out.extend(u32::from(options.split).to_le_bytes());
    long(&mut out, 0);
    long(&mut out, pages);
    if options.version >= 3 {
        out.extend(places.text.0.to_le_bytes());
        long(&mut out, if places.text.0 == 0 { 0 } else { places.text.1 });
    }
    if options.version >= 4 {
        out.extend(places.notes.0.to_le_bytes());
        long(&mut out, places.notes.1);
    }
    if options.version >= 5 {
        out.extend(0_u64.to_le_bytes());
        long(&mut out, 0);
    }
    if options.version >= 6 {
        for field in [0, pages, pages] {
            out.extend(field.to_le_bytes());
        }
    }
    out
}

/// Records of at most 64 KiB; those of the second half first, and the header last, written once before with
/// zeros, as makedumpfile does when it knows the numbers at the end only.
fn flatten(out: &mut (impl Write + ?Sized), parts: &[(u64, Vec<u8>)]) -> io::Result<()> {
    let mut head = b"makedumpfile\0\0\0\0".to_vec();
    head.extend(1_i64.to_be_bytes());
    head.extend(1_i64.to_be_bytes());
    head.resize(4096, 0);
    out.write_all(&head)?;
    let mut records = vec![(0, vec![0; parts[0].1.len()])];
    let mut pieces: Vec<(u64, Vec<u8>)> = Vec::new();
    for (offset, bytes) in parts {
        for (index, piece) in bytes.chunks(0x1_0000).enumerate() {
            pieces.push((offset + index as u64 * 0x1_0000, piece.to_vec()));
        }
    }
    let later = pieces.split_off(pieces.len() / 2);
    records.extend(later);
    pieces.reverse();
    records.extend(pieces);
    for (offset, bytes) in records {
        out.write_all(&offset.to_be_bytes())?;
        out.write_all(&(bytes.len() as u64).to_be_bytes())?;
        out.write_all(&bytes)?;
    }
    out.write_all(&[0xff; 16])
}

/// LZO1X with literals and near matches only.
fn lzo(page: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut seen = vec![usize::MAX; 1 << 12];
    let (mut at, mut from) = (0, 0);
    // Where literals of up to three bytes are noted: in the match before them.
    let mut noted = None;
    while at + 4 <= page.len() {
        let key = u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
        let slot = (key.wrapping_mul(0x9e37_79b1) >> 20) as usize;
        let before = std::mem::replace(&mut seen[slot], at);
        if before == usize::MAX || page[before..before + 4] != page[at..at + 4] {
            at += 1;
            continue;
        }
        literals(&mut out, &page[from..at], noted);
        let len = (at..page.len())
            .take_while(|&i| page[i] == page[before + i - at])
            .count();
        let back = at - before - 1;
        if len - 2 <= 31 {
            out.push(0x20 | (len - 2) as u8);
        } else {
            out.push(0x20);
            count(&mut out, len - 2 - 31);
        }
        noted = Some(out.len());
        out.extend((((back as u16) << 2).to_le_bytes()).iter());
        at += len;
        from = at;
    }
    literals(&mut out, &page[from..], noted);
    out.extend([0x11, 0, 0]);
    out
}

/// A count of at least one, in bytes of which all but the last are 0 and stand for 255.
fn count(out: &mut Vec<u8>, mut left: usize) {
    while left > 255 {
        out.push(0);
        left -= 255;
    }
    out.push(left as u8);
}

fn literals(out: &mut Vec<u8>, bytes: &[u8], noted: Option<usize>) {
    match (bytes.len(), noted) {
        (0, _) => return,
        (len @ 1..=3, Some(at)) => out[at] |= len as u8,
        // The first instruction of a stream has a form of its own.
        (len @ 1..=238, None) => out.push(len as u8 + 17),
        (len @ 4..=18, _) => out.push(len as u8 - 3),
        (len, _) => {
            out.push(0);
            count(out, len - 18);
        }
    }
    out.extend(bytes);
}

/// One frame with its content size: a block of one repeated byte, or a stored one.
fn zstd(page: &[u8]) -> Vec<u8> {
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd];
    // A single segment, its size in two bytes, less 256.
    out.push(0x60);
    out.extend((page.len() as u16 - 256).to_le_bytes());
    let same = page.iter().all(|&byte| byte == page[0]);
    // Last block; type 1 is a repeated byte, type 0 is stored.
    let head = (page.len() as u32) << 3 | if same { 0b011 } else { 0b001 };
    out.extend(&head.to_le_bytes()[..3]);
    out.extend(if same { &page[..1] } else { page });
    out
}
