//! `vmie xref --all-processes`: the same question to each process.
//!
//! What relative code refers to depends on where it is mapped, and names are at other addresses in each
//! process. So spaces are looked at one by one, each with its own targets.

use std::cell::Cell;

use vmie::os::ResolveError;
use vmie::scan::{Match, Selection, scan_each};
use vmie::xref::{Xref, XrefIndex};
use vmie::{AddrRange, Coverage, Gva, Memory, ProgramWidth};
use vmie_rows::{Hex, Place, Site, XrefRow};

use super::args::XrefArgs;
use super::asked::{Asked, Teller};
use super::index_to;
use super::row::RowMaker;
use crate::addr::{Lookup, Named};
use crate::args::BitsArg;
use crate::exit::{Done, Failure, Result};
use crate::interrupt;
use crate::names::Names;
use crate::options::Options;
use crate::output::SpaceKind;
use crate::regions;
use crate::report::{Beyond, Reporter, Words};
use crate::rows::Rows;
use crate::seek::{Bar, Ended, In, go_on, run_within, said_if_stopped};
use crate::source::Source;
use crate::space::Space;
use crate::spaces::{Looked, Spaces};
use crate::texts::Texts;

/// Spaces in which a name means nothing are listed up to here.
const SHOWN: usize = 8;

/// What a name may be in one of many spaces.
enum Targets {
    /// These addresses.
    Are(Vec<AddrRange<Gva>>),
    /// Nothing.
    None { why: Failure, how_far: HowFar },
}

/// How far a name led that leads to no address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum HowFar {
    /// Nothing is called so.
    Nowhere,
    /// There is the module, and not the symbol.
    Module,
    /// To several addresses.
    Ambiguous,
}

/// A space in which the question could not be asked.
struct Without {
    title: String,
    why: Failure,
    how_far: HowFar,
}

pub(super) fn run(args: &XrefArgs, source: &Source, options: &Options) -> Result<Done> {
    let reporter = &options.reporter;
    let spaces = Spaces::select(source, &args.space, reporter)?;
    let widths = match args.bits {
        BitsArg::Auto => spaces.widths(reporter),
        _ => vec![ProgramWidth::UNKNOWN; spaces.len()],
    };
    let typed = spaces.range(args.range.as_ref())?;
    let sink = options.sink::<XrefRow>(SpaceKind::Virtual);
    let mut rows = Rows::new(sink.named(true).many(true), false);
    let (mut looked, mut stopped) = (Looked::default(), false);
    let mut beyond = Vec::new();
    let mut complete = true;
    let mut without = Vec::new();
    let mut teller = Teller::new(reporter);
    let bar = Bar::begin("xref", source, reporter);
    let mut done = 0;
    for index in 0..spaces.len() {
        looked.coverage.push(Coverage::default());
        beyond.push(Beyond::default());
        if interrupt::asked() || stopped {
            continue;
        }
        let space = spaces.space(index);
        let own = spaces.own(index);
        let range = match typed {
            Some(range) => range.intersect(own),
            None => Some(own),
        };
        let (Some(range), Some(memory)) = (range, space.of.target.by_virtual()) else {
            continue;
        };
        let targets = match targets(args, &space, own) {
            Targets::Are(targets) => targets,
            Targets::None { why, how_far } => {
                let title = spaces.title(index);
                if how_far == HowFar::Ambiguous {
                    complete = false;
                    let found = why.found.join("; ");
                    reporter.warn(&format!("{title} was not looked at: {found}"));
                }
                without.push(Without {
                    title,
                    why,
                    how_far,
                });
                continue;
            }
        };
        let asked = match ask(args, source, &space, targets, range, options) {
            Ok(asked) => asked,
            Err(failure) => {
                complete = false;
                let title = spaces.title(index);
                reporter.warn(&format!("{title} was not looked at: {}", failure.what));
                continue;
            }
        };
        let (texts, asked) = asked;
        complete &= texts.as_ref().is_none_or(|texts| texts.complete);
        complete &= asked.complete;
        let code = asked.code(&space);
        let memory: &dyn Memory<Addr = Gva> = match &code {
            Some(code) => code,
            None => memory,
        };
        let bits = args.bits.code(widths[index]);
        let set = space.instructions(bits);
        let selection = Selection::all().range(range).perm(args.perm);
        let run = run_within(bar.clone(), done, source, options);
        let mut maker = RowMaker::new(args.linear, bits);
        let mut site = None;
        let mut emit = |xref: Xref| {
            go_on()?;
            let (at, arranged) = site.get_or_insert_with(|| {
                let arranged = regions::of(&space.names, reporter).unwrap_or_default();
                (spaces.site(index), arranged)
            });
            let place = Place {
                site: Some(Site {
                    region: arranged.name(xref.va, space.names.resolver()),
                    ..at.clone()
                }),
                va: Hex(xref.va.0),
                name: space.names.name(xref.va.0),
            };
            rows.add(maker.row(&space, &asked, place, xref, &In(memory)))
        };
        let found = match &texts {
            None => {
                let each = |found: Match<Gva, Xref>| emit(found.item);
                let xrefs = asked.xrefs(set);
                Ended::of(scan_each(memory, &xrefs, &selection, run, each))
            }
            Some(texts) => {
                let (built, outcome) = XrefIndex::build(memory, set, &selection, run);
                let found = index_to(&built, memory, &texts.places);
                let flow = found.into_iter().try_for_each(&mut emit);
                Ended {
                    coverage: outcome.coverage,
                    stopped: outcome.stopped || flow.is_break(),
                }
            }
        };
        teller.whose = Some(spaces.title(index));
        asked.tell_astray(&space, &mut teller);
        done += found.coverage.read;
        looked.physical += found.coverage.read;
        stopped |= found.stopped;
        looked.coverage[index] = found.coverage;
        beyond[index] = asked.beyond();
    }
    reporter.progress_end();
    teller.end();
    if without.len() == spaces.len() {
        // The one that tells most.
        without.sort_by_key(|one| std::cmp::Reverse(one.how_far));
        let why = without.swap_remove(0).why;
        let found = format!("{} spaces, and in none of them one address", spaces.len());
        return Err(why.found(found).into());
    }
    tell_without(&without, spaces.len(), reporter);
    let sink = rows.end()?;
    let found = sink.rows() > 0;
    said_if_stopped(stopped, found, reporter)?;
    let (totals, covered) =
        spaces.cover_beyond(&looked, Some(&beyond), Words::SEARCH, source, reporter)?;
    reporter.nothing(found, "nothing refers to it");
    sink.finish(Some(&totals))?;
    let complete = complete && covered && !interrupt::asked();
    Ok(Done { found, complete })
}

/// What is to be looked for in a space: places of texts, targets and what leads to them.
fn ask(
    args: &XrefArgs,
    source: &Source,
    space: &Space<'_>,
    targets: Vec<AddrRange<Gva>>,
    range: AddrRange<Gva>,
    options: &Options,
) -> std::result::Result<(Option<Texts>, Asked), Failure> {
    let texts = match &args.str[..] {
        [] => None,
        texts => Some(Texts::find_quietly("xref", texts, source, space, options)?),
    };
    let asked = Asked::new(space, targets, Some(range), args.perm, &options.reporter)?;
    Ok((texts, asked))
}

/// Looks names up, and keeps how far one led that leads nowhere.
struct Distance<'n, 's> {
    names: &'n Names<'s>,
    how_far: Cell<HowFar>,
}

impl Lookup for Distance<'_, '_> {
    fn named(&self, name: &str) -> std::result::Result<Named, Failure> {
        let resolver = self.names.resolver();
        let far = match resolver.map(|resolver| resolver.named(name)) {
            Some(Err(ResolveError::Ambiguous { .. })) => HowFar::Ambiguous,
            Some(Err(ResolveError::NoSymbol { .. } | ResolveError::Unreadable { .. })) => {
                HowFar::Module
            }
            _ => HowFar::Nowhere,
        };
        self.how_far.set(self.how_far.get().max(far));
        self.names.named(name)
    }

    fn decimal(&self, text: &str, value: u64) {
        self.names.decimal(text, value);
    }
}

/// What was typed stands for in a space, of which `own` is looked at.
fn targets(args: &XrefArgs, space: &Space<'_>, own: AddrRange<Gva>) -> Targets {
    let lookup = Distance {
        names: &space.names,
        how_far: Cell::new(HowFar::Nowhere),
    };
    let mut targets = Vec::new();
    let mut why = None;
    for to in &args.to {
        let target = match to.resolve_target::<Gva>(&lookup) {
            Ok(target) => target,
            Err(failure) => {
                why.get_or_insert(failure);
                continue;
            }
        };
        // A name that the process does not know may be one of the kernel's.
        match target.intersect(own) {
            Some(_) => targets.push(target),
            None => {
                why.get_or_insert_with(|| {
                    Failure::new(format!("`{to}` is not in the memory of this process"))
                        .found(format!("{}", target.start()))
                });
            }
        }
    }
    match why {
        Some(why) if targets.is_empty() || lookup.how_far.get() == HowFar::Ambiguous => {
            Targets::None {
                why,
                how_far: lookup.how_far.get(),
            }
        }
        _ => Targets::Are(targets),
    }
}

/// Says in which spaces the question could not be asked.
fn tell_without(without: &[Without], spaces: usize, reporter: &Reporter) {
    let shown: Vec<&str> = without.iter().take(SHOWN).map(|one| &*one.title).collect();
    let more = match without.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    if !shown.is_empty() {
        reporter.note(&format!(
            "what --to names is not in {} of {spaces} spaces, which were not looked at: {}{more}",
            without.len(),
            shown.join(", ")
        ));
    }
}
