//! Text: in place, and where pointers lead.

use super::look::Look;
use crate::addr::Address;

/// The fewest characters that are called text.
const FEWEST: usize = 4;
/// The fewest without a terminator: the bytes of a double may be that many digits by chance.
const FEWEST_OPEN: usize = 8;
/// Of text that is pointed at or in a string object, no more is shown.
pub(super) const SHOWN: usize = 256;

/// Text that begins a piece of memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) chars: usize,
    /// Bytes, with the terminator.
    pub(super) len: usize,
    pub(super) terminated: bool,
    /// Letters, digits and blanks, of a hundred.
    pub(super) wordy: usize,
}

/// ASCII or UTF-8 from the first byte on, up to a terminator or what is no text.
pub(super) fn utf8(bytes: &[u8]) -> Option<Text> {
    let end = bytes
        .iter()
        .position(|&byte| byte < 0x20 && !b"\t\r\n".contains(&byte) || byte == 0x7f)
        .unwrap_or(bytes.len());
    let valid = match std::str::from_utf8(&bytes[..end]) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    };
    let wide = |c: char| !c.is_ascii() && !c.is_alphanumeric() && !is_sign(c);
    let valid = &valid[..valid.find(wide).unwrap_or(valid.len())];
    made(
        valid.chars(),
        valid.len(),
        bytes.get(valid.len()) == Some(&0),
        1,
    )
}

/// UTF-16 from the first byte on: Latin, Greek, Cyrillic and signs.
pub(super) fn utf16(bytes: &[u8]) -> Option<Text> {
    let units = bytes
        .as_chunks::<2>()
        .0
        .iter()
        .copied()
        .map(u16::from_le_bytes);
    let chars: Vec<char> = units
        .map_while(|unit| char::from_u32(u32::from(unit)))
        .take_while(|&c| {
            matches!(c, ' '..='~' | '\t' | '\r' | '\n')
                || (c < '\u{530}' && c.is_alphabetic())
                || is_sign(c)
        })
        .collect();
    // Small numbers are characters too; words have letters of ASCII, or are made of one other script.
    let letters = chars.iter().filter(|c| c.is_alphabetic()).count();
    if letters * 2 < chars.len() {
        return None;
    }
    let len = 2 * chars.len();
    let terminated = bytes.get(len..len + 2) == Some(&[0, 0]);
    made(chars.into_iter(), len, terminated, 2)
}

fn is_sign(c: char) -> bool {
    matches!(c, '\u{a0}'..='\u{bf}' | '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}' | '\u{20a0}'..='\u{20bf}')
}

fn made(
    chars: impl Iterator<Item = char> + Clone,
    len: usize,
    terminated: bool,
    unit: usize,
) -> Option<Text> {
    let count = chars.clone().count();
    if count < if terminated { FEWEST } else { FEWEST_OPEN } {
        return None;
    }
    let wordy = chars
        .clone()
        .filter(|c| c.is_alphanumeric() || *c == ' ')
        .count();
    Some(Text {
        text: chars.take(SHOWN).collect(),
        chars: count,
        len: len + if terminated { unit } else { 0 },
        terminated,
        wordy: wordy * 100 / count,
    })
}

impl Text {
    /// How sure it is that this is text.
    pub(super) fn confidence(&self) -> u8 {
        let long = self.chars.min(10) * 4;
        let ended = if self.terminated { 15 } else { 0 };
        let wordy = self.wordy * 40 / 100;
        (long + ended + wordy) as u8
    }
}

impl<A: Address> Look<'_, A> {
    /// The text with a terminator at an address, and whether it is UTF-16. Its end may lie further than
    /// what is read; then it counts as text when all of that is.
    pub(super) fn text(&self, at: u64) -> Option<(Text, bool)> {
        let bytes = self.some::<{ 2 * SHOWN }>(at);
        let whole = |text: &Text| text.terminated || text.len + 3 >= 2 * SHOWN;
        if let Some(text) = utf8(&bytes).filter(|text| whole(text) && text.wordy >= 50) {
            return Some((text, false));
        }
        let text = utf16(&bytes).filter(|text| whole(text) && text.wordy >= 50)?;
        at.is_multiple_of(2).then_some((text, true))
    }
}
