//! Finding the kernel.
//!
//! Two ways lead to it, and both end with the same checks:
//!
//! * **By note.** A VMCOREINFO note says where the kernel's page tables are. Looking for it takes a
//!   glance at the start of every page, and the search ends with the first note that verifies.
//! * **By shape.** Without a note that verifies, all of memory is searched for a kallsyms token table,
//!   from which the other tables follow, and from these the name and place of the page tables.
//!
//! What is found is believed when it explains itself:
//!
//! 1. *root*: walked from the root, the virtual address of the top page table leads to that very table.
//!    No wrong offset between virtual and physical addresses and no wrong number of levels does that,
//!    so where the offset (`phys_base`) is not told, all possible ones are simply tried: the kernel is
//!    loaded at a multiple of 2 MiB.
//! 2. *kallsyms*: its tables agree with each other, and are mapped where they were found. Memory has
//!    copies of kernels that do not run: unpacked ones in the page cache, those of nested guests.
//! 3. *banner*: the symbol `linux_banner` leads to the text `Linux version`, with the release that the
//!    note gave.
//! 4. *cpus*: no CPU of the guest maps the kernel elsewhere. (A CPU in user mode may not map it at all.)
//!
//! Rejected: starting from the first `Linux version` text, or the first BTF magic, in memory. There are
//! several of each in every image, and most are stale.

use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use super::Linux;
use super::kallsyms::{self, DIGITS, IMAGE_LAST, IMAGE_START, Kallsyms, Places};
use super::vmcoreinfo::{self, VmCoreInfo};
use crate::addr::{AddrRange, Address, Gpa, Gva};
use crate::cpu::CpuState;
use crate::memory::{Memory, read_around_holes};
use crate::os::{Phys, Step, SymbolTable};
use crate::paging::{AddressSpace, Mode};

/// Kernels are loaded at multiples of this.
const LOAD_ALIGN: u64 = 2 << 20;

const PAGE: u64 = 4096;

/// How many notes, and how many token tables, are looked into before giving up.
const MAX_CANDIDATES: usize = 64;

/// Bytes that are searched at a time where memory has to be copied.
const CHUNK: usize = 1 << 20;

/// Names of the top page table, by kernel version.
const ROOT_SYMBOLS: [&str; 3] = ["init_top_pgt", "init_level4_pgt", "swapper_pg_dir"];

/// The record of a search.
#[derive(Debug, Default)]
struct Log(Vec<Step>);

impl Log {
    fn say(&mut self, name: &'static str, seen: impl Into<String>) {
        // A hostile guest can offer many wrong candidates; nobody reads more than this.
        if self.0.len() < MAX_CANDIDATES {
            let seen = seen.into();
            self.0.push(Step { name, seen });
        }
    }
}

/// A root that maps itself, with the offset between the addresses of the kernel's image.
#[derive(Clone, Debug)]
struct Anchor {
    space: AddressSpace,
    /// Physical address of what is mapped at [`IMAGE_START`], were it mapped; wraps below zero.
    phys_base: u64,
}

/// Looks for a Linux kernel.
pub(super) fn find(phys: &Phys, cpus: &[CpuState]) -> Result<Linux, Vec<Step>> {
    let mut log = Log::default();
    let search = Search { phys, cpus };
    match search
        .by_note(&mut log)
        .or_else(|| search.by_shape(&mut log))
    {
        Some((anchor, symbols, version)) => Ok(Linux {
            space: anchor.space,
            symbols: Arc::new(symbols),
            version,
            steps: log.0,
            types: OnceLock::new(),
            tables: OnceLock::new(),
        }),
        None => Err(log.0),
    }
}

struct Search<'s> {
    phys: &'s Phys,
    cpus: &'s [CpuState],
}

type Kernel = (Anchor, SymbolTable, String);

impl Search<'_> {
    fn by_note(&self, log: &mut Log) -> Option<Kernel> {
        let mut kernel = None;
        let mut notes = 0;
        let pages = each_note(&**self.phys, |gpa| {
            let Some(note) = VmCoreInfo::read(&**self.phys, gpa) else {
                return ControlFlow::Continue(());
            };
            notes += 1;
            log.say("VMCOREINFO", format!("at {gpa}, of {}", note.release()));
            kernel = self.kernel_of_note(&note, log);
            if kernel.is_some() || notes == MAX_CANDIDATES {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        if notes == 0 {
            log.say(
                "VMCOREINFO",
                format!("no note at the start of any of {pages} pages"),
            );
        }
        kernel
    }

    fn kernel_of_note(&self, note: &VmCoreInfo, log: &mut Log) -> Option<Kernel> {
        let Some(root_va) = note.symbol("swapper_pg_dir") else {
            log.say("root", "the note does not say where swapper_pg_dir is");
            return None;
        };
        let modes: &[Mode] = match note.number("pgtable_l5_enabled") {
            Some(0) => &[Mode::FourLevel],
            Some(_) => &[Mode::FiveLevel],
            None => &[Mode::FourLevel, Mode::FiveLevel],
        };
        let ignore = note.number("sme_mask").map_or(0, i64::cast_unsigned);
        let anchor = match note.number("phys_base") {
            Some(phys_base) => self.self_mapped(root_va, phys_base.cast_unsigned(), modes, ignore),
            None => self.any_phys_base(root_va, modes, ignore),
        };
        let Some(anchor) = anchor else {
            let told = note.value("NUMBER(phys_base)").unwrap_or("unknown");
            log.say(
                "root",
                format!(
                    "page tables at {root_va} do not map themselves (phys_base {told}, {} paging)",
                    modes
                        .iter()
                        .map(Mode::to_string)
                        .collect::<Vec<_>>()
                        .join(" or "),
                ),
            );
            return None;
        };
        self.say_anchor(&anchor, root_va, log);
        self.not_contradicted(&anchor, root_va, log)?;

        let symbols = self.symbols_of(&anchor, note, log)?;
        let version = banner(&anchor.space, &symbols, Some(note.release()), log)?;
        Some((anchor, symbols, version))
    }

    fn say_anchor(&self, anchor: &Anchor, root_va: Gva, log: &mut Log) {
        log.say(
            "root",
            format!(
                "{} ({} paging) maps itself at {root_va}; phys_base {:#x}",
                anchor.space.root(),
                anchor.space.mode(),
                anchor.phys_base.cast_signed(),
            ),
        );
    }

    /// The space whose top page table is at `root_va`, if it maps itself.
    fn self_mapped(
        &self,
        root_va: Gva,
        phys_base: u64,
        modes: &[Mode],
        ignore: u64,
    ) -> Option<Anchor> {
        let root = Gpa(root_va
            .raw()
            .wrapping_sub(IMAGE_START)
            .wrapping_add(phys_base));
        if !root.raw().is_multiple_of(PAGE) {
            return None;
        }
        modes.iter().find_map(|&mode| {
            let space = AddressSpace::new(Arc::clone(self.phys), root, mode).ignoring(ignore);
            let mapped = space.translate(root_va).ok()?;
            (mapped.gpa == root && space.root() == root).then_some(Anchor { space, phys_base })
        })
    }

    /// As [`Search::self_mapped`], with every offset that puts the root into memory.
    fn any_phys_base(&self, root_va: Gva, modes: &[Mode], ignore: u64) -> Option<Anchor> {
        let within = root_va.raw() % LOAD_ALIGN;
        self.phys.regions(AddrRange::all()).find_map(|region| {
            let first = region.start.align_down(LOAD_ALIGN).raw() + within;
            (first..=region.range().last().raw())
                .step_by(LOAD_ALIGN as usize)
                .find_map(|root| {
                    let phys_base = root.wrapping_add(IMAGE_START).wrapping_sub(root_va.raw());
                    self.self_mapped(root_va, phys_base, modes, ignore)
                })
        })
    }

    /// Whether any CPU maps the kernel elsewhere.
    fn not_contradicted(&self, anchor: &Anchor, va: Gva, log: &mut Log) -> Option<()> {
        let ours = anchor.space.translate(va).ok()?;
        for cpu in self.cpus {
            let Some(mode) = Mode::from_cpu(cpu) else {
                continue;
            };
            let space = AddressSpace::new(Arc::clone(self.phys), Gpa(cpu.cr3), mode);
            if let Ok(theirs) = space.translate(va)
                && theirs.gpa != ours.gpa
            {
                log.say(
                    "cpus",
                    format!(
                        "CPU {} maps {va} to {}, not to {}: this kernel is not the one that runs",
                        cpu.index, theirs.gpa, ours.gpa
                    ),
                );
                return None;
            }
        }
        Some(())
    }

    /// The symbols of an anchored kernel: where its note says, else by shape within its image.
    fn symbols_of(&self, anchor: &Anchor, note: &VmCoreInfo, log: &mut Log) -> Option<SymbolTable> {
        let space = &anchor.space;
        if let Some(places) = places(note) {
            match kallsyms::from_places(space, &places) {
                Ok(found) => return Some(say_symbols(&found, 0, log)),
                Err(seen) => log.say("kallsyms", format!("as the note says: {seen}")),
            }
        }
        let image = AddrRange::inclusive(Gva(IMAGE_START), Gva(IMAGE_LAST))?;
        let mut symbols = None;
        let hits = each_digits(space, image, |va| match kallsyms::locate(space, va) {
            Ok(found) => {
                symbols = Some(say_symbols(&found, 0, log));
                ControlFlow::Break(())
            }
            Err(seen) => {
                log.say("kallsyms", seen);
                ControlFlow::Continue(())
            }
        });
        if hits == 0 {
            log.say("kallsyms", "no token table in the kernel's image");
        }
        symbols
    }

    fn by_shape(&self, log: &mut Log) -> Option<Kernel> {
        let mut kernel = None;
        let hits = each_digits(&**self.phys, AddrRange::all(), |gpa| {
            match kallsyms::locate(&**self.phys, gpa) {
                Ok(found) => {
                    kernel = self.kernel_of_tables(&found, log);
                    if kernel.is_some() {
                        return ControlFlow::Break(());
                    }
                }
                Err(seen) => log.say("kallsyms", seen),
            }
            ControlFlow::Continue(())
        });
        if hits == 0 {
            log.say("kallsyms", "no token table in memory");
        }
        kernel
    }

    fn kernel_of_tables(&self, found: &Kallsyms<Gpa>, log: &mut Log) -> Option<Kernel> {
        let unmoved = say_symbols(found, 0, log);
        let Some(root) = ROOT_SYMBOLS
            .iter()
            .find_map(|name| unmoved.address_of(name))
        else {
            log.say(
                "root",
                format!("the kernel has no symbol {}", ROOT_SYMBOLS.join(" or ")),
            );
            return None;
        };
        let here = found.token_table.raw();
        let modes = [Mode::FourLevel, Mode::FiveLevel];
        // Candidates for where the table that we found is mapped: at the same distance from a
        // multiple of 2 MiB, anywhere in the window, or, where we know the image, in that.
        let window = match found.is_place_relative() {
            true => AddrRange::inclusive(Gva(IMAGE_START), Gva(IMAGE_LAST))?,
            false => unmoved.extent()?,
        };
        let first = window.start().align_down(LOAD_ALIGN).raw() + here % LOAD_ALIGN;
        let anchor = (first..=window.last().raw())
            .step_by(LOAD_ALIGN as usize)
            .find_map(|table_va| {
                let slide = table_va.wrapping_sub(here);
                let phys_base = IMAGE_START.wrapping_sub(slide);
                let root_va = match found.is_place_relative() {
                    true => Gva(root.raw().wrapping_add(slide)),
                    false => root,
                };
                let anchor = self.self_mapped(root_va, phys_base, &modes, 0)?;
                let mapped = anchor.space.translate(Gva(table_va)).ok()?;
                (mapped.gpa.raw() == here).then_some((anchor, root_va, slide))
            });
        let Some((anchor, root_va, slide)) = anchor else {
            log.say(
                "root",
                format!(
                    "no page tables map the symbols found around {}",
                    found.token_table
                ),
            );
            return None;
        };
        self.say_anchor(&anchor, root_va, log);
        self.not_contradicted(&anchor, root_va, log)?;
        let symbols = match found.is_place_relative() {
            true => found.symbols(slide),
            false => unmoved,
        };
        let version = banner(&anchor.space, &symbols, None, log)?;
        Some((anchor, symbols, version))
    }
}

/// Where the note says that the tables are.
fn places(note: &VmCoreInfo) -> Option<Places<Gva>> {
    Some(Places {
        num_syms: note.symbol("kallsyms_num_syms")?,
        names: note.symbol("kallsyms_names")?,
        token_table: note.symbol("kallsyms_token_table")?,
        token_index: note.symbol("kallsyms_token_index")?,
        offsets: note.symbol("kallsyms_offsets")?,
        relative_base: note.symbol("kallsyms_relative_base"),
    })
}

fn say_symbols<A: Address>(found: &Kallsyms<A>, slide: u64, log: &mut Log) -> SymbolTable {
    log.say(
        "kallsyms",
        format!(
            "{} symbols, token table at {}, addresses {}",
            found.len(),
            found.token_table,
            found.form.describe(),
        ),
    );
    found.symbols(slide)
}

/// Reads the kernel's banner, which starts with its release.
fn banner(
    space: &AddressSpace,
    symbols: &SymbolTable,
    release: Option<&str>,
    log: &mut Log,
) -> Option<String> {
    let Some(va) = symbols.address_of("linux_banner") else {
        // Kernels may be built with the names of functions only.
        let known = release.unwrap_or("of unknown version");
        log.say("banner", "the kernel does not list linux_banner");
        return Some(format!("Linux {known}"));
    };
    let mut bytes = [0; 512];
    let text = match space.read(va, &mut bytes) {
        Ok(()) => {
            let len = bytes.iter().position(|&b| b == 0 || b == b'\n');
            String::from_utf8_lossy(&bytes[..len.unwrap_or(bytes.len())]).into_owned()
        }
        Err(fault) => {
            log.say("banner", format!("linux_banner: {fault}"));
            return None;
        }
    };
    let told = text.strip_prefix("Linux version ").unwrap_or_default();
    let told = told.split(' ').next().unwrap_or_default();
    if told.is_empty() || release.is_some_and(|release| release != told) {
        let seen: String = text.chars().take(80).collect();
        let expected = release.unwrap_or("");
        log.say(
            "banner",
            format!("linux_banner at {va} is {seen:?}, not \"Linux version {expected}\""),
        );
        return None;
    }
    log.say("banner", text.clone());
    Some(text)
}

/// Calls `found` for each page that starts like a VMCOREINFO note; answers how many pages there were.
fn each_note(phys: &dyn Memory<Addr = Gpa>, mut found: impl FnMut(Gpa) -> ControlFlow<()>) -> u64 {
    let mut pages = 0;
    let _ = each_chunk(phys, AddrRange::all(), 0, |start, bytes| {
        let skip = (start.raw().wrapping_neg() % PAGE) as usize;
        for at in (skip..bytes.len()).step_by(PAGE as usize) {
            pages += 1;
            if vmcoreinfo::is_note(&bytes[at..]) {
                found(Gpa(start.raw() + at as u64))?;
            }
        }
        ControlFlow::Continue(())
    });
    pages
}

/// Calls `found` for each occurrence of the digit tokens; answers how many there were.
fn each_digits<A: Address>(
    memory: &dyn Memory<Addr = A>,
    range: AddrRange<A>,
    mut found: impl FnMut(A) -> ControlFlow<()>,
) -> usize {
    let finder = memchr::memmem::Finder::new(DIGITS);
    let mut hits = 0;
    let _ = each_chunk(memory, range, DIGITS.len() - 1, |start, bytes| {
        for at in finder.find_iter(bytes) {
            hits += 1;
            found(A::new(start.raw() + at as u64))?;
            if hits == MAX_CANDIDATES {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    hits
}

/// Goes over what is readable of a memory, piece by piece and in ascending order. A piece does not
/// reach over a hole, and starts `overlap` bytes before the end of the one before it when there is no
/// hole between them.
fn each_chunk<A: Address>(
    memory: &dyn Memory<Addr = A>,
    range: AddrRange<A>,
    overlap: usize,
    mut look: impl FnMut(A, &[u8]) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut buffer = Vec::new();
    for region in memory.regions(range) {
        let (start, end) = (region.start.raw(), region.range().last().raw());
        let mut at = start;
        loop {
            let from = at.saturating_sub(overlap as u64).max(start);
            let last = end.min(at.saturating_add(CHUNK as u64 - 1));
            let len = (last - from + 1) as usize;
            let piece = AddrRange::new(A::new(from), len as u64);
            if let Some(bytes) = piece.and_then(|piece| memory.borrow(piece)) {
                look(A::new(from), bytes)?;
            } else {
                buffer.resize(len, 0);
                // Between holes: where each readable run starts.
                let mut run = 0;
                let mut holes = Vec::new();
                read_around_holes(memory, A::new(from), &mut buffer, PAGE, |at, len, _| {
                    holes.push((at, len));
                });
                for (hole, hole_len) in holes.into_iter().chain([(len, 0)]) {
                    if run < hole {
                        look(A::new(from + run as u64), &buffer[run..hole])?;
                    }
                    run = hole + hole_len;
                }
            }
            match last.checked_add(1) {
                Some(next) if last < end => at = next,
                _ => break,
            }
        }
    }
    ControlFlow::Continue(())
}
