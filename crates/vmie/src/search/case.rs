//! Which characters differ only in case: Unicode's simple case folding.
//!
//! That is what the statuses C and S in Unicode's `CaseFolding.txt` say, both ways and in all scripts: three
//! letters are a sigma (`Σ`, `σ`, and `ς` at the end of a word), the sign for kelvin is a `k`, `ſ` is an `s`, `ẞ` is `ß`. Full
//! folding, by which `ß` is `ss` as well, is another thing: a text would have many lengths, and a match no clear end.
//! The Turkish dotless `ı` is a letter of its own.
//!
//! The table is that of `regex-syntax`. The standard library has none: its upper and lower case are about
//! writing, one way only, and do not always come back.

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

/// All characters that differ from `c` only in case, itself included, ascending.
pub(super) fn variants(c: char) -> Vec<char> {
    let mut class = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
    // Fails only where the table was left out when this was compiled.
    if class.try_case_fold_simple().is_err() {
        return vec![c];
    }
    class
        .iter()
        .flat_map(|range| range.start()..=range.end())
        .collect()
}

/// The same text for all texts that differ only in case, to compare them. Not meant to be read.
pub fn fold_case(text: &str) -> String {
    text.chars()
        .map(|c| variants(c).first().copied().unwrap_or(c))
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Simple case folding by what the standard library knows: upper, then lower case, where that is one
    /// character, and what `CaseFolding.txt` has otherwise.
    pub(crate) fn naive_fold(c: char) -> char {
        let one = |mut chars: std::char::ToUppercase| {
            let first = chars.next();
            first.filter(|_| chars.next().is_none())
        };
        let lower = |c: char| {
            let mut chars = c.to_lowercase();
            let first = chars.next();
            first.filter(|_| chars.next().is_none()).unwrap_or(c)
        };
        match c {
            // Neither is a pair of `i` and `I` (status T only).
            '\u{131}' | '\u{130}' => c,
            // Same in full, and since Unicode 15.1 as pairs.
            '\u{1fd3}' => '\u{390}',
            '\u{1fe3}' => '\u{3b0}',
            '\u{fb05}' => '\u{fb06}',
            _ => lower(one(c.to_uppercase()).unwrap_or(c)),
        }
    }

    #[test]
    fn the_table_is_simple_case_folding() {
        let mut classes: HashMap<char, Vec<char>> = HashMap::new();
        for c in '\0'..=char::MAX {
            classes.entry(naive_fold(c)).or_default().push(c);
        }
        // Letters of later versions of Unicode are known to one of both first.
        let later =
            |c: &char| matches!(c, '\u{264}' | '\u{a7cb}'..='\u{a7dd}' | '\u{16ea0}'..='\u{16ed3}');
        let mut pairs = 0;
        for class in classes.values().filter(|class| !class.iter().any(later)) {
            pairs += class.len() - 1;
            for &c in class {
                assert_eq!(&variants(c), class, "{c:?}");
            }
        }
        assert!(pairs > 1400, "{pairs}");
    }

    #[test]
    fn letters_of_all_kinds() {
        for all in [
            "Σςσ",
            "Kk\u{212a}",
            "Ss\u{17f}",
            "ß\u{1e9e}",
            "Ωω\u{2126}",
            "Åå\u{212b}",
            "µΜμ",
            "Жж",
            "ı",
            "İ",
            "1",
        ] {
            let mut chars: Vec<char> = all.chars().collect();
            chars.sort_unstable();
            for &c in &chars {
                assert_eq!(variants(c), chars, "{c}");
            }
        }
        assert_eq!(fold_case("ΟΔΟΣ, straße"), fold_case("οδος, STRAẞE"));
        assert_ne!(fold_case("strasse"), fold_case("straße"));
    }
}
