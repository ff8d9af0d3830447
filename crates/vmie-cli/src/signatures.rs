//! The signatures that were typed, with `-s` and in files.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use vmie::signature::Signature;

use crate::exit::Failure;
use crate::sigfile;

/// The signatures of the command line, then those of the files, and what each is called in a row.
pub(crate) fn typed(
    texts: &[String],
    files: &[PathBuf],
) -> Result<Vec<(Signature, SigName)>, Failure> {
    let mut all = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        all.push((parse(number, text)?, SigName::Number(number as u64)));
    }
    for path in files {
        for signature in sigfile::read(path)? {
            let name = SigName::Name(signature.name().to_owned());
            all.push((signature, name));
        }
    }
    Ok(all)
}

/// Reads a signature of the command line.
fn parse(number: usize, text: &str) -> Result<Signature, Failure> {
    Signature::parse("", text).map_err(|error| {
        let explained = error.explain();
        let (what, place) = explained.split_once('\n').unwrap_or((&explained, ""));
        // The caret is placed below the text, so both lose the same indent.
        let place: Vec<&str> = place
            .lines()
            .map(|line| line.get(2..).unwrap_or(""))
            .collect();
        Failure::new(format!("signature {number}, {what}")).found(place.join("\n"))
    })
}

/// What a signature is called in a row.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum SigName {
    Number(u64),
    Name(String),
}

impl fmt::Display for SigName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}
