//! `vmie refs`: what points at something.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use vmie::pointers::{Edge, PointerMap, Referrers, ReferrersOfAnyWidth, Width};
use vmie::{AddrRange, Address, Gva, Memory};
use vmie_rows::{Hex, Place, RefRow};

use crate::addr::RangeExpr;
use crate::args::{BitsArg, INDEX, PointerArgs, SearchArgs};
use crate::exit::{Done, Failure, Result};
use crate::interrupt;
use crate::names::Names;
use crate::options::Options;
use crate::output::{Row, totals};
use crate::pointers::Indexing;
use crate::report::Words;
use crate::seek::{Around, Seek, said_if_stopped};
use crate::source::Source;
use crate::space::{Space, Target};
use crate::spaces::Spaces;
use crate::texts::Texts;
use crate::unread::nothing_read;

#[derive(Args, Debug)]
pub(crate) struct RefsArgs {
    #[command(flatten)]
    pub(crate) search: SearchArgs,

    /// What is pointed at: an address, or A..B (B excluded) for all that is in it
    #[arg(value_name = "ADDR|RANGE", required_unless_present_any = ["save", "str"])]
    pub(crate) what: Option<RangeExpr>,

    /// What points at any place where this text stands (UTF-8); may be given several times
    #[arg(
        long,
        value_name = "TEXT",
        conflicts_with_all = ["what", "pointees", "save", "all_processes"]
    )]
    pub(crate) str: Vec<String>,

    /// The other way round: what the pointers that stand in the range point at
    #[arg(long, conflicts_with = "all_processes")]
    pub(crate) pointees: bool,

    #[command(flatten)]
    pub(crate) pointer: PointerArgs,

    /// Build an index of all pointers and write it to FILE
    #[arg(
        long,
        help_heading = INDEX,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        conflicts_with = "all_processes"
    )]
    pub(crate) save: Option<PathBuf>,

    /// Ask an index that was saved, instead of reading memory
    #[arg(
        long,
        help_heading = INDEX,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        conflicts_with_all = ["all_processes", "save", "range", "perm", "bits", "align"]
    )]
    pub(crate) index: Option<PathBuf>,
}

pub(super) fn run(args: &RefsArgs, options: &Options) -> Result<Done> {
    if !args.str.is_empty() {
        return to_texts(args, options);
    }
    match &args.what {
        Some(what) if args.save.is_none() && args.index.is_none() && !args.pointees => {
            interrupt::listen();
            let source = Source::open(&args.search.source, &options.reporter)?;
            if args.search.everywhere.all_processes {
                return everywhere(args, what, options, &source);
            }
            let space = Space::select(&source, &args.search.space, &options.reporter)?;
            let range: AddrRange<Gva> = what.resolve_target(&space.names)?;
            let scanner = referrers(args, range, &space, options)?;
            seek(args, options).over(&source, &space, &scanner, None, |place, value, _| {
                Some(RefRow {
                    place,
                    value: Hex(value),
                    value_name: space.names.pointee(value),
                })
            })
        }
        _ => {
            let source = Source::open(&args.search.source, &options.reporter)?;
            let space = Space::select(&source, &args.search.space, &options.reporter)?;
            match &space.of.target {
                Target::Physical(memory) => indexed(args, options, &source, &space, &**memory, &[]),
                Target::Virtual(memory) => indexed(args, options, &source, &space, memory, &[]),
                Target::Saved(memory) => indexed(args, options, &source, &space, &**memory, &[]),
            }
        }
    }
}

fn seek<'a>(args: &'a RefsArgs, options: &'a Options) -> Seek<'a> {
    Seek {
        verb: "refs",
        args: &args.search,
        options,
        asked: false,
    }
}

/// What looks for pointers into a range in one space, as wide as they are there.
fn referrers(
    args: &RefsArgs,
    range: AddrRange<Gva>,
    space: &Space<'_>,
    options: &Options,
) -> Result<Referrers> {
    let stand = args.search.filter.range.as_ref();
    let stand: Option<AddrRange<Gva>> = stand
        .map(|typed| space.range(Some(typed)))
        .transpose()?
        .flatten();
    let width = space.pointers(args.pointer.bits, stand, &options.reporter);
    let align = args.pointer.align.unwrap_or(width.bytes() as u64);
    Ok(Referrers::new(range, width, align))
}

/// What points into a range in all processes, in each as wide as its pointers are.
fn everywhere(
    args: &RefsArgs,
    what: &RangeExpr,
    options: &Options,
    source: &Source,
) -> Result<Done> {
    let reporter = &options.reporter;
    let spaces = Spaces::select(source, &args.search.space, reporter)?;
    let range = spaces.target(what)?;
    let widths: Vec<Width> = match args.pointer.bits {
        BitsArg::Auto => {
            let widths = spaces.widths(reporter).into_iter();
            widths
                .map(|width| width.pointers.unwrap_or_default())
                .collect()
        }
        BitsArg::B32 => vec![Width::Four],
        BitsArg::B64 => vec![Width::Eight],
    };
    let row = |place, value| {
        Some(RefRow {
            place,
            value: Hex(value),
            value_name: None,
        })
    };
    let seek = seek(args, options);
    let one = widths.first().copied().unwrap_or_default();
    if widths.iter().all(|&width| width == one) {
        let align = args.pointer.align.unwrap_or(one.bytes() as u64);
        let scanner = Referrers::new(range, one, align);
        return seek.everywhere(source, &spaces, &scanner, None, |_, place, value, _| {
            row(place, value)
        });
    }
    // Frames that programs of both sorts map are looked at both ways; what counts is a matter of the space.
    let scanner = ReferrersOfAnyWidth::new(range, args.pointer.align);
    seek.everywhere(source, &spaces, &scanner, None, |space, place, found, _| {
        if found.width != widths[space] {
            return None;
        }
        row(place, found.value)
    })
}

/// What points at the places of texts.
fn to_texts(args: &RefsArgs, options: &Options) -> Result<Done> {
    interrupt::listen();
    let source = Source::open(&args.search.source, &options.reporter)?;
    let space = Space::select(&source, &args.search.space, &options.reporter)?;
    let texts = Texts::find("refs", &args.str, &source, &space, options)?;
    let places = &texts.places;
    let (Some(&first), Some(&last)) = (places.first(), places.last()) else {
        return texts.nowhere::<RefRow>(&space, options);
    };
    // Whatever points between the first and the last place; most of it is none.
    let all = AddrRange::inclusive(Gva(first), Gva(last)).expect("in order");
    let referrers = referrers(args, all, &space, options)?;
    let seek = seek(args, options);
    let row = |place, value: u64, _: &dyn Around| {
        let is_one = places.binary_search(&value).is_ok();
        is_one.then(|| RefRow {
            place,
            value: Hex(value),
            value_name: space.names.pointee(value),
        })
    };
    let done = match &space.of.target {
        Target::Physical(image) if args.index.is_some() => {
            indexed(args, options, &source, &space, &**image, places)
        }
        Target::Virtual(memory) if args.index.is_some() => {
            indexed(args, options, &source, &space, memory, places)
        }
        Target::Saved(memory) if args.index.is_some() => {
            indexed(args, options, &source, &space, &**memory, places)
        }
        _ => seek.over(&source, &space, &referrers, None, row),
    }?;
    let complete = done.complete && texts.complete;
    Ok(Done { complete, ..done })
}

/// Asks an index, about some places, too.
fn indexed<A: Address>(
    args: &RefsArgs,
    options: &Options,
    source: &Source,
    space: &Space<'_>,
    memory: &dyn Memory<Addr = A>,
    places: &[u64],
) -> Result<Done> {
    let what: Option<AddrRange<A>> = args
        .what
        .as_ref()
        .map(|what| what.resolve_target(&space.names))
        .transpose()?;
    let indexing = Indexing {
        verb: "refs",
        source,
        space,
        options,
    };
    let filter = &args.search.filter;
    let map = match &args.index {
        Some(path) => indexing.open(path, memory)?,
        None => {
            let mut pointers = indexing.pointers(args.pointer, Some(filter))?;
            if let Some(what) = what.filter(|_| args.pointees && args.save.is_none()) {
                // Pointers that stand elsewhere are no answer; where these lead is.
                let inside = pointers
                    .sources
                    .map_or(Some(what), |part| part.intersect(what));
                pointers.sources = Some(inside.ok_or_else(|| {
                    Failure::new(format!("{what} and --range have nothing in common"))
                })?);
                pointers.range = pointers.range.filter(|range| range.covers(what));
            }
            let map = indexing.build(memory, &pointers)?;
            if let Some(path) = &args.save {
                indexing.save(&map, &pointers, path)?;
            }
            map
        }
    };
    let coverage = map.coverage();
    if coverage.read == 0 {
        let typed = filter.range.as_ref().map(ToString::to_string);
        let asked = args.what.as_ref().filter(|_| args.pointees);
        let range = asked.map(ToString::to_string).or(typed);
        return Err(nothing_read(coverage, space, source, range, filter.perm).into());
    }
    let mut sink = options
        .sink::<RefRow>(space.kind())
        .named(space.names.shown());
    let place = |&place: &u64| AddrRange::new(A::new(place), 1);
    let asked: Vec<AddrRange<A>> = what
        .into_iter()
        .chain(places.iter().filter_map(place))
        .collect();
    for edge in answers(&map, &asked, args.pointees) {
        let row = row(edge, &space.names);
        if sink.row(&row)?.is_break() || interrupt::asked() {
            break;
        }
    }
    let found = sink.rows() > 0 || asked.is_empty();
    said_if_stopped(interrupt::asked(), found, &options.reporter)?;
    let why = match args.pointees {
        true => "no pointer stands there",
        false => "nothing points there",
    };
    options.reporter.nothing(found, why);
    sink.finish(Some(&totals(coverage)))?;
    options.reporter.coverage(coverage, Words::SEARCH);
    let complete = Words::SEARCH.complete(coverage) && !interrupt::asked();
    Ok(Done { found, complete })
}

/// In the order of where the pointers stand.
fn answers<A: Address>(
    map: &PointerMap<A>,
    asked: &[AddrRange<A>],
    pointees: bool,
) -> Vec<Edge<A>> {
    let asked = asked.iter().copied();
    if pointees {
        return asked.flat_map(|what| map.pointees(what)).collect();
    }
    let mut edges: Vec<Edge<A>> = asked.flat_map(|what| map.referrers(what)).collect();
    edges.sort_unstable();
    edges
}

fn row<A: Address>(edge: Edge<A>, names: &Names<'_>) -> RefRow {
    RefRow {
        place: Place {
            site: None,
            va: Hex(edge.at.raw()),
            name: names.name(edge.at.raw()),
        },
        value: Hex(edge.value.raw()),
        value_name: names.pointee(edge.value.raw()),
    }
}

impl Row for RefRow {}
