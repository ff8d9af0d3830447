//! The kernel's modules.
//!
//! Two views are read and compared: the list `modules`, and `module_kset`, from which `/sys/module` is
//! made. What one has and the other lacks is a finding.
//!
//! A module's memory is one block (`core_layout`, before 6.4) or several by use (`mem`). Its symbols are
//! an ELF symbol table that the kernel keeps for it (`kallsyms`), with letters beside it; a symbol that
//! the module exports has a capital one, as in `/proc/kallsyms`.
//!
//! Programs that were loaded into the kernel by `bpf` have names there too. They are listed as one
//! module called `bpf`, as the kernel does.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Linux;
use crate::addr::{AddrRange, Address, Gva};
use crate::memory::Memory;
use crate::os::object::{
    BadLink, Budget, Findings, Part, Plan, Planner, Slot, link, read_text, ring, until_nul,
};
use crate::os::types::{TypeError, Types};
use crate::os::{FindingKind, Listing, Module, OsError, SymbolTable, SymbolTableBuilder};

/// How many modules, and how many programs, are looked at.
const MAX_MODULES: usize = 1 << 16;

/// No module takes more memory in one piece than this. The whole area for modules has 1 GiB or less.
const MAX_BLOCK: u64 = 1 << 30;

/// How many symbols of one module are read.
const MAX_SYMBOLS: u64 = 1 << 20;

/// How long a symbol's name may be (`KSYM_NAME_LEN`).
const MAX_NAME: usize = 512;

/// How many bytes of names are read for one module. Names may overlap, so the size of a module does not
/// bound them.
const MAX_NAMES: usize = 32 << 20;

/// `state`: being set up, nothing in it is valid (`MODULE_STATE_UNFORMED`).
const UNFORMED: u32 = 3;
/// `state`: set up and running (`MODULE_STATE_LIVE`).
const LIVE: u32 = 0;

/// The name under which programs loaded by `bpf` are listed.
const BPF: &str = "bpf";

/// Members of `struct module` and of what it leads to.
#[derive(Clone, Debug)]
pub(super) struct ModulePlan {
    plan: Plan,
    name: Slot,
    state: Slot,
    kallsyms: Slot,
    /// Base and size of each block of memory.
    blocks: Vec<(Slot, Slot)>,
    /// Symbols exported to all: where they are, and how many. Those for modules under the GPL only are
    /// kept apart, and count as not exported where letters are given.
    exports: (Slot, Slot),
    list_node: u64,

    table: Plan,
    symtab: Slot,
    num_symtab: Slot,
    strtab: Slot,
    typetab: Option<Slot>,

    symbol: SymbolPlan,
    export: Option<ExportPlan>,
    sysfs: Option<SysfsPlan>,
    bpf: Option<BpfPlan>,
}

/// Members of `Elf64_Sym`.
#[derive(Clone, Copy, Debug)]
struct SymbolPlan {
    size: u64,
    name: Slot,
    value: Slot,
}

/// Members of `struct kernel_symbol`, which hold addresses or distances to them.
#[derive(Clone, Copy, Debug)]
struct ExportPlan {
    size: u64,
    value: Slot,
    name: Slot,
    relative: bool,
}

#[derive(Clone, Copy, Debug)]
struct SysfsPlan {
    module: Slot,
    plan: Plan,
    /// Of the list node in `struct module_kobject`.
    node: u64,
    /// Of the list in `struct kset`.
    list: u64,
}

#[derive(Clone, Copy, Debug)]
struct BpfPlan {
    plan: Plan,
    start: Slot,
    end: Slot,
    name: Slot,
    node: u64,
}

impl ModulePlan {
    pub(super) fn new(types: &Types) -> Result<Self, TypeError> {
        let mut module = Planner::new(types, "module")?;
        let mut table = Planner::new(types, "mod_kallsyms")?;
        let mut symbol = Planner::new(types, "elf64_sym")?;
        Ok(Self {
            name: module.need("name")?,
            state: module.need("state")?,
            kallsyms: module.need("kallsyms")?,
            blocks: blocks(types, &mut module)?,
            exports: (module.need("syms")?, module.need("num_syms")?),
            list_node: module.need("list")?.offset,
            plan: module.plan(),
            symtab: table.need("symtab")?,
            num_symtab: table.need("num_symtab")?,
            strtab: table.need("strtab")?,
            typetab: table.want(&["typetab"]),
            table: table.plan(),
            symbol: SymbolPlan {
                size: types.size_of(types.find("struct elf64_sym")?)?,
                name: symbol.need("st_name")?,
                value: symbol.need("st_value")?,
            },
            export: ExportPlan::new(types).ok(),
            sysfs: SysfsPlan::new(types).ok(),
            bpf: BpfPlan::new(types).ok(),
        })
    }
}

/// Where base and size of each block of a module's memory are.
fn blocks(types: &Types, module: &mut Planner<'_>) -> Result<Vec<(Slot, Slot)>, TypeError> {
    let mut blocks = Vec::new();
    if let Some(all) = module.want(&["mem"]) {
        let each = types.size_of(types.find("struct module_memory")?)?.max(1);
        for index in 0..(all.size / each).min(16) {
            let base = module.need(&format!("mem[{index}].base"))?;
            blocks.push((base, module.need(&format!("mem[{index}].size"))?));
        }
    } else {
        for part in ["core_layout", "init_layout"] {
            let base = module.need(&format!("{part}.base"))?;
            blocks.push((base, module.need(&format!("{part}.size"))?));
        }
    }
    Ok(blocks)
}

impl ExportPlan {
    fn new(types: &Types) -> Result<Self, TypeError> {
        let mut export = Planner::new(types, "kernel_symbol")?;
        let relative = export.want(&["value_offset"]);
        let size = types.size_of(types.find("struct kernel_symbol")?)?.max(1);
        Ok(match relative {
            Some(value) => Self {
                size,
                value,
                name: export.need("name_offset")?,
                relative: true,
            },
            None => Self {
                size,
                value: export.need("value")?,
                name: export.need("name")?,
                relative: false,
            },
        })
    }
}

impl SysfsPlan {
    fn new(types: &Types) -> Result<Self, TypeError> {
        let mut kobject = Planner::new(types, "module_kobject")?;
        Ok(Self {
            module: kobject.need("mod")?,
            node: kobject.need("kobj.entry")?.offset,
            plan: kobject.plan(),
            list: types.offset_of("struct kset", "list")?,
        })
    }
}

impl BpfPlan {
    fn new(types: &Types) -> Result<Self, TypeError> {
        let mut symbol = Planner::new(types, "bpf_ksym")?;
        Ok(Self {
            start: symbol.need("start")?,
            end: symbol.need("end")?,
            name: symbol.need("name")?,
            node: symbol.need("lnode")?.offset,
            plan: symbol.plan(),
        })
    }
}

impl Linux {
    /// The kernel's modules, by ascending address.
    pub(super) fn kernel_modules(&self) -> Result<Listing<Module>, OsError> {
        let plan = self.module_plan()?;
        let head = self.symbol("modules")?;
        let mut findings = Findings::default();
        let mut budget = Budget(MAX_MODULES);
        let nodes = ring(&self.space, head, "modules", &mut budget, &mut findings);
        let nodes = nodes.map_err(|bad| unreadable("the list of modules", head, bad))?;
        let mut items = Vec::new();
        let mut listed = HashMap::new();
        for node in nodes {
            let at = node.raw().wrapping_sub(plan.list_node);
            if let Some((module, state)) = self.module(&plan, at, &mut findings) {
                listed.insert(at, (module.name.clone(), state));
                items.extend((state != UNFORMED).then_some(module));
            }
        }
        if let Some(sysfs) = plan.sysfs {
            for at in self.compare_sysfs(sysfs, &listed, &mut findings) {
                let hidden = self.module(&plan, at, &mut findings);
                items.extend(hidden.map(|(module, _)| module));
            }
        }
        items.extend(self.bpf_module(&plan, &mut findings));
        items.sort_by_key(|module| module.range);
        Ok(Listing {
            items,
            findings: findings.finish(),
        })
    }

    /// Reads a module, and its state.
    fn module(&self, plan: &ModulePlan, at: u64, findings: &mut Findings) -> Option<(Module, u32)> {
        let object = match plan.plan.follow(&self.space, at) {
            Ok(object) => object,
            Err(bad) => {
                findings.bad_link(bad, Gva(at), "the address of a module");
                return None;
            }
        };
        let name = object.text(plan.name);
        let ended = object.bytes(plan.name).contains(&0);
        let mut blocks = Vec::new();
        let mut why = None;
        for &(base, size) in &plan.blocks {
            let (base, size) = (object.number(base), object.number(size));
            if size == 0 {
                continue;
            }
            match link(base).ok().and_then(|base| AddrRange::new(base, size)) {
                Some(block) if size <= MAX_BLOCK => blocks.push(block),
                _ => why = Some(format!("it has {size:#x} bytes at {base:#x}")),
            }
        }
        let state = object.number32(plan.state);
        if !ended || name.is_empty() {
            why = Some("it has no name".into());
        } else if blocks.is_empty() && why.is_none() && state != UNFORMED {
            why = Some("it has no memory".into());
        }
        if let Some(why) = why {
            let text = format!("{name:?} in the list of modules is no module: {why}");
            findings.add(FindingKind::Damaged, Some(object.at), text);
            return None;
        }
        let start = blocks.iter().map(|block| block.start()).min();
        let last = blocks.iter().map(|block| block.last()).max();
        let range = match (start, last) {
            (Some(start), Some(last)) => AddrRange::inclusive(start, last)?,
            // Being set up: not shown.
            _ => AddrRange::new(object.at, 1)?,
        };
        Some((
            Module {
                name,
                path: None,
                // Code is the first block.
                base: blocks.first().map_or(range.start(), |code| code.start()),
                range,
                size: blocks.iter().map(|block| block.len()).sum(),
                object: Some(object.at),
            },
            state,
        ))
    }

    /// Compares the list of modules with `/sys/module`; answers the modules that only the latter has.
    fn compare_sysfs(
        &self,
        plan: SysfsPlan,
        listed: &HashMap<u64, (String, u32)>,
        findings: &mut Findings,
    ) -> Vec<u64> {
        let Some(pointer) = self.symbols.address_of("module_kset") else {
            return Vec::new();
        };
        let kset = self
            .space
            .read_u64(pointer)
            .map_err(|fault| BadLink::Fault {
                pointer: pointer.raw(),
                fault,
            });
        let nodes = kset.and_then(link).and_then(|kset| {
            let head = Gva(kset.raw().wrapping_add(plan.list));
            let mut budget = Budget(MAX_MODULES);
            ring(&self.space, head, "modules in sysfs", &mut budget, findings)
        });
        let nodes = match nodes {
            Ok(nodes) => nodes,
            Err(bad) => {
                findings.bad_link(bad, pointer, "the pointer to the modules in sysfs");
                return Vec::new();
            }
        };
        let mut in_sysfs = HashSet::new();
        let mut hidden = Vec::new();
        for node in nodes {
            let at = node.raw().wrapping_sub(plan.node);
            let module = match plan.plan.follow(&self.space, at) {
                Ok(object) => object.number(plan.module),
                Err(bad) => {
                    findings.bad_link(bad, node, "a module in sysfs");
                    continue;
                }
            };
            // What is built in has no `struct module`.
            if module == 0 || !in_sysfs.insert(module) || listed.contains_key(&module) {
                continue;
            }
            let text = "a module is in sysfs, but not in the list of modules";
            findings.add(FindingKind::Hidden, Some(Gva(module)), text);
            hidden.push(module);
        }
        let mut missing: Vec<_> = listed
            .iter()
            .filter(|(at, (_, state))| *state == LIVE && !in_sysfs.contains(*at))
            .collect();
        missing.sort();
        for (&at, (name, _)) in missing {
            let text = format!("module {name} is in the list of modules, but not in sysfs");
            findings.add(FindingKind::Hidden, Some(Gva(at)), text);
        }
        hidden
    }

    /// The symbols of a module.
    pub(super) fn kernel_module_symbols(
        &self,
        module: &Module,
    ) -> Result<Arc<SymbolTable>, OsError> {
        let plan = self.module_plan()?;
        let Some(at) = module.object else {
            return Err(OsError::Unavailable {
                view: "symbols",
                why: format!("{} is no module of the kernel", module.name),
            });
        };
        let damaged = |what: &str, bad: BadLink| OsError::Damaged {
            what: format!("module {}", module.name),
            at,
            why: format!("the pointer to its {what} {bad}"),
        };
        let mut symbols = SymbolTableBuilder::default();
        if module.name == BPF && Some(at) == self.symbols.address_of("bpf_kallsyms") {
            let mut findings = Findings::default();
            for program in self.bpf_programs(&plan, &mut findings) {
                let size = program.range.len();
                symbols.push_sized(program.name.as_bytes(), program.range.start(), b't', size);
            }
            return Ok(Arc::new(symbols.build(Some(module.range))));
        }
        let object = plan.plan.read(&self.space, at);
        let object = object.map_err(|fault| OsError::Unreadable {
            what: format!("module {}", module.name),
            fault,
        })?;
        let table = plan
            .table
            .follow(&self.space, object.number(plan.kallsyms))
            .map_err(|bad| damaged("symbols", bad))?;
        let count = table.number(plan.num_symtab);
        if count > MAX_SYMBOLS || count.saturating_mul(plan.symbol.size) > module.range.len() {
            return Err(OsError::Damaged {
                what: format!("module {}", module.name),
                at,
                why: format!("it has {} bytes and {count} symbols", module.range.len()),
            });
        }
        let array = |pointer: u64, each: u64, what: &str| {
            let mut bytes = vec![0; (count * each) as usize];
            match self.space.read(Gva(pointer), &mut bytes) {
                Ok(()) => Ok(bytes),
                Err(fault) => Err(damaged(what, BadLink::Fault { pointer, fault })),
            }
        };
        let records = array(
            table.number(plan.symtab),
            plan.symbol.size,
            "table of symbols",
        )?;
        let letters = plan
            .typetab
            .map(|slot| array(table.number(slot), 1, "letters of symbols"))
            .transpose()?;
        let exported = self.exported(&plan, &object);
        let strings = table.number(plan.strtab);
        let (mut read, mut missing) = (0, 0);
        for (index, record) in records.chunks_exact(plan.symbol.size as usize).enumerate() {
            let number = |slot: Slot| {
                let mut value = [0; 8];
                let bytes = record.get(slot.offset as usize..(slot.offset + slot.size) as usize);
                let bytes = bytes.unwrap_or_default();
                value[..bytes.len().min(8)].copy_from_slice(&bytes[..bytes.len().min(8)]);
                u64::from_le_bytes(value)
            };
            let name = strings.wrapping_add(number(plan.symbol.name));
            let Ok(name) = read_text(&self.space, name, MAX_NAME) else {
                missing += 1;
                continue;
            };
            read += name.len();
            if read > MAX_NAMES {
                return Err(OsError::Damaged {
                    what: format!("module {}", module.name),
                    at,
                    why: "the names of its symbols do not end".into(),
                });
            }
            if name.is_empty() {
                continue;
            }
            let va = Gva(number(plan.symbol.value));
            let letter = letters.as_ref().map_or(b'?', |letters| letters[index]);
            let letter = match exported.get(&va).is_some_and(|known| *known == name) {
                true => letter.to_ascii_uppercase(),
                false => letter.to_ascii_lowercase(),
            };
            symbols.push(name.as_bytes(), va, letter);
        }
        symbols.note_missing(missing);
        Ok(Arc::new(symbols.build(Some(module.range))))
    }

    /// The symbols that a module exports. A damaged list gives those that can be read: all that depends
    /// on it is the case of a letter.
    fn exported(&self, plan: &ModulePlan, module: &Part) -> HashMap<Gva, String> {
        let mut exported = HashMap::new();
        let Some(export) = plan.export else {
            return exported;
        };
        let (list, count) = plan.exports;
        let start = module.number(list);
        for index in 0..module.number(count).min(MAX_SYMBOLS) {
            let at = start.wrapping_add(index.wrapping_mul(export.size));
            let mut record = vec![0; export.size.min(64) as usize];
            if self.space.read(Gva(at), &mut record).is_err() {
                break;
            }
            let address = |slot: Slot| {
                let bytes = record.get(slot.offset as usize..(slot.offset + slot.size) as usize)?;
                Some(match export.relative {
                    // The distance from the member itself.
                    true => {
                        let distance = i32::from_le_bytes(bytes.try_into().ok()?);
                        let here = at.wrapping_add(slot.offset);
                        here.wrapping_add_signed(distance.into())
                    }
                    false => u64::from_le_bytes(bytes.try_into().ok()?),
                })
            };
            let Some((value, name)) = address(export.value).zip(address(export.name)) else {
                break;
            };
            if let Ok(name) = read_text(&self.space, name, MAX_NAME) {
                exported.insert(Gva(value), name);
            }
        }
        exported
    }

    /// Programs loaded by `bpf`, as one module.
    fn bpf_module(&self, plan: &ModulePlan, findings: &mut Findings) -> Option<Module> {
        let programs = self.bpf_programs(plan, findings);
        let start = programs.iter().map(|program| program.range.start()).min()?;
        let last = programs.iter().map(|program| program.range.last()).max()?;
        Some(Module {
            name: BPF.into(),
            path: None,
            base: start,
            range: AddrRange::inclusive(start, last)?,
            size: programs.iter().map(|program| program.range.len()).sum(),
            object: self.symbols.address_of("bpf_kallsyms"),
        })
    }

    fn bpf_programs(&self, plan: &ModulePlan, findings: &mut Findings) -> Vec<Program> {
        let (Some(plan), Some(head)) = (plan.bpf, self.symbols.address_of("bpf_kallsyms")) else {
            return Vec::new();
        };
        let mut budget = Budget(MAX_MODULES);
        let nodes = ring(&self.space, head, "bpf programs", &mut budget, findings);
        let nodes = nodes.unwrap_or_else(|bad| {
            findings.bad_link(bad, head, "the list of bpf programs");
            Vec::new()
        });
        let mut programs = Vec::new();
        for node in nodes {
            let at = node.raw().wrapping_sub(plan.node);
            let object = match plan.plan.follow(&self.space, at) {
                Ok(object) => object,
                Err(bad) => {
                    findings.bad_link(bad, node, "the address of a bpf program");
                    continue;
                }
            };
            let (start, end) = (object.number(plan.start), object.number(plan.end));
            let len = end.checked_sub(start).filter(|&len| len <= MAX_BLOCK);
            match len.and_then(|len| AddrRange::new(Gva(start), len)) {
                Some(range) => programs.push(Program {
                    name: until_nul(object.bytes(plan.name)),
                    range,
                }),
                None => {
                    let text = format!("a bpf program goes from {start:#x} to {end:#x}");
                    findings.add(FindingKind::Damaged, Some(object.at), text);
                }
            }
        }
        programs
    }
}

/// A program loaded by `bpf`.
struct Program {
    name: String,
    range: AddrRange<Gva>,
}

fn unreadable(what: &str, at: Gva, bad: BadLink) -> OsError {
    match bad {
        BadLink::Fault { fault, .. } => OsError::Unreadable {
            what: what.into(),
            fault,
        },
        _ => OsError::Damaged {
            what: what.into(),
            at,
            why: format!("its address {bad}"),
        },
    }
}
