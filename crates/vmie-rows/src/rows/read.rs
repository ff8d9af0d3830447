//! `vmie read`: a shape for each way to look at bytes. `--as raw` has no rows.

use super::State;
use crate::define::{record, row};
use crate::{Bytes, Hex};

record! {
    /// Some bytes.
    pub struct Piece {
        /// Their first address.
        va: Hex => right strong;
        /// The bytes; none of a hole.
        bytes: Bytes => left;
        /// How many there are, or how long the hole is.
        len: u64 [bytes] => hidden;
    }
}

record! {
    /// What a hole is.
    pub struct Hole {
        /// Of a hole: why there are no bytes.
        gap: Option<&'static str> => hidden optional;
        /// Of a hole in a process: where the pages are that are not mapped, see [states](#states).
        state: Option<State> => hidden with_os optional;
    }
}

row! {
    /// 16 bytes, or a hole.
    pub struct BytesRow: "vmie.read/1" of "vmie read" + physical {
        /// The bytes.
        piece: Piece => part;
        /// Why there are none.
        hole: Hole => part;
        /// The bytes as ASCII.
        ascii: String => table;
    }
    columns ["va" "bytes" "ascii" "len" "gap" "state"]
}

row! {
    /// A word of 64 bits, the low byte first, or a hole.
    pub struct WordRow: "vmie.read-u64/1" of "vmie read --as u64" + physical {
        /// The bytes.
        piece: Piece => part;
        /// The word. Bytes that a hole or the end of the range leaves over are none.
        value: Option<Hex> => right optional;
        /// The name of what it points at, in spaces with names, where it has one: a symbol or image with an offset, else the
        /// region (`[heap]`, a file).
        value_name: Option<String> => left with_os optional;
        /// Why there are no bytes.
        hole: Hole => part;
        /// The bytes as ASCII.
        ascii: String => table;
    }
    columns ["va" "bytes" "value" "ascii" "value_name" "len" "gap" "state"]
}

row! {
    /// An instruction, or a hole.
    pub struct InstructionRow: "vmie.read-asm/1" of "vmie read --as asm" + physical {
        /// The bytes.
        piece: Piece => part;
        /// The instruction in words.
        text: Option<String> => left optional;
        /// The address that it refers to, where that has a name.
        target: Option<Hex> => hidden with_os optional;
        /// That name.
        name: Option<String> => left with_os optional;
        /// Why there are no bytes.
        hole: Hole => part;
    }
    columns ["va" "bytes" "text" "name" "target" "len" "gap" "state"]
}
