//! Walking the kernel's circular lists (`struct list_head`).
//!
//! A list is a ring of nodes, each with a pointer to the next node and one to the previous, through a
//! head that belongs to no item. A guest may have damaged it in any way, so
//!
//! ```text
//! forward from the head:   until the head comes again; at a bad link, or a node met before, stop and say so
//! stopped early?           walk backward from the head until a node met before, or a bad link
//! ```
//!
//! The backward walk brings back what a single overwritten link cut off. A node whose backward link
//! does not lead to where the walk came from is reported and walked on from: that is what a node taken
//! out by hand leaves behind.
//!
//! All nodes met are remembered, so a ring inside the list ends the walk, and so does a count of nodes
//! that memory has no room for.

use std::collections::HashSet;

use super::findings::{Budget, Findings};
use super::pointer::{BadLink, link};
use crate::addr::{Address, Gva};
use crate::memory::Memory;
use crate::os::FindingKind;

/// Both links of a node, forward first.
fn links(memory: &dyn Memory<Addr = Gva>, node: Gva) -> Result<[u64; 2], BadLink> {
    let mut bytes = [[0; 8]; 2];
    memory
        .read(node, bytes.as_flattened_mut())
        .map_err(|fault| BadLink::Fault {
            pointer: node.raw(),
            fault,
        })?;
    Ok(bytes.map(u64::from_le_bytes))
}

/// All nodes of the list with its head at `head`, in order. `what` names the list in findings.
///
/// # Errors
///
/// When the head itself cannot be read.
pub fn ring(
    memory: &dyn Memory<Addr = Gva>,
    head: Gva,
    what: &str,
    budget: &mut Budget,
    findings: &mut Findings,
) -> Result<Vec<Gva>, BadLink> {
    let [first, last] = links(memory, head)?;
    let mut walk = Walk {
        memory,
        head,
        what,
        seen: HashSet::new(),
        budget,
        findings,
    };
    let (mut nodes, closed) = walk.go(first, last, Way::Forward);
    if !closed {
        let (behind, _) = walk.go(last, first, Way::Backward);
        if !behind.is_empty() {
            let found = behind.len();
            walk.findings.add(
                FindingKind::Damaged,
                Some(head),
                format!("{found} of the {what} were reached only from the end of the list"),
            );
        }
        nodes.extend(behind.into_iter().rev());
    }
    Ok(nodes)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Forward,
    Backward,
}

struct Walk<'w> {
    memory: &'w dyn Memory<Addr = Gva>,
    head: Gva,
    what: &'w str,
    seen: HashSet<Gva>,
    budget: &'w mut Budget,
    findings: &'w mut Findings,
}

impl Walk<'_> {
    /// Walks from the head on. Answers the nodes, and whether the walk came back to the head. `end` is
    /// where the head says that the walk ends.
    fn go(&mut self, first: u64, end: u64, way: Way) -> (Vec<Gva>, bool) {
        let what = self.what;
        let mut nodes = Vec::new();
        let mut from = self.head;
        let mut next = first;
        loop {
            if next == self.head.raw() {
                if way == Way::Forward && end != from.raw() {
                    let text = format!(
                        "the {what} end with {from}, but the head of the list says with {end:#x}"
                    );
                    self.findings
                        .add(FindingKind::Inconsistent, Some(self.head), text);
                }
                return (nodes, true);
            }
            let node = match link(next) {
                Ok(node) => node,
                Err(bad) => return (self.stop(nodes, bad, from, way), false),
            };
            if self.seen.contains(&node) {
                if way == Way::Forward {
                    let text = match node == from {
                        true => format!("a link in the {what} leads to itself"),
                        false => format!("a link in the {what} leads back to {node}: they loop"),
                    };
                    self.findings.add(FindingKind::Damaged, Some(from), text);
                }
                return (nodes, false);
            }
            if !self.budget.take() {
                let text = format!("there are more {what} than memory has room for");
                self.findings.add(FindingKind::Limit, Some(from), text);
                return (nodes, false);
            }
            let [forward, backward] = match links(self.memory, node) {
                Ok(links) => links,
                Err(bad) => return (self.stop(nodes, bad, from, way), false),
            };
            let (on, back) = match way {
                Way::Forward => (forward, backward),
                Way::Backward => (backward, forward),
            };
            if way == Way::Forward && back != from.raw() {
                let text = format!(
                    "one of the {what} is reached from {from}, but its backward link is {back:#x}"
                );
                self.findings
                    .add(FindingKind::Inconsistent, Some(node), text);
            }
            self.seen.insert(node);
            nodes.push(node);
            (from, next) = (node, on);
        }
    }

    fn stop(&mut self, nodes: Vec<Gva>, bad: BadLink, from: Gva, way: Way) -> Vec<Gva> {
        let way = match way {
            Way::Forward => "a link",
            Way::Backward => "a backward link",
        };
        let what = format!("{way} in the {}", self.what);
        self.findings.bad_link(bad, from, what);
        nodes
    }
}
