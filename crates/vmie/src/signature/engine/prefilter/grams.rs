//! From a position to the signatures that match there.
//!
//! A bitmap tells most positions that are of no interest. A table by another hash of the gram has the
//! windows; where there are several, since some grams stand in hundreds of signatures, a second hash tells
//! them apart, of a few bytes that most of them know. Then sixteen bytes are compared under a mask, the
//! gram among them, and last the whole signature, unless these bytes are all there is to it. Grams of
//! which fewer than four bytes count have tables of their own.

use super::blocks::{POSITIONS, Positions};
use super::look::{EMPTY, Look, MOST_BITS, Slot, four, gram, hash};
use super::plan::{WIDE, Window};
use super::spending::Spending;
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
    /// By hash; a power of two, at least twice the windows.
    slots: Vec<Slot>,
    looks: Vec<Look>,
    /// The first two bytes of each gram.
    pairs: Vec<u16>,
    reach: usize,
    has_zeros: bool,
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
            tags: u16::MAX,
        };
        let bits = group.len().next_power_of_two().ilog2().min(MOST_BITS);
        if let [look] = group {
            // Bytes beside the gram, which stands there anyway.
            let beside = (1 - WIDE as i8..=-4).chain(4..WIDE as i8);
            let most = beside
                .map(|distance| (look.known(distance).0, distance))
                .max_by_key(|(mask, _)| mask.count_ones());
            (best.mask, best.distance) = most.unwrap_or_default();
        } else {
            let mut least = group.len() as f32;
            for distance in 1 - WIDE as i8..WIDE as i8 {
                for mask in [0xff, 0xffff, 0xffff_ffff] {
                    let slot = Slot {
                        mask,
                        distance,
                        bits: bits as u8,
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
        if others.is_empty() {
            best.tags = 0;
        }
        for look in told {
            let four = look.known(best.distance).1;
            best.tags |= best.tag(four);
            self.append(heads.start + best.index(four), look);
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

    /// For each position its slot, if one of the slot's windows may stand there by the bytes beside the
    /// gram: without a branch, so that the loads from a large table overlap.
    #[inline(never)]
    fn by_tags(
        &self,
        group: Group<'_>,
        positions: &Positions,
        search: &Search<'_>,
        out: &mut Candidates,
    ) {
        let mut count = 0;
        for &at in positions.all() {
            let gram = gram(group.region, usize::from(at)) & self.mask;
            let home = self.home(gram);
            let slot = &self.slots[home];
            let four = four(search.bytes, group.base + usize::from(at), slot.distance);
            out.list[count] = Candidate {
                at,
                place: slot.first + slot.index(four) as u32,
            };
            count += usize::from(slot.tags & slot.tag(four) != 0);
        }
        out.count = count;
    }

    /// Of the candidates those whose first look is worth a test, or not the only one.
    #[inline(never)]
    fn at_first_look(&self, group: Group<'_>, search: &Search<'_>, out: &mut Candidates) {
        let mut count = 0;
        for i in 0..out.count.min(POSITIONS) {
            let candidate = out.list[i];
            let look = &self.looks[candidate.place as usize];
            let at = group.base + usize::from(candidate.at);
            out.list[count] = candidate;
            count += usize::from((look.next != EMPTY) | look.could_match(search.bytes, at));
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
        self.by_tags(group, positions, search, candidates);
        self.at_first_look(group, search, candidates);
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
    pub(super) fn users(&self, first: usize) -> impl Iterator<Item = usize> {
        let looks = self.chain(first).filter(|look| look.sig != EMPTY);
        looks.map(|look| look.sig as usize)
    }
}

/// Where a gram belongs in a table. Other bits of the hash than the bitmap's.
#[inline(always)]
fn home(gram: u32, slots: usize) -> usize {
    let hash = u64::from(gram).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    hash as usize & (slots - 1)
}
