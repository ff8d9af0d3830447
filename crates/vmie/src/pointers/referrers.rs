//! Who points into a range, asked once: one sweep, no index.

use super::lanes::{self, BLOCK, Indices};
use super::{Edge, Width};
use crate::addr::AddrRange;
use crate::sweep::{Found, Piece, Scanner};

/// Searches for words whose value lies in a range: a [`Scanner`], to be sent over memory by
/// [`seek`](crate::seek()). Its items are the values.
///
/// Cost: words of 64 bits at multiples of eight at the speed of memory; others are tested one by one.
#[derive(Clone, Copy, Debug)]
pub struct Referrers {
    low: u64,
    span: u64,
    width: Width,
    align: usize,
}

impl Referrers {
    /// Words of this width at multiples of `align` (as in [`PointerOptions`](super::PointerOptions))
    /// that point into `range`.
    pub fn new<A: crate::Address>(range: AddrRange<A>, width: Width, align: u64) -> Self {
        let low = range.start().raw();
        Self {
            low,
            span: range.last().raw() - low,
            width,
            align: 1 << align.clamp(1, width.bytes() as u64).ilog2(),
        }
    }

    fn accepts(&self, value: u64) -> bool {
        value.wrapping_sub(self.low) <= self.span
    }
}

impl Scanner for Referrers {
    type Item = u64;

    fn behind(&self) -> usize {
        0
    }

    fn overlap(&self) -> usize {
        self.width.bytes() - 1
    }

    fn scan(&self, piece: &Piece<'_>, found: &mut Found<(usize, u64)>) {
        let width = self.width.bytes();
        let skip = (piece.phase as usize).wrapping_neg() & (self.align - 1);
        let end = piece.bytes.len().min(piece.owned + width - 1);
        let bytes = piece.bytes.get(skip..end).unwrap_or_default();
        if self.align < 8 {
            for (index, word) in bytes.windows(width).step_by(self.align).enumerate() {
                let mut value = [0; 8];
                value[..width].copy_from_slice(word);
                let value = u64::from_le_bytes(value);
                if self.accepts(value) {
                    found.push((skip + index * self.align, value));
                }
            }
            return;
        }
        let mut indices: Indices = [0; BLOCK + 8];
        let mut at = skip;
        for block in bytes.as_chunks::<8>().0.chunks(BLOCK) {
            let count = lanes::select(block, self.low, self.span, &mut indices);
            for &index in &indices[..count] {
                let value = u64::from_le_bytes(block[index as usize]);
                found.push((at + index as usize * 8, value));
            }
            at += block.len() * 8;
        }
    }
}

/// A referrer that was found, with the address it stands at.
impl<A: crate::Address> Edge<A> {
    /// From what [`Referrers`] found at an address.
    pub fn found(at: A, value: u64) -> Self {
        Self {
            at,
            value: A::new(value),
        }
    }
}
