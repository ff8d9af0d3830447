//! The kernel's tables from process numbers to processes, for the first pid namespace.
//!
//! They are the second view of what runs: a process taken out of the list of tasks by hand is still
//! here, since without its number no signal would reach it. Three forms, told apart by what types and
//! symbols the kernel has:
//!
//! * `init_pid_ns.idr`, an XArray of `struct pid` (4.20 and later),
//! * the same as a radix tree, whose nodes look alike and tag their pointers differently (4.15-4.19),
//! * `pid_hash`, chains of `struct upid` (before).

use crate::addr::{Address, Gva};
use crate::memory::Memory;
use crate::os::object::{
    BadLink, Budget, Chain, Findings, Part, Plan, Planner, Slot, XarrayPlan, link,
};
use crate::os::types::Types;
use crate::os::{FindingKind, OsError, SymbolTable};

/// The largest number of buckets in `pid_hash`, as a shift (the kernel's own bound).
const MAX_HASH_SHIFT: u32 = 12;

/// How many threads are asked where the first namespace is.
const MAX_VOTES: usize = 64;

/// Where the tables are, and how their objects look.
#[derive(Clone, Copy, Debug)]
pub(super) struct PidTables {
    form: Form,
    pid: PidPlan,
    init_pid_ns: Option<Gva>,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Tree {
        /// Of the pointer to the top node in the namespace.
        top: u64,
        nodes: XarrayPlan,
    },
    Hash {
        /// Address of the pointer to the buckets.
        buckets: Gva,
        /// Address of the number of buckets, as a shift.
        shift: Gva,
        upid: UpidPlan,
    },
}

#[derive(Clone, Copy, Debug)]
struct UpidPlan {
    plan: Plan,
    number: Slot,
    namespace: Slot,
    /// `pid_chain`.
    chain: Slot,
    /// Of `numbers[0]` in `struct pid`.
    within_pid: u64,
}

#[derive(Clone, Copy, Debug)]
struct PidPlan {
    plan: Plan,
    number: Slot,
    /// `numbers[0].ns`: the first namespace.
    namespace: Option<Slot>,
    /// `tasks[PIDTYPE_PID].first`.
    task: Slot,
}

/// One entry of the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    /// The number.
    pub(super) number: u32,
    /// The `struct pid`.
    pub(super) pid: Gva,
    /// The hash-list node in the task that bears the number; `None` when the number is kept only
    /// because it names a process group or a session.
    pub(super) task_link: Option<Gva>,
}

impl PidTables {
    /// Looks up what is needed to read them; `None`, with what is missing added to `lost`, when they
    /// cannot be.
    pub(super) fn new(
        types: &Types,
        symbols: &SymbolTable,
        lost: &mut Vec<String>,
    ) -> Option<Self> {
        let init_pid_ns = symbols.address_of("init_pid_ns");
        if init_pid_ns.is_none() {
            lost.push("the symbol init_pid_ns".into());
        }
        match Self::look_up(types, symbols, init_pid_ns) {
            Ok(tables) => Some(tables),
            Err(error) => {
                lost.push(format!("the pid table ({error})"));
                None
            }
        }
    }

    fn look_up(
        types: &Types,
        symbols: &SymbolTable,
        init_pid_ns: Option<Gva>,
    ) -> Result<Self, OsError> {
        let mut pid = Planner::new(types, "pid")?;
        let pid = PidPlan {
            number: pid.need("numbers[0].nr")?,
            namespace: pid.want(&["numbers[0].ns"]),
            // The only member of a list's head.
            task: match pid.want(&["tasks[0].first"]) {
                Some(task) => task,
                None => pid.need("tasks[0]").or_else(|_| pid.need("tasks"))?,
            },
            plan: pid.plan(),
        };
        let mut namespace = Planner::new(types, "pid_namespace")?;
        let top = namespace.want(&["idr.idr_rt.xa_head", "idr.idr_rt.rnode"]);
        let form = match top {
            Some(top) => Form::Tree {
                top: top.offset,
                nodes: XarrayPlan::new(types)?,
            },
            None => Form::hash(types, symbols)?,
        };
        Ok(Self {
            form,
            pid,
            init_pid_ns,
        })
    }

    /// Where the first namespace is, by its symbol.
    pub(super) fn namespace(&self) -> Option<Gva> {
        self.init_pid_ns
    }

    /// The same by the numbers of threads, whose addresses are `numbers`: the first number of each is of
    /// the first namespace.
    pub(super) fn namespace_of(
        &self,
        memory: &dyn Memory<Addr = Gva>,
        numbers: impl Iterator<Item = u64>,
    ) -> Option<Gva> {
        let slot = self.pid.namespace?;
        let told = |number| {
            let pid = self.pid.plan.follow(memory, number).ok()?;
            link(pid.number(slot)).ok()
        };
        let mut told: Vec<Gva> = numbers.filter_map(told).take(MAX_VOTES).collect();
        told.sort_unstable();
        let runs = told.chunk_by(|a, b| a == b);
        runs.max_by_key(|run| run.len()).map(|run| run[0])
    }

    /// Whether the thread number at `at` is `number`, of the thread with its hash-list node at `node`, in
    /// the namespace `namespace` if that is known.
    pub(super) fn speaks_for(
        &self,
        memory: &dyn Memory<Addr = Gva>,
        at: u64,
        number: u32,
        node: u64,
        namespace: Option<Gva>,
    ) -> bool {
        self.pid.plan.follow(memory, at).is_ok_and(|pid| {
            let told = self.pid.namespace.map(|slot| pid.number(slot));
            pid.number32(self.pid.number) == number
                && pid.number(self.pid.task) == node
                && namespace.is_none_or(|namespace| told.is_none_or(|told| told == namespace.raw()))
        })
    }

    /// All entries, by ascending number where the form has an order.
    ///
    /// # Errors
    ///
    /// When the tables cannot be reached at all.
    pub(super) fn entries(
        &self,
        memory: &dyn Memory<Addr = Gva>,
        namespace: Gva,
        budget: &mut Budget,
        findings: &mut Findings,
    ) -> Result<Vec<Entry>, BadLink> {
        let pids = match self.form {
            Form::Tree { top, nodes } => {
                let top = Gva(namespace.raw().wrapping_add(top));
                let entry = number_at(memory, top)?;
                nodes.pointers(memory, top, entry, "the pid table", budget, findings)
            }
            Form::Hash {
                buckets,
                shift,
                upid,
            } => {
                let mut pids = Vec::new();
                let buckets = link(number_at(memory, buckets)?)?;
                let shift = (number_at(memory, shift)? as u32).min(MAX_HASH_SHIFT);
                for bucket in 0..1 << shift {
                    let head = Gva(buckets.raw().wrapping_add(bucket * 8));
                    upid.chain(memory, head, namespace, budget, findings, &mut pids);
                }
                pids.sort_unstable();
                pids
            }
        };
        let read = |(number, at): (u64, Gva)| self.entry(memory, number, at, findings);
        Ok(pids.into_iter().filter_map(read).collect())
    }

    fn entry(
        &self,
        memory: &dyn Memory<Addr = Gva>,
        number: u64,
        at: Gva,
        findings: &mut Findings,
    ) -> Option<Entry> {
        let pid = match self.pid.plan.follow(memory, at.raw()) {
            Ok(pid) => pid,
            Err(bad) => {
                let what = format!("the pid table's entry {number}");
                findings.bad_link(bad, at, what);
                return None;
            }
        };
        let told = u64::from(pid.number32(self.pid.number));
        if told != number {
            let text = format!("the pid table's entry {number} says that it is {told}");
            findings.add(FindingKind::Inconsistent, Some(at), text);
        }
        Some(Entry {
            number: u32::try_from(number).ok()?,
            pid: at,
            task_link: self.task_link(&pid, number, findings),
        })
    }

    fn task_link(&self, pid: &Part, number: u64, findings: &mut Findings) -> Option<Gva> {
        match link(pid.number(self.pid.task)) {
            Ok(node) => Some(node),
            Err(BadLink::Null) => None,
            Err(bad) => {
                let what = format!("the link from number {number} to its task");
                findings.bad_link(bad, pid.at, what);
                None
            }
        }
    }
}

impl Form {
    fn hash(types: &Types, symbols: &SymbolTable) -> Result<Self, OsError> {
        let symbol = |name| symbols.address_of(name).ok_or(OsError::NoSymbol(name));
        let mut upid = Planner::new(types, "upid")?;
        Ok(Self::Hash {
            buckets: symbol("pid_hash")?,
            shift: symbol("pidhash_shift")?,
            upid: UpidPlan {
                number: upid.need("nr")?,
                namespace: upid.need("ns")?,
                chain: upid.need("pid_chain.next")?,
                plan: upid.plan(),
                within_pid: types.offset_of("struct pid", "numbers[0]")?,
            },
        })
    }
}

impl UpidPlan {
    /// Adds the numbers of one bucket that are of the first namespace.
    fn chain(
        self,
        memory: &dyn Memory<Addr = Gva>,
        head: Gva,
        first: Gva,
        budget: &mut Budget,
        findings: &mut Findings,
        found: &mut Vec<(u64, Gva)>,
    ) {
        let next = match number_at(memory, head) {
            Ok(next) => next,
            Err(bad) => return findings.bad_link(bad, head, "a bucket of the pid table"),
        };
        let chain = Chain {
            next: 0,
            back: None,
            odd_ends: false,
        };
        for node in chain.nodes(
            memory,
            head,
            next,
            "numbers in the pid table",
            budget,
            findings,
        ) {
            let upid = node.raw().wrapping_sub(self.chain.offset);
            let upid = match self.plan.follow(memory, upid) {
                Ok(upid) => upid,
                Err(bad) => {
                    findings.bad_link(bad, node, "a number in the pid table");
                    continue;
                }
            };
            if upid.number(self.namespace) == first.raw() {
                // In the first namespace a number is the first of its `struct pid`.
                let pid = Gva(upid.at.raw().wrapping_sub(self.within_pid));
                found.push((u64::from(upid.number32(self.number)), pid));
            }
        }
    }
}

/// The number at an address of the kernel.
fn number_at(memory: &dyn Memory<Addr = Gva>, at: Gva) -> Result<u64, BadLink> {
    memory.read_u64(at).map_err(|fault| BadLink::Fault {
        pointer: at.raw(),
        fault,
    })
}
