//! Text from a guest or an image, made safe to show.
//!
//! A guest chooses its process names and strings. Printed as they are, control characters would let
//! it move the cursor, rewrite what the user sees, or talk to the terminal; bidirectional overrides and
//! invisible characters make one name look like another. Everything that is not plainly printable is
//! therefore shown as an escape, and a backslash as two, so that the escaped form is unambiguous.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::Path;

/// Whether a character may reach a terminal as it is.
pub(crate) fn is_plain(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    !(c.is_control()
        || matches!(c,
            '\u{ad}'                        // soft hyphen
            | '\u{61c}'                     // Arabic letter mark
            | '\u{180e}'                    // Mongolian vowel separator
            | '\u{200b}'..='\u{200f}'       // zero width, left-to-right and right-to-left marks
            | '\u{2028}'..='\u{202e}'       // line separators, bidirectional overrides
            | '\u{2060}'..='\u{206f}'       // invisible operators, isolates
            | '\u{feff}'                    // byte order mark
            | '\u{fff9}'..='\u{fffb}'       // interlinear annotation
            | '\u{e0000}'..='\u{e0fff}')) // tags
}

/// The text with everything that is not plainly printable escaped.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| is_plain(c) && c != '\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            c if is_plain(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) <= 0xff => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
        }
    }
    Cow::Owned(out)
}

/// A path as a shell takes it.
pub(crate) fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let safe = |c: char| c.is_ascii_alphanumeric() || "/._-+:,=@%".contains(c);
    if !text.is_empty() && text.chars().all(safe) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// The text of a message of several lines: as [`plain`], but line breaks stay and backslashes are
/// single. For messages only, where nobody parses the text back.
pub(crate) fn message(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| is_plain(c) || c == '\n') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_plain(c) || c == '\n' {
            out.push(c);
        } else {
            let _ = write!(out, "{}", c.escape_unicode());
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_sequences_do_not_get_through() {
        assert_eq!(plain("\x1b]0;owned\x07"), "\\x1b]0;owned\\x07");
        assert_eq!(plain("\u{9b}2J"), "\\x9b2J");
        assert_eq!(plain("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(plain("a\nb\\"), "a\\nb\\\\");
        assert_eq!(message("a\nb\x1b\\"), "a\nb\\u{1b}\\");
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in ["systemd-journal", "größe", "日本語", "a b"] {
            assert!(matches!(plain(text), Cow::Borrowed(_)), "{text}");
        }
    }
}
