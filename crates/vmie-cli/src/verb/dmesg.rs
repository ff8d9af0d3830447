//! `vmie dmesg`: what the kernel has said.

use clap::Args;
use vmie::views::{self, Caller, Message};
use vmie_rows::{DmesgRow, guest_text};

use crate::answer::print;
use crate::args::{MoreArgs, SourceArgs, several};
use crate::exit::{Done, Result};
use crate::guest::{failed, tell_findings};
use crate::options::Options;
use crate::output::{Cell, Row};
use crate::source::Source;

/// By number (`include/linux/kern_levels.h`).
const LEVELS: [&str; 8] = [
    "emerg", "alert", "crit", "err", "warn", "notice", "info", "debug",
];

/// By number, as RFC 5424 has them.
const FACILITIES: [&str; 12] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp",
];

#[derive(Args, Clone, Debug)]
pub(crate) struct DmesgArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) more: MoreArgs,

    /// Only what is at least so grave: emerg, alert, crit, err, warn, notice, info or debug
    #[arg(long, value_name = "LEVEL", value_parser = LEVELS)]
    pub(crate) level: Option<String>,
}

several!(DmesgArgs, source);

pub(super) fn run(args: &DmesgArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.source, &options.reporter)?;
    let os = source.os()?;
    let log = views::messages(os.guest()).map_err(|error| failed(&error))?;
    let complete = !tell_findings(&log.findings, &options.reporter);
    if log.overwritten > 0 {
        let text = format!("{} messages before these were overwritten", log.overwritten);
        options.reporter.note(&text);
    }
    let least = args.level.as_ref();
    let least = least.and_then(|level| LEVELS.iter().position(|name| name == level));
    let items = log.messages.iter();
    let items =
        items.filter(|message| least.is_none_or(|least| usize::from(message.level) <= least));
    let none = match log.messages.is_empty() {
        true => "the log is empty",
        false => "no message is so grave",
    };
    print(options, complete, items, row, none)
}

fn row(of: &Message) -> DmesgRow {
    let (text, text_bytes) = guest_text(&of.text);
    let (subsystem, device) = of.device.clone().unzip();
    DmesgRow {
        time: of.time.as_secs_f64(),
        level: LEVELS[usize::from(of.level & 7)],
        facility: match FACILITIES.get(usize::from(of.facility)) {
            Some(&name) => name.to_owned(),
            None => of.facility.to_string(),
        },
        text,
        text_bytes,
        caller: of.caller.map(|caller| match caller {
            Caller::Thread(number) => format!("T{number}"),
            Caller::Cpu(number) => format!("C{number}"),
        }),
        number: of.number,
        subsystem,
        device,
    }
}

impl Row for DmesgRow {
    fn cell(&self, key: &str) -> Option<Cell> {
        match key {
            "time" => Some(Cell::new(format!("{:.6}", self.time))),
            _ => None,
        }
    }
}
