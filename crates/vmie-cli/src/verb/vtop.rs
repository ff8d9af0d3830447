//! `vmie vtop`: translate virtual addresses, showing every page-table entry on the way.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use clap::Args;
use vmie::paging::{EntryKind, Mode, Spec};
use vmie::views::Pages;
use vmie::{AddressSpace, Cause, Coverage, Fault, Gpa, Gva};
use vmie_rows::{Hex, Step, WalkRow};

use crate::addr::AddrExpr;
use crate::args::{SourceArgs, SpaceArgs};
use crate::escape;
use crate::exit::{Done, Failure, Result};
use crate::options::Options;
use crate::output::{SpaceKind, View, prot, totals};
use crate::pages;
use crate::size;
use crate::source::Source;
use crate::space::{Space, Target};

const STRONG: Style = AnsiColor::Cyan.on_default();

#[derive(Args, Debug)]
pub(crate) struct VtopArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) space: SpaceArgs,

    /// Virtual addresses
    #[arg(value_name = "ADDR", required = true)]
    pub(crate) addrs: Vec<AddrExpr>,
}

pub(super) fn run(args: &VtopArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.source, &options.reporter)?;
    let space = Space::select(&source, &args.space, &options.reporter)?;
    if let Target::Saved(_) = space.of.target {
        return Err(crate::source::no_tables(&source, "nothing can be translated").into());
    }
    let Target::Virtual(memory) = &space.of.target else {
        return Err(Failure::new("physical addresses need no translation")
            .hint("--cr3 GPA, --pid N or --kernel instead of --phys, to translate through an address space")
            .into());
    };
    let addrs = args
        .addrs
        .iter()
        .map(|addr| addr.resolve(&space.names).map(Gva))
        .collect::<std::result::Result<Vec<_>, _>>()?;

    let mut sink = options
        .sink::<WalkRow>(SpaceKind::Virtual)
        .named(space.names.shown());
    // One byte for each address. The rows say it all, so there is no coverage line.
    let mut coverage = Coverage::default();
    let mut last_unknown = None;
    // One for all addresses: it keeps what the process has arranged.
    let process = space.names.process().filter(|_| !args.space.hardware);
    let pages = process.map(|(os, process)| Pages::new(os.guest(), process));
    for va in addrs {
        let mut walked = Walked::new(memory, va, space.names.name(va.0));
        let nowhere = |cause: Cause| cause.is_unmapped() || cause.is_away();
        if walked
            .fault
            .map_or(!walked.valid, |fault| nowhere(fault.cause))
            && let Some(is) = pages.as_ref().and_then(|pages| pages.state(va))
        {
            (walked.row.state, walked.row.detail) = (pages::state(&is), pages::detail(&is));
        }
        match (walked.fault, walked.row.gpa, walked.row.in_image) {
            // An answer, and no address.
            (Some(fault), ..) if fault.cause.is_away() => coverage.add_unmapped(va, 1, fault.cause),
            (Some(fault), ..) => {
                coverage.add_gap(va, 1, fault.cause);
                if !fault.cause.is_unmapped() {
                    last_unknown = Some(fault);
                }
            }
            (None, Some(gpa), Some(false)) => {
                coverage.add_gap(va, 1, Cause::Absent { gpa: Gpa(gpa.0) });
            }
            _ => coverage.add_read(1),
        }
        let shown = sink.row_as(&walked.row, |_| walked.view())?;
        if shown.is_break() {
            break;
        }
    }
    sink.finish(Some(&totals(&coverage)))?;

    // "Not mapped" is an answer; a table that is not in the image leaves the question open.
    if let Some(fault) = last_unknown
        && coverage.mapped + coverage.unmapped == 0
    {
        return Err(Failure::new(format!("cannot translate {}", fault.addr))
            .found(fault.cause.to_string())
            .hint("an image that holds this page table")
            .into());
    }
    Ok(Done {
        found: coverage.mapped > 0,
        complete: coverage.lost == 0,
    })
}

/// A translation, for people too.
struct Walked {
    row: WalkRow,
    /// Whether the CPU would translate it, should it be in memory.
    valid: bool,
    mode: Mode,
    fault: Option<Fault<Gva>>,
}

impl Walked {
    fn new(space: &AddressSpace, va: Gva, name: Option<String>) -> Self {
        let walk = space.walk(va);
        let mapping = walk.result.ok();
        let fault = walk.result.err();
        let step = |step: vmie::paging::Step| Step {
            level: step.level,
            gpa: Hex(step.gpa.0),
            entry: Hex(step.entry),
        };
        let row = WalkRow {
            va: Hex(va.0),
            name,
            gpa: mapping.map(|mapping| Hex(mapping.gpa.0)),
            page_size: mapping.map(|mapping| mapping.page_size),
            prot: mapping.map(|mapping| prot(mapping.prot)),
            user: mapping.map(|mapping| mapping.prot.user()),
            in_image: mapping.map(|mapping| space.phys().read(mapping.gpa, &mut [0]).is_ok()),
            cause: fault.map(|fault| fault.cause.label()),
            state: None,
            detail: None,
            steps: walk.steps.into_iter().map(step).collect(),
        };
        Self {
            row,
            valid: mapping.is_none_or(|mapping| mapping.valid),
            mode: space.mode(),
            fault,
        }
    }

    fn view(&self) -> View {
        let row = &self.row;
        let mut text = format!("{STRONG}{}{STRONG:#}", row.va);
        if let Some(name) = &row.name {
            let _ = write!(text, " <{}>", escape::plain(name));
        }
        let _ = match (&row.gpa, &row.page_size, &row.prot, &self.fault) {
            (Some(gpa), Some(page_size), Some(prot), _) => writeln!(
                text,
                " -> {STRONG}{gpa}{STRONG:#}  {} page, {prot}{}{}",
                size::exact(*page_size),
                if row.user == Some(true) { ", user" } else { "" },
                if row.in_image == Some(false) {
                    ", not in the image"
                } else {
                    ""
                }
            ),
            (.., Some(fault)) => {
                let _ = writeln!(text, " -> {}", fault.cause);
                match &row.detail {
                    Some(detail) => writeln!(text, "  {}", escape::plain(detail)),
                    None => Ok(()),
                }
            }
            _ => writeln!(text),
        };
        if let (None, Some(detail)) = (&self.fault, &row.detail) {
            let _ = writeln!(text, "  {}", escape::plain(detail));
        }
        let spec = self.mode.spec();
        let digits = spec.entry_bytes * 2 + 2;
        if !row.steps.is_empty() {
            let _ = writeln!(
                text,
                "  level  entry at            {:<digits$}  meaning",
                "entry"
            );
        }
        for step in &row.steps {
            let kind = spec
                .kind_of(step.level, step.entry.0)
                .unwrap_or(EntryKind::Empty);
            let _ = writeln!(
                text,
                "  {:<5}  {:<#18x}  {:<#digits$x}  {}",
                step.level,
                step.gpa.0,
                step.entry.0,
                meaning(spec, kind, step.entry.0)
            );
        }
        View::Text(text)
    }
}

/// An entry in words: `table, P RW US A`.
fn meaning(spec: &Spec, kind: EntryKind, entry: u64) -> String {
    let word = match kind {
        EntryKind::Empty if entry == 0 => return "empty".to_owned(),
        EntryKind::Empty => return "not present".to_owned(),
        EntryKind::Page => "page ",
        EntryKind::Table => "table",
        EntryKind::Malformed => "reserved bits set",
    };
    spec.flags_of(kind, entry)
        .fold(format!("{word} "), |text, flag| format!("{text} {flag}"))
}
