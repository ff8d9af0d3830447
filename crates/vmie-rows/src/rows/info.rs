//! `vmie info`.

use crate::define::{record, row};
use crate::{Hex, Time};

row! {
    /// What an image is.
    pub struct InfoRow: "vmie.info/1" of "vmie info" {
        /// Its format, or `qemu` for a guest that runs.
        format: String => left;
        /// How long its file is.
        size: u64 [bytes] => left;
        /// Ranges of physical memory.
        ranges: Vec<PhysicalRange> => left;
        /// Of a raw image: how it is laid out, as `--layout` takes it.
        layout: Option<String> => left if_asked optional;
        /// How that is known: what proves it, or that nothing does.
        layout_why: Option<String> => left if_asked optional;
        /// The CPUs, none where the source does not record them.
        cpus: Vec<Cpu> => left;
        /// The guest's operating system; null when none was found.
        os: Option<Os> => left;
        /// Of a snapshot of `snap take`: what it holds.
        snapshot: Option<SnapshotInfo> => left if_asked optional;
        /// Whether somebody else may change the memory while it is read.
        live: bool => left;
        /// What else there is to know.
        notes: Vec<String> => left;
    }
}

record! {
    /// A range of physical memory.
    pub struct PhysicalRange {
        /// Its first address, a physical one.
        gpa: Hex;
        /// How long it is.
        len: u64 [bytes];
    }
}

record! {
    /// A CPU as it was when the memory was saved, or when a running guest was opened.
    pub struct Cpu {
        /// Its number, from 0, in the order of the source.
        index: u32;
        /// The register CR3.
        cr3: Hex;
        /// How its page tables are laid out; null when paging is off or it is not known.
        paging: Option<&'static str>;
        /// The register CR0.
        cr0: Hex;
        /// The register CR4.
        cr4: Hex;
        /// The register EFER; null where it is not recorded.
        efer: Option<Hex>;
        /// The instruction pointer.
        rip: Hex;
        /// The stack pointer.
        rsp: Hex;
    }
}

record! {
    /// An operating system.
    pub struct Os {
        /// Which one, in one word: `linux`.
        kind: String;
        /// Its version, as it puts it itself.
        version: String;
    }
}

record! {
    /// What a snapshot of an address space holds.
    pub struct SnapshotInfo {
        /// What it was taken of.
        of: String;
        /// When it was begun.
        taken: Time;
        /// How long it took.
        took_ms: u64 [milliseconds];
        /// The first address that was to be kept.
        va: Hex;
        /// The last one.
        last: Hex;
        /// The protections that regions had to have, as `--perm` takes them; empty for all.
        perm: String;
        /// How many regions are kept.
        regions: u64;
        /// What was mapped.
        mapped: u64 [bytes];
        /// Of that, what was read.
        read: u64 [bytes];
        /// Of that, what could not be read.
        absent: u64 [bytes];
        /// Distinct pages in the file.
        pages: u64 [pages];
    }
}
