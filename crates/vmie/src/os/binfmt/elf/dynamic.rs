//! The dynamic section of an image: where its tables are.

use std::collections::HashMap;

use super::table::Table;
use super::{ElfError, ElfImage, Fields};
use crate::addr::{Address, Gva};

/// How many bytes of names are read.
pub(super) const MAX_NAMES: u64 = 64 << 20;

/// How many records of versions are read.
const MAX_VERSIONS: usize = 1024;

/// Numbers of the format, by the names they have in `elf.h`.
pub(super) mod num {
    pub(in super::super) const DT_PLTRELSZ: u64 = 2;
    pub(in super::super) const DT_PLTGOT: u64 = 3;
    pub(in super::super) const DT_HASH: u64 = 4;
    pub(in super::super) const DT_STRTAB: u64 = 5;
    pub(in super::super) const DT_SYMTAB: u64 = 6;
    pub(in super::super) const DT_RELA: u64 = 7;
    pub(in super::super) const DT_RELASZ: u64 = 8;
    pub(in super::super) const DT_STRSZ: u64 = 10;
    pub(in super::super) const DT_REL: u64 = 17;
    pub(in super::super) const DT_RELSZ: u64 = 18;
    pub(in super::super) const DT_PLTREL: u64 = 20;
    pub(in super::super) const DT_JMPREL: u64 = 23;
    pub(in super::super) const DT_GNU_HASH: u64 = 0x6fff_fef5;
    pub(in super::super) const DT_VERSYM: u64 = 0x6fff_fff0;
    pub(in super::super) const DT_VERDEF: u64 = 0x6fff_fffc;
    pub(in super::super) const DT_VERNEED: u64 = 0x6fff_fffe;
    /// In the version of a symbol: not the one that new programs are linked with.
    pub(in super::super) const HIDDEN: u16 = 0x8000;
}

/// The dynamic section.
pub(super) struct Dynamic<'i, 'm> {
    image: &'i ElfImage<'m>,
    values: HashMap<u64, u64>,
}

impl<'i, 'm> Dynamic<'i, 'm> {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// [`ElfError::NoSymbols`] when there is none.
    pub(super) fn of(image: &'i ElfImage<'m>) -> Result<Self, ElfError> {
        let damaged = |what: &str| ElfError::Damaged(what.to_owned());
        let (at, len) = image.dynamic.ok_or(ElfError::NoSymbols)?;
        let table = Table::of_image(image, at, len)
            .ok_or_else(|| damaged("dynamic section is outside of it"))?;
        if let Some(&(hole, _)) = table.holes.first() {
            let at = Gva(at.raw() + hole as u64);
            let fault = image.memory.read(at, &mut [0]).err();
            return Err(fault.map_or_else(
                || damaged("dynamic section changes while it is read"),
                |fault| ElfError::Unreadable {
                    what: "dynamic section",
                    fault,
                },
            ));
        }
        let each = if image.wide { 16 } else { 8 };
        let mut values = HashMap::new();
        for entry in table.bytes.chunks_exact(each) {
            let entry = Fields {
                bytes: entry,
                wide: image.wide,
            };
            match entry.address(0, 0) {
                0 => break,
                tag => values.insert(tag, entry.address(4, 8)),
            };
        }
        Ok(Self { image, values })
    }

    /// The number with this tag.
    pub(super) fn value(&self, tag: u64) -> Option<u64> {
        self.values.get(&tag).copied()
    }

    /// The address with this tag, which the loader may have moved.
    pub(super) fn address(&self, tag: u64) -> Option<Gva> {
        let value = self.value(tag)?;
        Some(match self.image.range.contains(Gva(value)) {
            true => Gva(value),
            false => Gva(value.wrapping_add(self.image.bias)),
        })
    }

    /// The names of symbols and versions.
    pub(super) fn names(&self) -> Option<Table> {
        let len = self.value(num::DT_STRSZ).unwrap_or(0);
        Table::of_image(
            self.image,
            self.address(num::DT_STRTAB)?,
            len.min(MAX_NAMES),
        )
    }

    /// Names of the versions that the image defines, by number.
    pub(super) fn defined_versions(&self, names: &Table) -> HashMap<u16, Vec<u8>> {
        let mut versions = HashMap::new();
        let Some(at) = self.address(num::DT_VERDEF) else {
            return versions;
        };
        // Version, flags, number, how many names, hash, distance of the first name and of the next record.
        self.records(at, 20, |at, record| {
            let number = record.number(4, 2) as u16;
            let aux = at.checked_add(record.number(12, 4));
            if let Some(name) = aux.and_then(|aux| self.name(aux, 0, names)) {
                versions.insert(number & !num::HIDDEN, name);
            }
            record.number(16, 4)
        });
        versions
    }

    /// Names of the versions that the image needs of others, by number.
    pub(super) fn needed_versions(&self, names: &Table) -> HashMap<u16, Vec<u8>> {
        let mut versions = HashMap::new();
        let Some(at) = self.address(num::DT_VERNEED) else {
            return versions;
        };
        // Version, how many names, file, distance of the first name and of the next record.
        // Files may all lead to the same names, so these are counted in all.
        let mut left = MAX_VERSIONS;
        self.records(at, 16, |at, record| {
            // Hash, flags, number, name, distance of the next one.
            if let Some(first) = at.checked_add(record.number(8, 4)) {
                self.records(first, 16, |at, aux| {
                    if left == 0 {
                        return 0;
                    }
                    left -= 1;
                    let number = aux.number(6, 2) as u16;
                    if let Some(name) = self.name(at, 8, names) {
                        versions.insert(number & !num::HIDDEN, name);
                    }
                    aux.number(12, 4)
                });
            }
            record.number(12, 4)
        });
        versions
    }

    /// Goes through records, of which `each` is told the place and answers the distance of the next; 0
    /// ends them.
    fn records(&self, at: Gva, len: u64, mut each: impl FnMut(Gva, Fields<'_>) -> u64) {
        let mut at = at;
        for _ in 0..MAX_VERSIONS {
            let record = Table::of_image(self.image, at, len);
            let Some(record) = record.filter(|table| table.holes.is_empty()) else {
                break;
            };
            let next = each(
                at,
                Fields {
                    bytes: &record.bytes,
                    wide: self.image.wide,
                },
            );
            match at.checked_add(next) {
                Some(there) if next != 0 => at = there,
                _ => break,
            }
        }
    }

    /// The name that the four bytes at an offset of a record stand for.
    fn name(&self, record: Gva, offset: u64, names: &Table) -> Option<Vec<u8>> {
        let at = record.checked_add(offset)?;
        let word = Table::of_image(self.image, at, 4).filter(|table| table.holes.is_empty())?;
        let word = Fields {
            bytes: &word.bytes,
            wide: self.image.wide,
        };
        Some(names.text(word.number(0, 4) as usize)?.to_vec())
    }
}
