//! What the builder knows to be mapped.
//!
//! The record of requests is a graph of tables; this module unrolls it into a flat list of pages.
//! No entry is decoded on the way, so a mistake in the encoders cannot hide itself here.

use super::entry::{Flags, PageSize, Paging};
use super::machine::{Machine, View};

/// What may be done with a page, all levels taken together. Present pages can always be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Rights {
    /// Writable at every level.
    pub write: bool,
    /// Open to user mode at every level.
    pub user: bool,
    /// Not execute-disabled at any level.
    pub exec: bool,
}

impl Rights {
    const ALL: Self = Self {
        write: true,
        user: true,
        exec: true,
    };

    fn and(self, flags: Flags) -> Self {
        Self {
            write: self.write && flags.write,
            user: self.user && flags.user,
            exec: self.exec && !flags.nx,
        }
    }
}

/// A mapped page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct TruthPage {
    /// Virtual address, a multiple of `size`.
    pub va: u64,
    /// Physical address. It may lie in a hole of physical memory; the page is mapped all the same.
    pub gpa: u64,
    /// Bytes.
    pub size: u64,
    /// Effective protection.
    pub rights: Rights,
}

/// A range of virtual addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct VaRange {
    /// First address.
    pub va: u64,
    /// Bytes.
    pub len: u64,
}

impl VaRange {
    /// Whether `va` lies in the range.
    pub fn contains(self, va: u64) -> bool {
        va.checked_sub(self.va).is_some_and(|at| at < self.len)
    }
}

/// A range in which every 4 KiB page maps the same frame, too many to list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Repeat {
    /// The range.
    pub range: VaRange,
    /// The frame.
    pub gpa: u64,
    /// Effective protection of each page.
    pub rights: Rights,
}

/// A maximal run of adjacent pages with the same rights.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct TruthRegion {
    /// The run.
    pub range: VaRange,
    /// Effective protection.
    pub rights: Rights,
}

/// Everything known about one address space. All lists are sorted by address and, taken together,
/// do not overlap.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Truth {
    /// Mapped pages.
    pub pages: Vec<TruthPage>,
    /// Mapped ranges of one frame each, from [`Space::explode`](super::Space::explode) and
    /// [`Space::mirrors`](super::Space::mirrors).
    pub repeats: Vec<Repeat>,
    /// Ranges behind a table that is absent: what is mapped there cannot be known from the image.
    /// One range for each entry that refers to such a table.
    pub lost: Vec<VaRange>,
    /// Ranges behind an entry that was written by hand: the truth is silent. One for each entry.
    pub opaque: Vec<VaRange>,
}

impl Truth {
    /// More pages than any test needs; a space with more has loops that should be repeats.
    const MAX_PAGES: usize = 1 << 24;

    pub(super) fn of(machine: &Machine, paging: Paging, root: u64) -> Self {
        let mut truth = Self::default();
        if machine.lost.contains(&root) {
            let half = 1 << (paging.va_bits() - 1);
            truth.lost = [0, half]
                .map(|va| VaRange {
                    va: paging.canonical(va),
                    len: half,
                })
                .to_vec();
        } else {
            truth.visit(machine, paging, (root, paging.levels()), 0, Rights::ALL);
        }
        truth
    }

    /// Unrolls the table at `table.0`, serving at level `table.1` for the addresses from `base` on.
    /// Ends because the level falls at every step, also through self-references.
    fn visit(
        &mut self,
        machine: &Machine,
        paging: Paging,
        (gpa, level): (u64, u8),
        base: u64,
        rights: Rights,
    ) {
        let table = &machine.tables[&gpa];
        let len = paging.span(level);
        for (&index, slot) in &table.slots {
            let va = paging.canonical(base + index * len);
            let range = VaRange { va, len };
            match table.view(slot, level) {
                View::Nothing => {}
                View::Opaque => self.opaque.push(range),
                View::Page { gpa, size, flags } => {
                    assert!(
                        self.pages.len() < Self::MAX_PAGES,
                        "more than 2^24 pages are mapped"
                    );
                    self.pages.push(TruthPage {
                        va,
                        gpa,
                        size,
                        rights: rights.and(flags),
                    });
                }
                View::Repeat { gpa, flags } => self.repeats.push(Repeat {
                    range,
                    gpa,
                    rights: rights.and(flags),
                }),
                View::Table { gpa, .. } if machine.lost.contains(&gpa) => self.lost.push(range),
                View::Table { gpa, flags } => {
                    self.visit(machine, paging, (gpa, level - 1), va, rights.and(flags));
                }
            }
        }
    }

    /// The page that maps `va`; out of a repeat, the 4 KiB page.
    pub fn lookup(&self, va: u64) -> Option<TruthPage> {
        let behind = self.pages.partition_point(|p| p.va <= va);
        if let Some(page) = behind.checked_sub(1).map(|i| self.pages[i])
            && va - page.va < page.size
        {
            return Some(page);
        }
        let behind = self.repeats.partition_point(|r| r.range.va <= va);
        let repeat = behind.checked_sub(1).map(|i| self.repeats[i])?;
        let size = PageSize::Size4K.bytes();
        repeat.range.contains(va).then_some(TruthPage {
            va: va & !(size - 1),
            gpa: repeat.gpa,
            size,
            rights: repeat.rights,
        })
    }

    /// The physical address of `va`, when the truth knows it to be mapped.
    pub fn translate(&self, va: u64) -> Option<u64> {
        self.lookup(va).map(|page| page.gpa + (va - page.va))
    }

    /// Whether the truth says something definite about `va`: mapped or not mapped.
    pub fn knows(&self, va: u64) -> bool {
        !self.lost.iter().chain(&self.opaque).any(|r| r.contains(va))
    }

    /// Maximal runs of adjacent mapped pages with the same rights, whatever their sizes and frames.
    pub fn regions(&self) -> Vec<TruthRegion> {
        let pages = self.pages.iter().map(|p| TruthRegion {
            range: VaRange {
                va: p.va,
                len: p.size,
            },
            rights: p.rights,
        });
        let repeats = self.repeats.iter().map(|r| TruthRegion {
            range: r.range,
            rights: r.rights,
        });
        let mut parts: Vec<TruthRegion> = pages.chain(repeats).collect();
        parts.sort_unstable_by_key(|part| part.range.va);
        let mut regions: Vec<TruthRegion> = Vec::new();
        for part in parts {
            match regions.last_mut() {
                Some(last)
                    if last.rights == part.rights
                        && last.range.va.checked_add(last.range.len) == Some(part.range.va) =>
                {
                    last.range.len += part.range.len;
                }
                _ => regions.push(part),
            }
        }
        regions
    }
}
