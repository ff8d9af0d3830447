//! `vmie ps`.

use crate::Hex;
use crate::define::row;

row! {
    /// A process or a kernel thread.
    pub struct ProcessRow<'a>: "vmie.ps/1" of "vmie ps" {
        /// Its number.
        pid: u32 => right strong;
        /// The number of its parent, 0 for none.
        ppid: u32 => right;
        /// The user it belongs to; null when not known.
        uid: Option<u32> => right;
        /// The user whose rights it has; null when not known.
        euid: Option<u32> => hidden;
        /// Its short name.
        name: &'a str => left;
        /// The root of its address space; null for kernel threads and after exit.
        cr3: Option<Hex> => right;
        /// The root that user mode uses, where that is another one.
        user_cr3: Option<Hex> => hidden optional;
        /// Its state, in the letter that `ps` prints: R running, S sleeping, D uninterruptible, Z exited, ...
        state: char => left;
        /// How many threads it has.
        threads: u32 => right;
        /// When it was started, from boot; null when not known.
        started: Option<f64> [seconds] => right;
        /// Whether it runs in the kernel only.
        kernel: bool => hidden;
        /// Its arguments; null where it has none or they cannot be read.
        cmdline: Option<Vec<String>> => left titled("command");
        /// Where the kernel keeps its record of it, such as Linux's `task_struct`.
        task: Hex => hidden;
        /// With `--tree`: how far below the top of its tree it stands.
        depth: Option<u32> => hidden optional;
    }
    columns [
        "pid" "ppid" "uid" "euid" "cr3" "user_cr3" "state" "threads" "started" "name" "kernel" "cmdline" "task" "depth"
    ]
}
