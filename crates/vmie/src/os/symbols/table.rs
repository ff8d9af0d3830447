//! Names of addresses: symbol tables.
//!
//! A [`SymbolTable`] holds what one image (the kernel, a module, a shared library) says about its
//! addresses. It is built in one go and never changes: names are one string, addresses one sorted
//! array, and the index by name is made when somebody first asks for a name.
//!
//! **Nearest name.** An address is named after the last symbol at or below it, and only inside the
//! table's [`extent`](SymbolTable::extent): addresses behind the last symbol, or in a gap that the
//! image does not cover, have no name. Where sizes are known, as in ELF files, what lies behind the end
//! of a symbol is not named after it: a library that lists only what it exports has long stretches of
//! code without names. Of several symbols at one address the first in the image's own order wins, as in
//! the kernel's own stack traces.

use std::ops::Range;
use std::sync::OnceLock;

use super::names::NameIndex;
use crate::addr::{AddrRange, Address, Gva};

/// One symbol, borrowed from its table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Symbol<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its address.
    pub va: Gva,
    /// What it is, in the letters of `nm`: `T` and `t` code, `D` and `d` data, `B` and `b` zeroed
    /// data, `R` and `r` read-only data, `A` absolute, and so on; capitals are global.
    pub kind: char,
    /// How many bytes it takes, where the image says so.
    pub size: Option<u64>,
}

/// What one image says about its addresses. See the module documentation.
///
/// Memory: the names, and 13 bytes a symbol; 8 more once a name has been asked for.
#[derive(Debug, Default)]
pub struct SymbolTable {
    names: String,
    /// Where each name starts in `names`, with one more entry for the end. By position.
    starts: Vec<u32>,
    /// Ascending; equal addresses stand in the image's own order. By position.
    addresses: Vec<u64>,
    kinds: Vec<u8>,
    /// By position; empty when no symbol has a size. 0 is not known, `u32::MAX` stands for more.
    sizes: Vec<u32>,
    extent: Option<AddrRange<Gva>>,
    missing: usize,
    by_name: OnceLock<NameIndex>,
}

impl SymbolTable {
    /// Number of symbols.
    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// How many symbols the image has that could not be read.
    pub fn missing(&self) -> usize {
        self.missing
    }

    /// The addresses that may be named after a symbol of this table.
    pub fn extent(&self) -> Option<AddrRange<Gva>> {
        self.extent
    }

    /// All symbols by ascending address, those at one address in the image's own order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Symbol<'_>> + '_ {
        (0..self.len()).map(|position| self.at(position))
    }

    /// All symbols named `name`, by ascending address. Names need not be unique: static functions of
    /// different files share them.
    ///
    /// Cost: a binary search; the first call on a table sorts its names (a few milliseconds for
    /// 150,000).
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Symbol<'a>> + 'a {
        let index = self.by_name.get_or_init(|| {
            NameIndex::build(
                (0..self.len() as u32).map(|i| (self.name_at(i as usize).as_bytes(), i)),
            )
        });
        index
            .candidates(name.as_bytes())
            .map(|position| self.at(position as usize))
            .filter(move |symbol| symbol.name == name)
    }

    /// The address of the only symbol named `name`; `None` when there is none or when there are
    /// several at different addresses.
    pub fn address_of(&self, name: &str) -> Option<Gva> {
        let mut found = self.named(name);
        let va = found.next()?.va;
        found.all(|other| other.va == va).then_some(va)
    }

    /// The symbol that `va` is named after, and how far behind its start `va` lies. See the module
    /// documentation.
    ///
    /// Cost: a binary search.
    pub fn nearest(&self, va: Gva) -> Option<(Symbol<'_>, u64)> {
        if !self.extent?.contains(va) {
            return None;
        }
        let behind = self
            .addresses
            .partition_point(|&address| address <= va.raw());
        let address = *self.addresses.get(behind.checked_sub(1)?)?;
        let first = self.addresses.partition_point(|&other| other < address);
        let offset = va.raw() - address;
        let covering = (first..behind).find(|&position| match self.sizes.get(position) {
            None | Some(0 | &u32::MAX) => true,
            Some(&size) => offset < u64::from(size),
        })?;
        self.extent?
            .contains(Gva(address))
            .then(|| (self.at(covering), offset))
    }

    fn at(&self, position: usize) -> Symbol<'_> {
        Symbol {
            name: self.name_at(position),
            va: Gva(self.addresses[position]),
            kind: char::from(self.kinds[position]),
            size: match self.sizes.get(position) {
                None | Some(0 | &u32::MAX) => None,
                Some(&size) => Some(u64::from(size)),
            },
        }
    }

    fn name_at(&self, position: usize) -> &str {
        let range: Range<usize> =
            self.starts[position] as usize..self.starts[position + 1] as usize;
        &self.names[range]
    }
}

/// Collects symbols into a [`SymbolTable`].
#[derive(Debug, Default)]
pub struct SymbolTableBuilder {
    names: Vec<u8>,
    starts: Vec<u32>,
    addresses: Vec<u64>,
    kinds: Vec<u8>,
    sizes: Vec<u32>,
    missing: usize,
}

impl SymbolTableBuilder {
    /// An empty builder with room for so many symbols and so many bytes of names.
    pub fn with_capacity(symbols: usize, name_bytes: usize) -> Self {
        Self {
            names: Vec::with_capacity(name_bytes),
            starts: Vec::with_capacity(symbols + 1),
            addresses: Vec::with_capacity(symbols),
            kinds: Vec::with_capacity(symbols),
            sizes: Vec::new(),
            missing: 0,
        }
    }

    /// Says how many symbols could not be read.
    pub fn note_missing(&mut self, count: usize) {
        self.missing = count;
    }

    /// Adds a symbol. `kind` is an `nm` letter. Symbols at one address keep the order in which they
    /// are added. Names beyond 4 GiB in all are dropped.
    pub fn push(&mut self, name: &[u8], va: Gva, kind: u8) {
        self.push_parts(std::iter::once(name), va, kind);
    }

    /// Adds a symbol of which it is known how many bytes it takes; 0 for not known.
    pub fn push_sized(&mut self, name: &[u8], va: Gva, kind: u8, size: u64) {
        let position = self.addresses.len();
        self.push(name, va, kind);
        if size > 0 && position < self.addresses.len() {
            self.sizes.resize(position, 0);
            self.sizes.push(u32::try_from(size).unwrap_or(u32::MAX));
        }
    }

    /// Adds a symbol whose name comes in parts.
    #[inline]
    pub(crate) fn push_parts<'a>(
        &mut self,
        parts: impl Iterator<Item = &'a [u8]>,
        va: Gva,
        kind: u8,
    ) {
        let Ok(start) = u32::try_from(self.names.len()) else {
            return;
        };
        for part in parts {
            self.names.extend_from_slice(part);
        }
        self.starts.push(start);
        self.addresses.push(va.raw());
        self.kinds
            .push(if kind.is_ascii_graphic() { kind } else { b'?' });
    }

    /// The table. Addresses in `extent` may be named after its symbols.
    pub fn build(mut self, extent: Option<AddrRange<Gva>>) -> SymbolTable {
        if u32::try_from(self.names.len()).is_err() {
            // The last name passed the bound: leave it out.
            let start = self.starts.pop().unwrap_or(0);
            self.names.truncate(start as usize);
            self.addresses.pop();
            self.kinds.pop();
            self.sizes.truncate(self.addresses.len());
        }
        // Names are the guest's bytes. Symbols are ASCII; what is not is replaced byte by byte, so
        // that the positions hold.
        if !self.names.is_ascii() {
            for byte in &mut self.names {
                if !byte.is_ascii() {
                    *byte = b'?';
                }
            }
        }
        let names = String::from_utf8(self.names).expect("only ASCII is left");
        let mut table = SymbolTable {
            names,
            starts: self.starts,
            addresses: self.addresses,
            kinds: self.kinds,
            sizes: self.sizes,
            extent,
            missing: self.missing,
            by_name: OnceLock::new(),
        };
        table.starts.push(table.names.len() as u32);
        if !table.addresses.is_sorted() {
            table.sort();
        }
        table
    }
}

impl SymbolTable {
    fn sort(&mut self) {
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        order.sort_by_key(|&i| self.addresses[i as usize]);
        let mut sorted = SymbolTableBuilder::with_capacity(self.len(), self.names.len());
        sorted.note_missing(self.missing);
        for &i in &order {
            let symbol = self.at(i as usize);
            let size = self
                .sizes
                .get(i as usize)
                .map_or(0, |&size| u64::from(size));
            let kind = self.kinds[i as usize];
            sorted.push_sized(symbol.name.as_bytes(), symbol.va, kind, size);
        }
        *self = sorted.build(self.extent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(symbols: &[(&str, u64)], extent: (u64, u64)) -> SymbolTable {
        let mut builder = SymbolTableBuilder::default();
        for &(name, va) in symbols {
            builder.push(name.as_bytes(), Gva(va), b't');
        }
        builder.build(AddrRange::inclusive(Gva(extent.0), Gva(extent.1)))
    }

    #[test]
    fn addresses_are_named_after_the_first_symbol_at_or_below() {
        let t = table(
            &[
                ("late", 0x300),
                ("one", 0x100),
                ("alias", 0x100),
                ("percpu", 0x10),
            ],
            (0x100, 0x3ff),
        );
        let near = |va| t.nearest(Gva(va)).map(|(s, off)| (s.name.to_owned(), off));
        assert_eq!(near(0x100), Some(("one".into(), 0)));
        assert_eq!(near(0x2ff), Some(("one".into(), 0x1ff)));
        assert_eq!(near(0x300), Some(("late".into(), 0)));
        assert_eq!(near(0x400), None, "behind the image");
        assert_eq!(near(0x20), None, "absolute symbols name nothing");
        let early = table(&[("one", 0x100), ("percpu", 0x10)], (0x80, 0x3ff));
        assert_eq!(early.nearest(Gva(0x90)), None);
    }

    #[test]
    fn sizes_end_a_name() {
        let mut builder = SymbolTableBuilder::default();
        builder.push_sized(b"late", Gva(0x300), b'T', 0);
        builder.push_sized(b"short", Gva(0x100), b'T', 4);
        builder.push_sized(b"long", Gva(0x100), b'T', 0x10);
        let t = builder.build(AddrRange::inclusive(Gva(0), Gva(0xfff)));
        let near = |va| t.nearest(Gva(va)).map(|(s, off)| (s.name, off));
        assert_eq!(near(0x103), Some(("short", 3)));
        assert_eq!(near(0x104), Some(("long", 4)));
        assert_eq!(near(0x10f), Some(("long", 0xf)));
        assert_eq!(near(0x110), None);
        let sizes: Vec<_> = t.iter().map(|symbol| symbol.size).collect();
        assert_eq!(sizes, [Some(4), Some(0x10), None]);
        assert_eq!(
            near(0x400),
            Some(("late", 0x100)),
            "a size that is not known ends nowhere"
        );
    }

    #[test]
    fn names_lead_to_all_their_addresses() {
        let t = table(&[("a", 3), ("b", 2), ("a", 1), ("c", 9), ("c", 9)], (0, 9));
        let all = |name| t.named(name).map(|s| s.va.raw()).collect::<Vec<_>>();
        assert_eq!(all("a"), [1, 3]);
        assert_eq!(t.address_of("a"), None);
        assert_eq!(t.address_of("b"), Some(Gva(2)));
        assert_eq!(
            t.address_of("c"),
            Some(Gva(9)),
            "twice the same is no doubt"
        );
        assert_eq!(all("absent"), [0; 0]);
        assert_eq!(
            t.iter().map(|s| s.va.raw()).collect::<Vec<_>>(),
            [1, 2, 3, 9, 9]
        );
    }

    #[test]
    fn names_that_are_not_ascii_keep_their_places() {
        let mut builder = SymbolTableBuilder::default();
        builder.push(b"f\xff\xfe", Gva(1), 7);
        builder.push(b"next", Gva(2), b'T');
        let t = builder.build(None);
        let seen: Vec<_> = t.iter().map(|s| (s.name.to_owned(), s.kind)).collect();
        assert_eq!(seen, [("f??".to_owned(), '?'), ("next".to_owned(), 'T')]);
    }
}
