//! The stages that need no vectors.
//!
//! Positions are appended without a branch: each is written, and the count goes up when it passes.

use super::grams::Grams;
use super::{BATCH, Chunk, Positions};

/// Every position below `count` whose gram is in one of the bitmaps: a front by itself.
pub(super) fn every_position(chunk: &Chunk, count: usize, all: &[Grams], out: &mut Positions) {
    match all {
        [one] => positions(chunk, count, out, |four| one.passes(four)),
        [one, other] => positions(chunk, count, out, |four| {
            one.passes(four) | other.passes(four)
        }),
        _ => positions(chunk, count, out, |four| {
            all.iter().any(|grams| grams.passes(four))
        }),
    }
}

#[inline(always)]
fn positions(chunk: &Chunk, count: usize, out: &mut Positions, passes: impl Fn(u32) -> bool) {
    let mut passed = 0;
    for at in 0..count.min(BATCH) {
        out.list[passed] = at as u16;
        passed += usize::from(passes(gram(chunk, at)));
    }
    out.count = passed;
}

/// Of the positions in `some`, those whose gram is in the bitmap.
#[inline(never)]
pub(super) fn those_in_bitmap(chunk: &Chunk, some: &Positions, grams: &Grams, out: &mut Positions) {
    let mut passed = 0;
    for &at in &some.list[..some.count.min(BATCH)] {
        out.list[passed] = at;
        passed += usize::from(grams.passes(gram(chunk, usize::from(at))));
    }
    out.count = passed;
}

/// The gram at a position of the batch.
#[inline(always)]
pub(super) fn gram(chunk: &Chunk, at: usize) -> u32 {
    // Every position is below `BATCH`; the mask tells the compiler, which then needs no check.
    let at = at % BATCH;
    u32::from_le_bytes([chunk[at], chunk[at + 1], chunk[at + 2], chunk[at + 3]])
}
