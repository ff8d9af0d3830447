//! Buckets: which bytes a front accepts together.
//!
//! A window goes into a bucket, and the bucket then accepts its bytes at their places. What passes by
//! chance is, summed over the buckets, the product of the shares of bytes that the bucket accepts at the
//! four places: so a window goes where it adds least to that sum.
// Other machines have no front that takes all of this.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]

use super::literal::{GRAM, Literal};
use crate::signature::rarity;

/// The most buckets: a bit each in an entry of a table.
const MOST: usize = 16;

/// The share of positions that may pass in addition for a front that costs a third as much.
const HARDLY: f32 = 0.01;

/// What a position that passes the front costs beside a test of a gram.
const PASS: f32 = 1.0;
const TEST: f32 = 8.0;

/// How a front looks bytes up, and in how many buckets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lookup {
    /// Not at all: each gram is looked up as a whole, elsewhere. No buckets.
    Grams,
    /// Whole bytes, eight buckets.
    Bytes,
    /// The halves of a byte, each by itself: a bucket that accepts `48` and `89` accepts `49` and `88`
    /// too. Eight buckets.
    Halves,
    /// As before, with sixteen buckets.
    HalvesTwice,
}

impl Lookup {
    fn buckets(self) -> usize {
        match self {
            Self::Grams => 0,
            Self::Bytes | Self::Halves => 8,
            Self::HalvesTwice => MOST,
        }
    }
}

impl Lookup {
    /// Buckets for so many windows that have a byte that does not count.
    fn buckets_for_short(self, windows: usize) -> usize {
        match self {
            _ if windows == 0 => 0,
            Self::Grams => 0,
            Self::Bytes | Self::Halves => 1 + usize::from(windows > 64),
            Self::HalvesTwice => (1 + windows / 8).min(3),
        }
    }
}

/// A set of byte values.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Bytes(pub(super) [u64; 4]);

impl Bytes {
    pub(super) fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    pub(super) fn contains(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] >> (byte & 63) & 1 != 0
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(super) fn union(mut self, other: Self) -> Self {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word |= other;
        }
        self
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u8> {
        (0..=255).filter(|&byte| self.contains(byte))
    }
}

impl FromIterator<u8> for Bytes {
    fn from_iter<I: IntoIterator<Item = u8>>(bytes: I) -> Self {
        let mut set = Self::default();
        bytes.into_iter().for_each(|byte| set.insert(byte));
        set
    }
}

/// What a bucket accepts at a place.
#[derive(Clone, Debug)]
struct Cell {
    accepted: Bytes,
    /// The share of all bytes that is accepted.
    weight: f32,
    /// The halves that are accepted, one bit each, if halves are looked up: lower, upper.
    halves: Option<(u16, u16)>,
    /// For each upper half the share of the bytes that have it and an accepted lower half.
    rows: [f32; 16],
    /// For each lower half the share of the bytes that have it and an accepted upper half.
    columns: [f32; 16],
}

impl Cell {
    fn new(lookup: Lookup) -> Self {
        Self {
            accepted: Bytes::default(),
            weight: 0.0,
            halves: matches!(lookup, Lookup::Halves | Lookup::HalvesTwice).then_some((0, 0)),
            rows: [0.0; 16],
            columns: [0.0; 16],
        }
    }

    /// What the weight would grow by.
    #[inline]
    fn growth(&self, byte: u8, shares: &[f32; 256]) -> f32 {
        let share = shares[usize::from(byte)];
        let Some((lower, upper)) = self.halves else {
            return if self.accepted.contains(byte) {
                0.0
            } else {
                share
            };
        };
        let (low, high) = (usize::from(byte & 15), usize::from(byte >> 4));
        match (lower >> low & 1 != 0, upper >> high & 1 != 0) {
            (true, true) => 0.0,
            (false, true) => self.columns[low],
            (true, false) => self.rows[high],
            (false, false) => self.columns[low] + self.rows[high] + share,
        }
    }

    fn insert(&mut self, byte: u8, shares: &[f32; 256]) {
        self.weight += self.growth(byte, shares);
        self.accepted.insert(byte);
        let Some((lower, upper)) = &mut self.halves else {
            return;
        };
        let (low, high) = (usize::from(byte & 15), usize::from(byte >> 4));
        if *lower >> low & 1 == 0 {
            *lower |= 1 << low;
            for (high, row) in self.rows.iter_mut().enumerate() {
                *row += shares[high << 4 | low];
            }
        }
        if *upper >> high & 1 == 0 {
            *upper |= 1 << high;
            for (low, column) in self.columns.iter_mut().enumerate() {
                *column += shares[high << 4 | low];
            }
        }
    }

    fn with(&self, set: &Bytes, shares: &[f32; 256]) -> Self {
        let mut cell = self.clone();
        set.iter().for_each(|byte| cell.insert(byte, shares));
        cell
    }
}

/// Tables by halves of a byte.
pub(super) type Halves = [[u16; 16]; GRAM];

/// What every bucket accepts.
#[derive(Debug)]
pub(super) struct Buckets {
    cells: Vec<[Cell; GRAM]>,
    shares: [f32; 256],
    /// Where the buckets end that are for windows of which one byte counts, two, three, four: a window with
    /// a byte that does not count accepts every byte there, and would open its bucket for all others.
    ends: [usize; GRAM],
}

impl Buckets {
    /// For windows of which so many have one byte that counts, two, three.
    pub(super) fn new(lookup: Lookup, short: [usize; GRAM - 1]) -> Self {
        let mut shares = [0.0; 256];
        for (byte, share) in (0..=255).zip(&mut shares) {
            *share = rarity::share(byte) as f32;
        }
        let cells = std::array::from_fn(|_| Cell::new(lookup));
        let count = lookup.buckets();
        let mut ends = [count; GRAM];
        let mut end = 0;
        for (place, windows) in ends.iter_mut().zip(short) {
            end += lookup.buckets_for_short(windows);
            *place = end.min(count);
        }
        Self {
            cells: vec![cells; count],
            shares,
            ends,
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.cells.len()
    }

    /// The buckets for windows with bytes that do not count, one bit each.
    pub(super) fn short(&self) -> u16 {
        (1 << self.ends[GRAM - 2]) - 1
    }

    /// Takes the cheapest of some windows into the bucket where it adds least.
    pub(super) fn choose(&mut self, windows: &[Literal]) -> Option<Literal> {
        if self.cells.is_empty() {
            let rarest = windows.iter().min_by(|a, b| a.chance.total_cmp(&b.chance));
            return rarest.copied();
        }
        let mut best: Option<(f32, usize, Literal)> = None;
        for window in windows {
            let fixed = TEST * window.chance;
            if best.is_some_and(|(cost, _, _)| cost <= fixed) {
                continue;
            }
            for (bucket, cells) in self.cells.iter().enumerate().skip(self.ends[GRAM - 2]) {
                let mut before = 1.0;
                let mut after = 1.0;
                for (cell, &byte) in cells.iter().zip(&window.bytes) {
                    before *= cell.weight;
                    after *= cell.weight + cell.growth(byte, &self.shares);
                }
                let cost = fixed + PASS * (after - before);
                if best.is_none_or(|(least, _, _)| cost < least) {
                    best = Some((cost, bucket, *window));
                }
            }
        }
        let (_, bucket, window) = best?;
        for (cell, &byte) in self.cells[bucket].iter_mut().zip(&window.bytes) {
            cell.insert(byte, &self.shares);
        }
        Some(window)
    }

    /// Takes a window of which `len` bytes count into the bucket where it adds least.
    pub(super) fn add(&mut self, sets: &[Bytes; GRAM], len: usize) {
        let first = if len > 1 { self.ends[len - 2] } else { 0 };
        let range = first..self.ends[len - 1];
        let mut best: Option<(f32, usize, [Cell; GRAM])> = None;
        for bucket in range {
            let cells = &self.cells[bucket];
            let with = std::array::from_fn(|at| cells[at].with(&sets[at], &self.shares));
            let cost = product(&with) - product(cells);
            if best.as_ref().is_none_or(|(least, _, _)| cost < *least) {
                best = Some((cost, bucket, with));
            }
        }
        if let Some((_, bucket, with)) = best {
            self.cells[bucket] = with;
        }
    }

    /// Tables by whole bytes, of eight buckets.
    pub(super) fn whole(&self) -> [[u8; 256]; GRAM] {
        let mut tables = [[0; 256]; GRAM];
        for (bucket, cells) in self.cells.iter().take(8).enumerate() {
            for (table, cell) in tables.iter_mut().zip(cells) {
                for byte in cell.accepted.iter() {
                    table[usize::from(byte)] |= 1 << bucket;
                }
            }
        }
        tables
    }

    /// Tables by halves: lower, upper.
    pub(super) fn halves(&self) -> (Halves, Halves) {
        let mut lower = [[0; 16]; GRAM];
        let mut upper = [[0; 16]; GRAM];
        for (bucket, cells) in self.cells.iter().enumerate() {
            for (place, cell) in cells.iter().enumerate() {
                for byte in cell.accepted.iter() {
                    lower[place][usize::from(byte & 15)] |= 1 << bucket;
                    upper[place][usize::from(byte >> 4)] |= 1 << bucket;
                }
            }
        }
        (lower, upper)
    }

    /// The tables with entries joined whose bytes differ in the top bit, if that lets hardly more
    /// positions pass: they are half as large.
    pub(super) fn folded(&self) -> Option<[[u8; 128]; GRAM]> {
        let mut folded = [[0; 128]; GRAM];
        for (half, whole) in folded.iter_mut().zip(&self.whole()) {
            for (byte, entry) in whole.iter().enumerate() {
                half[byte & 127] |= entry;
            }
        }
        let weight = |bucket: usize, place: usize| -> f32 {
            let accepted = (0..256).filter(|byte| folded[place][byte & 127] >> bucket & 1 != 0);
            accepted.map(|byte| self.shares[byte]).sum()
        };
        let product = |bucket| {
            (0..GRAM)
                .map(|place| weight(bucket, place))
                .product::<f32>()
        };
        let more = (0..8).map(product).sum::<f32>() - self.passing();
        (more < HARDLY).then_some(folded)
    }

    /// The share of positions that is expected to pass.
    pub(super) fn passing(&self) -> f32 {
        self.cells.iter().map(product).sum()
    }
}

fn product(cells: &[Cell; GRAM]) -> f32 {
    cells.iter().map(|cell| cell.weight).product()
}
