//! Which positions could be fields that stand for one of the targets.
//!
//! Whatever passes is decoded, so a filter may pass too much and never too little. Targets are compared
//! by their lower 32 bits: that is what the fields have, and it is right for addresses that wrap and for
//! displacements that are cut to 32 bits (`[eip+...]`) too.
//!
//! ```text
//! relative   start + position + 4 + tail + value = target      tail: 0, 1, 2 or 4 bytes of an immediate
//! absolute   value = target
//! ```
//!
//! The four tails are one comparison: with the tail left out, the sum is at most four less than the target.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::addr::{AddrRange, Gva};

/// The longest immediate behind a displacement.
const MAX_TAIL: u32 = 4;

/// Ways to filter; they differ in speed only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum FilterKind {
    /// Whatever the compiler makes of it.
    Portable,
    /// Eight positions at once.
    Avx2,
    /// Sixteen positions at once.
    Avx512,
}

impl FilterKind {
    /// All of them, the slowest first.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::is_available(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// The fastest that this machine can run.
    pub(super) fn best() -> Self {
        let mut all = Self::ALL.into_iter().rev();
        all.find(|kind| kind.is_available())
            .unwrap_or(Self::Portable)
    }
}

/// What is compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    start: u64,
    targets: AddrRange<Gva>,
    /// A relative value at position 0 passes when `value + relative <= relative_most`, at others with the
    /// position added.
    relative: u32,
    relative_most: u32,
    /// A value passes when `value - absolute <= absolute_most`.
    absolute: u32,
    absolute_most: u32,
}

impl Search {
    /// For bytes of which the first is at `start`.
    pub(super) fn new(start: Gva, targets: AddrRange<Gva>) -> Self {
        let first = targets.start().0 as u32;
        let most = u32::try_from(targets.last().0 - targets.start().0).unwrap_or(u32::MAX);
        Self {
            start: start.0,
            targets,
            relative: (start.0 as u32)
                .wrapping_add(4)
                .wrapping_add(MAX_TAIL)
                .wrapping_sub(first),
            relative_most: most.saturating_add(MAX_TAIL),
            absolute: first,
            absolute_most: most,
        }
    }

    /// Whether a value at a position can be one of the targets.
    #[inline]
    fn accepts(&self, value: u32, position: u32) -> bool {
        let relative = value.wrapping_add(self.relative).wrapping_add(position);
        let absolute = value.wrapping_sub(self.absolute);
        (relative <= self.relative_most) | (absolute <= self.absolute_most)
    }

    /// Passes on the accepted ones of `positions`.
    fn each(&self, bytes: &[u8], positions: std::ops::Range<usize>, on: &mut impl FnMut(usize)) {
        for position in positions {
            let Some(value) = bytes.get(position..).and_then(|rest| rest.first_chunk()) else {
                return;
            };
            if self.accepts(u32::from_le_bytes(*value), position as u32) {
                on(position);
            }
        }
    }
}

/// Passes on the positions of fields of four bytes and more, in order.
pub(super) fn long(search: &Search, kind: FilterKind, bytes: &[u8], mut on: impl FnMut(usize)) {
    let mut on_block = |from: usize, len: usize| search.each(bytes, from..from + len, &mut on);
    let done = match kind {
        FilterKind::Portable => portable(search, bytes, &mut on_block),
        #[cfg(target_arch = "x86_64")]
        FilterKind::Avx2 => avx2::blocks(search, bytes, &mut on_block),
        #[cfg(target_arch = "x86_64")]
        FilterKind::Avx512 => avx512::blocks(search, bytes, &mut on_block),
        #[cfg(not(target_arch = "x86_64"))]
        FilterKind::Avx2 | FilterKind::Avx512 => portable(search, bytes, &mut on_block),
    };
    search.each(bytes, done..bytes.len(), &mut on);
}

/// Passes on the blocks that `next` finds: it answers where the first one is from a position on, and whether
/// there is one. Answers where the last one ends.
#[cfg(target_arch = "x86_64")]
#[inline]
fn every_block(
    len: usize,
    block: usize,
    next: impl Fn(usize) -> (usize, bool),
    on: &mut impl FnMut(usize, usize),
) -> usize {
    let mut at = 0;
    while at < len {
        let (found, hit) = next(at);
        at = found;
        if !hit {
            break;
        }
        on(at, block);
        at += block;
    }
    at
}

/// Positions in a block of [`portable`].
const BLOCK: usize = 64;

/// Passes on blocks of positions of which some may be accepted; answers where the last one ends. What
/// is behind it is left to do.
fn portable(search: &Search, bytes: &[u8], on: &mut impl FnMut(usize, usize)) -> usize {
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<{ BLOCK + 3 }>() {
        let mut any = false;
        for shift in 0..4 {
            let words = chunk[shift..shift + BLOCK].as_chunks::<4>().0;
            for (i, word) in words.iter().enumerate() {
                let position = (at + shift + 4 * i) as u32;
                any |= search.accepts(u32::from_le_bytes(*word), position);
            }
        }
        if any {
            on(at, BLOCK);
        }
        at += BLOCK;
    }
    at
}

/// Passes on the positions that follow a byte which can stand before a relative field in 64-bit code, or
/// before an address of eight bytes, and some more, in order; not position 0.
pub(super) fn after_opcodes(kind: FilterKind, bytes: &[u8], on: &mut impl FnMut(usize)) {
    let mut at = 0;
    // What the last byte of the block before was.
    let mut carried = [0; 2];
    while let Some(chunk) = bytes[at..].first_chunk::<64>() {
        let Opcodes {
            alone,
            second,
            first,
        } = match kind {
            FilterKind::Portable => opcodes(chunk),
            #[cfg(target_arch = "x86_64")]
            FilterKind::Avx2 => opcodes(chunk),
            #[cfg(target_arch = "x86_64")]
            FilterKind::Avx512 => avx512::opcodes(chunk),
            #[cfg(not(target_arch = "x86_64"))]
            FilterKind::Avx2 | FilterKind::Avx512 => opcodes(chunk),
        };
        let mut left = alone;
        for i in 0..2 {
            left |= second[i] & (first[i] << 1 | carried[i]);
            carried[i] = first[i] >> 63;
        }
        while left != 0 {
            on(at + left.trailing_zeros() as usize + 1);
            left &= left - 1;
        }
        at += 64;
    }
    for position in at..bytes.len() {
        on(position + 1);
    }
}

/// Of 64 bytes, a bit for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Opcodes {
    /// E8, E9, F8, A0 to A3, or the mod r/m byte of an operand relative to the instruction pointer.
    alone: u64,
    /// 8x, behind 0F; B8 to BF, behind a prefix that makes it wide.
    second: [u64; 2],
    /// 0F; 48 to 4F.
    first: [u64; 2],
}

fn opcodes(chunk: &[u8; 64]) -> Opcodes {
    let mut all = Opcodes::default();
    for (i, &byte) in chunk.iter().enumerate() {
        let bit = |is: bool| u64::from(is) << i;
        all.alone |=
            bit(byte & 0xfe == 0xe8 || byte == 0xf8 || byte & 0xfc == 0xa0 || byte & 0xc7 == 0x05);
        all.second[0] |= bit(byte & 0xf0 == 0x80);
        all.second[1] |= bit(byte & 0xf8 == 0xb8);
        all.first[0] |= bit(byte == 0x0f);
        all.first[1] |= bit(byte & 0xf8 == 0x48);
    }
    all
}

/// How far a short jump reaches back from its field, and to what is behind the field.
const SHORT: u64 = 128 + 1;

/// Passes on the positions of fields of one byte: short jumps, which reach from near the targets only.
pub(super) fn short(search: &Search, bytes: &[u8], mut on: impl FnMut(usize)) {
    for stretch in near(search, bytes.len() as u64) {
        for position in stretch.start.max(1)..stretch.end {
            let position = position as usize;
            if !matches!(bytes[position - 1], 0x70..=0x7f | 0xe0..=0xe3 | 0xeb) {
                continue;
            }
            let distance = i64::from(bytes[position].cast_signed());
            let next = search.start.wrapping_add(position as u64 + 1);
            let target = next.wrapping_add_signed(distance);
            // In 32-bit code the target is cut to 32 bits.
            let is_target = |target| search.targets.contains(Gva(target));
            if is_target(target) || is_target(target & 0xffff_ffff) {
                on(position);
            }
        }
    }
}

/// The positions below `len` from which a short jump reaches the targets, by the lower 32 bits of both:
/// at most two stretches, since addresses wrap.
fn near(search: &Search, len: u64) -> [std::ops::Range<u64>; 2] {
    const ALL: u64 = 1 << 32;
    let (first, last) = (search.targets.start().0, search.targets.last().0);
    let span = (last - first).saturating_add(2 * SHORT);
    if span.saturating_add(len) >= ALL {
        return [0..len, 0..0];
    }
    let low = first.wrapping_sub(SHORT);
    let above_low = search.start.wrapping_sub(low) % ALL;
    let head = (span + 1).saturating_sub(above_low).min(len);
    let to_low = low.wrapping_sub(search.start) % ALL;
    let tail = to_low.max(head).min(len)..(to_low + span + 1).min(len);
    if above_low == 0 {
        [0..head, 0..0]
    } else {
        [0..head, tail]
    }
}
