//! `vmie find`.

use serde_json::Value as Json;

use super::Place;
use crate::define::row;

row! {
    /// A number, a text or bytes that were found.
    pub struct FoundRow: "vmie.find/1" of "vmie find" + physical {
        /// Where it stands.
        place: Place => part;
        /// What it is: the option that asked for it, such as `u32` or `utf16`.
        r#type: &'static str => left;
        /// The value: a number; text for numbers of 64 bits, `inf`, `nan` and texts; bytes in hexadecimal.
        value: Json => left;
        /// With `--refine`: the value before.
        old: Option<Json> => left if_asked optional;
    }
    columns ["pid" "process" "va" "type" "value" "old" "region" "name"]
}
