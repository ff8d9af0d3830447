//! The signatures that were typed, with `-s` and in files.

use std::path::PathBuf;

use vmie::signature::{CompileError, EngineKind, Set, Signature};
use vmie_rows::SigName;

use crate::args::EngineArgs;
use crate::exit::Failure;
use crate::report::Reporter;
use crate::sigfile;

/// Remarks on the signatures of a file told one by one.
const SHOWN: usize = 16;

/// The signatures of the command line, then those of the files, and what each is called in a row. Says what in them
/// may have been meant otherwise.
pub(crate) fn typed(
    texts: &[String],
    files: &[PathBuf],
    reporter: &Reporter,
) -> Result<Vec<(Signature, SigName)>, Failure> {
    let mut all = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        let (signature, remarks) = parse(number, text)?;
        for remark in remarks {
            reporter.warn(&format!("signature {number}: {remark}"));
        }
        all.push((signature, SigName::Number(number as u64)));
    }
    for path in files {
        let (signatures, remarks) = sigfile::read(path)?;
        for remark in remarks.iter().take(SHOWN) {
            reporter.warn(remark);
        }
        if remarks.len() > SHOWN {
            let more = remarks.len() - SHOWN;
            reporter.warn(&format!("{more} more signatures like these"));
        }
        for signature in signatures {
            let name = SigName::Name(signature.name().to_owned());
            all.push((signature, name));
        }
    }
    Ok(all)
}

/// Compiles them for the engine that was asked for, and with `-v` says which one that is.
pub(crate) fn compile(
    signatures: Vec<Signature>,
    args: EngineArgs,
    reporter: &Reporter,
) -> Result<Set, Failure> {
    let set = Set::compile_for(signatures, args.engine).map_err(|error| {
        let failure = Failure::new(error.to_string());
        match error {
            CompileError::Unavailable(_) => failure
                .found("a CPU without the instructions that it takes")
                .hint(format!("--engine (or VMIE_ENGINE) {}", available())),
            _ => failure,
        }
    })?;
    let count = set.signatures().len();
    let plural = if count == 1 { "" } else { "s" };
    let engine = match (args.engine, set.engine().name()) {
        (EngineKind::Auto, name) => name.to_owned(),
        (kind, name) if kind.name() == name => name.to_owned(),
        // An engine may have several ways.
        (kind, way) => format!("{kind} ({way})"),
    };
    reporter.detail(&format!(
        "{count} signature{plural}, found by the engine {engine}"
    ));
    Ok(set)
}

/// The engines that this machine can run.
fn available() -> String {
    let kinds = EngineKind::ALL.into_iter();
    let names: Vec<_> = kinds
        .filter(|kind| kind.is_available())
        .map(EngineKind::name)
        .collect();
    names.join(", ")
}

/// Reads a signature of the command line.
fn parse(number: usize, text: &str) -> Result<(Signature, Vec<String>), Failure> {
    Signature::parse_noting("", text).map_err(|error| {
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
