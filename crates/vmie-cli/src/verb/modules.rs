//! `vmie modules`: the kernel's modules, or the program and libraries of a process.

use std::ops::ControlFlow;

use clap::Args;
use vmie::os::Module;
use vmie::views;
use vmie_rows::{Hex, ModuleRow, Owner};

use crate::args::{AllArgs, MoreArgs, OwnerArgs, SourceArgs, several};
use crate::exit::{Done, Result};
use crate::guest::{everyone, failed, owner, tell_findings, title};
use crate::options::Options;
use crate::output::{Row, Sink, SpaceKind};
use crate::source::Source;
use crate::space::select_process;

#[derive(Args, Clone, Debug)]
pub(crate) struct ModulesArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) more: MoreArgs,
    #[command(flatten)]
    pub(crate) owner: OwnerArgs,
    #[command(flatten)]
    pub(crate) all: AllArgs,
}

several!(ModulesArgs, source);

pub(super) fn run(args: &ModulesArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.source, &options.reporter)?;
    let os = source.os()?;
    let sink = options.sink::<ModuleRow<'_>>(SpaceKind::Virtual);
    let mut sink = sink.many(args.all.all_processes);
    let mut complete = true;
    if args.all.all_processes {
        for process in everyone(os, args.owner.kernel, &options.reporter)? {
            let listing = match views::modules(os.guest(), process) {
                Ok(listing) => listing,
                Err(error) => {
                    complete = false;
                    let whose = title(process);
                    options
                        .reporter
                        .warn(&format!("the images of {whose} were not listed: {error}"));
                    continue;
                }
            };
            complete &= !tell_findings(&listing.findings, &options.reporter);
            let owner = owner(process);
            let rows = listing.items.iter();
            if list(&mut sink, rows, Some(&owner))?.is_break() {
                break;
            }
        }
    } else {
        let process = select_process(&source, &args.owner, &options.reporter)?;
        let listing = views::modules(os.guest(), process.map(|(_, process)| process));
        let listing = listing.map_err(|error| failed(&error))?;
        complete &= !tell_findings(&listing.findings, &options.reporter);
        let _ = list(&mut sink, listing.items.iter(), None)?;
    }
    let found = sink.rows() > 0;
    if !found {
        options.reporter.note("no images are loaded");
    }
    sink.finish(None)?;
    Ok(Done { found, complete })
}

fn list<'m>(
    sink: &mut Sink<'_>,
    modules: impl Iterator<Item = &'m Module>,
    owner: Option<&Owner>,
) -> Result<ControlFlow<()>> {
    for module in modules {
        if sink.row(&row(module, owner.cloned()))?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn row(module: &Module, owner: Option<Owner>) -> ModuleRow<'_> {
    ModuleRow {
        owner,
        va: Hex(module.base.0),
        len: module.size,
        name: &module.name,
        path: module.path.as_deref(),
        start: Hex(module.range.start().0),
        span: module.range.len(),
    }
}

impl Row for ModuleRow<'_> {}
