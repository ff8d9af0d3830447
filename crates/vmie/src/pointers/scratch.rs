//! Large buffers that are written all over: on large pages, where the system has them.
//!
//! Sorting writes to thousands of places in turns. On pages of 4 KiB each of these is a translation of its
//! own, more than the CPU keeps, and each first write a fault: half of the time of a build.

use memmap2::MmapMut;
use zerocopy::IntoBytes;

/// Smaller buffers are no better off on pages of 2 MiB.
const LARGE: usize = 4 << 20;

/// Bytes, zero to begin with, aligned for every type of number.
#[derive(Debug)]
pub(super) enum Scratch {
    /// Words, and how many bytes of them are meant.
    Small(Vec<u128>, usize),
    Large(MmapMut),
}

impl Scratch {
    pub(super) fn new(len: usize) -> Self {
        if len >= LARGE
            && let Ok(map) = MmapMut::map_anon(len)
        {
            // A wish: without large pages everything works, only slower.
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            return Self::Large(map);
        }
        Self::Small(vec![0; len.div_ceil(size_of::<u128>())], len)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Small(words, len) => &words.as_bytes()[..*len],
            Self::Large(map) => map,
        }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Small(words, len) => &mut words.as_mut_bytes()[..*len],
            Self::Large(map) => map,
        }
    }
}
