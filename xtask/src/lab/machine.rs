//! What QEMU tells about the machine that the guest is.

use vmie_lab::RamPart;
use vmie_lab::qemu::{Registers, parse_mtree};

use crate::Fallible;

/// CR4.LA57.
const LA57: u64 = 1 << 12;

/// Whether page tables have five levels.
pub(crate) fn has_five_levels(cpus: &[Registers]) -> bool {
    cpus.iter().any(|cpu| cpu.cr4 & LA57 != 0)
}

/// Where a block of RAM is in physical memory, when it begins at `base` in a file.
pub(crate) fn visible(mtree: &str, block: &str, base: u64) -> Fallible<Vec<RamPart>> {
    let parts = parse_mtree(mtree, block)?.into_iter();
    let part = |(range, offset): (std::ops::Range<u64>, u64)| RamPart {
        gpa: range.start,
        len: range.end - range.start,
        offset: base + offset,
    };
    Ok(parts.map(part).collect())
}
