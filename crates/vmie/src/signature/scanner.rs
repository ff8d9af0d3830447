//! A set as a scanner.

use super::Set;
use crate::sweep::{Found, Piece, Scanner};

/// Results are indices of signatures.
impl Scanner for Set {
    type Item = usize;

    fn behind(&self) -> usize {
        0
    }

    fn overlap(&self) -> usize {
        self.max_len() - 1
    }

    fn scan(&self, piece: &Piece<'_>, found: &mut Found<(usize, usize)>) {
        found.gather(
            |hits| self.find(piece.bytes, piece.owned, hits),
            |hit| (hit.offset, hit.sig),
        );
    }
}
