//! JSON: the wire types, and a writer that keeps control characters out.
//!
//! JSON strings may hold any character but the ASCII controls as they are. A terminal may be on the
//! other end all the same, so everything that [`escape`](crate::escape) calls not plain is written as
//! `\uXXXX`; to a JSON parser that is the same string.

use std::fmt::Write as _;
use std::io;

use serde::{Serialize, Serializer};
use serde_json::ser::{CompactFormatter, Formatter};
use vmie::{Address, Coverage, Gap, Gva, Prot};

use super::{Row, SpaceKind};
use crate::escape;
use crate::report::Beyond;

/// A number as `"0x1f"`: addresses and table entries, which do not fit a JavaScript number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hex(pub(crate) u64);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#x}", self.0))
    }
}

/// Bytes as they stand in rows: two digits each.
pub(crate) fn digits(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A protection as `"rwx"`, with `-` for what is absent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ProtText(pub(crate) Prot);

impl Serialize for ProtText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A gap of a [`Coverage`] on the wire.
#[derive(Serialize, Debug)]
pub(crate) struct GapRow {
    pub(crate) va: Hex,
    pub(crate) len: u64,
    pub(crate) cause: &'static str,
    /// Whose address it is, where there are many spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<u32>,
}

/// A [`Coverage`] on the wire.
#[derive(Serialize, Debug)]
pub(crate) struct Totals {
    pub(crate) mapped: u64,
    pub(crate) read: u64,
    pub(crate) absent: u64,
    pub(crate) lost: u64,
    pub(crate) unmapped: u64,
    /// Of what counts as mapped, bytes that a process has not mapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cached: Option<u64>,
    /// Bytes of code that are not in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) not_in_memory: Option<u64>,
    pub(crate) gap_count: u64,
    pub(crate) gaps: Vec<GapRow>,
}

impl<A: Address> From<&Coverage<A>> for Totals {
    fn from(coverage: &Coverage<A>) -> Self {
        let gaps = coverage.gaps.iter().map(|gap| GapRow::new(gap, None));
        Self::new(coverage, gaps.collect())
    }
}

impl Totals {
    fn new<A: Address>(total: &Coverage<A>, gaps: Vec<GapRow>) -> Self {
        Self {
            mapped: total.mapped,
            read: total.read,
            absent: total.absent,
            lost: total.lost,
            unmapped: total.unmapped,
            cached: None,
            not_in_memory: None,
            gap_count: total.gap_count,
            gaps,
        }
    }

    /// The same with what is not mapped and belongs to it.
    pub(crate) fn beyond(self, beyond: Option<Beyond>) -> Self {
        Self {
            cached: beyond.map(|beyond| beyond.cached),
            not_in_memory: beyond.map(|beyond| beyond.missing),
            ..self
        }
    }

    /// Of many spaces together, each with the number of its process.
    pub(crate) fn of_many<'c>(
        total: &Coverage<Gva>,
        spaces: impl Iterator<Item = (Option<u32>, &'c Coverage<Gva>)>,
    ) -> Self {
        let gaps = spaces.flat_map(|(pid, one)| one.gaps.iter().map(move |gap| (pid, gap)));
        let gaps = gaps.take(total.gaps.len());
        Self::new(
            total,
            gaps.map(|(pid, gap)| GapRow::new(gap, pid)).collect(),
        )
    }
}

impl GapRow {
    fn new<A: Address>(gap: &Gap<A>, pid: Option<u32>) -> Self {
        Self {
            va: Hex(gap.start.raw()),
            len: gap.len,
            cause: gap.cause.label(),
            pid,
        }
    }
}

/// A row, marked when it is about physical memory.
#[derive(Serialize)]
pub(super) struct Marked<'a, R: Serialize> {
    #[serde(flatten)]
    row: &'a R,
    #[serde(skip_serializing_if = "Option::is_none")]
    space: Option<&'static str>,
}

impl<'a, R: Serialize> Marked<'a, R> {
    pub(super) fn new(row: &'a R, space: SpaceKind) -> Self {
        Self {
            row,
            space: match space {
                SpaceKind::Virtual => None,
                SpaceKind::Physical => Some("phys"),
            },
        }
    }
}

pub(super) fn write_row<R: Row>(out: &mut Vec<u8>, row: &R, space: SpaceKind) {
    write(out, &Marked::new(row, space));
}

pub(super) fn write_start(out: &mut Vec<u8>, verb: &str) {
    out.extend_from_slice(format!("{{\"schema\": \"vmie.{verb}/1\", \"results\": [").as_bytes());
}

pub(super) fn write_end(out: &mut Vec<u8>, rows: u64, totals: Option<&Totals>) {
    out.extend_from_slice(if rows == 0 { b"]" } else { b"\n]" });
    out.extend_from_slice(b", \"coverage\": ");
    write(out, &totals);
    out.extend_from_slice(b"}\n");
}

fn write<T: Serialize>(out: &mut Vec<u8>, value: &T) {
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

    #[test]
    fn addresses_are_strings_without_leading_zeros() {
        let mut out = Vec::new();
        write(
            &mut out,
            &(Hex(0), Hex(0xAB), ProtText(Prot::R.union(Prot::X))),
        );
        assert_eq!(out, br#"["0x0","0xab","r-x"]"#);
    }
}
