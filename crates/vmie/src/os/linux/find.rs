//! Finding the kernel.
//!
//! Four ways lead to it, tried in this order, and all end with the same checks:
//!
//! * **By trail.** Where an earlier search found it, if the caller kept that.
//! * **By hint.** Some places are likely to lead to a root that maps the kernel ([`hints`]). Within the
//!   image that it maps, symbols are found by their shape. Hardly any memory is touched.
//! * **By note.** A VMCOREINFO note says where the kernel's page tables are. The image's headers may have one.
//!   Looking for those in memory takes a glance at the start of every page, and the search ends with the first note
//!   that verifies.
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
//! What does not verify may be damaged. Only when nothing does, what led to a kernel is looked at once more
//! for what is left of it: symbol tables are salvaged, a copy of the top page table stands for it, and
//! an overwritten banner is no contradiction, while another kernel's still is. Each loss is kept.
//!
//! Rejected: starting from the first `Linux version` text, or the first BTF magic, in memory. There are
//! several of each in every image, and most are stale.

use std::cell::Cell;
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
use crate::hints::Hints;
use crate::memory::{Memory, Prot};
use crate::os::{
    Effort, FindOptions, Finding, FindingKind, Missed, OtherKernel, Phys, SymbolTable,
    SymbolTableBuilder, Trail,
};
use crate::paging::{AddressSpace, Mode};

/// How many hints are followed.
const MAX_HINTS: usize = 8;

/// How many losses of symbols are told one by one.
const MAX_LOSSES: usize = 32;

/// Names of the top page table, by kernel version.
const ROOT_SYMBOLS: [&str; 3] = ["init_top_pgt", "init_level4_pgt", "swapper_pg_dir"];

/// Looks for a Linux kernel.
pub(super) fn find(phys: &Phys, hints: &Hints, options: &FindOptions) -> Result<Linux, Missed> {
    let mut log = Log::default();
    let led = Cell::new(false);
    let whole = Search {
        phys,
        hints,
        salvage: false,
        led: &led,
        wanted: options.kernel_at,
    };
    let damaged = Search {
        salvage: true,
        ..whole
    };
    let mut found = whole
        .by_trail(options.trail.as_ref(), &mut log)
        .or_else(|| whole.by_hint(&mut log));
    if options.effort >= Effort::Notes {
        found = found.or_else(|| whole.by_note(&mut log));
    }
    if options.effort >= Effort::Everywhere {
        found = found
            .or_else(|| damaged.by_what_led(&mut log))
            .or_else(|| whole.by_shape(&mut log))
            .or_else(|| damaged.by_damaged_shape(&mut log));
    }
    match found {
        Some(kernel) => Ok(Linux {
            trail: kernel.trail(),
            space: with_removed(kernel.anchor.space.clone(), &kernel.symbols),
            symbols: Arc::new(kernel.symbols),
            version: kernel.version,
            steps: log.into_steps(),
            types: OnceLock::new(),
            losses: kernel.losses,
            root: kernel.anchor.root,
            acquisition: options.acquisition,
            supplied: options.types.clone(),
            stores: options.stores.clone(),
            build: OnceLock::new(),
            tables: OnceLock::new(),
            vma_plan: OnceLock::new(),
            cache_plan: OnceLock::new(),
            module_plan: OnceLock::new(),
            known: OnceLock::new(),
            width_plan: OnceLock::new(),
        }),
        None => Err(Missed {
            steps: log.into_steps(),
            led: led.get(),
        }),
    }
}

/// The kernel's space with the pages that it took out of its map of all memory.
fn with_removed(space: AddressSpace, symbols: &SymbolTable) -> AddressSpace {
    let base = symbols.address_of("page_offset_base");
    let map = base.and_then(|base| space.read_u64(base).ok()).map(Gva);
    software::of_kernel(space, map)
}

#[derive(Clone, Copy)]
struct Search<'s> {
    phys: &'s Phys,
    /// What the source of the memory says.
    hints: &'s Hints,
    /// Whether what is damaged is made do with.
    salvage: bool,
    /// Whether anything was met that leads to a kernel.
    led: &'s Cell<bool>,
    /// The root of the kernel that is meant, where one is.
    wanted: Option<Gpa>,
}

/// What all ways lead to.
struct Kernel {
    anchor: Anchor,
    symbols: SymbolTable,
    version: String,
    /// Where the digits of its token table are mapped.
    digits: Gva,
    /// What of it is damaged.
    losses: Vec<Finding>,
}

impl Kernel {
    fn trail(&self) -> Trail {
        let Anchor {
            space,
            root_va,
            ignore,
            ..
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
            Ok(found) => say_symbols(&found, 0, log).0,
            Err(_) => {
                log.say("kallsyms", format!("no tables around {digits}"));
                return None;
            }
        };
        let version = banner::read(&anchor.space, &symbols, None, false, log)?;
        Some(Kernel {
            anchor,
            symbols,
            version,
            digits,
            losses: Vec::new(),
        })
    }

    /// Looks again at what led to a kernel and did not verify: parts of it may be damaged.
    fn by_what_led(&self, log: &mut Log) -> Option<Kernel> {
        if !self.led.get() {
            return None;
        }
        log.say(
            "damage",
            "nothing verifies as it stands: looked at again for what is left of it",
        );
        self.by_hint(log)
            .or_else(|| self.by_note(log))
            .or_else(|| self.without_symbols(log))
    }

    /// The same for tables that were found by their shape.
    fn by_damaged_shape(&self, log: &mut Log) -> Option<Kernel> {
        self.led.get().then(|| self.by_shape(log)).flatten()
    }

    /// A kernel whose image a hint maps, and whose symbol tables are lost.
    fn without_symbols(&self, log: &mut Log) -> Option<Kernel> {
        hints::all(self.phys, self.hints)
            .take(MAX_HINTS)
            .find_map(|hint| {
                let symbols = SymbolTable::default();
                let va = banner::search(&hint.space, None)?;
                let part = hint.space.translate(va).ok()?.gpa;
                let anchor = anchor::around_part(self.phys, part)?;
                self.accept(&anchor, log)?;
                let version = banner::read(&anchor.space, &symbols, None, true, log)?;
                let lost =
                    "the kernel's symbol tables are lost: what is known by name only is missing";
                log.say("kallsyms", lost);
                Some(Kernel {
                    digits: anchor.root_va,
                    losses: vec![damaged(None, lost)],
                    anchor,
                    symbols,
                    version,
                })
            })
    }

    fn by_hint(&self, log: &mut Log) -> Option<Kernel> {
        let mut kernel = None;
        let mut hints = 0;
        for hint in hints::all(self.phys, self.hints).take(MAX_HINTS) {
            hints += 1;
            self.led.set(true);
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
            let (space, window, salvage) = (&hint.space, hints::window(), self.salvage);
            kernel = each_table(space, window, constants, salvage, log, accept)
                .or_else(|| each_table(space, window, code, salvage, log, accept));
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
        let (symbols, mut losses) = say_symbols(found, 0, log);
        let part = hint.space.translate(found.token_table).ok()?.gpa;
        let listed = ROOT_SYMBOLS
            .iter()
            .find_map(|name| symbols.address_of(name));
        let mut anchor = match listed {
            Some(root_va) => {
                let root = hint.space.translate(root_va).ok().map(|mapped| mapped.gpa);
                root.and_then(|root| {
                    anchor::at(self.phys, root, root_va, &[hint.space.mode()], hint.ignore)
                })
            }
            None => anchor::around_part(self.phys, part),
        };
        if let Some(root_va) = listed
            && anchor.is_none()
            && self.salvage
        {
            let root = hint.space.translate(root_va).ok()?.gpa;
            anchor = anchor::through(hint.space.clone(), root, root_va, hint.ignore);
            losses.extend(anchor.as_ref().map(root_lost));
        }
        let Some(anchor) = anchor else {
            log.say(
                "root",
                format!("no page tables map the symbols found around {part}"),
            );
            return None;
        };
        self.accept(&anchor, log)?;
        let version = self.banner(&anchor, &symbols, None, &mut losses, log)?;
        Some(Kernel {
            anchor,
            symbols,
            version,
            digits: found.digits(),
            losses,
        })
    }

    /// The banner of a kernel. That it is overwritten is a loss.
    fn banner(
        &self,
        anchor: &Anchor,
        symbols: &SymbolTable,
        release: Option<&str>,
        losses: &mut Vec<Finding>,
        log: &mut Log,
    ) -> Option<String> {
        // What is no banner counts as overwritten only when symbols are right otherwise.
        let root = ROOT_SYMBOLS
            .iter()
            .find_map(|name| symbols.address_of(name));
        let damaged_one = self.salvage && root == Some(anchor.root_va);
        let version = banner::read(&anchor.space, symbols, release, damaged_one, log)?;
        if self.salvage && !banner::is_one(&version) {
            losses.push(damaged(None, "the kernel's banner is overwritten"));
        }
        Some(version)
    }

    fn by_note(&self, log: &mut Log) -> Option<Kernel> {
        let told = self.hints.vmcoreinfo.as_deref();
        if let Some(note) = told.and_then(VmCoreInfo::of_text) {
            self.led.set(true);
            log.say(
                "VMCOREINFO",
                format!("in the headers of the image, of {}", note.release()),
            );
            let kernel = self.kernel_of_note(&note, log);
            if kernel.is_some() {
                return kernel;
            }
        }
        let mut kernel = None;
        let mut notes = 0;
        let pages = each_note(&**self.phys, |gpa| {
            let Some(note) = VmCoreInfo::read(&**self.phys, gpa) else {
                return ControlFlow::Continue(());
            };
            notes += 1;
            self.led.set(true);
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
        let mut losses = Vec::new();
        let anchor = match note.number("phys_base") {
            Some(phys_base) => {
                let offset = root_va.raw().wrapping_sub(IMAGE_START);
                let root = Gpa(offset.wrapping_add(phys_base.cast_unsigned()));
                let own = anchor::at(self.phys, root, root_va, modes, ignore);
                own.or_else(|| {
                    let copy = self
                        .salvage
                        .then(|| anchor::by_copy(self.phys, root, root_va, modes, ignore))??;
                    losses.push(root_lost(&copy));
                    Some(copy)
                })
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

        let (symbols, digits, lost) = self.symbols_of(&anchor, note, log)?;
        losses.extend(lost);
        let version = self.banner(&anchor, &symbols, Some(note.release()), &mut losses, log)?;
        Some(Kernel {
            anchor,
            symbols,
            version,
            digits,
            losses,
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
        match self.wanted {
            None => self.not_contradicted(anchor, root_va, log),
            Some(wanted) if wanted == anchor.root || wanted == space.root() => Some(()),
            Some(wanted) => {
                log.say(
                    "root",
                    format!("the kernel that is meant has its root at {wanted}"),
                );
                None
            }
        }
    }

    /// Whether any CPU maps the kernel elsewhere.
    fn not_contradicted(&self, anchor: &Anchor, va: Gva, log: &mut Log) -> Option<()> {
        let ours = anchor.space.translate(va).ok()?;
        for cpu in &self.hints.cpus {
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
    ) -> Option<(SymbolTable, Gva, Vec<Finding>)> {
        let space = &anchor.space;
        let accept = |found: &Kallsyms<Gva>, log: &mut Log| {
            let (symbols, losses) = say_symbols(found, 0, log);
            (symbols, found.digits(), losses)
        };
        if let Some(places) = places(note) {
            match kallsyms::from_places(space, &places) {
                Ok(found) => return Some(accept(&found, log)),
                Err(seen) => log.say("kallsyms", format!("as the note says: {seen}")),
            }
            if self.salvage {
                let known: Vec<(&str, Gva)> = note.symbols().collect();
                match kallsyms::from_damaged_places(space, &places, &known) {
                    Ok(found) => return Some(accept(&found, log)),
                    Err(seen) => log.say("kallsyms", format!("what is left: {seen}")),
                }
            }
        }
        let anywhere = |_| true;
        let found = each_table(
            space,
            hints::window(),
            anywhere,
            self.salvage,
            log,
            |found, log| Some(accept(&found, log)),
        );
        found.or_else(|| {
            self.salvage
                .then(|| symbols_of_note(note, anchor.root_va, log))
        })
    }

    fn by_shape(&self, log: &mut Log) -> Option<Kernel> {
        each_table(
            &**self.phys,
            AddrRange::all(),
            |_| true,
            self.salvage,
            log,
            |found, log| {
                self.led.set(true);
                self.kernel_of_tables(&found, log)
            },
        )
    }

    fn kernel_of_tables(&self, found: &Kallsyms<Gpa>, log: &mut Log) -> Option<Kernel> {
        let (unmoved, mut losses) = say_symbols(found, 0, log);
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
            true => {
                losses = losses_of(found, anchor.slide());
                found.symbols(anchor.slide())
            }
            false => unmoved,
        };
        let version = self.banner(&anchor, &symbols, None, &mut losses, log)?;
        let digits = Gva(found.digits().raw().wrapping_add(anchor.slide()));
        Some(Kernel {
            anchor,
            symbols,
            version,
            digits,
            losses,
        })
    }
}

/// Kernels with a note and a root that maps itself, other than the one with its root at `found`.
pub(super) fn other_kernels(phys: &Phys, found: Gpa) -> Vec<OtherKernel> {
    let mut others: Vec<OtherKernel> = Vec::new();
    let mut notes = 0;
    let _ = each_note(&**phys, |gpa| {
        notes += 1;
        let anchor = VmCoreInfo::read(&**phys, gpa).and_then(|note| {
            let root_va = note.symbol("swapper_pg_dir")?;
            let phys_base = note.number("phys_base")?.cast_unsigned();
            let root = Gpa(root_va
                .raw()
                .wrapping_sub(IMAGE_START)
                .wrapping_add(phys_base));
            let ignore = note.number("sme_mask").map_or(0, i64::cast_unsigned);
            anchor::at(phys, root, root_va, &anchor::MODES, ignore)?;
            Some((note.release().to_owned(), root))
        });
        if let Some((release, root)) = anchor
            && root != found
            && others.iter().all(|other| other.root != root)
        {
            others.push(OtherKernel {
                version: format!("Linux {release}"),
                root,
            });
        }
        match notes == MAX_CANDIDATES {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    others
}

/// What a note says of symbols, for a kernel whose own tables are lost.
fn symbols_of_note(
    note: &VmCoreInfo,
    root_va: Gva,
    log: &mut Log,
) -> (SymbolTable, Gva, Vec<Finding>) {
    let mut builder = SymbolTableBuilder::default();
    for (name, va) in note.symbols() {
        builder.push(name.as_bytes(), va, b'?');
    }
    let symbols = builder.build(None);
    let text = format!(
        "the kernel's symbol tables are lost; its VMCOREINFO note names {} symbols",
        symbols.len()
    );
    log.say("kallsyms", text.clone());
    (symbols, root_va, vec![damaged(None, text)])
}

fn damaged(at: Option<Gva>, text: impl Into<String>) -> Finding {
    let text = text.into();
    Finding {
        kind: FindingKind::Damaged,
        at,
        text,
    }
}

/// That the root of a kernel is overwritten.
fn root_lost(anchor: &Anchor) -> Finding {
    let text = format!(
        "the kernel's top page table is damaged; the one at {} maps the kernel as well and stands for it",
        anchor.space.root()
    );
    damaged(Some(anchor.root_va), text)
}

/// What of symbol tables is lost.
fn losses_of<A: Address>(found: &Kallsyms<A>, slide: u64) -> Vec<Finding> {
    let losses = found.lost(slide).into_iter().map(|lost| {
        let (count, noun) = (
            lost.count,
            if lost.count == 1 { "symbol" } else { "symbols" },
        );
        let place = match (lost.first, lost.last) {
            (Some(first), Some(last)) => format!(" between {first} and {last}"),
            (Some(first), None) => format!(" from {first} on"),
            (None, Some(last)) => format!(" up to {last}"),
            (None, None) => String::new(),
        };
        let text =
            format!("the kernel's symbol tables are damaged: {count} {noun}{place} are lost");
        damaged(lost.first, text)
    });
    let mut losses: Vec<Finding> = losses.collect();
    // A token that is lost can take names from everywhere.
    if losses.len() > MAX_LOSSES {
        let missing: usize = found.lost(slide).iter().map(|lost| lost.count).sum();
        let text = format!(
            "the kernel's symbol tables are damaged: {missing} symbols are lost, in {} places",
            losses.len()
        );
        losses = vec![damaged(None, text)];
    }
    losses
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

fn say_symbols<A: Address>(
    found: &Kallsyms<A>,
    slide: u64,
    log: &mut Log,
) -> (SymbolTable, Vec<Finding>) {
    log.say(
        "kallsyms",
        format!(
            "{} symbols, token table at {}, addresses {}",
            found.len(),
            found.token_table,
            found.form.describe(),
        ),
    );
    if found.is_damaged() {
        let lost: usize = found.lost(slide).iter().map(|lost| lost.count).sum();
        log.say(
            "kallsyms",
            format!("the tables are damaged: {lost} symbols are lost"),
        );
    }
    (found.symbols(slide), losses_of(found, slide))
}
