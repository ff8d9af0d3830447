//! Addresses as intervals: where pointers must lead, what bases can reach.

/// First and last address.
pub(super) type Interval = (u64, u64);

/// Where a pointer must lead so that one of these places, which ascend, comes within the offsets.
pub(super) fn windows(
    places: impl Iterator<Item = u64>,
    back: u64,
    max_offset: u64,
) -> Vec<Interval> {
    merge(places.map(|place| (place.saturating_sub(max_offset), place.saturating_add(back))))
}

/// Intervals by ascending start, those that touch or overlap made one.
pub(super) fn merge(intervals: impl Iterator<Item = Interval>) -> Vec<Interval> {
    let mut merged: Vec<Interval> = Vec::new();
    for (low, high) in intervals {
        match merged.last_mut() {
            Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
            _ => merged.push((low, high)),
        }
    }
    merged
}

/// Whether one of these intervals, which ascend, holds a number.
pub(super) fn within(intervals: &[Interval], number: u64) -> bool {
    let at = intervals.partition_point(|&(_, high)| high < number);
    intervals.get(at).is_some_and(|&(low, _)| low <= number)
}
