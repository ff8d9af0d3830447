//! The mapping of an image file: the only place that touches its bytes through a pointer.
//!
//! A raw image can be the RAM file of a running guest (QEMU's `memory-backend-file,share=on`). The
//! guest changes such bytes while we look, and a `&[u8]` over them would be undefined behaviour. So
//! the mapping is kept as a raw pointer and bytes leave this module in one of three ways only:
//!
//! * [`FileMap::read`] copies them out. Unless the file is frozen, each access is a relaxed atomic
//!   load, so a concurrent writer makes the copy a mixture of old and new bytes and nothing worse.
//! * [`FileMap::slice`] lends them, and only when the file is *frozen*.
//! * [`FileMap::view`] hands out a checked pointer that keeps the same two rules.
//!
//! Frozen means: when the file was opened, no process had it open for writing. Linux tells by a
//! read lease (`fcntl F_SETLEASE`), which it grants only then; the lease is given back at once, since
//! holding it would delay a program that opens the file for writing later. Where the question has no
//! answer (other systems, file systems without leases, files of other users) the file is treated as
//! live, which is always right and costs only the copies.
//!
//! # Holes
//!
//! RAM files and dumps are often sparse, and the operating system takes longer to hand out the pages of
//! a hole than a scan takes to see that they are zero: mapping a page costs as much as scanning it at
//! 10 GB/s. So of a frozen file the large holes are asked for once (`lseek`, `SEEK_DATA`), and
//! [`FileMap::slice`] lends the same zeros for all of them.
//!
//! # Limitations
//!
//! * A program that opens a frozen file for writing afterwards, and changes it, breaks the promise
//!   made here. Do not start a guest on a RAM file while it is being examined as a saved image.
//! * A file that is cut while it is mapped makes the operating system raise SIGBUS on access.
//!   Looking at the size before each access would not close that race.
//!
//! Rejected: reading through `pread`. It has neither limitation, but costs a system call for each
//! 8-byte read of a page-table walk, which is 50 times as much as the read.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Range;
use std::sync::OnceLock;

use memmap2::{MmapOptions, MmapRaw};

use crate::addr::Gpa;
use crate::view::{View, copy_live};

/// What is known about others changing a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Writers {
    /// No process has the file open for writing.
    None,
    /// Some process has the file open for writing.
    Some,
    /// The operating system does not tell.
    Unknown,
}

/// A read-only shared mapping of a whole file, or the same bytes in memory of our own.
pub(crate) struct FileMap {
    /// The first byte. Points into `owner`, which neither moves its bytes nor lends them.
    start: *const u8,
    len: u64,
    writers: Writers,
    /// The file, to ask for its holes.
    file: Option<File>,
    holes: OnceLock<Vec<Range<u64>>>,
    _owner: Owner,
}

/// What is lent for holes. It is never written, so all of it is one page of the operating system.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// So many zeros, up to a MiB: the same bytes for everyone.
pub(crate) fn zeros(len: usize) -> Option<&'static [u8]> {
    ZEROS.get(..len)
}

/// Shorter holes, and shorter pieces of holes, are read like everything else.
const LEAST_HOLE: u64 = 64 << 10;

/// No more holes than these are kept, the first ones.
const MOST_HOLES: usize = 1 << 16;

/// What keeps the bytes in place.
#[expect(dead_code, reason = "held for what dropping them does")]
enum Owner {
    Map(MmapRaw),
    Bytes(Vec<u8>),
}

// SAFETY: the bytes behind `start` are only read, by any thread, and freed when the one owner of the
// value drops it.
unsafe impl Send for FileMap {}
// SAFETY: as above.
unsafe impl Sync for FileMap {}

impl FileMap {
    /// Maps a file that is not empty. Nothing is read: pages come in when they are touched.
    pub(crate) fn new(file: &File) -> std::io::Result<Self> {
        let map = MmapOptions::new().map_raw_read_only(file)?;
        Ok(Self {
            start: map.as_ptr(),
            len: map.len() as u64,
            writers: writers(file),
            file: file.try_clone().ok(),
            holes: OnceLock::new(),
            _owner: Owner::Map(map),
        })
    }

    /// Takes bytes in memory for a file's.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self {
            start: bytes.as_ptr(),
            len: bytes.len() as u64,
            writers: Writers::None,
            file: None,
            holes: OnceLock::new(),
            _owner: Owner::Bytes(bytes),
        }
    }

    /// The same bytes where nobody can change them: copied, unless the file is frozen.
    pub(crate) fn frozen(self) -> std::io::Result<Self> {
        if self.writers == Writers::None {
            return Ok(self);
        }
        let no_memory = || std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        let len = usize::try_from(self.len).map_err(|_| no_memory())?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| no_memory())?;
        bytes.resize(len, 0);
        if !self.read(0, &mut bytes) {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Self::from_bytes(bytes))
    }

    /// Length of the file when it was mapped, in bytes.
    #[inline]
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// What was known about writers when the file was opened.
    pub(crate) fn writers(&self) -> Writers {
        self.writers
    }

    /// Copies `buf.len()` bytes from `offset` on, or answers `false` when the file ends before.
    #[inline]
    #[must_use]
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) -> bool {
        let Some(src) = self.pointer(offset, buf.len()) else {
            return false;
        };
        if self.writers == Writers::None {
            // SAFETY: `pointer` has checked that `buf.len()` bytes from `src` lie within the
            // mapping, which lives as long as `self` and is not written by anybody (frozen);
            // `buf` is a distinct allocation of ours.
            unsafe { std::ptr::copy_nonoverlapping(src, buf.as_mut_ptr(), buf.len()) };
        } else {
            // SAFETY: `pointer` has checked that `buf.len()` bytes from `src` lie within the
            // mapping, which lives as long as `self`.
            unsafe { copy_live(src, buf) };
        }
        true
    }

    /// `N` bytes at `offset`, or `None` when the file ends before.
    pub(crate) fn array<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.read(offset, &mut bytes).then_some(bytes)
    }

    /// A view of `len` bytes from `offset` on, the first of them at the physical address `start`.
    #[inline]
    pub(crate) fn view(&self, start: Gpa, offset: u64, len: u64) -> Option<View<'_, Gpa>> {
        let len = usize::try_from(len).ok()?;
        let base = self.pointer(offset, len)?;
        let frozen = self.writers == Writers::None;
        // SAFETY: `pointer` has checked that the bytes lie within the mapping, which lives as long as
        // `self` and is read-only in this process; frozen means that nobody else writes them either.
        Some(unsafe { View::from_raw(start, base, len, frozen) })
    }

    /// The bytes in place, when the file is frozen and reaches that far.
    #[inline]
    pub(crate) fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        if self.writers != Writers::None {
            return None;
        }
        let src = self.pointer(offset, len)?;
        if len as u64 >= LEAST_HOLE
            && let Some(zeros) = zeros(len)
            && self.is_hole(offset, len as u64)
        {
            return Some(zeros);
        }
        // SAFETY: `pointer` has checked that the bytes lie within the mapping, which lives as long
        // as `self`; the file is frozen, so nobody changes them while the slice lives.
        Some(unsafe { std::slice::from_raw_parts(src, len) })
    }

    /// Whether all of these bytes are known to be in a hole.
    fn is_hole(&self, offset: u64, len: u64) -> bool {
        let ask = || {
            let file = self.file.as_ref();
            file.map_or(Vec::new(), |file| {
                holes(file, self.len, LEAST_HOLE, MOST_HOLES)
            })
        };
        let holes = self.holes.get_or_init(ask);
        let index = holes.partition_point(|hole| hole.end <= offset);
        let hole = holes.get(index);
        hole.is_some_and(|hole| hole.start <= offset && hole.end - offset >= len)
    }

    /// The holes of the file, as they are now, and no more than so many of them; none where the operating
    /// system does not tell.
    pub(crate) fn all_holes(&self, most: usize) -> Vec<Range<u64>> {
        let file = self.file.as_ref();
        file.map_or(Vec::new(), |file| holes(file, self.len, 1, most))
    }

    /// Where `len` bytes from `offset` on are, if the mapping holds all of them.
    #[inline]
    fn pointer(&self, offset: u64, len: usize) -> Option<*const u8> {
        if offset > self.len || len as u64 > self.len - offset {
            return None;
        }
        // SAFETY: `offset` is at most the length of the mapping, which is one allocation; it fits
        // `usize` because the mapping's length does.
        Some(unsafe { self.start.add(offset as usize) })
    }
}

impl std::fmt::Debug for FileMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileMap")
            .field("len", &self.len)
            .field("writers", &self.writers)
            .finish_non_exhaustive()
    }
}

/// Asks Linux for a read lease, which it refuses while any process has the file open for writing.
#[cfg(target_os = "linux")]
fn writers(file: &File) -> Writers {
    use std::os::fd::AsRawFd;

    /// From Linux's `asm-generic/fcntl.h`; the libc crate does not have it.
    const F_SETSIG: libc::c_int = 10;

    let fd = file.as_raw_fd();
    // If somebody opens the file for writing in the moment we hold the lease, the kernel signals us.
    // The default signal, SIGIO, would end the process; SIGURG is ignored unless asked for.
    // SAFETY: plain system call on a descriptor that `file` keeps open.
    if unsafe { libc::fcntl(fd, F_SETSIG, libc::SIGURG) } != 0 {
        return Writers::Unknown;
    }
    // SAFETY: as above.
    if unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) } == 0 {
        // SAFETY: as above. Failure to give the lease back has no remedy and no effect on the
        // answer: the lease ends when `file` is closed.
        unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
        return Writers::None;
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN) => Writers::Some,
        _ => Writers::Unknown,
    }
}

/// The holes of a file that have at least so many bytes, in order, and no more than so many of them.
///
/// A file system that does not tell has none. Data that is not on the disk yet counts as data.
#[cfg(target_os = "linux")]
fn holes(file: &File, len: u64, least: u64, most: usize) -> Vec<Range<u64>> {
    use std::os::fd::AsRawFd;

    let seek = |from: u64, whence| {
        let from = libc::off_t::try_from(from).ok()?;
        // SAFETY: plain system call on a descriptor that `file` keeps open. It moves the position of
        // the file, which nobody uses.
        let at = unsafe { libc::lseek(file.as_raw_fd(), from, whence) };
        u64::try_from(at).ok()
    };
    let mut holes = Vec::new();
    let mut at = 0;
    while at < len && holes.len() < most {
        let Some(hole) = seek(at, libc::SEEK_HOLE).filter(|hole| (at..len).contains(hole)) else {
            break;
        };
        let data = match seek(hole, libc::SEEK_DATA) {
            Some(data) if data > hole => data.min(len),
            Some(_) => break,
            // No more data: the hole reaches to the end, if that is the reason.
            None if std::io::Error::last_os_error().raw_os_error() == Some(libc::ENXIO) => len,
            None => break,
        };
        if data - hole >= least {
            holes.push(hole..data);
        }
        at = data;
    }
    holes
}

/// Other systems are not asked.
#[cfg(not(target_os = "linux"))]
fn holes(_file: &File, _len: u64, _least: u64, _most: usize) -> Vec<Range<u64>> {
    Vec::new()
}

/// Other systems have no such question; the answer that is always right is used.
#[cfg(not(target_os = "linux"))]
fn writers(_file: &File) -> Writers {
    Writers::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_bytes_is_reached() {
        let map = FileMap::from_bytes((0..100u8).collect());
        assert_eq!(map.slice(98, 2), Some(&[98, 99][..]));
        assert_eq!(map.array(96), Some([96, 97, 98, 99]));
        assert!(map.view(Gpa(0), 98, 2).is_some());
        for (offset, len) in [(0, 101), (99, 2), (100, 1), (101, 0), (u64::MAX, 2)] {
            assert_eq!(map.slice(offset, len), None);
            assert!(map.view(Gpa(0), offset, len as u64).is_none());
            assert!(!map.read(offset, &mut vec![0; len]));
        }
        assert_eq!(map.slice(100, 0), Some(&[][..]));
    }

    #[test]
    fn holes_are_lent_as_the_zeros_that_they_are() {
        use std::io::{Seek, SeekFrom, Write};

        const MIB: u64 = 1 << 20;
        let path = std::env::temp_dir().join(format!("vmie-holes-{}.raw", std::process::id()));
        let mut file = File::create(&path).expect("a temporary file");
        for at in [MIB, 2 * MIB + 70_000, 5 * MIB - 3] {
            file.seek(SeekFrom::Start(at)).expect("seeks");
            file.write_all(b"data").expect("writes");
        }
        file.set_len(7 * MIB + 5).expect("grows");
        drop(file);
        let map = FileMap::new(&File::open(&path).expect("opens")).expect("maps");
        std::fs::remove_file(&path).expect("it is there");
        // Where others have it open for writing nothing is lent; where the file system does not tell,
        // there are no holes. What is lent is right in any case.
        let mut reference = vec![1; 2 * MIB as usize];
        for offset in (0..7 * MIB).step_by(30_011) {
            for len in [1, 60_000, 65_536, 70_000, 1 << 20, (1 << 20) + 1] {
                let inside = offset + len as u64 <= map.len();
                assert_eq!(map.read(offset, &mut reference[..len]), inside);
                if let Some(lent) = map.slice(offset, len) {
                    assert!(lent == &reference[..len], "{len} bytes at {offset}");
                }
            }
        }
        for hole in map.holes.get().into_iter().flatten() {
            assert!(hole.end - hole.start >= LEAST_HOLE && hole.end <= map.len());
        }
    }
}
