//! What several sources say, in the order of the sources.
//!
//! The source whose turn it is writes as it goes; what others have to say waits, up to a bound, after which they wait
//! themselves. Sources are begun in their order, so the one whose turn it is always runs.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use vmie_rows::{Field, Shape, SourceMark};

use crate::exit::{Failure, Result, Stop};
use crate::output::{
    Chunk, Format, Gather, Output, Piece, SpaceKind, Totals, csv_header, json, strip,
};
use crate::report::Reporter;

/// How many bytes of one source may wait for its turn.
const MOST_WAITING: usize = 32 << 20;
/// How much is held back before it is written.
const CHUNK_BYTES: usize = 64 << 10;
/// How many rows of a table are aligned together.
const CHUNK_ROWS: usize = 512;
/// How long a row may wait for company on a terminal.
const CHUNK_TIME: Duration = Duration::from_millis(150);

/// How a source ended, as the answer says it.
#[derive(Clone, Default, Debug)]
pub(crate) struct Status {
    pub(crate) status: u8,
    pub(crate) error: Option<String>,
}

/// What all of them have said.
pub(crate) struct Together {
    output: Output,
    reporter: Reporter,
    all: Mutex<All>,
    /// When the turn has changed.
    turn: Condvar,
}

struct All {
    turn: usize,
    waiting: Vec<Waiting>,
    /// The kind of rows, once there are any.
    begun: Option<(&'static Shape, Vec<&'static Field>, SpaceKind)>,
    table: Chunk,
    buffer: Vec<u8>,
    rows: u64,
    texts: u64,
    flushed: Instant,
    ended: Vec<Source>,
    stop: Option<Stop>,
}

#[derive(Default)]
struct Waiting {
    pieces: VecDeque<Piece>,
    bytes: usize,
    ended: bool,
}

/// What the `json` format says of a source.
#[derive(Default, Serialize)]
struct Source {
    source: String,
    status: u8,
    error: Option<String>,
    coverage: Option<Totals>,
}

impl Together {
    pub(crate) fn new(output: Output, sources: usize, reporter: Reporter) -> Self {
        let mut waiting = Vec::new();
        waiting.resize_with(sources, Waiting::default);
        let mut ended = Vec::new();
        ended.resize_with(sources, Source::default);
        Self {
            output,
            reporter,
            all: Mutex::new(All {
                turn: 0,
                waiting,
                begun: None,
                table: Chunk::default(),
                buffer: Vec::new(),
                rows: 0,
                texts: 0,
                flushed: Instant::now(),
                ended,
                stop: None,
            }),
            turn: Condvar::new(),
        }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `--limit` is reached.
    fn is_full(&self, all: &All) -> bool {
        self.output.limit.is_some_and(|limit| all.rows >= limit)
    }

    /// Says that a source has said everything.
    pub(super) fn end(&self, index: usize, source: &Path, status: Status) {
        let mut all = self.all();
        let ended = &mut all.ended[index];
        ended.source = source.display().to_string();
        ended.status = status.status;
        ended.error = status.error;
        all.waiting[index].ended = true;
        while all.turn == index_of_ended(&all) {
            all.turn += 1;
            let turn = all.turn;
            let Some(waiting) = all.waiting.get_mut(turn) else {
                break;
            };
            waiting.bytes = 0;
            for piece in std::mem::take(&mut waiting.pieces) {
                self.take(&mut all, turn, piece);
            }
        }
        self.turn.notify_all();
    }

    /// Writes what the source says whose turn it is.
    fn take(&self, all: &mut All, index: usize, piece: Piece) {
        let is_row = !matches!(piece, Piece::Said(_) | Piece::Totals(_));
        if is_row && (self.is_full(all) || all.stop.is_some()) {
            return;
        }
        let first = all.rows == 0;
        all.rows += u64::from(is_row);
        match piece {
            Piece::Row(row) => {
                match (self.output.format, first) {
                    (Format::Json, true) => all.buffer.extend_from_slice(b"\n  "),
                    (Format::Json, false) => all.buffer.extend_from_slice(b",\n  "),
                    _ => {}
                }
                all.buffer.extend_from_slice(&row);
            }
            Piece::Cells(cells) => {
                all.table.push(cells);
                if all.table.len() >= CHUNK_ROWS {
                    self.align(all);
                }
            }
            Piece::Text(text) => {
                self.align(all);
                if std::mem::replace(&mut all.texts, 1) > 0 {
                    all.buffer.push(b'\n');
                }
                let text = strip(&text, self.output.color);
                all.buffer.extend_from_slice(text.as_bytes());
            }
            Piece::Said(lines) => {
                // What was found goes before what is said of it.
                if self.output.terminal {
                    self.align(all);
                    self.flush(all);
                }
                self.reporter.pass_on(&lines);
            }
            Piece::Totals(totals) => all.ended[index].coverage = Some(*totals),
        }
        let late = self.output.terminal && all.flushed.elapsed() >= CHUNK_TIME;
        if all.buffer.len() >= CHUNK_BYTES || late {
            if late {
                self.align(all);
            }
            self.flush(all);
        }
    }

    fn align(&self, all: &mut All) {
        if let Some((_, columns, space)) = &all.begun {
            let in_tables =
                |field: &&&'static Field| field.column.is_some_and(|c| c.is_in_tables());
            let shown: Vec<&Field> = columns.iter().filter(in_tables).copied().collect();
            let text = all.table.render(&shown, *space, &self.output);
            all.buffer.extend_from_slice(text.as_bytes());
        }
    }

    fn flush(&self, all: &mut All) {
        let buffer = std::mem::take(&mut all.buffer);
        let written = self.reporter.suspend(|| {
            let mut out = io::stdout().lock();
            out.write_all(&buffer).and_then(|()| out.flush())
        });
        all.flushed = Instant::now();
        if let Err(error) = written {
            all.stop.get_or_insert(Stop::writing(&error));
        }
    }

    /// Writes what is left; why that could not be written.
    pub(super) fn finish(&self) -> Option<Stop> {
        let mut all = self.all();
        let all = &mut *all;
        self.align(all);
        if self.output.format == Format::Json && all.begun.is_some() {
            json::write_end_of_several(&mut all.buffer, all.rows, &all.ended);
        }
        self.flush(all);
        if let Some(limit) = self.output.limit.filter(|&limit| all.rows >= limit) {
            let rows = if limit == 1 { "row" } else { "rows" };
            self.reporter
                .note(&format!("stopped after {limit} {rows} (--limit)"));
        }
        all.stop.take()
    }
}

impl Gather for Together {
    fn begin(
        &self,
        name: &str,
        shape: &'static Shape,
        columns: &[&'static Field],
        space: SpaceKind,
    ) -> Result<()> {
        let mut all = self.all();
        match &all.begun {
            // Texts and lines stand by themselves, whatever rows they are.
            Some((first, ..))
                if first.id != shape.id
                    && matches!(self.output.format, Format::Json | Format::Csv) =>
            {
                Err(Failure::new(format!(
                    "the rows of {name} are of another kind than those before"
                ))
                .found(format!("{}, and {} before", shape.id, first.id))
                .hint("-o jsonl, or this source by itself")
                .into())
            }
            Some(_) => Ok(()),
            None => {
                let mark = SourceMark::FIELDS.iter();
                let columns: Vec<&'static Field> = mark.chain(columns.iter().copied()).collect();
                match self.output.format {
                    Format::Json => json::write_start(&mut all.buffer, shape.id),
                    Format::Csv => csv_header(&mut all.buffer, &columns, space),
                    Format::Table | Format::Jsonl => {}
                }
                all.begun = Some((shape, columns, space));
                Ok(())
            }
        }
    }

    fn push(&self, index: usize, piece: Piece) -> Result<ControlFlow<()>> {
        let mut all = self.all();
        while all.turn != index && all.waiting[index].bytes > MOST_WAITING && all.stop.is_none() {
            all = self.turn.wait(all).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(Stop::ClosedPipe) = all.stop {
            return Err(Stop::ClosedPipe);
        }
        if all.turn == index {
            self.take(&mut all, index, piece);
        } else {
            let waiting = &mut all.waiting[index];
            waiting.bytes += piece.size();
            waiting.pieces.push_back(piece);
        }
        Ok(match all.stop.is_some() || self.is_full(&all) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    }
}

/// The source whose turn it is, if it has ended; else none.
fn index_of_ended(all: &All) -> usize {
    match all.waiting.get(all.turn) {
        Some(waiting) if waiting.ended => all.turn,
        _ => usize::MAX,
    }
}
