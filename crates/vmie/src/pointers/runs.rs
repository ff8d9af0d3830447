//! Mapped memory numbered through: the bytes of the first run from 0 on, then those of the next one; what
//! is not mapped has no numbers. A number and its address are equal modulo eight, so that what is aligned
//! in the one is aligned in the other; where a run does not begin at a multiple of eight a few numbers
//! are left out.
//!
//! An address takes 64 bits, the number of a mapped byte as many as there is memory: 34 for 16 GiB. That
//! is what makes an index of pointers small, and a table over all targets possible.
//!
//! Whether a value is the address of something mapped is asked for every word that looks like one. A
//! hash table of aligned *units* of the address space leads to the first run of the unit; most units
//! hold one run or two. The unit grows until all units of all runs are few, so neither many small runs
//! nor a run of 2^47 bytes makes the table large.

use crate::addr::Address;
use crate::memory::Span;

/// The smallest unit, as a power of two: 2 MiB, what a lowest page table maps.
const UNIT: u32 = 21;

/// Units that a table may always have.
const UNITS: u64 = 1 << 16;

/// Runs of a unit that are looked at one after another.
const FEW: usize = 4;

/// Marks an empty slot of the table; no unit has this number, as units are at least two bytes.
const EMPTY: u64 = u64::MAX;

/// One run of mapped addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    /// First address.
    pub(super) start: u64,
    /// Last address, inclusive.
    pub(super) last: u64,
    /// Number of the first byte.
    pub(super) first: u64,
}

impl Run {
    pub(super) fn len(&self) -> u64 {
        (self.last - self.start).saturating_add(1)
    }
}

/// All runs of a space.
#[derive(Clone, Debug)]
pub(super) struct Runs {
    runs: Vec<Run>,
    total: u64,
    shift: u32,
    /// Unit and index of the first run that reaches into it.
    table: Vec<(u64, u32)>,
}

/// Why memory cannot be numbered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unnumbered {
    /// More runs than this.
    Runs(usize),
    /// More bytes than this.
    Bytes(u64),
}

impl Runs {
    /// Numbers what is mapped; spans that touch are one run. At most `most` runs, and less than `bytes`
    /// bytes.
    pub(super) fn of<A: Address>(
        spans: impl Iterator<Item = Span<A>>,
        most: usize,
        bytes: u64,
    ) -> Result<Self, Unnumbered> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for region in spans.filter_map(Span::region) {
            let range = region.range();
            let (start, last) = (range.start().raw(), range.last().raw());
            let full = ranges.len() == most;
            match ranges.last_mut() {
                Some(before) if before.1.checked_add(1) == Some(start) => before.1 = last,
                _ if full => return Err(Unnumbered::Runs(most)),
                _ => ranges.push((start, last)),
            }
        }
        Self::new(ranges.into_iter(), bytes)
    }

    /// Numbers runs, first and last address of each, that ascend and do not touch.
    pub(super) fn new(
        ranges: impl Iterator<Item = (u64, u64)>,
        bytes: u64,
    ) -> Result<Self, Unnumbered> {
        let mut total = 0_u64;
        let mut runs = Vec::new();
        for (start, last) in ranges {
            let first = total + (start.wrapping_sub(total) & 7);
            let run = Run { start, last, first };
            runs.push(run);
            total = first.saturating_add(run.len());
            if total > bytes {
                return Err(Unnumbered::Bytes(bytes));
            }
        }
        let (shift, table) = table(&runs);
        Ok(Self {
            runs,
            total,
            shift,
            table,
        })
    }

    /// The runs, ascending.
    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// One more than the largest number.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The lowest and the highest address.
    pub(super) fn bounds(&self) -> Option<(u64, u64)> {
        Some((self.runs.first()?.start, self.runs.last()?.last))
    }

    /// The run that holds an address. `near` is the run of the last answer: values that follow one
    /// another in memory often lead to the same place.
    #[inline]
    pub(super) fn find(&self, addr: u64, near: &mut usize) -> Option<&Run> {
        if let Some(run) = self.runs.get(*near)
            && addr.wrapping_sub(run.start) <= run.last - run.start
        {
            return Some(run);
        }
        let mut at = self.first_of(addr >> self.shift)?;
        if self.runs.get(at + FEW).is_some_and(|run| run.last < addr) {
            at += self.runs[at..].partition_point(|run| run.last < addr);
        }
        while self.runs.get(at)?.last < addr {
            at += 1;
        }
        let run = &self.runs[at];
        if addr < run.start {
            return None;
        }
        *near = at;
        Some(run)
    }

    /// The number of the byte at an address.
    #[inline]
    pub(super) fn number(&self, addr: u64, near: &mut usize) -> Option<u64> {
        let run = self.find(addr, near)?;
        Some(run.first + (addr - run.start))
    }

    /// The number of the first mapped byte that is not below an address.
    pub(super) fn below(&self, addr: u64) -> u64 {
        let at = self.runs.partition_point(|run| run.last < addr);
        match self.runs.get(at) {
            Some(run) => run.first + addr.saturating_sub(run.start),
            None => self.total,
        }
    }

    /// The numbers of what is mapped between two addresses, both included.
    pub(super) fn numbers(&self, low: u64, high: u64) -> std::ops::Range<u64> {
        let end = high
            .checked_add(1)
            .map_or(self.total, |end| self.below(end));
        self.below(low)..end
    }

    /// The address of a byte by its number; `None` when there are not as many.
    pub(super) fn address(&self, number: u64) -> Option<u64> {
        if number >= self.total {
            return None;
        }
        let at = self.runs.partition_point(|run| run.first <= number);
        let run = self.runs.get(at.checked_sub(1)?)?;
        run.start
            .checked_add(number - run.first)
            .filter(|&addr| addr <= run.last)
    }

    #[inline]
    fn first_of(&self, unit: u64) -> Option<usize> {
        let mask = self.table.len() - 1;
        let mut at = slot(unit) & mask;
        loop {
            let (here, run) = self.table[at];
            if here == unit {
                return Some(run as usize);
            }
            if here == EMPTY {
                return None;
            }
            at = (at + 1) & mask;
        }
    }
}

#[inline]
fn slot(unit: u64) -> usize {
    // Fibonacci hashing: neighbours are spread, the high bits decide.
    (unit.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
}

fn table(runs: &[Run]) -> (u32, Vec<(u64, u32)>) {
    let most = UNITS.max(runs.len() as u64 * 4);
    let units = |shift: u32| {
        let of = |run: &Run| (run.last >> shift) - (run.start >> shift) + 1;
        runs.iter()
            .fold(0_u64, |sum, run| sum.saturating_add(of(run)))
    };
    let shift = (UNIT..63).find(|&shift| units(shift) <= most).unwrap_or(63);
    let size = usize::try_from(units(shift) * 2)
        .unwrap_or(2)
        .next_power_of_two();
    let mut table = vec![(EMPTY, 0); size.max(2)];
    let mask = table.len() - 1;
    for (index, run) in runs.iter().enumerate() {
        for unit in run.start >> shift..=run.last >> shift {
            let mut at = slot(unit) & mask;
            while table[at].0 != EMPTY && table[at].0 != unit {
                at = (at + 1) & mask;
            }
            if table[at].0 == EMPTY {
                table[at] = (unit, u32::try_from(index).unwrap_or(u32::MAX));
            }
        }
    }
    (shift, table)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn runs_of(list: &[(u64, u64)]) -> Runs {
        Runs::new(list.iter().copied(), u64::MAX).unwrap()
    }

    #[test]
    fn the_ends_of_the_space_have_numbers() {
        let runs = runs_of(&[(0, 0xfff), (u64::MAX - 0xfff, u64::MAX)]);
        let mut near = 0;
        assert_eq!(runs.total(), 0x2000);
        assert_eq!(runs.number(u64::MAX, &mut near), Some(0x1fff));
        assert_eq!(runs.number(0, &mut near), Some(0));
        assert_eq!(runs.number(0x1000, &mut near), None);
        assert_eq!(runs.address(0x1fff), Some(u64::MAX));
        assert_eq!(runs.address(0x2000), None);
        assert_eq!(runs.numbers(0xff0, u64::MAX), 0xff0..0x2000);
    }

    #[test]
    fn a_run_as_large_as_a_hostile_table_makes_it_costs_a_small_table() {
        let runs = runs_of(&[(0, (1 << 47) - 1), (0xffff_8000_0000_0000, u64::MAX)]);
        assert!(
            runs.table.len() <= 4 * UNITS as usize,
            "{}",
            runs.table.len()
        );
        assert_eq!(runs.number(0xffff_8000_0000_0000, &mut 0), Some(1 << 47));
    }

    #[test]
    fn too_much_is_refused() {
        let ranges = [(0, 9), (20, 29)];
        // The second run begins at number 12, which is 4 modulo 8 as its address is.
        assert_eq!(
            Runs::new(ranges.into_iter(), 21).err(),
            Some(Unnumbered::Bytes(21))
        );
        assert!(Runs::new(ranges.into_iter(), 22).is_ok());
    }

    proptest! {
        #[test]
        fn mapped_bytes_are_numbered_in_order(
            cuts in prop::collection::btree_set(0u64..400, 2..40),
            scale in prop::sample::select(vec![1u64, 3, 0x1000, 0x20_0000, 0x1_0000_0123]),
            asked in prop::collection::vec(0u64..400, 30),
        ) {
            let cuts: Vec<u64> = cuts.into_iter().map(|cut| cut * scale).collect();
            let list: Vec<(u64, u64)> = cuts
                .chunks_exact(2)
                .map(|pair| (pair[0], pair[1] - 1))
                .collect();
            // Runs that touch are the business of `of`.
            prop_assume!(list.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            let runs = runs_of(&list);
            let naive = |addr: u64| {
                let mut first = 0_u64;
                for &(start, last) in &list {
                    while first % 8 != start % 8 {
                        first += 1;
                    }
                    if (start..=last).contains(&addr) {
                        return Some(first + addr - start);
                    }
                    first += last - start + 1;
                }
                None
            };
            let mut near = 0;
            let mut asked: Vec<u64> = asked
                .into_iter()
                .flat_map(|at| [at * scale, (at * scale).wrapping_sub(1), at * scale + scale / 2])
                .collect();
            asked.sort_unstable();
            for addr in asked {
                let number = runs.number(addr, &mut near);
                prop_assert_eq!(number, naive(addr));
                if let Some(number) = number {
                    prop_assert_eq!(runs.address(number), Some(addr));
                    prop_assert_eq!(runs.below(addr), number);
                }
            }
        }
    }
}
