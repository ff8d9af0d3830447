//! `vmie strings`.

use super::Place;
use crate::define::row;

row! {
    /// Whatever reads as text.
    pub struct StringRow: "vmie.strings/1" of "vmie strings" + physical {
        /// Where it begins.
        place: Place => part;
        /// How it is encoded: `ascii`, `utf8` or `utf16`.
        encoding: &'static str => left;
        /// The text.
        text: String => left;
        /// True where it goes on behind what is shown, else left out.
        cut: bool => optional;
    }
    columns ["pid" "process" "va" "encoding" "text" "region" "name"]
}
