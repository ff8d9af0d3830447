//! Numbers as they are searched for: a type, and which of its values.

use thiserror::Error;

use super::number::{EMPTY, Test, ValueType, sides};
use super::real::{self, Inexact};

/// Which values of a type are searched for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ValueQuery {
    pub(super) ty: ValueType,
    pub(super) test: Test,
}

impl ValueQuery {
    /// Reads what somebody typed: a number (`7`, `-7`, `0x1f`, `3.14`, `inf`, `nan`), a range without its
    /// end (`100..200`, `..0`) or with it (`100..=200`), or for floats a number and how far off it may
    /// be (`3.14~0.01`). A float without that is equal as it is: `3.14` in single precision to the number that is
    /// shown so. All that are not a number are `nan`, and `-0` is `0`.
    ///
    /// # Errors
    ///
    /// When it is none of these, does not fit the type, or can match no value.
    pub fn parse(ty: ValueType, text: &str) -> Result<Self, ValueError> {
        Self::parse_noting(ty, text, &mut Vec::new())
    }

    /// As [`ValueQuery::parse`]; says of numbers that the type does not have what was taken for them: `16777217`
    /// in single precision the nearest, as the bounds of a range those that are within it and within the type.
    ///
    /// # Errors
    ///
    /// As [`ValueQuery::parse`].
    pub fn parse_noting(
        ty: ValueType,
        text: &str,
        notes: &mut Vec<Inexact>,
    ) -> Result<Self, ValueError> {
        let error = |reason: &str| ValueError {
            ty,
            text: text.to_owned(),
            reason: reason.to_owned(),
        };
        let text = text.trim();
        let test = if ty.float() {
            real::test(ty, text, notes).map_err(|reason| error(&reason))?
        } else {
            integer(ty, text, notes).map_err(|reason| error(&reason))?
        };
        Ok(Self { ty, test })
    }

    /// The type.
    pub fn ty(&self) -> ValueType {
        self.ty
    }

    /// Whether these bits are searched for: the naive test.
    pub fn accepts(&self, bits: u64) -> bool {
        match self.test {
            Test::Integer { flip, low, span } => {
                let value = self.ty.integer(bits);
                let low = self.ty.integer(low ^ flip);
                value >= low && value - low <= i128::from(span)
            }
            Test::Real { low, high } => {
                let value = self.ty.real(bits);
                low <= value && value <= high
            }
            Test::Nan => self.ty.real(bits).is_nan(),
        }
    }
}

/// Something that is no value to search for.
#[derive(Clone, PartialEq, Eq, Error, Debug)]
#[error("`{text}` is no {ty} to search for: {reason}")]
pub struct ValueError {
    /// The type.
    pub ty: ValueType,
    /// What was typed.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

fn integer(ty: ValueType, text: &str, notes: &mut Vec<Inexact>) -> Result<Test, String> {
    let (least, most) = ty.bounds();
    let number = |text: &str| {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let digits = digits.replace('_', "");
        let (digits, radix) = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
            Some(digits) => (digits, 16),
            None => (&*digits, 10),
        };
        // A second sign is none of ours.
        if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
            return Err(format!(
                "`{text}` is not a whole number: decimal, or 0x and hexadecimal digits"
            ));
        }
        // What does not fit here is beyond all types.
        let value = i128::from_str_radix(digits, radix).unwrap_or(i128::MAX);
        Ok::<i128, String>(if negative { -value } else { value })
    };
    let misfit = || format!("it does not fit; {ty} is {least} to {most}");
    let (low, high) = match sides(text) {
        None => {
            let value = number(text)?;
            if value < least || value > most {
                return Err(misfit());
            }
            (value, value)
        }
        Some((low, high, inclusive)) => {
            let bottom = if low.is_empty() { least } else { number(low)? };
            let (end, top) = match high {
                "" => (most, most),
                high => {
                    let end = number(high)?;
                    (end, end - i128::from(!inclusive))
                }
            };
            if bottom > most || end < least {
                return Err(misfit());
            }
            let mut note = |typed: &str, taken| {
                notes.push(Inexact {
                    ty,
                    typed: typed.to_owned(),
                    taken,
                });
            };
            if bottom < least {
                note(low, format!("the range begins at {least}"));
            }
            if top > most {
                note(high, format!("the range ends with {most}"));
            }
            (bottom.max(least), top.min(most))
        }
    };
    if low > high {
        return Err(EMPTY.to_owned());
    }
    let flip = ty.sign();
    let mask = u64::MAX >> (64 - ty.size() * 8);
    Ok(Test::Integer {
        flip,
        low: (low as u64 & mask) ^ flip,
        span: (high - low) as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(ty: ValueType, text: &str) -> ValueQuery {
        ValueQuery::parse(ty, text).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn numbers_and_ranges_accept_what_they_say() {
        let bits = |value: i64| value as u64 & 0xffff_ffff;
        for (text, yes, no) in [
            ("7", &[7][..], &[6, 8, -7][..]),
            ("-7", &[-7], &[7, 0]),
            ("0x1f", &[31], &[30]),
            ("-0x10", &[-16], &[16]),
            ("1_000", &[1000], &[999]),
            ("-3..2", &[-3, -1, 0, 1], &[-4, 2]),
            ("-3..=2", &[-3, 2], &[-4, 3]),
            ("..0", &[-1, i64::from(i32::MIN)], &[0, 1]),
            ("5..", &[5, i64::from(i32::MAX)], &[4, -5]),
            ("..", &[0, -1, 1], &[]),
        ] {
            let query = query(ValueType::I32, text);
            assert!(yes.iter().all(|&v| query.accepts(bits(v))), "{text}");
            assert!(!no.iter().any(|&v| query.accepts(bits(v))), "{text}");
        }
        assert!(query(ValueType::U64, "0xffffffffffffffff").accepts(u64::MAX));
        assert!(query(ValueType::I64, "-9223372036854775808").accepts(1 << 63));
    }

    #[test]
    fn floats_are_equal_near_or_between() {
        let single = |value: f32| u64::from(value.to_bits());
        assert!(query(ValueType::F32, "2.75").accepts(single(2.75)));
        assert!(!query(ValueType::F32, "2.75").accepts(single(2.7500002)));
        assert!(query(ValueType::F32, "2.75~0.01").accepts(single(2.759)));
        assert!(query(ValueType::F32, "..=1.1").accepts(single(1.1)));
        assert!(!query(ValueType::F32, "..1.1").accepts(single(1.1)));
        assert!(query(ValueType::F64, "0").accepts((-0.0f64).to_bits()));
        assert!(query(ValueType::F64, "1..2").accepts(1.999_999f64.to_bits()));
        assert!(!query(ValueType::F64, "..").accepts(f64::NAN.to_bits()));
        assert!(query(ValueType::F64, "nan").accepts(f64::NAN.to_bits()));
        assert!(query(ValueType::F64, "-inf").accepts(f64::NEG_INFINITY.to_bits()));
    }

    #[test]
    fn what_is_no_value_says_why() {
        for (ty, text, reason) in [
            (ValueType::U8, "256", "it does not fit; u8 is 0 to 255"),
            (ValueType::I8, "-129", "it does not fit; i8 is -128 to 127"),
            (ValueType::U8, "300..400", "it does not fit; u8 is 0 to 255"),
            (ValueType::U8, "..-1", "it does not fit; u8 is 0 to 255"),
            (ValueType::U8, "..0", EMPTY),
            (
                ValueType::U64,
                "0x1_0000_0000_0000_0000_0000_0000_0000_0000",
                "it does not fit; u64 is 0 to 18446744073709551615",
            ),
            (ValueType::U32, "9..9", EMPTY),
            (ValueType::F64, "2..1", EMPTY),
            (ValueType::F64, "nan..1", EMPTY),
            (
                ValueType::F32,
                "1~-1",
                "`-1` is not how far off a number may be",
            ),
            (ValueType::F32, "x", "`x` is not a number"),
        ] {
            let error = ValueQuery::parse(ty, text).expect_err(text);
            assert_eq!(error.reason, reason, "{text}");
        }
        for text in ["", "x", "--5", "0x", "1.5", "+-1"] {
            assert!(ValueQuery::parse(ValueType::U32, text).is_err(), "{text}");
        }
    }

    #[test]
    fn bounds_beyond_the_type_are_moved_and_said() {
        for (ty, text, said) in [
            (
                ValueType::U8,
                "5..300",
                &["no u8 is 300; the range ends with 255"][..],
            ),
            (ValueType::U8, "5..256", &[]),
            (
                ValueType::I8,
                "-200..=128",
                &[
                    "no i8 is -200; the range begins at -128",
                    "no i8 is 128; the range ends with 127",
                ],
            ),
        ] {
            let mut notes = Vec::new();
            ValueQuery::parse_noting(ty, text, &mut notes).unwrap_or_else(|e| panic!("{e}"));
            let notes: Vec<String> = notes.iter().map(ToString::to_string).collect();
            assert_eq!(notes, said, "{text}");
        }
    }

    #[test]
    fn bits_are_shown_as_what_they_are() {
        assert_eq!(ValueType::I8.show(0xff), "-1");
        assert_eq!(ValueType::U8.show(0xff), "255");
        assert_eq!(ValueType::I64.show(u64::MAX), "-1");
        assert_eq!(ValueType::F32.show(u64::from(1.5f32.to_bits())), "1.5");
    }
}
