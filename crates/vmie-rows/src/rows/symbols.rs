//! `vmie symbols`.

use std::borrow::Cow;

use super::place::Owner;
use crate::Hex;
use crate::define::row;

row! {
    /// A symbol of the kernel, a module or an image of a process.
    pub struct SymbolRow<'a>: "vmie.symbols/1" of "vmie symbols" {
        /// With `--all-processes`: whose it is.
        owner: Option<Owner> => part;
        /// Its address.
        va: Hex => right strong;
        /// Its name; of C++ and Rust the one in the source, such as `Player::update(int)`, but with `--no-demangle`.
        name: Cow<'a, str> => left;
        /// What the linker calls it, where that is another name.
        mangled: Option<&'a str> => hidden optional;
        /// What it is, in the letters of `nm`: T and t code, D and d data, ...
        r#type: char => left;
        /// The image that it is of; null for the kernel itself.
        module: Option<&'a str> => left;
    }
    columns ["pid" "process" "va" "type" "name" "module" "mangled"]
}
