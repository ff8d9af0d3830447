//! Why an image could not be opened.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use super::advice::Advice;

/// Why an image could not be opened: what was expected where, what was found, what to try.
#[derive(Debug, thiserror::Error)]
#[error("cannot open {}: {kind}", path.display())]
pub struct OpenError {
    /// The file as it was given.
    pub path: PathBuf,
    /// What is wrong with it.
    pub kind: OpenErrorKind,
}

/// What is wrong with a file that could not be opened as an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenErrorKind {
    /// The operating system refused.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done: `"opening the file"`, ...
        doing: &'static str,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The path does not lead to a regular file.
    #[error("it is {found}; expected a file with a memory image")]
    NotAFile {
        /// What it is: `"a directory"`, ...
        found: &'static str,
    },
    /// The file holds less than one page.
    #[error(
        "the file is {size} bytes long, less than one page of 4096 bytes; expected a memory image"
    )]
    TooShort {
        /// Length of the file in bytes.
        size: u64,
    },
    /// The file is of a known kind that vmie does not read.
    #[error("it is {found}, which vmie does not read; {advice}")]
    Unsupported {
        /// What the file is.
        found: Cow<'static, str>,
        /// What to do to get an image that vmie reads.
        advice: Advice,
    },
    /// The file belongs to an image and holds no memory itself.
    #[error("it is {found}, and not the memory; {advice}")]
    Beside {
        /// What the file is.
        found: &'static str,
        /// How it is given.
        advice: Advice,
    },
    /// A layout was given for a format that brings its own.
    #[error(
        "it is {found}, which says itself where its bytes belong; leave out the layout `{layout}`, \
         or give the layout as an explicit list to read the file as raw memory all the same"
    )]
    LayoutForFormat {
        /// What the file is.
        found: &'static str,
        /// The layout as it was given.
        layout: String,
    },
    /// The layout does not fit the file.
    #[error(
        "no part of the layout `{layout}` begins within the file, which is {size:#x} bytes long"
    )]
    LayoutBehindEnd {
        /// The layout as it was given.
        layout: String,
        /// Length of the file in bytes.
        size: u64,
    },
    /// A state file or files below were given for a format that has neither.
    #[error("it is {found}; a state file and files below it belong to raw memory only")]
    NotLayered {
        /// What the file is.
        found: Cow<'static, str>,
    },
    /// A state file and a layout were given, which may contradict each other.
    #[error(
        "a state file says where the bytes belong: leave out the layout `{layout}`, or the state file"
    )]
    StateAndLayout {
        /// The layout as it was given.
        layout: String,
    },
    /// A file that was given with the source is the reason.
    #[error("{what} {}: {kind}", path.display())]
    Companion {
        /// What it is to the source: `"its state"`, ...
        what: &'static str,
        /// That file.
        path: PathBuf,
        /// What is wrong with it.
        kind: Box<OpenErrorKind>,
    },
    /// The file is of a known format and holds no memory.
    #[error("it is {found} without any memory in it; {advice}")]
    NoMemory {
        /// What the file is.
        found: &'static str,
        /// What to try.
        advice: Advice,
    },
    /// The file is of a known format, but a field in it cannot be right.
    #[error("{what} at file offset {offset:#x}: expected {expected}, found {found}; {advice}")]
    Damaged {
        /// The structure that is damaged: `"LiME header"`, ...
        what: &'static str,
        /// Where in the file.
        offset: u64,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
        /// What to try.
        advice: Advice,
    },
}

impl OpenErrorKind {
    /// What to try, where it says something of that; of a file that was given with the source, what to try with that.
    pub fn advice(&self) -> Option<Advice> {
        match self {
            Self::Unsupported { advice, .. }
            | Self::Beside { advice, .. }
            | Self::NoMemory { advice, .. }
            | Self::Damaged { advice, .. } => Some(*advice),
            Self::Companion { kind, .. } => kind.advice(),
            _ => None,
        }
    }
}
