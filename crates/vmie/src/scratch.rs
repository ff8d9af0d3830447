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
pub(crate) enum Scratch {
    /// Words, and how many bytes of them are meant.
    Small(Vec<u128>, usize),
    Large(MmapMut),
}

impl Scratch {
    /// Ends the process when there is no memory, as a `Vec` does.
    pub(crate) fn new(len: usize) -> Self {
        Self::large(len)
            .unwrap_or_else(|| Self::Small(vec![0; len.div_ceil(size_of::<u128>())], len))
    }

    /// `None` when the system has no such amount of memory to give.
    pub(crate) fn try_new(len: usize) -> Option<Self> {
        if let Some(large) = Self::large(len) {
            return Some(large);
        }
        let count = len.div_ceil(size_of::<u128>());
        let mut words = Vec::new();
        words.try_reserve_exact(count).ok()?;
        words.resize(count, 0);
        Some(Self::Small(words, len))
    }

    fn large(len: usize) -> Option<Self> {
        if len < LARGE {
            return None;
        }
        let map = MmapMut::map_anon(len).ok()?;
        // A wish: without large pages everything works, only slower.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Some(Self::Large(map))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Small(words, len) => &words.as_bytes()[..*len],
            Self::Large(map) => map,
        }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Small(words, len) => &mut words.as_mut_bytes()[..*len],
            Self::Large(map) => map,
        }
    }
}
