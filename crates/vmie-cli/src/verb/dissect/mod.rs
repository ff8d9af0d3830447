//! `vmie dissect`: what an object is made of.

mod args;
mod c;

use std::ops::ControlFlow::{Break, Continue};
use std::path::Path;

use vmie::dissect::{Common, Dissector, Kind, Life, MAX_INSTANCES, MAX_LEN, Value};
use vmie::pointers::{Edge, PointerMap, Referrers, Width};
use vmie::scan::{Run, Selection, scan_each};
use vmie::{AddrRange, Address, Coverage, Memory, Prot};
use vmie_rows::{Compared, FieldRow, Hex, OtherValue, Row as _};

use crate::addr::Meant;
use crate::escape;
use crate::exit::{Done, Failure, Result};
use crate::interrupt;
use crate::names::Names;
use crate::options::Options;
use crate::output::{Cell, Format, Output, Row, Sink, totals};
use crate::pointers::Indexing;
use crate::report::Words;
use crate::source::Source;
use crate::space::{Space, Target};
use crate::unread::nothing_read;
pub(super) use args::DissectArgs;
use args::DissectForm;

/// How long an object is of which only the address is given.
const USUAL_LEN: u64 = 128;
/// How many places that hold a virtual table are looked at.
const MAX_PLACES: usize = 4096;
/// How many values stand side by side.
const SHOWN: usize = 16;
/// How many pointers into objects are looked at.
const MAX_POINTERS: usize = 1 << 20;

pub(super) fn run(args: &DissectArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.source, &options.reporter)?;
    let space = Space::select(&source, &args.space, &options.reporter)?;
    match &space.of.target {
        Target::Physical(memory) => dissect(args, options, &source, &space, &**memory),
        Target::Virtual(memory) => dissect(args, options, &source, &space, memory),
        Target::Saved(memory) => dissect(args, options, &source, &space, &**memory),
    }
}

fn dissect<A: Address>(
    args: &DissectArgs,
    options: &Options,
    source: &Source,
    space: &Space<'_>,
    memory: &dyn Memory<Addr = A>,
) -> Result<Done> {
    let rows = options
        .typed
        .output
        .is_some_and(|format| format != Format::Table);
    if args.form.is_some() && rows {
        return Err(Failure::new("a structure in C is no rows")
            .found("--as c, and a format other than table")
            .hint("--as c without -o")
            .into());
    }
    let meant: Meant<A> = args
        .what
        .resolve_usual(&space.names, args.len.unwrap_or(USUAL_LEN).max(1))?;
    let start = meant.range.start();
    let len = match args.len {
        Some(_) if meant.has_end => {
            return Err(Failure::new("--len beside a range")
                .found(format!("{} has a length already", args.what))
                .hint("an address and --len, or A..+LEN alone")
                .into());
        }
        Some(len) => len,
        None if meant.has_end => meant.range.len(),
        None => USUAL_LEN,
    };
    if len == 0 || len > MAX_LEN {
        return Err(Failure::new(format!("an object of {len:#x} bytes"))
            .found(format!(
                "objects of 1 to {MAX_LEN:#x} bytes can be dissected"
            ))
            .hint("--len N, or A..+LEN")
            .into());
    }
    let object = AddrRange::inclusive(start, start);
    let width = space.pointers(args.bits, object, &options.reporter);
    let mut instances = vec![start];
    let mut votes = Vec::new();
    let mut searched = Coverage::default();
    if args.like {
        let alike = Alike::new(args, options, source, space, memory, start, width)?;
        let found = alike.places()?;
        let others = found.places.into_iter().filter(|&at| at != start);
        instances.extend(judged(options, memory, width, start, others.collect(), len));
        searched = found.coverage;
        let pointers = alike.pointers_into(&instances, len);
        let lives = Dissector::new(memory, width).life(&instances, len, pointers.as_deref());
        told(options, &instances, &lives);
        votes = lives.iter().map(|life| !life.stale).collect();
    }
    let mut complete = Words::SEARCH.complete(&searched) && !interrupt::asked();
    let mut dissector = Dissector::new(memory, width);
    // What this object itself says, for the coverage too.
    let own = dissector.instance(start, len);
    let mut coverage = Coverage::default();
    for field in &own {
        match (field.value.clone(), start.checked_add(field.offset)) {
            (Value::Unread(cause), Some(at)) => coverage.add_gap(at, field.len, cause),
            _ => coverage.add_read(field.len),
        }
    }
    if coverage.read == 0 {
        let typed =
            AddrRange::new(start, len).map_or(args.what.to_string(), |range| range.to_string());
        return Err(nothing_read(&coverage, space, source, Some(typed), None).into());
    }
    complete &= Words::READ.complete(&coverage);
    // A range only narrows the search; what is not mapped in it was not asked for.
    searched.unmapped = 0;
    searched.gaps.retain(|gap| !gap.cause.is_unmapped());
    coverage.merge(&searched);
    let fields: Vec<Common> = if args.like {
        dissector
            .instances_that_vote(&instances, &votes, len)
            .fields
    } else {
        let alone = |field: vmie::dissect::Field| Common {
            votes: 1,
            of: 1,
            varies: false,
            values: vec![field.value.clone()],
            field,
        };
        own.into_iter().map(alone).collect()
    };

    if args.form == Some(DissectForm::C) {
        let text = c::structure(&fields, start.raw(), width, &space.names);
        // Text in every pipe: what is typed after -o has been looked at.
        let output = Output {
            format: Format::Table,
            ..options.output
        };
        let mut sink = Sink::stdout(output, FieldRow::SHAPE, space.kind(), &options.reporter);
        sink.text(&escape::message(&text))?;
        sink.finish(None)?;
    } else {
        let sink = options.sink::<FieldRow>(space.kind());
        let mut sink = sink.named(space.names.shown()).many(args.like);
        for one in &fields {
            let row = row(one, start, &instances, args.like, &space.names);
            if sink.row(&row)?.is_break() || interrupt::asked() {
                break;
            }
        }
        sink.finish(Some(&totals(&coverage)))?;
    }
    options.reporter.coverage(&coverage, Words::READ);
    Ok(Done {
        found: true,
        complete,
    })
}

/// Places that begin with a word, ascending.
struct Found<A> {
    places: Vec<A>,
    /// What was searched for them.
    coverage: Coverage<A>,
}

/// Those of the places that look like the object at `start`, as many as can be compared beside it.
fn judged<A: Address>(
    options: &Options,
    memory: &dyn Memory<Addr = A>,
    width: Width,
    start: A,
    places: Vec<A>,
    len: u64,
) -> Vec<A> {
    if places.len() >= MAX_PLACES {
        options.reporter.note(&format!(
            "the virtual table is in more than {MAX_PLACES} places; the first ones are looked at"
        ));
    }
    let mut dissector = Dissector::new(memory, width);
    let mut alike = Vec::new();
    let mut others = Vec::new();
    for at in places {
        if interrupt::asked() {
            break;
        }
        for one in dissector.likeness(start, &[at], len) {
            if one.alike {
                alike.push(at);
            } else {
                others.push((at, one.evidence));
            }
        }
        if alike.len() >= MAX_INSTANCES {
            options.reporter.note(&format!(
                "more than {MAX_INSTANCES} objects are alike; that many are compared"
            ));
            alike.truncate(MAX_INSTANCES - 1);
            break;
        }
    }
    if let Some((first, why)) = others.first() {
        let more = if options.reporter.is_verbose() {
            ""
        } else {
            " (-v lists all)"
        };
        options.reporter.note(&format!(
            "left out, because they hold the virtual table and do not look like this object: {}, the first at \
             {first}: {why}{more}",
            others.len()
        ));
        for (at, why) in &others[1..] {
            options.reporter.detail(&format!("left out: {at}: {why}"));
        }
    }
    alike
}

/// Says which objects have no vote.
fn told<A: Address>(options: &Options, instances: &[A], lives: &[Life]) {
    let stale: Vec<_> = instances
        .iter()
        .zip(lives)
        .filter(|(_, life)| life.stale)
        .collect();
    let Some((first, life)) = stale.first() else {
        return;
    };
    if stale.len() == instances.len() {
        options.reporter.note(&format!(
            "all of the {} objects look freed, the first at {first}: {}",
            instances.len(),
            life.evidence
        ));
        return;
    }
    let more = if options.reporter.is_verbose() {
        ""
    } else {
        " (-v lists all)"
    };
    options.reporter.note(&format!(
        "shown without a vote, because they look freed: {} of {} objects, the first at {first}: {}{more}",
        stale.len(),
        instances.len(),
        life.evidence
    ));
    for (at, life) in &stale[1..] {
        options
            .reporter
            .detail(&format!("without a vote: {at}: {}", life.evidence));
    }
}

/// Where objects like one are searched for.
struct Alike<'a, A: Address> {
    source: &'a Source,
    memory: &'a dyn Memory<Addr = A>,
    options: &'a Options,
    width: Width,
    table: A,
    range: Option<AddrRange<A>>,
    /// The pointers of the space, if an index of them was asked for.
    map: Option<PointerMap<A>>,
}

impl<'a, A: Address> Alike<'a, A> {
    fn new(
        args: &DissectArgs,
        options: &'a Options,
        source: &'a Source,
        space: &Space<'_>,
        memory: &'a dyn Memory<Addr = A>,
        start: A,
        width: Width,
    ) -> Result<Self> {
        let word = match width {
            Width::Four => memory.read_u32(start).map(u64::from),
            Width::Eight => memory.read_u64(start),
        };
        let word = word.map_err(|fault| {
            Failure::new("the object's first word, which --like goes by, cannot be read")
                .found(fault.to_string())
        })?;
        let table = A::new(word);
        if Dissector::new(memory, width).vtable(table).is_none() {
            return Err(Failure::new(format!("nothing is like {start}"))
                .found(format!(
                    "its first word, {word:#x}, leads to no virtual table"
                ))
                .hint("the address of an object that has virtual functions")
                .into());
        }
        // The kernel's half maps all memory once more: the same objects at other addresses.
        let half = space.mode().and_then(vmie::Mode::user_range);
        let half = half.filter(|half: &AddrRange<A>| half.contains(start));
        let range = space
            .range(None)?
            .filter(|own: &AddrRange<A>| own.contains(start))
            .or(half);
        let map = match &args.index {
            Some(path) => {
                let indexing = Indexing {
                    verb: "dissect",
                    source,
                    space,
                    options,
                };
                let map = indexing.open(path, memory)?;
                if map.width() != width {
                    return Err(other_width(path, map.width(), width).into());
                }
                Some(map)
            }
            None => None,
        };
        Ok(Self {
            source,
            memory,
            options,
            width,
            table,
            range,
            map,
        })
    }

    /// The places that begin with the same word.
    fn places(&self) -> Result<Found<A>> {
        let what = AddrRange::inclusive(self.table, self.table)
            .ok_or_else(|| Failure::new("one address is a range"))?;
        let mut places = Vec::new();
        let coverage = self.edges(what, |edge| {
            places.push(edge.at);
            places.len() < MAX_PLACES
        });
        places.sort_unstable();
        Ok(Found { places, coverage })
    }

    /// The pointers that lead into these objects; `None` where there are too many of them, or the search was stopped.
    fn pointers_into(&self, instances: &[A], len: u64) -> Option<Vec<Edge<A>>> {
        let mut sorted = instances.to_vec();
        sorted.sort_unstable();
        let (first, last) = (*sorted.first()?, *sorted.last()?);
        let end = last.checked_add(len - 1)?;
        let within = |address: A| {
            let behind = sorted.partition_point(|&at| at <= address);
            let at = behind.checked_sub(1).map(|index| sorted[index]);
            at.is_some_and(|at| address.raw() - at.raw() < len)
        };
        let mut pointers = Vec::new();
        self.edges(AddrRange::inclusive(first, end)?, |edge| {
            if within(edge.value) {
                pointers.push(edge);
            }
            pointers.len() < MAX_POINTERS
        });
        (pointers.len() < MAX_POINTERS && !interrupt::asked()).then_some(pointers)
    }

    /// The words in writable memory that lead into a range, until `take` has enough; what was searched.
    fn edges(&self, what: AddrRange<A>, mut take: impl FnMut(Edge<A>) -> bool) -> Coverage<A> {
        if let Some(map) = &self.map {
            let writable = |at: A| {
                let at = AddrRange::inclusive(at, at);
                let mut regions = at.into_iter().flat_map(|at| self.memory.regions(at));
                regions.any(|region| region.prot.write())
            };
            let range = self.range;
            let inside = |at: A| range.is_none_or(|range| range.contains(at));
            let edges = map.referrers(what);
            let mut edges = edges.filter(|edge| inside(edge.at) && writable(edge.at));
            let _ = edges.all(take);
            return map.coverage().clone();
        }
        interrupt::listen();
        let selection = Selection::all().range(self.range).perm(Prot::W);
        let run = Run::new()
            .threads(self.options.threads)
            .max_bytes(self.source.sweep_bound())
            .cancel(interrupt::flag());
        let scanner = Referrers::new(what, self.width, self.width.bytes() as u64);
        let outcome = scan_each(self.memory, &scanner, &selection, run, |found| {
            match take(Edge::found(found.start, found.item)) {
                true => Continue(()),
                false => Break(()),
            }
        });
        outcome.coverage
    }
}

/// An index of pointers of another width knows none of the objects.
fn other_width(path: &Path, of_index: Width, of_object: Width) -> Failure {
    let [of_index, of_object] = [of_index, of_object].map(|width| width.bytes() * 8);
    Failure::new("the index knows none of these objects")
        .found(format!(
            "{} holds pointers of {of_index} bits; the object is read with pointers of {of_object}",
            path.display()
        ))
        .hint("`vmie refs --save FILE`, to write it anew")
        .hint(format!("--bits {of_index}, to read the object so"))
}

fn row<A: Address>(
    one: &Common,
    start: A,
    instances: &[A],
    like: bool,
    names: &Names<'_>,
) -> FieldRow {
    let field = &one.field;
    let at = |base: A| Hex(base.raw().wrapping_add(field.offset));
    // The first of the values is that of the object that was asked for.
    let value = one.values.first().unwrap_or(&field.value);
    let values = instances.iter().zip(&one.values).take(SHOWN);
    FieldRow {
        offset: field.offset,
        len: field.len,
        va: at(start),
        kind: field.kind.label(),
        value: value.to_string(),
        detail: Some(field.detail.clone()).filter(|detail| !detail.is_empty()),
        name: target(value, field.kind).and_then(|target| names.pointee(target)),
        confidence: field.confidence,
        evidence: field.evidence.clone(),
        compared: like.then(|| Compared {
            votes: one.votes,
            of: one.of,
            varies: one.varies,
            values: values
                .map(|(&base, value)| OtherValue {
                    va: at(base),
                    value: value.to_string(),
                })
                .collect(),
        }),
    }
}

/// Where a pointer leads.
fn target(value: &Value, kind: Kind) -> Option<u64> {
    match value {
        Value::Address(target) if kind.is_pointer() => Some(*target),
        _ => None,
    }
}

impl Row for FieldRow {
    fn cell(&self, key: &str) -> Option<Cell> {
        let cell = match (key, self.kind) {
            ("offset", _) => Cell::new(format!("+{:#x}", self.offset)),
            ("value", "unreadable") => Cell::new(&self.value).gap(),
            ("value", "zero") => Cell::new(&self.value).dim(),
            ("values", _) => {
                let others = self.compared.as_ref()?.values.iter().skip(1);
                let others: Vec<&str> = others.map(|other| other.value.as_str()).collect();
                Cell::new(others.join(" | "))
            }
            _ => return None,
        };
        Some(cell)
    }
}
