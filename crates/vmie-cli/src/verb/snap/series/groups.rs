//! `--groups`: the bytes that are constant within groups of moments and different between them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;

use serde::Serialize;
use vmie::snapshot::series::History;
use vmie::{AddrRange, Address, Memory, Prot};

use super::{Looking, unless_interrupted};
use crate::args::Groups;
use crate::exit::{Done, Failure, Result, Stop};
use crate::interrupt;
use crate::output::{Cell, Column, Hex, ProtText, Row, Sink, Totals, View};
use crate::report::Words;
use crate::seek::said_if_stopped;
use crate::size;

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
        sink: looking.options.sink("snap", looking.kind).named(named),
        groups: &groups,
        failed: None,
    };
    let members: Vec<Vec<usize>> = groups.values().cloned().collect();
    let outcome =
        looking
            .series
            .tell_apart(&members, looking.wanted, &mut unless_interrupted, |run| {
                rows.push(run)
            });
    if let Some(stop) = rows.failed {
        return Err(stop);
    }
    let found = rows.sink.rows() > 0;
    said_if_stopped(outcome.stopped, found, reporter)?;
    let coverage = &outcome.coverage;
    if coverage.read == 0 && !found {
        return Err(Failure::new("nothing of these moments could be compared")
            .hint("--moments, to see what was captured in each")
            .into());
    }
    if let (Some(path), Some(history)) = (&looking.args.html, history) {
        looking.draw(path, history, Some(letters))?;
    }
    rows.sink
        .finish::<TellingRow>(Some(&Totals::from(coverage)))?;
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
        let moments = self.looking.series.moments();
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
            let mut text = String::with_capacity(2 * bytes.len());
            for byte in &bytes {
                let _ = write!(text, "{byte:02x}");
            }
            values.insert(letter, text);
        }
        let last = &moments[moments.len() - 1];
        let prot = last
            .regions(run)
            .next()
            .map_or(Prot::NONE, |region| region.prot);
        let row = TellingRow {
            va: Hex(run.start().raw()),
            len: run.len(),
            prot: ProtText(prot),
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

#[derive(Serialize)]
struct TellingRow {
    va: Hex,
    len: u64,
    /// In the last moment; none where it maps nothing there.
    prot: ProtText,
    /// The first bytes in each group.
    values: BTreeMap<char, String>,
    region: Option<String>,
}

impl Row for TellingRow {
    const COLUMNS: &'static [Column] = &[
        Column::right("va"),
        Column::right("len"),
        Column::left("prot"),
        Column::left("values"),
        Column::left("region").with_os(),
    ];

    fn view(&self) -> View {
        let more = if self.len > SHOWN { "..." } else { "" };
        let values: Vec<String> = self
            .values
            .iter()
            .map(|(letter, value)| format!("{letter} {value}{more}"))
            .collect();
        let prot = match self.prot.0 {
            Prot::NONE => String::new(),
            prot => prot.to_string(),
        };
        View::Cells(vec![
            Cell::new(format!("{:#x}", self.va.0)).strong(),
            Cell::new(size::exact(self.len)),
            Cell::new(prot),
            Cell::new(values.join("  ")),
            Cell::new(self.region.as_deref().unwrap_or_default()),
        ])
    }
}
