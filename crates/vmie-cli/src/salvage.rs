//! Files of ours that are damaged: what to try, and what of them is lost.

use vmie::snapshot::{FileError, FileErrorKind};

use crate::exit::Failure;
use crate::report::Reporter;

/// What to try when a file of ours is not opened.
pub(crate) fn not_opened(error: &FileError) -> Failure {
    let failure = Failure::new(error.to_string());
    match error.kind {
        FileErrorKind::Length { .. } | FileErrorKind::Damaged { .. } => {
            failure.hint("--salvage, to read what is intact")
        }
        _ => failure,
    }
}

/// Warns of what is damaged, of the first parts one by one.
pub(crate) fn tell_damage(problems: impl ExactSizeIterator<Item = String>, reporter: &Reporter) {
    const SHOWN: usize = 8;
    let more = problems.len().saturating_sub(SHOWN);
    problems
        .take(SHOWN)
        .for_each(|problem| reporter.warn(&problem));
    if more > 0 {
        reporter.warn(&format!("{more} more damaged parts"));
    }
}
