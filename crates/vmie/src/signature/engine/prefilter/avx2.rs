//! 64 positions at once, with AVX2.
//!
//! A table lookup has 16 entries here, so a byte is looked up by halves: one table for its lower and one
//! for its upper four bits, each with the buckets that have such a byte at this place. That lets more
//! pass than whole bytes would, for a bucket with `48` and `89` accepts `49` and `88` too; the choice of
//! windows and buckets knows that. Many signatures have sixteen buckets, and every half is looked up
//! twice.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm256_alignr_epi8, _mm256_and_si256,
    _mm256_broadcastsi128_si256, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8,
    _mm256_or_si256, _mm256_permute2x128_si256, _mm256_set1_epi8, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_srli_epi16,
};

use super::blocks::{BLOCK, Blocks, Positions, before};
use super::buckets::{Buckets, Halves, Lookup};
use super::literal::GRAM;
use super::{BATCH, BEHIND, Chunk};

/// Positions in a vector.
const VECTOR: usize = 32;

/// How far ahead memory is asked for what will be needed.
const AHEAD: usize = BATCH;

/// From so many signatures on sixteen buckets are faster than eight.
const MANY: usize = 200;

/// The greatest share of positions that may be expected to pass.
const MOST: f32 = 0.5;

/// The tables by halves of a byte. Made only where [`Avx2::is_available`].
#[derive(Debug)]
pub(super) struct Avx2 {
    first: Tables,
    second: Option<Tables>,
    /// Buckets whose positions are listed apart.
    short: u8,
}

/// The tables of eight buckets: for each place one by the lower and one by the upper half.
#[derive(Debug)]
struct Tables([[[u8; 16]; 2]; GRAM]);

impl Tables {
    /// Of the buckets from `shift` on.
    fn new(lower: &Halves, upper: &Halves, shift: u32) -> Self {
        let part = |table: &[u16; 16]| table.map(|entry| (entry >> shift) as u8);
        Self(std::array::from_fn(|place| {
            [part(&lower[place]), part(&upper[place])]
        }))
    }
}

impl Avx2 {
    /// Whether this machine has what it needs.
    pub(super) fn is_available() -> bool {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("popcnt")
    }

    /// How it looks up so many signatures.
    pub(super) fn lookup(signatures: usize) -> Lookup {
        if signatures < MANY {
            Lookup::Halves
        } else {
            Lookup::HalvesTwice
        }
    }

    /// `None` where the machine cannot, or where the tables would let most positions pass.
    pub(super) fn new(buckets: &Buckets) -> Option<Self> {
        // Beyond that it is faster to look at every position.
        if !Self::is_available() || buckets.passing() > MOST {
            return None;
        }
        let (lower, upper) = buckets.halves();
        Some(Self {
            first: Tables::new(&lower, &upper, 0),
            second: (buckets.count() > 8).then(|| Tables::new(&lower, &upper, 8)),
            short: buckets.short() as u8,
        })
    }

    /// The positions below `count` of a batch, which begins at `at` in its group, that some bucket
    /// accepts; in the second list those of windows with bytes that do not count.
    pub(super) fn pass(&self, chunk: &Chunk, at: usize, count: usize, out: &mut [Blocks; 2]) {
        let count = count.min(BATCH);
        // SAFETY: there is no value of this type without the features, see `new`.
        unsafe { pass(self, chunk, at, count, out) }
    }

    /// Lists the positions in some blocks.
    pub(super) fn list(&self, blocks: &Blocks, out: &mut Positions) {
        // SAFETY: as above.
        unsafe { list(blocks, out) }
    }
}

#[target_feature(enable = "avx2,bmi1,popcnt")]
fn list(blocks: &Blocks, out: &mut Positions) {
    blocks.list(out);
}

#[target_feature(enable = "avx2,bmi1,popcnt")]
fn pass(front: &Avx2, chunk: &Chunk, at: usize, count: usize, out: &mut [Blocks; 2]) {
    match (&front.second, front.short) {
        (None, 0) => pass_with::<false, false>(front, chunk, at, count, out),
        (None, _) => pass_with::<false, true>(front, chunk, at, count, out),
        (Some(_), 0) => pass_with::<true, false>(front, chunk, at, count, out),
        (Some(_), _) => pass_with::<true, true>(front, chunk, at, count, out),
    }
}

#[target_feature(enable = "avx2,bmi1,popcnt")]
fn pass_with<const TWICE: bool, const SHORT: bool>(
    front: &Avx2,
    chunk: &Chunk,
    at: usize,
    count: usize,
    [main, short]: &mut [Blocks; 2],
) {
    let first = Registers::new(&front.first);
    let second = Registers::new(front.second.as_ref().unwrap_or(&front.first));
    let is_short = _mm256_set1_epi8(front.short as i8);
    let is_main = _mm256_set1_epi8(!front.short as i8);
    let mut next = halves(load_at(chunk, 0));
    for start in (0..count).step_by(BLOCK) {
        _mm_prefetch::<_MM_HINT_T0>(chunk.as_ptr().wrapping_add(start + AHEAD).cast());
        let mut passed = [0u64; 2];
        for half in 0..BLOCK / VECTOR {
            let here = next;
            next = halves(load_at(chunk, start + (half + 1) * VECTOR));
            let low = places(here.0, next.0);
            let high = places(here.1, next.1);
            let buckets = first.accept(&low, &high);
            let mut of_main = if SHORT {
                _mm256_and_si256(buckets, is_main)
            } else {
                buckets
            };
            if TWICE {
                of_main = _mm256_or_si256(of_main, second.accept(&low, &high));
            }
            passed[0] |= any(of_main) << (half * VECTOR);
            if SHORT {
                passed[1] |= any(_mm256_and_si256(buckets, is_short)) << (half * VECTOR);
            }
        }
        let wanted = before(start, count);
        main.push(at + start, passed[0] & wanted);
        if SHORT {
            short.push(at + start, passed[1] & wanted);
        }
    }
}

/// The tables of eight buckets, each twice in a register.
struct Registers {
    lower: [__m256i; GRAM],
    upper: [__m256i; GRAM],
}

impl Registers {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn new(tables: &Tables) -> Self {
        Self {
            lower: tables.0.each_ref().map(|[lower, _]| broadcast(lower)),
            upper: tables.0.each_ref().map(|[_, upper]| broadcast(upper)),
        }
    }

    /// The buckets that accept each position, whose halves of bytes are given place by place.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn accept(&self, low: &[__m256i; GRAM], high: &[__m256i; GRAM]) -> __m256i {
        let mut all = _mm256_set1_epi8(-1);
        for place in 0..GRAM {
            let low = _mm256_shuffle_epi8(self.lower[place], low[place]);
            let high = _mm256_shuffle_epi8(self.upper[place], high[place]);
            all = _mm256_and_si256(all, _mm256_and_si256(low, high));
        }
        all
    }
}

/// The bytes that are not zero, one bit each.
#[target_feature(enable = "avx2")]
#[inline]
fn any(bytes: __m256i) -> u64 {
    let none = _mm256_cmpeq_epi8(bytes, _mm256_setzero_si256());
    u64::from(!_mm256_movemask_epi8(none) as u32)
}

/// The lower and the upper halves of bytes.
#[target_feature(enable = "avx2")]
#[inline]
fn halves(bytes: __m256i) -> (__m256i, __m256i) {
    let half = _mm256_set1_epi8(0x0f);
    (
        _mm256_and_si256(bytes, half),
        _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), half),
    )
}

/// The bytes of a vector, and those one, two and three behind each.
#[target_feature(enable = "avx2")]
#[inline]
fn places(here: __m256i, next: __m256i) -> [__m256i; GRAM] {
    // `alignr_epi8` shifts within lanes of sixteen bytes, so each lane needs the lane behind it.
    let lanes = _mm256_permute2x128_si256::<0x21>(here, next);
    [
        here,
        _mm256_alignr_epi8::<1>(lanes, here),
        _mm256_alignr_epi8::<2>(lanes, here),
        _mm256_alignr_epi8::<3>(lanes, here),
    ]
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
