//! `vmie dissect`: what an object is made of.

mod c;

use std::ops::ControlFlow::{Break, Continue};

use serde::Serialize;
use vmie::dissect::{Common, Dissector, Kind, MAX_INSTANCES, MAX_LEN, Value};
use vmie::pointers::{Referrers, Width};
use vmie::{AddrRange, Address, Coverage, Memory, Prot, SweepOptions, seek};

use super::types::Text;
use crate::addr::TargetExpr;
use crate::args::{DissectArgs, DissectForm};
use crate::exit::{Done, Failure, Result};
use crate::half::own_half;
use crate::interrupt;
use crate::names::Names;
use crate::options::Options;
use crate::output::{Cell, Column, Format, Hex, Output, Row, Sink, Totals, View};
use crate::pointers::Indexing;
use crate::report::Words;
use crate::seek::go_on;
use crate::source::Source;
use crate::space::{Space, Target};
use crate::unread::nothing_read;

/// How long an object is of which only the address is given.
const USUAL_LEN: u64 = 128;
/// How many places that hold a virtual table are looked at.
const MAX_PLACES: usize = 4096;
/// How many values stand side by side.
const SHOWN: usize = 16;

pub(super) fn run(args: &DissectArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.source, &options.reporter)?;
    let space = Space::select(&source, &args.space, &options.reporter)?;
    match &space.target {
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
    let range: AddrRange<A> = args.what.resolve(&|name| space.lookup(name))?;
    let start = range.start();
    let len = match (&args.what, args.len) {
        (TargetExpr::Range(_), None) => range.len(),
        (TargetExpr::Range(_), Some(_)) => {
            return Err(Failure::new("--len beside a range")
                .found(format!("{} has a length already", args.what))
                .hint("an address and --len, or A+LEN alone")
                .into());
        }
        (TargetExpr::Addr(_), len) => len.unwrap_or(USUAL_LEN),
    };
    if len == 0 || len > MAX_LEN {
        return Err(Failure::new(format!("an object of {len:#x} bytes"))
            .found(format!(
                "objects of 1 to {MAX_LEN:#x} bytes can be dissected"
            ))
            .hint("--len N, or A+LEN")
            .into());
    }
    let object = AddrRange::inclusive(start, start);
    let width = space.pointers(args.bits, object, &options.reporter);
    let mut instances = vec![start];
    let mut searched = Coverage::default();
    if args.like {
        let found = alike(args, options, source, space, memory, start, width)?;
        let others = found.places.into_iter().filter(|&at| at != start);
        instances.extend(judged(options, memory, width, start, others.collect(), len));
        searched = found.coverage;
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
        dissector.instances(&instances, len).fields
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
        let mut sink = Sink::stdout(output, "dissect", space.kind(), &options.reporter);
        let _ = sink.row(&Text(text))?;
        sink.finish::<Text>(None)?;
    } else {
        let sink = options.sink("dissect", space.kind());
        let mut sink = sink.named(space.names.shown()).many(args.like);
        for one in &fields {
            let row = FieldRow::new(one, start, &instances, args.like, &space.names);
            if sink.row(&row)?.is_break() || interrupt::asked() {
                break;
            }
        }
        sink.finish::<FieldRow>(Some(&Totals::from(&coverage)))?;
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

/// The places that begin with the same word.
fn alike<A: Address>(
    args: &DissectArgs,
    options: &Options,
    source: &Source,
    space: &Space<'_>,
    memory: &dyn Memory<Addr = A>,
    start: A,
    width: Width,
) -> Result<Found<A>> {
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
    let what =
        AddrRange::inclusive(table, table).ok_or_else(|| Failure::new("one address is a range"))?;
    // The kernel's half maps all memory once more: the same objects at other addresses.
    let half = space.mode().and_then(own_half);
    let half = half.filter(|half: &AddrRange<A>| half.contains(start));
    let range = space
        .range(None)?
        .filter(|own: &AddrRange<A>| own.contains(start))
        .or(half);
    if let Some(path) = &args.index {
        let indexing = Indexing {
            verb: "dissect",
            source,
            space,
            options,
        };
        let map = indexing.open(path, memory)?;
        if map.width() != width {
            let bits = |width: Width| width.bytes() * 8;
            return Err(Failure::new("the index knows none of these objects")
                .found(format!(
                    "{} holds pointers of {} bits; the object is read with pointers of {}",
                    path.display(),
                    bits(map.width()),
                    bits(width)
                ))
                .hint("`vmie refs --save FILE`, to write it anew")
                .hint(format!(
                    "--bits {}, to read the object so",
                    bits(map.width())
                ))
                .into());
        }
        let writable = |at: &A| {
            let at = AddrRange::inclusive(*at, *at);
            let mut regions = at.into_iter().flat_map(|at| memory.regions(at));
            regions.any(|region| region.prot.write())
        };
        let mut found: Vec<A> = map.referrers(what).map(|edge| edge.at).collect();
        found.retain(|at| range.is_none_or(|range| range.contains(*at)) && writable(at));
        found.sort_unstable();
        found.truncate(MAX_PLACES);
        return Ok(Found {
            places: found,
            coverage: map.coverage().clone(),
        });
    }
    interrupt::listen();
    let sweep = SweepOptions {
        range,
        perm: Prot::W,
        threads: options.threads,
        max_bytes: source.sweep_bound(),
        ..SweepOptions::default()
    };
    let scanner = Referrers::new(what, width, width.bytes() as u64);
    let mut found = Vec::new();
    let outcome = seek(memory, &scanner, &sweep, &mut |_| go_on(), |at, _| {
        found.push(at);
        if found.len() >= MAX_PLACES {
            Break(())
        } else {
            Continue(())
        }
    });
    Ok(Found {
        places: found,
        coverage: outcome.coverage,
    })
}

/// Another object's field.
#[derive(Serialize)]
struct Other {
    va: Hex,
    value: String,
}

#[derive(Serialize)]
struct FieldRow {
    offset: u64,
    len: u64,
    va: Hex,
    kind: &'static str,
    value: String,
    detail: Option<String>,
    /// Of the address that a pointer holds, where names are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    confidence: u8,
    evidence: String,
    #[serde(flatten)]
    compared: Option<Compared>,
}

/// What several objects say.
#[derive(Serialize)]
struct Compared {
    /// How many voted for this, of how many that are not zero there.
    votes: usize,
    of: usize,
    varies: bool,
    values: Vec<Other>,
}

impl FieldRow {
    fn new<A: Address>(
        one: &Common,
        start: A,
        instances: &[A],
        like: bool,
        names: &Names<'_>,
    ) -> Self {
        let field = &one.field;
        let at = |base: A| Hex(base.raw().wrapping_add(field.offset));
        // The first of the values is that of the object that was asked for.
        let value = one.values.first().unwrap_or(&field.value);
        let values = instances.iter().zip(&one.values).take(SHOWN);
        Self {
            offset: field.offset,
            len: field.len,
            va: at(start),
            kind: field.kind.label(),
            value: value.to_string(),
            detail: Some(field.detail.clone()).filter(|detail| !detail.is_empty()),
            name: target(value, field.kind).and_then(|target| names.name(target)),
            confidence: field.confidence,
            evidence: field.evidence.clone(),
            compared: like.then(|| Compared {
                votes: one.votes,
                of: one.of,
                varies: one.varies,
                values: values
                    .map(|(&base, value)| Other {
                        va: at(base),
                        value: value.to_string(),
                    })
                    .collect(),
            }),
        }
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
    const COLUMNS: &'static [Column] = &[
        Column::right("offset"),
        Column::right("len"),
        Column::hidden("va"),
        Column::left("kind"),
        Column::left("value"),
        Column::left("detail"),
        Column::left("name").with_os(),
        Column::right("confidence").titled("sure"),
        Column::left("evidence"),
        Column::hidden("votes").with_many(),
        Column::hidden("of").with_many(),
        Column::left("varies").with_many(),
        Column::left("values").with_many(),
    ];

    fn view(&self) -> View {
        let (varies, values) = match &self.compared {
            Some(compared) => {
                let others = compared.values.iter().skip(1);
                let others: Vec<&str> = others.map(|other| other.value.as_str()).collect();
                let varies = if compared.varies { "yes" } else { "no" };
                (varies, others.join(" | "))
            }
            None => ("", String::new()),
        };
        let value = Cell::new(&self.value);
        let value = match self.kind {
            "unreadable" => value.gap(),
            "zero" => value.dim(),
            _ => value,
        };
        View::Cells(vec![
            Cell::new(format!("+{:#x}", self.offset)),
            Cell::new(self.len.to_string()),
            Cell::new(self.kind),
            value,
            Cell::new(self.detail.as_deref().unwrap_or_default()),
            Cell::new(self.name.as_deref().unwrap_or_default()),
            Cell::new(self.confidence.to_string()),
            Cell::new(&self.evidence),
            Cell::new(varies),
            Cell::new(values),
        ])
    }
}
