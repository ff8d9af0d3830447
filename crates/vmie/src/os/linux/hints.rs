//! Places that are likely to lead to the kernel at once, without a pass over memory.
//!
//! Any root that maps the kernel's image will do to find its symbols, and so its own root:
//!
//! * The CR3 of a CPU, unless it is in user mode with page tables of its own for that.
//! * A page below 1 MiB. To start further CPUs and to wake from sleep, the kernel keeps a root there
//!   for its first steps in long mode, which shares the kernel half of its own (`trampoline_pgd`,
//!   arch/x86/realmode/init.c in its sources).
//!
//! Hints may be wrong, stale or made up. What comes of them passes the same tests as everything else.

use std::sync::Arc;

use super::anchor::{ENCRYPTION_BITS, MODES};
use super::kallsyms::{IMAGE_LAST, IMAGE_START};
use crate::addr::{AddrRange, Address, Gpa, Gva, PAGE_SIZE};
use crate::hints::Hints;
use crate::memory::Memory;
use crate::os::Phys;
use crate::paging::{AddressSpace, Mode};

/// Where the page with the root for starting CPUs can be.
const LOW_MEMORY: u64 = 1 << 20;

/// A kernel's image has at least this much mapped.
const LEAST_IMAGE: u64 = 2 << 20;

/// An address space that maps something where kernels have their image.
pub(super) struct Hint {
    pub(super) what: String,
    pub(super) space: AddressSpace,
    pub(super) ignore: u64,
}

/// The image window.
pub(super) fn window() -> AddrRange<Gva> {
    AddrRange::inclusive(Gva(IMAGE_START), Gva(IMAGE_LAST)).expect("start lies before end")
}

/// All hints, most promising first.
///
/// Cost: two reads for each page below 1 MiB, and a walk of the image window for each that may be a
/// root.
pub(super) fn all<'s>(phys: &'s Phys, hints: &'s Hints) -> impl Iterator<Item = Hint> + 's {
    let of_cpus = hints.cpus.iter().filter_map(|cpu| {
        let what = format!("the CR3 of CPU {}", cpu.index);
        Some((what, Gpa(cpu.cr3), Mode::from_cpu(cpu)?))
    });
    let low = (0..LOW_MEMORY / PAGE_SIZE)
        .map(|page| Gpa(page * PAGE_SIZE))
        .filter(|&root| may_be_root(&**phys, root))
        .flat_map(|root| {
            let what = format!("the page at {root}");
            MODES.map(|mode| (what.clone(), root, mode))
        });
    let candidates = of_cpus.chain(low);
    candidates.filter_map(|(what, root, mode)| {
        ENCRYPTION_BITS.iter().find_map(|&ignore| {
            let space = AddressSpace::new(Arc::clone(phys), root, mode).ignoring(ignore);
            let mapped: u64 = space.regions(window()).map(|region| region.len).sum();
            (mapped >= LEAST_IMAGE).then(|| Hint {
                what: what.clone(),
                space,
                ignore,
            })
        })
    })
}

/// Whether the last entry of the table at `root` is present, as that of every kernel root is.
fn may_be_root(phys: &dyn Memory<Addr = Gpa>, root: Gpa) -> bool {
    let entry = phys.read_u64(Gpa(root.raw() + PAGE_SIZE - 8)).unwrap_or(0);
    // Present and written by the kernel for a table: accessed or not, but not a large page.
    entry & 0b1000_0001 == 1
}
