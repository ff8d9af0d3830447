//! What several sources say, in the order of the sources.
//!
//! The source whose turn it is writes as it goes; what others have to say waits, up to a bound, after which they wait
//! themselves. Sources are begun in their order, so the one whose turn it is always runs.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use vmie_rows::{Field, Shape, SourceMark};

use crate::exit::{Done, Failure, Result, Stop};
use crate::output::{
    Chunk, Format, Gather, Output, Piece, SpaceKind, Totals, csv_header, in_tables, json, strip,
};
use crate::report::Reporter;

/// How many bytes of one source may wait for its turn.
const MOST_WAITING: usize = 32 << 20;
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
    /// Whether there was a text before.
    texts: bool,
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
    /// Of these sources.
    pub(super) fn new(output: Output, sources: &[&Path], reporter: &Reporter) -> Self {
        let mut waiting = Vec::new();
        waiting.resize_with(sources.len(), Waiting::default);
        let named = |source: &&Path| Source {
            source: source.display().to_string(),
            ..Source::default()
        };
        let ended = sources.iter().map(named).collect();
        Self {
            output,
            reporter: reporter.clone(),
            all: Mutex::new(All {
                turn: 0,
                waiting,
                begun: None,
                table: Chunk::default(),
                buffer: Vec::new(),
                rows: 0,
                texts: false,
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

    /// Says that a source has said everything, and how it ended.
    pub(super) fn end(&self, index: usize, status: u8, how: &Result<Done>) {
        let mut all = self.all();
        let ended = &mut all.ended[index];
        ended.status = status;
        if let Err(Stop::Failed(failure) | Stop::Interrupted(failure)) = how {
            ended.error = Some(failure.what.clone());
        }
        all.waiting[index].ended = true;
        while all.waiting.get(all.turn).is_some_and(|one| one.ended) {
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
        if is_row && (self.output.is_full(all.rows) || all.stop.is_some()) {
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
                if all.table.is_full() {
                    self.align(all);
                }
            }
            Piece::Text(text) => {
                self.align(all);
                if std::mem::replace(&mut all.texts, true) {
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
        if self.output.is_due(all.buffer.len(), all.flushed) {
            self.align(all);
            self.flush(all);
        }
    }

    fn align(&self, all: &mut All) {
        if let Some((_, columns, space)) = &all.begun {
            let shown = in_tables(columns);
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
        self.output.tell_limit(all.rows, &self.reporter);
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
        Ok(match all.stop.is_some() || self.output.is_full(all.rows) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    }
}
