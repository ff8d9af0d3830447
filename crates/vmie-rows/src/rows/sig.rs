//! `vmie sig explain`.

use crate::define::{record, row};
use crate::{Bytes, SigName};

row! {
    /// What a signature means, and whether it is a good one.
    pub struct SigRow<'a>: "vmie.sig/1" of "vmie sig explain" {
        /// Its name in the file, or its number on the command line.
        sig: &'a SigName => left;
        /// The form in which it is always written.
        canonical: String => left;
        /// How long a match is at least.
        min_len: usize [bytes] => right;
        /// How long a match is at most.
        max_len: usize [bytes] => right;
        /// The bits that count; null where matches have several forms.
        mask: Option<Bytes> => left;
        /// The bytes that are looked for first: of these every match contains one.
        anchors: Vec<Anchor> => left;
        /// Matches by chance in a GiB of memory in use.
        expected_per_gib: f64 => right;
        /// Why it is a bad one; empty for a good one.
        doubts: Vec<String> => left;
    }
}

record! {
    /// Bytes that are looked for first.
    pub struct Anchor {
        /// The bytes.
        bytes: Bytes;
        /// Where they stand in a match at the earliest.
        min_offset: usize [bytes];
        /// And at the latest.
        max_offset: usize [bytes];
    }
}
