//! What is known of a gram's windows, in the form that testing needs.

use super::plan::{WIDE, Window};

/// The most looks that one hash tells apart, as a power of two.
pub(super) const MOST_BITS: u32 = 8;

/// How to find the windows of a hash.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// The first of its looks; without windows, [`Look::NONE`].
    pub(super) first: u32,
    /// Of the four bytes `distance` behind the gram those bits that tell its windows apart.
    pub(super) mask: u32,
    pub(super) distance: i8,
    /// Log2 of the looks that the hash of these bits chooses from.
    pub(super) bits: u8,
    /// A bit for each of 16 values that other bits of the hash have for one of the windows: the gram is
    /// frequent, and most of the time these few bytes tell that it is not part of a match.
    pub(super) tags: u16,
}

/// No signature, no look.
pub(super) const EMPTY: u32 = u32::MAX;

/// A window of a signature, as it is tested.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Look {
    pub(super) mask: u128,
    pub(super) value: u128,
    /// How far before the gram the masked bytes begin.
    pub(super) back: u8,
    /// The length of the signature if the masked bytes are all there is to it, else zero.
    pub(super) whole: u16,
    pub(super) min_offset: u16,
    pub(super) max_offset: u16,
    /// [`EMPTY`] if this stands for no window.
    pub(super) sig: u32,
    /// The next look of the same hashes, or [`EMPTY`].
    pub(super) next: u32,
}

impl Look {
    /// No window has this hash.
    pub(super) const NONE: Self = Self {
        mask: 0,
        value: 1,
        back: 0,
        whole: 0,
        min_offset: 0,
        max_offset: 0,
        sig: EMPTY,
        next: EMPTY,
    };

    pub(super) fn new(window: &Window) -> Self {
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
    pub(super) fn known(&self, distance: i8) -> (u32, u32) {
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

impl Slot {
    pub(super) const NONE: Self = Self {
        first: 0,
        mask: 0,
        distance: 0,
        bits: 0,
        tags: 0,
    };

    /// Whether a look knows the bits that tell looks apart.
    pub(super) fn tells(&self, look: &Look) -> bool {
        self.mask & !look.known(self.distance).0 == 0
    }

    /// How many looks a position is expected to call for, where each is as likely to be meant.
    pub(super) fn expected_looks(&self, group: &[Look]) -> f32 {
        let mut counts = [0u32; 1 << MOST_BITS];
        let mut told = 0;
        for look in group.iter().filter(|look| self.tells(look)) {
            counts[self.index(look.known(self.distance).1)] += 1;
            told += 1;
        }
        let squares: u32 = counts.iter().map(|count| count * count).sum();
        (group.len() as u32 - told) as f32 + squares as f32 / group.len() as f32
    }

    /// The bit of `tags` for these four bytes.
    #[inline(always)]
    pub(super) fn tag(&self, four: u32) -> u16 {
        1 << (hash(four & self.mask) >> 12 & 15)
    }

    /// Which of its looks is meant when these are the four bytes that tell them apart.
    #[inline(always)]
    pub(super) fn index(&self, four: u32) -> usize {
        (u64::from(hash(four & self.mask)) << self.bits >> 32) as usize
    }
}

impl Look {
    /// Whether the bytes around a gram at `bytes[at..]` are such that the signature may match.
    #[inline(always)]
    pub(super) fn could_match(&self, bytes: &[u8], at: usize) -> bool {
        // Where the bytes do not lie within, the whole test says what is right.
        match self.around(bytes, at) {
            Some(wide) => u128::from_le_bytes(*wide) & self.mask == self.value,
            None => self.sig != EMPTY,
        }
    }

    /// Whether [`Look::could_match`] compared.
    pub(super) fn is_inside(&self, bytes: &[u8], at: usize) -> bool {
        self.around(bytes, at).is_some()
    }

    #[inline(always)]
    pub(super) fn around<'b>(&self, bytes: &'b [u8], at: usize) -> Option<&'b [u8; WIDE]> {
        let start = at.wrapping_sub(usize::from(self.back));
        bytes.get(start..)?.first_chunk()
    }
}

/// The four bytes `distance` behind `at`, with zeros for those that are not there: what is compared with
/// them matches nowhere then.
#[inline(always)]
pub(super) fn four(bytes: &[u8], at: usize, distance: i8) -> u32 {
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

/// Fibonacci hashing: the upper bits are well mixed.
#[inline(always)]
pub(super) fn hash(gram: u32) -> u32 {
    gram.wrapping_mul(0x9e37_79b1)
}

/// The gram at a position of a group, whose bytes are in `region`.
#[inline(always)]
pub(super) fn gram(region: &[u8], at: usize) -> u32 {
    // All of them are there: bytes lie behind every batch.
    let four = region.get(at..).and_then(<[u8]>::first_chunk);
    four.map_or(0, |four| u32::from_le_bytes(*four))
}
