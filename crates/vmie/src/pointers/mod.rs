//! Who points where: an index of all pointers of a space, and paths of pointers through it.
//!
//! A *pointer* is a word in memory whose value is the address of something mapped; nothing else is
//! known about it, and some are numbers that happen to look like one. A [`PointerMap`] holds all of them
//! after one sweep, by where they lead and by where they stand, and answers
//!
//! * who points at an address or into a range: [`PointerMap::referrers`]. The referrers of a virtual
//!   table are the instances of its class, those of a text are its users;
//! * what a range points at: [`PointerMap::pointees`];
//! * how something is reached from a fixed base: [`find_paths`].
//!
//! [`Referrers`] answers the first question once, without an index, in one sweep at the speed of memory;
//! [`find_paths_once`] the last one in as many sweeps as the path is long.
//!
//! Nothing here knows of an operating system; ranges of modules, values of registers and addresses of
//! symbols are the caller's.

mod arrange;
mod build;
mod file;
mod lanes;
mod map;
mod packed;
mod paths;
mod referrers;
mod runs;
mod tables;
#[cfg(test)]
mod tests;
mod words;

use crate::addr::{AddrRange, Address};
use crate::memory::Prot;
use crate::scan::Selection;
pub use crate::width::Width;
pub use file::{IndexError, IndexErrorKind};
pub use map::{Edge, Foreign, PointerMap};
pub use paths::{Base, Path, PathFinder, PathOptions, PathOutcome, find_paths, find_paths_once};
pub use referrers::{Referrer, Referrers, ReferrersOfAnyWidth};

/// The most pointers that an index holds; the format counts them in 32 bits.
pub const MAX_EDGES: u64 = (1 << 32) - 1;

/// What counts as a pointer, and where to look.
#[derive(Clone, Debug)]
pub struct PointerOptions<A: Address> {
    /// The part of memory that is meant: pointers lead into it and stand in it. Without a range, all.
    pub range: Option<AddrRange<A>>,
    /// Where pointers stand, when that is only a part of `range`.
    pub sources: Option<AddrRange<A>>,
    /// Pointers stand in regions that allow at least this. They may lead anywhere in `range`.
    pub perm: Prot,
    /// How wide a pointer is.
    pub width: Width,
    /// Pointers stand at multiples of this: 1, 2, 4 or 8; other values are brought to one of these, and
    /// to no more than the width. Without alignment an index takes up to eight times as long to build.
    pub align: u64,
    /// Building fails beyond so many pointers, at most [`MAX_EDGES`]. Each takes up to 32 bytes while an
    /// index is built, and less than ten afterwards.
    pub max_edges: u64,
}

impl<A: Address> Default for PointerOptions<A> {
    fn default() -> Self {
        Self {
            range: None,
            sources: None,
            perm: Prot::NONE,
            width: Width::Eight,
            align: 8,
            max_edges: 1 << 28,
        }
    }
}

impl<A: Address> PointerOptions<A> {
    /// Where pointers stand.
    fn selection(&self) -> Selection<A> {
        let range = self.sources.or(self.range);
        Selection::all().range(range).perm(self.perm)
    }

    /// The alignment, brought into its bounds.
    fn alignment(&self) -> u64 {
        self.width.alignment(self.align)
    }
}

/// Why an index was not built.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// More mapped pieces than an index can hold; a smaller range helps.
    #[error("memory lies in more than {most} pieces")]
    Scattered {
        /// How many would do.
        most: usize,
    },
    /// More mapped memory than an index can hold; a smaller range helps.
    #[error("more than {most:#x} bytes are mapped")]
    TooLarge {
        /// How many bytes would do.
        most: u64,
    },
    /// More pointers than [`PointerOptions::max_edges`]; a smaller range helps.
    #[error("there are more than {most} pointers")]
    TooMany {
        /// How many would do.
        most: u64,
    },
    /// `progress` ended the build.
    #[error("stopped before the index was complete")]
    Stopped,
}
