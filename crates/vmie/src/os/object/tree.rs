//! Balanced binary trees: red-black trees, AVL trees, and whatever else has a link to each side.
//!
//! ```text
//! go left as far as there is something, remembering the way;
//! the last one remembered is the next in order; go on with what is right of it
//! ```
//!
//! The guest may have written anything: no node is met twice, the way down is no longer than a balanced tree of all
//! addresses can be deep, and a node that does not name its parent is reported.

use std::collections::HashSet;

use super::findings::{Budget, Findings};
use super::pointer::{BadLink, link};
use crate::addr::{Address, Gva};
use crate::memory::Memory;
use crate::os::FindingKind;

/// A red-black tree of 2^64 nodes is at most this deep.
const MAX_DEPTH: usize = 128;

/// How nodes look: where their links are, in bytes from their start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tree {
    /// Of the link to what comes before.
    pub left: u64,
    /// Of the link to what comes after.
    pub right: u64,
    /// Of the link to the parent, where there is one, and the low bits of it that mean something else.
    pub parent: Option<(u64, u64)>,
}

impl Tree {
    /// All nodes of the tree with its root at `root`, a pointer that stands at `at`, in order. `what` names them in
    /// findings.
    pub fn nodes(
        self,
        memory: &dyn Memory<Addr = Gva>,
        at: Gva,
        root: u64,
        what: &str,
        budget: &mut Budget,
        findings: &mut Findings,
    ) -> Vec<Gva> {
        let mut seen = HashSet::new();
        let mut nodes = Vec::new();
        let mut way: Vec<(Gva, u64)> = Vec::new();
        // The link that is followed, and the node that it is in.
        let (mut next, mut from) = (root, None);
        loop {
            while next != 0 {
                let here = from.unwrap_or(at);
                let mut damaged = |text: String| {
                    findings.add(FindingKind::Damaged, Some(here), text);
                };
                let node = match link(next) {
                    Ok(node) => node,
                    Err(bad) => {
                        findings.bad_link(bad, here, format!("a link in the tree of {what}"));
                        break;
                    }
                };
                if way.len() == MAX_DEPTH {
                    damaged(format!(
                        "the tree of {what} is deeper than such trees can be"
                    ));
                    break;
                }
                if !seen.insert(node) {
                    damaged(format!(
                        "a link in the tree of {what} leads to {node} again"
                    ));
                    break;
                }
                if !budget.take() {
                    let text = format!("there are more {what} than memory has room for");
                    findings.add(FindingKind::Limit, Some(here), text);
                    return nodes;
                }
                let [left, right, parent] = match self.links(memory, node) {
                    Ok(links) => links,
                    Err(bad) => {
                        findings.bad_link(bad, here, format!("a link in the tree of {what}"));
                        break;
                    }
                };
                if self.parent.is_some() && parent != from.map_or(0, Address::raw) {
                    let text = format!("one of the {what} has {parent:#x} for a parent");
                    findings.add(FindingKind::Inconsistent, Some(node), text);
                }
                way.push((node, right));
                (next, from) = (left, Some(node));
            }
            let Some((node, right)) = way.pop() else {
                return nodes;
            };
            nodes.push(node);
            (next, from) = (right, Some(node));
        }
    }

    fn links(self, memory: &dyn Memory<Addr = Gva>, node: Gva) -> Result<[u64; 3], BadLink> {
        let read = |offset| {
            let at = Gva(node.raw().wrapping_add(offset));
            memory.read_u64(at).map_err(|fault| BadLink::Fault {
                pointer: node.raw(),
                fault,
            })
        };
        let parent = match self.parent {
            Some((offset, other)) => read(offset)? & !other,
            None => 0,
        };
        Ok([read(self.left)?, read(self.right)?, parent])
    }
}
