//! `vmie type`.

use crate::define::row;

row! {
    /// A member of a type, a hole, or a named value. Tables print the type as C instead.
    pub struct MemberRow<'a>: "vmie.type/1" of "vmie type" {
        /// Where it is in the type.
        offset: u64 [bytes] => right;
        /// Of a bit-field: where it is from there; otherwise null.
        bit: Option<u64> [bits] => right;
        /// How long it is; null for bit-fields.
        len: Option<u64> [bytes] => right;
        /// Of a bit-field: how long it is; otherwise null.
        bits: Option<u64> [bits] => right;
        /// `member`, `hole`, `value` (of an enum), `open` and `close` (of a record), or `plain`.
        kind: &'static str => left;
        /// How many records it is in.
        depth: usize => right;
        /// Its name; null where it has none.
        name: Option<&'a str> => left;
        /// Its type, as C; null where it has none.
        r#type: Option<&'a str> => left;
        /// The number of a named value.
        value: Option<i128> => right optional;
    }
}
