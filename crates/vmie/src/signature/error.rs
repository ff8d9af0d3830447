//! What can be wrong with a signature, told so that it can be put right.

use std::fmt::{self, Write as _};

/// A signature that could not be read.
///
/// `Display` is one line, `column 7: expected ..., found ...`; [`ParseError::explain`] shows the
/// text with a caret below the place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    message: String,
    text: String,
    offset: usize,
}

impl ParseError {
    pub(super) fn new(text: &str, offset: usize, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            text: text.to_owned(),
            offset: offset.min(text.len()),
        }
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The place as an offset in bytes into the text.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The place as a line from 1; signatures of more than one line are rare.
    pub fn line(&self) -> usize {
        1 + self.text[..self.offset].matches('\n').count()
    }

    /// The place as a column from 1 in its line, counted in characters.
    pub fn column(&self) -> usize {
        1 + self.text[self.line_start()..self.offset].chars().count()
    }

    fn line_start(&self) -> usize {
        self.text[..self.offset].rfind('\n').map_or(0, |at| at + 1)
    }

    /// Three lines: the message, the line of text, and a caret below the offending column.
    ///
    /// What would not show as itself (control characters and the like) is shown as `\u{fffd}`; of a long line only the surroundings
    /// of the place are shown.
    pub fn explain(&self) -> String {
        const BEFORE: usize = 60;
        const AFTER: usize = 40;
        let start = self.line_start();
        let before: Vec<char> = self.text[start..self.offset].chars().collect();
        let shown = &before[before.len().saturating_sub(BEFORE)..];
        let rest: Vec<char> = self.text[self.offset..]
            .chars()
            .take_while(|&c| c != '\n')
            .take(AFTER + 1)
            .collect();
        let mut answer = format!("{self}\n  ");
        let mut indent = shown.len();
        if shown.len() < before.len() {
            answer.push_str("... ");
            indent += 4;
        }
        answer.extend(shown.iter().copied().map(printable));
        answer.extend(rest.iter().copied().take(AFTER).map(printable));
        if rest.len() > AFTER {
            answer.push_str(" ...");
        }
        let _ = write!(answer, "\n  {:indent$}^", "");
        answer
    }
}

fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if is_visible(c) => c,
        _ => char::REPLACEMENT_CHARACTER,
    }
}

/// Whether a character shows as itself on a terminal: no controls, nothing that changes direction or
/// combines with its neighbours.
pub(super) fn is_visible(c: char) -> bool {
    c.is_ascii_graphic() || c == ' ' || (!c.is_ascii() && c.escape_debug().count() == 1)
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.contains('\n') {
            write!(f, "line {}, ", self.line())?;
        }
        write!(f, "column {}: {}", self.column(), self.message)
    }
}

impl std::error::Error for ParseError {}

/// Signatures that cannot be compiled together.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// There are none.
    #[error("there is no signature to look for")]
    Empty,
    /// The machine lacks what the engine needs.
    #[error("this machine cannot run the engine {0}")]
    Unavailable(crate::signature::EngineKind),
    /// They are too large together.
    #[error(
        "the signatures have {elements} elements together, more than {}",
        crate::signature::MAX_SET_ELEMENTS
    )]
    TooLarge {
        /// Bytes, jumps and branches of all signatures.
        elements: usize,
    },
}
