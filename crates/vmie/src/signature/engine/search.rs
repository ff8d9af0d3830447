//! Ways to look for many literal pieces of bytes at once.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use memchr::memmem;

use super::grams::Grams;

/// Up to so many bytes of needles an automaton is a DFA, which is faster while it fits the cache.
const DFA_BYTES: usize = 16 << 10;

/// What to do after an occurrence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Then {
    /// Go on.
    On,
    /// This needle need not be looked for any more; others must.
    WithoutThisOne,
    /// End the search.
    End,
}

/// Finds every occurrence of every needle, overlapping ones too.
#[derive(Debug)]
pub(super) enum Search {
    /// One after the other, each near the speed of memory: best for few.
    OneByOne(Vec<memmem::Finder<'static>>),
    /// All together; speed depends little on their number, and they may have any length.
    Automaton(AhoCorasick),
    /// All together, if all of them have a certain length.
    Grams(Grams, Vec<Vec<u8>>),
}

impl Search {
    pub(super) fn one_by_one(needles: &[&[u8]]) -> Self {
        let finder = |needle: &&[u8]| memmem::Finder::new(needle).into_owned();
        Self::OneByOne(needles.iter().map(finder).collect())
    }

    pub(super) fn automaton(needles: &[&[u8]]) -> Self {
        let size: usize = needles.iter().map(|needle| needle.len()).sum();
        let kind = if size <= DFA_BYTES {
            AhoCorasickKind::DFA
        } else {
            AhoCorasickKind::ContiguousNFA
        };
        // It is only refused when its states would be too many to number. Searching one by one is
        // slow then, and right.
        AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .kind(Some(kind))
            .build(needles)
            .map_or_else(|_| Self::one_by_one(needles), Self::Automaton)
    }

    /// For needles that have the length which `stride` calls for.
    pub(super) fn grams(needles: &[&[u8]], stride: usize) -> Self {
        match Grams::new(needles.iter().copied(), stride) {
            Some(grams) => Self::Grams(grams, needles.iter().map(|n| n.to_vec()).collect()),
            None => Self::automaton(needles),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::OneByOne(_) => "memmem",
            Self::Automaton(_) => "automaton",
            Self::Grams(..) => "grams",
        }
    }

    /// Calls `found` with the index of a needle and its offset for each occurrence.
    pub(super) fn each(&self, bytes: &[u8], mut found: impl FnMut(usize, usize) -> Then) {
        match self {
            Self::OneByOne(finders) => {
                for (needle, finder) in finders.iter().enumerate() {
                    let mut from = 0;
                    while let Some(at) = finder.find(&bytes[from..]) {
                        match found(needle, from + at) {
                            Then::On => {}
                            Then::WithoutThisOne => break,
                            Then::End => return,
                        }
                        // Occurrences may overlap.
                        from += at + 1;
                    }
                }
            }
            Self::Automaton(automaton) => {
                for occurrence in automaton.find_overlapping_iter(bytes) {
                    let needle = occurrence.pattern().as_usize();
                    if found(needle, occurrence.start()) == Then::End {
                        return;
                    }
                }
            }
            Self::Grams(grams, needles) => grams.each(bytes, |needle, at| {
                !bytes[at..].starts_with(&needles[needle]) || found(needle, at) != Then::End
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn occurrences(search: &Search, bytes: &[u8]) -> Vec<(usize, usize)> {
        let mut list = Vec::new();
        search.each(bytes, |needle, at| {
            list.push((needle, at));
            Then::On
        });
        list.sort_unstable();
        list.dedup();
        list
    }

    proptest! {
        #[test]
        fn every_search_finds_what_looking_everywhere_finds(
            bytes in prop::collection::vec(0u8..2, 0..300),
            needles in prop::collection::btree_set(prop::collection::vec(0u8..2, 7), 1..20),
            stride in prop::sample::select(vec![1usize, 2, 4]),
        ) {
            let needles: std::collections::BTreeSet<&[u8]> =
                needles.iter().map(|needle| &needle[..stride + 3]).collect();
            let needles: Vec<&[u8]> = needles.into_iter().collect();
            let expected: Vec<_> = needles
                .iter()
                .enumerate()
                .flat_map(|(i, needle)| {
                    let at = bytes.windows(needle.len()).enumerate();
                    at.filter(move |(_, window)| window == needle).map(move |(at, _)| (i, at))
                })
                .collect();
            prop_assert_eq!(&occurrences(&Search::one_by_one(&needles), &bytes), &expected);
            prop_assert_eq!(&occurrences(&Search::automaton(&needles), &bytes), &expected);
            prop_assert_eq!(&occurrences(&Search::grams(&needles, stride), &bytes), &expected);
        }
    }

    #[test]
    fn a_search_ends_when_told() {
        let needles: [&[u8]; 2] = [b"aaaa", b"baaa"];
        for search in [
            Search::one_by_one(&needles),
            Search::automaton(&needles),
            Search::grams(&needles, 1),
        ] {
            let mut count = 0;
            search.each(b"baaaaaaaaaaaaaaaaaaaaaaaaaaaaa", |_, _| {
                count += 1;
                if count == 3 { Then::End } else { Then::On }
            });
            assert_eq!(count, 3, "{}", search.name());
        }
    }
}
