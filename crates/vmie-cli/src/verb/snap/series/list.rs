//! `--list`: the snapshots of a series, one by one.

use vmie::Address;
use vmie::snapshot::Snapshot;
use vmie::snapshot::series::Series;
use vmie_rows::SeriesMomentRow;

use crate::exit::{Done, Result};
use crate::options::Options;
use crate::output::{Row, SpaceKind};
use crate::saved;

pub(super) fn list<A: Address>(
    series: &Series<A>,
    options: &Options,
    kind: SpaceKind,
) -> Result<Done> {
    let mut sink = options.sink::<SeriesMomentRow>(kind);
    for (index, moment) in series.snapshots().iter().enumerate() {
        let row = row(series.number(index).unwrap_or_default(), moment);
        if sink.row(&row)?.is_break() {
            break;
        }
    }
    let found = sink.rows() > 0;
    sink.finish(None)?;
    Ok(Done {
        found,
        complete: true,
    })
}

fn row<A: Address>(moment: u32, snapshot: &Snapshot<A>) -> SeriesMomentRow {
    let coverage = snapshot.coverage();
    SeriesMomentRow {
        moment,
        taken: saved::when(snapshot.taken()),
        took_ms: u64::try_from(snapshot.took().as_millis()).unwrap_or(u64::MAX),
        regions: snapshot.kept().count() as u64,
        read: coverage.read,
        absent: coverage.absent,
        of: saved::of(snapshot.origin()),
    }
}

impl Row for SeriesMomentRow {}
