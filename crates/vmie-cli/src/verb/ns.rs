//! `vmie ns`: where processes live: namespaces, control groups, containers.

use clap::Args;
use vmie::views::{self, Namespaces};
use vmie_rows::NsRow;

use crate::answer::{AnswerArgs, print};
use crate::args::several;
use crate::exit::{Done, Result};
use crate::guest::{failed, tell_findings};
use crate::options::Options;
use crate::output::Row;
use crate::source::Source;
use crate::space::narrowed;

#[derive(Args, Clone, Debug)]
pub(crate) struct NsArgs {
    #[command(flatten)]
    pub(crate) answer: AnswerArgs,

    /// Only processes that are not in all namespaces of the first process
    #[arg(long)]
    pub(crate) apart: bool,
}

several!(NsArgs as answer);

pub(super) fn run(args: &NsArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.answer.source, &options.reporter)?;
    let (os, processes) = narrowed(&source, &args.answer.narrow, &options.reporter)?;
    let listing = views::namespaces(os.guest(), processes).map_err(|error| failed(&error))?;
    let complete = !tell_findings(&listing.findings, &options.reporter);
    let items = listing.items.iter();
    let items = items.filter(|one| !args.apart || !one.own.is_empty());
    let none = "all processes are in the namespaces of the first one";
    print(options, complete, items, row, none)
}

fn row(of: &Namespaces) -> NsRow<'_> {
    NsRow {
        pid: of.pid,
        process: &of.process,
        inner_pids: &of.inner_pids,
        cgroup: of.cgroup,
        ipc: of.ipc,
        mnt: of.mnt,
        net: of.net,
        pid_ns: of.pid_ns,
        pid_for_children: of.pid_for_children,
        time: of.time,
        user: of.user,
        uts: of.uts,
        own: &of.own,
        host: of.host.as_deref(),
        control_group: of.control_group.as_deref(),
        container: of.container.as_deref(),
    }
}

impl Row for NsRow<'_> {}
