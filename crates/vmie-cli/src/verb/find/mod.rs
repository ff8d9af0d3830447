//! `vmie find`: numbers, texts and bytes, and those that were found before.

mod args;
mod asked;
mod kind;
mod refine;
mod relations;
mod save;

use std::path::Path;

use vmie::Piece;
use vmie::search::{Encoding, Finder, Inexact, Query, TextError, TextQuery, ValueQuery, ValueType};
use vmie::signature::Signature;
use vmie_rows::FoundRow;

use crate::escape::shell_word;
use crate::exit::{Done, Failure, Result};
use crate::options::Options;
use crate::output::Row;
use crate::report::Reporter;
use crate::seek::{Keep, Seek};
pub(super) use args::FindArgs;
use asked::{Asked, Known};
use kind::Kind;
use save::Save;

pub(super) fn run(args: &FindArgs, options: &Options) -> Result<Done> {
    if !args.more.more.is_empty() && (args.again.save.is_some() || args.again.refine.is_some()) {
        return Err(Failure::new("a file of candidates is about one source")
            .found(format!("{} sources", args.more.more.len() + 1))
            .hint("--save or --refine with one source at a time")
            .into());
    }
    if let Some(save) = &args.again.save {
        spare(save, args)?;
    }
    if let Some(file) = &args.again.refine {
        return refine::run(args, file, options);
    }
    let (queries, asked): (Vec<Query>, Vec<Asked>) =
        queries(args, &options.reporter)?.into_iter().unzip();
    let align = args.align.min(Piece::ALIGN);
    let finder = Finder::new(queries, align);
    let finder = finder.map_err(|error| Failure::new(error.to_string()))?;
    let seek = Seek {
        verb: "find",
        args: &args.search,
        options,
        asked: false,
    };
    // The engine knows addresses modulo a cache line only.
    let aligned = |va: u64| va.is_multiple_of(args.align);
    let mut save = match &args.again.save {
        Some(path) => Some(Save::new(path, &asked, &aligned, &options.reporter)?),
        None => None,
    };
    let keep = save.as_mut().map(|save| save as &mut dyn Keep<_>);
    seek.run_keeping(&finder, keep, |place, sought, around| {
        aligned(place.va.0).then(|| {
            let asked = &asked[sought.query];
            let value = asked.bytes(sought.bits, place.va.0, around);
            FoundRow {
                r#type: asked.kind.name(),
                value: asked.kind.show(&value),
                old: None,
                place,
            }
        })
    })
}

impl Row for FoundRow {}

/// Refuses to overwrite what is being read.
fn spare(save: &Path, args: &FindArgs) -> Result<()> {
    let real = |path: &Path| path.canonicalize().ok();
    if real(save).is_some_and(|save| real(&args.search.source.source) == Some(save)) {
        return Err(
            Failure::new(format!("{} is what is being searched", shell_word(save)))
                .hint("another file after --save")
                .into(),
        );
    }
    Ok(())
}

/// What was typed, by type and not in the order of the command line. Says of numbers that their types do not have
/// what is looked for instead.
fn queries(args: &FindArgs, reporter: &Reporter) -> Result<Vec<(Query, Asked)>> {
    let numbers: [(ValueType, &[String]); 10] = [
        (ValueType::U8, &args.u8),
        (ValueType::I8, &args.i8),
        (ValueType::U16, &args.u16),
        (ValueType::I16, &args.i16),
        (ValueType::U32, &args.u32),
        (ValueType::I32, &args.i32),
        (ValueType::U64, &args.u64),
        (ValueType::I64, &args.i64),
        (ValueType::F32, &args.f32),
        (ValueType::F64, &args.f64),
    ];
    let mut all = Vec::new();
    for (ty, texts) in numbers {
        for text in texts {
            let option = format!("--{ty}");
            let mut notes = Vec::new();
            let query = ValueQuery::parse_noting(ty, text, &mut notes)
                .map_err(|error| not_a_number(&option, &error.text, error.reason))?;
            tell_inexact(&option, &notes, reporter);
            let asked = Asked {
                kind: Kind::Number(ty),
                typed: text.clone(),
                len: ty.size(),
                bytes: Known::Number,
            };
            all.push((Query::Value(query), asked));
        }
    }
    for (encoding, texts) in [(Encoding::Utf8, &args.str), (Encoding::Utf16, &args.utf16)] {
        for text in texts {
            let query = TextQuery {
                text: text.clone(),
                encoding,
                ignore_case: args.ignore_case,
            };
            let error = |error: TextError| Failure::new(error.to_string());
            let signature = query.signature().map_err(error)?;
            let forms = query.forms().map_err(error)?;
            let asked = Asked {
                kind: Kind::Text(encoding),
                typed: text.clone(),
                len: forms.max_len(),
                bytes: match args.ignore_case {
                    true => Known::Forms(forms),
                    false => Known::All(kind::encoded(encoding, text)),
                },
            };
            all.push((Query::Pattern(signature), asked));
        }
    }
    for text in &args.bytes {
        let Some(bytes) = kind::bytes(text) else {
            return Err(not_bytes("--bytes", text).into());
        };
        let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let signature = Signature::parse("", &pairs.join(" "));
        let signature = signature.map_err(|error| Failure::new(error.to_string()))?;
        let asked = Asked {
            kind: Kind::Bytes,
            typed: text.clone(),
            len: bytes.len(),
            bytes: Known::All(bytes),
        };
        all.push((Query::Pattern(signature), asked));
    }
    Ok(all)
}

/// Says what becomes of numbers that a type does not have.
fn tell_inexact(option: &str, notes: &[Inexact], reporter: &Reporter) {
    for note in notes {
        reporter.warn(&format!("{option}: {note}"));
    }
}

fn not_bytes(option: &str, text: &str) -> Failure {
    Failure::new(format!("{option}: `{text}` is not bytes"))
        .found("pairs of hexadecimal digits were expected, such as 4d 5a 90")
        .hint("`vmie scan -s`, for bytes with wildcards")
}

fn not_a_number(option: &str, text: &str, reason: String) -> Failure {
    Failure::new(format!("{option}: `{text}` cannot be searched for"))
        .found(reason)
        .hint("V, A..B (B excluded) or A..=B; of f32 and f64 also V~T")
}
