//! Threads and processes as the kernel has them.
//!
//! Three views are read and compared:
//!
//! 1. the list of processes, `init_task.tasks`, which links the first thread of each,
//! 2. the list of threads of each process, `signal->thread_head`,
//! 3. the tables from numbers to threads (`pids.rs`).
//!
//! A process is listed when any view has it, and every difference is a finding: malware hides a process
//! by taking it out of one view, and rarely out of all. Two more hints lead to what is in none of the
//! views: the parent and the first thread of every thread that was found.
//!
//! What a link leads to is believed to be a thread only when it looks like one ([`TaskPlan::read`]).

use std::collections::{BTreeMap, HashMap, HashSet};

use super::object::{BadLink, Findings, Object, Plan, Planner, Slot, link};
use super::pids::{Entry, PidTables};
use super::ring::{Budget, ring};
use crate::addr::{Address, Gva};
use crate::memory::Memory;
use crate::os::types::{TypeError, Types};
use crate::os::{FindingKind, OsError, SymbolTable};

/// One more than the largest process number (`PID_MAX_LIMIT` of 64-bit kernels).
const PID_LIMIT: u32 = 4 << 20;

/// `flags`: runs in the kernel only (`PF_KTHREAD`).
const PF_KTHREAD: u32 = 0x0020_0000;

/// Members of `task_struct` and of what it leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct TaskPlan {
    plan: Plan,
    pid: Slot,
    tgid: Slot,
    comm: Slot,
    flags: Slot,
    state: Slot,
    exit_state: Slot,
    mm: Slot,
    real_parent: Slot,
    group_leader: Slot,
    signal: Slot,
    real_cred: Slot,
    start: Option<Slot>,
    thread_pid: Option<Slot>,
    kthread: Option<Slot>,
    /// Offsets of list nodes within the structure.
    tasks_node: u64,
    thread_node: Option<u64>,
    pid_node: u64,
}

impl TaskPlan {
    fn new(types: &Types) -> Result<Self, TypeError> {
        let mut task = Planner::new(types, "task_struct")?;
        let pid_node = task
            .want(&["pid_links[0]", "pids[0].node"])
            .ok_or_else(|| TypeError::NoMember {
                record: "struct task_struct".into(),
                member: "pid_links".into(),
            })?;
        Ok(Self {
            pid: task.need("pid")?,
            tgid: task.need("tgid")?,
            comm: task.need("comm")?,
            flags: task.need("flags")?,
            state: match task.want(&["__state"]) {
                Some(state) => state,
                None => task.need("state")?,
            },
            exit_state: task.need("exit_state")?,
            mm: task.need("mm")?,
            real_parent: task.need("real_parent")?,
            group_leader: task.need("group_leader")?,
            signal: task.need("signal")?,
            real_cred: task.need("real_cred")?,
            start: task
                .want(&["start_boottime", "real_start_time"])
                .filter(|slot| slot.size == 8),
            thread_pid: task.want(&["thread_pid"]),
            kthread: task.want(&["worker_private", "set_child_tid"]),
            tasks_node: task.need("tasks")?.offset,
            thread_node: task.want(&["thread_node"]).map(|slot| slot.offset),
            pid_node: pid_node.offset,
            plan: task.plan(),
        })
    }

    /// Reads the task at `at`.
    fn read(&self, memory: &dyn Memory<Addr = Gva>, at: u64) -> Result<Task, NotATask> {
        let object = self.plan.follow(memory, at)?;
        let task = self.task(&object);
        let comm = object.bytes(self.comm);
        let why = if task.pid >= PID_LIMIT || task.tgid >= PID_LIMIT {
            "its number is out of bounds"
        } else if !comm.contains(&0) {
            "its name does not end"
        } else if task.pid != 0 && link(task.signal).is_err() {
            "it has no signals"
        } else {
            return Ok(task);
        };
        Err(NotATask::Looks(why))
    }

    fn task(&self, object: &Object) -> Task {
        Task {
            at: object.at,
            pid: object.number32(self.pid),
            tgid: object.number32(self.tgid),
            comm: object.text(self.comm),
            flags: object.number32(self.flags),
            state: object.number32(self.state),
            exit_state: object.number32(self.exit_state),
            mm: object.number(self.mm),
            real_parent: object.number(self.real_parent),
            group_leader: object.number(self.group_leader),
            signal: object.number(self.signal),
            real_cred: object.number(self.real_cred),
            started: self.start.map(|slot| object.number(slot)),
            thread_pid: self.thread_pid.map(|slot| object.number(slot)),
            kthread: self.kthread.map_or(0, |slot| object.number(slot)),
        }
    }
}

/// Why something is not taken for a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NotATask {
    Link(BadLink),
    Looks(&'static str),
}

impl From<BadLink> for NotATask {
    fn from(bad: BadLink) -> Self {
        Self::Link(bad)
    }
}

/// One thread, as its `task_struct` says. Pointers are as they stand there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Task {
    pub(super) at: Gva,
    /// Number of the thread.
    pub(super) pid: u32,
    /// Number of the process: that of its first thread.
    pub(super) tgid: u32,
    pub(super) comm: String,
    pub(super) flags: u32,
    pub(super) state: u32,
    pub(super) exit_state: u32,
    pub(super) mm: u64,
    real_parent: u64,
    group_leader: u64,
    signal: u64,
    pub(super) real_cred: u64,
    /// Nanoseconds from boot.
    pub(super) started: Option<u64>,
    thread_pid: Option<u64>,
    /// Of kernel threads: their `struct kthread`.
    pub(super) kthread: u64,
}

impl Task {
    /// Whether it runs in the kernel only.
    pub(super) fn is_kernel(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }

    /// Whether it is the first thread of its process.
    fn leads(&self) -> bool {
        self.pid == self.tgid
    }
}

/// A process: its first thread and the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Group {
    /// The first thread. It may have exited before the others.
    pub(super) leader: Task,
    /// The other threads, by number.
    pub(super) others: Vec<Task>,
    /// Number of the parent process, 0 for none.
    pub(super) parent: u32,
}

impl Group {
    /// All threads.
    pub(super) fn threads(&self) -> impl Iterator<Item = &Task> {
        std::iter::once(&self.leader).chain(&self.others)
    }

    /// The `mm_struct` of the process: its first thread's, or that of another when the first one has
    /// exited. 0 when there is none.
    pub(super) fn mm(&self) -> u64 {
        let mms = self.threads().map(|task| task.mm);
        match self.leader.is_kernel() {
            // A kernel thread may borrow one for a while.
            true => 0,
            false => mms.into_iter().find(|&mm| mm != 0).unwrap_or(0),
        }
    }
}

/// What is needed to list tasks.
#[derive(Clone, Copy, Debug)]
pub(super) struct TaskTables {
    pub(super) task: TaskPlan,
    signal: SignalPlan,
    pids: PidTables,
    init_task: Gva,
}

#[derive(Clone, Copy, Debug)]
struct SignalPlan {
    plan: Plan,
    nr_threads: Slot,
    thread_head: Option<Slot>,
}

impl TaskTables {
    /// Looks up what is needed.
    pub(super) fn new(types: &Types, symbols: &SymbolTable) -> Result<Self, OsError> {
        let mut signal = Planner::new(types, "signal_struct")?;
        Ok(Self {
            task: TaskPlan::new(types)?,
            signal: SignalPlan {
                nr_threads: signal.need("nr_threads")?,
                thread_head: signal.want(&["thread_head"]),
                plan: signal.plan(),
            },
            pids: PidTables::new(types, symbols)?,
            init_task: symbols
                .address_of("init_task")
                .ok_or(OsError::NoSymbol("init_task"))?,
        })
    }

    /// All processes by number. At most `limit` threads are looked at.
    ///
    /// # Errors
    ///
    /// When `init_task` is not where it should be, or cannot be read and neither can the other views.
    pub(super) fn groups(
        &self,
        memory: &dyn Memory<Addr = Gva>,
        limit: usize,
        findings: &mut Findings,
    ) -> Result<Vec<Group>, OsError> {
        let damaged = |why: String| OsError::Damaged {
            what: "init_task".into(),
            at: self.init_task,
            why,
        };
        let mut unreadable = None;
        match self.task.read(memory, self.init_task.raw()) {
            Ok(idle) if idle.pid == 0 && idle.comm.starts_with("swapper") => {}
            Ok(idle) => {
                return Err(damaged(format!(
                    "it is number {} and called {:?}",
                    idle.pid, idle.comm
                )));
            }
            Err(NotATask::Looks(why)) => return Err(damaged(why.into())),
            // An image that lacks the page still has the pid table.
            Err(NotATask::Link(BadLink::Fault { fault, .. })) => unreadable = Some(fault),
            Err(NotATask::Link(bad)) => return Err(damaged(format!("its address {bad}"))),
        }
        let census = Census {
            tables: self,
            memory,
            findings,
            // Each thread is met in up to three views, and the tables have inner nodes.
            budget: Budget(limit.saturating_mul(8)),
            limit,
            tasks: HashMap::new(),
            met: Vec::new(),
            refused: HashSet::new(),
        };
        let groups = census.take();
        match unreadable {
            Some(fault) if groups.is_empty() => Err(OsError::Unreadable {
                what: "init_task".into(),
                fault,
            }),
            _ => Ok(groups),
        }
    }
}

/// Where a task was found, in words for findings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    List,
    Threads,
    Table,
    Hint,
}

/// In which views a task was found.
#[derive(Clone, Copy, Default, Debug)]
struct Views {
    list: bool,
    threads: bool,
    table: bool,
}

struct Census<'c> {
    tables: &'c TaskTables,
    memory: &'c dyn Memory<Addr = Gva>,
    findings: &'c mut Findings,
    budget: Budget,
    limit: usize,
    tasks: HashMap<Gva, (Task, Views)>,
    /// The same in the order in which they were met.
    met: Vec<Gva>,
    /// What was looked at and is no task.
    refused: HashSet<Gva>,
}

impl Census<'_> {
    fn take(mut self) -> Vec<Group> {
        let list_read = self.list();
        let table_read = self.table();
        // Threads and hints lead to tasks that lead to more of both.
        let mut counted = HashMap::new();
        let mut next = 0;
        while let Some(at) = self.met.get(next) {
            next += 1;
            let task = self.tasks[at].0.clone();
            counted
                .entry(task.signal)
                .or_insert_with(|| self.threads_of(&task));
            self.hint(&task, task.group_leader, "first thread");
            self.hint(&task, task.real_parent, "parent");
        }
        self.compare(list_read, table_read);
        self.group(&counted)
    }

    /// The list of processes. Whether all of it could be read.
    fn list(&mut self) -> bool {
        let before = self.findings.len();
        let task = &self.tables.task;
        let head = Gva(self.tables.init_task.raw().wrapping_add(task.tasks_node));
        let nodes = ring(self.memory, head, "tasks", &mut self.budget, self.findings);
        match nodes {
            Ok(nodes) => {
                for node in nodes {
                    let at = node.raw().wrapping_sub(task.tasks_node);
                    self.meet(at, View::List);
                }
            }
            Err(bad) => self.findings.bad_link(bad, head, "the list of tasks"),
        }
        !self.findings.unreadable_since(before)
    }

    /// The tables of numbers. Whether all of them could be read.
    fn table(&mut self) -> bool {
        let before = self.findings.len();
        let entries = self
            .tables
            .pids
            .entries(self.memory, &mut self.budget, self.findings);
        let entries = match entries {
            Ok(entries) => entries,
            Err(bad) => {
                let text = format!("the pointer to the pid table {bad}");
                self.findings.add(bad.kind(), None, text);
                Vec::new()
            }
        };
        for entry in entries {
            let Some(node) = entry.task_link else {
                continue;
            };
            let at = node.raw().wrapping_sub(self.tables.task.pid_node);
            if let Some(task) = self.meet(at, View::Table) {
                let (pid, thread_pid) = (task.pid, task.thread_pid);
                self.compare_entry(entry, Gva(at), pid, thread_pid);
            }
        }
        !self.findings.unreadable_since(before)
    }

    fn compare_entry(&mut self, entry: Entry, at: Gva, pid: u32, thread_pid: Option<u64>) {
        let Entry { number, .. } = entry;
        if pid != number {
            let text = format!("the pid table's entry {number} leads to the task numbered {pid}");
            self.findings.add(FindingKind::Inconsistent, Some(at), text);
        }
        if let Some(told) = thread_pid
            && told != entry.pid.raw()
        {
            let text = format!(
                "task {pid} says that its number is kept at {told:#x}, but the pid table says {}",
                entry.pid
            );
            self.findings.add(FindingKind::Inconsistent, Some(at), text);
        }
    }

    /// The threads of a task's process; their number as the list has it and as it is told.
    fn threads_of(&mut self, task: &Task) -> Option<(u64, u64)> {
        let (signal, node) = (self.tables.signal, self.tables.task.thread_node);
        let object = match signal.plan.follow(self.memory, task.signal) {
            Ok(object) => object,
            Err(bad) => {
                let what = format!("the signals of task {}", task.pid);
                self.findings.bad_link(bad, task.at, what);
                return None;
            }
        };
        let told = object.number(signal.nr_threads);
        let (head, node) = (signal.thread_head?, node?);
        let head = Gva(object.at.raw().wrapping_add(head.offset));
        let what = format!("threads of process {}", task.tgid);
        let budget = &mut self.budget;
        match ring(self.memory, head, &what, budget, self.findings) {
            Ok(nodes) => {
                let listed = nodes.len() as u64;
                for thread in nodes {
                    let at = thread.raw().wrapping_sub(node);
                    self.meet(at, View::Threads);
                }
                Some((listed, told))
            }
            Err(bad) => {
                let what = format!("the list of {what}");
                self.findings.bad_link(bad, head, what);
                None
            }
        }
    }

    /// A task that another one leads to.
    fn hint(&mut self, from: &Task, pointer: u64, what: &str) {
        if self.tasks.contains_key(&Gva(pointer)) || pointer == self.tables.init_task.raw() {
            return;
        }
        if self.meet(pointer, View::Hint).is_none() {
            let text = format!("the {what} of task {} ({}) is no task", from.pid, from.comm);
            self.findings.add(FindingKind::Damaged, Some(from.at), text);
        }
    }

    /// Takes note of a task, and reads it when it is new.
    fn meet(&mut self, at: u64, view: View) -> Option<&Task> {
        let key = Gva(at);
        if !self.tasks.contains_key(&key) {
            if self.refused.contains(&key) {
                return None;
            }
            if self.tasks.len() + self.refused.len() >= self.limit {
                if self.budget.0 > 0 {
                    self.budget.0 = 0;
                    let text = "there are more tasks than memory has room for";
                    self.findings.add(FindingKind::Limit, Some(key), text);
                }
                return None;
            }
            match self.tables.task.read(self.memory, at) {
                // Idle tasks, one for each CPU, are in no view.
                Ok(task) if task.pid == 0 => {
                    self.refused.insert(key);
                    return None;
                }
                Ok(task) => {
                    self.met.push(key);
                    self.tasks.insert(key, (task, Views::default()));
                }
                Err(not) => {
                    self.refused.insert(key);
                    self.refuse(key, view, not);
                    return None;
                }
            }
        }
        let (task, views) = self.tasks.get_mut(&key)?;
        match view {
            View::List => views.list = true,
            View::Threads => views.threads = true,
            View::Table => views.table = true,
            View::Hint => {}
        }
        Some(task)
    }

    fn refuse(&mut self, at: Gva, view: View, not: NotATask) {
        let from = match view {
            View::List => "the list of tasks leads to",
            View::Threads => "a list of threads leads to",
            View::Table => "the pid table leads to",
            // Said by who followed it.
            View::Hint => return,
        };
        match not {
            NotATask::Link(bad) => {
                let text = format!("{from} a task whose address {bad}");
                self.findings.add(bad.kind(), Some(at), text);
            }
            NotATask::Looks(why) => {
                let text = format!("{from} something that is no task: {why}");
                self.findings.add(FindingKind::Damaged, Some(at), text);
            }
        }
    }

    /// Reports what is in one view and not in another. What is missing from a view of which a part could
    /// not be read is no sign of hiding: it is only counted.
    fn compare(&mut self, list_read: bool, table_read: bool) {
        let has_threads =
            self.tables.signal.thread_head.is_some() && self.tables.task.thread_node.is_some();
        let mut tasks: Vec<&(Task, Views)> = self.tasks.values().collect();
        tasks.sort_unstable_by_key(|(task, _)| (task.pid, task.at));
        let (mut not_in_list, mut not_in_table) = (0, 0);
        for (task, views) in tasks {
            let mut missing = Vec::new();
            if task.leads() && !views.list {
                match list_read {
                    true => missing.push("the list of tasks"),
                    false => not_in_list += 1,
                }
            }
            if has_threads && !views.threads {
                missing.push("the list of its process's threads");
            }
            if !views.table {
                match table_read {
                    true => missing.push("the pid table"),
                    false => not_in_table += 1,
                }
            }
            if missing.is_empty() {
                continue;
            }
            let what = match task.leads() {
                true => format!("process {} ({})", task.pid, task.comm),
                false => format!(
                    "thread {} ({}) of process {}",
                    task.pid, task.comm, task.tgid
                ),
            };
            let text = format!("{what} is not in {}", missing.join(", and not in "));
            self.findings.add(FindingKind::Hidden, Some(task.at), text);
        }
        for (count, what, view) in [
            (not_in_list, "processes", "the list of tasks"),
            (not_in_table, "threads", "the pid table"),
        ] {
            if count > 0 {
                let text = format!("{count} {what} are in no part of {view} that could be read");
                self.findings.add(FindingKind::Unreadable, None, text);
            }
        }
    }

    /// Puts threads together to processes.
    fn group(mut self, counted: &HashMap<u64, Option<(u64, u64)>>) -> Vec<Group> {
        let tasks = std::mem::take(&mut self.tasks);
        let tgids: HashMap<Gva, u32> = tasks
            .iter()
            .map(|(&at, (task, _))| (at, task.tgid))
            .collect();
        let mut threads: BTreeMap<u32, Vec<Task>> = BTreeMap::new();
        for (task, _) in tasks.into_values() {
            threads.entry(task.tgid).or_default().push(task);
        }
        let mut groups = Vec::with_capacity(threads.len());
        for (number, mut threads) in threads {
            threads.sort_unstable_by_key(|task| (!task.leads(), task.pid, task.at));
            let mut threads = threads.into_iter();
            let Some(leader) = threads.next() else {
                continue;
            };
            let others: Vec<Task> = threads.collect();
            let same = |task: &&Task| task.leads();
            if let Some(twin) = others.iter().find(same) {
                let text = format!("there is a second process numbered {number}");
                self.findings
                    .add(FindingKind::Inconsistent, Some(twin.at), text);
            }
            if !leader.leads() {
                let text = format!("process {number} has threads, but its first one is nowhere");
                self.findings
                    .add(FindingKind::Hidden, Some(leader.at), text);
            }
            if let Some(&Some((listed, told))) = counted.get(&leader.signal)
                && listed != told
            {
                let text =
                    format!("process {number} is said to have {told} threads, and lists {listed}");
                self.findings
                    .add(FindingKind::Inconsistent, Some(leader.at), text);
            }
            let parent = tgids.get(&Gva(leader.real_parent)).copied().unwrap_or(0);
            groups.push(Group {
                leader,
                others,
                parent,
            });
        }
        groups
    }
}
