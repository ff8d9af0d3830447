//! 32 positions at once, with AVX2.
//!
//! A table lookup has 16 entries here, so a byte is looked up by halves: one table for its lower and one
//! for its upper four bits, each with the buckets that have such a byte at this place. That lets more
//! pass than whole bytes would, for a bucket with `48` and `89` accepts `49` and `88` too.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_cmpeq_epi8,
    _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_set1_epi8, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_srli_epi16,
};

use super::plan::{Buckets, GRAM};
use super::{BATCH, BEHIND, Chunk, Positions};

/// Positions in a vector.
const VECTOR: usize = 32;

/// The greatest share of positions that may be expected to pass.
const MOST: f32 = 0.2;

/// The tables by halves of a byte. Made only where [`Avx2::is_available`].
#[derive(Debug)]
pub(super) struct Avx2 {
    lower: [[u8; 16]; GRAM],
    upper: [[u8; 16]; GRAM],
}

impl Avx2 {
    /// Whether this machine has what it needs.
    pub(super) fn is_available() -> bool {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("popcnt")
    }

    /// `None` where the machine cannot, or where the tables would let most positions pass.
    pub(super) fn new(buckets: &Buckets) -> Option<Self> {
        if !Self::is_available() {
            return None;
        }
        let mut lower = [[0; 16]; GRAM];
        let mut upper = [[0; 16]; GRAM];
        for (place, table) in buckets.tables.iter().enumerate() {
            for (byte, &entry) in table.iter().enumerate() {
                lower[place][byte & 15] |= entry;
                upper[place][byte >> 4] |= entry;
            }
        }
        // Beyond that it is faster to look at every position.
        let passes =
            buckets.passing(|place, byte| lower[place][byte & 15] & upper[place][byte >> 4]);
        (passes < MOST).then_some(Self { lower, upper })
    }

    /// The positions below `count` that some bucket accepts.
    pub(super) fn pass(&self, chunk: &Chunk, count: usize, out: &mut Positions) {
        // SAFETY: there is no value of this type without the features, see `new`.
        unsafe { pass(&self.lower, &self.upper, chunk, count.min(BATCH), out) }
    }
}

#[target_feature(enable = "avx2,bmi1,popcnt")]
fn pass(
    lower: &[[u8; 16]; GRAM],
    upper: &[[u8; 16]; GRAM],
    chunk: &Chunk,
    count: usize,
    out: &mut Positions,
) {
    let lower = lower.each_ref().map(|table| broadcast(table));
    let upper = upper.each_ref().map(|table| broadcast(table));
    let half = _mm256_set1_epi8(0x0f);
    let passing = |start: usize| {
        let mut all = _mm256_set1_epi8(-1);
        for place in 0..GRAM {
            let bytes = load_at(chunk, start + place);
            let low = _mm256_and_si256(bytes, half);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), half);
            let low = _mm256_shuffle_epi8(lower[place], low);
            let high = _mm256_shuffle_epi8(upper[place], high);
            all = _mm256_and_si256(all, _mm256_and_si256(low, high));
        }
        let none = _mm256_cmpeq_epi8(all, _mm256_setzero_si256());
        u64::from(!_mm256_movemask_epi8(none) as u32)
    };
    let mut masks = [0u64; BATCH / 64];
    let mut starts = [0u16; BATCH / 64];
    let mut blocks = 0;
    for start in (0..count).step_by(2 * VECTOR) {
        let mut passed = passing(start) | passing(start + VECTOR) << VECTOR;
        if count - start < 2 * VECTOR {
            passed &= (1 << (count - start)) - 1;
        }
        masks[blocks] = passed;
        starts[blocks] = start as u16;
        blocks += usize::from(passed != 0);
    }
    // Four positions at a time are written whether they are there or not: most masks have fewer, and
    // a loop over just those that are there would end where no branch predictor expects it.
    let mut total = 0;
    for (&mask, &start) in masks.iter().zip(&starts).take(blocks) {
        let here = mask.count_ones() as usize;
        let mut rest = mask;
        let mut at = total;
        while at < total + here {
            let four: &mut [u16; 4] = (&mut out.list[at..at + 4])
                .try_into()
                .expect("it has that length");
            for position in four {
                *position = start + (rest.trailing_zeros() & 63) as u16;
                rest &= rest.wrapping_sub(1);
            }
            at += 4;
        }
        total += here;
    }
    out.count = total;
}

#[target_feature(enable = "avx2")]
#[inline]
fn broadcast(table: &[u8; 16]) -> __m256i {
    // SAFETY: 16 bytes may be read.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(table.as_ptr().cast()) })
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_at(chunk: &Chunk, at: usize) -> __m256i {
    assert!(at <= BATCH + BEHIND - VECTOR);
    // SAFETY: `at` is in the chunk, see above.
    let from = unsafe { chunk.as_ptr().add(at) };
    // SAFETY: and so are 32 bytes from there on.
    unsafe { _mm256_loadu_si256(from.cast()) }
}
