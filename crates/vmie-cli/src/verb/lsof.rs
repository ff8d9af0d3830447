//! `vmie lsof`: what processes hold open.

use clap::Args;
use vmie::views::{self, OpenFile};
use vmie_rows::{Hex, LsofRow, guest_text};

use crate::answer::{AnswerArgs, print};
use crate::args::several;
use crate::exit::{Done, Result};
use crate::guest::{failed, tell_findings};
use crate::options::Options;
use crate::output::Row;
use crate::source::Source;
use crate::space::narrowed;

#[derive(Args, Clone, Debug)]
pub(crate) struct LsofArgs {
    #[command(flatten)]
    pub(crate) answer: AnswerArgs,

    /// Only files that no directory has any more
    #[arg(long)]
    pub(crate) deleted: bool,
}

several!(LsofArgs as answer);

pub(super) fn run(args: &LsofArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.answer.source, &options.reporter)?;
    let (os, processes) = narrowed(&source, &args.answer.narrow, &options.reporter)?;
    let listing = views::open_files(os.guest(), processes).map_err(|error| failed(&error))?;
    let complete = !tell_findings(&listing.findings, &options.reporter);
    let items = listing.items.iter();
    let items = items.filter(|file| !args.deleted || file.deleted);
    let none = match args.deleted {
        true => "no deleted file is held open",
        false => "nothing is held open",
    };
    print(options, complete, items, row, none)
}

fn row(of: &OpenFile) -> LsofRow<'_> {
    let path = of.path.as_deref().map(guest_text);
    let (path, path_bytes) = path.map_or((None, None), |(text, bytes)| (Some(text), bytes));
    LsofRow {
        pid: of.pid,
        process: &of.process,
        tid: of.tid,
        fd: of.fd,
        kind: &of.kind,
        path,
        path_bytes,
        flags: of.flag_names(),
        position: of.position,
        size: of.size,
        inode: of.inode,
        device: of.device.map(|(major, minor)| format!("{major}:{minor}")),
        deleted: of.deleted,
        detached: of.detached,
        file: Hex(of.object.0),
    }
}

impl Row for LsofRow<'_> {}
