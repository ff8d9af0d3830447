//! A guest machine: memory, free frames, and the record of the page tables built in it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::entry::{Flags, PageSize, Paging};
use super::frames::Frames;
use super::phys::{PAGE, Phys};
use crate::write::Cpu;

/// Memory, free frames and the record of all page tables.
///
/// The record is what [`Space::truth`](super::Space::truth) is computed from. Writing over a table's
/// frame through [`Machine::phys`] goes behind its back: use
/// [`Space::poke_entry`](super::Space::poke_entry) for that.
#[derive(Clone)]
pub struct Machine {
    /// Physical memory.
    pub phys: Phys,
    /// Frames that nothing uses yet.
    pub frames: Frames,
    /// Every table by its physical address.
    pub(super) tables: BTreeMap<u64, Table>,
    /// Tables whose frames were made absent.
    pub(super) lost: BTreeSet<u64>,
    /// Frames of tables that are not on record one by one because all their entries are alike.
    pub(super) flooded: BTreeSet<u64>,
}

impl Machine {
    /// One range of RAM, sparse, frames handed out in ascending order.
    pub fn new(ram: Range<u64>) -> Self {
        let mut phys = Phys::sparse();
        phys.add_ram(ram);
        let frames = Frames::sequential(phys.ranges());
        Self::with(phys, frames)
    }

    /// One range of RAM, sparse, frames handed out in an order that `seed` determines.
    pub fn scattered(ram: Range<u64>, seed: u64) -> Self {
        let mut phys = Phys::sparse();
        phys.add_ram(ram);
        let frames = Frames::scattered(phys.ranges(), seed);
        Self::with(phys, frames)
    }

    /// Any memory, any pool of frames. The pool may cover part of the RAM only.
    pub fn with(phys: Phys, frames: Frames) -> Self {
        Self {
            phys,
            frames,
            tables: BTreeMap::new(),
            lost: BTreeSet::new(),
            flooded: BTreeSet::new(),
        }
    }

    /// Whether a page table stands in the frame at `gpa`.
    pub fn is_table(&self, gpa: u64) -> bool {
        let frame = gpa & !(PAGE - 1);
        self.tables.range(frame..frame + PAGE).next().is_some() || self.flooded.contains(&frame)
    }
}

/// One page table as it was asked for.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) paging: Paging,
    /// The level it was built for. Through self-references it can also serve at lower ones.
    pub(super) level: u8,
    pub(super) slots: BTreeMap<u64, Slot>,
}

/// One present entry as it was asked for.
#[derive(Clone, Debug)]
pub(super) enum Slot {
    Page {
        gpa: u64,
        size: PageSize,
        flags: Flags,
    },
    Table {
        gpa: u64,
        flags: Flags,
    },
    /// Leads to tables whose entries are all alike: following it and `n` further tables ends at
    /// `chain[n]`, whatever the indices.
    Repeat {
        chain: Vec<u64>,
        flags: Flags,
    },
    /// Has reserved bits set.
    Malformed,
    /// Written by hand: the builder does not know what it means.
    Opaque,
}

/// What an entry amounts to when its table serves at some level.
pub(super) enum View {
    Nothing,
    Opaque,
    Page {
        gpa: u64,
        size: u64,
        flags: Flags,
    },
    Table {
        gpa: u64,
        flags: Flags,
    },
    /// All 4 KiB pages below are this frame.
    Repeat {
        gpa: u64,
        flags: Flags,
    },
}

impl Table {
    /// What `slot` means while this table serves at `level`, which is its own or, behind a
    /// self-reference, a lower one.
    pub(super) fn view(&self, slot: &Slot, level: u8) -> View {
        match *slot {
            Slot::Opaque => View::Opaque,
            Slot::Malformed if level == self.level => View::Nothing,
            Slot::Malformed => View::Opaque,
            Slot::Page { gpa, size, flags } => View::Page {
                gpa: self.page_read_at(gpa, flags, level),
                size: if level == self.level {
                    size.bytes()
                } else {
                    self.paging.span(level)
                },
                flags: self.rights(flags, level),
            },
            Slot::Table { gpa, flags } if level == 1 => View::Page {
                gpa,
                size: PageSize::Size4K.bytes(),
                flags: self.rights(flags, level),
            },
            Slot::Table { gpa, flags } => View::Table {
                gpa,
                flags: self.rights(flags, level),
            },
            Slot::Repeat { ref chain, flags } => View::Repeat {
                gpa: chain[usize::from(level) - 1],
                flags: self.rights(flags, level),
            },
        }
    }

    /// The address that a page entry gives at `level`. At its own level it is the page's. The lower
    /// level's address field reaches further down: it takes in the PAT bit, and the PSE-36 bits where
    /// there are any.
    fn page_read_at(&self, gpa: u64, flags: Flags, level: u8) -> u64 {
        if level == self.level || level > 1 {
            return gpa;
        }
        let pat = flags.extra & 1 << 12;
        match self.paging {
            Paging::X86 => (gpa & 0xffff_ffff) | gpa >> 32 << 13 | pat,
            _ => gpa | pat,
        }
    }

    /// The rights in an entry with `flags`, as the format has them.
    fn rights(&self, flags: Flags, level: u8) -> Flags {
        if !self.paging.has_rights(self.level) {
            // At its own level such an entry restricts nothing. At a lower one its zero bits do.
            return if level == self.level {
                Flags::OPEN
            } else {
                Flags::default()
            };
        }
        Flags {
            nx: flags.nx && self.paging.has_nx(),
            ..flags
        }
    }
}

/// The registers of a CPU that runs in `paging` with its root at `root`: protected mode and paging on
/// (CR0.PE, MP, ET, NE, WP, AM, PG); PSE, PAE, LA57 and PGE in CR4 as the mode wants; SCE, LME, LMA
/// and NXE in EFER likewise. `rip` and `rsp` are zero.
pub(super) fn cpu(paging: Paging, root: u64) -> Cpu {
    const PSE: u64 = 1 << 4;
    const PAE: u64 = 1 << 5;
    const PGE: u64 = 1 << 7;
    const LA57: u64 = 1 << 12;
    const NXE: u64 = 1 << 11;
    const SCE_LME_LMA: u64 = 1 | 1 << 8 | 1 << 10;
    let (cr4, efer, code64) = match paging {
        Paging::X86 => (PSE | PGE, 0, false),
        Paging::Pae => (PSE | PAE | PGE, NXE, false),
        Paging::FourLevel => (PSE | PAE | PGE, NXE | SCE_LME_LMA, true),
        Paging::FiveLevel => (PSE | PAE | PGE | LA57, NXE | SCE_LME_LMA, true),
    };
    Cpu {
        cr0: 0x8005_0033,
        cr3: root,
        cr4,
        efer,
        rflags: 0x202,
        code64,
        ..Cpu::default()
    }
}
