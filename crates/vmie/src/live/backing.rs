//! Where the bytes of a guest's RAM are: in a file that QEMU shares, or in QEMU's process only.
//!
//! QEMU says where a piece of RAM is in its own address space (`gpa2hva`), and `/proc/PID/maps` says what
//! is mapped there. A shared mapping of a regular file (`memory-backend-file` or `memory-backend-memfd` with
//! `share=on`) is read from the file, found among the process's descriptors by device and inode; anything
//! else from the process.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use super::error::LiveErrorKind;

/// The most that is read of `/proc/PID/maps`.
const MAX_MAPS: u64 = 64 << 20;

/// The most descriptors of a process that are looked at.
const MAX_FDS: usize = 1 << 16;

/// A line of `/proc/PID/maps`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mapping {
    start: u64,
    end: u64,
    /// Whether writes go to the file.
    shared: bool,
    offset: u64,
    dev: u64,
    inode: u64,
}

/// What a process has mapped, in ascending order.
pub(super) fn mappings(pid: u32) -> Result<Vec<Mapping>, LiveErrorKind> {
    let doing = "reading what it has mapped";
    let refused = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => LiveErrorKind::Gone { pid },
        _ => LiveErrorKind::Permission { pid, doing, source },
    };
    let file = File::open(format!("/proc/{pid}/maps")).map_err(refused)?;
    let mut text = String::new();
    file.take(MAX_MAPS)
        .read_to_string(&mut text)
        .map_err(refused)?;
    Ok(text.lines().filter_map(parse).collect())
}

/// `START-END PERMS OFFSET MAJOR:MINOR INODE PATH` (Linux's `Documentation/filesystems/proc.rst`).
fn parse(line: &str) -> Option<Mapping> {
    let mut words = line.split_ascii_whitespace();
    let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let (start, end) = words.next()?.split_once('-')?;
    let shared = words.next()?.as_bytes().get(3) == Some(&b's');
    let offset = hex(words.next()?)?;
    let (major, minor) = words.next()?.split_once(':')?;
    let dev = libc::makedev(
        u32::from_str_radix(major, 16).ok()?,
        u32::from_str_radix(minor, 16).ok()?,
    );
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        shared,
        offset,
        dev,
        inode: words.next()?.parse().ok()?,
    })
}

/// What stands behind a run of QEMU's addresses.
#[derive(Debug)]
pub(super) enum Found<'m> {
    /// One shared mapping of a file; the run begins at this offset of it.
    Shared(&'m Mapping, u64),
    /// Something else that is mapped.
    Process,
    /// A part of it is not mapped.
    Hole,
}

/// Looks `len` bytes at `hva` up.
pub(super) fn behind(mappings: &[Mapping], hva: u64, len: u64) -> Found<'_> {
    let Some(end) = hva.checked_add(len) else {
        return Found::Hole;
    };
    let first = mappings.partition_point(|mapping| mapping.end <= hva);
    let mut at = hva;
    for mapping in &mappings[first..] {
        if mapping.start > at {
            return Found::Hole;
        }
        if at == hva && mapping.end >= end {
            let offset = mapping.offset.checked_add(hva - mapping.start);
            return match offset {
                Some(offset) if mapping.shared && mapping.inode != 0 => {
                    Found::Shared(mapping, offset)
                }
                _ => Found::Process,
            };
        }
        at = mapping.end;
        if at >= end {
            return Found::Process;
        }
    }
    Found::Hole
}

/// Opens the file behind a shared mapping, if it is a regular one.
pub(super) fn open(pid: u32, mapping: &Mapping) -> Option<File> {
    let is_it = |metadata: &fs::Metadata| {
        metadata.ino() == mapping.inode && metadata.dev() == mapping.dev && metadata.is_file()
    };
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .take(MAX_FDS)
        .flatten()
        .map(|entry| entry.path());
    // QEMU may have closed its descriptor; the mapping itself can be opened with more privileges.
    let range = format!("{:x}-{:x}", mapping.start, mapping.end);
    let mapped = format!("/proc/{pid}/map_files/{range}").into();
    descriptors.chain([mapped]).find_map(|path| {
        // Looked at first: opening something else might have effects.
        fs::metadata(&path).ok().filter(is_it)?;
        let file = File::open(&path).ok()?;
        file.metadata()
            .is_ok_and(|metadata| is_it(&metadata))
            .then_some(file)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps() -> Vec<Mapping> {
        "\
1000-5000 rw-s 00010000 00:01 77 /memfd:memory-backend-memfd (deleted)
5000-6000 rw-p 00000000 00:00 0
6000-8000 rw-p 00003000 fe:01 12 /a file
9000-a000 rw-s 00000000 fe:01 13 /b
garbage
a000-b000 rw-s"
            .lines()
            .filter_map(parse)
            .collect()
    }

    #[test]
    fn what_stands_behind_an_address_is_told() {
        let maps = maps();
        assert_eq!(maps.len(), 4);
        let shared = |hva, len| match behind(&maps, hva, len) {
            Found::Shared(mapping, offset) => Some((mapping.inode, offset)),
            _ => None,
        };
        assert_eq!(shared(0x1000, 0x4000), Some((77, 0x10000)));
        assert_eq!(shared(0x2345, 0x10), Some((77, 0x11345)));
        assert_eq!(shared(0x9000, 0x1000), Some((13, 0)));
        for (hva, len) in [
            (0x1000, 0x4001),
            (0x5000, 1),
            (0x5800, 0x2800),
            (0x6000, 0x2000),
        ] {
            assert!(
                matches!(behind(&maps, hva, len), Found::Process),
                "{hva:#x}"
            );
        }
        for (hva, len) in [
            (0, 1),
            (0xfff, 2),
            (0x7000, 0x1001),
            (0x8000, 1),
            (0xa000, 1),
            (0x9fff, 2),
            (u64::MAX, 2),
        ] {
            assert!(matches!(behind(&maps, hva, len), Found::Hole), "{hva:#x}");
        }
    }

    #[test]
    fn our_own_mappings_are_listed_and_the_file_behind_one_is_found() {
        use std::io::Write;
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(&[7; 8192]).expect("writes");
        let map = memmap2::MmapOptions::new()
            .map_raw_read_only(file.as_file())
            .expect("maps");
        let pid = std::process::id();
        let maps = mappings(pid).expect("ours");
        let Found::Shared(mapping, offset) = behind(&maps, map.as_ptr().addr() as u64 + 16, 4096)
        else {
            panic!("a shared mapping of a file");
        };
        assert_eq!(offset, 16);
        let found = open(pid, mapping).expect("it is open");
        assert_eq!(found.metadata().expect("a file").len(), 8192);
    }
}
