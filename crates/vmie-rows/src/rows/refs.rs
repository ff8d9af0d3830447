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
    }
    columns ["pid" "process" "va" "value" "region" "name"]
}
