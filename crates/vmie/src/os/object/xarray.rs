//! Reading XArrays, and the radix trees that they came from: from numbers to pointers.
//!
//! A node has 64 slots and knows by how far an index is to be shifted to select one. A slot of a node
//! with shift 0 holds an entry; other slots hold the address of a node, told from entries by its low
//! bits (2 in an XArray, 1 in the older radix tree, whose nodes look the same). Small tagged values are
//! markers. One of these, the *sibling*, says that a slot has the entry of an earlier one.
//!
//! The guest may have written anything. The shift must get smaller by one level with each step down,
//! which bounds the depth, and no node may be met twice, which bounds the breadth.

use std::collections::HashSet;

use super::findings::{Budget, Findings};
use super::plan::{Part, Plan, Planner, Slot};
use super::pointer::{BadLink, link};
use crate::addr::Gva;
use crate::memory::Memory;
use crate::os::FindingKind;
use crate::os::types::{TypeError, Types};

/// Tagged values up to this are markers, not addresses.
const MAX_MARKER: u64 = 4096;

/// How nodes look.
#[derive(Clone, Copy, Debug)]
pub struct XarrayPlan {
    plan: Plan,
    shift: Slot,
    slots: Slot,
    /// Bits of the index that a node resolves: 6, or 4 in kernels configured to be small.
    bits: u64,
    /// Low bits of a pointer to a node, which no other pointer has.
    tag: u64,
    /// Words of marks, one bit for each slot: of each mark, the first.
    marks: Option<Slot>,
}

/// What an array has for some numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct XarrayEntry {
    /// The first number.
    pub index: u64,
    /// The last number: entries may stand for several.
    pub last: u64,
    /// What stands there: a pointer, or a number of the user's with its lowest bits set so that it is told from one.
    pub entry: u64,
    /// The node that it stands in, or where the top stands.
    pub at: Gva,
    /// Marks that are set, from the lowest bit. What they mean is up to the user.
    pub marks: u8,
    /// Whether it stands in a node of the lowest level, or alone.
    lowest: bool,
}

impl XarrayEntry {
    /// The entry as a pointer to an object; `None` when it is a number or leads to none.
    pub fn pointer(self) -> Option<Gva> {
        link(self.entry).ok()
    }
}

/// What a slot holds.
enum Entry {
    Null,
    Node(u64),
    Sibling(u64),
    Marker,
    /// A pointer, or a number of the user's with low bits of its own.
    Value(u64),
}

impl XarrayPlan {
    /// Looks up how nodes look.
    ///
    /// # Errors
    ///
    /// When the types have neither `xa_node` nor `radix_tree_node`, or these are damaged.
    pub fn new(types: &Types) -> Result<Self, TypeError> {
        let (mut node, tag) = match Planner::new(types, "xa_node") {
            Ok(node) => (node, 2),
            Err(_) => (Planner::new(types, "radix_tree_node")?, 1),
        };
        let slots = node.need("slots")?;
        Ok(Self {
            shift: node.need("shift")?,
            slots,
            marks: node.want(&["marks", "tags"]),
            plan: node.plan(),
            bits: u64::from((slots.size / 8).checked_ilog2().unwrap_or(0)).max(1),
            tag,
        })
    }

    fn entry(self, entry: u64) -> Entry {
        match entry {
            0 => Entry::Null,
            _ if entry & 3 != self.tag => Entry::Value(entry),
            _ if entry > MAX_MARKER => Entry::Node(entry & !3),
            _ if entry >> 2 < 1 << self.bits => Entry::Sibling(entry >> 2),
            _ => Entry::Marker,
        }
    }

    fn slot(self, node: &Part, index: u64) -> u64 {
        let (slots, _) = node.bytes(self.slots).as_chunks::<8>();
        let slot = usize::try_from(index)
            .ok()
            .and_then(|index| slots.get(index));
        slot.map_or(0, |slot| u64::from_le_bytes(*slot))
    }

    /// The entry for `index` of the array whose top entry is `top`; 0 when there is none.
    ///
    /// # Errors
    ///
    /// When a node cannot be read, or is not what it should be.
    pub fn get(
        self,
        memory: &dyn Memory<Addr = Gva>,
        top: u64,
        index: u64,
    ) -> Result<u64, BadLink> {
        let mut entry = top;
        // The shift of the node above.
        let mut above = None;
        loop {
            let pointer = match self.entry(entry) {
                Entry::Node(pointer) => pointer,
                // An entry that stands alone is for the number 0. One in a node that is not of the
                // lowest level is for all numbers below.
                Entry::Value(value) if above.is_some() || index == 0 => return Ok(value),
                _ => return Ok(0),
            };
            let node = self.plan.follow(memory, pointer)?;
            let shift = node.number(self.shift);
            let fits = match above {
                Some(above) => shift + self.bits == above,
                None => shift < 64 && index >> shift >> self.bits == 0,
            };
            if !fits {
                return match above {
                    Some(_) => Err(BadLink::Unaligned(pointer)),
                    None => Ok(0),
                };
            }
            let mask = (1 << self.bits) - 1;
            entry = self.slot(&node, index >> shift & mask);
            if let Entry::Sibling(slot) = self.entry(entry) {
                entry = self.slot(&node, slot);
            }
            if shift == 0 && matches!(self.entry(entry), Entry::Node(_)) {
                return Err(BadLink::Unaligned(pointer));
            }
            above = Some(shift);
        }
    }

    /// All that the array holds whose top entry `top` stands at `at`, by ascending number. `what` names the array in
    /// findings.
    pub fn entries(
        self,
        memory: &dyn Memory<Addr = Gva>,
        at: Gva,
        top: u64,
        what: &str,
        budget: &mut Budget,
        findings: &mut Findings,
    ) -> Vec<XarrayEntry> {
        let mut walk = Walk {
            plan: self,
            memory,
            what,
            seen: HashSet::new(),
            found: Vec::new(),
            budget,
            findings,
        };
        walk.top(at, top);
        walk.found
    }

    /// The same for arrays that hold nothing but pointers, one for each number. Anything else is a finding.
    pub fn pointers(
        self,
        memory: &dyn Memory<Addr = Gva>,
        at: Gva,
        top: u64,
        what: &str,
        budget: &mut Budget,
        findings: &mut Findings,
    ) -> Vec<(u64, Gva)> {
        let entries = self.entries(memory, at, top, what, budget, findings);
        let pointer = |entry: XarrayEntry| match (entry.lowest, link(entry.entry)) {
            (true, Ok(pointer)) => Some((entry.index, pointer)),
            (true, Err(bad)) => {
                let what = format!("entry {} of {what}", entry.index);
                findings.bad_link(bad, entry.at, what);
                None
            }
            (false, _) => {
                let text = format!("{what} has an entry above its lowest nodes");
                findings.add(FindingKind::Damaged, Some(entry.at), text);
                None
            }
        };
        entries.into_iter().filter_map(pointer).collect()
    }

    /// The marks of a slot.
    fn marks(self, node: &Part, index: u64) -> u8 {
        let bytes = self.marks.map(|slot| node.bytes(slot)).unwrap_or_default();
        let (words, _) = bytes.as_chunks::<8>();
        let set = |word: &[u8; 8]| u64::from_le_bytes(*word) >> (index & 63) & 1 == 1;
        let bits = words.iter().take(8).enumerate();
        bits.fold(0, |marks, (bit, word)| marks | u8::from(set(word)) << bit)
    }
}

struct Walk<'w> {
    plan: XarrayPlan,
    memory: &'w dyn Memory<Addr = Gva>,
    what: &'w str,
    seen: HashSet<Gva>,
    found: Vec<XarrayEntry>,
    budget: &'w mut Budget,
    findings: &'w mut Findings,
}

impl Walk<'_> {
    fn top(&mut self, at: Gva, entry: u64) {
        match self.plan.entry(entry) {
            Entry::Node(pointer) => self.node(at, pointer, 0, None),
            Entry::Value(entry) => self.found.push(XarrayEntry {
                index: 0,
                last: 0,
                entry,
                at,
                marks: 0,
                lowest: true,
            }),
            // A number that is being given out is a marker.
            Entry::Null | Entry::Marker | Entry::Sibling(_) => {}
        }
    }

    /// Goes through a node at `level` levels above the lowest (`None`: the one at the top), for numbers from `base` on.
    /// Recursion ends with level 0.
    fn node(&mut self, at: Gva, pointer: u64, base: u64, level: Option<u64>) {
        let node = match self.plan.plan.follow(self.memory, pointer) {
            Ok(node) => node,
            Err(bad) => {
                let what = format!("a link in {}", self.what);
                return self.findings.bad_link(bad, at, what);
            }
        };
        let bits = self.plan.bits;
        let shift = node.number(self.plan.shift);
        let fits = match level {
            Some(level) => shift == level * bits,
            None => shift.is_multiple_of(bits) && shift < 64,
        };
        if !fits {
            return self.damaged(node.at, "has a node of the wrong level");
        }
        if !self.seen.insert(node.at) {
            return self.damaged(at, "has two links to one node");
        }
        for index in 0..1 << bits {
            let entry = self.plan.slot(&node, index);
            if entry == 0 {
                continue;
            }
            if !self.budget.take() {
                let text = format!("{} has more entries than memory has room for", self.what);
                return self.findings.add(FindingKind::Limit, Some(node.at), text);
            }
            // Above 64 bits there is nothing: such numbers fold onto others, and are found wrong there.
            let base = base.wrapping_add(index << shift);
            match self.plan.entry(entry) {
                Entry::Node(_) if shift == 0 => {
                    self.damaged(node.at, "goes on below its lowest nodes");
                }
                Entry::Node(pointer) => self.node(node.at, pointer, base, Some(shift / bits - 1)),
                Entry::Value(entry) => {
                    // The slots behind it that say that theirs is this one.
                    let same = (index + 1..1 << bits).take_while(|&next| {
                        let next = self.plan.slot(&node, next);
                        matches!(self.plan.entry(next), Entry::Sibling(slot) if slot == index)
                    });
                    let slots = same.count() as u64 + 1;
                    self.found.push(XarrayEntry {
                        index: base,
                        last: base.wrapping_add((slots << shift).wrapping_sub(1)),
                        entry,
                        at: node.at,
                        marks: self.plan.marks(&node, index),
                        lowest: shift == 0,
                    });
                }
                Entry::Null | Entry::Marker | Entry::Sibling(_) => {}
            }
        }
    }

    fn damaged(&mut self, at: Gva, how: &str) {
        let text = format!("{} {how}", self.what);
        self.findings.add(FindingKind::Damaged, Some(at), text);
    }
}
