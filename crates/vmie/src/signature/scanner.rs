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
        let mut hits = Found::with_limit(found.limit());
        self.find(piece.bytes, piece.owned, &mut hits);
        let overflow = hits.is_full();
        let hits = hits.into_items().into_iter();
        found.extend(hits.map(|hit| (hit.offset, hit.sig)), overflow);
    }
}
