//! Which four bytes of each signature are looked for, and which bucket they go into.
//!
//! A front looks each byte up in a table of the buckets that have this byte at this place, and a
//! position passes when some bucket has all four. So what passes by chance is, summed over the
//! buckets, the product of the shares of bytes that the bucket accepts at the four places.
//!
//! A signature of twenty bytes has a dozen windows to choose from, and the choice is free. It is made
//! for all signatures together, greedily: of all windows and all buckets the pair that adds least to
//! the expected cost, that is, to the sum above times the price of a position that passes, and to the
//! expected occurrences of the window itself times the price of a test. Signatures with the fewest
//! windows go first. The effect is that of minimisers: signatures come to use windows that look alike,
//! and the buckets stay selective with ten thousand signatures, where each signature's rarest window
//! would fill them with every byte there is.

use super::buckets::{Buckets, Bytes, Lookup};
use super::literal::{GRAM, Literal};
use crate::signature::{ByteTest, Node, Signature, rarity};

/// Bytes that are compared under a mask before a signature is tested.
pub(super) const WIDE: usize = 16;

/// How many grams a window with unknown bits may stand for: half an unknown byte.
const MAX_GRAMS: usize = 16;

/// The rarity in bits from which on a window is worth looking for.
const ENOUGH: f64 = 7.0;

/// The most windows that stand for one signature, which has one for each of its alternatives.
const MAX_WINDOWS: usize = 64;

/// So many bytes of any value end a stretch of bytes that are looked at together.
const LONG_SKIP: usize = 8;

/// What is looked for.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) windows: Vec<Window>,
    pub(super) buckets: Buckets,
    /// Signatures without a good window.
    pub(super) rest: Vec<usize>,
}

/// Four bytes of a signature, with what stands around them.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) sig: usize,
    /// Least and greatest distance from the start of the match.
    pub(super) min_offset: usize,
    pub(super) max_offset: usize,
    /// How many bytes of the gram count, from the first on.
    pub(super) len: usize,
    /// What may stand at the four places; at those that do not count only the front looks.
    sets: [Bytes; GRAM],
    /// [`WIDE`] bytes that begin `back` before the window: those under the mask are known.
    pub(super) mask: u128,
    pub(super) value: u128,
    pub(super) back: usize,
    /// The length of the signature, if these bytes are all that is known of it.
    pub(super) whole: Option<usize>,
}

impl Window {
    /// All grams it stands for, at most [`MAX_GRAMS`], with zeros for the bytes that do not count.
    pub(super) fn grams(&self) -> impl Iterator<Item = u32> + use<> {
        let mut grams = vec![0u32];
        for (place, set) in self.sets[..self.len].iter().enumerate() {
            grams = grams
                .iter()
                .flat_map(|&head| set.iter().map(move |b| head | u32::from(b) << (8 * place)))
                .collect();
        }
        grams.into_iter()
    }
}

impl Plan {
    /// For a front that looks bytes up in a certain way.
    pub(super) fn new(signatures: &[Signature], lookup: Lookup) -> Self {
        let mut windows = Vec::with_capacity(signatures.len());
        let mut rest = Vec::new();
        let mut free = Vec::new();
        for (sig, signature) in signatures.iter().enumerate() {
            let stretches = stretches(signature.nodes(), (0, 0));
            let literal = literal_windows(&stretches);
            if !literal.is_empty() {
                free.push((sig, stretches, literal));
                continue;
            }
            match best(signature.nodes(), (0, 0)) {
                Some((bound, chance)) if -chance.log2() >= ENOUGH => {
                    windows.extend(bound.into_iter().map(|window| Window { sig, ..window }));
                }
                _ => rest.push(sig),
            }
        }
        let of = |len| windows.iter().filter(|window| window.len == len).count();
        let mut buckets = Buckets::new(lookup, [of(1), of(2), of(3)]);
        for window in &windows {
            buckets.add(&window.sets, window.len);
        }
        free.sort_by_key(|(_, _, literal)| literal.len());
        for (sig, stretches, literal) in &free {
            if let Some(choice) = buckets.choose(literal) {
                let window = stretches[choice.stretch].window(choice.index, GRAM);
                windows.push(Window {
                    sig: *sig,
                    ..window
                });
            }
        }
        for window in &mut windows {
            let bits = known_bits(signatures[window.sig].nodes());
            if bits == Some(window.mask.count_ones() as usize) {
                window.whole = Some(signatures[window.sig].max_len());
            }
        }
        Self {
            windows,
            buckets,
            rest,
        }
    }
}

/// How many bits a signature fixes, if a mask and a value say all of it.
fn known_bits(nodes: &[Node]) -> Option<usize> {
    nodes.iter().try_fold(0, |sum, node| match node {
        Node::Byte(test) if !test.negated => Some(sum + test.mask.count_ones() as usize),
        Node::Skip { min, max } if min == max => Some(sum),
        Node::Byte(_) | Node::Skip { .. } | Node::Alt(_) => None,
    })
}

fn literal_windows(stretches: &[Stretch]) -> Vec<Literal> {
    let mut literal = Vec::new();
    for (number, stretch) in stretches.iter().enumerate() {
        for (index, places) in stretch.places.array_windows::<GRAM>().enumerate() {
            let [Some(a), Some(b), Some(c), Some(d)] = places.map(Place::literal) else {
                continue;
            };
            let bytes = [a, b, c, d];
            let bits = rarity::bits(&bytes) - stretch.distances().log2();
            if bits >= ENOUGH {
                literal.push(Literal {
                    bytes,
                    stretch: number,
                    index,
                    chance: (-bits).exp2() as f32,
                });
            }
        }
    }
    literal
}

/// The windows of which every match has one, and the tests that are expected for each byte searched.
fn best(nodes: &[Node], offset: (usize, usize)) -> Option<(Vec<Window>, f64)> {
    let mut best: Option<(Vec<Window>, f64)> = None;
    let mut consider = |windows: Vec<Window>, chance: f64| {
        if best.as_ref().is_none_or(|(_, least)| chance < *least) {
            best = Some((windows, chance));
        }
    };
    for stretch in stretches(nodes, offset) {
        for len in 1..=GRAM {
            for index in 0..(stretch.places.len() + 1).saturating_sub(len) {
                if let Some(chance) = stretch.chance(index, len) {
                    consider(vec![stretch.window(index, len)], chance);
                }
            }
        }
    }
    let (mut min, mut max) = offset;
    for node in nodes {
        if let Node::Alt(branches) = node
            && let Some((windows, chance)) = each(branches, (min, max))
        {
            consider(windows, chance);
        }
        let (node_min, node_max) = node.len_bounds();
        min += node_min;
        max += node_max;
    }
    best
}

/// Windows for every branch, if each has one: their chances add up.
fn each(branches: &[Vec<Node>], offset: (usize, usize)) -> Option<(Vec<Window>, f64)> {
    let mut all = Vec::new();
    let mut sum = 0.0;
    for branch in branches {
        let (windows, chance) = best(branch, offset)?;
        sum += chance;
        all.extend(windows);
        if all.len() > MAX_WINDOWS {
            return None;
        }
    }
    Some((all, sum))
}

/// A piece of a signature whose bytes stand at fixed distances from each other.
#[derive(Debug)]
struct Stretch {
    /// Distance of the first from the start of the match.
    min: usize,
    max: usize,
    places: Vec<Place>,
}

/// A byte of a stretch.
#[derive(Clone, Copy, Debug)]
enum Place {
    Any,
    Test(ByteTest),
    /// One of several bytes: alternatives of one byte each.
    Of(Bytes),
}

impl Place {
    fn literal(self) -> Option<u8> {
        match self {
            Self::Test(test) => test.literal(),
            Self::Any | Self::Of(_) => None,
        }
    }

    fn bytes(self) -> Bytes {
        match self {
            Self::Any => Bytes([u64::MAX; 4]),
            Self::Test(test) => (0..=255).filter(|&byte| test.accepts(byte)).collect(),
            Self::Of(bytes) => bytes,
        }
    }

    /// Mask and value, as far as a mask can say it.
    fn masked(self) -> (u8, u8) {
        match self {
            Self::Test(test) if !test.negated => (test.mask, test.value),
            _ => (0, 0),
        }
    }
}

/// Cuts nodes, which begin `offset` (least, greatest) behind the match's start, into stretches.
fn stretches(nodes: &[Node], offset: (usize, usize)) -> Vec<Stretch> {
    let (mut min, mut max) = offset;
    let mut all = Vec::new();
    let mut places = Vec::new();
    let mut start = offset;
    for node in nodes {
        let (node_min, node_max) = node.len_bounds();
        match node {
            Node::Byte(test) => places.push(Place::Test(*test)),
            Node::Skip { min, max } if min == max && *max < LONG_SKIP => {
                places.extend(std::iter::repeat_n(Place::Any, *max));
            }
            Node::Alt(branches) if let Some(bytes) = single_bytes(branches) => {
                places.push(Place::Of(bytes));
            }
            Node::Skip { .. } | Node::Alt(_) => {
                all.push(Stretch {
                    min: start.0,
                    max: start.1,
                    places: std::mem::take(&mut places),
                });
                start = (min + node_min, max + node_max);
            }
        }
        min += node_min;
        max += node_max;
    }
    all.push(Stretch {
        min: start.0,
        max: start.1,
        places,
    });
    all
}

/// The bytes that alternatives stand for when each is one byte.
fn single_bytes(branches: &[Vec<Node>]) -> Option<Bytes> {
    let mut all = Bytes::default();
    for branch in branches {
        let [Node::Byte(test)] = branch[..] else {
            return None;
        };
        all = all.union(Place::Test(test).bytes());
    }
    Some(all)
}

impl Stretch {
    fn distances(&self) -> f64 {
        (self.max - self.min + 1) as f64
    }

    /// The tests that the window at `index` is expected to call for, if it stands for few grams.
    fn chance(&self, index: usize, len: usize) -> Option<f64> {
        let window = self.places.get(index..index + len)?;
        let count: usize = window.iter().map(|place| place.bytes().len()).product();
        if count == 0 || count > MAX_GRAMS {
            return None;
        }
        let once: f64 = self
            .window(index, len)
            .grams()
            .map(|gram| (-rarity::bits(&gram.to_le_bytes()[..len])).exp2())
            .sum();
        Some(once * self.distances())
    }

    /// The window of `len` bytes at `index`, of no signature yet, with the bytes around it that say most.
    fn window(&self, index: usize, len: usize) -> Window {
        let known = |start: usize| {
            let mut mask = [0; WIDE];
            let mut value = [0; WIDE];
            for (i, place) in self.places[start..].iter().take(WIDE).enumerate() {
                (mask[i], value[i]) = place.masked();
            }
            (u128::from_le_bytes(mask), u128::from_le_bytes(value), start)
        };
        let (mask, value, start) = (index.saturating_sub(WIDE - GRAM)..=index)
            .map(known)
            .max_by_key(|(mask, _, start)| (mask.count_ones(), *start))
            .unwrap_or_default();
        let mut sets = [Place::Any.bytes(); GRAM];
        for (set, place) in sets.iter_mut().zip(&self.places[index..]) {
            *set = place.bytes();
        }
        Window {
            sig: 0,
            min_offset: self.min + index,
            max_offset: self.max + index,
            len,
            sets,
            mask,
            value,
            back: index - start,
            whole: None,
        }
    }
}
