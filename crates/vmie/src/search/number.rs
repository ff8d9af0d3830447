//! Types of numbers, tests on their bits, and what is typed for ranges of them.

use std::fmt;

/// The type of a number in memory, little-endian.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ValueType {
    /// 8 bits without sign.
    U8,
    /// 8 bits with sign.
    I8,
    /// 16 bits without sign.
    U16,
    /// 16 bits with sign.
    I16,
    /// 32 bits without sign.
    U32,
    /// 32 bits with sign.
    I32,
    /// 64 bits without sign.
    U64,
    /// 64 bits with sign.
    I64,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
}

impl ValueType {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::U64,
        Self::I64,
        Self::F32,
        Self::F64,
    ];

    /// How many bytes it takes.
    pub const fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// Its name, as Rust calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }

    const fn signed(self) -> bool {
        matches!(self, Self::I8 | Self::I16 | Self::I32 | Self::I64)
    }

    pub(super) const fn float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// The bit that is set for negative numbers; zero where there are none.
    pub(super) const fn sign(self) -> u64 {
        if self.signed() {
            1 << (self.size() * 8 - 1)
        } else {
            0
        }
    }

    /// The least and greatest value, of integers.
    pub(super) const fn bounds(self) -> (i128, i128) {
        let bits = self.size() * 8;
        if self.signed() {
            (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
        } else {
            (0, (1 << bits) - 1)
        }
    }

    /// The number that these bits are, as text.
    pub fn show(self, bits: u64) -> String {
        match self {
            Self::F32 => f32::from_bits(bits as u32).to_string(),
            Self::F64 => f64::from_bits(bits).to_string(),
            _ => self.integer(bits).to_string(),
        }
    }

    /// The integer that these bits are.
    pub(super) fn integer(self, bits: u64) -> i128 {
        let value = i128::from(bits);
        if bits & self.sign() != 0 {
            value - (1 << (self.size() * 8))
        } else {
            value
        }
    }

    /// The float that these bits are, without loss.
    pub(super) fn real(self, bits: u64) -> f64 {
        match self {
            Self::F32 => f64::from(f32::from_bits(bits as u32)),
            _ => f64::from_bits(bits),
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A test on the bits of a value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Test {
    /// `(bits ^ flip) - low <= span`, modulo the width of the type. Flipping the sign puts negative
    /// numbers below the others.
    Integer { flip: u64, low: u64, span: u64 },
    /// `low <= value <= high`; single precision is compared in double, without loss.
    Real { low: f64, high: f64 },
    /// Not a number.
    Nan,
}

/// The two sides of a range, and whether its end belongs to it.
pub(super) fn sides(text: &str) -> Option<(&str, &str, bool)> {
    let (low, high) = text.split_once("..")?;
    Some(match high.strip_prefix('=') {
        Some(high) => (low.trim(), high.trim(), true),
        None => (low.trim(), high.trim(), false),
    })
}

pub(super) const EMPTY: &str = "no value is in this range";
