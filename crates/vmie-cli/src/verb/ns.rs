//! `vmie ns`: where processes live: namespaces, control groups, containers.

use clap::Args;
use vmie::views::{self, Namespaces};
use vmie_rows::NsRow;

use crate::args::{MoreArgs, NarrowArgs, SourceArgs, several};
use crate::exit::{Done, Result};
use crate::guest::{failed, tell_findings};
use crate::options::Options;
use crate::output::{Row, SpaceKind};
use crate::source::Source;
use crate::space::narrowed;

#[derive(Args, Clone, Debug)]
pub(crate) struct NsArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) more: MoreArgs,
    #[command(flatten)]
    pub(crate) narrow: NarrowArgs,

    /// Only processes that are not in all namespaces of the first process
    #[arg(long)]
    pub(crate) apart: bool,
}

several!(NsArgs, source);

pub(super) fn run(args: &NsArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.source, &options.reporter)?;
    let (os, processes) = narrowed(&source, &args.narrow, &options.reporter)?;
    let listing = views::namespaces(os.guest(), processes).map_err(|error| failed(&error))?;
    let complete = !tell_findings(&listing.findings, &options.reporter);
    let mut sink = options.sink::<NsRow<'_>>(SpaceKind::Virtual);
    for one in &listing.items {
        if args.apart && one.own.is_empty() {
            continue;
        }
        if sink.row(&row(one))?.is_break() {
            break;
        }
    }
    let found = sink.rows() > 0;
    if !found {
        options
            .reporter
            .note("all processes are in the namespaces of the first one");
    }
    sink.finish(None)?;
    Ok(Done { found, complete })
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
