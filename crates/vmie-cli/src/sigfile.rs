//! Files of signatures: TOML, one `name = "signature"` a line.
//!
//! Signatures keep the order of the file. Errors name the file, the line and the column, also inside
//! the text of a signature; all signatures that cannot be read are named at once.
//!
//! A signature in C form is full of backslashes, `"\x48\x8B"`, which a TOML string in double quotes
//! would turn into characters. No signature needs those characters, so such a string is taken as it
//! stands, as one in single quotes is.

use std::fmt::Write as _;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use vmie::signature::Signature;

use crate::exit::Failure;

/// The largest file that is read. Real collections are a hundred times smaller.
const MAX_FILE: u64 = 64 << 20;

/// Signatures, and remarks on them with file, line and column.
type Read = (Vec<Signature>, Vec<String>);

/// Reads the signatures of a file.
pub(crate) fn read(path: &Path) -> Result<Read, Failure> {
    let failure = |what: &str| {
        Failure::new(format!(
            "cannot read the signatures in {}: {what}",
            path.display()
        ))
    };
    let size = std::fs::metadata(path).map_err(|error| failure(&error.to_string()))?;
    if size.len() > MAX_FILE {
        return Err(failure(&format!(
            "the file is {} bytes long, more than {MAX_FILE}",
            size.len()
        )));
    }
    let bytes = std::fs::read(path).map_err(|error| failure(&error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        failure(&format!(
            "the byte at offset {} is not UTF-8 text",
            error.utf8_error().valid_up_to()
        ))
        .hint("a text file with one name = \"signature\" a line")
    })?;
    parse(&path.display().to_string(), &text)
}

/// Reads the signatures in the text of a file.
fn parse(file: &str, text: &str) -> Result<Read, Failure> {
    let at = |offset: usize, what: &str| Place::of(text, offset).failure(file, what);
    let table = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        at(offset, error.message())
    })?;
    let mut entries: Vec<(&Spanned<_>, &Spanned<DeValue<'_>>)> = table.get_ref().iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    if entries.is_empty() {
        return Err(Failure::new(format!("{file} holds no signature"))
            .hint("one name = \"signature\" a line, such as prologue = \"55 48 89 E5\""));
    }
    let (mut signatures, mut remarks) = (Vec::new(), Vec::new());
    let mut failures = Vec::new();
    for (name, value) in entries {
        let read = || -> Result<(Signature, Vec<String>), Failure> {
            let span = value.span();
            let DeValue::String(decoded) = value.get_ref() else {
                return Err(at(
                    span.start,
                    &format!("the value of `{}` is not a string", name.get_ref()),
                )
                .hint("one name = \"signature\" a line"));
            };
            let (inner, offset) = unquoted(&text[span.clone()]);
            let verbatim = has_bare_x_escape(inner) || inner == decoded.as_ref();
            let signature = if verbatim { inner } else { decoded.as_ref() };
            let name_of = || name.get_ref().as_ref();
            let parsed = Signature::parse_noting(name_of(), signature);
            let (signature, notes) = parsed.map_err(|error| {
                // An escape before the place would shift it: then point at the value.
                let place = if verbatim {
                    span.start + offset + error.offset()
                } else {
                    span.start
                };
                at(
                    place,
                    &format!("signature `{}`: {}", name.get_ref(), error.message()),
                )
            })?;
            let Place { line, column, .. } = Place::of(text, span.start + offset);
            let remark =
                |note| format!("{file}:{line}:{column}: signature `{}`: {note}", name_of());
            Ok((signature, notes.into_iter().map(remark).collect()))
        };
        match read() {
            Ok((signature, notes)) => {
                signatures.push(signature);
                remarks.extend(notes);
            }
            Err(failure) => failures.push(failure),
        }
    }
    all_in_one(file, failures).map_or(Ok((signatures, remarks)), Err)
}

/// What is wrong with a file, all of it at once: nobody wants to mend a file one error a run.
fn all_in_one(file: &str, mut failures: Vec<Failure>) -> Option<Failure> {
    if failures.len() <= 1 {
        return failures.pop();
    }
    let count = failures.len();
    let summary = Failure::new(format!(
        "{count} of the signatures in {file} cannot be read"
    ));
    Some(failures.into_iter().fold(summary, |all, failure| {
        let place = failure.found.join("\n");
        all.found(format!("{}\n{place}", failure.what))
    }))
}

/// What stands between the quotes of a TOML string, and how far from its start.
fn unquoted(raw: &str) -> (&str, usize) {
    for quote in ["\"\"\"", "'''", "\"", "'"] {
        if let Some(inner) = raw
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote))
        {
            // A line break right after three quotes is no part of the string.
            let trimmed = match quote.len() {
                3 => inner
                    .strip_prefix("\r\n")
                    .or_else(|| inner.strip_prefix('\n'))
                    .unwrap_or(inner),
                _ => inner,
            };
            return (trimmed, quote.len() + inner.len() - trimmed.len());
        }
    }
    (raw, 0)
}

/// Whether there is a `\x` whose backslash is not itself escaped.
fn has_bare_x_escape(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\\' && matches!(chars.next(), Some('x' | 'X')) {
            return true;
        }
    }
    false
}

/// A place in a text file.
struct Place<'a> {
    line: usize,
    /// In characters, from 1.
    column: usize,
    text: &'a str,
}

impl<'a> Place<'a> {
    fn of(text: &'a str, offset: usize) -> Self {
        let offset = text.floor_char_boundary(offset);
        let start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
        let line = &text[start..];
        Self {
            line: 1 + text[..offset].matches('\n').count(),
            column: 1 + text[start..offset].chars().count(),
            text: line[..line.find('\n').unwrap_or(line.len())].trim_end_matches('\r'),
        }
    }

    /// The error, with the line and a caret below the place.
    fn failure(&self, file: &str, what: &str) -> Failure {
        const BEFORE: usize = 60;
        const SHOWN: usize = 100;
        let skip = (self.column - 1).saturating_sub(BEFORE);
        let mut shown: String = self
            .text
            .chars()
            .skip(skip)
            .take(SHOWN)
            .map(|c| if c == '\t' { ' ' } else { c })
            .collect();
        let _ = write!(shown, "\n{:indent$}^", "", indent = self.column - 1 - skip);
        Failure::new(format!("{file}:{}:{}: {what}", self.line, self.column)).found(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_forms() {
        let text = "# mine\nzeta = \"48 8B ??\"\nalpha = '\\x48\\x8B'\n\"two words\" = \"\\x34\\x38\"\n\
                    esc = \"\\\\x90\"\nlong = \"\"\"\n{ 48 8B\n  [2] E8 }\"\"\"\n";
        let (signatures, remarks) = parse("f", text).expect("parses");
        assert_eq!(remarks, [""; 0]);
        let seen: Vec<(String, String)> = signatures
            .iter()
            .map(|s| (s.name().to_owned(), s.to_string()))
            .collect();
        let names: Vec<&str> = seen.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["zeta", "alpha", "two words", "esc", "long"]);
        let same = |text: &str| text.parse::<Signature>().expect("parses").to_string();
        assert_eq!(seen[1].1, same("48 8B"));
        assert_eq!(seen[2].1, same("34 38"), "not the text `48`");
        assert_eq!(seen[3].1, same("90"));
        assert_eq!(seen[4].1, same("48 8B ?? ?? E8"));
    }

    #[test]
    fn forms_of_other_tools_and_remarks() {
        let text = "a = '\\xE8\\x00\\x00, x??'\nb = \"0xE8, 0x00 0b01\"\nc = \"E8 . * ..\"\nd = '\"\\xE8\\x00\", \"x?\"'\n\
                    wild = \"\\x48\\x2A\\x05\"\n";
        let (signatures, remarks) = parse("f", text).expect("parses");
        let seen: Vec<String> = signatures.iter().map(ToString::to_string).collect();
        assert_eq!(
            seen,
            ["E8 ?? ??", "E8 ??", "E8 ?? ?? ??", "E8 ??", "48 2A 05"]
        );
        assert_eq!(remarks.len(), 1, "{remarks:?}");
        assert!(
            remarks[0].starts_with("f:5:9: signature `wild`: 0x2A is looked for as it is"),
            "{remarks:?}"
        );
    }

    #[test]
    fn errors_point_into_the_file() {
        let error = |text: &str| parse("sigs.toml", text).expect_err("does not parse");
        let bad = error("good = \"90\"\nbad  = \"48 8B GG\"\n");
        assert!(
            bad.what.starts_with("sigs.toml:2:15: signature `bad`"),
            "{}",
            bad.what
        );
        assert_eq!(bad.found, ["bad  = \"48 8B GG\"\n              ^"]);
        let both = error("a = \"90 4\"\nb = \"90\"\nc = 1\n");
        assert_eq!(both.what, "2 of the signatures in sigs.toml cannot be read");
        assert_eq!(both.found.len(), 2);
        assert!(both.found[0].starts_with("sigs.toml:1:9: signature `a`: "));
        assert!(both.found[0].ends_with("\na = \"90 4\"\n        ^"));
        assert!(both.found[1].starts_with("sigs.toml:3:5: the value of `c`"));
        assert!(error("a = 1").what.starts_with("sigs.toml:1:5: "));
        assert!(
            error("a = \"90\"\na = \"91\"")
                .what
                .starts_with("sigs.toml:2:")
        );
        assert!(error("a = ").what.starts_with("sigs.toml:1:"));
        assert!(error("").what.contains("no signature"));
        assert!(error("ü = \"90\tZZ\"").what.starts_with("sigs.toml:1:"));
    }
}
