//! The words in which an architecture describes its page tables.
//!
//! Everything the walker knows about a format is in a [`Spec`]: how an address is cut into indexes,
//! and for each level which bits say present, page or table, where the frame number stands, and which
//! bits carry rights. The walker has no `match` on a mode, so a new format is a new `static` in its
//! architecture's folder, and bits of either polarity can be described: a right
//! is a [`Test`], not a bit number.

use crate::addr::{AddrRange, Address};
use crate::memory::Prot;

/// A question about an entry: do the bits under `mask` have this `value`?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Test {
    /// The bits looked at.
    pub mask: u64,
    /// What they must be.
    pub value: u64,
}

impl Test {
    /// Holds for every entry.
    pub const ALWAYS: Self = Self { mask: 0, value: 0 };
    /// Holds for no entry.
    pub const NEVER: Self = Self { mask: 0, value: 1 };

    /// Holds when bit `n` is set.
    pub const fn set(n: u8) -> Self {
        Self {
            mask: 1 << n,
            value: 1 << n,
        }
    }

    /// Holds when bit `n` is clear.
    pub const fn clear(n: u8) -> Self {
        Self {
            mask: 1 << n,
            value: 0,
        }
    }

    /// Whether it holds for `entry`.
    #[inline]
    pub const fn holds(self, entry: u64) -> bool {
        entry & self.mask == self.value
    }
}

/// Which bits of an entry carry rights. Read permission comes with being present.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rights {
    /// Writing is forbidden.
    pub no_write: Test,
    /// User mode is allowed.
    pub user: Test,
    /// Execution is forbidden: to user mode alone, if the kernel has a right of its own.
    pub no_exec: Test,
    /// Execution is forbidden to the kernel; `None` where the format has one right for both. Alike in all levels of a format,
    /// but that those without rights need none.
    pub no_kernel_exec: Option<Test>,
}

impl Rights {
    /// An entry without rights of its own: it takes nothing away.
    pub const NEUTRAL: Self = Self {
        no_write: Test::NEVER,
        user: Test::ALWAYS,
        no_exec: Test::NEVER,
        no_kernel_exec: Some(Test::NEVER),
    };

    /// What this entry allows, execution by user mode as [`Prot::X`] and by the kernel as [`Prot::OTHER_X`]: what the
    /// intersection over all levels means, [`Spec::effective`] says.
    #[inline]
    pub const fn of(self, entry: u64) -> Prot {
        let mut prot = Prot::R;
        if !self.no_write.holds(entry) {
            prot = prot.union(Prot::W);
        }
        if self.user.holds(entry) {
            prot = prot.union(Prot::USER);
        }
        if !self.no_exec.holds(entry) {
            prot = prot.union(Prot::X);
        }
        if let Some(no_kernel_exec) = self.no_kernel_exec
            && !no_kernel_exec.holds(entry)
        {
            prot = prot.union(Prot::OTHER_X);
        }
        prot
    }

    /// As [`Spec::effective`], by the rights of pages at any level of the format: all have the same ones.
    #[inline]
    pub(crate) const fn effective(self, allowed: Prot) -> Prot {
        match self.no_kernel_exec {
            Some(_) => allowed.by_owner(),
            None => allowed,
        }
    }

    #[inline]
    const fn mask(self) -> u64 {
        let kernel = match self.no_kernel_exec {
            Some(test) => test.mask,
            None => 0,
        };
        self.no_write.mask | self.user.mask | self.no_exec.mask | kernel
    }
}

/// How an entry names the physical address it points at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// Bits that are the physical address as they stand.
    pub frame: u64,
    /// Further address bits, kept elsewhere in the entry: `(entry & high_mask) << high_shift`.
    pub high_mask: u64,
    /// See `high_mask`.
    pub high_shift: u8,
    /// Bits that must be zero; the CPU faults where they are not.
    pub reserved: u64,
    /// Rights this entry grants.
    pub rights: Rights,
}

impl Target {
    /// The physical address `entry` points at.
    #[inline]
    pub const fn address(&self, entry: u64) -> u64 {
        (entry & self.frame) | ((entry & self.high_mask) << self.high_shift)
    }

    /// Bits that decide everything but the address: entries that agree in them are alike.
    #[inline]
    pub const fn key(&self) -> u64 {
        self.reserved | self.rights.mask()
    }
}

/// One level of tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Level {
    /// Its number as people count: 1 holds the smallest pages.
    pub number: u8,
    /// The lowest address bit of the index into this table; an entry spans `1 << shift` bytes.
    pub shift: u8,
    /// How many address bits the index has.
    pub index_bits: u8,
    /// Which present entries map a page at this level.
    pub is_page: Test,
    /// How a page entry is read.
    pub page: Target,
    /// How an entry that points at the next table is read.
    pub table: Target,
}

impl Level {
    /// Number of entries in a table of this level.
    #[inline]
    pub const fn entries(&self) -> usize {
        1 << self.index_bits
    }

    /// Bytes of address space that one entry spans.
    #[inline]
    pub const fn span(&self) -> u64 {
        1 << self.shift
    }
}

/// A bit of an entry that has a name, for people who look at tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flag {
    /// Short name, as the CPU's manual abbreviates it.
    pub name: &'static str,
    /// Which entries have it.
    pub test: Test,
    /// Whether it means something only in entries that map a page.
    pub pages_only: bool,
}

/// What an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EntryKind {
    /// Not present.
    Empty,
    /// It maps a page.
    Page,
    /// It points at the next table.
    Table,
    /// Present, but it sets reserved bits: the CPU faults on it.
    Malformed,
}

/// What the bits of an address must be that stand above the translated ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Above {
    /// Zero: the space ends there.
    Zero,
    /// Like the top translated bit: x86's canonical addresses. Each half of the space has half of a root table.
    Sign,
    /// All alike, whatever the translated bits are: each half of the space has a root table of its own, as with AArch64.
    Alike,
}

/// A page-table format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spec {
    /// Bytes in an entry: 4 or 8, little-endian.
    pub entry_bytes: usize,
    /// Bits of a virtual address that are translated.
    pub va_bits: u8,
    /// What the bits above those that are translated must be.
    pub above: Above,
    /// The bits of the root register that locate the root table.
    pub root_mask: u64,
    /// Which entries are present, at every level.
    pub present: Test,
    /// The levels from the root down; the last one holds pages only.
    pub levels: &'static [Level],
    /// Named bits of present entries. The walker does not look at them.
    pub flags: &'static [Flag],
}

impl Spec {
    /// No table of any format has more entries than this.
    pub const MAX_ENTRIES: usize = 1024;

    /// Bytes in the smallest page, the granule that the format translates by.
    #[inline]
    pub const fn page_size(&self) -> u64 {
        self.levels[self.levels.len() - 1].span()
    }

    /// The protection of a page, from what all entries on the way to it allow ([`Rights::of`]).
    #[inline]
    pub const fn effective(&self, allowed: Prot) -> Prot {
        let page = &self.levels[self.levels.len() - 1].page;
        page.rights.effective(allowed)
    }

    /// What `entry` is when it stands in a table of the level with this number; `None` when the
    /// format has no such level.
    pub fn kind_of(&self, level: u8, entry: u64) -> Option<EntryKind> {
        let level = self.levels.iter().find(|known| known.number == level)?;
        Some(if !self.present.holds(entry) {
            EntryKind::Empty
        } else if level.is_page.holds(entry) {
            match entry & level.page.reserved {
                0 => EntryKind::Page,
                _ => EntryKind::Malformed,
            }
        } else {
            match entry & level.table.reserved {
                0 => EntryKind::Table,
                _ => EntryKind::Malformed,
            }
        })
    }

    /// Names of the flags that a present entry of this kind has set.
    pub fn flags_of(&self, kind: EntryKind, entry: u64) -> impl Iterator<Item = &'static str> {
        self.flags
            .iter()
            .filter(move |flag| flag.test.holds(entry))
            .filter(move |flag| kind == EntryKind::Page || !flag.pages_only)
            .map(|flag| flag.name)
    }

    /// Whether the format can translate `va` at all.
    #[inline]
    pub const fn is_canonical(&self, va: u64) -> bool {
        let unused = 64 - self.va_bits as u32;
        match self.above {
            Above::Zero => (va << unused) >> unused == va,
            Above::Sign => ((va << unused) as i64 >> unused) as u64 == va,
            Above::Alike => matches!(va as i64 >> self.va_bits, 0 | -1),
        }
    }

    /// The address whose translated bits are `bits`, in the form the CPU accepts; where both halves have it, that in the lower
    /// one.
    #[inline]
    pub const fn canonical(&self, bits: u64) -> u64 {
        let unused = 64 - self.va_bits as u32;
        match self.above {
            Above::Zero | Above::Alike => bits,
            Above::Sign => ((bits << unused) as i64 >> unused) as u64,
        }
    }

    /// The two halves of the space, the lower and the upper one; `None` where it has no such halves.
    pub fn halves<A: Address>(&self) -> Option<[AddrRange<A>; 2]> {
        let last = u64::MAX >> (64 - self.va_bits);
        let last = match self.above {
            Above::Zero => return None,
            Above::Sign => last >> 1,
            Above::Alike => last,
        };
        Some([
            AddrRange::inclusive(A::new(0), A::new(last))?,
            AddrRange::inclusive(A::new(!last), A::new(u64::MAX))?,
        ])
    }

    /// Every address that the format can translate, ascending.
    pub(crate) fn ranges<A: Address>(&self) -> impl Iterator<Item = AddrRange<A>> + use<A> {
        let last = u64::MAX >> (64 - self.va_bits);
        let (halves, all) = match self.halves() {
            Some(halves) => (Some(halves), None),
            None => (None, AddrRange::inclusive(A::new(0), A::new(last))),
        };
        halves.into_iter().flatten().chain(all)
    }

    /// The address of entry 0 of the root table that translates `va`.
    #[inline]
    pub(crate) const fn root_base(&self, va: u64) -> u64 {
        match va >> 63 {
            0 => 0,
            _ => u64::MAX << self.va_bits,
        }
    }
}
