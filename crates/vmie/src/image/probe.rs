//! What a file is, told by its first bytes: the one probe table for everything.
//!
//! File names and extensions are never looked at. Raw memory has no magic number, so it is what is
//! left when nothing in the table fits; hence the table also lists what vmie does *not* read but can
//! name. Without those rows a compressed or foreign dump would be searched as if it were memory, and
//! a scan that finds nothing in it would look like an answer.
//!
//! To add a format: give it a row here, a module beside this one that turns the file into
//! [`Segments`](super::segments::Segments), and an arm in [`Image::open_with`](super::Image::open_with).

use super::{Format, firecracker};

/// How many bytes of the file the table needs.
pub(super) const HEAD: usize = 4096;

/// What a row of the table leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A format that vmie reads.
    Known(Format),
    /// Something that vmie names and does not read; what to do about it.
    Foreign {
        /// With its article: `"a qcow2 disk image"`.
        what: &'static str,
        /// What to do to get an image that vmie reads.
        advice: &'static str,
    },
    /// Something that belongs to an image, and is given beside it.
    Beside {
        /// With its article.
        what: &'static str,
        /// How it is given.
        advice: &'static str,
    },
}

struct Row {
    offset: usize,
    magic: &'static [u8],
    kind: Kind,
}

const fn known(magic: &'static [u8], format: Format) -> Row {
    Row {
        offset: 0,
        magic,
        kind: Kind::Known(format),
    }
}

const fn foreign(magic: &'static [u8], what: &'static str, advice: &'static str) -> Row {
    Row {
        offset: 0,
        magic,
        kind: Kind::Foreign { what, advice },
    }
}

const UNPACK: &str = "decompress it first";
const QEMU_DUMP: &str = "start the guest from it and save its memory with QEMU's monitor command \
     `dump-guest-memory FILE` (`virsh dump --memory-only`)";
const NOT_MEMORY: &str =
    "it holds a disk and not memory; save the guest's memory with `dump-guest-memory FILE`";
const VMWARE: &str = "give the .vmem file that belongs to it; where RAM is more than 3 GiB, with \
     `--layout 0+3GiB@0,4GiB+LEN@3GiB`";
const WINDOWS_DUMP: &str = "convert it to raw memory (volatility3 `layerwriter`, or MemProcFS)";
const DISKDUMP: &str = "convert it to an ELF core with `makedumpfile -E`";

const FIRECRACKER: Kind = Kind::Beside {
    what: "the state file of a Firecracker snapshot",
    advice: "give the memory file that was saved with it as the source, and this file with --state",
};

/// Sources of the magic numbers: the specifications of the formats; Linux `kernel/power/swap.c`; QEMU
/// `migration/qemu-file.h`, `dump/dump.h`; libvirt `src/qemu/qemu_saveimage.h`; makedumpfile
/// `diskdump_mod.h`, `makedumpfile.h`; VirtualBox `SSM.cpp`; VMware's vmss2core; Fox-IT's
/// `dissect.hypervisor` (Hyper-V); Volatility's `hibernate` and `vmware` layers.
static TABLE: &[Row] = &[
    known(b"\x7fELF", Format::Elf),
    known(b"EMiL", Format::Lime),
    known(b"AVML", Format::Avml),
    known(b"KDUMP   ", Format::Kdump),
    known(b"makedumpfile\0\0\0\0", Format::Kdump),
    foreign(
        b"vmiesnap",
        "a snapshot that vmie took",
        "it is no image: the command takes it as a source, the library as a `Snapshot`",
    ),
    foreign(
        b"vmiemomt",
        "a moment of a series that vmie recorded",
        "it is no image: the command takes it as a source, the library as a `Snapshot`",
    ),
    foreign(
        b"vmiepags",
        "the pages of a series that vmie recorded",
        "give one of the moments beside it, such as 000001.moment",
    ),
    foreign(
        b"vmieptrs",
        "an index of pointers that vmie saved",
        "give the image, and this file with --index",
    ),
    foreign(b"PAGEDU64", "a 64-bit Windows crash dump", WINDOWS_DUMP),
    foreign(b"PAGEDUMP", "a 32-bit Windows crash dump", WINDOWS_DUMP),
    foreign(
        b"MDMP",
        "a Windows minidump of one process",
        "save the memory of the whole guest",
    ),
    foreign(b"hibr", "a Windows hibernation file", WINDOWS_DUMP),
    foreign(b"HIBR", "a Windows hibernation file", WINDOWS_DUMP),
    foreign(
        b"wake",
        "a Windows hibernation file after resuming",
        WINDOWS_DUMP,
    ),
    foreign(
        b"WAKE",
        "a Windows hibernation file after resuming",
        WINDOWS_DUMP,
    ),
    foreign(
        b"RSTR",
        "a Windows hibernation file being resumed",
        WINDOWS_DUMP,
    ),
    Row {
        offset: 4086,
        magic: b"S1SUSPEND",
        kind: Kind::Foreign {
            what: "a Linux hibernation image",
            advice: "save the memory of the running guest",
        },
    },
    foreign(b"DISKDUMP", "a diskdump", DISKDUMP),
    foreign(b"LibvirtQemudSave", "a libvirt save file", QEMU_DUMP),
    foreign(
        b"LibvirtQemudPart",
        "an unfinished libvirt save file",
        QEMU_DUMP,
    ),
    foreign(b"QEVM", "a QEMU migration stream", QEMU_DUMP),
    foreign(
        b"\x7fVirtualBox SavedState ",
        "a VirtualBox saved state",
        "start the guest and save its memory with `VBoxManage debugvm NAME dumpvmcore --filename FILE`",
    ),
    foreign(
        b"\xd0\xbe\xd2\xbe",
        "a VMware suspended state or snapshot",
        VMWARE,
    ),
    foreign(
        b"\xd1\xba\xd1\xba",
        "a VMware suspended state or snapshot",
        VMWARE,
    ),
    foreign(
        b"\xd2\xbe\xd2\xbe",
        "a VMware suspended state or snapshot",
        VMWARE,
    ),
    foreign(
        b"\xd3\xbe\xd3\xbe",
        "a VMware suspended state or snapshot",
        VMWARE,
    ),
    foreign(
        b"\x14\x20\x28\x01",
        "a Hyper-V saved state",
        "convert it to raw memory with a tool built on Microsoft's VmSavedStateDumpProvider",
    ),
    foreign(b"QFI\xfb", "a qcow2 disk image", QEMU_DUMP),
    foreign(b"KDMV", "a VMware disk image", NOT_MEMORY),
    foreign(
        b"# Disk DescriptorFile",
        "a VMware disk descriptor",
        NOT_MEMORY,
    ),
    foreign(b"vhdxfile", "a Hyper-V disk image", NOT_MEMORY),
    foreign(b"conectix", "a Virtual PC disk image", NOT_MEMORY),
    foreign(b"<<< ", "a VirtualBox disk image", NOT_MEMORY),
    foreign(
        b"EVF\x09\x0d\x0a\xff\x00",
        "an EnCase evidence file",
        "export it as raw with ewfexport",
    ),
    foreign(b"\x1f\x8b\x08", "compressed with gzip", UNPACK),
    foreign(b"\x28\xb5\x2f\xfd", "compressed with zstd", UNPACK),
    foreign(b"\xfd7zXZ\0", "compressed with xz", UNPACK),
    foreign(b"\x04\x22\x4d\x18", "compressed with lz4", UNPACK),
    foreign(b"\x02\x21\x4c\x18", "compressed with lz4", UNPACK),
    foreign(b"BZh", "compressed with bzip2", UNPACK),
    foreign(b"\x89LZO\0\r\n\x1a\n", "compressed with lzop", UNPACK),
    foreign(b"\xff\x06\0\0sNaPpY", "compressed with snappy", UNPACK),
    foreign(b"PK\x03\x04", "a zip archive", UNPACK),
    foreign(b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    Row {
        offset: 257,
        magic: b"ustar",
        kind: Kind::Foreign {
            what: "a tar archive",
            advice: UNPACK,
        },
    },
];

/// What a file that begins with `head` is; `None` when it can only be raw memory.
pub(super) fn probe(head: &[u8]) -> Option<Kind> {
    // Its magic number is at one of two places, for one of two architectures.
    if firecracker::is_state(head) {
        return Some(FIRECRACKER);
    }
    TABLE
        .iter()
        .find(|row| {
            head.get(row.offset..)
                .is_some_and(|at| at.starts_with(row.magic))
        })
        .map(|row| row.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_at_their_offset_and_do_not_hide_each_other() {
        for row in TABLE {
            let mut head = vec![0; HEAD];
            head[row.offset..row.offset + row.magic.len()].copy_from_slice(row.magic);
            assert_eq!(probe(&head), Some(row.kind), "{:?}", row.magic);
            head[row.offset] ^= 1;
            assert_ne!(probe(&head), Some(row.kind), "{:?}", row.magic);
        }
        assert_eq!(probe(&[0; HEAD]), None);
        assert_eq!(probe(b"\x7fEL"), None, "shorter than the magic");
        assert_eq!(probe(&[]), None);
    }

    #[test]
    fn a_real_mode_interrupt_table_is_no_magic() {
        // The first bytes of a PC's RAM with a BIOS: far pointers into segment 0xf000.
        assert_eq!(
            probe(b"\x53\xff\x00\xf0\x53\xff\x00\xf0\xc3\xe2\x00\xf0"),
            None
        );
    }
}
