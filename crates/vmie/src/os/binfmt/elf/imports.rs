//! What an image imports: its relocations, and its stubs.

use std::collections::HashMap;

use super::dynamic::{Dynamic, num};
use super::stubs::{AROUND, Code, Found};
use super::symbols::{MAX_NAMES_READ, MAX_SYMBOLS};
use super::table::{MAX_NAME, Table};
use super::{ElfError, ElfImage, Fields};
use crate::addr::{AddrRange, Gva, PAGE_SIZE};
use crate::os::{ImportName, Imports, Slot, SlotKind, Stub};

/// How many slots of an image are kept. The largest browsers have some ten thousand.
const MAX_SLOTS: usize = 1 << 20;

/// How many stubs of an image are kept.
const MAX_STUBS: usize = 1 << 18;

/// Code that is looked through for stubs, in all and at a time.
const MAX_CODE: u64 = 256 << 20;
const PIECE: u64 = 1 << 20;

/// Sorts of relocations that both architectures number alike, and those that they do not.
const ADDRESS: u64 = 1;
const COPY: u64 = 5;
const GLOB_DAT: u64 = 6;
const JUMP_SLOT: u64 = 7;
const IRELATIVE: u64 = 37;
const IRELATIVE_32: u64 = 42;

/// The form of a table of relocations.
#[derive(Clone, Copy)]
struct Form {
    wide: bool,
    /// Whether what is to be added stands in the table and not in the slot.
    addend: bool,
}

impl Form {
    fn size(self) -> usize {
        match (self.wide, self.addend) {
            (true, true) => 24,
            (true, false) => 16,
            (false, true) => 12,
            (false, false) => 8,
        }
    }
}

/// A relocation that fills a slot.
struct Relocation {
    va: Gva,
    kind: SlotKind,
    symbol: u32,
    addend: Option<i64>,
}

impl ElfImage<'_> {
    /// What the image imports: slots by its relocations and by its stubs, stubs by its code.
    ///
    /// `file` reads the image's file, as for [`ElfImage::symbols`].
    ///
    /// Cost: a pass over the relocations and the code.
    ///
    /// # Errors
    ///
    /// [`ElfError`], when its relocations cannot be known. An image without any imports nothing.
    pub fn imports(&self, file: &dyn Fn(u64, &mut [u8]) -> bool) -> Result<Imports, ElfError> {
        let mut imports = Imports {
            width: if self.wide { 8 } else { 4 },
            constant: self.relro.and_then(|part| part.intersect(self.range)),
            ..Imports::default()
        };
        if !matches!(self.machine, super::num::EM_386 | super::num::EM_X86_64) {
            return Err(ElfError::Unsupported("not for x86"));
        }
        let mut got = None;
        match Dynamic::of(self) {
            Ok(dynamic) => {
                got = dynamic.address(num::DT_PLTGOT).map(|va| va.0);
                let relocations = self.relocations(&dynamic, &mut imports.missing)?;
                self.take_relocations(&dynamic, relocations, file, &mut imports);
            }
            // Linked as a whole: there may be slots that the program fills itself.
            Err(ElfError::NoSymbols) => {}
            Err(error) => return Err(error),
        }
        self.take_stubs(got, &mut imports);
        Ok(imports)
    }

    /// The relocations that fill slots.
    fn relocations(
        &self,
        dynamic: &Dynamic<'_, '_>,
        missing: &mut u64,
    ) -> Result<Vec<Relocation>, ElfError> {
        let plt_addend = dynamic.value(num::DT_PLTREL) == Some(num::DT_RELA);
        let mut found = Vec::new();
        for (at, len, addend) in [
            (num::DT_RELA, num::DT_RELASZ, true),
            (num::DT_REL, num::DT_RELSZ, false),
            (num::DT_JMPREL, num::DT_PLTRELSZ, plt_addend),
        ] {
            let (Some(at), Some(len)) = (dynamic.address(at), dynamic.value(len)) else {
                continue;
            };
            if len == 0 {
                continue;
            }
            let table = Table::of_image(self, at, len).ok_or_else(|| {
                ElfError::Damaged(format!("{len:#x} bytes of relocations are outside of it"))
            })?;
            let form = Form {
                wide: self.wide,
                addend,
            };
            for index in 0..table.bytes.len() / form.size() {
                match table.get(index * form.size(), form.size()) {
                    Some(record) => found.extend(self.relocation(form, record, missing)),
                    None => *missing += 1,
                }
                if found.len() >= MAX_SLOTS {
                    *missing += 1;
                    break;
                }
            }
        }
        found.sort_by_key(|relocation| relocation.va);
        found.dedup_by_key(|relocation| relocation.va);
        Ok(found)
    }

    /// A record of a table, if it fills a slot.
    fn relocation(&self, form: Form, record: &[u8], missing: &mut u64) -> Option<Relocation> {
        let record = Fields {
            bytes: record,
            wide: self.wide,
        };
        let info = record.address(4, 8);
        let (symbol, kind) = match self.wide {
            true => (info >> 32, info & 0xffff_ffff),
            false => (info >> 8, info & 0xff),
        };
        let chosen = match self.machine {
            super::num::EM_386 => IRELATIVE_32,
            _ => IRELATIVE,
        };
        let kind = match kind {
            ADDRESS => SlotKind::Pointer,
            COPY => SlotKind::Copy,
            GLOB_DAT => SlotKind::Address,
            JUMP_SLOT => SlotKind::Jump,
            other if other == chosen => SlotKind::Chosen,
            _ => return None,
        };
        let va = Gva(record.address(0, 0).wrapping_add(self.bias));
        let width = if self.wide { 8 } else { 4 };
        let inside = AddrRange::new(va, width).is_some_and(|slot| self.range.covers(slot));
        if !inside {
            *missing += 1;
            return None;
        }
        let addend = match self.wide {
            true => record.number(16, 8).cast_signed(),
            false => i64::from((record.number(8, 4) as u32).cast_signed()),
        };
        Some(Relocation {
            va,
            kind,
            symbol: symbol as u32,
            addend: form.addend.then_some(addend),
        })
    }

    fn take_relocations(
        &self,
        dynamic: &Dynamic<'_, '_>,
        relocations: Vec<Relocation>,
        file: &dyn Fn(u64, &mut [u8]) -> bool,
        imports: &mut Imports,
    ) {
        let last = relocations.iter().map(|relocation| relocation.symbol).max();
        let namer = last.and_then(|last| Namer::new(self, dynamic, last));
        let mut named: HashMap<u32, Option<u32>> = HashMap::new();
        let mut read = 0;
        for relocation in relocations {
            // What is chosen by a function has no name, whatever stands there.
            let has_name = relocation.kind != SlotKind::Chosen;
            let name = match (&namer, relocation.symbol) {
                (Some(namer), symbol @ 1..) if has_name => {
                    *named.entry(symbol).or_insert_with(|| {
                        let name = (read < MAX_NAMES_READ)
                            .then(|| namer.name(symbol))
                            .flatten();
                        read += name.as_ref().map_or(MAX_NAME, |name| name.symbol.len());
                        let name = name?;
                        imports.names.push(name);
                        Some(imports.names.len() as u32 - 1)
                    })
                }
                _ => None,
            };
            let resolver = match (relocation.kind, relocation.addend) {
                (SlotKind::Chosen, Some(addend)) => Some(addend.cast_unsigned()),
                // The loader has overwritten it; the file still has it.
                (SlotKind::Chosen, None) => self.in_file(relocation.va, file),
                _ => None,
            };
            imports.slots.push(Slot {
                va: relocation.va,
                kind: relocation.kind,
                name,
                addend: relocation.addend.unwrap_or(0),
                resolver: resolver.map(|va| Gva(va.wrapping_add(self.bias))),
            });
        }
    }

    /// The word that the file has at an address.
    fn in_file(&self, va: Gva, file: &dyn Fn(u64, &mut [u8]) -> bool) -> Option<u64> {
        let segment = self.segments.iter().find(|s| s.range.contains(va))?;
        let within = va.0 - segment.range.start().0;
        let mut word = [0; 4];
        let offset = segment.offset.checked_add(within)?;
        let whole = offset % PAGE_SIZE <= PAGE_SIZE - 4 && within < segment.file_len;
        (whole && file(offset, &mut word)).then(|| u32::from_le_bytes(word).into())
    }

    /// Looks for stubs in all code.
    fn take_stubs(&self, got: Option<u64>, imports: &mut Imports) {
        let width = imports.width;
        let slots = &imports.slots;
        let data = self.data();
        let is_slot = |va: u64| {
            let part = data.get(data.partition_point(|part| part.1 < va));
            let last = va.checked_add(width - 1);
            let in_data = part.zip(last);
            in_data.is_some_and(|(part, last)| part.0 <= va && last <= part.1)
                || slots.binary_search_by_key(&va, |slot| slot.va.0).is_ok()
        };
        let mut found: Vec<Found> = Vec::new();
        let mut left = MAX_CODE;
        let mut unseen = 0;
        for segment in self.segments.iter().filter(|s| s.prot.exec()) {
            let (first, last) = (segment.range.start().0, segment.range.last().0);
            let mut at = first;
            loop {
                if left == 0 || found.len() > MAX_STUBS {
                    imports.missing += 1;
                    break;
                }
                let to = last.min(at.saturating_add(PIECE - 1));
                left = left.saturating_sub(to - at + 1);
                // A stub may lie across the border of a piece.
                let from = first.max(at.saturating_sub(AROUND as u64));
                let end = last.min(to.saturating_add(AROUND as u64));
                let table = Table::of_image(self, Gva(from), end - from + 1);
                if let Some(table) = table {
                    let holes = table.holes.iter().map(|&(start, end)| (end - start) as u64);
                    unseen += holes.sum::<u64>();
                    let code = Code {
                        bytes: &table.bytes,
                        at: from,
                        wide: self.machine == super::num::EM_X86_64,
                        got,
                    };
                    code.stubs(&is_slot, &mut found);
                }
                match to.checked_add(1) {
                    Some(next) if to < last => at = next,
                    _ => break,
                }
            }
        }
        found.sort_unstable();
        found.dedup_by_key(|stub| stub.va);
        imports.unseen = unseen;
        let stubs = found.into_iter().map(|stub| Stub {
            va: Gva(stub.va),
            len: stub.len,
            slot: Gva(stub.slot),
        });
        imports.stubs = stubs.collect();
        let known = |va| slots.binary_search_by_key(&va, |slot| slot.va).is_ok();
        let others = imports.stubs.iter().filter(|stub| !known(stub.slot));
        let others: Vec<Slot> = others
            .map(|stub| Slot {
                va: stub.slot,
                kind: SlotKind::OfStub,
                name: None,
                addend: 0,
                resolver: None,
            })
            .collect();
        imports.slots.extend(others);
        imports.slots.sort_by_key(|slot| slot.va);
        imports.slots.dedup_by_key(|slot| slot.va);
    }

    /// What of the image may be written to, joined and ascending.
    fn data(&self) -> Vec<(u64, u64)> {
        let data = self.segments.iter().filter(|s| s.prot.write());
        let mut data: Vec<_> = data
            .map(|s| (s.range.start().0, s.range.last().0))
            .collect();
        data.sort_unstable();
        data.dedup_by(|next, before| {
            let joined = next.0 <= before.1;
            before.1 = if joined {
                before.1.max(next.1)
            } else {
                before.1
            };
            joined
        });
        data
    }
}

/// Names of symbols by their numbers.
struct Namer {
    symbols: Table,
    names: Table,
    of_symbols: Option<Table>,
    versions: HashMap<u16, Vec<u8>>,
    wide: bool,
    each: usize,
}

impl Namer {
    /// Of the symbols up to `last`.
    fn new(image: &ElfImage<'_>, dynamic: &Dynamic<'_, '_>, last: u32) -> Option<Self> {
        let at = dynamic.address(num::DT_SYMTAB)?;
        let each = image.symbol_size();
        let room = image.range.last().0.checked_sub(at.0)? / each;
        let count = (u64::from(last) + 1).min(MAX_SYMBOLS).min(room);
        let names = dynamic.names()?;
        // An image may define a version itself of what it imports from itself.
        let mut versions = dynamic.defined_versions(&names);
        versions.extend(dynamic.needed_versions(&names));
        Some(Self {
            symbols: Table::of_image(image, at, count * each)?,
            of_symbols: dynamic
                .address(num::DT_VERSYM)
                .and_then(|at| Table::of_image(image, at, count * 2)),
            names,
            versions,
            wide: image.wide,
            each: each as usize,
        })
    }

    fn name(&self, symbol: u32) -> Option<ImportName> {
        let index = symbol as usize;
        let record = Fields {
            bytes: self.symbols.get(index.checked_mul(self.each)?, self.each)?,
            wide: self.wide,
        };
        let text = self.names.text(record.number(0, 4) as usize)?;
        if text.is_empty() {
            return None;
        }
        let version = self.of_symbols.as_ref().and_then(|table| {
            let number = u16::from_le_bytes(*table.get(index * 2, 2)?.first_chunk()?);
            let name = self.versions.get(&(number & !num::HIDDEN))?;
            (number & !num::HIDDEN > 1).then(|| plain(name))
        });
        Some(ImportName {
            symbol: plain(text),
            version,
        })
    }
}

/// A name as [`SymbolTable`](crate::os::SymbolTable) writes it: what is not ASCII is replaced.
fn plain(name: &[u8]) -> String {
    let ascii = |&byte: &u8| char::from(if byte.is_ascii() { byte } else { b'?' });
    name.iter().map(ascii).collect()
}
