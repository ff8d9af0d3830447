//! The levels of a search out of an index, without the places that no base can reach.

use std::ops::ControlFlow;

use super::PathOptions;
use super::intervals::{Interval, within};
use super::levels::{Place, Pointers};
use super::reach::Reach;
use crate::addr::Address;
use crate::pointers::{Edge, PointerMap};

/// The pointers of an index.
pub(super) struct Indexed<'s, 'm, A: Address> {
    map: &'m PointerMap<A>,
    reach: &'s mut Reach,
    options: &'m PathOptions<A>,
}

impl<'s, 'm, A: Address> Indexed<'s, 'm, A> {
    pub(super) fn new(
        map: &'m PointerMap<A>,
        reach: &'s mut Reach,
        options: &'m PathOptions<A>,
    ) -> Self {
        Self {
            map,
            reach,
            options,
        }
    }
}

impl<A: Address> Pointers for Indexed<'_, '_, A> {
    fn into(
        &mut self,
        windows: &[Interval],
        left: usize,
        most: usize,
        places: &mut Vec<Place>,
        progress: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> ControlFlow<(), bool> {
        let look = self.map.tables.look();
        let ranks = windows.iter().map(|&(low, high)| {
            let numbers = self.map.runs.numbers(low, high);
            look.ranks(numbers)
        });
        let ranks: Vec<_> = ranks.filter(|ranks| !ranks.is_empty()).collect();
        let candidates = ranks.iter().map(|ranks| ranks.end - ranks.start).sum();
        let near = self.reach.within(left, self.map, self.options, candidates);
        for (index, ranks) in ranks.into_iter().enumerate() {
            if index % 4096 == 0 {
                progress()?;
            }
            for Edge { at, value } in self.map.edges(look.ranked(ranks)) {
                if near.is_some_and(|near| !within(near, at.raw())) {
                    continue;
                }
                if places.len() == most {
                    return ControlFlow::Continue(false);
                }
                places.push((at.raw(), value.raw()));
            }
        }
        ControlFlow::Continue(true)
    }
}
