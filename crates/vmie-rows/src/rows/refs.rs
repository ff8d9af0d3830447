//! `vmie refs`.

use super::Place;
use crate::Hex;
use crate::define::row;

row! {
    /// A pointer.
    pub struct RefRow: "vmie.refs/1" of "vmie refs" + physical {
        /// Where it stands.
        place: Place => part;
        /// Where it leads.
        value: Hex => right;
        /// The name of that, in spaces with names, where it has one: a symbol or image with an offset, else the region
        /// (`[heap]`, a file).
        value_name: Option<String> => left with_os optional;
    }
    columns ["pid" "process" "va" "value" "region" "name" "value_name"]
}
