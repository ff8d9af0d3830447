//! Files of candidates: what a search found, to be looked at again at a later moment.
//!
//! A [`Writer`] makes one, [`Saved`] reads it, and [`Saved::narrow`] looks again at what is in it. Whose
//! memory the candidates are in is told in terms that hold at another moment ([`SpaceId`]). All numbers are little-endian.
//!
//! ```text
//! magic     8   "vmiecand"
//! version   4   1
//! length    4   of the header
//! header        JSON, see Header: whose memory, what was searched for, how long values are at most
//! check     8   XXH3 of all of the above
//! blocks        as many records as fit in 256 KiB, at least one; in the last one what is left
//!   record  8   address
//!           4   index of the space in the header
//!           2   index of the query in the header
//!           2   length of the value
//!           N   the value as it was seen last, padded with zeros to the length that the header says
//!   check   8   XXH3 of the block's records, with the block's number from 0 as the seed
//! end       8   "vmie end"
//! count     8   of records
//! check     8   XXH3 of `end` and `count`, with the check of the header as the seed
//! ```
//!
//! Records are by space, then by address. All are of one size, so the size of a file follows from its
//! header and its count, and a file that was cut off is seen at once; the checks of the blocks tell where
//! one was damaged. A file is checked from end to end before anything is done with it, since rows that were
//! printed cannot be taken back. A file of another program, or one that somebody made, may say what it
//! likes: no number in it is trusted.
//!
//! Rejected: compressing it (it is written and read at the speed of a disk as it is), and records of
//! varying length (a database would be next).

mod error;
mod header;
mod narrow;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use error::{CandidatesError, CandidatesErrorKind};
pub use header::{Header, Likeness, Scope, Sought, SpaceId};
pub use narrow::{Again, Narrowed};
pub use read::{Record, Saved};
pub use write::Writer;

const MAGIC: &[u8; 8] = b"vmiecand";
const END: &[u8; 8] = b"vmie end";
const VERSION: u32 = 1;

/// Magic, version and length of the header.
const PREFIX: usize = 16;
/// A check.
const CHECK: usize = 8;
/// What comes after the last block.
const TRAILER: usize = 24;
/// A record without its value.
const RECORD: usize = 16;

/// Bytes of records in a block, at most, where that is at least one.
const BLOCK: usize = 256 << 10;
/// The most bytes of a header: a million processes.
const MAX_HEADER: u64 = 256 << 20;

/// How many records of this size are in a block.
const fn per_block(stride: usize) -> usize {
    let count = BLOCK / stride;
    if count == 0 { 1 } else { count }
}
