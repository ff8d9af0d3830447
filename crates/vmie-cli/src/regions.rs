//! What the regions of a space are called, and what is told of it.

use vmie::views::Regions;

use crate::exit::Failure;
use crate::guest::{self, tell_findings};
use crate::names::Names;
use crate::report::Reporter;

/// Asks what a process has arranged to be mapped, and warns of what does not add up; nothing for other spaces.
pub(crate) fn of(names: &Names<'_>, reporter: &Reporter) -> Result<Regions, Failure> {
    let Some((os, process)) = names.process() else {
        return Ok(Regions::default());
    };
    let regions = Regions::of_process(os.guest(), process);
    let regions = regions.map_err(|error| guest::failed(&error))?;
    tell_findings(&regions.findings, reporter);
    Ok(regions)
}
