//! All engines give one answer, for any signatures and any bytes.
//!
//! One body for the tests and for the fuzz target of the same name.

#![allow(unreachable_pub)] // shared by a test and a fuzz target, a library of neither

use vmie::Found;
use vmie::signature::{EngineKind, Hit, Set, Signature};

/// Takes `data` as lines of signatures, an empty line, and bytes to find them in; compares the engines
/// over the bytes, of which the first half is owned and then all. Answers the number of hits.
///
/// # Panics
///
/// When an engine disagrees with the naive one.
pub fn match_signatures(data: &[u8]) -> usize {
    /// What the naive engine gets through in no time, whatever the signatures.
    const MOST: usize = 512;
    let border = data.windows(2).position(|pair| pair == b"\n\n");
    let (text, bytes) = border.map_or((data, &[][..]), |at| (&data[..at], &data[at + 2..]));
    let bytes = &bytes[..bytes.len().min(MOST)];
    let signatures: Vec<Signature> = String::from_utf8_lossy(text)
        .lines()
        .filter_map(|line| Signature::parse("", line).ok())
        .take(20)
        .collect();
    let find = |kind, owned| -> Vec<Hit> {
        let Ok(set) = Set::compile_for(signatures.clone(), kind) else {
            return Vec::new();
        };
        let mut found = Found::with_limit(usize::MAX);
        set.find(bytes, owned, &mut found);
        found.into_items()
    };
    let mut hits = 0;
    for owned in [bytes.len() / 2, bytes.len()] {
        let expected = find(EngineKind::Naive, owned);
        for kind in [EngineKind::Auto, EngineKind::Anchored, EngineKind::Dense] {
            assert_eq!(find(kind, owned), expected, "{kind:?}, {owned} owned");
        }
        hits = expected.len();
    }
    hits
}
