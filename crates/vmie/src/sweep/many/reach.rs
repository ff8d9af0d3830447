//! How far around a result the bytes matter, and with it which pieces are whole.

use crate::addr::Gva;
use crate::sweep::SweepOptions;

/// How far a result may look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reach {
    pub(super) overlap: u64,
    pub(super) behind: u64,
    /// Both together, rounded up so that a seam's bytes are whole cache lines and keep the alignment
    /// that scanners can see. No piece shorter than this is whole.
    pub(super) both: u64,
}

impl Reach {
    /// Beyond this nothing is whole: seams would take more bytes than pages.
    const MAX: u64 = 1 << 20;

    pub(super) fn of(options: &SweepOptions<Gva>) -> Self {
        let (overlap, behind) = (options.overlap as u64, options.behind as u64);
        let both = overlap.saturating_add(behind);
        Self {
            overlap,
            behind,
            both: if both > Self::MAX {
                u64::MAX
            } else {
                both.next_multiple_of(super::Piece::ALIGN)
            },
        }
    }
}
