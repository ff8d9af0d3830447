//! Words of memory whose value lies between two numbers: what an index and a single question look for.

use super::Width;
use super::lanes::{self, BLOCK, Indices};

/// Which words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    /// The least value.
    pub(super) low: u64,
    /// The largest value is so much more.
    pub(super) span: u64,
    /// How wide a word is.
    pub(super) width: Width,
    /// Words stand at multiples of this: a power of two up to the width.
    pub(super) align: u64,
}

impl Words {
    /// How far a word reaches behind its first byte.
    pub(super) fn overlap(&self) -> usize {
        self.width.bytes() - 1
    }

    /// Offset and value of each word that begins in `bytes[..owned]`, by ascending offset. `phase` is the
    /// address of the first byte, of which the low bits count.
    pub(super) fn each(
        &self,
        bytes: &[u8],
        owned: usize,
        phase: u64,
        mut word: impl FnMut(usize, u64),
    ) {
        let align = self.align as usize;
        let skip = (phase as usize).wrapping_neg() & (align - 1);
        // The last word may end behind what is owned.
        let end = bytes.len().min(owned + self.overlap());
        let bytes = bytes.get(skip..end).unwrap_or_default();
        match (self.width, align) {
            (Width::Eight, 8) => {}
            (Width::Four, 4) => return self.each_narrow(bytes, skip, word),
            (Width::Four, _) => return self.each_unaligned::<4>(bytes, skip, word),
            (Width::Eight, _) => return self.each_unaligned::<8>(bytes, skip, word),
        }
        let mut indices: Indices = [0; BLOCK + 8];
        let mut at = skip;
        for block in bytes.as_chunks::<8>().0.chunks(BLOCK) {
            let count = lanes::select(block, self.low, self.span, &mut indices);
            for &index in &indices[..count] {
                let index = index as usize;
                word(at + index * 8, u64::from_le_bytes(block[index]));
            }
            at += block.len() * 8;
        }
    }

    /// Words of 32 bits, one behind the other. `skip` is the offset of the first.
    ///
    /// Nearly all blocks have none that passes, which a loop without branches tells for a block at once.
    fn each_narrow(&self, bytes: &[u8], skip: usize, mut word: impl FnMut(usize, u64)) {
        /// Words that are looked at together.
        const TOGETHER: usize = 64;
        let high = self.low.saturating_add(self.span).min(u32::MAX.into());
        let (Ok(low), Some(span)) = (u32::try_from(self.low), high.checked_sub(self.low)) else {
            // No number of 32 bits is so large.
            return;
        };
        // Both ends have 32 bits.
        let span = span as u32;
        let value = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
        let passes = |bytes: &[u8; 4]| value(bytes).wrapping_sub(low) <= span;
        let mut at = skip;
        for block in bytes.as_chunks::<4>().0.chunks(TOGETHER) {
            if block.iter().fold(false, |any, bytes| any | passes(bytes)) {
                for (index, bytes) in block.iter().enumerate() {
                    if passes(bytes) {
                        word(at + index * 4, value(bytes).into());
                    }
                }
            }
            at += block.len() * 4;
        }
    }

    /// Words of `N` bytes at multiples of less than that: one by one.
    fn each_unaligned<const N: usize>(
        &self,
        bytes: &[u8],
        skip: usize,
        mut word: impl FnMut(usize, u64),
    ) {
        let align = self.align as usize;
        for (index, part) in bytes.windows(N).step_by(align).enumerate() {
            let mut value = [0; 8];
            value[..N].copy_from_slice(part);
            let value = u64::from_le_bytes(value);
            if value.wrapping_sub(self.low) <= self.span {
                word(skip + index * align, value);
            }
        }
    }
}
