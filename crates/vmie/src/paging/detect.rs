//! Which paging mode does a root belong to?
//!
//! A CPU's control registers answer this, when the source has them. Without them the tables
//! themselves are the evidence: under each mode a bounded sample of the tree below the root is read,
//! and its present entries are counted as fitting (they lead to memory that exists) or not (reserved
//! bits set, tables or pages outside of memory).
//!
//! **The deepest mode that fits is taken**, and this order matters. Read with one level too few, a
//! tree still looks flawless: what should be the lowest tables are simply taken for pages. Read with
//! one level too many, the contents of pages are taken for tables, and large pages become entries
//! with reserved bits, which shows at once. So a shallower mode can never be preferred for looking
//! clean.

use super::walk::read_entries;
use crate::addr::{AddrRange, Address, Gpa};
use crate::arch::x86::CpuState;
use crate::arch::{Architecture, Mode, Spec};
use crate::memory::Memory;

/// A paging mode, and what speaks for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Detection {
    /// The mode.
    pub mode: Mode,
    /// What it was chosen by, in words for the user.
    pub why: String,
    /// Whether the evidence is strong. Where this is false the user should be told.
    pub confirmed: bool,
}

/// No paging mode explains what is at the root.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "no page tables found at {root}: {findings}. Is {root} the root of an address space (CR3), and \
     does the image have the right layout? A mode can be forced instead of detected"
)]
pub struct DetectError {
    /// The root that was asked about.
    pub root: Gpa,
    /// What was seen under each mode.
    pub findings: String,
}

/// What a sample of the tree says about one mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Evidence {
    tables: u64,
    pages: u64,
    reserved: u64,
    tables_outside: u64,
    pages_outside: u64,
    /// Lowest tables of which most present entries fit, and others; those without a present entry are neither.
    sound_tables: u64,
    unsound_tables: u64,
}

impl Evidence {
    fn good(self) -> u64 {
        self.tables + self.pages
    }

    fn bad(self) -> u64 {
        self.reserved + self.tables_outside + self.pages_outside
    }

    /// Some pages, and at most a quarter as many entries that do not fit (device memory is mapped,
    /// too). Entries that lead to tables do not count in favour: with one level too many, the true
    /// lowest tables pass for tables of tables, thousands of perfect entries, and would outvote what
    /// is found where they lead.
    ///
    /// Of the lowest tables, more than two thirds must be sound, or all but one. With one level too many, the contents of pages pass
    /// for tables, and a single one that happens to hold entries (page tables are mapped as pages, too) brings hundreds
    /// of entries that fit, and is still one table.
    fn fits(self) -> bool {
        let sound = match self.unsound_tables {
            0 => true,
            1 => self.sound_tables > 0,
            some => self.sound_tables > 2 * some,
        };
        self.pages > 0 && self.bad() * 4 <= self.pages && sound
    }

    fn is_strong(self) -> bool {
        self.pages >= 16 && self.bad() * 20 <= self.pages
    }

    fn describe(self, mode: Mode) -> String {
        format!(
            "{mode}: {} entries fit ({} pages), {} do not ({} with reserved bits, {} tables and {} \
             pages outside memory)",
            self.good(),
            self.pages,
            self.bad(),
            self.reserved,
            self.tables_outside,
            self.pages_outside,
        )
    }
}

/// Tells the paging mode of the tables at `root`.
///
/// `cpus` decide when they know their mode: first a CPU whose CR3 is this root, else any. Otherwise
/// the tables do, as the module documentation explains.
///
/// Cost: reads at most 256 tables for each mode.
///
/// # Errors
///
/// [`DetectError`] when no mode explains what is at `root`.
pub fn detect(
    phys: &dyn Memory<Addr = Gpa>,
    root: Gpa,
    cpus: &[CpuState],
) -> Result<Detection, DetectError> {
    let memory: Vec<AddrRange<Gpa>> = phys
        .regions(AddrRange::all())
        .map(crate::memory::Region::range)
        .collect();

    if let Some((cpu, mode, own)) = mode_of_cpus(root, cpus) {
        let evidence = examine(phys, root, mode, &memory);
        let whose = if own {
            "whose CR3 this is"
        } else {
            "of this guest"
        };
        let mut why = format!("CPU {}, {whose}, is in this mode", cpu.index);
        if !evidence.fits() {
            why += &format!(
                ", but the tables do not look like it ({})",
                evidence.describe(mode)
            );
        }
        return Ok(Detection {
            mode,
            why,
            confirmed: evidence.fits(),
        });
    }

    let deepest_first = Architecture::X86.modes().iter();
    let seen: Vec<(Mode, Evidence)> = deepest_first
        .map(|&mode| (mode, examine(phys, root, mode, &memory)))
        .collect();
    match seen.iter().find(|(_, evidence)| evidence.fits()) {
        Some(&(mode, evidence)) => Ok(Detection {
            mode,
            why: format!(
                "the deepest mode that fits its tables; {}",
                evidence.describe(mode)
            ),
            confirmed: evidence.is_strong(),
        }),
        None => {
            let findings: Vec<String> = seen
                .iter()
                .map(|(mode, evidence)| evidence.describe(*mode))
                .collect();
            Err(DetectError {
                root,
                findings: findings.join("; "),
            })
        }
    }
}

fn mode_of_cpus(root: Gpa, cpus: &[CpuState]) -> Option<(&CpuState, Mode, bool)> {
    let known = cpus
        .iter()
        .filter_map(|cpu| Some((cpu, Mode::from_cpu(cpu)?)));
    let is_own = |cpu: &CpuState, mode: Mode| {
        let mask = mode.spec().root_mask;
        cpu.cr3 & mask == root.raw() & mask
    };
    known
        .clone()
        .find(|&(cpu, mode)| is_own(cpu, mode))
        .map(|(cpu, mode)| (cpu, mode, true))
        .or_else(|| known.map(|(cpu, mode)| (cpu, mode, false)).next())
}

/// Counts what a sample of the tree looks like under `mode`: breadth first, and of each level a
/// bounded number of tables, evenly spread over those found.
fn examine(
    phys: &dyn Memory<Addr = Gpa>,
    root: Gpa,
    mode: Mode,
    memory: &[AddrRange<Gpa>],
) -> Evidence {
    const TABLES_PER_LEVEL: usize = 64;
    let spec = mode.spec();
    let mut evidence = Evidence::default();
    let mut tables = vec![Gpa(root.raw() & spec.root_mask)];
    for level in spec.levels {
        let step = tables.len().div_ceil(TABLES_PER_LEVEL).max(1);
        let mut below = Vec::new();
        for &table in tables.iter().step_by(step) {
            let mut entries = [0; Spec::MAX_ENTRIES];
            let entries = &mut entries[..level.entries()];
            let good = read_entries(phys, spec, !0, table, 0, entries);
            let before = evidence;
            for (index, &entry) in entries[..good].iter().enumerate() {
                if !spec.present.holds(entry) {
                    continue;
                }
                let is_page = level.is_page.holds(entry);
                let target = if is_page { &level.page } else { &level.table };
                let to = Gpa(target.address(entry));
                let inside = holds(memory, to);
                // Devices are mapped by runs of frames; what is no table has none.
                let in_a_run = || {
                    let after = entries[..good].get(index + 1).copied();
                    let before = index.checked_sub(1).map(|index| entries[index]);
                    after == entry.checked_add(level.span())
                        || before.and_then(|last| last.checked_add(level.span())) == Some(entry)
                };
                match (entry & target.reserved == 0, is_page, inside) {
                    (false, _, _) => evidence.reserved += 1,
                    // Where small odd numbers lead, and few real entries.
                    (_, true, _) if level.number == 1 && to.raw() == 0 => {}
                    (_, true, false) if in_a_run() => {}
                    (_, true, true) => evidence.pages += 1,
                    (_, true, false) => evidence.pages_outside += 1,
                    (_, false, false) => evidence.tables_outside += 1,
                    (_, false, true) => {
                        evidence.tables += 1;
                        below.push(to);
                    }
                }
            }
            if level.number == 1 {
                let bad = evidence.bad() - before.bad();
                let good = evidence.pages - before.pages;
                match bad * 4 <= good {
                    _ if bad + good == 0 => {}
                    true => evidence.sound_tables += 1,
                    false => evidence.unsound_tables += 1,
                }
            }
        }
        tables = below;
    }
    evidence
}

fn holds(memory: &[AddrRange<Gpa>], gpa: Gpa) -> bool {
    let next = memory.partition_point(|range| range.last() < gpa);
    memory.get(next).is_some_and(|range| range.contains(gpa))
}
