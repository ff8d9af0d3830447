//! The guest's operating system as verbs see it: found when one first needs it, its processes listed
//! once, and what does not add up told to the user.
//!
//! The engine answers with errors that say what was seen; here they get the third part of every error
//! message, what to try.

use std::sync::{Arc, OnceLock};

use vmie::os::{FindError, Finding, FindingKind, Guest, Listing, OsError, PageState, Process, Vma};
use vmie::session::{ProcessError, System};
use vmie::{AddrRange, Address as _, Gpa, Gva, PAGE_SIZE};
use vmie_rows::State;

use crate::escape;
use crate::exit::Failure;
use crate::report::Reporter;

/// Findings told one by one. A doctored guest can have any number of them.
const FINDINGS_SHOWN: usize = 32;

/// An operating system that was found, and what was asked of it.
pub(crate) struct Os {
    system: Arc<System>,
    /// What the process that is looked into has arranged to be mapped.
    areas: OnceLock<(u32, Option<Listing<Vma>>)>,
}

impl Os {
    /// What was found.
    pub(crate) fn new(system: Arc<System>) -> Self {
        Self {
            system,
            areas: OnceLock::new(),
        }
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
    pub(crate) fn by_pid(&self, pid: u32) -> Result<&Process, Failure> {
        let found = self.system.by_pid(pid);
        found.map_err(|error| self.not_there(error))
    }

    /// The only process of this name that has memory of its own.
    pub(crate) fn by_name(&self, name: &str) -> Result<&Process, Failure> {
        let found = self.system.by_name(name);
        found.map_err(|error| self.not_there(error))
    }

    /// What to say when there is not the one process that was meant.
    fn not_there(&self, error: ProcessError) -> Failure {
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

    /// Where a page of a process is that the CPU does not see; `None` when there is no more to say.
    pub(crate) fn whereabouts(&self, process: &Process, va: Gva) -> Option<Whereabouts> {
        let space = self.guest().space_of(process).ok()?;
        if space
            .mode()
            .user_range::<Gva>()
            .is_some_and(|half| !half.contains(va))
        {
            let hidden = process.user_root == Some(space.root())
                && self.guest().kernel_space().translate(va).is_ok();
            return hidden.then(|| Whereabouts {
                state: State::Hidden,
                detail: "user mode does not see the kernel's memory here (page-table isolation); \
                         --kernel shows it"
                    .to_owned(),
            });
        }
        let (state, detail) = match self.guest().page_state(process, va).ok()? {
            PageState::Swapped {
                area,
                offset,
                compressed: false,
            } => (
                State::Swapped,
                format!("in swap: page {offset} of area {area}"),
            ),
            PageState::Swapped { area, offset, .. } => (
                State::Swapped,
                format!(
                    "in swap: page {offset} of area {area}, which is kept in memory compressed (zram, zswap) \
                     and is not read"
                ),
            ),
            PageState::Hinted { gpa } => (
                State::Hinted,
                format!(
                    "in memory at {gpa}; the CPU is made to fault on the next access, which the system wants \
                     to see (NUMA balancing)"
                ),
            ),
            PageState::Moving { gpa } => (
                State::Moving,
                format!("in memory at {gpa}, and just being moved to another frame"),
            ),
            PageState::Forbidden { gpa } => (
                State::Forbidden,
                format!("in memory at {gpa}, but the process may not touch it"),
            ),
            PageState::Special => (
                State::Special,
                "being moved, broken, or marked by the system".to_owned(),
            ),
            PageState::Empty => self.of_empty(process, va)?,
            _ => return None,
        };
        Some(Whereabouts { state, detail })
    }

    /// What a page is that is nowhere in the guest's memory.
    fn of_empty(&self, process: &Process, va: Gva) -> Option<(State, String)> {
        let areas = self.areas(process)?;
        let Some(area) = next_area(areas, va).filter(|area| area.range.contains(va)) else {
            let whole = areas.findings.is_empty();
            let detail = "the process has nothing arranged here".to_owned();
            return whole.then_some((State::NoArea, detail));
        };
        Some(match &area.file {
            Some(file) => {
                let within = (va.0 - area.range.start().0) / PAGE_SIZE * PAGE_SIZE;
                let offset = file.offset.wrapping_add(within);
                (
                    State::InFile,
                    format!(
                        "of the file {}, offset {offset:#x}: never read into this process, or dropped",
                        file.path
                    ),
                )
            }
            None => (State::Untouched, "never touched".to_owned()),
        })
    }

    /// What a process has arranged to be mapped. A verb looks into one process.
    fn areas(&self, process: &Process) -> Option<&Listing<Vma>> {
        let list = || (process.pid, self.guest().vmas(process).ok());
        let (pid, areas) = self.areas.get_or_init(list);
        areas.as_ref().filter(|_| *pid == process.pid)
    }

    /// Cuts a range that a process's page tables do not map into parts of which the same can be said, in
    /// one word; `None` where there is no more to say.
    pub(crate) fn parts(
        &self,
        process: &Process,
        range: AddrRange<Gva>,
    ) -> Vec<(AddrRange<Gva>, Option<State>)> {
        // Holes of terabytes have few areas in them; each of its pages is looked at.
        let mut pages_left = MAX_PAGES;
        let mut parts: Vec<(AddrRange<Gva>, Option<State>)> = Vec::new();
        let mut at = Some(range.start());
        while let Some(part) = at.and_then(|at| AddrRange::inclusive(at, range.last())) {
            let start = part.start();
            let to = self.next_border(process, start).min(part.last());
            pages_left = pages_left.saturating_sub(1);
            let (last, state) = match pages_left {
                0 => (part.last(), None),
                _ => (to, self.whereabouts(process, start).map(|is| is.state)),
            };
            match parts.last_mut() {
                Some((joined, known)) if *known == state => {
                    if let Some(longer) = AddrRange::inclusive(joined.start(), last) {
                        *joined = longer;
                    }
                }
                _ => parts.extend(AddrRange::inclusive(start, last).map(|new| (new, state))),
            }
            at = last.checked_add(1);
        }
        parts
    }

    /// The last address that what is said of `va` holds for at least: of its page in an area, all up to
    /// the next area outside.
    fn next_border(&self, process: &Process, va: Gva) -> Gva {
        let Some(areas) = self.areas(process) else {
            return Gva(u64::MAX);
        };
        match next_area(areas, va) {
            Some(area) if area.range.contains(va) => Gva(va.0 | (PAGE_SIZE - 1)),
            Some(area) => Gva(area.range.start().0.saturating_sub(1)).max(va),
            // The process's own half ends somewhere before the kernel's begins.
            None if va.0 >> 63 == 0 => Gva(u64::MAX >> 1),
            None => Gva(u64::MAX),
        }
    }
}

/// The area that an address is in, or else the next one behind it. A guest may have very many.
fn next_area(areas: &Listing<Vma>, va: Gva) -> Option<&Vma> {
    let before = areas.items.partition_point(|area| area.range.last() < va);
    areas.items.get(before)
}

/// How many pages of a hole are looked at one by one.
const MAX_PAGES: usize = 1 << 16;

/// Where a page is that a process cannot reach.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Whereabouts {
    /// In one word.
    pub(crate) state: State,
    /// In a sentence. Parts of it are the guest's.
    pub(crate) detail: String,
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
    findings.iter().any(|finding| {
        !matches!(
            finding.kind,
            FindingKind::Hidden | FindingKind::Inconsistent
        )
    })
}
