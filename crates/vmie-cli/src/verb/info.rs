//! `vmie info`: what an image is.

use std::fmt::Write as _;

use clap::Args;
use vmie::paging::Mode;
use vmie::snapshot::Snapshot;
use vmie::{AddrRange, Address, Coverage, CpuState, Gpa, Gva, SpanKind};
use vmie_rows::{Cpu, Field, Hex, InfoRow, Os, PhysicalRange, SnapshotInfo};

use crate::advice;
use crate::args::{MoreArgs, SourceArgs, perm_letters, several};
use crate::escape;
use crate::exit::{Done, Failure, Result};
use crate::guest::tell_findings;
use crate::options::Options;
use crate::output::{Row, SpaceKind, View, totals};
use crate::report::Words;
use crate::saved;
use crate::size;
use crate::source::{Info, Source};

#[derive(Args, Clone, Debug)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) more: MoreArgs,
}

several!(InfoArgs, source);

pub(super) fn run(args: &InfoArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.source, &options.reporter)?;
    if let Some(snapshot) = source.saved() {
        return of_snapshot(&source, snapshot, options);
    }
    // Of a raw image the system knows how it is laid out.
    let system = source.try_os();
    let coverage = declared(&source);
    if coverage.read == 0 {
        return Err(Failure::new(format!(
            "{} holds no byte of guest memory",
            source.path().display()
        ))
        .found(format!(
            "{} declared, none of it in the file",
            size::approx(coverage.mapped)
        ))
        .hint("a complete copy of the image")
        .into());
    }
    let mut sink = options.sink::<InfoRow>(SpaceKind::Virtual);
    let mut row = self::row(source.info());
    let mut damaged = false;
    match system {
        Ok(os) => {
            row.os = Some(Os {
                kind: os.guest().kind().to_string(),
                version: os.guest().version().to_owned(),
            });
            for step in os.guest().steps() {
                options.reporter.detail(&step.to_string());
            }
            for other in os.guest().other_kernels() {
                let kernel = format!(
                    "memory has another kernel, {}: --kernel-at {}, to look into that one",
                    other.version, other.root
                );
                options.reporter.warn(&escape::plain(&kernel));
                row.notes.push(kernel);
            }
            damaged = tell_findings(&os.guest().findings(), &options.reporter);
        }
        Err(error) => options.reporter.detail(&error.to_string()),
    }
    let _ = sink.row(&row)?;
    sink.finish(Some(&totals(&coverage)))?;
    if coverage.absent > 0 {
        options.reporter.coverage(&coverage, Words::IMAGE);
    }
    Ok(Done {
        found: true,
        complete: coverage.is_complete() && !damaged,
    })
}

/// A moment of one address space has neither frames nor an operating system.
fn of_snapshot(source: &Source, snapshot: &Snapshot<Gva>, options: &Options) -> Result<Done> {
    let coverage = snapshot.coverage();
    let mut sink = options.sink::<InfoRow>(SpaceKind::Virtual);
    let mut row = self::row(source.info());
    row.snapshot = Some(snapshot_info(snapshot));
    let _ = sink.row(&row)?;
    sink.finish(Some(&totals(coverage)))?;
    options.reporter.coverage(coverage, Words::READ);
    Ok(Done {
        found: true,
        complete: coverage.is_complete(),
    })
}

/// The memory that the image declares, against what is in the file.
fn declared(source: &Source) -> Coverage<Gpa> {
    let mut coverage = Coverage::default();
    for span in source.memory().spans(AddrRange::all()) {
        match span.kind {
            SpanKind::Mapped(_) => coverage.add_read(span.len),
            SpanKind::Lost(cause) | SpanKind::Away(_, cause) => {
                coverage.add_gap(span.start, span.len, cause);
            }
        }
    }
    coverage
}

fn cpu(cpu: &CpuState) -> Cpu {
    Cpu {
        index: cpu.index,
        cr3: Hex(cpu.cr3),
        paging: Mode::from_cpu(cpu).map(Mode::name),
        cr0: Hex(cpu.cr0),
        cr4: Hex(cpu.cr4),
        efer: cpu.efer.map(Hex),
        rip: Hex(cpu.rip),
        rsp: Hex(cpu.rsp),
    }
}

fn snapshot_info<A: Address>(snapshot: &Snapshot<A>) -> SnapshotInfo {
    let coverage = snapshot.coverage();
    SnapshotInfo {
        of: saved::of(snapshot.origin()),
        taken: saved::when(snapshot.taken()),
        took_ms: u64::try_from(snapshot.took().as_millis()).unwrap_or(u64::MAX),
        va: Hex(snapshot.range().start().raw()),
        last: Hex(snapshot.range().last().raw()),
        perm: perm_letters(snapshot.filter().all),
        regions: snapshot.kept().count() as u64,
        mapped: coverage.mapped,
        read: coverage.read,
        absent: coverage.absent,
        pages: snapshot.stored_pages(),
    }
}

fn row(info: &Info) -> InfoRow {
    let range = |range: &AddrRange<Gpa>| PhysicalRange {
        gpa: Hex(range.start().0),
        len: range.len(),
    };
    InfoRow {
        format: info.format.clone(),
        size: info.size,
        ranges: info.ranges.iter().map(range).collect(),
        layout: info.layout.as_ref().map(|known| known.layout.to_string()),
        layout_why: info.layout.as_ref().map(|known| known.known.to_string()),
        cpus: info.hints.cpus.iter().map(cpu).collect(),
        os: None,
        snapshot: None,
        live: info.live,
        notes: info
            .notes
            .iter()
            .map(|note| advice::worded(note.clone(), &info.advice))
            .collect(),
    }
}

impl Row for InfoRow {
    fn view(&self, _columns: &[&'static Field]) -> View {
        let mut text = String::new();
        let mut line = |label: &str, value: &str| {
            let _ = writeln!(text, "{label:<8}{value}");
        };
        line("format", &self.format);
        line(
            "size",
            &format!("{} ({} bytes)", size::approx(self.size), self.size),
        );
        if let Some(moment) = &self.snapshot {
            line("of", &escape::plain(&moment.of));
            line(
                "taken",
                &format!("{}, in {} ms", moment.taken, moment.took_ms),
            );
            line(
                "range",
                &format!("{:#x}..={:#x}", moment.va.0, moment.last.0),
            );
            if !moment.perm.is_empty() {
                line("perm", &moment.perm);
            }
            line(
                "kept",
                &format!(
                    "{} regions, {} of {} mapped, {} distinct pages",
                    moment.regions,
                    size::approx(moment.read),
                    size::approx(moment.mapped),
                    moment.pages
                ),
            );
        }
        let total = self
            .ranges
            .iter()
            .fold(0_u64, |sum, range| sum.saturating_add(range.len));
        line("memory", &size::approx(total));
        for (index, range) in self.ranges.iter().enumerate() {
            line(
                if index == 0 { "ranges" } else { "" },
                &format!(
                    "{:#x}..{:#x}  {}",
                    range.gpa.0,
                    u128::from(range.gpa.0) + u128::from(range.len),
                    size::exact(range.len)
                ),
            );
        }
        if let (Some(layout), Some(why)) = (&self.layout, &self.layout_why) {
            line("layout", &format!("{layout}  {why}"));
        }
        if self.cpus.is_empty() {
            line("cpus", "not recorded");
        }
        for (index, cpu) in self.cpus.iter().enumerate() {
            line(
                if index == 0 { "cpus" } else { "" },
                &format!(
                    "{}: cr3 {:#x}, paging {}",
                    cpu.index,
                    cpu.cr3.0,
                    cpu.paging.unwrap_or("off or not recorded")
                ),
            );
            let efer = cpu
                .efer
                .map_or_else(String::new, |efer| format!(", efer {:#x}", efer.0));
            line(
                "",
                &format!(
                    "   cr0 {:#x}, cr4 {:#x}{efer}, rip {:#x}, rsp {:#x}",
                    cpu.cr0.0, cpu.cr4.0, cpu.rip.0, cpu.rsp.0
                ),
            );
        }
        match &self.os {
            Some(os) => line(
                "os",
                &format!("{} {}", escape::plain(&os.kind), escape::plain(&os.version)),
            ),
            None => line("os", "not determined"),
        }
        if self.live {
            let why = match self.format.as_str() {
                "qemu" => "yes: a running guest",
                _ => "yes: another process may change the file",
            };
            line("live", why);
        }
        for note in &self.notes {
            line("note", &escape::plain(note));
        }
        View::Text(text)
    }
}
