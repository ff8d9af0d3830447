//! Chooses the memory that a verb is about: physical memory, or one address space.
//!
//! This is the one place that turns the space options (`--pid`, `--process`, `--kernel`, `--cr3`,
//! `--phys`) into a [`Space`]: the memory itself, and the [`Names`] of its addresses. The verbs see only
//! what comes out.

use std::sync::OnceLock;

use vmie::os::Process;
use vmie::paging::{Detection, Mode};
use vmie::session::{self, Root, SpaceError, SpaceWidth, Who};
use vmie::{AddrRange, Address, CpuState, Gpa};

pub(crate) use vmie::session::Target;

use crate::addr::RangeExpr;
use crate::args::{NarrowArgs, OwnerArgs, Paging, SpaceArgs};
use crate::candidates::Whose;
use crate::escape;
use crate::exit::Failure;
use crate::guest::{self, Os, tell_findings};
use crate::names::Names;
use crate::output::SpaceKind;
use crate::report::Reporter;
use crate::saved;
use crate::source::Source;
use crate::unseen;

/// The memory that is meant, and what its addresses are called.
pub(crate) struct Space<'s> {
    /// The memory, and whose it is.
    pub(crate) of: session::Space<'s>,
    /// The names.
    pub(crate) names: Names<'s>,
    /// How wide what is in it is, once somebody has asked.
    pub(crate) width: OnceLock<SpaceWidth>,
}

impl<'s> Space<'s> {
    /// A memory and its names.
    pub(crate) fn new(of: session::Space<'s>, names: Names<'s>) -> Self {
        Self {
            of,
            names,
            width: OnceLock::new(),
        }
    }

    /// Chooses by what was typed.
    pub(crate) fn select(
        source: &'s Source,
        args: &SpaceArgs,
        reporter: &Reporter,
    ) -> Result<Self, Failure> {
        let who = match &args.owner {
            _ if source.saved().is_some() && args.is_typed() => return Err(no_other_space(source)),
            _ if source.saved().is_some() => Who::Saved,
            _ if args.phys => Who::Physical,
            OwnerArgs { kernel: true, .. } => Who::Kernel,
            OwnerArgs { pid: Some(pid), .. } => Who::Pid(*pid),
            OwnerArgs {
                process: Some(name),
                ..
            } => Who::named(name),
            _ => Who::Root(Root {
                gpa: Gpa(args.cr3.ok_or_else(|| no_space(source))?),
                mode: args.paging.mode(),
            }),
        };
        let os = match who {
            Who::Kernel => Some(source.os()?),
            Who::Pid(_) | Who::Named(_) => {
                let os = source.os()?;
                os.processes()?;
                Some(os)
            }
            _ => None,
        };
        let space = source.session().space(&who);
        source.tell_layout();
        let space = space.map_err(|error| no_such(source, os, error, reporter))?;
        if let Some(found) = &space.detection {
            tell_mode(found, reporter);
        }
        if let (Who::Root(_), Some(tables), false) = (&who, space.tables(), args.hardware) {
            unseen::tell(source, tables, reporter);
        }
        if let Some(process) = space.process() {
            tell_whose(&args.owner, process, reporter);
        }
        let names = Names::of(source, os, &space);
        Ok(Self::new(args.seen(space), names))
    }

    /// Whose memory it is, to be told again at another moment.
    pub(crate) fn whose(&self) -> Whose {
        match &self.of.target {
            Target::Physical(_) => Whose::Phys,
            Target::Saved(snapshot) => saved::whose(snapshot.origin()),
            Target::Virtual(space) => self
                .names
                .whose()
                .unwrap_or_else(|| Whose::root(space.root(), space.mode())),
        }
    }

    /// The paging mode of an address space.
    pub(crate) fn mode(&self) -> Option<Mode> {
        self.of.mode()
    }

    /// Whether rows are about physical memory.
    pub(crate) fn kind(&self) -> SpaceKind {
        match self.of.target {
            Target::Physical(_) => SpaceKind::Physical,
            Target::Virtual(_) | Target::Saved(_) => SpaceKind::Virtual,
        }
    }

    /// The part that is meant: what was typed, else of a process what is user mode's, else (`None`) all.
    pub(crate) fn range<A: Address>(
        &self,
        typed: Option<&RangeExpr>,
    ) -> Result<Option<AddrRange<A>>, Failure> {
        if let Some(range) = typed {
            return range.resolve(&self.names).map(Some);
        }
        Ok(self.of.user_range())
    }
}

/// The process that was typed, if one was.
pub(crate) fn select_process<'s>(
    source: &'s Source,
    args: &OwnerArgs,
    reporter: &Reporter,
) -> Result<Option<(&'s Os, &'s Process)>, Failure> {
    if args.pid.is_none() && args.process.is_none() {
        return Ok(None);
    }
    let os = source.os()?;
    let found = match (args.pid, &args.process) {
        (Some(pid), _) => os.by_pid(pid),
        (None, Some(name)) => os.by_name(name),
        (None, None) => return Ok(None),
    };
    let process = found.map_err(|error| os.not_there(error, reporter))?;
    tell_whose(args, process, reporter);
    Ok(Some((os, process)))
}

/// The processes that an answer is narrowed to, or all.
pub(crate) fn narrowed<'s>(
    source: &'s Source,
    args: &NarrowArgs,
    reporter: &Reporter,
) -> Result<(&'s Os, &'s [Process]), Failure> {
    let owner = OwnerArgs {
        pid: args.pid,
        process: args.process.clone(),
        kernel: false,
    };
    if let Some((os, process)) = select_process(source, &owner, reporter)? {
        return Ok((os, std::slice::from_ref(process)));
    }
    let os = source.os()?;
    let listing = os.processes()?;
    tell_findings(&listing.findings, reporter);
    Ok((os, &listing.items))
}

/// Says which process is meant by a name that is not its own.
fn tell_whose(args: &OwnerArgs, process: &Process, reporter: &Reporter) {
    if let Some(typed) = args.process.as_ref().filter(|_| !args.names(process)) {
        reporter.note(&format!(
            "`{}` is process {}, {}",
            escape::plain(typed),
            process.pid,
            escape::plain(&process.name)
        ));
    }
}

impl Paging {
    /// The mode that was asked for; `None` for `auto`.
    fn mode(self) -> Option<Mode> {
        match self {
            Self::Auto => None,
            Self::X86 => Some(Mode::X86),
            Self::Pae => Some(Mode::Pae),
            Self::FourLevel => Some(Mode::FourLevel),
            Self::FiveLevel => Some(Mode::FiveLevel),
        }
    }
}

/// What to say when there is no such space.
fn no_such(source: &Source, os: Option<&Os>, error: SpaceError, reporter: &Reporter) -> Failure {
    match (error, os) {
        (SpaceError::Process(error), Some(os)) => os.not_there(error, reporter),
        (error, _) => no_memory(source, error),
    }
}

/// What to say when there is no such memory, whatever process was meant.
pub(crate) fn no_memory(source: &Source, error: SpaceError) -> Failure {
    match error {
        SpaceError::RootAbsent(root) => root_absent(source, root),
        SpaceError::NoMode(error) => {
            let failure = Failure::new(format!(
                "cannot tell the paging mode of --cr3 {}",
                error.root
            ));
            let failure = error.findings.split("; ").fold(failure, Failure::found);
            other_roots(failure, source).hint("--paging x86, pae, 4level or 5level, if you know it")
        }
        SpaceError::NoSystem(error) => {
            guest::not_found(&error, &source.name(), !source.info().hints.cpus.is_empty())
        }
        SpaceError::Os(error) => guest::failed(&error),
        error => Failure::new(error.to_string()),
    }
}

fn tell_mode(found: &Detection, reporter: &Reporter) {
    let text = format!("paging {}: {}", found.mode, found.why);
    if found.confirmed {
        reporter.note(&text);
    } else {
        reporter.warn(&format!(
            "{text}\nthis is a guess that could not be confirmed; --paging MODE overrides it"
        ));
    }
}

/// A snapshot of one address space was asked for another.
pub(crate) fn no_other_space(source: &Source) -> Failure {
    let failure = Failure::new(format!(
        "{} is a snapshot of one address space and holds no other memory",
        source.name()
    ));
    let of = source
        .saved()
        .map(|snapshot| escape::plain(&saved::of(snapshot.origin())).into_owned());
    of.into_iter()
        .fold(failure, Failure::found)
        .hint("leave out --pid, --process, --kernel, --cr3 and --phys")
}

/// A root outside the image: whatever is asked of it, nothing can be looked at.
fn root_absent(source: &Source, root: Gpa) -> Failure {
    const SHOWN: usize = 4;
    let ranges = &source.info().ranges;
    let shown: Vec<String> = ranges.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = ranges.len().saturating_sub(SHOWN);
    let failure =
        Failure::new(format!("no page table can be read at --cr3 {root}")).found(format!(
            "{} holds {}{}",
            source.name(),
            shown.join(", "),
            if more > 0 {
                format!(" and {more} more ranges")
            } else {
                String::new()
            }
        ));
    other_roots(failure, source)
}

/// What to try when a root turns out to be none.
pub(crate) fn other_roots(failure: Failure, source: &Source) -> Failure {
    let failure = failure.hint("check the root (CR3), and for a raw image the --layout");
    suggest_cpus(failure, &source.info().hints.cpus)
}

/// What to say when a verb needs a space and none was typed.
fn no_space(source: &Source) -> Failure {
    let failure = Failure::new(format!(
        "which memory of {}? Neither a process, an address space nor --phys was given",
        source.name()
    ));
    let cpus = &source.info().hints.cpus;
    if cpus.is_empty() {
        failure
            .found("the image does not record the CPUs, so no page-table root is known")
            .hint("--cr3 GPA, the physical address of the top page table (CR3)")
            .hint(
                "--pid N, --process NAME or --kernel, for a guest whose operating system is known",
            )
            .hint("--phys, for physical memory itself")
    } else {
        suggest_cpus(failure, cpus)
            .hint(
                "--pid N, --process NAME or --kernel, for a guest whose operating system is known",
            )
            .hint("--phys, for physical memory itself")
    }
}

/// Offers the roots of the CPUs, each once.
fn suggest_cpus(mut failure: Failure, cpus: &[CpuState]) -> Failure {
    const SHOWN: usize = 8;
    let mut roots: Vec<(u64, Vec<u32>, Option<Mode>)> = Vec::new();
    for cpu in cpus.iter().filter(|cpu| cpu.paging_enabled()) {
        let mode = Mode::from_cpu(cpu);
        // PCID and flag bits are no part of the root.
        let root = cpu.cr3 & mode.unwrap_or(Mode::FourLevel).spec().root_mask;
        match roots.iter_mut().find(|entry| entry.0 == root) {
            Some(entry) => entry.1.push(cpu.index),
            None => roots.push((root, vec![cpu.index], mode)),
        }
    }
    let more = roots.len().saturating_sub(SHOWN);
    for (root, indices, mode) in roots.into_iter().take(SHOWN) {
        let list: Vec<String> = indices.iter().take(SHOWN).map(u32::to_string).collect();
        let mode = mode.map_or_else(String::new, |mode| format!(", {mode}"));
        failure = failure.hint(format!(
            "--cr3 {root:#x}  (CPU {}{}{mode})",
            list.join(", "),
            if indices.len() > SHOWN { ", ..." } else { "" }
        ));
    }
    if more > 0 {
        failure = failure.found(format!("{more} more CPU roots; `vmie info` lists them"));
    }
    failure
}
