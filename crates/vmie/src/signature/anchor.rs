//! Anchors: the literal bytes of a signature that an engine looks for first.
//!
//! Finding a few literal bytes is fast, testing a whole signature is not; so an engine searches for
//! one rare piece of each signature and tests the rest only where the piece occurs. Everything
//! depends on the piece being rare. The longest run of known bytes is the wrong one: `00 00 00 00`
//! is long and everywhere. What counts is how often the bytes occur in memory, which is estimated
//! from [`WEIGHTS`].
//!
//! A piece behind a jump stands at one of several distances from the start of the match, and each
//! of them has to be tested; that is weighed against its rarity. Where every alternative has a good
//! piece and the rest has none, the anchor is a set with one piece for each alternative.

use crate::signature::Node;

/// The longest anchor. More bytes hardly make it rarer, and cost space in automata.
const MAX_ANCHOR: usize = 8;

/// The most pieces in a set of anchors.
const MAX_PIECES: usize = 64;

/// How rare each byte value is, as -8 log2 of its share, so 8 is a bit of information.
///
/// Measured on 1.5 GB of Debian 12's /usr/lib and /usr/bin (code, data, text, tables) without pages
/// that are all zero. It is a guess about memory in general: a wrong one costs time, never a match.
#[rustfmt::skip]
const WEIGHTS: [u8; 256] = [
    19, 45, 51, 59, 56, 58, 64, 64, 54, 67, 58, 69, 70, 68, 63, 52,
    58, 69, 72, 74, 73, 74, 76, 76, 64, 76, 77, 78, 77, 76, 79, 66,
    39, 76, 70, 79, 47, 75, 74, 75, 64, 68, 74, 82, 70, 71, 59, 63,
    64, 61, 73, 77, 77, 76, 79, 81, 67, 70, 70, 74, 78, 69, 83, 81,
    64, 60, 71, 69, 58, 65, 74, 75, 39, 58, 80, 79, 55, 66, 72, 75,
    65, 82, 71, 67, 66, 71, 77, 80, 73, 83, 76, 77, 69, 70, 84, 62,
    69, 49, 67, 55, 56, 43, 58, 60, 61, 50, 75, 70, 54, 60, 51, 49,
    56, 77, 49, 50, 46, 55, 66, 73, 70, 67, 80, 79, 72, 78, 83, 82,
    65, 75, 84, 60, 62, 63, 78, 85, 75, 46, 87, 49, 73, 59, 83, 84,
    68, 87, 84, 87, 76, 85, 88, 86, 78, 85, 87, 87, 78, 87, 89, 87,
    73, 88, 88, 88, 85, 88, 88, 89, 78, 87, 84, 83, 84, 88, 88, 86,
    77, 88, 88, 88, 81, 86, 79, 83, 75, 81, 80, 82, 78, 83, 79, 77,
    62, 72, 79, 68, 71, 82, 77, 72, 76, 77, 83, 84, 52, 86, 84, 85,
    73, 77, 77, 81, 84, 86, 85, 82, 74, 82, 80, 79, 85, 85, 84, 80,
    72, 84, 83, 85, 74, 78, 84, 82, 56, 69, 84, 72, 77, 84, 83, 79,
    73, 83, 82, 80, 84, 85, 76, 80, 75, 80, 79, 79, 77, 76, 66, 43,
];

/// What a byte equal to the one before it adds: repetition is likely.
const REPEATED: u32 = 4;

/// Literal bytes that every match of a signature contains (or, where there are several anchors, one
/// of which every match contains).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Anchor {
    /// The bytes, never empty.
    pub bytes: Vec<u8>,
    /// The least distance from the start of the match to the anchor.
    pub min_offset: usize,
    /// The greatest distance. Equal to the least unless a jump or an alternative stands before.
    pub max_offset: usize,
}

/// Chooses the anchors of a signature; none when it has no known byte that every choice contains.
pub(super) fn choose(nodes: &[Node]) -> Vec<Anchor> {
    best(nodes, (0, 0), Piece::UpTo(MAX_ANCHOR)).map_or_else(Vec::new, |choice| choice.anchors)
}

/// Chooses anchors of `stride + GRAM - 1` bytes, so that wherever one stands, a gram of it begins at
/// a multiple of `stride`; with what the best of them promises, in bits.
pub(super) fn choose_for_grams(nodes: &[Node], stride: usize) -> Option<(Vec<Anchor>, f64)> {
    let choice = best(nodes, (0, 0), Piece::Grams { stride })?;
    Some((choice.anchors, choice.bits))
}

/// Bytes in a gram, the unit of the gram filter.
pub(super) const GRAM: usize = 4;

/// What kind of piece is wanted.
#[derive(Clone, Copy)]
enum Piece {
    /// One to so many bytes, looked for as a whole.
    UpTo(usize),
    /// Looked for by the `stride` grams that begin in it, so all of these have to be rare.
    Grams { stride: usize },
}

/// Anchors and how seldom they are expected to call for a test, in bits.
struct Choice {
    anchors: Vec<Anchor>,
    bits: f64,
}

/// The best anchors in `nodes`, which begins `offset` (least, greatest) behind the match's start.
fn best(nodes: &[Node], offset: (usize, usize), kind: Piece) -> Option<Choice> {
    let mut best: Option<Choice> = None;
    let mut consider = |choice: Choice| {
        // The first of equals, which reads the same on every run.
        if best.as_ref().is_none_or(|best| choice.bits > best.bits) {
            best = Some(choice);
        }
    };
    let mut run = Vec::new();
    let (mut min, mut max) = offset;
    for node in nodes {
        let (node_min, node_max) = node.len_bounds();
        match node {
            Node::Byte(test) if test.literal().is_some() => {
                run.extend(test.literal());
                piece(&run, min + 1, max + 1, kind)
                    .into_iter()
                    .for_each(&mut consider);
            }
            Node::Alt(branches) => {
                run.clear();
                each(branches, (min, max), kind)
                    .into_iter()
                    .for_each(&mut consider);
            }
            Node::Byte(_) | Node::Skip { .. } => run.clear(),
        }
        min += node_min;
        max += node_max;
    }
    best
}

/// The end of `run` as an anchor; it ends `min` to `max` bytes behind the match's start.
fn piece(run: &[u8], min: usize, max: usize, kind: Piece) -> Option<Choice> {
    let (bytes, bits) = match kind {
        Piece::UpTo(most) => {
            let bytes = &run[run.len().saturating_sub(most)..];
            (bytes, rarity(bytes))
        }
        Piece::Grams { stride } => {
            let bytes = &run[run.len().checked_sub(stride + GRAM - 1)?..];
            // One probe in `stride` bytes, for which each of the grams is a reason to look closer.
            let chance: f64 = bytes.windows(GRAM).map(|gram| (-rarity(gram)).exp2()).sum();
            (bytes, -chance.log2())
        }
    };
    let distances = (max - min + 1) as f64;
    Some(Choice {
        anchors: vec![Anchor {
            bytes: bytes.to_vec(),
            min_offset: min - bytes.len(),
            max_offset: max - bytes.len(),
        }],
        bits: bits - distances.log2(),
    })
}

/// How seldom `bytes` are expected to occur, in bits.
fn rarity(bytes: &[u8]) -> f64 {
    let weight = |(i, &byte): (usize, &u8)| match i.checked_sub(1) {
        Some(before) if bytes[before] == byte => REPEATED,
        _ => u32::from(WEIGHTS[usize::from(byte)]),
    };
    let sum: u32 = bytes.iter().enumerate().map(weight).sum();
    f64::from(sum) / 8.0
}

/// Anchors for every branch, if each has one: their chances add up.
fn each(branches: &[Vec<Node>], offset: (usize, usize), kind: Piece) -> Option<Choice> {
    let mut anchors = Vec::new();
    let mut chance = 0.0;
    for branch in branches {
        let choice = best(branch, offset, kind)?;
        chance += (-choice.bits).exp2();
        anchors.extend(choice.anchors);
        if anchors.len() > MAX_PIECES {
            return None;
        }
    }
    Some(Choice {
        anchors,
        bits: -chance.log2(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::Signature;

    fn anchors(text: &str) -> Vec<(Vec<u8>, usize, usize)> {
        let signature = Signature::parse("", text).unwrap();
        choose(signature.nodes())
            .into_iter()
            .map(|anchor| (anchor.bytes, anchor.min_offset, anchor.max_offset))
            .collect()
    }

    #[test]
    fn the_rarest_piece_is_taken() {
        // Zeros are long and everywhere.
        assert_eq!(
            anchors("00 00 00 00 00 ?? 9D A7 ??"),
            [(vec![0x9d, 0xa7], 6, 6)]
        );
        // Of a long run, a part of bounded length.
        let long = anchors("00 00 00 00 00 00 00 00 00 00 01 02 03 04 05 06 07 08 00 00 00 00");
        assert_eq!(long, [((1..=8).collect(), 10, 10)]);
        assert_eq!(anchors("?? 48 8B"), [(vec![0x48, 0x8b], 1, 1)]);
    }

    #[test]
    fn a_piece_behind_a_jump_has_several_distances() {
        assert_eq!(
            anchors("00 [2-4] ~00 12 34 56"),
            [(vec![0x12, 0x34, 0x56], 4, 6)]
        );
        // Too many distances: the worse piece at one place is better.
        assert_eq!(anchors("48 8B [0-4000] 12 34"), [(vec![0x48, 0x8b], 0, 0)]);
    }

    #[test]
    fn alternatives_have_a_piece_each_or_none() {
        assert_eq!(
            anchors("00 (11 22 | 4? 33 44) 00"),
            [(vec![0x11, 0x22], 1, 1), (vec![0x33, 0x44], 2, 2)]
        );
        assert_eq!(anchors("00 (11 22 | ??) 4?"), [(vec![0], 0, 0)]);
        assert_eq!(anchors("(11 | 4?)"), []);
        assert_eq!(anchors("4? ?8 ~00"), []);
    }
}
