//! What may stand in a field: the types of JSON, and a few that say more.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json};

use crate::shape::Type;

/// A value, for somebody who puts it into a cell.
pub trait Show {
    /// It as text, empty where there is nothing; guest text as it is.
    fn text(&self) -> Cow<'_, str>;

    /// It as a number, where it is one that is not below zero.
    fn number(&self) -> Option<u64> {
        None
    }
}

/// What may stand in a field.
pub trait Value: Show + Serialize {
    /// What it is.
    const TYPE: Type;

    /// Whether there is nothing to say, so that an optional key is left out.
    fn is_nothing(&self) -> bool {
        false
    }

    /// Writes the keys of a record, so that they stand among those of another one. Nothing else has keys.
    ///
    /// # Errors
    ///
    /// Those of the map.
    fn put<M: SerializeMap>(&self, _map: &mut M) -> Result<(), M::Error> {
        Ok(())
    }

    /// The value of a key of a record.
    fn get(&self, _key: &str) -> Option<&dyn Show> {
        None
    }
}

impl<T: Show + ?Sized> Show for &T {
    fn text(&self) -> Cow<'_, str> {
        (**self).text()
    }

    fn number(&self) -> Option<u64> {
        (**self).number()
    }
}

impl<T: Value + ?Sized> Value for &T {
    const TYPE: Type = T::TYPE;

    fn is_nothing(&self) -> bool {
        (**self).is_nothing()
    }

    fn put<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        (**self).put(map)
    }

    fn get(&self, key: &str) -> Option<&dyn Show> {
        (**self).get(key)
    }
}

impl<T: Show> Show for Option<T> {
    fn text(&self) -> Cow<'_, str> {
        self.as_ref().map_or(Cow::Borrowed(""), Show::text)
    }

    fn number(&self) -> Option<u64> {
        self.as_ref().and_then(Show::number)
    }
}

impl<T: Value> Value for Option<T> {
    const TYPE: Type = Type::Nullable(&T::TYPE);

    fn is_nothing(&self) -> bool {
        self.is_none()
    }

    fn put<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        match self {
            Some(value) => value.put(map),
            None => Ok(()),
        }
    }

    fn get(&self, key: &str) -> Option<&dyn Show> {
        self.as_ref().and_then(|value| value.get(key))
    }
}

impl<T: Show> Show for [T] {
    fn text(&self) -> Cow<'_, str> {
        let texts: Vec<_> = self.iter().map(Show::text).collect();
        texts.join(" ").into()
    }
}

impl<T: Value> Value for [T] {
    const TYPE: Type = Type::List(&T::TYPE);

    fn is_nothing(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Show> Show for Vec<T> {
    fn text(&self) -> Cow<'_, str> {
        self.as_slice().text()
    }
}

impl<T: Value> Value for Vec<T> {
    const TYPE: Type = Type::List(&T::TYPE);

    fn is_nothing(&self) -> bool {
        self.is_empty()
    }
}

/// Values that are shown as they are displayed.
macro_rules! displayed {
    ($($ty:ty: $is:expr $(, number $number:expr)?;)+) => { $(
        impl Show for $ty {
            fn text(&self) -> Cow<'_, str> {
                self.to_string().into()
            }

            $(fn number(&self) -> Option<u64> {
                $number(*self)
            })?
        }

        impl Value for $ty {
            const TYPE: Type = $is;
        }
    )+ };
}

displayed! {
    u8: Type::Unsigned(8), number |n| Some(u64::from(n));
    u32: Type::Unsigned(32), number |n| Some(u64::from(n));
    u64: Type::Unsigned(64), number Some;
    usize: Type::Unsigned(64), number |n| Some(n as u64);
    i64: Type::Signed(64), number |n| u64::try_from(n).ok();
    i128: Type::Signed(128), number |n| u64::try_from(n).ok();
    f64: Type::Float;
    char: Type::Letter;
    Hex: Type::Hex, number |hex: Hex| Some(hex.0);
    Bytes: Type::Bytes;
    Time: Type::Time;
    SigName: Type::NumberOrText;
}

impl Show for Prot {
    fn text(&self) -> Cow<'_, str> {
        match self.mapped {
            true => self.to_string().into(),
            false => Cow::Borrowed(""),
        }
    }
}

impl Value for Prot {
    const TYPE: Type = Type::Prot;
}

impl Show for bool {
    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(if *self { "yes" } else { "no" })
    }
}

impl Value for bool {
    const TYPE: Type = Type::Bool;

    fn is_nothing(&self) -> bool {
        !self
    }
}

impl Show for str {
    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }
}

impl Value for str {
    const TYPE: Type = Type::Text;
}

impl Show for Cow<'_, str> {
    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }
}

impl Value for Cow<'_, str> {
    const TYPE: Type = Type::Text;
}

impl Show for String {
    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }
}

impl Value for String {
    const TYPE: Type = Type::Text;
}

impl Show for Json {
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Null => Cow::Borrowed(""),
            Self::String(text) => Cow::Borrowed(text),
            other => other.to_string().into(),
        }
    }
}

impl Value for Json {
    const TYPE: Type = Type::Any;
}

impl Show for Map<String, Json> {
    fn text(&self) -> Cow<'_, str> {
        pairs(self.iter())
    }
}

impl Value for Map<String, Json> {
    const TYPE: Type = Type::Map(&Type::Any);
}

impl<V: Show> Show for BTreeMap<char, V> {
    fn text(&self) -> Cow<'_, str> {
        pairs(self.iter())
    }
}

impl<V: Value> Value for BTreeMap<char, V> {
    const TYPE: Type = Type::Map(&V::TYPE);
}

fn pairs<'v>(
    pairs: impl Iterator<Item = (impl fmt::Display, &'v (impl Show + 'v))>,
) -> Cow<'static, str> {
    let texts: Vec<_> = pairs
        .map(|(name, value)| format!("{name} {}", value.text()))
        .collect();
    texts.join("  ").into()
}

/// A number as `"0x1f"`: addresses and table entries, which do not fit a JavaScript number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Hex(
    /// The number.
    pub u64,
);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A protection as `"rwx"`, with `-` for what is absent.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Prot {
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// May be executed.
    pub execute: bool,
    /// Whether something is mapped of which this is the protection. JSON does not say so; tables leave the cell
    /// empty where nothing is.
    pub mapped: bool,
}

impl fmt::Display for Prot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |is: bool, letter: char| if is { letter } else { '-' };
        let (r, w) = (letter(self.read, 'r'), letter(self.write, 'w'));
        write!(f, "{r}{w}{}", letter(self.execute, 'x'))
    }
}

impl Serialize for Prot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Text of a guest's as two keys have it: what can be shown, with U+FFFD for what is not UTF-8, and all of its bytes, only
/// where that says less than they do.
pub fn guest_text(bytes: &[u8]) -> (String, Option<Bytes>) {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => (text.to_owned(), None),
        Cow::Owned(text) => (text, Some(Bytes::of(bytes))),
    }
}

/// Bytes, two digits each.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Bytes(String);

impl Bytes {
    /// These bytes. Allocates two bytes for each.
    pub fn of(bytes: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(2 * bytes.len());
        for &byte in bytes {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from(DIGITS[usize::from(digit)]));
            }
        }
        Self(text)
    }

    /// The digits of each byte, in order.
    pub fn pairs(&self) -> impl Iterator<Item = &str> {
        (0..self.0.len()).step_by(2).map(|at| &self.0[at..at + 2])
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A point in time: text by RFC 3339, in UTC.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Time(
    /// The text.
    pub String,
);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// What a signature is called: its name in a file, or its number on the command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SigName {
    /// From 0.
    Number(u64),
    /// Of a file.
    Name(String),
}

impl fmt::Display for SigName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl Serialize for SigName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Name(name) => serializer.serialize_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_json() {
        let json = |value: &dyn erased::Json| value.json();
        let exec = Prot {
            read: true,
            execute: true,
            ..Prot::default()
        };
        assert_eq!(json(&Hex(0xAB)), r#""0xab""#);
        assert_eq!(json(&Hex(0)), r#""0x0""#);
        assert_eq!(json(&exec), r#""r-x""#);
        assert_eq!(json(&Bytes::of(&[0, 0x1f, 0xff])), r#""001fff""#);
        assert_eq!(json(&SigName::Number(3)), "3");
        assert_eq!(json(&SigName::Name("a".into())), r#""a""#);
        let bytes = Bytes::of(&[1, 0xfe]);
        assert_eq!(bytes.pairs().collect::<Vec<_>>(), ["01", "fe"]);
        assert_eq!(Some(7_u32).number(), Some(7));
        assert_eq!((-1_i64).number(), None);
        assert_eq!(None::<u32>.text(), "");
        assert_eq!(["a", "b"].as_slice().text(), "a b");
        let map = BTreeMap::from([('A', Bytes::of(&[1])), ('B', Bytes::of(&[2]))]);
        assert_eq!(map.text(), "A 01  B 02");
    }

    mod erased {
        pub(super) trait Json {
            fn json(&self) -> String;
        }

        impl<T: serde::Serialize> Json for T {
            fn json(&self) -> String {
                serde_json::to_string(self).unwrap()
            }
        }
    }
}
