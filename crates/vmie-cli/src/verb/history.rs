//! `vmie history`: what was typed into shells.

use clap::Args;
use vmie::scan::Run;
use vmie::views::{self, Command};
use vmie_rows::{Hex, HistoryLineRow, guest_text};

use crate::answer::{AnswerArgs, print};
use crate::args::several;
use crate::exit::{Done, Result};
use crate::guest::{failed, tell_findings};
use crate::interrupt;
use crate::options::Options;
use crate::output::Row;
use crate::saved::when;
use crate::source::Source;
use crate::space::narrowed;

#[derive(Args, Clone, Debug)]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    pub(crate) answer: AnswerArgs,

    /// Commands too that are in memory, and in the list of no shell any more
    #[arg(long)]
    pub(crate) all: bool,
}

several!(HistoryArgs as answer);

pub(super) fn run(args: &HistoryArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.answer.source, &options.reporter)?;
    let (os, processes) = narrowed(&source, &args.answer.narrow, &options.reporter)?;
    let run = Run::new()
        .threads(options.threads)
        .cancel(interrupt::flag());
    let listing = views::history(os.guest(), processes, run).map_err(|error| failed(&error))?;
    let complete = !tell_findings(&listing.findings, &options.reporter);
    let items = listing.items.iter();
    let items = items.filter(|command| args.all || command.listed);
    let none = "no process has the history of a shell in memory";
    print(options, complete, items, row, none)
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
