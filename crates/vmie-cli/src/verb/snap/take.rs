//! `vmie snap take`: what a space maps now, in a file.

use vmie::snapshot::{
    self, Compression, FileError, FileErrorKind, Filter, SaveOptions, Saved, Snapshot, TakeError,
    TakeOptions,
};
use vmie::{AddrRange, Address, Memory, Prot};
use vmie_rows::TakenRow;

use super::args::{Compress, SnapTakeArgs};
use crate::args::FilterArgs;
use crate::exit::{Done, Failure, Result};
use crate::interrupt;
use crate::options::Options;
use crate::output::{Row, totals};
use crate::report::Words;
use crate::saved;
use crate::seek;
use crate::source::Source;
use crate::space::{Space, Target};
use crate::unread::nothing_read;

pub(super) fn run(args: &SnapTakeArgs, options: &Options) -> Result<Done> {
    interrupt::listen();
    let compression = compression(args.compress);
    let source = Source::open(&args.source, &options.reporter)?;
    let space = Space::select(&source, &args.space, &options.reporter)?;
    let taking = Taking {
        args,
        options,
        source: &source,
        space: &space,
        compression,
    };
    match &space.of.target {
        Target::Physical(memory) => taking.run(&**memory),
        Target::Virtual(memory) => taking.run(memory),
        Target::Saved(memory) => taking.run(&**memory),
    }
}

pub(super) fn compression(typed: Compress) -> Compression {
    match typed {
        Compress::None => Compression::None,
        Compress::Lz4 => Compression::Lz4,
        Compress::Zstd => Compression::Zstd,
    }
}

struct Taking<'a, 's> {
    args: &'a SnapTakeArgs,
    options: &'a Options,
    source: &'a Source,
    space: &'a Space<'s>,
    compression: Compression,
}

impl Taking<'_, '_> {
    fn run<A: Address>(&self, memory: &dyn Memory<Addr = A>) -> Result<Done> {
        let reporter = &self.options.reporter;
        let snapshot = self.take(memory)?;
        // A guest that was stopped need not wait for the file, and of one that has quit there is none.
        #[cfg(target_os = "linux")]
        crate::live::Opened.finish(reporter)?;
        let coverage = snapshot.coverage();
        if coverage.read == 0 {
            let filter = &self.args.filter;
            let range = filter.range.as_ref().map(ToString::to_string);
            return Err(nothing_read(coverage, self.space, self.source, range, filter.perm).into());
        }
        let saved = self.save(&snapshot)?;
        let mut sink = self.options.sink::<TakenRow>(self.space.kind());
        let _ = sink.row(&row(self.args, &snapshot, saved))?;
        sink.finish(Some(&totals(coverage)))?;
        reporter.coverage(coverage, Words::SEARCH);
        Ok(Done {
            found: true,
            complete: Words::SEARCH.complete(coverage),
        })
    }

    fn take<A: Address>(&self, memory: &dyn Memory<Addr = A>) -> Result<Snapshot<A>> {
        let options = wanted(
            &self.args.filter,
            self.source,
            self.space,
            snapshot::memory_available(),
        )?;
        let taken = snapshot::take(
            memory,
            &options,
            seek::run("snap", self.source, self.options),
        );
        self.options.reporter.progress_end();
        let taken = taken.map_err(|error| match error {
            TakeError::Stopped => Failure::new("stopped before the snapshot was complete")
                .found("Ctrl-C; nothing was written"),
            error => Failure::new("no snapshot was taken")
                .found(error.to_string())
                .hint("--range or --perm, to keep less"),
        })?;
        Ok(taken.with_origin(crate::origin::origin(
            self.source,
            self.space,
            &self.options.reporter,
        )?))
    }

    fn save<A: Address>(&self, snapshot: &Snapshot<A>) -> Result<Saved> {
        let reporter = &self.options.reporter;
        let options = SaveOptions {
            compression: self.compression,
        };
        let run = seek::run("snap", self.source, self.options);
        let saved = snapshot.save(&self.args.out, &options, run);
        reporter.progress_end();
        Ok(saved.map_err(not_saved)?)
    }
}

/// What to capture of a space.
pub(super) fn wanted<A: Address>(
    filter: &FilterArgs,
    source: &Source,
    space: &Space<'_>,
    max_kept: u64,
) -> Result<TakeOptions<A>> {
    let range = space.range(filter.range.as_ref())?;
    Ok(TakeOptions {
        range: range.unwrap_or_else(AddrRange::all),
        filter: Filter {
            all: filter.perm.unwrap_or(Prot::NONE),
            any: Prot::NONE,
        },
        max_bytes: source.sweep_bound(),
        max_kept,
    })
}

/// A snapshot that was taken and could not be kept.
fn not_saved(error: FileError) -> Failure {
    match error.kind {
        FileErrorKind::Stopped => Failure::new("stopped before the snapshot was saved")
            .found("Ctrl-C; nothing was written"),
        _ => Failure::new(format!("the snapshot was not saved: {error}")),
    }
}

fn row<A: Address>(args: &SnapTakeArgs, snapshot: &Snapshot<A>, saved: Saved) -> TakenRow {
    let coverage = snapshot.coverage();
    TakenRow {
        file: args.out.display().to_string(),
        size: saved.bytes,
        taken: saved::when(snapshot.taken()),
        took_ms: u64::try_from(snapshot.took().as_millis()).unwrap_or(u64::MAX),
        regions: snapshot.kept().count() as u64,
        mapped: coverage.mapped,
        read: coverage.read,
        absent: coverage.absent,
        pages: saved.pages,
        zero: saved.zero,
        distinct: saved.distinct,
    }
}

impl Row for TakenRow {}
