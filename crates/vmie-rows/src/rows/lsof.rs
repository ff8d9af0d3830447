//! `vmie lsof`.

use crate::define::row;
use crate::{Bytes, Hex};

row! {
    /// What a process holds open.
    pub struct LsofRow<'a>: "vmie.lsof/1" of "vmie lsof" {
        /// The process.
        pid: u32 => right strong;
        /// Its short name.
        process: &'a str => left;
        /// The thread, where it is one that has a table of descriptors of its own.
        tid: Option<u32> => hidden optional;
        /// The number of the descriptor.
        fd: u64 => right;
        /// What kind of file it is: file, directory, char, block, fifo, pipe, socket, memfd, namespace, or what a file without a name is there for, such as eventfd.
        kind: &'a str => left;
        /// What `/proc/PID/fd` shows, without ` (deleted)`; null when it cannot be read.
        path: Option<String> => left;
        /// Its bytes, where they are not UTF-8.
        path_bytes: Option<Bytes> => optional;
        /// How it is open: r, w or rw, then `O_*` flags without `O_`, in small letters.
        flags: Vec<&'static str> => left;
        /// Where it is read or written next.
        position: u64 [bytes] => right;
        /// How long it is; null when not known.
        size: Option<u64> [bytes] => right;
        /// The number of its inode; null when not known.
        inode: Option<u64> => right;
        /// The device that it is on, major and minor number; null when not known.
        device: Option<String> => left;
        /// Whether no directory has it any more.
        deleted: bool => left;
        /// Whether it is on a mount that was taken away while files on it were open.
        detached: bool => hidden;
        /// Where the kernel keeps its record of it (`struct file`), which duplicates have in common.
        file: Hex => hidden;
    }
    columns [
        "pid" "process" "tid" "fd" "kind" "flags" "position" "size" "inode" "device" "deleted" "detached" "path" "file"
    ]
}
