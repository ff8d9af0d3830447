//! Chains of objects with one link each: hash lists, their form with marked ends, stacks without locks, and whatever
//! else has a pointer to the next of its kind.
//!
//! The guest may have written anything: no node is met twice, and the steps are counted. Where nodes also say which
//! pointer leads to them (`pprev` of a hash list), that is compared.

use std::collections::HashSet;

use super::findings::{Budget, Findings};
use super::pointer::{BadLink, link};
use crate::addr::{Address, Gva};
use crate::memory::Memory;
use crate::os::FindingKind;

/// How the nodes of a chain look, and where it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chain {
    /// Of the pointer to the next node, in bytes from the start of a node.
    pub next: u64,
    /// Of the pointer to the pointer that leads here, where nodes have one.
    pub back: Option<u64>,
    /// Whether an odd number ends it, too, as in lists with marked ends (`hlist_nulls`). Null always does.
    pub odd_ends: bool,
}

impl Chain {
    /// All nodes from the pointer `first` on, which stands at `head`, in order. `what` names them in findings.
    pub fn nodes(
        self,
        memory: &dyn Memory<Addr = Gva>,
        head: Gva,
        first: u64,
        what: &str,
        budget: &mut Budget,
        findings: &mut Findings,
    ) -> Vec<Gva> {
        let mut seen = HashSet::new();
        let mut nodes = Vec::new();
        // Where the pointer stands that is being followed.
        let (mut from, mut next) = (head, first);
        while next != 0 && !(self.odd_ends && next & 1 == 1) {
            let node = match link(next) {
                Ok(node) => node,
                Err(bad) => {
                    findings.bad_link(bad, from, format!("a link in the {what}"));
                    break;
                }
            };
            if !seen.insert(node) {
                let text = format!("a link in the {what} leads back to {node}: they loop");
                findings.add(FindingKind::Damaged, Some(from), text);
                break;
            }
            if !budget.take() {
                let text = format!("there are more {what} than memory has room for");
                findings.add(FindingKind::Limit, Some(from), text);
                break;
            }
            let [on, back] = match self.links(memory, node) {
                Ok(links) => links,
                Err(bad) => {
                    findings.bad_link(bad, from, format!("a link in the {what}"));
                    break;
                }
            };
            if self.back.is_some() && back != from.raw() {
                let text =
                    format!("one of the {what} is led to from {from}, but says from {back:#x}");
                findings.add(FindingKind::Inconsistent, Some(node), text);
            }
            nodes.push(node);
            (from, next) = (Gva(node.raw().wrapping_add(self.next)), on);
        }
        nodes
    }

    /// The link to the next node, and the one back, in as few reads as can be.
    fn links(self, memory: &dyn Memory<Addr = Gva>, node: Gva) -> Result<[u64; 2], BadLink> {
        let fault = |fault| BadLink::Fault {
            pointer: node.raw(),
            fault,
        };
        let place = |offset| Gva(node.raw().wrapping_add(offset));
        let next = place(self.next);
        match self.back {
            Some(back) if back == self.next.wrapping_add(8) => {
                let mut both = [[0; 8]; 2];
                let read = memory.read(next, both.as_flattened_mut());
                read.map_err(fault)?;
                Ok(both.map(u64::from_le_bytes))
            }
            Some(back) => {
                let on = memory.read_u64(next).map_err(fault)?;
                Ok([on, memory.read_u64(place(back)).map_err(fault)?])
            }
            None => Ok([memory.read_u64(next).map_err(fault)?, 0]),
        }
    }
}
