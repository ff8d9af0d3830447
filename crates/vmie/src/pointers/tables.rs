//! The arrays of an index, and how to look things up in them.
//!
//! Edges are numbered twice: by *rank*, in the order of where they lead (and then of where they stand),
//! and by *place*, in the order of where they stand. All numbers are those of [`Runs`](super::runs).
//!
//! | array | for each | holds |
//! |---|---|---|
//! | `starts` | bucket of targets, by their high bits | rank of its first edge (32 bits) |
//! | `low` | rank | low bits of the target |
//! | `sources` | rank | where the pointer stands, in units of the alignment |
//! | `order` | place | rank (32 bits) |
//! | `samples` | every 64th place | where the pointer stands, as in `sources` |
//!
//! Who points somewhere is a look into `starts`, a search in a few hundred neighbouring `low`, and
//! then neighbouring `sources`. What stands somewhere is a search in `samples`, then steps through
//! `order`. An edge takes 16 bits of `low`, 31 of `sources` for 16 GiB, 32 of `order`: less than ten
//! bytes with everything else. Rejected: two sorted lists of pairs (16 bytes), and `order` the other way
//! round, which makes every step of the frequent search a cache miss.

use std::sync::Arc;

use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

use super::packed::Packed;
use crate::filemap::FileMap;
use crate::scratch::Scratch;

/// Places from one sample to the next.
pub(super) const SAMPLE: u64 = 64;

/// Edges that are looked at one by one before they are searched.
const CLOSE: usize = 16;

/// Bytes of our own or in a file.
#[derive(Debug)]
pub(super) enum Bytes {
    Own(Scratch),
    File(Arc<FileMap>, u64, usize),
}

impl Bytes {
    pub(super) fn get(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes.bytes(),
            // Checked when the file was opened; a map that lends once lends always.
            Self::File(map, offset, len) => map.slice(*offset, *len).unwrap_or_default(),
        }
    }
}

/// The arrays.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) edges: u64,
    pub(super) low_bits: u32,
    pub(super) source_bits: u32,
    pub(super) starts: Bytes,
    pub(super) low: Bytes,
    pub(super) sources: Bytes,
    pub(super) order: Bytes,
    pub(super) samples: Bytes,
}

/// The arrays, opened for looking things up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look<'t> {
    edges: u64,
    low_bits: u32,
    starts: &'t [U32],
    low: Packed<'t>,
    sources: Packed<'t>,
    order: &'t [U32],
    samples: Packed<'t>,
}

/// An edge as numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Numbers {
    /// Where the pointer stands, in units of the alignment.
    pub(super) source: u64,
    /// Where it leads.
    pub(super) target: u64,
}

impl Tables {
    pub(super) fn look(&self) -> Look<'_> {
        Look {
            edges: self.edges,
            low_bits: self.low_bits,
            starts: words(self.starts.get()),
            low: Packed::new(self.low.get(), self.low_bits),
            sources: Packed::new(self.sources.get(), self.source_bits),
            order: words(self.order.get()),
            samples: Packed::new(self.samples.get(), self.source_bits),
        }
    }
}

pub(super) fn words(bytes: &[u8]) -> &[U32] {
    <[U32]>::ref_from_bytes(bytes).unwrap_or_default()
}

impl<'t> Look<'t> {
    fn start(&self, bucket: u64) -> u64 {
        let start = usize::try_from(bucket)
            .ok()
            .and_then(|at| self.starts.get(at));
        start.map_or(self.edges, |start| u64::from(start.get()).min(self.edges))
    }

    /// How many edges lead to a number below `target`.
    pub(super) fn rank(&self, target: u64) -> u64 {
        let bucket = target >> self.low_bits;
        let low = self.low_of(target);
        first(self.start(bucket), self.start(bucket + 1), |rank| {
            self.low.get(rank) >= low
        })
    }

    /// The ranks of the edges that lead to these numbers.
    pub(super) fn ranks(&self, targets: std::ops::Range<u64>) -> std::ops::Range<u64> {
        let start = self.rank(targets.start);
        let (bucket, low) = (targets.end >> self.low_bits, self.low_of(targets.end));
        if bucket == targets.start >> self.low_bits {
            // Ranges are small and edges sparse: the end is close, in the line that was just read.
            let close = (start..self.start(bucket + 1)).take(CLOSE);
            if let Some(end) = close.into_iter().find(|&rank| self.low.get(rank) >= low) {
                return start..end;
            }
        }
        start..self.rank(targets.end)
    }

    fn low_of(&self, target: u64) -> u64 {
        target & ((1 << self.low_bits) - 1)
    }

    /// The edges of these ranks.
    pub(super) fn ranked(self, ranks: std::ops::Range<u64>) -> impl Iterator<Item = Numbers> + 't {
        let mut bucket = self.bucket(ranks.start);
        let mut next = self.start(bucket + 1);
        ranks.map(move |rank| {
            while next <= rank && bucket < self.starts.len() as u64 {
                bucket += 1;
                next = self.start(bucket + 1);
            }
            Numbers {
                source: self.sources.get(rank),
                target: bucket << self.low_bits | self.low.get(rank),
            }
        })
    }

    /// The bucket that an edge is in.
    fn bucket(&self, rank: u64) -> u64 {
        let after = self
            .starts
            .partition_point(|start| u64::from(start.get()) <= rank);
        after.saturating_sub(1) as u64
    }

    fn rank_at(&self, place: u64) -> u64 {
        let rank = usize::try_from(place)
            .ok()
            .and_then(|at| self.order.get(at));
        rank.map_or(0, |rank| u64::from(rank.get()))
    }

    /// How many edges stand below `source`.
    pub(super) fn place(&self, source: u64) -> u64 {
        let samples = self.edges.div_ceil(SAMPLE);
        let sample = first(0, samples, |sample| self.samples.get(sample) >= source);
        let low = sample.saturating_sub(1) * SAMPLE;
        let high = (sample * SAMPLE).min(self.edges);
        first(low, high, |place| {
            self.sources.get(self.rank_at(place)) >= source
        })
    }

    /// The edge at a place.
    pub(super) fn placed(&self, place: u64) -> Numbers {
        let rank = self.rank_at(place);
        Numbers {
            source: self.sources.get(rank),
            target: self.bucket(rank) << self.low_bits | self.low.get(rank),
        }
    }
}

/// The first number in `low..high` for which `is`, which stays true from there on; else `high`.
fn first(mut low: u64, mut high: u64, is: impl Fn(u64) -> bool) -> u64 {
    while low < high {
        let middle = low + (high - low) / 2;
        if is(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}
