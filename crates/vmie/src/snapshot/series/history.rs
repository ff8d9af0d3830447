//! How much of each region changed from snapshot to snapshot.
//!
//! Mappings change too, so a region here is a run of addresses that some snapshot maps, with one protection in the
//! last snapshot that maps them: a heap that grows is one region, whose growth has appeared.

use std::ops::ControlFlow;

use super::super::diff::Steps;
use super::super::{Change, ChangeKind, DiffOptions};
use super::Series;
use crate::addr::{AddrRange, Address};
use crate::memory::{Coverage, Prot};
use crate::scan::Run;

/// What became of the regions of a series.
#[derive(Clone, Debug)]
#[must_use = "without its coverage a comparison cannot tell `the same` from `could not look`"]
pub struct History<A: Address> {
    /// The regions that some snapshot kept, in order.
    pub regions: Vec<RegionHistory<A>>,
    /// Of all steps together: what was compared and what could not be, as in
    /// [`DiffOutcome::coverage`](super::super::DiffOutcome::coverage).
    pub coverage: Coverage<A>,
    /// Whether `progress` ended it before the end.
    pub stopped: bool,
}

/// What became of one region.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegionHistory<A: Address> {
    /// Its addresses.
    pub range: AddrRange<A>,
    /// The protection in the last snapshot that maps them.
    pub prot: Prot,
    /// The steps in which something of it changed, in order.
    pub steps: Vec<Step>,
}

/// What changed of a region from one snapshot to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Step {
    /// The index of the later snapshot.
    pub snapshot: usize,
    /// Bytes that differ.
    pub modified: u64,
    /// Bytes that are mapped now and were not.
    pub appeared: u64,
    /// Bytes that were mapped.
    pub disappeared: u64,
    /// Bytes whose protection is another one.
    pub protection: u64,
}

impl Step {
    /// Bytes that differ, appeared or disappeared.
    pub fn changed(&self) -> u64 {
        self.modified
            .saturating_add(self.appeared)
            .saturating_add(self.disappeared)
    }

    /// Adds what another step changed; the snapshot stays.
    pub fn merge(&mut self, other: &Self) {
        self.modified = self.modified.saturating_add(other.modified);
        self.appeared = self.appeared.saturating_add(other.appeared);
        self.disappeared = self.disappeared.saturating_add(other.disappeared);
        self.protection = self.protection.saturating_add(other.protection);
    }

    fn add(&mut self, kind: ChangeKind, bytes: u64) {
        let sum = match kind {
            ChangeKind::Modified => &mut self.modified,
            ChangeKind::Appeared => &mut self.appeared,
            ChangeKind::Disappeared => &mut self.disappeared,
            ChangeKind::Protection => &mut self.protection,
        };
        *sum = sum.saturating_add(bytes);
    }
}

impl<A: Address> Series<A> {
    /// Compares each snapshot with the one before it, region by region; regions are cut at multiples of `block`
    /// bytes, unless it is zero.
    ///
    /// The bound of the run is one for each step. Runs on the calling thread.
    ///
    /// # Cost
    ///
    /// One read of the pages that the two snapshots of a step do not share. Memory grows with the regions, and with how
    /// many of them change in how many steps; small blocks make many regions.
    pub fn history(&self, options: &DiffOptions<A>, block: u64, mut run: Run<'_>) -> History<A> {
        let mut history = History {
            regions: self.regions(options, block),
            coverage: Coverage::default(),
            stopped: false,
        };
        for snapshot in 1..self.len() {
            let regions = &mut history.regions;
            let before = history.coverage.read;
            let mut steps = Steps::of(&mut run).after(before);
            let outcome =
                self.diff_stepping(snapshot - 1, snapshot, options, &mut steps, |change| {
                    attribute(regions, snapshot, change);
                    ControlFlow::Continue(())
                });
            history.coverage.merge(&outcome.coverage);
            if outcome.stopped {
                history.stopped = true;
                break;
            }
        }
        history
    }

    /// The regions of all snapshots.
    fn regions(&self, options: &DiffOptions<A>, block: u64) -> Vec<RegionHistory<A>> {
        let mut all: Vec<(AddrRange<A>, Prot)> = Vec::new();
        for snapshot in self.snapshots() {
            let kept = snapshot.kept().filter_map(|region| {
                let range = region.range().intersect(options.range)?;
                options
                    .filter
                    .passes(region.prot)
                    .then_some((range, region.prot))
            });
            all = over(&all, &kept.collect::<Vec<_>>());
        }
        let region = |(range, prot)| RegionHistory {
            range,
            prot,
            steps: Vec::new(),
        };
        all.into_iter()
            .flat_map(|(range, prot)| blocks(range, block).map(move |range| (range, prot)))
            .map(region)
            .collect()
    }
}

/// A range, cut at multiples of so many bytes.
fn blocks<A: Address>(range: AddrRange<A>, block: u64) -> impl Iterator<Item = AddrRange<A>> {
    let mut rest = Some(range);
    std::iter::from_fn(move || {
        let range = rest?;
        let start = range.start().raw();
        let last = match block {
            0 => range.last().raw(),
            block => (start - start % block)
                .saturating_add(block - 1)
                .min(range.last().raw()),
        };
        rest = A::new(last).checked_add(1).and_then(|next| {
            (last < range.last().raw()).then(|| AddrRange::inclusive(next, range.last()))?
        });
        AddrRange::inclusive(range.start(), A::new(last))
    })
}

/// Lays newer regions over older ones. Regions that touch and have the same protection become one.
pub(super) fn over<A: Address>(
    older: &[(AddrRange<A>, Prot)],
    newer: &[(AddrRange<A>, Prot)],
) -> Vec<(AddrRange<A>, Prot)> {
    let mut all: Vec<(AddrRange<A>, Prot)> = Vec::with_capacity(older.len().max(newer.len()));
    let mut put = |range: AddrRange<A>, prot: Prot| {
        if let Some((last, same)) = all.last_mut()
            && *same == prot
            && last.last().checked_add(1) == Some(range.start())
            && let Some(joined) = AddrRange::inclusive(last.start(), range.last())
        {
            *last = joined;
        } else {
            all.push((range, prot));
        }
    };
    let (mut older, mut newer) = (older.iter().copied(), newer.iter().copied());
    let (mut old, mut new) = (older.next(), newer.next());
    loop {
        match (old, new) {
            (None, None) => return all,
            (Some((range, prot)), None) => {
                put(range, prot);
                old = older.next();
            }
            (None, Some((range, prot))) => {
                put(range, prot);
                new = newer.next();
            }
            (Some((range, prot)), Some((upper, _))) if range.start() < upper.start() => {
                let rest = range.intersect(AddrRange::from(upper.start()));
                match rest {
                    Some(rest) => {
                        let before = A::new(rest.start().raw() - 1);
                        let before = AddrRange::inclusive(range.start(), before);
                        put(before.expect("not empty"), prot);
                        old = Some((rest, prot));
                    }
                    None => {
                        put(range, prot);
                        old = older.next();
                    }
                }
            }
            // What the newer one hides.
            (Some((range, prot)), Some((upper, _))) if range.start() <= upper.last() => {
                let rest = upper.last().checked_add(1);
                let rest = rest.and_then(|behind| AddrRange::inclusive(behind, range.last()));
                old = rest.map_or_else(|| older.next(), |rest| Some((rest, prot)));
            }
            (Some(_), Some((upper, prot))) => {
                put(upper, prot);
                new = newer.next();
            }
        }
    }
}

/// Counts a change in each region that it is in.
fn attribute<A: Address>(regions: &mut [RegionHistory<A>], snapshot: usize, change: Change<A>) {
    let Some(range) = AddrRange::new(change.start, change.len) else {
        return;
    };
    let first = regions.partition_point(|region| region.range.last() < range.start());
    for region in &mut regions[first..] {
        if region.range.start() > range.last() {
            break;
        }
        let Some(part) = region.range.intersect(range) else {
            continue;
        };
        if region
            .steps
            .last()
            .is_none_or(|step| step.snapshot != snapshot)
        {
            region.steps.push(Step {
                snapshot,
                ..Step::default()
            });
        }
        let step = region.steps.last_mut().expect("just added");
        step.add(change.kind, part.len());
    }
}
