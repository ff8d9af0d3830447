//! `vmie maps`.

use super::place::Owner;
use crate::define::row;
use crate::{Hex, Prot};

row! {
    /// A region: a run of mapped pages with the same protection.
    pub struct RegionRow: "vmie.maps/1" of "vmie maps" + physical {
        /// With `--all-processes`: whose it is.
        owner: Option<Owner> => part;
        /// Its first address.
        va: Hex => right strong;
        /// How long it is.
        len: u64 [bytes] => right size;
        /// Its effective protection.
        prot: Prot => left;
        /// Whether user mode may use it.
        user: bool => left;
        /// What the image does not hold of it; null when not known.
        absent: Option<u64> [bytes] => right;
        /// What it is, in spaces with names, where it has one.
        name: Option<String> => left with_os optional;
    }
}

row! {
    /// An extent: a part of a region that is contiguous in physical memory, too.
    pub struct ExtentRow: "vmie.maps-extents/1" of "vmie maps --extents" {
        /// With `--all-processes`: whose it is.
        owner: Option<Owner> => part;
        /// Its first address.
        va: Hex => right strong;
        /// The physical address of that.
        gpa: Hex => right;
        /// How long it is.
        len: u64 [bytes] => right size;
        /// How large the pages are that map it.
        page_size: u64 [bytes] => right titled("page") size;
        /// Its effective protection.
        prot: Prot => left;
        /// Whether user mode may use it.
        user: bool => left;
        /// What the image does not hold of it.
        absent: u64 [bytes] => right;
    }
}

row! {
    /// A mapping that a process has arranged (a VMA), whether pages are there or not: a line of `/proc/PID/maps`.
    pub struct VmaRow<'a>: "vmie.maps-vmas/1" of "vmie maps --vmas" {
        /// With `--all-processes`: whose it is.
        owner: Option<Owner> => part;
        /// Its first address.
        va: Hex => right strong;
        /// The address behind it.
        end: String => table;
        /// How long it is.
        len: u64 [bytes] => right size;
        /// What it was arranged for, which page tables need not grant yet.
        prot: Prot => left;
        /// Whether user mode may use it: true.
        user: bool => hidden;
        /// Whether changes are shared with others that map the same.
        shared: bool => left;
        /// What the page tables have a frame for, including what the process may not touch.
        mapped: u64 [bytes] => right;
        /// Of these, what the image does not hold.
        absent: u64 [bytes] => right;
        /// What the guest has swapped out; null where that is not known.
        swapped: Option<u64> [bytes] => right;
        /// Of these, what zram or zswap keep in memory, compressed; null where that is not known.
        compressed: Option<u64> [bytes] => hidden;
        /// What is in memory and the process may not touch now; null where that is not known.
        forbidden: Option<u64> [bytes] => hidden;
        /// What is nowhere: never touched, or to be read from the file; null where that is not known.
        empty: Option<u64> [bytes] => hidden;
        /// Where in its file it starts; null where it has none.
        offset: Option<Hex> => right;
        /// The major and minor number of the file's device, in hexadecimal; null where it has no file.
        device: Option<String> => hidden;
        /// The number of the file on its device; null where it has none.
        inode: Option<u64> => hidden;
        /// The path of its file, or what the kernel calls it; null for neither.
        name: Option<&'a str> => left;
    }
}
