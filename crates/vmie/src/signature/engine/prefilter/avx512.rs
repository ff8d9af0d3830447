//! 64 positions at once, with AVX-512 VBMI.
//!
//! Every byte is loaded once, and the bytes behind it are shifted in from the next block: a load across
//! the border of two cache lines is cheap when both are there, but while they are on their way from
//! memory few such loads are under way at a time. Four loads for each block scanned memory at 12 GB/s
//! where one scans it at 33.
//!
//! A table of 256 bytes fits into four registers, and two `vpermi2b` look 64 bytes up in it, one for the
//! lower and one for the upper half of the values; the top bit of each byte chooses. Four tables are
//! half of the registers. For few signatures a table without the top bit says almost as much, and takes
//! a third of the instructions.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_add_epi16, _mm512_alignr_epi8, _mm512_alignr_epi32,
    _mm512_and_si512, _mm512_loadu_si512, _mm512_mask_blend_epi8, _mm512_maskz_compress_epi16,
    _mm512_movepi8_mask, _mm512_permutex2var_epi8, _mm512_set1_epi16, _mm512_storeu_si512,
    _mm512_test_epi8_mask,
};

use super::plan::{Buckets, GRAM};
use super::{BATCH, BEHIND, Chunk, Positions};

/// Positions in a block.
const BLOCK: usize = 64;

/// How far ahead memory is asked for what will be needed.
const AHEAD: usize = BATCH;

/// The tables. Made only where [`Avx512::is_available`].
#[derive(Debug)]
pub(super) struct Avx512 {
    tables: [[u8; 256]; GRAM],
    folded: Option<[[u8; 128]; GRAM]>,
}

impl Avx512 {
    /// Whether this machine has what it needs.
    pub(super) fn is_available() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512vbmi2")
            && is_x86_feature_detected!("popcnt")
    }

    /// `None` where the machine cannot.
    pub(super) fn new(buckets: &Buckets) -> Option<Self> {
        Self::is_available().then(|| Self {
            tables: buckets.tables,
            folded: buckets.folded(),
        })
    }

    /// The positions below `count` that some bucket accepts.
    pub(super) fn pass(&self, chunk: &Chunk, count: usize, out: &mut Positions) {
        let count = count.min(BATCH);
        match &self.folded {
            // SAFETY: there is no value of this type without the features, see `new`.
            Some(folded) => unsafe { pass_folded(folded, chunk, count, out) },
            // SAFETY: as above.
            None => unsafe { pass_whole(&self.tables, chunk, count, out) },
        }
    }
}

/// Both halves of a table, each in two registers.
struct Table {
    lower: (__m512i, __m512i),
    upper: (__m512i, __m512i),
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,popcnt")]
fn pass_whole(tables: &[[u8; 256]; GRAM], chunk: &Chunk, count: usize, out: &mut Positions) {
    let tables = tables.each_ref().map(|table| {
        let (parts, _) = table.as_chunks::<BLOCK>();
        Table {
            lower: (load(&parts[0]), load(&parts[1])),
            upper: (load(&parts[2]), load(&parts[3])),
        }
    });
    let mut blocks = Blocks::new();
    let mut next = load_at(chunk, 0);
    for start in (0..count).step_by(BLOCK) {
        let here = next;
        next = load_at(chunk, start + BLOCK);
        fetch(chunk, start + AHEAD);
        let bytes = places(here, next);
        let [a, b, c, d] = [0, 1, 2, 3].map(|place| {
            let table: &Table = &tables[place];
            let bytes = bytes[place];
            let lower = _mm512_permutex2var_epi8(table.lower.0, bytes, table.lower.1);
            let upper = _mm512_permutex2var_epi8(table.upper.0, bytes, table.upper.1);
            _mm512_mask_blend_epi8(_mm512_movepi8_mask(bytes), lower, upper)
        });
        let all = _mm512_and_si512(_mm512_and_si512(a, b), _mm512_and_si512(c, d));
        blocks.push(start, _mm512_test_epi8_mask(all, all), count);
    }
    blocks.list(out);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,popcnt")]
fn pass_folded(tables: &[[u8; 128]; GRAM], chunk: &Chunk, count: usize, out: &mut Positions) {
    let tables = tables.each_ref().map(|table| {
        let (parts, _) = table.as_chunks::<BLOCK>();
        (load(&parts[0]), load(&parts[1]))
    });
    let mut blocks = Blocks::new();
    let mut next = load_at(chunk, 0);
    for start in (0..count).step_by(BLOCK) {
        let here = next;
        next = load_at(chunk, start + BLOCK);
        fetch(chunk, start + AHEAD);
        let bytes = places(here, next);
        let [a, b, c, d] = [0, 1, 2, 3].map(|place| {
            let (low, high) = tables[place];
            _mm512_permutex2var_epi8(low, bytes[place], high)
        });
        let all = _mm512_and_si512(_mm512_and_si512(a, b), _mm512_and_si512(c, d));
        blocks.push(start, _mm512_test_epi8_mask(all, all), count);
    }
    blocks.list(out);
}

/// Asks for the bytes at `at`, which may lie behind the chunk, to be fetched from memory.
#[target_feature(enable = "avx512f")]
#[inline]
fn fetch(chunk: &Chunk, at: usize) {
    _mm_prefetch::<_MM_HINT_T0>(chunk.as_ptr().wrapping_add(at).cast());
}

/// The bytes of a block, and those one, two and three behind each.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn places(here: __m512i, next: __m512i) -> [__m512i; GRAM] {
    // `alignr_epi8` shifts within lanes of sixteen bytes, so each lane needs the lane behind it.
    let lanes = _mm512_alignr_epi32::<4>(next, here);
    [
        here,
        _mm512_alignr_epi8::<1>(lanes, here),
        _mm512_alignr_epi8::<2>(lanes, here),
        _mm512_alignr_epi8::<3>(lanes, here),
    ]
}

/// The blocks of a batch in which a position passes. When there are few signatures most have none; the
/// others are collected without a branch, and looked at after.
struct Blocks {
    masks: [u64; BATCH / BLOCK],
    starts: [u16; BATCH / BLOCK],
    count: usize,
}

impl Blocks {
    fn new() -> Self {
        Self {
            masks: [0; BATCH / BLOCK],
            starts: [0; BATCH / BLOCK],
            count: 0,
        }
    }

    /// Takes a block, less the positions from `end` on.
    #[inline(always)]
    fn push(&mut self, start: usize, mut passed: u64, end: usize) {
        if end - start < BLOCK {
            passed &= (1 << (end - start)) - 1;
        }
        self.masks[self.count] = passed;
        self.starts[self.count] = start as u16;
        self.count += usize::from(passed != 0);
    }

    /// Lists the positions.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt")]
    fn list(&self, out: &mut Positions) {
        let lower: [u16; BLOCK / 2] = std::array::from_fn(|i| i as u16);
        let upper: [u16; BLOCK / 2] = std::array::from_fn(|i| (i + BLOCK / 2) as u16);
        let (lower, upper) = (load_words(&lower), load_words(&upper));
        let mut total = 0;
        for (&mask, &start) in self.masks.iter().zip(&self.starts).take(self.count) {
            let base = _mm512_set1_epi16(start as i16);
            for (mask, numbers) in [(mask as u32, lower), ((mask >> 32) as u32, upper)] {
                let numbers = _mm512_maskz_compress_epi16(mask, numbers);
                store_words(&mut out.list, total, _mm512_add_epi16(numbers, base));
                total += mask.count_ones() as usize;
            }
        }
        out.count = total;
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(bytes: &[u8; BLOCK]) -> __m512i {
    // SAFETY: 64 bytes may be read.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_words(words: &[u16; BLOCK / 2]) -> __m512i {
    // SAFETY: 64 bytes may be read.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_at(chunk: &Chunk, at: usize) -> __m512i {
    assert!(at <= BATCH + BEHIND - BLOCK);
    // SAFETY: `at` is in the chunk, see above.
    let from = unsafe { chunk.as_ptr().add(at) };
    // SAFETY: and so are 64 bytes from there on.
    unsafe { _mm512_loadu_si512(from.cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store_words(list: &mut [u16; BATCH + 64], at: usize, words: __m512i) {
    assert!(at <= BATCH + 64 - BLOCK / 2);
    // SAFETY: `at` is in the list, see above.
    let to = unsafe { list.as_mut_ptr().add(at) };
    // SAFETY: and so are 32 words from there on.
    unsafe { _mm512_storeu_si512(to.cast(), words) };
}
