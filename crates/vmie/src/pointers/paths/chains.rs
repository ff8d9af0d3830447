//! Writes paths down: from the bases, one level after another, to the target.

use std::ops::ControlFlow;

use super::intervals::{merge, within};
use super::levels::Place;
use super::{Base, Path, PathOptions};
use crate::addr::Address;

/// Passes all paths through the levels to `emit`: by depth, then by base, then by offsets.
pub(super) fn write<A: Address>(
    levels: &[Vec<Place>],
    target: A,
    options: &PathOptions<A>,
    progress: &mut dyn FnMut() -> ControlFlow<()>,
    emit: &mut dyn FnMut(Path<A>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut ranges: Vec<_> = options
        .ranges
        .iter()
        .map(|range| (range.start().raw(), range.last().raw()))
        .collect();
    ranges.sort_unstable();
    let ranges = merge(ranges.into_iter());
    let mut chain = Chain {
        levels,
        target: target.raw(),
        options,
        places: Vec::new(),
        offsets: Vec::new(),
        emit,
    };
    for &value in &options.values {
        if let Some(offset) = chain.offset(value.raw(), target.raw()) {
            chain.offsets.push(offset);
            (chain.emit)(Path {
                base: Base::Value(value),
                offsets: chain.offsets.clone(),
            })?;
            chain.offsets.clear();
        }
    }
    for (depth, level) in levels.iter().enumerate() {
        for (index, &place) in level.iter().enumerate() {
            if index % 4096 == 0 {
                progress()?;
            }
            if within(&ranges, place.0) {
                chain.from(Base::Place(A::new(place.0)), place, depth)?;
            }
        }
        for &value in &options.values {
            for &place in chain.successors(value.raw(), depth) {
                if let Some(offset) = chain.offset(value.raw(), place.0) {
                    chain.offsets.push(offset);
                    chain.from(Base::Value(value), place, depth)?;
                    chain.offsets.pop();
                }
            }
        }
    }
    ControlFlow::Continue(())
}

/// A path while it is written.
struct Chain<'c, A: Address> {
    levels: &'c [Vec<Place>],
    target: u64,
    options: &'c PathOptions<A>,
    places: Vec<u64>,
    offsets: Vec<i64>,
    emit: &'c mut dyn FnMut(Path<A>) -> ControlFlow<()>,
}

impl<'c, A: Address> Chain<'c, A> {
    /// All paths on from a place of a level.
    fn from(&mut self, base: Base<A>, (place, value): Place, level: usize) -> ControlFlow<()> {
        if !self.options.loops && self.places.contains(&place) {
            return ControlFlow::Continue(());
        }
        self.places.push(place);
        if level == 0 {
            if let Some(offset) = self.offset(value, self.target) {
                self.offsets.push(offset);
                let offsets = self.offsets.clone();
                (self.emit)(Path { base, offsets })?;
                self.offsets.pop();
            }
        } else {
            for &next in self.successors(value, level - 1) {
                if let Some(offset) = self.offset(value, next.0) {
                    self.offsets.push(offset);
                    self.from(base, next, level - 1)?;
                    self.offsets.pop();
                }
            }
        }
        self.places.pop();
        ControlFlow::Continue(())
    }

    /// The places of a level that a pointer leads to.
    fn successors(&self, pointer: u64, level: usize) -> &'c [Place] {
        let places = &self.levels[level];
        let low = pointer.saturating_sub(self.options.back);
        let high = pointer.saturating_add(self.options.max_offset);
        let from = places.partition_point(|&(place, _)| place < low);
        let count = places[from..].partition_point(|&(place, _)| place <= high);
        &places[from..from + count]
    }

    /// What must be added to a pointer to come to an address, if it is within the bounds.
    fn offset(&self, pointer: u64, addr: u64) -> Option<i64> {
        let (ahead, behind) = (addr.checked_sub(pointer), pointer.checked_sub(addr));
        match (ahead, behind) {
            (Some(ahead), _) if ahead <= self.options.max_offset => i64::try_from(ahead).ok(),
            (_, Some(behind)) if behind <= self.options.back => {
                i64::try_from(behind).ok().map(std::ops::Neg::neg)
            }
            _ => None,
        }
    }
}
