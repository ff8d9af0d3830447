//! What is searched for: what it is called in rows, and what its values look like.

use serde_json::Value;
use vmie::search::{Encoding, ValueType};
use vmie_rows::Bytes;

/// What a query looks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Number(ValueType),
    Text(Encoding),
    Bytes,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Number(ty) => ty.name(),
            Self::Text(Encoding::Utf16) => "utf16",
            Self::Text(_) => "str",
            Self::Bytes => "bytes",
        }
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Number(_))
    }

    pub(super) fn of_name(name: &str) -> Option<Self> {
        let numbers = ValueType::ALL.into_iter().map(Self::Number);
        let others = [
            Self::Text(Encoding::Utf8),
            Self::Text(Encoding::Utf16),
            Self::Bytes,
        ];
        numbers.chain(others).find(|kind| kind.name() == name)
    }

    /// A value for rows.
    pub(super) fn show(self, bytes: &[u8]) -> Value {
        match self {
            Self::Number(ty) => {
                let bits = bytes.iter().rev();
                number(ty, bits.fold(0, |all, &byte| all << 8 | u64::from(byte)))
            }
            Self::Text(encoding) => Value::from(encoding.decode(bytes)),
            Self::Bytes => Value::from(Bytes::of(bytes).to_string()),
        }
    }
}

/// A number for JSON: those of 64 bits, infinities and what is not a number as text.
fn number(ty: ValueType, bits: u64) -> Value {
    let text = ty.show(bits);
    let wide = matches!(ty, ValueType::U64 | ValueType::I64);
    match serde_json::from_str::<Value>(&text) {
        Ok(value) if !wide && value.is_number() => value,
        _ => Value::from(text),
    }
}

/// Bytes as somebody typed them: pairs of hexadecimal digits.
pub(super) fn bytes(text: &str) -> Option<Vec<u8>> {
    let plain = text
        .chars()
        .all(|c| c.is_ascii_hexdigit() || c.is_whitespace());
    let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if !plain || digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(byte).collect()
}

/// The bytes of a text.
pub(super) fn encoded(encoding: Encoding, text: &str) -> Vec<u8> {
    match encoding {
        Encoding::Utf16 => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        _ => text.as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_round_trip() {
        for name in ["u8", "i64", "f32", "str", "utf16", "bytes"] {
            assert_eq!(Kind::of_name(name).map(Kind::name), Some(name));
        }
        assert_eq!(Kind::of_name("u128"), None);
        let show = |name: &str, bytes: &[u8]| Kind::of_name(name).map(|kind| kind.show(bytes));
        assert_eq!(show("i16", &[0xff, 0xff]), Some(Value::from(-1)));
        assert_eq!(show("u64", &[1; 8]), Some(Value::from("72340172838076673")));
        assert_eq!(show("f32", &[0, 0, 0xc0, 0x7f]), Some(Value::from("NaN")));
        assert_eq!(show("utf16", b"o\0k\0"), Some(Value::from("ok")));
        assert_eq!(show("bytes", &[0xab, 1]), Some(Value::from("ab01")));
        assert_eq!(bytes("4D 5a90"), Some(vec![0x4d, 0x5a, 0x90]));
        assert_eq!(bytes("4d5"), None);
    }
}
