//! The guest's operating system as verbs see it: found when one first needs it, its processes listed
//! once, and what does not add up told to the user.
//!
//! The engine answers with errors that say what was seen; here they get the third part of every error
//! message, what to try.

use std::sync::Arc;

use vmie::Gpa;
use vmie::os::{FindError, Finding, Guest, Listing, OsError, Process};
use vmie::session::{ProcessError, System};
use vmie::views::Regions;
use vmie_rows::Owner;

use crate::escape;
use crate::exit::Failure;
use crate::report::Reporter;

/// Findings told one by one. A doctored guest can have any number of them.
const FINDINGS_SHOWN: usize = 32;

/// An operating system that was found.
pub(crate) struct Os {
    system: Arc<System>,
    /// Whether symbols are shown as their sources call them.
    demangles: bool,
}

impl Os {
    /// What was found.
    pub(crate) fn new(system: Arc<System>, demangles: bool) -> Self {
        Self { system, demangles }
    }

    /// Whether symbols are shown as their sources call them.
    pub(crate) fn demangles(&self) -> bool {
        self.demangles
    }

    /// The engine's view of it.
    pub(crate) fn guest(&self) -> &dyn Guest {
        self.system.guest()
    }

    /// All processes.
    pub(crate) fn processes(&self) -> Result<&Listing<Process>, Failure> {
        self.system.processes().map_err(not_listed)
    }

    /// The process whose space has this root.
    pub(crate) fn by_root(&self, root: Gpa) -> Option<&Process> {
        self.system.by_root(root)
    }

    /// The process of this number.
    pub(crate) fn by_pid(&self, pid: u32) -> Result<&Process, ProcessError> {
        self.system.by_pid(pid)
    }

    /// The only process of this name that has memory of its own.
    pub(crate) fn by_name(&self, name: &str) -> Result<&Process, ProcessError> {
        self.system.by_name(name)
    }

    /// What to say when there is not the one process that was meant.
    pub(crate) fn not_there(&self, error: ProcessError, reporter: &Reporter) -> Failure {
        if let Ok(listing) = self.system.processes() {
            // What does not add up in the list may be why it is not there.
            tell_findings(&listing.findings, reporter);
        }
        match error {
            ProcessError::Os(error) => not_listed(&error),
            ProcessError::NoPid { pid, processes } => {
                Failure::new(format!("there is no process {pid}"))
                    .found(format!("{processes} processes"))
                    .hint("`vmie ps`, to list them")
            }
            ProcessError::NoName {
                name,
                processes,
                alike,
            } => {
                let failure = Failure::new(format!(
                    "there is no process named `{}`",
                    escape::plain(&name)
                ))
                .found(format!("{processes} processes, none of this name"));
                self.offer(failure, &alike)
                    .hint("`vmie ps`, to list them; names are case-sensitive")
            }
            ProcessError::Ambiguous { name, processes } => {
                let failure = Failure::new(format!(
                    "{} processes are named `{}`",
                    processes.len(),
                    escape::plain(&name)
                ));
                self.offer(failure, &processes)
            }
            error => Failure::new(error.to_string()),
        }
    }

    /// What tells a process from others of its name.
    fn about(&self, process: &Process) -> String {
        match self.guest().command_line(process) {
            Ok(arguments) if !arguments.is_empty() => arguments.join(" "),
            _ => format!("child of {}", process.ppid),
        }
    }

    /// Offers processes by their numbers.
    fn offer(&self, failure: Failure, processes: &[Process]) -> Failure {
        const SHOWN: usize = 16;
        let failure = processes.iter().take(SHOWN).fold(failure, |failure, one| {
            failure.hint(format!(
                "--pid {}  ({}: {})",
                one.pid,
                escape::plain(&one.name),
                escape::plain(&self.about(one))
            ))
        });
        match processes.len().saturating_sub(SHOWN) {
            0 => failure,
            more => failure.hint(format!("{more} more; `vmie ps` lists them")),
        }
    }
}

/// Asks what a process has arranged to be mapped, and warns of what does not add up.
pub(crate) fn regions(os: &Os, process: &Process, reporter: &Reporter) -> Result<Regions, Failure> {
    let regions = Regions::of_process(os.guest(), process);
    let regions = regions.map_err(|error| failed(&error))?;
    tell_findings(&regions.findings, reporter);
    Ok(regions)
}

/// Every process that has memory, and the kernel (`None`) behind them where it is wanted.
pub(crate) fn everyone<'s>(
    os: &'s Os,
    kernel: bool,
    reporter: &Reporter,
) -> Result<Vec<Option<&'s Process>>, Failure> {
    let listing = os.processes()?;
    tell_findings(&listing.findings, reporter);
    let processes = listing.items.iter().filter(|one| one.root.is_some());
    Ok(processes.map(Some).chain(kernel.then_some(None)).collect())
}

/// A process, or the kernel, in messages.
pub(crate) fn title(process: Option<&Process>) -> String {
    match process {
        Some(process) => format!("{} ({})", process.name, process.pid),
        None => "the kernel".to_owned(),
    }
}

/// Whose a row is.
pub(crate) fn owner(process: Option<&Process>) -> Owner {
    Owner {
        pid: process.map(|process| process.pid),
        process: process.map(|process| process.name.clone()),
    }
}

/// No operating system in the image of this name: what each step of the search saw.
pub(crate) fn not_found(error: &FindError, image: &str, cpus_known: bool) -> Failure {
    let mut failure = Failure::new(format!("no operating system was found in {image}"));
    for (kind, steps) in &error.searches {
        for step in steps {
            // A step that was tried from several starting points saw the same at each.
            let line = format!("{kind}: {step}");
            if !failure.found.contains(&line) {
                failure = failure.found(line);
            }
        }
    }
    if !cpus_known {
        failure = failure.hint("check the --layout, for a raw image");
    }
    failure.hint("maps, vtop, read, scan, find and strings need none with --cr3 GPA or --phys")
}

fn not_listed(error: &OsError) -> Failure {
    failed(error).found("the processes could not be listed")
}

/// An error of the operating-system layer for the user.
pub(crate) fn failed(error: &OsError) -> Failure {
    let failure = Failure::new(error.to_string());
    match error {
        OsError::NoMemory { .. } => failure
            .hint("a process with an address space: `vmie ps` shows their cr3")
            .hint("--kernel, for the memory that kernel threads work in"),
        OsError::Unavailable { view: "types", .. } => {
            failure.hint("--types FILE, with an ISF file or another image of this very kernel")
        }
        _ => failure,
    }
}

/// Warns of what did not add up. Answers whether rows may be missing for it.
pub(crate) fn tell_findings(findings: &[Finding], reporter: &Reporter) -> bool {
    for finding in findings.iter().take(FINDINGS_SHOWN) {
        reporter.warn(&finding.to_string());
    }
    let more = findings.len().saturating_sub(FINDINGS_SHOWN);
    if more > 0 {
        reporter.warn(&format!("{more} more findings"));
    }
    findings.iter().any(Finding::costs_rows)
}
