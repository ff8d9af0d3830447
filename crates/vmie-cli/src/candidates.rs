//! Files of candidates as the command speaks of them.

use vmie::candidates::{CandidatesError, CandidatesErrorKind};
pub(crate) use vmie::candidates::{
    Header, Likeness, Saved, Scope, Sought, SpaceId as Whose, Writer,
};

use crate::escape::shell_word;
use crate::exit::{Failure, Stop};

/// Whose memory a space is, by the options that choose it where nothing else is known.
pub(crate) fn told(whose: &Whose) -> String {
    match whose {
        Whose::Root { cr3, paging } => format!("--cr3 {cr3:#x} ({paging})"),
        Whose::Phys => "--phys".to_owned(),
        known => known.to_string(),
    }
}

impl From<CandidatesError> for Failure {
    fn from(error: CandidatesError) -> Self {
        const FROM_SAVE: &str = "a file that `vmie find --save FILE` has written";
        const ANEW: &str = "`vmie find --save` once more, from the beginning";
        let name = shell_word(&error.path);
        match error.kind {
            CandidatesErrorKind::Write(error) => Self::new(format!("cannot write {name}: {error}")),
            CandidatesErrorKind::Read(error) => {
                Self::new(format!("cannot read {name}: {error}")).hint(FROM_SAVE)
            }
            CandidatesErrorKind::Other => Self::new(format!("{name} is not a file of candidates"))
                .found("it does not begin with `vmiecand`")
                .hint(FROM_SAVE),
            CandidatesErrorKind::Version { found, known } => {
                Self::new(format!("{name} cannot be read"))
                    .found(format!("version {found} at 0x8; this is version {known}"))
            }
            CandidatesErrorKind::Cut { size, what, needed } => {
                Self::new(format!("{name} is cut off at {size:#x}, its end"))
                    .found(format!("{what} needs {needed:#x} bytes"))
                    .hint(ANEW)
            }
            CandidatesErrorKind::End { size } => Self::new(format!(
                "{name} is cut off or damaged at its end, {size:#x}"
            ))
            .found("the last 24 bytes do not say how many candidates it holds")
            .hint(ANEW),
            CandidatesErrorKind::Damaged(found) => Self::new(format!("{name} is damaged"))
                .found(found)
                .hint(ANEW),
            other => Self::new(format!("{name}: {other}")),
        }
    }
}

impl From<CandidatesError> for Stop {
    fn from(error: CandidatesError) -> Self {
        Failure::from(error).into()
    }
}
