//! `vmie maps --vmas`: what a process has arranged to be mapped, whether pages are there or not.
//!
//! The rows are the lines of the guest's own `/proc/PID/maps`, with how much of each the page tables
//! map at this moment.

use vmie::os::{Residency, Vma};
use vmie::{AddrRange, Coverage, Prot};
use vmie_rows::{Hex, VmaRow};

use super::absent_cell;
use super::args::MapsArgs;
use super::residency::{self, Counted, bounded};
use crate::exit::{Done, Failure, Result};
use crate::guest::{self, tell_findings};
use crate::options::Options;
use crate::output::{Cell, Row, SpaceKind, prot, totals};
use crate::report::Words;
use crate::size;
use crate::space::{Space, Target};

pub(super) fn run(args: &MapsArgs, options: &Options, space: &Space<'_>) -> Result<Done> {
    let (Target::Virtual(memory), Some((os, process))) = (&space.of.target, space.names.process())
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
    let mut sink = options.sink::<VmaRow<'_>>(SpaceKind::Virtual);
    for vma in &listing.items {
        // User mode may reach all of it, whatever the pages of the moment allow.
        let prot = vma.prot.union(Prot::USER);
        if vma.range.intersect(range).is_none() || !prot.contains(perm) {
            continue;
        }
        let counted = residency.within(vma.range, &mut coverage);
        let pages = os.guest().residency(process, vma.range).ok();
        if sink.row(&row(vma, counted, pages))?.is_break() {
            break;
        }
    }
    let found = sink.rows() > 0;
    sink.finish(Some(&totals(&coverage)))?;
    options.reporter.coverage(&coverage, Words::LIST);
    Ok(Done {
        found,
        complete: !incomplete,
    })
}

fn row(vma: &Vma, counted: Counted, pages: Option<Residency>) -> VmaRow<'_> {
    let file = vma.file.as_ref();
    VmaRow {
        va: Hex(vma.range.start().0),
        // The end of the address space is no address.
        end: format!("{:#x}", u128::from(vma.range.last().0) + 1),
        len: vma.range.len(),
        prot: prot(vma.prot),
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
    }
}

impl Row for VmaRow<'_> {
    fn cell(&self, key: &str) -> Option<Cell> {
        match key {
            "shared" => Some(Cell::new(if self.shared { "shared" } else { "" })),
            "mapped" => Some(bytes_cell(self.mapped)),
            "absent" => Some(absent_cell(Some(self.absent))),
            "swapped" => Some(bytes_cell(self.swapped.unwrap_or(0))),
            _ => None,
        }
    }
}

fn bytes_cell(bytes: u64) -> Cell {
    Cell::new(match bytes {
        0 => String::new(),
        bytes => size::exact(bytes),
    })
}
