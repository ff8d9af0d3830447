//! The bytes around a match.

use serde::Serialize;

use crate::output::{Hex, digits};
use crate::seek::Around;

/// The bytes around a match.
#[derive(Serialize)]
pub(super) struct Context {
    va: Hex,
    /// Two digits a byte.
    bytes: String,
    /// How many stand before the match.
    #[serde(skip)]
    before: usize,
}

impl Context {
    /// So many bytes before a match and from it on, as far as they can be read.
    pub(super) fn of(va: u64, len: usize, around: &dyn Around) -> Self {
        let mut bytes = around.before(va, len);
        let before = bytes.len();
        bytes.extend(around.read(va, len));
        Self {
            va: Hex(va - before as u64),
            bytes: digits(&bytes),
            before,
        }
    }

    pub(super) fn view(&self) -> String {
        let digits = self.bytes.as_bytes().chunks(2);
        let mut text = String::new();
        for (i, byte) in digits.enumerate() {
            let mark = if i == self.before { "> " } else { "" };
            text.push_str(mark);
            text.push_str(std::str::from_utf8(byte).unwrap_or_default());
            text.push(' ');
        }
        text.trim_end().to_owned()
    }
}
