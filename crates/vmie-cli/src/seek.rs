//! What `scan`, `find` and `strings` have in common: a scanner is sent over one memory or over all
//! processes, and each result becomes a row that says where it is.

use std::ops::ControlFlow::{self, Break, Continue};

use vmie::search::{Text, continue_text};
use vmie::{Address, Gva, Memory, Prot, Scanner, SweepOptions, read_around_holes, seek, seek_many};

use crate::args::SearchArgs;
use crate::exit::{Done, Failure, Result, Stop};
use crate::interrupt;
use crate::options::Options;
use crate::output::{Hex, Row, Sink, SpaceKind, Totals};
use crate::place::Place;
use crate::report::Words;
use crate::source::Source;
use crate::space::{Space, Target};
use crate::spaces::Spaces;
use crate::unread::nothing_read;

/// Presence is a matter of pages.
const PAGE: u64 = 4096;

/// The memory that a result is in.
pub(crate) trait Around {
    /// Bytes at `va` and behind it, as far as they can be read.
    fn read(&self, va: u64, len: usize) -> Vec<u8>;

    /// Bytes that end just before `va`, back to what cannot be read.
    fn before(&self, va: u64, len: usize) -> Vec<u8>;

    /// Reads on where a string goes on, see [`continue_text`].
    fn continue_text(&self, va: u64, text: &mut Text, most: usize) -> bool;
}

struct In<'m, A>(&'m dyn Memory<Addr = A>);

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
        read_around_holes(self.0, start, &mut bytes, PAGE, |at, len, _| {
            from = at + len;
        });
        bytes.split_off(from)
    }

    fn continue_text(&self, va: u64, text: &mut Text, most: usize) -> bool {
        continue_text(self.0, A::new(va), text, most)
    }
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
        interrupt::listen();
        let source = Source::open(&self.args.source, &self.options.reporter)?;
        if self.args.everywhere.all_processes {
            return self.everywhere(&source, scanner, row);
        }
        let space = Space::select(&source, &self.args.space, &self.options.reporter)?;
        match &space.target {
            Target::Physical(image) => self.one(&source, &space, &**image, scanner, row),
            Target::Virtual(memory) => self.one(&source, &space, memory, scanner, row),
        }
    }

    fn sweep<A: Address>(
        &self,
        source: &Source,
        range: Option<vmie::AddrRange<A>>,
    ) -> SweepOptions<A> {
        SweepOptions {
            range,
            perm: self.args.filter.perm.unwrap_or(Prot::NONE),
            threads: self.options.threads,
            max_bytes: source.sweep_bound(),
            ..SweepOptions::default()
        }
    }

    fn one<A: Address, S: Scanner, R: Row>(
        &self,
        source: &Source,
        space: &Space<'_>,
        memory: &dyn Memory<Addr = A>,
        scanner: &S,
        mut row: impl FnMut(Place, S::Item, &dyn Around) -> Option<R>,
    ) -> Result<Done> {
        let reporter = &self.options.reporter;
        let filter = &self.args.filter;
        let sweep = self.sweep(source, space.range(filter.range.as_ref())?);
        let sink = self.options.sink(self.verb, space.kind());
        let mut rows = Rows::new(sink.named(space.names.shown()).asked(self.asked));
        let outcome = seek(
            memory,
            scanner,
            &sweep,
            &mut self.progress(source),
            |addr, item| {
                let place = Place {
                    site: None,
                    va: Hex(addr.raw()),
                    name: space.names.name(addr.raw()),
                };
                rows.add(row(place, item, &In(memory)))
            },
        );
        reporter.progress_end();
        let sink = rows.end()?;
        let coverage = &outcome.coverage;
        let found = sink.rows() > 0;
        self.said_if_stopped(outcome.stopped, found)?;
        if coverage.read == 0 {
            let range = filter.range.as_ref().map(ToString::to_string);
            return Err(nothing_read(coverage, space, source, range, filter.perm).into());
        }
        sink.finish::<R>(Some(&Totals::from(coverage)))?;
        reporter.coverage(coverage, Words::SEARCH);
        // What is not mapped in --range was not asked for: the range only narrows the search.
        let complete = coverage.absent == 0 && coverage.lost == 0 && !interrupt::asked();
        Ok(Done { found, complete })
    }

    fn everywhere<S: Scanner, R: Row>(
        &self,
        source: &Source,
        scanner: &S,
        mut row: impl FnMut(Place, S::Item, &dyn Around) -> Option<R>,
    ) -> Result<Done> {
        let reporter = &self.options.reporter;
        let spaces = Spaces::select(source, self.args.space.owner.kernel, reporter)?;
        let sweep = self.sweep(source, spaces.range(self.args.filter.range.as_ref())?);
        let sink = self.options.sink(self.verb, SpaceKind::Virtual);
        let mut rows = Rows::new(sink.named(true).many(true).asked(self.asked));
        let mut places = spaces.places(reporter);
        let parts = spaces.parts();
        let outcome = seek_many(
            &parts,
            scanner,
            &sweep,
            &mut self.progress(source),
            |found| {
                let place = places.name(found.space, found.addr);
                let memory: &dyn Memory<Addr = Gva> = parts[found.space].space;
                rows.add(row(place, found.item, &In(memory)))
            },
        );
        reporter.progress_end();
        let sink = rows.end()?;
        let found = sink.rows() > 0;
        self.said_if_stopped(outcome.stopped, found)?;
        let (totals, complete) = spaces.cover(&outcome, source, reporter)?;
        sink.finish::<R>(Some(&totals))?;
        let complete = complete && !interrupt::asked();
        Ok(Done { found, complete })
    }

    fn progress(&self, source: &Source) -> impl FnMut(u64) -> ControlFlow<()> + use<> {
        let total = source.physical_size();
        let bar = self.options.reporter.progress_begin(self.verb, total);
        move |done| {
            // More than all of physical memory is done where frames are mapped twice.
            bar.set_length(done.max(bar.length().unwrap_or(0)));
            bar.set_position(done);
            go_on()
        }
    }

    /// A search that was stopped before it found anything has no answer.
    fn said_if_stopped(&self, stopped: bool, found: bool) -> Result<()> {
        if !stopped || !interrupt::asked() {
            return Ok(());
        }
        if !found {
            return Err(Failure::new("stopped before anything was found")
                .found("Ctrl-C")
                .hint("--range or --perm, to look at less")
                .into());
        }
        let reporter = &self.options.reporter;
        reporter.warn("stopped by Ctrl-C: the rest has not been looked at");
        Ok(())
    }
}

fn go_on() -> ControlFlow<()> {
    if interrupt::asked() {
        Break(())
    } else {
        Continue(())
    }
}

/// The rows of a search: takes them until they cannot be written or are enough.
struct Rows<'a> {
    sink: Sink<'a>,
    failed: Option<Stop>,
}

impl<'a> Rows<'a> {
    fn new(sink: Sink<'a>) -> Self {
        Self { sink, failed: None }
    }

    fn add<R: Row>(&mut self, row: Option<R>) -> ControlFlow<()> {
        go_on()?;
        let Some(row) = row else {
            return Continue(());
        };
        self.sink.row(&row).unwrap_or_else(|stop| {
            self.failed = Some(stop);
            Break(())
        })
    }

    fn end(self) -> Result<Sink<'a>> {
        match self.failed {
            Some(stop) => Err(stop),
            None => Ok(self.sink),
        }
    }
}
