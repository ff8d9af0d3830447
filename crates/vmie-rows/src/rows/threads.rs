//! `vmie threads`.

use crate::define::row;
use crate::{Bytes, Hex};

row! {
    /// A thread.
    pub struct ThreadRow<'a>: "vmie.threads/1" of "vmie threads" {
        /// Its process.
        pid: u32 => right strong;
        /// The short name of its process.
        process: &'a str => left;
        /// Its own number.
        tid: u32 => right;
        /// Its own name.
        name: String => left;
        /// The bytes of its name, where they are not UTF-8.
        name_bytes: Option<Bytes> => optional;
        /// Its state, in the letter that `ps` prints.
        state: char => left;
        /// Whether a CPU runs it right now; null when not known.
        running: Option<bool> => hidden;
        /// The next instruction of its program, as saved when it entered the kernel last; null for threads of the kernel, and when not known.
        ip: Option<Hex> => right;
        /// The stack of its program then.
        sp: Option<Hex> => right;
        /// The number of the system call that it is in; null where it was interrupted instead.
        syscall: Option<u64> => right;
        /// Where its stack in the kernel begins; null where it has given it back.
        stack: Option<Hex> => hidden;
        /// How far its stack in the kernel reached when it was left last.
        stack_pointer: Hex => hidden;
        /// Where the kernel keeps its record of it (`task_struct`).
        task: Hex => hidden;
    }
}
