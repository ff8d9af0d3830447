//! A page walker as plain as can be: reads tables from the RAM file and recurses. No bounds, no
//! formats, no modes but long mode; good enough for guests of our own, and easy to believe.

use std::fs::File;
use std::os::unix::fs::FileExt;

use vmie_lab::{RamPart, Snapshot};

/// A page, with the flags of its entry and what all levels together make of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Leaf {
    pub(crate) va: u64,
    pub(crate) gpa: u64,
    pub(crate) size: u64,
    /// Flags of the leaf entry alone.
    pub(crate) own: Flags,
    /// Effective: AND of the levels for write and user, OR for no-execute.
    pub(crate) effective: Flags,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Flags {
    pub(crate) write: bool,
    pub(crate) user: bool,
    pub(crate) nx: bool,
}

const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// All pages below a root, in ascending order.
pub(crate) fn leaves(snapshot: &Snapshot, root: u64) -> Vec<Leaf> {
    let walker = Walker {
        ram: File::open(snapshot.path("ram.raw")).expect("every snapshot has one"),
        parts: &snapshot.ram,
    };
    let levels = if snapshot.machine.five_levels { 5 } else { 4 };
    let open = Flags {
        write: true,
        user: true,
        nx: false,
    };
    let mut leaves = Vec::new();
    walker.table(root & FRAME, levels, 0, open, &mut leaves);
    // Sign extension moves the upper half of the top table to the top of the space.
    let bits = 12 + 9 * levels;
    for leaf in &mut leaves {
        leaf.va = ((leaf.va << (64 - bits)) as i64 >> (64 - bits)) as u64;
    }
    leaves
}

struct Walker<'a> {
    ram: File,
    parts: &'a [RamPart],
}

impl Walker<'_> {
    fn table(&self, table: u64, level: u32, va: u64, above: Flags, leaves: &mut Vec<Leaf>) {
        let shift = 12 + 9 * (level - 1);
        for (index, entry) in self.entries(table).into_iter().enumerate() {
            if entry & PRESENT == 0 {
                continue;
            }
            let va = va | (index as u64) << shift;
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
                let size = 1_u64 << shift;
                leaves.push(Leaf {
                    va,
                    gpa: entry & FRAME & !(size - 1),
                    size,
                    own,
                    effective,
                });
            } else {
                self.table(entry & FRAME, level - 1, va, effective, leaves);
            }
        }
    }

    fn entries(&self, gpa: u64) -> Vec<u64> {
        let part = self
            .parts
            .iter()
            .find(|part| part.gpa <= gpa && gpa < part.gpa + part.len)
            .unwrap_or_else(|| panic!("page table {gpa:#x} is not in RAM"));
        let mut bytes = vec![0; 4096];
        self.ram
            .read_exact_at(&mut bytes, part.offset + (gpa - part.gpa))
            .expect("the RAM file is whole");
        bytes
            .chunks_exact(8)
            .map(|entry| u64::from_le_bytes(entry.try_into().expect("8 bytes")))
            .collect()
    }
}
