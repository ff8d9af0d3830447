//! `vmie paths`: how something is reached from a fixed base.

mod also;
mod args;

use std::ops::ControlFlow::{Break, Continue};

use vmie::pointers::{
    Base, Path, PathOptions, PathOutcome, PointerOptions, find_paths, find_paths_once,
};
use vmie::scan::Run;
use vmie::{AddrRange, Address, Coverage, Gva, Memory};
use vmie_rows::{Hex, PathRow};

use crate::addr::RangeExpr;
use crate::exit::{Done, Failure, Result, Stop};
use crate::interrupt;
use crate::options::Options;
use crate::output::{Cell, Row, totals};
use crate::pointers::{Indexing, not_indexed};
use crate::report::Words;
use crate::seek::{go_on, said_if_stopped};
use crate::source::Source;
use crate::space::{Space, Target};
use crate::unread::nothing_read;
use also::Also;
pub(super) use args::PathsArgs;

pub(super) fn run(args: &PathsArgs, options: &Options) -> Result<Done> {
    interrupt::listen();
    let source = Source::open(&args.source, &options.reporter)?;
    let space = Space::select(&source, &args.space, &options.reporter)?;
    match &space.of.target {
        Target::Physical(memory) => search(args, options, &source, &space, &**memory),
        Target::Virtual(memory) => search(args, options, &source, &space, memory),
        Target::Saved(memory) => search(args, options, &source, &space, &**memory),
    }
}

fn search<A: Address>(
    args: &PathsArgs,
    options: &Options,
    source: &Source,
    space: &Space<'_>,
    memory: &dyn Memory<Addr = A>,
) -> Result<Done> {
    let reporter = &options.reporter;
    let target = A::new(args.target.resolve(&space.names)?);
    if memory.read(target, &mut [0]).is_err() {
        reporter.warn(&format!(
            "{target} cannot be read; pointers may lead there all the same"
        ));
    }
    let paths = PathOptions {
        ranges: ranges(args, space)?,
        values: args
            .from_value
            .iter()
            .map(|value| value.resolve(&space.names).map(A::new))
            .collect::<std::result::Result<_, Failure>>()?,
        depth: args.depth as usize,
        max_offset: args.max_offset,
        back: args.back,
        loops: !args.no_loops,
        ..PathOptions::default()
    };
    let sources = Also::open(args, reporter)?;
    let also: Vec<Also<'_>> = sources
        .iter()
        .enumerate()
        .map(|(index, other)| Also::select(args, index, other, reporter))
        .collect::<Result<_>>()?;

    let indexing = Indexing {
        verb: "paths",
        source,
        space,
        options,
    };
    let mut sink = options
        .sink::<PathRow>(space.kind())
        .named(space.names.shown());
    sink = sink.asked(!also.is_empty());
    let mut failed = None;
    let pointers: PointerOptions<A> = indexing.pointers(args.pointer, None)?;
    let run = Run::new()
        .threads(options.threads)
        .max_bytes(source.sweep_bound())
        .cancel(interrupt::flag());
    let mut emit = |path: Path<A>| {
        // One base may begin millions of paths.
        go_on()?;
        let mut led = Vec::new();
        for other in &also {
            match other.follow(&path, space) {
                Some(addr) => led.push(Hex(addr)),
                None => return Continue(()),
            }
        }
        sink.row(&row(&path, space, led))
            .unwrap_or_else(|stop: Stop| {
                failed = Some(stop);
                Break(())
            })
    };
    let (outcome, coverage): (PathOutcome, Coverage<A>) = if args.no_index {
        let (outcome, coverage) =
            find_paths_once(memory, &pointers, target, &paths, &run, &mut emit)
                .map_err(|error| not_indexed(&error))?;
        (outcome, coverage.unwrap_or_default())
    } else {
        let map = match &args.index {
            Some(path) => indexing.open(path, memory)?,
            None => indexing.build(memory, &pointers)?,
        };
        let outcome = find_paths(&map, target, &paths, &run, &mut emit);
        (outcome, map.coverage().clone())
    };
    if let Some(stop) = failed {
        return Err(stop);
    }
    let found = sink.rows() > 0;
    said_if_stopped(outcome.stopped, found, reporter)?;
    reporter.nothing(found || coverage.read == 0, "no path leads there");
    if coverage.read == 0 && !found {
        return Err(nothing_read(&coverage, space, source, None, None).into());
    }
    sink.finish(Some(&totals(&coverage)))?;
    reporter.coverage(&coverage, Words::SEARCH);
    let whole = outcome.depth >= paths.depth;
    if !whole {
        reporter.warn(&format!(
            "too many places lead there: only paths of up to {} pointers were searched for; a smaller --max-offset or more precise --from reaches deeper",
            outcome.depth
        ));
    }
    let complete = Words::SEARCH.complete(&coverage) && whole && !interrupt::asked();
    Ok(Done { found, complete })
}

/// The ranges in which paths begin.
fn ranges<A: Address>(args: &PathsArgs, space: &Space<'_>) -> Result<Vec<AddrRange<A>>> {
    if args.from.is_empty() && args.from_value.is_empty() {
        let failure =
            Failure::new("where do paths begin? Neither --from nor --from-value was given");
        return Err(failure
            .hint("--from MODULE, for the data of a program or library; `vmie modules` lists them")
            .hint("--from A..B, for a range of addresses")
            .into());
    }
    let each = args.from.iter();
    let resolve = |from: &RangeExpr| {
        from.resolve(&space.names).map_err(|mut failure| {
            failure.what = format!("--from {from}: {}", failure.what);
            failure.hint("`vmie modules` with the same space, for names of modules")
        })
    };
    Ok(each.map(resolve).collect::<std::result::Result<_, _>>()?)
}

fn row<A: Address>(path: &Path<A>, space: &Space<'_>, also: Vec<Hex>) -> PathRow {
    let addr = path.base.addr().raw();
    let place = space
        .names
        .resolver()
        .and_then(|resolver| resolver.name(Gva(addr)));
    PathRow {
        base: Hex(addr),
        offsets: path.offsets.clone(),
        module: place
            .as_ref()
            .and_then(|place| place.module.map(str::to_owned)),
        pointer: matches!(path.base, Base::Value(_)),
        name: place.map(|place| place.to_string()),
        also,
    }
}

impl Row for PathRow {
    fn cell(&self, key: &str) -> Option<Cell> {
        let signed = || self.offsets.iter().map(|&offset| signed(offset));
        let text = || signed().collect::<Vec<_>>().join(" -> ");
        (key == "offsets").then(|| Cell::new(text()))
    }
}

fn signed(offset: i64) -> String {
    let sign = if offset < 0 { "-" } else { "+" };
    format!("{sign}{:#x}", offset.unsigned_abs())
}
