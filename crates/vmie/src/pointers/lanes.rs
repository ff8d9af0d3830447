//! Which words of a block lie between two numbers: the loop of an index build that sees every byte.
//!
//! Nearly all words fail, and the few that pass come in no order a branch predictor could learn. So the
//! loops have no branch: the indices of the words that pass are moved together in a register and
//! stored behind the last ones, however many there are. [`select`] chooses by what the CPU has.
#![allow(unsafe_code)]

/// Words looked at in one call.
pub(super) const BLOCK: usize = 512;

/// Room for the indices of a block: the vector loops store a few lanes more than they found.
pub(super) type Indices = [u32; BLOCK + 8];

/// The indices of the words `w` with `low <= w <= low + span`, ascending, in `out`; answers how many.
///
/// # Panics
///
/// When there are more than [`BLOCK`] words.
#[inline]
pub(super) fn select(words: &[[u8; 8]], low: u64, span: u64, out: &mut Indices) -> usize {
    assert!(words.len() <= BLOCK, "a block has at most {BLOCK} words");
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512vl")
        {
            // SAFETY: the CPU has both features.
            return unsafe { select_avx512(words, low, span, out) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the CPU has the feature.
            return unsafe { select_avx2(words, low, span, out) };
        }
    }
    select_portable(words, low, span, 0, 0, out)
}

/// The same word by word, from word `from` on, with `len` indices there already: the reference implementation of the
/// vector loops, and what finishes them.
fn select_portable(
    words: &[[u8; 8]],
    low: u64,
    span: u64,
    from: usize,
    mut len: usize,
    out: &mut Indices,
) -> usize {
    for (index, word) in words.iter().enumerate().skip(from) {
        out[len] = index as u32;
        len += usize::from(u64::from_le_bytes(*word).wrapping_sub(low) <= span);
    }
    len
}

/// Eight words at a time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,popcnt")]
fn select_avx512(words: &[[u8; 8]], low: u64, span: u64, out: &mut Indices) -> usize {
    use std::arch::x86_64::{
        _mm256_add_epi32, _mm256_maskz_compress_epi32, _mm256_set1_epi32, _mm256_setr_epi32,
        _mm256_storeu_si256, _mm512_cmple_epu64_mask, _mm512_loadu_si512, _mm512_set1_epi64,
        _mm512_sub_epi64,
    };
    let (lows, spans) = (
        _mm512_set1_epi64(low.cast_signed()),
        _mm512_set1_epi64(span.cast_signed()),
    );
    let step = _mm256_set1_epi32(8);
    let mut indices = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    let mut len = 0;
    let (eights, _) = words.as_chunks::<8>();
    for eight in eights {
        // SAFETY: 64 bytes are readable at `eight`; the load wants no alignment.
        let values = unsafe { _mm512_loadu_si512(eight.as_ptr().cast()) };
        let pass = _mm512_cmple_epu64_mask(_mm512_sub_epi64(values, lows), spans);
        let packed = _mm256_maskz_compress_epi32(pass, indices);
        // SAFETY: `len` is at most the number of words before these eight, at most BLOCK - 8, and
        // there is room for BLOCK + 8 indices.
        let at = unsafe { out.as_mut_ptr().add(len) };
        // SAFETY: eight indices fit there, as above; the store wants no alignment.
        unsafe { _mm256_storeu_si256(at.cast(), packed) };
        len += pass.count_ones() as usize;
        indices = _mm256_add_epi32(indices, step);
    }
    select_portable(words, low, span, eights.len() * 8, len, out)
}

/// Four words at a time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
fn select_avx2(words: &[[u8; 8]], low: u64, span: u64, out: &mut Indices) -> usize {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_set1_epi32, _mm_setr_epi32, _mm_shuffle_epi8, _mm_storeu_si128,
        _mm256_castsi256_pd, _mm256_cmpgt_epi64, _mm256_loadu_si256, _mm256_movemask_pd,
        _mm256_set1_epi64x, _mm256_sub_epi64, _mm256_xor_si256,
    };
    // There is no unsigned comparison: both sides with the top bit turned.
    const TOP: i64 = i64::MIN;
    let (lows, flip) = (
        _mm256_set1_epi64x(low.cast_signed()),
        _mm256_set1_epi64x(TOP),
    );
    let spans = _mm256_set1_epi64x(span.cast_signed() ^ TOP);
    let step = _mm_set1_epi32(4);
    let mut indices = _mm_setr_epi32(0, 1, 2, 3);
    let mut len = 0;
    let (fours, _) = words.as_chunks::<4>();
    for four in fours {
        // SAFETY: 32 bytes are readable at `four`; the load wants no alignment.
        let values = unsafe { _mm256_loadu_si256(four.as_ptr().cast()) };
        let above = _mm256_xor_si256(_mm256_sub_epi64(values, lows), flip);
        let fail = _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpgt_epi64(above, spans)));
        let pass = (!fail & 15) as usize;
        // SAFETY: sixteen bytes are readable there; the load wants no alignment.
        let order = unsafe { PACK[pass].as_ptr().cast::<__m128i>().read_unaligned() };
        let packed = _mm_shuffle_epi8(indices, order);
        // SAFETY: `len` is at most the number of words before these four, at most BLOCK - 4, and
        // there is room for BLOCK + 8 indices.
        let at = unsafe { out.as_mut_ptr().add(len) };
        // SAFETY: four indices fit there, as above; the store wants no alignment.
        unsafe { _mm_storeu_si128(at.cast(), packed) };
        len += pass.count_ones() as usize;
        indices = _mm_add_epi32(indices, step);
    }
    select_portable(words, low, span, fours.len() * 4, len, out)
}

/// For each mask of four lanes the shuffle that moves the lanes in it together.
#[cfg(target_arch = "x86_64")]
const PACK: [[u8; 16]; 16] = {
    let mut table = [[0x80; 16]; 16];
    let mut mask = 0;
    while mask < 16 {
        let (mut lane, mut to) = (0, 0);
        while lane < 4 {
            if mask >> lane & 1 == 1 {
                let mut byte = 0;
                while byte < 4 {
                    table[mask][to * 4 + byte] = (lane * 4 + byte) as u8;
                    byte += 1;
                }
                to += 1;
            }
            lane += 1;
        }
        mask += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_machine_selects_the_same(
            words in prop::collection::vec(
                prop_oneof![Just(0), Just(u64::MAX), 0x1000u64..0x1010, any::<u64>()], 0..=BLOCK),
            low in prop_oneof![Just(0), Just(0x1004), Just(1 << 63), Just(u64::MAX), any::<u64>()],
            span in prop_oneof![Just(0), Just(7), Just(u64::MAX), Just(1 << 63), any::<u64>()],
        ) {
            let naive: Vec<u32> = (0..words.len())
                .filter(|&at| {
                    let high = u128::from(low) + u128::from(span);
                    let word = u128::from(words[at]);
                    // Above 2^64 the range goes on at zero.
                    (word >= u128::from(low) && word <= high) || word + (1 << 64) <= high
                })
                .map(|at| at as u32)
                .collect();
            let words: Vec<[u8; 8]> = words.iter().map(|word| word.to_le_bytes()).collect();
            let mut out: Indices = [0; BLOCK + 8];
            let len = select(&words, low, span, &mut out);
            prop_assert_eq!(&out[..len], &naive[..]);
            let len = select_portable(&words, low, span, 0, 0, &mut out);
            prop_assert_eq!(&out[..len], &naive[..]);
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the CPU has the feature.
                let len = unsafe { select_avx2(&words, low, span, &mut out) };
                prop_assert_eq!(&out[..len], &naive[..]);
            }
        }
    }
}
