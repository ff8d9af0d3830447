//! `vmie maps`: the mapped regions of an address space, or of physical memory.
//!
//! No page is read. "Absent" here means that the frame of a mapped page is not in the image, which
//! the image's own ranges tell; an answer is incomplete only when page tables could not be followed.
//!
//! Regions and their frames come from two walks side by side, never from one walk per region: the
//! work of a walk is bounded, that of a walk for each of a hostile guest's regions would not be.

use std::iter::Peekable;

use serde::Serialize;
use vmie::paging::{Extent, ExtentItem, ExtentWalk, WalkStats};
use vmie::{
    AddrRange, Address, AddressSpace, Cause, Coverage, Gpa, Gva, Image, Memory, Prot, Region,
    SpanKind,
};

use crate::args::MapsArgs;
use crate::exit::{Done, Failure, Result};
use crate::options::Options;
use crate::output::{Cell, Column, Hex, ProtText, Row, Sink, Totals, View};
use crate::report::{Reporter, Words};
use crate::size;
use crate::source::Source;
use crate::space::Space;
use crate::unread::{no_table, nothing_mapped};

pub(super) fn run(args: &MapsArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.source, &options.reporter)?;
    let space = Space::select(&source, &args.space, &options.reporter)?;
    let sink = options.sink("maps", space.kind());
    match &space {
        Space::Physical(_) if args.extents => Err(Failure::new("physical memory has no extents")
            .hint("leave out --extents")
            .into()),
        Space::Physical(image) => {
            let list = List::new(args, &space, options, sink)?;
            list.physical(image)
        }
        Space::Virtual(memory) => {
            let list = List::new(args, &space, options, sink)?;
            if args.extents {
                list.extents(memory, &source)
            } else {
                list.regions(memory, &source)
            }
        }
    }
}

/// What one listing carries along.
struct List<'a, A> {
    range: AddrRange<A>,
    /// Whether the user asked for a part only.
    filtered: bool,
    perm: Prot,
    options: &'a Options,
    sink: Sink<'a>,
    coverage: Coverage<A>,
    /// Whether anything is mapped in the range, whatever its protection.
    any_mapped: bool,
}

impl<'a, A: Address> List<'a, A> {
    fn new(args: &MapsArgs, space: &Space, options: &'a Options, sink: Sink<'a>) -> Result<Self> {
        let range = args.filter.range.as_ref();
        Ok(Self {
            range: range.map_or(Ok(AddrRange::all()), |range| {
                range.resolve(&|name| space.lookup(name))
            })?,
            filtered: range.is_some() || args.filter.perm.is_some(),
            perm: args.filter.perm.unwrap_or(Prot::NONE),
            options,
            sink,
            coverage: Coverage::default(),
            any_mapped: false,
        })
    }

    fn finish<R: Row>(self, complete: bool) -> Result<Done> {
        let found = self.sink.rows() > 0;
        self.sink.finish::<R>(Some(&Totals::from(&self.coverage)))?;
        self.options.reporter.coverage(&self.coverage, Words::LIST);
        Ok(Done { found, complete })
    }
}

impl List<'_, Gpa> {
    fn physical(mut self, image: &Image) -> Result<Done> {
        for span in image.spans(self.range) {
            match span.kind {
                SpanKind::Lost(cause) => self.coverage.add_gap(span.start, span.len, cause),
                SpanKind::Mapped(prot) if prot.contains(self.perm) => {
                    self.coverage.add_read(span.len);
                    let region = Region {
                        start: span.start,
                        len: span.len,
                        prot,
                    };
                    if self.sink.row(&RegionRow::new(region, Some(0)))?.is_break() {
                        break;
                    }
                }
                SpanKind::Mapped(_) => {}
            }
        }
        if self.sink.rows() == 0 && !self.filtered {
            return Err(Failure::new("the image holds no physical memory").into());
        }
        let complete = self.coverage.is_complete();
        self.finish::<RegionRow>(complete)
    }
}

impl List<'_, Gva> {
    fn regions(mut self, space: &AddressSpace, source: &Source) -> Result<Done> {
        let bounded = space.clone().with_table_limit(residency_limit(space));
        let mut residency = Residency::new(&bounded, self.range);
        let mut walk = space.region_walk(self.range);
        let mut complete = true;
        for span in &mut walk {
            match span.kind {
                SpanKind::Lost(cause) => {
                    complete = false;
                    self.coverage.add_gap(span.start, span.len, cause);
                }
                SpanKind::Mapped(prot) if prot.contains(self.perm) => {
                    let region = Region {
                        start: span.start,
                        len: span.len,
                        prot,
                    };
                    let absent = residency.of(region.range(), &mut self.coverage);
                    if self.sink.row(&RegionRow::new(region, absent))?.is_break() {
                        break;
                    }
                }
                SpanKind::Mapped(_) => self.any_mapped = true,
            }
        }
        tell_oddities(walk.stats(), &self.options.reporter);
        self.finish_virtual::<RegionRow>(space, complete, source)
    }

    fn extents(mut self, space: &AddressSpace, source: &Source) -> Result<Done> {
        let held = held(space);
        let mut walk = space.extents(self.range);
        let mut complete = true;
        for item in &mut walk {
            match item {
                ExtentItem::Lost { va, len, cause } => {
                    complete = false;
                    self.coverage.add_gap(va, len, cause);
                }
                ExtentItem::Extent(extent) if extent.prot.contains(self.perm) => {
                    let absent = count(&held, extent, &mut self.coverage);
                    if self.sink.row(&ExtentRow::new(extent, absent))?.is_break() {
                        break;
                    }
                }
                ExtentItem::Extent(_) => self.any_mapped = true,
            }
        }
        tell_oddities(walk.stats(), &self.options.reporter);
        self.finish_virtual::<ExtentRow>(space, complete, source)
    }

    /// Nothing to show is an answer only where the tables were there to look at.
    fn finish_virtual<R: Row>(
        self,
        space: &AddressSpace,
        complete: bool,
        source: &Source,
    ) -> Result<Done> {
        if self.sink.rows() == 0 && !self.any_mapped {
            if !complete {
                return Err(no_table(&self.coverage, space, source).into());
            }
            if !self.filtered || space.regions(AddrRange::all()).next().is_none() {
                return Err(nothing_mapped(space, source).into());
            }
        }
        self.finish::<R>(complete)
    }
}

/// Oddities of the tables that the user should know of.
fn tell_oddities(stats: &WalkStats, reporter: &Reporter) {
    for own in &stats.self_refs {
        reporter.note(&format!(
            "the tables map themselves at {}: entry {:#x} of the level-{} table at {}",
            own.va, own.index, own.level, own.table
        ));
    }
    if stats.limited {
        reporter.warn(
            "the page tables describe more than was followed: the bound on the work was reached",
        );
    }
    reporter.detail(&format!(
        "{} page tables read, {} met again",
        stats.tables, stats.shared
    ));
}

/// What the image really holds, ascending.
fn held(space: &AddressSpace) -> Vec<AddrRange<Gpa>> {
    space
        .phys()
        .regions(AddrRange::all())
        .map(Region::range)
        .collect()
}

/// Counts the bytes of an extent as in the image or absent; answers how many are absent.
fn count(held: &[AddrRange<Gpa>], extent: Extent, coverage: &mut Coverage<Gva>) -> u64 {
    let Some(frames) = AddrRange::new(extent.gpa, extent.len) else {
        // Frames past the end of physical memory: no image holds them.
        coverage.add_gap(extent.va, extent.len, Cause::Absent { gpa: extent.gpa });
        return extent.len;
    };
    let first = held.partition_point(|range| range.last() < frames.start());
    let mut absent = 0;
    let mut at = 0;
    let mut missing = |from: u64, to: u64, coverage: &mut Coverage<Gva>| {
        if from < to {
            absent += to - from;
            let gpa = Gpa(frames.start().0 + from);
            coverage.add_gap(Gva(extent.va.0 + from), to - from, Cause::Absent { gpa });
        }
    };
    for part in held[first..]
        .iter()
        .map_while(|range| range.intersect(frames))
    {
        let from = part.start().0 - frames.start().0;
        missing(at, from, coverage);
        coverage.add_read(part.len());
        at = from + part.len();
    }
    missing(at, extent.len, coverage);
    absent
}

/// How many tables are followed down to frames.
///
/// The walk over regions sums shared tables up, a walk over frames cannot: tables that describe the
/// same page over and over would keep it busy for minutes. Mapping all of RAM eight times over takes
/// no more than this.
fn residency_limit(space: &AddressSpace) -> u64 {
    const PAGES_OF_A_TABLE: u64 = 2 << 20;
    let ram: u64 = held(space)
        .iter()
        .fold(0, |sum, range| range.len().saturating_add(sum));
    (ram / PAGES_OF_A_TABLE).saturating_mul(8).max(16 << 10)
}

/// Tells, for regions in ascending order, how much of each the image holds.
struct Residency<'a> {
    walk: Peekable<ExtentWalk<'a>>,
    held: Vec<AddrRange<Gpa>>,
}

impl<'a> Residency<'a> {
    fn new(space: &'a AddressSpace, range: AddrRange<Gva>) -> Self {
        Self {
            walk: space.extents(range).peekable(),
            held: held(space),
        }
    }

    /// Counts the region's bytes; answers how many are absent, `None` when that is not known.
    fn of(&mut self, region: AddrRange<Gva>, coverage: &mut Coverage<Gva>) -> Option<u64> {
        let mut absent = 0;
        let mut counted = 0;
        while let Some(item) = self.walk.next_if(|item| start(item) <= region.last()) {
            if let ExtentItem::Extent(extent) = item
                && extent.va >= region.start()
            {
                absent += count(&self.held, extent, coverage);
                counted += extent.len;
            }
        }
        if counted == region.len() {
            return Some(absent);
        }
        // The walk over frames reached its bound before the walk over regions did.
        let rest = region.len().saturating_sub(counted);
        coverage.add_gap(region.start(), rest, Cause::Limit);
        None
    }
}

fn start(item: &ExtentItem) -> Gva {
    match *item {
        ExtentItem::Extent(extent) => extent.va,
        ExtentItem::Lost { va, .. } => va,
    }
}

#[derive(Serialize)]
struct RegionRow {
    va: Hex,
    len: u64,
    prot: ProtText,
    user: bool,
    /// Bytes that the image does not hold; null when not known.
    absent: Option<u64>,
}

impl RegionRow {
    fn new<A: Address>(region: Region<A>, absent: Option<u64>) -> Self {
        Self {
            va: Hex(region.start.raw()),
            len: region.len,
            prot: ProtText(region.prot),
            user: region.prot.user(),
            absent,
        }
    }
}

impl Row for RegionRow {
    const COLUMNS: &'static [Column] = &[
        Column::right("va"),
        Column::right("len"),
        Column::left("prot"),
        Column::left("user"),
        Column::right("absent"),
    ];

    fn view(&self) -> View {
        View::Cells(vec![
            Cell::new(format!("{:#x}", self.va.0)).strong(),
            Cell::new(size::exact(self.len)),
            Cell::new(self.prot.0.to_string()),
            Cell::new(user_word(self.user)),
            absent_cell(self.absent),
        ])
    }
}

#[derive(Serialize)]
struct ExtentRow {
    va: Hex,
    gpa: Hex,
    len: u64,
    page_size: u64,
    prot: ProtText,
    user: bool,
    /// Bytes that the image does not hold.
    absent: u64,
}

impl ExtentRow {
    fn new(extent: Extent, absent: u64) -> Self {
        Self {
            va: Hex(extent.va.0),
            gpa: Hex(extent.gpa.0),
            len: extent.len,
            page_size: extent.page_size,
            prot: ProtText(extent.prot),
            user: extent.prot.user(),
            absent,
        }
    }
}

impl Row for ExtentRow {
    const COLUMNS: &'static [Column] = &[
        Column::right("va"),
        Column::right("gpa"),
        Column::right("len"),
        Column::right("page_size").titled("page"),
        Column::left("prot"),
        Column::left("user"),
        Column::right("absent"),
    ];

    fn view(&self) -> View {
        View::Cells(vec![
            Cell::new(format!("{:#x}", self.va.0)).strong(),
            Cell::new(format!("{:#x}", self.gpa.0)),
            Cell::new(size::exact(self.len)),
            Cell::new(size::exact(self.page_size)),
            Cell::new(self.prot.0.to_string()),
            Cell::new(user_word(self.user)),
            absent_cell(Some(self.absent)),
        ])
    }
}

fn user_word(user: bool) -> &'static str {
    if user { "user" } else { "" }
}

fn absent_cell(absent: Option<u64>) -> Cell {
    match absent {
        Some(0) => Cell::new(""),
        Some(bytes) => Cell::new(size::exact(bytes)).gap(),
        None => Cell::new("unknown").gap(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_against_what_the_image_holds() {
        let range = |start, len| AddrRange::new(Gpa(start), len).expect("not empty");
        let held = [
            range(0x1000, 0x2000),
            range(0x4000, 0x1000),
            range(0x9000, 0x1000),
        ];
        let frames = |gpa, len| {
            let extent = Extent {
                va: Gva(0x70_0000),
                gpa: Gpa(gpa),
                len,
                page_size: 0x1000,
                prot: Prot::R,
            };
            let mut coverage = Coverage::default();
            let absent = count(&held, extent, &mut coverage);
            assert_eq!(coverage.absent, absent);
            assert_eq!(coverage.read + absent, len, "every byte is counted once");
            let gaps: Vec<_> = coverage
                .gaps
                .iter()
                .map(|gap| (gap.start.0, gap.len))
                .collect();
            (absent, gaps)
        };
        assert_eq!(frames(0x1000, 0x2000), (0, vec![]));
        assert_eq!(frames(0x6000, 0x2000), (0x2000, vec![(0x70_0000, 0x2000)]));
        assert_eq!(frames(0xa000, 0x1000), (0x1000, vec![(0x70_0000, 0x1000)]));
        assert_eq!(
            frames(0, 0xb000),
            (
                0x7000,
                vec![
                    (0x70_0000, 0x1000),
                    (0x70_3000, 0x1000),
                    (0x70_5000, 0x4000),
                    (0x70_a000, 0x1000),
                ]
            )
        );
        assert_eq!(frames(0x2000, 0x3000), (0x1000, vec![(0x70_1000, 0x1000)]));
        assert_eq!(
            frames(u64::MAX - 0xfff, 0x2000).0,
            0x2000,
            "past the end of the space"
        );
    }
}
