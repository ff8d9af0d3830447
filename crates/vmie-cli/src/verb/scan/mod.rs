//! `vmie scan`: byte signatures in an address space, in many, or in physical memory.

mod many;

use std::fmt;
use std::ops::ControlFlow;

use serde::Serialize;
use vmie::signature::{Set, Signature, scan};
use vmie::{Address, Memory, Prot, SweepOptions};

use crate::args::ScanArgs;
use crate::exit::{Done, Failure, Result};
use crate::options::Options;
use crate::output::{Cell, Column, Hex, Row, Totals, View};
use crate::report::Words;
use crate::sigfile;
use crate::source::Source;
use crate::space::{Space, Target};
use crate::unread::nothing_read;

pub(super) fn run(args: &ScanArgs, options: &Options) -> Result<Done> {
    // Signatures first: a typing mistake should not wait for a large image to open.
    let (set, names) = signatures(args)?;
    let source = Source::open(&args.source, &options.reporter)?;
    if args.everywhere.all_processes {
        return many::run(args, options, &source, &set, &names);
    }
    let space = Space::select(&source, &args.space, &options.reporter)?;
    let scan = Scan {
        args,
        options,
        set,
        names,
        source: &source,
        space: &space,
    };
    match &space.target {
        Target::Physical(image) => scan.run(&**image),
        Target::Virtual(memory) => scan.run(memory),
    }
}

/// The signatures, and what each is called in a row.
fn signatures(args: &ScanArgs) -> Result<(Set, Vec<SigName>)> {
    let mut signatures = Vec::new();
    let mut names = Vec::new();
    for (number, text) in args.signatures.iter().enumerate() {
        let signature = Signature::parse("", text).map_err(|error| {
            let explained = error.explain();
            let (what, place) = explained.split_once('\n').unwrap_or((&explained, ""));
            // The caret is placed below the text, so both lose the same indent.
            let place: Vec<&str> = place
                .lines()
                .map(|line| line.get(2..).unwrap_or(""))
                .collect();
            Failure::new(format!("signature {number}, {what}")).found(place.join("\n"))
        })?;
        signatures.push(signature);
        names.push(SigName::Number(number as u64));
    }
    for path in &args.files {
        for signature in sigfile::read(path)? {
            names.push(SigName::Name(signature.name().to_owned()));
            signatures.push(signature);
        }
    }
    let set = Set::compile(signatures).map_err(|error| Failure::new(error.to_string()))?;
    Ok((set, names))
}

struct Scan<'a, 's> {
    args: &'a ScanArgs,
    options: &'a Options,
    set: Set,
    names: Vec<SigName>,
    source: &'a Source,
    space: &'a Space<'s>,
}

impl Scan<'_, '_> {
    fn run<A: Address>(&self, memory: &dyn Memory<Addr = A>) -> Result<Done> {
        let reporter = &self.options.reporter;
        let filter = &self.args.filter;
        let range = self.space.range(filter.range.as_ref())?;
        let sweep = SweepOptions {
            range,
            perm: filter.perm.unwrap_or(Prot::NONE),
            threads: self.options.threads,
            max_bytes: self.source.sweep_bound(),
            ..SweepOptions::default()
        };
        let sink = self.options.sink("scan", self.space.kind());
        let mut sink = sink.named(self.space.names.shown());
        let mut failed = None;
        let bar = reporter.progress_begin("scan", self.source.physical_size());
        let outcome = scan(
            memory,
            &self.set,
            &sweep,
            &mut |done| {
                // More than all of physical memory is done where frames are mapped twice.
                bar.set_length(done.max(bar.length().unwrap_or(0)));
                bar.set_position(done);
                ControlFlow::Continue(())
            },
            |found| {
                let row = MatchRow {
                    va: Hex(found.addr.raw()),
                    sig: &self.names[found.sig],
                    name: self.space.names.name(found.addr.raw()),
                };
                sink.row(&row).unwrap_or_else(|stop| {
                    failed = Some(stop);
                    ControlFlow::Break(())
                })
            },
        );
        reporter.progress_end();
        if let Some(stop) = failed {
            return Err(stop);
        }
        let coverage = &outcome.coverage;
        if coverage.read == 0 {
            let range = filter.range.as_ref().map(ToString::to_string);
            return Err(nothing_read(coverage, self.space, self.source, range, filter.perm).into());
        }
        let found = sink.rows() > 0;
        sink.finish::<MatchRow<'_>>(Some(&Totals::from(coverage)))?;
        reporter.coverage(coverage, Words::SEARCH);
        Ok(Done {
            found,
            // What is not mapped in --range was not asked for: the range only narrows the search.
            complete: coverage.absent == 0 && coverage.lost == 0,
        })
    }
}

/// What a signature is called in a row.
#[derive(Serialize)]
#[serde(untagged)]
enum SigName {
    Number(u64),
    Name(String),
}

impl fmt::Display for SigName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

#[derive(Serialize)]
struct MatchRow<'a> {
    va: Hex,
    sig: &'a SigName,
    /// The name of the address, with a known operating system.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl Row for MatchRow<'_> {
    const COLUMNS: &'static [Column] = &[
        Column::right("va"),
        Column::left("sig"),
        Column::left("name").with_os(),
    ];

    fn view(&self) -> View {
        View::Cells(vec![
            Cell::new(format!("{:#x}", self.va.0)).strong(),
            Cell::new(self.sig.to_string()),
            Cell::new(self.name.as_deref().unwrap_or_default()),
        ])
    }
}
