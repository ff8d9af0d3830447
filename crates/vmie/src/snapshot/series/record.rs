//! Adding snapshots to a series.
//!
//! What the last snapshot held stays in memory. Of a page that is still the same nothing is done but to compare it,
//! which is why watching a guest that does little costs little more than reading it. A page that
//! changed is looked for by its hash among all pages of the series, compared with what has the same hash, and
//! kept if it is new. Rejected: to know pages of earlier snapshots by their hashes alone, which would save the
//! memory; guests can make pages that collide.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use xxhash_rust::xxh3::xxh3_64;

use super::super::file::{FileError, FileErrorKind as Kind, Form, Packer, SaveOptions, Tables};
use super::super::layout::{Layout, PageRun, SNAPSHOT_PAGE};
use super::super::slot::{Slot, ZERO};
use super::super::take::{WINDOW, fill, is_zero, list};
use super::super::{Origin, TakeError, TakeOptions};
use super::present::{Pages, Present, Walk, block};
use super::store::{self, Store};
use super::{Series, moment_path};
use crate::addr::{AddrRange, Address};
use crate::memory::{Coverage, Gap, Memory};
use crate::scan::Run;

/// A snapshot that was not added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It was not captured.
    #[error(transparent)]
    Take(#[from] TakeError),
    /// The series could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// An earlier snapshot was not added, and what is in memory belongs to it.
    #[error("an earlier moment was not added; the series has to be opened again")]
    Interrupted,
}

/// What was added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// The number of the snapshot.
    pub number: u32,
    /// Pages that were captured.
    pub pages: u64,
    /// Of them, pages of zeros.
    pub zero: u64,
    /// Pages that no moment before had at this address.
    pub changed: u64,
    /// Different pages among those that were added to the series.
    pub added: u64,
    /// Bytes by which the files of the series grew.
    pub bytes: u64,
}

/// Adds snapshots to a series.
///
/// One process at a time can do so; others can read meanwhile. What is there when a process is killed is a
/// series of whole snapshots.
#[derive(Debug)]
pub struct Recorder<A: Address> {
    dir: PathBuf,
    packer: Packer,
    pub(super) store: Store,
    present: Present,
    last: Pages,
    next: u32,
    /// Where the last snapshot comes from.
    origin: Option<Origin>,
    /// Whether a snapshot was begun and not added.
    interrupted: bool,
    _addresses: std::marker::PhantomData<fn() -> A>,
}

impl<A: Address> Recorder<A> {
    /// Begins a series in a directory, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// When that fails, or there is a series already.
    pub fn create(dir: impl AsRef<Path>, options: &SaveOptions) -> Result<Self, FileError> {
        let dir = dir.as_ref();
        let created = fs::create_dir(dir).or_else(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists if dir.is_dir() => Ok(()),
            _ => Err(error),
        });
        let at = |kind| FileError {
            path: dir.to_owned(),
            kind,
        };
        created.map_err(|error| at(error.into()))?;
        let store = Store::create(dir, options.compression).map_err(|kind| match kind {
            Kind::Io(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                at(Kind::Exists)
            }
            kind => at(kind),
        })?;
        Ok(Self {
            dir: dir.to_owned(),
            packer: Packer::new(options.compression, 0),
            store,
            present: Present::default(),
            last: Pages::default(),
            next: 1,
            origin: None,
            interrupted: false,
            _addresses: std::marker::PhantomData,
        })
    }

    /// Compresses on so many threads, instead of as many as the machine has.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.packer = Packer::new(self.store.compression, threads);
        self
    }

    /// Goes on with the series in a directory. It stays compressed as it is.
    ///
    /// # Errors
    ///
    /// As [`Series::open`], and when another process is adding snapshots.
    ///
    /// # Cost
    ///
    /// All of its pages are read once, and those of the last snapshot stay in memory.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, FileError> {
        let dir = dir.as_ref();
        let at = |kind| store::error(dir, kind);
        // Before the snapshots are looked at: nobody else adds one from here on.
        let mut store = Store::open(dir).map_err(at)?;
        let (series, blocks) = Series::<A>::open_with_blocks(dir)?;
        store.take_over(&blocks).map_err(at)?;
        drop(blocks);
        let mut recorder = Self {
            dir: dir.to_owned(),
            packer: Packer::new(store.compression, 0),
            store,
            present: Present::default(),
            last: Pages::default(),
            next: series.number(series.len().saturating_sub(1)).unwrap_or(0) + 1,
            origin: series.snapshots().last().map(|last| last.origin().clone()),
            interrupted: false,
            _addresses: std::marker::PhantomData,
        };
        recorder.remember().map_err(at)?;
        recorder.load(&series).map_err(at)?;
        Ok(recorder)
    }

    /// Where the last snapshot comes from, as whoever added it said; `None` before the first one.
    pub fn last_origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// Hashes what the series has.
    fn remember(&mut self) -> Result<(), Kind> {
        let pages = Slot::try_from(self.store.pages());
        for page in 0..pages.map_err(|_| Kind::Inconsistent("the number of its pages"))? {
            let hash = self.store.page(page, xxh3_64)?;
            self.store.remember(hash, page);
        }
        Ok(())
    }

    /// Brings the last snapshot to memory.
    fn load(&mut self, series: &Series<A>) -> Result<(), Kind> {
        let Some(last) = series.snapshots().last() else {
            return Ok(());
        };
        let mut places = Vec::with_capacity(last.slots.len());
        for &number in &last.slots {
            if number == ZERO {
                places.push(ZERO);
                continue;
            }
            let no_memory = || Kind::Io(std::io::ErrorKind::OutOfMemory.into());
            let place = self.present.room().ok_or_else(no_memory)?;
            let present = &mut self.present;
            self.store
                .page(number, |bytes| present.put(place, bytes, number))?;
            places.push(place);
        }
        self.last = Pages {
            runs: last.layout.runs().to_vec(),
            places,
        };
        Ok(())
    }

    /// Captures a snapshot. Nothing is written before [`Captured::keep`]: a guest that was stopped for this can run on
    /// before.
    ///
    /// Runs on the calling thread; the bound of the run does not count, [`TakeOptions::max_bytes`] does.
    ///
    /// # Errors
    ///
    /// As [`take`](super::super::take). No more snapshots can be added after an error, nor when the snapshot is dropped; the
    /// series has to be opened again.
    ///
    /// # Cost
    ///
    /// One read of the mapped bytes, and one of what the last snapshot held. Memory: what is not zero, once.
    pub fn capture(
        &mut self,
        memory: &dyn Memory<Addr = A>,
        options: &TakeOptions<A>,
        mut run: Run<'_>,
    ) -> Result<Captured<'_, A>, RecordError> {
        if std::mem::replace(&mut self.interrupted, true) {
            return Err(RecordError::Interrupted);
        }
        let (taken, began) = (SystemTime::now(), Instant::now());
        let layout = list(memory, options)?;
        let mut capture = Capture {
            walk: Walk::new(std::mem::take(&mut self.last)),
            recorder: self,
            slots: Vec::new(),
            places: Vec::new(),
            added: Vec::new(),
            changed: 0,
            max_pages: options.max_kept / SNAPSHOT_PAGE as u64,
        };
        let pages = usize::try_from(layout.pages()).ok();
        let reserved = pages.and_then(|pages| {
            capture.slots.try_reserve_exact(pages).ok()?;
            capture.places.try_reserve_exact(pages).ok()
        });
        reserved.ok_or(TakeError::NoMemory { kept: 0 })?;
        let gaps = capture.all(memory, &layout, options, &mut run)?;
        let Capture {
            recorder,
            slots,
            places,
            added,
            changed,
            ..
        } = capture;
        let layout = layout.with_gaps(gaps).expect("gaps come in order");
        recorder.last = Pages {
            runs: layout.runs().to_vec(),
            places,
        };
        Ok(Captured {
            coverage: layout.coverage(),
            recorder,
            layout,
            slots,
            added,
            changed,
            taken,
            took: began.elapsed(),
        })
    }
}

/// A snapshot that is being captured.
struct Capture<'r, A: Address> {
    recorder: &'r mut Recorder<A>,
    walk: Walk,
    /// The numbers of its pages.
    slots: Vec<Slot>,
    /// Where they are in memory.
    places: Vec<Slot>,
    /// Where those are that no moment had, in the order of their numbers.
    added: Vec<Slot>,
    changed: u64,
    max_pages: u64,
}

impl<A: Address> Capture<'_, A> {
    /// All pages; answers what could not be read.
    fn all(
        &mut self,
        memory: &dyn Memory<Addr = A>,
        layout: &Layout<A>,
        options: &TakeOptions<A>,
        steps: &mut Run<'_>,
    ) -> Result<Vec<Gap<A>>, RecordError> {
        let spans = layout.all_spans().iter();
        let mut kept = spans
            .filter(|span| options.filter.keeps(span.kind))
            .peekable();
        let mut gaps = Vec::new();
        let mut window = vec![0; WINDOW * SNAPSHOT_PAGE];
        for &run in layout.runs() {
            let mut done = 0;
            while done < run.count {
                let pages = (run.count - done).min(WINDOW as u64);
                let bytes = &mut window[..pages as usize * SNAPSHOT_PAGE];
                let start = A::new(run.start::<A>().raw() + done * SNAPSHOT_PAGE as u64);
                let range = AddrRange::new(start, bytes.len() as u64);
                let range = range.expect("pages are in the space");
                fill(memory, range, bytes, &mut kept, &mut gaps);
                self.window(run, done, bytes)?;
                done += pages;
                if steps
                    .step(self.slots.len() as u64 * SNAPSHOT_PAGE as u64)
                    .is_break()
                {
                    return Err(TakeError::Stopped.into());
                }
            }
        }
        let present = &mut self.recorder.present;
        let walk = std::mem::replace(&mut self.walk, Walk::new(Pages::default()));
        walk.finish(&mut |place| present.give_up(place));
        Ok(gaps)
    }

    fn window(&mut self, run: PageRun, done: u64, bytes: &[u8]) -> Result<(), RecordError> {
        for (page, bytes) in (run.first + done..).zip(bytes.chunks_exact(SNAPSHOT_PAGE)) {
            let present = &mut self.recorder.present;
            let before = self.walk.at(page, &mut |place| present.give_up(place));
            let (place, number) = self.page(bytes, before)?;
            self.places.push(place);
            self.slots.push(number);
        }
        Ok(())
    }

    /// One page, and where it was in memory. Answers where it is now, and its number.
    fn page(&mut self, bytes: &[u8], before: Option<Slot>) -> Result<(Slot, Slot), RecordError> {
        let present = &mut self.recorder.present;
        let before = before.filter(|&place| place != ZERO);
        if let Some(place) = before
            && present.page(place) == bytes
        {
            return Ok((place, present.number(place)));
        }
        if is_zero(bytes) {
            if let Some(place) = before {
                present.give_up(place);
                self.changed += 1;
            }
            return Ok((ZERO, ZERO));
        }
        self.changed += 1;
        let number = self.number(bytes)?;
        let kept = (self.recorder.present.len() * SNAPSHOT_PAGE) as u64;
        let no_memory = TakeError::NoMemory { kept };
        let present = &mut self.recorder.present;
        let place = match before {
            Some(place) => place,
            None => present.room().ok_or(no_memory)?,
        };
        if present.len() as u64 > self.max_pages {
            return Err(no_memory.into());
        }
        present.put(place, bytes, number.of());
        if let Number::New(_) = number {
            self.added.push(place);
        }
        Ok((place, number.of()))
    }

    /// The number of a page that is not what it was.
    fn number(&mut self, bytes: &[u8]) -> Result<Number, RecordError> {
        let Recorder {
            present,
            store,
            dir,
            ..
        } = &mut *self.recorder;
        let hash = xxh3_64(bytes);
        if let Some(known) = store.by_hash(hash) {
            let same = match present.find(known) {
                Some(found) => found == bytes,
                None => {
                    let same = store.page(known, |read| read == bytes);
                    same.map_err(|kind| store::error(dir, kind))?
                }
            };
            if same {
                return Ok(Number::Known(known));
            }
        }
        let kept = (present.len() * SNAPSHOT_PAGE) as u64;
        let new = store.next(self.added.len());
        let new = new.ok_or(TakeError::NoMemory { kept })?;
        store.remember(hash, new);
        Ok(Number::New(new))
    }
}

/// The number of a page.
#[derive(Clone, Copy)]
enum Number {
    Known(Slot),
    New(Slot),
}

impl Number {
    fn of(self) -> Slot {
        match self {
            Self::Known(number) | Self::New(number) => number,
        }
    }
}

/// A snapshot that was captured and is not yet in the series.
#[derive(Debug)]
#[must_use = "the moment is lost unless it is kept"]
pub struct Captured<'r, A: Address> {
    recorder: &'r mut Recorder<A>,
    layout: Layout<A>,
    slots: Vec<Slot>,
    added: Vec<Slot>,
    changed: u64,
    coverage: Coverage<A>,
    taken: SystemTime,
    took: Duration,
}

impl<A: Address> Captured<'_, A> {
    /// What was read, and what could not be.
    pub fn coverage(&self) -> &Coverage<A> {
        &self.coverage
    }

    /// When capturing it began.
    pub fn taken(&self) -> SystemTime {
        self.taken
    }

    /// How long capturing it took.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Adds it to the series, with where it comes from.
    ///
    /// # Errors
    ///
    /// When writing fails. The series is what it was before then.
    ///
    /// # Cost
    ///
    /// Compressing and syncing the pages that are new, and a table of four bytes for each page.
    pub fn keep(self, origin: Origin) -> Result<Recorded, RecordError> {
        let Self {
            recorder,
            layout,
            slots,
            added,
            changed,
            taken,
            took,
            ..
        } = self;
        let pages_at = |kind| store::error(&recorder.dir, kind);
        let (present, store) = (&recorder.present, &mut recorder.store);
        let mut bytes = 0;
        let gather = |places: &[Slot]| Ok(Cow::Owned(block(present, places)));
        let packed = recorder.packer.pack(&added, gather, |block, sum| {
            bytes += block.len() as u64;
            store.write(block, sum)
        });
        let written = packed.and_then(|()| {
            if added.is_empty() {
                return Ok(());
            }
            store.sync()
        });
        written.map_err(pages_at)?;
        let recorded = Recorded {
            number: recorder.next,
            pages: slots.len() as u64,
            zero: slots.iter().filter(|slot| **slot == ZERO).count() as u64,
            changed,
            added: added.len() as u64,
            bytes: 0,
        };
        let tables = Tables {
            layout,
            slots,
            taken,
            took,
            origin,
            compression: store.compression,
            pages: store.pages(),
            blocks: store.blocks.clone(),
        };
        let encoded = tables.encode(Form::Moment);
        let path = moment_path(&recorder.dir, recorder.next);
        let saved = vmie_replace::write(&path, &encoded);
        saved.map_err(|error| FileError {
            path,
            kind: error.into(),
        })?;
        recorder.next += 1;
        recorder.origin = Some(tables.origin);
        recorder.interrupted = false;
        Ok(Recorded {
            bytes: bytes + encoded.len() as u64,
            ..recorded
        })
    }
}
