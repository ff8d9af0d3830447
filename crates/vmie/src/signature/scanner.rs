//! A set as a scanner.

use super::{Hit, Set};
use crate::sweep::{Found, Piece, Scanner};

/// A signature that matches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Matched {
    /// Index of the signature in its set.
    pub sig: usize,
    /// How many bytes the match takes, as [`Set::len_at`] tells: the fewest, where there is a choice.
    pub len: usize,
}

impl Scanner for Set {
    type Item = Matched;

    fn behind(&self) -> usize {
        0
    }

    fn overlap(&self) -> usize {
        self.max_len() - 1
    }

    fn len_of(&self, matched: &Matched) -> usize {
        matched.len
    }

    fn scan(&self, piece: &Piece<'_>, found: &mut Found<(usize, Matched)>) {
        found.gather(
            |hits| self.find(piece.bytes, piece.owned, hits),
            |hit| {
                let Hit { offset, sig } = hit;
                let len = self.len_at(piece.bytes, hit);
                (offset, Matched { sig, len })
            },
        );
    }
}
