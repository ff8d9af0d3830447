//! Why a file of candidates cannot be written or read.

use std::io;
use std::path::{Path, PathBuf};

/// A file of candidates cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {kind}", path.display())]
pub struct CandidatesError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub kind: CandidatesErrorKind,
}

/// Why a file of candidates cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CandidatesErrorKind {
    /// The system refuses to write it.
    #[error("cannot be written: {0}")]
    Write(io::Error),
    /// The system refuses to read it.
    #[error("cannot be read: {0}")]
    Read(io::Error),
    /// It is a file of something else.
    #[error("no file of candidates: it does not begin with `vmiecand`")]
    Other,
    /// It is of a version that is not known.
    #[error("version {found} at 0x8; this is version {known}")]
    Version {
        /// Its version.
        found: u64,
        /// The one that is known.
        known: u32,
    },
    /// It ends too early.
    #[error("cut off at {size:#x}, its end: {what} needs {needed:#x} bytes")]
    Cut {
        /// Where it ends.
        size: u64,
        /// What is cut off.
        what: &'static str,
        /// Bytes that are needed.
        needed: u64,
    },
    /// Its end is missing or not what was written.
    #[error(
        "cut off or damaged at its end, {size:#x}: the last 24 bytes do not say how many candidates it holds"
    )]
    End {
        /// Where it ends.
        size: u64,
    },
    /// It is not what was written.
    #[error("damaged: {0}")]
    Damaged(String),
}

impl CandidatesErrorKind {
    /// With the file.
    pub(super) fn of(self, path: &Path) -> CandidatesError {
        CandidatesError {
            path: path.to_owned(),
            kind: self,
        }
    }
}
