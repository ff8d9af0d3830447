//! The spaces of all processes, and of the kernel if it was asked for, looked at together.
//!
//! [`Space`](crate::space::Space) is one space; what is found in many has a place: whose space it is in,
//! and in which region. Results come space by space, so what is needed to name their places is made for
//! one space after the other, and only for those in which something is found.

use vmie::os::Process;
use vmie::scan::Outcome;
use vmie::session;
use vmie::views::Regions;
use vmie::{AddrRange, Coverage, Gva, ProgramWidth, SpacePart};
use vmie_rows::{Hex, Owner, Place, Site};

use crate::addr::RangeExpr;
use crate::args::SpaceArgs;
use crate::candidates::Whose;
use crate::exit::Failure;
use crate::guest::{self, Os, tell_findings};
use crate::names::Names;
use crate::output::{Totals, totals_of_many, with_beyond};
use crate::regions;
use crate::report::{Beyond, Reporter, Words};
use crate::size;
use crate::source::Source;
use crate::space::{Space, no_memory};
use crate::width;

/// All spaces of a guest.
pub(crate) struct Spaces<'s> {
    os: &'s Os,
    source: &'s Source,
    of: session::Spaces<'s>,
    /// Whether no space is missing.
    complete: bool,
}

/// What was looked at of all spaces.
#[derive(Default)]
pub(crate) struct Looked {
    /// Of each space.
    pub(crate) coverage: Vec<Coverage<Gva>>,
    /// Bytes of physical memory, each frame counted as often as it was looked at; 0 where that is not known.
    pub(crate) physical: u64,
}

impl Looked {
    /// By a scan.
    pub(crate) fn of<T>(outcome: Outcome<Gva, T>) -> Self {
        Self {
            coverage: outcome.spaces,
            physical: outcome.looked_at,
        }
    }

    /// In all spaces together.
    pub(crate) fn total(&self) -> Coverage<Gva> {
        let mut total = Coverage::default();
        self.coverage.iter().for_each(|one| total.merge(one));
        total
    }
}

impl<'s> Spaces<'s> {
    /// The spaces of all processes that have memory, each its own half; then the kernel's, if that was typed.
    pub(crate) fn select(
        source: &'s Source,
        args: &SpaceArgs,
        reporter: &Reporter,
    ) -> Result<Self, Failure> {
        let os = source.os()?;
        os.processes()?;
        let mut of = source
            .session()
            .spaces(args.owner.kernel)
            .map_err(|error| no_memory(source, error))?;
        tell_findings(of.findings, reporter);
        for (_, error) in &of.failed {
            reporter.warn(&error.to_string());
        }
        if of.members.is_empty() {
            return Err(
                Failure::new("no process has memory that could be looked at")
                    .found(format!("{} processes", of.processes))
                    .hint("`vmie ps`, to list them")
                    .hint("--kernel, for the kernel"),
            );
        }
        let complete = of.is_complete();
        of.members = of.members.into_iter().map(|one| args.seen(one)).collect();
        Ok(Self {
            os,
            source,
            of,
            complete,
        })
    }

    /// How wide the program of each is.
    pub(crate) fn widths(&self, reporter: &Reporter) -> Vec<ProgramWidth> {
        width::of_all(&self.of.members, reporter)
    }

    /// Whose memory they are, to be told again at another moment.
    pub(crate) fn whose(&self) -> Vec<Whose> {
        let whose = |member: &session::Space<'_>| match member.process() {
            Some(process) => Whose::process(process),
            None => Whose::kernel(self.os.guest()),
        };
        self.of.members.iter().map(whose).collect()
    }

    /// What the engine looks at.
    pub(crate) fn parts(&self) -> Vec<SpacePart<'_>> {
        self.of.parts()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.of.members.len()
    }

    /// Space `index` alone, with its own names.
    pub(crate) fn space(&self, index: usize) -> Space<'s> {
        let member = &self.of.members[index];
        Space::new(member.clone(), self.names(member.process()))
    }

    /// The part of space `index` that is looked at.
    pub(crate) fn own(&self, index: usize) -> AddrRange<Gva> {
        self.of.members[index].part()
    }

    /// The names of a process, or of the kernel.
    fn names(&self, process: Option<&'s Process>) -> Names<'s> {
        Names::of_owner(self.os, process, self.source.reporter())
    }

    /// Whose space `index` is, for rows; without a region.
    pub(crate) fn site(&self, index: usize) -> Site {
        let process = self.of.members[index].process();
        Site {
            pid: process.map(|process| process.pid),
            process: process.map(|process| process.name.clone()),
            region: None,
        }
    }

    /// Whose space `index` is, for rows about what it has.
    pub(crate) fn owner(&self, index: usize) -> Owner {
        guest::owner(self.of.members[index].process())
    }

    /// Whose space `index` is, for messages.
    pub(crate) fn title(&self, index: usize) -> String {
        title(&self.of.members[index])
    }

    /// The range that was typed; names in it are the kernel's.
    pub(crate) fn range(
        &self,
        typed: Option<&RangeExpr>,
    ) -> Result<Option<AddrRange<Gva>>, Failure> {
        let names = self.names(None);
        let resolve = |range: &RangeExpr| range.resolve(&names);
        typed.map(resolve).transpose()
    }

    /// The target that was typed; names in it are the kernel's.
    pub(crate) fn target(&self, typed: &RangeExpr) -> Result<AddrRange<Gva>, Failure> {
        typed.resolve_target(&self.names(None))
    }

    /// Names the places of results.
    pub(crate) fn places<'a>(&'a self, reporter: &'a Reporter) -> Places<'a, 's> {
        Places {
            spaces: self,
            reporter,
            current: None,
        }
    }

    /// The coverage for the results, which is told to the user as well; and whether everything that
    /// was asked for could be looked at. Coverage behind that of the spaces only counts.
    ///
    /// # Errors
    ///
    /// When nothing could be looked at.
    pub(crate) fn cover(
        &self,
        looked: &Looked,
        words: Words,
        source: &Source,
        reporter: &Reporter,
    ) -> Result<(Totals, bool), Failure> {
        self.cover_beyond(looked, None, words, source, reporter)
    }

    /// As [`Spaces::cover`], with what belongs to the spaces and is not mapped, for each.
    pub(crate) fn cover_beyond(
        &self,
        looked: &Looked,
        beyond: Option<&[Beyond]>,
        words: Words,
        source: &Source,
        reporter: &Reporter,
    ) -> Result<(Totals, bool), Failure> {
        let total = looked.total();
        let all = || self.of.members.iter().zip(&looked.coverage);
        if total.read == 0 {
            return Err(self.nothing_read(&total, source));
        }
        if looked.physical > 0 {
            reporter.detail(&format!(
                "{} spaces together: {} of physical memory looked at",
                self.of.members.len(),
                size::approx(looked.physical)
            ));
        }
        let first = all().find(|(_, one)| words.gaps(one).next().is_some());
        let place = |member: &session::Space<'_>| format!(" in {}", title(member));
        let first = first.map_or_else(String::new, |(member, _)| place(member));
        let more = beyond.map(|all| all.iter().fold(Beyond::default(), |sum, one| sum.and(*one)));
        reporter.coverage_of_many(&total, words, self.of.members.len(), &first, more);
        for (member, one) in all() {
            reporter.gaps(one, words, &place(member));
        }
        let pid = |member: &session::Space<'_>| member.process().map(|process| process.pid);
        let totals = totals_of_many(&total, all().map(|(member, one)| (pid(member), one)));
        let whole = more.is_none_or(|more| more.missing == 0);
        let complete = self.complete && words.complete(&total) && whole;
        Ok((with_beyond(totals, more), complete))
    }

    fn nothing_read(&self, total: &Coverage<Gva>, source: &Source) -> Failure {
        let mut failure = Failure::new(format!(
            "nothing could be read of {} spaces in {}",
            self.of.members.len(),
            source.name()
        ));
        if total.absent > 0 {
            failure = failure.found(format!(
                "{} mapped, none of it in the image",
                size::approx(total.mapped)
            ));
        } else if total.lost == 0 {
            failure = failure.found("nothing is mapped where --range and --perm ask for");
        }
        if let Some(gap) = total.gaps.first() {
            failure = failure.found(format!("{}..+{:#x}: {}", gap.start, gap.len, gap.cause));
        }
        failure.hint("`vmie maps` with --pid N, to see what is mapped and what is absent")
    }
}

/// Whose space it is, for messages.
fn title(member: &session::Space<'_>) -> String {
    guest::title(member.process())
}

/// Names the places of results, which come space by space.
pub(crate) struct Places<'a, 's> {
    spaces: &'a Spaces<'s>,
    reporter: &'a Reporter,
    /// The space of the last result.
    current: Option<Current<'s>>,
}

struct Current<'s> {
    index: usize,
    names: Names<'s>,
    arranged: Regions,
}

impl<'s> Places<'_, 's> {
    /// The place of an address in space `index`.
    pub(crate) fn name(&mut self, index: usize, va: Gva) -> Place {
        let process = self.spaces.of.members[index].process();
        let current = match self.current.take() {
            Some(current) if current.index == index => current,
            _ => self.enter(index),
        };
        let site = Site {
            pid: process.map(|process| process.pid),
            process: process.map(|process| process.name.clone()),
            region: current.arranged.name(va, current.names.resolver()),
        };
        let place = Place {
            site: Some(site),
            va: Hex(va.0),
            name: current.names.name(va.0),
        };
        self.current = Some(current);
        place
    }

    fn enter(&self, index: usize) -> Current<'s> {
        let member = &self.spaces.of.members[index];
        let names = self.spaces.names(member.process());
        let arranged = regions::of(&names, self.reporter).unwrap_or_else(|failure| {
            let title = title(member);
            let what = &failure.what;
            self.reporter
                .warn(&format!("the regions of {title} have no names: {what}"));
            Regions::default()
        });
        Current {
            index,
            names,
            arranged,
        }
    }
}
