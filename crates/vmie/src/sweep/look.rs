//! One window: get its bytes, cut it at holes, show the pieces to the scanner.
//!
//! Bytes that nobody can change are looked at in place; everything else is copied into a buffer that
//! goes back to a shelf afterwards. A read that meets a hole has copied what is before it, so the
//! next read starts at the page behind: as many reads as there are holes, and one more.

use std::sync::{Mutex, PoisonError};

use crate::addr::{AddrRange, Address, PAGE_SIZE};
use crate::memory::{Gap, Memory};
use crate::sweep::Window;
use crate::sweep::plan::Task;

/// Buffers for windows that have to be copied, so that not each one is allocated and cleared anew.
#[derive(Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// Runs `work` with a buffer of at least `len` bytes of any content.
    fn with(&self, len: usize, work: impl FnOnce(&mut [u8])) {
        let shelf = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = shelf().pop().unwrap_or_default();
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        work(&mut buffer[..len]);
        shelf().push(buffer);
    }
}

/// How much of one window was seen.
pub(super) struct Looked<A> {
    /// Owned bytes that were read.
    pub(super) read: u64,
    /// Owned bytes that were not, in order.
    pub(super) holes: Vec<Gap<A>>,
}

/// Shows one window to `show`, in pieces where it has holes. `behind` is the look-behind of the sweep.
///
/// What is found is no matter of it, so it is compiled once for each kind of address.
pub(super) fn look<A: Address>(
    memory: &dyn Memory<Addr = A>,
    task: &Task<A>,
    behind: usize,
    buffers: &Buffers,
    show: &mut dyn FnMut(&Window<'_, A>),
) -> Looked<A> {
    let first = task
        .start
        .checked_sub(task.behind as u64)
        .expect("look-behind lies in the run");
    let len = task.behind + task.owned + task.ahead;
    let mut sight = Sight {
        first,
        task,
        behind,
        show,
        read: 0,
        holes: Vec::new(),
    };
    let borrowed = AddrRange::new(first, len as u64)
        .and_then(|range| memory.borrow(range))
        .filter(|bytes| bytes.len() == len);
    if let Some(bytes) = borrowed {
        sight.piece(bytes, 0);
    } else {
        buffers.with(len, |buffer| {
            read_pieces(memory, first, buffer, &mut |part| match part {
                Part::Bytes { at, bytes } => sight.piece(bytes, at),
                Part::Hole { at, len, fault } => sight.hole(at, len, fault.cause),
            });
        });
    }
    Looked {
        read: sight.read,
        holes: sight.holes,
    }
}

/// A window while it is being looked at. Offsets count from `first`, the look-behind's first byte.
struct Sight<'t, A> {
    first: A,
    task: &'t Task<A>,
    behind: usize,
    show: &'t mut dyn FnMut(&Window<'_, A>),
    read: u64,
    holes: Vec<Gap<A>>,
}

impl<A: Address> Sight<'_, A> {
    /// The part of `at..at + len` that the window owns.
    fn owned(&self, at: usize, len: usize) -> Option<(usize, usize)> {
        let low = at.max(self.task.behind);
        let high = (at + len).min(self.task.behind + self.task.owned);
        (low < high).then_some((low, high))
    }

    fn addr(&self, offset: usize) -> A {
        self.first
            .checked_add(offset as u64)
            .expect("a window does not wrap")
    }

    /// Shows `bytes`, which stand at offset `at` and have holes (or the window's ends) around them.
    fn piece(&mut self, bytes: &[u8], at: usize) {
        let Some((low, high)) = self.owned(at, bytes.len()) else {
            return;
        };
        self.read += (high - low) as u64;
        let before = &bytes[..low - at];
        let window = Window {
            start: self.addr(low),
            bytes: &bytes[low - at..],
            owned: high - low,
            before: &before[before.len().saturating_sub(self.behind)..],
        };
        (self.show)(&window);
    }

    fn hole(&mut self, at: usize, len: usize, cause: crate::memory::Cause) {
        if let Some((low, high)) = self.owned(at, len) {
            self.holes.push(Gap {
                start: self.addr(low),
                len: (high - low) as u64,
                cause,
            });
        }
    }
}

/// A part of a buffer that was read into, or not.
pub(crate) enum Part<'b, A: Address> {
    Bytes {
        at: usize,
        bytes: &'b [u8],
    },
    Hole {
        at: usize,
        len: usize,
        fault: crate::memory::Fault<A>,
    },
}

/// Reads memory from `addr` on into `buffer` and says in order what came of it.
///
/// The fast version of [`read_around_holes`](crate::read_around_holes), which reads page by page.
pub(crate) fn read_pieces<A: Address>(
    memory: &dyn Memory<Addr = A>,
    addr: A,
    buffer: &mut [u8],
    part: &mut dyn FnMut(Part<'_, A>),
) {
    let mut at = 0;
    while at < buffer.len() {
        let Some(here) = addr.checked_add(at as u64) else {
            return;
        };
        let rest = buffer.len() - at;
        let Err(fault) = memory.read(here, &mut buffer[at..]) else {
            part(Part::Bytes {
                at,
                bytes: &buffer[at..],
            });
            return;
        };
        // A fault outside what was asked for would be a mistake of the source; take it as its first
        // byte rather than believe that bytes were read.
        let good = fault
            .addr
            .offset_from(here)
            .and_then(|good| usize::try_from(good).ok())
            .filter(|&good| good < rest)
            .unwrap_or(0);
        if good > 0 {
            part(Part::Bytes {
                at,
                bytes: &buffer[at..at + good],
            });
        }
        let hole = here.raw().saturating_add(good as u64);
        // Presence is a matter of pages, so the hole reaches to the end of one. Larger pages consist of whole small ones.
        let to_border = PAGE_SIZE - (hole & (PAGE_SIZE - 1));
        let len = usize::try_from(to_border).map_or(rest - good, |n| n.min(rest - good));
        part(Part::Hole {
            at: at + good,
            len,
            fault,
        });
        at += good + len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Gva;
    use crate::memory::read_around_holes;
    use crate::testany::any_memory;
    use crate::testmem::TestMemory;
    use proptest::prelude::*;

    /// Offset and length of each piece or hole, touching ones joined.
    fn join(list: &mut Vec<(usize, usize)>, at: usize, len: usize) {
        match list.last_mut() {
            Some((start, n)) if *start + *n == at => *n += len,
            _ => list.push((at, len)),
        }
    }

    proptest! {
        #[test]
        fn pieces_and_holes_equal_reading_page_by_page(
            memory in any_memory(),
            start in 0u64..0x9000,
            len in 1usize..0x6000,
        ) {
            let memory: TestMemory<Gva> = memory;
            let mut quick = vec![0xaa; len];
            let (mut quick_holes, mut quick_bytes) = (Vec::new(), Vec::new());
            read_pieces(&memory, Gva(start), &mut quick, &mut |part| match part {
                Part::Bytes { at, bytes } => quick_bytes.push((at, bytes.to_vec())),
                Part::Hole { at, len, .. } => join(&mut quick_holes, at, len),
            });
            let mut naive = vec![0xaa; len];
            let mut naive_holes = Vec::new();
            let read = read_around_holes(&memory, Gva(start), &mut naive, PAGE_SIZE, |at, len, _| {
                join(&mut naive_holes, at, len);
            });
            prop_assert_eq!(&quick_holes, &naive_holes);
            prop_assert_eq!(read, quick_bytes.iter().map(|(_, b)| b.len() as u64).sum::<u64>());
            for (at, bytes) in quick_bytes {
                prop_assert_eq!(&naive[at..at + bytes.len()], &bytes[..]);
            }
        }
    }
}
