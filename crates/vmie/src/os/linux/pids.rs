//! The kernel's tables from process numbers to processes, for the first pid namespace.
//!
//! They are the second view of what runs: a process taken out of the list of tasks by hand is still
//! here, since without its number no signal would reach it. Three forms, told apart by what types and
//! symbols the kernel has:
//!
//! * `init_pid_ns.idr`, an XArray of `struct pid` (4.20 and later),
//! * the same as a radix tree, whose nodes look alike and tag their pointers differently (4.15-4.19),
//! * `pid_hash`, chains of `struct upid` (before).
//!
//! Nodes of the trees know the shift of their index. It must get smaller by one level each step down,
//! which bounds the depth, and no node may be met twice, which bounds the breadth.

use std::collections::HashSet;

use super::object::{BadLink, Findings, Object, Plan, Planner, Slot, link};
use super::ring::Budget;
use crate::addr::{Address, Gva};
use crate::memory::Memory;
use crate::os::types::{TypeError, Types};
use crate::os::{FindingKind, OsError, SymbolTable};

/// The largest number of buckets in `pid_hash`, as a shift (the kernel's own bound).
const MAX_HASH_SHIFT: u32 = 12;

/// How long one chain of hash collisions may be.
const MAX_CHAIN: usize = 1 << 16;

/// Where the tables are, and how their objects look.
#[derive(Clone, Copy, Debug)]
pub(super) struct PidTables {
    form: Form,
    pid: PidPlan,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Tree {
        /// Address of the pointer to the top node.
        top: Gva,
        node: NodePlan,
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
struct NodePlan {
    plan: Plan,
    shift: Slot,
    slots: Slot,
    /// Bits of the index that a node resolves: 6, or 4 in kernels configured to be small.
    bits: u64,
    /// Low bits of a pointer to a node, which no other pointer has.
    tag: u64,
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
    init_pid_ns: Gva,
}

#[derive(Clone, Copy, Debug)]
struct PidPlan {
    plan: Plan,
    number: Slot,
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
    /// Looks up what is needed to read them.
    pub(super) fn new(types: &Types, symbols: &SymbolTable) -> Result<Self, OsError> {
        let init_pid_ns = symbols
            .address_of("init_pid_ns")
            .ok_or(OsError::NoSymbol("init_pid_ns"))?;
        let mut pid = Planner::new(types, "pid")?;
        let pid = PidPlan {
            number: pid.need("numbers[0].nr")?,
            task: pid.need("tasks[0].first")?,
            plan: pid.plan(),
        };
        let mut namespace = Planner::new(types, "pid_namespace")?;
        let top = namespace.want(&["idr.idr_rt.xa_head", "idr.idr_rt.rnode"]);
        let form = match top {
            Some(top) => Form::Tree {
                top: Gva(init_pid_ns.raw().wrapping_add(top.offset)),
                node: NodePlan::new(types)?,
            },
            None => Form::hash(types, symbols, init_pid_ns)?,
        };
        Ok(Self { form, pid })
    }

    /// All entries, by ascending number where the form has an order.
    ///
    /// # Errors
    ///
    /// When the tables cannot be reached at all.
    pub(super) fn entries(
        &self,
        memory: &dyn Memory<Addr = Gva>,
        budget: &mut Budget,
        findings: &mut Findings,
    ) -> Result<Vec<Entry>, BadLink> {
        let mut pids = Vec::new();
        match self.form {
            Form::Tree { top, node } => {
                let entry = number_at(memory, top)?;
                let mut tree = Tree {
                    memory,
                    node,
                    seen: HashSet::new(),
                    found: Vec::new(),
                    budget,
                    findings,
                };
                tree.entry(top, entry, 0, None);
                pids = tree.found;
            }
            Form::Hash {
                buckets,
                shift,
                upid,
            } => {
                let buckets = link(number_at(memory, buckets)?)?;
                let shift = (number_at(memory, shift)? as u32).min(MAX_HASH_SHIFT);
                for bucket in 0..1 << shift {
                    let head = Gva(buckets.raw().wrapping_add(bucket * 8));
                    upid.chain(memory, head, budget, findings, &mut pids);
                }
                pids.sort_unstable();
            }
        }
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

    fn task_link(&self, pid: &Object, number: u64, findings: &mut Findings) -> Option<Gva> {
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
    fn hash(types: &Types, symbols: &SymbolTable, init_pid_ns: Gva) -> Result<Self, OsError> {
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
                init_pid_ns,
            },
        })
    }
}

impl NodePlan {
    fn new(types: &Types) -> Result<Self, TypeError> {
        let (mut node, tag) = match Planner::new(types, "xa_node") {
            Ok(node) => (node, 2),
            Err(_) => (Planner::new(types, "radix_tree_node")?, 1),
        };
        let slots = node.need("slots")?;
        Ok(Self {
            shift: node.need("shift")?,
            slots,
            plan: node.plan(),
            bits: u64::from((slots.size / 8).checked_ilog2().unwrap_or(0)).max(1),
            tag,
        })
    }

    /// The node that an entry leads to, if it leads to one. Small tagged values are markers.
    fn pointer(self, entry: u64) -> Option<u64> {
        (entry & 3 == self.tag && entry > 4096).then_some(entry & !3)
    }
}

/// A walk over the tree of numbers.
struct Tree<'t> {
    memory: &'t dyn Memory<Addr = Gva>,
    node: NodePlan,
    seen: HashSet<Gva>,
    found: Vec<(u64, Gva)>,
    budget: &'t mut Budget,
    findings: &'t mut Findings,
}

impl Tree<'_> {
    /// Takes an entry of a node at `level` levels above the lowest (`None`: the entry at the top), for
    /// numbers from `base` on. Recursion ends with level 0.
    fn entry(&mut self, at: Gva, entry: u64, base: u64, level: Option<u64>) {
        if entry == 0 {
            return;
        }
        let Some(pointer) = self.node.pointer(entry) else {
            if entry & 3 != 0 {
                return; // A marker: reserved, or a number that is being given out.
            }
            match (level, link(entry)) {
                (None | Some(0), Ok(pid)) => self.found.push((base, pid)),
                (None | Some(0), Err(bad)) => {
                    let what = format!("the pid table's entry {base}");
                    self.findings.bad_link(bad, at, what);
                }
                (Some(_), _) => self.damaged(at, "has an entry above its lowest nodes"),
            }
            return;
        };
        if level == Some(0) {
            return self.damaged(at, "goes on below its lowest nodes");
        }
        let node = match self.node.plan.follow(self.memory, pointer) {
            Ok(node) => node,
            Err(bad) => return self.findings.bad_link(bad, at, "a link in the pid table"),
        };
        let shift = node.number(self.node.shift);
        let expected = level.map(|level| (level - 1) * self.node.bits);
        let shift_fits = match expected {
            Some(expected) => shift == expected,
            None => shift.is_multiple_of(self.node.bits) && shift < 64,
        };
        if !shift_fits {
            return self.damaged(node.at, "has a node of the wrong level");
        }
        if !self.seen.insert(node.at) {
            return self.damaged(at, "has two links to one node");
        }
        let slots = node.bytes(self.node.slots).to_vec();
        for (index, slot) in slots.chunks_exact(8).enumerate() {
            let entry = u64::from_le_bytes(slot.try_into().expect("eight bytes"));
            if entry == 0 {
                continue;
            }
            if !self.budget.take() {
                let text = "the pid table has more entries than memory has room for";
                return self.findings.add(FindingKind::Limit, Some(node.at), text);
            }
            let offset = (index as u64).checked_shl(shift as u32).unwrap_or(0);
            let base = base.wrapping_add(offset);
            self.entry(node.at, entry, base, Some(shift / self.node.bits));
        }
    }

    fn damaged(&mut self, at: Gva, how: &str) {
        let text = format!("the pid table {how}");
        self.findings.add(FindingKind::Damaged, Some(at), text);
    }
}

impl UpidPlan {
    /// Adds the numbers of one bucket that are of the first namespace.
    fn chain(
        self,
        memory: &dyn Memory<Addr = Gva>,
        head: Gva,
        budget: &mut Budget,
        findings: &mut Findings,
        found: &mut Vec<(u64, Gva)>,
    ) {
        let mut at = head;
        let mut next = match number_at(memory, head) {
            Ok(next) => next,
            Err(bad) => return findings.bad_link(bad, head, "a bucket of the pid table"),
        };
        for _ in 0..MAX_CHAIN {
            if next == 0 {
                return;
            }
            if !budget.take() {
                break;
            }
            let upid = next.wrapping_sub(self.chain.offset);
            let upid = match self.plan.follow(memory, upid) {
                Ok(upid) => upid,
                Err(bad) => return findings.bad_link(bad, at, "a link in the pid table"),
            };
            if upid.number(self.namespace) == self.init_pid_ns.raw() {
                // In the first namespace a number is the first of its `struct pid`.
                let pid = Gva(upid.at.raw().wrapping_sub(self.within_pid));
                found.push((u64::from(upid.number32(self.number)), pid));
            }
            at = upid.at;
            next = upid.number(self.chain);
        }
        let text = "a chain in the pid table does not end";
        findings.add(FindingKind::Damaged, Some(head), text);
    }
}

/// The number at an address of the kernel.
fn number_at(memory: &dyn Memory<Addr = Gva>, at: Gva) -> Result<u64, BadLink> {
    memory.read_u64(at).map_err(|fault| BadLink::Fault {
        pointer: at.raw(),
        fault,
    })
}
