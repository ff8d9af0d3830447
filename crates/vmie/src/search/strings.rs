//! Strings: whatever reads as text.
//!
//! A string is a maximal sequence of text characters in one encoding, of at least so many of them. It
//! starts where a text character stands that no text character ends before; so whether one starts at a
//! byte depends on at most four bytes before it, and memory may be looked at in any pieces.
//!
//! | encoding | text characters |
//! |---|---|
//! | ASCII | U+0020 to U+007E, and the tab |
//! | UTF-8 | those, and all others but controls, private use and what is not assigned to be a character |
//! | UTF-16 | those of ASCII, and letters of the Latin, Greek and Cyrillic scripts (below U+0530), two bytes each, at any address |
//!
//! The small set for UTF-16 is deliberate: nearly every pair of bytes is some character.
//!
//! # How it works
//!
//! A string of `min` characters or more covers one of any `min` places that follow each other. So only
//! every `min`th place is looked at until one is text; from there the search goes back to where the text
//! begins. Memory without text costs a load for each `min` places.

use std::fmt;

use crate::addr::Address;
use crate::memory::Memory;
use crate::sweep::{Found, Piece, Scanner};

/// How many characters a string has at least, unless said otherwise: what `strings` programs take.
pub const MIN_CHARS: usize = 4;

/// How many bytes of a string a scan reports at most. What goes on behind them is read when somebody
/// wants the text, see [`continue_text`].
const SEEN: usize = 256;

/// How characters stand in memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Encoding {
    /// A byte each.
    Ascii,
    /// One to four bytes each.
    Utf8,
    /// Two bytes each, little-endian.
    Utf16,
}

impl Encoding {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ascii => "ascii",
            Self::Utf8 => "utf8",
            Self::Utf16 => "utf16",
        }
    }

    /// Bytes that start with a text character: how many it has.
    fn char_at(self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Ascii => ascii(*bytes.first()?).then_some(1),
            Self::Utf8 if bytes.first()?.is_ascii() => ascii(bytes[0]).then_some(1),
            Self::Utf8 => {
                let c = first_char(bytes)?;
                readable(c).then_some(c.len_utf8())
            }
            Self::Utf16 => wide(u16::from_le_bytes(*bytes.first_chunk()?)).then_some(2),
        }
    }

    /// Bytes that end with a text character.
    fn char_before(self, bytes: &[u8]) -> bool {
        let longest = match self {
            Self::Ascii => 1,
            Self::Utf8 => 4,
            Self::Utf16 => 2,
        };
        (1..=longest.min(bytes.len()))
            .any(|len| self.char_at(&bytes[bytes.len() - len..]) == Some(len))
    }

    /// Whether bytes may be the beginning of a text character that goes on behind them.
    fn may_go_on(self, bytes: &[u8]) -> bool {
        match self {
            Self::Ascii => bytes.is_empty(),
            Self::Utf8 => match std::str::from_utf8(bytes) {
                Ok(text) => text.is_empty(),
                Err(error) => error.valid_up_to() == 0 && error.error_len().is_none(),
            },
            Self::Utf16 => bytes.len() < 2,
        }
    }

    /// Bytes in the shortest character.
    const fn unit(self) -> usize {
        match self {
            Self::Ascii | Self::Utf8 => 1,
            Self::Utf16 => 2,
        }
    }

    /// What the bytes read as.
    pub fn decode(self, bytes: &[u8]) -> String {
        match self {
            Self::Ascii | Self::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Self::Utf16 => {
                let units: Vec<u16> = bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&unit| u16::from_le_bytes(unit))
                    .collect();
                String::from_utf16_lossy(&units)
            }
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

const fn ascii(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\t')
}

fn wide(unit: u16) -> bool {
    match unit {
        0..=0x7f => ascii(unit as u8),
        0x80..0x530 => char::from_u32(u32::from(unit)).is_some_and(char::is_alphabetic),
        _ => false,
    }
}

fn readable(c: char) -> bool {
    let code = u32::from(c);
    let private = matches!(code, 0xe000..=0xf8ff | 0xf_0000..);
    let never = code & 0xfffe == 0xfffe || matches!(code, 0xfdd0..=0xfdef | 0xe_0000..=0xe_0fff);
    !c.is_control() && !private && !never
}

fn first_char(bytes: &[u8]) -> Option<char> {
    let bytes = &bytes[..bytes.len().min(4)];
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()?,
    };
    text.chars().next()
}

/// Which encodings to look for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Encodings {
    /// Single bytes: [`Encoding::Ascii`], [`Encoding::Utf8`] (which contains it), or none.
    pub bytes: Option<Encoding>,
    /// [`Encoding::Utf16`].
    pub utf16: bool,
}

impl Default for Encodings {
    fn default() -> Self {
        Self {
            bytes: Some(Encoding::Ascii),
            utf16: true,
        }
    }
}

/// A string.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Text {
    /// How it stands in memory. A string of UTF-8 that has only ASCII is called ASCII.
    pub encoding: Encoding,
    /// Its bytes, or the first of them.
    pub bytes: Box<[u8]>,
    /// Whether it may go on behind these bytes.
    pub open: bool,
}

impl Text {
    /// What it says, as far as it was seen.
    pub fn text(&self) -> String {
        self.encoding.decode(&self.bytes)
    }

    /// Calls it ASCII when that is all there is.
    fn settle(&mut self) {
        if self.encoding == Encoding::Utf8 && self.bytes.is_ascii() {
            self.encoding = Encoding::Ascii;
        }
    }
}

/// Searches for strings: a [`Scanner`] to be sent over memory by [`scan`](crate::scan::scan()).
#[derive(Clone, Debug)]
pub struct Strings {
    min: usize,
    encodings: Vec<Encoding>,
}

impl Strings {
    /// A search for strings of at least `min` characters; 1 to 64, other values are brought into these
    /// bounds.
    pub fn new(min: usize, encodings: Encodings) -> Self {
        let wide = encodings.utf16.then_some(Encoding::Utf16);
        Self {
            min: min.clamp(1, 64),
            encodings: encodings.bytes.into_iter().chain(wide).collect(),
        }
    }

    /// Strings of one encoding whose units stand at `start`, `start + unit`, and so on.
    fn line(
        &self,
        encoding: Encoding,
        start: usize,
        piece: &Piece<'_>,
        found: &mut Found<(usize, Text)>,
    ) {
        let (bytes, unit) = (piece.bytes, encoding.unit());
        // Text, whatever came before. For UTF-8 more is taken for text than is: no place in a string
        // must look like none.
        let texty = |at: usize| match encoding {
            Encoding::Utf8 => bytes
                .get(at)
                .is_some_and(|&byte| byte >= 0x80 || ascii(byte)),
            _ => bytes
                .get(at..)
                .is_some_and(|rest| encoding.char_at(rest).is_some()),
        };
        let stride = unit * self.min;
        let mut at = start;
        while at < piece.owned && !found.is_full() {
            let probe = at + stride - unit;
            if !texty(probe) {
                at = probe + unit;
                continue;
            }
            let mut first = probe;
            while first >= at + unit && texty(first - unit) {
                first -= unit;
            }
            at = self.stretch(encoding, first, piece, found);
        }
    }

    /// Reports the strings in a stretch of what may be text from `at` on; answers where it ends.
    fn stretch(
        &self,
        encoding: Encoding,
        mut at: usize,
        piece: &Piece<'_>,
        found: &mut Found<(usize, Text)>,
    ) -> usize {
        let bytes = piece.bytes;
        let starts = |at: usize| {
            let before = &bytes[at.saturating_sub(4)..at];
            if at >= 4 || piece.before.is_empty() {
                return !encoding.char_before(before);
            }
            let more = &piece.before[piece.before.len().saturating_sub(4 - at)..];
            !encoding.char_before(&[more, before].concat())
        };
        let Some(len) = encoding.char_at(&bytes[at..]) else {
            return at + encoding.unit();
        };
        let first = at;
        let is_start = first < piece.owned && starts(first);
        let mut chars = 1;
        at += len;
        while let Some(len) = bytes.get(at..).and_then(|rest| encoding.char_at(rest)) {
            chars += 1;
            at += len;
        }
        if is_start && chars >= self.min {
            // What is seen must not depend on where the window ends.
            let len = self.seen(encoding, &bytes[first..at]);
            let shown = &bytes[first..first + len];
            let open = first + len < at || encoding.may_go_on(&bytes[at.min(bytes.len())..]);
            let mut text = Text {
                encoding,
                bytes: shown.into(),
                open,
            };
            if first + len == at {
                text.settle();
            }
            found.push((first, text));
        }
        at
    }

    /// How much of a string is reported.
    fn seen(&self, encoding: Encoding, text: &[u8]) -> usize {
        if text.len() <= SEEN {
            return text.len();
        }
        // Whole characters.
        let mut len = SEEN;
        while encoding == Encoding::Utf8 && text[len] & 0xc0 == 0x80 {
            len -= 1;
        }
        len
    }
}

impl Scanner for Strings {
    type Item = Text;

    fn behind(&self) -> usize {
        4
    }

    fn overlap(&self) -> usize {
        // A string of `SEEN` bytes, and the character behind it; or the shortest of any.
        SEEN.max(self.min * 4) + 4
    }

    fn len_of(&self, text: &Text) -> usize {
        text.bytes.len()
    }

    fn scan(&self, piece: &Piece<'_>, found: &mut Found<(usize, Text)>) {
        let mut texts = Found::with_limit(found.limit());
        for &encoding in &self.encodings {
            for start in 0..encoding.unit() {
                self.line(encoding, start, piece, &mut texts);
            }
        }
        let overflow = texts.is_full();
        let mut texts = texts.into_items();
        texts.sort_unstable();
        found.extend(texts, overflow);
    }
}

/// Reads on where a string that was found is open, up to `most` bytes in all; answers whether it goes on
/// even then. `addr` is where it starts.
///
/// Where memory ends or cannot be read, so does the string.
pub fn continue_text<A: Address>(
    memory: &dyn Memory<Addr = A>,
    addr: A,
    text: &mut Text,
    most: usize,
) -> bool {
    let mut bytes = std::mem::take(&mut text.bytes).into_vec();
    let mut more = [0; 256];
    while text.open && bytes.len() < most {
        let Some(next) = addr.checked_add(bytes.len() as u64) else {
            break;
        };
        let read = match memory.read(next, &mut more) {
            Ok(()) => more.len(),
            Err(fault) => fault.addr.offset_from(next).map_or(0, |len| len as usize),
        };
        let read = &more[..read.min(more.len())];
        let mut at = 0;
        while let Some(len) = text.encoding.char_at(&read[at..]) {
            at += len;
        }
        bytes.extend_from_slice(&read[..at]);
        text.open = at > 0 && read.len() == more.len() && text.encoding.may_go_on(&read[at..]);
    }
    text.bytes = bytes.into();
    text.settle();
    text.open
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow::Continue;

    use proptest::prelude::*;

    use super::*;
    use crate::addr::Gva;
    use crate::sweep::{SweepOptions, quiet, seek};
    use crate::testmem::TestMemory;

    /// The definition, byte by byte, over memory without holes.
    fn naive(bytes: &[u8], min: usize, encodings: &[Encoding]) -> Vec<(u64, Encoding, String)> {
        let mut all = Vec::new();
        for at in 0..bytes.len() {
            for &encoding in encodings {
                if encoding.char_before(&bytes[..at]) {
                    continue;
                }
                let (mut end, mut chars) = (at, 0);
                while let Some(len) = encoding.char_at(&bytes[end..]) {
                    end += len;
                    chars += 1;
                }
                if chars >= min {
                    let text = encoding.decode(&bytes[at..end]);
                    let encoding = match encoding {
                        Encoding::Utf8 if text.is_ascii() => Encoding::Ascii,
                        other => other,
                    };
                    all.push((at as u64, encoding, text));
                }
            }
        }
        all
    }

    fn find(
        memory: &TestMemory<Gva>,
        strings: &Strings,
        window: usize,
    ) -> Vec<(u64, Encoding, String)> {
        let options = SweepOptions {
            window,
            threads: 1,
            ..SweepOptions::default()
        };
        let mut found = Vec::new();
        let _ = seek(
            memory,
            strings,
            &options,
            &mut quiet,
            |addr, mut text: Text| {
                assert!(!continue_text(memory, addr, &mut text, 1 << 20));
                found.push((addr.0, text.encoding, text.text()));
                Continue(())
            },
        );
        found
    }

    /// Bytes that often read as text in one encoding or the other.
    fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            3 => prop::collection::vec(any::<u8>(), 0..6),
            3 => "[a-z\t ]{0,12}".prop_map(String::into_bytes),
            2 => "[a-z\u{e4}\u{20ac}\u{1f600}\u{e000}]{0,6}".prop_map(String::into_bytes),
            2 => "[a-z\u{e4}\u{44f}\u{20ac}]{0,8}".prop_map(|text: String| {
                text.encode_utf16().flat_map(u16::to_le_bytes).collect()
            }),
            1 => (0usize..900).prop_map(|len| vec![b'x'; len]),
            1 => (0usize..300).prop_map(|len| "\u{e4}".repeat(len).into_bytes()),
            1 => (0usize..300).prop_map(|len| b"w\0".repeat(len)),
            2 => Just(vec![0]),
        ];
        prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn strings_are_what_the_definition_says(
            bytes in any_bytes(),
            min in 1usize..9,
            utf8: bool,
            utf16: bool,
            start in 0u64..3,
            window in prop::sample::select(vec![1usize, 2, 3, 7, 64, 5000, 1 << 18]),
            lends: bool,
        ) {
            let mut memory = TestMemory::<Gva>::of(start, &bytes);
            memory.lends = lends;
            let bytewise = if utf8 { Encoding::Utf8 } else { Encoding::Ascii };
            let encodings = Encodings { bytes: Some(bytewise), utf16 };
            let strings = Strings::new(min, encodings);
            let mut expected = naive(&bytes, min, &strings.encodings);
            for (at, ..) in &mut expected {
                *at += start;
            }
            prop_assert_eq!(find(&memory, &strings, window), expected);
        }
    }

    #[test]
    fn a_string_ends_where_memory_does() {
        let memory = TestMemory::<Gva>::of(0x1000, &[b'a'; 0x3000]).absent(0x2000, 0x1000);
        let strings = Strings::new(4, Encodings::default());
        let found = find(&memory, &strings, 1 << 18);
        let lens: Vec<(u64, usize)> = found.iter().map(|(at, _, s)| (*at, s.len())).collect();
        assert_eq!(lens, [(0x1000, 0x1000), (0x3000, 0x1000)]);
    }

    #[test]
    fn a_long_string_is_cut_where_asked() {
        let memory = TestMemory::<Gva>::of(0, &[b'a'; 5000]);
        let mut text = Text {
            encoding: Encoding::Ascii,
            bytes: vec![b'a'; 256].into(),
            open: true,
        };
        assert!(continue_text(&memory, Gva(0), &mut text, 1000));
        assert!((1000..1256).contains(&text.bytes.len()));
    }
}
