//! What the options of `find --refine` ask of each query of a file.

use vmie::search::{Amount, Inexact, Relation, ValueError, ValueQuery};

use super::args::RefineArgs;
use super::kind::{self, Kind};
use super::{not_a_number, not_bytes, tell_inexact};
use crate::exit::{Failure, Result};
use crate::report::Reporter;

/// What was typed, for each query. A number that a type cannot express equals nothing of that type; one
/// that none of the types can express is a mistake.
///
/// Says of numbers that a type does not have what is looked for instead.
pub(super) fn relations(
    args: &RefineArgs,
    kinds: &[Kind],
    reporter: &Reporter,
) -> Result<Vec<Vec<Relation>>> {
    let mut all = Vec::new();
    let mut told: Vec<(&str, Inexact)> = Vec::new();
    let mut fits = [false; 4];
    let mut mistake = None;
    let options = [
        ("--eq", &args.eq),
        ("--ne", &args.ne),
        ("--increased-by", &args.increased_by),
        ("--decreased-by", &args.decreased_by),
    ];
    for &kind in kinds {
        let mut of_kind = Vec::new();
        for (asked, relation) in [
            (args.changed, Relation::Changed),
            (args.unchanged, Relation::Unchanged),
        ] {
            of_kind.extend(asked.then_some(relation));
        }
        for (asked, relation) in [
            (args.increased, Relation::Increased as fn(_) -> _),
            (args.decreased, Relation::Decreased),
        ] {
            if asked {
                of_kind.push(match kind {
                    Kind::Number(ty) => relation(ty),
                    // Text is neither more nor less.
                    _ => Relation::Impossible,
                });
            }
        }
        for (index, (option, text)) in options.into_iter().enumerate() {
            let Some(text) = text else { continue };
            let mut notes = Vec::new();
            match relation(option, kind, text, &mut notes) {
                Ok(relation) => {
                    for note in notes {
                        let note = (option, note);
                        // Once for each type, however many queries are of it.
                        if !told.contains(&note) {
                            tell_inexact(option, std::slice::from_ref(&note.1), reporter);
                            told.push(note);
                        }
                    }
                    fits[index] = true;
                    of_kind.push(relation);
                }
                Err(failure) => {
                    mistake.get_or_insert((index, failure));
                    // What is not of this type is not equal to anything of it.
                    if option != "--ne" {
                        of_kind.push(Relation::Impossible);
                    }
                }
            }
        }
        all.push(of_kind);
    }
    if (args.increased || args.decreased) && !kinds.iter().any(Kind::is_number) {
        return Err(Failure::new("--increased and --decreased are for numbers")
            .found("the file holds text or bytes only")
            .hint("--changed, --unchanged, --eq or --ne")
            .into());
    }
    match mistake {
        Some((index, failure)) if !fits[index] => Err(failure.into()),
        _ => Ok(all),
    }
}

/// What an option with a value asks of values of a kind.
fn relation(
    option: &'static str,
    kind: Kind,
    text: &str,
    notes: &mut Vec<Inexact>,
) -> std::result::Result<Relation, Failure> {
    let bad = |error: ValueError| not_a_number(option, &error.text, error.reason);
    let same = option == "--eq";
    let bytes = match (kind, option) {
        (Kind::Number(ty), "--eq") => {
            return ValueQuery::parse_noting(ty, text, notes)
                .map(Relation::Equal)
                .map_err(bad);
        }
        (Kind::Number(ty), "--ne") => {
            let query = ValueQuery::parse_noting(ty, text, notes).map_err(bad)?;
            return Ok(Relation::NotEqual(query));
        }
        (Kind::Number(ty), "--increased-by") => {
            return Amount::parse_noting(ty, text, notes)
                .map(Relation::IncreasedBy)
                .map_err(bad);
        }
        (Kind::Number(ty), _) => {
            return Amount::parse_noting(ty, text, notes)
                .map(Relation::DecreasedBy)
                .map_err(bad);
        }
        (_, "--increased-by" | "--decreased-by") => {
            return Err(Failure::new(format!("{option} is for numbers"))
                .found("the file holds text or bytes only")
                .hint("--changed, --unchanged, --eq or --ne"));
        }
        (Kind::Text(encoding), _) => kind::encoded(encoding, text),
        (Kind::Bytes, _) => kind::bytes(text).ok_or_else(|| not_bytes(option, text))?,
    };
    if bytes.is_empty() {
        return Err(Failure::new(format!(
            "{option}: everything begins with an empty text"
        )));
    }
    Ok(if same {
        Relation::StartsWith(bytes)
    } else {
        Relation::StartsOtherwise(bytes)
    })
}
