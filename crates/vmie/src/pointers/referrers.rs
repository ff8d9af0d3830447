//! Who points into a range, asked once: one sweep, no index.

use super::words::Words;
use super::{Edge, Width};
use crate::addr::AddrRange;
use crate::sweep::{Found, Piece, Scanner};

/// Searches for words whose value lies in a range: a [`Scanner`], to be sent over memory by
/// [`scan`](crate::scan::scan()). Its items are the values.
///
/// Cost: words at multiples of their width at the speed of memory; others are tested one by one.
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

    fn len_of(&self, _: &u64) -> usize {
        self.0.width.bytes()
    }

    fn scan(&self, piece: &Piece<'_>, found: &mut Found<(usize, u64)>) {
        let (bytes, phase) = (piece.bytes, piece.phase);
        self.0.each(bytes, piece.owned, phase, |offset, value| {
            found.push((offset, value));
        });
    }
}

/// A word that [`ReferrersOfAnyWidth`] found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Referrer {
    /// As how wide a word it was read.
    pub width: Width,
    /// Its value.
    pub value: u64,
}

/// The same search for words of both widths at once, each at multiples of its own alignment: for many
/// spaces of which some have pointers of 32 bits and others of 64, and frames in common.
///
/// What a frame holds is the same in all of them; how it is to be read is not. So each is looked at once, both
/// ways, and whoever takes the results knows which of them count in which space: [`Referrer::width`].
/// At one address the narrow word comes first.
///
/// Cost: that of both searches.
#[derive(Clone, Copy, Debug)]
pub struct ReferrersOfAnyWidth {
    narrow: Referrers,
    wide: Referrers,
}

impl ReferrersOfAnyWidth {
    /// Words that point into `range`; without `align`, at multiples of their width.
    pub fn new<A: crate::Address>(range: AddrRange<A>, align: Option<u64>) -> Self {
        let of = |width: Width| Referrers::new(range, width, align.unwrap_or(width.bytes() as u64));
        Self {
            narrow: of(Width::Four),
            wide: of(Width::Eight),
        }
    }
}

impl Scanner for ReferrersOfAnyWidth {
    type Item = Referrer;

    fn behind(&self) -> usize {
        0
    }

    fn overlap(&self) -> usize {
        self.narrow.overlap().max(self.wide.overlap())
    }

    fn len_of(&self, item: &Referrer) -> usize {
        item.width.bytes()
    }

    fn scan(&self, piece: &Piece<'_>, found: &mut Found<(usize, Referrer)>) {
        let (bytes, phase) = (piece.bytes, piece.phase);
        // One more than there is room for is enough to have the window cut.
        let room = found.limit().saturating_add(1);
        let mut both = Vec::new();
        for Referrers(words) in [&self.narrow, &self.wide] {
            let most = both.len().saturating_add(room);
            let width = words.width;
            words.each(bytes, piece.owned, phase, |offset, value| {
                if both.len() < most {
                    both.push((offset, Referrer { width, value }));
                }
            });
        }
        both.sort_unstable();
        both.into_iter().for_each(|one| found.push(one));
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
