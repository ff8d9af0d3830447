//! ELF images as they are in memory: programs and libraries that have been loaded.
//!
//! What a loader maps is not the file. Section headers are usually left out, some pages are not present,
//! and addresses have moved by a *bias*, the distance between where the file says that it should be and
//! where it is. So everything goes by segments:
//!
//! ```text
//! header -> program headers -> PT_LOAD       what is mapped where, from which the bias follows
//!                              PT_DYNAMIC -> symbols, their names, a hash table that tells their number
//! ```
//!
//! Addresses in the dynamic section may have been moved already (glibc does that) or not (musl, the
//! vdso): one that lies within the image is taken as it is.
//!
//! Symbols that only the file's section headers know (`.symtab`) are not loaded. They are read when the
//! caller knows what is in the file.
//!
//! The image belongs to the guest. All numbers are bounded by the image's own extent and by fixed
//! limits, and what is in a hole is left out and counted. The `object` crate reads files, whole and
//! trusted to be readable; it has nothing for images with holes.

use std::collections::{HashMap, HashSet};

use super::{SymbolTable, SymbolTableBuilder};
use crate::addr::{AddrRange, Address, Gva};
use crate::memory::{Fault, Memory, Prot, read_around_holes};

const PAGE: u64 = 4096;

/// How many program headers are read. Linkers make some fifteen.
const MAX_SEGMENTS: u64 = 512;

/// How many symbols of one table, and how many bytes of names, are read.
const MAX_SYMBOLS: u64 = 2 << 20;
const MAX_NAMES: u64 = 64 << 20;

/// How long one name may be, and how many bytes of names may be gone through in all. C++ makes names of
/// some thousand bytes.
const MAX_NAME: usize = 32 << 10;
const MAX_NAMES_READ: usize = 256 << 20;

/// How large a dynamic section, and how many section headers and versions, are read.
const MAX_DYNAMIC: u64 = 64 << 10;
const MAX_SECTIONS: u64 = 4096;
const MAX_VERSIONS: usize = 1024;

/// Numbers of the format, by the names they have in `elf.h`.
mod num {
    pub(super) const ET_EXEC: u64 = 2;
    pub(super) const ET_DYN: u64 = 3;
    pub(super) const PT_LOAD: u64 = 1;
    pub(super) const PT_DYNAMIC: u64 = 2;
    pub(super) const PF_X: u64 = 1;
    pub(super) const PF_W: u64 = 2;
    pub(super) const DT_HASH: u64 = 4;
    pub(super) const DT_STRTAB: u64 = 5;
    pub(super) const DT_SYMTAB: u64 = 6;
    pub(super) const DT_STRSZ: u64 = 10;
    pub(super) const DT_GNU_HASH: u64 = 0x6fff_fef5;
    pub(super) const DT_VERSYM: u64 = 0x6fff_fff0;
    pub(super) const DT_VERDEF: u64 = 0x6fff_fffc;
    pub(super) const SHT_SYMTAB: u64 = 2;
    pub(super) const SHN_UNDEF: u64 = 0;
    pub(super) const SHN_ABS: u64 = 0xfff1;
    pub(super) const STT_SECTION: u8 = 3;
    pub(super) const STT_FILE: u8 = 4;
    pub(super) const STT_TLS: u8 = 6;
    pub(super) const STT_FUNC: u8 = 2;
    pub(super) const STT_OBJECT: u8 = 1;
    pub(super) const STT_GNU_IFUNC: u8 = 10;
    pub(super) const STB_LOCAL: u8 = 0;
    pub(super) const STB_WEAK: u8 = 2;
    pub(super) const STB_GNU_UNIQUE: u8 = 10;
    /// In the version of a symbol: not the one that new programs are linked with.
    pub(super) const HIDDEN: u16 = 0x8000;
}

/// Why an image was not opened, or has no symbols.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ElfError {
    /// It does not start like an ELF image.
    #[error("there is no ELF header")]
    NotElf,
    /// It is an ELF image of a sort that is not read.
    #[error("it is ELF, but {0}")]
    Unsupported(&'static str),
    /// What it says of itself makes no sense.
    #[error("its {0}")]
    Damaged(String),
    /// What is needed of it could not be read.
    #[error("its {what} cannot be read: {fault}")]
    Unreadable {
        /// What.
        what: &'static str,
        /// Where and why.
        fault: Fault<Gva>,
    },
    /// It has no symbols in memory.
    #[error("no table of its symbols is in memory")]
    NoSymbols,
}

/// A part of the image that is loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Where it is.
    pub range: AddrRange<Gva>,
    /// Where it starts in the file.
    pub offset: u64,
    /// How much of it is in the file; the rest is zeroed.
    pub file_len: u64,
    /// What the file allows.
    pub prot: Prot,
}

/// An opened image.
pub struct ElfImage<'m> {
    memory: &'m dyn Memory<Addr = Gva>,
    wide: bool,
    base: Gva,
    bias: u64,
    range: AddrRange<Gva>,
    segments: Vec<Segment>,
    dynamic: Option<(Gva, u64)>,
    /// Offset, size of each, and number of the section headers.
    sections: (u64, u64, u64),
}

impl std::fmt::Debug for ElfImage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ElfImage")
            .field("range", &self.range)
            .field("bias", &self.bias)
            .finish_non_exhaustive()
    }
}

/// Widths of fields, by class.
#[derive(Clone, Copy)]
struct Fields<'b> {
    bytes: &'b [u8],
    wide: bool,
}

impl Fields<'_> {
    /// A little-endian number; what is cut off counts as zero.
    fn number(self, at: usize, len: usize) -> u64 {
        let mut value = [0; 8];
        let bytes = self.bytes.get(at..).unwrap_or_default();
        let len = len.min(bytes.len());
        value[..len].copy_from_slice(&bytes[..len]);
        u64::from_le_bytes(value)
    }

    /// The number at `narrow` or `wide`, of 4 or 8 bytes, by class.
    fn address(self, narrow: usize, wide: usize) -> u64 {
        match self.wide {
            true => self.number(wide, 8),
            false => self.number(narrow, 4),
        }
    }

    /// The number of `len` bytes at `narrow` or `wide`, by class.
    fn fixed(self, narrow: usize, wide: usize, len: usize) -> u64 {
        self.number(if self.wide { wide } else { narrow }, len)
    }
}

impl<'m> ElfImage<'m> {
    /// Opens the image whose header is at `base`.
    ///
    /// Cost: two small reads.
    ///
    /// # Errors
    ///
    /// [`ElfError`].
    pub fn open(memory: &'m dyn Memory<Addr = Gva>, base: Gva) -> Result<Self, ElfError> {
        let damaged = |what: &str| ElfError::Damaged(what.to_owned());
        let mut header = [0; 64];
        memory
            .read(base, &mut header)
            .map_err(|fault| ElfError::Unreadable {
                what: "header",
                fault,
            })?;
        let wide = match header[..6] {
            [0x7f, b'E', b'L', b'F', 2, 1] => true,
            [0x7f, b'E', b'L', b'F', 1, 1] => false,
            [0x7f, b'E', b'L', b'F', _, 2] => return Err(ElfError::Unsupported("big-endian")),
            _ => return Err(ElfError::NotElf),
        };
        let fields = Fields {
            bytes: &header,
            wide,
        };
        let kind = fields.number(16, 2);
        if kind != num::ET_EXEC && kind != num::ET_DYN {
            return Err(ElfError::Unsupported("neither a program nor a library"));
        }
        let offset = fields.address(28, 32);
        let (each, count) = (fields.fixed(42, 54, 2), fields.fixed(44, 56, 2));
        let least = if wide { 56 } else { 32 };
        if each < least || count == 0 || count > MAX_SEGMENTS {
            return Err(damaged("program headers are of impossible size or number"));
        }
        let start = base.checked_add(offset);
        let start = start.ok_or_else(|| damaged("program headers are nowhere"))?;
        let mut headers = vec![0; (each * count) as usize];
        memory
            .read(start, &mut headers)
            .map_err(|fault| ElfError::Unreadable {
                what: "program headers",
                fault,
            })?;
        let headers: Vec<Fields<'_>> = headers
            .chunks_exact(each as usize)
            .map(|bytes| Fields { bytes, wide })
            .collect();
        let bias = bias(base, &headers, kind)?;
        let mut image = Self {
            memory,
            wide,
            base,
            bias,
            range: AddrRange::new(base, 1).expect("one byte"),
            segments: Vec::new(),
            dynamic: None,
            sections: (
                fields.address(32, 40),
                fields.fixed(46, 58, 2),
                fields.fixed(48, 60, 2),
            ),
        };
        for header in headers {
            image.take(header)?;
        }
        let first = image.segments.iter().map(|s| s.range.start()).min();
        let last = image.segments.iter().map(|s| s.range.last()).max();
        let (first, last) = first
            .zip(last)
            .ok_or_else(|| damaged("segments are none"))?;
        let first = first.align_down(PAGE);
        let last = Gva(last.raw() | (PAGE - 1));
        image.range =
            AddrRange::inclusive(first, last).ok_or_else(|| damaged("segments are in no order"))?;
        Ok(image)
    }

    /// Takes a program header.
    fn take(&mut self, header: Fields<'_>) -> Result<(), ElfError> {
        let kind = header.number(0, 4);
        let va = Gva(header.address(8, 16).wrapping_add(self.bias));
        let len = header.address(20, 40);
        match kind {
            num::PT_LOAD if len > 0 => {
                let range = AddrRange::new(va, len).ok_or_else(|| {
                    ElfError::Damaged(format!("segment of {len:#x} bytes at {va} wraps around"))
                })?;
                let flags = header.fixed(24, 4, 4);
                let flag = |bit, prot| if flags & bit != 0 { prot } else { Prot::NONE };
                self.segments.push(Segment {
                    range,
                    offset: header.address(4, 8),
                    file_len: header.address(16, 32).min(len),
                    prot: Prot::R
                        .union(flag(num::PF_W, Prot::W))
                        .union(flag(num::PF_X, Prot::X)),
                });
            }
            num::PT_DYNAMIC => self.dynamic = Some((va, len.min(MAX_DYNAMIC))),
            _ => {}
        }
        Ok(())
    }

    /// From the first to the last byte of its segments, in whole pages.
    pub fn range(&self) -> AddrRange<Gva> {
        self.range
    }

    /// What to add to an address in the file to get where it is; wraps.
    pub fn bias(&self) -> u64 {
        self.bias
    }

    /// What is loaded, in the order of the file.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The symbols that are defined by the image.
    ///
    /// `file` reads the image's file from an offset on, within one page of 4 KiB, and answers whether it
    /// could.
    ///
    /// Names of symbols that have versions, and are not of the default one, go on with `@` and the
    /// version, as in `memcpy@GLIBC_2.2.5`.
    ///
    /// # Errors
    ///
    /// [`ElfError`], when there are none.
    pub fn symbols(&self, file: &dyn Fn(u64, &mut [u8]) -> bool) -> Result<SymbolTable, ElfError> {
        let mut found = Found::default();
        let dynamic = self.dynamic_symbols(&mut found);
        let of_dynamic = found.symbols.len();
        let others = self.section_symbols(file, &mut found);
        if of_dynamic > 0 && found.symbols.len() > of_dynamic {
            found.without_twins();
        }
        if others.is_err() {
            dynamic?;
        }
        let mut table = SymbolTableBuilder::with_capacity(found.symbols.len(), found.bytes);
        for symbol in found.symbols {
            table.push_sized(&symbol.name, symbol.va, symbol.letter, symbol.size);
        }
        table.note_missing(found.missing);
        Ok(table.build(Some(self.range)))
    }

    /// Reads what can be read of a table that must lie within the image.
    fn table(&self, at: Gva, len: u64) -> Option<Table> {
        let range = AddrRange::new(at, len)?;
        if !self.range.covers(range) {
            return None;
        }
        let mut bytes = vec![0; len as usize];
        let mut holes = Vec::new();
        read_around_holes(self.memory, at, &mut bytes, PAGE, |at, len, _| {
            holes.push((at, at + len));
        });
        Some(Table { bytes, holes })
    }

    /// An address in the dynamic section, which the loader may have moved.
    fn moved(&self, value: u64) -> Gva {
        match self.range.contains(Gva(value)) {
            true => Gva(value),
            false => Gva(value.wrapping_add(self.bias)),
        }
    }

    fn dynamic_symbols(&self, found: &mut Found) -> Result<(), ElfError> {
        let damaged = |what: &str| ElfError::Damaged(what.to_owned());
        let (at, len) = self.dynamic.ok_or(ElfError::NoSymbols)?;
        let table = self
            .table(at, len)
            .ok_or_else(|| damaged("dynamic section is outside of it"))?;
        if let Some(&(hole, _)) = table.holes.first() {
            let at = Gva(at.raw() + hole as u64);
            let fault = self.memory.read(at, &mut [0]).err();
            return Err(fault.map_or_else(
                || damaged("dynamic section changes while it is read"),
                |fault| ElfError::Unreadable {
                    what: "dynamic section",
                    fault,
                },
            ));
        }
        let each = if self.wide { 16 } else { 8 };
        let mut values = HashMap::new();
        for entry in table.bytes.chunks_exact(each) {
            let entry = Fields {
                bytes: entry,
                wide: self.wide,
            };
            match entry.address(0, 0) {
                0 => break,
                tag => values.insert(tag, entry.address(4, 8)),
            };
        }
        let address = |tag| values.get(&tag).map(|&value| self.moved(value));
        let symtab = address(num::DT_SYMTAB).ok_or(ElfError::NoSymbols)?;
        let strtab = address(num::DT_STRTAB).ok_or(ElfError::NoSymbols)?;
        let names = values.get(&num::DT_STRSZ).copied().unwrap_or(0);
        let names = self
            .table(strtab, names.min(MAX_NAMES))
            .ok_or_else(|| damaged("names of symbols are outside of it"))?;
        let each = self.symbol_size();
        let count = address(num::DT_HASH)
            .and_then(|hash| self.count_by_hash(hash))
            .or_else(|| self.count_by_gnu_hash(address(num::DT_GNU_HASH)?))
            // Linkers put names right behind the symbols.
            .or_else(|| Some(strtab.offset_from(symtab)? / each))
            .ok_or_else(|| damaged("symbols are of unknown number"))?;
        let room = self.range.last().raw().saturating_sub(symtab.raw()) / each;
        let count = count.min(MAX_SYMBOLS).min(room);
        let symbols = self
            .table(symtab, count * each)
            .ok_or_else(|| damaged("symbols are outside of it"))?;
        let versions = Versions {
            of_symbols: address(num::DT_VERSYM).and_then(|at| self.table(at, count * 2)),
            names: address(num::DT_VERDEF)
                .map(|at| self.version_names(at, &names))
                .unwrap_or_default(),
        };
        self.take_symbols(&symbols, &names, &versions, found);
        Ok(())
    }

    fn symbol_size(&self) -> u64 {
        if self.wide { 24 } else { 16 }
    }

    /// The number of symbols by the older hash table, which has a chain for each.
    fn count_by_hash(&self, at: Gva) -> Option<u64> {
        let head = self.table(at, 8).filter(|table| table.holes.is_empty())?;
        let count = u64::from(u32::from_le_bytes(head.bytes[4..8].try_into().ok()?));
        (count > 0 && count <= self.range.len()).then_some(count)
    }

    /// The number of symbols by the newer hash table: symbols are sorted by bucket, so the last chain
    /// of the bucket that starts last ends with the last symbol.
    fn count_by_gnu_hash(&self, at: Gva) -> Option<u64> {
        let head = self.table(at, 16).filter(|table| table.holes.is_empty())?;
        let word = |index: usize| {
            let bytes = head.bytes[index * 4..index * 4 + 4].try_into();
            u64::from(u32::from_le_bytes(bytes.expect("four bytes")))
        };
        let (buckets, first, filters) = (word(0), word(1), word(2));
        let filter = if self.wide { 8 } else { 4 };
        let at = at.checked_add(16 + filters * filter)?;
        let table = self.table(at, buckets * 4)?;
        if !table.holes.is_empty() {
            return None;
        }
        let starts = table.bytes.as_chunks::<4>().0.iter();
        let last = starts
            .map(|&word| u64::from(u32::from_le_bytes(word)))
            .max();
        let last = last.unwrap_or(0);
        if last < first {
            // Nothing is exported: the symbols are those that others define.
            return Some(first);
        }
        let chains = at.checked_add(buckets * 4)?;
        for index in last..last.checked_add(MAX_SYMBOLS)? {
            let word = chains.checked_add((index - first) * 4)?;
            let in_image = AddrRange::new(word, 4).is_some_and(|word| self.range.covers(word));
            let word = self.memory.read_u32(word).ok().filter(|_| in_image)?;
            if word & 1 != 0 {
                return Some(index + 1);
            }
        }
        None
    }

    /// Names of the versions that the image defines, by number.
    fn version_names(&self, at: Gva, names: &Table) -> HashMap<u16, Vec<u8>> {
        let mut versions = HashMap::new();
        let mut at = at;
        for _ in 0..MAX_VERSIONS {
            let Some(record) = self.table(at, 20).filter(|table| table.holes.is_empty()) else {
                break;
            };
            let record = Fields {
                bytes: &record.bytes,
                wide: self.wide,
            };
            let (number, aux, next) = (
                record.number(4, 2) as u16,
                record.number(12, 4),
                record.number(16, 4),
            );
            let name = at.checked_add(aux).and_then(|aux| self.table(aux, 4));
            if let Some(name) = name.filter(|table| table.holes.is_empty()) {
                let name = Fields {
                    bytes: &name.bytes,
                    wide: self.wide,
                };
                if let Some(name) = names.text(name.number(0, 4) as usize) {
                    versions.insert(number & !num::HIDDEN, name.to_vec());
                }
            }
            match at.checked_add(next) {
                Some(there) if next != 0 => at = there,
                _ => break,
            }
        }
        versions
    }

    /// Symbols by section headers, where these and what they lead to are mapped.
    fn section_symbols(
        &self,
        file: &dyn Fn(u64, &mut [u8]) -> bool,
        found: &mut Found,
    ) -> Result<(), ElfError> {
        let (offset, each, count) = self.sections;
        let least = if self.wide { 64 } else { 40 };
        if offset == 0 || each < least || count == 0 || count > MAX_SECTIONS {
            return Err(ElfError::NoSymbols);
        }
        let table = |offset: u64, len: u64, limit: u64| {
            (len > 0 && len <= limit).then(|| Table::of_file(file, offset, len))
        };
        let headers = table(offset, each * count, u64::MAX).ok_or(ElfError::NoSymbols)?;
        if !headers.holes.is_empty() {
            return Err(ElfError::NoSymbols);
        }
        let headers: Vec<Fields<'_>> = headers
            .bytes
            .chunks_exact(each as usize)
            .map(|bytes| Fields {
                bytes,
                wide: self.wide,
            })
            .collect();
        let place = |header: Fields<'_>| (header.address(16, 24), header.address(20, 32));
        // There is at most one.
        let header = headers.iter().find(|h| h.number(4, 4) == num::SHT_SYMTAB);
        let strings = header.and_then(|h| headers.get(h.fixed(24, 40, 4) as usize));
        let (&header, &strings) = header.zip(strings).ok_or(ElfError::NoSymbols)?;
        let (offset, len) = place(header);
        let symbols = table(offset, len, MAX_SYMBOLS * self.symbol_size());
        let (offset, len) = place(strings);
        let names = table(offset, len, MAX_NAMES);
        let (symbols, names) = symbols.zip(names).ok_or(ElfError::NoSymbols)?;
        self.take_symbols(&symbols, &names, &Versions::default(), found);
        Ok(())
    }

    fn take_symbols(&self, symbols: &Table, names: &Table, versions: &Versions, found: &mut Found) {
        let each = self.symbol_size() as usize;
        for index in 0..symbols.bytes.len() / each {
            let Some(bytes) = symbols.get(index * each, each) else {
                found.missing += 1;
                continue;
            };
            let record = Fields {
                bytes,
                wide: self.wide,
            };
            let info = record.fixed(12, 4, 1) as u8;
            let (kind, bind) = (info & 0xf, info >> 4);
            let section = record.fixed(14, 6, 2);
            let is_place = !matches!(kind, num::STT_SECTION | num::STT_FILE | num::STT_TLS);
            if section == num::SHN_UNDEF || !is_place {
                continue;
            }
            // Names may overlap, so their number does not bound how long they are taken together.
            let name = match found.read < MAX_NAMES_READ {
                true => names.text(record.number(0, 4) as usize),
                false => None,
            };
            found.read += name.map_or(MAX_NAME, <[u8]>::len);
            let Some(name) = name else {
                found.missing += 1;
                continue;
            };
            if name.is_empty() {
                continue;
            }
            let value = record.address(4, 8);
            let va = match section {
                num::SHN_ABS => Gva(value),
                _ => Gva(value.wrapping_add(self.bias)),
            };
            let letter = match section {
                num::SHN_ABS => b'A',
                _ => self.letter(kind, bind, va),
            };
            let letter = match bind {
                num::STB_LOCAL => letter.to_ascii_lowercase(),
                _ => letter,
            };
            let name = versions.name(index, name);
            let size = record.address(8, 16);
            found.add(name, va, letter, size);
        }
    }

    /// The letter of `nm` for a symbol, as far as segments tell it.
    fn letter(&self, kind: u8, bind: u8, va: Gva) -> u8 {
        let segment = self.segments.iter().find(|s| s.range.contains(va));
        match (kind, bind, segment) {
            (num::STT_GNU_IFUNC, _, _) => b'i',
            (_, num::STB_GNU_UNIQUE, _) => b'u',
            (num::STT_OBJECT, num::STB_WEAK, _) => b'V',
            (_, num::STB_WEAK, _) => b'W',
            (num::STT_FUNC, _, _) => b'T',
            (_, _, None) => b'?',
            (_, _, Some(segment)) if segment.prot.exec() => b'T',
            (_, _, Some(segment)) if !segment.prot.write() => b'R',
            (_, _, Some(segment)) => {
                match va.raw() - segment.range.start().raw() < segment.file_len {
                    true => b'D',
                    false => b'B',
                }
            }
        }
    }

    /// Where the header is.
    pub fn base(&self) -> Gva {
        self.base
    }
}

/// How far the image is from where the file says that it should be: the segment that holds the start of
/// the file holds the header.
fn bias(base: Gva, headers: &[Fields<'_>], kind: u64) -> Result<u64, ElfError> {
    let first = headers.iter().find(|header| {
        let offset = header.address(4, 8);
        header.number(0, 4) == num::PT_LOAD && offset < PAGE
    });
    let Some(first) = first else {
        return Err(ElfError::Damaged(
            "header is in none of its segments".into(),
        ));
    };
    let (offset, va) = (first.address(4, 8), first.address(8, 16));
    let bias = base.raw().wrapping_sub(va.wrapping_sub(offset));
    match kind {
        num::ET_EXEC if bias != 0 => Err(ElfError::Damaged(format!(
            "header is at {base}, but such a program cannot be moved there"
        ))),
        _ => Ok(bias),
    }
}

/// Bytes of the image, some of which may not have been readable.
struct Table {
    bytes: Vec<u8>,
    /// Start and end of each hole, ascending.
    holes: Vec<(usize, usize)>,
}

impl Table {
    /// Reads what can be read of a table in the file.
    fn of_file(file: &dyn Fn(u64, &mut [u8]) -> bool, offset: u64, len: u64) -> Self {
        let mut bytes = vec![0; len as usize];
        let mut holes = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let here = offset.wrapping_add(at as u64);
            let len = ((PAGE - here % PAGE) as usize).min(bytes.len() - at);
            if !file(here, &mut bytes[at..at + len]) {
                holes.push((at, at + len));
            }
            at += len;
        }
        Self { bytes, holes }
    }

    /// Whether any of these bytes could not be read.
    fn has_hole(&self, from: usize, to: usize) -> bool {
        let behind = self.holes.partition_point(|&(_, end)| end <= from);
        self.holes.get(behind).is_some_and(|&(start, _)| start < to)
    }

    fn get(&self, at: usize, len: usize) -> Option<&[u8]> {
        let end = at.checked_add(len)?;
        let bytes = self.bytes.get(at..end)?;
        (!self.has_hole(at, end)).then_some(bytes)
    }

    /// The text from `at` on up to its NUL.
    fn text(&self, at: usize) -> Option<&[u8]> {
        let rest = self.bytes.get(at..)?;
        let len = memchr::memchr(0, &rest[..rest.len().min(MAX_NAME)])?;
        self.get(at, len + 1).map(|text| &text[..len])
    }
}

/// Versions of symbols.
#[derive(Default)]
struct Versions {
    of_symbols: Option<Table>,
    names: HashMap<u16, Vec<u8>>,
}

impl Versions {
    /// The name of a symbol with its version, when that is not the default one.
    fn name(&self, index: usize, name: &[u8]) -> Vec<u8> {
        let mut name = name.to_vec();
        let version = self.of_symbols.as_ref().and_then(|table| {
            let bytes = table.get(index * 2, 2)?;
            Some(u16::from_le_bytes(bytes.try_into().ok()?))
        });
        if let Some(version) = version.filter(|version| version & num::HIDDEN != 0)
            && let Some(version) = self.names.get(&(version & !num::HIDDEN))
        {
            name.push(b'@');
            name.extend_from_slice(version);
        }
        name
    }
}

/// A symbol that was found.
struct FoundSymbol {
    name: Vec<u8>,
    va: Gva,
    letter: u8,
    size: u64,
}

/// Symbols that were found so far.
#[derive(Default)]
struct Found {
    symbols: Vec<FoundSymbol>,
    /// Bytes of names, in all and gone through.
    bytes: usize,
    read: usize,
    missing: usize,
}

impl Found {
    fn add(&mut self, name: Vec<u8>, va: Gva, letter: u8, size: u64) {
        self.bytes += name.len();
        self.symbols.push(FoundSymbol {
            name,
            va,
            letter,
            size,
        });
    }

    /// Leaves out what both tables have, and keeps the order.
    fn without_twins(&mut self) {
        let mut known = HashSet::with_capacity(self.symbols.len());
        let symbols = std::mem::take(&mut self.symbols);
        let mut new = |symbol: &FoundSymbol| known.insert((symbol.va, symbol.name.clone()));
        self.symbols = symbols.into_iter().filter(|symbol| new(symbol)).collect();
    }
}
