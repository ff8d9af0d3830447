//! From a position to the signatures that match there.
//!
//! A bitmap tells most positions that are of no interest, an open-addressed table the others; each gram
//! in the table has a list of windows, of which sixteen bytes are compared under a mask before the whole
//! signature is. Grams of which fewer than four bytes count have tables of their own.

use super::plan::Window;
use super::{BATCH, Chunk, Positions, portable};
use crate::signature::Hit;
use crate::signature::engine::verify::Verifier;
use crate::sweep::Found;

/// Log2 of the most bits in the bitmap: 32 KiB, which leaves some of a first-level cache to the
/// positions and to what is searched.
const BITMAP: u32 = 18;

/// Bits for each gram, if there is room: one gram in so many passes by chance.
const BITS_PER_GRAM: usize = 64;

/// What a look at one window costs, and a test of its signature beyond that, in units of about a
/// quarter of a byte compare.
const LOOK: usize = 1;
const TEST: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Grams {
    /// The bytes of a gram that count.
    mask: u32,
    bitmap: Box<[u32; 1 << (BITMAP - 5)]>,
    /// How far to shift a hash to get a bit number.
    shift: u32,
    /// Open addressing; a power of two of slots, at most a quarter of them used.
    slots: Vec<Slot>,
    looks: Vec<Look>,
    reach: usize,
    has_zeros: bool,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    gram: u32,
    /// The first look of the gram, or [`EMPTY`].
    first: u32,
}

const EMPTY: u32 = u32::MAX;

/// A window of a signature, as it is tested.
#[derive(Clone, Copy, Debug)]
struct Look {
    mask: u128,
    value: u128,
    /// How far before the gram the masked bytes begin.
    back: u16,
    /// Whether it is the last one of its gram.
    is_last: bool,
    min_offset: u16,
    max_offset: u16,
    sig: u32,
}

/// A position with the place in the table where its gram is, if it is one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    at: u16,
    slot: u32,
}

/// Candidates of a batch.
pub(super) struct Candidates {
    list: [Candidate; BATCH],
    count: usize,
}

impl Candidates {
    pub(super) fn new() -> Self {
        Self {
            list: [Candidate { at: 0, slot: 0 }; BATCH],
            count: 0,
        }
    }
}

/// The bytes of a batch, and where they are in what is searched.
#[derive(Clone, Copy)]
pub(super) struct Batch<'b> {
    pub(super) chunk: &'b Chunk,
    pub(super) base: usize,
}

/// What is searched, and what for.
pub(super) struct Search<'s> {
    pub(super) bytes: &'s [u8],
    pub(super) owned: usize,
    pub(super) verifiers: &'s [Verifier],
}

impl Grams {
    /// Of windows of which `len` bytes count. Tables of no windows are empty.
    pub(super) fn new(windows: &[Window], len: usize) -> Self {
        let mut all: Vec<(u32, Look)> = windows
            .iter()
            .filter(|window| window.len == len)
            .flat_map(|window| {
                let look = Look {
                    mask: window.mask,
                    value: window.value,
                    back: window.back as u16,
                    is_last: false,
                    sig: window.sig as u32,
                    // A signature spans at most `MAX_LEN` bytes.
                    min_offset: window.min_offset as u16,
                    max_offset: window.max_offset as u16,
                };
                window.grams().map(move |gram| (gram, look))
            })
            .collect();
        all.sort_unstable_by_key(|(gram, look)| (*gram, look.sig, look.min_offset));
        let mut grams = Self {
            mask: u32::MAX >> (32 - 8 * len),
            bitmap: vec![0; 1 << (BITMAP - 5)]
                .into_boxed_slice()
                .try_into()
                .expect("it has that size"),
            shift: 32
                - (all.len() * BITS_PER_GRAM)
                    .next_power_of_two()
                    .ilog2()
                    .clamp(10, BITMAP),
            slots: vec![
                Slot {
                    gram: 0,
                    first: EMPTY
                };
                (all.len() * 4).next_power_of_two()
            ],
            looks: Vec::with_capacity(all.len()),
            reach: 0,
            has_zeros: all.first().is_some_and(|(gram, _)| *gram == 0),
        };
        for group in all.chunk_by(|a, b| a.0 == b.0) {
            let gram = group[0].0;
            let bit = hash(gram) >> grams.shift;
            grams.bitmap[bit as usize / 32] |= 1 << (bit % 32);
            let mut slot = grams.home(gram);
            while grams.slots[slot].first != EMPTY {
                slot = grams.next(slot);
            }
            grams.slots[slot] = Slot {
                gram,
                first: grams.looks.len() as u32,
            };
            grams.looks.extend(group.iter().map(|(_, look)| *look));
            if let Some(last) = grams.looks.last_mut() {
                last.is_last = true;
            }
        }
        let offsets = grams.looks.iter().map(|look| usize::from(look.max_offset));
        grams.reach = offsets.max().unwrap_or(0);
        grams
    }

    pub(super) fn is_empty(&self) -> bool {
        self.looks.is_empty()
    }

    /// How far behind the first byte of a match a gram can begin.
    pub(super) fn reach(&self) -> usize {
        self.reach
    }

    /// Whether zeros are a gram.
    pub(super) fn has_zeros(&self) -> bool {
        self.has_zeros
    }

    /// Whether the bitmap has the gram of these four bytes: always, when it is one, and else seldom.
    #[inline(always)]
    pub(super) fn passes(&self, four: u32) -> bool {
        let bit = hash(four & self.mask) >> self.shift;
        // The remainder is the same, and tells the compiler that no check is needed.
        let word = self.bitmap[bit as usize / 32 % self.bitmap.len()];
        word >> (bit % 32) & 1 != 0
    }

    /// Where a gram belongs in the table. Other bits of the hash than the bitmap's.
    #[inline(always)]
    fn home(&self, gram: u32) -> usize {
        let hash = u64::from(gram).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        hash as usize & (self.slots.len() - 1)
    }

    fn next(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }

    /// Of the positions of a batch, those whose gram has something in its place of the table: without
    /// a branch, so that the loads from a large table overlap.
    #[inline(never)]
    fn in_table(&self, chunk: &Chunk, positions: &Positions, out: &mut Candidates) {
        let mut count = 0;
        for &at in &positions.list[..positions.count.min(BATCH)] {
            let slot = self.home(portable::gram(chunk, usize::from(at)) & self.mask);
            out.list[count] = Candidate {
                at,
                slot: slot as u32,
            };
            count += usize::from(self.slots[slot].first != EMPTY);
        }
        out.count = count;
    }

    /// Of the candidates, those whose gram is one, with its first look if that is worth a test or not
    /// the only one.
    #[inline(never)]
    fn at_first_look(&self, chunk: &Chunk, search: &Search<'_>, base: usize, out: &mut Candidates) {
        let mut count = 0;
        for i in 0..out.count.min(BATCH) {
            let Candidate { at, slot } = out.list[i];
            let gram = portable::gram(chunk, usize::from(at)) & self.mask;
            let mut slot = self.slots[slot as usize];
            if slot.gram != gram {
                let Some(found) = self.collided(gram) else {
                    continue;
                };
                slot = found;
            }
            let look = &self.looks[slot.first as usize];
            let worth = !look.is_last || look.could_match(search.bytes, base + usize::from(at));
            out.list[count] = Candidate {
                at,
                slot: slot.first,
            };
            count += usize::from(worth);
        }
        out.count = count;
    }

    /// The slot of a gram that is not in its place.
    #[cold]
    fn collided(&self, gram: u32) -> Option<Slot> {
        let mut place = self.home(gram);
        loop {
            let slot = self.slots[place];
            if slot.first == EMPTY {
                return None;
            }
            if slot.gram == gram {
                return Some(slot);
            }
            place = self.next(place);
        }
    }

    /// Finds what matches with a gram at one of the positions of a batch that begins at `base`.
    #[inline(never)]
    pub(super) fn test(
        &self,
        Batch { chunk, base }: Batch<'_>,
        positions: &Positions,
        candidates: &mut Candidates,
        search: &Search<'_>,
        spending: &mut Spending,
        hits: &mut Found<Hit>,
    ) {
        self.in_table(chunk, positions, candidates);
        self.at_first_look(chunk, search, base, candidates);
        for candidate in &candidates.list[..candidates.count] {
            let first = candidate.slot as usize;
            if spending.is_given_up(first) {
                continue;
            }
            let at = base + usize::from(candidate.at);
            let mut cost = 0;
            let mut count = 0;
            for look in &self.looks[first..] {
                count += 1;
                if look.could_match(search.bytes, at) {
                    match Self::verify(search, at, look, spending.limit(), hits) {
                        Some(spent) => cost += spent,
                        None => spending.give_up(first, self.looks.len()),
                    }
                }
                if look.is_last {
                    break;
                }
            }
            spending.charge(first, count, cost + count * LOOK, self.looks.len());
            if hits.is_full() {
                return;
            }
        }
    }

    /// Tests the whole signature, wherever it could begin, and says what that cost: `None` when it was
    /// not finished within `limit`.
    fn verify(
        search: &Search<'_>,
        at: usize,
        look: &Look,
        limit: usize,
        hits: &mut Found<Hit>,
    ) -> Option<usize> {
        let Some(nearest) = at.checked_sub(usize::from(look.min_offset)) else {
            return Some(0);
        };
        let farthest = at.saturating_sub(usize::from(look.max_offset));
        let sig = look.sig as usize;
        let mut left = limit;
        for offset in farthest..=nearest.min(search.owned - 1) {
            left = left.saturating_sub(TEST);
            let matches = search.verifiers[sig].matches(&search.bytes[offset..], &mut left);
            if left == 0 {
                return None;
            }
            if matches {
                hits.push(Hit { offset, sig });
                if hits.is_full() {
                    break;
                }
            }
        }
        Some(limit - left)
    }

    /// The signatures of the gram whose first look this is.
    fn users(&self, first: usize) -> impl Iterator<Item = usize> {
        let looks = &self.looks[first..];
        let last = looks.iter().position(|look| look.is_last).unwrap_or(0);
        looks[..=last].iter().map(|look| look.sig as usize)
    }
}

impl Look {
    /// Whether the bytes around a gram at `bytes[at..]` are such that the signature may match.
    #[inline(always)]
    fn could_match(&self, bytes: &[u8], at: usize) -> bool {
        // Where the bytes do not lie within, the whole test says what is right.
        let start = at.wrapping_sub(usize::from(self.back));
        let around = bytes.get(start..).and_then(<[u8]>::first_chunk);
        around.is_none_or(|wide| u128::from_le_bytes(*wide) & self.mask == self.value)
    }
}

/// What the tests in one call have cost.
pub(super) struct Spending {
    /// What may be spent before anyone is asked for whom.
    allowance: usize,
    /// What may be spent on each gram, for each of its windows.
    each: usize,
    /// What was spent since on each gram, by its first look; empty until the allowance is used up.
    spent: Vec<usize>,
}

impl Spending {
    pub(super) fn new(bytes: usize, budget: usize) -> Self {
        let each = bytes.saturating_mul(budget);
        Self {
            allowance: each,
            each,
            spent: Vec::new(),
        }
    }

    /// What a single test may cost. One that costs more has no answer, and its gram is given up.
    fn limit(&self) -> usize {
        // No less than the test of an ordinary signature, however few bytes there are.
        self.each.max(1 << 10)
    }

    /// Ends the tests of a gram.
    #[cold]
    fn give_up(&mut self, first: usize, looks: usize) {
        if self.spent.is_empty() {
            self.spent = vec![0; looks];
        }
        self.spent[first] = usize::MAX;
    }

    #[inline(always)]
    fn is_given_up(&self, first: usize) -> bool {
        self.spent.get(first) == Some(&usize::MAX)
    }

    #[inline(always)]
    fn charge(&mut self, first: usize, windows: usize, cost: usize, looks: usize) {
        if cost <= self.allowance {
            self.allowance -= cost;
        } else {
            self.charge_gram(first, windows, cost, looks);
        }
    }

    #[cold]
    fn charge_gram(&mut self, first: usize, windows: usize, cost: usize, looks: usize) {
        self.allowance = 0;
        if self.spent.is_empty() {
            self.spent = vec![0; looks];
        }
        let spent = &mut self.spent[first];
        *spent = spent.saturating_add(cost);
        if *spent > self.each.saturating_mul(windows) {
            self.give_up(first, looks);
        }
    }

    /// The signatures that have to be found another way.
    pub(super) fn given_up(&self, grams: &Grams) -> impl Iterator<Item = usize> {
        let spent = self.spent.iter().enumerate();
        spent
            .filter(|(_, spent)| **spent == usize::MAX)
            .flat_map(|(first, _)| grams.users(first))
    }
}

/// Fibonacci hashing: the upper bits are well mixed.
#[inline(always)]
fn hash(gram: u32) -> u32 {
    gram.wrapping_mul(0x9e37_79b1)
}
