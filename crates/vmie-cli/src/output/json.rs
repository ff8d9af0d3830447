//! JSON, with control characters kept out.
//!
//! JSON strings may hold any character but the ASCII controls as they are. A terminal may be on the
//! other end all the same, so everything that [`escape`](crate::escape) calls not plain is written as
//! `\uXXXX`; to a JSON parser that is the same string.

use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};

use super::{SpaceKind, Totals};
use crate::escape;

/// A row, marked when it is about physical memory or of one source among several.
#[derive(Serialize)]
pub(super) struct Marked<'a, R: Serialize> {
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(flatten)]
    row: &'a R,
    #[serde(skip_serializing_if = "Option::is_none")]
    space: Option<&'static str>,
}

impl<'a, R: Serialize> Marked<'a, R> {
    pub(super) fn new(row: &'a R, space: SpaceKind, source: Option<&'a str>) -> Self {
        Self {
            source,
            row,
            space: match space {
                SpaceKind::Virtual => None,
                SpaceKind::Physical => Some("phys"),
            },
        }
    }
}

pub(super) fn write_row<R: vmie_rows::Row>(
    out: &mut Vec<u8>,
    row: &R,
    space: SpaceKind,
    source: Option<&str>,
) {
    write(out, &Marked::new(row, space, source));
}

pub(crate) fn write_start(out: &mut Vec<u8>, schema: &str) {
    out.extend_from_slice(format!("{{\"schema\": \"{schema}\", \"results\": [").as_bytes());
}

pub(super) fn write_end(out: &mut Vec<u8>, rows: u64, totals: Option<&Totals>) {
    out.extend_from_slice(if rows == 0 { b"]" } else { b"\n]" });
    out.extend_from_slice(b", \"coverage\": ");
    write(out, &totals);
    out.extend_from_slice(b"}\n");
}

/// The end of what several sources have said.
pub(crate) fn write_end_of_several<S: Serialize>(out: &mut Vec<u8>, rows: u64, sources: &[S]) {
    out.extend_from_slice(if rows == 0 { b"]" } else { b"\n]" });
    out.extend_from_slice(b", \"coverage\": null, \"sources\": ");
    write(out, &sources);
    out.extend_from_slice(b"}\n");
}

fn write<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let mut serializer = serde_json::Serializer::with_formatter(out, Plain(CompactFormatter));
    value
        .serialize(&mut serializer)
        .expect("rows have string keys and a Vec takes every byte");
}

/// Compact JSON in which every character is plainly printable.
struct Plain(CompactFormatter);

impl Formatter for Plain {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|c| !escape::is_plain(c)) {
            self.0.write_string_fragment(writer, &rest[..at])?;
            let mut chars = rest[at..].chars();
            if let Some(c) = chars.next() {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
            rest = chars.as_str();
        }
        self.0.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_survive_but_carry_no_control_characters() {
        let text = "a\x1b[2J\u{9b}\u{202e}\u{e0001}\u{7f}\"\\ü日";
        let mut out = Vec::new();
        write(&mut out, &text);
        let written = String::from_utf8(out).expect("JSON is UTF-8");
        assert!(written.chars().all(escape::is_plain), "{written}");
        let back: String = serde_json::from_str(&written).expect("valid JSON");
        assert_eq!(back, text);
    }
}
