//! `--groups`: the bytes that are constant within groups of snapshots and different between them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use vmie::snapshot::series::History;
use vmie::{AddrRange, Address, Memory, Prot};
use vmie_rows::{Bytes, GroupRow, Hex};

use super::super::args::Groups;
use super::{Looking, unbounded};
use crate::exit::{Done, Failure, Result, Stop};
use crate::interrupt;
use crate::output::{Cell, Row, Sink, prot_if_mapped, totals};
use crate::report::Words;
use crate::seek::said_if_stopped;

/// Bytes that rows show of each value.
const SHOWN: u64 = 16;

pub(super) fn run<A: Address>(
    looking: &Looking<'_, A>,
    letters: &Groups,
    history: Option<&History<A>>,
) -> Result<Done> {
    let reporter = &looking.options.reporter;
    let mut groups: BTreeMap<char, Vec<usize>> = BTreeMap::new();
    for (index, letter) in letters.0.iter().enumerate() {
        if let Some(letter) = letter {
            groups.entry(*letter).or_default().push(index);
        }
    }
    let named = !looking.arranged.is_empty();
    let mut rows = Rows {
        looking,
        sink: looking.options.sink::<GroupRow>(looking.kind).named(named),
        groups: &groups,
        failed: None,
    };
    let members: Vec<Vec<usize>> = groups.values().cloned().collect();
    let outcome = looking
        .series
        .tell_apart(&members, looking.wanted, unbounded(), |run| rows.push(run));
    if let Some(stop) = rows.failed {
        return Err(stop);
    }
    let found = rows.sink.rows() > 0;
    said_if_stopped(outcome.stopped, found, reporter)?;
    let coverage = &outcome.coverage;
    if coverage.read == 0 && !found {
        return Err(Failure::new("nothing of these snapshots could be compared")
            .hint("--list, to see what was captured in each")
            .into());
    }
    if let (Some(path), Some(history)) = (&looking.args.html, history) {
        looking.draw(path, history, Some(letters))?;
    }
    rows.sink.finish(Some(&totals(coverage)))?;
    reporter.coverage(coverage, Words::COMPARE);
    Ok(Done {
        found,
        complete: Words::COMPARE.complete(coverage) && !interrupt::asked(),
    })
}

struct Rows<'a, A: Address> {
    looking: &'a Looking<'a, A>,
    sink: Sink<'a>,
    groups: &'a BTreeMap<char, Vec<usize>>,
    failed: Option<Stop>,
}

impl<A: Address> Rows<'_, A> {
    fn push(&mut self, run: AddrRange<A>) -> ControlFlow<()> {
        let moments = self.looking.series.snapshots();
        let mut values = BTreeMap::new();
        for (&letter, members) in self.groups {
            let Some(&member) = members.first() else {
                continue;
            };
            let mut bytes = vec![0; run.len().min(SHOWN) as usize];
            // What tells groups apart was read in all of them.
            if moments[member].read(run.start(), &mut bytes).is_err() {
                continue;
            }
            values.insert(letter, Bytes::of(&bytes));
        }
        let last = &moments[moments.len() - 1];
        let prot = last
            .regions(run)
            .next()
            .map_or(Prot::NONE, |region| region.prot);
        let row = GroupRow {
            va: Hex(run.start().raw()),
            len: run.len(),
            prot: prot_if_mapped(prot),
            values,
            region: self.looking.name(run),
        };
        match self.sink.row(&row) {
            Ok(flow) => flow,
            Err(stop) => {
                self.failed = Some(stop);
                ControlFlow::Break(())
            }
        }
    }
}

impl Row for GroupRow {
    fn cell(&self, key: &str) -> Option<Cell> {
        let more = if self.len > SHOWN { "..." } else { "" };
        let values = self.values.iter();
        let values = values.map(|(letter, value)| format!("{letter} {value}{more}"));
        (key == "values").then(|| Cell::new(values.collect::<Vec<_>>().join("  ")))
    }
}
