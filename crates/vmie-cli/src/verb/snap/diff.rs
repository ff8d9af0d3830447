//! `vmie snap diff`: what differs between two snapshots.
//!
//! The earlier side is a snapshot or an image, the later one a snapshot or any source with a space. Where
//! the earlier one says whose memory it is and no space was typed, the later one's is the same process,
//! kernel or root.

use std::iter::Peekable;
use std::ops::ControlFlow;
use std::path::Path;

use vmie::snapshot::{Change, ChangeKind, DiffOptions, diff};
use vmie::{AddrRange, Address, Coverage, Memory, PAGE_SIZE, Prot, Region};
use vmie_rows::{ChangeRow, Hex};

use super::args::{GroupBy, SnapDiffArgs};
use crate::args::{LayersArgs, Paging, SourceArgs, SpaceArgs};
use crate::candidates::{Likeness, Whose, told};
use crate::exit::{Done, Failure, Result};
use crate::interrupt;
use crate::options::Options;
use crate::output::{Row, Sink, View, prot_if_mapped, totals};
use crate::report::Words;
use crate::saved;
use crate::seek::{self, said_if_stopped};
use crate::source::Source;
use crate::space::{Space, Target};

use super::dump::{Dump, Sides};

pub(super) fn run(args: &SnapDiffArgs, options: &Options) -> Result<Done> {
    interrupt::listen();
    let reporter = &options.reporter;
    let sides = [&args.before, &args.source.source];
    if args.source.layers.state.is_some() && sides.iter().all(|path| saved::kind(path).is_none()) {
        return Err(
            Failure::new("--state belongs to one memory file, and here are two")
                .hint("`vmie snap take` one of them first, and compare with that")
                .into(),
        );
    }
    let open = |path: &Path| {
        let typed = SourceArgs {
            source: path.to_owned(),
            ..args.source.clone()
        };
        // What says how to read an image is for the side that is one.
        let typed = match saved::kind(path) {
            Some(_) => SourceArgs {
                layout: None,
                layers: LayersArgs::default(),
                os_cache: false,
                pause: false,
                ..typed
            },
            None => typed,
        };
        Source::open(&typed, reporter)
    };
    let (earlier, later) = (open(&args.before)?, open(&args.source.source)?);
    // A snapshot of one address space needs no space, and none can be typed for it.
    let typed = |source: &Source| match source.saved() {
        Some(_) => SpaceArgs::default(),
        None => args.space.clone(),
    };
    let mut then = typed(&earlier);
    // A snapshot of physical memory is of that, unless a space in it is asked for.
    then.phys |= earlier.is_snapshot() && earlier.saved().is_none() && !then.is_typed();
    let before = Space::select(&earlier, &then, reporter)?;
    let mut now = typed(&later);
    if later.saved().is_none() && !now.is_typed() {
        now = same(&before.whose());
    }
    if later.saved().is_some() && earlier.saved().is_some() && args.space.is_typed() {
        return Err(crate::space::no_other_space(&later).into());
    }
    let after = Space::select(&later, &now, reporter)?;
    match before.whose().likeness(&after.whose()) {
        Likeness::Same => {}
        Likeness::OtherRun => reporter.warn(&format!(
            "another run of the same: {} then, {} now; addresses may mean something else",
            told(&before.whose()),
            told(&after.whose())
        )),
        Likeness::Different => reporter.warn(&format!(
            "different spaces are compared: {} then, {} now",
            told(&before.whose()),
            told(&after.whose())
        )),
    }
    let comparing = Comparing {
        args,
        options,
        earlier: &earlier,
        later: &later,
        before: &before,
        after: &after,
    };
    match (&before.of.target, &after.of.target) {
        (Target::Physical(one), Target::Physical(other)) => comparing.run(&**one, &**other),
        (one, other) => match (one.by_virtual(), other.by_virtual()) {
            (Some(one), Some(other)) => comparing.run(one, other),
            _ => Err(
                Failure::new("physical and virtual memory have nothing to compare")
                    .found(format!("{} is {}", earlier.name(), told(&before.whose())))
                    .found(format!("{} is {}", later.name(), told(&after.whose())))
                    .hint("the same space on both sides")
                    .into(),
            ),
        },
    }
}

/// The space of whom a snapshot is.
fn same(whose: &Whose) -> SpaceArgs {
    let mut args = SpaceArgs::default();
    match whose {
        Whose::Process { pid, .. } => args.owner.pid = Some(*pid),
        Whose::Kernel { .. } => args.owner.kernel = true,
        Whose::Root { cr3, paging } => {
            args.cr3 = Some(*cr3);
            args.paging = Paging::of_name(paging);
        }
        Whose::Phys => args.phys = true,
    }
    args
}

struct Comparing<'a, 's> {
    args: &'a SnapDiffArgs,
    options: &'a Options,
    earlier: &'a Source,
    later: &'a Source,
    before: &'a Space<'s>,
    after: &'a Space<'s>,
}

impl Comparing<'_, '_> {
    fn run<A: Address>(
        &self,
        before: &dyn Memory<Addr = A>,
        after: &dyn Memory<Addr = A>,
    ) -> Result<Done> {
        let reporter = &self.options.reporter;
        let wanted = self.wanted()?;
        let sink = self
            .options
            .sink::<ChangeRow>(self.after.kind())
            .asked(self.args.group_by.is_some() || self.args.hexdump);
        let mut rows = Rows {
            sink,
            group: self
                .args
                .group_by
                .map(|by| Group::new(by, after, wanted.range)),
            dump: self.args.hexdump.then(|| Dump::new(before, after)),
            failed: None,
        };
        let bound = self.later.sweep_bound().max(self.earlier.sweep_bound());
        let run = seek::run("snap", self.later, self.options).max_bytes(bound);
        let outcome = diff(before, after, &wanted, run, |change| rows.add(change));
        reporter.progress_end();
        rows.finish()?;
        let found = rows.sink.rows() > 0;
        said_if_stopped(outcome.stopped, found, reporter)?;
        let coverage = &outcome.coverage;
        if coverage.read == 0 && !found {
            return Err(self.nothing_compared(coverage).into());
        }
        reporter.nothing(found, "nothing differs");
        rows.sink.finish(Some(&totals(coverage)))?;
        reporter.coverage(coverage, Words::COMPARE);
        let complete = Words::COMPARE.complete(coverage) && !interrupt::asked();
        Ok(Done { found, complete })
    }

    /// What both sides were asked for, and no more than was typed.
    fn wanted<A: Address>(&self) -> Result<DiffOptions<A>> {
        let mut wanted = DiffOptions {
            ..DiffOptions::default()
        };
        let all = |range: AddrRange<A>, other: Option<AddrRange<A>>| match other {
            Some(other) => range.intersect(other),
            None => Some(range),
        };
        let typed = self.args.filter.range.as_ref();
        let ranges = [
            self.before.range(None)?,
            self.after.range(None)?,
            typed
                .map(|typed| typed.resolve(&self.after.names))
                .transpose()?,
        ];
        for range in ranges {
            wanted.range = all(wanted.range, range).ok_or_else(|| {
                Failure::new("the two snapshots and --range have no addresses in common")
            })?;
        }
        for space in [self.before, self.after] {
            if let Target::Saved(snapshot) = &space.of.target {
                wanted.filter.all = wanted.filter.all.union(snapshot.filter().all);
                wanted.filter.any = snapshot.filter().any;
            }
        }
        let perm = self.args.filter.perm.unwrap_or(Prot::NONE);
        wanted.filter.all = wanted.filter.all.union(perm);
        Ok(wanted)
    }

    /// Neither equal nor different.
    fn nothing_compared<A: Address>(&self, coverage: &Coverage<A>) -> Failure {
        let failure = Failure::new(format!(
            "nothing of {} and {} could be compared",
            self.earlier.name(),
            self.later.name()
        ));
        let failure = match coverage.gaps.first() {
            Some(gap) => failure.found(format!("{}..+{:#x}: {}", gap.start, gap.len, gap.cause)),
            None => failure.found("neither maps anything that was asked for"),
        };
        failure.hint("`vmie maps` of both, to see what is mapped and what is absent")
    }
}

/// Takes changes and makes rows of them.
struct Rows<'a, A: Address> {
    sink: Sink<'a>,
    group: Option<Group<'a, A>>,
    dump: Option<Dump<'a, A>>,
    failed: Option<crate::exit::Stop>,
}

impl<A: Address> Rows<'_, A> {
    fn add(&mut self, change: Change<A>) -> ControlFlow<()> {
        let Some(mut group) = self.group.take() else {
            return self.push(change, None);
        };
        let flow = group.add(change, &mut |change, sum| self.push(change, Some(sum)));
        self.group = Some(group);
        flow
    }

    fn push(&mut self, change: Change<A>, sum: Option<Sum>) -> ControlFlow<()> {
        let sides = self.dump.as_mut().map(|dump| dump.of(change));
        let row = ChangeRow {
            va: Hex(change.start.raw()),
            len: change.len,
            prot: prot_if_mapped(change.prot),
            change: change.kind.name(),
            was: prot_if_mapped(change.was),
            bytes: sum.map(|sum| sum.bytes),
            runs: sum.map(|sum| sum.runs),
            dump: sides.as_ref().map(Sides::row),
        };
        let shown = self.sink.row_as(&row, |columns| match &sides {
            Some(sides) => View::Text(sides.text(&row)),
            None => row.view(columns),
        });
        match shown {
            Ok(flow) => flow,
            Err(stop) => {
                self.failed = Some(stop);
                ControlFlow::Break(())
            }
        }
    }

    fn finish(&mut self) -> Result<()> {
        if let Some(mut group) = self.group.take()
            && self.failed.is_none()
        {
            // The last row may be one too many for `--limit`, which is no failure.
            let _ = group.flush(&mut |change, sum| self.push(change, Some(sum)));
        }
        self.failed.take().map_or(Ok(()), Err)
    }
}

/// How much of a group changed.
#[derive(Clone, Copy, Debug)]
struct Sum {
    bytes: u64,
    runs: u64,
}

/// Sums up changed bytes by what they are in.
struct Group<'m, A: Address> {
    by: GroupBy,
    regions: Peekable<Box<dyn Iterator<Item = Region<A>> + Send + 'm>>,
    open: Option<(Change<A>, Sum)>,
}

impl<'m, A: Address> Group<'m, A> {
    fn new(by: GroupBy, after: &'m dyn Memory<Addr = A>, range: AddrRange<A>) -> Self {
        Self {
            by,
            regions: after.regions(range).peekable(),
            open: None,
        }
    }

    fn add(
        &mut self,
        change: Change<A>,
        emit: &mut dyn FnMut(Change<A>, Sum) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if change.kind != ChangeKind::Modified {
            self.flush(emit)?;
            let whole = Sum {
                bytes: change.len,
                runs: 1,
            };
            return emit(change, whole);
        }
        let mut rest = change;
        loop {
            let within = self.unit(rest.start);
            let last = rest.start.raw() + (rest.len - 1);
            let len = within.last().raw().min(last) - rest.start.raw() + 1;
            self.count(rest, within, len, emit)?;
            if len == rest.len {
                return ControlFlow::Continue(());
            }
            rest.start = A::new(rest.start.raw() + len);
            rest.len -= len;
        }
    }

    /// The page or region that an address is in.
    fn unit(&mut self, addr: A) -> AddrRange<A> {
        let page = AddrRange::new(addr.align_down(PAGE_SIZE), PAGE_SIZE).expect("a page");
        if self.by == GroupBy::Page {
            return page;
        }
        while self
            .regions
            .next_if(|region| region.range().last() < addr)
            .is_some()
        {}
        let region = self.regions.peek().map(|region| region.range());
        // A live guest may have unmapped it meanwhile.
        region.filter(|range| range.contains(addr)).unwrap_or(page)
    }

    fn count(
        &mut self,
        change: Change<A>,
        within: AddrRange<A>,
        len: u64,
        emit: &mut dyn FnMut(Change<A>, Sum) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if let Some((open, sum)) = &mut self.open
            && open.start == within.start()
        {
            sum.bytes += len;
            sum.runs += 1;
            return ControlFlow::Continue(());
        }
        self.flush(emit)?;
        let whole = Change {
            start: within.start(),
            len: within.len(),
            ..change
        };
        self.open = Some((
            whole,
            Sum {
                bytes: len,
                runs: 1,
            },
        ));
        ControlFlow::Continue(())
    }

    fn flush(
        &mut self,
        emit: &mut dyn FnMut(Change<A>, Sum) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match self.open.take() {
            Some((change, sum)) => emit(change, sum),
            None => ControlFlow::Continue(()),
        }
    }
}

impl Row for ChangeRow {}
