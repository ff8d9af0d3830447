//! `vmie scan --all-processes`: byte signatures in all processes at once.

use std::ops::ControlFlow;

use serde::Serialize;
use vmie::signature::{Set, scan_many};
use vmie::{Gva, Prot, SweepOptions};

use super::SigName;
use crate::args::ScanArgs;
use crate::exit::{Done, Result};
use crate::options::Options;
use crate::output::{Cell, Column, Hex, Row, SpaceKind, View};
use crate::source::Source;
use crate::spaces::{Place, Spaces};

pub(super) fn run(
    args: &ScanArgs,
    options: &Options,
    source: &Source,
    set: &Set,
    names: &[SigName],
) -> Result<Done> {
    let reporter = &options.reporter;
    let spaces = Spaces::select(source, args.space.owner.kernel, reporter)?;
    let filter = &args.filter;
    let sweep = SweepOptions {
        range: spaces.range(filter.range.as_ref())?,
        perm: filter.perm.unwrap_or(Prot::NONE),
        threads: options.threads,
        max_bytes: source.sweep_bound(),
        ..SweepOptions::default()
    };
    let mut sink = options.sink("scan", SpaceKind::Virtual);
    let mut places = spaces.places(reporter);
    let mut failed = None;
    let bar = reporter.progress_begin("scan", source.physical_size());
    let outcome = scan_many(
        &spaces.parts(),
        set,
        &sweep,
        &mut |done| {
            bar.set_length(done.max(bar.length().unwrap_or(0)));
            bar.set_position(done);
            ControlFlow::Continue(())
        },
        |space, found| {
            let row = SightingRow::new(
                places.name(space, found.addr),
                found.addr,
                &names[found.sig],
            );
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
    let found = sink.rows() > 0;
    let (totals, complete) = spaces.cover(&outcome, source, reporter)?;
    sink.finish::<SightingRow<'_>>(Some(&totals))?;
    Ok(Done { found, complete })
}

/// A match in one of many spaces.
#[derive(Serialize)]
struct SightingRow<'a> {
    /// Null for the kernel.
    pid: Option<u32>,
    process: Option<&'a str>,
    va: Hex,
    sig: &'a SigName,
    /// What the process calls the region; in the kernel, the image.
    region: Option<String>,
    /// The name of the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl<'a> SightingRow<'a> {
    fn new(place: Place<'a>, va: Gva, sig: &'a SigName) -> Self {
        Self {
            pid: place.pid,
            process: place.process,
            va: Hex(va.0),
            sig,
            region: place.region,
            name: place.name,
        }
    }
}

impl Row for SightingRow<'_> {
    const COLUMNS: &'static [Column] = &[
        Column::right("pid"),
        Column::left("process"),
        Column::right("va"),
        Column::left("sig"),
        Column::left("region"),
        Column::left("name"),
    ];

    fn view(&self) -> View {
        View::Cells(vec![
            Cell::new(self.pid.map_or_else(String::new, |pid| pid.to_string())),
            Cell::new(self.process.unwrap_or_default()),
            Cell::new(format!("{:#x}", self.va.0)).strong(),
            Cell::new(self.sig.to_string()),
            Cell::new(self.region.as_deref().unwrap_or_default()),
            Cell::new(self.name.as_deref().unwrap_or_default()),
        ])
    }
}
