//! A page walker as plain as can be: reads tables from RAM files and recurses. No bounds, no formats, no
//! modes but long mode; good enough for guests of our own, and easy to believe.
//!
//! It also reads what the CPU does not: entries that are not present, behind which Linux keeps pages
//! (`arch/x86/include/asm/pgtable_64.h`, `pgtable-invert.h`, `include/linux/swapops.h`).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::{Error, RamPart, Snapshot, read_text};

/// A page, with the flags of its entry and what all levels together make of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// Virtual address.
    pub va: u64,
    /// Physical address.
    pub gpa: u64,
    /// Size in bytes.
    pub size: u64,
    /// Flags of the leaf entry alone.
    pub own: Flags,
    /// Effective: AND of the levels for write and user, OR for no-execute.
    pub effective: Flags,
}

/// What an entry permits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flags {
    /// Writing.
    pub write: bool,
    /// Use by user mode.
    pub user: bool,
    /// No execution.
    pub nx: bool,
}

/// A page that is in memory although its entry is not present.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hidden {
    /// Virtual address.
    pub va: u64,
    /// Physical address.
    pub gpa: u64,
    /// Size in bytes.
    pub size: u64,
    /// Why its entry is not present.
    pub why: Why,
}

/// Why a resident page has an entry that is not present.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// `_PAGE_PROTNONE`: nobody may use it, or the kernel wants to know who does (NUMA balancing). Which of
    /// both, only the mapping's protection says.
    ProtNone,
    /// It is being moved to another frame.
    Migration,
}

const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
const PROTNONE: u64 = 1 << 8;
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// The swap types that a kernel uses for pages that are being moved: `include/linux/swap.h`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Migration {
    types: Range<u64>,
    /// Bits of a frame's number; above them are flags.
    frame_bits: u32,
}

impl Migration {
    /// As a kernel of this release (`6.1.0-57-cloud-amd64`) with this configuration has them.
    pub fn of_kernel(release: &str, config: &str, five_levels: bool) -> Self {
        let has = |option: &str| config.lines().any(|line| line == format!("{option}=y"));
        let mut numbers = release
            .split(['.', '-'])
            .map_while(|part| part.parse().ok());
        let version: (u64, u64) = (
            numbers.next().unwrap_or_default(),
            numbers.next().unwrap_or_default(),
        );
        // From the top of 32 types: markers, device memory, migration. Since 6.2 markers are always there; in
        // 6.15 one kind of device memory has gone.
        let markers = u64::from(version >= (6, 2) || has("CONFIG_PTE_MARKER"));
        let devices = match has("CONFIG_DEVICE_PRIVATE") {
            true if version >= (6, 15) => 3,
            true => 4,
            false => 0,
        };
        let end = 32 - markers - devices;
        Self {
            types: end - 3..end,
            frame_bits: if five_levels { 40 } else { 34 },
        }
    }

    /// The frame of a page that is being moved, when that is what the entry says.
    ///
    /// Type in bits 59 to 63; the offset, inverted, in bits 9 to 58.
    fn frame(&self, entry: u64) -> Option<u64> {
        let offset = !entry << 5 >> 14;
        let number = offset & ((1 << self.frame_bits) - 1);
        self.types.contains(&(entry >> 59)).then_some(number << 12)
    }
}

/// RAM of a guest, in one file or more.
pub struct Ram {
    pieces: Vec<(File, Vec<RamPart>)>,
}

impl Ram {
    /// From files and where each lies in physical memory.
    pub fn new(pieces: Vec<(File, Vec<RamPart>)>) -> Self {
        Self { pieces }
    }

    /// A snapshot's RAM.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub fn of(snapshot: &Snapshot) -> io::Result<Self> {
        let file = File::open(snapshot.path("ram.raw"))?;
        Ok(Self::new(vec![(file, snapshot.ram.clone())]))
    }

    /// Reads physical memory that lies in one part.
    ///
    /// # Panics
    ///
    /// When it does not, or a file ends too early.
    pub fn read(&self, gpa: u64, bytes: &mut [u8]) {
        let pieces = self.pieces.iter();
        let mut parts = pieces.flat_map(|(file, parts)| parts.iter().map(move |part| (file, part)));
        let (file, part) = parts
            .find(|(_, part)| part.gpa <= gpa && gpa < part.gpa + part.len)
            .unwrap_or_else(|| panic!("{gpa:#x} is not in RAM"));
        file.read_exact_at(bytes, part.offset + (gpa - part.gpa))
            .expect("the RAM file is whole");
    }

    fn entries(&self, table: u64) -> Vec<u64> {
        let mut bytes = vec![0; 4096];
        self.read(table, &mut bytes);
        bytes
            .chunks_exact(8)
            .map(|entry| u64::from_le_bytes(entry.try_into().expect("8 bytes")))
            .collect()
    }
}

/// All pages below a root, in ascending order.
///
/// # Panics
///
/// When tables are not in RAM.
pub fn leaves(snapshot: &Snapshot, root: u64) -> Vec<Leaf> {
    let ram = Ram::of(snapshot).expect("every snapshot has its RAM");
    let mut leaves = Vec::new();
    walk(&ram, levels(snapshot), root, &mut |page| {
        if let Page::Present(leaf) = page {
            leaves.push(leaf);
        }
    });
    leaves
}

/// The pages of the lower half that are in memory although their entries are not present, in ascending order.
///
/// # Errors
///
/// When the snapshot has no configuration of its kernel.
///
/// # Panics
///
/// When tables are not in RAM.
pub fn hidden(snapshot: &Snapshot, root: u64) -> Result<Vec<Hidden>, Error> {
    let ram = Ram::of(snapshot).expect("every snapshot has its RAM");
    let config = read_text(&snapshot.path("config"))?;
    let five = snapshot.machine.five_levels;
    let migration = Migration::of_kernel(&snapshot.kernel.release, &config, five);
    Ok(hidden_in(&ram, levels(snapshot), root, &migration))
}

/// As [`hidden`], of RAM that is not a snapshot's.
///
/// # Panics
///
/// When tables are not in RAM.
pub fn hidden_in(ram: &Ram, levels: u32, root: u64, migration: &Migration) -> Vec<Hidden> {
    let mut pages = Vec::new();
    walk(ram, levels, root, &mut |page| {
        let Page::Absent { va, size, entry } = page else {
            return;
        };
        let found = if entry & PROTNONE != 0 {
            // The frame is inverted, so that the CPU does not speculate on what is there (L1TF).
            Some((!entry & FRAME & !(size - 1), Why::ProtNone))
        } else if entry & LARGE == 0 {
            migration.frame(entry).map(|gpa| (gpa, Why::Migration))
        } else {
            None
        };
        if let Some((gpa, why)) = found.filter(|_| va >> 63 == 0) {
            pages.push(Hidden { va, gpa, size, why });
        }
    });
    pages
}

fn levels(snapshot: &Snapshot) -> u32 {
    if snapshot.machine.five_levels { 5 } else { 4 }
}

/// What an entry stands for.
enum Page {
    Present(Leaf),
    /// Not present and not zero.
    Absent {
        va: u64,
        size: u64,
        entry: u64,
    },
}

fn walk(ram: &Ram, levels: u32, root: u64, visit: &mut dyn FnMut(Page)) {
    let open = Flags {
        write: true,
        user: true,
        nx: false,
    };
    // Sign extension moves the upper half of the top table to the top of the space.
    let unused = 64 - (12 + 9 * levels);
    let walk = Walk { ram, unused };
    walk.table(root & FRAME, levels, 0, open, visit);
}

struct Walk<'a> {
    ram: &'a Ram,
    unused: u32,
}

impl Walk<'_> {
    fn table(&self, table: u64, level: u32, va: u64, above: Flags, visit: &mut dyn FnMut(Page)) {
        let shift = 12 + 9 * (level - 1);
        let size = 1_u64 << shift;
        for (index, entry) in self.ram.entries(table).into_iter().enumerate() {
            let low = va | (index as u64) << shift;
            let va = ((low << self.unused) as i64 >> self.unused) as u64;
            if entry & PRESENT == 0 {
                if entry != 0 && level <= 3 {
                    visit(Page::Absent { va, size, entry });
                }
                continue;
            }
            let own = Flags {
                write: entry & 2 != 0,
                user: entry & 4 != 0,
                nx: entry >> 63 != 0,
            };
            let effective = Flags {
                write: above.write && own.write,
                user: above.user && own.user,
                nx: above.nx || own.nx,
            };
            if level == 1 || level <= 3 && entry & LARGE != 0 {
                visit(Page::Present(Leaf {
                    va,
                    gpa: entry & FRAME & !(size - 1),
                    size,
                    own,
                    effective,
                }));
            } else {
                self.table(entry & FRAME, level - 1, low, effective, visit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand, from `include/linux/swap.h` of these kernels.
    #[test]
    fn types_of_migration() {
        let of = |release, config: &str| Migration::of_kernel(release, config, false).types;
        assert_eq!(of("6.1.0-57-cloud-amd64", "CONFIG_PTE_MARKER=y\n"), 28..31);
        assert_eq!(of("6.12.117+deb12-cloud-amd64", ""), 28..31);
        assert_eq!(
            of("6.12.117+deb12-amd64", "CONFIG_DEVICE_PRIVATE=y"),
            24..27
        );
        assert_eq!(of("6.1.0-57-x", "# CONFIG_PTE_MARKER is not set\n"), 29..32);
    }

    #[test]
    fn frames_of_migration() {
        let migration = Migration::of_kernel("6.12.0", "", false);
        // Type 29, frame 0x1234, and a flag above the frame's number.
        let offset = 0x1234_u64 | 1 << 34;
        let entry = 29 << 59 | (!offset << 14 >> 5);
        assert_eq!(migration.frame(entry), Some(0x123_4000));
        assert_eq!(migration.frame(3 << 59 | (!offset << 14 >> 5)), None);
    }
}
