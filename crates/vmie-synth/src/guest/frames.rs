//! Hands out page frames in a chosen order.
//!
//! Real guests own frames in no order at all: that two virtually adjacent pages lie in frames far
//! apart is the normal case and the expensive one. [`Frames::scattered`] reproduces it.

use std::collections::BTreeSet;
use std::ops::Range;

use super::phys::PAGE;
use super::rng::Rng;

/// A pool of free page frames.
#[derive(Clone, Debug)]
pub struct Frames {
    ranges: Vec<Range<u64>>,
    /// For each range, how many frames lie in the ranges before it.
    before: Vec<usize>,
    /// Hand-out order as numbers of frames counted through `ranges`; `None` is ascending order.
    order: Option<Vec<u32>>,
    /// How far the hand-out has come.
    next: usize,
    /// Frame addresses handed out or taken ahead of their turn.
    used: BTreeSet<u64>,
}

impl Frames {
    /// Frames of `ranges` from the first to the last.
    ///
    /// # Panics
    /// When a range is not page-aligned.
    pub fn sequential(ranges: &[Range<u64>]) -> Self {
        for range in ranges {
            assert!(
                range.start.is_multiple_of(PAGE) && range.end.is_multiple_of(PAGE),
                "frames are whole pages: {range:#x?}"
            );
        }
        let mut count = 0;
        let before = ranges.iter().map(|range| {
            let first = count;
            count += ((range.end - range.start) / PAGE) as usize;
            first
        });
        Self {
            before: before.collect(),
            ranges: ranges.to_vec(),
            order: None,
            next: 0,
            used: BTreeSet::new(),
        }
    }

    /// Frames of `ranges` in a random order that `seed` determines. Takes 4 bytes for each frame.
    ///
    /// # Panics
    /// When a range is not page-aligned, or at 2^32 frames.
    pub fn scattered(ranges: &[Range<u64>], seed: u64) -> Self {
        let mut frames = Self::sequential(ranges);
        let count = u32::try_from(frames.count()).expect("fewer than 2^32 frames");
        let mut order: Vec<u32> = (0..count).collect();
        Rng::new(seed).shuffle(&mut order);
        frames.order = Some(order);
        frames
    }

    /// Exactly these frames in exactly this order.
    ///
    /// # Panics
    /// When an address is not page-aligned.
    pub fn listed(gpas: &[u64]) -> Self {
        let ranges: Vec<_> = gpas.iter().map(|&gpa| gpa..gpa + PAGE).collect();
        Self::sequential(&ranges)
    }

    /// All frames of the pool, used ones included.
    fn count(&self) -> usize {
        self.ranges
            .iter()
            .map(|r| ((r.end - r.start) / PAGE) as usize)
            .sum()
    }

    /// The address of frame `number`, counted through the ranges.
    fn gpa_of(&self, number: usize) -> Option<u64> {
        let which = self
            .before
            .partition_point(|&n| n <= number)
            .checked_sub(1)?;
        let range = &self.ranges[which];
        let gpa = range.start + (number - self.before[which]) as u64 * PAGE;
        (gpa < range.end).then_some(gpa)
    }

    /// The frame in place `place` of the hand-out order.
    fn in_order(&self, place: usize) -> Option<u64> {
        match &self.order {
            Some(order) => self.gpa_of(*order.get(place)? as usize),
            None => self.gpa_of(place),
        }
    }

    /// The next free frame.
    ///
    /// # Panics
    /// When all are used.
    pub fn alloc(&mut self) -> u64 {
        self.alloc_below(u64::MAX)
    }

    /// The next free frame that lies below `limit`: two-level paging can only address tables and
    /// small pages below 4 GiB.
    ///
    /// # Panics
    /// When there is none.
    pub fn alloc_below(&mut self, limit: u64) -> u64 {
        // Everything before `next` is used, so the usual call ends after one round.
        let mut place = self.next;
        while let Some(gpa) = self.in_order(place) {
            let free = !self.used.contains(&gpa);
            if free && gpa < limit {
                self.used.insert(gpa);
                if place == self.next {
                    self.next += 1;
                }
                return gpa;
            }
            if !free && place == self.next {
                self.next += 1;
            }
            place += 1;
        }
        panic!("no free frame below {limit:#x}");
    }

    /// Takes this very frame; false when it is used or not in the pool.
    pub fn try_take(&mut self, gpa: u64) -> bool {
        let pooled = gpa.is_multiple_of(PAGE) && self.ranges.iter().any(|r| r.contains(&gpa));
        pooled && self.used.insert(gpa)
    }

    /// Takes `len` bytes of adjacent frames of one range, aligned to `align`, at the first
    /// free place.
    ///
    /// # Panics
    /// When there is none.
    pub fn alloc_block(&mut self, len: u64, align: u64) -> u64 {
        let free = |start: u64| {
            self.used
                .range(start..start + len)
                .next_back()
                .map(|&taken| taken + PAGE)
        };
        let block = self.ranges.iter().find_map(|range| {
            let mut start = range.start.next_multiple_of(align);
            while start + len <= range.end {
                match free(start) {
                    None => return Some(start),
                    Some(behind) => start = behind.next_multiple_of(align),
                }
            }
            None
        });
        let start = block.unwrap_or_else(|| panic!("no free block of {len:#x} bytes"));
        self.used
            .extend((start..start + len).step_by(PAGE as usize));
        start
    }

    /// How many frames are free.
    pub fn left(&self) -> usize {
        self.count() - self.used.len()
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;

    #[test]
    fn sequential_skips_what_was_taken() {
        let mut frames = Frames::sequential(&[0x1000..0x3000, 0x8000..0xa000]);
        assert!(frames.try_take(0x2000));
        assert!(!frames.try_take(0x2000), "used");
        assert!(!frames.try_take(0x3000), "not in the pool");
        assert_eq!(frames.left(), 3);
        let rest: Vec<u64> = (0..3).map(|_| frames.alloc()).collect();
        assert_eq!(rest, [0x1000, 0x8000, 0x9000]);
    }

    #[test]
    fn scattered_hands_out_every_frame_once() {
        let mut frames = Frames::scattered(from_ref(&(0..0x40_0000)), 3);
        let mut all: Vec<u64> = (0..1024).map(|_| frames.alloc()).collect();
        assert_eq!(frames.left(), 0);
        let adjacent = all.windows(2).filter(|w| w[1] == w[0] + PAGE).count();
        assert!(adjacent < 10, "{adjacent} of 1024 frames follow each other");
        all.sort_unstable();
        assert_eq!(all, (0..1024).map(|n| n * PAGE).collect::<Vec<_>>());
    }

    #[test]
    fn blocks_are_aligned_and_not_handed_out_again() {
        let mut frames = Frames::scattered(from_ref(&(0x1000..0x80_0000)), 5);
        assert!(frames.try_take(0x20_3000));
        assert_eq!(frames.alloc_block(0x20_0000, 0x20_0000), 0x40_0000);
        for _ in 0..frames.left() {
            assert!(!(0x40_0000..0x60_0000).contains(&frames.alloc()));
        }
    }

    #[test]
    fn limits_are_kept() {
        let mut frames = Frames::listed(&[0x1_0000_0000, 0x5000, 0x2_0000_0000, 0x1000]);
        assert_eq!(frames.alloc_below(1 << 32), 0x5000);
        assert_eq!(frames.alloc(), 0x1_0000_0000);
        assert_eq!(frames.alloc_below(1 << 32), 0x1000);
        assert_eq!(frames.alloc(), 0x2_0000_0000);
    }
}
