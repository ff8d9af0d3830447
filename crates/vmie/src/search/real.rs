//! Floats as somebody types them: which ones are meant, and whether there are such.
//!
//! A decimal number is rarely one of those that a float can hold. `0.1` means the float that is shown as `0.1`,
//! and nobody wants to hear that it is a little more. But `16777217` is no single-precision number, and the
//! nearest, `16777216`, is not what was asked for: that is taken, and said. So a number *is* a float when the float
//! is exactly it, or, unless it is written as a whole number, when the float is written so with as few digits as
//! tell it from its neighbours, in its own precision or (for single precision, which other programs widen) in
//! double precision. Bounds of ranges that are no floats are moved to the next float within the range.
//!
//! What is too large is no number of the type and an error; so is what is so small that only zero is near.
//! Comparing what was typed with a float is done in decimal digits, of which every float has finitely many.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr as _;

use super::number::{EMPTY, Test, ValueType, sides};

/// Something that was typed cannot be, and something near it was taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inexact {
    /// The type.
    pub ty: ValueType,
    /// The number that was typed.
    pub typed: String,
    /// What became of it.
    pub taken: String,
}

impl fmt::Display for Inexact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no {} is {}; {}", self.ty, self.typed, self.taken)
    }
}

/// Reads a float, a range of them, or one with a tolerance.
pub(super) fn test(ty: ValueType, text: &str, notes: &mut Vec<Inexact>) -> Result<Test, String> {
    let mut note = |typed: &str, taken: String| {
        notes.push(Inexact {
            ty,
            typed: typed.to_owned(),
            taken,
        });
    };
    if let Some((value, tolerance)) = text.split_once('~') {
        let value = value.trim();
        let center = Typed::read(ty, value)?;
        if center.overflows {
            return Err(too_large(ty));
        }
        if center.nearest.is_nan() {
            return Err(EMPTY.to_owned());
        }
        if center.beside != Ordering::Equal {
            note(
                value,
                format!("{} is taken, the nearest", center.show(ty, center.nearest)),
            );
        }
        let tolerance = tolerance.trim();
        let off = f64::from_str(tolerance)
            .ok()
            .filter(|off| *off >= 0.0 && off.is_finite());
        let off = off.ok_or_else(|| format!("`{tolerance}` is not how far off a number may be"))?;
        if off == 0.0 && Decimal::read(tolerance).is_some_and(|decimal| !decimal.digits.is_empty())
        {
            note(tolerance, "nothing off is taken".to_owned());
        }
        let (low, high) = (center.nearest - off, center.nearest + off);
        // Infinity is not near anything.
        let most = if center.nearest.is_finite() {
            f64::MAX
        } else {
            f64::INFINITY
        };
        return between(low.max(-most), high.min(most));
    }
    let Some((low, high, inclusive)) = sides(text) else {
        let typed = Typed::read(ty, text)?;
        if typed.nearest.is_nan() {
            return Ok(Test::Nan);
        }
        if typed.overflows {
            return Err(too_large(ty));
        }
        if typed.beside != Ordering::Equal {
            if typed.nearest == 0.0 {
                let least = show(ty, least(ty));
                return Err(format!(
                    "it is too small; the least {ty} above 0 is {least}"
                ));
            }
            note(
                text,
                format!(
                    "{} is looked for, the nearest",
                    typed.show(ty, typed.nearest)
                ),
            );
        }
        return between(typed.nearest, typed.nearest);
    };
    let bottom = match low {
        "" => f64::NEG_INFINITY,
        low => {
            let typed = Typed::read(ty, low)?;
            if typed.overflows && typed.nearest > 0.0 {
                return Err(too_large(ty));
            }
            let bound = match typed.beside {
                _ if typed.overflows => -greatest(ty),
                Ordering::Less => next(ty, typed.nearest, true),
                _ => typed.nearest,
            };
            if typed.beside != Ordering::Equal {
                note(
                    low,
                    format!("the range begins at {}", typed.show(ty, bound)),
                );
            }
            bound
        }
    };
    let top = match high {
        "" => f64::INFINITY,
        high => {
            let typed = Typed::read(ty, high)?;
            if typed.overflows && typed.nearest < 0.0 {
                return Err(too_large(ty));
            }
            let bound = match typed.beside {
                _ if typed.overflows => greatest(ty),
                Ordering::Greater => next(ty, typed.nearest, false),
                Ordering::Equal if !inclusive => next(ty, typed.nearest, false),
                _ => typed.nearest,
            };
            if typed.beside != Ordering::Equal {
                note(
                    high,
                    format!("the range ends with {}", typed.show(ty, bound)),
                );
            }
            bound
        }
    };
    between(bottom, top)
}

fn between(low: f64, high: f64) -> Result<Test, String> {
    // Not so for what is not a number.
    if low <= high {
        Ok(Test::Real { low, high })
    } else {
        Err(EMPTY.to_owned())
    }
}

fn too_large(ty: ValueType) -> String {
    format!(
        "it does not fit; {ty} goes to {}, and infinity is `inf`",
        show(ty, greatest(ty))
    )
}

/// A number as it was typed, and the float next to it.
struct Typed {
    nearest: f64,
    /// Where the nearest float is beside it; equal where it is what was meant.
    beside: Ordering,
    /// Whether it is finite and farther from 0 than any float.
    overflows: bool,
    /// Whether it was written in digits alone.
    whole: bool,
}

impl Typed {
    fn read(ty: ValueType, text: &str) -> Result<Self, String> {
        let double = f64::from_str(text).map_err(|_| {
            let hex = text.trim_start_matches(['-', '+']).starts_with("0x");
            let hint = if hex { ": floats are decimal" } else { "" };
            format!("`{text}` is not a number{hint}")
        })?;
        let nearest = match ty {
            ValueType::F32 => f32::from_str(text).map_or(double, f64::from),
            _ => double,
        };
        let mut typed = Self {
            nearest,
            beside: Ordering::Equal,
            overflows: false,
            whole: false,
        };
        // Words have no digits.
        let Some(decimal) = Decimal::read(text) else {
            return Ok(typed);
        };
        if nearest.is_infinite() {
            typed.overflows = true;
            typed.beside = if nearest > 0.0 {
                Ordering::Greater
            } else {
                Ordering::Less
            };
            return Ok(typed);
        }
        typed.whole = text
            .trim_start_matches(['-', '+'])
            .bytes()
            .all(|b| b.is_ascii_digit());
        let shortest = match ty {
            ValueType::F32 => format!("{:e}", nearest as f32),
            _ => format!("{nearest:e}"),
        };
        let shown = Decimal::read(&shortest).is_some_and(|shown| shown == decimal);
        let widened = ty == ValueType::F32 && nearest == double && nearest != 0.0;
        if typed.whole || !(shown || widened) {
            // No float has more digits behind the point.
            let exact = format!("{nearest:.1074}");
            let exact = Decimal::read(&exact).unwrap_or_default();
            typed.beside = exact.cmp(&decimal);
        }
        Ok(typed)
    }
}

impl Typed {
    /// A float beside it. A whole number is shown in full: the nearest to 92166770 would be shown as that.
    fn show(&self, ty: ValueType, value: f64) -> String {
        match self.whole && !self.overflows {
            true => format!("{value:.0}"),
            false => show(ty, value),
        }
    }
}

/// A decimal number: `0.DIGITS` times ten to the power of `exponent`, without zeros at either end. Zero has no
/// digits and no sign.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Decimal {
    negative: bool,
    exponent: i64,
    digits: Vec<u8>,
}

impl Decimal {
    /// Reads what `f64::from_str` has taken; nothing for words.
    fn read(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (number, exponent) = match text.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, power(exponent)),
            None => (text, 0),
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let all = [whole, part].concat().into_bytes();
        if all.is_empty() || !all.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let zeros = all.iter().take_while(|&&digit| digit == b'0').count();
        let mut digits = all[zeros..].to_vec();
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        if digits.is_empty() {
            return Some(Self::default());
        }
        let before = whole.len() as i64 - zeros as i64;
        Some(Self {
            negative,
            exponent: exponent.saturating_add(before),
            digits,
        })
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |one: &Self| match (one.digits.is_empty(), one.negative) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => -1,
        };
        let size = |one: &Self| (one.exponent, one.digits.clone());
        sign(self).cmp(&sign(other)).then_with(|| match sign(self) {
            0 => Ordering::Equal,
            1 => size(self).cmp(&size(other)),
            _ => size(other).cmp(&size(self)),
        })
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What stands behind the `e`; more than fits becomes the most that fits.
fn power(text: &str) -> i64 {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = digits.bytes().fold(0i64, |value, digit| {
        value
            .saturating_mul(10)
            .saturating_add(i64::from(digit.saturating_sub(b'0')))
    });
    // Half of what fits, so that adding the digits' own does not meet the end.
    let value = value.min(i64::MAX / 2);
    if negative { -value } else { value }
}

/// The next float of the type, up or down.
fn next(ty: ValueType, value: f64, up: bool) -> f64 {
    match (ty, up) {
        (ValueType::F32, true) => f64::from((value as f32).next_up()),
        (ValueType::F32, false) => f64::from((value as f32).next_down()),
        (_, true) => value.next_up(),
        (_, false) => value.next_down(),
    }
}

fn greatest(ty: ValueType) -> f64 {
    match ty {
        ValueType::F32 => f64::from(f32::MAX),
        _ => f64::MAX,
    }
}

/// The least float above 0.
fn least(ty: ValueType) -> f64 {
    next(ty, 0.0, true)
}

/// A float in as few digits as tell it from its neighbours.
fn show(ty: ValueType, value: f64) -> String {
    let far = value != 0.0 && !(1e-5..1e17).contains(&value.abs()) && value.is_finite();
    match (ty, far) {
        (ValueType::F32, true) => format!("{:e}", value as f32),
        (ValueType::F32, false) => (value as f32).to_string(),
        (_, true) => format!("{value:e}"),
        (_, false) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::search::ValueQuery;

    /// What is looked for, and what is said.
    fn read(ty: ValueType, text: &str) -> Result<((f64, f64), Vec<String>), String> {
        let mut notes = Vec::new();
        let test = test(ty, text, &mut notes)?;
        let notes = notes.iter().map(ToString::to_string).collect();
        match test {
            Test::Real { low, high } => Ok(((low, high), notes)),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_number_that_is_a_float_is_taken_in_silence() {
        for (text, value) in [
            ("1.3", 1.3f32),
            ("0.1", 0.1),
            ("-0.1e1", -1.0),
            ("16777216", 16_777_216.0),
            ("1e10", 1e10),
            ("1E+10", 1e10),
            ("3.4028235e38", f32::MAX),
            ("1e-45", f32::from_bits(1)),
            ("0.100000001490116119384765625", 0.1),
            // As a program in double precision shows it.
            ("0.10000000149011612", 0.1),
            ("1.100000023841858", 1.1),
            ("inf", f32::INFINITY),
            ("-infinity", f32::NEG_INFINITY),
            ("-0", 0.0),
            ("0e99999999999999999999", 0.0),
        ] {
            let value = f64::from(value);
            assert_eq!(
                read(ValueType::F32, text),
                Ok(((value, value), vec![])),
                "{text}"
            );
        }
        for (text, value) in [
            ("9007199254740992", 9_007_199_254_740_992.0),
            ("0.1", 0.1),
            ("1.7976931348623157e308", f64::MAX),
            ("5e-324", f64::from_bits(1)),
        ] {
            assert_eq!(
                read(ValueType::F64, text),
                Ok(((value, value), vec![])),
                "{text}"
            );
        }
    }

    #[test]
    fn the_nearest_is_taken_and_said() {
        for (ty, text, low, high, said) in [
            (
                ValueType::F32,
                "16777217",
                16_777_216.0,
                16_777_216.0,
                "no f32 is 16777217; 16777216 is looked for, the nearest",
            ),
            (
                ValueType::F64,
                "9007199254740993",
                9_007_199_254_740_992.0,
                9_007_199_254_740_992.0,
                "no f64 is 9007199254740993; 9007199254740992 is looked for, the nearest",
            ),
            (
                ValueType::F32,
                "3.14159265358979",
                f64::from(std::f32::consts::PI),
                f64::from(std::f32::consts::PI),
                "no f32 is 3.14159265358979; 3.1415927 is looked for, the nearest",
            ),
            (
                ValueType::F32,
                "16777217..",
                16_777_218.0,
                f64::INFINITY,
                "no f32 is 16777217; the range begins at 16777218",
            ),
            (
                ValueType::F32,
                "..16777217",
                f64::NEG_INFINITY,
                16_777_216.0,
                "no f32 is 16777217; the range ends with 16777216",
            ),
            (
                ValueType::F32,
                "..=16777219",
                f64::NEG_INFINITY,
                16_777_218.0,
                "no f32 is 16777219; the range ends with 16777218",
            ),
            (
                ValueType::F32,
                "-16777217..0",
                -16_777_216.0,
                f64::from(0f32.next_down()),
                "no f32 is -16777217; the range begins at -16777216",
            ),
            (
                ValueType::F32,
                "0..1e40",
                0.0,
                f64::from(f32::MAX),
                "no f32 is 1e40; the range ends with 3.4028235e38",
            ),
            (
                ValueType::F32,
                "-1e40..=0",
                -f64::from(f32::MAX),
                0.0,
                "no f32 is -1e40; the range begins at -3.4028235e38",
            ),
            (
                ValueType::F64,
                "1e-400..=1",
                f64::from_bits(1),
                1.0,
                "no f64 is 1e-400; the range begins at 5e-324",
            ),
            (
                ValueType::F32,
                "16777217~1",
                16_777_215.0,
                16_777_217.0,
                "no f32 is 16777217; 16777216 is taken, the nearest",
            ),
            (
                ValueType::F64,
                "1~1e-400",
                1.0,
                1.0,
                "no f64 is 1e-400; nothing off is taken",
            ),
        ] {
            assert_eq!(
                read(ty, text),
                Ok(((low, high), vec![said.to_owned()])),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_beyond_all_floats_is_refused() {
        for (ty, text, said) in [
            (
                ValueType::F32,
                "1e40",
                "it does not fit; f32 goes to 3.4028235e38, and infinity is `inf`",
            ),
            (
                ValueType::F64,
                "-1e309",
                "it does not fit; f64 goes to 1.7976931348623157e308, and infinity is `inf`",
            ),
            (
                ValueType::F32,
                "1e40..",
                "it does not fit; f32 goes to 3.4028235e38, and infinity is `inf`",
            ),
            (
                ValueType::F32,
                "..-1e40",
                "it does not fit; f32 goes to 3.4028235e38, and infinity is `inf`",
            ),
            (
                ValueType::F32,
                "1e40~1",
                "it does not fit; f32 goes to 3.4028235e38, and infinity is `inf`",
            ),
            (
                ValueType::F32,
                "1e-50",
                "it is too small; the least f32 above 0 is 1e-45",
            ),
            (
                ValueType::F64,
                "-1e-400",
                "it is too small; the least f64 above 0 is 5e-324",
            ),
            (ValueType::F32, "16777217..16777217", EMPTY),
            (ValueType::F64, "nan~1", EMPTY),
            (ValueType::F64, "nan..1", EMPTY),
            (
                ValueType::F64,
                "1~inf",
                "`inf` is not how far off a number may be",
            ),
            (
                ValueType::F64,
                "1~1e400",
                "`1e400` is not how far off a number may be",
            ),
            (
                ValueType::F32,
                "0x10",
                "`0x10` is not a number: floats are decimal",
            ),
            (ValueType::F32, "1,5", "`1,5` is not a number"),
        ] {
            assert_eq!(read(ty, text), Err(said.to_owned()), "{ty} {text}");
        }
        // Infinity is not near what is finite, and stays what it is.
        assert_eq!(
            read(ValueType::F64, "1e308~1e308").map(|(test, _)| test.1),
            Ok(f64::MAX)
        );
        assert_eq!(
            read(ValueType::F64, "inf~1").map(|(test, _)| test.0),
            Ok(f64::INFINITY)
        );
    }

    proptest! {
        /// A range accepts what lies between its bounds, however the bounds are typed.
        #[test]
        fn ranges_are_those_of_exact_arithmetic(
            low in 0u64..1 << 27, len in 0u64..40, value in -20i64..60, inclusive: bool,
        ) {
            // Whole numbers, some of which single precision does not have.
            let text = format!("{low}..{}{}", if inclusive { "=" } else { "" }, low + len);
            let value = low.saturating_add_signed(value);
            let float = value as f32;
            let is = float as u64;
            let within = low <= is && (is < low + len || inclusive && is == low + len);
            match ValueQuery::parse(ValueType::F32, &text) {
                Ok(query) => prop_assert_eq!(query.accepts(u64::from(float.to_bits())), within, "{} {}", text, is),
                Err(_) => prop_assert!(!within, "{} {}", text, is),
            }
        }

        #[test]
        fn what_a_float_is_shown_as_is_that_float(bits: u32, wide: u64) {
            let (single, double) = (f32::from_bits(bits), f64::from_bits(wide));
            if single.is_finite() {
                let same = f64::from(single);
                for text in [format!("{single:e}"), format!("{same:e}"), format!("{single:.160}")] {
                    prop_assert_eq!(read(ValueType::F32, &text), Ok(((same, same), vec![])), "{}", text);
                }
            }
            if double.is_finite() {
                for text in [format!("{double:e}"), format!("{double:.1074}")] {
                    prop_assert_eq!(read(ValueType::F64, &text), Ok(((double, double), vec![])), "{}", text);
                }
            }
        }
    }
}
