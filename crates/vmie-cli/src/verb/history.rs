//! `vmie history`: what was typed into shells.

use clap::Args;
use vmie::scan::Run;
use vmie::views::{self, Command};
use vmie_rows::{Hex, HistoryLineRow, guest_text};

use crate::args::{MoreArgs, NarrowArgs, SourceArgs, several};
use crate::exit::{Done, Result};
use crate::guest::{failed, tell_findings};
use crate::interrupt;
use crate::options::Options;
use crate::output::{Row, SpaceKind};
use crate::saved::when;
use crate::source::Source;
use crate::space::narrowed;

#[derive(Args, Clone, Debug)]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) more: MoreArgs,
    #[command(flatten)]
    pub(crate) narrow: NarrowArgs,

    /// Commands too that are in memory, and in the list of no shell any more
    #[arg(long)]
    pub(crate) all: bool,
}

several!(HistoryArgs, source);

pub(super) fn run(args: &HistoryArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.source, &options.reporter)?;
    let (os, processes) = narrowed(&source, &args.narrow, &options.reporter)?;
    let run = Run::new()
        .threads(options.threads)
        .cancel(interrupt::flag());
    let listing = views::history(os.guest(), processes, run).map_err(|error| failed(&error))?;
    let complete = !tell_findings(&listing.findings, &options.reporter);
    let mut sink = options.sink::<HistoryLineRow<'_>>(SpaceKind::Virtual);
    for command in &listing.items {
        if !args.all && !command.listed {
            continue;
        }
        if sink.row(&row(command))?.is_break() {
            break;
        }
    }
    let found = sink.rows() > 0;
    if !found {
        options
            .reporter
            .note("no process has the history of a shell in memory");
    }
    sink.finish(None)?;
    Ok(Done { found, complete })
}

fn row(of: &Command) -> HistoryLineRow<'_> {
    let (command, command_bytes) = guest_text(&of.line);
    HistoryLineRow {
        pid: of.pid,
        process: &of.process,
        time: when(of.time),
        command,
        command_bytes,
        listed: of.listed,
        va: Hex(of.va.0),
    }
}

impl Row for HistoryLineRow<'_> {}
