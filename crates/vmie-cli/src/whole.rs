//! The command as a whole, for verbs that are about it: its man page, its completions, its tour.

use std::ffi::OsString;

use crate::args::GlobalArgs;
use crate::exit::Result;

/// What such a verb may ask of the whole, which knows all verbs and so cannot be known by one.
pub(crate) struct Whole {
    /// The command line.
    pub(crate) command: fn() -> clap::Command,
    /// Runs the words of a command line, with the options for colours and messages that were typed, and says with
    /// which status that would end.
    pub(crate) run: fn(Vec<OsString>, &GlobalArgs) -> Result<u8>,
}
