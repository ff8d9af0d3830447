//! What a file says about a snapshot, all but the bytes: one piece, that stands at both ends of the file.
//!
//! All numbers are little-endian. The header, [`HEADER`] bytes:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `vmiesnap` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 1 | what addresses are: 0 physical, 1 virtual |
//! | 13 | 1 | compression of blocks: 0 none, 1 LZ4 block, 2 Zstandard frame |
//! | 14 | 2 | protections that were asked for: all of these, any of these |
//! | 16 | 8 | length of the tables |
//! | 24 | 8 | length of the file |
//! | 32 | 16 | first and last address that was asked for |
//! | 48 | 16 | when it was taken, nanoseconds since 1970, and how long that took |
//! | 64 | 8 | length of the text about its origin |
//! | 72 | 40 | how many CPUs, spans, gaps, slots, distinct pages |
//! | 112 | 16 | root of the address space; its mode, from 1, or 0 |
//! | 128 | 2 | bytes of its program's pointers, bits of its code; 0 where not known |
//! | 248 | 8 | XXH3 of the 248 bytes before |
//!
//! In a series (see [`Form`]) the file begins with `vmiemomt`, is one such piece, and its blocks are in another file.
//!
//! Sections follow without gaps: the text; CPUs (index, 0, CR0, CR3, CR4, EFER, RIP, RSP, and which of EFER and long
//! mode are known); spans and gaps (start, length, tag, level or protection, two numbers of the cause); slots (4 bytes
//! each, all ones for zeros); blocks (length, XXH3 of its bytes in the file). The end is [`TRAILER`] bytes: XXH3 of
//! everything before, the length of the tables, `vmietbls`.

use std::time::{Duration, SystemTime};

use xxhash_rust::xxh3::xxh3_64;

use super::super::layout::Layout;
use super::super::slot::{Slot, Slots, ZERO};
use super::super::{Filter, Origin};
use super::{BLOCK_PAGES, Compression, FileErrorKind as Kind};
use crate::addr::{AddrRange, Address, Gpa};
use crate::arch::x86::CpuState;
use crate::memory::{Cause, Gap, Prot, Span, SpanKind};
use crate::paging::Mode;
use crate::width::{CodeBits, ProgramWidth, Width};

const END: &[u8; 8] = b"vmietbls";
const VERSION: u32 = 1;
pub(super) const SPACE_AT: usize = 12;
pub(super) const HEADER: usize = 256;
pub(super) const TRAILER: usize = 24;
const WIDTH_AT: usize = 128;
const SUM_AT: usize = HEADER - 8;
const CPU: usize = 64;
const SPAN: usize = 40;
const BLOCK: usize = 16;

/// What kind of file the tables are of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Form {
    /// A snapshot: tables, blocks, tables.
    Whole,
    /// A moment of a series: tables, whose blocks are in a file that the moments share.
    Moment,
}

impl Form {
    pub(super) const ALL: [Self; 2] = [Self::Whole, Self::Moment];

    pub(in super::super) fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Whole => b"vmiesnap",
            Self::Moment => b"vmiemomt",
        }
    }
}

/// Everything about a snapshot but its bytes.
#[derive(Clone, PartialEq, Debug)]
pub(in super::super) struct Tables<A: Address> {
    pub(in super::super) layout: Layout<A>,
    pub(in super::super) slots: Slots,
    pub(in super::super) taken: SystemTime,
    pub(in super::super) took: Duration,
    pub(in super::super) origin: Origin,
    pub(in super::super) compression: Compression,
    /// Distinct pages.
    pub(in super::super) pages: u64,
    /// Length and checksum of each block.
    pub(in super::super) blocks: Vec<(u64, u64)>,
}

/// How many blocks hold so many pages.
pub(super) fn block_count(pages: u64) -> u64 {
    pages.div_ceil(BLOCK_PAGES as u64)
}

pub(super) fn space<A: Address>() -> u8 {
    u8::from(A::SPACE == "virtual")
}

pub(super) fn space_name(space: u8) -> &'static str {
    if space == 0 { "physical" } else { "virtual" }
}

impl<A: Address> Tables<A> {
    /// How many bytes these tables take with all blocks in them.
    pub(in super::super) fn len(&self) -> u64 {
        let sections = [
            self.origin.about.len(),
            self.origin.cpus.len() * CPU,
            self.layout.all_spans().len() * SPAN,
            self.layout.gaps().len() * SPAN,
            self.slots.len() * size_of::<Slot>(),
            HEADER + TRAILER,
        ];
        let blocks = block_count(self.pages) * BLOCK as u64;
        sections.iter().map(|&len| len as u64).sum::<u64>() + blocks
    }

    /// The bytes.
    pub(in super::super) fn encode(&self, form: Form) -> Vec<u8> {
        let mut out = vec![0; HEADER];
        out.extend_from_slice(self.origin.about.as_bytes());
        for cpu in &self.origin.cpus {
            put_cpu(&mut out, cpu);
        }
        for span in self.layout.all_spans() {
            put_span(&mut out, *span);
        }
        for gap in self.layout.gaps() {
            let kind = SpanKind::Lost(gap.cause);
            put_span(
                &mut out,
                Span {
                    start: gap.start,
                    len: gap.len,
                    kind,
                },
            );
        }
        out.extend(self.slots.iter().flat_map(|slot| slot.to_le_bytes()));
        for &(len, sum) in &self.blocks {
            out.extend([len, sum].iter().flat_map(|word| word.to_le_bytes()));
        }
        let len = (out.len() + TRAILER) as u64;
        let contents: u64 = self.blocks.iter().map(|block| block.0).sum();
        let file = match form {
            Form::Whole => 2 * len + contents,
            Form::Moment => len,
        };
        self.encode_header(&mut out[..HEADER], form, len, file);
        let sum = xxh3_64(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(END);
        out
    }

    fn encode_header(&self, header: &mut [u8], form: Form, len: u64, file: u64) {
        let filter = self.layout.filter();
        header[..8].copy_from_slice(form.magic());
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[SPACE_AT] = space::<A>();
        header[13] = self.compression.tag() as u8;
        header[14] = filter.all.bits();
        header[15] = filter.any.bits();
        let since = self.taken.duration_since(SystemTime::UNIX_EPOCH);
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (root, mode) = match self.origin.space {
            Some((root, mode)) => {
                let index = Mode::ALL.iter().position(|&one| one == mode);
                (root.0, index.map_or(0, |index| index as u64 + 1))
            }
            None => (0, 0),
        };
        let words = [
            len,
            file,
            self.layout.asked().start().raw(),
            self.layout.asked().last().raw(),
            since.map_or(0, nanos),
            nanos(self.took),
            self.origin.about.len() as u64,
            self.origin.cpus.len() as u64,
            self.layout.all_spans().len() as u64,
            self.layout.gaps().len() as u64,
            self.slots.len() as u64,
            self.pages,
            root,
            mode,
        ];
        for (to, word) in header[16..].chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        let ProgramWidth { pointers, code } = self.origin.width;
        header[WIDTH_AT] = pointers.map_or(0, |pointers| pointers.bytes() as u8);
        header[WIDTH_AT + 1] = code.map_or(0, |code| code.number() as u8);
        let sum = xxh3_64(&header[..SUM_AT]);
        header[SUM_AT..].copy_from_slice(&sum.to_le_bytes());
    }

    /// Reads tables that are whole, with their checksum, at `offset` of a file.
    pub(in super::super) fn decode(form: Form, bytes: &[u8], offset: u64) -> Result<Self, Kind> {
        let header = header(form, bytes, offset)?;
        let bytes = usize::try_from(header.len)
            .ok()
            .and_then(|len| bytes.get(..len))
            .filter(|bytes| bytes.len() >= HEADER + TRAILER)
            .ok_or(Kind::Length {
                found: offset + bytes.len() as u64,
                expected: header.file,
            })?;
        let (body, trailer) = bytes.split_at(bytes.len() - TRAILER);
        let sum = xxh3_64(body).to_le_bytes();
        if trailer[..8] != sum
            || trailer[8..16] != header.len.to_le_bytes()
            || trailer[16..] != *END
        {
            return Err(Kind::Damaged {
                part: "tables",
                offset,
                len: header.len,
            });
        }
        header.sections(&body[HEADER..], &body[..HEADER])
    }
}

/// Where the tables at the end of a file begin, if it ends with a trailer.
pub(super) fn at_end(trailer: [u8; TRAILER], file: u64) -> Option<u64> {
    let len = word(&trailer, 8);
    (trailer[16..] == *END)
        .then(|| file.checked_sub(len))
        .flatten()
}

/// The numbers of a header that had to be looked at before anything else.
pub(super) struct Header {
    pub(super) len: u64,
    pub(super) file: u64,
}

/// Reads a header; `offset` is where it stands in the file.
pub(super) fn header(form: Form, bytes: &[u8], offset: u64) -> Result<Header, Kind> {
    if !bytes.starts_with(form.magic()) {
        return Err(Kind::Foreign);
    }
    let damaged = Kind::Damaged {
        part: "header",
        offset,
        len: HEADER as u64,
    };
    let Some(header) = bytes.get(..HEADER) else {
        return Err(damaged);
    };
    let version = word(header, 8) as u32;
    if word(header, SUM_AT) != xxh3_64(&header[..SUM_AT]) {
        return Err(damaged);
    }
    if version != VERSION {
        return Err(Kind::Version {
            found: version,
            expected: VERSION,
        });
    }
    Ok(Header {
        len: word(header, 16),
        file: word(header, 24),
    })
}

impl Header {
    /// Everything behind the header, whose checksums are right.
    fn sections<A: Address>(&self, mut rest: &[u8], header: &[u8]) -> Result<Tables<A>, Kind> {
        let at = |index: usize| word(header, 16 + index * 8);
        if header[SPACE_AT] != space::<A>() {
            return Err(Kind::Space {
                found: space_name(header[SPACE_AT]),
                expected: A::SPACE,
            });
        }
        let compression = Compression::of_tag(u32::from(header[13]))?;
        let pages = at(11);
        // Each section's length is known before it is looked at, and is there.
        let mut section = |count: u64, size: usize| {
            let len = usize::try_from(count).ok()?.checked_mul(size)?;
            let (section, behind) = rest.split_at_checked(len)?;
            rest = behind;
            Some(section)
        };
        let short = Kind::Inconsistent("the length of its tables");
        let (Some(text), Some(cpus), Some(spans), Some(gaps), Some(slots), Some(blocks)) = (
            section(at(6), 1),
            section(at(7), CPU),
            section(at(8), SPAN),
            section(at(9), SPAN),
            section(at(10), size_of::<Slot>()),
            section(block_count(pages), BLOCK),
        ) else {
            return Err(short);
        };
        if !rest.is_empty() {
            return Err(short);
        }
        let prot = |bits| Prot::from_bits(bits).ok_or(Kind::Inconsistent("a protection"));
        let filter = Filter {
            all: prot(header[14])?,
            any: prot(header[15])?,
        };
        let asked = AddrRange::inclusive(A::new(at(2)), A::new(at(3)));
        let asked = asked.ok_or(Kind::Inconsistent("its range"))?;
        let gap = |span: Span<A>| match span.kind {
            SpanKind::Lost(cause) => Ok(Gap {
                start: span.start,
                len: span.len,
                cause,
            }),
            SpanKind::Mapped(_) | SpanKind::Away(..) => Err(Kind::Inconsistent("a gap")),
        };
        let each = |bytes: &[u8]| bytes.chunks_exact(SPAN).map(get_span::<A>).collect();
        let spans: Result<Vec<_>, Kind> = each(spans);
        let gaps: Result<Vec<_>, Kind> = each(gaps);
        let gaps: Result<Vec<_>, Kind> = gaps?.into_iter().map(gap).collect();
        let (spans, gaps) = (spans?, gaps?);
        let layout = Layout::new(asked, filter, spans).ok_or(Kind::Inconsistent("its regions"))?;
        let layout = layout
            .with_gaps(gaps)
            .ok_or(Kind::Inconsistent("its gaps"))?;
        let (slots, _) = slots.as_chunks::<4>();
        let slots: Slots = slots.iter().copied().map(Slot::from_le_bytes).collect();
        let known = |&slot: &Slot| slot == ZERO || u64::from(slot) < pages;
        if layout.pages() != slots.len() as u64 || !slots.iter().all(known) {
            return Err(Kind::Inconsistent("the number of its pages"));
        }
        let mode = match at(13) {
            0 => None,
            index => {
                let mode = usize::try_from(index - 1)
                    .ok()
                    .and_then(|index| Mode::ALL.get(index));
                Some(*mode.ok_or(Kind::Inconsistent("its paging mode"))?)
            }
        };
        let time = Duration::from_nanos(at(4));
        Ok(Tables {
            layout,
            slots,
            taken: SystemTime::UNIX_EPOCH + time,
            took: Duration::from_nanos(at(5)),
            origin: Origin {
                about: String::from_utf8(text.to_vec())
                    .map_err(|_| Kind::Inconsistent("its text"))?,
                space: mode.map(|mode| (Gpa(at(12)), mode)),
                cpus: cpus.chunks_exact(CPU).map(get_cpu).collect(),
                width: get_width(header[WIDTH_AT], header[WIDTH_AT + 1])?,
            },
            compression,
            pages,
            blocks: blocks
                .chunks_exact(BLOCK)
                .map(|block| (word(block, 0), word(block, 8)))
                .collect(),
        })
    }
}

/// The little-endian number at `at`.
fn word(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes[at..].first_chunk().expect("within the record");
    u64::from_le_bytes(*bytes)
}

fn get_width(pointers: u8, code: u8) -> Result<ProgramWidth, Kind> {
    Ok(ProgramWidth {
        pointers: match pointers {
            0 => None,
            4 => Some(Width::Four),
            8 => Some(Width::Eight),
            _ => return Err(Kind::Inconsistent("the width of its pointers")),
        },
        code: match code {
            0 => None,
            32 => Some(CodeBits::B32),
            64 => Some(CodeBits::B64),
            _ => return Err(Kind::Inconsistent("the width of its code")),
        },
    })
}

fn put_cpu(out: &mut Vec<u8>, cpu: &CpuState) {
    let known = u64::from(cpu.efer.is_some())
        | match cpu.long_mode {
            None => 0,
            Some(false) => 2,
            Some(true) => 6,
        };
    let words = [
        u64::from(cpu.index),
        cpu.cr0,
        cpu.cr3,
        cpu.cr4,
        cpu.efer.unwrap_or(0),
        cpu.rip,
        cpu.rsp,
        known,
    ];
    out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
}

fn get_cpu(bytes: &[u8]) -> CpuState {
    let known = word(bytes, 56);
    CpuState {
        index: word(bytes, 0) as u32,
        cr0: word(bytes, 8),
        cr3: word(bytes, 16),
        cr4: word(bytes, 24),
        efer: (known & 1 != 0).then(|| word(bytes, 32)),
        long_mode: (known & 2 != 0).then_some(known & 4 != 0),
        rip: word(bytes, 40),
        rsp: word(bytes, 48),
        // Snapshots keep what says how addresses are translated.
        ..CpuState::default()
    }
}

fn put_span<A: Address>(out: &mut Vec<u8>, span: Span<A>) {
    let (tag, small, one, other): (u8, u8, u64, u64) = match span.kind {
        SpanKind::Mapped(prot) => (0, prot.bits(), 0, 0),
        SpanKind::Lost(cause) => match cause {
            Cause::NotMapped { level, at, entry } => (1, level, at.0, entry),
            Cause::Malformed { level, at, entry } => (2, level, at.0, entry),
            Cause::NonCanonical => (3, 0, 0, 0),
            Cause::TableAbsent { level, table } => (4, level, table.0, 0),
            Cause::Absent { gpa } => (5, 0, gpa.0, 0),
            Cause::Truncated { gpa, offset } => (6, 0, gpa.0, offset),
            Cause::Corrupt { gpa, offset } => (7, 0, gpa.0, offset),
            Cause::Io { errno } => (8, 0, u64::from(errno.cast_unsigned()), 0),
            Cause::Limit => (9, 0, 0, 0),
            Cause::NothingThere => (10, 0, 0, 0),
            Cause::NotCaptured => (11, 0, 0, 0),
            Cause::Damaged { offset } => (12, 0, offset, 0),
            Cause::Gone => (13, 0, 0, 0),
            Cause::SwappedOut { area, offset } => (14, 0, u64::from(area), offset),
            Cause::Compressed { area, offset } => (15, 0, u64::from(area), offset),
        },
        SpanKind::Away(prot, cause) => {
            let (tag, place) = match cause {
                Cause::Compressed { area, offset } => (17, (u64::from(area), offset)),
                Cause::SwappedOut { area, offset } => (16, (u64::from(area), offset)),
                _ => (16, (0, 0)),
            };
            (tag, prot.bits(), place.0, place.1)
        }
    };
    let kind = u64::from(tag) | u64::from(small) << 8;
    let words = [span.start.raw(), span.len, kind, one, other];
    out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
}

fn get_span<A: Address>(bytes: &[u8]) -> Result<Span<A>, Kind> {
    let (one, other) = (word(bytes, 24), word(bytes, 32));
    let (tag, small) = (bytes[16], bytes[17]);
    let level = small;
    let lost = |cause| Ok(SpanKind::Lost(cause));
    let kind = match tag {
        0 => {
            let prot = Prot::from_bits(small);
            prot.map(SpanKind::Mapped)
                .ok_or(Kind::Inconsistent("a protection"))
        }
        1 => lost(Cause::NotMapped {
            level,
            at: Gpa(one),
            entry: other,
        }),
        2 => lost(Cause::Malformed {
            level,
            at: Gpa(one),
            entry: other,
        }),
        3 => lost(Cause::NonCanonical),
        4 => lost(Cause::TableAbsent {
            level,
            table: Gpa(one),
        }),
        5 => lost(Cause::Absent { gpa: Gpa(one) }),
        6 => lost(Cause::Truncated {
            gpa: Gpa(one),
            offset: other,
        }),
        7 => lost(Cause::Corrupt {
            gpa: Gpa(one),
            offset: other,
        }),
        8 => lost(Cause::Io {
            errno: (one as u32).cast_signed(),
        }),
        9 => lost(Cause::Limit),
        10 => lost(Cause::NothingThere),
        11 => lost(Cause::NotCaptured),
        12 => lost(Cause::Damaged { offset: one }),
        13 => lost(Cause::Gone),
        14 => lost(Cause::SwappedOut {
            area: one as u32,
            offset: other,
        }),
        15 => lost(Cause::Compressed {
            area: one as u32,
            offset: other,
        }),
        16 | 17 => {
            let (area, offset) = (one as u32, other);
            let cause = match tag {
                16 => Cause::SwappedOut { area, offset },
                _ => Cause::Compressed { area, offset },
            };
            let prot = Prot::from_bits(small).ok_or(Kind::Inconsistent("a protection"));
            prot.map(|prot| SpanKind::Away(prot, cause))
        }
        _ => Err(Kind::Inconsistent("a region")),
    };
    Ok(Span {
        start: A::new(word(bytes, 0)),
        len: word(bytes, 8),
        kind: kind?,
    })
}
