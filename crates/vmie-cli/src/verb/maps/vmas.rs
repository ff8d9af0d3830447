//! `vmie maps --vmas`: what a process has arranged to be mapped, whether pages are there or not.
//!
//! The rows are the lines of the guest's own `/proc/PID/maps`, with how much of each the page tables
//! map at this moment.

use vmie::os::{Residency, Vma};
use vmie::{AddrRange, AddressSpace, Gva, Prot};
use vmie_rows::{Hex, Owner, VmaRow};

use super::args::MapsArgs;
use super::residency::{self, Counted, bounded};
use super::{List, absent_cell};
use crate::exit::{Done, Failure, Result};
use crate::guest::{self, tell_findings};
use crate::options::Options;
use crate::output::{Cell, Row, SpaceKind, prot};
use crate::size;
use crate::space::{Space, Target};

pub(super) fn run(args: &MapsArgs, options: &Options, space: &Space<'_>) -> Result<Done> {
    let (Target::Virtual(memory), Some(_)) = (&space.of.target, space.names.process()) else {
        return Err(Failure::new("--vmas lists what a process has arranged")
            .hint("--pid N or --process NAME")
            .into());
    };
    let sink = options.sink::<VmaRow<'_>>(SpaceKind::Virtual);
    let mut list = List::new(args, space, options, sink)?;
    if args.filter.range.is_none() {
        list.range = AddrRange::all();
    }
    let complete = self::list(&mut list, space, memory)?;
    list.finish(complete)
}

/// Lists what a process has arranged; whether the list is whole.
pub(super) fn list(
    list: &mut List<'_, Gva>,
    space: &Space<'_>,
    memory: &AddressSpace,
) -> Result<bool> {
    let Some((os, process)) = space.names.process() else {
        return Ok(true);
    };
    let listing = os.guest().vmas(process);
    let listing = listing.map_err(|error| guest::failed(&error))?;
    let incomplete = tell_findings(&listing.findings, &list.options.reporter);
    let bounded = bounded(memory);
    let mut residency = residency::Residency::new(&bounded, AddrRange::all());
    for vma in &listing.items {
        // User mode may reach all of it, whatever the pages of the moment allow.
        let prot = vma.prot.union(Prot::USER);
        if vma.range.intersect(list.range).is_none() || !prot.contains(list.perm) {
            continue;
        }
        let counted = residency.within(vma.range, &mut list.coverage);
        let pages = os.guest().residency(process, vma.range).ok();
        let row = row(vma, counted, pages, list.owner.clone());
        if list.sink.row(&row)?.is_break() {
            break;
        }
    }
    Ok(!incomplete)
}

fn row(vma: &Vma, counted: Counted, pages: Option<Residency>, owner: Option<Owner>) -> VmaRow<'_> {
    let file = vma.file.as_ref();
    VmaRow {
        owner,
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
