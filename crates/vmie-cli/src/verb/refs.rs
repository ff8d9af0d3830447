//! `vmie refs`: what points at something.

use serde::Serialize;
use vmie::pointers::{Edge, PointerMap, Referrers};
use vmie::{AddrRange, Address, Gva, Memory};

use crate::args::RefsArgs;
use crate::exit::{Done, Failure, Result};
use crate::interrupt;
use crate::names::Names;
use crate::options::Options;
use crate::output::{Cell, Column, Hex, Row, Totals, View};
use crate::place::Place;
use crate::pointers::{Indexing, width};
use crate::report::Words;
use crate::seek::{Seek, said_if_stopped};
use crate::source::Source;
use crate::space::{Space, Target};
use crate::unread::nothing_read;

pub(super) fn run(args: &RefsArgs, options: &Options) -> Result<Done> {
    match &args.what {
        Some(what) if args.save.is_none() && args.index.is_none() && !args.pointees => {
            let seek = Seek {
                verb: "refs",
                args: &args.search,
                options,
                asked: false,
            };
            let scanner = |lookup: crate::addr::Lookup<'_>, mode| {
                let width = width(args.pointer.bits, mode);
                let align = args.pointer.align.unwrap_or(width.bytes() as u64);
                let range: AddrRange<Gva> = what.resolve(lookup)?;
                Ok(Referrers::new(range, width, align))
            };
            seek.run_made(scanner, None, |place, value, _| {
                Some(RefRow {
                    place,
                    value: Hex(value),
                })
            })
        }
        _ => {
            let source = Source::open(&args.search.source, &options.reporter)?;
            let space = Space::select(&source, &args.search.space, &options.reporter)?;
            match &space.target {
                Target::Physical(memory) => indexed(args, options, &source, &space, &**memory),
                Target::Virtual(memory) => indexed(args, options, &source, &space, memory),
                Target::Saved(memory) => indexed(args, options, &source, &space, &**memory),
            }
        }
    }
}

/// Asks an index.
fn indexed<A: Address>(
    args: &RefsArgs,
    options: &Options,
    source: &Source,
    space: &Space<'_>,
    memory: &dyn Memory<Addr = A>,
) -> Result<Done> {
    let what: Option<AddrRange<A>> = args
        .what
        .as_ref()
        .map(|what| what.resolve(&|name| space.lookup(name)))
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
        .sink("refs", space.kind())
        .named(space.names.shown());
    for edge in what
        .into_iter()
        .flat_map(|what| answers(&map, what, args.pointees))
    {
        let row = RefRow::of(edge, &space.names);
        if sink.row(&row)?.is_break() || interrupt::asked() {
            break;
        }
    }
    let found = sink.rows() > 0 || what.is_none();
    said_if_stopped(interrupt::asked(), found, &options.reporter)?;
    sink.finish::<RefRow>(Some(&Totals::from(coverage)))?;
    options.reporter.coverage(coverage, Words::SEARCH);
    let complete = Words::SEARCH.complete(coverage) && !interrupt::asked();
    Ok(Done { found, complete })
}

/// In the order of where the pointers stand.
fn answers<A: Address>(map: &PointerMap<A>, what: AddrRange<A>, pointees: bool) -> Vec<Edge<A>> {
    if pointees {
        return map.pointees(what).collect();
    }
    let mut edges: Vec<Edge<A>> = map.referrers(what).collect();
    edges.sort_unstable();
    edges
}

#[derive(Serialize)]
struct RefRow {
    #[serde(flatten)]
    place: Place,
    value: Hex,
}

impl RefRow {
    fn of<A: Address>(edge: Edge<A>, names: &Names<'_>) -> Self {
        Self {
            place: Place {
                site: None,
                va: Hex(edge.at.raw()),
                name: names.name(edge.at.raw()),
            },
            value: Hex(edge.value.raw()),
        }
    }
}

impl Row for RefRow {
    const COLUMNS: &'static [Column] = &[
        Column::right("pid").with_many(),
        Column::left("process").with_many(),
        Column::right("va"),
        Column::right("value"),
        Column::left("region").with_many(),
        Column::left("name").with_os(),
    ];

    fn view(&self) -> View {
        let value = Cell::new(format!("{:#x}", self.value.0));
        View::Cells(self.place.cells([value]))
    }
}
