//! `vmie ps`: the processes of the guest.
//!
//! Rows are what the guest's own records say; what does not add up among them (a loop, a process that
//! one list has and another lacks) goes to standard error as warnings.

use clap::Args;
use vmie::views::{self, Order, ProcessView};
use vmie_rows::{Hex, ProcessRow};

use crate::args::{MoreArgs, SourceArgs, several};
use crate::exit::{Done, Failure, Result};
use crate::guest::tell_findings;
use crate::options::Options;
use crate::output::{Cell, Row, SpaceKind};
use crate::source::Source;

#[derive(Args, Clone, Debug)]
pub(crate) struct PsArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) more: MoreArgs,

    /// Each process below its parent
    #[arg(long)]
    pub(crate) tree: bool,
}

several!(PsArgs, source);

pub(super) fn run(args: &PsArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.source, &options.reporter)?;
    let os = source.os()?;
    let listing = os.processes()?;
    let incomplete = tell_findings(&listing.findings, &options.reporter);
    let processes = &listing.items;
    if processes.is_empty() {
        return Err(Failure::new("the list of processes is empty")
            .found("a running system has at least one")
            .into());
    }
    let order = match args.tree {
        true => Order::Tree,
        false => Order::Listed,
    };
    let mut sink = options.sink::<ProcessRow<'_>>(SpaceKind::Virtual);
    for view in views::processes(os.guest(), processes, order) {
        if sink.row(&row(view))?.is_break() {
            break;
        }
    }
    sink.finish(None)?;
    Ok(Done {
        found: true,
        complete: !incomplete,
    })
}

fn row(view: ProcessView<'_>) -> ProcessRow<'_> {
    let process = view.process;
    ProcessRow {
        pid: process.pid,
        ppid: process.ppid,
        uid: process.uid(),
        euid: process.euid(),
        name: &process.name,
        cr3: process.root.map(|root| Hex(root.0)),
        user_cr3: process.user_root.map(|root| Hex(root.0)),
        state: process.state.letter(),
        threads: process.threads,
        started: process.started.map(|started| started.as_secs_f64()),
        kernel: process.kernel,
        cmdline: view.cmdline,
        task: Hex(process.object.0),
        depth: view.depth,
    }
}

/// The command line for people; short names in brackets where there is none, as `ps` does.
fn command(row: &ProcessRow<'_>) -> String {
    match &row.cmdline {
        // A title that a process gave itself ends in what it did not need of its arguments.
        Some(arguments) if !arguments.is_empty() => arguments.join(" ").trim_end().to_owned(),
        _ => format!("[{}]", row.name),
    }
}

impl Row for ProcessRow<'_> {
    fn cell(&self, key: &str) -> Option<Cell> {
        /// A doctored list can nest as deep as it is long.
        const MAX_INDENT: usize = 32;
        let text = match key {
            "started" => format!("{:.2}", self.started?),
            "name" => {
                let depth = self.depth.unwrap_or(0) as usize;
                format!("{}{}", "  ".repeat(MAX_INDENT.min(depth)), self.name)
            }
            "cmdline" => command(self),
            _ => return None,
        };
        Some(Cell::new(text))
    }
}
