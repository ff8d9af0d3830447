//! `vmie modules`: the kernel's modules, or the program and libraries of a process.

use clap::Args;
use vmie::os::Module;
use vmie::views;
use vmie_rows::{Hex, ModuleRow};

use crate::args::{OwnerArgs, SourceArgs};
use crate::exit::{Done, Result};
use crate::guest::{failed, tell_findings};
use crate::options::Options;
use crate::output::{Row, SpaceKind};
use crate::source::Source;
use crate::space::select_process;

#[derive(Args, Debug)]
pub(crate) struct ModulesArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) owner: OwnerArgs,
}

pub(super) fn run(args: &ModulesArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.source, &options.reporter)?;
    let os = source.os()?;
    let process = select_process(&source, &args.owner, &options.reporter)?;
    let listing = views::modules(os.guest(), process.map(|(_, process)| process));
    let listing = listing.map_err(|error| failed(&error))?;
    let incomplete = tell_findings(&listing.findings, &options.reporter);
    let mut sink = options.sink::<ModuleRow<'_>>(SpaceKind::Virtual);
    for module in &listing.items {
        if sink.row(&row(module))?.is_break() {
            break;
        }
    }
    let found = sink.rows() > 0;
    sink.finish(None)?;
    Ok(Done {
        found,
        complete: !incomplete,
    })
}

fn row(module: &Module) -> ModuleRow<'_> {
    ModuleRow {
        va: Hex(module.base.0),
        len: module.size,
        name: &module.name,
        path: module.path.as_deref(),
        start: Hex(module.range.start().0),
        span: module.range.len(),
    }
}

impl Row for ModuleRow<'_> {}
