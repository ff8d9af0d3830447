//! Anchors: the literal bytes of a signature that an engine looks for first.
//!
//! Finding a few literal bytes is fast, testing a whole signature is not; so an engine searches for
//! one rare piece of each signature and tests the rest only where the piece occurs. Everything
//! depends on the piece being rare. The longest run of known bytes is the wrong one: `00 00 00 00`
//! is long and everywhere. What counts is how often the bytes occur in memory, see [`rarity`].
//!
//! A piece behind a jump stands at one of several distances from the start of the match, and each
//! of them has to be tested; that is weighed against its rarity. Where every alternative has a good
//! piece and the rest has none, the anchor is a set with one piece for each alternative.

use crate::signature::{Node, rarity};

/// The longest anchor. More bytes hardly make it rarer, and cost space in automata.
const MAX_ANCHOR: usize = 8;

/// The most pieces in a set of anchors.
const MAX_PIECES: usize = 64;

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
            (bytes, rarity::bits(bytes))
        }
        Piece::Grams { stride } => {
            let bytes = &run[run.len().checked_sub(stride + GRAM - 1)?..];
            // One probe in `stride` bytes, for which each of the grams is a reason to look closer.
            let chance: f64 = bytes
                .windows(GRAM)
                .map(|gram| (-rarity::bits(gram)).exp2())
                .sum();
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
        let long = anchors("00 00 00 00 00 00 00 00 00 00 91 A2 B3 C4 D5 E6 F7 98 00 00 00 00");
        let rare = vec![0x91, 0xa2, 0xb3, 0xc4, 0xd5, 0xe6, 0xf7, 0x98];
        assert_eq!(long, [(rare, 10, 10)]);
        assert_eq!(anchors("?? 48 8B"), [(vec![0x48, 0x8b], 1, 1)]);
    }

    #[test]
    fn a_piece_behind_a_jump_has_several_distances() {
        assert_eq!(
            anchors("00 [2-4] ~00 12 34 56"),
            [(vec![0x12, 0x34, 0x56], 4, 6)]
        );
        // Too many distances: the worse piece at one place is better.
        assert_eq!(anchors("9D A7 [0-4000] 12 34"), [(vec![0x9d, 0xa7], 0, 0)]);
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
