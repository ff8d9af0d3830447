//! Text that is searched for, as the bytes that it can be.
//!
//! A text becomes a [`Signature`], so that any number of them is found in one pass, across pages, by the
//! engine that finds all signatures. Where case does not matter, a letter becomes an alternative of the
//! forms it has in its encoding, which need not be equally long.

use std::fmt::Write as _;

use thiserror::Error;

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
    /// Whether upper and lower case are the same.
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
        let count = self.text.chars().count();
        if count == 0 {
            return Err(TextError::Empty);
        }
        if count > MAX_CHARS {
            return Err(TextError::TooLong(count));
        }
        let mut syntax = String::new();
        for c in self.text.chars() {
            let mut forms = vec![self.bytes(&c.to_string())];
            if self.ignore_case {
                let others = [c.to_lowercase().to_string(), c.to_uppercase().to_string()];
                for other in others.map(|other| self.bytes(&other)) {
                    if !forms.contains(&other) {
                        forms.push(other);
                    }
                }
            }
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

    fn bytes(&self, text: &str) -> Vec<u8> {
        match self.encoding {
            Encoding::Ascii | Encoding::Utf8 => text.as_bytes().to_vec(),
            Encoding::Utf16 => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    digits.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::Set;
    use crate::sweep::Found;

    fn finds(query: &TextQuery, bytes: &[u8]) -> Vec<usize> {
        let set = Set::compile(vec![query.signature().unwrap()]).unwrap();
        let mut found = Found::with_limit(100);
        set.find(bytes, bytes.len(), &mut found);
        found.items().iter().map(|hit| hit.offset).collect()
    }

    fn query(text: &str, encoding: Encoding, ignore_case: bool) -> TextQuery {
        TextQuery {
            text: text.to_owned(),
            encoding,
            ignore_case,
        }
    }

    #[test]
    fn case_matters_or_not() {
        let memory = "Stra\u{df}e STRASSE stra\u{df}e \u{c4}\u{e4}".as_bytes();
        let exact = query("stra\u{df}e", Encoding::Utf8, false);
        assert_eq!(finds(&exact, memory), [16]);
        let either = query("stra\u{df}e", Encoding::Utf8, true);
        assert_eq!(finds(&either, memory), [0, 8, 16]);
        let umlaut = query("\u{e4}", Encoding::Utf8, true);
        assert_eq!(finds(&umlaut, memory), [24, 26]);
    }

    #[test]
    fn wide_text_is_found_wide() {
        let wide: Vec<u8> = "Key\u{1f600}"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        assert_eq!(
            finds(&query("KEY\u{1f600}", Encoding::Utf16, true), &wide),
            [0]
        );
        assert!(finds(&query("KEY", Encoding::Utf16, false), &wide).is_empty());
        assert_eq!(finds(&query("ey", Encoding::Utf16, false), &wide), [2]);
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
