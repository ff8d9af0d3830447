//! What the regions of a space are called, and what is told of it.

use vmie::views::Regions;

use crate::exit::Failure;
use crate::guest;
use crate::names::Names;
use crate::report::Reporter;

/// Asks what a process has arranged to be mapped, and warns of what does not add up; nothing for other spaces.
pub(crate) fn of(names: &Names<'_>, reporter: &Reporter) -> Result<Regions, Failure> {
    match names.process() {
        Some((os, process)) => guest::regions(os, process, reporter),
        None => Ok(Regions::default()),
    }
}
