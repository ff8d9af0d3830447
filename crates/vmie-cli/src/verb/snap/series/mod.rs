//! `vmie snap series`: what changed when, in the snapshots of a series.

mod groups;
mod list;
mod picture;

use std::path::Path;

use vmie::scan::Run;
use vmie::snapshot::series::{self, History, RegionHistory, Series, Step};
use vmie::snapshot::{DiffOptions, FileErrorKind, Filter, Origin, Snapshot};
use vmie::views::Regions;
use vmie::{AddrRange, Address, Gpa, Gva, Prot};
use vmie_rows::{Hex, HistoryRow};

use super::args::{Groups, SnapSeriesArgs};
use crate::escape::shell_word;
use crate::exit::{Done, Failure, Result};
use crate::interrupt;
use crate::names::Names;
use crate::options::Options;
use crate::output::{Cell, Row, SpaceKind, prot, totals};
use crate::report::{Reporter, Words};
use crate::saved;
use crate::seek::said_if_stopped;
use crate::size;

pub(super) fn run(args: &SnapSeriesArgs, options: &Options) -> Result<Done> {
    interrupt::listen();
    let dir = &args.dir;
    if !series::is_series(dir) {
        return Err(no_series(dir).into());
    }
    let files = series::moment_files(dir)
        .map_err(|error| Failure::new(format!("{}: {error}", shell_word(dir))))?;
    let kinds = files.iter().filter_map(|(_, path)| saved::kind(path));
    match kinds.into_iter().next() {
        None => Err(
            Failure::new(format!("{} has no snapshots yet", shell_word(dir)))
                .hint("`vmie snap watch SOURCE -O DIR --append`, to add some")
                .into(),
        ),
        Some(space) if space == Gpa::SPACE => look::<Gpa>(args, options),
        Some(_) => look::<Gva>(args, options),
    }
}

fn no_series(dir: &Path) -> Failure {
    let failure = Failure::new(format!("{} is no series of snapshots", shell_word(dir)));
    if dir.is_file() {
        failure
            .found("a file; a series is the directory that `vmie snap watch` writes to")
            .hint("`vmie snap diff BEFORE AFTER`, to compare two snapshots")
    } else {
        failure.found("it has no pages.vmie")
    }
}

fn look<A: Address>(args: &SnapSeriesArgs, options: &Options) -> Result<Done> {
    let series = open::<A>(args, &options.reporter)?;
    let kind = if A::SPACE == Gpa::SPACE {
        SpaceKind::Physical
    } else {
        SpaceKind::Virtual
    };
    if args.list {
        return list::list(&series, options, kind);
    }
    if series.len() < 2 {
        return Err(Failure::new(format!(
            "{} has one snapshot, and nothing to compare it with",
            shell_word(&args.dir)
        ))
        .hint("`vmie snap watch SOURCE -O DIR --append`, to add some")
        .into());
    }
    let wanted = wanted(args, &series, &options.reporter)?;
    let last = series.snapshots().last().expect("there are two at least");
    let looking = Looking {
        args,
        options,
        series: &series,
        wanted: &wanted,
        kind,
        arranged: saved::regions(last.origin()),
        names: Names::of_saved(None, &options.reporter),
    };
    if let Some(groups) = &args.groups {
        check(groups, &series, args)?;
    }
    let history = match (&args.groups, &args.html) {
        (Some(_), None) => None,
        _ => Some(looking.history()?),
    };
    match (&args.groups, history) {
        (Some(groups), history) => groups::run(&looking, groups, history.as_ref()),
        (None, Some(history)) => looking.regions(&history),
        (None, None) => unreachable!("without groups there is a history"),
    }
}

/// What a run carries along.
struct Looking<'a, A: Address> {
    args: &'a SnapSeriesArgs,
    options: &'a Options,
    series: &'a Series<A>,
    wanted: &'a DiffOptions<A>,
    kind: SpaceKind,
    arranged: Regions,
    names: Names<'static>,
}

fn open<A: Address>(args: &SnapSeriesArgs, reporter: &Reporter) -> Result<Series<A>> {
    if !args.salvage {
        return Ok(Series::open(&args.dir).map_err(|error| {
            let failure = crate::salvage::not_opened(&error);
            match error.kind {
                FileErrorKind::Space { .. } => {
                    failure.found("snapshots of different kinds of memory are in one directory")
                }
                _ => failure,
            }
        })?);
    }
    let (series, problems) =
        Series::salvage(&args.dir).map_err(|error| Failure::new(error.to_string()))?;
    crate::salvage::tell_damage(problems.iter().map(ToString::to_string), reporter);
    Ok(series)
}

/// How comparisons run: everything there is was captured, within a bound.
fn unbounded() -> Run<'static> {
    Run::new().max_bytes(u64::MAX).cancel(interrupt::flag())
}

/// What all snapshots were asked for, and no more than was typed.
fn wanted<A: Address>(
    args: &SnapSeriesArgs,
    series: &Series<A>,
    reporter: &Reporter,
) -> Result<DiffOptions<A>> {
    let mut wanted = DiffOptions {
        filter: Filter::default(),
        range: AddrRange::all(),
    };
    for moment in series.snapshots() {
        wanted.filter.all = wanted.filter.all.union(moment.filter().all);
        wanted.filter.any = moment.filter().any;
        let common = wanted.range.intersect(moment.range());
        wanted.range =
            common.ok_or_else(|| Failure::new("the snapshots have no addresses in common"))?;
    }
    wanted.filter.all = wanted
        .filter
        .all
        .union(args.filter.perm.unwrap_or(Prot::NONE));
    if let Some(typed) = &args.filter.range {
        let names = Names::of_saved(series.snapshots().last().map(Snapshot::origin), reporter);
        let range = typed.resolve(&names)?;
        wanted.range = wanted
            .range
            .intersect(range)
            .ok_or_else(|| Failure::new("the snapshots and --range have no addresses in common"))?;
    }
    Ok(wanted)
}

/// That each snapshot has a letter.
fn check<A: Address>(groups: &Groups, series: &Series<A>, args: &SnapSeriesArgs) -> Result<()> {
    let (letters, moments) = (groups.0.len(), series.len());
    if letters == moments {
        return Ok(());
    }
    Err(Failure::new(format!(
        "--groups has {letters} letters, and {} has {moments} snapshots",
        shell_word(&args.dir)
    ))
    .hint("a letter for each snapshot; `-` leaves one out")
    .hint("--list lists them")
    .into())
}

/// Rows of blocks that nobody will read, and memory for them.
const MOST_BLOCKS: u64 = 1 << 20;

impl<A: Address> Looking<'_, A> {
    /// The size of the blocks that regions are cut into; 0 for none.
    fn block(&self) -> Result<u64> {
        let mapped = self.series.snapshots().iter().map(|moment| {
            let kept = moment.kept().map(|region| region.len);
            kept.fold(0, u64::saturating_add)
        });
        let most = mapped.max().unwrap_or(0);
        match self.args.block {
            None if self.kind == SpaceKind::Physical => {
                // Physical memory is a region or two, which tells nothing about where.
                Ok((most / 64).max(1 << 16).next_power_of_two())
            }
            None => Ok(0),
            Some(block) if block > 0 && most / block < MOST_BLOCKS => Ok(block),
            Some(block) => Err(Failure::new(format!(
                "--block {} cuts {} into too many blocks",
                size::exact(block),
                size::approx(most)
            ))
            .hint(format!(
                "--block {}, or more",
                size::exact((most / MOST_BLOCKS + 1).next_power_of_two())
            ))
            .hint("--range, to look at less")
            .into()),
        }
    }

    fn history(&self) -> Result<History<A>> {
        let block = self.block()?;
        let reporter = &self.options.reporter;
        let total: u64 = self.series.snapshots()[1..]
            .iter()
            .map(|moment| moment.coverage().read)
            .sum();
        let bar = reporter.progress_begin("snap", total);
        let run = unbounded().progress(|done| bar.set_position(done));
        let history = self.series.history(self.wanted, block, run);
        reporter.progress_end();
        Ok(history)
    }

    fn origin(&self) -> &Origin {
        let last = self.series.snapshots().last();
        last.expect("there are two at least").origin()
    }

    /// The name of what a region lies in.
    fn name(&self, range: AddrRange<A>) -> Option<String> {
        let va = Gva(range.start().raw());
        (self.kind == SpaceKind::Virtual)
            .then(|| self.arranged.name(va, self.names.resolver()))
            .flatten()
    }

    fn regions(&self, history: &History<A>) -> Result<Done> {
        let reporter = &self.options.reporter;
        let changed = history
            .regions
            .iter()
            .any(|region| !region.steps.is_empty());
        said_if_stopped(history.stopped, changed, reporter)?;
        if let Some(path) = &self.args.html {
            self.draw(path, history, None)?;
        }
        let named = !self.arranged.is_empty();
        let mut sink = self.options.sink::<HistoryRow>(self.kind).named(named);
        let mut quiet = 0;
        for region in &history.regions {
            if region.steps.is_empty() && !self.args.all {
                quiet += 1;
                continue;
            }
            if sink
                .row(&row(region, self.name(region.range), self.series.len()))?
                .is_break()
            {
                break;
            }
        }
        sink.finish(Some(&totals(&history.coverage)))?;
        if quiet > 0 {
            let regions = if quiet == 1 { "region" } else { "regions" };
            reporter.note(&format!(
                "{quiet} {regions} did not change; --all lists all"
            ));
        }
        reporter.coverage(&history.coverage, Words::COMPARE);
        Ok(Done {
            found: changed,
            complete: Words::COMPARE.complete(&history.coverage) && !interrupt::asked(),
        })
    }

    /// Writes the picture.
    fn draw(&self, path: &Path, history: &History<A>, groups: Option<&Groups>) -> Result<()> {
        let page = picture::page(self, history, groups);
        vmie_replace::write(path, page.as_bytes())
            .map_err(|error| Failure::new(format!("{}: {error}", shell_word(path))).into())
    }
}

fn row<A: Address>(region: &RegionHistory<A>, name: Option<String>, moments: usize) -> HistoryRow {
    let mut changed = vec![0; moments - 1];
    for step in &region.steps {
        changed[step.snapshot - 1] = step.changed();
    }
    let sum = total(&region.steps);
    HistoryRow {
        va: Hex(region.range.start().raw()),
        len: region.range.len(),
        prot: prot(region.prot),
        changed,
        modified: sum.modified,
        appeared: sum.appeared,
        disappeared: sum.disappeared,
        protection: sum.protection,
        region: name,
    }
}

impl Row for HistoryRow {
    fn cell(&self, key: &str) -> Option<Cell> {
        let digits = || self.changed.iter().map(|&bytes| digit(bytes));
        (key == "changed").then(|| Cell::new(digits().collect::<String>()))
    }
}

/// What some steps changed together.
fn total<'s>(steps: impl IntoIterator<Item = &'s Step>) -> Step {
    let mut sum = Step::default();
    steps.into_iter().for_each(|step| sum.merge(step));
    sum
}

/// How much, in one character: the number of its digits in hexadecimal.
fn digit(bytes: u64) -> char {
    match bytes {
        0 => '.',
        bytes => char::from_digit(bytes.ilog2() / 4 + 1, 36).unwrap_or('z'),
    }
}
