//! Sixteen positions at once, with AVX-512.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_and_si512, _mm512_cmpeq_epi8_mask, _mm512_cmple_epu32_mask,
    _mm512_loadu_si512, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_setr_epi32, _mm512_sub_epi32,
};

use super::{Opcodes, Search, every_block};

/// Positions in a block.
const BLOCK: usize = 64;

/// Whether this machine has what it needs.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
}

/// As [`opcodes`](super::opcodes) in the module above.
#[inline]
pub(super) fn opcodes(chunk: &[u8; 64]) -> Opcodes {
    assert!(is_available());
    // SAFETY: the machine has the instructions, as was just asserted.
    unsafe { masks(chunk) }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn masks(chunk: &[u8; 64]) -> Opcodes {
    // SAFETY: the array has the 64 bytes that are loaded, which need not be aligned.
    let bytes = unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) };
    let equals = |mask: u8, value: u8| {
        let bits = _mm512_and_si512(bytes, _mm512_set1_epi8(mask.cast_signed()));
        _mm512_cmpeq_epi8_mask(bits, _mm512_set1_epi8(value.cast_signed()))
    };
    Opcodes {
        alone: equals(0xfe, 0xe8) | equals(0xff, 0xf8) | equals(0xfc, 0xa0) | equals(0xc7, 0x05),
        second: [equals(0xf0, 0x80), equals(0xf8, 0xb8)],
        first: [equals(0xff, 0x0f), equals(0xf8, 0x48)],
    }
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
#[target_feature(enable = "avx512f")]
fn next(search: &Search, bytes: &[u8], at: usize) -> (usize, bool) {
    let steps = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60);
    let add = |n: u32| _mm512_set1_epi32(n.cast_signed());
    let start = search.relative.wrapping_add(at as u32);
    let first = _mm512_add_epi32(steps, add(start));
    let mut positions = [0, 1, 2, 3].map(|shift| _mm512_add_epi32(first, add(shift)));
    let relative_most = add(search.relative_most);
    let absolute = add(search.absolute);
    let absolute_most = add(search.absolute_most);
    let block = add(BLOCK as u32);
    let mut at = at;
    while let Some(chunk) = bytes[at..].first_chunk::<{ BLOCK + 3 }>() {
        let mut any = 0;
        for (shift, positions) in positions.iter_mut().enumerate() {
            let values = load(chunk, shift);
            let relative = _mm512_add_epi32(values, *positions);
            any |= _mm512_cmple_epu32_mask(relative, relative_most);
            any |= _mm512_cmple_epu32_mask(_mm512_sub_epi32(values, absolute), absolute_most);
            *positions = _mm512_add_epi32(*positions, block);
        }
        if any != 0 {
            return (at, true);
        }
        at += BLOCK;
    }
    (at, false)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(chunk: &[u8; BLOCK + 3], shift: usize) -> __m512i {
    let part = &chunk[shift..shift + BLOCK];
    // SAFETY: the slice has the 64 bytes that are loaded, which need not be aligned.
    unsafe { _mm512_loadu_si512(part.as_ptr().cast()) }
}
