//! `vmie maps --vmas`: what a process has arranged to be mapped, whether pages are there or not.
//!
//! The rows are the lines of the guest's own `/proc/PID/maps`, with how much of each the page tables
//! map at this moment.

use serde::Serialize;
use vmie::os::{Residency, Vma};
use vmie::{AddrRange, Coverage, Gva, Prot};

use super::absent_cell;
use super::residency::{self, Counted, bounded};
use crate::args::MapsArgs;
use crate::exit::{Done, Failure, Result};
use crate::guest::{self, tell_findings};
use crate::options::Options;
use crate::output::{Cell, Column, Hex, ProtText, Row, SpaceKind, Totals, View};
use crate::report::Words;
use crate::size;
use crate::space::{Space, Target};

pub(super) fn run(args: &MapsArgs, options: &Options, space: &Space<'_>) -> Result<Done> {
    let (Target::Virtual(memory), Some((os, process))) = (&space.target, space.names.process())
    else {
        return Err(Failure::new("--vmas lists what a process has arranged")
            .hint("--pid N or --process NAME")
            .into());
    };
    let listing = os.guest().vmas(process);
    let listing = listing.map_err(|error| guest::failed(&error))?;
    let incomplete = tell_findings(&listing.findings, &options.reporter);
    let typed = args.filter.range.as_ref();
    let range = typed.map_or(Ok(AddrRange::all()), |range| {
        range.resolve(&|name| space.lookup(name))
    })?;
    let perm = args.filter.perm.unwrap_or(Prot::NONE);
    let bounded = bounded(memory);
    let mut residency = residency::Residency::new(&bounded, AddrRange::all());
    let mut coverage = Coverage::default();
    let mut sink = options.sink("maps", SpaceKind::Virtual);
    for vma in &listing.items {
        // User mode may reach all of it, whatever the pages of the moment allow.
        let prot = vma.prot.union(Prot::USER);
        if vma.range.intersect(range).is_none() || !prot.contains(perm) {
            continue;
        }
        let counted = residency.within(vma.range, &mut coverage);
        let pages = os.guest().residency(process, vma.range).ok();
        if sink.row(&VmaRow::new(vma, counted, pages))?.is_break() {
            break;
        }
    }
    let found = sink.rows() > 0;
    sink.finish::<VmaRow<'_>>(Some(&Totals::from(&coverage)))?;
    options.reporter.coverage(&coverage, Words::LIST);
    Ok(Done {
        found,
        complete: !incomplete,
    })
}

#[derive(Serialize)]
struct VmaRow<'a> {
    va: Hex,
    len: u64,
    /// What it was arranged for, which page tables need not grant yet.
    prot: ProtText,
    user: bool,
    shared: bool,
    /// Bytes that the page tables have a frame for, those that the process may not touch included.
    mapped: u64,
    /// Of these, bytes that the image does not hold.
    absent: u64,
    /// Bytes that the guest has swapped out; null where that is not known.
    swapped: Option<u64>,
    /// Of these, bytes that are in memory all the same, compressed.
    compressed: Option<u64>,
    /// Bytes in memory that the process may not touch now.
    forbidden: Option<u64>,
    /// Bytes that are nowhere: never touched, or to be read from the file.
    empty: Option<u64>,
    /// Where in its file it starts; null where it has none.
    offset: Option<Hex>,
    /// Major and minor number of the file's device.
    device: Option<String>,
    inode: Option<u64>,
    name: Option<&'a str>,
    #[serde(skip)]
    range: AddrRange<Gva>,
}

impl<'a> VmaRow<'a> {
    fn new(vma: &'a Vma, counted: Counted, pages: Option<Residency>) -> Self {
        let file = vma.file.as_ref();
        Self {
            va: Hex(vma.range.start().0),
            len: vma.range.len(),
            prot: ProtText(vma.prot),
            user: true,
            shared: vma.shared,
            mapped: counted.mapped,
            absent: counted.absent,
            swapped: pages.map(|pages| pages.swapped),
            compressed: pages.map(|pages| pages.compressed),
            forbidden: pages.map(|pages| pages.forbidden),
            empty: pages.map(|pages| pages.empty),
            offset: file.map(|file| Hex(file.offset)),
            device: file.map(|file| format!("{:02x}:{:02x}", file.device.0, file.device.1)),
            inode: file.map(|file| file.inode),
            name: vma.name.as_deref(),
            range: vma.range,
        }
    }
}

impl Row for VmaRow<'_> {
    const COLUMNS: &'static [Column] = &[
        Column::right("va"),
        Column::table_only("end"),
        Column::right("len"),
        Column::left("prot"),
        Column::hidden("user"),
        Column::left("shared"),
        Column::right("mapped"),
        Column::right("absent"),
        Column::right("swapped"),
        Column::hidden("compressed"),
        Column::hidden("forbidden"),
        Column::hidden("empty"),
        Column::right("offset"),
        Column::hidden("device"),
        Column::hidden("inode"),
        Column::left("name"),
    ];

    fn view(&self) -> View {
        View::Cells(vec![
            Cell::new(format!("{:#x}", self.va.0)).strong(),
            Cell::new(format!("{:#x}", u128::from(self.range.last().0) + 1)),
            Cell::new(size::exact(self.len)),
            Cell::new(self.prot.0.to_string()),
            Cell::new(if self.shared { "shared" } else { "" }),
            bytes_cell(self.mapped),
            absent_cell(Some(self.absent)),
            bytes_cell(self.swapped.unwrap_or(0)),
            Cell::new(
                self.offset
                    .map_or_else(String::new, |offset| format!("{:#x}", offset.0)),
            ),
            Cell::new(self.name.unwrap_or_default()),
        ])
    }
}

fn bytes_cell(bytes: u64) -> Cell {
    Cell::new(match bytes {
        0 => String::new(),
        bytes => size::exact(bytes),
    })
}
