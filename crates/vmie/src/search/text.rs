//! Text that is searched for, as the bytes that it can be.
//!
//! A text becomes a [`Signature`], so that any number of them is found in one pass, across pages, by the
//! engine that finds all signatures. Where case does not matter, a character becomes an alternative of all that
//! differ from it only in case, by Unicode's [simple case folding](super::fold_case), in its encoding. Those need not
//! be equally long, so what stands in memory can be shorter or longer than what was typed: how long it is,
//! [`TextForms::len_in`] tells from the bytes, which is unambiguous as no character begins like another.

use std::fmt::Write as _;

use thiserror::Error;

use super::case::variants;
use super::strings::Encoding;
use crate::signature::{ParseError, Signature};

/// The most characters of a text.
const MAX_CHARS: usize = 1024;

/// A text to search for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextQuery {
    /// The text.
    pub text: String,
    /// How it stands in memory. Of [`Encoding::Ascii`] and [`Encoding::Utf8`] both mean its UTF-8
    /// bytes.
    pub encoding: Encoding,
    /// Whether characters that differ only in case are the same.
    pub ignore_case: bool,
}

/// A text that cannot be searched for.
#[derive(Clone, PartialEq, Eq, Error, Debug)]
pub enum TextError {
    /// It has no characters.
    #[error("an empty text is everywhere")]
    Empty,
    /// It has too many.
    #[error("a text of {0} characters; at most {MAX_CHARS} can be searched for")]
    TooLong(usize),
    /// It does not make a signature.
    #[error("the text cannot be searched for: {0}")]
    Signature(#[from] ParseError),
}

impl TextQuery {
    /// The signature that finds it.
    ///
    /// # Errors
    ///
    /// When it is empty or too long.
    pub fn signature(&self) -> Result<Signature, TextError> {
        let mut syntax = String::new();
        for forms in self.forms()?.chars {
            let forms: Vec<String> = forms.iter().map(|form| hex(form)).collect();
            if forms.len() == 1 {
                syntax.push_str(&forms[0]);
            } else {
                let _ = write!(syntax, "({})", forms.join("|"));
            }
            syntax.push(' ');
        }
        Ok(Signature::parse(&*self.text, &syntax)?)
    }

    /// The bytes that it can be.
    ///
    /// # Errors
    ///
    /// When it is empty or too long.
    pub fn forms(&self) -> Result<TextForms, TextError> {
        let count = self.text.chars().count();
        if count == 0 {
            return Err(TextError::Empty);
        }
        if count > MAX_CHARS {
            return Err(TextError::TooLong(count));
        }
        let chars = self.text.chars().map(|c| {
            let same = if self.ignore_case {
                variants(c)
            } else {
                vec![c]
            };
            same.into_iter().map(|c| self.bytes(c)).collect()
        });
        Ok(TextForms {
            chars: chars.collect(),
        })
    }

    fn bytes(&self, c: char) -> Vec<u8> {
        match self.encoding {
            Encoding::Ascii | Encoding::Utf8 => c.encode_utf8(&mut [0; 4]).as_bytes().to_vec(),
            Encoding::Utf16 => {
                let units = c.encode_utf16(&mut [0; 2]).to_vec();
                units.into_iter().flat_map(u16::to_le_bytes).collect()
            }
        }
    }
}

/// The bytes that a text can be in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextForms {
    /// For each character what it can be; none of these begins like another.
    chars: Vec<Vec<Vec<u8>>>,
}

impl TextForms {
    /// The most bytes that it takes.
    pub fn max_len(&self) -> usize {
        let longest = |forms: &Vec<Vec<u8>>| forms.iter().map(Vec::len).max().unwrap_or(0);
        self.chars.iter().map(longest).sum()
    }

    /// How many bytes it takes at the start of `bytes`, if it stands there.
    pub fn len_in(&self, bytes: &[u8]) -> Option<usize> {
        self.chars.iter().try_fold(0, |at, forms| {
            let rest = bytes.get(at..)?;
            let form = forms.iter().find(|form| rest.starts_with(form))?;
            Some(at + form.len())
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    digits.join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::case::tests::naive_fold;
    use super::*;
    use crate::signature::Set;
    use crate::sweep::Found;

    /// Offset and length of each place.
    fn found(query: &TextQuery, bytes: &[u8]) -> Vec<(usize, usize)> {
        let set = Set::compile(vec![query.signature().unwrap()]).unwrap();
        let forms = query.forms().unwrap();
        let mut found = Found::with_limit(1000);
        set.find(bytes, bytes.len(), &mut found);
        let len = |at: usize| forms.len_in(&bytes[at..]).expect("it stands there");
        let hits = found.items().iter();
        hits.map(|hit| (hit.offset, len(hit.offset))).collect()
    }

    fn finds(query: &TextQuery, bytes: &[u8]) -> Vec<usize> {
        found(query, bytes).into_iter().map(|(at, _)| at).collect()
    }

    fn query(text: &str, encoding: Encoding, ignore_case: bool) -> TextQuery {
        TextQuery {
            text: text.to_owned(),
            encoding,
            ignore_case,
        }
    }

    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn case_matters_or_not() {
        let memory = "Stra\u{df}e STRASSE STRA\u{1e9e}E stra\u{df}e \u{c4}\u{e4}".as_bytes();
        let exact = query("stra\u{df}e", Encoding::Utf8, false);
        assert_eq!(found(&exact, memory), [(25, 7)]);
        let either = query("stra\u{df}e", Encoding::Utf8, true);
        assert_eq!(found(&either, memory), [(0, 7), (16, 8), (25, 7)]);
        let umlaut = query("\u{e4}", Encoding::Utf8, true);
        assert_eq!(finds(&umlaut, memory), [33, 35]);
    }

    /// What is asked for and what stands there may be swapped.
    #[test]
    fn case_is_the_same_from_both_sides() {
        for (a, b) in [
            ("ΟΔΟΣ", "οδος"),
            ("straße", "STRAẞE"),
            ("mast", "maſt"),
            ("kelvin", "\u{212a}elvin"),
            ("ωm", "\u{2126}m"),
            ("\u{23a}bc!", "\u{2c65}bc!"),
            ("µs", "ΜS"),
            ("\u{10400}", "\u{10428}"),
        ] {
            for (asked, there) in [(a, b), (b, a), (a, a), (b, b)] {
                let memory = there.as_bytes();
                let narrow = query(asked, Encoding::Utf8, true);
                assert_eq!(
                    found(&narrow, memory),
                    [(0, memory.len())],
                    "{asked} in {there}"
                );
                let memory = wide(there);
                let query = query(asked, Encoding::Utf16, true);
                assert_eq!(
                    found(&query, &memory),
                    [(0, memory.len())],
                    "{asked} in {there}"
                );
            }
        }
    }

    const LETTERS: &str = "Σςσ kK\u{212a}sS\u{17f}ßẞΩω\u{2126}iİıIⱥȺ𐐀𐐨ﬅﬆ1";

    fn letters(most: usize) -> impl Strategy<Value = String> {
        let letter = prop::sample::select(LETTERS.chars().collect::<Vec<_>>());
        prop::collection::vec(letter, 1..most).prop_map(String::from_iter)
    }

    proptest! {
        /// Compared with memory that is decoded and folded character by character.
        #[test]
        fn texts_are_found_where_folded_text_is(asked in letters(4), there in letters(30), utf16: bool) {
            let encoding = if utf16 { Encoding::Utf16 } else { Encoding::Utf8 };
            let encoded = |text: &str| if utf16 { wide(text) } else { text.as_bytes().to_vec() };
            let folded: Vec<char> = asked.chars().map(naive_fold).collect();
            let chars: Vec<char> = there.chars().collect();
            let mut naive = Vec::new();
            for (at, window) in chars.windows(folded.len()).enumerate() {
                if window.iter().copied().map(naive_fold).eq(folded.iter().copied()) {
                    let before: String = chars[..at].iter().collect();
                    let here: String = window.iter().collect();
                    naive.push((encoded(&before).len(), encoded(&here).len()));
                }
            }
            let query = query(&asked, encoding, true);
            let memory = encoded(&there);
            let mut found = found(&query, &memory);
            // In UTF-16 it may stand at odd addresses as well, made of halves of others.
            found.retain(|(at, _)| !utf16 || at % 2 == 0);
            prop_assert_eq!(&found, &naive);
            let longest = query.forms().map_or(0, |forms| forms.max_len());
            prop_assert!(naive.iter().all(|&(_, len)| len <= longest));
        }
    }

    #[test]
    fn wide_text_is_found_wide() {
        let memory = wide("Key\u{1f600}");
        assert_eq!(
            finds(&query("KEY\u{1f600}", Encoding::Utf16, true), &memory),
            [0]
        );
        assert!(finds(&query("KEY", Encoding::Utf16, false), &memory).is_empty());
        assert_eq!(finds(&query("ey", Encoding::Utf16, false), &memory), [2]);
    }

    #[test]
    fn what_cannot_be_searched_for_says_why() {
        let empty = query("", Encoding::Utf8, false).signature();
        assert_eq!(empty, Err(TextError::Empty));
        let long = query(&"x".repeat(1025), Encoding::Utf16, true).signature();
        assert_eq!(long, Err(TextError::TooLong(1025)));
        assert!(
            query(&"\u{df}".repeat(1024), Encoding::Utf16, true)
                .signature()
                .is_ok()
        );
    }
}
