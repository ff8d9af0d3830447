//! Numbers: what four or eight bytes are likeliest to be.
//!
//! A number that means something is usually short in decimal: 87.5, 0.1, 1234. Read the wrong way (two
//! floats as a double, an integer as a float) it has all the digits there are. So the reading with the
//! fewest digits wins, among those of plausible size.

use super::{Kind, Value};

/// A reading of a few bytes.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Reading {
    pub(super) len: usize,
    pub(super) kind: Kind,
    pub(super) value: Value,
    pub(super) confidence: u8,
    pub(super) evidence: &'static str,
}

/// Sizes that numbers of programs have: 2^-30 to 2^40.
const SIZES: std::ops::RangeInclusive<i32> = -30..=40;

fn is_usual(exponent: i32) -> bool {
    SIZES.contains(&exponent)
}

/// How many digits it takes to write a plausible float; `None` for others.
fn float_digits(bits: u32) -> Option<usize> {
    let exponent = i32::try_from((bits >> 23) & 0xff).unwrap_or(0) - 127;
    is_usual(exponent).then(|| digits(&format!("{:e}", f32::from_bits(bits))))
}

/// The same for a double.
fn double_digits(bits: u64) -> Option<usize> {
    let exponent = i32::try_from((bits >> 52) & 0x7ff).unwrap_or(0) - 1023;
    is_usual(exponent).then(|| digits(&format!("{:e}", f64::from_bits(bits))))
}

fn digits(scientific: &str) -> usize {
    let mantissa = scientific.split('e').next().unwrap_or(scientific);
    mantissa.chars().filter(char::is_ascii_digit).count()
}

/// Four bytes on their own.
pub(super) fn four(bits: u32) -> Reading {
    let reading = |kind, value, confidence, evidence| Reading {
        len: 4,
        kind,
        value,
        confidence,
        evidence,
    };
    let signed = bits.cast_signed();
    if bits == 0 {
        return reading(Kind::Zero, Value::Zeros, 0, "zero");
    }
    // Floats of this size are tiny: 2^-30 is 0x30800000.
    if signed.unsigned_abs() < 1 << 24 {
        let small = signed.unsigned_abs() < 1 << 16;
        let sure = if small { 80 } else { 60 };
        return reading(
            Kind::Integer,
            Value::Integer(signed.into()),
            sure,
            "a small number",
        );
    }
    match float_digits(bits) {
        Some(1..=5) => {
            let value = Value::Float(f32::from_bits(bits));
            return reading(Kind::Float, value, 85, "few digits as a float");
        }
        Some(_) => {
            let value = Value::Float(f32::from_bits(bits));
            return reading(Kind::Float, value, 60, "a plausible size as a float");
        }
        None => {}
    }
    if bits.count_ones() <= 4 {
        return reading(Kind::Flags, Value::Bits(bits.into()), 50, "a few high bits");
    }
    if signed.unsigned_abs() < 1 << 28 {
        return reading(Kind::Integer, Value::Integer(signed.into()), 40, "a number");
    }
    let value = Value::Bits(bits.into());
    reading(Kind::Unknown, value, 10, "no plausible number")
}

/// Eight bytes: one number or two.
pub(super) fn eight(bits: u64) -> Vec<Reading> {
    let reading = |kind, value, confidence, evidence| {
        vec![Reading {
            len: 8,
            kind,
            value,
            confidence,
            evidence,
        }]
    };
    let (low, high) = (bits as u32, (bits >> 32) as u32);
    if bits == 0 {
        return reading(Kind::Zero, Value::Zeros, 0, "zero");
    }
    let halves = [four(low), four(high)];
    if high == 0 {
        if halves[0].kind == Kind::Float {
            return halves.into();
        }
        let small = low < 1 << 24;
        if small {
            let why = "a small number; its upper half may be another field that is zero";
            return reading(Kind::Integer, Value::Integer(low.into()), 55, why);
        }
        return halves.into();
    }
    if high == u32::MAX && low >= 0xff00_0000 {
        let value = Value::Integer(bits.cast_signed());
        return reading(Kind::Integer, value, 75, "a small negative number");
    }
    let plausible = |half: &Reading| match half.kind {
        Kind::Integer | Kind::Flags | Kind::Zero => Some(1),
        Kind::Float => None,
        _ => Some(usize::MAX),
    };
    let length = |half: &Reading, bits| plausible(half).or_else(|| float_digits(bits));
    let two = [length(&halves[0], low), length(&halves[1], high)];
    // Two long floats of quite different size are more often one double.
    let exponent = |half: u32| (half >> 23) & 0xff;
    let far = halves.iter().all(|half| half.kind == Kind::Float)
        && exponent(low).abs_diff(exponent(high)) > 8;
    let two = match two {
        // Two numbers are as plausible as the longer one of them.
        [Some(one), Some(other)] if far && one.max(other) >= 6 => 9,
        [Some(one), Some(other)] => one.max(other),
        _ => usize::MAX,
    };
    if let Some(one) = double_digits(bits) {
        // A double has up to 17 digits where a float has up to 9: compare shares.
        let wins = two == usize::MAX || one.saturating_mul(9) <= two.saturating_mul(17);
        // A small number and a float read as a double have many digits.
        let number = halves[0].kind == Kind::Integer && one > 8;
        if wins && !number {
            let value = Value::Double(f64::from_bits(bits));
            return if one <= 8 {
                reading(Kind::Double, value, 85, "few digits as a double")
            } else {
                reading(Kind::Double, value, 65, "a plausible size as a double")
            };
        }
    }
    // Half of a hash or of a random number may be a plausible float, with many digits, or a large number.
    let random = |half: &Reading, bits: u32| match half.kind {
        Kind::Unknown => true,
        Kind::Integer => bits.cast_signed().unsigned_abs() >= 1 << 24,
        Kind::Float => float_digits(bits).is_some_and(|digits| digits >= 6),
        _ => false,
    };
    let unknown = halves.iter().any(|half| half.kind == Kind::Unknown);
    if unknown && random(&halves[0], low) && random(&halves[1], high) {
        let value = Value::Bits(bits);
        return reading(Kind::Unknown, value, 10, "no plausible number");
    }
    halves.into()
}

/// One or two bytes at the border of something else.
pub(super) fn small(bytes: &[u8]) -> Reading {
    let mut word = [0; 8];
    let len = bytes.len().min(8);
    word[..len].copy_from_slice(&bytes[..len]);
    let value = u64::from_le_bytes(word);
    let (kind, value, confidence) = match value {
        0 => (Kind::Zero, Value::Zeros, 0),
        _ => (Kind::Integer, Value::Integer(value.cast_signed()), 40),
    };
    Reading {
        len,
        kind,
        value,
        confidence,
        evidence: "what is left before another field",
    }
}
