//! Which bytes can stand before a field, and candidates for fields that are added to the address behind them.
//!
//! Candidates of one window are collected as keys, words that sort by target: how far the target is from an
//! origin in the upper bits, how far the field is from another in the lower [`FIELD_BITS`].

use super::FilterKind;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// E8, E9.
pub(super) const CALL: u8 = 1;
/// 8x, behind 0F.
pub(super) const JCC: u8 = 1 << 1;
/// F8, behind C7.
pub(super) const XBEGIN: u8 = 1 << 2;
/// The mod r/m byte of an operand relative to the instruction pointer.
pub(super) const MODRM: u8 = 1 << 3;
/// B8 to BF, behind a prefix that makes it wide.
pub(super) const IMM64: u8 = 1 << 4;
/// A0 to A3.
pub(super) const MOFFS: u8 = 1 << 5;

/// Before a field that is added to the address behind it, in code of 64 and of 32 bits.
pub(in crate::xref) const RELATIVE: u8 = CALL | JCC | XBEGIN | MODRM;
pub(in crate::xref) const RELATIVE_32: u8 = CALL | JCC | XBEGIN;
/// Before an address of eight bytes.
pub(in crate::xref) const WIDE: u8 = IMM64 | MOFFS;

/// What a byte can be the last one of.
pub(super) const fn last(byte: u8) -> u8 {
    let mut classes = 0;
    if byte & 0xfe == 0xe8 {
        classes |= CALL;
    }
    if byte & 0xf0 == 0x80 {
        classes |= JCC;
    }
    if byte == 0xf8 {
        classes |= XBEGIN;
    }
    if byte & 0xc7 == 0x05 {
        classes |= MODRM;
    }
    if byte & 0xf8 == 0xb8 {
        classes |= IMM64;
    }
    if byte & 0xfc == 0xa0 {
        classes |= MOFFS;
    }
    classes
}

/// What a byte can be the last but one of.
pub(super) const fn last_but_one(byte: u8) -> u8 {
    let mut classes = CALL | MODRM | MOFFS;
    if byte == 0x0f {
        classes |= JCC;
    }
    if byte == 0xc7 {
        classes |= XBEGIN;
    }
    if byte & 0xf8 == 0x48 {
        classes |= IMM64;
    }
    classes
}

/// What the two bytes before a field are.
#[inline]
pub(in crate::xref) fn before([before, one]: [u8; 2]) -> u8 {
    last(one) & last_but_one(before)
}

/// Bits of a key that say where the field is.
pub(in crate::xref) const FIELD_BITS: u32 = 31;

/// Which addresses something is mapped at, by their lower 32 bits and roughly: a bit for 4 MiB.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::xref) struct Reach(pub(super) [u32; 32]);

impl Reach {
    pub(super) const SHIFT: u32 = 22;

    /// Adds addresses from `first` to `last`, which are taken to wrap at 4 GiB.
    pub(in crate::xref) fn add(&mut self, first: u64, last: u64) {
        const ALL: u64 = 1 << (32 - Reach::SHIFT);
        let (first, last) = (first >> Self::SHIFT, last >> Self::SHIFT);
        for bit in first..=last.min(first.saturating_add(ALL - 1)) {
            self.0[(bit >> 5 & 31) as usize] |= 1 << (bit & 31);
        }
    }

    /// What is in one of both.
    pub(in crate::xref) fn or(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    #[inline]
    pub(in crate::xref) fn has(&self, low: u32) -> bool {
        self.0[(low >> 27) as usize] >> (low >> Self::SHIFT & 31) & 1 != 0
    }
}

/// What relative fields are collected, and as which keys.
#[derive(Clone, Copy, Debug)]
pub(in crate::xref) struct Relative {
    /// Behind which bytes.
    pub(in crate::xref) classes: u8,
    /// Where they may lead.
    pub(in crate::xref) reach: Reach,
    /// The address four bytes behind position 0.
    pub(in crate::xref) next: u64,
    /// What counts of a target: 32 bits or all.
    pub(in crate::xref) mask: u64,
    /// Taken from a target to make the key. The rest fits in 33 bits.
    pub(in crate::xref) origin: u64,
    /// The key's lower bits at position 0.
    pub(in crate::xref) field: u64,
    /// Whether addresses of eight bytes are of interest only if their uppermost byte is 0 or FF.
    pub(in crate::xref) canonical: bool,
}

impl Relative {
    /// The key of a field with this value at a position, if it leads to where something is.
    #[inline]
    pub(super) fn key(&self, value: u32, position: usize) -> Option<u64> {
        let next = self.next.wrapping_add(position as u64);
        let target = next.wrapping_add_signed(i64::from(value.cast_signed())) & self.mask;
        let offset = target.wrapping_sub(self.origin);
        let field = self.field + position as u64;
        self.reach
            .has(target as u32)
            .then_some(offset << FIELD_BITS | field)
    }

    /// Passes on a field at one position, if it is one.
    #[inline]
    pub(in crate::xref) fn one(
        &self,
        before: [u8; 2],
        value: u32,
        position: usize,
        keys: &mut Vec<u64>,
    ) {
        if self::before(before) & self.classes != 0 {
            keys.extend(self.key(value, position));
        }
    }
}

/// Collects the relative fields at some positions, the first at least 2, in order, and passes on the positions
/// that follow a byte of [`WIDE`], in any order.
///
/// Keys are written to `room` from the front, whatever it held; answers how many. Room is made as needed.
pub(in crate::xref) fn relative(
    kind: FilterKind,
    relative: &Relative,
    bytes: &[u8],
    positions: std::ops::Range<usize>,
    room: &mut Vec<u64>,
    on_wide: &mut impl FnMut(usize),
) -> usize {
    let mut keys = Room { len: 0, room };
    let at = positions.start.max(2);
    let done = match kind {
        FilterKind::Portable => at,
        #[cfg(target_arch = "x86_64")]
        FilterKind::Avx512 if avx512::has_bytes() => {
            avx512::relative(relative, bytes, at..positions.end, &mut keys, on_wide)
        }
        #[cfg(target_arch = "x86_64")]
        FilterKind::Avx2 | FilterKind::Avx512 => {
            avx2::relative(relative, bytes, at..positions.end, &mut keys, on_wide)
        }
        #[cfg(not(target_arch = "x86_64"))]
        FilterKind::Avx2 | FilterKind::Avx512 => at,
    };
    for position in done..positions.end {
        let classes = before([bytes[position - 2], bytes[position - 1]]);
        if classes == 0 {
            continue;
        }
        if classes & relative.classes != 0
            && let Some(value) = bytes[position..].first_chunk()
        {
            keys.add(relative.key(u32::from_le_bytes(*value), position));
        }
        let wide = classes & WIDE != 0
            && bytes
                .get(position + 7)
                .is_some_and(|&top| !relative.canonical || top.wrapping_add(1) <= 1);
        if wide {
            on_wide(position);
        }
    }
    keys.len
}

/// A buffer that is filled.
pub(super) struct Room<'r> {
    pub(super) len: usize,
    room: &'r mut Vec<u64>,
}

impl Room<'_> {
    /// Room for `count` more.
    #[inline]
    pub(super) fn next(&mut self, count: usize) -> &mut [u64] {
        if self.room.len() < self.len + count {
            self.room.resize(2 * self.len + count + 1024, 0);
        }
        &mut self.room[self.len..self.len + count]
    }

    #[inline]
    pub(super) fn add(&mut self, key: Option<u64>) {
        self.next(1)[0] = key.unwrap_or(0);
        self.len += usize::from(key.is_some());
    }
}

/// Passes on positions of four bytes that may be an address, with their value, in order.
pub(in crate::xref) fn absolute(
    kind: FilterKind,
    reach: &Reach,
    bytes: &[u8],
    count: usize,
    on: &mut impl FnMut(usize, u32),
) {
    let done = match kind {
        #[cfg(target_arch = "x86_64")]
        FilterKind::Avx512 if avx512::has_bytes() => avx512::absolute(reach, bytes, count, on),
        _ => 0,
    };
    for position in done..count {
        let Some(value) = bytes.get(position..).and_then(|rest| rest.first_chunk()) else {
            break;
        };
        let value = u32::from_le_bytes(*value);
        if reach.has(value) {
            on(position, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filters() -> impl Iterator<Item = FilterKind> {
        let all = FilterKind::ALL.into_iter();
        all.filter(|kind| kind.is_available())
    }

    fn any_reach() -> impl Strategy<Value = Reach> {
        let parts = prop::collection::vec((any::<u64>(), 0u64..1 << 33), 0..4);
        parts.prop_map(|parts| {
            let mut reach = Reach::default();
            for (first, len) in parts {
                reach.add(first, first.saturating_add(len));
            }
            reach
        })
    }

    fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
        let common = prop::sample::select(vec![
            0xe8u8, 0xe9, 0x0f, 0x84, 0xc7, 0xf8, 0x05, 0x3d, 0x48, 0xb8, 0xa1, 0,
        ]);
        prop::collection::vec(prop_oneof![3 => common, 1 => any::<u8>()], 2..700)
    }

    proptest! {
        #[test]
        fn all_filters_collect_the_same(
            bytes in any_bytes(),
            reach in any_reach(),
            next in any::<u64>(),
            narrow in any::<bool>(),
            canonical in any::<bool>(),
            cut in 0usize..100,
        ) {
            let spec = Relative {
                classes: if narrow { RELATIVE_32 } else { RELATIVE },
                reach,
                next,
                mask: if narrow { 0xffff_ffff } else { u64::MAX },
                origin: if narrow { 0 } else { next.wrapping_sub(1 << 32) },
                field: 77,
                canonical,
            };
            let end = bytes.len().saturating_sub(cut).max(2);
            let of = |kind| {
                let (mut room, mut wide, mut values) = (Vec::new(), Vec::new(), Vec::new());
                let found = relative(kind, &spec, &bytes, 2..end, &mut room, &mut |at| wide.push(at));
                room.truncate(found);
                absolute(kind, &reach, &bytes, end, &mut |at, value| values.push((at, value)));
                wide.sort_unstable();
                (room, wide, values)
            };
            // One by one.
            let mut keys = Vec::new();
            for at in 2..end {
                if let Some(value) = bytes[at..].first_chunk() {
                    spec.one([bytes[at - 2], bytes[at - 1]], u32::from_le_bytes(*value), at, &mut keys);
                }
            }
            let naive = of(FilterKind::Portable);
            prop_assert_eq!(&naive.0, &keys);
            for kind in filters() {
                prop_assert_eq!(of(kind), naive.clone(), "{:?}", kind);
            }
        }
    }
}
