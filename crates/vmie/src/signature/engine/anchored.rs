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
//! Signatures are sorted into groups by how their anchors are best looked for ([`Search`]); each group
//! is a pass over the bytes, which lie in the cache. Few anchors are looked for one by one, many with
//! the gram filter, and those that do not suit it with an automaton.
//!
//! Anchors are chosen for typical memory, and a guest need not be typical: pages full of one anchor
//! would have every position tested. Tests are therefore charged to the anchor, and beyond a budget
//! proportional to the bytes the [`dense`] way takes over for this window, which bounds the
//! cost of anything a guest or a signature can come up with.
//!
//! This is the portable engine. It uses no vector code of its own.

use std::collections::HashMap;
use std::sync::Arc;

use super::dense;
use super::search::{Search, Then};
use super::verify::Verifier;
use crate::signature::anchor::{self, Anchor};
use crate::signature::{Engine, Hit, Signature};
use crate::sweep::Found;

/// Up to so many different anchors are looked for one by one.
const ONE_BY_ONE: usize = 8;

/// Strides of the gram filter, the fastest first, each with the number of anchors that may be left
/// over to be looked for one by one, because that is faster than what comes after it.
const STRIDES: [(usize, usize); 3] = [(4, 12), (2, 20), (1, 48)];

/// The rarity in bits from which on the gram filter takes an anchor. A look that passes costs as much
/// as dozens that do not; a search for that anchor alone costs more still, unless it is common.
const ENOUGH: f64 = 7.0;

/// Tests that may be charged to an anchor for each byte and signature.
const BUDGET: usize = 2;

/// What an occurrence costs even when its first test fails.
const OCCURRENCE: usize = 16;

/// Which searches to use. Tests use each for everything it can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Strategy {
    /// Whatever is best.
    Best,
    /// One by one, however many.
    #[cfg(test)]
    OneByOne,
    /// An automaton, however few.
    #[cfg(test)]
    Automaton,
    /// The gram filter with this stride wherever it is possible, else an automaton.
    #[cfg(test)]
    Grams(usize),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Anchored {
    signatures: Arc<[Signature]>,
    verifiers: Vec<Verifier>,
    groups: Vec<Group>,
    /// Signatures without an anchor.
    bare: Vec<usize>,
    budget: usize,
    name: &'static str,
}

/// Anchors that are looked for together.
#[derive(Debug)]
struct Group {
    search: Search,
    needles: Vec<Needle>,
    /// How far behind the start of a match an anchor can end.
    reach: usize,
}

/// The bytes of an anchor and who has it.
#[derive(Debug)]
struct Needle {
    bytes: Vec<u8>,
    users: Vec<User>,
}

#[derive(Debug)]
struct User {
    sig: usize,
    min_offset: usize,
    max_offset: usize,
}

impl Anchored {
    pub(super) fn new(signatures: &Arc<[Signature]>) -> Self {
        let which: Vec<usize> = (0..signatures.len()).collect();
        Self::build(signatures, &which, Strategy::Best, BUDGET)
    }

    /// For those signatures only whose numbers are given.
    pub(super) fn for_some(signatures: &Arc<[Signature]>, which: &[usize]) -> Self {
        Self::build(signatures, which, Strategy::Best, BUDGET)
    }

    #[cfg(test)]
    pub(super) fn with(signatures: &Arc<[Signature]>, strategy: Strategy, budget: usize) -> Self {
        let which: Vec<usize> = (0..signatures.len()).collect();
        Self::build(signatures, &which, strategy, budget)
    }

    fn build(
        signatures: &Arc<[Signature]>,
        which: &[usize],
        strategy: Strategy,
        budget: usize,
    ) -> Self {
        let mut bare = Vec::new();
        let mut plain = Needles::default();
        for &sig in which {
            let anchors = anchor::choose(signatures[sig].nodes());
            if anchors.is_empty() {
                bare.push(sig);
            }
            plain.add(sig, anchors);
        }
        let groups = match strategy {
            #[cfg(test)]
            Strategy::OneByOne => vec![plain.group(Search::one_by_one)],
            #[cfg(test)]
            Strategy::Automaton => vec![plain.group(Search::automaton)],
            Strategy::Best if plain.list.len() <= ONE_BY_ONE => {
                vec![plain.group(Search::one_by_one)]
            }
            Strategy::Best => groups(signatures, which, &STRIDES, ENOUGH).into(),
            #[cfg(test)]
            Strategy::Grams(stride) => groups(signatures, which, &[(stride, 0)], f64::MIN).into(),
        };
        let groups: Vec<Group> = groups
            .into_iter()
            .filter(|g| !g.needles.is_empty())
            .collect();
        Self {
            signatures: Arc::clone(signatures),
            verifiers: signatures
                .iter()
                .map(|s| Verifier::new(s.nodes()))
                .collect(),
            name: groups.first().map_or("dense", |group| group.search.name()),
            groups,
            bare,
            budget,
        }
    }
}

/// Sorts the signatures into groups, for a set with many anchors.
///
/// One pass of the gram filter, with the widest stride that suits all signatures but a few. Two passes
/// with different strides cost more than one with the smaller of the two, which also may take the
/// rarest gram of each signature. Those left over go one by one, or through an automaton if they are
/// many for every stride.
fn groups(
    signatures: &[Signature],
    which: &[usize],
    strides: &[(usize, usize)],
    enough: f64,
) -> [Group; 2] {
    let mut widest = None;
    for &(stride, few) in strides {
        let mut filtered = Needles::default();
        let mut others = Needles::default();
        for &sig in which {
            let nodes = signatures[sig].nodes();
            match anchor::choose_for_grams(nodes, stride) {
                Some((anchors, bits)) if bits >= enough => filtered.add(sig, anchors),
                _ => others.add(sig, anchor::choose(nodes)),
            }
        }
        let suits = others.list.len() <= few;
        widest = Some((stride, filtered, others, suits));
        if suits {
            break;
        }
    }
    let (stride, filtered, others, suits) = widest.unwrap_or_default();
    [
        filtered.group(|list| Search::grams(list, stride)),
        others.group(if suits {
            Search::one_by_one
        } else {
            Search::automaton
        }),
    ]
}

/// Needles while they are collected; equal ones are one.
#[derive(Default)]
struct Needles {
    list: Vec<Needle>,
    known: HashMap<Vec<u8>, usize>,
}

impl Needles {
    fn add(&mut self, sig: usize, anchors: Vec<Anchor>) {
        for anchor in anchors {
            self.join(Needle {
                bytes: anchor.bytes,
                users: vec![User {
                    sig,
                    min_offset: anchor.min_offset,
                    max_offset: anchor.max_offset,
                }],
            });
        }
    }

    fn join(&mut self, needle: Needle) {
        if let Some(&index) = self.known.get(&needle.bytes) {
            self.list[index].users.extend(needle.users);
        } else {
            self.known.insert(needle.bytes.clone(), self.list.len());
            self.list.push(needle);
        }
    }

    fn group(self, search: impl FnOnce(&[&[u8]]) -> Search) -> Group {
        let bytes: Vec<&[u8]> = self.list.iter().map(|needle| &needle.bytes[..]).collect();
        let ends = self.list.iter().flat_map(|needle| {
            let len = needle.bytes.len();
            needle.users.iter().map(move |user| user.max_offset + len)
        });
        Group {
            search: search(&bytes),
            reach: ends.max().unwrap_or(0),
            needles: self.list,
        }
    }
}

impl Engine for Anchored {
    fn name(&self) -> &'static str {
        self.name
    }

    fn find(&self, bytes: &[u8], owned: usize, hits: &mut Found<Hit>) {
        let mut pass = Pass {
            engine: self,
            bytes,
            owned,
            hits,
            dense: self.bare.clone(),
        };
        for group in &self.groups {
            pass.group(group);
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
    fn group(&mut self, group: &Group) {
        // What may be spent on each needle; `None` when it has been given up.
        let for_each_user = self.bytes.len().saturating_mul(self.engine.budget);
        let mut budgets: Vec<_> = group
            .needles
            .iter()
            .map(|needle| Some(for_each_user.saturating_mul(needle.users.len())))
            .collect();
        let end = (self.owned - 1 + group.reach).min(self.bytes.len());
        group.search.each(&self.bytes[..end], |index, at| {
            let Some(budget) = &mut budgets[index] else {
                return Then::WithoutThisOne;
            };
            let needle = &group.needles[index];
            self.occurrence(needle, at, budget);
            if self.hits.is_full() {
                return Then::End;
            }
            if *budget > 0 {
                return Then::On;
            }
            budgets[index] = None;
            self.dense.extend(needle.users.iter().map(|user| user.sig));
            Then::WithoutThisOne
        });
    }

    /// Tests what the needle at `at` calls for, as far as the budget allows.
    fn occurrence(&mut self, needle: &Needle, at: usize, budget: &mut usize) {
        for user in &needle.users {
            let Some(nearest) = at.checked_sub(user.min_offset) else {
                continue;
            };
            let farthest = at.saturating_sub(user.max_offset);
            for start in farthest..=nearest.min(self.owned - 1) {
                *budget = budget.saturating_sub(OCCURRENCE);
                let matches = self.engine.verifiers[user.sig].matches(&self.bytes[start..], budget);
                if *budget == 0 || self.hits.is_full() {
                    return;
                }
                if matches {
                    self.hits.push(Hit {
                        offset: start,
                        sig: user.sig,
                    });
                }
            }
        }
    }

    /// Finds the dense way what is left.
    fn finish(mut self) {
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
