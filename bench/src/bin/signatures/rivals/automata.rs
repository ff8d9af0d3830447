//! Aho-Corasick automata over one literal piece of each pattern, then a test of the whole.
//!
//! The pieces are those that vmie's own portable engine would take: up to eight bytes, chosen for
//! rarity. The longest run of known bytes, as the literature has it, is slower on most images.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use daachorse::DoubleArrayAhoCorasick;

use super::{Rival, Tally, margin};
use crate::cpu_time;
use crate::image::Image;
use crate::sample::Pattern;

/// A DFA up to so many pieces; for more it is slower than an NFA, and very large.
const DFA: usize = 2_000;

struct Pieces {
    patterns: Vec<Pattern>,
    list: Vec<Vec<u8>>,
    /// For each piece: patterns that have it, and where.
    users: Vec<Vec<(usize, usize)>>,
    margin: usize,
}

impl Pieces {
    fn new(patterns: &[Pattern]) -> Self {
        let mut pieces = Self {
            patterns: patterns.to_vec(),
            list: Vec::new(),
            users: Vec::new(),
            margin: margin(patterns),
        };
        let mut known: HashMap<Vec<u8>, usize> = HashMap::new();
        for (index, pattern) in patterns.iter().enumerate() {
            let anchors = pattern.signature().anchors();
            let anchor = &anchors[0];
            let piece = *known.entry(anchor.bytes.clone()).or_insert_with(|| {
                pieces.list.push(anchor.bytes.clone());
                pieces.users.push(Vec::new());
                pieces.list.len() - 1
            });
            pieces.users[piece].push((index, anchor.min_offset));
        }
        pieces
    }

    /// The piece was found at `at`.
    fn found(&self, bytes: &[u8], base: usize, piece: usize, at: usize, tally: &mut Tally) {
        for &(pattern, offset) in &self.users[piece] {
            if let Some(start) = at.checked_sub(offset)
                && self.patterns[pattern].matches(&bytes[start..])
            {
                tally.add(base + start, pattern);
            }
        }
    }

    fn run(&self, image: &Image, find: impl Fn(&[u8], &mut dyn FnMut(usize, usize))) -> Tally {
        let mut tally = Tally::default();
        for (base, len) in image.used(self.margin) {
            let bytes = &image.bytes()[base..base + len];
            find(bytes, &mut |piece, at| {
                self.found(bytes, base, piece, at, &mut tally);
            });
        }
        tally
    }
}

pub(super) fn all(patterns: &[Pattern]) -> Vec<Rival> {
    let start = cpu_time();
    let pieces = Pieces::new(patterns);
    let kind = if pieces.list.len() <= DFA {
        AhoCorasickKind::DFA
    } else {
        AhoCorasickKind::ContiguousNFA
    };
    let automaton = AhoCorasick::builder()
        .match_kind(MatchKind::Standard)
        .kind(Some(kind))
        .build(&pieces.list)
        .expect("a few thousand short pieces fit");
    let built = cpu_time().saturating_sub(start);
    let aho = Rival {
        name: format!("aho-corasick {kind:?} + verify"),
        built,
        run: Box::new(move |image| {
            pieces.run(image, |bytes, found| {
                for m in automaton.find_overlapping_iter(bytes) {
                    found(m.pattern().as_usize(), m.start());
                }
            })
        }),
    };
    let start = cpu_time();
    let pieces = Pieces::new(patterns);
    let automaton: DoubleArrayAhoCorasick<u32> =
        DoubleArrayAhoCorasick::new(&pieces.list).expect("different pieces, none empty");
    let built = cpu_time().saturating_sub(start);
    let daachorse = Rival {
        name: "daachorse + verify".to_owned(),
        built,
        run: Box::new(move |image| {
            pieces.run(image, |bytes, found| {
                for m in automaton.find_overlapping_iter(bytes) {
                    found(m.value() as usize, m.start());
                }
            })
        }),
    };
    vec![aho, daachorse]
}
