//! Which layouts a raw image may have that nobody told of.
//!
//! A machine leaves a hole below 4 GiB for its devices, and where the hole begins is known to who made the machine. A copy of RAM
//! leaves the hole out, so that its size says nothing; a copy of the address space (what `dd` makes of `/dev/mem`, or tools that
//! pad) has zeros or anything there, and each byte stands at its own address.
//!
//! | below the hole | machines |
//! |---|---|
//! | 2 GiB | QEMU's `q35`, `microvm` before QEMU 5.1 |
//! | 2.75 GiB | QEMU's `pc-q35-1.7` and older |
//! | 3 GiB | QEMU's `pc` and `microvm`, VMware, Cloud Hypervisor, bhyve |
//! | 3.25 GiB | Firecracker, crosvm, kvmtool |
//! | 3.5 GiB | VirtualBox, QEMU's `pc-i440fx-1.7` and older |
//! | 3.75 GiB | Xen (HVM) |
//! | 3.875 GiB | Hyper-V |
//!
//! These are the defaults. The rules by which QEMU's machines decide whether there is a hole at all go by the size of RAM, which
//! may be more than the file has kept, so a hole is plausible wherever the file reaches beyond it.

use super::layout::{Layout, LayoutPart};
use crate::addr::{Gpa, PAGE_SIZE};

const MIB: u64 = 1 << 20;
const FOUR_GIB: u64 = 4 << 30;

/// Where the hole may begin: see the module documentation.
const LOW_ENDS: [u64; 7] = [
    3072 * MIB,
    2048 * MIB,
    3584 * MIB,
    3328 * MIB,
    3840 * MIB,
    2816 * MIB,
    3968 * MIB,
];

impl Layout {
    /// Where below 4 GiB the RAM of machines commonly ends, for those that have more.
    pub fn low_ends() -> impl Iterator<Item = Gpa> {
        LOW_ENDS.into_iter().map(Gpa)
    }

    /// All of a file of `size` bytes from address 0 on: without a hole, or with the hole in the file.
    pub fn flat(size: u64) -> Self {
        let len = size.next_multiple_of(PAGE_SIZE);
        let (gpa, offset) = (Gpa(0), 0);
        Self::Explicit(vec![LayoutPart { gpa, len, offset }])
    }

    /// RAM from 0 up to `low_end` and from 4 GiB on, back to back in a file of `size` bytes. What RAM goes beyond the end of
    /// the file has a part as well, when `end` says where it ends.
    pub fn split(low_end: Gpa, size: u64, end: Option<Gpa>) -> Self {
        let low = low_end.0.min(FOUR_GIB);
        let size = size.next_multiple_of(PAGE_SIZE);
        let behind = size.saturating_sub(low);
        let declared = end.map_or(0, |end| end.0.saturating_sub(FOUR_GIB));
        let whole = end.is_some();
        let parts = [
            (0, if whole { low } else { low.min(size) }, 0),
            (FOUR_GIB, behind.max(declared), low),
        ];
        let part = |(gpa, len, offset)| LayoutPart {
            gpa: Gpa(gpa),
            len,
            offset,
        };
        Self::Explicit(parts.map(part).into_iter().filter(|p| p.len != 0).collect())
    }

    /// Every layout that is plausible for a raw file of `size` bytes, each once; that of one piece first. Those of QEMU's
    /// machines are given by these.
    pub fn plausible(size: u64) -> Vec<Self> {
        let mut all = vec![Self::flat(size)];
        let reached = Self::low_ends().filter(|low_end| low_end.0 < size);
        all.extend(reached.map(|low_end| Self::split(low_end, size, None).named(size)));
        all
    }

    /// The machine that lays out a file of `size` bytes so, where there is one; the layout as it is otherwise.
    #[must_use]
    pub fn named(self, size: u64) -> Self {
        let parts = self.resolve(size);
        let split = parts.len() > 1;
        [Self::Pc, Self::Q35, Self::Microvm]
            .into_iter()
            .find(|machine| split && machine.resolve(size) == parts)
            .unwrap_or(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_are_flat_and_others_may_be_split_wherever_they_reach() {
        let texts = |size: u64| -> Vec<String> {
            let all = Layout::plausible(size);
            all.iter().map(ToString::to_string).collect()
        };
        assert_eq!(texts(2048 * MIB), ["0x0+0x80000000@0x0"]);
        assert_eq!(texts(5000), ["0x0+0x2000@0x0"]);
        assert_eq!(
            texts(2049 * MIB),
            [
                "0x0+0x80100000@0x0",
                "0x0+0x80000000@0x0,0x100000000+0x100000@0x80000000"
            ]
        );
        let large = texts(8192 * MIB);
        assert_eq!(large.len(), 8);
        assert_eq!(large[..3], ["0x0+0x200000000@0x0", "pc", "q35"]);
        // Each means something else.
        for (i, one) in Layout::plausible(4096 * MIB).iter().enumerate() {
            let parts = one.resolve(4096 * MIB);
            assert_eq!(parts.iter().map(|part| part.len).sum::<u64>(), 4096 * MIB);
            for other in &Layout::plausible(4096 * MIB)[..i] {
                assert_ne!(other.resolve(4096 * MIB), parts);
            }
        }
    }

    #[test]
    fn what_a_file_has_lost_is_declared() {
        let low = Gpa(3072 * MIB);
        let cut = Layout::split(low, 3584 * MIB, Some(Gpa(6144 * MIB)));
        assert_eq!(
            cut.to_string(),
            "0x0+0xc0000000@0x0,0x100000000+0x80000000@0xc0000000"
        );
        let below = Layout::split(low, 1024 * MIB, Some(Gpa(6144 * MIB)));
        assert_eq!(below, cut);
        let whole = Layout::split(low, 3584 * MIB, Some(Gpa(4608 * MIB)));
        assert_eq!(whole.named(3584 * MIB), Layout::Pc);
    }
}
