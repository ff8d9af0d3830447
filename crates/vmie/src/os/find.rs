//! Finding out which operating system a guest runs: all searches, one after the other.

use super::error::FindError;
use super::guest::Guest;
use super::linux;
use super::search::{FindOptions, Kind, LikelyRoot, Missed, Phys};
use crate::hints::Hints;

/// A search for one operating system: the guest, or what each step saw.
type Search = fn(&Phys, &Hints, &FindOptions) -> Result<Box<dyn Guest>, Missed>;

/// Top page tables that are likely to be of a system, each found without a search.
type Roots = fn(&Phys, &Hints) -> Vec<LikelyRoot>;

/// Where the systems' own page tables are likely to be.
const ROOTS: &[Roots] = &[linux::likely_roots];

/// All searches, in the order in which they are tried.
const SEARCHES: &[(Kind, Search)] = &[(Kind::Linux, |phys, hints, options| {
    linux::Linux::find_with(phys, hints, options).map(|guest| Box::new(guest) as Box<dyn Guest>)
})];

/// Finds out which operating system a guest runs.
///
/// `hints` may be empty. What they lead to is verified like everything else, and CPUs contradict a find that is
/// not the kernel they run.
///
/// Cost: little where a hint leads to the kernel; else a glance at every page until it is found, and a full pass over
/// memory when that fails.
///
/// # Errors
///
/// What each search saw, when none succeeded.
pub fn find(phys: &Phys, hints: &Hints) -> Result<Box<dyn Guest>, FindError> {
    find_with(phys, hints, &FindOptions::default())
}

/// As [`find`], with what is known beforehand.
///
/// # Errors
///
/// What each search saw, when none succeeded.
pub fn find_with(
    phys: &Phys,
    hints: &Hints,
    options: &FindOptions,
) -> Result<Box<dyn Guest>, FindError> {
    let (mut searches, mut led) = (Vec::new(), false);
    for (kind, search) in SEARCHES {
        match search(phys, hints, options) {
            Ok(guest) => return Ok(guest),
            Err(missed) => {
                led |= missed.led;
                searches.push((*kind, missed.steps));
            }
        }
    }
    Err(FindError { searches, led })
}

/// Top page tables that are likely to be of a guest's system: evidence of how memory is laid out, which can be had without
/// a search.
///
/// Cost: some milliseconds.
pub fn likely_roots(phys: &Phys, hints: &Hints) -> Vec<LikelyRoot> {
    ROOTS.iter().flat_map(|roots| roots(phys, hints)).collect()
}
