//! `vmie xref`.

use super::Place;
use crate::Hex;
use crate::define::{record, row};

row! {
    /// An instruction that refers to an address.
    pub struct XrefRow: "vmie.xref/1" of "vmie xref" + physical {
        /// Where it begins.
        place: Place => part;
        /// What it does with the address: `call`, `jmp`, `jcc`, `call-ptr` and `jmp-ptr` (through the pointer that stands
        /// there), `lea`, `mem` (reads or writes there), `imm` (has it as a number).
        kind: &'static str => left;
        /// The address.
        target: Hex => right;
        /// The name of that, in spaces with names, where it has one.
        target_name: Option<String> => left with_os optional;
        /// How long it is.
        len: u8 [bytes] => hidden;
        /// The instruction in words.
        text: String => left;
        /// Whether a decode that begins before it arrives at it; if not, it is probably data that looks like code.
        linear: bool => left;
        /// How it leads to what was asked for.
        way: Option<Way> => part;
        /// `page cache` where the process has not mapped the code, else left out.
        state: Option<&'static str> => left with_os optional;
    }
    columns [
        "pid" "process" "va" "kind" "target" "text" "linear" "region" "name" "target_name" "via" "state" "len" "slot"
        "reaches" "reaches_name" "binding" "symbol"
    ]
}

record! {
    /// How a reference by way of an import leads to what was asked for.
    pub struct Way {
        /// By way of an import: what the instruction refers to: `plt` (a stub), `got` (a slot), `pointer` (another
        /// pointer that the loader filled).
        via: &'static str => left with_os;
        /// By way of an import: the slot that leads on.
        slot: Hex => hidden with_os;
        /// By way of an import: what was asked for.
        reaches: Hex => hidden with_os;
        /// By way of an import: the name of that; null where it has none.
        reaches_name: Option<String> => hidden with_os;
        /// By way of an import: how the content of the slot led to the answer: `value`, `ifunc`, `lazy`, `stub`, `unread`.
        binding: &'static str => hidden with_os;
        /// By way of an import: what the slot was made for; null where that is not known.
        symbol: Option<String> => hidden with_os;
    }
}
