//! Finding the kernel.
//!
//! Four ways lead to it, tried in this order, and all end with the same checks:
//!
//! * **By trail.** Where an earlier search found it, if the caller kept that.
//! * **By hint.** Some places are likely to lead to a root that maps the kernel ([`hints`]). Within the
//!   image that it maps, symbols are found by their shape. Hardly any memory is touched.
//! * **By note.** A VMCOREINFO note says where the kernel's page tables are. Looking for it takes a
//!   glance at the start of every page, and the search ends with the first note that verifies.
//! * **By shape.** Without a note that verifies, all of memory is searched for a kallsyms token table,
//!   from which the other tables follow, and from these the name and place of the page tables.
//!
//! What is found is believed when it explains itself:
//!
//! 1. *root*: walked from the root, the virtual address of the top page table leads to that very table
//!    ([`anchor`]).
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
use super::anchor::{self, Anchor, Root};
use super::banner;
use super::hints::{self, Hint};
use super::kallsyms::{self, IMAGE_START, Kallsyms, Places};
use super::log::{Log, MAX_CANDIDATES};
use super::scan::{each_note, each_table};
use super::software;
use super::vmcoreinfo::VmCoreInfo;
use crate::addr::{AddrRange, Address, Gpa, Gva};
use crate::cpu::CpuState;
use crate::memory::{Memory, Prot};
use crate::os::{FindOptions, Phys, Step, SymbolTable, Trail};
use crate::paging::{AddressSpace, Mode};

/// How many hints are followed.
const MAX_HINTS: usize = 8;

/// Names of the top page table, by kernel version.
const ROOT_SYMBOLS: [&str; 3] = ["init_top_pgt", "init_level4_pgt", "swapper_pg_dir"];

/// Looks for a Linux kernel.
pub(super) fn find(
    phys: &Phys,
    cpus: &[CpuState],
    options: &FindOptions,
) -> Result<Linux, Vec<Step>> {
    let mut log = Log::default();
    let search = Search { phys, cpus };
    match search
        .by_trail(options.trail.as_ref(), &mut log)
        .or_else(|| search.by_hint(&mut log))
        .or_else(|| search.by_note(&mut log))
        .or_else(|| search.by_shape(&mut log))
    {
        Some(kernel) => Ok(Linux {
            trail: kernel.trail(),
            space: with_removed(kernel.anchor.space, &kernel.symbols),
            symbols: Arc::new(kernel.symbols),
            version: kernel.version,
            steps: log.into_steps(),
            types: OnceLock::new(),
            supplied: options.types.clone(),
            tables: OnceLock::new(),
            vma_plan: OnceLock::new(),
            cache_plan: OnceLock::new(),
            module_plan: OnceLock::new(),
            known: OnceLock::new(),
            width_plan: OnceLock::new(),
        }),
        None => Err(log.into_steps()),
    }
}

/// The kernel's space with the pages that it took out of its map of all memory.
fn with_removed(space: AddressSpace, symbols: &SymbolTable) -> AddressSpace {
    let base = symbols.address_of("page_offset_base");
    let map = base.and_then(|base| space.read_u64(base).ok()).map(Gva);
    software::of_kernel(space, map)
}

struct Search<'s> {
    phys: &'s Phys,
    cpus: &'s [CpuState],
}

/// What all ways lead to.
struct Kernel {
    anchor: Anchor,
    symbols: SymbolTable,
    version: String,
    /// Where the digits of its token table are mapped.
    digits: Gva,
}

impl Kernel {
    fn trail(&self) -> Trail {
        let Anchor {
            space,
            root_va,
            ignore,
        } = &self.anchor;
        Trail {
            root: space.root(),
            mode: space.mode(),
            ignore: *ignore,
            marks: vec![*root_va, self.digits],
        }
    }
}

impl Search<'_> {
    /// Follows the trail of an earlier search. It is a claim like any other: what it leads to is verified.
    fn by_trail(&self, trail: Option<&Trail>, log: &mut Log) -> Option<Kernel> {
        let trail = trail?;
        let &[root_va, digits] = &trail.marks[..] else {
            log.say("trail", "not one of this search");
            return None;
        };
        log.say("trail", format!("root at {}", trail.root));
        let Some(anchor) = anchor::at(self.phys, trail.root, root_va, &[trail.mode], trail.ignore)
        else {
            log.say(
                "root",
                format!("{} does not map itself at {root_va}", trail.root),
            );
            return None;
        };
        self.accept(&anchor, log)?;
        let symbols = match kallsyms::locate(&anchor.space, digits) {
            Ok(found) => say_symbols(&found, 0, log),
            Err(_) => {
                log.say("kallsyms", format!("no tables around {digits}"));
                return None;
            }
        };
        let version = banner::read(&anchor.space, &symbols, None, log)?;
        Some(Kernel {
            anchor,
            symbols,
            version,
            digits,
        })
    }

    fn by_hint(&self, log: &mut Log) -> Option<Kernel> {
        let mut kernel = None;
        let mut hints = 0;
        for hint in hints::all(self.phys, self.cpus).take(MAX_HINTS) {
            hints += 1;
            log.say(
                "hint",
                format!(
                    "{} ({} paging) maps a kernel image",
                    hint.what,
                    hint.space.mode()
                ),
            );
            // Symbol tables are constants, which may not be executed except in old kernels.
            let constants = |prot: Prot| !prot.exec();
            let code = |prot: Prot| prot.exec();
            let accept =
                |found: Kallsyms<Gva>, log: &mut Log| self.kernel_of_hint(&hint, &found, log);
            kernel = each_table(&hint.space, hints::window(), constants, log, accept)
                .or_else(|| each_table(&hint.space, hints::window(), code, log, accept));
            if kernel.is_some() {
                break;
            }
        }
        if hints == 0 {
            log.say(
                "hint",
                "neither a CPU nor a page below 1 MiB leads to a kernel image",
            );
        }
        kernel
    }

    fn kernel_of_hint(&self, hint: &Hint, found: &Kallsyms<Gva>, log: &mut Log) -> Option<Kernel> {
        let symbols = say_symbols(found, 0, log);
        let part = hint.space.translate(found.token_table).ok()?.gpa;
        let listed = ROOT_SYMBOLS
            .iter()
            .find_map(|name| symbols.address_of(name));
        let anchor = match listed {
            Some(root_va) => {
                let root = hint.space.translate(root_va).ok().map(|mapped| mapped.gpa);
                root.and_then(|root| {
                    anchor::at(self.phys, root, root_va, &[hint.space.mode()], hint.ignore)
                })
            }
            None => anchor::around_part(self.phys, part),
        };
        let Some(anchor) = anchor else {
            log.say(
                "root",
                format!("no page tables map the symbols found around {part}"),
            );
            return None;
        };
        self.accept(&anchor, log)?;
        let version = banner::read(&anchor.space, &symbols, None, log)?;
        Some(Kernel {
            anchor,
            symbols,
            version,
            digits: found.digits(),
        })
    }

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
            None => &anchor::MODES,
        };
        let ignore = note.number("sme_mask").map_or(0, i64::cast_unsigned);
        let anchor = match note.number("phys_base") {
            Some(phys_base) => {
                let offset = root_va.raw().wrapping_sub(IMAGE_START);
                let root = Gpa(offset.wrapping_add(phys_base.cast_unsigned()));
                anchor::at(self.phys, root, root_va, modes, ignore)
            }
            None => anchor::anywhere(self.phys, root_va, modes, ignore),
        };
        let Some(anchor) = anchor else {
            let told = note.value("NUMBER(phys_base)").unwrap_or("unknown");
            let modes: Vec<String> = modes.iter().map(Mode::to_string).collect();
            log.say(
                "root",
                format!(
                    "page tables at {root_va} do not map themselves (phys_base {told}, {} paging)",
                    modes.join(" or "),
                ),
            );
            return None;
        };
        self.accept(&anchor, log)?;

        let (symbols, digits) = self.symbols_of(&anchor, note, log)?;
        let version = banner::read(&anchor.space, &symbols, Some(note.release()), log)?;
        Some(Kernel {
            anchor,
            symbols,
            version,
            digits,
        })
    }

    /// Records an anchor, unless a CPU contradicts it.
    fn accept(&self, anchor: &Anchor, log: &mut Log) -> Option<()> {
        let (space, root_va) = (&anchor.space, anchor.root_va);
        log.say(
            "root",
            format!(
                "{} ({} paging) maps itself at {root_va}; phys_base {}",
                space.root(),
                space.mode(),
                anchor.phys_base(),
            ),
        );
        self.not_contradicted(anchor, root_va, log)
    }

    /// Whether any CPU maps the kernel elsewhere.
    fn not_contradicted(&self, anchor: &Anchor, va: Gva, log: &mut Log) -> Option<()> {
        let ours = anchor.space.translate(va).ok()?;
        for cpu in self.cpus {
            let Some(mode) = Mode::from_cpu(cpu) else {
                continue;
            };
            let space = AddressSpace::new(Arc::clone(self.phys), Gpa(cpu.cr3), mode)
                .ignoring(anchor.ignore);
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

    /// The symbols of an anchored kernel, and where their digits are: where its note says, else by shape
    /// within its image.
    fn symbols_of(
        &self,
        anchor: &Anchor,
        note: &VmCoreInfo,
        log: &mut Log,
    ) -> Option<(SymbolTable, Gva)> {
        let space = &anchor.space;
        let accept = |found: &Kallsyms<Gva>, log: &mut Log| {
            let digits = found.digits();
            (say_symbols(found, 0, log), digits)
        };
        if let Some(places) = places(note) {
            match kallsyms::from_places(space, &places) {
                Ok(found) => return Some(accept(&found, log)),
                Err(seen) => log.say("kallsyms", format!("as the note says: {seen}")),
            }
        }
        let anywhere = |_| true;
        each_table(space, hints::window(), anywhere, log, |found, log| {
            Some(accept(&found, log))
        })
    }

    fn by_shape(&self, log: &mut Log) -> Option<Kernel> {
        each_table(
            &**self.phys,
            AddrRange::all(),
            |_| true,
            log,
            |found, log| self.kernel_of_tables(&found, log),
        )
    }

    fn kernel_of_tables(&self, found: &Kallsyms<Gpa>, log: &mut Log) -> Option<Kernel> {
        let unmoved = say_symbols(found, 0, log);
        let part = found.token_table;
        let root = ROOT_SYMBOLS
            .iter()
            .find_map(|name| unmoved.address_of(name));
        let anchor = match root {
            Some(root) if found.is_place_relative() => {
                let root = Root::Physical(Gpa(root.raw()));
                anchor::of_part(self.phys, part, hints::window(), root)
            }
            Some(root) => anchor::of_part(self.phys, part, unmoved.extent()?, Root::Virtual(root)),
            // Kernels may be built with the names of functions only.
            None => anchor::around_part(self.phys, part),
        };
        let Some(anchor) = anchor else {
            let why = match root {
                Some(root) => format!("of which one puts the root at {root}"),
                None => format!("none of which is {}", ROOT_SYMBOLS.join(" or ")),
            };
            log.say(
                "root",
                format!("no page tables map the symbols found around {part}, {why}"),
            );
            return None;
        };
        self.accept(&anchor, log)?;
        let symbols = match found.is_place_relative() {
            true => found.symbols(anchor.slide()),
            false => unmoved,
        };
        let version = banner::read(&anchor.space, &symbols, None, log)?;
        let digits = Gva(found.digits().raw().wrapping_add(anchor.slide()));
        Some(Kernel {
            anchor,
            symbols,
            version,
            digits,
        })
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
