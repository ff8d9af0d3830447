//! What a process has arranged to be mapped (`struct vm_area_struct`), as `/proc/PID/maps` shows it.
//!
//! The areas are kept in a maple tree (6.1 and later) or in a list (before); the members of `mm_struct`
//! tell which. An area is believed when it belongs to the process's `mm_struct`, and when the tree has
//! it where it says that it is. How many there should be is checked too.
//!
//! One area is in no process's tree: the page of old system calls at the top of the address space
//! (`gate_vma`), which the kernel appends to the areas of those processes that have it.

use std::collections::{HashMap, HashSet};

use super::Linux;
use super::files::{File, FilePlan, Files, MAX_STEPS_IN_ALL, as_in_proc};
use super::mm::Mm;
use crate::addr::{AddrRange, Address, Gva};
use crate::memory::{Memory, Prot};
use crate::os::object::{
    BadLink, Budget, Entry, Findings, MaplePlan, Part, Plan, Planner, Slot, link, read_text,
};
use crate::os::types::{TypeError, Types};
use crate::os::{FindingKind, Listing, MappedFile, OsError, Process, SymbolTable, Vma};

/// No process has more areas than this: sixteen times the usual limit (`vm.max_map_count`).
const MAX_AREAS: usize = 1 << 20;

/// How many bytes of paths and names a listing holds.
const MAX_TEXT: usize = 64 << 20;

/// The longest name of an area without a file (`ANON_VMA_NAME_MAX_LEN` is 80).
const MAX_NAME: usize = 256;

/// Bits of `vm_flags`.
const VM_READ: u64 = 1;
const VM_WRITE: u64 = 2;
const VM_EXEC: u64 = 4;
const VM_MAYSHARE: u64 = 0x80;

/// The value of `vsyscall_mode` that stands for none.
const VSYSCALL_NONE: u32 = 2;

/// Members of `vm_area_struct` and of what it leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct VmaPlan {
    plan: Plan,
    vm_start: Slot,
    vm_end: Slot,
    vm_mm: Slot,
    vm_flags: Slot,
    vm_pgoff: Slot,
    vm_file: Slot,
    vm_ops: Slot,
    vm_private_data: Slot,
    vm_next: Option<Slot>,
    anon_name: Option<AnonName>,
    /// Of the function that names an area, in its operations.
    ops_name: u64,
    /// Of the name in what the private data of a special area is.
    special_name: u64,
    maple: Option<MaplePlan>,
    pub(super) files: FilePlan,
}

#[derive(Clone, Copy, Debug)]
struct AnonName {
    slot: Slot,
    /// Whether areas with a file can have one. Before 6.2 the same bytes link those into a tree.
    for_files: bool,
    /// Of the text in `struct anon_vma_name`.
    text: u64,
}

impl VmaPlan {
    pub(super) fn new(types: &Types) -> Result<Self, TypeError> {
        let mut vma = Planner::new(types, "vm_area_struct")?;
        let anon_name = vma.want(&["anon_name"]).and_then(|slot| {
            let text = types.offset_of("struct anon_vma_name", "name").ok()?;
            let shared = vma.want(&["shared"])?;
            let for_files = !(shared.offset..shared.offset + shared.size).contains(&slot.offset);
            Some(AnonName {
                slot,
                for_files,
                text,
            })
        });
        Ok(Self {
            vm_start: vma.need("vm_start")?,
            vm_end: vma.need("vm_end")?,
            vm_mm: vma.need("vm_mm")?,
            vm_flags: vma.need("vm_flags")?,
            vm_pgoff: vma.need("vm_pgoff")?,
            vm_file: vma.need("vm_file")?,
            vm_ops: vma.need("vm_ops")?,
            vm_private_data: vma.need("vm_private_data")?,
            vm_next: vma.want(&["vm_next"]),
            anon_name,
            plan: vma.plan(),
            ops_name: types.offset_of("struct vm_operations_struct", "name")?,
            special_name: types.offset_of("struct vm_special_mapping", "name")?,
            maple: MaplePlan::new(types).ok(),
            files: FilePlan::new(types)?,
        })
    }
}

/// What is needed of an area to find the pages of its file.
pub(super) struct RawArea {
    pub(super) flags: u64,
    pub(super) file: u64,
}

impl VmaPlan {
    /// Reads an area again.
    pub(super) fn raw(&self, memory: &dyn Memory<Addr = Gva>, at: Gva) -> Result<RawArea, BadLink> {
        let object = self.plan.follow(memory, at.raw())?;
        Ok(RawArea {
            flags: object.number(self.vm_flags),
            file: object.number(self.vm_file),
        })
    }
}

/// One area, as its object says. Pointers are as they stand there.
#[derive(Clone, Debug)]
pub(super) struct Area {
    at: Gva,
    pub(super) range: AddrRange<Gva>,
    flags: u64,
    offset: u64,
    file: u64,
    operations: u64,
    private: u64,
    anon_name: u64,
}

impl Area {
    /// What may be done there.
    pub(super) fn prot(&self) -> Prot {
        let flag = |bit, prot| match self.flags & bit {
            0 => Prot::NONE,
            _ => prot,
        };
        flag(VM_READ, Prot::R)
            .union(flag(VM_WRITE, Prot::W))
            .union(flag(VM_EXEC, Prot::X))
    }
}

impl Linux {
    /// The areas of a process, by ascending address.
    pub(super) fn list_vmas(&self, process: &Process) -> Result<Listing<Vma>, OsError> {
        let plan = self.vma_plan()?;
        let mm = self.mm_of(process)?;
        let mut findings = Findings::default();
        let mut reader = Reader::new(&plan, &self.space, &self.symbols, &mm, &mut findings);
        let mut items = reader.areas()?;
        let gate = self.gate(&mm).and_then(|at| reader.area(at.raw(), false));
        items.extend(gate);
        let items = items.into_iter().map(|area| reader.row(&area)).collect();
        Ok(Listing {
            items,
            findings: findings.finish(),
        })
    }

    /// The area with the old system calls, when the process has it.
    fn gate(&self, mm: &Mm) -> Option<Gva> {
        let mode = self.symbols.address_of("vsyscall_mode")?;
        let gate = self.symbols.address_of("gate_vma")?;
        let on = self.space.read_u32(mode).ok()? < VSYSCALL_NONE;
        (on && mm.has_vsyscall()).then_some(gate)
    }
}

pub(super) struct Reader<'r> {
    plan: &'r VmaPlan,
    memory: &'r dyn Memory<Addr = Gva>,
    symbols: &'r SymbolTable,
    mm: &'r Mm,
    findings: &'r mut Findings,
    /// Files by their `struct file`: a library is mapped in several areas. `None` for those that could
    /// not be read.
    files: HashMap<u64, Option<File>>,
    steps: Budget,
    /// Bytes of paths and names so far.
    text: usize,
}

impl<'r> Reader<'r> {
    pub(super) fn new(
        plan: &'r VmaPlan,
        memory: &'r dyn Memory<Addr = Gva>,
        symbols: &'r SymbolTable,
        mm: &'r Mm,
        findings: &'r mut Findings,
    ) -> Self {
        Self {
            plan,
            memory,
            symbols,
            mm,
            findings,
            files: HashMap::new(),
            steps: Budget(MAX_STEPS_IN_ALL),
            text: 0,
        }
    }

    pub(super) fn areas(&mut self) -> Result<Vec<Area>, OsError> {
        let mut budget = Budget(MAX_AREAS);
        let mut areas = match (self.mm.tree(), self.plan.maple, self.mm.list()) {
            (Some((at, root)), Some(maple), _) => {
                let what = "the tree of areas";
                let entries =
                    maple.entries(self.memory, at, root, what, &mut budget, self.findings);
                self.of_tree(&entries)
            }
            (_, _, Some((at, first))) => self.of_list(at, first, &mut budget),
            _ => {
                return Err(OsError::Unavailable {
                    view: "mappings",
                    why: "the kernel's types have neither a tree nor a list of them".into(),
                });
            }
        };
        if let Some(told) = self.mm.map_count()
            && told != areas.len() as u64
        {
            let text = format!(
                "there should be {told} areas, and there are {}",
                areas.len()
            );
            self.findings
                .add(FindingKind::Inconsistent, Some(self.mm.at()), text);
        }
        areas.sort_by_key(|area| area.range.start());
        for pair in areas.windows(2) {
            if pair[0].range.last() >= pair[1].range.start() {
                let text = format!("the areas {} and {} overlap", pair[0].range, pair[1].range);
                self.findings
                    .add(FindingKind::Damaged, Some(pair[1].at), text);
            }
        }
        Ok(areas)
    }

    fn of_tree(&mut self, entries: &[Entry]) -> Vec<Area> {
        let mut areas = Vec::with_capacity(entries.len());
        let mut seen = HashSet::new();
        for entry in entries {
            if !seen.insert(entry.pointer) {
                let text = "the tree of areas has one of them twice";
                let at = Some(Gva(entry.pointer));
                self.findings.add(FindingKind::Damaged, at, text);
                continue;
            }
            let Some(area) = self.area(entry.pointer, true) else {
                continue;
            };
            let (first, last) = (area.range.start().raw(), area.range.last().raw());
            if (first, last) != (entry.first, entry.last) {
                let text = format!(
                    "an area says that it is {}, but the tree has it from {:#x} to {:#x}",
                    area.range, entry.first, entry.last
                );
                self.findings
                    .add(FindingKind::Inconsistent, Some(area.at), text);
            }
            areas.push(area);
        }
        areas
    }

    fn of_list(&mut self, head: Gva, first: u64, budget: &mut Budget) -> Vec<Area> {
        let mut areas = Vec::new();
        let mut seen = HashSet::new();
        let Some(vm_next) = self.plan.vm_next else {
            return areas;
        };
        let (mut from, mut next) = (head, first);
        while next != 0 {
            if !seen.insert(next) {
                let text = format!("a link in the list of areas leads back to {next:#x}");
                self.findings.add(FindingKind::Damaged, Some(from), text);
                break;
            }
            if !budget.take() {
                let text = "the list of areas is longer than any process's can be";
                self.findings.add(FindingKind::Limit, Some(from), text);
                break;
            }
            let object = match self.plan.plan.follow(self.memory, next) {
                Ok(object) => object,
                Err(bad) => {
                    self.findings
                        .bad_link(bad, from, "a link in the list of areas");
                    break;
                }
            };
            from = object.at;
            next = object.number(vm_next);
            areas.extend(self.parse(&object, true));
        }
        areas
    }

    /// Reads the area at `pointer`; `own` when it should belong to the process's memory.
    fn area(&mut self, pointer: u64, own: bool) -> Option<Area> {
        match self.plan.plan.follow(self.memory, pointer) {
            Ok(object) => self.parse(&object, own),
            Err(bad) => {
                let at = self.mm.at();
                self.findings.bad_link(bad, at, "a pointer to an area");
                None
            }
        }
    }

    fn parse(&mut self, object: &Part, own: bool) -> Option<Area> {
        let plan = self.plan;
        let (start, end) = (object.number(plan.vm_start), object.number(plan.vm_end));
        let range = end
            .checked_sub(start)
            .and_then(|len| AddrRange::new(Gva(start), len));
        let Some(range) = range else {
            let text = format!("an area goes from {start:#x} to {end:#x}");
            self.findings
                .add(FindingKind::Damaged, Some(object.at), text);
            return None;
        };
        let mm = object.number(plan.vm_mm);
        if own && mm != self.mm.at().raw() {
            let text = format!("the area {range} says that it belongs to {mm:#x}");
            self.findings
                .add(FindingKind::Inconsistent, Some(object.at), text);
        }
        Some(Area {
            at: object.at,
            range,
            flags: object.number(plan.vm_flags),
            offset: object.number(plan.vm_pgoff).wrapping_shl(12),
            file: object.number(plan.vm_file),
            operations: object.number(plan.vm_ops),
            private: object.number(plan.vm_private_data),
            anon_name: plan.anon_name.map_or(0, |name| object.number(name.slot)),
        })
    }

    pub(super) fn row(&mut self, area: &Area) -> Vma {
        let file = self.file(area);
        let name = match (&file, area.file) {
            (_, 0) => self.name(area),
            (file, _) => match self.anon_name(area) {
                Some(name) => Some(format!("[anon_shmem:{name}]")),
                None => file.as_ref().map(as_in_proc),
            },
        };
        self.text += file.as_ref().map_or(0, |file| file.path.len());
        self.text += name.as_ref().map_or(0, String::len);
        let (file, name) = match self.text <= MAX_TEXT {
            true => (file, name),
            false => {
                let text = "the names of further areas are left out: they are too long in all";
                self.findings.add(FindingKind::Limit, Some(area.at), text);
                (None, None)
            }
        };
        Vma {
            range: area.range,
            prot: area.prot(),
            shared: area.flags & VM_MAYSHARE != 0,
            file: file.map(|file| MappedFile {
                path: file.path,
                offset: area.offset,
                device: file.device,
                inode: file.inode,
                deleted: file.deleted,
            }),
            name,
            object: area.at,
        }
    }

    fn file(&mut self, area: &Area) -> Option<File> {
        if area.file == 0 {
            return None;
        }
        if let Some(known) = self.files.get(&area.file) {
            return known.clone();
        }
        let mut files = Files {
            plan: &self.plan.files,
            memory: self.memory,
            symbols: self.symbols,
            steps: &mut self.steps,
        };
        let file = files.file(area.file, self.findings).map_err(|bad| {
            let what = format!("the file of the area {}", area.range);
            self.findings.bad_link(bad, area.at, what);
        });
        self.files.insert(area.file, file.clone().ok());
        file.ok()
    }

    /// The name of an area without a file, in the kernel's order of preference.
    fn name(&self, area: &Area) -> Option<String> {
        if let Some(name) = self.special_name(area) {
            return Some(name);
        }
        let (first, last) = (area.range.start().raw(), area.range.last().raw());
        let (start_brk, brk) = self.mm.heap();
        let stack = self.mm.stack();
        // Kernels before 6.6 also call heap what only touches it.
        if first < brk && last >= start_brk {
            return Some("[heap]".into());
        }
        if first <= stack && stack <= last.saturating_add(1) {
            return Some("[stack]".into());
        }
        let name = self.anon_name(area)?;
        Some(format!("[anon:{name}]"))
    }

    /// The name that the operations of an area give it.
    fn special_name(&self, area: &Area) -> Option<String> {
        let operations = link(area.operations).ok()?;
        let at = Gva(operations.raw().wrapping_add(self.plan.ops_name));
        let function = self.memory.read_u64(at).ok().filter(|&name| name != 0)?;
        let (symbol, 0) = self.symbols.nearest(Gva(function))? else {
            return None;
        };
        match symbol.name {
            "special_mapping_name" => {
                let special = link(area.private).ok()?;
                let at = Gva(special.raw().wrapping_add(self.plan.special_name));
                let name = self.memory.read_u64(at).ok()?;
                read_text(self.memory, name, MAX_NAME).ok()
            }
            "gate_vma_name" => Some("[vsyscall]".into()),
            _ => None,
        }
    }

    /// The name that the process gave an area.
    fn anon_name(&self, area: &Area) -> Option<String> {
        let name = self.plan.anon_name?;
        if area.file != 0 && !name.for_files {
            return None;
        }
        let at = link(area.anon_name).ok()?;
        let text = at.raw().wrapping_add(name.text);
        read_text(self.memory, text, MAX_NAME).ok()
    }
}

impl Linux {
    /// Why a link within a process's records led nowhere, as an error.
    pub(super) fn damaged(process: &Process, what: &str, bad: BadLink) -> OsError {
        OsError::Damaged {
            what: format!("process {} ({})", process.pid, process.name),
            at: process.object,
            why: format!("{what} {bad}"),
        }
    }
}
