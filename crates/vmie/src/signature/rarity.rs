//! How rare a few bytes are in memory, as far as that can be told without looking at it.
//!
//! Which piece of a signature to look for first decides how fast the search is, and the longest piece
//! is the wrong one: `00 00 00 00` is long and everywhere. The model is a chain: how often a byte
//! occurs, times how often each further one follows its predecessor. Single bytes alone would hold
//! `48 8B 05` (in every function) for rarer than it is by a factor of hundreds. The chain in turn does so
//! with `41 5C 41 5D` (at the end of every function), so the most frequent grams of four bytes are
//! listed with how frequent they really are. A list of all would take megabytes.
//!
//! The numbers are counts over 0.8 GB of programs and libraries (code, data, text, tables) without pages
//! that are all zero, from 22 packages of Debian 12 for amd64, among them blender, darktable, erlang-base,
//! gimp, kicad, mariadb-server-core, octave, php8.2-cli, qemu-system-arm, r-base-core and
//! vlc-plugin-base; `examples/rarity.rs` makes them and has the whole list. No file of these is in the image
//! of the benchmark, whose signatures are cut from other libraries. They are a guess about memory in
//! general: a wrong one costs time, never a match.

use crate::signature::Node;

/// -8 log2 of the share, so 8 is a bit of information: `[256 * a + b]` of `b` among the bytes that
/// follow `a`, then `[65536 + a]` of `a` among all bytes.
static PAIRS: &[u8; (1 << 16) + 256] = include_bytes!("pairs.bin");

/// How many grams are listed.
const LISTED: usize = 16384;

/// The most frequent grams of four bytes as little-endian words, ascending; then for each the weight of
/// its share.
static GRAMS: &[u8; 5 * LISTED] = include_bytes!("grams.bin");

/// The greatest of these weights.
const RAREST: u32 = 143;

/// Weights for each bit.
const PER_BIT: f64 = 8.0;

/// How rare a byte is by itself.
pub(super) fn first(byte: u8) -> u32 {
    u32::from(PAIRS[(1 << 16) + usize::from(byte)])
}

/// How rare a byte is behind another.
pub(super) fn next(before: u8, byte: u8) -> u32 {
    u32::from(PAIRS[usize::from(before) << 8 | usize::from(byte)])
}

/// The share of all bytes that have this value.
pub(super) fn share(byte: u8) -> f64 {
    (-f64::from(first(byte)) / PER_BIT).exp2()
}

/// How seldom `bytes` are expected to occur, in bits: at one of 2^bits places.
pub(super) fn bits(bytes: &[u8]) -> f64 {
    if let Some((gram, rest)) = bytes.split_first_chunk::<4>() {
        let tail = bytes[3..].array_windows().map(|&[a, b]| next(a, b));
        debug_assert_eq!(tail.len(), rest.len());
        return f64::from(gram_weight(*gram) + tail.sum::<u32>()) / PER_BIT;
    }
    f64::from(chain(bytes)) / PER_BIT
}

/// The share of places at which nodes are expected to match: literal bytes in a row as [`bits`] has it,
/// everything else as if it had nothing to do with what stands beside it.
pub(super) fn chance(nodes: &[Node]) -> f64 {
    let mut chance = 1.0;
    let mut run = Vec::new();
    for node in nodes {
        if let Node::Byte(test) = node
            && let Some(byte) = test.literal()
        {
            run.push(byte);
            continue;
        }
        chance *= (-bits(&run)).exp2();
        run.clear();
        chance *= match node {
            Node::Byte(test) => (0..=255).filter(|&b| test.accepts(b)).map(share).sum(),
            Node::Skip { min, max } => (max - min + 1) as f64,
            Node::Alt(branches) => branches.iter().map(|branch| self::chance(branch)).sum(),
        };
    }
    (chance * (-bits(&run)).exp2()).min(1.0)
}

/// How rare bytes are by the chain alone.
fn chain(bytes: &[u8]) -> u32 {
    let Some(&head) = bytes.first() else {
        return 0;
    };
    let tail = bytes.array_windows().map(|&[a, b]| next(a, b));
    first(head) + tail.sum::<u32>()
}

/// How rare four bytes are: as listed, or at least as rare as the rarest that is listed.
fn gram_weight(gram: [u8; 4]) -> u32 {
    let (words, weights) = GRAMS.split_at(4 * LISTED);
    let words = words.as_chunks::<4>().0;
    let wanted = u32::from_le_bytes(gram);
    match words.binary_search_by_key(&wanted, |word| u32::from_le_bytes(*word)) {
        Ok(at) => u32::from(weights[at]),
        Err(_) => chain(&gram).max(RAREST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_a_distribution() {
        let total: f64 = (0..=255).map(share).sum();
        assert!((0.98..1.02).contains(&total), "{total}");
        for a in 0..=255 {
            let total: f64 = (0..=255)
                .map(|b| (-f64::from(next(a, b)) / PER_BIT).exp2())
                .sum();
            assert!((0.95..1.05).contains(&total), "{a:#x}: {total}");
        }
    }

    #[test]
    fn the_list_is_in_order() {
        let (words, weights) = GRAMS.split_at(4 * LISTED);
        let words = words.as_chunks::<4>().0;
        assert!(words.is_sorted_by_key(|word| u32::from_le_bytes(*word)));
        assert_eq!(weights.iter().max().map(|&w| u32::from(w)), Some(RAREST));
    }

    #[test]
    fn what_is_common_is_held_to_be_common() {
        let order: [&[u8]; 5] = [
            b"",
            &[0; 4],
            &[0xff; 4],
            &[0x41, 0x5c, 0x41, 0x5d],
            &[0x9d, 0xa7, 0x5e, 0xb9],
        ];
        for pair in order.windows(2) {
            assert!(bits(pair[0]) < bits(pair[1]), "{pair:x?}");
        }
    }
}
