//! Eight positions at once, with AVX2.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::opcodes::{Relative, Room, WIDE, last, last_but_one};
use super::{Search, every_block};
use crate::arch::code::FilterKind;

/// How far ahead memory is asked for.
const AHEAD: usize = 4 << 10;

/// Positions in a block.
const BLOCK: usize = 32;

/// As [`portable`](super::portable).
pub(super) fn blocks(search: &Search, bytes: &[u8], on: &mut impl FnMut(usize, usize)) -> usize {
    assert!(FilterKind::Avx2.is_available());
    if search.relative_most > u32::MAX - 8 {
        // Nearly everything is accepted.
        return super::portable(search, bytes, on);
    }
    if search.absolute_most == 0 {
        // SAFETY: the machine has the instructions, as was just asserted.
        let next = |at| unsafe { next::<true>(search, bytes, at) };
        every_block(bytes.len(), BLOCK, next, on)
    } else {
        // SAFETY: as above.
        let next = |at| unsafe { next::<false>(search, bytes, at) };
        every_block(bytes.len(), BLOCK, next, on)
    }
}

/// The first block from `at` on of which a position may be accepted, and whether there is one; else where
/// the last whole block ends. `ONE`: whether there is one target only.
#[target_feature(enable = "avx2")]
fn next<const ONE: bool>(search: &Search, bytes: &[u8], at: usize) -> (usize, bool) {
    // There is no comparison of numbers without a sign, but numbers with one are in the same order as those
    // are with the uppermost bit turned.
    const TURN: u32 = 1 << 31;
    let all = |n: u32| _mm256_set1_epi32(n.cast_signed());
    // Four positions in a row are taken as the same, and what is accepted for one of them is.
    let start = search.relative.wrapping_add(at as u32).wrapping_add(3);
    let steps = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    let mut positions = _mm256_add_epi32(steps, all(start.wrapping_add(TURN)));
    let relative_end = all((search.relative_most + 4).wrapping_add(TURN));
    let absolute = all(search.absolute);
    let absolute_start = all(TURN.wrapping_sub(search.absolute));
    let absolute_end = all((search.absolute_most + 1).wrapping_add(TURN));
    let block = all(BLOCK as u32);
    let mut at = at;
    while let Some(chunk) = bytes[at..].first_chunk::<{ BLOCK + 3 }>() {
        // Loads that cross lines hold everything up while these are on their way.
        _mm_prefetch::<_MM_HINT_T0>(chunk.as_ptr().wrapping_add(AHEAD).cast());
        let mut any = _mm256_setzero_si256();
        for shift in 0..4 {
            let values = load(chunk, shift);
            let relative = _mm256_add_epi32(values, positions);
            any = _mm256_or_si256(any, _mm256_cmpgt_epi32(relative_end, relative));
            let is_absolute = if ONE {
                _mm256_cmpeq_epi32(values, absolute)
            } else {
                _mm256_cmpgt_epi32(absolute_end, _mm256_add_epi32(values, absolute_start))
            };
            any = _mm256_or_si256(any, is_absolute);
        }
        if _mm256_movemask_epi8(any) != 0 {
            return (at, true);
        }
        positions = _mm256_add_epi32(positions, block);
        at += BLOCK;
    }
    (at, false)
}

#[inline]
#[target_feature(enable = "avx2")]
fn load<const N: usize>(chunk: &[u8; N], shift: usize) -> __m256i {
    let part = &chunk[shift..shift + BLOCK];
    // SAFETY: the slice has the 32 bytes that are loaded, which need not be aligned.
    unsafe { _mm256_loadu_si256(part.as_ptr().cast()) }
}

/// A function of bytes that for each of its bits is a product of one of the upper and one of the lower half, as
/// two tables.
struct Table([__m256i; 2]);

impl Table {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(function: impl Fn(u8) -> u8) -> Self {
        // A bit of a half is set if there is any other half with which it is.
        let half = |shift: u32| {
            let any = |half: u8| {
                let others = (0..16).map(|other: u8| half << shift | other << (4 - shift));
                others.fold(0, |all, byte| all | function(byte))
            };
            let bytes: [u8; 32] = std::array::from_fn(|i| any(i as u8 & 15));
            // SAFETY: the array has the 32 bytes that are loaded, which need not be aligned.
            unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
        };
        Self([half(0), half(4)])
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn of(&self, bytes: __m256i) -> __m256i {
        let nibble = _mm256_set1_epi8(15);
        let low = _mm256_and_si256(bytes, nibble);
        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), nibble);
        let low = _mm256_shuffle_epi8(self.0[0], low);
        _mm256_and_si256(low, _mm256_shuffle_epi8(self.0[1], high))
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
    assert!(FilterKind::Avx2.is_available());
    // SAFETY: the machine has the instructions, as was just asserted.
    unsafe { relative_blocks(relative, bytes, positions, keys, on_wide) }
}

#[target_feature(enable = "avx2")]
fn relative_blocks(
    spec: &Relative,
    bytes: &[u8],
    positions: Range<usize>,
    keys: &mut Room<'_>,
    on_wide: &mut impl FnMut(usize),
) -> usize {
    let last = Table::new(|byte| last(byte) & (spec.classes | WIDE));
    let last_but_one = Table::new(last_but_one);
    let mut at = positions.start;
    while at + BLOCK <= positions.end
        && let Some(chunk) = bytes[at - 2..].first_chunk::<{ 2 + BLOCK + 7 }>()
    {
        let ones = last.of(load(chunk, 1));
        let classes = _mm256_and_si256(ones, last_but_one.of(load(chunk, 0)));
        let behind = |these: u8| {
            let these = _mm256_and_si256(classes, _mm256_set1_epi8(these.cast_signed()));
            let none = _mm256_cmpeq_epi8(these, _mm256_setzero_si256());
            !_mm256_movemask_epi8(none).cast_unsigned()
        };
        let mut wide = behind(WIDE);
        if spec.canonical {
            let top = load(chunk, 2 + 7);
            let zero = _mm256_cmpeq_epi8(top, _mm256_setzero_si256());
            let ones = _mm256_cmpeq_epi8(top, _mm256_set1_epi8(-1));
            wide &= _mm256_movemask_epi8(_mm256_or_si256(zero, ones)).cast_unsigned();
        }
        while wide != 0 {
            on_wide(at + wide.trailing_zeros() as usize);
            wide &= wide - 1;
        }
        let mut hits = behind(spec.classes);
        while hits != 0 {
            let place = hits.trailing_zeros() as usize;
            if let Some(value) = chunk[2 + place..].first_chunk() {
                keys.add(spec.key(u32::from_le_bytes(*value), at + place));
            }
            hits &= hits - 1;
        }
        at += BLOCK;
    }
    at
}
