//! From what is known about a kernel to its page tables.
//!
//! On x86-64 the kernel's image is contiguous in physical memory and mapped as a whole, so one number,
//! `phys_base`, relates the physical address of everything in it to the virtual one; and its top page
//! table is part of the image. That gives the test on which the whole search rests: **walked from the
//! root, the virtual address of the root leads to the root.** A wrong offset, a wrong number of levels,
//! a page that is no page table, a copy of a kernel that does not run: none of them passes.
//!
//! The test is cheap, so what is not known is tried: kernels are loaded at multiples of 2 MiB, which
//! leaves at most 512 offsets for an image window of a gigabyte.

use std::sync::Arc;

use super::kallsyms::{IMAGE_LAST, IMAGE_START};
use crate::addr::{AddrRange, Address, Gpa, Gva, PAGE_SIZE};
use crate::memory::Memory;
use crate::os::Phys;
use crate::paging::{AddressSpace, Mode};

/// Kernels are loaded at multiples of this.
const LOAD_ALIGN: u64 = 2 << 20;

/// How far from a part of the image another part can be. Images are a tenth of this.
const IMAGE_REACH: u64 = 256 << 20;

/// Bits that memory encryption may set in page-table entries, for when nothing says whether it does.
pub(super) const ENCRYPTION_BITS: [u64; 3] = [0, 1 << 47, 1 << 51];

/// The modes a 64-bit kernel can be in.
pub(super) const MODES: [Mode; 2] = [Mode::FourLevel, Mode::FiveLevel];

/// A root that maps itself, or a copy of one that is damaged.
#[derive(Clone, Debug)]
pub(super) struct Anchor {
    /// The kernel's address space.
    pub(super) space: AddressSpace,
    /// Where the kernel's own root is: that of `space`, unless it is damaged.
    pub(super) root: Gpa,
    /// Where the root is mapped in it.
    pub(super) root_va: Gva,
    /// Bits that are cleared in page-table entries.
    pub(super) ignore: u64,
}

impl Anchor {
    /// Physical address of what is mapped at the start of the image window, were it mapped.
    pub(super) fn phys_base(&self) -> i64 {
        let start = self.root_va.raw().wrapping_sub(IMAGE_START);
        self.root.raw().wrapping_sub(start).cast_signed()
    }

    /// What to add to a physical address within the image to have the virtual one.
    pub(super) fn slide(&self) -> u64 {
        self.root_va.raw().wrapping_sub(self.root.raw())
    }

    /// Whether the kernel maps `gpa`, a part of its image, at its place in the image.
    pub(super) fn maps(&self, gpa: Gpa) -> bool {
        let va = Gva(gpa.raw().wrapping_add(self.slide()));
        self.space
            .translate(va)
            .is_ok_and(|mapped| mapped.gpa == gpa)
    }
}

/// Whether a root can be at this place and have this address.
fn may_be(root: Gpa, root_va: Gva) -> bool {
    root.raw().is_multiple_of(PAGE_SIZE) && (IMAGE_START..=IMAGE_LAST).contains(&root_va.raw())
}

/// The anchor with its root at this place, if it maps itself there in one of these modes.
pub(super) fn at(
    phys: &Phys,
    root: Gpa,
    root_va: Gva,
    modes: &[Mode],
    ignore: u64,
) -> Option<Anchor> {
    if !may_be(root, root_va) {
        return None;
    }
    modes.iter().find_map(|&mode| {
        let space = AddressSpace::new(Arc::clone(phys), root, mode).ignoring(ignore);
        let mapped = space.translate(root_va).ok()?;
        (mapped.gpa == root && space.root() == root).then_some(Anchor {
            space,
            root,
            root_va,
            ignore,
        })
    })
}

/// The anchor of a kernel whose own root, at `root`, is damaged: any page that maps it where it belongs
/// maps the kernel as well, as the top tables of all processes do.
///
/// Cost: one read for each page of memory, and a walk for each that may be a top table.
pub(super) fn by_copy(
    phys: &Phys,
    root: Gpa,
    root_va: Gva,
    modes: &[Mode],
    ignore: u64,
) -> Option<Anchor> {
    if !may_be(root, root_va) {
        return None;
    }
    phys.regions(AddrRange::all()).find_map(|region| {
        let first = region.start.raw().checked_next_multiple_of(PAGE_SIZE)?;
        (first..=region.range().last().raw())
            .step_by(PAGE_SIZE as usize)
            .filter(|&page| may_be_top(&**phys, Gpa(page)))
            .find_map(|page| {
                modes.iter().find_map(|&mode| {
                    let space = AddressSpace::new(Arc::clone(phys), Gpa(page), mode);
                    through(space.ignoring(ignore), root, root_va, ignore)
                })
            })
    })
}

/// The anchor of a kernel whose own root is damaged, and is mapped by `space` where it belongs.
pub(super) fn through(space: AddressSpace, root: Gpa, root_va: Gva, ignore: u64) -> Option<Anchor> {
    let mapped = space.translate(root_va).ok()?;
    (mapped.gpa == root).then_some(Anchor {
        space,
        root,
        root_va,
        ignore,
    })
}

/// Whether the last entry of the table at `page` leads to a table, as that of every top table does.
fn may_be_top(phys: &dyn Memory<Addr = Gpa>, page: Gpa) -> bool {
    let entry = phys.read_u64(Gpa(page.raw() + PAGE_SIZE - 8)).unwrap_or(0);
    entry & 0b1000_0001 == 1
}

/// The anchor with its root mapped at `root_va`, wherever in memory it is.
///
/// Cost: a few reads for each 2 MiB of memory.
pub(super) fn anywhere(phys: &Phys, root_va: Gva, modes: &[Mode], ignore: u64) -> Option<Anchor> {
    let within = root_va.raw() % LOAD_ALIGN;
    phys.regions(AddrRange::all()).find_map(|region| {
        let first = region.start.align_down(LOAD_ALIGN).raw() + within;
        (first..=region.range().last().raw())
            .step_by(LOAD_ALIGN as usize)
            .find_map(|root| at(phys, Gpa(root), root_va, modes, ignore))
    })
}

/// The anchor of the image that has `part` at `part` in physical memory, given where its root is:
/// either virtually, or relative to the part.
///
/// `window` is where the part can be mapped.
pub(super) fn of_part(
    phys: &Phys,
    part: Gpa,
    window: AddrRange<Gva>,
    root: Root,
) -> Option<Anchor> {
    let first = window.start().align_down(LOAD_ALIGN).raw() + part.raw() % LOAD_ALIGN;
    ENCRYPTION_BITS.iter().find_map(|&ignore| {
        (first..=window.last().raw())
            .step_by(LOAD_ALIGN as usize)
            .find_map(|part_va| {
                let slide = part_va.wrapping_sub(part.raw());
                let (gpa, va) = match root {
                    Root::Virtual(va) => (Gpa(va.raw().wrapping_sub(slide)), va),
                    Root::Physical(gpa) => (gpa, Gva(gpa.raw().wrapping_add(slide))),
                };
                let anchor = at(phys, gpa, va, &MODES, ignore)?;
                anchor.maps(part).then_some(anchor)
            })
    })
}

/// What is known about the place of a root.
#[derive(Clone, Copy, Debug)]
pub(super) enum Root {
    /// Where it is mapped.
    Virtual(Gva),
    /// Where it is.
    Physical(Gpa),
}

/// The anchor of the image that has `part` in it, when nothing is known about its root: each page
/// around is tried for one.
///
/// The root is told from a process's copy of it, which maps the kernel as well, by two things: it is
/// itself in the image, and its user half is empty.
///
/// Cost: two reads for each page around, some milliseconds; more for each that resembles a root.
pub(super) fn around_part(phys: &Phys, part: Gpa) -> Option<Anchor> {
    let near = AddrRange::inclusive(
        Gpa(part.raw().saturating_sub(IMAGE_REACH)),
        Gpa(part.raw().saturating_add(IMAGE_REACH)),
    )?;
    ENCRYPTION_BITS.iter().find_map(|&ignore| {
        phys.regions(near).find_map(|region| {
            let first = region.start.raw().next_multiple_of(PAGE_SIZE);
            (first..=region.range().last().raw())
                .step_by(PAGE_SIZE as usize)
                .find_map(|root| {
                    MODES.iter().find_map(|&mode| {
                        let part_va = mapped_from(&**phys, Gpa(root), mode, ignore, near, part)?;
                        let slide = part_va.raw().wrapping_sub(part.raw());
                        let root_va = Gva(root.wrapping_add(slide));
                        let anchor = at(phys, Gpa(root), root_va, &[mode], ignore)?;
                        (anchor.maps(part) && user_half_is_empty(&**phys, Gpa(root)))
                            .then_some(anchor)
                    })
                })
        })
    })
}

/// Where tables from `root` on map `part` in the image window, when all tables on the way lie `near`,
/// as those of a kernel's image do.
fn mapped_from(
    phys: &dyn Memory<Addr = Gpa>,
    root: Gpa,
    mode: Mode,
    ignore: u64,
    near: AddrRange<Gpa>,
    part: Gpa,
) -> Option<Gva> {
    const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    const PRESENT: u64 = 1;
    const LARGE: u64 = 1 << 7;
    let entry = |table: Gpa, index: u64| {
        let entry = phys.read_u64(Gpa(table.raw() + 8 * index)).ok()? & !ignore;
        (entry & PRESENT != 0).then_some(entry)
    };
    let below = |table, index| {
        let entry = entry(table, index)?;
        let next = Gpa(entry & ADDRESS);
        (entry & LARGE == 0 && near.contains(next)).then_some(next)
    };
    // The window is the second gigabyte from the top.
    let mut table = below(root, 511)?;
    if mode == Mode::FiveLevel {
        table = below(table, 511)?;
    }
    let window = below(table, 510)?;
    (0..512).find_map(|i| {
        let found = entry(window, i)?;
        let page = match found & LARGE {
            0 => entry(Gpa(found & ADDRESS), part.raw() / PAGE_SIZE % 512)? & ADDRESS,
            _ => {
                (found & ADDRESS & !(LOAD_ALIGN - 1))
                    | (part.raw() % LOAD_ALIGN / PAGE_SIZE * PAGE_SIZE)
            }
        };
        let va = IMAGE_START + i * LOAD_ALIGN + part.raw() % LOAD_ALIGN;
        (page == part.raw() & !(PAGE_SIZE - 1)).then_some(Gva(va))
    })
}

fn user_half_is_empty(phys: &dyn Memory<Addr = Gpa>, root: Gpa) -> bool {
    let mut half = [0xff; 2048];
    phys.read(root, &mut half).is_ok() && half.iter().all(|&b| b == 0)
}
