//! How wide the program of a process is: what the kernel and the program's file say.
//!
//! | sign | where | says |
//! |---|---|---|
//! | the kernel's record of its memory | `mm->context.flags`, before 5.11 `context.ia32_compat` | code and pointers |
//! | the header of its program | the first page of `mm->exe_file` in the page cache | code and pointers |
//! | the flags of its first thread | `thread_info.flags` | that pointers have 32 bits |
//! | the code segment of its first thread | the registers saved at the top of its kernel stack | code |
//!
//! All of them are set by `execve`. The kernel's record comes first: no program can change it. The file is what was
//! started, and its copy in the page cache is not what the process may write to (a packer clears the
//! header in its own memory). Flags only speak where they are set, since their bits have moved between
//! kernels. The segment is of the code that last entered the kernel, which need not be the program's own: 64-bit programs
//! can run 32-bit code by a far jump, and some do in order not to be seen. That is a contradiction to report, and
//! nothing to go by as long as another sign speaks.
//!
//! Which of these a kernel has is told by the members that its types have, never by its version. Cost: some ten
//! reads of the kernel's memory, and a walk over a few nodes of the page cache.

use super::Linux;
use super::backed::Pages;
use super::mm::Mm;
use crate::addr::{Address, Gva};
use crate::memory::Memory;
use crate::os::elf;
use crate::os::object::{Part, Plan, Planner, Slot, link};
use crate::os::types::Types;
use crate::os::{OsError, Process, ProcessWidth, WidthSign};
use crate::width::{CodeBits, ProgramWidth, Width};

/// `thread_info.flags`: the program's addresses have 32 bits (`TIF_ADDR32`). Bit 29, and 28 since the bits were
/// put in order for all architectures, in 6.18.
const ADDR32: u64 = 1 << 29;
const ADDR32_SINCE: u64 = 1 << 28;

/// The same of kernels in which bit 28 asks for tracing of system calls (`TIF_SYSCALL_TRACEPOINT`), and which have a
/// bit for each sort of program, too (`TIF_IA32`, `TIF_X32`): all before 5.11, when `thread_info.syscall_work` came.
const IA32: u64 = 1 << 17;
const X32: u64 = 1 << 30;

/// Segments of user mode: `__USER32_CS`, `__USER_CS`, and `__USER_DS`, which the stack of both has.
const CODE_32: u64 = 0x23;
const CODE_64: u64 = 0x33;
const STACK: u64 = 0x2b;

/// How large a kernel stack may be. Types do not tell; the usual size, and those for KASAN.
const STACKS: [u64; 3] = [16 << 10, 32 << 10, 64 << 10];

/// What is left free at the top of a kernel stack: nothing, or what FRED may push there.
const PADDING: [u64; 2] = [0, 16];

/// The bit of `flags` that is always set.
const FLAGS_ONE: u64 = 2;

/// Where signs are. What the kernel's types do not have is not looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct WidthPlan {
    task: Option<(Plan, TaskSlots)>,
    registers: Option<RegisterPlan>,
}

#[derive(Clone, Copy, Debug)]
struct TaskSlots {
    flags: Option<Slot>,
    /// Whether there is `thread_info.syscall_work`.
    work: bool,
    stack: Option<Slot>,
}

/// The registers at the top of a kernel stack (`struct pt_regs`).
#[derive(Clone, Copy, Debug)]
struct RegisterPlan {
    plan: Plan,
    cs: Slot,
    ss: Slot,
    ip: Slot,
    flags: Slot,
    size: u64,
}

impl WidthPlan {
    pub(super) fn new(types: &Types) -> Self {
        let task = Planner::new(types, "task_struct").ok().map(|mut task| {
            let slots = TaskSlots {
                flags: task.want(&["thread_info.flags"]),
                work: task.want(&["thread_info.syscall_work"]).is_some(),
                stack: task.want(&["stack"]),
            };
            (task.plan(), slots)
        });
        Self {
            task,
            registers: RegisterPlan::new(types),
        }
    }
}

impl RegisterPlan {
    fn new(types: &Types) -> Option<Self> {
        let mut registers = Planner::new(types, "pt_regs").ok()?;
        Some(Self {
            cs: registers.want(&["cs"])?,
            ss: registers.want(&["ss"])?,
            ip: registers.want(&["ip"])?,
            flags: registers.want(&["flags"])?,
            plan: registers.plan(),
            size: types.size_of(types.find("struct pt_regs").ok()?).ok()?,
        })
    }

    /// The code that the registers of user mode are of, on the stack that begins at `stack`.
    fn code(&self, memory: &dyn Memory<Addr = Gva>, stack: Gva) -> Option<CodeBits> {
        let tops = STACKS
            .iter()
            .flat_map(|stack| PADDING.map(|padding| stack - padding));
        tops.into_iter().find_map(|top| {
            let at = stack.checked_add(top.checked_sub(self.size)?)?;
            self.code_of(&self.plan.read(memory, at).ok()?)
        })
    }

    /// What code segment and stack segment say, if all that can be told of user mode's registers is right.
    fn code_of(&self, registers: &Part) -> Option<CodeBits> {
        let number = |slot| registers.number(slot);
        if number(self.ip) >> 63 != 0 || number(self.flags) & FLAGS_ONE == 0 {
            return None;
        }
        // FRED keeps more about the entry above the 16 bits of a segment.
        match (number(self.cs) & 0xffff, number(self.ss) & 0xffff) {
            (CODE_32, STACK) => Some(CodeBits::B32),
            (CODE_64, STACK) => Some(CodeBits::B64),
            _ => None,
        }
    }
}

/// What a thread's flags say; nothing where none of them is set.
fn by_flags(flags: u64, work: bool) -> ProgramWidth {
    let set = |mask| flags & mask != 0;
    match work {
        true if set(ADDR32 | ADDR32_SINCE) => ProgramWidth {
            pointers: Some(Width::Four),
            code: None,
        },
        false if set(ADDR32) && set(IA32) != set(X32) => match set(X32) {
            true => ProgramWidth::X32,
            false => ProgramWidth::I386,
        },
        _ => ProgramWidth::UNKNOWN,
    }
}

impl Linux {
    /// How wide the program of a process is.
    pub(super) fn program_width(&self, process: &Process) -> Result<ProcessWidth, OsError> {
        let mm = self.mm_of(process)?;
        let plan = self.width_plan()?;
        let sign = |name, says| WidthSign { name, says };
        let mut signs = vec![
            sign("the kernel's record of its memory", mm.width()),
            sign("the header of its program", self.header(&mm)),
        ];
        let task = plan.task.and_then(|(task, slots)| {
            let task = task.read(&self.space, process.object).ok()?;
            Some((task, slots))
        });
        if let Some((task, slots)) = task {
            let flags = slots.flags.map_or(0, |slot| task.number(slot));
            let flags = by_flags(flags, slots.work);
            signs.push(sign("the flags of its first thread", flags));
            let code = ProgramWidth {
                pointers: None,
                code: self.segment(&plan, &task, slots),
            };
            signs.push(sign("the code segment of its first thread", code));
        }
        Ok(ProcessWidth::of(process, signs))
    }

    /// What the header of the program's file says, if its first page is in memory.
    fn header(&self, mm: &Mm) -> ProgramWidth {
        let read = || {
            let file = link(mm.exe_file()?).ok()?;
            let pages = Pages::of(self)?;
            let frame = pages.frame(file.raw(), 0).ok()??;
            let mut header = [0; elf::IDENTITY];
            self.space.phys().read(frame, &mut header).ok()?;
            elf::program_width(&header)
        };
        read().unwrap_or_default()
    }

    /// Which code a thread ran when it last entered the kernel.
    fn segment(&self, plan: &WidthPlan, task: &Part, slots: TaskSlots) -> Option<CodeBits> {
        let stack = link(task.number(slots.stack?)).ok()?;
        plan.registers?.code(&self.space, stack)
    }
}
