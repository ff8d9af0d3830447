//! What `scan`, `find` and `strings` have in common: a scanner is sent over one memory or over all
//! processes, and each result becomes a row that says where it is.

use std::ops::ControlFlow::{self, Break, Continue};

use indicatif::ProgressBar;
use vmie::scan::{self, Outcome, Run, Selection, scan_each};
use vmie::search::{Text, continue_text};
use vmie::{
    AddrRange, Address, Coverage, Gva, Memory, PAGE_SIZE, Prot, Scanner, SpanKind,
    read_around_holes,
};
use vmie_rows::{Hex, Place};

use crate::args::SearchArgs;
use crate::candidates::{Scope, Whose};
use crate::exit::{Done, Failure, Result, Stop};
use crate::interrupt;
use crate::options::Options;
use crate::output::{Row, SpaceKind, totals, with_beyond};
use crate::report::{Beyond, Reporter, Words};
use crate::rows::Rows;
use crate::source::Source;
use crate::space::{Space, Target};
use crate::spaces::{Looked, Spaces};
use crate::unread::nothing_read;

/// The memory that a result is in.
pub(crate) trait Around {
    /// Bytes at `va` and behind it, as far as they can be read.
    fn read(&self, va: u64, len: usize) -> Vec<u8>;

    /// Bytes that end just before `va`, back to what cannot be read.
    fn before(&self, va: u64, len: usize) -> Vec<u8>;

    /// Reads on where a string goes on, see [`continue_text`].
    fn continue_text(&self, va: u64, text: &mut Text, most: usize) -> bool;
}

/// The memory that results of a search are in.
pub(crate) struct In<'m, A>(pub(crate) &'m dyn Memory<Addr = A>);

impl<A: Address> Around for In<'_, A> {
    fn read(&self, va: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        if let Err(fault) = self.0.read(A::new(va), &mut bytes) {
            let good = fault.addr.raw().saturating_sub(va);
            bytes.truncate(usize::try_from(good).unwrap_or(0));
        }
        bytes
    }

    fn before(&self, va: u64, len: usize) -> Vec<u8> {
        let len = usize::try_from(va).map_or(len, |below| len.min(below));
        let mut bytes = vec![0; len];
        let mut from = 0;
        let start = A::new(va - len as u64);
        read_around_holes(self.0, start, &mut bytes, PAGE_SIZE, |at, len, _| {
            from = at + len;
        });
        bytes.split_off(from)
    }

    fn continue_text(&self, va: u64, text: &mut Text, most: usize) -> bool {
        continue_text(self.0, A::new(va), text, most)
    }
}

/// Takes results.
pub(crate) type Emit<'a, A, I> = &'a mut dyn FnMut(A, I) -> ControlFlow<()>;

/// Takes the results of a search besides the rows: all of them, also those behind `--limit` and after
/// the reader of the rows has gone.
pub(crate) trait Keep<T> {
    /// Says in whose memory the results will be, before the first one.
    fn begin(&mut self, source: &Source, scope: Scope, spaces: Vec<Whose>) -> Result<()>;

    /// Takes a result at `va` of a space.
    fn keep(&mut self, space: usize, va: u64, item: &T, around: &dyn Around) -> Result<()>;

    /// Says that there were no more results, and not that the search was stopped.
    fn end(&mut self) -> Result<()>;
}

/// A search while it runs.
pub(crate) struct Seek<'a> {
    pub(crate) verb: &'static str,
    pub(crate) args: &'a SearchArgs,
    pub(crate) options: &'a Options,
    /// Whether an option asks for more columns.
    pub(crate) asked: bool,
}

impl Seek<'_> {
    /// Sends the scanner over what was asked for; `row` makes rows of results, or nothing of those that
    /// are none after all.
    pub(crate) fn run<S: Scanner, R: Row>(
        &self,
        scanner: &S,
        row: impl FnMut(Place, S::Item, &dyn Around) -> Option<R>,
    ) -> Result<Done> {
        self.run_keeping(scanner, None, row)
    }

    /// As [`Seek::run`], with something that takes the results besides.
    pub(crate) fn run_keeping<S: Scanner, R: Row>(
        &self,
        scanner: &S,
        keep: Option<&mut dyn Keep<S::Item>>,
        row: impl FnMut(Place, S::Item, &dyn Around) -> Option<R>,
    ) -> Result<Done> {
        interrupt::listen();
        let reporter = &self.options.reporter;
        let source = Source::open(&self.args.source, reporter)?;
        if self.args.everywhere.all_processes {
            let spaces = Spaces::select(&source, &self.args.space, reporter)?;
            let mut row = row;
            return self.everywhere(&source, &spaces, scanner, keep, |_, place, item, around| {
                row(place, item, around)
            });
        }
        let space = Space::select(&source, &self.args.space, reporter)?;
        self.over(&source, &space, scanner, keep, row)
    }

    /// Sends the scanner over one space.
    pub(crate) fn over<S: Scanner, R: Row>(
        &self,
        source: &Source,
        space: &Space<'_>,
        scanner: &S,
        keep: Option<&mut dyn Keep<S::Item>>,
        row: impl FnMut(Place, S::Item, &dyn Around) -> Option<R>,
    ) -> Result<Done> {
        match &space.of.target {
            Target::Physical(memory) => {
                let memory = &**memory;
                self.one(source, space, (memory, memory), scanner, keep, row)
            }
            Target::Saved(memory) => {
                let memory = &**memory;
                self.one(source, space, (memory, memory), scanner, keep, row)
            }
            Target::Virtual(memory) => {
                self.one(source, space, (memory, memory), scanner, keep, row)
            }
        }
    }

    /// Rows of one memory, as a target and as what can be read.
    fn one<T: scan::Target + ?Sized, S: Scanner, R: Row>(
        &self,
        source: &Source,
        space: &Space<'_>,
        (target, memory): (&T, &dyn Memory<Addr = T::Addr>),
        scanner: &S,
        keep: Option<&mut dyn Keep<S::Item>>,
        row: impl FnMut(Place, S::Item, &dyn Around) -> Option<R>,
    ) -> Result<Done> {
        self.one_beyond(
            source,
            space,
            memory,
            keep,
            row,
            None,
            |selection, run, emit| {
                let each = |found: scan::Match<T::Addr, S::Item>| emit(found.start, found.item);
                Ended::of(scan_each(target, scanner, selection, run, each))
            },
        )
    }

    /// Says why there are no rows.
    fn say_if_nothing(&self, found: bool) {
        let why = match self.verb {
            "scan" => "no signature matches",
            "find" => "none of the values occurs",
            "strings" => "nothing reads as text",
            "xref" => "nothing refers to it",
            "refs" => "nothing points there",
            _ => "nothing was found",
        };
        self.options.reporter.nothing(found, why);
    }

    fn selection<A: Address>(&self, range: Option<vmie::AddrRange<A>>) -> Selection<A> {
        let perm = self.args.filter.perm.unwrap_or(Prot::NONE);
        Selection::all().range(range).perm(perm)
    }

    /// Rows of one memory with more in it than the space maps, `beyond`; `search` goes over it.
    #[expect(
        clippy::too_many_arguments,
        reason = "one more than what each of them needs"
    )]
    pub(crate) fn one_beyond<A: Address, I, R: Row>(
        &self,
        source: &Source,
        space: &Space<'_>,
        memory: &dyn Memory<Addr = A>,
        mut keep: Option<&mut dyn Keep<I>>,
        mut row: impl FnMut(Place, I, &dyn Around) -> Option<R>,
        beyond: Option<Beyond>,
        search: impl FnOnce(&Selection<A>, Run<'_>, Emit<'_, A, I>) -> Ended<A>,
    ) -> Result<Done> {
        let reporter = &self.options.reporter;
        let filter = &self.args.filter;
        let selection = self.selection(space.range(filter.range.as_ref())?);
        let sink = self.options.sink::<R>(space.kind());
        let sink = sink.named(space.names.shown()).asked(self.asked);
        let mut rows = Rows::new(sink, keep.is_some());
        if let Some(keep) = &mut keep {
            keep.begin(source, Scope::One, vec![space.whose()])?;
        }
        let total = match reporter.shows_progress() {
            true => looked_at(memory, space.range(filter.range.as_ref())?, filter.perm),
            false => 0,
        };
        let outcome = search(
            &selection,
            run_over(self.verb, total, source, self.options),
            &mut |addr, item| {
                let at = (0, addr.raw());
                if kept(&mut keep, &mut rows, at, &item, &In(memory))? {
                    return Continue(());
                }
                let place = Place {
                    site: None,
                    va: Hex(addr.raw()),
                    name: space.names.name(addr.raw()),
                };
                rows.add(row(place, item, &In(memory)))
            },
        );
        reporter.progress_end();
        let coverage = &outcome.coverage;
        end(keep, &rows, coverage.read > 0)?;
        let sink = rows.end()?;
        let found = sink.rows() > 0;
        said_if_stopped(outcome.stopped, found, reporter)?;
        if coverage.read > 0 {
            self.say_if_nothing(found);
        }
        if coverage.read == 0 {
            let range = filter.range.as_ref().map(ToString::to_string);
            return Err(nothing_read(coverage, space, source, range, filter.perm).into());
        }
        sink.finish(Some(&with_beyond(totals(coverage), beyond)))?;
        reporter.coverage_beyond(coverage, Words::SEARCH, beyond);
        // What is not mapped in --range was not asked for: the range only narrows the search.
        let complete = coverage.is_complete() && !interrupt::asked();
        let complete = complete && beyond.is_none_or(|beyond| beyond.missing == 0);
        Ok(Done { found, complete })
    }

    /// Sends the scanner over many spaces; `row` is told in which of them a result is.
    pub(crate) fn everywhere<S: Scanner, R: Row>(
        &self,
        source: &Source,
        spaces: &Spaces<'_>,
        scanner: &S,
        mut keep: Option<&mut dyn Keep<S::Item>>,
        mut row: impl FnMut(usize, Place, S::Item, &dyn Around) -> Option<R>,
    ) -> Result<Done> {
        let reporter = &self.options.reporter;
        let selection = self.selection(spaces.range(self.args.filter.range.as_ref())?);
        let sink = self.options.sink::<R>(SpaceKind::Virtual);
        let sink = sink.named(true).many(true).asked(self.asked);
        let mut rows = Rows::new(sink, keep.is_some());
        if let Some(keep) = &mut keep {
            let kernel = self.args.space.owner.kernel;
            keep.begin(source, Scope::All { kernel }, spaces.whose())?;
        }
        let mut places = spaces.places(reporter);
        let parts = spaces.parts();
        let outcome = scan_each(
            &parts[..],
            scanner,
            &selection,
            run(self.verb, source, self.options),
            |found| {
                let memory: &dyn Memory<Addr = Gva> = parts[found.space].space;
                let at = (found.space, found.start.0);
                if kept(&mut keep, &mut rows, at, &found.item, &In(memory))? {
                    return Continue(());
                }
                let place = places.name(found.space, found.start);
                rows.add(row(found.space, place, found.item, &In(memory)))
            },
        );
        reporter.progress_end();
        let looked = outcome.coverage.read > 0;
        end(keep, &rows, looked)?;
        let sink = rows.end()?;
        let found = sink.rows() > 0;
        said_if_stopped(outcome.stopped, found, reporter)?;
        let looked = Looked::of(outcome);
        let (totals, complete) = spaces.cover(&looked, Words::SEARCH, source, reporter)?;
        self.say_if_nothing(found);
        sink.finish(Some(&totals))?;
        let complete = complete && !interrupt::asked();
        Ok(Done { found, complete })
    }
}

/// What was looked at by a search, and whether it was stopped.
pub(crate) struct Ended<A> {
    pub(crate) coverage: Coverage<A>,
    pub(crate) stopped: bool,
}

impl<A> Ended<A> {
    pub(crate) fn of<T>(outcome: Outcome<A, T>) -> Self {
        Self {
            coverage: outcome.coverage,
            stopped: outcome.stopped,
        }
    }
}

/// How a search over a source runs: it shows how far it is, and ends when Ctrl-C was pressed.
pub(crate) fn run(verb: &'static str, source: &Source, options: &Options) -> Run<'static> {
    run_over(verb, source.physical_size(), source, options)
}

/// As [`run`], over so many bytes.
fn run_over(verb: &'static str, total: u64, source: &Source, options: &Options) -> Run<'static> {
    let bar = Bar(options.reporter.progress_begin(verb, total));
    run_within(bar, 0, source, options)
}

/// How many bytes a search looks at: what is mapped. Of a space that is mapped in more pieces than anybody waits to be
/// counted, what was counted.
fn looked_at<A: Address>(
    memory: &dyn Memory<Addr = A>,
    range: Option<AddrRange<A>>,
    perm: Option<Prot>,
) -> u64 {
    const MOST: usize = 1 << 18;
    let spans = memory
        .spans(range.unwrap_or_else(AddrRange::all))
        .take(MOST);
    let perm = perm.unwrap_or(Prot::NONE);
    let mapped = spans.filter_map(|span| match span.kind {
        SpanKind::Mapped(prot) if prot.contains(perm) => Some(span.len),
        _ => None,
    });
    mapped.fold(0, u64::saturating_add)
}

/// As [`run`], of a search that goes on where another one ended, `done` bytes on.
pub(crate) fn run_within(bar: Bar, done: u64, source: &Source, options: &Options) -> Run<'static> {
    Run::new()
        .threads(options.threads)
        .max_bytes(source.sweep_bound())
        .progress(move |more| bar.show(done + more))
        .cancel(interrupt::flag())
}

/// Shows how far a search over a source is.
#[derive(Clone)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    pub(crate) fn begin(verb: &'static str, source: &Source, reporter: &Reporter) -> Self {
        Self(reporter.progress_begin(verb, source.physical_size()))
    }

    fn show(&self, done: u64) {
        // More than all of physical memory is done where frames are mapped twice.
        self.0.set_length(done.max(self.0.length().unwrap_or(0)));
        self.0.set_position(done);
    }
}

/// Says that Ctrl-C stopped a search. One that was stopped before it found anything has no answer.
pub(crate) fn said_if_stopped(stopped: bool, found: bool, reporter: &Reporter) -> Result<()> {
    if !stopped || !interrupt::asked() {
        return Ok(());
    }
    if !found {
        let failure = Failure::new("stopped before anything was found")
            .found("Ctrl-C")
            .hint("--range or --perm, to look at less");
        return Err(Stop::Interrupted(Box::new(failure)));
    }
    reporter.warn("stopped by Ctrl-C: the rest has not been looked at");
    Ok(())
}

/// Whether to go on: unless Ctrl-C was pressed.
pub(crate) fn go_on() -> ControlFlow<()> {
    if interrupt::asked() {
        Break(())
    } else {
        Continue(())
    }
}

/// Keeps a result, if results are kept; whether that is all that is wanted of it.
fn kept<T>(
    keep: &mut Option<&mut dyn Keep<T>>,
    rows: &mut Rows<'_>,
    (space, va): (usize, u64),
    item: &T,
    around: &dyn Around,
) -> ControlFlow<(), bool> {
    go_on()?;
    if let Some(keep) = keep
        && let Err(stop) = keep.keep(space, va, item, around)
    {
        rows.fail(stop);
        return Break(());
    }
    Continue(rows.are_full())
}

/// Ends what is kept if there was something to look at.
fn end<T>(keep: Option<&mut dyn Keep<T>>, rows: &Rows<'_>, looked: bool) -> Result<()> {
    match keep.filter(|_| looked && rows.may_go_on() && !interrupt::asked()) {
        Some(keep) => keep.end(),
        None => Ok(()),
    }
}
