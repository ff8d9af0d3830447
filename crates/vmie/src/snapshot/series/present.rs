//! The contents of the last snapshot in memory, page by page, changed in place by the next one.

use super::super::content::{CHUNK, Chunks};
use super::super::layout::{PageRun, SNAPSHOT_PAGE};
use super::super::slot::{Slot, ZERO};

/// Pages in memory, and under which number each is kept in the series.
#[derive(Debug, Default)]
pub(super) struct Present {
    chunks: Chunks,
    /// By place: the number of the page in the series.
    numbers: Vec<Slot>,
    /// By number: a place where the page was seen last. Whether it still is there is told by `numbers`.
    places: Vec<Slot>,
    free: Vec<Slot>,
}

impl Present {
    /// The bytes at a place.
    pub(super) fn page(&self, place: Slot) -> &[u8] {
        self.chunks.page(place)
    }

    /// The number of the page at a place.
    pub(super) fn number(&self, place: Slot) -> Slot {
        self.numbers[place as usize]
    }

    /// How many pages there is room for.
    pub(super) fn len(&self) -> usize {
        self.chunks.len()
    }

    /// A place that is free; `None` when there is no memory.
    pub(super) fn room(&mut self) -> Option<Slot> {
        if let Some(place) = self.free.pop() {
            return Some(place);
        }
        self.chunks.room(1, CHUNK as u64)?;
        let place = self.chunks.keep(1)?;
        self.numbers.push(ZERO);
        Some(place)
    }

    /// Nobody needs this place any more.
    pub(super) fn give_up(&mut self, place: Slot) {
        self.free.push(place);
    }

    /// Puts a page to a place.
    pub(super) fn put(&mut self, place: Slot, bytes: &[u8], number: Slot) {
        self.chunks.page_mut(place).copy_from_slice(bytes);
        self.numbers[place as usize] = number;
        if self.places.len() <= number as usize {
            self.places.resize(number as usize + 1, ZERO);
        }
        self.places[number as usize] = place;
    }

    /// The bytes of a page of the series, if they are here.
    pub(super) fn find(&self, number: Slot) -> Option<&[u8]> {
        let place = *self.places.get(number as usize)?;
        let is_there = place != ZERO && self.number(place) == number;
        is_there.then(|| self.page(place))
    }
}

/// The pages of a snapshot, in the order of their addresses: where each is in memory, or [`ZERO`].
#[derive(Debug, Default)]
pub(super) struct Pages {
    pub(super) runs: Vec<PageRun>,
    pub(super) places: Vec<Slot>,
}

/// Looks up pages of a snapshot in ascending order.
pub(super) struct Walk {
    pages: Pages,
    /// The run, and how many of its pages are done.
    run: usize,
    done: u64,
}

impl Walk {
    pub(super) fn new(pages: Pages) -> Self {
        Self {
            pages,
            run: 0,
            done: 0,
        }
    }

    /// Where the page of this number was, `None` if it was not mapped. Passes the places of those before
    /// it that were not asked for to `gone`.
    pub(super) fn at(&mut self, page: u64, gone: &mut impl FnMut(Slot)) -> Option<Slot> {
        while let Some(run) = self.pages.runs.get(self.run) {
            let here = run.first + self.done;
            if here > page {
                return None;
            }
            let place = self.pages.places[(run.index + self.done) as usize];
            self.done += 1;
            if self.done == run.count {
                (self.run, self.done) = (self.run + 1, 0);
            }
            if here == page {
                return Some(place);
            }
            if place != ZERO {
                gone(place);
            }
        }
        None
    }

    /// What was not asked for at the end.
    pub(super) fn finish(mut self, gone: &mut impl FnMut(Slot)) {
        let none = self.at(u64::MAX, gone);
        debug_assert!(none.is_none(), "no page has this number");
    }
}

/// Pages next to each other, filled up to `BLOCK` bytes.
pub(super) fn block(present: &Present, places: &[Slot]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(super::store::BLOCK);
    for &place in places {
        bytes.extend_from_slice(present.page(place));
    }
    bytes.resize(super::store::BLOCK, 0);
    debug_assert!(bytes.len().is_multiple_of(SNAPSHOT_PAGE));
    bytes
}
