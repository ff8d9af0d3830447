//! `--moments`: the moments of a series, one by one.

use serde::Serialize;
use vmie::Address;
use vmie::snapshot::Snapshot;
use vmie::snapshot::series::Series;

use crate::exit::{Done, Result};
use crate::options::Options;
use crate::output::{Cell, Column, Row, SpaceKind, View};
use crate::saved;
use crate::size;

pub(super) fn list<A: Address>(
    series: &Series<A>,
    options: &Options,
    kind: SpaceKind,
) -> Result<Done> {
    let mut sink = options.sink("snap", kind);
    for (index, moment) in series.moments().iter().enumerate() {
        let row = MomentRow::new(series.number(index).unwrap_or_default(), moment);
        if sink.row(&row)?.is_break() {
            break;
        }
    }
    let found = sink.rows() > 0;
    sink.finish::<MomentRow>(None)?;
    Ok(Done {
        found,
        complete: true,
    })
}

#[derive(Serialize)]
struct MomentRow {
    moment: u32,
    taken: String,
    took_ms: u64,
    regions: u64,
    read: u64,
    absent: u64,
    of: String,
}

impl MomentRow {
    fn new<A: Address>(moment: u32, snapshot: &Snapshot<A>) -> Self {
        let coverage = snapshot.coverage();
        Self {
            moment,
            taken: saved::when(snapshot.taken()),
            took_ms: u64::try_from(snapshot.took().as_millis()).unwrap_or(u64::MAX),
            regions: snapshot.kept().count() as u64,
            read: coverage.read,
            absent: coverage.absent,
            of: saved::of(snapshot.origin()),
        }
    }
}

impl Row for MomentRow {
    const COLUMNS: &'static [Column] = &[
        Column::right("moment"),
        Column::left("taken"),
        Column::right("took_ms"),
        Column::right("regions"),
        Column::right("read"),
        Column::right("absent"),
        Column::left("of"),
    ];

    fn view(&self) -> View {
        View::Cells(vec![
            Cell::new(self.moment.to_string()).strong(),
            Cell::new(&self.taken),
            Cell::new(self.took_ms.to_string()),
            Cell::new(self.regions.to_string()),
            Cell::new(size::approx(self.read)),
            Cell::new(size::approx(self.absent)),
            Cell::new(&self.of),
        ])
    }
}
