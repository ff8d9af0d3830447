//! Lists: write up to `max`, return the total.
#![allow(unsafe_code)]

use std::ffi::c_int;

use crate::error::Error;

/// A list in memory of the caller's while it is filled.
pub(crate) struct List<T> {
    out: *mut T,
    room: usize,
    total: u64,
}

impl<T> List<T> {
    /// A list at `out` with room for `max` elements; with NULL, one that only counts.
    ///
    /// # Errors
    ///
    /// When `max` is negative.
    ///
    /// # Safety
    ///
    /// `out` is NULL, or aligned and valid for writing `max` elements for as long as the list exists.
    pub(crate) unsafe fn new(out: *mut T, max: c_int) -> Result<Self, Error> {
        let room = usize::try_from(max)
            .map_err(|_| Error::argument(format!("max is {max}; expected 0 or more")))?;
        Ok(Self {
            out,
            room: if out.is_null() { 0 } else { room },
            total: 0,
        })
    }

    /// Writes an element if there is room, and counts it.
    pub(crate) fn push(&mut self, item: T) {
        match usize::try_from(self.total) {
            Ok(index) if index < self.room => {
                // SAFETY: `room` is not zero, so by the contract of `new` the place is within what may be written.
                let place = unsafe { self.out.add(index) };
                // SAFETY: as above; what was there is the caller's and needs no drop.
                unsafe { place.write(item) };
            }
            _ => {}
        }
        self.total = self.total.saturating_add(1);
    }

    /// How many there are, as C is told.
    pub(crate) fn total(&self) -> c_int {
        c_int::try_from(self.total).unwrap_or(c_int::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_written_than_there_is_room_for() {
        let mut room = [0u8; 4];
        // SAFETY: there is room for three.
        let mut list = unsafe { List::new(room.as_mut_ptr(), 3) }.expect("3 is not negative");
        (1..=5).for_each(|n| list.push(n));
        assert_eq!(list.total(), 5);
        assert_eq!(room, [1, 2, 3, 0]);
    }

    #[test]
    fn null_counts_and_totals_saturate() {
        // SAFETY: NULL is allowed.
        let mut list =
            unsafe { List::<u64>::new(std::ptr::null_mut(), c_int::MAX) }.expect("valid");
        list.push(1);
        assert_eq!(list.total(), 1);
        list.total = u64::MAX;
        list.push(1);
        assert_eq!(list.total(), c_int::MAX);
        // SAFETY: NULL is allowed.
        assert!(unsafe { List::<u64>::new(std::ptr::null_mut(), -1) }.is_err());
    }
}
