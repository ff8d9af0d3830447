//! `vmie history`.

use crate::define::row;
use crate::{Bytes, Hex, Time};

row! {
    /// A command that was typed into a shell.
    pub struct HistoryLineRow<'a>: "vmie.history/1" of "vmie history" {
        /// The shell.
        pid: u32 => right strong;
        /// Its short name.
        process: &'a str => left;
        /// When it was typed.
        time: Time => left;
        /// What was typed; it may have several lines.
        command: String => left;
        /// Its bytes, where they are not UTF-8.
        command_bytes: Option<Bytes> => optional;
        /// Whether the shell's list has it; with `--all`, others that are still in memory have rows, too.
        listed: bool => hidden;
        /// Where the entry is.
        va: Hex => hidden;
    }
}
