//! `vmie dissect`.

use crate::Hex;
use crate::define::{record, row};

row! {
    /// A field of an object, guessed.
    pub struct FieldRow: "vmie.dissect/1" of "vmie dissect" + physical {
        /// Where it is in the object.
        offset: u64 [bytes] => right;
        /// How long it is.
        len: u64 [bytes] => right;
        /// Its address.
        va: Hex => hidden;
        /// What it is: `vtable`, `pointer`, `std::string`, `float`, `integer`, `zero`, ...
        kind: &'static str => left;
        /// Its value in words.
        value: String => left;
        /// A class, or the text that is pointed at; null where there is none.
        detail: Option<String> => left;
        /// The name of what a pointer leads to, in spaces with names, where it has one: a symbol or image with an offset, else the
        /// region.
        name: Option<String> => left with_os optional;
        /// How sure that is.
        confidence: u8 [percent] => right titled("sure");
        /// What speaks for it.
        evidence: String => left;
        /// What several objects say.
        compared: Option<Compared> => part;
    }
}

record! {
    /// What several objects of a class say of a field.
    pub struct Compared {
        /// With `--like`: how many objects speak for it.
        votes: usize => hidden with_many;
        /// With `--like`: of how many that are not zero there.
        of: usize => hidden with_many;
        /// With `--like`: whether its value varies.
        varies: bool => left with_many;
        /// With `--like`: its values in the first 16 objects, this one first.
        values: Vec<OtherValue> => left with_many;
    }
}

record! {
    /// The value of a field in another object.
    pub struct OtherValue {
        /// Where it is.
        va: Hex;
        /// The value in words.
        value: String;
    }
}
