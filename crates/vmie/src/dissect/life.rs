//! Which places that look like instances of a class are still in use.
//!
//! Memory that was freed keeps what was in it, virtual tables too, until something else is written there, often in
//! part only. Such a copy says what its fields once were, or what was written over them, and shall not outvote
//! instances that are alive. Two things tell, neither of which needs anything of the program:
//!
//! - *the allocation is free*: glibc's malloc notes in the header of the next allocation whether this one is in use;
//! - *nothing leads there*: of instances on the heap something usually points at each. An instance is reached when a
//!   pointer into it stands outside of all of them, or in one that is reached; its own pointers into itself do not
//!   count. Where most are reached, one that is not is taken for freed, if it is an allocation of its own or lies in an
//!   array of instances of which none is reached.
//!
//! What lies alone in something larger (a member, a local variable, a static object) is not judged: nobody need point
//! at it. A program that keeps its pointers encrypted reaches none of its instances, and all of them count.

use super::look::Look;
use super::shape::MAX_ROOM;
use crate::addr::Address;
use crate::pointers::Edge;

/// How many instances in a row, at the same distance, are an array.
const ARRAY: usize = 3;
/// How far apart the elements of an array are at most, in lengths of the object.
const APART: u64 = 2;

/// Whether an instance is in use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Life {
    /// Whether it is taken for a copy in memory that has been freed.
    pub stale: bool,
    /// What says so; empty for those that are not.
    pub evidence: String,
}

/// Judges instances of `len` bytes, by the pointers into them if those are known.
pub(super) fn judge<A: Address>(
    look: &Look<'_, A>,
    at: &[A],
    len: u64,
    pointers: Option<&[Edge<A>]>,
) -> Vec<Life> {
    let own: Vec<Option<u64>> = at.iter().map(|at| look.block(at.raw())).collect();
    let reached = pointers.map(|pointers| reached(at, len, pointers));
    let arrays = arrays(at, len, &own);
    let most = reached
        .as_ref()
        .is_some_and(|reached| 2 * reached.iter().filter(|is| **is).count() > reached.len());
    (0..at.len())
        .map(|index| {
            let free = own[index].is_some_and(|block| look.is_free(at[index].raw(), block));
            let alone = match (&reached, arrays[index]) {
                (Some(reached), _) if own[index].is_some() => !reached[index],
                (Some(reached), Some(array)) => {
                    let mut same = (0..at.len()).filter(|&other| arrays[other] == Some(array));
                    !same.any(|other| reached[other])
                }
                _ => false,
            };
            let evidence = match (free, most && alone) {
                (true, _) => "its allocation is marked as free",
                (_, true) => {
                    "nothing that is in use points at it, and at most others something does"
                }
                _ => "",
            };
            Life {
                stale: !evidence.is_empty(),
                evidence: evidence.to_owned(),
            }
        })
        .collect()
}

/// Which instances are reached from outside, or from one that is.
fn reached<A: Address>(at: &[A], len: u64, pointers: &[Edge<A>]) -> Vec<bool> {
    let mut order: Vec<usize> = (0..at.len()).collect();
    order.sort_by_key(|&index| at[index]);
    // The instance that an address is in; of those that overlap the last one to begin.
    let within = |address: u64| {
        let behind = order.partition_point(|&index| at[index].raw() <= address);
        let index = *order.get(behind.checked_sub(1)?)?;
        (address - at[index].raw() < len.max(1)).then_some(index)
    };
    let mut reached = vec![false; at.len()];
    let mut from: Vec<Vec<usize>> = vec![Vec::new(); at.len()];
    let mut open = Vec::new();
    for edge in pointers {
        let Some(to) = within(edge.value.raw()) else {
            continue;
        };
        match within(edge.at.raw()) {
            Some(source) if source == to => {}
            Some(source) => from[source].push(to),
            None if !reached[to] => {
                reached[to] = true;
                open.push(to);
            }
            None => {}
        }
    }
    while let Some(source) = open.pop() {
        for &to in &from[source] {
            if !reached[to] {
                reached[to] = true;
                open.push(to);
            }
        }
    }
    reached
}

/// The array that each instance lies in, by the index of its first one; `None` for those that do not, and for
/// allocations of their own.
fn arrays<A: Address>(at: &[A], len: u64, own: &[Option<u64>]) -> Vec<Option<usize>> {
    let mut order: Vec<usize> = (0..at.len())
        .filter(|&index| own[index].is_none())
        .collect();
    order.sort_by_key(|&index| at[index]);
    let mut arrays = vec![None; at.len()];
    let mut start = 0;
    while start + 1 < order.len() {
        let distance = |index: usize| at[order[index + 1]].raw() - at[order[index]].raw();
        let step = distance(start);
        let mut end = start + 1;
        while end + 1 < order.len() && distance(end) == step {
            end += 1;
        }
        if end + 1 - start >= ARRAY && (1..=APART.saturating_mul(len)).contains(&step) {
            for &index in &order[start..=end] {
                arrays[index] = Some(order[start]);
            }
            start = end + 1;
        } else {
            start += 1;
        }
    }
    arrays
}

impl<A: Address> Look<'_, A> {
    /// Whether the allocation at an address, of which malloc noted this size, is marked as free where the next one
    /// begins.
    fn is_free(&self, at: u64, block: u64) -> bool {
        let size = self.width.bytes() as u64;
        // The size of the next one stands right behind what this one may use.
        let next = at.checked_add(block).and_then(|next| self.word(next));
        next.is_some_and(|noted| {
            let total = noted & !7;
            noted & 1 == 0
                && total.is_multiple_of(2 * size)
                && (4 * size..MAX_ROOM).contains(&total)
        })
    }
}
