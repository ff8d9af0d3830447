//! Finding out which operating system a guest runs: all searches, one after the other.

use super::error::FindError;
use super::guest::Guest;
use super::linux;
use super::search::{FindOptions, Kind, Phys, Step};
use crate::hints::Hints;

/// A search for one operating system: the guest, or what each step saw.
type Search = fn(&Phys, &Hints, &FindOptions) -> Result<Box<dyn Guest>, Vec<Step>>;

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
    let mut searches = Vec::new();
    for (kind, search) in SEARCHES {
        match search(phys, hints, options) {
            Ok(guest) => return Ok(guest),
            Err(steps) => searches.push((*kind, steps)),
        }
    }
    Err(FindError { searches })
}
