//! The memory of a process with those pages of its files that it has not touched yet.
//!
//! Page tables map a page of a file when the process first touches it, so a program that was started by
//! `fork` has hardly any page of its libraries mapped, although all of them are in memory. What it would
//! find there is known: the page in the kernel's cache of the file, for as long as the entry in the page
//! table is empty. Of the vdso, it is the kernel's own copy.
//!
//! Symbols of images are read from here. Everything that is said about the process's memory itself
//! (regions, scans, coverage) is not: what is not mapped is not mapped.
//!
//! ```text
//! vm_file -> f_mapping -> i_pages[page of the file] -> struct folio -> frame
//! ```
//!
//! A folio is believed when it says that it belongs to this mapping, begins at or before this page, and
//! has been read completely.

use super::Linux;
use super::images::VDSO;
use super::mm::Mm;
use super::software::{EMPTY, page_flag};
use super::vma::VmaPlan;
use crate::addr::{AddrRange, Address, Gpa, Gva, PAGE_SIZE};
use crate::memory::{Cause, Fault, Memory, Spans};
use crate::os::object::{BadLink, Plan, Planner, Slot, XarrayPlan, link};
use crate::os::types::{TypeError, Types};
use crate::os::{OsError, Process, Vma};
use crate::paging::AddressSpace;

/// `vm_flags`: pages are large and counted otherwise (`VM_HUGETLB`).
const VM_HUGETLB: u64 = 0x0040_0000;

/// The largest number of pages in a folio: 1 GiB.
const MAX_FOLIO: u64 = 1 << 18;

/// Members of what leads from a file to its pages in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct CachePlan {
    file: Plan,
    f_mapping: Slot,
    mapping: Plan,
    /// The top entry of `i_pages`.
    pages: Slot,
    nodes: XarrayPlan,
    folio: Plan,
    flags: Slot,
    folio_mapping: Slot,
    folio_index: Slot,
    /// Bit of `flags`: read completely (`PG_uptodate`).
    uptodate: u64,
    page_size: u64,
    vdso: Option<VdsoPlan>,
}

#[derive(Clone, Copy, Debug)]
struct VdsoPlan {
    plan: Plan,
    data: Slot,
    size: Slot,
}

impl CachePlan {
    pub(super) fn new(types: &Types) -> Result<Self, TypeError> {
        let mut file = Planner::new(types, "file")?;
        let mut mapping = Planner::new(types, "address_space")?;
        // Before 5.16 there was no name for a page that stands for all pages of its folio.
        let mut folio = Planner::new(types, "folio").or_else(|_| Planner::new(types, "page"))?;
        let pages = match mapping.want(&["i_pages.xa_head", "i_pages.rnode"]) {
            Some(pages) => pages,
            None => mapping.need("page_tree.rnode")?,
        };
        let vdso = Planner::new(types, "vdso_image").and_then(|mut image| {
            Ok(VdsoPlan {
                data: image.need("data")?,
                size: image.need("size")?,
                plan: image.plan(),
            })
        });
        Ok(Self {
            f_mapping: file.need("f_mapping")?,
            file: file.plan(),
            pages,
            mapping: mapping.plan(),
            nodes: XarrayPlan::new(types)?,
            flags: folio.need("flags")?,
            folio_mapping: folio.need("mapping")?,
            folio_index: folio.need("index")?,
            folio: folio.plan(),
            uptodate: page_flag(types, "PG_uptodate")?.ok_or(TypeError::Damaged(0))?,
            page_size: types.size_of(types.find("struct page")?)?.max(1),
            vdso: vdso.ok(),
        })
    }
}

/// The page cache: pages of files that are in memory.
#[derive(Clone, Copy)]
pub(super) struct Pages<'b> {
    kernel: &'b AddressSpace,
    plan: CachePlan,
    /// Where the `struct page` of frame 0 would be.
    vmemmap: u64,
}

impl<'b> Pages<'b> {
    /// That of a kernel; `None` where it is not known how to find its pages.
    pub(super) fn of(linux: &'b Linux) -> Option<Self> {
        let base = linux.symbols.address_of("vmemmap_base")?;
        Some(Self {
            kernel: &linux.space,
            plan: linux.cache_plan().ok()?,
            vmemmap: linux.space.read_u64(base).ok()?,
        })
    }

    /// The frame that holds the page at `offset` of a file, whose `struct file` is at `file`, if the kernel
    /// has it in memory.
    pub(super) fn frame(&self, file: u64, offset: u64) -> Result<Option<Gpa>, BadLink> {
        let plan = &self.plan;
        let index = offset / PAGE_SIZE;
        let file = plan.file.follow(self.kernel, file)?;
        let mapping = plan
            .mapping
            .follow(self.kernel, file.number(plan.f_mapping))?;
        let top = mapping.number(plan.pages);
        let Ok(page) = link(plan.nodes.get(self.kernel, top, index)?) else {
            // Not in memory: null, or a note about where it went.
            return Ok(None);
        };
        let folio = plan.folio.follow(self.kernel, page.raw())?;
        let within = index.wrapping_sub(folio.number(plan.folio_index));
        let is_it = folio.number(plan.folio_mapping) == mapping.at.raw()
            && within < MAX_FOLIO
            && folio.number(plan.flags) & plan.uptodate != 0;
        let number = page.raw().wrapping_sub(self.vmemmap);
        if !is_it || !number.is_multiple_of(plan.page_size) {
            return Ok(None);
        }
        let frame = (number / plan.page_size).wrapping_add(within);
        Ok(frame.checked_mul(PAGE_SIZE).map(Gpa))
    }
}

impl Linux {
    /// The memory of a process whose mappings are `vmas`, with what is not mapped but known.
    pub(super) fn backed<'b>(
        &'b self,
        process: &Process,
        vmas: &'b [Vma],
    ) -> Result<Backed<'b>, OsError> {
        Ok(Backed {
            kernel: &self.space,
            space: self.user_space(process)?,
            vmas,
            plan: self.cache_plan().ok(),
            vma_plan: self.vma_plan()?,
            // Without it, pages of files are as absent as their page tables say.
            pages: Pages::of(self),
            mm: self.mm_of(process)?,
        })
    }
}

/// See the module documentation.
pub(super) struct Backed<'b> {
    kernel: &'b AddressSpace,
    space: AddressSpace,
    /// By ascending address.
    vmas: &'b [Vma],
    plan: Option<CachePlan>,
    vma_plan: VmaPlan,
    pages: Option<Pages<'b>>,
    mm: Mm,
}

impl Backed<'_> {
    /// Reads within one page of the file that `vma` maps a part of, or of the vdso. Whether it is there.
    pub(super) fn read_file(&self, vma: &Vma, offset: u64, buf: &mut [u8]) -> bool {
        let Some(plan) = self.plan else {
            return false;
        };
        if vma.file.is_none() {
            let at = self.vdso(&plan, vma, offset, buf.len() as u64);
            return at.is_some_and(|at| self.kernel.read(at, buf).is_ok());
        }
        let frame = self.cached(vma, offset).ok().flatten();
        let at = frame.and_then(|frame| frame.checked_add(offset % PAGE_SIZE));
        at.is_some_and(|at| self.space.phys().read(at, buf).is_ok())
    }

    /// Whether an area is of a file, or of what stands for one.
    pub(super) fn has_file(&self, vma: &Vma) -> bool {
        vma.file.is_some() || vma.name.as_deref() == Some(VDSO)
    }

    /// The frame with the page that an area has at `va`, if it is in memory.
    pub(super) fn frame(&self, vma: &Vma, va: Gva) -> Option<Gpa> {
        let within = va.raw().checked_sub(vma.range.start().raw())?;
        match &vma.file {
            Some(file) => {
                let offset = within.checked_add(file.offset)?;
                self.cached(vma, offset).ok().flatten()
            }
            None => {
                let at = self.vdso(&self.plan?, vma, within, 1)?;
                Some(self.kernel.translate(at).ok()?.gpa.align_down(PAGE_SIZE))
            }
        }
    }

    /// Reads within one page that the process has not mapped.
    fn fill(&self, va: Gva, buf: &mut [u8]) -> Option<()> {
        let behind = self.vmas.partition_point(|vma| vma.range.last() < va);
        let vma = self.vmas.get(behind).filter(|vma| vma.range.contains(va))?;
        let offset = va.raw() - vma.range.start().raw();
        let from = vma.file.as_ref().map_or(0, |file| file.offset);
        let offset = offset.checked_add(from)?;
        self.read_file(vma, offset, buf).then_some(())
    }

    /// Where the kernel has its copy of the vdso.
    fn vdso(&self, plan: &CachePlan, vma: &Vma, offset: u64, len: u64) -> Option<Gva> {
        if vma.name.as_deref() != Some(VDSO) {
            return None;
        }
        let vdso = plan.vdso?;
        let image = vdso.plan.follow(self.kernel, self.mm.vdso_image()?).ok()?;
        let range = AddrRange::new(Gva(image.number(vdso.data)), image.number(vdso.size))?;
        let part = AddrRange::new(range.start().checked_add(offset)?, len)?;
        range.covers(part).then_some(part.start())
    }

    /// The frame that holds the page at `offset` of the file that `vma` maps a part of, if the kernel has
    /// it in memory.
    fn cached(&self, vma: &Vma, offset: u64) -> Result<Option<Gpa>, BadLink> {
        let Some(pages) = self.pages else {
            return Ok(None);
        };
        let area = self.vma_plan.raw(self.kernel, vma.object)?;
        if area.flags & VM_HUGETLB != 0 {
            return Ok(None);
        }
        pages.frame(area.file, offset)
    }

    /// Reads within one page.
    fn read_page(&self, va: Gva, buf: &mut [u8]) -> Result<(), Fault<Gva>> {
        let fault = match self.space.read(va, buf) {
            Ok(()) => return Ok(()),
            Err(fault) => fault,
        };
        let untouched = matches!(fault.cause, Cause::NotMapped { entry, .. } if EMPTY.holds(entry));
        match untouched {
            true => self.fill(va, buf).ok_or(fault),
            false => Err(fault),
        }
    }
}

impl Memory for Backed<'_> {
    type Addr = Gva;

    /// What is mapped. More than this can be read.
    fn spans(&self, range: AddrRange<Gva>) -> Spans<'_, Gva> {
        self.space.spans(range)
    }

    fn read(&self, addr: Gva, buf: &mut [u8]) -> Result<(), Fault<Gva>> {
        if self.space.read(addr, buf).is_ok() {
            return Ok(());
        }
        let mut done = 0;
        while done < buf.len() {
            let here = Gva(addr.raw().wrapping_add(done as u64));
            let left = (PAGE_SIZE - here.raw() % PAGE_SIZE) as usize;
            let len = left.min(buf.len() - done);
            self.read_page(here, &mut buf[done..done + len])?;
            done += len;
        }
        Ok(())
    }

    fn borrow(&self, range: AddrRange<Gva>) -> Option<&[u8]> {
        self.space.borrow(range)
    }
}
