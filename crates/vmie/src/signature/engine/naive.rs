//! Every signature at every position: obviously right, and the judge of every other engine.
//!
//! A sequence maps the set of positions where it may begin to the set of positions where it may
//! end. Sets, rather than backtracking, keep the work polynomial: two ways to reach a position are
//! one.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::signature::{Engine, Hit, Node, Signature};
use crate::sweep::Found;

/// See the module.
#[derive(Debug)]
pub(super) struct Naive {
    signatures: Arc<[Signature]>,
}

impl Naive {
    pub(super) fn new(signatures: &Arc<[Signature]>) -> Self {
        Self {
            signatures: Arc::clone(signatures),
        }
    }
}

impl Engine for Naive {
    fn name(&self) -> &'static str {
        "naive"
    }

    fn find(&self, bytes: &[u8], owned: usize, hits: &mut Found<Hit>) {
        for offset in 0..owned.min(bytes.len()) {
            for (sig, signature) in self.signatures.iter().enumerate() {
                if !ends(signature.nodes(), bytes, BTreeSet::from([offset])).is_empty() {
                    hits.push(Hit { offset, sig });
                }
            }
        }
    }
}

/// Where `nodes` can end in `bytes` when it begins at one of `positions`.
fn ends(nodes: &[Node], bytes: &[u8], positions: BTreeSet<usize>) -> BTreeSet<usize> {
    let mut positions = positions;
    for node in nodes {
        if positions.is_empty() {
            break;
        }
        positions = match node {
            Node::Byte(test) => positions
                .into_iter()
                .filter(|&at| bytes.get(at).is_some_and(|&byte| test.accepts(byte)))
                .map(|at| at + 1)
                .collect(),
            Node::Skip { min, max } => positions
                .into_iter()
                .flat_map(|at| at + min..=at + max)
                .filter(|&at| at <= bytes.len())
                .collect(),
            Node::Alt(branches) => branches
                .iter()
                .flat_map(|branch| ends(branch, bytes, positions.clone()))
                .collect(),
        };
    }
    positions
}
