//! What vmie does not read and can name.
//!
//! Raw memory has no magic number, so it is what is left when nothing else fits. Without these rows a compressed
//! or foreign dump, or a file of vmie's own, would be searched as if it were memory, and a scan that finds nothing in it
//! would look like an answer.

use std::path::Path;

use super::advice::Advice;
use super::firecracker;

/// What a file is that is not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refused {
    /// With its article: `"a qcow2 disk image"`.
    pub(super) what: &'static str,
    /// What to do to get an image that vmie reads, or how the file is given.
    pub(super) advice: Advice,
    /// Whether it belongs to an image, and is given beside it.
    pub(super) beside: bool,
}

struct Row {
    offset: usize,
    magic: &'static [u8],
    refused: Refused,
}

const fn foreign(magic: &'static [u8], what: &'static str, advice: Advice) -> Row {
    foreign_at(0, magic, what, advice)
}

/// What is given beside an image.
const fn beside(magic: &'static [u8], what: &'static str, advice: Advice) -> Row {
    let mut row = foreign(magic, what, advice);
    row.refused.beside = true;
    row
}

const fn foreign_at(
    offset: usize,
    magic: &'static [u8],
    what: &'static str,
    advice: Advice,
) -> Row {
    Row {
        offset,
        magic,
        refused: Refused {
            what,
            advice,
            beside: false,
        },
    }
}

const UNPACK: Advice = Advice::Other("decompress it first");
const QEMU_DUMP: Advice = Advice::Other(
    "start the guest from it and save its memory with QEMU's monitor command \
     `dump-guest-memory FILE` (`virsh dump --memory-only`)",
);
const NOT_MEMORY: Advice = Advice::Other(
    "it holds a disk and not memory; save the guest's memory with `dump-guest-memory FILE`",
);
const VMWARE: Advice = Advice::VmwareMemory;
const WINDOWS_DUMP: Advice =
    Advice::Other("convert it to raw memory (volatility3 `layerwriter`, or MemProcFS)");
const DISKDUMP: Advice = Advice::Other("convert it to an ELF core with `makedumpfile -E`");

const FIRECRACKER: Refused = Refused {
    what: "the state file of a Firecracker snapshot",
    advice: Advice::AsState,
    beside: true,
};

/// Sources of the magic numbers: the specifications of the formats; Linux `kernel/power/swap.c`; QEMU
/// `migration/qemu-file.h`, `dump/dump.h`; libvirt `src/qemu/qemu_saveimage.h`; makedumpfile
/// `diskdump_mod.h`, `makedumpfile.h`; VirtualBox `SSM.cpp`; VMware's vmss2core; Fox-IT's
/// `dissect.hypervisor` (Hyper-V); Volatility's `hibernate` and `vmware` layers.
static TABLE: &[Row] = &[
    foreign(
        b"vmiesnap",
        "a snapshot that vmie took",
        Advice::Other(
            "it is no image: the command takes it as a source, the library as a `Snapshot`",
        ),
    ),
    foreign(
        b"vmiemomt",
        "a moment of a series that vmie recorded",
        Advice::Other(
            "it is no image: the command takes it as a source, the library as a `Snapshot`",
        ),
    ),
    foreign(
        b"vmiepags",
        "the pages of a series that vmie recorded",
        Advice::Other("give one of the moments beside it, such as 000001.moment"),
    ),
    beside(
        b"vmieptrs",
        "an index of pointers that vmie saved",
        Advice::AsIndex,
    ),
    beside(
        b"vmiecand",
        "a file of candidates that vmie saved",
        Advice::AsCandidates,
    ),
    beside(
        b"vmie-os ",
        "a note of vmie's of where an operating system was found",
        Advice::AsCache,
    ),
    beside(
        b"{\"metadata\":",
        "a file of symbols and types (ISF)",
        Advice::AsTypes,
    ),
    foreign(b"PAGEDU64", "a 64-bit Windows crash dump", WINDOWS_DUMP),
    foreign(b"PAGEDUMP", "a 32-bit Windows crash dump", WINDOWS_DUMP),
    foreign(
        b"MDMP",
        "a Windows minidump of one process",
        Advice::Other("save the memory of the whole guest"),
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
    foreign_at(
        4086,
        b"S1SUSPEND",
        "a Linux hibernation image",
        Advice::Other("save the memory of the running guest"),
    ),
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
        Advice::Other(
            "start the guest and save its memory with `VBoxManage debugvm NAME dumpvmcore --filename FILE`",
        ),
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
        Advice::Other(
            "convert it to raw memory with a tool built on Microsoft's VmSavedStateDumpProvider",
        ),
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
        Advice::Other("export it as raw with ewfexport"),
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
    foreign_at(257, b"ustar", "a tar archive", UNPACK),
];

/// What a file that begins with `head` is, if it is one of these.
pub(super) fn file(head: &[u8]) -> Option<Refused> {
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
        .map(|row| row.refused)
}

/// What a directory is, if it is one that is refused by name.
pub(super) fn directory(path: &Path) -> Option<Refused> {
    path.join("pages.vmie").is_file().then_some(Refused {
        what: "a series of moments that vmie recorded",
        advice: Advice::Other("give one of the moments in it, such as 000001.moment, which the command takes as a source and the \
                 library as a `Snapshot`"),
        beside: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: usize = 4096;

    #[test]
    fn rows_are_found_at_their_offset_and_do_not_hide_each_other() {
        for row in TABLE {
            let mut head = vec![0; HEAD];
            head[row.offset..row.offset + row.magic.len()].copy_from_slice(row.magic);
            assert_eq!(file(&head), Some(row.refused), "{:?}", row.magic);
            head[row.offset] ^= 1;
            assert_ne!(file(&head), Some(row.refused), "{:?}", row.magic);
        }
        assert_eq!(file(&[0; HEAD]), None);
        assert_eq!(file(b"7z\xbc\xaf\x27"), None, "shorter than the magic");
        assert_eq!(file(&[]), None);
    }

    #[test]
    fn a_real_mode_interrupt_table_is_no_magic() {
        // The first bytes of a PC's RAM with a BIOS: far pointers into segment 0xf000.
        assert_eq!(
            file(b"\x53\xff\x00\xf0\x53\xff\x00\xf0\xc3\xe2\x00\xf0"),
            None
        );
    }
}
