//! `vmie env`: what processes were given at their start.

use vmie::os::{OsError, Process};
use vmie::views::{self, Variable};
use vmie_rows::{EnvRow, Hex, guest_text};

use crate::answer::AnswerArgs;
use crate::exit::{Done, Result};
use crate::guest::{failed, tell_findings, title};
use crate::options::Options;
use crate::output::{Row, SpaceKind};
use crate::source::Source;
use crate::space::narrowed;

pub(super) fn run(args: &AnswerArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.source, &options.reporter)?;
    let (os, processes) = narrowed(&source, &args.narrow, &options.reporter)?;
    let mut sink = options.sink::<EnvRow<'_>>(SpaceKind::Virtual);
    let mut complete = true;
    'all: for process in processes {
        let listing = match views::environment(os.guest(), process) {
            Ok(listing) => listing,
            // Kernel threads and what has exited have none, which is worth a word only where one was asked for.
            Err(OsError::NoMemory { .. }) if processes.len() > 1 => continue,
            Err(error) if processes.len() == 1 => return Err(failed(&error).into()),
            Err(error) => {
                complete = false;
                let whose = title(Some(process));
                let text = format!("the environment of {whose} was not read: {error}");
                options.reporter.warn(&text);
                continue;
            }
        };
        complete &= !tell_findings(&listing.findings, &options.reporter);
        for variable in &listing.items {
            if sink.row(&row(process, variable))?.is_break() {
                break 'all;
            }
        }
    }
    let found = sink.rows() > 0;
    if !found {
        options.reporter.note("no environment has anything in it");
    }
    sink.finish(None)?;
    Ok(Done { found, complete })
}

fn row<'v>(process: &'v Process, variable: &Variable) -> EnvRow<'v> {
    let name = variable.name.as_deref().map(guest_text);
    let (name, name_bytes) = name.map_or((None, None), |(text, bytes)| (Some(text), bytes));
    let (all, all_bytes) = guest_text(&variable.value);
    let mut row = EnvRow {
        pid: process.pid,
        process: &process.name,
        name,
        name_bytes,
        value: None,
        value_bytes: None,
        text: None,
        text_bytes: None,
        va: Hex(variable.va.0),
    };
    match row.name {
        Some(_) => (row.value, row.value_bytes) = (Some(all), all_bytes),
        None => (row.text, row.text_bytes) = (Some(all), all_bytes),
    }
    row
}

impl Row for EnvRow<'_> {}
