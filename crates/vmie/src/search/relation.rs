//! How a value was and how it is: what repeated narrowing asks.
//!
//! A search for a value that somebody knows finds it in thousands of places. Looked at again later, only
//! few of them have changed as the value that is meant has. A [`Relation`] is that question about one
//! place: old bytes, new bytes, yes or no.
//!
//! # Floats
//!
//! Whether a value changed is a matter of its bytes, for all types: something that is not a number and
//! has the same bytes is unchanged, and `0` that became `-0` has changed. Everything else compares by
//! value: `-0` equals `0`, and what is not a number is neither more nor less than anything, nor more by
//! an amount.
//!
//! Integers do not wrap: from 250 to 4 in eight bits is 246 less, not 10 more.

use std::str::FromStr as _;

use super::number::{Test, ValueType};
use super::real::Inexact;
use super::value::{ValueError, ValueQuery};

/// What is asked of a value that was seen before.
#[derive(Clone, PartialEq, Debug)]
pub enum Relation {
    /// Its bytes are other ones.
    Changed,
    /// Its bytes are the same.
    Unchanged,
    /// It is more than it was.
    Increased(ValueType),
    /// It is less than it was.
    Decreased(ValueType),
    /// It is one of these now, whatever it was.
    Equal(ValueQuery),
    /// It is none of these now, whatever it was.
    NotEqual(ValueQuery),
    /// It is more by this amount.
    IncreasedBy(Amount),
    /// It is less by this amount.
    DecreasedBy(Amount),
    /// It begins with these bytes now.
    StartsWith(Vec<u8>),
    /// It does not begin with these bytes now.
    StartsOtherwise(Vec<u8>),
    /// Nothing is like this: for what a type cannot express.
    Impossible,
}

impl Relation {
    /// Whether it holds between what a value was and what it is. Relations of numbers hold between bytes
    /// of exactly the size of their type only.
    #[inline]
    pub fn holds(&self, old: &[u8], new: &[u8]) -> bool {
        match self {
            Self::Changed => old != new,
            Self::Unchanged => old == new,
            Self::Increased(ty) => both(*ty, old, new).is_some_and(|(old, new)| ty.less(old, new)),
            Self::Decreased(ty) => both(*ty, old, new).is_some_and(|(old, new)| ty.less(new, old)),
            Self::Equal(query) => bits(query.ty(), new).is_some_and(|new| query.accepts(new)),
            Self::NotEqual(query) => bits(query.ty(), new).is_some_and(|new| !query.accepts(new)),
            Self::IncreasedBy(by) => {
                both(by.ty, old, new).is_some_and(|(old, new)| by.separates(old, new, 1.0))
            }
            Self::DecreasedBy(by) => {
                both(by.ty, old, new).is_some_and(|(old, new)| by.separates(old, new, -1.0))
            }
            Self::StartsWith(bytes) => new.starts_with(bytes),
            Self::StartsOtherwise(bytes) => !new.starts_with(bytes),
            Self::Impossible => false,
        }
    }
}

/// The bits of a number. By size, as a copy of any length is a call.
#[inline]
fn bits(ty: ValueType, bytes: &[u8]) -> Option<u64> {
    Some(match (ty.size(), bytes) {
        (1, &[byte]) => u64::from(byte),
        (2, bytes) => u64::from(u16::from_le_bytes(bytes.try_into().ok()?)),
        (4, bytes) => u64::from(u32::from_le_bytes(bytes.try_into().ok()?)),
        (8, bytes) => u64::from_le_bytes(bytes.try_into().ok()?),
        _ => return None,
    })
}

fn both(ty: ValueType, old: &[u8], new: &[u8]) -> Option<(u64, u64)> {
    Some((bits(ty, old)?, bits(ty, new)?))
}

impl ValueType {
    /// Whether `a < b`, both as bits.
    fn less(self, a: u64, b: u64) -> bool {
        if self.float() {
            self.real(a) < self.real(b)
        } else {
            a ^ self.sign() < b ^ self.sign()
        }
    }
}

/// By how much a value is more or less: one amount, or a range of them. Never negative.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Amount {
    ty: ValueType,
    size: Size,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Size {
    Whole { low: u64, high: u64 },
    Real { low: f64, high: f64 },
}

impl Amount {
    /// Reads an amount as [`ValueQuery::parse`] reads values: `5`, `1..10`, `..=5`, for floats `0.5~0.1`.
    ///
    /// A float is more by an amount when it is what adding the amount makes of it in its precision.
    ///
    /// # Errors
    ///
    /// When it is none, is negative, or is more than two values of the type can be apart.
    pub fn parse(ty: ValueType, text: &str) -> Result<Self, ValueError> {
        Self::parse_noting(ty, text, &mut Vec::new())
    }

    /// As [`Amount::parse`]; says what was taken for amounts that the type does not have.
    ///
    /// # Errors
    ///
    /// As [`Amount::parse`].
    pub fn parse_noting(
        ty: ValueType,
        text: &str,
        notes: &mut Vec<Inexact>,
    ) -> Result<Self, ValueError> {
        let unsigned = match ty {
            ValueType::I8 => ValueType::U8,
            ValueType::I16 => ValueType::U16,
            ValueType::I32 => ValueType::U32,
            ValueType::I64 => ValueType::U64,
            other => other,
        };
        let error = |reason: &str| ValueError {
            ty,
            text: text.to_owned(),
            reason: reason.to_owned(),
        };
        let single = f64::from_str(text.trim());
        let negative = "an amount is not negative";
        let size = match ValueQuery::parse_noting(unsigned, text, notes)?.test {
            Test::Integer { low, span, .. } => Size::Whole {
                low,
                high: low.saturating_add(span),
            },
            Test::Real { high, .. } if high < 0.0 => return Err(error(negative)),
            // `0~1` and `..1` are amounts up to 1.
            Test::Real { low, high } => Size::Real {
                low: low.max(0.0),
                high,
            },
            Test::Nan => return Err(error("an amount is a number")),
        };
        if single.is_ok_and(f64::is_infinite) {
            return Err(error("an amount is finite"));
        }
        Ok(Self { ty, size })
    }

    /// Whether `new` is `old` plus (`sign` 1) or minus (-1) the amount.
    fn separates(self, old: u64, new: u64, sign: f64) -> bool {
        let (below, above) = if sign > 0.0 { (old, new) } else { (new, old) };
        match self.size {
            Size::Whole { low, high } => {
                let apart = self.ty.integer(above) - self.ty.integer(below);
                i128::from(low) <= apart && apart <= i128::from(high)
            }
            Size::Real { low, high } => {
                let (old, new) = (self.ty.real(old), self.ty.real(new));
                let moved = |amount: f64| match self.ty {
                    ValueType::F32 => f64::from(old as f32 + (sign * amount) as f32),
                    _ => old + sign * amount,
                };
                let (near, far) = (moved(low), moved(high));
                // Whatever is added to infinity, it stays what it was.
                old.is_finite() && near.min(far) <= new && new <= near.max(far)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The reference implementation: each type as Rust has it.
    fn naive(relation: &Relation, old: [u8; 8], new: [u8; 8]) -> bool {
        macro_rules! order {
            ($ty:expr, $($name:ident $number:ty),*) => {
                match $ty {
                    $(ValueType::$name => {
                        let size = size_of::<$number>();
                        let read = |bytes: [u8; 8]| {
                            <$number>::from_le_bytes(bytes[..size].try_into().unwrap())
                        };
                        read(old).partial_cmp(&read(new))
                    })*
                }
            };
        }
        let order = |ty: ValueType| {
            order!(ty, U8 u8, I8 i8, U16 u16, I16 i16, U32 u32, I32 i32, U64 u64, I64 i64,
                F32 f32, F64 f64)
        };
        match relation {
            Relation::Increased(ty) => order(*ty) == Some(std::cmp::Ordering::Less),
            Relation::Decreased(ty) => order(*ty) == Some(std::cmp::Ordering::Greater),
            _ => unreachable!("not an order"),
        }
    }

    fn word() -> impl Strategy<Value = [u8; 8]> {
        prop_oneof![
            any::<[u8; 8]>(),
            any::<f64>().prop_map(f64::to_le_bytes),
            prop::num::f32::ANY.prop_map(|v| {
                let mut bytes = [0; 8];
                bytes[..4].copy_from_slice(&v.to_le_bytes());
                bytes
            }),
            (-3i64..4).prop_map(i64::to_le_bytes),
        ]
    }

    proptest! {
        #[test]
        fn more_and_less_are_what_rust_says(old in word(), new in word()) {
            for ty in ValueType::ALL {
                let size = ty.size();
                for relation in [Relation::Increased(ty), Relation::Decreased(ty)] {
                    prop_assert_eq!(
                        relation.holds(&old[..size], &new[..size]),
                        naive(&relation, old, new),
                        "{:?}", relation
                    );
                }
            }
        }

        #[test]
        fn amounts_are_differences(old: i32, new: i32, low in 0u32..9, more in 0u32..9, near in -9i64..9) {
            for new in [new, old.wrapping_add(near as i32)] {
                let by = Amount::parse(ValueType::I32, &format!("{low}..={}", low + more)).unwrap();
                let apart = i64::from(new) - i64::from(old);
                let range = i64::from(low)..=i64::from(low + more);
                let (old, new) = (old.to_le_bytes(), new.to_le_bytes());
                prop_assert_eq!(Relation::IncreasedBy(by).holds(&old, &new), range.contains(&apart));
                prop_assert_eq!(Relation::DecreasedBy(by).holds(&old, &new), range.contains(&-apart));
            }
        }
    }

    fn singles(relation: &Relation, old: f32, new: f32) -> bool {
        relation.holds(&old.to_le_bytes(), &new.to_le_bytes())
    }

    #[test]
    fn floats_change_by_bytes_and_compare_by_value() {
        let nan = f32::NAN;
        assert!(singles(&Relation::Unchanged, nan, nan));
        assert!(singles(&Relation::Changed, 0.0, -0.0));
        let query = |text| ValueQuery::parse(ValueType::F32, text).unwrap();
        assert!(singles(&Relation::Equal(query("0")), nan, -0.0));
        assert!(singles(&Relation::Equal(query("1~0.1")), 0.0, 1.05));
        assert!(singles(&Relation::NotEqual(query("1")), 1.0, nan));
        for ty in [
            Relation::Increased(ValueType::F32),
            Relation::Decreased(ValueType::F32),
        ] {
            for (old, new) in [(nan, 1.0), (1.0, nan), (nan, nan), (0.0, -0.0)] {
                assert!(!singles(&ty, old, new), "{ty:?} {old} {new}");
            }
        }
    }

    #[test]
    fn floats_move_as_their_precision_has_it() {
        let by = |text| Amount::parse(ValueType::F32, text).unwrap();
        // Not the same as in double precision.
        assert!(singles(&Relation::IncreasedBy(by("0.1")), 0.7, 0.7 + 0.1));
        assert!(singles(&Relation::DecreasedBy(by("0.1")), 0.7, 0.7 - 0.1));
        assert!(!singles(&Relation::IncreasedBy(by("0.1")), 0.7, 0.7 - 0.1));
        assert!(singles(&Relation::DecreasedBy(by("2~0.5")), 10.0, 8.4));
        assert!(singles(&Relation::IncreasedBy(by("..=2")), 10.0, 11.0));
        assert!(!singles(&Relation::IncreasedBy(by("..=2")), 10.0, 9.0));
        let inf = f32::INFINITY;
        assert!(!singles(&Relation::IncreasedBy(by("1")), inf, inf));
        assert!(!singles(&Relation::IncreasedBy(by("1..")), f32::NAN, 1.0));
    }

    #[test]
    fn integers_do_not_wrap() {
        let by = |text| Amount::parse(ValueType::U8, text).unwrap();
        assert!(Relation::DecreasedBy(by("246")).holds(&[250], &[4]));
        assert!(!Relation::IncreasedBy(by("10")).holds(&[250], &[4]));
        let most = Amount::parse(ValueType::I8, "255").unwrap();
        assert!(Relation::IncreasedBy(most).holds(&[0x80], &[0x7f]));
    }

    #[test]
    fn what_is_no_amount_says_why() {
        for (ty, text) in [
            (ValueType::I32, "-1"),
            (ValueType::U8, "256"),
            (ValueType::F32, "-1"),
            (ValueType::F64, "nan"),
            (ValueType::F64, "inf"),
            (ValueType::U8, "x"),
        ] {
            assert!(Amount::parse(ty, text).is_err(), "{ty} {text}");
        }
    }

    #[test]
    fn bytes_of_another_size_are_no_number() {
        assert!(!Relation::Increased(ValueType::U32).holds(&[0], &[1]));
        assert!(!Relation::Increased(ValueType::U32).holds(&[0; 9], &[1; 9]));
        assert!(Relation::StartsWith(b"ab".to_vec()).holds(b"", b"abc"));
        assert!(Relation::StartsOtherwise(b"ab".to_vec()).holds(b"", b"a"));
    }
}
