//! Numbers of a fixed width in bits, one behind the other: what the arrays of an index are made of.
//!
//! A number is read by one load of eight bytes and a shift, so the width is at most 56.

/// Bytes behind the last number, so that each can be read by one load.
const SLACK: usize = 7;

/// The widest number.
pub(super) const MAX_BITS: u32 = 56;

/// How many bits numbers up to `most` take; at least one.
pub(super) fn bits(most: u64) -> u32 {
    (u64::BITS - most.leading_zeros()).max(1)
}

/// Bytes of `count` numbers of a width; `None` past 2^64.
pub(super) fn size(count: u64, bits: u32) -> Option<u64> {
    let bytes = count.checked_mul(u64::from(bits))?.div_ceil(8);
    bytes.checked_add(SLACK as u64)
}

/// Numbers to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed<'a> {
    bytes: &'a [u8],
    bits: u32,
    mask: u64,
}

impl<'a> Packed<'a> {
    pub(super) fn new(bytes: &'a [u8], bits: u32) -> Self {
        debug_assert!((1..=MAX_BITS).contains(&bits));
        let mask = (1 << bits) - 1;
        Self { bytes, bits, mask }
    }

    /// The number at `index`; zero behind the last one.
    #[inline]
    pub(super) fn get(&self, index: u64) -> u64 {
        let bit = index.wrapping_mul(u64::from(self.bits));
        let at = usize::try_from(bit / 8).unwrap_or(usize::MAX);
        let word = self.bytes.get(at..).and_then(<[u8]>::first_chunk);
        let word = word.map_or(0, |word| u64::from_le_bytes(*word));
        word >> (bit % 8) & self.mask
    }
}

/// Numbers being written, in order.
#[derive(Debug)]
pub(super) struct Packer<'a> {
    bytes: &'a mut [u8],
    bits: u32,
    at: usize,
    rest: u64,
    fill: u32,
}

impl<'a> Packer<'a> {
    /// Writes numbers of a width into zeros, of which there are as many as [`size`] says.
    pub(super) fn new(bytes: &'a mut [u8], bits: u32) -> Self {
        debug_assert!((1..=MAX_BITS).contains(&bits));
        Self {
            bytes,
            bits,
            at: 0,
            rest: 0,
            fill: 0,
        }
    }

    /// Adds a number. Without a branch: which numbers fill a word is a pattern that nothing predicts.
    #[inline]
    pub(super) fn push(&mut self, number: u64) {
        debug_assert!(number >> self.bits == 0);
        self.rest |= number << self.fill;
        if let Some(to) = self.bytes.get_mut(self.at..self.at + 8) {
            to.copy_from_slice(&self.rest.to_le_bytes());
        }
        let full = self.fill + self.bits;
        self.at += (full / 8) as usize;
        // Less than 64: fill is at most 7, and a number takes at most 56 bits.
        self.rest >>= full & !7;
        self.fill = full & 7;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_out_as_they_went_in(
            bits in 1u32..=MAX_BITS,
            numbers in prop::collection::vec(any::<u64>(), 0..100),
        ) {
            let numbers: Vec<u64> = numbers.iter().map(|number| number & ((1 << bits) - 1)).collect();
            let mut bytes = vec![0; size(numbers.len() as u64, bits).unwrap() as usize];
            let mut packer = Packer::new(&mut bytes, bits);
            numbers.iter().for_each(|&number| packer.push(number));
            let packed = Packed::new(&bytes, bits);
            let out: Vec<u64> = (0..numbers.len() as u64).map(|at| packed.get(at)).collect();
            prop_assert_eq!(out, numbers);
            prop_assert_eq!(packed.get(u64::MAX), 0);
        }
    }

    #[test]
    fn widths() {
        assert_eq!((bits(0), bits(1), bits(255), bits(256)), (1, 1, 8, 9));
    }
}
