//! Threads: what each is called and doing, and where its program was when it entered the kernel.

use crate::addr::{Address, Gva, PAGE_SIZE};
use crate::os::linux::task_state;
use crate::os::object::{BadLink, Known as _, Object, ObjectError, Walk};
use crate::os::{FindingKind, Guest, Listing, OsError, Process, ProcessState};

/// How large the stacks are that threads have in the kernel: 16 KiB, and 32 KiB where memory errors are looked for (KASAN).
const STACK_SIZES: [u64; 2] = [16 << 10, 32 << 10];

/// How many bytes there are between the saved registers and the end of the stack: none, or 16 in kernels that can return
/// by FRED and are of the first that could.
const PADDING: [u64; 2] = [0, 16];

/// Selectors of user mode that the kernel loads: code of 64 and of 32 bits, and the stack.
const USER_CODE: [u64; 2] = [0x33, 0x23];
const USER_STACK: u64 = 0x2b;

/// Registers of a program as the kernel saved them when it was entered last. Those of a thread that runs are older than what the CPU has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct UserRegisters {
    /// Where they are saved.
    pub saved: Gva,
    /// The next instruction.
    pub ip: Gva,
    /// The stack.
    pub sp: Gva,
    /// The number of the system call that it is in; `None` where it was interrupted.
    pub syscall: Option<u64>,
}

/// A thread.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Thread {
    /// The number of its process.
    pub pid: u32,
    /// The name of its process.
    pub process: String,
    /// Its own number, which the first one has in common with the process.
    pub tid: u32,
    /// Its own name, as it gave it itself, without what kernel workers add.
    pub name: Vec<u8>,
    /// What it is doing.
    pub state: ProcessState,
    /// The kernel's record of it.
    pub object: Gva,
    /// Whether a CPU runs it right now; `None` where the system does not say.
    pub running: Option<bool>,
    /// Where its stack in the kernel begins; `None` where it has given it back.
    pub stack: Option<Gva>,
    /// Where its stack in the kernel ended when it was left last: registers that were saved then stand there.
    pub stack_pointer: Gva,
    /// Where its program was; `None` for threads of the kernel, and where nothing in its stack can be that.
    pub user: Option<UserRegisters>,
}

/// The threads of `processes`, by process, then as the process lists them: in the order in which they were started. How
/// many there are is compared with what each process counts.
///
/// Cost: some ten reads a thread.
///
/// # Errors
///
/// When the system's types cannot be had. A list that is damaged ends with a finding instead.
pub fn threads(guest: &dyn Guest, processes: &[Process]) -> Result<Listing<Thread>, OsError> {
    let objects = guest.objects()?;
    let walk = guest.walk();
    let mut items = Vec::new();
    for process in processes {
        let leader = objects.object_at(process.object, "task_struct")?;
        let listed = of_process(&leader, process, &walk);
        let what = format_args!("the threads of process {}", process.pid);
        if let Some(threads) = walk.keep(listed, what) {
            items.extend(threads);
        }
    }
    Ok(Listing {
        items,
        findings: walk.finish(),
    })
}

/// The threads of the process of which this is the first one, itself included.
pub(super) fn tasks<'o>(leader: &Object<'o>, walk: &Walk) -> Result<Vec<Object<'o>>, ObjectError> {
    match leader.place("signal.thread_head").unless_missing()? {
        Some(head) => Ok(head.list("task_struct", "thread_node", walk)?.collect()),
        None => {
            // Kernels that have no such list have a ring of all threads, and of these one is the first.
            let others = leader
                .place("thread_group")?
                .list("task_struct", "thread_group", walk)?;
            Ok(std::iter::once(leader.clone()).chain(others).collect())
        }
    }
}

fn of_process(
    leader: &Object<'_>,
    process: &Process,
    walk: &Walk,
) -> Result<Vec<Thread>, ObjectError> {
    let signal = leader.at("signal")?;
    let tasks = tasks(leader, walk)?;
    let count = signal.u64("nr_threads")?;
    if count != tasks.len() as u64 {
        let text = format!(
            "process {} counts {count} threads and lists {}",
            process.pid,
            tasks.len()
        );
        walk.note(FindingKind::Inconsistent, Some(signal.address()), text);
    }
    let read = |task: &Object<'_>| {
        let at = task.address();
        walk.keep(
            one(task, process),
            format_args!("the thread at {at} of process {}", process.pid),
        )
    };
    Ok(tasks.iter().filter_map(read).collect())
}

fn one(task: &Object<'_>, process: &Process) -> Result<Thread, ObjectError> {
    let task = task.load();
    let stack = stack(&task)?;
    Ok(Thread {
        pid: process.pid,
        process: process.name.clone(),
        tid: task.u32("pid")?,
        name: task.raw_text("comm")?,
        state: task_state(task.u32("__state | state")?, task.u32("exit_state")?),
        object: task.address(),
        // It is 0 or 1, and anything else is damage.
        running: match task.u32("on_cpu").unless_missing()? {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        },
        stack,
        stack_pointer: task.pointer("thread.sp")?,
        user: match stack {
            Some(stack) if !process.kernel => user(&task, stack)?,
            _ => None,
        },
    })
}

/// Where the stack of a task begins: at the border of a page. `None` where it has given it back.
fn stack(task: &Object<'_>) -> Result<Option<Gva>, ObjectError> {
    match task.at("stack").unless_null()? {
        Some(stack) if stack.address().raw() % PAGE_SIZE != 0 => {
            let bad = BadLink::Unaligned(stack.address().raw());
            Err(task.bad_link("stack", bad))
        }
        stack => Ok(stack.map(|stack| stack.address())),
    }
}

/// The registers at the end of a stack: where they can only be those of user mode.
fn user(task: &Object<'_>, stack: Gva) -> Result<Option<UserRegisters>, ObjectError> {
    let objects = task.objects();
    let len = objects.size_of("pt_regs")?;
    for size in STACK_SIZES {
        for padding in PADDING {
            let from_start = size.checked_sub(padding + len);
            let Some(at) = from_start.and_then(|len| stack.checked_add(len)) else {
                continue;
            };
            let saved = objects.object_at(at, "pt_regs")?.load();
            // Beyond a stack there may be nothing.
            let (Ok(code), Ok(data)) = (saved.u64("cs"), saved.u64("ss")) else {
                continue;
            };
            // Newer kernels keep more in the upper bits of these.
            if !USER_CODE.contains(&(code & 0xffff)) || data & 0xffff != USER_STACK {
                continue;
            }
            let number = saved.i64("orig_ax")?;
            return Ok(Some(UserRegisters {
                saved: at,
                ip: saved.pointer("ip")?,
                sp: saved.pointer("sp")?,
                syscall: u64::try_from(number).ok(),
            }));
        }
    }
    Ok(None)
}
