//! Keys in order.

use std::sync::Arc;

use zerocopy::FromBytes;

use crate::arch::code::FIELD_BITS;
use crate::scratch::Scratch;

/// Fewer are sorted by comparison.
const FEW: usize = 1 << 12;

/// Keys, by target.
#[derive(Clone, Debug)]
pub(super) struct Keys(Arc<Scratch>);

impl Keys {
    /// Sorts keys by their targets, by digits; those of one target stay in their order. What is left of `keys`
    /// and `spare` is room for the next ones.
    ///
    /// There are millions, and their targets differ in few bits. So they are moved twice or three times, the last
    /// time to memory that was never touched before, which costs as much as the rest.
    pub(super) fn sort(keys: &mut Vec<u64>, spare: &mut Vec<u64>) -> Self {
        let mut to = Scratch::new(keys.len() * size_of::<u64>());
        if keys.len() < FEW {
            keys.sort_unstable();
            slice(&mut to).copy_from_slice(keys);
            keys.clear();
            return Self(Arc::new(to));
        }
        let ends = |(low, high): (u64, u64), key: &u64| (low.min(*key), high.max(*key));
        let (lowest, highest) = keys.iter().fold((u64::MAX, 0), ends);
        let lowest = lowest >> FIELD_BITS;
        let bits = u64::BITS - ((highest >> FIELD_BITS) - lowest).leading_zeros();
        // With more places to write to in turns, these would not stay in the second-level cache.
        match bits {
            0..=26 => sort_by::<{ 1 << 13 }, 2>(keys, spare, slice(&mut to), lowest),
            27..=28 => sort_by::<{ 1 << 14 }, 2>(keys, spare, slice(&mut to), lowest),
            _ => sort_by::<{ 1 << 11 }, 3>(keys, spare, slice(&mut to), lowest),
        }
        keys.clear();
        Self(Arc::new(to))
    }

    pub(super) fn as_slice(&self) -> &[u64] {
        <[u64]>::ref_from_bytes(self.0.bytes()).unwrap_or(&[])
    }

    /// The first target from one on.
    pub(super) fn next(&self, first: u64) -> Option<u64> {
        let keys = self.as_slice();
        let from = keys.partition_point(|key| key >> FIELD_BITS < first);
        keys.get(from).map(|key| key >> FIELD_BITS)
    }

    /// Those with targets from `first` to `last`.
    pub(super) fn between(&self, first: u64, last: u64) -> &[u64] {
        let keys = self.as_slice();
        let from = keys.partition_point(|key| key >> FIELD_BITS < first);
        let count = keys[from..].partition_point(|key| key >> FIELD_BITS <= last);
        &keys[from..from + count]
    }
}

/// Sorts by that many digits with that many values each.
fn sort_by<const VALUES: usize, const DIGITS: usize>(
    keys: &mut Vec<u64>,
    spare: &mut Vec<u64>,
    to: &mut [u64],
    lowest: u64,
) {
    let lowest = lowest << FIELD_BITS;
    let digit = |key: u64, pass: usize| {
        let shift = FIELD_BITS + pass as u32 * VALUES.trailing_zeros();
        ((key - lowest) >> shift) as usize % VALUES
    };
    // A run is short enough for 32 bits.
    let mut places = vec![[0u32; VALUES]; DIGITS];
    for &key in &*keys {
        for (pass, places) in places.iter_mut().enumerate() {
            places[digit(key, pass)] += 1;
        }
    }
    for places in &mut places {
        let mut before = 0;
        for place in places {
            before += std::mem::replace(place, before);
        }
    }
    let scatter = |from: &[u64], to: &mut [u64], pass: usize, places: &mut [u32; VALUES]| {
        for &key in from {
            let place = &mut places[digit(key, pass)];
            to[*place as usize] = key;
            *place += 1;
        }
    };
    if spare.len() < keys.len() {
        spare.resize(keys.len(), 0);
    }
    for (pass, places) in places.iter_mut().enumerate() {
        if pass + 1 == DIGITS {
            scatter(keys, to, pass, places);
        } else {
            scatter(keys, &mut spare[..keys.len()], pass, places);
            spare.truncate(keys.len());
            std::mem::swap(keys, spare);
        }
    }
}

fn slice(scratch: &mut Scratch) -> &mut [u64] {
    <[u64]>::mut_from_bytes(scratch.bytes_mut()).expect("aligned, and as long as its words")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

        #[test]
        fn sorting_by_digits_is_sorting(
            targets in prop::collection::vec((any::<u64>(), 31u32..64), 1..400),
            copies in prop_oneof![Just(1usize), Just(40)],
            asked in any::<u64>(),
            spare in 0usize..600,
        ) {
            let count = targets.len() * copies;
            let keys: Vec<u64> = (0..count).map(|field| {
                let (target, shift) = targets[field % targets.len()];
                (target >> shift) << FIELD_BITS | field as u64
            }).collect();
            let mut naive = keys.clone();
            let mut keys = keys;
            let sorted = Keys::sort(&mut keys, &mut vec![5; spare]);
            prop_assert!(keys.is_empty());
            naive.sort_unstable();
            prop_assert_eq!(sorted.as_slice(), &naive);
            let (first, last) = (asked >> 40, (asked >> 40) + (asked & 0xfff));
            let expected: Vec<u64> = naive
                .into_iter()
                .filter(|key| (first..=last).contains(&(key >> FIELD_BITS)))
                .collect();
            prop_assert_eq!(sorted.between(first, last), &expected);
        }
    }
}
