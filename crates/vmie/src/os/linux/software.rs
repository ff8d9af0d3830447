//! What entries of Linux' page tables mean that the CPU calls not present.
//!
//! The formats are those of `arch/x86/include/asm/pgtable_64.h`, `pgtable.h` and `pgtable-invert.h` since 4.18; before,
//! frames did not stand inverted:
//!
//! ```text
//! 0, but for bits 5 and 6     nothing: never touched, or a page of a file that is not mapped now
//! bit 8 (_PAGE_PROTNONE)      in memory: forbidden to the process by itself (PROT_NONE), or by automatic NUMA
//!                             balancing, which wants to see the next access. Frame in its place, inverted
//! bit 7 in a large page       in memory: being split
//! bits 59..64, 9..59          a swap area, and the inverted place in it; numbers above those of the areas stand
//!                             for pages that are being moved, are broken, or bear a mark
//! ```
//!
//! Which of the two reasons it is that bit 8 stands for, only the area says that a page lies in
//! (`struct vm_area_struct`), so what may be done with the page is asked there.
//!
//! **Pages that are being moved** (migration entries) still lie in the frame whose number is in place of an offset.
//! The number that stands for them in place of an area differs with the kernel's version and configuration. What
//! does not: while there is such an entry, the page is locked, and the kernel itself stops where it is not
//! (`pfn_swap_entry_to_page`). So a number above those of the areas is taken for a frame when that frame's
//! `struct page` says that it is locked, and is not broken.
//!
//! **The kernel's range** has pages that it took out of its map of all memory, to catch whoever touches them
//! (KFENCE, memfd_secret). Such an entry names, inverted or not, the frame that the address stands for; if it
//! does not, it is something else.

use std::sync::{Arc, OnceLock};

use super::Linux;
use super::mm::MmPlan;
use super::swap::Swap;
use super::vma::{Reader, VmaPlan};
use crate::addr::{AddrRange, Address, Gpa, Gva, PAGE_SIZE};
use crate::memory::{Memory, Prot};
use crate::os::object::{Findings, Part, Plan, Planner, Slot, link};
use crate::os::types::{Type, TypeError, Types};
use crate::os::{Guest, Process, SymbolTable};
use crate::paging::{
    AddressSpace, Backing, Bits, Elsewhere, ExtentItem, Form, Frame, Meaning, Mode,
    SoftwareEntries, Test,
};

const PRESENT: u64 = 1;
/// Forbidden to all (`_PAGE_PROTNONE`).
pub(super) const FORBIDDEN: u64 = 1 << 8;
/// A large page (`_PAGE_PSE`).
const LARGE: u64 = 1 << 7;
/// Accessed and dirty, which some processors set in entries that are not present.
const TOUCHED: u64 = 0x60;
/// The frame in an entry.
const FRAME: u64 = 0x000f_ffff_ffff_f000;
/// The highest bit of a frame, which no machine has: set where the frame stands inverted.
const TOP_OF_FRAME: u64 = 1 << 51;

/// Entries that hold nothing.
pub(super) const EMPTY: Test = Test {
    mask: !TOUCHED,
    value: 0,
};

/// Where the place in a swap area stands, and that of the area's number.
const OFFSET: Bits = Bits {
    flip: !0,
    shift: 9,
    mask: (1 << 50) - 1,
};
const AREA: Bits = Bits {
    flip: 0,
    shift: 59,
    mask: 31,
};

/// Frames below this are no program's: what seems to name one is a mark.
const FIRST_FRAME: u64 = 16;

const INVERTED: Frame = Frame {
    flip: FRAME,
    shift: 0,
    mask: FRAME,
};
const PLAIN: Frame = Frame {
    flip: 0,
    ..INVERTED
};

const LOWEST: u8 = 1 << 1;
const LARGER: u8 = 1 << 2 | 1 << 3;

/// Not present, and these bits like this.
const fn absent(mask: u64, value: u64) -> Test {
    Test {
        mask: mask | PRESENT,
        value,
    }
}

/// The forms of entries in the half of a process, which has this many swap areas.
fn forms(areas: u32) -> Vec<Form> {
    let form = |levels, test, meaning| Form {
        levels,
        test,
        meaning,
    };
    let resident = |levels, mask, value| {
        [
            form(
                levels,
                absent(mask | TOP_OF_FRAME, value | TOP_OF_FRAME),
                Meaning::Resident(INVERTED),
            ),
            form(levels, absent(mask, value), Meaning::Resident(PLAIN)),
        ]
    };
    let mut forms = Vec::new();
    forms.extend(resident(LOWEST | LARGER, FORBIDDEN, FORBIDDEN));
    forms.extend(resident(LARGER, LARGE, LARGE));
    // Real areas have the lowest numbers.
    forms.extend((0..areas).map(|area| {
        let number = u64::from(area) << AREA.shift;
        let meaning = Meaning::Swapped {
            area: AREA,
            offset: OFFSET,
        };
        form(LOWEST, absent(AREA.mask << AREA.shift, number), meaning)
    }));
    forms.push(form(LOWEST | LARGER, absent(0, 0), Meaning::Elsewhere));
    forms
}

/// What is known of a guest for all its spaces.
#[derive(Debug)]
pub(super) struct Known {
    kernel: AddressSpace,
    symbols: Arc<SymbolTable>,
    areas: Option<VmaPlan>,
    mm: Option<MmPlan>,
    pages: Option<PagePlan>,
    pub(super) swap: Swap,
    /// The entries, of no space in particular.
    entries: SoftwareEntries,
}

/// What is needed to tell whether a page is being moved.
#[derive(Clone, Copy, Debug)]
pub(super) struct PagePlan {
    plan: Plan,
    flags: Slot,
    /// Of a page of a larger one: where the first one is, plus 1.
    head: Option<Slot>,
    page_size: u64,
    /// Bits of `flags`.
    locked: u64,
    broken: u64,
    /// Where the `struct page` of frame 0 would be.
    vmemmap: u64,
}

impl PagePlan {
    pub(super) fn new(types: &Types, vmemmap: u64) -> Result<Self, TypeError> {
        let mut page = Planner::new(types, "page")?;
        Ok(Self {
            flags: page.need("flags")?,
            head: page.want(&["compound_head"]),
            plan: page.plan(),
            page_size: types.size_of(types.find("struct page")?)?.max(1),
            locked: page_flag(types, "PG_locked")?.ok_or(TypeError::Damaged(0))?,
            // There where the kernel can go on without a page.
            broken: page_flag(types, "PG_hwpoison")?.unwrap_or(0),
            vmemmap,
        })
    }

    fn page(self, kernel: &dyn Memory<Addr = Gva>, number: u64) -> Option<Part> {
        let at = number
            .checked_mul(self.page_size)?
            .checked_add(self.vmemmap)?;
        self.plan.follow(kernel, at).ok()
    }

    /// Whether the page in a frame is being moved, going by its record.
    pub(super) fn is_moving(self, kernel: &dyn Memory<Addr = Gva>, number: u64) -> bool {
        let Some(page) = self.page(kernel, number) else {
            return false;
        };
        let is = |page: &Part, bits| page.number(self.flags) & bits != 0;
        if is(&page, self.broken) {
            return false;
        }
        // A page within a larger one is locked with that.
        let head = self.head.map(|slot| page.number(slot));
        let head = head.filter(|head| head & 1 != 0).map(|head| head - 1);
        match head.and_then(|head| self.plan.follow(kernel, head).ok()) {
            Some(head) => is(&head, self.locked),
            None => is(&page, self.locked),
        }
    }
}

/// A flag of pages by its name; `None` when the kernel has no such flag.
pub(super) fn page_flag(types: &Types, name: &str) -> Result<Option<u64>, TypeError> {
    let id = types.find("enum pageflags")?;
    let Type::Enum { values, .. } = types.get(id)? else {
        return Err(TypeError::Damaged(id.0));
    };
    let bit = values.iter().find(|(known, _)| *known == name);
    let bit = bit.and_then(|(_, bit)| u32::try_from(*bit).ok());
    Ok(bit.and_then(|bit| 1_u64.checked_shl(bit)))
}

impl Linux {
    /// What is known for all spaces, looked up once.
    pub(super) fn known(&self) -> &Arc<Known> {
        self.known.get_or_init(|| Arc::new(Known::new(self)))
    }

    /// A space of a process, with the pages that the CPU does not see.
    pub(super) fn with_resident(&self, space: AddressSpace, process: &Process) -> AddressSpace {
        // Two-level tables and PAE are of kernels that are not read.
        if !matches!(space.mode(), Mode::FourLevel | Mode::FiveLevel) {
            return space;
        }
        let known = self.known();
        let backing = OfProcess {
            known: Arc::clone(known),
            mm: process.linux().and_then(|linux| linux.mm),
            areas: OnceLock::new(),
            high: space.mode() == Mode::FiveLevel,
        };
        space.with_software(known.entries.with_backing(Arc::new(backing)))
    }
}

impl Known {
    fn new(guest: &Linux) -> Self {
        let types = guest.types().ok();
        let symbols = Arc::clone(&guest.symbols);
        let kernel = guest.space.clone();
        let base = symbols
            .address_of("vmemmap_base")
            .and_then(|at| kernel.read_u64(at).ok());
        let pages = types
            .as_ref()
            .zip(base)
            .and_then(|(types, base)| PagePlan::new(types, base).ok());
        let swap = Swap::new(types.as_deref(), &symbols, &kernel);
        let entries = SoftwareEntries::new(EMPTY, &forms(swap.areas()), Arc::new(Unknown));
        Self {
            areas: guest.vma_plan().ok(),
            mm: guest.tables().and_then(|tables| tables.mm()).ok(),
            kernel,
            symbols,
            pages,
            swap,
            entries,
        }
    }

    /// The areas of a process's memory by ascending address, and what may be done there.
    fn areas_of(&self, mm: Gva) -> Option<Vec<(AddrRange<Gva>, Prot)>> {
        let plan = self.areas.as_ref()?;
        let mm = self.mm?.read(&self.kernel, mm.raw()).ok()?;
        // Who lists the areas reports what is wrong with them.
        let mut findings = Findings::default();
        let mut reader = Reader::new(plan, &self.kernel, &self.symbols, &mm, &mut findings);
        let areas = reader.areas().ok()?;
        Some(areas.iter().map(|area| (area.range, area.prot())).collect())
    }
}

/// Nothing is known.
struct Unknown;

impl Backing for Unknown {
    fn prot(&self, _va: Gva) -> (Prot, Gva) {
        (Prot::NONE, Gva(u64::MAX))
    }
}

/// What is known of a process's space.
struct OfProcess {
    known: Arc<Known>,
    mm: Option<Gva>,
    /// Read when first asked for: most reads never meet a page that the CPU does not see.
    areas: OnceLock<Vec<(AddrRange<Gva>, Prot)>>,
    /// Whether physical addresses have 52 bits, else 46.
    high: bool,
}

impl Backing for OfProcess {
    fn prot(&self, va: Gva) -> (Prot, Gva) {
        let read = || self.mm.and_then(|mm| self.known.areas_of(mm));
        let areas = self.areas.get_or_init(|| read().unwrap_or_default());
        let behind = areas.partition_point(|(range, _)| range.last() < va);
        match areas.get(behind) {
            Some((range, prot)) if range.contains(va) => {
                // What nobody may touch, user mode may not touch either.
                let user = match *prot {
                    Prot::NONE => Prot::NONE,
                    prot => prot.union(Prot::USER),
                };
                (user, range.last())
            }
            Some((range, _)) => (Prot::NONE, Gva(range.start().raw() - 1)),
            None => (Prot::NONE, Gva(u64::MAX)),
        }
    }

    fn is_compressed(&self, area: u32, offset: u64) -> bool {
        self.known
            .swap
            .is_compressed(&self.known.kernel, area, offset)
    }

    fn elsewhere(&self, va: Gva, entry: u64) -> (Elsewhere, Gva) {
        let frame = moved(entry, self.high);
        let is_it = frame >= FIRST_FRAME * PAGE_SIZE
            && self
                .known
                .pages
                .is_some_and(|pages| pages.is_moving(&self.known.kernel, frame / PAGE_SIZE));
        match is_it {
            true => (Elsewhere::Resident(Gpa(frame)), va),
            false => (Elsewhere::Nothing, va),
        }
    }
}

/// The frame that an entry of a page which is being moved names. `high`: of 52 bits, else 46. Above them stand
/// further notes.
fn moved(entry: u64, high: bool) -> u64 {
    let bits = if high { 52 } else { 46 };
    (OFFSET.of(entry) << 12) & ((1 << bits) - 1)
}

/// How many bytes within `range` look as if they were in memory though the CPU faults on them: entries with the bit that
/// Linux marks such pages with, and the frame of which, as it stands there, is in physical memory.
///
/// For spaces of which only the root is known. What is really behind such entries, the operating system says:
/// [`Guest::space_of`].
///
/// Cost: a walk over the page tables.
pub fn looks_resident(space: &AddressSpace, range: AddrRange<Gva>) -> u64 {
    if !matches!(space.mode(), Mode::FourLevel | Mode::FiveLevel) {
        return 0;
    }
    let form = Form {
        levels: LOWEST | LARGER,
        test: absent(FORBIDDEN | TOP_OF_FRAME, FORBIDDEN | TOP_OF_FRAME),
        meaning: Meaning::Resident(INVERTED),
    };
    let entries = SoftwareEntries::new(EMPTY, &[form], Arc::new(Unknown));
    let space = space.hardware().with_software(entries);
    // What the CPU maps may be read at least; what it does not, nobody knows the protection of.
    if space.regions(range).all(|region| region.prot != Prot::NONE) {
        return 0;
    }
    let looks = |item| match item {
        ExtentItem::Extent(extent) if extent.prot == Prot::NONE => {
            let held = space.phys().read(extent.gpa, &mut [0]).is_ok();
            if held { extent.len } else { 0 }
        }
        _ => 0,
    };
    space.extents(range).map(looks).fold(0, u64::saturating_add)
}

/// The kernel's space, with the pages that it took out of its map of all memory, which begins at `map`.
pub(super) fn of_kernel(space: AddressSpace, map: Option<Gva>) -> AddressSpace {
    let Some(map) = map.filter(|map| link(map.raw()).is_ok()) else {
        return space;
    };
    let form = Form {
        levels: LOWEST | LARGER,
        test: absent(0, 0),
        meaning: Meaning::Elsewhere,
    };
    let backing = OfKernel { map };
    space.with_software(SoftwareEntries::new(EMPTY, &[form], Arc::new(backing)))
}

/// What is known of the kernel's space.
struct OfKernel {
    /// Where its map of all memory begins.
    map: Gva,
}

impl Backing for OfKernel {
    fn prot(&self, _va: Gva) -> (Prot, Gva) {
        (Prot::R.union(Prot::W), Gva(u64::MAX))
    }

    fn elsewhere(&self, va: Gva, entry: u64) -> (Elsewhere, Gva) {
        let Some(gpa) = va.raw().checked_sub(self.map.raw()) else {
            return (Elsewhere::Nothing, va);
        };
        // A large page is aligned to its size, and below that the entry has other bits.
        let low = match entry & LARGE {
            0 => PAGE_SIZE - 1,
            _ => (1 << gpa.trailing_zeros().clamp(12, 30)) - 1,
        };
        let differs = |frame: u64| (frame ^ gpa) & FRAME & !low;
        match differs(entry) == 0 || differs(!entry) == 0 {
            true => (Elsewhere::Resident(Gpa(gpa)), va),
            false => (Elsewhere::Nothing, va),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_told_apart() {
        let of = |level: u8, entry: u64| {
            let level_bit = 1 << level;
            let found = forms(2).into_iter().find(|form| {
                form.levels & level_bit != 0 && !EMPTY.holds(entry) && form.test.holds(entry)
            });
            found.map(|form| form.meaning)
        };
        assert_eq!(of(1, 0), None);
        assert_eq!(of(1, TOUCHED), None);
        // `mprotect(PROT_NONE)` of the page in frame 0x12345, as kernels have it that know of L1TF, and others.
        let inverted = (!0x1234_5000_u64 & FRAME) | FORBIDDEN | TOUCHED;
        let plain = 0x1234_5000 | FORBIDDEN | TOUCHED;
        for entry in [inverted, plain] {
            let Some(Meaning::Resident(frame)) = of(1, entry) else {
                panic!("{entry:#x} is resident");
            };
            assert_eq!(frame.of(entry), 0x1234_5000);
        }
        // The same of 2 MiB, and one that is being split.
        for flags in [FORBIDDEN | LARGE, LARGE] {
            let entry = (!0x4020_0000_u64 & FRAME & !0x1f_f000) | flags;
            let Some(Meaning::Resident(frame)) = of(2, entry) else {
                panic!("{entry:#x} is resident");
            };
            assert_eq!(frame.of(entry) & !0x1f_ffff, 0x4020_0000);
        }
        // `__swp_entry(1, 0x200)`, with and without flags.
        let swapped = 1 << 59 | !0x200_u64 << 14 >> 5;
        for entry in [swapped, swapped | 0xe] {
            let Some(Meaning::Swapped { area, offset }) = of(1, entry) else {
                panic!("{entry:#x} is swapped");
            };
            assert_eq!((area.of(entry), offset.of(entry)), (1, 0x200));
        }
        // A number above those of the areas.
        let moving = 26 << 59 | !0x12345_u64 << 14 >> 5;
        assert_eq!(of(1, moving), Some(Meaning::Elsewhere));
        assert_eq!(moved(moving, false), 0x1234_5000);
        // Accessed and dirty stand above the frame.
        let young = 26 << 59 | !(0x12345_u64 | 1 << 34) << 14 >> 5;
        assert_eq!(moved(young, false), 0x1234_5000);
        let young = 26 << 59 | !(0x12345_u64 | 1 << 40) << 14 >> 5;
        assert_eq!(moved(young, true), 0x1234_5000);
    }

    #[test]
    fn the_map_of_all_memory_says_which_frame_it_is() {
        let map = 0xffff_8880_0000_0000;
        let backing = OfKernel { map: Gva(map) };
        let at = |gpa: u64, entry: u64| backing.elsewhere(Gva(map + gpa), entry).0;
        let here = Elsewhere::Resident(Gpa(0x1234_5000));
        assert_eq!(at(0x1234_5000, 0x8000_0000_1234_5062), here);
        assert_eq!(at(0x1234_5000, (!0x1234_5000 & FRAME) | 0x62), here);
        assert_eq!(at(0x1234_5000, !0x8000_0000_1234_5063), here);
        assert_eq!(at(0x1234_5000, 0x1234_6062), Elsewhere::Nothing);
        let large = Elsewhere::Resident(Gpa(0x4020_0000));
        assert_eq!(at(0x4020_0000, 0x4020_00e2), large);
    }
}
