//! Where a text stands, for verbs that ask what refers to it.

use vmie::Address;
use vmie::scan::{Outcome, Run, Selection, Target as ScanTarget, scan_each};
use vmie::search::{Encoding, Finder, Query, Sought, TextQuery};

use crate::exit::{Done, Failure, Result};
use crate::interrupt;
use crate::options::Options;
use crate::output::{Row, Totals, totals};
use crate::report::{Words, coverage_text};
use crate::seek::{go_on, run, said_if_stopped};
use crate::source::Source;
use crate::space::{Space, Target};
use crate::unread::nothing_read;

/// The places of some texts.
pub(crate) struct Texts {
    /// In order.
    pub(crate) places: Vec<u64>,
    /// Whether all that is mapped could be looked at.
    pub(crate) complete: bool,
    totals: Totals,
}

impl Texts {
    /// Looks for texts as UTF-8 in all of a space, of a process in its own half.
    ///
    /// Says on standard error how often they are there, and what could not be looked at.
    ///
    /// # Errors
    ///
    /// For a text that cannot be searched for.
    pub(crate) fn find(
        verb: &'static str,
        texts: &[String],
        source: &Source,
        space: &Space<'_>,
        options: &Options,
    ) -> std::result::Result<Self, Failure> {
        let (found, said) = Self::look(verb, texts, source, space, options)?;
        let reporter = &options.reporter;
        reporter.progress_end();
        let times = match found.places.len() {
            0 => "stands nowhere".to_owned(),
            1 => "stands at one place".to_owned(),
            n => format!("stands at {n} places"),
        };
        reporter.note(&format!("--str {times}"));
        if !found.complete {
            let text = format!("while --str was looked for: {said}");
            reporter.warn(&text);
        }
        Ok(found)
    }

    /// As [`Texts::find`], and says nothing, for one of many spaces.
    ///
    /// # Errors
    ///
    /// For a text that cannot be searched for.
    pub(crate) fn find_quietly(
        verb: &'static str,
        texts: &[String],
        source: &Source,
        space: &Space<'_>,
        options: &Options,
    ) -> std::result::Result<Self, Failure> {
        Ok(Self::look(verb, texts, source, space, options)?.0)
    }

    /// Looks for texts; what could not be looked at is told besides.
    fn look(
        verb: &'static str,
        texts: &[String],
        source: &Source,
        space: &Space<'_>,
        options: &Options,
    ) -> std::result::Result<(Self, String), Failure> {
        let mut queries = Vec::new();
        for text in texts {
            let query = TextQuery {
                text: text.clone(),
                encoding: Encoding::Utf8,
                ignore_case: false,
            };
            let signature = query.signature();
            let signature = signature.map_err(|error| Failure::new(format!("--str: {error}")))?;
            queries.push(Query::Pattern(signature));
        }
        let finder = Finder::new(queries, 1);
        let finder = finder.map_err(|error| Failure::new(format!("--str: {error}")))?;
        let mut places = Vec::new();
        let run = run(verb, source, options);
        let looked = match &space.of.target {
            Target::Physical(memory) => {
                let outcome = all(&**memory, &finder, space, run, &mut places)?;
                Looked::of(&outcome, source, space)?
            }
            Target::Saved(memory) => {
                let outcome = all(&**memory, &finder, space, run, &mut places)?;
                Looked::of(&outcome, source, space)?
            }
            Target::Virtual(memory) => {
                let outcome = all(memory, &finder, space, run, &mut places)?;
                Looked::of(&outcome, source, space)?
            }
        };
        places.sort_unstable();
        places.dedup();
        let found = Self {
            places,
            complete: looked.complete,
            totals: looked.totals,
        };
        Ok((found, looked.said))
    }

    /// What becomes of a verb when the texts are nowhere.
    pub(crate) fn nowhere<R: Row>(&self, space: &Space<'_>, options: &Options) -> Result<Done> {
        said_if_stopped(interrupt::asked(), false, &options.reporter)?;
        let sink = options.sink::<R>(space.kind()).named(space.names.shown());
        sink.finish(Some(&self.totals))?;
        Ok(Done {
            found: false,
            complete: self.complete,
        })
    }
}

/// What was looked at.
struct Looked {
    complete: bool,
    totals: Totals,
    said: String,
}

impl Looked {
    fn of<A: Address, T>(
        outcome: &Outcome<A, T>,
        source: &Source,
        space: &Space<'_>,
    ) -> std::result::Result<Self, Failure> {
        let coverage = &outcome.coverage;
        if coverage.read == 0 && !outcome.stopped {
            return Err(nothing_read(coverage, space, source, None, None));
        }
        Ok(Self {
            complete: Words::SEARCH.complete(coverage) && !outcome.stopped,
            totals: totals(coverage),
            said: coverage_text(coverage, Words::SEARCH, ""),
        })
    }
}

/// Collects where a finder finds something in all of a space.
fn all<T: ScanTarget + ?Sized>(
    target: &T,
    finder: &Finder,
    space: &Space<'_>,
    run: Run<'_>,
    places: &mut Vec<u64>,
) -> std::result::Result<Outcome<T::Addr, Sought>, Failure> {
    let selection = Selection::all().range(space.range(None)?);
    Ok(scan_each(target, finder, &selection, run, |found| {
        places.push(found.start.raw());
        go_on()
    }))
}
