//! What a thread is: the members of `task_struct` that are wanted, and what is taken for one.
//!
//! Types may be damaged, and kernels rename. A member that is not known costs what it says and nothing
//! else; only a thread's number and name, and some way to get to it, cannot be done without.

use crate::addr::{Address, Gva, PAGE_SIZE};
use crate::memory::{Fault, Memory, read_around_holes};
use crate::os::object::{BadLink, Part, Plan, Planner, Slot, link};
use crate::os::types::{TypeError, Types};

/// One more than the largest process number (`PID_MAX_LIMIT` of 64-bit kernels).
const PID_LIMIT: u32 = 4 << 20;

/// `flags`: runs in the kernel only (`PF_KTHREAD`).
const PF_KTHREAD: u32 = 0x0020_0000;

/// `flags`: is about to exit (`PF_EXITING`).
const PF_EXITING: u32 = 0x4;

/// `exit_state`: exited and waited for (`EXIT_DEAD`).
const EXIT_DEAD: u32 = 0x10;

/// Bits that `__state` and `exit_state` have had a meaning for.
const STATE_BITS: u32 = 0x000f_ffff;

/// How far into `init_task` its name is looked for.
const MAX_TASK: usize = 16 << 10;

/// How long a guest may have run, in nanoseconds: a century.
const MAX_UPTIME: u64 = 100 * 366 * 86_400 * 1_000_000_000;

/// Members of `task_struct` and of what it leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct TaskPlan {
    plan: Plan,
    pid: Slot,
    tgid: Option<Slot>,
    comm: Slot,
    flags: Option<Slot>,
    state: Option<Slot>,
    exit_state: Option<Slot>,
    mm: Option<Slot>,
    real_parent: Option<Slot>,
    pub(super) group_leader: Option<Slot>,
    signal: Option<Slot>,
    real_cred: Option<Slot>,
    start: Option<Slot>,
    /// The same without the time that the guest slept: what bounds it.
    start_awake: Option<Slot>,
    thread_pid: Option<Slot>,
    kthread: Option<Slot>,
    /// The kernel's stack of the thread: beside its state and flags, and what shows that these are.
    stack: Option<Slot>,
    /// Offsets of list nodes within the structure.
    pub(super) tasks_node: Option<u64>,
    pub(super) thread_node: Option<u64>,
    pub(super) pid_node: Option<u64>,
}

impl TaskPlan {
    /// Looks up the members. `init_task` is where the first task is, if that is known. What is not found
    /// is added to `lost`.
    pub(super) fn new(
        types: &Types,
        memory: &dyn Memory<Addr = Gva>,
        init_task: Option<Gva>,
        lost: &mut Vec<String>,
    ) -> Result<Self, TypeError> {
        let mut task = Planner::new(types, "task_struct")?;
        let comm = match (task.need("comm"), init_task) {
            (Ok(comm), _) => comm,
            (Err(error), None) => return Err(error),
            (Err(error), Some(init)) => task.place(name_in(memory, init).ok_or(error)?, 16),
        };
        let pid = task.need("pid")?;
        let plan = Self {
            pid,
            tgid: task.ask(&["tgid"], lost),
            comm,
            flags: task.ask(&["flags"], lost),
            state: task.ask(&["__state", "state"], lost),
            exit_state: task.ask(&["exit_state"], lost),
            mm: task.ask(&["mm"], lost),
            real_parent: task.ask(&["real_parent"], lost),
            group_leader: task.ask(&["group_leader"], lost),
            signal: task.ask(&["signal"], lost),
            real_cred: task.ask(&["real_cred"], lost),
            start: task
                .want(&["start_boottime", "real_start_time"])
                .filter(|slot| slot.size == 8),
            start_awake: task.want(&["start_time"]).filter(|slot| slot.size == 8),
            thread_pid: task.want(&["thread_pid"]),
            kthread: task.want(&["worker_private", "set_child_tid"]),
            stack: task.want(&["stack"]),
            tasks_node: task.offset(&["tasks"], lost),
            thread_node: task.offset(&["thread_node"], &mut Vec::new()),
            pid_node: task.offset(&["pid_links", "pids[0].node"], lost),
            plan: task.plan(),
        };
        match (plan.tasks_node, plan.pid_node, plan.group_leader) {
            (None, None, None) => Err(TypeError::NoMember {
                record: "struct task_struct".into(),
                member: "tasks".into(),
            }),
            _ => Ok(plan),
        }
    }

    /// Reads the task at `at`.
    pub(super) fn read(&self, memory: &dyn Memory<Addr = Gva>, at: u64) -> Result<Task, NotATask> {
        let (object, fault) = self.plan.read_partly(memory, link(at)?);
        // Without its number and its name nothing tells that it is a task.
        if let Some(fault) = fault.filter(|_| !object.has(self.pid) || !object.has(self.comm)) {
            return Err(BadLink::Fault { pointer: at, fault }.into());
        }
        let mut task = self.task(&object);
        task.absent = fault;
        let comm = object.bytes(self.comm);
        let signal = self.signal.filter(|&signal| object.has(signal));
        let has_signals = signal.is_none() || link(task.signal).is_ok();
        let why = if task.pid >= PID_LIMIT || task.tgid >= PID_LIMIT {
            "its number is out of bounds"
        } else if !comm.contains(&0) {
            "its name does not end"
        } else if task.pid != 0 && !has_signals {
            "it has no signals"
        } else {
            if self.tgid.is_none_or(|tgid| !object.has(tgid)) {
                task.tgid = self.leader_of(memory, &task);
            }
            return Ok(task);
        };
        Err(NotATask::Looks(why))
    }

    /// Where the name is.
    pub(super) fn comm_offset(&self) -> u64 {
        self.comm.offset
    }

    /// The number of a thread's process, where it does not say so itself: that of the first thread.
    fn leader_of(&self, memory: &dyn Memory<Addr = Gva>, task: &Task) -> u32 {
        let leader = link(task.group_leader).ok();
        leader
            .filter(|&leader| leader != task.at)
            .and_then(|leader| {
                let at = Gva(leader.raw().wrapping_add(self.pid.offset));
                memory.read_u32(at).ok()
            })
            .filter(|&pid| pid < PID_LIMIT)
            .unwrap_or(task.pid)
    }

    fn task(&self, object: &Part) -> Task {
        let known = |slot: Option<Slot>| slot.filter(|&slot| object.has(slot));
        let number = |slot: Option<Slot>| known(slot).map_or(0, |slot| object.number(slot));
        let number32 = |slot: Option<Slot>| known(slot).map_or(0, |slot| object.number32(slot));
        let pid = object.number32(self.pid);
        let started = known(self.start).map(|slot| object.number(slot));
        let awake = number(self.start_awake);
        let state = known(self.state).map(|slot| object.number32(slot));
        let exit_state = number32(self.exit_state);
        let flags = known(self.flags).map(|slot| object.number32(slot));
        // One that has exited has given its stack back.
        let stack = known(self.stack).map(|slot| object.number(slot));
        let has_stack = stack.is_none_or(|at| link(at).is_ok() || at == 0 && exit_state != 0);
        let whole = has_stack && (state.unwrap_or(0) | exit_state) & !STATE_BITS == 0;
        Task {
            at: object.at,
            pid,
            tgid: known(self.tgid).map_or(pid, |slot| object.number32(slot)),
            comm: object.text(self.comm),
            flags: flags.filter(|_| whole),
            state: state.filter(|_| whole),
            exit_state,
            mm: number(self.mm),
            whole,
            real_parent: number(self.real_parent),
            group_leader: number(self.group_leader),
            signal: number(self.signal),
            real_cred: known(self.real_cred).map(|slot| object.number(slot)),
            started: started.filter(|&at| at <= MAX_UPTIME && awake <= at),
            thread_pid: known(self.thread_pid).map(|slot| object.number(slot)),
            kthread: number(self.kthread),
            absent: None,
        }
    }
}

/// Where in `init_task` its name is: the only place that has the name of an idle task and nothing else.
fn name_in(memory: &dyn Memory<Addr = Gva>, init_task: Gva) -> Option<u64> {
    const NAMES: [&[u8; 16]; 2] = [b"swapper/0\0\0\0\0\0\0\0", b"swapper\0\0\0\0\0\0\0\0\0"];
    let mut bytes = vec![0; MAX_TASK];
    read_around_holes(memory, init_task, &mut bytes, PAGE_SIZE, |_, _, _| {});
    NAMES.iter().find_map(|name| {
        let mut places = memchr::memmem::find_iter(&bytes, &name[..]);
        let place = places.next()? as u64;
        places.next().is_none().then_some(place)
    })
}

/// Why something is not taken for a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NotATask {
    Link(BadLink),
    Looks(&'static str),
}

impl From<BadLink> for NotATask {
    fn from(bad: BadLink) -> Self {
        Self::Link(bad)
    }
}

/// One thread, as its `task_struct` says. Pointers are as they stand there; 0 stands for what is not
/// known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Task {
    pub(super) at: Gva,
    /// Number of the thread.
    pub(super) pid: u32,
    /// Number of the process: that of its first thread.
    pub(super) tgid: u32,
    pub(super) comm: String,
    pub(super) flags: Option<u32>,
    /// Whether its state and flags are what a kernel writes there. Otherwise they are not known.
    pub(super) whole: bool,
    pub(super) state: Option<u32>,
    pub(super) exit_state: u32,
    pub(super) mm: u64,
    pub(super) real_parent: u64,
    pub(super) group_leader: u64,
    pub(super) signal: u64,
    pub(super) real_cred: Option<u64>,
    /// Nanoseconds from boot.
    pub(super) started: Option<u64>,
    pub(super) thread_pid: Option<u64>,
    /// Of kernel threads: their `struct kthread`.
    pub(super) kthread: u64,
    /// Why a part of it could not be read. What stands there is not known.
    pub(super) absent: Option<Fault<Gva>>,
}

impl Task {
    /// Whether it runs in the kernel only.
    pub(super) fn is_kernel(&self) -> bool {
        match self.flags {
            Some(flags) => flags & PF_KTHREAD != 0,
            None => self.mm == 0 && self.exit_state == 0,
        }
    }

    /// Whether it is the first thread of its process.
    pub(super) fn leads(&self) -> bool {
        self.pid == self.tgid
    }

    /// Whether it is on its way out of the kernel's lists.
    pub(super) fn is_leaving(&self) -> bool {
        let exiting = self.flags.is_some_and(|flags| flags & PF_EXITING != 0);
        self.exit_state & EXIT_DEAD != 0 || exiting
    }
}
