//! What of memory was looked at: each thread's last coverage.

use std::cell::Cell;

use vmie::{Address, Coverage};

use crate::error::{Code, Error};

/// `vmie_coverage` of memmodel.h.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct CCoverage {
    mapped: u64,
    read: u64,
    absent: u64,
    lost: u64,
    unmapped: u64,
    gaps: u64,
    complete: u32,
    stopped: u32,
}

const _: () = assert!(size_of::<CCoverage>() == 56);

thread_local! {
    static LAST: Cell<Option<CCoverage>> = const { Cell::new(None) };
}

/// Forgets the last coverage, at the beginning of a search: none is told that is not of this one.
pub(crate) fn clear() {
    let _ = LAST.try_with(|last| last.set(None));
}

/// Remembers what a search covered, of which the caller may have `stopped` the rest.
pub(crate) fn set<A: Address>(coverage: &Coverage<A>, stopped: bool) {
    let told = CCoverage {
        mapped: coverage.mapped,
        read: coverage.read,
        absent: coverage.absent,
        lost: coverage.lost,
        unmapped: coverage.unmapped,
        gaps: coverage.gap_count,
        // What is not mapped holds nothing that could be missed.
        complete: u32::from(coverage.absent == 0 && coverage.lost == 0),
        stopped: stopped.into(),
    };
    let _ = LAST.try_with(|last| last.set(Some(told)));
}

/// Says of the search just remembered that something may have been missed for another reason than memory.
pub(crate) fn incomplete() {
    let missed = |last: CCoverage| CCoverage {
        complete: 0,
        ..last
    };
    let _ = LAST.try_with(|last| last.set(last.get().map(missed)));
}

/// The last coverage on this thread.
pub(crate) fn last() -> Option<CCoverage> {
    LAST.try_with(Cell::get).ok().flatten()
}

/// Remembers what a search covered, and fails when it has not seen a single byte: then its answer is worth
/// nothing, whatever it is.
pub(crate) fn searched<A: Address>(coverage: &Coverage<A>, stopped: bool) -> Result<(), Error> {
    set(coverage, stopped);
    if coverage.read > 0 || stopped {
        return Ok(());
    }
    let why = match coverage.gaps.first() {
        Some(gap) => format!("{}+{:#x}: {}", gap.start, gap.len, gap.cause),
        None => "no region there that is mapped allows what was asked for".to_owned(),
    };
    Err(Error::new(
        Code::Unreadable,
        format!("nothing could be looked at; {why}"),
    ))
}
