//! Rows of processes: what `tasks.rs` found, with owners, states and page tables.

use std::time::Duration;

use super::Linux;
use super::files::{Files, as_in_proc};
use super::kthreads::KthreadPlan;
use super::mm::{Mm, MmPlan};
use super::object::{Findings, Plan, Planner, Slot};
use super::ring::Budget;
use super::tasks::{Group, Task, TaskTables};
use crate::addr::{AddrRange, Address, Gva};
use crate::memory::Memory;
use crate::os::types::{TypeError, Types};
use crate::os::{Listing, OsError, Process, ProcessState, SymbolTable};
use crate::paging::AddressSpace;

/// Every thread has a stack of 16 KiB in the kernel and a `task_struct`: memory has no room for more
/// threads than this many bytes each.
const MIN_THREAD_BYTES: u64 = 8 << 10;

/// The kernel's own bound on the number of threads.
const MAX_THREADS: u64 = 4 << 20;

/// How many steps the way from a program's file to its path may have: there are many processes to ask for
/// theirs.
const MAX_PATH_STEPS: usize = 512;

/// How much of a command line is read.
const MAX_ARGUMENTS: u64 = 1 << 20;

/// What is needed to list processes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tables {
    pub(super) tasks: TaskTables,
    mm: MmPlan,
    cred: CredPlan,
    /// Names of kernel threads are a nicety: without these types the short ones are shown.
    kthreads: Option<KthreadPlan>,
}

#[derive(Clone, Copy, Debug)]
struct CredPlan {
    plan: Plan,
    uid: Slot,
    euid: Slot,
}

impl CredPlan {
    fn new(types: &Types) -> Result<Self, TypeError> {
        let mut cred = Planner::new(types, "cred")?;
        Ok(Self {
            uid: cred.need("uid")?,
            euid: cred.need("euid")?,
            plan: cred.plan(),
        })
    }
}

impl Tables {
    pub(super) fn new(types: &Types, symbols: &SymbolTable) -> Result<Self, OsError> {
        Ok(Self {
            tasks: TaskTables::new(types, symbols)?,
            mm: MmPlan::new(types)?,
            cred: CredPlan::new(types)?,
            kthreads: KthreadPlan::new(types).ok(),
        })
    }

    /// What is needed to read the memory of a process.
    pub(super) fn mm(&self) -> MmPlan {
        self.mm
    }
}

impl Linux {
    /// All processes.
    pub(super) fn list_processes(&self) -> Result<Listing<Process>, OsError> {
        let tables = self.tables()?;
        let bytes: u64 = self
            .space
            .phys()
            .regions(AddrRange::all())
            .fold(0, |sum, region| region.len.saturating_add(sum));
        let limit = (bytes / MIN_THREAD_BYTES).clamp(1024, MAX_THREADS);
        let mut findings = Findings::default();
        let groups = tables
            .tasks
            .groups(&self.space, limit as usize, &mut findings)?;
        let items = groups
            .iter()
            .map(|group| self.process(&tables, group, &mut findings))
            .collect();
        Ok(Listing {
            items,
            findings: findings.finish(),
        })
    }

    fn process(&self, tables: &Tables, group: &Group, findings: &mut Findings) -> Process {
        let leader = &group.leader;
        let roots = match group.mm() {
            0 => None,
            mm => tables
                .mm
                .read(&self.space, mm)
                .and_then(|mm| mm.roots(&self.space))
                .map_err(|bad| {
                    let what = format!("the memory of process {}", leader.tgid);
                    findings.bad_link(bad, leader.at, what);
                })
                .ok(),
        };
        let owner = tables.cred.plan.follow(&self.space, leader.real_cred);
        let owner = owner.map_err(|bad| {
            let what = format!("the owner of process {}", leader.tgid);
            findings.bad_link(bad, leader.at, what);
        });
        let user = |slot| owner.as_ref().map(|cred| cred.number32(slot)).ok();
        Process {
            pid: leader.tgid,
            ppid: group.parent,
            uid: user(tables.cred.uid),
            euid: user(tables.cred.euid),
            name: tables
                .kthreads
                .and_then(|plan| plan.name(&self.space, leader))
                .unwrap_or_else(|| leader.comm.clone()),
            threads: u32::try_from(group.others.len() + 1).unwrap_or(u32::MAX),
            started: leader.started.map(Duration::from_nanos),
            state: state(leader),
            kernel: leader.is_kernel(),
            mm: (group.mm() != 0).then_some(Gva(group.mm())),
            root: roots.map(|roots| roots.full),
            user_root: roots.and_then(|roots| roots.user),
            object: leader.at,
        }
    }

    /// The memory of a process, read anew.
    pub(super) fn mm_of(&self, process: &Process) -> Result<Mm, OsError> {
        let tables = self.tables()?;
        let mm = match process.mm {
            Some(mm) if process.root.is_some() => mm,
            _ => return Err(no_memory(process)),
        };
        tables
            .mm
            .read(&self.space, mm.raw())
            .map_err(|bad| Self::damaged(process, "the pointer to its memory", bad))
    }

    /// The arguments of a process, as `/proc/PID/cmdline` has them.
    pub(super) fn arguments(&self, process: &Process) -> Result<Vec<String>, OsError> {
        let [start, end, env_start, env_end] = self.mm_of(process)?.arguments();
        let space = self.user_space(process)?;
        let read = |from: Gva, to: Gva| {
            let len = to.offset_from(from).unwrap_or(0).min(MAX_ARGUMENTS);
            let mut bytes = vec![0; len as usize];
            match space.read(from, &mut bytes) {
                Ok(()) => Ok(bytes),
                Err(fault) => Err(OsError::Unreadable {
                    what: format!("the command line of process {}", process.pid),
                    fault,
                }),
            }
        };
        let mut bytes = read(start, end)?;
        match bytes.last() {
            None => return Ok(Vec::new()),
            Some(0) => {
                bytes.pop();
            }
            // The process wrote a title of its own over its arguments, which may reach into its
            // environment and ends with a NUL.
            Some(_) => {
                if env_start == end {
                    bytes.extend(read(env_start, env_end)?);
                }
                bytes.truncate(memchr::memchr(0, &bytes).unwrap_or(bytes.len()));
            }
        }
        let text = |arg: &[u8]| String::from_utf8_lossy(arg).into_owned();
        Ok(bytes.split(|&byte| byte == 0).map(text).collect())
    }

    /// The path of the program that a process runs, as `/proc/PID/exe` has it.
    pub(super) fn program_path(&self, process: &Process) -> Result<Option<String>, OsError> {
        let Some(pointer) = self.mm_of(process)?.exe_file().filter(|&file| file != 0) else {
            return Ok(None);
        };
        let mut findings = Findings::default();
        let mut files = Files {
            plan: &self.vma_plan()?.files,
            memory: &self.space,
            symbols: &self.symbols,
            steps: &mut Budget(MAX_PATH_STEPS),
        };
        let file = files
            .file(pointer, &mut findings)
            .map_err(|bad| Self::damaged(process, "the file of its program", bad))?;
        Ok(Some(as_in_proc(&file)))
    }

    /// The space that a process's user mode sees, with the pages in memory that the CPU faults on.
    pub(super) fn user_space(&self, process: &Process) -> Result<AddressSpace, OsError> {
        match process.user_root.or(process.root) {
            Some(root) => Ok(self.with_resident(self.space.with_root(root), process)),
            None => Err(no_memory(process)),
        }
    }
}

/// Why a process has no memory.
fn no_memory(process: &Process) -> OsError {
    OsError::NoMemory {
        pid: process.pid,
        name: process.name.clone(),
        why: match process {
            Process { kernel: true, .. } => "is a kernel thread",
            Process {
                state: ProcessState::Zombie | ProcessState::Dead,
                ..
            } => "has exited",
            _ => "has a damaged record, or is about to exit",
        },
    }
}

/// The state of a task, as `/proc/PID/stat` has it.
///
/// Bits are those of `include/linux/sched.h`; the lowest eight have not changed their meaning since
/// 4.14, and the ones below 0x40 since 3.14.
fn state(task: &Task) -> ProcessState {
    /// Waiting, but not counted as load: uninterruptible with `TASK_NOLOAD`.
    const IDLE: u32 = 0x402;
    /// `TASK_RTLOCK_WAIT` and `TASK_FROZEN`, shown as waiting.
    const ALSO_WAITING: u32 = 0x1000 | 0x8000;
    if task.state & IDLE == IDLE && task.exit_state == 0 {
        return ProcessState::Idle;
    }
    let bits = (task.state | task.exit_state) & 0x7f;
    match u32::BITS - bits.leading_zeros() {
        0 if task.state & ALSO_WAITING != 0 => ProcessState::Waiting,
        0 => ProcessState::Running,
        1 => ProcessState::Sleeping,
        2 => ProcessState::Waiting,
        3 => ProcessState::Stopped,
        4 => ProcessState::Traced,
        5 => ProcessState::Dead,
        6 => ProcessState::Zombie,
        7 => ProcessState::Parked,
        _ => ProcessState::Unknown,
    }
}
