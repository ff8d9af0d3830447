//! One address space: the memory that a page-table root describes.

use std::sync::{Arc, OnceLock};

use super::spec::{Level, Mode, Spec};
use super::walk::{ExtentWalk, RegionWalk, Walker, read_entries};
use crate::addr::{AddrRange, Address, Gpa, Gva};
use crate::memory::{Cause, Fault, Memory, Prot, Spans};

/// Where an address is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Mapping {
    /// The physical address.
    pub gpa: Gpa,
    /// Bytes in the page that maps it.
    pub page_size: u64,
    /// Effective protection.
    pub prot: Prot,
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
    phys: Arc<dyn Memory<Addr = Gpa>>,
    root: Gpa,
    mode: Mode,
    ignore: u64,
    table_limit: OnceLock<u64>,
}

impl std::fmt::Debug for AddressSpace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AddressSpace")
            .field("root", &self.root)
            .field("mode", &self.mode)
            .finish()
    }
}

/// Where the last table of a descent stands, and what was inherited on the way.
struct LowestTable {
    table: Gpa,
    inherited: Prot,
}

/// The end of a descent that stopped above the lowest tables.
enum Descent {
    Page(Mapping),
    Lowest(LowestTable),
}

impl AddressSpace {
    /// The address space whose top page table is at `root`; PCID and flag bits of a CR3 value are
    /// masked off. Nothing is read yet: a wrong root shows as a space without mappings.
    pub fn new(phys: Arc<dyn Memory<Addr = Gpa>>, root: Gpa, mode: Mode) -> Self {
        let root = Gpa(root.raw() & mode.spec().root_mask);
        Self {
            phys,
            root,
            mode,
            ignore: 0,
            table_limit: OnceLock::new(),
        }
    }

    /// Clears these bits in every entry before looking at it: the memory-encryption bit of AMD SME
    /// and SEV, for one.
    #[must_use]
    pub fn ignoring(mut self, bits: u64) -> Self {
        self.ignore = bits;
        self
    }

    /// Bounds every enumeration to reading this many tables. The default is generous: eight times
    /// the number of physical pages, and never below a million.
    #[must_use]
    pub fn with_table_limit(mut self, tables: u64) -> Self {
        self.table_limit = OnceLock::from(tables);
        self
    }

    /// Physical address of the top page table.
    pub fn root(&self) -> Gpa {
        self.root
    }

    /// The paging mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The physical memory below.
    pub fn phys(&self) -> &Arc<dyn Memory<Addr = Gpa>> {
        &self.phys
    }

    /// Regions in ascending order, with a view of what the walk met on the way.
    ///
    /// Cost: each table once; about a nanosecond for an entry.
    pub fn region_walk(&self, range: AddrRange<Gva>) -> RegionWalk<'_> {
        RegionWalk::new(self.walker(range, false))
    }

    /// Extents in ascending order: regions cut where they are not physically contiguous.
    pub fn extents(&self, range: AddrRange<Gva>) -> ExtentWalk<'_> {
        ExtentWalk::new(self.walker(range, true))
    }

    fn walker(&self, range: AddrRange<Gva>, follow_frames: bool) -> Walker<'_> {
        let limit = *self.table_limit.get_or_init(|| {
            let bytes: u64 = self
                .phys
                .regions(AddrRange::all())
                .fold(0, |sum, r| r.len.saturating_add(sum));
            (bytes / 4096).saturating_mul(8).max(1 << 20)
        });
        let (root, mode, ignore) = (self.root, self.mode, self.ignore);
        Walker::new(&*self.phys, root, mode, ignore, range, follow_frames, limit)
    }

    /// Translates one address.
    ///
    /// # Errors
    ///
    /// The fault the CPU would take ([`Cause::is_unmapped`]), or why the tables could not be read.
    #[inline]
    pub fn translate(&self, va: Gva) -> Result<Mapping, Fault<Gva>> {
        self.translate_seen(va, |_| ())
    }

    /// Translates one address and keeps every entry that was looked at.
    pub fn walk(&self, va: Gva) -> Walk {
        let mut steps = Vec::with_capacity(self.mode.spec().levels.len());
        let result = self.translate_seen(va, |step| steps.push(step));
        Walk { steps, result }
    }

    #[inline]
    fn translate_seen(&self, va: Gva, mut seen: impl FnMut(Step)) -> Result<Mapping, Fault<Gva>> {
        let spec = self.mode.spec();
        match self.descend(spec, va, &mut seen)? {
            Descent::Page(mapping) => Ok(mapping),
            Descent::Lowest(lowest) => {
                let level = &spec.levels[spec.levels.len() - 1];
                let entry = self.entry(spec, level, lowest.table, va, &mut seen)?;
                self.page(spec, level, lowest.table, entry, lowest.inherited, va)
            }
        }
    }

    /// Goes down until a large page, or the lowest table.
    #[inline]
    fn descend(
        &self,
        spec: &Spec,
        va: Gva,
        seen: &mut impl FnMut(Step),
    ) -> Result<Descent, Fault<Gva>> {
        if !spec.is_canonical(va.raw()) {
            return Err(Fault {
                addr: va,
                cause: Cause::NonCanonical,
            });
        }
        let mut table = self.root;
        let mut inherited = Prot::ALL;
        for level in &spec.levels[..spec.levels.len() - 1] {
            let entry = self.entry(spec, level, table, va, seen)?;
            if level.is_page.holds(entry) && spec.present.holds(entry) {
                return self
                    .page(spec, level, table, entry, inherited, va)
                    .map(Descent::Page);
            }
            if !spec.present.holds(entry) || entry & level.table.reserved != 0 {
                return Err(self.refused(spec, level, table, entry, va));
            }
            inherited = inherited.intersect(level.table.rights.of(entry));
            table = Gpa(level.table.address(entry));
        }
        Ok(Descent::Lowest(LowestTable { table, inherited }))
    }

    /// Reads the entry of `table` that `va` selects.
    #[inline]
    fn entry(
        &self,
        spec: &Spec,
        level: &Level,
        table: Gpa,
        va: Gva,
        seen: &mut impl FnMut(Step),
    ) -> Result<u64, Fault<Gva>> {
        let gpa = entry_address(spec, level, table, va);
        let read = if spec.entry_bytes == 8 {
            self.phys.read_u64(gpa)
        } else {
            self.phys.read_u32(gpa).map(u64::from)
        };
        let Ok(entry) = read else {
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
        Ok(entry & !self.ignore)
    }

    /// What a page entry says about `va`.
    #[inline]
    fn page(
        &self,
        spec: &Spec,
        level: &Level,
        table: Gpa,
        entry: u64,
        inherited: Prot,
        va: Gva,
    ) -> Result<Mapping, Fault<Gva>> {
        if !spec.present.holds(entry) || entry & level.page.reserved != 0 {
            return Err(self.refused(spec, level, table, entry, va));
        }
        Ok(Mapping {
            gpa: Gpa(level.page.address(entry) | (va.raw() & (level.span() - 1))),
            page_size: level.span(),
            prot: inherited.intersect(level.page.rights.of(entry)),
        })
    }

    #[cold]
    fn refused(&self, spec: &Spec, level: &Level, table: Gpa, entry: u64, va: Gva) -> Fault<Gva> {
        let (level_number, at) = (level.number, entry_address(spec, level, table, va));
        let cause = if spec.present.holds(entry) {
            Cause::Malformed {
                level: level_number,
                at,
                entry,
            }
        } else {
            Cause::NotMapped {
                level: level_number,
                at,
                entry,
            }
        };
        Fault { addr: va, cause }
    }

    /// Copies pages of one lowest table from `va` on, one read of physical memory for each run of
    /// consecutive frames. Answers how much of `buf` is done: up to its end or the table's.
    fn read_table(
        &self,
        spec: &Spec,
        lowest: &LowestTable,
        va: Gva,
        buf: &mut [u8],
    ) -> Result<usize, Fault<Gva>> {
        let level = &spec.levels[spec.levels.len() - 1];
        let page = level.span();
        let index = entry_index(level, va);
        let in_page = va.raw() & (page - 1);
        let pages = (in_page + buf.len() as u64).div_ceil(page);
        let count = usize::try_from(pages)
            .unwrap_or(usize::MAX)
            .min(level.entries() - index);
        let mut entries = [0; Spec::MAX_ENTRIES];
        let entries = &mut entries[..count];
        let good = read_entries(&*self.phys, spec, self.ignore, lowest.table, index, entries);

        let mut done = 0;
        let mut i = 0;
        while i < good && done < buf.len() {
            let here = Gva(va.raw() + done as u64);
            let mapping = self.page(
                spec,
                level,
                lowest.table,
                entries[i],
                lowest.inherited,
                here,
            )?;
            let first = entries[i];
            i += 1;
            let mut len = page - (here.raw() & (page - 1));
            while i < good
                && done as u64 + len < buf.len() as u64
                && self.continues(spec, level, first, entries[i], mapping.gpa, len)
            {
                i += 1;
                len += page;
            }
            let len = usize::try_from(len)
                .unwrap_or(usize::MAX)
                .min(buf.len() - done);
            self.read_phys(mapping.gpa, here, &mut buf[done..done + len])?;
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

    /// Whether `entry` maps the frame `len` bytes behind `gpa`.
    #[inline]
    fn continues(
        &self,
        spec: &Spec,
        level: &Level,
        first: u64,
        entry: u64,
        gpa: Gpa,
        len: u64,
    ) -> bool {
        let key = spec.present.mask | level.page.reserved;
        (first ^ entry) & key == 0 && level.page.address(entry) == gpa.raw().wrapping_add(len)
    }

    /// Reads physical memory on behalf of the virtual address `va`.
    #[inline]
    fn read_phys(&self, gpa: Gpa, va: Gva, buf: &mut [u8]) -> Result<(), Fault<Gva>> {
        self.phys.read(gpa, buf).map_err(|fault| {
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

    /// Cost: one descent for each lowest table or large page, and one read of physical memory for
    /// each run of consecutive frames.
    fn read(&self, addr: Gva, buf: &mut [u8]) -> Result<(), Fault<Gva>> {
        let spec = self.mode.spec();
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
        let mut done = 0;
        while done < buf.len() {
            let here = Gva(addr.raw() + done as u64);
            let rest = &mut buf[done..];
            done += match self.descend(spec, here, &mut |_| ())? {
                Descent::Page(mapping) => {
                    let left = mapping.page_size - (here.raw() & (mapping.page_size - 1));
                    let len = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    self.read_phys(mapping.gpa, here, &mut rest[..len])?;
                    len
                }
                Descent::Lowest(lowest) => {
                    let level = &spec.levels[spec.levels.len() - 1];
                    let in_page = here.raw() & (level.span() - 1);
                    if in_page + rest.len() as u64 <= level.span() {
                        let entry = self.entry(spec, level, lowest.table, here, &mut |_| ())?;
                        let (table, inherited) = (lowest.table, lowest.inherited);
                        let mapping = self.page(spec, level, table, entry, inherited, here)?;
                        self.read_phys(mapping.gpa, here, rest)?;
                        rest.len()
                    } else {
                        self.read_table(spec, &lowest, here, rest)?
                    }
                }
            };
        }
        Ok(())
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
        self.phys.borrow(AddrRange::new(start.gpa, range.len())?)
    }
}
