//! What the regions of a space are called, and what is told of it.

use vmie::views::Regions;

use crate::exit::Failure;
use vmie::os::Process;

use crate::guest::{self, Os, tell_findings};
use crate::names::Names;
use crate::report::Reporter;

/// Asks what a process has arranged to be mapped, and warns of what does not add up; nothing for other spaces.
pub(crate) fn of(names: &Names<'_>, reporter: &Reporter) -> Result<Regions, Failure> {
    match names.process() {
        Some((os, process)) => of_process(os, process, reporter),
        None => Ok(Regions::default()),
    }
}

/// Asks what a process has arranged to be mapped, and warns of what does not add up.
pub(crate) fn of_process(
    os: &Os,
    process: &Process,
    reporter: &Reporter,
) -> Result<Regions, Failure> {
    let regions = Regions::of_process(os.guest(), process);
    let regions = regions.map_err(|error| guest::failed(&error))?;
    tell_findings(&regions.findings, reporter);
    Ok(regions)
}
