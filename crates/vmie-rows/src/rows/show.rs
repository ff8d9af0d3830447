//! `vmie show`.

use serde_json::Value as Json;

use crate::Hex;
use crate::define::row;

row! {
    /// A value of an instance. Tables print the instance as C instead.
    pub struct ValueRow: "vmie.show/1" of "vmie show" {
        /// Where it stands.
        va: Hex => right;
        /// The members that lead there from the type: `tasks.next`, `comm`, `list[2].prev`.
        path: String => left;
        /// Its type, as C.
        r#type: String => left;
        /// A number, true or false, text, the name of an enum's value, a pointer as `"0x..."`, or a list; text for
        /// numbers that JavaScript does not have; null where it cannot be read.
        value: Json => left;
        /// The name of what a pointer points to, where it has one: a symbol or image with an offset, else the region.
        name: Option<String> => left optional;
        /// Why there is no value.
        gap: Option<&'static str> => left optional;
    }
}
