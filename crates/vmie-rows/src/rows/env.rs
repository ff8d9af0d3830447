//! `vmie env`.

use crate::define::row;
use crate::{Bytes, Hex};

row! {
    /// A variable of a process's environment, as its memory has it now.
    pub struct EnvRow<'a>: "vmie.env/1" of "vmie env" {
        /// The process.
        pid: u32 => right strong;
        /// Its short name.
        process: &'a str => left;
        /// Its name; left out for what is no `NAME=VALUE`, as processes that give themselves a title leave it.
        name: Option<String> => left optional;
        /// The bytes of its name, where they are not UTF-8.
        name_bytes: Option<Bytes> => optional;
        /// Its value, which may be empty; left out where there is no name.
        value: Option<String> => left optional;
        /// The bytes of its value, where they are not UTF-8.
        value_bytes: Option<Bytes> => optional;
        /// All of what is no `NAME=VALUE`.
        text: Option<String> => left optional;
        /// The bytes of that, where they are not UTF-8.
        text_bytes: Option<Bytes> => optional;
        /// Where it stands.
        va: Hex => hidden;
    }
}
