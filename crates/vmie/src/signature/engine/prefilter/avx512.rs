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
    _mm512_and_si512, _mm512_castsi512_si256, _mm512_cvtepu8_epi16, _mm512_extracti64x4_epi64,
    _mm512_loadu_si512, _mm512_mask_blend_epi8, _mm512_maskz_compress_epi8, _mm512_movepi8_mask,
    _mm512_permutex2var_epi8, _mm512_set1_epi8, _mm512_set1_epi16, _mm512_storeu_si512,
    _mm512_test_epi8_mask,
};

use super::blocks::{BLOCK, Blocks, POSITIONS, Positions, before};
use super::buckets::Buckets;
use super::literal::GRAM;
use super::{BATCH, BEHIND, Chunk};

/// How far ahead memory is asked for what will be needed.
const AHEAD: usize = BATCH;

/// The tables. Made only where [`Avx512::is_available`].
#[derive(Debug)]
pub(super) struct Avx512 {
    tables: [[u8; 256]; GRAM],
    folded: Option<[[u8; 128]; GRAM]>,
    /// Buckets whose positions are listed apart.
    short: u8,
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
            tables: buckets.whole(),
            folded: buckets.folded(),
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

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,popcnt")]
fn pass(front: &Avx512, chunk: &Chunk, at: usize, count: usize, out: &mut [Blocks; 2]) {
    match (&front.folded, front.short) {
        (Some(folded), 0) => pass_folded::<false>(folded, 0, chunk, at, count, out),
        (Some(folded), short) => pass_folded::<true>(folded, short, chunk, at, count, out),
        (None, 0) => pass_whole::<false>(&front.tables, 0, chunk, at, count, out),
        (None, short) => pass_whole::<true>(&front.tables, short, chunk, at, count, out),
    }
}

/// Both halves of a table, each in two registers.
struct Table {
    lower: (__m512i, __m512i),
    upper: (__m512i, __m512i),
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,popcnt")]
fn pass_whole<const SHORT: bool>(
    tables: &[[u8; 256]; GRAM],
    short: u8,
    chunk: &Chunk,
    at: usize,
    count: usize,
    out: &mut [Blocks; 2],
) {
    let tables = tables.each_ref().map(|table| {
        let (parts, _) = table.as_chunks::<BLOCK>();
        Table {
            lower: (load(&parts[0]), load(&parts[1])),
            upper: (load(&parts[2]), load(&parts[3])),
        }
    });
    let split = Split::<SHORT>::new(short);
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
        split.push(all, at + start, before(start, count), out);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,popcnt")]
fn pass_folded<const SHORT: bool>(
    tables: &[[u8; 128]; GRAM],
    short: u8,
    chunk: &Chunk,
    at: usize,
    count: usize,
    out: &mut [Blocks; 2],
) {
    let tables = tables.each_ref().map(|table| {
        let (parts, _) = table.as_chunks::<BLOCK>();
        (load(&parts[0]), load(&parts[1]))
    });
    let split = Split::<SHORT>::new(short);
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
        split.push(all, at + start, before(start, count), out);
    }
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

/// Tells positions of short windows from the others.
struct Split<const SHORT: bool> {
    main: __m512i,
    short: __m512i,
}

impl<const SHORT: bool> Split<SHORT> {
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    fn new(short: u8) -> Self {
        Self {
            main: _mm512_set1_epi8(!short as i8),
            short: _mm512_set1_epi8(short as i8),
        }
    }

    /// Takes the buckets that accept each position of a block, as far as the positions are `wanted`.
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    fn push(&self, all: __m512i, start: usize, wanted: u64, [main, short]: &mut [Blocks; 2]) {
        if SHORT {
            main.push(start, _mm512_test_epi8_mask(all, self.main) & wanted);
            short.push(start, _mm512_test_epi8_mask(all, self.short) & wanted);
        } else {
            main.push(start, _mm512_test_epi8_mask(all, all) & wanted);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt")]
fn list(blocks: &Blocks, out: &mut Positions) {
    let numbers: [u8; BLOCK] = std::array::from_fn(|i| i as u8);
    let numbers = load(&numbers);
    let mut total = 0;
    for (start, mask) in blocks.each() {
        let base = _mm512_set1_epi16(start as i16);
        let passed = _mm512_maskz_compress_epi8(mask, numbers);
        let count = mask.count_ones() as usize;
        let words = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(passed));
        store_words(&mut out.list, total, _mm512_add_epi16(words, base));
        if count > BLOCK / 2 {
            let words = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64::<1>(passed));
            let words = _mm512_add_epi16(words, base);
            store_words(&mut out.list, total + BLOCK / 2, words);
        }
        total += count;
    }
    out.count = total;
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(bytes: &[u8; BLOCK]) -> __m512i {
    // SAFETY: 64 bytes may be read.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
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
fn store_words(list: &mut [u16; POSITIONS + BLOCK], at: usize, words: __m512i) {
    assert!(at <= POSITIONS + BLOCK - BLOCK / 2);
    // SAFETY: `at` is in the list, see above.
    let to = unsafe { list.as_mut_ptr().add(at) };
    // SAFETY: and so are 32 words from there on.
    unsafe { _mm512_storeu_si512(to.cast(), words) };
}
