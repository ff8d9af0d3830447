//! Sixteen positions at once, with AVX-512.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::opcodes::{Reach, Relative, Room, WIDE, last, last_but_one};
use super::{Search, every_block};
use crate::arch::code::{FIELD_BITS, FilterKind};

/// How far ahead memory is asked for.
const AHEAD: usize = 4 << 10;

/// Positions in a block.
const BLOCK: usize = 64;

/// Whether this machine can also look bytes up in registers, and move them together.
pub(super) fn has_bytes() -> bool {
    FilterKind::Avx512.is_available()
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("popcnt")
}

/// As [`portable`](super::portable).
pub(super) fn blocks(search: &Search, bytes: &[u8], on: &mut impl FnMut(usize, usize)) -> usize {
    assert!(FilterKind::Avx512.is_available());
    // SAFETY: the machine has the instructions, as was just asserted.
    let next = |at| unsafe { next(search, bytes, at) };
    every_block(bytes.len(), BLOCK, next, on)
}

/// The first block from `at` on of which a position may be accepted, and whether there is one; else where
/// the last whole block ends.
#[target_feature(enable = "avx512f")]
fn next(search: &Search, bytes: &[u8], at: usize) -> (usize, bool) {
    let steps = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60);
    let all = |n: u32| _mm512_set1_epi32(n.cast_signed());
    // Four positions in a row are taken as the same, and what is accepted for one of them is.
    let start = search.relative.wrapping_add(at as u32).wrapping_add(3);
    let mut positions = _mm512_add_epi32(steps, all(start));
    let relative_most = all(search.relative_most.saturating_add(3));
    let absolute = all(search.absolute);
    let absolute_most = all(search.absolute_most);
    let block = all(BLOCK as u32);
    let mut at = at;
    while let Some(chunk) = bytes[at..].first_chunk::<{ BLOCK + 3 }>() {
        _mm_prefetch::<_MM_HINT_T0>(chunk.as_ptr().wrapping_add(AHEAD).cast());
        let mut any = 0;
        for shift in 0..4 {
            let values = load(chunk, shift);
            let relative = _mm512_add_epi32(values, positions);
            any |= _mm512_cmple_epu32_mask(relative, relative_most);
            any |= _mm512_cmple_epu32_mask(_mm512_sub_epi32(values, absolute), absolute_most);
        }
        positions = _mm512_add_epi32(positions, block);
        if any != 0 {
            return (at, true);
        }
        at += BLOCK;
    }
    (at, false)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load<const N: usize>(bytes: &[u8; N], from: usize) -> __m512i {
    let part = &bytes[from..from + 64];
    // SAFETY: the slice has the 64 bytes that are loaded, which need not be aligned.
    unsafe { _mm512_loadu_si512(part.as_ptr().cast()) }
}

/// A function of bytes, as a table in four registers.
struct Table([__m512i; 4]);

impl Table {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(function: impl Fn(u8) -> u8) -> Self {
        let quarter = |from: u8| {
            let bytes: [u8; 64] = std::array::from_fn(|i| function(from + i as u8));
            load(&bytes, 0)
        };
        Self([quarter(0), quarter(64), quarter(128), quarter(192)])
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn of(&self, bytes: __m512i) -> __m512i {
        let [a, b, c, d] = self.0;
        let low = _mm512_permutex2var_epi8(a, bytes, b);
        let high = _mm512_permutex2var_epi8(c, bytes, d);
        _mm512_mask_blend_epi8(_mm512_movepi8_mask(bytes), low, high)
    }
}

/// The part of [`relative`](super::collect::relative) that comes in whole blocks; answers where it ends.
pub(super) fn relative(
    relative: &Relative,
    bytes: &[u8],
    positions: Range<usize>,
    keys: &mut Room<'_>,
    on_wide: &mut impl FnMut(usize),
) -> usize {
    assert!(has_bytes());
    // SAFETY: the machine has the instructions, as was just asserted.
    unsafe { relative_blocks(relative, bytes, positions, keys, on_wide) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,bmi1,bmi2,popcnt")]
fn relative_blocks(
    spec: &Relative,
    bytes: &[u8],
    positions: Range<usize>,
    keys: &mut Room<'_>,
    on_wide: &mut impl FnMut(usize),
) -> usize {
    let last = Table::new(|byte| last(byte) & (spec.classes | WIDE));
    let last_but_one = Table::new(last_but_one);
    let wide_classes = _mm512_set1_epi8(WIDE.cast_signed());
    let relative_classes = _mm512_set1_epi8(spec.classes.cast_signed());
    let numbers = load::<64>(&std::array::from_fn(|i| i as u8), 0);
    // Of each of sixteen numbers below 64: the four positions of bytes from it on.
    let four_times: [u8; 64] = std::array::from_fn(|i| (i & 0xc) as u8);
    let four_times = load(&four_times, 0);
    let from_it_on = _mm512_set1_epi32(0x0302_0100);
    let reach: [u8; 128] = std::array::from_fn(|i| spec.reach.0[i / 4].to_le_bytes()[i % 4]);
    let reach = [load(&reach, 0), load(&reach, 64)];
    let mask = _mm512_set1_epi64(spec.mask.cast_signed());
    let one = _mm512_set1_epi8(1);
    let any_top = if spec.canonical { 0 } else { !0 };
    let mut at = positions.start;
    while at + 64 <= positions.end
        && let Some(chunk) = bytes[at - 2..].first_chunk::<{ 2 + 128 }>()
    {
        // Loads that cross lines hold everything up while these are on their way, and nearly all cross.
        _mm_prefetch::<_MM_HINT_T0>(chunk.as_ptr().wrapping_add(AHEAD).cast());
        let classes = _mm512_and_si512(last.of(load(chunk, 1)), last_but_one.of(load(chunk, 0)));
        let mut wide = _mm512_test_epi8_mask(classes, wide_classes);
        let top = _mm512_add_epi8(load(chunk, 2 + 7), one);
        wide &= _mm512_cmple_epu8_mask(top, one) | any_top;
        while wide != 0 {
            on_wide(at + wide.trailing_zeros() as usize);
            wide &= wide - 1;
        }
        let hits = _mm512_test_epi8_mask(classes, relative_classes);
        let mut left = hits.count_ones();
        let next = spec.next.wrapping_add(at as u64);
        let low_next = _mm512_set1_epi32((next as u32).cast_signed());
        let origin = _mm512_set1_epi64(next.cast_signed());
        let key_origin = _mm512_set1_epi64(spec.origin.cast_signed());
        let field = _mm512_set1_epi64((spec.field + at as u64).cast_signed());
        let (here, behind) = (load(chunk, 2), load(chunk, 66));
        let mut places = _mm512_maskz_compress_epi8(hits, numbers);
        loop {
            let place = _mm512_cvtepu8_epi32(_mm512_castsi512_si128(places));
            let those = _mm512_add_epi8(_mm512_shuffle_epi8(place, four_times), from_it_on);
            let values = _mm512_permutex2var_epi8(here, those, behind);
            let target = _mm512_add_epi32(_mm512_add_epi32(values, place), low_next);
            let word = _mm512_srli_epi32::<{ 32 - 5 }>(target);
            let word = _mm512_permutex2var_epi32(reach[0], word, reach[1]);
            let bit = _mm512_srli_epi32::<{ Reach::SHIFT }>(target);
            let bit = _mm512_rorv_epi32(word, bit);
            let there = !(!0u32 << left.min(16)) as u16;
            let there = _mm512_mask_test_epi32_mask(there, bit, _mm512_set1_epi32(1));
            let mut add = |values, place, there: u8| {
                let place = _mm512_cvtepi32_epi64(place);
                let target = _mm512_add_epi64(_mm512_cvtepi32_epi64(values), place);
                let target = _mm512_and_si512(_mm512_add_epi64(target, origin), mask);
                let offset = _mm512_sub_epi64(target, key_origin);
                let field = _mm512_add_epi64(field, place);
                let key = _mm512_or_si512(_mm512_slli_epi64::<FIELD_BITS>(offset), field);
                let key = _mm512_maskz_compress_epi64(there, key);
                let room = keys.next(8);
                // SAFETY: the slice has the 64 bytes that are written, which need not be aligned.
                unsafe { _mm512_storeu_si512(room.as_mut_ptr().cast(), key) };
                keys.len += there.count_ones() as usize;
            };
            // Without asking whether there are any: that could not be foretold.
            let half = _mm512_castsi512_si256;
            add(half(values), half(place), there as u8);
            if left > 8 {
                let half = _mm512_extracti64x4_epi64::<1>;
                add(half(values), half(place), (there >> 8) as u8);
            }
            if left <= 16 {
                break;
            }
            left -= 16;
            places = _mm512_shuffle_i64x2::<0b11_11_10_01>(places, places);
        }
        at += 64;
    }
    at
}

/// The part of [`absolute`](super::collect::absolute) that comes in whole blocks; answers where it ends.
pub(super) fn absolute(
    reach: &Reach,
    bytes: &[u8],
    count: usize,
    on: &mut impl FnMut(usize, u32),
) -> usize {
    assert!(has_bytes());
    // SAFETY: the machine has the instructions, as was just asserted.
    unsafe { absolute_blocks(reach, bytes, count, on) }
}

#[target_feature(enable = "avx512f")]
fn absolute_blocks(
    reach: &Reach,
    bytes: &[u8],
    count: usize,
    on: &mut impl FnMut(usize, u32),
) -> usize {
    let words: [u8; 128] = std::array::from_fn(|i| reach.0[i / 4].to_le_bytes()[i % 4]);
    let table = [load(&words, 0), load(&words, 64)];
    let mut at = 0;
    while at + 64 <= count
        && let Some(chunk) = bytes[at..].first_chunk::<{ 64 + 3 }>()
    {
        let mut any = 0;
        for shift in 0..4 {
            let values = load(chunk, shift);
            let word = _mm512_srli_epi32::<{ 32 - 5 }>(values);
            let word = _mm512_permutex2var_epi32(table[0], word, table[1]);
            let bit = _mm512_rorv_epi32(word, _mm512_srli_epi32::<{ Reach::SHIFT }>(values));
            any |= _mm512_test_epi32_mask(bit, _mm512_set1_epi32(1));
        }
        if any != 0 {
            for position in at..at + 64 {
                if let Some(value) = bytes[position..].first_chunk() {
                    let value = u32::from_le_bytes(*value);
                    if reach.has(value) {
                        on(position, value);
                    }
                }
            }
        }
        at += 64;
    }
    at
}
