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
//!
//! When the first and the third view are both damaged, a process can be in the lost parts of both. Then,
//! and only then, memory is searched for tasks by their shape (`strays.rs`).

use std::collections::{BTreeMap, HashMap, HashSet};

use super::pids::{Entry, PidTables};
use super::strays;
use super::taskplan::{NotATask, Task, TaskPlan};
use crate::addr::{Address, Gva};
use crate::memory::Memory;
use crate::os::object::{BadLink, Budget, Findings, Plan, Planner, Slot, ring};
use crate::os::types::Types;
use crate::os::{Acquisition, FindingKind, OsError, SymbolTable};
use crate::paging::AddressSpace;

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

/// The guest that tasks are listed of, where there is one around their memory.
#[derive(Clone, Copy)]
pub(super) struct Whole<'w> {
    /// The kernel's space, whose physical memory can be searched.
    pub(super) space: &'w AddressSpace,
    /// Whether it stood still.
    pub(super) acquisition: Acquisition,
}

/// What is needed to list tasks. What is not known of it is left out, and listed in `lost`.
#[derive(Clone, Debug)]
pub(super) struct TaskTables {
    pub(super) task: TaskPlan,
    signal: Option<SignalPlan>,
    pub(super) pids: Option<PidTables>,
    pub(super) init_task: Option<Gva>,
    /// Where the start of the map of all memory is kept.
    pub(super) page_offset_base: Option<Gva>,
    /// Members and symbols that are missing.
    pub(super) lost: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct SignalPlan {
    plan: Plan,
    nr_threads: Option<Slot>,
    thread_head: Option<u64>,
}

impl SignalPlan {
    fn new(types: &Types, lost: &mut Vec<String>) -> Option<Self> {
        let Ok(mut signal) = Planner::new(types, "signal_struct") else {
            lost.push("struct signal_struct".into());
            return None;
        };
        Some(Self {
            nr_threads: signal.ask(&["nr_threads"], lost),
            thread_head: signal.offset(&["thread_head"], &mut Vec::new()),
            plan: signal.plan(),
        })
    }
}

impl TaskTables {
    /// Looks up what is needed. A first task that is not listed by name is looked for in the kernel's image.
    ///
    /// # Errors
    ///
    /// When types do not say what a task is, or nothing leads to one.
    pub(super) fn new(
        types: &Types,
        symbols: &SymbolTable,
        memory: &dyn Memory<Addr = Gva>,
    ) -> Result<Self, OsError> {
        let mut lost = Vec::new();
        let listed = symbols.address_of("init_task");
        let task = TaskPlan::new(types, memory, listed, &mut lost)?;
        let init_task = listed.or_else(|| {
            lost.push("the symbol init_task".into());
            strays::first_task(memory, &task)
        });
        let pids = PidTables::new(types, symbols, &mut lost);
        if init_task.is_none() && pids.is_none_or(|pids| pids.namespace().is_none()) {
            return Err(OsError::NoSymbol("init_task"));
        }
        Ok(Self {
            signal: SignalPlan::new(types, &mut lost),
            pids,
            init_task,
            page_offset_base: symbols.address_of("page_offset_base"),
            task,
            lost,
        })
    }

    /// What leads from one task to others.
    fn leads(&self) -> strays::Leads<'_> {
        strays::Leads {
            task: &self.task,
            pids: self.pids.as_ref(),
            init_task: self.init_task,
            page_offset_base: self.page_offset_base,
        }
    }

    /// All processes by number. At most `limit` threads are looked at. With `whole`, tasks that damage cut
    /// off from all views are looked for in its physical memory.
    ///
    /// # Errors
    ///
    /// When `init_task` is not where it should be, or cannot be read, and the other views lead nowhere.
    pub(super) fn groups(
        &self,
        memory: &dyn Memory<Addr = Gva>,
        whole: Option<Whole<'_>>,
        limit: usize,
        findings: &mut Findings,
    ) -> Result<Vec<Group>, OsError> {
        let wrong = self.init_task.and_then(|at| self.not_first(memory, at));
        if let Some(error @ OsError::Damaged { .. }) = &wrong {
            let text = error.to_string();
            findings.add(FindingKind::Damaged, self.init_task, text);
        }
        let census = Census {
            tables: self,
            memory,
            whole,
            findings,
            // Each thread is met in up to three views, and the tables have inner nodes.
            budget: Budget(limit.saturating_mul(8)),
            limit,
            tasks: HashMap::new(),
            met: Vec::new(),
            refused: HashSet::new(),
        };
        let groups = census.take();
        match wrong {
            Some(error) if groups.is_empty() => Err(error),
            _ => Ok(groups),
        }
    }

    /// Why the task at `at` is not the first one.
    fn not_first(&self, memory: &dyn Memory<Addr = Gva>, at: Gva) -> Option<OsError> {
        let damaged = |why: String| OsError::Damaged {
            what: "init_task".into(),
            at,
            why,
        };
        match self.task.read(memory, at.raw()) {
            Ok(idle) if idle.pid == 0 && idle.comm.starts_with("swapper") => None,
            Ok(idle) => Some(damaged(format!(
                "it is number {} and called {:?}",
                idle.pid, idle.comm
            ))),
            Err(NotATask::Looks(why)) => Some(damaged(why.into())),
            // An image that lacks the page still has the pid table.
            Err(NotATask::Link(BadLink::Fault { fault, .. })) => Some(OsError::Unreadable {
                what: "init_task".into(),
                fault,
            }),
            Err(NotATask::Link(bad)) => Some(damaged(format!("its address {bad}"))),
        }
    }
}

/// What a list that differs from another one may mean where nobody knows whether the guest stood still.
const ARTEFACT: &str =
    "; if the guest ran while its memory was taken, it may have come or gone meanwhile";

/// Where a task was found, in words for findings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    List,
    Threads,
    Table,
    Hint,
}

/// How much of a view was seen.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// All of it could be read.
    readable: bool,
    /// And nothing in it was odd.
    whole: bool,
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
    whole: Option<Whole<'c>>,
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
        let list = self.list();
        let table = self.table();
        // Threads and hints lead to tasks that lead to more of both.
        let mut counted = HashMap::new();
        let mut next = 0;
        self.follow(&mut next, &mut counted);
        let mut reliable = [list.readable, table.readable];
        if !list.whole && !table.whole {
            self.strays();
            self.follow(&mut next, &mut counted);
            // What is in neither may have been in the lost part of both.
            reliable = [false; 2];
        }
        self.compare(reliable);
        self.group(&counted)
    }

    /// Follows what has been met to more of it, from the task numbered `next` on.
    fn follow(&mut self, next: &mut usize, counted: &mut HashMap<u64, Option<(u64, u64)>>) {
        while let Some(at) = self.met.get(*next) {
            *next += 1;
            let task = self.tasks[at].0.clone();
            if task.signal != 0 {
                counted
                    .entry(task.signal)
                    .or_insert_with(|| self.threads_of(&task));
            }
            let plan = &self.tables.task;
            if plan.group_leader.is_some() {
                self.hint(&task, task.group_leader, "first thread");
            }
            if task.real_parent != 0 {
                self.hint(&task, task.real_parent, "parent");
            }
        }
    }

    /// Looks for tasks that no view leads to.
    fn strays(&mut self) {
        let Some(Whole { space, .. }) = self.whole else {
            return;
        };
        let known: Vec<Gva> = self.met.clone();
        let found = strays::search(space, self.memory, self.tables.leads(), &known, self.limit);
        let mut new = 0;
        for at in found {
            if !self.tasks.contains_key(&at) && self.meet(at.raw(), View::Hint).is_some() {
                new += 1;
            }
        }
        if new > 0 {
            let text = format!(
                "{new} processes are cut off from the list of tasks and from the pid table; they were found by \
                 their shape in memory"
            );
            self.findings.add(FindingKind::Damaged, None, text);
        }
    }

    /// The list of processes.
    fn list(&mut self) -> Seen {
        let before = self.findings.len();
        let (Some(init), Some(offset)) = (self.tables.init_task, self.tables.task.tasks_node)
        else {
            return Seen::default();
        };
        let head = Gva(init.raw().wrapping_add(offset));
        let nodes = ring(self.memory, head, "tasks", &mut self.budget, self.findings);
        match nodes {
            Ok(nodes) => {
                for node in nodes {
                    let at = node.raw().wrapping_sub(offset);
                    self.meet(at, View::List);
                }
            }
            Err(bad) => self.findings.bad_link(bad, head, "the list of tasks"),
        }
        self.seen_since(before)
    }

    fn seen_since(&self, before: usize) -> Seen {
        Seen {
            readable: !self.findings.unreadable_since(before),
            whole: self.findings.len() == before,
        }
    }

    /// The tables of numbers.
    fn table(&mut self) -> Seen {
        let before = self.findings.len();
        let (Some(pids), Some(offset)) = (self.tables.pids, self.tables.task.pid_node) else {
            return Seen::default();
        };
        let numbers = self.met.iter().filter_map(|at| self.tasks[at].0.thread_pid);
        let namespace = pids
            .namespace()
            .or_else(|| pids.namespace_of(self.memory, numbers));
        let Some(namespace) = namespace else {
            return Seen::default();
        };
        let entries = pids.entries(self.memory, namespace, &mut self.budget, self.findings);
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
            let at = node.raw().wrapping_sub(offset);
            if let Some(task) = self.meet(at, View::Table) {
                let (pid, thread_pid) = (task.pid, task.thread_pid);
                self.compare_entry(entry, Gva(at), pid, thread_pid);
            }
        }
        self.seen_since(before)
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
        let (signal, node) = (self.tables.signal?, self.tables.task.thread_node);
        let object = match signal.plan.follow(self.memory, task.signal) {
            Ok(object) => object,
            Err(bad) => {
                let what = format!("the signals of task {}", task.pid);
                self.findings.bad_link(bad, task.at, what);
                return None;
            }
        };
        let (head, node) = (signal.thread_head?, node?);
        let head = Gva(object.at.raw().wrapping_add(head));
        let what = format!("threads of process {}", task.tgid);
        let budget = &mut self.budget;
        match ring(self.memory, head, &what, budget, self.findings) {
            Ok(nodes) => {
                let listed = nodes.len() as u64;
                for thread in nodes {
                    let at = thread.raw().wrapping_sub(node);
                    self.meet(at, View::Threads);
                }
                Some((listed, object.number(signal.nr_threads?)))
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
        let known = self.tasks.contains_key(&Gva(pointer));
        if known || self.tables.init_task == Some(Gva(pointer)) {
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
                    let not = NotATask::Looks("its number is 0");
                    if self.tables.init_task != Some(key) {
                        self.refuse(key, view, not);
                    }
                    return None;
                }
                Ok(task) => {
                    if let Some(fault) = task.absent {
                        let text = format!(
                            "a part of task {} ({}) cannot be read, and what stands there is not known: {fault}",
                            task.pid, task.comm
                        );
                        self.findings.add(FindingKind::Unreadable, Some(key), text);
                    }
                    if !task.whole {
                        let text = format!(
                            "the state of task {} ({}) is overwritten: what it does, and whether it is the \
                             kernel's, is not known",
                            task.pid, task.comm
                        );
                        self.findings.add(FindingKind::Damaged, Some(key), text);
                    }
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
    fn compare(&mut self, [list_read, table_read]: [bool; 2]) {
        let thread_head = self.tables.signal.and_then(|signal| signal.thread_head);
        let has_threads = thread_head.is_some() && self.tables.task.thread_node.is_some();
        let (has_list, has_table) = (
            self.tables.task.tasks_node.is_some() && self.tables.init_task.is_some(),
            self.tables.pids.is_some() && self.tables.task.pid_node.is_some(),
        );
        let mut tasks: Vec<&(Task, Views)> = self.tasks.values().collect();
        tasks.sort_unstable_by_key(|(task, _)| (task.pid, task.at));
        let (mut not_in_list, mut not_in_table) = (0, 0);
        for (task, views) in tasks {
            let mut missing = Vec::new();
            if has_list && task.leads() && !views.list {
                match list_read {
                    true => missing.push("the list of tasks"),
                    false => not_in_list += 1,
                }
            }
            if has_threads && !views.threads {
                missing.push("the list of its process's threads");
            }
            if has_table && !views.table {
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
            let mut text = format!("{what} is not in {}", missing.join(", and not in "));
            let mut kind = FindingKind::Hidden;
            // Which an image shows as well if it was taken while the guest ran.
            if self
                .whole
                .is_some_and(|whole| whole.acquisition == Acquisition::Unknown)
            {
                if task.is_leaving() {
                    kind = FindingKind::Inconsistent;
                    text.push_str(": it is about to exit");
                }
                text.push_str(ARTEFACT);
            }
            self.findings.add(kind, Some(task.at), text);
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
            if let Some(other) = others.iter().find(same) {
                let text = format!("there is a second process numbered {number}");
                self.findings
                    .add(FindingKind::Inconsistent, Some(other.at), text);
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
