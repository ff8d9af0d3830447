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
pub(super) mod collect;
pub(super) mod opcodes;

use crate::addr::{AddrRange, Gva};
use crate::arch::code::FilterKind;

const MAX_TAIL: u32 = super::MAX_TAIL as u32;

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
