//! Collecting fields in one window: as many positions at once as the machine can, the rest one by one.

use super::opcodes::{Reach, Relative, Room, WIDE, before};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use crate::arch::code::FilterKind;

/// Collects the relative fields at some positions, the first at least 2, in order, and passes on the positions
/// that follow a byte of [`WIDE`], in any order.
///
/// Keys are written to `room` from the front, whatever it held; answers how many. Room is made as needed.
pub(in crate::arch::x86::code) fn relative(
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

/// Passes on positions of four bytes that may be an address, with their value, in order.
pub(in crate::arch::x86::code) fn absolute(
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

    use super::super::opcodes::{RELATIVE, RELATIVE_32};
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
