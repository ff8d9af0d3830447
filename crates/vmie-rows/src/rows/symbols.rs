//! `vmie symbols`.

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
        /// Its name.
        name: &'a str => left;
        /// What it is, in the letters of `nm`: T and t code, D and d data, ...
        r#type: char => left;
        /// The image that it is of; null for the kernel itself.
        module: Option<&'a str> => left;
    }
    columns ["pid" "process" "va" "type" "name" "module"]
}
