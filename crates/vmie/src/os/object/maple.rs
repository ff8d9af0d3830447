//! Reading maple trees: from ranges of numbers to pointers (6.1 and later).
//!
//! A node holds ascending *pivots*, the last number of each slot's range, and slots. A slot of a leaf
//! holds an entry or null; other slots hold the address of a node, with the type of that node in the low
//! bits that its alignment leaves free:
//!
//! ```text
//! bits 3..7   type of the node
//! bit  2      always set
//! bit  1      set in the root pointer only, which tells it from an entry that stands alone
//! ```
//!
//! Slots and pivots start where the node type's structure says, and there are as many as it says:
//! `maple_range_64` for leaves and inner nodes, `maple_arange_64` for inner nodes that also track gaps.
//! The range of a slot ends at its pivot. The last slot in use has a pivot of 0, or none, and takes all
//! that is left of the node's range.
//!
//! The guest may have written anything. Ranges must ascend within the node's own range, a node may be
//! met once, depth and number of slots are bounded.

use std::collections::HashSet;

use super::findings::{Budget, Findings};
use super::plan::{Part, Plan, Planner, Slot};
use crate::addr::Gva;
use crate::memory::Memory;
use crate::os::FindingKind;
use crate::os::types::{Type, TypeError, Types};

/// Nodes are aligned to their size (`MAPLE_NODE_MASK`).
const NODE_MASK: u64 = 0xff;

/// `MAPLE_HEIGHT_MAX`.
const MAX_HEIGHT: usize = 31;

/// How nodes look.
#[derive(Clone, Copy, Debug)]
pub struct MaplePlan {
    range: NodePlan,
    arange: NodePlan,
    leaf_type: u64,
    range_type: u64,
    arange_type: u64,
}

#[derive(Clone, Copy, Debug)]
struct NodePlan {
    plan: Plan,
    pivots: Slot,
    slots: Slot,
}

impl NodePlan {
    fn new(types: &Types, name: &str) -> Result<Self, TypeError> {
        let mut node = Planner::new(types, name)?;
        Ok(Self {
            pivots: node.need("pivot")?,
            slots: node.need("slot")?,
            plan: node.plan(),
        })
    }
}

/// One entry of a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// First number of its range.
    pub first: u64,
    /// Last number of its range.
    pub last: u64,
    /// The pointer.
    pub pointer: u64,
}

impl MaplePlan {
    /// Looks up how nodes look; an error where the kernel has no maple trees.
    pub fn new(types: &Types) -> Result<Self, TypeError> {
        let id = types.find("enum maple_type")?;
        let Type::Enum { values, .. } = types.get(id)? else {
            return Err(TypeError::Damaged(id.0));
        };
        let value = |name: &str| {
            let found = values.iter().find(|(known, _)| *known == name);
            found
                .map(|(_, value)| value.cast_unsigned())
                .ok_or_else(|| TypeError::NoMember {
                    record: "enum maple_type".into(),
                    member: name.into(),
                })
        };
        Ok(Self {
            range: NodePlan::new(types, "maple_range_64")?,
            arange: NodePlan::new(types, "maple_arange_64")?,
            leaf_type: value("maple_leaf_64")?,
            range_type: value("maple_range_64")?,
            arange_type: value("maple_arange_64")?,
        })
    }

    /// All entries of the tree whose root pointer is `root`, by ascending range. `at` is where the root
    /// pointer stands and `what` names the tree, for findings.
    pub fn entries(
        &self,
        memory: &dyn Memory<Addr = Gva>,
        at: Gva,
        root: u64,
        what: &str,
        budget: &mut Budget,
        findings: &mut Findings,
    ) -> Vec<Entry> {
        let mut walk = Walk {
            plan: self,
            memory,
            what,
            seen: HashSet::new(),
            entries: Vec::new(),
            budget,
            findings,
        };
        if is_internal(root) && root > 4096 {
            walk.node(at, root, 0, u64::MAX, 0);
        } else if root != 0 && !is_internal(root) {
            // An entry that stands alone is for the number 0.
            walk.entry(root, 0, 0);
        }
        walk.entries
    }
}

/// Whether a pointer is one of the tree's own, or a marker (`xa_is_internal`).
fn is_internal(entry: u64) -> bool {
    entry & 3 == 2
}

struct Walk<'w> {
    plan: &'w MaplePlan,
    memory: &'w dyn Memory<Addr = Gva>,
    what: &'w str,
    seen: HashSet<Gva>,
    entries: Vec<Entry>,
    budget: &'w mut Budget,
    findings: &'w mut Findings,
}

impl Walk<'_> {
    fn damaged(&mut self, at: Gva, how: &str) {
        let text = format!("{} {how}", self.what);
        self.findings.add(FindingKind::Damaged, Some(at), text);
    }

    /// Goes through the node that `pointer` leads to, whose numbers go from `min` to `max`.
    fn node(&mut self, from: Gva, pointer: u64, min: u64, max: u64, depth: usize) {
        if depth == MAX_HEIGHT {
            return self.damaged(from, "is deeper than such trees can be");
        }
        let kind = pointer >> 3 & 0xf;
        let (plan, is_leaf) = match kind {
            _ if kind == self.plan.leaf_type => (self.plan.range, true),
            _ if kind == self.plan.range_type => (self.plan.range, false),
            _ if kind == self.plan.arange_type => (self.plan.arange, false),
            _ => return self.damaged(from, "has a node of unknown type"),
        };
        let node = match plan.plan.follow(self.memory, pointer & !NODE_MASK) {
            Ok(node) => node,
            Err(bad) => {
                let what = format!("a link in {}", self.what);
                return self.findings.bad_link(bad, from, what);
            }
        };
        if !self.seen.insert(node.at) {
            return self.damaged(from, "has two links to one node");
        }
        let (pivots, slots) = (numbers(&node, plan.pivots), numbers(&node, plan.slots));
        let mut first = min;
        for (index, &slot) in slots.iter().enumerate() {
            if !self.budget.take() {
                let text = format!("{} has more entries than memory has room for", self.what);
                return self.findings.add(FindingKind::Limit, Some(node.at), text);
            }
            let last = match pivots.get(index) {
                Some(0) if index > 0 || min > 0 => max,
                Some(&pivot) => pivot,
                None => max,
            };
            if last < first || last > max {
                return self.damaged(node.at, "has ranges that do not ascend");
            }
            if is_leaf {
                self.entry(slot, first, last);
            } else if slot != 0 {
                self.node(node.at, slot, first, last, depth + 1);
            }
            if last == max {
                return;
            }
            first = last + 1;
        }
    }

    fn entry(&mut self, pointer: u64, first: u64, last: u64) {
        // Null is a gap, and an internal pointer a marker for a range that is being worked on.
        if pointer != 0 && !is_internal(pointer) {
            self.entries.push(Entry {
                first,
                last,
                pointer,
            });
        }
    }
}

/// A member that is an array of numbers.
fn numbers(object: &Part, slot: Slot) -> Vec<u64> {
    let (numbers, _) = object.bytes(slot).as_chunks::<8>();
    numbers.iter().copied().map(u64::from_le_bytes).collect()
}
