//! One address space: a root table in a machine, and what can be done to its page tables, from plain
//! mappings to the cruelties a hostile guest would try.
//!
//! Each call does two things: it writes entries into physical memory, and it notes the request in the
//! machine's record. [`Space::truth`] reads the record only.
//!
//! Where a call needs tables that do not exist yet, it makes them with entries that allow everything
//! ([`Flags::OPEN`]), so the leaf alone decides unless [`Space::set_table_flags`] says otherwise.

use std::collections::BTreeMap;

use super::entry::{Flags, PageSize, Paging, leaf_entry, table_entry};
use super::machine::{self, Machine, Slot, Table, View};
use super::phys::PAGE;
use super::truth::Truth;
use crate::write::Cpu;

/// A root table and the mode it is meant for. The tables live in the [`Machine`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    root: u64,
    paging: Paging,
}

/// One table entry on the way of a translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathStep {
    /// Level of the table, 1 for the one that maps 4 KiB pages.
    pub level: u8,
    /// Physical address of the entry.
    pub gpa: u64,
    /// The entry.
    pub entry: u64,
}

impl Space {
    /// An empty space whose root is the next suitable frame.
    pub fn new(machine: &mut Machine, paging: Paging) -> Self {
        let root = machine.frames.alloc_below(paging.root_limit());
        Self::at_root(machine, paging, root)
    }

    /// An empty space whose root is at `root`, which is the caller's to have set aside. PAE roots may
    /// stand at any multiple of 32, several in one frame.
    ///
    /// # Panics
    /// When `root` is misaligned, out of reach for CR3, outside RAM, or a table already.
    pub fn at_root(machine: &mut Machine, paging: Paging, root: u64) -> Self {
        let bytes = paging.entries(paging.levels()) * paging.entry_bytes();
        assert!(
            root.is_multiple_of(bytes) && root < paging.root_limit(),
            "no root of {paging:?} can stand at {root:#x}"
        );
        new_table(machine, paging, paging.levels(), root);
        Self { root, paging }
    }

    /// Physical address of the root table.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// The mode.
    pub fn paging(&self) -> Paging {
        self.paging
    }

    /// Registers of a CPU that runs in this space, for an image's notes; `rip` and `rsp` are zero.
    pub fn cpu(&self) -> Cpu {
        machine::cpu(self.paging, self.root)
    }

    /// The next free frame that this mode can address.
    pub fn alloc(&self, machine: &mut Machine) -> u64 {
        machine.frames.alloc_below(self.paging.frame_limit())
    }

    /// Maps one page.
    ///
    /// # Panics
    /// When an address is misaligned or not canonical, or something is mapped there already.
    pub fn map(&self, machine: &mut Machine, va: u64, gpa: u64, size: PageSize, flags: Flags) {
        assert!(va.is_multiple_of(size.bytes()), "misaligned page: {va:#x}");
        let entry = leaf_entry(self.paging, size, gpa, flags);
        let level = size.level();
        let (table, index) = self.reach(machine, level, va);
        self.fill(
            machine,
            (table, index),
            entry,
            Slot::Page { gpa, size, flags },
        );
    }

    /// Maps 4 KiB pages over `frames`, adjacent from `va` on.
    pub fn map_frames(&self, machine: &mut Machine, va: u64, frames: &[u64], flags: Flags) {
        for (i, &gpa) in frames.iter().enumerate() {
            let va = va + i as u64 * PAGE;
            self.map(machine, va, gpa, PageSize::Size4K, flags);
        }
    }

    /// Maps `pages` pages of 4 KiB over new frames, adjacent from `va` on, and answers the frames.
    pub fn map_new(&self, machine: &mut Machine, va: u64, pages: u64, flags: Flags) -> Vec<u64> {
        let frames: Vec<u64> = (0..pages).map(|_| self.alloc(machine)).collect();
        self.map_frames(machine, va, &frames, flags);
        frames
    }

    /// Clears the entry of `level` that stands for `va`, with all that hangs below it.
    pub fn unmap(&self, machine: &mut Machine, level: u8, va: u64) {
        self.poke_entry(machine, level, va, 0);
    }

    /// Whether the entry of `level` that stands for `va` is free to be filled: its table is missing,
    /// or the entry itself is zero.
    pub fn is_free(&self, machine: &Machine, level: u8, va: u64) -> bool {
        let mut gpa = self.root;
        for at in (level..=self.paging.levels()).rev() {
            let table = &machine.tables[&gpa];
            match table.slots.get(&self.paging.index(at, va)) {
                None => {
                    // Not-present entries with other bits set are in use too: swap entries.
                    let entry = entry_gpa(table, gpa, self.paging.index(at, va));
                    return machine.phys.read_uint(entry, self.paging.entry_bytes()) == Ok(0);
                }
                Some(Slot::Table { gpa: next, .. }) if machine.tables[next].level == at - 1 => {
                    gpa = *next;
                }
                Some(_) => return false,
            }
        }
        false
    }

    /// Whether the entry of `level` for `va` is present and reached without passing through a
    /// self-reference or an odd entry.
    pub(super) fn is_plain(&self, machine: &Machine, level: u8, va: u64) -> bool {
        let mut gpa = self.root;
        for above in (level + 1..=self.paging.levels()).rev() {
            let slot = machine.tables[&gpa]
                .slots
                .get(&self.paging.index(above, va));
            match slot {
                Some(Slot::Table { gpa: next, .. }) if machine.tables[next].level == above - 1 => {
                    gpa = *next;
                }
                _ => return false,
            }
        }
        let index = self.paging.index(level, va);
        machine.tables[&gpa].slots.contains_key(&index)
    }

    /// Gives the entry of `level` (2 or more) on the way to `va` these flags: it then restricts, or
    /// not, all that is mapped below. Makes the table it refers to when there is none.
    pub fn set_table_flags(&self, machine: &mut Machine, level: u8, va: u64, flags: Flags) {
        self.reach(machine, level - 1, va);
        let (table, index) = self.reach(machine, level, va);
        let slot = record(machine, table).slots.get_mut(&index);
        let Some(Slot::Table { gpa, flags: old }) = slot else {
            panic!("the level-{level} entry for {va:#x} does not refer to a table");
        };
        *old = flags;
        let entry = table_entry(self.paging, level, *gpa, flags);
        self.store(machine, table, index, entry);
    }

    /// Makes the entry of `level` for `to` refer to the same table as the one for `from`: the two
    /// ranges then show the same pages, those mapped later included.
    ///
    /// # Panics
    /// When `to` is in use.
    pub fn share_table(&self, machine: &mut Machine, level: u8, from: u64, to: u64, flags: Flags) {
        self.share_with(machine, level, from, *self, to, flags);
    }

    /// As [`Space::share_table`], with `to` in another space: how processes share a kernel half.
    pub fn share_with(
        &self,
        machine: &mut Machine,
        level: u8,
        from: u64,
        other: Self,
        to: u64,
        flags: Flags,
    ) {
        let (gpa, _) = self.reach(machine, level - 1, from);
        let at = other.reach(machine, level, to);
        let entry = table_entry(other.paging, level, gpa, flags);
        other.fill(machine, at, entry, Slot::Table { gpa, flags });
    }

    /// A self-map as Windows has it: entry `index` of the root refers to the root itself, so that the
    /// tables appear as pages in virtual memory. Under PAE the root cannot refer to itself; there the
    /// first four entries of the page directory that root entry `index` refers to are the four page
    /// directories.
    pub fn self_map(&self, machine: &mut Machine, index: u64, flags: Flags) {
        let top = self.paging.levels();
        let va = self.paging.canonical(index * self.paging.span(top));
        if self.paging == Paging::Pae {
            for directory in 0..4 {
                let (gpa, _) = self.reach(machine, 2, directory << 30);
                let to = self.reach(machine, 2, va + directory * self.paging.span(2));
                let entry = table_entry(self.paging, 2, gpa, flags);
                self.fill(machine, to, entry, Slot::Table { gpa, flags });
            }
        } else {
            self.loop_table(machine, top, va, top, flags);
        }
    }

    /// Makes the entry of `level` for `va` refer back to the table of level `ancestor` (`level` or
    /// higher) through which it is reached itself.
    ///
    /// # Panics
    /// When `ancestor` is below `level`, the entry is in use, or the ancestor is a PAE root that is
    /// not page-aligned.
    pub fn loop_table(
        &self,
        machine: &mut Machine,
        level: u8,
        va: u64,
        ancestor: u8,
        flags: Flags,
    ) {
        assert!(ancestor >= level, "level {ancestor} is no ancestor");
        let at = self.reach(machine, level, va);
        let (gpa, _) = self.reach(machine, ancestor, va);
        // A level-1 entry that refers to a table simply maps it as a page.
        if level == 1 {
            let entry = leaf_entry(self.paging, PageSize::Size4K, gpa, flags);
            let size = PageSize::Size4K;
            self.fill(machine, at, entry, Slot::Page { gpa, size, flags });
        } else {
            let entry = table_entry(self.paging, level, gpa, flags);
            self.fill(machine, at, entry, Slot::Table { gpa, flags });
        }
    }

    /// An explosion: below the entry of `level` (2 or more) for `va` every table is full, and all its
    /// entries refer to the same next table, down to one frame that every page maps. A handful of
    /// tables then claims up to the whole of virtual memory.
    pub fn explode(&self, machine: &mut Machine, level: u8, va: u64, flags: Flags) {
        let at = self.reach(machine, level, va);
        let chain: Vec<u64> = (0..level).map(|_| self.alloc(machine)).collect();
        for (step, pair) in chain.windows(2).enumerate() {
            let table_level = level - 1 - step as u8;
            let entry = if table_level == 1 {
                leaf_entry(self.paging, PageSize::Size4K, pair[1], Flags::OPEN)
            } else {
                table_entry(self.paging, table_level, pair[1], Flags::OPEN)
            };
            self.flood(machine, pair[0], entry);
        }
        let entry = table_entry(self.paging, level, chain[0], flags);
        self.fill(machine, at, entry, Slot::Repeat { chain, flags });
    }

    /// The worst table of all: every entry of the root refers to the root.
    ///
    /// # Panics
    /// Under PAE, whose root is not a full table, and when the root is in use.
    pub fn mirrors(&self, machine: &mut Machine, flags: Flags) {
        assert_ne!(self.paging, Paging::Pae, "a PAE root is not a full table");
        let top = self.paging.levels();
        let entry = table_entry(self.paging, top, self.root, flags);
        let slot = Slot::Repeat {
            chain: vec![self.root; usize::from(top)],
            flags,
        };
        for index in 0..self.paging.entries(top) {
            self.fill(machine, (self.root, index), entry, slot.clone());
        }
    }

    /// Fills a whole frame with `entry`.
    fn flood(&self, machine: &mut Machine, gpa: u64, entry: u64) {
        machine.flooded.insert(gpa);
        let size = self.paging.entry_bytes();
        for at in (0..PAGE).step_by(size as usize) {
            machine.phys.write_uint(gpa + at, entry, size);
        }
    }

    /// Writes any number into the entry of `level` for `va`, whatever stood there, and answers the
    /// entry's physical address. A present entry makes the truth silent about its range; one that is
    /// not present (bit 0 clear) maps nothing.
    pub fn poke_entry(&self, machine: &mut Machine, level: u8, va: u64, entry: u64) -> u64 {
        let (table, index) = self.reach(machine, level, va);
        let slots = &mut record(machine, table).slots;
        if entry & 1 == 0 {
            slots.remove(&index);
        } else {
            slots.insert(index, Slot::Opaque);
        }
        self.store(machine, table, index, entry)
    }

    /// Sets reserved bits in the present entry of `level` for `va`: by the truth it then maps
    /// nothing. See [`reserved_bits`](super::reserved_bits).
    ///
    /// # Panics
    /// When the entry is not present.
    pub fn malform(&self, machine: &mut Machine, level: u8, va: u64, bits: u64) -> u64 {
        let (table, index) = self.reach(machine, level, va);
        let slots = &mut record(machine, table).slots;
        let old = slots.insert(index, Slot::Malformed);
        assert!(old.is_some(), "no entry at level {level} for {va:#x}");
        let gpa = self.entry_gpa(machine, level, va);
        let size = self.paging.entry_bytes();
        let entry = machine.phys.read_uint(gpa, size).expect("tables are RAM");
        self.store(machine, table, index, entry | bits)
    }

    /// Removes from physical memory the frame of the table of `level` that serves `va`. What it maps
    /// is then lost. Nothing can be mapped through it any more.
    pub fn lose_table(&self, machine: &mut Machine, level: u8, va: u64) {
        let (table, _) = self.reach(machine, level, va);
        machine.lost.insert(table);
        let frame = table & !(PAGE - 1);
        machine.phys.make_absent(frame..frame + PAGE);
    }

    /// Physical address of the entry of `level` for `va`, whose table is made when there is none.
    pub fn entry_gpa(&self, machine: &mut Machine, level: u8, va: u64) -> u64 {
        let (table, index) = self.reach(machine, level, va);
        entry_gpa(&machine.tables[&table], table, index)
    }

    /// Stores `data` at `va`, through the record.
    ///
    /// # Panics
    /// When part of it is not mapped, or mapped to a hole.
    pub fn write(&self, machine: &mut Machine, va: u64, data: &[u8]) {
        let mut done = 0;
        while done < data.len() {
            let at = va + done as u64;
            let (gpa, left) = self
                .resolve(machine, at)
                .unwrap_or_else(|| panic!("nothing is mapped at {at:#x}"));
            let len = (data.len() - done).min(usize::try_from(left).unwrap_or(usize::MAX));
            machine.phys.write(gpa, &data[done..done + len]);
            done += len;
        }
    }

    /// Stores a number of 8 bytes at `va`.
    ///
    /// # Panics
    /// As for [`Space::write`].
    pub fn write_u64(&self, machine: &mut Machine, va: u64, value: u64) {
        self.write(machine, va, &value.to_le_bytes());
    }

    /// The physical address of `va` by the record, and how many bytes are left in its page.
    fn resolve(&self, machine: &Machine, va: u64) -> Option<(u64, u64)> {
        let mut gpa = self.root;
        for level in (1..=self.paging.levels()).rev() {
            let table = &machine.tables[&gpa];
            let slot = table.slots.get(&self.paging.index(level, va))?;
            match table.view(slot, level) {
                View::Nothing | View::Opaque => return None,
                View::Table { gpa: next, .. } => gpa = next,
                View::Page { gpa, size, .. } => {
                    let offset = va & (size - 1);
                    return Some((gpa + offset, size - offset));
                }
                View::Repeat { gpa, .. } => {
                    let offset = va & (PAGE - 1);
                    return Some((gpa + offset, PAGE - offset));
                }
            }
        }
        None
    }

    /// What is mapped, from the record alone.
    pub fn truth(&self, machine: &Machine) -> Truth {
        Truth::of(machine, self.paging, self.root)
    }

    /// The entries that translate `va`, from the root down to the one that decides: it maps the page,
    /// or is not present, malformed or written by hand, or lies in a lost table (which ends the path
    /// before it). Their places come from the record, their values from memory.
    pub fn path(&self, machine: &Machine, va: u64) -> Vec<PathStep> {
        let mut steps = Vec::new();
        let size = self.paging.entry_bytes();
        let mut push = |level: u8, gpa: u64| {
            let entry = machine.phys.read_uint(gpa, size).ok();
            steps.extend(entry.map(|entry| PathStep { level, gpa, entry }));
            entry.is_some()
        };
        let mut table_gpa = self.root;
        for level in (1..=self.paging.levels()).rev() {
            let table = &machine.tables[&table_gpa];
            let index = self.paging.index(level, va);
            if !push(level, entry_gpa(table, table_gpa, index)) {
                break;
            }
            match table.slots.get(&index) {
                Some(Slot::Repeat { chain, .. }) => {
                    for (&table, level) in chain.iter().zip((1..level).rev()) {
                        push(level, table + self.paging.index(level, va) * size);
                    }
                    break;
                }
                Some(slot) => match table.view(slot, level) {
                    View::Table { gpa, .. } => table_gpa = gpa,
                    _ => break,
                },
                None => break,
            }
        }
        steps
    }

    /// The table of `level` that serves `va` and the index of the entry in it; makes missing tables.
    fn reach(&self, machine: &mut Machine, level: u8, va: u64) -> (u64, u64) {
        let top = self.paging.levels();
        assert!(
            (1..=top).contains(&level),
            "{:?} has no level {level}",
            self.paging
        );
        assert_eq!(
            va,
            self.paging.canonical(va),
            "not a canonical address: {va:#x}"
        );
        let mut gpa = self.root;
        for above in (level + 1..=top).rev() {
            let index = self.paging.index(above, va);
            gpa = match machine.tables[&gpa].slots.get(&index) {
                Some(Slot::Table { gpa: next, .. }) => {
                    let own = machine.tables[next].level;
                    assert_eq!(own, above - 1, "{va:#x} lies behind a self-reference");
                    *next
                }
                Some(other) => panic!("{va:#x} lies behind {other:?}"),
                None => {
                    let next = self.alloc(machine);
                    new_table(machine, self.paging, above - 1, next);
                    let flags = Flags::OPEN;
                    let entry = table_entry(self.paging, above, next, flags);
                    let slot = Slot::Table { gpa: next, flags };
                    self.fill(machine, (gpa, index), entry, slot);
                    next
                }
            };
        }
        (gpa, self.paging.index(level, va))
    }

    /// Fills a free entry, in the record and in memory.
    fn fill(&self, machine: &mut Machine, (table, index): (u64, u64), entry: u64, slot: Slot) {
        let old = record(machine, table).slots.insert(index, slot);
        assert!(
            old.is_none(),
            "entry {index:#x} of the table at {table:#x} is in use: {old:?}"
        );
        self.store(machine, table, index, entry);
    }

    /// Writes an entry to memory and answers where.
    fn store(&self, machine: &mut Machine, table: u64, index: u64, entry: u64) -> u64 {
        let gpa = entry_gpa(&machine.tables[&table], table, index);
        machine
            .phys
            .write_uint(gpa, entry, self.paging.entry_bytes());
        gpa
    }
}

fn record(machine: &mut Machine, table: u64) -> &mut Table {
    machine
        .tables
        .get_mut(&table)
        .expect("every table that is reached is on record")
}

fn entry_gpa(table: &Table, gpa: u64, index: u64) -> u64 {
    gpa + index * table.paging.entry_bytes()
}

/// Puts a new, empty table on record.
fn new_table(machine: &mut Machine, paging: Paging, level: u8, gpa: u64) {
    let bytes = (paging.entries(level) * paging.entry_bytes()) as usize;
    machine.phys.write(gpa, &vec![0; bytes]);
    let table = Table {
        paging,
        level,
        slots: BTreeMap::new(),
    };
    let old = machine.tables.insert(gpa, table);
    assert!(old.is_none(), "there is a table at {gpa:#x} already");
}
