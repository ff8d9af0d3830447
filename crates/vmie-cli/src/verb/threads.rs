//! `vmie threads`: what each thread is called and doing.

use vmie::views::{self, Thread};
use vmie_rows::{Hex, ThreadRow, guest_text};

use crate::answer::{AnswerArgs, print};
use crate::exit::{Done, Result};
use crate::guest::{failed, tell_findings};
use crate::options::Options;
use crate::output::Row;
use crate::source::Source;
use crate::space::narrowed;

pub(super) fn run(args: &AnswerArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.source, &options.reporter)?;
    let (os, processes) = narrowed(&source, &args.narrow, &options.reporter)?;
    let listing = views::threads(os.guest(), processes).map_err(|error| failed(&error))?;
    let complete = !tell_findings(&listing.findings, &options.reporter);
    print(
        options,
        complete,
        &listing.items,
        row,
        "no thread could be read",
    )
}

fn row(of: &Thread) -> ThreadRow<'_> {
    let (name, name_bytes) = guest_text(&of.name);
    ThreadRow {
        pid: of.pid,
        process: &of.process,
        tid: of.tid,
        name,
        name_bytes,
        state: of.state.letter(),
        running: of.running,
        ip: of.user.map(|user| Hex(user.ip.0)),
        sp: of.user.map(|user| Hex(user.sp.0)),
        syscall: of.user.and_then(|user| user.syscall),
        stack: of.stack.map(|stack| Hex(stack.0)),
        stack_pointer: Hex(of.stack_pointer.0),
        task: Hex(of.object.0),
    }
}

impl Row for ThreadRow<'_> {}
