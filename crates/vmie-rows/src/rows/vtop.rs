//! `vmie vtop`.

use super::State;
use crate::define::{record, row};
use crate::{Hex, Prot};

row! {
    /// An address, and everything that its translation looked at.
    pub struct WalkRow: "vmie.vtop/1" of "vmie vtop" {
        /// The address.
        va: Hex => left;
        /// Its name, in spaces with names, where it has one.
        name: Option<String> => left with_os optional;
        /// The physical address; null where there is no translation.
        gpa: Option<Hex> => left;
        /// How large the page is; null where there is no translation.
        page_size: Option<u64> [bytes] => left;
        /// The effective protection; null where there is no translation.
        prot: Option<Prot> => left;
        /// Whether user mode may use it; null where there is no translation.
        user: Option<bool> => left;
        /// Whether the image holds the byte; null where there is no translation.
        in_image: Option<bool> => left;
        /// Why there is no translation; null where there is one.
        cause: Option<&'static str> => left;
        /// Where the page of a process is that the CPU does not see, in a word: see [states](#states).
        state: Option<State> => left with_os optional;
        /// The same in a sentence.
        detail: Option<String> => left with_os optional;
        /// The page-table entries on the way, the top one first.
        steps: Vec<Step> => left;
    }
}

record! {
    /// A page-table entry on the way.
    pub struct Step {
        /// The level of its table: 1 for the one whose entries are pages of 4 KiB.
        level: u8;
        /// The physical address of the entry.
        gpa: Hex;
        /// The entry itself.
        entry: Hex;
    }
}
