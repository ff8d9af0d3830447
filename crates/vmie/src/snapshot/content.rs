//! The bytes of the pages: in memory as they were captured, or compressed in a file.

use std::sync::Arc;

use crate::memory::Cause;
use crate::scratch::Scratch;

use super::file::Blocks;
use super::layout::SNAPSHOT_PAGE;
use super::slot::{Slot, ZERO};

/// Pages in one piece of memory: 64 MiB.
pub(super) const CHUNK: usize = 1 << 14;

/// Pages in one run: to look for more would cost more than it saves.
const RUN: usize = 64;

/// Lent for pages of zeros.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// The contents, by slot.
#[derive(Debug)]
pub(super) enum Content {
    Memory(Chunks),
    /// Moments of a series share one.
    File(Arc<Blocks>),
}

impl Content {
    /// How many slots there are.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Memory(chunks) => chunks.len as u64,
            Self::File(blocks) => blocks.pages(),
        }
    }

    /// Copies bytes of consecutive pages, the first of them `page`, skipping its first `skip` bytes.
    ///
    /// On failure, says at which byte of `buf` and why.
    pub(super) fn read(
        &self,
        slots: &[Slot],
        page: u64,
        skip: usize,
        buf: &mut [u8],
    ) -> Result<(), (usize, Cause)> {
        let first = usize::try_from(page).expect("pages are numbered by a table in memory");
        let (mut at, mut skip) = (0, skip);
        for &slot in &slots[first..] {
            let len = (SNAPSHOT_PAGE - skip).min(buf.len() - at);
            let part = &mut buf[at..at + len];
            match self {
                _ if slot == ZERO => part.fill(0),
                Self::Memory(chunks) => part.copy_from_slice(&chunks.page(slot)[skip..skip + len]),
                Self::File(blocks) => blocks.read(slot, skip, part).map_err(|cause| (at, cause))?,
            }
            at += len;
            skip = 0;
            if at == buf.len() {
                break;
            }
        }
        Ok(())
    }

    /// The bytes of as many pages as lie in one piece from `page` on, up to [`RUN`].
    pub(super) fn run(&self, slots: &[Slot], page: u64) -> Option<&[u8]> {
        let slots = slots.get(usize::try_from(page).ok()?..)?;
        let slots = &slots[..slots.len().min(RUN)];
        let &first = slots.first()?;
        if first == ZERO {
            let zeros = slots.iter().take_while(|&&slot| slot == ZERO).count();
            return ZEROS.get(..zeros * SNAPSHOT_PAGE);
        }
        let Self::Memory(chunks) = self else {
            return None;
        };
        let following = slots.iter().zip(first..);
        let count = following.take_while(|(slot, next)| *slot == next).count();
        let pages = chunks.pages(first)?;
        pages.get(..pages.len().min(count * SNAPSHOT_PAGE))
    }

    /// The same bytes in place, where they are.
    pub(super) fn slice(
        &self,
        slots: &[Slot],
        page: u64,
        skip: usize,
        len: usize,
    ) -> Option<&[u8]> {
        let first = usize::try_from(page).ok()?;
        let pages = (skip + len).div_ceil(SNAPSHOT_PAGE);
        let slots = slots.get(first..first.checked_add(pages)?)?;
        let &start = slots.first()?;
        if start == ZERO {
            let all = slots.iter().all(|&slot| slot == ZERO);
            return ZEROS.get(..len).filter(|_| all);
        }
        let Self::Memory(chunks) = self else {
            return None;
        };
        let mut following = slots.iter().zip(start..);
        if !following.all(|(&slot, expected)| slot == expected) {
            return None;
        }
        chunks.pages(start)?.get(skip..skip + len)
    }
}

/// Pages in memory, in pieces that do not move.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    chunks: Vec<Scratch>,
    len: usize,
}

impl Chunks {
    /// How many pages there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn page(&self, slot: Slot) -> &[u8] {
        let pages = self.pages(slot).expect("slots are of this content");
        &pages[..SNAPSHOT_PAGE]
    }

    /// To put other contents in the place of these.
    pub(super) fn page_mut(&mut self, slot: Slot) -> &mut [u8] {
        let slot = slot as usize;
        assert!(slot < self.len, "slots are of this content");
        &mut self.chunks[slot / CHUNK].bytes_mut()[slot % CHUNK * SNAPSHOT_PAGE..][..SNAPSHOT_PAGE]
    }

    /// All pages from this one on that are in one piece.
    fn pages(&self, slot: Slot) -> Option<&[u8]> {
        let slot = slot as usize;
        let chunk = self.chunks.get(slot / CHUNK)?.bytes();
        let used = (self.len - slot / CHUNK * CHUNK).min(CHUNK) * SNAPSHOT_PAGE;
        chunk[..used].get(slot % CHUNK * SNAPSHOT_PAGE..)
    }

    /// Room for up to `pages` pages behind the last one, at least one, in one piece; `None` when there is
    /// no memory. `most` is how many pages may still come, so that small snapshots stay small.
    pub(super) fn room(&mut self, pages: usize, most: u64) -> Option<&mut [u8]> {
        let used = self.len % CHUNK;
        if self.len / CHUNK == self.chunks.len() {
            let count = usize::try_from(most).map_or(CHUNK, |most| most.clamp(1, CHUNK));
            self.chunks.push(Scratch::try_new(count * SNAPSHOT_PAGE)?);
        }
        let chunk = self.chunks.last_mut()?.bytes_mut();
        let end = (used + pages).min(chunk.len() / SNAPSHOT_PAGE);
        Some(&mut chunk[used * SNAPSHOT_PAGE..end * SNAPSHOT_PAGE])
    }

    /// Takes the first `pages` of the room for contents. Answers the first one's slot, or `None` when
    /// there are no numbers left.
    pub(super) fn keep(&mut self, pages: usize) -> Option<Slot> {
        let slot = Slot::try_from(self.len).ok()?;
        let len = self.len + pages;
        if Slot::try_from(len).ok()? == ZERO {
            return None;
        }
        self.len = len;
        Some(slot)
    }
}
