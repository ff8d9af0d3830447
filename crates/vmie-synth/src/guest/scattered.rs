//! A guest for the benches: one run of virtual memory over frames that lie anywhere.
//!
//! Dense physical memory, 4-level tables, 4 KiB pages, one protection: nothing but size and disorder.
//! It comes as plain bytes and a CR3, so other engines can be measured on it too.

use super::entry::{Flags, Paging};
use super::frames::Frames;
use super::machine::Machine;
use super::phys::{PAGE, Phys};
use super::rng::Rng;
use super::space::Space;

/// A guest whose pages are scattered.
#[derive(Clone)]
pub struct Scattered {
    /// Physical memory from address 0.
    pub phys: Vec<u8>,
    /// Physical address of the root: the value of CR3, in 4-level paging.
    pub root: u64,
    /// First mapped virtual address.
    pub va: u64,
    /// Mapped bytes.
    pub len: u64,
    /// The frame of each page, in virtual order.
    pub frames: Vec<u64>,
    seed: u64,
}

/// Out of 100 frames so many are zero, as was measured in a real guest.
const ZERO_PERCENT: u64 = 29;

/// First virtual address: the start of a root entry, so that tables are filled from their beginning.
const START: u64 = 0x7f00_0000_0000;

/// `bytes` of virtual memory over the scattered frames of 512 MiB of physical memory.
///
/// See [`scattered_in`].
pub fn scattered(bytes: u64, seed: u64) -> Scattered {
    scattered_in(512 << 20, bytes, seed)
}

/// `bytes` of virtual memory over the scattered frames of `ram` bytes of physical memory.
///
/// When there are more pages than frames beside the tables, all frames are mapped again, each time in
/// another order. Page tables are scattered like everything else. Mapped frames hold random bytes, or
/// zeros in 29 of 100 cases; frame 0 is unused. Everything follows from the arguments.
///
/// # Panics
/// When `bytes` or `ram` is not a positive multiple of the page size, or the tables leave no frame.
pub fn scattered_in(ram: u64, bytes: u64, seed: u64) -> Scattered {
    assert!(
        bytes > 0 && bytes.is_multiple_of(PAGE),
        "whole pages are mapped"
    );
    let phys = Phys::dense(ram);
    let pool = PAGE..ram;
    let mut machine = Machine::with(phys, Frames::scattered(std::slice::from_ref(&pool), seed));
    let space = Space::new(&mut machine, Paging::FourLevel);

    let tables: u64 = (1..Paging::FourLevel.levels())
        .map(|level| bytes.div_ceil(Paging::FourLevel.span(level + 1)))
        .sum();
    let pages = bytes / PAGE;
    let free = (machine.frames.left() as u64).saturating_sub(tables);
    let mut round: Vec<u64> = (0..free.min(pages))
        .map(|_| machine.frames.alloc())
        .collect();
    assert!(!round.is_empty(), "{ram:#x} bytes hold the tables only");

    let mut page = [0; PAGE as usize];
    for &gpa in &round {
        if fill(seed, gpa, &mut page) {
            machine.phys.write(gpa, &page);
        }
    }
    let mut frames = Vec::with_capacity(pages as usize);
    let mut rng = Rng::new(!seed);
    while (frames.len() as u64) < pages {
        let left = pages as usize - frames.len();
        frames.extend(round.iter().take(left));
        rng.shuffle(&mut round);
    }
    space.map_frames(&mut machine, START, &frames, Flags::DATA);
    Scattered {
        phys: machine.phys.into_dense(),
        root: space.root(),
        va: START,
        len: bytes,
        frames,
        seed,
    }
}

/// What the frame at `gpa` holds; false when that is zeros.
fn fill(seed: u64, gpa: u64, page: &mut [u8; PAGE as usize]) -> bool {
    let mut rng = Rng::new(seed ^ gpa.rotate_left(32));
    let random = !rng.chance(ZERO_PERCENT);
    if random {
        rng.fill(page);
    } else {
        page.fill(0);
    }
    random
}

impl Scattered {
    /// The bytes of page `number`, in virtual order, computed anew and not read from memory.
    ///
    /// # Panics
    /// When there is no such page.
    pub fn page(&self, number: usize) -> [u8; PAGE as usize] {
        let mut page = [0; PAGE as usize];
        fill(self.seed, self.frames[number], &mut page);
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Translates by looking at the bytes: 4 levels, 4 KiB pages.
    fn walk(guest: &Scattered, va: u64) -> Option<u64> {
        let mut table = guest.root;
        for shift in [39, 30, 21, 12] {
            let at = (table + (va >> shift & 0x1ff) * 8) as usize;
            let entry = u64::from_le_bytes(guest.phys[at..at + 8].try_into().ok()?);
            if entry & 1 == 0 {
                return None;
            }
            table = entry & 0xf_ffff_ffff_f000;
        }
        Some(table)
    }

    #[test]
    fn every_page_is_where_the_list_says() {
        let guest = scattered_in(16 << 20, 10 << 20, 9);
        assert_eq!(guest.phys.len(), 16 << 20);
        assert_eq!(guest.frames.len(), 2560);
        for (i, &gpa) in guest.frames.iter().enumerate() {
            let va = guest.va + i as u64 * PAGE;
            assert_eq!(walk(&guest, va), Some(gpa));
            let at = gpa as usize;
            assert_eq!(guest.phys[at..at + 4096], guest.page(i));
        }
        assert_eq!(walk(&guest, guest.va + guest.len), None);
        let mut distinct = guest.frames.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 2560);
        let zero = (0..2560).filter(|&i| guest.page(i) == [0; 4096]).count();
        assert!((600..900).contains(&zero), "{zero} zero pages");
        let near = guest.frames.windows(2).filter(|w| w[1] == w[0] + PAGE);
        assert!(near.count() < 10);
    }

    #[test]
    fn more_pages_than_frames_map_frames_again() {
        let guest = scattered_in(4 << 20, 16 << 20, 1);
        // 1023 usable frames, less the root, one table each at levels 3 and 2, eight at level 1.
        let distinct = 1023 - 11;
        let mut frames: Vec<u64> = guest.frames.clone();
        assert_ne!(frames[..16], frames[distinct..distinct + 16]);
        frames.sort_unstable();
        frames.dedup();
        assert_eq!(frames.len(), distinct);
        assert_eq!(
            walk(&guest, guest.va + guest.len - 1),
            guest.frames.last().copied()
        );
    }
}
