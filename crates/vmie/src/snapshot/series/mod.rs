//! Series: snapshots of one memory that share their pages.
//!
//! A directory of files:
//!
//! * `pages.vmie` holds the pages of all snapshots, each different one once (see `store`);
//! * `000001.moment`, `000002.moment`, ... say what was mapped at each and which of the pages its contents are: the
//!   tables of a snapshot without blocks of their own. Each appears when it and its pages are whole and synced, so that
//!   a process that is killed at any snapshot leaves the snapshots before. One can be removed without harm to others.
//!
//! Every moment is a [`Snapshot`], and [`Snapshot::open`] takes its file. A page that two snapshots share is the same
//! in both, so they are compared without being read: that makes a series quick to look at.

mod history;
mod known;
mod present;
mod record;
mod store;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::content::Content;
use super::diff::{Steps, diff_knowing};
use super::file::{Blocks, FileError, FileErrorKind as Kind, Form, Tables};
use super::groups::tell_apart_knowing;
use super::{Change, DiffOptions, DiffOutcome, GroupsOutcome, Snapshot};
use crate::addr::{AddrRange, Address};
use crate::filemap::FileMap;
use crate::memory::Memory;
use crate::scan::Run;
pub use history::{History, RegionHistory, Step};
pub use record::{Captured, RecordError, Recorded, Recorder};

/// Moments of one memory, in the order in which they were taken.
#[derive(Debug)]
pub struct Series<A: Address> {
    numbers: Vec<u32>,
    snapshots: Vec<Snapshot<A>>,
}

/// What is read of the files of a series.
struct Read<A: Address> {
    series: Series<A>,
    /// Length and checksum of each block.
    blocks: Vec<(u64, u64)>,
}

impl<A: Address> Series<A> {
    /// Opens the series in a directory. It may have no snapshots yet.
    ///
    /// # Errors
    ///
    /// When there is none, and as [`Snapshot::open`] for each of its files.
    ///
    /// # Cost
    ///
    /// The checksums of all pages are verified once, at the speed of memory for files in the page cache. Memory: four
    /// bytes for each page of each snapshot.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, FileError> {
        Ok(read(dir.as_ref(), &mut Err)?.series)
    }

    /// Opens what is intact of a damaged series, and says what is not: snapshots whose files are damaged are left out, and
    /// pages that are lost fault with [`Cause::Damaged`](crate::Cause::Damaged).
    ///
    /// # Errors
    ///
    /// When the directory cannot be read, or no pages are found in it.
    pub fn salvage(dir: impl AsRef<Path>) -> Result<(Self, Vec<FileError>), FileError> {
        let mut problems = Vec::new();
        let read = read(dir.as_ref(), &mut |problem| {
            problems.push(problem);
            Ok(())
        })?;
        Ok((read.series, problems))
    }

    fn open_with_blocks(dir: &Path) -> Result<(Self, Vec<(u64, u64)>), FileError> {
        let read = read(dir, &mut Err)?;
        Ok((read.series, read.blocks))
    }

    /// How many snapshots there are.
    pub fn len(&self) -> usize {
        self.snapshots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.snapshots.is_empty()
    }

    /// The snapshots.
    pub fn snapshots(&self) -> &[Snapshot<A>] {
        &self.snapshots
    }

    /// The number in the name of a snapshot's file; `None` when there are not so many snapshots.
    pub fn number(&self, index: usize) -> Option<u32> {
        self.numbers.get(index).copied()
    }

    /// As [`diff`](super::diff) of two snapshots, without reading the pages that they share.
    ///
    /// # Panics
    ///
    /// When there is no moment of this index.
    pub fn diff(
        &self,
        before: usize,
        after: usize,
        options: &DiffOptions<A>,
        mut run: Run<'_>,
        emit: impl FnMut(Change<A>) -> ControlFlow<()>,
    ) -> DiffOutcome<A> {
        self.diff_stepping(before, after, options, &mut Steps::of(&mut run), emit)
    }

    fn diff_stepping(
        &self,
        before: usize,
        after: usize,
        options: &DiffOptions<A>,
        steps: &mut Steps<'_>,
        emit: impl FnMut(Change<A>) -> ControlFlow<()>,
    ) -> DiffOutcome<A> {
        let (before, after) = (&self.snapshots[before], &self.snapshots[after]);
        let same = |range: AddrRange<A>| known::shared(&[before, after], range);
        diff_knowing(before, after, options, Some(&same), steps, emit)
    }

    /// As [`tell_apart`](super::tell_apart) of groups of snapshots, by their indices, without reading the pages that all of
    /// them share.
    ///
    /// # Panics
    ///
    /// When there is no moment of some index.
    pub fn tell_apart(
        &self,
        groups: &[Vec<usize>],
        options: &DiffOptions<A>,
        mut run: Run<'_>,
        emit: impl FnMut(AddrRange<A>) -> ControlFlow<()>,
    ) -> GroupsOutcome<A> {
        let all: Vec<&Snapshot<A>> = groups
            .iter()
            .flatten()
            .map(|&index| &self.snapshots[index])
            .collect();
        let memory = |&index: &usize| &self.snapshots[index] as &dyn Memory<Addr = A>;
        let memories: Vec<Vec<_>> = groups
            .iter()
            .map(|group| group.iter().map(memory).collect())
            .collect();
        let same = |range: AddrRange<A>| known::shared(&all, range);
        // What is the same everywhere tells nothing apart; of one group it is what is asked for.
        let several = groups.iter().filter(|group| !group.is_empty()).count() > 1;
        let same: Option<&dyn Fn(AddrRange<A>) -> u64> = if several { Some(&same) } else { None };
        tell_apart_knowing(&memories, options, same, &mut run, emit)
    }
}

/// Whether a directory holds a series, even one without snapshots.
pub fn is_series(path: impl AsRef<Path>) -> bool {
    store::path(path.as_ref()).is_file()
}

/// The files of the snapshots of a series, in order, with their numbers.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn moment_files(dir: impl AsRef<Path>) -> std::io::Result<Vec<(u32, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let is_moment = path
            .extension()
            .is_some_and(|extension| extension == "moment");
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let number = stem.and_then(|stem| stem.parse::<u32>().ok());
        if let Some(number) =
            number.filter(|&number| is_moment && moment_name(number) == path_name(&path))
        {
            files.push((number, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn path_name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

fn moment_name(number: u32) -> String {
    format!("{number:06}.moment")
}

fn moment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(moment_name(number))
}

/// Reads all snapshots. `problem` decides whether to go on after one.
fn read<A: Address>(
    dir: &Path,
    problem: &mut dyn FnMut(FileError) -> Result<(), FileError>,
) -> Result<Read<A>, FileError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |kind| FileError { path, kind }
    };
    let pages_path = store::path(dir);
    if !pages_path.is_file() {
        return Err(at(dir)(Kind::NoSeries));
    }
    let files = moment_files(dir).map_err(|error| at(dir)(error.into()))?;
    let (map, compression) = store::map(dir).map_err(at(&pages_path))?;
    let mut all: Vec<(u32, PathBuf, Tables<A>)> = Vec::new();
    for (number, path) in files {
        let tables = super::file::map(&path).and_then(|map| tables(&map));
        match tables.and_then(|tables| fits(&tables, compression).map(|()| tables)) {
            Ok(tables) => all.push((number, path, tables)),
            Err(kind) => problem(at(&path)(kind))?,
        }
    }
    // Blocks are only ever added.
    let longest = all.iter().max_by_key(|one| one.2.blocks.len());
    let blocks = longest.map_or_else(Vec::new, |one| one.2.blocks.clone());
    let mut fitting = Vec::with_capacity(all.len());
    for (number, path, mut tables) in all {
        if blocks.starts_with(&tables.blocks) {
            tables.blocks = Vec::new();
            fitting.push((number, tables));
        } else {
            problem(at(&path)(Kind::Inconsistent(
                "its pages are not those of the other moments",
            )))?;
        }
    }
    let begin = store::HEADER as u64;
    let places = super::file::places(&map, &blocks, begin, &mut |kind| {
        problem(at(&pages_path)(kind)).map_err(|error| error.kind)
    });
    let places = places.map_err(at(&pages_path))?;
    let pages = (blocks.len() * super::file::BLOCK_PAGES) as u64;
    let shared = Arc::new(Blocks::new(map, compression, pages, places));
    let mut series = Series {
        numbers: Vec::with_capacity(fitting.len()),
        snapshots: Vec::with_capacity(fitting.len()),
    };
    for (number, tables) in fitting {
        series.numbers.push(number);
        series.snapshots.push(snapshot(tables, &shared));
    }
    Ok(Read { series, blocks })
}

/// Reads one snapshot, whose file is `path`.
pub(super) fn moment<A: Address>(
    path: &Path,
    map: &FileMap,
    problem: &mut dyn FnMut(Kind) -> Result<(), Kind>,
) -> Result<Snapshot<A>, Kind> {
    let tables = tables::<A>(map)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    let in_pages = |kind| Kind::Pages(Box::new(store::error(dir, kind)));
    let (map, compression) = store::map(dir).map_err(in_pages)?;
    fits(&tables, compression)?;
    let begin = store::HEADER as u64;
    let places = super::file::places(&map, &tables.blocks, begin, &mut |kind| {
        problem(in_pages(kind))
    })?;
    let shared = Arc::new(Blocks::new(map, compression, tables.pages, places));
    Ok(snapshot(tables, &shared))
}

/// The tables of a snapshot, from the whole file of it.
fn tables<A: Address>(map: &FileMap) -> Result<Tables<A>, Kind> {
    let len = usize::try_from(map.len()).ok();
    let bytes = len.and_then(|len| map.slice(0, len)).unwrap_or_default();
    let tables = Tables::decode(Form::Moment, bytes, 0)?;
    let expected = tables.len();
    if map.len() != expected {
        return Err(Kind::Length {
            found: map.len(),
            expected,
        });
    }
    Ok(tables)
}

/// Whether a snapshot's blocks are as those of a series are: full, and compressed in its way.
fn fits<A: Address>(tables: &Tables<A>, compression: super::Compression) -> Result<(), Kind> {
    if tables.compression != compression {
        return Err(Kind::Inconsistent("its compression"));
    }
    if !tables.pages.is_multiple_of(super::file::BLOCK_PAGES as u64) {
        return Err(Kind::Inconsistent("the number of its pages"));
    }
    Ok(())
}

fn snapshot<A: Address>(tables: Tables<A>, blocks: &Arc<Blocks>) -> Snapshot<A> {
    Snapshot {
        coverage: tables.layout.coverage(),
        layout: tables.layout,
        slots: tables.slots,
        content: Content::File(Arc::clone(blocks)),
        taken: tables.taken,
        took: tables.took,
        origin: tables.origin,
    }
}
