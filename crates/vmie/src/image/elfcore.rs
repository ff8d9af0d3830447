//! ELF cores of a machine: `dump-guest-memory` of QEMU, `dumpvmcore` of VirtualBox, vmcore of kdump.
//!
//! Every PT_LOAD segment is `p_filesz` bytes of the file that are guest memory from `p_paddr` on; the
//! virtual address is of no interest, also where QEMU was asked for a dump with paging and lists the
//! same frame under many. Both classes are read: QEMU writes 32-bit ELF for guests that are neither in
//! long mode nor have memory above 4 GiB. From 65,535 segments on, `e_phnum` is PN_XNUM and the number
//! is in `sh_info` of section 0.
//!
//! Where `p_memsz` is larger than `p_filesz`, the rest is not in the file. The ELF standard would have
//! it read as zeros, but the writers mean otherwise: QEMU's filter and makedumpfile leave out memory
//! whatever it held. It is declared and absent. VirtualBox alone uses such segments for what is not
//! memory at all (device registers); those are dropped.
//!
//! Sources: System V ABI, chapters 4 and 5; QEMU 7.2 `dump/dump.c`; VirtualBox 6.1
//! `src/VBox/VMM/VMMR3/DBGFCoreWrite.cpp`.

use std::borrow::Cow;

use super::advice::Advice;
use super::error::OpenErrorKind;
use super::format::Format;
use super::notes::Notes;
use super::opening::{OpenOptions, Opened, Parsed, TOO_MANY_PARTS};
use super::segments::{Added, SegmentsBuilder};
use crate::filemap::FileMap;

const ET_CORE: u16 = 4;
const EM_386: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PN_XNUM: u16 = 0xffff;

const SAVE_AGAIN: Advice =
    Advice::Other("the file was cut or overwritten; save the guest's memory again");

/// Where the fields stand in the structures of a class.
struct Class {
    wide: bool,
    ehsize: u64,
    phentsize: u64,
    shentsize: u64,
    /// Offset of `sh_info` in a section header.
    sh_info: u64,
}

const ELF32: Class = Class {
    wide: false,
    ehsize: 52,
    phentsize: 32,
    shentsize: 40,
    sh_info: 28,
};

const ELF64: Class = Class {
    wide: true,
    ehsize: 64,
    phentsize: 56,
    shentsize: 64,
    sh_info: 44,
};

/// One program header.
#[derive(Clone, Copy, Debug)]
struct Segment {
    kind: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    filesz: u64,
    memsz: u64,
}

/// The program headers of a file, checked to lie within it.
struct Table<'a> {
    map: &'a FileMap,
    class: &'static Class,
    offset: u64,
    count: u64,
    stride: u64,
}

impl Table<'_> {
    fn iter(&self) -> impl Iterator<Item = Segment> {
        (0..self.count).filter_map(|i| {
            let bytes: [u8; 56] = if self.class.wide {
                self.map.array(self.offset + i * self.stride)?
            } else {
                let half: [u8; 32] = self.map.array(self.offset + i * self.stride)?;
                std::array::from_fn(|k| half.get(k).copied().unwrap_or(0))
            };
            let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|k| bytes[at + k]));
            let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|k| bytes[at + k]));
            Some(if self.class.wide {
                Segment {
                    kind: word(0),
                    offset: long(8),
                    vaddr: long(16),
                    paddr: long(24),
                    filesz: long(32),
                    memsz: long(40),
                }
            } else {
                let word = |at| u64::from(word(at));
                Segment {
                    kind: word(0) as u32,
                    offset: word(4),
                    vaddr: word(8),
                    paddr: word(12),
                    filesz: word(16),
                    memsz: word(20),
                }
            })
        })
    }

    fn loads(&self) -> impl Iterator<Item = Segment> {
        self.iter()
            .filter(|s| s.kind == PT_LOAD && s.memsz.max(s.filesz) != 0)
    }
}

/// Opens an ELF core.
pub(super) fn open(map: FileMap, _: &OpenOptions) -> Result<Opened, OpenErrorKind> {
    let parsed = parse(&map)?;
    Ok(Opened::one(map, Format::Elf, parsed))
}

/// Reads the headers and notes of an ELF core. Costs two passes over the program headers and one over
/// the notes.
fn parse(map: &FileMap) -> Result<Parsed, OpenErrorKind> {
    let (table, x86_64) = headers(map)?;

    let mut notes = Notes::default();
    for segment in table.iter().filter(|s| s.kind == PT_NOTE) {
        notes.read(map, segment.offset, segment.filesz, x86_64);
    }

    refuse_process(&table)?;

    let mut builder = SegmentsBuilder::new(map.len());
    let mut without_address = 0u64;
    let mut beyond = 0u64;
    for segment in table.loads() {
        // Kernels mark what has no physical address of its own (vmalloc areas) like this.
        if segment.paddr == u64::MAX {
            without_address += 1;
            continue;
        }
        let stored = segment.filesz;
        let end = segment.paddr.checked_add(stored.max(segment.memsz));
        let stored = if stored == 0 {
            Added::Whole
        } else {
            builder.add_file(segment.paddr, stored, segment.offset)
        };
        let rest = segment.memsz.saturating_sub(segment.filesz);
        let rest = match segment.paddr.checked_add(segment.filesz) {
            Some(at) if rest != 0 && end.is_some() && !notes.virtualbox => {
                builder.add_absent(at, rest)
            }
            _ => Added::Whole,
        };
        if end.is_none() || stored == Added::Refused || rest == Added::Refused {
            beyond += 1;
        }
        if builder.is_full() {
            return Err(TOO_MANY_PARTS);
        }
    }

    let mut oddities = notes.oddities;
    if without_address != 0 {
        oddities.push(format!(
            "{without_address} segments have no physical address and were left out"
        ));
    }
    if beyond != 0 {
        oddities.push(format!(
            "{beyond} segments reach beyond the 52 bits of a physical address and were left out, in \
             whole or in part"
        ));
    }
    Ok(Parsed {
        builder,
        hints: notes.hints,
        notes: oddities,
        advice: Vec::new(),
        pages: None,
    })
}

/// Reads the file header. Answers the program headers and whether the machine is x86-64.
fn headers(map: &FileMap) -> Result<(Table<'_>, bool), OpenErrorKind> {
    let damaged = |offset, what, expected: String, found: String| OpenErrorKind::Damaged {
        what,
        offset,
        expected,
        found,
        advice: SAVE_AGAIN,
    };
    let unsupported =
        |found: Cow<'static, str>, advice| OpenErrorKind::Unsupported { found, advice };

    let too_short = || {
        damaged(
            0,
            "ELF header",
            "64 bytes (52 in 32-bit files)".to_owned(),
            format!("{} bytes", map.len()),
        )
    };
    let ident: [u8; 16] = map.array(0).ok_or_else(too_short)?;
    let class = match ident[4] {
        1 => &ELF32,
        2 => &ELF64,
        other => {
            return Err(damaged(
                4,
                "ELF header",
                "class 1 (32 bits) or 2 (64 bits)".to_owned(),
                other.to_string(),
            ));
        }
    };
    match ident[5] {
        1 => {}
        2 => {
            return Err(unsupported(
                "an ELF file of a big-endian machine".into(),
                Advice::Other("vmie reads memory of x86 machines"),
            ));
        }
        other => {
            return Err(damaged(
                5,
                "ELF header",
                "byte order 1 (little-endian)".to_owned(),
                other.to_string(),
            ));
        }
    }
    if map.len() < class.ehsize {
        return Err(too_short());
    }
    let half = |at: u64| map.array(at).map_or(0, u16::from_le_bytes);
    let size = |narrow: u64, wide: u64| {
        if class.wide {
            map.array(wide).map_or(0, u64::from_le_bytes)
        } else {
            map.array(narrow)
                .map_or(0, |b| u64::from(u32::from_le_bytes(b)))
        }
    };
    // From here on both classes have the same order of 16-bit fields, at a distance.
    let tail = if class.wide { 52 } else { 40 };

    let kind = half(16);
    if kind != ET_CORE {
        return Err(unsupported(
            format!("an ELF file of type {kind} and not a core dump (4)").into(),
            Advice::RawWithLayout,
        ));
    }
    let machine = half(18);
    if machine != EM_386 && machine != EM_X86_64 {
        return Err(unsupported(
            format!(
                "an ELF core of machine {machine}{}",
                if machine == 183 { " (AArch64)" } else { "" }
            )
            .into(),
            Advice::Other("vmie reads memory of x86 machines (3 and 62)"),
        ));
    }
    let stride = u64::from(half(tail + 2));
    if stride < class.phentsize {
        return Err(damaged(
            tail + 2,
            "ELF header",
            format!("program headers of {} bytes", class.phentsize),
            format!("{stride} bytes"),
        ));
    }
    let count = match half(tail + 4) {
        PN_XNUM => {
            let at = size(32, 40);
            let info = at
                .checked_add(class.sh_info)
                .filter(|_| at != 0 && half(tail + 6) >= class.shentsize as u16)
                .and_then(|at| map.array(at));
            u64::from(u32::from_le_bytes(info.ok_or_else(|| {
                damaged(
                    at,
                    "ELF section header",
                    "the number of program headers in sh_info of section 0".to_owned(),
                    "no section header within the file".to_owned(),
                )
            })?))
        }
        count => u64::from(count),
    };
    let offset = size(28, 32);
    let end = offset.checked_add(count * stride);
    if end.is_none_or(|end| end > map.len()) {
        return Err(damaged(
            offset,
            "ELF program headers",
            format!("{count} headers of {stride} bytes"),
            format!("the end of the file at {:#x}", map.len()),
        ));
    }
    let table = Table {
        map,
        class,
        offset,
        count,
        stride,
    };
    Ok((table, machine == EM_X86_64))
}

/// Tells a process's core dump from a machine's: it has many segments, with virtual addresses only.
fn refuse_process(table: &Table<'_>) -> Result<(), OpenErrorKind> {
    let mut loads = table.loads().peekable();
    let first = loads.peek().map(|s| s.vaddr);
    let mut differ = false;
    for segment in loads {
        if segment.paddr != 0 {
            return Ok(());
        }
        differ |= Some(segment.vaddr) != first;
    }
    if differ {
        return Err(OpenErrorKind::Unsupported {
            found: "a core dump of a process, without physical addresses".into(),
            advice: Advice::Other("save the memory of the guest, with `dump-guest-memory FILE`"),
        });
    }
    Ok(())
}
