//! Which bytes can stand before a field, and candidates for fields that are added to the address behind them.
//!
//! Candidates of one window are collected as keys, words that sort by target: how far the target is from an
//! origin in the upper bits, how far the field is from another in the lower [`FIELD_BITS`].

use crate::arch::code::FIELD_BITS;

/// E8, E9.
pub(super) const CALL: u8 = 1;
/// 8x, behind 0F.
pub(super) const JCC: u8 = 1 << 1;
/// F8, behind C7.
pub(super) const XBEGIN: u8 = 1 << 2;
/// The mod r/m byte of an operand relative to the instruction pointer.
pub(super) const MODRM: u8 = 1 << 3;
/// B8 to BF, behind a prefix that makes it wide.
pub(super) const IMM64: u8 = 1 << 4;
/// A0 to A3.
pub(super) const MOFFS: u8 = 1 << 5;

/// Before a field that is added to the address behind it, in code of 64 and of 32 bits.
pub(in crate::arch::x86::code) const RELATIVE: u8 = CALL | JCC | XBEGIN | MODRM;
pub(in crate::arch::x86::code) const RELATIVE_32: u8 = CALL | JCC | XBEGIN;
/// Before an address of eight bytes.
pub(in crate::arch::x86::code) const WIDE: u8 = IMM64 | MOFFS;

/// What a byte can be the last one of.
pub(super) const fn last(byte: u8) -> u8 {
    let mut classes = 0;
    if byte & 0xfe == 0xe8 {
        classes |= CALL;
    }
    if byte & 0xf0 == 0x80 {
        classes |= JCC;
    }
    if byte == 0xf8 {
        classes |= XBEGIN;
    }
    if byte & 0xc7 == 0x05 {
        classes |= MODRM;
    }
    if byte & 0xf8 == 0xb8 {
        classes |= IMM64;
    }
    if byte & 0xfc == 0xa0 {
        classes |= MOFFS;
    }
    classes
}

/// What a byte can be the last but one of.
pub(super) const fn last_but_one(byte: u8) -> u8 {
    let mut classes = CALL | MODRM | MOFFS;
    if byte == 0x0f {
        classes |= JCC;
    }
    if byte == 0xc7 {
        classes |= XBEGIN;
    }
    if byte & 0xf8 == 0x48 {
        classes |= IMM64;
    }
    classes
}

/// What the two bytes before a field are.
#[inline]
pub(in crate::arch::x86::code) fn before([before, one]: [u8; 2]) -> u8 {
    last(one) & last_but_one(before)
}

/// Which addresses something is mapped at, by their lower 32 bits and roughly: a bit for 4 MiB.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::arch::x86::code) struct Reach(pub(super) [u32; 32]);

impl Reach {
    pub(super) const SHIFT: u32 = 22;

    /// Adds addresses from `first` to `last`, which are taken to wrap at 4 GiB.
    pub(in crate::arch::x86::code) fn add(&mut self, first: u64, last: u64) {
        const ALL: u64 = 1 << (32 - Reach::SHIFT);
        let (first, last) = (first >> Self::SHIFT, last >> Self::SHIFT);
        for bit in first..=last.min(first.saturating_add(ALL - 1)) {
            self.0[(bit >> 5 & 31) as usize] |= 1 << (bit & 31);
        }
    }

    /// What is in one of both.
    pub(in crate::arch::x86::code) fn or(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    #[inline]
    pub(in crate::arch::x86::code) fn has(&self, low: u32) -> bool {
        self.0[(low >> 27) as usize] >> (low >> Self::SHIFT & 31) & 1 != 0
    }
}

/// What relative fields are collected, and as which keys.
#[derive(Clone, Copy, Debug)]
pub(in crate::arch::x86::code) struct Relative {
    /// Behind which bytes.
    pub(in crate::arch::x86::code) classes: u8,
    /// Where they may lead.
    pub(in crate::arch::x86::code) reach: Reach,
    /// The address four bytes behind position 0.
    pub(in crate::arch::x86::code) next: u64,
    /// What counts of a target: 32 bits or all.
    pub(in crate::arch::x86::code) mask: u64,
    /// Taken from a target to make the key. The rest fits in 33 bits.
    pub(in crate::arch::x86::code) origin: u64,
    /// The key's lower bits at position 0.
    pub(in crate::arch::x86::code) field: u64,
    /// Whether addresses of eight bytes are of interest only if their uppermost byte is 0 or FF.
    pub(in crate::arch::x86::code) canonical: bool,
}

impl Relative {
    /// The key of a field with this value at a position, if it leads to where something is.
    #[inline]
    pub(super) fn key(&self, value: u32, position: usize) -> Option<u64> {
        let next = self.next.wrapping_add(position as u64);
        let target = next.wrapping_add_signed(i64::from(value.cast_signed())) & self.mask;
        let offset = target.wrapping_sub(self.origin);
        let field = self.field + position as u64;
        self.reach
            .has(target as u32)
            .then_some(offset << FIELD_BITS | field)
    }

    /// Passes on a field at one position, if it is one.
    #[inline]
    pub(in crate::arch::x86::code) fn one(
        &self,
        before: [u8; 2],
        value: u32,
        position: usize,
        keys: &mut Vec<u64>,
    ) {
        if self::before(before) & self.classes != 0 {
            keys.extend(self.key(value, position));
        }
    }
}

/// A buffer that is filled.
pub(super) struct Room<'r> {
    pub(super) len: usize,
    pub(super) room: &'r mut Vec<u64>,
}

impl Room<'_> {
    /// Room for `count` more.
    #[inline]
    pub(super) fn next(&mut self, count: usize) -> &mut [u64] {
        if self.room.len() < self.len + count {
            self.room.resize(2 * self.len + count + 1024, 0);
        }
        &mut self.room[self.len..self.len + count]
    }

    #[inline]
    pub(super) fn add(&mut self, key: Option<u64>) {
        self.next(1)[0] = key.unwrap_or(0);
        self.len += usize::from(key.is_some());
    }
}
