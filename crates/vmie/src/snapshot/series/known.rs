//! What snapshots are known to share, without looking at it.

use super::super::Snapshot;
use super::super::layout::SNAPSHOT_PAGE;
use crate::addr::{AddrRange, Address};

/// How many bytes from the beginning of a range on every one of these snapshots of one series has, and the same
/// ones: those of pages that they share. What follows may be the same as well.
pub(super) fn shared<A: Address>(moments: &[&Snapshot<A>], range: AddrRange<A>) -> u64 {
    let start = range.start();
    let Some((first, others)) = moments.split_first() else {
        return 0;
    };
    let Some(mut len) = readable(first, range) else {
        return 0;
    };
    let Some((page, count)) = first.layout.page(start) else {
        return 0;
    };
    let skip = start.raw() % SNAPSHOT_PAGE as u64;
    let asked = skip
        .saturating_add(range.len())
        .div_ceil(SNAPSHOT_PAGE as u64);
    let (page, mut count) = (page as usize, count.min(asked) as usize);
    for other in others {
        let Some(readable) = readable(other, range) else {
            return 0;
        };
        let Some((there, most)) = other.layout.page(start) else {
            return 0;
        };
        let there = &other.slots[there as usize..];
        let here = &first.slots[page..];
        let most = count.min(usize::try_from(most).unwrap_or(usize::MAX));
        let same = here.iter().zip(there).take(most);
        count = same.take_while(|(one, other)| one == other).count();
        len = len.min(readable);
        if count == 0 {
            return 0;
        }
    }
    len.min((count * SNAPSHOT_PAGE) as u64 - skip)
}

/// How many bytes from the beginning of a range on can be read.
fn readable<A: Address>(moment: &Snapshot<A>, range: AddrRange<A>) -> Option<u64> {
    let len = moment.layout.readable(range.start()).ok()?;
    Some(len.min(range.len()))
}
