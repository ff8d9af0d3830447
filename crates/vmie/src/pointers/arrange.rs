//! Sorts edges and writes the arrays of an index.
//!
//! Edges come in the order in which they stand and have to go out in the order of where they lead, with the
//! permutation between the two. Targets are all over the place, so whatever looks something up for
//! each edge, in an array of all of them, waits for memory each time; that was two thirds of a build.
//! Here nothing does: an edge carries all it needs in one word,
//!
//! ```text
//! low bits of the target | place | where it stands
//! ```
//!
//! which is written twice to one of many places that are filled in order (a bucket of targets, and then
//! a block of places), and sorted within a bucket that fits the first-level cache.

use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

use super::packed::{self, Packer};
use super::tables::{Bytes, SAMPLE, Tables};
use crate::scratch::Scratch;

/// Low bits of a target, unless that made too many buckets.
const LOW_BITS: u32 = 16;

/// Bits of the largest number of buckets.
const BUCKET_BITS: u32 = 22;

/// Bits of a place in a block: 65536 ranks of four bytes fit the second-level cache.
const BLOCK_BITS: u32 = 16;

/// Edges as they are found, in the order in which they stand.
pub(super) struct Batch {
    /// Where the first word of the batch stands, in units of the alignment.
    pub(super) first: u64,
    /// The number of the target above the place after the first word.
    pub(super) edges: Vec<u64>,
}

impl Batch {
    /// Bits of a place after the first word.
    pub(super) const OFFSET: u32 = crate::sweep::DEFAULT_WINDOW.trailing_zeros();

    pub(super) fn edge(target: u64, offset: u64) -> u64 {
        debug_assert!(offset >> Self::OFFSET == 0);
        target << Self::OFFSET | offset
    }
}

/// The arrays of `edges` edges that lead below `total` and stand below `total / align`.
pub(super) fn arrange(batches: Vec<Batch>, edges: u64, total: u64, align: u64) -> Tables {
    let low_bits = LOW_BITS.max(packed::bits(total).saturating_sub(BUCKET_BITS));
    let layout = Layout {
        low_bits,
        // The largest there are: a bit too many may cost words of twice the size.
        place_bits: packed::bits(edges.saturating_sub(1)),
        source_bits: packed::bits(total.saturating_sub(1) / align),
    };
    if low_bits + layout.place_bits + layout.source_bits <= u64::BITS {
        fill::<u64>(batches, edges, total, layout)
    } else {
        fill::<u128>(batches, edges, total, layout)
    }
}

/// How an edge is packed into a word.
#[derive(Clone, Copy)]
struct Layout {
    low_bits: u32,
    place_bits: u32,
    source_bits: u32,
}

/// A word that holds all of an edge but the bucket it is in.
trait Word: Copy + Ord + Default {
    fn pack(low: u64, place: u64, source: u64, layout: Layout) -> Self;
    /// The low bits of the target from `shift` on.
    fn low(self, shift: u32, layout: Layout) -> u64;
    fn place(self, layout: Layout) -> u64;
    fn source(self, layout: Layout) -> u64;
    /// Bytes as words; a buffer that is not aligned as they must be is a mistake of ours.
    fn slice(bytes: &mut [u8]) -> &mut [Self];
}

macro_rules! word {
    ($word:ty) => {
        impl Word for $word {
            #[inline]
            fn pack(low: u64, place: u64, source: u64, layout: Layout) -> Self {
                let high = Self::from(low) << layout.place_bits | Self::from(place);
                high << layout.source_bits | Self::from(source)
            }

            #[inline]
            fn low(self, shift: u32, layout: Layout) -> u64 {
                (self >> (layout.place_bits + layout.source_bits + shift)) as u64
            }

            #[inline]
            fn place(self, layout: Layout) -> u64 {
                (self >> layout.source_bits) as u64 & ((1 << layout.place_bits) - 1)
            }

            #[inline]
            fn source(self, layout: Layout) -> u64 {
                self as u64 & ((1 << layout.source_bits) - 1)
            }

            fn slice(bytes: &mut [u8]) -> &mut [Self] {
                <[Self]>::mut_from_bytes(bytes).expect("aligned, and as long as its words")
            }
        }
    };
}

word!(u64);
word!(u128);

fn fill<W: Word>(batches: Vec<Batch>, edges: u64, total: u64, layout: Layout) -> Tables {
    let count = usize::try_from(edges).expect("edges that are in memory");
    let low_bits = layout.low_bits;
    let buckets = usize::try_from((total >> low_bits) + 1).expect("bounded by BUCKET_BITS");
    let mut starts = vec![0_u32; buckets + 1];
    for batch in &batches {
        for &edge in &batch.edges {
            starts[(edge >> Batch::OFFSET >> low_bits) as usize + 1] += 1;
        }
    }
    for bucket in 0..buckets {
        starts[bucket + 1] += starts[bucket];
    }

    let low_mask = (1_u64 << low_bits) - 1;
    let mut cursors = starts.clone();
    let mut scratch = Scratch::new(count * size_of::<W>());
    let words = <W as Word>::slice(scratch.bytes_mut());
    let [mut low, mut sources, mut samples] = [
        (edges, low_bits),
        (edges, layout.source_bits),
        (edges.div_ceil(SAMPLE), layout.source_bits),
    ]
    .map(|(count, bits)| {
        let size = packed::size(count, bits).and_then(|size| usize::try_from(size).ok());
        Scratch::new(size.expect("numbers that are in memory"))
    });
    let mut samples_to = Packer::new(samples.bytes_mut(), layout.source_bits);
    let mut place = 0;
    for batch in batches {
        for edge in batch.edges {
            let target = edge >> Batch::OFFSET;
            let source = batch.first + (edge & ((1 << Batch::OFFSET) - 1));
            let cursor = &mut cursors[(target >> low_bits) as usize];
            words[*cursor as usize] = W::pack(target & low_mask, place, source, layout);
            *cursor += 1;
            if place % SAMPLE == 0 {
                samples_to.push(source);
            }
            place += 1;
        }
    }
    drop(cursors);

    let mut low_to = Packer::new(low.bytes_mut(), low_bits);
    let mut sources_to = Packer::new(sources.bytes_mut(), layout.source_bits);
    let mut pairs = Scratch::new(count * size_of::<u64>());
    let mut blocks = Blocks::new(<u64 as Word>::slice(pairs.bytes_mut()));
    let mut sorter = Sorter::default();
    let mut rank = 0_u32;
    for pair in starts.windows(2) {
        let bucket = &mut words[pair[0] as usize..pair[1] as usize];
        for &word in sorter.sort(bucket, layout) {
            low_to.push(word.low(0, layout));
            sources_to.push(word.source(layout));
            blocks.push(word.place(layout), rank);
            rank += 1;
        }
    }
    drop(scratch);
    let mut order = Scratch::new(count * size_of::<U32>());
    blocks.finish(<[U32]>::mut_from_bytes(order.bytes_mut()).expect("four bytes a rank"));
    drop(pairs);
    let mut starts_to = Scratch::new(size_of_val(&*starts));
    let all = <[U32]>::mut_from_bytes(starts_to.bytes_mut()).expect("four bytes a bucket");
    for (to, start) in all.iter_mut().zip(starts) {
        *to = U32::new(start);
    }
    Tables {
        edges,
        low_bits,
        source_bits: layout.source_bits,
        starts: Bytes::Own(starts_to),
        low: Bytes::Own(low),
        sources: Bytes::Own(sources),
        order: Bytes::Own(order),
        samples: Bytes::Own(samples),
    }
}

/// Ranks by place, brought together in blocks of places first.
struct Blocks<'a> {
    pairs: &'a mut [u64],
    cursors: Vec<u32>,
}

impl<'a> Blocks<'a> {
    fn new(pairs: &'a mut [u64]) -> Self {
        let cursors = (0..pairs.len() as u64).step_by(1 << BLOCK_BITS);
        Self {
            cursors: cursors.map(|at| at as u32).collect(),
            pairs,
        }
    }

    /// Adds the rank of a place; each place comes once.
    #[inline]
    fn push(&mut self, place: u64, rank: u32) {
        let cursor = &mut self.cursors[(place >> BLOCK_BITS) as usize];
        self.pairs[*cursor as usize] = place << u32::BITS | u64::from(rank);
        *cursor += 1;
    }

    /// Writes the ranks in the order of places.
    fn finish(self, ranks: &mut [U32]) {
        for pair in self.pairs {
            ranks[(*pair >> u32::BITS) as usize] = U32::new(*pair as u32);
        }
    }
}

/// Sorts the words of a bucket by the low bits of their target, keeping the order of equal ones.
#[derive(Default)]
struct Sorter<W> {
    words: [Vec<W>; 2],
}

/// Fewer words than this are compared with each other.
const FEW: usize = 96;

impl<W: Word> Sorter<W> {
    /// The words in order. They come in the order of places, so to sort by the whole word is the same.
    fn sort<'s>(&'s mut self, words: &'s mut [W], layout: Layout) -> &'s [W] {
        if words.len() < FEW {
            words.sort_unstable();
            return words;
        }
        let [one, other] = &mut self.words;
        one.resize(words.len().max(one.len()), W::default());
        other.resize(words.len().max(other.len()), W::default());
        let (mut from, mut to): (&mut [W], &mut [W]) =
            (&mut one[..words.len()], &mut other[..words.len()]);
        pass(words, from, 0, layout);
        for shift in (8..layout.low_bits).step_by(8) {
            pass(from, to, shift, layout);
            std::mem::swap(&mut from, &mut to);
        }
        from
    }
}

/// One pass of a radix sort, by eight of the low bits.
fn pass<W: Word>(from: &[W], to: &mut [W], shift: u32, layout: Layout) {
    let digit = |word: &W| (word.low(shift, layout) & 0xff) as usize;
    let mut at = [0_u32; 256];
    for word in from {
        at[digit(word)] += 1;
    }
    let mut sum = 0;
    for count in &mut at {
        sum += std::mem::replace(count, sum);
    }
    for word in from {
        let cursor = &mut at[digit(word)];
        to[*cursor as usize] = *word;
        *cursor += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pointers::tables::Numbers;

    proptest! {
        #[test]
        fn every_width_of_word_gives_the_same_arrays(
            list in prop::collection::vec(
                (prop_oneof![0u64..4, 0u64..0x400, 0u64..0x40_0000], 0u64..3), 0..600),
            narrow: bool,
        ) {
            let total = 0x40_0000_u64;
            let mut source = 0;
            let edges: Vec<Numbers> = list
                .iter()
                .map(|&(target, step)| {
                    source += step + 1;
                    Numbers { source, target }
                })
                .collect();
            let batches: Vec<Batch> = edges
                .chunks(7)
                .map(|chunk| Batch {
                    first: chunk[0].source,
                    edges: chunk
                        .iter()
                        .map(|edge| Batch::edge(edge.target, edge.source - chunk[0].source))
                        .collect(),
                })
                .collect();
            let count = edges.len() as u64;
            let layout = Layout {
                // More than 16 bits take a third pass, and an edge more than 64.
                low_bits: if narrow { 16 } else { 20 },
                place_bits: packed::bits(count),
                source_bits: packed::bits(total / 8),
            };
            let tables = if narrow {
                fill::<u64>(batches, count, total, layout)
            } else {
                fill::<u128>(batches, count, total, layout)
            };
            let look = tables.look();
            let placed: Vec<_> = (0..count).map(|place| look.placed(place)).collect();
            prop_assert_eq!(&placed, &edges);
            let mut ranked = edges;
            ranked.sort_by_key(|edge| (edge.target, edge.source));
            prop_assert_eq!(look.ranked(0..count).collect::<Vec<_>>(), ranked);
        }
    }
}
