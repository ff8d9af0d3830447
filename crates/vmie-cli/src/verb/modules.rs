//! `vmie modules`: the kernel's modules, or the program and libraries of a process.

use serde::Serialize;
use vmie::os::Module;

use crate::args::ModulesArgs;
use crate::exit::{Done, Result};
use crate::guest::{failed, tell_findings};
use crate::options::Options;
use crate::output::{Cell, Column, Hex, Row, SpaceKind, View};
use crate::size;
use crate::source::Source;
use crate::space::select_process;

pub(super) fn run(args: &ModulesArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.source, &options.reporter)?;
    let os = source.os()?;
    let process = select_process(&source, &args.owner, &options.reporter)?;
    let listing = os.guest().modules(process.map(|(_, process)| process));
    let listing = listing.map_err(|error| failed(&error))?;
    let incomplete = tell_findings(&listing.findings, &options.reporter);
    let mut sink = options.sink("modules", SpaceKind::Virtual);
    for module in &listing.items {
        if sink.row(&ModuleRow::new(module))?.is_break() {
            break;
        }
    }
    let found = sink.rows() > 0;
    sink.finish::<ModuleRow<'_>>(None)?;
    Ok(Done {
        found,
        complete: !incomplete,
    })
}

#[derive(Serialize)]
struct ModuleRow<'a> {
    /// What the guest gives as its address: where its code starts, or its header.
    va: Hex,
    /// Bytes that it takes in all.
    len: u64,
    name: &'a str,
    path: Option<&'a str>,
    /// Its lowest address.
    start: Hex,
    /// Bytes from its lowest to its highest address; there may be gaps, and others within them.
    span: u64,
}

impl<'a> ModuleRow<'a> {
    fn new(module: &'a Module) -> Self {
        Self {
            va: Hex(module.base.0),
            len: module.size,
            name: &module.name,
            path: module.path.as_deref(),
            start: Hex(module.range.start().0),
            span: module.range.len(),
        }
    }
}

impl Row for ModuleRow<'_> {
    const COLUMNS: &'static [Column] = &[
        Column::right("va"),
        Column::right("len"),
        Column::left("name"),
        Column::left("path"),
        Column::hidden("start"),
        Column::hidden("span"),
    ];

    fn view(&self) -> View {
        View::Cells(vec![
            Cell::new(format!("{:#x}", self.va.0)).strong(),
            Cell::new(size::exact(self.len)),
            Cell::new(self.name),
            Cell::new(self.path.unwrap_or_default()),
        ])
    }
}
