//! Which positions of a group pass, as bits.
// Other machines have no front that takes all of this.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]

use super::{BATCH, GROUP};

/// Positions in a block.
pub(super) const BLOCK: usize = 64;

/// Beyond so many blocks there is enough for the later stages to work on.
const ENOUGH: usize = 128;

/// Blocks that one more batch can bring it to.
const MOST: usize = ENOUGH + BATCH / BLOCK;

/// The most positions.
pub(super) const POSITIONS: usize = MOST * BLOCK;

/// Positions of a group, in ascending order. More may be written than count, up to a block.
pub(super) struct Positions {
    pub(super) list: [u16; POSITIONS + BLOCK],
    pub(super) count: usize,
}

impl Positions {
    pub(super) fn new() -> Self {
        Self {
            list: [0; POSITIONS + BLOCK],
            count: 0,
        }
    }

    /// Those that count.
    pub(super) fn all(&self) -> &[u16] {
        &self.list[..self.count.min(POSITIONS)]
    }
}

/// The blocks of a group in which a position passes. When there are few signatures most have none; the
/// others are collected without a branch, and looked at after.
pub(super) struct Blocks {
    masks: [u64; MOST],
    starts: [u16; MOST],
    count: usize,
}

impl Blocks {
    pub(super) fn new() -> Self {
        Self {
            masks: [0; MOST],
            starts: [0; MOST],
            count: 0,
        }
    }

    pub(super) fn clear(&mut self) {
        self.count = 0;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether there may not be room for another batch.
    pub(super) fn is_full(&self) -> bool {
        self.count > ENOUGH
    }

    /// Takes a block that begins at a position of the group, with a bit for every position that passes.
    #[inline(always)]
    pub(super) fn push(&mut self, start: usize, passed: u64) {
        debug_assert!(start < GROUP);
        self.masks[self.count] = passed;
        self.starts[self.count] = start as u16;
        self.count += usize::from(passed != 0);
    }

    /// The blocks in which a position passes.
    #[inline(always)]
    pub(super) fn each(&self) -> impl Iterator<Item = (u16, u64)> {
        let starts = self.starts.iter().copied();
        starts.zip(self.masks.iter().copied()).take(self.count)
    }

    /// Lists the positions.
    #[inline(always)]
    pub(super) fn list(&self, out: &mut Positions) {
        // Four positions at a time are written whether they are there or not: most masks have fewer, and
        // a loop over just those that are there would end where no branch predictor expects it.
        let mut total = 0;
        for (start, mask) in self.each() {
            let here = mask.count_ones() as usize;
            let mut rest = mask;
            for four in out.list[total..total + BLOCK].as_chunks_mut::<4>().0 {
                for position in four {
                    *position = start + (rest.trailing_zeros() & 63) as u16;
                    rest &= rest.wrapping_sub(1);
                }
                if rest == 0 {
                    break;
                }
            }
            total += here;
        }
        out.count = total;
    }
}

/// Of a block that begins at `start` the positions before `end`, one bit each.
#[inline(always)]
pub(super) fn before(start: usize, end: usize) -> u64 {
    if end - start < BLOCK {
        (1 << (end - start)) - 1
    } else {
        u64::MAX
    }
}
