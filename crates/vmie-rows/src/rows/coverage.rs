//! What became of the bytes that were asked for: the end of a JSON document.

use crate::Hex;
use crate::define::record;

record! {
    /// Which of the bytes that were asked for were read, and why the others were not. For `vtop` each address counts
    /// as one byte.
    pub struct Coverage {
        /// That the page tables map (of an image: that it declares); always `read` + `absent`.
        mapped: u64 [bytes];
        /// That were read; for `info` and `maps`, which read no pages: that the image holds.
        read: u64 [bytes];
        /// Mapped, but not in the image; also what a process has in swap, on a device or compressed in memory.
        absent: u64 [bytes];
        /// Of which it is not known whether they are mapped (for `maps`: or whether the image holds them), because a
        /// page table is missing or a bound on the work was reached.
        lost: u64 [bytes];
        /// That were asked for by address and are not mapped.
        unmapped: u64 [bytes];
        /// Of `xref` in processes: of `mapped`, what the process has not mapped and the page cache holds.
        cached: Option<u64> [bytes] => optional;
        /// Of `xref` in processes: code that is neither mapped nor in the page cache.
        not_in_memory: Option<u64> [bytes] => optional;
        /// How many gaps there are.
        gap_count: u64;
        /// The first 64 gaps.
        gaps: Vec<Gap>;
    }
}

record! {
    /// Addresses that could not be read.
    pub struct Gap {
        /// The first of them.
        va: Hex;
        /// How long it is.
        len: u64 [bytes];
        /// Why.
        cause: &'static str;
        /// With `--all-processes`: the process whose addresses these are; left out for the kernel.
        pid: Option<u32> => optional;
    }
}
