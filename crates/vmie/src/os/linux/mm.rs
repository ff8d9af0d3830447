//! The memory of a process, as its `mm_struct` says: its page tables, and where its parts are.

use crate::addr::{Address, Gpa, Gva};
use crate::memory::Memory;
use crate::os::object::{BadLink, Part, Plan, Planner, Slot, link};
use crate::os::types::{TypeError, Types};
use crate::width::ProgramWidth;

use super::linear::Linear;

const PAGE: usize = crate::addr::PAGE_SIZE as usize;

/// Bits of `context.flags`: the program is of i386 (`MM_CONTEXT_UPROBE_IA32`), and the process has the page of old
/// system calls (`MM_CONTEXT_HAS_VSYSCALL`), which only 64-bit programs have.
const IA32: u64 = 1;
const HAS_VSYSCALL: u64 = 2;

/// Values of `context.ia32_compat`, numbers of thread flags: `TIF_IA32` and `TIF_X32`.
const COMPAT_IA32: u64 = 17;
const COMPAT_X32: u64 = 30;

/// Members of `mm_struct`.
#[derive(Clone, Copy, Debug)]
pub(super) struct MmPlan {
    plan: Plan,
    pgd: Slot,
    arg_start: Option<Slot>,
    arg_end: Option<Slot>,
    env_start: Option<Slot>,
    env_end: Option<Slot>,
    start_brk: Option<Slot>,
    brk: Option<Slot>,
    start_stack: Option<Slot>,
    map_count: Option<Slot>,
    /// `mm_mt.ma_root`: the mappings as a tree.
    tree: Option<Slot>,
    /// `mmap`: the mappings as a list.
    list: Option<Slot>,
    /// `context.flags`, and what there was before these: `context.ia32_compat`.
    context_flags: Option<Slot>,
    ia32_compat: Option<Slot>,
    /// `context.vdso_image`.
    vdso_image: Option<Slot>,
    exe_file: Option<Slot>,
}

/// The memory of a process. Numbers are as the guest has them.
#[derive(Clone, Debug)]
pub(super) struct Mm {
    object: Part,
    plan: MmPlan,
}

impl MmPlan {
    /// Looks up the members. What is not found is added to `lost`; only the page tables are needed.
    pub(super) fn new(types: &Types, lost: &mut Vec<String>) -> Result<Self, TypeError> {
        let mut mm = Planner::new(types, "mm_struct")?;
        Ok(Self {
            pgd: mm.need("pgd")?,
            arg_start: mm.ask(&["arg_start"], lost),
            arg_end: mm.ask(&["arg_end"], lost),
            env_start: mm.ask(&["env_start"], lost),
            env_end: mm.ask(&["env_end"], lost),
            start_brk: mm.ask(&["start_brk"], lost),
            brk: mm.ask(&["brk"], lost),
            start_stack: mm.ask(&["start_stack"], lost),
            map_count: mm.ask(&["map_count"], lost),
            tree: mm.want(&["mm_mt.ma_root"]),
            list: mm.want(&["mmap"]),
            context_flags: mm.want(&["context.flags"]),
            ia32_compat: mm.want(&["context.ia32_compat"]),
            vdso_image: mm.want(&["context.vdso_image"]),
            exe_file: mm.want(&["exe_file"]),
            plan: mm.plan(),
        })
    }

    pub(super) fn read(self, memory: &dyn Memory<Addr = Gva>, pointer: u64) -> Result<Mm, BadLink> {
        let object = self.plan.follow(memory, pointer)?;
        Ok(Mm { object, plan: self })
    }
}

/// Roots of a process's page tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Roots {
    /// With the kernel in it.
    pub(super) full: Gpa,
    /// What user mode uses, where that is another one.
    pub(super) user: Option<Gpa>,
}

impl Mm {
    /// Finds the page tables.
    pub(super) fn roots(&self, kernel: &Linear<'_>) -> Result<Roots, BadLink> {
        let pointer = self.object.number(self.plan.pgd);
        let pgd = link(pointer)?;
        if !pointer.is_multiple_of(PAGE as u64) {
            return Err(BadLink::Unaligned(pointer));
        }
        let full = kernel
            .translate(pgd)
            .map_err(|fault| BadLink::Fault { pointer, fault })?;
        Ok(Roots {
            full,
            user: user_root(kernel.phys(), full),
        })
    }

    /// Where it is.
    pub(super) fn at(&self) -> Gva {
        self.object.at
    }

    /// Where the pointer to the tree of mappings is, and what it says; in kernels that have one.
    pub(super) fn tree(&self) -> Option<(Gva, u64)> {
        let slot = self.plan.tree?;
        let at = Gva(self.object.at.raw().wrapping_add(slot.offset));
        Some((at, self.object.number(slot)))
    }

    /// Where the pointer to the list of mappings is, and what it says; in kernels that have one.
    pub(super) fn list(&self) -> Option<(Gva, u64)> {
        let slot = self.plan.list?;
        let at = Gva(self.object.at.raw().wrapping_add(slot.offset));
        Some((at, self.object.number(slot)))
    }

    /// How many mappings it says that it has, where that is known.
    pub(super) fn map_count(&self) -> Option<u64> {
        self.plan.map_count.map(|slot| self.object.number(slot))
    }

    /// Start and end of the heap; zeros where that is not known.
    pub(super) fn heap(&self) -> (u64, u64) {
        let number = |slot: Option<Slot>| slot.map_or(0, |slot| self.object.number(slot));
        (number(self.plan.start_brk), number(self.plan.brk))
    }

    /// Where the stack of the first thread started; 0 where that is not known.
    pub(super) fn stack(&self) -> u64 {
        let slot = self.plan.start_stack;
        slot.map_or(0, |slot| self.object.number(slot))
    }

    /// Whether the process has the page of old system calls, should the kernel have one.
    pub(super) fn has_vsyscall(&self) -> bool {
        let number = |slot| self.object.number(slot);
        match (self.plan.ia32_compat, self.plan.context_flags) {
            (Some(compat), _) => number(compat) == 0,
            (None, Some(flags)) => number(flags) & HAS_VSYSCALL != 0,
            (None, None) => false,
        }
    }

    /// How wide the program is by what the kernel noted when it was started; unknown where it did not.
    pub(super) fn width(&self) -> ProgramWidth {
        let number = |slot| self.object.number(slot);
        match (self.plan.ia32_compat, self.plan.context_flags) {
            (Some(compat), _) => match number(compat) {
                0 => ProgramWidth::X86_64,
                COMPAT_IA32 => ProgramWidth::I386,
                COMPAT_X32 => ProgramWidth::X32,
                _ => ProgramWidth::UNKNOWN,
            },
            (None, Some(flags)) => match number(flags) & (IA32 | HAS_VSYSCALL) {
                IA32 => ProgramWidth::I386,
                HAS_VSYSCALL => ProgramWidth::X86_64,
                // Neither is set for programs of the x32 ABI, nor by who knows what else.
                _ => ProgramWidth::UNKNOWN,
            },
            (None, None) => ProgramWidth::UNKNOWN,
        }
    }

    /// The pointer to what describes the kernel's copy of the vdso.
    pub(super) fn vdso_image(&self) -> Option<u64> {
        self.plan.vdso_image.map(|slot| self.object.number(slot))
    }

    /// The pointer to the file of the program.
    pub(super) fn exe_file(&self) -> Option<u64> {
        self.plan.exe_file.map(|slot| self.object.number(slot))
    }

    /// Where the arguments are, and the environment behind them; in kernels of which that is known.
    pub(super) fn arguments(&self) -> Option<[Gva; 4]> {
        let plan = &self.plan;
        let [a, b, c, d] = [plan.arg_start, plan.arg_end, plan.env_start, plan.env_end]
            .map(|slot| Some(Gva(self.object.number(slot?))));
        Some([a?, b?, c?, d?])
    }
}

/// The root that user mode uses when the kernel keeps its own pages out of it (KPTI).
///
/// Such a kernel has two top tables side by side, the user's behind the other, with the same entries
/// in their user halves, except that the kernel's copy forbids execution. What is behind the top table
/// of a kernel without KPTI is an empty page or an unrelated one, and neither agrees. A process that
/// has nothing mapped has nothing to agree in, and nothing that the second table could show.
fn user_root(phys: &dyn Memory<Addr = Gpa>, full: Gpa) -> Option<Gpa> {
    const NO_EXEC: u64 = 1 << 63;
    /// Accessed and dirty, which the CPU sets in whichever it uses.
    const TOUCHED: u64 = 0x60;
    // Both tables are one aligned allocation.
    if full.raw() & PAGE as u64 != 0 {
        return None;
    }
    let user = full.checked_add(PAGE as u64)?;
    let mut tables = [[0; PAGE / 2]; 2];
    phys.read(full, &mut tables[0]).ok()?;
    phys.read(user, &mut tables[1]).ok()?;
    let entries = |table: &[u8]| -> Vec<u64> {
        let (entries, _) = table.as_chunks::<8>();
        let clear = !(NO_EXEC | TOUCHED);
        entries
            .iter()
            .map(|&entry| u64::from_le_bytes(entry) & clear)
            .collect()
    };
    let [ours, theirs] = [entries(&tables[0]), entries(&tables[1])];
    let any = ours.iter().any(|entry| entry & 1 != 0);
    (any && ours == theirs).then_some(user)
}
