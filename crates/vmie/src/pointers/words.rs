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
        let (width, align) = (self.width.bytes(), self.align as usize);
        let skip = (phase as usize).wrapping_neg() & (align - 1);
        // The last word may end behind what is owned.
        let end = bytes.len().min(owned + self.overlap());
        let bytes = bytes.get(skip..end).unwrap_or_default();
        if align < 8 {
            for (index, part) in bytes.windows(width).step_by(align).enumerate() {
                let mut value = [0; 8];
                value[..width].copy_from_slice(part);
                let value = u64::from_le_bytes(value);
                if value.wrapping_sub(self.low) <= self.span {
                    word(skip + index * align, value);
                }
            }
            return;
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
}
