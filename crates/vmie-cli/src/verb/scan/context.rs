//! The bytes around a match.

use vmie_rows::{Bytes, Context, Hex};

use crate::output::Cell;
use crate::seek::Around;

/// So many bytes before a match and from it on, as far as they can be read.
pub(super) fn around_match(va: u64, len: usize, around: &dyn Around) -> Context {
    let mut bytes = around.before(va, len);
    let before = bytes.len();
    bytes.extend(around.read(va, len));
    Context {
        va: Hex(va - before as u64),
        bytes: Bytes::of(&bytes),
    }
}

/// The bytes around a match at `va`, which is marked.
pub(super) fn cell(context: Option<&Context>, va: Hex) -> Cell {
    let Some(context) = context else {
        return Cell::new("");
    };
    let before = va.0.wrapping_sub(context.va.0);
    let mut text = String::new();
    for (at, byte) in (0..).zip(context.bytes.pairs()) {
        let mark = if at == before { "> " } else { "" };
        text.push_str(mark);
        text.push_str(byte);
        text.push(' ');
    }
    Cell::new(text.trim_end())
}
