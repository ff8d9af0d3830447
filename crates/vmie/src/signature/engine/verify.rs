//! Testing one signature at one position, at a bounded price.

use crate::signature::{ByteTest, Node, len_bounds};

/// From so many bytes for each element of a signature on, testing byte by byte is a waste of space.
const SPARSE: usize = 4;

/// How to test a signature.
#[derive(Debug)]
pub(super) enum Verifier {
    /// Compares under a mask, eight bytes at a time; all matches have the same length.
    Masked {
        len: usize,
        /// Mask and value. Behind `len` the mask is zero.
        words: Box<[(u64, u64)]>,
    },
    /// One test a byte, for what a mask cannot say; all matches have the same length.
    Flat(Vec<ByteTest>),
    /// With jumps or alternatives, from the tree.
    Tree(Vec<Node>),
}

impl Verifier {
    pub(super) fn new(nodes: &[Node]) -> Self {
        const ANY: ByteTest = ByteTest {
            value: 0,
            mask: 0,
            negated: false,
        };
        // A long jump is one element of the tree and thousands of tests.
        let (_, max_len) = len_bounds(nodes);
        if max_len > SPARSE * (nodes.len() + 8) {
            return Self::Tree(nodes.to_vec());
        }
        let mut tests = Vec::new();
        for node in nodes {
            match node {
                Node::Byte(test) => tests.push(*test),
                Node::Skip { min, max } if min == max => {
                    tests.extend(std::iter::repeat_n(ANY, *min));
                }
                Node::Skip { .. } | Node::Alt(_) => return Self::Tree(nodes.to_vec()),
            }
        }
        if tests.iter().any(|test| test.negated) {
            return Self::Flat(tests);
        }
        let word = |tests: &[ByteTest]| {
            let of = |part: fn(&ByteTest) -> u8| {
                let mut bytes = [0; 8];
                for (byte, test) in bytes.iter_mut().zip(tests) {
                    *byte = part(test);
                }
                u64::from_le_bytes(bytes)
            };
            (of(|test| test.mask), of(|test| test.value))
        };
        Self::Masked {
            len: tests.len(),
            words: tests.chunks(8).map(word).collect(),
        }
    }

    /// Whether `bytes` begins with a match.
    ///
    /// What the test costs is taken from `budget`. When that is used up, the answer means nothing.
    pub(super) fn matches(&self, bytes: &[u8], budget: &mut usize) -> bool {
        match self {
            Self::Masked { len, words } => {
                if bytes.len() < *len {
                    return false;
                }
                let failed = words.iter().enumerate().position(|(i, &(mask, value))| {
                    let rest = &bytes[i * 8..];
                    let word = rest.first_chunk().map_or_else(
                        || {
                            let mut word = [0; 8];
                            word[..rest.len()].copy_from_slice(rest);
                            u64::from_le_bytes(word)
                        },
                        |word| u64::from_le_bytes(*word),
                    );
                    word & mask != value
                });
                *budget = budget.saturating_sub(failed.unwrap_or(words.len()));
                failed.is_none()
            }
            Self::Flat(tests) => {
                if bytes.len() < tests.len() {
                    return false;
                }
                let mut pairs = tests.iter().zip(bytes);
                let failed = pairs.position(|(test, &byte)| !test.accepts(byte));
                *budget = budget.saturating_sub(failed.unwrap_or(tests.len()) / 4);
                failed.is_none()
            }
            Self::Tree(nodes) => !ends(nodes, bytes, vec![0], budget).is_empty(),
        }
    }
}

/// How many of the first bytes a signature takes that matches there: the fewest. `None` where it takes too many steps to
/// tell: a bounded number, which depends on these bytes alone.
pub(in crate::signature) fn fewest(nodes: &[Node], bytes: &[u8]) -> Option<usize> {
    let mut budget = 4096;
    let ends = ends(nodes, bytes, vec![0], &mut budget);
    ends.first().copied().filter(|_| budget > 0)
}

/// Where `nodes` can end when it begins at one of `positions`, which ascend.
fn ends(nodes: &[Node], bytes: &[u8], positions: Vec<usize>, budget: &mut usize) -> Vec<usize> {
    let mut positions = positions;
    for node in nodes {
        *budget = budget.saturating_sub(positions.len());
        if positions.is_empty() || *budget == 0 {
            break;
        }
        match node {
            Node::Byte(test) => {
                positions.retain(|&at| bytes.get(at).is_some_and(|&byte| test.accepts(byte)));
                positions.iter_mut().for_each(|at| *at += 1);
            }
            Node::Skip { min, max } if min == max => {
                positions.retain(|&at| at + min <= bytes.len());
                positions.iter_mut().for_each(|at| *at += min);
            }
            Node::Skip { min, max } => {
                let mut reached = Vec::new();
                let mut next = 0;
                for at in positions {
                    let first = next.max(at + min);
                    next = (at + max).min(bytes.len()) + 1;
                    reached.extend(first..next);
                    *budget = budget.saturating_sub(next.saturating_sub(first));
                    if *budget == 0 {
                        break;
                    }
                }
                positions = reached;
            }
            Node::Alt(branches) => {
                let mut reached = Vec::new();
                for branch in branches {
                    reached.extend(ends(branch, bytes, positions.clone(), budget));
                }
                reached.sort_unstable();
                reached.dedup();
                positions = reached;
            }
        }
    }
    positions
}
