//! `vmie symbols`.

use crate::Hex;
use crate::define::row;

row! {
    /// A symbol of the kernel, a module or an image of a process.
    pub struct SymbolRow<'a>: "vmie.symbols/1" of "vmie symbols" {
        /// Its address.
        va: Hex => right strong;
        /// Its name.
        name: &'a str => left;
        /// What it is, in the letters of `nm`: T and t code, D and d data, ...
        r#type: char => left;
        /// The image that it is of; null for the kernel itself.
        module: Option<&'a str> => left;
    }
    columns ["va" "type" "name" "module"]
}
