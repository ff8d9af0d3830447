//! `vmie snap watch`: one snapshot after the other, in a directory.
//!
//! Every snapshot opens the source anew: a process is looked for again, so that the snapshot is of it or there is
//! none, and a guest is stopped for `--pause` only while it is looked at. What was kept before anything
//! goes wrong stays.

use std::time::{Duration, Instant};

use vmie::snapshot::series::{self, RecordError, Recorder, moment_files};
use vmie::snapshot::{self, FileErrorKind, Origin, SaveOptions, TakeError};
use vmie::{Address, Gpa, Gva, Memory};
use vmie_rows::WatchedRow;

use super::args::SnapWatchArgs;
use crate::candidates::{Likeness, Whose, told};
use crate::escape::shell_word;
use crate::exit::{Done, Failure, Result};
use crate::interrupt;
use crate::options::Options;
use crate::output::{Row, Sink};
use crate::report::{Reporter, Words};
use crate::saved;
use crate::seek;
use crate::source::Source;
use crate::space::{Space, Target};
use crate::unread::nothing_read;

use super::take::{compression, wanted};

/// How soon Ctrl-C is noticed between two snapshots.
const NAP: Duration = Duration::from_millis(20);

pub(super) fn run(args: &SnapWatchArgs, options: &Options) -> Result<Done> {
    interrupt::listen();
    let save = SaveOptions {
        compression: compression(args.compress),
    };
    let mut watch = Watch {
        args,
        options,
        save,
        max_kept: snapshot::memory_available(),
        series: None,
        whose: None,
        sink: None,
        complete: true,
        added: 0,
        slowest: Duration::ZERO,
    };
    if args.append {
        watch.reopen()?;
    } else if series::is_series(&args.out) {
        return Err(exists(args).into());
    }
    let began = Instant::now();
    for index in 0u32.. {
        if args.count == Some(index) || !wait(began, args.every.saturating_mul(index)) {
            break;
        }
        match watch.moment(index) {
            Ok(Some(())) => {}
            Ok(None) => break,
            Err(stop) => {
                watch.told()?;
                return Err(stop);
            }
        }
    }
    // That is how a watch without --count ends.
    interrupt::settled();
    watch.finish()
}

/// Waits until so long after the beginning; no longer than until Ctrl-C, which is told by `false`.
fn wait(began: Instant, after: Duration) -> bool {
    loop {
        if interrupt::asked() {
            return false;
        }
        match after.checked_sub(began.elapsed()) {
            None | Some(Duration::ZERO) => return true,
            Some(left) => std::thread::sleep(left.min(NAP)),
        }
    }
}

fn exists(args: &SnapWatchArgs) -> Failure {
    Failure::new(format!(
        "{} holds a series of snapshots already",
        shell_word(&args.out)
    ))
    .hint("--append, to go on with it, or another directory")
}

/// The series that is added to, once it is known what its addresses are.
enum Series {
    Physical(Recorder<Gpa>),
    Virtual(Recorder<Gva>),
}

struct Watch<'a> {
    args: &'a SnapWatchArgs,
    options: &'a Options,
    save: SaveOptions,
    max_kept: u64,
    series: Option<Series>,
    /// Whose snapshots they are.
    whose: Option<Whose>,
    sink: Option<Sink<'a>>,
    /// Whether all snapshots could be read.
    complete: bool,
    added: u32,
    slowest: Duration,
}

impl Watch<'_> {
    /// A recorder that compresses on the threads that were asked for.
    fn on<A: Address>(&self, recorder: Recorder<A>) -> Recorder<A> {
        recorder.threads(self.options.threads)
    }

    /// Opens the series that is there.
    fn reopen(&mut self) -> Result<()> {
        let dir = &self.args.out;
        let unreadable = |error: std::io::Error| {
            Failure::new(format!("{}: {error}", shell_word(dir)))
                .hint("leave out --append, to begin a series there")
        };
        let last = moment_files(dir).map_err(unreadable)?.pop();
        // Without a snapshot, nothing is known of its addresses yet.
        let Some((_, last)) = last else {
            return Ok(());
        };
        self.series = Some(match saved::kind(&last) {
            Some(space) if space == Gpa::SPACE => {
                Series::Physical(self.on(Recorder::open(dir).map_err(not_opened)?))
            }
            _ => Series::Virtual(self.on(Recorder::open(dir).map_err(not_opened)?)),
        });
        let origin = match &self.series {
            Some(Series::Physical(recorder)) => recorder.last_origin(),
            Some(Series::Virtual(recorder)) => recorder.last_origin(),
            None => None,
        };
        self.whose = origin.map(saved::whose);
        Ok(())
    }

    /// Adds a snapshot; `None` when Ctrl-C ended it.
    fn moment(&mut self, index: u32) -> Result<Option<()>> {
        let reporter = match index {
            0 => self.options.reporter.clone(),
            _ => self.options.reporter.said_once(),
        };
        let began = Instant::now();
        let source = Source::open(&self.args.source, &reporter)?;
        let space = Space::select(&source, &self.args.space, &reporter)?;
        if index == 0 && !source.info().live {
            reporter.warn(&format!(
                "nobody changes {}: its snapshots will be the same",
                source.name()
            ));
        }
        self.same_space(&space)?;
        let moment = Now {
            source: &source,
            space: &space,
            reporter: &reporter,
        };
        let row = match &space.of.target {
            Target::Physical(memory) => self.add(&**memory, &moment)?,
            Target::Virtual(memory) => self.add(memory, &moment)?,
            Target::Saved(memory) => self.add(&**memory, &moment)?,
        };
        let Some(row) = row else {
            return Ok(None);
        };
        self.added += 1;
        // The first one is compressed whole; how long the others take is what matters.
        if index > 0 {
            self.slowest = self.slowest.max(began.elapsed());
        }
        let options = self.options;
        let sink = self
            .sink
            .get_or_insert_with(|| options.sink::<WatchedRow>(space.kind()));
        let flow = sink.row(&row)?;
        sink.pass_on()?;
        Ok(flow.is_continue().then_some(()))
    }

    /// That it still is the memory that the series is of.
    fn same_space(&mut self, space: &Space<'_>) -> Result<()> {
        let now = space.whose();
        let Some(then) = &self.whose else {
            self.whose = Some(now);
            return Ok(());
        };
        match then.likeness(&now) {
            Likeness::Same => Ok(()),
            Likeness::OtherRun | Likeness::Different => Err(Failure::new(format!(
                "{} is not what the snapshots in {} are of",
                told(&now),
                shell_word(&self.args.out)
            ))
            .found(format!("they are of {}", told(then)))
            .hint("another directory")
            .into()),
        }
    }

    fn add<A: Recordable>(
        &mut self,
        memory: &dyn Memory<Addr = A>,
        now: &Now<'_, '_>,
    ) -> Result<Option<WatchedRow>> {
        let options = wanted(&self.args.filter, now.source, now.space, self.max_kept)?;
        if self.series.is_none() {
            // Not before there is something to keep: a wrong name leaves no directory behind.
            self.series = Some(A::begin(self)?);
        }
        let Some(recorder) = self.series.as_mut().and_then(A::recorder) else {
            return Err(Failure::new(format!(
                "{} holds snapshots of another kind of memory",
                shell_word(&self.args.out)
            ))
            .hint("physical memory needs --phys, and another directory")
            .into());
        };
        let captured = recorder.capture(
            memory,
            &options,
            seek::run("snap", now.source, self.options),
        );
        now.reporter.progress_end();
        let moment = match captured {
            Err(RecordError::Take(TakeError::Stopped)) => return Ok(None),
            captured => captured.map_err(not_kept)?,
        };
        let origin: Origin = crate::origin::origin(now.source, now.space, now.reporter)?;
        // A guest that was stopped need not wait for the files, and of one that has quit there is no snapshot.
        #[cfg(target_os = "linux")]
        crate::live::Opened.finish(now.reporter)?;
        let coverage = moment.coverage();
        if coverage.read == 0 {
            let filter = &self.args.filter;
            let range = filter.range.as_ref().map(ToString::to_string);
            let failure = nothing_read(coverage, now.space, now.source, range, filter.perm);
            return Err(failure.into());
        }
        self.complete &= Words::SEARCH.complete(coverage);
        let (read, absent) = (coverage.read, coverage.absent);
        let taken = saved::when(moment.taken());
        let took_ms = u64::try_from(moment.took().as_millis()).unwrap_or(u64::MAX);
        let recorded = moment.keep(origin).map_err(not_kept)?;
        Ok(Some(WatchedRow {
            moment: recorded.number,
            taken,
            took_ms,
            read,
            absent,
            pages: recorded.pages,
            zero: recorded.zero,
            changed: recorded.changed,
            added: recorded.added,
            size: recorded.bytes,
        }))
    }

    /// Ends the rows.
    fn told(&mut self) -> Result<()> {
        match self.sink.take() {
            Some(sink) => sink.finish(None),
            None => Ok(()),
        }
    }

    fn finish(mut self) -> Result<Done> {
        let reporter = &self.options.reporter;
        if self.added == 0 {
            return Err(Failure::new("stopped before a snapshot was kept")
                .found("Ctrl-C")
                .into());
        }
        self.told()?;
        if self.args.count.is_some_and(|count| self.added < count) && interrupt::asked() {
            reporter.warn(&format!("stopped by Ctrl-C after {} snapshots", self.added));
        }
        // With no time at all between them, snapshots follow each other as they can.
        if self.slowest > self.args.every && !self.args.every.is_zero() {
            reporter.warn(&format!(
                "snapshots took up to {} ms, longer than --every",
                self.slowest.as_millis()
            ));
        }
        Ok(Done {
            found: true,
            complete: self.complete,
        })
    }
}

/// What one snapshot is of.
struct Now<'a, 's> {
    source: &'a Source,
    space: &'a Space<'s>,
    reporter: &'a Reporter,
}

/// Kinds of addresses that series are of.
trait Recordable: Address {
    fn begin(watch: &Watch<'_>) -> Result<Series>;
    fn recorder(series: &mut Series) -> Option<&mut Recorder<Self>>;
}

impl Recordable for Gpa {
    fn begin(watch: &Watch<'_>) -> Result<Series> {
        begin(watch).map(Series::Physical)
    }

    fn recorder(series: &mut Series) -> Option<&mut Recorder<Self>> {
        match series {
            Series::Physical(recorder) => Some(recorder),
            Series::Virtual(_) => None,
        }
    }
}

impl Recordable for Gva {
    fn begin(watch: &Watch<'_>) -> Result<Series> {
        begin(watch).map(Series::Virtual)
    }

    fn recorder(series: &mut Series) -> Option<&mut Recorder<Self>> {
        match series {
            Series::Virtual(recorder) => Some(recorder),
            Series::Physical(_) => None,
        }
    }
}

fn begin<A: Address>(watch: &Watch<'_>) -> Result<Recorder<A>> {
    let dir = &watch.args.out;
    // One that was killed before its first snapshot has left a series without any.
    let recorder = if watch.args.append && series::is_series(dir) {
        Recorder::open(dir)
    } else {
        Recorder::create(dir, &watch.save)
    };
    let recorder = recorder.map(|recorder| watch.on(recorder));
    recorder.map_err(|error| match error.kind {
        FileErrorKind::Exists => exists(watch.args).into(),
        _ => not_opened(error).into(),
    })
}

fn not_opened(error: snapshot::FileError) -> Failure {
    let failure = Failure::new(error.to_string());
    match error.kind {
        FileErrorKind::Busy => failure.hint("wait for it, or another directory"),
        _ => failure,
    }
}

/// A snapshot that is not in the series.
fn not_kept(error: RecordError) -> Failure {
    let failure = Failure::new("the snapshot was not kept").found(error.to_string());
    match error {
        RecordError::Take(_) => failure.hint("--range or --perm, to keep less"),
        _ => failure.found("the snapshots before it are as they were"),
    }
}

impl Row for WatchedRow {}
