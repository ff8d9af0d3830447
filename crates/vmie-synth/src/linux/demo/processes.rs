//! What the demo kernel keeps of its processes: tasks, numbers, memory descriptors, mapped regions.
//!
//! Sources: `include/linux/{sched,mm_types,pid}.h`, `include/linux/mm.h` for the bits of `vm_flags`.

use crate::guest::{Flags, PAGE, Space};
use crate::linux::objects::{DIRECT, Objects};

/// `vm_flags`: may be read, written, executed.
pub(super) const READ: u64 = 1;
pub(super) const WRITE: u64 = 2;
pub(super) const EXEC: u64 = 4;
/// Shared with whoever else maps the file.
pub(super) const SHARED: u64 = 8 | 0x80;

/// `flags` of a task: runs in the kernel only.
const PF_KTHREAD: u64 = 0x0020_0000;

/// Nanoseconds of a millisecond.
const MS: u64 = 1_000_000;

/// A region that a process has arranged to be mapped.
#[derive(Clone, Debug)]
pub(super) struct Area {
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) flags: u64,
    /// A file by its path, and where in it the region begins.
    pub(super) file: Option<(&'static str, u64)>,
    /// The name that the process has given a region without a file.
    pub(super) name: Option<&'static str>,
}

impl Area {
    /// One that no file stands behind.
    pub(super) fn anonymous(start: u64, len: u64, flags: u64) -> Self {
        Self {
            start,
            len,
            flags,
            file: None,
            name: None,
        }
    }

    /// Part of a file, from `offset` on.
    pub(super) fn of_file(
        start: u64,
        len: u64,
        flags: u64,
        path: &'static str,
        offset: u64,
    ) -> Self {
        Self {
            file: Some((path, offset)),
            ..Self::anonymous(start, len, flags)
        }
    }

    /// The rights that page tables give it.
    pub(super) fn rights(&self) -> Flags {
        Flags::of(self.flags & WRITE != 0, true, self.flags & EXEC == 0)
    }
}

/// The memory of a process: its page tables, and what it has arranged.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) space: Space,
    /// By ascending address, none touching another.
    pub(super) areas: Vec<Area>,
    /// Path of the program.
    pub(super) program: &'static str,
    /// First byte and length of the heap.
    pub(super) heap: (u64, u64),
    /// Where the first thread's stack began.
    pub(super) stack: u64,
    /// Arguments, and behind them the environment: first byte, and length of each.
    pub(super) words: (u64, u64, u64),
}

/// A process.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) pid: u64,
    /// The process that started it; 0 for the kernel.
    pub(super) parent: u64,
    pub(super) name: &'static str,
    pub(super) uid: u64,
    /// Milliseconds from boot.
    pub(super) started: u64,
    /// Runs at the moment, and does not wait.
    pub(super) runs: bool,
    /// Its memory; a kernel thread has none.
    pub(super) user: Option<User>,
}

/// Writes the tasks of these processes, parents before their children, and links them.
pub(super) fn write(objects: &mut Objects<'_>, plans: &[Plan]) {
    let init = objects.kernel.symbol("init_task");
    let namespace = objects.kernel.symbol("init_pid_ns");
    let mut tasks: Vec<(u64, u64)> = vec![(0, init)];
    task(objects, init, init, &idle());
    let mut numbers = Vec::new();
    for plan in plans {
        let parent = tasks.iter().find(|(pid, _)| *pid == plan.parent);
        let parent = parent.expect("parents come first").1;
        let at = objects.object("task_struct");
        task(objects, at, parent, plan);
        let number = objects.object("pid");
        let links = objects.records.offset_of("task_struct.pid_links");
        objects.set_all(number, "pid", &[("count", 1), ("tasks", at + links)]);
        let numbered = number + objects.records.offset_of("pid.numbers");
        objects.set_all(numbered, "upid", &[("nr", plan.pid), ("ns", namespace)]);
        objects.set(at, "task_struct.thread_pid", number);
        tasks.push((plan.pid, at));
        numbers.push((plan.pid, number));
    }
    let node = |objects: &Objects<'_>, member: &str| {
        objects.records.offset_of(&format!("task_struct.{member}"))
    };
    let by_start: Vec<u64> = tasks[1..]
        .iter()
        .map(|(_, at)| at + node(objects, "tasks"))
        .collect();
    objects.ring(init + node(objects, "tasks"), &by_start);
    for &(pid, at) in &tasks {
        let siblings: Vec<u64> = plans
            .iter()
            .zip(&tasks[1..])
            .filter(|(plan, _)| plan.parent == pid)
            .map(|(_, (_, child))| child + node(objects, "sibling"))
            .collect();
        objects.ring(at + node(objects, "children"), &siblings);
    }
    let root = objects.xarray(&numbers);
    objects.set(namespace, "pid_namespace.idr.idr_rt.xa_head", root);
    let count = plans.len() as u64;
    objects.set(namespace, "pid_namespace.pid_allocated", count);
}

/// What runs when nothing else does.
fn idle() -> Plan {
    Plan {
        pid: 0,
        parent: 0,
        name: "swapper/0",
        uid: 0,
        started: 0,
        runs: true,
        user: None,
    }
}

/// Fills in a task: one thread, in rings of its own.
fn task(objects: &mut Objects<'_>, at: u64, parent: u64, plan: &Plan) {
    let signal = objects.object("signal_struct");
    objects.set_all(signal, "signal_struct", &[("live", 1), ("nr_threads", 1)]);
    let threads = signal + objects.records.offset_of("signal_struct.thread_head");
    let thread = at + objects.records.offset_of("task_struct.thread_node");
    objects.ring(threads, &[thread]);
    let cred = objects.object("cred");
    objects.set(cred, "cred.usage", 2);
    for member in ["uid", "suid", "euid", "gid", "sgid", "egid"] {
        objects.set(cred, &format!("cred.{member}"), plan.uid);
    }
    let stack = objects.room(4 * PAGE, 4 * PAGE);
    let mm = plan.user.as_ref().map_or(0, |user| mm(objects, user, at));
    objects.set_text(at, "task_struct.comm", plan.name);
    let flags = if mm == 0 { PF_KTHREAD } else { 0 };
    objects.set_all(
        at,
        "task_struct",
        &[
            ("__state", u64::from(!plan.runs)),
            ("stack", stack),
            ("flags", flags),
            ("prio", 120),
            ("mm", mm),
            ("active_mm", mm),
            ("pid", plan.pid),
            ("tgid", plan.pid),
            ("real_parent", parent),
            ("parent", parent),
            ("group_leader", at),
            ("start_time", plan.started * MS),
            ("start_boottime", plan.started * MS),
            ("real_cred", cred),
            ("cred", cred),
            ("signal", signal),
        ],
    );
}

/// A memory descriptor: its address.
fn mm(objects: &mut Objects<'_>, user: &User, owner: u64) -> u64 {
    let at = objects.object("mm_struct");
    let code = user.areas.iter().find(|area| area.flags & EXEC != 0);
    let code = code.map_or((0, 0), |area| (area.start, area.start + area.len));
    let (arguments, environment, end) = (
        user.words.0,
        user.words.0 + user.words.1,
        user.words.0 + user.words.1 + user.words.2,
    );
    let total: u64 = user.areas.iter().map(|area| area.len / PAGE).sum();
    let exe = objects.open(user.program);
    objects.set_all(
        at,
        "mm_struct",
        &[
            ("mm_count", 1),
            ("pgd", DIRECT + user.space.root()),
            ("mm_users", 1),
            ("map_count", user.areas.len() as u64),
            ("total_vm", total),
            ("start_code", code.0),
            ("end_code", code.1),
            ("start_brk", user.heap.0),
            ("brk", user.heap.0 + user.heap.1),
            ("start_stack", user.stack),
            ("arg_start", arguments),
            ("arg_end", environment),
            ("env_start", environment),
            ("env_end", end),
            // MM_CONTEXT_HAS_VSYSCALL, which only 64-bit programs have.
            ("context.flags", 2),
            ("owner", owner),
            ("exe_file", exe),
        ],
    );
    let entries: Vec<(u64, u64, u64)> = user
        .areas
        .iter()
        .map(|area| {
            let vma = vma(objects, area, at);
            (area.start, area.start + area.len - 1, vma)
        })
        .collect();
    let root = objects.maple(&entries);
    objects.set(at, "mm_struct.mm_mt.ma_root", root);
    at
}

fn vma(objects: &mut Objects<'_>, area: &Area, mm: u64) -> u64 {
    let at = objects.object("vm_area_struct");
    objects.set_all(
        at,
        "vm_area_struct",
        &[
            ("vm_start", area.start),
            ("vm_end", area.start + area.len),
            ("vm_mm", mm),
            // What it has, and what it might be given (VM_MAYREAD and so on).
            ("vm_flags", area.flags | 0x70),
        ],
    );
    if let Some((path, offset)) = area.file {
        let file = objects.open(path);
        let members = [("vm_file", file), ("vm_pgoff", offset / PAGE)];
        objects.set_all(at, "vm_area_struct", &members);
    }
    if let Some(name) = area.name {
        let anon_name = objects.object("anon_vma_name");
        objects.set_text(anon_name, "anon_vma_name.name", name);
        objects.set(at, "vm_area_struct.anon_name", anon_name);
    }
    at
}
