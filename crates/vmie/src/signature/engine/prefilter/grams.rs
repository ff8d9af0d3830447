//! From a position to the signatures that match there.
//!
//! A bitmap tells most positions that are of no interest. A table by another hash of the gram has the
//! windows; where there are several, since some grams stand in hundreds of signatures, a second hash tells
//! them apart, of a few bytes that most of them know. Then sixteen bytes are compared under a mask, the
//! gram among them, and last the whole signature, unless these bytes are all there is to it. Grams of
//! which fewer than four bytes count have tables of their own.

use super::blocks::{POSITIONS, Positions};
use super::plan::{WIDE, Window};
use super::portable;
use crate::signature::Hit;
use crate::signature::engine::verify::Verifier;
use crate::sweep::Found;

/// Log2 of the most bits in the bitmap: 32 KiB, which leaves some of a first-level cache to the
/// positions and to what is searched.
const BITMAP: u32 = 18;

/// Bits for each gram, if there is room: one gram in so many passes by chance.
const BITS_PER_GRAM: usize = 64;

/// The most looks that one hash tells apart, as a power of two.
const MOST_BITS: u32 = 8;

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
    /// By hash; a power of two, at least twice the windows.
    slots: Vec<Slot>,
    looks: Vec<Look>,
    /// The first two bytes of each gram.
    pairs: Vec<u16>,
    reach: usize,
    has_zeros: bool,
}

/// How to find the windows of a hash.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The first of its looks; without windows, [`Look::NONE`].
    first: u32,
    /// Of the four bytes `distance` behind the gram those bits that tell its windows apart.
    mask: u32,
    distance: i16,
    /// Log2 of the looks that the hash of these bits chooses from.
    bits: u16,
}

const EMPTY: u32 = u32::MAX;

/// A window of a signature, as it is tested.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Look {
    mask: u128,
    value: u128,
    /// How far before the gram the masked bytes begin.
    back: u8,
    /// The length of the signature if the masked bytes are all there is to it, else zero.
    whole: u16,
    min_offset: u16,
    max_offset: u16,
    /// [`EMPTY`] if this stands for no window.
    sig: u32,
    /// The next look of the same hashes, or [`EMPTY`].
    next: u32,
}

impl Look {
    /// No window has this hash.
    const NONE: Self = Self {
        mask: 0,
        value: 1,
        back: 0,
        whole: 0,
        min_offset: 0,
        max_offset: 0,
        sig: EMPTY,
        next: EMPTY,
    };

    fn new(window: &Window) -> Self {
        Self {
            mask: window.mask,
            value: window.value,
            back: window.back as u8,
            // A signature spans at most `MAX_LEN` bytes.
            whole: window.whole.unwrap_or(0) as u16,
            min_offset: window.min_offset as u16,
            max_offset: window.max_offset as u16,
            sig: window.sig as u32,
            next: EMPTY,
        }
    }

    /// What is known of the four bytes `distance` behind the gram: mask, value.
    fn known(&self, distance: i16) -> (u32, u32) {
        let shift = 8 * (i32::from(distance) + i32::from(self.back));
        let part = |wide: u128| {
            if shift >= 0 {
                wide.checked_shr(shift.unsigned_abs()).unwrap_or(0) as u32
            } else {
                wide.checked_shl(shift.unsigned_abs()).unwrap_or(0) as u32
            }
        };
        (part(self.mask), part(self.value))
    }
}

/// A position with the look that comes first there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    at: u16,
    place: u32,
}

/// Candidates of a group.
pub(super) struct Candidates {
    list: [Candidate; POSITIONS],
    count: usize,
}

impl Candidates {
    pub(super) fn new() -> Self {
        Self {
            list: [Candidate { at: 0, place: 0 }; POSITIONS],
            count: 0,
        }
    }
}

/// The bytes of a group, and where they are in what is searched.
#[derive(Clone, Copy)]
pub(super) struct Group<'b> {
    pub(super) region: &'b [u8],
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
                let look = Look::new(window);
                window.grams().map(move |gram| (gram, look))
            })
            .collect();
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
            slots: vec![Slot::NONE; (all.len() * 2).next_power_of_two().max(2)],
            looks: vec![Look::NONE],
            pairs: all.iter().map(|(gram, _)| *gram as u16).collect(),
            reach: 0,
            has_zeros: all.iter().any(|(gram, _)| *gram == 0),
        };
        all.sort_by_cached_key(|(gram, look)| (grams.home(*gram), look.sig, look.min_offset));
        for &(gram, _) in &all {
            let bit = hash(gram) >> grams.shift;
            grams.bitmap[bit as usize / 32] |= 1 << (bit % 32);
        }
        // A window that stands for several grams is needed once where they have the same hash.
        let slots = grams.slots.len();
        all.dedup_by(|a, b| a.1 == b.1 && home(a.0, slots) == home(b.0, slots));
        for group in all.chunk_by(|a, b| home(a.0, slots) == home(b.0, slots)) {
            let looks: Vec<Look> = group.iter().map(|(_, look)| *look).collect();
            let slot = grams.tell_apart(&looks);
            let home = grams.home(group[0].0);
            grams.slots[home] = slot;
        }
        let offsets = grams.looks.iter().map(|look| usize::from(look.max_offset));
        grams.reach = offsets.max().unwrap_or(0);
        grams
    }

    /// Appends the looks of a hash.
    fn tell_apart(&mut self, group: &[Look]) -> Slot {
        let mut best = Slot {
            first: self.looks.len() as u32,
            mask: 0,
            distance: 0,
            bits: 0,
        };
        if group.len() > 1 {
            let bits = group.len().next_power_of_two().ilog2().min(MOST_BITS);
            let mut least = group.len() as f32;
            for distance in 1 - WIDE as i16..WIDE as i16 {
                for mask in [0xff, 0xffff, 0xffff_ffff] {
                    let slot = Slot {
                        mask,
                        distance,
                        bits: bits as u16,
                        ..best
                    };
                    let expected = slot.expected_looks(group);
                    if expected < least {
                        least = expected;
                        best = slot;
                    }
                }
            }
        }
        let heads = best.first as usize..best.first as usize + (1 << best.bits);
        self.looks
            .extend(std::iter::repeat_n(Look::NONE, heads.len()));
        let (told, others): (Vec<&Look>, Vec<&Look>) =
            group.iter().partition(|look| best.tells(look));
        for look in told {
            self.append(heads.start + best.index(look.known(best.distance).1), look);
        }
        // The others may be meant whatever the hash is: their chain, which is behind all heads, ends each
        // other chain.
        let common = self.looks.len();
        let Some((look, rest)) = others.split_first() else {
            return best;
        };
        self.looks.push(**look);
        for look in rest {
            self.append(common, look);
        }
        for head in heads {
            let mut at = head;
            while self.looks[at].next != EMPTY {
                at = self.looks[at].next as usize;
            }
            self.looks[at].next = common as u32;
        }
        best
    }

    /// Puts a look into a chain.
    fn append(&mut self, head: usize, look: &Look) {
        let mut at = head;
        if self.looks[at].sig == EMPTY {
            self.looks[at] = *look;
            return;
        }
        while self.looks[at].next != EMPTY {
            at = self.looks[at].next as usize;
        }
        self.looks[at].next = self.looks.len() as u32;
        self.looks.push(*look);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
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

    /// The first two bytes of all grams; any second one, if it does not count.
    pub(super) fn pairs(&self) -> impl Iterator<Item = u16> {
        let seconds = if self.mask > 0xff { 1 } else { 256 };
        let each = self.pairs.iter();
        each.flat_map(move |&pair| (0..seconds).map(move |second| pair | second << 8))
    }

    #[inline(always)]
    fn home(&self, gram: u32) -> usize {
        home(gram, self.slots.len())
    }

    /// For each position the first look, if it is worth a test or not the only one: without a branch, so
    /// that the loads from large tables overlap.
    #[inline(never)]
    fn at_first_look(
        &self,
        group: Group<'_>,
        positions: &Positions,
        search: &Search<'_>,
        out: &mut Candidates,
    ) {
        let mut count = 0;
        for &at in positions.all() {
            let gram = portable::gram(group.region, usize::from(at)) & self.mask;
            let slot = &self.slots[self.home(gram)];
            let position = group.base + usize::from(at);
            let four = four(search.bytes, position, slot.distance);
            let place = slot.first as usize + slot.index(four);
            let look = &self.looks[place];
            let worth = (look.next != EMPTY) | look.could_match(search.bytes, position);
            out.list[count] = Candidate {
                at,
                place: place as u32,
            };
            count += usize::from(worth);
        }
        out.count = count;
    }

    /// Finds what matches with a gram at one of the positions of a group.
    #[inline(never)]
    pub(super) fn test(
        &self,
        group: Group<'_>,
        positions: &Positions,
        candidates: &mut Candidates,
        search: &Search<'_>,
        spending: &mut Spending,
        hits: &mut Found<Hit>,
    ) {
        self.at_first_look(group, positions, search, candidates);
        for candidate in &candidates.list[..candidates.count] {
            let first = candidate.place as usize;
            if spending.is_given_up(first) {
                continue;
            }
            let at = group.base + usize::from(candidate.at);
            let mut cost = 0;
            let mut count = 0;
            for look in self.chain(first) {
                count += 1;
                if look.could_match(search.bytes, at) {
                    match Self::verify(search, at, look, spending.limit(), hits) {
                        Some(spent) => cost += spent,
                        None => spending.give_up(first, self.looks.len()),
                    }
                }
            }
            spending.charge(first, count, cost + count * LOOK, self.looks.len());
            if hits.is_full() {
                return;
            }
        }
    }

    /// A look and those behind it that have the same hash.
    fn chain(&self, first: usize) -> impl Iterator<Item = &Look> {
        std::iter::successors(self.looks.get(first), |look| {
            self.looks.get(look.next as usize)
        })
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
        let sig = look.sig as usize;
        if look.whole != 0 && look.is_inside(search.bytes, at) {
            // Nothing is left to compare.
            let is_there =
                nearest < search.owned && search.bytes.len() - nearest >= usize::from(look.whole);
            if is_there {
                hits.push(Hit {
                    offset: nearest,
                    sig,
                });
            }
            return Some(TEST);
        }
        let farthest = at.saturating_sub(usize::from(look.max_offset));
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

    /// The signatures of the chain whose first look this is.
    fn users(&self, first: usize) -> impl Iterator<Item = usize> {
        let looks = self.chain(first).filter(|look| look.sig != EMPTY);
        looks.map(|look| look.sig as usize)
    }
}

impl Slot {
    const NONE: Self = Self {
        first: 0,
        mask: 0,
        distance: 0,
        bits: 0,
    };

    /// Whether a look knows the bits that tell looks apart.
    fn tells(&self, look: &Look) -> bool {
        self.mask & !look.known(self.distance).0 == 0
    }

    /// How many looks a position is expected to call for, where each is as likely to be meant.
    fn expected_looks(&self, group: &[Look]) -> f32 {
        let mut counts = [0u32; 1 << MOST_BITS];
        let mut told = 0;
        for look in group.iter().filter(|look| self.tells(look)) {
            counts[self.index(look.known(self.distance).1)] += 1;
            told += 1;
        }
        let squares: u32 = counts.iter().map(|count| count * count).sum();
        (group.len() as u32 - told) as f32 + squares as f32 / group.len() as f32
    }

    /// Which of its looks is meant when these are the four bytes that tell them apart.
    #[inline(always)]
    fn index(&self, four: u32) -> usize {
        (u64::from(hash(four & self.mask)) << self.bits >> 32) as usize
    }
}

impl Look {
    /// Whether the bytes around a gram at `bytes[at..]` are such that the signature may match.
    #[inline(always)]
    fn could_match(&self, bytes: &[u8], at: usize) -> bool {
        // Where the bytes do not lie within, the whole test says what is right.
        match self.around(bytes, at) {
            Some(wide) => u128::from_le_bytes(*wide) & self.mask == self.value,
            None => self.sig != EMPTY,
        }
    }

    /// Whether [`Look::could_match`] compared.
    fn is_inside(&self, bytes: &[u8], at: usize) -> bool {
        self.around(bytes, at).is_some()
    }

    #[inline(always)]
    fn around<'b>(&self, bytes: &'b [u8], at: usize) -> Option<&'b [u8; WIDE]> {
        let start = at.wrapping_sub(usize::from(self.back));
        bytes.get(start..)?.first_chunk()
    }
}

/// The four bytes `distance` behind `at`, with zeros for those that are not there: what is compared with
/// them matches nowhere then.
#[inline(always)]
fn four(bytes: &[u8], at: usize, distance: i16) -> u32 {
    let start = at.wrapping_add_signed(isize::from(distance));
    match bytes.get(start..).and_then(<[u8]>::first_chunk) {
        Some(four) => u32::from_le_bytes(*four),
        None => four_of_some(bytes, start),
    }
}

#[cold]
fn four_of_some(bytes: &[u8], start: usize) -> u32 {
    let byte = |i: usize| bytes.get(start.wrapping_add(i)).copied().unwrap_or(0);
    u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)])
}

/// What the tests in one call have cost.
pub(super) struct Spending {
    /// What may be spent before anyone is asked for whom.
    allowance: usize,
    /// What may be spent on each chain of looks, for each of them.
    each: usize,
    /// What was spent since on each chain, by its first look; empty until the allowance is used up.
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

    /// Ends the tests of a chain.
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

/// Where a gram belongs in a table. Other bits of the hash than the bitmap's.
#[inline(always)]
fn home(gram: u32, slots: usize) -> usize {
    let hash = u64::from(gram).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    hash as usize & (slots - 1)
}

/// Fibonacci hashing: the upper bits are well mixed.
#[inline(always)]
fn hash(gram: u32) -> u32 {
    gram.wrapping_mul(0x9e37_79b1)
}
