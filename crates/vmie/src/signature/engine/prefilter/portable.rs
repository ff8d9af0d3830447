//! The stages that need no vectors.

use super::blocks::{BLOCK, Blocks, Positions, before};
use super::grams::Grams;
use super::look::gram;
use super::{BATCH, Chunk};

/// The first two bytes of all windows that have bytes which do not count, a bit each.
#[derive(Debug)]
pub(super) struct Pairs(Box<[u64; 1 << 10]>);

impl Pairs {
    /// For tables of grams of fewer than four bytes.
    pub(super) fn new(short: &[Grams]) -> Self {
        let mut pairs = Box::new([0u64; 1 << 10]);
        for gram in short.iter().flat_map(Grams::pairs) {
            pairs[usize::from(gram) / 64] |= 1 << (gram % 64);
        }
        Self(pairs)
    }

    #[inline(always)]
    fn has(&self, four: u32) -> bool {
        let pair = four as usize & 0xffff;
        self.0[pair / 64] >> (pair % 64) & 1 != 0
    }

    /// Of some positions those that begin with such a pair.
    #[inline(never)]
    pub(super) fn those(&self, region: &[u8], some: &Positions, out: &mut Positions) {
        those(region, some, out, |four| self.has(four));
    }
}

/// A front: every position below `count` of a batch that begins at `at` in its group, straight through
/// the bitmaps.
#[inline(never)]
pub(super) fn pass(
    chunk: &Chunk,
    at: usize,
    count: usize,
    grams: Option<&Grams>,
    pairs: Option<&Pairs>,
    [main, short]: &mut [Blocks; 2],
) {
    if let Some(grams) = grams {
        each_block(chunk, at, count, main, |four| grams.passes(four));
    }
    if let Some(pairs) = pairs {
        each_block(chunk, at, count, short, |four| pairs.has(four));
    }
}

#[inline(always)]
fn each_block(
    chunk: &Chunk,
    at: usize,
    count: usize,
    out: &mut Blocks,
    passes: impl Fn(u32) -> bool,
) {
    let count = count.min(BATCH);
    for start in (0..count).step_by(BLOCK) {
        let Some(bytes) = chunk[start..].first_chunk::<{ BLOCK + 3 }>() else {
            return;
        };
        let mut passed = 0;
        for i in 0..BLOCK {
            let four = u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
            passed |= u64::from(passes(four)) << i;
        }
        out.push(at + start, passed & before(start, count));
    }
}

/// Of some positions those whose gram is in the bitmap.
#[inline(never)]
pub(super) fn those_in_bitmap(region: &[u8], some: &Positions, grams: &Grams, out: &mut Positions) {
    those(region, some, out, |four| grams.passes(four));
}

/// Each position is written, and the count goes up when it passes, so there is no branch.
#[inline(always)]
fn those(region: &[u8], some: &Positions, out: &mut Positions, passes: impl Fn(u32) -> bool) {
    let mut passed = 0;
    for &at in some.all() {
        out.list[passed] = at;
        passed += usize::from(passes(gram(region, usize::from(at))));
    }
    out.count = passed;
}
