//! `vmie xref`: the instructions that refer to an address.

mod args;
mod asked;
mod everywhere;
mod row;

use vmie::scan::{Match, scan_each};
use vmie::xref::{Xref, XrefIndex};
use vmie::{AddrRange, Gva, Memory};
use vmie_rows::XrefRow;

use crate::exit::{Done, Failure, Result};
use crate::interrupt;
use crate::options::Options;
use crate::seek::{Ended, Seek};
use crate::source::Source;
use crate::space::Space;
use crate::texts::Texts;
pub(super) use args::XrefArgs;
use asked::{Asked, Teller};
use row::RowMaker;

pub(super) fn run(args: &XrefArgs, options: &Options) -> Result<Done> {
    interrupt::listen();
    let source = Source::open(&args.source, &options.reporter)?;
    if args.everywhere.all_processes {
        return everywhere::run(args, &source, options);
    }
    let space = Space::select(&source, &args.space, &options.reporter)?;
    let Some(memory) = space.of.target.by_virtual() else {
        return Err(
            Failure::new("physical memory has no instructions that refer to addresses")
                .found("--phys; what code refers to are virtual addresses")
                .hint("--pid, --process, --kernel or --cr3")
                .into(),
        );
    };
    let targets = args.to.iter().map(|to| to.resolve_target(&space.names));
    let targets: Vec<AddrRange<Gva>> = targets.collect::<std::result::Result<_, _>>()?;
    let texts = match &args.str[..] {
        [] => None,
        texts => Some(Texts::find("xref", texts, &source, &space, options)?),
    };
    if let Some(texts) = texts.as_ref().filter(|texts| texts.places.is_empty()) {
        return texts.nowhere::<XrefRow>(&space, options);
    }
    let part: Option<AddrRange<Gva>> = args
        .range
        .as_ref()
        .map(|typed| space.range(Some(typed)))
        .transpose()?
        .flatten();
    let bits = space.code(args.bits, part, &options.reporter);
    let set = space.instructions(bits);
    let search = args.search();
    let seek = Seek {
        verb: "xref",
        args: &search,
        options,
        asked: false,
    };
    let range = space.range(args.range.as_ref())?;
    let asked = Asked::new(&space, targets, range, args.perm, &options.reporter)?;
    let code = asked.code(&space);
    let memory = match &code {
        Some(code) => code,
        None => memory,
    };
    let mut rows = RowMaker::new(args.linear, bits);
    let done = seek.one_beyond(
        &source,
        &space,
        memory,
        None,
        |place, xref: Xref, around| rows.row(&space, &asked, place, xref, around),
        Asked::of_process(&space).then(|| asked.beyond()),
        |selection, run, emit| {
            if !args.all && texts.is_none() {
                let each = |found: Match<Gva, Xref>| emit(found.start, found.item);
                let xrefs = asked.xrefs(set);
                return Ended::of(scan_each(memory, &xrefs, selection, run, each));
            }
            let mut emit = |xref: Xref| emit(xref.va, xref);
            // What texts and all that is mapped have in common: the index knows all references to it.
            let (index, outcome) = XrefIndex::build(memory, set, selection, run);
            let flow = match &texts {
                None => index.each(memory, AddrRange::all(), &mut emit),
                Some(texts) => {
                    let found = index_to(&index, memory, &texts.places);
                    found.into_iter().try_for_each(&mut emit)
                }
            };
            Ended {
                coverage: outcome.coverage,
                stopped: outcome.stopped || flow.is_break(),
            }
        },
    )?;
    let mut teller = Teller::new(&options.reporter);
    asked.tell_astray(&space, &mut teller);
    teller.end();
    let complete = done.complete && asked.complete && texts.is_none_or(|texts| texts.complete);
    Ok(Done { complete, ..done })
}

/// All references to some places, in order.
fn index_to(index: &XrefIndex, memory: &dyn Memory<Addr = Gva>, places: &[u64]) -> Vec<Xref> {
    let ranges = places
        .iter()
        .filter_map(|&place| AddrRange::new(Gva(place), 1));
    let mut found: Vec<Xref> = ranges.flat_map(|range| index.to(memory, range)).collect();
    found.sort_unstable();
    found
}
