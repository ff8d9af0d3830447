//! Eight positions at once, with AVX2.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_cmpeq_epi32, _mm256_loadu_si256, _mm256_min_epu32,
    _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi32, _mm256_setr_epi32,
    _mm256_setzero_si256, _mm256_sub_epi32,
};

use super::{Search, every_block};

/// Positions in a block.
const BLOCK: usize = 32;

/// Whether this machine has what it needs.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx2")
}

/// As [`portable`](super::portable).
pub(super) fn blocks(search: &Search, bytes: &[u8], on: &mut impl FnMut(usize, usize)) -> usize {
    assert!(is_available());
    // SAFETY: the machine has the instructions, as was just asserted.
    let next = |at| unsafe { next(search, bytes, at) };
    every_block(bytes.len(), BLOCK, next, on)
}

/// The first block from `at` on of which a position may be accepted, and whether there is one; else where
/// the last whole block ends.
#[target_feature(enable = "avx2")]
fn next(search: &Search, bytes: &[u8], at: usize) -> (usize, bool) {
    let steps = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    let add = |n: u32| _mm256_set1_epi32(n.cast_signed());
    let start = search.relative.wrapping_add(at as u32);
    let first = _mm256_add_epi32(steps, add(start));
    let mut positions = [0, 1, 2, 3].map(|shift| _mm256_add_epi32(first, add(shift)));
    let relative_most = add(search.relative_most);
    let absolute = add(search.absolute);
    let absolute_most = add(search.absolute_most);
    let block = add(BLOCK as u32);
    // There is no comparison of numbers without a sign: the lesser of both must be the first.
    let at_most = |n, most| _mm256_cmpeq_epi32(_mm256_min_epu32(n, most), n);
    let mut at = at;
    while let Some(chunk) = bytes[at..].first_chunk::<{ BLOCK + 3 }>() {
        let mut any = _mm256_setzero_si256();
        for (shift, positions) in positions.iter_mut().enumerate() {
            let values = load(chunk, shift);
            let relative = at_most(_mm256_add_epi32(values, *positions), relative_most);
            let absolute = at_most(_mm256_sub_epi32(values, absolute), absolute_most);
            any = _mm256_or_si256(any, _mm256_or_si256(relative, absolute));
            *positions = _mm256_add_epi32(*positions, block);
        }
        if _mm256_movemask_epi8(any) != 0 {
            return (at, true);
        }
        at += BLOCK;
    }
    (at, false)
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(chunk: &[u8; BLOCK + 3], shift: usize) -> __m256i {
    let part = &chunk[shift..shift + BLOCK];
    // SAFETY: the slice has the 32 bytes that are loaded, which need not be aligned.
    unsafe { _mm256_loadu_si256(part.as_ptr().cast()) }
}
