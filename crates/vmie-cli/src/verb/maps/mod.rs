//! `vmie maps`: the mapped regions of an address space, or of physical memory.
//!
//! No page is read. "Absent" here means that the frame of a mapped page is not in the image, which
//! the image's own ranges tell; an answer is incomplete only when page tables could not be followed.
//!
//! Of a process, regions are cut at the borders of what it has arranged to be mapped, and bear the
//! names of that; [`vmas`] lists those arrangements themselves. Of the kernel, regions bear the name of
//! the image that they start in.

mod args;
mod everywhere;
mod residency;
mod vmas;

use vmie::os::Resolver;
use vmie::paging::{Extent, ExtentItem, WalkStats};
use vmie::views::Regions;
use vmie::{
    AddrRange, Address, AddressSpace, Cause, Coverage, Gap, Gva, Memory, Prot, Region, SpanKind,
};
use vmie_rows::{ExtentRow, Hex, Owner, RegionRow};

use crate::args::perm_letters;
use crate::exit::{Done, Failure, Result};
use crate::options::Options;
use crate::output::{Cell, Row, Sink, prot, totals};
use crate::regions;
use crate::report::{Reporter, Words};
use crate::saved;
use crate::size;
use crate::source::Source;
use crate::space::{Space, Target};
use crate::unread::{no_table, nothing_mapped};
pub(super) use args::MapsArgs;
use residency::{Residency, bounded, count, held};

pub(super) fn run(args: &MapsArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.source, &options.reporter)?;
    if args.everywhere.all_processes {
        return everywhere::run(args, &source, options);
    }
    let space = Space::select(&source, &args.space, &options.reporter)?;
    if args.vmas {
        return vmas::run(args, options, &space);
    }
    let sink = match args.extents {
        true => options.sink::<ExtentRow>(space.kind()),
        false => options.sink::<RegionRow>(space.kind()),
    };
    let sink = sink.named(space.names.shown());
    match &space.of.target {
        Target::Physical(_) if args.extents => Err(Failure::new("physical memory has no extents")
            .hint("leave out --extents")
            .into()),
        Target::Saved(_) if args.extents => {
            Err(crate::source::no_tables(&source, "no frames are known").into())
        }
        Target::Physical(memory) => {
            let list = List::new(args, &space, options, sink)?;
            list.plain(&**memory, |_| Vec::new(), |region| vec![(region, None)])
        }
        Target::Saved(snapshot) => {
            let arranged = saved::regions(snapshot.origin());
            let sink = sink.named(!arranged.is_empty());
            let list = List::new(args, &space, options, sink)?;
            let missing = |region| snapshot.missing(region).collect();
            list.plain(&**snapshot, missing, |region| arranged.cut(region, None))
        }
        Target::Virtual(memory) => {
            let mut list = List::new(args, &space, options, sink)?;
            let complete = if args.extents {
                list.extents(memory)?
            } else {
                list.regions(
                    memory,
                    &regions::of(&space.names, &options.reporter)?,
                    space.names.resolver(),
                )?
            };
            list.finish_virtual(memory, complete, &source)
        }
    }
}

/// What one listing carries along.
struct List<'a, A> {
    /// Whose the regions are, of many.
    owner: Option<Owner>,
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
    fn new(
        args: &MapsArgs,
        space: &Space<'_>,
        options: &'a Options,
        sink: Sink<'a>,
    ) -> Result<Self> {
        let range = args.filter.range.as_ref();
        Ok(Self {
            owner: None,
            range: space.range(range)?.unwrap_or_else(AddrRange::all),
            filtered: range.is_some() || args.filter.perm.is_some(),
            perm: args.filter.perm.unwrap_or(Prot::NONE),
            options,
            sink,
            coverage: Coverage::default(),
            any_mapped: false,
        })
    }

    /// Counts what the system maps and no page table does: it is swapped out.
    fn away(&mut self, range: AddrRange<A>, prot: Prot, cause: Cause) {
        if prot.contains(self.perm) {
            self.coverage.add_gap(range.start(), range.len(), cause);
        }
        self.any_mapped = true;
    }

    fn finish(self, complete: bool) -> Result<Done> {
        let found = self.sink.rows() > 0;
        if !found {
            self.options.reporter.note(&nothing_shown(self.perm));
        }
        self.sink.finish(Some(&totals(&self.coverage)))?;
        self.options.reporter.coverage(&self.coverage, Words::LIST);
        Ok(Done { found, complete })
    }
}

impl<A: Address> List<'_, A> {
    /// Lists what a memory says of itself; `missing` is what of a region cannot be read, `cut` its parts and
    /// their names.
    fn plain(
        mut self,
        memory: &dyn Memory<Addr = A>,
        missing: impl Fn(AddrRange<A>) -> Vec<Gap<A>>,
        cut: impl Fn(AddrRange<A>) -> Vec<(AddrRange<A>, Option<String>)>,
    ) -> Result<Done> {
        'spans: for span in memory.spans(self.range) {
            match span.kind {
                SpanKind::Lost(cause) => self.coverage.add_gap(span.start, span.len, cause),
                SpanKind::Away(prot, cause) => self.away(span.range(), prot, cause),
                SpanKind::Mapped(prot) if prot.contains(self.perm) => {
                    for (part, name) in cut(span.range()) {
                        let gaps = missing(part);
                        let absent = gaps.iter().map(|gap| gap.len).sum();
                        self.coverage.add_read(part.len() - absent);
                        for gap in gaps {
                            self.coverage.add_absent(gap.start, gap.len, gap.cause);
                        }
                        let region = Region {
                            start: part.start(),
                            len: part.len(),
                            prot,
                        };
                        let row = region_row(region, Some(absent), name, None);
                        if self.sink.row(&row)?.is_break() {
                            break 'spans;
                        }
                    }
                }
                SpanKind::Mapped(_) => {}
            }
        }
        if self.sink.rows() == 0 && !self.filtered {
            return Err(Failure::new(format!("the image holds no {} memory", A::SPACE)).into());
        }
        let complete = self.coverage.is_complete();
        self.finish(complete)
    }
}

impl List<'_, Gva> {
    /// Lists the regions; whether all of the range is known.
    fn regions(
        &mut self,
        space: &AddressSpace,
        names: &Regions,
        resolver: Option<&Resolver<'_>>,
    ) -> Result<bool> {
        let bounded = bounded(space);
        let mut residency = Residency::new(&bounded, self.range);
        let mut walk = space.region_walk(self.range);
        let mut complete = true;
        'walk: for span in &mut walk {
            match span.kind {
                SpanKind::Lost(cause) => {
                    complete = false;
                    self.coverage.add_gap(span.start, span.len, cause);
                }
                SpanKind::Away(prot, cause) => self.away(span.range(), prot, cause),
                SpanKind::Mapped(prot) if prot.contains(self.perm) => {
                    let region = Region {
                        start: span.start,
                        len: span.len,
                        prot,
                    };
                    for (part, name) in names.cut(region.range(), resolver) {
                        let absent = residency.of(part, &mut self.coverage);
                        let region = Region {
                            start: part.start(),
                            len: part.len(),
                            prot,
                        };
                        let row = region_row(region, absent, name, self.owner.clone());
                        if self.sink.row(&row)?.is_break() {
                            break 'walk;
                        }
                    }
                }
                SpanKind::Mapped(_) => self.any_mapped = true,
            }
        }
        tell_oddities(walk.stats(), &self.options.reporter);
        Ok(complete)
    }

    /// Lists the extents; whether all of the range is known.
    fn extents(&mut self, space: &AddressSpace) -> Result<bool> {
        let held = held(space);
        let mut walk = space.extents(self.range);
        let mut complete = true;
        for item in &mut walk {
            match item {
                ExtentItem::Lost { va, len, cause } => {
                    complete = false;
                    self.coverage.add_gap(va, len, cause);
                }
                ExtentItem::Away {
                    va,
                    len,
                    prot,
                    cause,
                } => {
                    let range = AddrRange::new(va, len).expect("not empty");
                    self.away(range, prot, cause);
                }
                ExtentItem::Extent(extent) if extent.prot.contains(self.perm) => {
                    let absent = count(&held, extent, &mut self.coverage);
                    let row = extent_row(extent, absent, self.owner.clone());
                    if self.sink.row(&row)?.is_break() {
                        break;
                    }
                }
                ExtentItem::Extent(_) => self.any_mapped = true,
            }
        }
        tell_oddities(walk.stats(), &self.options.reporter);
        Ok(complete)
    }

    /// Nothing to show is an answer only where the tables were there to look at.
    fn finish_virtual(self, space: &AddressSpace, complete: bool, source: &Source) -> Result<Done> {
        if self.sink.rows() == 0 && !self.any_mapped {
            if !complete {
                return Err(no_table(&self.coverage, space, source).into());
            }
            if !self.filtered || space.regions(AddrRange::all()).next().is_none() {
                return Err(nothing_mapped(space, source).into());
            }
        }
        self.finish(complete)
    }
}

/// Why no region is shown.
fn nothing_shown(perm: Prot) -> String {
    match perm_letters(perm) {
        letters if letters.is_empty() => "nothing is mapped in the range".to_owned(),
        letters => format!("no region has {letters}"),
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

fn region_row<A: Address>(
    region: Region<A>,
    absent: Option<u64>,
    name: Option<String>,
    owner: Option<Owner>,
) -> RegionRow {
    RegionRow {
        owner,
        va: Hex(region.start.raw()),
        len: region.len,
        prot: prot(region.prot),
        user: region.prot.user(),
        absent,
        name,
    }
}

impl Row for RegionRow {
    fn cell(&self, key: &str) -> Option<Cell> {
        match key {
            "user" => Some(Cell::new(user_word(self.user))),
            "absent" => Some(absent_cell(self.absent)),
            _ => None,
        }
    }
}

fn extent_row(extent: Extent, absent: u64, owner: Option<Owner>) -> ExtentRow {
    ExtentRow {
        owner,
        va: Hex(extent.va.0),
        gpa: Hex(extent.gpa.0),
        len: extent.len,
        page_size: extent.page_size,
        prot: prot(extent.prot),
        user: extent.prot.user(),
        absent,
    }
}

impl Row for ExtentRow {
    fn cell(&self, key: &str) -> Option<Cell> {
        match key {
            "user" => Some(Cell::new(user_word(self.user))),
            "absent" => Some(absent_cell(Some(self.absent))),
            _ => None,
        }
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
