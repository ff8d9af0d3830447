//! `vmie scan --yara`: rules over one space, over all, or over physical memory.
//!
//! A condition is about a whole space, so rules are evaluated once for each, and each is read on its own:
//! what processes share is looked at again for each of them.

use boreal::scanner::{EvaluatedRule, ScanCallbackResult, ScanEvent};
use boreal::{MetadataValue, Scanner};
use serde_json::{Map, Value};
use vmie::{AddrRange, Address, Coverage, Gva, Memory, Prot};
use vmie_rows::{Hex, Place, RuleRow};

use super::args::ScanArgs;
use super::context::{self, around_match};
use crate::exit::{Done, Failure, Result};
use crate::interrupt;
use crate::options::Options;
use crate::output::{Cell, Row, SpaceKind, totals};
use crate::report::Words;
use crate::rows::Rows;
use crate::rules::{self, Bounds, MOST_MATCHES, Pieces, Said};
use crate::seek::{Around, In, said_if_stopped};
use crate::source::Source;
use crate::space::{Space, Target};
use crate::spaces::{Looked, Spaces};
use crate::unread::nothing_read;

/// What to say where no rule holds.
const NOTHING: &str = "no rule holds";

const VERB: &str = "scan";
/// Warnings told one by one.
const SHOWN: usize = 16;

pub(super) fn run(args: &ScanArgs, options: &Options) -> Result<Done> {
    interrupt::listen();
    let compiled = rules::compile(&args.what.rules, &args.what.defined)?;
    let reporter = &options.reporter;
    if let Some(failure) = &compiled.left_out {
        reporter.warn_failure(failure);
    }
    for warning in compiled.warnings.iter().take(SHOWN) {
        reporter.warn(warning);
    }
    let more = compiled.warnings.len().saturating_sub(SHOWN);
    if more > 0 {
        reporter.warn(&format!("{more} more warnings about the rules"));
    }
    let source = Source::open(&args.search.source, reporter)?;
    let mut scanner = compiled.scanner;
    let params = scanner.scan_params().clone();
    // Programs lie in processes as they are loaded, not as they are in their files.
    scanner.set_scan_params(params.process_memory(!args.search.space.phys));
    let scan = RuleScan {
        args,
        options,
        source: &source,
        scanner: &scanner,
        said: &compiled.said,
        all: compiled.left_out.is_none(),
    };
    if args.search.everywhere.all_processes {
        return scan.everywhere();
    }
    let space = Space::select(&source, &args.search.space, reporter)?;
    match &space.of.target {
        Target::Physical(memory) => scan.one(&space, &**memory),
        Target::Virtual(memory) => scan.one(&space, memory),
        Target::Saved(memory) => scan.one(&space, &**memory),
    }
}

struct RuleScan<'a> {
    args: &'a ScanArgs,
    options: &'a Options,
    source: &'a Source,
    scanner: &'a Scanner,
    said: &'a Said,
    /// Whether no rule was left out.
    all: bool,
}

/// What came of one space.
struct Seen<'s, A> {
    rules: Vec<EvaluatedRule<'s>>,
    coverage: Coverage<A>,
    /// Whether all matches are there.
    whole: bool,
}

/// A match of a string, or a rule that needs none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Hit {
    va: Option<u64>,
    rule: usize,
    string: usize,
    /// Longest first: the end of a piece may have cut the other one.
    len: std::cmp::Reverse<usize>,
}

impl<'a> RuleScan<'a> {
    fn one<A: Address>(&self, space: &Space<'_>, memory: &dyn Memory<Addr = A>) -> Result<Done> {
        let reporter = &self.options.reporter;
        let filter = &self.args.search.filter;
        let range = space.range(filter.range.as_ref())?;
        let sink = self.options.sink::<RuleRow<'_>>(space.kind());
        let sink = sink.named(space.names.shown());
        let mut rows = Rows::new(sink.asked(self.args.context.is_some()), false);
        let bar = reporter.progress_begin(VERB, self.source.physical_size());
        let asked = (range.unwrap_or_else(AddrRange::all), range.is_some());
        let seen = self.look(memory, asked, &bar, "");
        reporter.progress_end();
        let seen = seen?;
        let _ = self.rows(&seen, memory, &mut rows, |va| Place {
            site: None,
            va: Hex(va),
            name: space.names.name(va),
        });
        let sink = rows.end()?;
        let found = sink.rows() > 0;
        said_if_stopped(interrupt::asked(), found, reporter)?;
        let coverage = &seen.coverage;
        reporter.nothing(found || coverage.read == 0, NOTHING);
        if coverage.read == 0 {
            let range = filter.range.as_ref().map(ToString::to_string);
            return Err(nothing_read(coverage, space, self.source, range, filter.perm).into());
        }
        sink.finish(Some(&totals(coverage)))?;
        reporter.coverage(coverage, Words::SEARCH);
        let complete = Words::SEARCH.complete(coverage) && seen.whole && !interrupt::asked();
        Ok(Done { found, complete })
    }

    fn everywhere(&self) -> Result<Done> {
        let reporter = &self.options.reporter;
        let spaces = Spaces::select(self.source, &self.args.search.space, reporter)?;
        let typed = spaces.range(self.args.search.filter.range.as_ref())?;
        let sink = self.options.sink::<RuleRow<'_>>(SpaceKind::Virtual);
        let sink = sink.named(true).many(true);
        let mut rows = Rows::new(sink.asked(self.args.context.is_some()), false);
        let mut places = spaces.places(reporter);
        let (mut looked, mut stopped) = (Looked::default(), false);
        let mut whole = self.all;
        let bar = reporter.progress_begin(VERB, self.source.physical_size());
        for (index, part) in spaces.parts().iter().enumerate() {
            let asked = match typed {
                Some(typed) => typed.intersect(part.range),
                None => Some(part.range),
            };
            let Some(range) = asked.filter(|_| !stopped) else {
                looked.coverage.push(Coverage::default());
                continue;
            };
            let title = format!(" in {}", spaces.title(index));
            let seen = self.look(part.space, (range, typed.is_some()), &bar, &title)?;
            whole &= seen.whole;
            let flow = self.rows(&seen, part.space, &mut rows, |va| {
                places.name(index, Gva(va))
            });
            looked.physical += seen.coverage.read;
            looked.coverage.push(seen.coverage);
            stopped = flow.is_break() || interrupt::asked();
        }
        reporter.progress_end();
        let sink = rows.end()?;
        let found = sink.rows() > 0;
        said_if_stopped(interrupt::asked(), found, reporter)?;
        let (totals, complete) = spaces.cover(&looked, Words::SEARCH, self.source, reporter)?;
        reporter.nothing(found, NOTHING);
        sink.finish(Some(&totals))?;
        let complete = complete && whole && !interrupt::asked();
        Ok(Done { found, complete })
    }

    /// Evaluates all rules over a range of a memory, that was or was not asked for by address. `place` says whose it is, in messages.
    fn look<A: Address>(
        &self,
        memory: &dyn Memory<Addr = A>,
        range: (AddrRange<A>, bool),
        bar: &indicatif::ProgressBar,
        place: &str,
    ) -> Result<Seen<'a, A>> {
        let perm = self.args.search.filter.perm.unwrap_or(Prot::NONE);
        let bounds = Bounds::of(self.source.sweep_bound());
        let mut pieces = Pieces::new(memory, range, perm, bounds, bar.clone());
        let (mut rules, mut limits) = (Vec::new(), Vec::new());
        let done = self
            .scanner
            .scan_fragmented_with_callback(&mut pieces, |event| {
                match event {
                    ScanEvent::RuleMatch(rule) => rules.push(rule),
                    ScanEvent::StringReachedMatchLimit(string) => {
                        limits.push(format!("{} of {}", string.string_name, string.rule_name));
                    }
                    _ => {}
                }
                ScanCallbackResult::Continue
            });
        done.map_err(|error| Failure::new(format!("the rules could not be evaluated: {error}")))?;
        let reporter = &self.options.reporter;
        for text in self.said.take() {
            reporter.note(&format!("rules say{place}: {text}"));
        }
        for string in limits.iter().take(SHOWN) {
            reporter.warn(&format!(
                "${string} is there more than {MOST_MATCHES} times{place}: the rest is neither shown nor counted"
            ));
        }
        Ok(Seen {
            rules,
            coverage: pieces.coverage().clone(),
            whole: limits.is_empty() && self.all,
        })
    }

    /// Makes rows of what was seen, by address, those of rules without strings first.
    fn rows<A: Address>(
        &self,
        seen: &Seen<'_, A>,
        memory: &dyn Memory<Addr = A>,
        rows: &mut Rows<'_>,
        mut place: impl FnMut(u64) -> Place,
    ) -> std::ops::ControlFlow<()> {
        let mut hits = Vec::new();
        for (index, rule) in seen.rules.iter().enumerate() {
            let none = Hit {
                va: None,
                rule: index,
                string: 0,
                len: std::cmp::Reverse(0),
            };
            if rule.matches.is_empty() {
                hits.push(none);
            }
            for (string, matches) in rule.matches.iter().enumerate() {
                hits.extend(matches.matches.iter().map(|found| Hit {
                    va: Some((found.base as u64).saturating_add(found.offset as u64)),
                    string,
                    len: std::cmp::Reverse(found.length),
                    ..none
                }));
            }
        }
        hits.sort_unstable();
        hits.dedup_by_key(|hit| (hit.va, hit.rule, hit.string));
        let about: Vec<About<'_>> = seen.rules.iter().map(|rule| self.about(rule)).collect();
        let context = self.args.context.unwrap_or(0);
        let around = In(memory);
        hits.iter().try_for_each(|hit| {
            let Place { site, name, .. } = place(hit.va.unwrap_or(0));
            let about = &about[hit.rule];
            let string = seen.rules[hit.rule].matches.get(hit.string);
            let va = hit.va.filter(|_| context > 0);
            rows.add(Some(RuleRow {
                site,
                va: hit.va.map(Hex),
                name: name.filter(|_| hit.va.is_some()),
                sig: string.map(|string| format!("${}", string.name)),
                rule: about.rule,
                namespace: about.namespace,
                tags: &about.tags,
                meta: &about.meta,
                len: string.map(|_| hit.len.0),
                context: va.map(|va| around_match(va, context, &around as &dyn Around)),
            }))
        })
    }

    fn about<'r>(&self, rule: &EvaluatedRule<'r>) -> About<'r>
    where
        'a: 'r,
    {
        let meta = rule.metadatas.iter().map(|meta| {
            let value = match meta.value {
                MetadataValue::Bytes(bytes) => {
                    let bytes = self.scanner.get_bytes_symbol(bytes);
                    Value::from(String::from_utf8_lossy(bytes))
                }
                MetadataValue::Integer(number) => Value::from(number),
                MetadataValue::Boolean(is) => Value::from(is),
            };
            (self.scanner.get_string_symbol(meta.name).to_owned(), value)
        });
        let tags = rule.tags.iter();
        About {
            rule: rule.name,
            namespace: rule.namespace,
            tags: tags
                .map(|&tag| self.scanner.get_string_symbol(tag))
                .collect(),
            meta: meta.collect(),
        }
    }
}

/// What all rows of a rule say.
struct About<'r> {
    rule: &'r str,
    namespace: &'r str,
    tags: Vec<&'r str>,
    meta: Map<String, Value>,
}

impl Row for RuleRow<'_> {
    fn cell(&self, key: &str) -> Option<Cell> {
        let va = self.va.unwrap_or_default();
        (key == "context").then(|| context::cell(self.context.as_ref(), va))
    }
}
