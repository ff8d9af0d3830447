//! The guest's operating system as verbs see it: found when one first needs it, its processes listed
//! once, and what does not add up told to the user.
//!
//! The engine answers with errors that say what was seen; here they get the third part of every error
//! message, what to try.

use std::sync::{Arc, OnceLock};

use vmie::os::{self, FindError, Finding, FindingKind, Guest, Listing, OsError, Process};
use vmie::{Gpa, Memory};

use crate::escape;
use crate::exit::Failure;
use crate::report::Reporter;
use crate::source::{Source, shell_word};

/// Findings told one by one. A doctored guest can have any number of them.
const FINDINGS_SHOWN: usize = 32;

/// An operating system that was found, and what was asked of it.
pub(crate) struct Os {
    guest: Box<dyn Guest>,
    processes: OnceLock<Result<Listing<Process>, OsError>>,
}

impl Os {
    /// Looks for it.
    pub(crate) fn find(source: &Source, reporter: &Reporter) -> Result<Self, FindError> {
        let phys: Arc<dyn Memory<Addr = Gpa>> = source.image.clone();
        let cpus = &source.info().cpus;
        let guest = match &source.cache {
            Some(cache) => {
                let (guest, kept) = cache.find(&phys, cpus, &source.known)?;
                if let Err(error) = kept {
                    let path = shell_word(cache.path());
                    reporter.warn(&format!("{path} is not written: {error}"));
                }
                guest
            }
            None => os::find_with(&phys, cpus, &source.known)?,
        };
        if let Some(supplied) = &source.known.types
            && let Ok(types) = guest.types()
            && !Arc::ptr_eq(&types, &supplied.types)
        {
            let what = format!(
                "the kernel has types of its own; {} is not used",
                supplied.origin
            );
            match &supplied.banner {
                Some(banner) if !supplied.fits(guest.version()) => reporter.warn(&format!(
                    "{what}, nor would it fit: it belongs to {}",
                    escape::plain(banner)
                )),
                _ => reporter.detail(&what),
            }
        }
        Ok(Self {
            guest,
            processes: OnceLock::new(),
        })
    }

    /// The engine's view of it.
    pub(crate) fn guest(&self) -> &dyn Guest {
        &*self.guest
    }

    /// All processes.
    pub(crate) fn processes(&self) -> Result<&Listing<Process>, Failure> {
        self.processes
            .get_or_init(|| self.guest.processes())
            .as_ref()
            .map_err(|error| failed(error).found("the processes could not be listed"))
    }

    /// The process of this number.
    pub(crate) fn by_pid(&self, pid: u32) -> Result<&Process, Failure> {
        let all = &self.processes()?.items;
        all.iter()
            .find(|process| process.pid == pid)
            .ok_or_else(|| {
                Failure::new(format!("there is no process {pid}"))
                    .found(format!("{} processes", all.len()))
                    .hint("`vmie ps`, to list them")
            })
    }

    /// What tells a process from others of its name.
    fn about(&self, process: &Process) -> String {
        match self.guest.command_line(process) {
            Ok(arguments) if !arguments.is_empty() => arguments.join(" "),
            _ => format!("child of {}", process.ppid),
        }
    }

    /// The only process of this name that has memory of its own.
    pub(crate) fn by_name(&self, name: &str) -> Result<&Process, Failure> {
        const SHOWN: usize = 16;
        let all = &self.processes()?.items;
        let named: Vec<&Process> = all.iter().filter(|process| process.name == name).collect();
        let live = named.iter().filter(|process| process.root.is_some());
        let candidates: Vec<&Process> = live.copied().collect();
        match (&candidates[..], &named[..]) {
            // One without memory is chosen too: what is done with it says why it has none.
            (&[only], _) | (&[], &[only]) => Ok(only),
            (_, []) => Err(Failure::new(format!(
                "there is no process named `{}`",
                escape::plain(name)
            ))
            .found(format!("{} processes, none of this name", all.len()))
            .hint("`vmie ps`, to list them; names are case-sensitive")),
            (several, _) => {
                let several = if several.is_empty() { &named } else { several };
                let failure = Failure::new(format!(
                    "{} processes are named `{}`",
                    several.len(),
                    escape::plain(name)
                ));
                let mut failure = several.iter().take(SHOWN).fold(failure, |failure, one| {
                    failure.hint(format!("--pid {}  ({})", one.pid, self.about(one)))
                });
                if several.len() > SHOWN {
                    failure = failure.hint(format!(
                        "{} more; `vmie ps` lists them",
                        several.len() - SHOWN
                    ));
                }
                Err(failure)
            }
        }
    }
}

/// No operating system: what each step of the search saw.
pub(crate) fn not_found(error: &FindError, source: &Source) -> Failure {
    let mut failure = Failure::new(format!(
        "no operating system was found in {}",
        source.name()
    ));
    for (kind, steps) in &error.searches {
        for step in steps {
            // A step that was tried from several starting points saw the same at each.
            let line = format!("{kind}: {step}");
            if !failure.found.contains(&line) {
                failure = failure.found(line);
            }
        }
    }
    if source.info().cpus.is_empty() {
        failure = failure.hint("check the --layout, for a raw image");
    }
    failure.hint("maps, vtop, read and scan need none with --cr3 GPA or --phys")
}

/// An error of the operating-system layer for the user.
pub(crate) fn failed(error: &OsError) -> Failure {
    let failure = Failure::new(error.to_string());
    match error {
        OsError::NoMemory { .. } => failure
            .hint("a process with an address space: `vmie ps` shows their cr3")
            .hint("--kernel, for the memory that kernel threads work in"),
        OsError::Unavailable { view: "types", .. } => {
            failure.hint("--types FILE, with an ISF file of this very kernel")
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
    findings.iter().any(|finding| {
        !matches!(
            finding.kind,
            FindingKind::Hidden | FindingKind::Inconsistent
        )
    })
}
