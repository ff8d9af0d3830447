//! `vmie vtop`: translate virtual addresses, showing every page-table entry on the way.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use vmie::paging::{EntryKind, Mode, Spec};
use vmie::{AddressSpace, Cause, Coverage, Fault, Gpa, Gva};

use crate::args::VtopArgs;
use crate::escape;
use crate::exit::{Done, Failure, Result};
use crate::options::Options;
use crate::output::{Column, Hex, ProtText, Row, SpaceKind, Totals, View};
use crate::saved;
use crate::size;
use crate::source::Source;
use crate::space::{Space, Target};

const STRONG: Style = AnsiColor::Cyan.on_default();

pub(super) fn run(args: &VtopArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.source, &options.reporter)?;
    let space = Space::select(&source, &args.space, &options.reporter)?;
    if let Target::Saved(_) = space.target {
        return Err(saved::no_tables(&source, "nothing can be translated").into());
    }
    let Target::Virtual(memory) = &space.target else {
        return Err(Failure::new("physical addresses need no translation")
            .hint("--cr3 GPA, --pid N or --kernel instead of --phys, to translate through an address space")
            .into());
    };
    let addrs = args
        .addrs
        .iter()
        .map(|addr| addr.resolve(&|name| space.lookup(name)).map(Gva))
        .collect::<std::result::Result<Vec<_>, _>>()?;

    let mut sink = options
        .sink("vtop", SpaceKind::Virtual)
        .named(space.names.shown());
    // One byte for each address. The rows say it all, so there is no coverage line.
    let mut coverage = Coverage::default();
    let mut last_unknown = None;
    for va in addrs {
        let mut row = WalkRow::new(memory, va, space.names.name(va.0));
        let nowhere = |cause: Cause| cause.is_unmapped() || cause.is_away();
        if row.fault.map_or(!row.valid, |fault| nowhere(fault.cause))
            && let Some((os, process)) = space.names.process()
            && !args.space.hardware
            && let Some(is) = os.whereabouts(process, va)
        {
            (row.state, row.detail) = (Some(is.state), Some(is.detail));
        }
        match (row.fault, row.gpa, row.in_image) {
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
        if sink.row(&row)?.is_break() {
            break;
        }
    }
    sink.finish::<WalkRow>(Some(&Totals::from(&coverage)))?;

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

#[derive(Serialize)]
struct StepRow {
    level: u8,
    gpa: Hex,
    entry: Hex,
}

/// One address and everything its translation looked at.
#[derive(Serialize)]
struct WalkRow {
    va: Hex,
    /// The name of the address, with a known operating system.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    gpa: Option<Hex>,
    page_size: Option<u64>,
    prot: Option<ProtText>,
    user: Option<bool>,
    /// Whether the image holds the byte; null when it is not mapped.
    in_image: Option<bool>,
    /// Why there is no translation.
    cause: Option<&'static str>,
    /// Where a page of a process is that the CPU does not see, in a word and in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    steps: Vec<StepRow>,
    /// Whether the CPU would translate it, should it be in memory.
    #[serde(skip)]
    valid: bool,
    #[serde(skip)]
    mode: Mode,
    #[serde(skip)]
    fault: Option<Fault<Gva>>,
}

impl WalkRow {
    fn new(space: &AddressSpace, va: Gva, name: Option<String>) -> Self {
        let walk = space.walk(va);
        let mapping = walk.result.ok();
        let fault = walk.result.err();
        Self {
            va: Hex(va.0),
            name,
            gpa: mapping.map(|mapping| Hex(mapping.gpa.0)),
            page_size: mapping.map(|mapping| mapping.page_size),
            prot: mapping.map(|mapping| ProtText(mapping.prot)),
            user: mapping.map(|mapping| mapping.prot.user()),
            in_image: mapping.map(|mapping| space.phys().read(mapping.gpa, &mut [0]).is_ok()),
            cause: fault.map(|fault| fault.cause.label()),
            state: None,
            detail: None,
            steps: walk
                .steps
                .into_iter()
                .map(|step| StepRow {
                    level: step.level,
                    gpa: Hex(step.gpa.0),
                    entry: Hex(step.entry),
                })
                .collect(),
            valid: mapping.is_none_or(|mapping| mapping.valid),
            mode: space.mode(),
            fault,
        }
    }
}

impl Row for WalkRow {
    const COLUMNS: &'static [Column] = &[
        Column::left("va"),
        Column::left("name").with_os(),
        Column::left("gpa"),
        Column::left("page_size"),
        Column::left("prot"),
        Column::left("user"),
        Column::left("in_image"),
        Column::left("cause"),
        Column::left("state").with_os(),
        Column::left("detail").with_os(),
        Column::left("steps"),
    ];

    fn view(&self) -> View {
        let mut text = format!("{STRONG}{:#x}{STRONG:#}", self.va.0);
        if let Some(name) = &self.name {
            let _ = write!(text, " <{}>", escape::plain(name));
        }
        let _ = match (&self.gpa, &self.page_size, &self.prot, &self.fault) {
            (Some(gpa), Some(page_size), Some(prot), _) => writeln!(
                text,
                " -> {STRONG}{:#x}{STRONG:#}  {} page, {}{}{}",
                gpa.0,
                size::exact(*page_size),
                prot.0,
                if prot.0.user() { ", user" } else { "" },
                if self.in_image == Some(false) {
                    ", not in the image"
                } else {
                    ""
                }
            ),
            (.., Some(fault)) => {
                let _ = writeln!(text, " -> {}", fault.cause);
                match &self.detail {
                    Some(detail) => writeln!(text, "  {}", escape::plain(detail)),
                    None => Ok(()),
                }
            }
            _ => writeln!(text),
        };
        if let (None, Some(detail)) = (&self.fault, &self.detail) {
            let _ = writeln!(text, "  {}", escape::plain(detail));
        }
        let spec = self.mode.spec();
        let digits = spec.entry_bytes * 2 + 2;
        if !self.steps.is_empty() {
            let _ = writeln!(
                text,
                "  level  entry at            {:<digits$}  meaning",
                "entry"
            );
        }
        for step in &self.steps {
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
