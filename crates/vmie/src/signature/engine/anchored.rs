//! Look for the anchors, test the signature where one occurs.
//!
//! ```text
//! for each occurrence of an anchor in the bytes
//!     for each signature that has it, for each distance it may have from the start
//!         test the signature there
//! if the anchor occurs too often for its own good
//!     give up on it and find its signatures the dense way
//! ```
//!
//! A few anchors are searched for one after the other with `memmem`, each near the speed of memory,
//! in a window that stays in the cache. Many are searched for together with an Aho-Corasick automaton,
//! whose speed hardly depends on their number. Both find overlapping occurrences.
//!
//! Anchors are chosen for typical memory, and a guest need not be typical: pages full of one anchor
//! would have every position tested. Tests are therefore charged to the anchor, and beyond a budget
//! proportional to the bytes the [dense](super::dense) way takes over for this window, which bounds the
//! cost of anything a guest or a signature can come up with.
//!
//! This is the portable engine. It uses no vector code of its own.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use memchr::memmem;

use super::dense;
use crate::signature::{ByteTest, Engine, Hit, Node, Signature, anchor};
use crate::sweep::Found;

/// Up to so many different anchors are searched for one by one.
const ONE_BY_ONE: usize = 24;

/// Up to so many bytes of anchors the automaton is a DFA, which is faster while it fits the cache.
const DFA_BYTES: usize = 16 << 10;

/// Tests that may be charged to an anchor for each byte and signature.
const BUDGET: usize = 2;

/// What an occurrence costs even when its first test fails.
const OCCURRENCE: usize = 16;

/// How to search for anchors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Search {
    /// Each on its own.
    One,
    /// All together.
    Many,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Anchored {
    signatures: Vec<Signature>,
    plans: Vec<Plan>,
    needles: Vec<Needle>,
    search: Searcher,
    /// Signatures without an anchor.
    bare: Vec<usize>,
    budget: usize,
}

/// How to test one signature at one position.
#[derive(Debug)]
enum Plan {
    /// One test a byte; all matches have the same length.
    Flat(Vec<ByteTest>),
    /// With jumps or alternatives, from the tree.
    Tree,
}

/// The bytes of an anchor and who has it.
#[derive(Debug)]
struct Needle {
    bytes: Vec<u8>,
    users: Vec<User>,
    /// The greatest distance from the start among its users.
    reach: usize,
}

#[derive(Debug)]
struct User {
    sig: usize,
    min_offset: usize,
    max_offset: usize,
}

#[derive(Debug)]
enum Searcher {
    One(Vec<memmem::Finder<'static>>),
    Many(AhoCorasick),
}

impl Anchored {
    pub(super) fn new(signatures: &[Signature]) -> Self {
        let mut engine = Self::with(signatures, Search::One, BUDGET);
        if engine.needles.len() > ONE_BY_ONE {
            engine.search = Searcher::new(&engine.needles, Search::Many);
        }
        engine
    }

    pub(super) fn with(signatures: &[Signature], search: Search, budget: usize) -> Self {
        let mut needles: Vec<Needle> = Vec::new();
        let mut known: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut bare = Vec::new();
        for (sig, signature) in signatures.iter().enumerate() {
            let anchors = anchor::choose(signature.nodes());
            if anchors.is_empty() {
                bare.push(sig);
            }
            for anchor in anchors {
                let index = *known.entry(anchor.bytes).or_insert_with_key(|bytes| {
                    needles.push(Needle {
                        bytes: bytes.clone(),
                        users: Vec::new(),
                        reach: 0,
                    });
                    needles.len() - 1
                });
                let needle = &mut needles[index];
                needle.reach = needle.reach.max(anchor.max_offset);
                needle.users.push(User {
                    sig,
                    min_offset: anchor.min_offset,
                    max_offset: anchor.max_offset,
                });
            }
        }
        Self {
            signatures: signatures.to_vec(),
            plans: signatures.iter().map(|s| Plan::new(s.nodes())).collect(),
            search: Searcher::new(&needles, search),
            needles,
            bare,
            budget,
        }
    }
}

impl Searcher {
    fn new(needles: &[Needle], search: Search) -> Self {
        let one = || {
            let finder = |needle: &Needle| memmem::Finder::new(&needle.bytes).into_owned();
            Self::One(needles.iter().map(finder).collect())
        };
        if search == Search::One {
            return one();
        }
        let size: usize = needles.iter().map(|needle| needle.bytes.len()).sum();
        let kind = if size <= DFA_BYTES {
            AhoCorasickKind::DFA
        } else {
            AhoCorasickKind::ContiguousNFA
        };
        // It is only refused when it would be too large to number its states; searching one by one
        // is slow then, and right.
        AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .kind(Some(kind))
            .build(needles.iter().map(|needle| &needle.bytes))
            .map_or_else(|_| one(), Self::Many)
    }
}

impl Engine for Anchored {
    fn name(&self) -> &'static str {
        match self.search {
            Searcher::One(_) => "anchored/memmem",
            Searcher::Many(_) => "anchored/aho-corasick",
        }
    }

    fn find(&self, bytes: &[u8], owned: usize, hits: &mut Found<Hit>) {
        let mut pass = Pass {
            engine: self,
            bytes,
            owned,
            hits,
            dense: Vec::new(),
        };
        match &self.search {
            Searcher::One(finders) => pass.one_by_one(finders),
            Searcher::Many(automaton) => pass.all_together(automaton),
        }
        pass.finish();
    }
}

/// One call of [`Engine::find`].
struct Pass<'p> {
    engine: &'p Anchored,
    bytes: &'p [u8],
    owned: usize,
    hits: &'p mut Found<Hit>,
    /// Signatures to be found the dense way, some perhaps more than once.
    dense: Vec<usize>,
}

impl Pass<'_> {
    /// What may be spent on a needle before it is given up.
    fn budget(&self, needle: &Needle) -> usize {
        self.bytes
            .len()
            .saturating_mul(self.engine.budget)
            .saturating_mul(needle.users.len())
    }

    fn one_by_one(&mut self, finders: &[memmem::Finder<'static>]) {
        let engine = self.engine;
        for (needle, finder) in engine.needles.iter().zip(finders) {
            let mut budget = self.budget(needle);
            let end = (self.owned + needle.reach + needle.bytes.len() - 1).min(self.bytes.len());
            let mut from = 0;
            while let Some(at) = finder.find(&self.bytes[from..end]) {
                if !self.occurrence(needle, from + at, &mut budget) {
                    break;
                }
                // Occurrences may overlap.
                from += at + 1;
            }
            if self.hits.is_full() {
                return;
            }
        }
    }

    fn all_together(&mut self, automaton: &AhoCorasick) {
        let engine = self.engine;
        let needles = &engine.needles;
        // None: given up.
        let mut budgets: Vec<_> = needles.iter().map(|n| Some(self.budget(n))).collect();
        for found in automaton.find_overlapping_iter(self.bytes) {
            let index = found.pattern().as_usize();
            if let Some(budget) = &mut budgets[index]
                && !self.occurrence(&needles[index], found.start(), budget)
            {
                budgets[index] = None;
            }
            if self.hits.is_full() {
                return;
            }
        }
    }

    /// Tests what the needle at `at` calls for. `false` when it is given up.
    fn occurrence(&mut self, needle: &Needle, at: usize, budget: &mut usize) -> bool {
        for user in &needle.users {
            if at < user.min_offset {
                continue;
            }
            let nearest = at - user.min_offset;
            for start in at.saturating_sub(user.max_offset)..=nearest.min(self.owned - 1) {
                *budget = budget.saturating_sub(OCCURRENCE);
                match self.test(user.sig, start, budget) {
                    _ if *budget == 0 => {
                        self.dense.extend(needle.users.iter().map(|user| user.sig));
                        return false;
                    }
                    true => self.hits.push(Hit {
                        offset: start,
                        sig: user.sig,
                    }),
                    false => {}
                }
            }
            if self.hits.is_full() {
                return true;
            }
        }
        true
    }

    /// Whether a signature matches at `start`; means nothing when it has used up the budget.
    fn test(&self, sig: usize, start: usize, budget: &mut usize) -> bool {
        let Some(bytes) = self.bytes.get(start..) else {
            return false;
        };
        match &self.engine.plans[sig] {
            Plan::Flat(tests) => {
                if bytes.len() < tests.len() {
                    return false;
                }
                let pairs = tests.iter().zip(bytes);
                let failed = pairs
                    .into_iter()
                    .position(|(test, &byte)| !test.accepts(byte));
                *budget = budget.saturating_sub(failed.unwrap_or(tests.len()) / 4);
                failed.is_none()
            }
            Plan::Tree => {
                !ends(self.engine.signatures[sig].nodes(), bytes, vec![0], budget).is_empty()
            }
        }
    }

    /// Finds the dense way what is left.
    fn finish(mut self) {
        self.dense.extend(&self.engine.bare);
        self.dense.sort_unstable();
        self.dense.dedup();
        let mut view = dense::View::new(self.bytes);
        for &sig in &self.dense {
            if self.hits.is_full() {
                return;
            }
            view.find(&self.engine.signatures[sig], sig, self.owned, self.hits);
        }
    }
}

impl Plan {
    fn new(nodes: &[Node]) -> Self {
        const ANY: ByteTest = ByteTest {
            value: 0,
            mask: 0,
            negated: false,
        };
        let mut tests = Vec::new();
        for node in nodes {
            match node {
                Node::Byte(test) => tests.push(*test),
                Node::Skip { min, max } if min == max => {
                    tests.extend(std::iter::repeat_n(ANY, *min));
                }
                Node::Skip { .. } | Node::Alt(_) => return Self::Tree,
            }
        }
        Self::Flat(tests)
    }
}

/// Where `nodes` can end when it begins at one of `positions`, which ascend.
///
/// Charges each test to the budget; when that is used up, the answer means nothing.
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
