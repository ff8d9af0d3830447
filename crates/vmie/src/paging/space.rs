//! One address space: the memory that a page-table root describes.

use std::sync::{Arc, OnceLock};

use super::enumerate::{ExtentWalk, RegionWalk};
use super::roots::{Roots, Tops};
use super::software::{Software, SoftwareEntries};
use super::viewed::Viewed;
use super::walk::{Tables, Walker, read_entries};
use crate::addr::{AddrRange, Address, Gpa, Gva, PAGE_SIZE};
use crate::arch::x86::paging::{FIVE_LEVEL, FOUR_LEVEL, PAE, X86};
use crate::arch::{Level, Mode, Spec};
use crate::memory::{Cause, Fault, Memory, Prot, Spans};
use crate::view::View;

/// Calls the same code with the format as a constant, so that its masks and shifts are immediates:
/// the formats are data, but a translation should not pay for it.
macro_rules! by_mode {
    ($mode:expr, $spec:ident => $call:expr) => {
        match $mode {
            Mode::X86 => {
                let $spec = &X86;
                $call
            }
            Mode::Pae => {
                let $spec = &PAE;
                $call
            }
            Mode::FourLevel => {
                let $spec = &FOUR_LEVEL;
                $call
            }
            Mode::FiveLevel => {
                let $spec = &FIVE_LEVEL;
                $call
            }
        }
    };
}
/// Where an address is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Mapping {
    /// The physical address.
    pub gpa: Gpa,
    /// Bytes in the page that maps it.
    pub page_size: u64,
    /// Effective protection. Of a page that the CPU does not see: what the operating system has arranged.
    pub prot: Prot,
    /// Whether the CPU would translate the address. Else its entry is not present, and the page is in memory all
    /// the same: see [`SoftwareEntries`].
    pub valid: bool,
}

/// One table entry on the way from the root to a page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Step {
    /// Level of the table, 1 for the one that holds 4 KiB pages.
    pub level: u8,
    /// Physical address of the entry.
    pub gpa: Gpa,
    /// The entry as it stands in memory.
    pub entry: u64,
}

/// A translation with everything it looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Walk {
    /// The entries read, from the root down.
    pub steps: Vec<Step>,
    /// Where they lead.
    pub result: Result<Mapping, Fault<Gva>>,
}

/// One address space of a guest: physical memory seen through the page tables at a root.
///
/// Cloning is cheap. Page tables are read anew on every call, so that the answer is right for live
/// guests; nothing is cached.
#[derive(Clone)]
pub struct AddressSpace {
    phys: Viewed<Gpa>,
    tops: Tops,
    mode: Mode,
    /// Bits of an entry that count.
    keep: u64,
    /// What entries that are not present mean; `None` as for the CPU.
    software: Option<SoftwareEntries>,
    table_limit: OnceLock<u64>,
}

impl std::fmt::Debug for AddressSpace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AddressSpace")
            .field("roots", &self.roots())
            .field("mode", &self.mode)
            .finish()
    }
}

/// A table on the way down, and what was inherited on the way.
#[derive(Clone, Copy)]
struct Table {
    table: Gpa,
    inherited: Prot,
}

/// The end of a descent that stopped above the lowest tables.
enum Descent {
    Page(Mapping),
    Lowest(Table),
}

impl AddressSpace {
    /// The address space whose top page table is at a root, or that has one for each half ([`Roots`]); PCID and flag bits of a
    /// CR3 value are masked off. Nothing is read yet: a wrong root shows as a space without mappings.
    pub fn new(phys: Arc<dyn Memory<Addr = Gpa>>, roots: impl Into<Roots>, mode: Mode) -> Self {
        let tops = Tops::new(roots.into(), mode.spec().root_mask);
        Self {
            phys: Viewed::new(phys, tops.first()),
            tops,
            mode,
            keep: !0,
            software: None,
            table_limit: OnceLock::new(),
        }
    }

    /// Clears these bits in every entry before looking at it: the memory-encryption bit of AMD SME
    /// and SEV, for one.
    #[must_use]
    pub fn ignoring(mut self, bits: u64) -> Self {
        self.keep = !bits;
        self
    }

    /// The space of another process of the same guest, as the CPU sees it: at its root, with the same mode, and ignoring the
    /// same bits. Where each half has a root, that of the upper one stays.
    #[must_use]
    pub fn with_root(&self, root: Gpa) -> Self {
        let roots = self.roots().with_process(root);
        Self {
            tops: Tops::new(roots, self.mode.spec().root_mask),
            ..self.hardware()
        }
    }

    /// The space with the same roots in other physical memory, as the CPU sees it.
    pub(crate) fn in_memory(&self, phys: Arc<dyn Memory<Addr = Gpa>>) -> Self {
        Self {
            phys: Viewed::new(phys, self.tops.first()),
            table_limit: OnceLock::new(),
            ..self.hardware()
        }
    }

    /// The space with what the operating system keeps behind entries that are not present.
    #[must_use]
    pub fn with_software(mut self, software: SoftwareEntries) -> Self {
        self.software = Some(software);
        self
    }

    /// The space as the CPU sees it.
    #[must_use]
    pub fn hardware(&self) -> Self {
        Self {
            software: None,
            ..self.clone()
        }
    }

    /// What entries that are not present mean in this space; `None` where they mean what they do to the CPU.
    pub fn software(&self) -> Option<&SoftwareEntries> {
        self.software.as_ref()
    }

    /// Bounds every enumeration to reading this many tables. The default is generous: eight times
    /// the number of physical pages, and never below a million.
    #[must_use]
    pub fn with_table_limit(mut self, tables: u64) -> Self {
        self.table_limit = OnceLock::from(tables);
        self
    }

    /// Physical address of the top page table; where each half has one, that of the lower half, if it is known.
    pub fn root(&self) -> Gpa {
        self.tops.first()
    }

    /// Physical addresses of the top page tables.
    pub fn roots(&self) -> Roots {
        self.tops.roots()
    }

    /// Bits of an entry that count.
    pub(super) fn kept_bits(&self) -> u64 {
        self.keep
    }

    /// The paging mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The physical memory below.
    pub fn phys(&self) -> &Arc<dyn Memory<Addr = Gpa>> {
        self.phys.memory()
    }

    /// Regions in ascending order, with a view of what the walk met on the way.
    ///
    /// Cost: each table once; about a nanosecond for an entry.
    pub fn region_walk(&self, range: AddrRange<Gva>) -> RegionWalk<'_> {
        RegionWalk::new(self.walker(self.mode.spec(), range, false))
    }

    /// Extents in ascending order: regions cut where they are not physically contiguous.
    pub fn extents(&self, range: AddrRange<Gva>) -> ExtentWalk<'_> {
        ExtentWalk::new(self.walker(self.mode.spec(), range, true))
    }

    fn walker(
        &self,
        spec: &'static Spec,
        range: AddrRange<Gva>,
        follow_frames: bool,
    ) -> Walker<'_> {
        let limit = *self.table_limit.get_or_init(|| {
            let bytes: u64 = self
                .phys()
                .regions(AddrRange::all())
                .fold(0, |sum, r| r.len.saturating_add(sum));
            (bytes / self.mode.page_size())
                .saturating_mul(8)
                .max(1 << 20)
        });
        let tables = Tables {
            phys: &**self.phys.memory(),
            roots: self.roots(),
            spec,
            keep: self.keep,
            software: self.software.as_ref(),
        };
        Walker::new(tables, range, follow_frames, limit)
    }

    /// Translates one address.
    ///
    /// # Errors
    ///
    /// The fault the CPU would take ([`Cause::is_unmapped`]), where the page is instead
    /// ([`Cause::SwappedOut`]), or why the tables could not be read.
    #[inline]
    pub fn translate(&self, va: Gva) -> Result<Mapping, Fault<Gva>> {
        let phys = self.reader();
        by_mode!(self.mode, spec => self.translate_in(spec, phys, va, &mut |_| ()))
    }

    /// Translates one address and keeps every entry that was looked at.
    pub fn walk(&self, va: Gva) -> Walk {
        let spec = self.mode.spec();
        let mut steps = Vec::with_capacity(spec.levels.len());
        let phys = self.reader();
        let result = self.translate_in(spec, phys, va, &mut |step| steps.push(step));
        Walk { steps, result }
    }

    /// What an enumeration by a format yields that no mode has: regions and extents.
    #[cfg(test)]
    pub(super) fn enumerate_by(
        &self,
        spec: &'static Spec,
        range: AddrRange<Gva>,
    ) -> (RegionWalk<'_>, ExtentWalk<'_>) {
        let regions = RegionWalk::new(self.walker(spec, range, false));
        (regions, ExtentWalk::new(self.walker(spec, range, true)))
    }

    /// [`AddressSpace::translate`] by a format that no mode has.
    #[cfg(test)]
    pub(super) fn translate_by(&self, spec: &Spec, va: Gva) -> Result<Mapping, Fault<Gva>> {
        self.translate_in(spec, self.reader(), va, &mut |_| ())
    }

    /// [`Memory::read`] by a format that no mode has.
    #[cfg(test)]
    pub(super) fn read_by(&self, spec: &Spec, va: Gva, buf: &mut [u8]) -> Result<(), Fault<Gva>> {
        self.read_in(spec, va, buf)
    }

    #[inline]
    fn reader(&self) -> Reader<'_> {
        Reader { phys: &self.phys }
    }

    #[allow(clippy::inline_always)] // so that the format is a constant in each arm of `by_mode`
    #[inline(always)]
    fn translate_in(
        &self,
        spec: &Spec,
        phys: Reader<'_>,
        va: Gva,
        seen: &mut impl FnMut(Step),
    ) -> Result<Mapping, Fault<Gva>> {
        match self.descend(spec, phys, va, seen)? {
            Descent::Page(mapping) => Ok(mapping),
            Descent::Lowest(lowest) => {
                let level = &spec.levels[spec.levels.len() - 1];
                let entry = self.entry(spec, phys, level, lowest.table, va, seen)?;
                self.page(spec, level, lowest, entry, va)
            }
        }
    }

    /// Translates by plain loads alone, for reads that do not ask about rights: `None` as soon as
    /// anything is out of the ordinary, and then [`AddressSpace::translate_in`] has the last word.
    ///
    /// Few instructions matter more here than few cycles; see [`crate::view`](crate::View). Answers
    /// the physical address, the size of the page, and the entry's own address.
    #[allow(clippy::inline_always)] // as above
    #[inline(always)]
    fn translate_viewed(
        &self,
        spec: &Spec,
        view: &View<'_, Gpa>,
        va: Gva,
    ) -> Option<(Gpa, u64, Gpa)> {
        if spec.entry_bytes != 8 || !spec.is_canonical(va.raw()) {
            return None;
        }
        let mut table = self.tops.known(va)?;
        for level in spec.levels {
            let at = entry_address(spec, level, table, va);
            let entry = view.read_u64(at)? & self.keep;
            if !spec.present.holds(entry) {
                return None;
            }
            if level.is_page.holds(entry) {
                if entry & level.page.reserved != 0 {
                    return None;
                }
                let gpa = Gpa(level.page.address(entry) | (va.raw() & (level.span() - 1)));
                return Some((gpa, level.span(), at));
            }
            if entry & level.table.reserved != 0 {
                return None;
            }
            table = Gpa(level.table.address(entry));
        }
        None
    }

    /// Reads within one page by plain loads alone; `false` when that is not possible.
    ///
    /// Who reads a page usually goes on to the next one, whose frame is elsewhere: it is asked for
    /// before the copy begins.
    #[allow(clippy::inline_always)] // as above
    #[inline(always)]
    fn read_page_viewed(&self, spec: &Spec, view: &View<'_, Gpa>, va: Gva, buf: &mut [u8]) -> bool {
        let Some((gpa, page_size, at)) = self.translate_viewed(spec, view, va) else {
            return false;
        };
        if (va.raw() & (page_size - 1)) + buf.len() as u64 > page_size {
            return false;
        }
        let lowest = &spec.levels[spec.levels.len() - 1];
        if buf.len() as u64 == page_size
            && let Some(next) = view.read_u64(Gpa(at.raw().wrapping_add(8)))
        {
            self.reader().prefetch_page(Gpa(lowest.page.address(next)));
        }
        view.read(gpa, buf)
    }

    /// Goes down until a large page, or the lowest table.
    #[allow(clippy::inline_always)] // as above
    #[inline(always)]
    fn descend(
        &self,
        spec: &Spec,
        phys: Reader<'_>,
        va: Gva,
        seen: &mut impl FnMut(Step),
    ) -> Result<Descent, Fault<Gva>> {
        let Some(table) = self.tops.known(va).filter(|_| spec.is_canonical(va.raw())) else {
            return Err(Fault {
                addr: va,
                cause: Cause::NonCanonical,
            });
        };
        let mut at = Table {
            table,
            inherited: Prot::UNLIMITED,
        };
        for level in &spec.levels[..spec.levels.len() - 1] {
            let entry = self.entry(spec, phys, level, at.table, va, seen)?;
            if level.is_page.holds(entry) && spec.present.holds(entry) {
                return self.page(spec, level, at, entry, va).map(Descent::Page);
            }
            if !spec.present.holds(entry) || entry & level.table.reserved != 0 {
                return self.refused(spec, level, at, entry, va).map(Descent::Page);
            }
            at = Table {
                table: Gpa(level.table.address(entry)),
                inherited: at.inherited.intersect(level.table.rights.of(entry)),
            };
        }
        Ok(Descent::Lowest(at))
    }

    /// Reads the entry of `table` that `va` selects.
    #[allow(clippy::inline_always)] // as above
    #[inline(always)]
    fn entry(
        &self,
        spec: &Spec,
        phys: Reader<'_>,
        level: &Level,
        table: Gpa,
        va: Gva,
        seen: &mut impl FnMut(Step),
    ) -> Result<u64, Fault<Gva>> {
        let gpa = entry_address(spec, level, table, va);
        let Some(entry) = phys.entry(gpa, spec.entry_bytes) else {
            let cause = Cause::TableAbsent {
                level: level.number,
                table,
            };
            return Err(Fault { addr: va, cause });
        };
        seen(Step {
            level: level.number,
            gpa,
            entry,
        });
        Ok(entry & self.keep)
    }

    #[allow(clippy::inline_always)] // as above
    #[inline(always)]
    fn read_in(&self, spec: &Spec, addr: Gva, buf: &mut [u8]) -> Result<(), Fault<Gva>> {
        let phys = self.reader();
        if buf.len() as u64 <= spec.page_size()
            && let Some(view) = self.phys.first()
            && self.read_page_viewed(spec, view, addr, buf)
        {
            return Ok(());
        }
        let mut done = 0;
        while done < buf.len() {
            let here = Gva(addr.raw() + done as u64);
            let rest = &mut buf[done..];
            let (mapping, len) = match self.descend(spec, phys, here, &mut |_| ())? {
                Descent::Page(mapping) => {
                    let left = mapping.page_size - (here.raw() & (mapping.page_size - 1));
                    let len = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    (mapping, len)
                }
                Descent::Lowest(lowest) => {
                    let level = &spec.levels[spec.levels.len() - 1];
                    let in_page = here.raw() & (level.span() - 1);
                    if in_page + rest.len() as u64 > level.span() {
                        done += self.read_table(spec, phys, lowest, here, rest)?;
                        continue;
                    }
                    let (table, seen) = (lowest.table, &mut |_| ());
                    let entry = self.entry(spec, phys, level, table, here, seen)?;
                    (self.page(spec, level, lowest, entry, here)?, rest.len())
                }
            };
            phys.copy(mapping.gpa, here, &mut rest[..len])?;
            done += len;
        }
        Ok(())
    }

    /// Copies pages of one lowest table from `va` on, one copy for each run of consecutive frames.
    /// Answers how much of `buf` is done: up to its end or the table's.
    ///
    /// Frames are usually scattered, and a copy begins with cache and TLB misses; so the frame after
    /// the one being copied is already asked for.
    fn read_table(
        &self,
        spec: &Spec,
        phys: Reader<'_>,
        lowest: Table,
        va: Gva,
        buf: &mut [u8],
    ) -> Result<usize, Fault<Gva>> {
        let level = &spec.levels[spec.levels.len() - 1];
        let span = level.span();
        let index = entry_index(level, va);
        let in_page = va.raw() & (span - 1);
        let pages = (in_page + buf.len() as u64).div_ceil(span);
        let count = usize::try_from(pages)
            .unwrap_or(usize::MAX)
            .min(level.entries() - index);
        let mut entries = [0; Spec::MAX_ENTRIES];
        let entries = &mut entries[..count];
        let good = read_entries(
            &**self.phys.memory(),
            spec,
            self.keep,
            lowest.table,
            index,
            entries,
        );

        let mut done = 0;
        let mut i = 0;
        while i < good && done < buf.len() {
            let here = Gva(va.raw() + done as u64);
            let first = entries[i];
            let mapping = self.page(spec, level, lowest, first, here)?;
            i += 1;
            let mut len = span - (here.raw() & (span - 1));
            // Entries that agree in everything the format checks are present and sound alike.
            let key = spec.present.mask | level.page.reserved;
            while i < good
                && mapping.valid
                && done as u64 + len < buf.len() as u64
                && (first ^ entries[i]) & key == 0
                && level.page.address(entries[i]) == mapping.gpa.raw().wrapping_add(len)
            {
                i += 1;
                len += span;
            }
            if let Some(&next) = entries[..good].get(i) {
                phys.prefetch_page(Gpa(level.page.address(next)));
            }
            let len = usize::try_from(len)
                .unwrap_or(usize::MAX)
                .min(buf.len() - done);
            phys.copy(mapping.gpa, here, &mut buf[done..done + len])?;
            done += len;
        }
        if done < buf.len() && good < count {
            let cause = Cause::TableAbsent {
                level: level.number,
                table: lowest.table,
            };
            return Err(Fault {
                addr: Gva(va.raw() + done as u64),
                cause,
            });
        }
        Ok(done)
    }
}

/// Physical memory as a descent reads it: directly where there is a view, else through the trait.
#[derive(Clone, Copy)]
struct Reader<'a> {
    phys: &'a Viewed<Gpa>,
}

impl Reader<'_> {
    #[allow(clippy::inline_always)] // as above
    #[inline(always)]
    fn entry(self, gpa: Gpa, bytes: usize) -> Option<u64> {
        if bytes == 8
            && let Some(view) = self.phys.first()
            && let Some(entry) = view.read_u64(gpa)
        {
            return Some(entry);
        }
        self.entry_elsewhere(gpa, bytes)
    }

    #[inline(never)]
    fn entry_elsewhere(self, gpa: Gpa, bytes: usize) -> Option<u64> {
        if bytes == 8 {
            let viewed = self
                .phys
                .others()
                .iter()
                .find_map(|view| view.read_u64(gpa));
            return viewed.or_else(|| self.phys.memory().read_u64(gpa).ok());
        }
        self.phys.memory().read_u32(gpa).map(u64::from).ok()
    }

    /// Reads physical memory on behalf of the virtual address `va`.
    #[inline]
    fn copy(self, gpa: Gpa, va: Gva, buf: &mut [u8]) -> Result<(), Fault<Gva>> {
        if self.phys.first().is_some_and(|view| view.read(gpa, buf)) {
            return Ok(());
        }
        self.copy_elsewhere(gpa, va, buf)
    }

    #[inline(never)]
    fn copy_elsewhere(self, gpa: Gpa, va: Gva, buf: &mut [u8]) -> Result<(), Fault<Gva>> {
        if self.phys.others().iter().any(|view| view.read(gpa, buf)) {
            return Ok(());
        }
        self.phys.memory().read(gpa, buf).map_err(|fault| {
            let done = fault
                .addr
                .raw()
                .wrapping_sub(gpa.raw())
                .min(buf.len() as u64);
            Fault {
                addr: Gva(va.raw().wrapping_add(done)),
                cause: fault.cause,
            }
        })
    }

    /// Asks for the beginning of a page; the CPU's own prefetchers take over from there.
    #[inline]
    fn prefetch_page(self, gpa: Gpa) {
        if let Some(view) = self.phys.first() {
            for line in 0..PREFETCH_LINES {
                view.prefetch(Gpa(gpa.raw().wrapping_add(line * 64)));
            }
        }
    }
}

/// Lines of the next page to ask for. Chosen by measurement: fewer leave a gap, more gain nothing.
const PREFETCH_LINES: u64 = 4;

impl AddressSpace {
    /// What a page entry says about `va`.
    #[allow(clippy::inline_always)] // as above
    #[inline(always)]
    fn page(
        &self,
        spec: &Spec,
        level: &Level,
        at: Table,
        entry: u64,
        va: Gva,
    ) -> Result<Mapping, Fault<Gva>> {
        if !spec.present.holds(entry) || entry & level.page.reserved != 0 {
            return self.refused(spec, level, at, entry, va);
        }
        Ok(Mapping {
            gpa: Gpa(level.page.address(entry) | (va.raw() & (level.span() - 1))),
            page_size: level.span(),
            prot: level
                .page
                .rights
                .effective(at.inherited.intersect(level.page.rights.of(entry))),
            valid: true,
        })
    }

    /// What an entry that the CPU does not take says about `va`: that it is not mapped, if it is not the operating
    /// system that keeps something there.
    #[cold]
    fn refused(
        &self,
        spec: &Spec,
        level: &Level,
        table: Table,
        entry: u64,
        va: Gva,
    ) -> Result<Mapping, Fault<Gva>> {
        let (number, at) = (level.number, entry_address(spec, level, table.table, va));
        let fault = |cause| Err(Fault { addr: va, cause });
        if spec.present.holds(entry) {
            return fault(Cause::Malformed {
                level: number,
                at,
                entry,
            });
        }
        if let Some(software) = &self.software {
            let start = Gva(va.raw() & !(level.span() - 1));
            match software.meaning(level, self.keep, entry, start, table.inherited) {
                Software::Page { gpa, prot, .. } => {
                    return Ok(Mapping {
                        gpa: Gpa(gpa | (va.raw() & (level.span() - 1))),
                        page_size: level.span(),
                        prot,
                        valid: false,
                    });
                }
                Software::Away { cause, .. } => return fault(cause),
                Software::Nothing(_) => {}
            }
        }
        fault(Cause::NotMapped {
            level: number,
            at,
            entry,
        })
    }
}

#[inline]
fn entry_index(level: &Level, va: Gva) -> usize {
    let mask = level.entries() as u64 - 1;
    ((va.raw() >> level.shift) & mask) as usize
}

#[inline]
fn entry_address(spec: &Spec, level: &Level, table: Gpa, va: Gva) -> Gpa {
    Gpa(table.raw() + (entry_index(level, va) * spec.entry_bytes) as u64)
}

impl Memory for AddressSpace {
    type Addr = Gva;

    fn spans(&self, range: AddrRange<Gva>) -> Spans<'_, Gva> {
        Box::new(self.region_walk(range))
    }

    /// Cost: one descent for each lowest table or large page, and one copy for each run of
    /// consecutive frames.
    fn read(&self, addr: Gva, buf: &mut [u8]) -> Result<(), Fault<Gva>> {
        if !buf.is_empty() && addr.checked_add(buf.len() as u64 - 1).is_none() {
            // Past the top of the space: what does not wrap is read first.
            let fits = usize::try_from((u64::MAX - addr.raw()).saturating_add(1));
            let fits = fits.unwrap_or(buf.len()).min(buf.len());
            self.read(addr, &mut buf[..fits])?;
            return Err(Fault {
                addr: Gva(0),
                cause: Cause::NonCanonical,
            });
        }
        by_mode!(self.mode, spec => self.read_in(spec, addr, buf))
    }

    #[inline]
    fn read_u64(&self, addr: Gva) -> Result<u64, Fault<Gva>> {
        if addr.raw() % PAGE_SIZE <= PAGE_SIZE - 8
            && let Some(view) = self.phys.first()
            && let Some((gpa, _, _)) =
                by_mode!(self.mode, spec => self.translate_viewed(spec, view, addr))
            && let Some(value) = view.read_u64(gpa)
        {
            return Ok(value);
        }
        let mut bytes = [0; 8];
        self.read(addr, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Answers when the range is physically contiguous and the physical memory can be borrowed.
    fn borrow(&self, range: AddrRange<Gva>) -> Option<&[u8]> {
        let start = self.translate(range.start()).ok()?;
        let mut left = start.page_size - (range.start().raw() & (start.page_size - 1));
        while left < range.len() {
            let next = self.translate(range.start().checked_add(left)?).ok()?;
            if start.gpa.checked_add(left)? != next.gpa {
                return None;
            }
            left = left.checked_add(next.page_size)?;
        }
        self.phys().borrow(AddrRange::new(start.gpa, range.len())?)
    }
}
