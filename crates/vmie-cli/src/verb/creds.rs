//! `vmie creds`: what processes may do.

use vmie::views::{self, Credentials, Seccomp};
use vmie_rows::{CredsRow, Hex};

use crate::answer::{AnswerArgs, print};
use crate::exit::{Done, Result};
use crate::guest::{failed, tell_findings};
use crate::options::Options;
use crate::output::{Cell, Row};
use crate::source::Source;
use crate::space::narrowed;

pub(super) fn run(args: &AnswerArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.source, &options.reporter)?;
    let (os, processes) = narrowed(&source, &args.narrow, &options.reporter)?;
    // Records are shared with processes that were not asked for, too.
    let all = &os.processes()?.items;
    let listing = views::credentials(os.guest(), all).map_err(|error| failed(&error))?;
    let complete = !tell_findings(&listing.findings, &options.reporter);
    let wanted = |pid| processes.iter().any(|process| process.pid == pid);
    let items = listing.items.iter().filter(|one| wanted(one.pid));
    print(
        options,
        complete,
        items,
        row,
        "no record of rights could be read",
    )
}

fn row(of: &Credentials) -> CredsRow<'_> {
    CredsRow {
        pid: of.pid,
        process: &of.process,
        uid: of.users.real,
        euid: of.users.effective,
        suid: of.users.saved,
        fsuid: of.users.files,
        gid: of.groups.real,
        egid: of.groups.effective,
        sgid: of.groups.saved,
        fsgid: of.groups.files,
        groups: of.others.clone(),
        effective: of.effective.names(),
        permitted: of.permitted.names(),
        inheritable: of.inheritable.names(),
        bounding: of.bounding.names(),
        ambient: of.ambient.names(),
        seccomp: of.seccomp.map(seccomp),
        seccomp_filters: of.seccomp_filters,
        no_new_privs: of.no_new_privs,
        securebits: of.securebits,
        label: of.label.as_deref(),
        user_ns: of.user_ns,
        overridden: of.overridden,
        shared_with: &of.shared_with,
        cred: Hex(of.object.0),
    }
}

fn seccomp(mode: Seccomp) -> String {
    match mode {
        Seccomp::Disabled => "disabled".into(),
        Seccomp::Strict => "strict".into(),
        Seccomp::Filter => "filter".into(),
        Seccomp::Other(mode) => mode.to_string(),
        other => format!("{other:?}").to_lowercase(),
    }
}

impl Row for CredsRow<'_> {
    fn cell(&self, key: &str) -> Option<Cell> {
        /// More names than this say less than their number.
        const NAMES: usize = 4;
        let text = match key {
            // Whoever has all that can be had, or none of it, is told at a glance.
            "effective" if self.effective.is_empty() => "none".into(),
            "effective" if self.effective.len() >= 36 && self.effective == self.bounding => {
                "all".into()
            }
            "effective" if self.effective.len() > NAMES => {
                let more = self.effective.len() - NAMES;
                format!("{} and {more} more", self.effective[..NAMES].join(" "))
            }
            "shared_with" if self.shared_with.len() > NAMES => {
                format!("{} processes", self.shared_with.len())
            }
            _ => return None,
        };
        Some(Cell::new(text))
    }
}
