//! Symbols of an image: from its dynamic section, and from the file.

use std::collections::{HashMap, HashSet};

use super::dynamic::{Dynamic, MAX_NAMES};
use super::table::{MAX_NAME, Table};
use super::{ElfError, ElfImage, Fields};
use crate::addr::{AddrRange, Address, Gva};
use crate::os::{SymbolTable, SymbolTableBuilder};

/// How many symbols of one table are read.
pub(super) const MAX_SYMBOLS: u64 = 2 << 20;

/// How many bytes of names may be gone through in all.
pub(super) const MAX_NAMES_READ: usize = 256 << 20;

/// How many section headers are read.
const MAX_SECTIONS: u64 = 4096;
const MAX_HEADERS: u64 = 1 << 20;

/// Numbers of the format, by the names they have in `elf.h`.
mod num {
    pub(super) use super::super::dynamic::num::*;
    pub(super) const SHT_SYMTAB: u64 = 2;
    pub(super) const SHN_UNDEF: u64 = 0;
    pub(super) const SHN_ABS: u64 = 0xfff1;
    pub(super) const STT_OBJECT: u8 = 1;
    pub(super) const STT_FUNC: u8 = 2;
    pub(super) const STT_SECTION: u8 = 3;
    pub(super) const STT_FILE: u8 = 4;
    pub(super) const STT_TLS: u8 = 6;
    pub(super) const STT_GNU_IFUNC: u8 = 10;
    pub(super) const STB_LOCAL: u8 = 0;
    pub(super) const STB_WEAK: u8 = 2;
    pub(super) const STB_GNU_UNIQUE: u8 = 10;
}

impl ElfImage<'_> {
    /// The symbols that are defined by the image.
    ///
    /// `file` reads the image's file from an offset on, within one page of 4 KiB, and answers whether it
    /// could.
    ///
    /// Names of symbols that have versions, and are not of the default one, go on with `@` and the
    /// version, as in `memcpy@GLIBC_2.2.5`. Stubs of imported functions are symbols too, named as by
    /// debuggers: `memcpy@plt`.
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
        self.add_stubs(file, &mut found);
        let mut table = SymbolTableBuilder::with_capacity(found.symbols.len(), found.bytes);
        for symbol in found.symbols {
            table.push_sized(&symbol.name, symbol.va, symbol.letter, symbol.size);
        }
        table.note_missing(found.missing);
        Ok(table.build(Some(self.range)))
    }

    /// Names the stubs of imported functions, but for those within functions that have names: those are
    /// functions that do nothing else.
    fn add_stubs(&self, file: &dyn Fn(u64, &mut [u8]) -> bool, found: &mut Found) {
        // Without it, all that is missing are these names.
        let Ok(imports) = self.imports(file) else {
            return;
        };
        let mut chosen: HashMap<Gva, &[u8]> = HashMap::new();
        let mut functions = Vec::new();
        for symbol in &found.symbols {
            let name = symbol.name.split(|&byte| byte == b'@').next();
            chosen.entry(symbol.va).or_insert(name.unwrap_or_default());
            if symbol.size > 0 && matches!(symbol.letter, b'T' | b't' | b'W' | b'w' | b'i') {
                functions.push((symbol.va, symbol.size));
            }
        }
        functions.sort_unstable();
        // Up to where one of the functions so far goes, by their order.
        let mut last = Gva(0);
        for (va, size) in &mut functions {
            last = last.max(Gva(va.0.saturating_add(*size - 1)));
            *size = last.0;
        }
        let is_within = |va: Gva| {
            let behind = functions.partition_point(|function| function.0 <= va);
            let before = behind.checked_sub(1).and_then(|at| functions.get(at));
            before.is_some_and(|&(_, last)| last >= va.0)
        };
        let mut stubs = Vec::new();
        let mut bytes = 0;
        for stub in &imports.stubs {
            let slot = imports.slot(stub.slot);
            let name = slot.and_then(|slot| match imports.name_of(slot) {
                Some(name) => Some(name.symbol.as_bytes()),
                None => chosen.get(&slot.resolver?).copied(),
            });
            if let Some(name) = name.filter(|_| !is_within(stub.va)) {
                bytes += name.len();
                if bytes > MAX_NAMES_READ {
                    break;
                }
                stubs.push(([name, b"@plt"].concat(), stub));
            }
        }
        for (name, stub) in stubs {
            found.add(name, stub.va, b't', stub.len);
        }
    }

    fn dynamic_symbols(&self, found: &mut Found) -> Result<(), ElfError> {
        let damaged = |what: &str| ElfError::Damaged(what.to_owned());
        let dynamic = Dynamic::of(self)?;
        let address = |tag| dynamic.address(tag);
        let symtab = address(num::DT_SYMTAB).ok_or(ElfError::NoSymbols)?;
        let strtab = address(num::DT_STRTAB).ok_or(ElfError::NoSymbols)?;
        let names = dynamic
            .names()
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
        if count == 0 {
            return Ok(());
        }
        let symbols = Table::of_image(self, symtab, count * each)
            .ok_or_else(|| damaged("symbols are outside of it"))?;
        let versions = Versions {
            of_symbols: address(num::DT_VERSYM).and_then(|at| Table::of_image(self, at, count * 2)),
            names: dynamic.defined_versions(&names),
        };
        self.take_symbols(&symbols, &names, &versions, found);
        Ok(())
    }

    pub(super) fn symbol_size(&self) -> u64 {
        if self.wide { 24 } else { 16 }
    }

    /// The number of symbols by the older hash table, which has a chain for each.
    fn count_by_hash(&self, at: Gva) -> Option<u64> {
        let head = Table::of_image(self, at, 8).filter(|table| table.holes.is_empty())?;
        let count = u64::from(u32::from_le_bytes(head.bytes[4..8].try_into().ok()?));
        (count > 0 && count <= self.range.len()).then_some(count)
    }

    /// The number of symbols by the newer hash table: symbols are sorted by bucket, so the last chain
    /// of the bucket that starts last ends with the last symbol.
    fn count_by_gnu_hash(&self, at: Gva) -> Option<u64> {
        let head = Table::of_image(self, at, 16).filter(|table| table.holes.is_empty())?;
        let word = |index: usize| {
            let bytes = head.bytes[index * 4..index * 4 + 4].try_into();
            u64::from(u32::from_le_bytes(bytes.expect("four bytes")))
        };
        let (buckets, first, filters) = (word(0), word(1), word(2));
        let filter = if self.wide { 8 } else { 4 };
        let at = at.checked_add(16 + filters * filter)?;
        let table = Table::of_image(self, at, buckets * 4)?;
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
        let headers = table(offset, each * count, MAX_HEADERS).ok_or(ElfError::NoSymbols)?;
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
