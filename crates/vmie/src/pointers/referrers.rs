//! Who points into a range, asked once: one sweep, no index.

use super::words::Words;
use super::{Edge, Width};
use crate::addr::AddrRange;
use crate::sweep::{Found, Piece, Scanner};

/// Searches for words whose value lies in a range: a [`Scanner`], to be sent over memory by
/// [`seek`](crate::seek()). Its items are the values.
///
/// Cost: words of 64 bits at multiples of eight at the speed of memory; others are tested one by one.
#[derive(Clone, Copy, Debug)]
pub struct Referrers(Words);

impl Referrers {
    /// Words of this width at multiples of `align` (as in [`PointerOptions`](super::PointerOptions))
    /// that point into `range`.
    pub fn new<A: crate::Address>(range: AddrRange<A>, width: Width, align: u64) -> Self {
        let low = range.start().raw();
        Self(Words {
            low,
            span: range.last().raw() - low,
            width,
            align: width.alignment(align),
        })
    }
}

impl Scanner for Referrers {
    type Item = u64;

    fn behind(&self) -> usize {
        0
    }

    fn overlap(&self) -> usize {
        self.0.overlap()
    }

    fn scan(&self, piece: &Piece<'_>, found: &mut Found<(usize, u64)>) {
        let (bytes, phase) = (piece.bytes, piece.phase);
        self.0.each(bytes, piece.owned, phase, |offset, value| {
            found.push((offset, value));
        });
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
