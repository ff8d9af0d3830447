//! `vmie modules`.

use super::place::Owner;
use crate::Hex;
use crate::define::row;

row! {
    /// A module of the kernel, or the program or a library of a process.
    pub struct ModuleRow<'a>: "vmie.modules/1" of "vmie modules" {
        /// With `--all-processes`: whose it is.
        owner: Option<Owner> => part;
        /// What the guest gives as its address: where its code starts, or its header.
        va: Hex => right strong;
        /// What it takes in all.
        len: u64 [bytes] => right size;
        /// Its name.
        name: &'a str => left;
        /// The path of its file; null when not known.
        path: Option<&'a str> => left;
        /// Its lowest address.
        start: Hex => hidden;
        /// From its lowest to its highest address; there may be gaps, and others within them.
        span: u64 [bytes] => hidden;
    }
}
