//! Results on standard output, in one of four shapes.
//!
//! A verb pushes rows, which `vmie-rows` defines, into a [`Sink`] as they come. The sink decides what
//! becomes of them:
//!
//! | format | what is written |
//! |---|---|
//! | `table` | aligned columns for people, in chunks; or a paragraph per row where a verb asks for it |
//! | `jsonl` | one JSON object a line |
//! | `json` | one envelope: schema, results, coverage |
//! | `csv` | a header line and a line per row; nested values are JSON text in their cell |
//!
//! Rows leave as they come, also those inside the envelope, so memory is bounded whatever their
//! number. Nothing at all is written before the first row or the end: a verb that fails before it has
//! found anything leaves standard output empty.
//!
//! JSON keys are a contract with scripts. Rows of *physical* memory keep the key `va`, so that a
//! script reads the address of every row in the same place, and add `"space": "phys"`; tables head the
//! column `gpa` instead.

mod csv;
pub(crate) mod json;
mod member;
mod table;
mod totals;

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use vmie_rows::{Column, Field, Shape, SourceMark, When};

pub(crate) use csv::write_header as csv_header;
pub(crate) use member::{Gather, Member, Piece};
pub(crate) use table::{Cell, Chunk, strip};
pub(crate) use totals::{prot, prot_if_mapped, totals, totals_of_many, with_beyond};
pub(crate) use vmie_rows::Coverage as Totals;

use crate::exit::{Result, Stop};
use crate::report::Reporter;

/// The shape of the results.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns for people
    Table,
    /// One JSON object a line
    Jsonl,
    /// One JSON document with schema, results and coverage
    Json,
    /// Comma-separated values with a header line
    Csv,
}

/// What results look like, and where they go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Output {
    /// The shape.
    pub(crate) format: Format,
    /// Whether tables may use colour.
    pub(crate) color: bool,
    /// Whether a terminal reads the results.
    pub(crate) terminal: bool,
    /// How wide a table may be, where cells may be cut for that.
    pub(crate) width: Option<usize>,
    /// Stop after so many rows.
    pub(crate) limit: Option<u64>,
}

/// Which addresses the rows are about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SpaceKind {
    /// An address space, or nothing in particular.
    Virtual,
    /// Guest physical memory.
    Physical,
}

/// What a row looks like to people.
pub(crate) enum View {
    /// One cell for each column that tables show.
    Cells(Vec<Cell>),
    /// Text of its own, with line breaks; guest text in it is already escaped.
    Text(String),
}

/// A row as tables show it. What it is made of, `vmie-rows` defines; a verb says only where a cell is
/// anything but the value as the definition has it shown.
pub(crate) trait Row: vmie_rows::Row {
    /// The cell of this key, where it is not simply the value.
    fn cell(&self, _key: &str) -> Option<Cell> {
        None
    }

    /// The row for people. `columns` are those that tables show.
    fn view(&self, columns: &[&'static Field]) -> View {
        cells(self, columns)
    }
}

/// A cell for each column.
pub(crate) fn cells<R: Row + ?Sized>(row: &R, columns: &[&'static Field]) -> View {
    let cell = |field: &&'static Field| {
        let plain = || Cell::of(field, row.value(field.key));
        row.cell(field.key).unwrap_or_else(plain)
    };
    View::Cells(columns.iter().map(cell).collect())
}

/// How much is held back before it is written.
const CHUNK_BYTES: usize = 64 << 10;
/// How long a row may wait for company.
const CHUNK_TIME: Duration = Duration::from_millis(150);

impl Output {
    /// Whether what is held back should go out: there is much of it, or somebody waits for it.
    ///
    /// Tables go out by the clock only on a terminal: how a chunk is aligned depends on where it ends, and what goes into a
    /// file should not depend on the clock.
    pub(crate) fn is_due(&self, held: usize, since: Instant) -> bool {
        let may = self.terminal || self.format != Format::Table;
        held >= CHUNK_BYTES || may && since.elapsed() >= CHUNK_TIME
    }

    /// Whether `--limit` is reached with so many rows.
    pub(crate) fn is_full(&self, rows: u64) -> bool {
        self.limit.is_some_and(|limit| rows >= limit)
    }

    /// Says that there may be more rows, where `--limit` was reached.
    pub(crate) fn tell_limit(&self, rows: u64, reporter: &Reporter) {
        if let Some(limit) = self.limit.filter(|_| self.is_full(rows)) {
            let rows = if limit == 1 { "row" } else { "rows" };
            reporter.note(&format!("stopped after {limit} {rows} (--limit)"));
        }
    }
}

/// Those of the columns that tables have.
pub(crate) fn in_tables(columns: &[&'static Field]) -> Vec<&'static Field> {
    let shown = |field: &&&'static Field| field.column.is_some_and(|c| c.is_in_tables());
    columns.iter().filter(shown).copied().collect()
}

/// Takes rows and writes them.
pub(crate) struct Sink<'a> {
    output: Output,
    shape: &'static Shape,
    space: SpaceKind,
    /// The columns of this run, known when it starts.
    columns: Vec<&'static Field>,
    named: bool,
    many: bool,
    asked: bool,
    /// Where it is one of several sources that has rows.
    member: Option<Member>,
    reporter: &'a Reporter,
    out: Box<dyn Write + 'a>,
    buffer: Vec<u8>,
    table: table::Chunk,
    started: bool,
    rows: u64,
    flushed: Instant,
}

impl<'a> Sink<'a> {
    /// A sink on standard output.
    pub(crate) fn stdout(
        output: Output,
        shape: &'static Shape,
        space: SpaceKind,
        reporter: &'a Reporter,
    ) -> Self {
        Self::new(output, shape, space, reporter, Box::new(io::stdout()))
    }

    /// A sink on any writer.
    pub(crate) fn new(
        output: Output,
        shape: &'static Shape,
        space: SpaceKind,
        reporter: &'a Reporter,
        out: Box<dyn Write + 'a>,
    ) -> Self {
        // Or the reference would not have it.
        debug_assert!(vmie_rows::SHAPES.iter().any(|known| known.id == shape.id));
        Self {
            output,
            shape,
            space,
            columns: Vec::new(),
            named: false,
            many: false,
            asked: false,
            member: None,
            reporter,
            out,
            buffer: Vec::new(),
            table: table::Chunk::default(),
            started: false,
            rows: 0,
            flushed: Instant::now(),
        }
    }

    /// The sink of one of several sources.
    pub(crate) fn of_member(self, member: Option<Member>) -> Self {
        Self { member, ..self }
    }

    /// The sink with the columns for spaces whose operating system is known, or without.
    pub(crate) fn named(self, named: bool) -> Self {
        Self { named, ..self }
    }

    /// The sink with the columns for rows about many spaces, or without.
    pub(crate) fn many(self, many: bool) -> Self {
        Self { many, ..self }
    }

    /// The sink with the columns that an option asks for, or without.
    pub(crate) fn asked(self, asked: bool) -> Self {
        Self { asked, ..self }
    }

    fn shows(&self, column: &Column) -> bool {
        match column.when {
            When::Always => true,
            // One of several may have names and another none.
            When::Named => self.named || self.member.is_some(),
            When::Many => self.many,
            When::Asked => self.asked,
        }
    }

    /// How many rows there were.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes a row. Breaks when `--limit` is reached with it.
    pub(crate) fn row<R: Row>(&mut self, row: &R) -> Result<ControlFlow<()>> {
        self.row_as(row, |columns| row.view(columns))
    }

    /// As [`Sink::row`], where more is to be shown to people than the row says.
    pub(crate) fn row_as<R: vmie_rows::Row>(
        &mut self,
        row: &R,
        view: impl FnOnce(&[&'static Field]) -> View,
    ) -> Result<ControlFlow<()>> {
        debug_assert_eq!(R::SHAPE.id, self.shape.id);
        self.start()?;
        if let Some(member) = &self.member {
            self.rows += 1;
            let piece = self.piece(row, member, view);
            let flow = member.push(piece)?;
            return Ok(match self.output.is_full(self.rows) {
                true => ControlFlow::Break(()),
                false => flow,
            });
        }
        let first = self.rows == 0;
        self.rows += 1;
        match self.output.format {
            Format::Table => match view(&self.shown()) {
                View::Cells(cells) => {
                    self.table.push(cells);
                    if self.table.is_full() {
                        self.write_table();
                    }
                }
                View::Text(text) => self.write_text(&text, first),
            },
            Format::Jsonl => {
                json::write_row(&mut self.buffer, row, self.space, None);
                self.buffer.push(b'\n');
            }
            Format::Json => {
                self.buffer
                    .extend_from_slice(if first { b"\n  " } else { b",\n  " });
                json::write_row(&mut self.buffer, row, self.space, None);
            }
            Format::Csv => csv::write_row(
                &mut self.buffer,
                row,
                &self.columns,
                self.space,
                None,
                self.output.terminal,
            ),
        }
        self.after_a_row()
    }

    /// A row as one of several sources passes it on.
    fn piece<R: vmie_rows::Row>(
        &self,
        row: &R,
        member: &Member,
        view: impl FnOnce(&[&'static Field]) -> View,
    ) -> Piece {
        let (source, terminal) = (Some(member.name()), self.output.terminal);
        let mut bytes = Vec::new();
        match self.output.format {
            Format::Table => match view(&self.shown()) {
                View::Cells(mut cells) => {
                    cells.insert(0, Cell::new(member.name()));
                    return Piece::Cells(cells);
                }
                View::Text(text) => return Piece::Text(text),
            },
            Format::Jsonl => {
                json::write_row(&mut bytes, row, self.space, source);
                bytes.push(b'\n');
            }
            Format::Json => json::write_row(&mut bytes, row, self.space, source),
            Format::Csv => {
                let mark = SourceMark::FIELDS.iter();
                let columns: Vec<_> = mark.chain(self.columns.iter().copied()).collect();
                csv::write_row(&mut bytes, row, &columns, self.space, source, terminal);
            }
        }
        Piece::Row(bytes)
    }

    /// Takes a text for people in place of all rows, in tables.
    pub(crate) fn text(&mut self, text: &str) -> Result<()> {
        debug_assert_eq!(self.output.format, Format::Table);
        if let Some(member) = &self.member {
            self.rows += 1;
            return member.push(Piece::Text(text.to_owned())).map(|_| ());
        }
        let first = self.rows == 0;
        let text = match self.output.limit {
            // Its rows are lines.
            Some(limit) => {
                let lines = text
                    .lines()
                    .take(usize::try_from(limit).unwrap_or(usize::MAX));
                let kept: Vec<&str> = lines.collect();
                self.rows += kept.len() as u64;
                kept.join("\n") + "\n"
            }
            None => {
                self.rows += 1;
                text.to_owned()
            }
        };
        self.write_text(&text, first);
        self.after_a_row().map(|_| ())
    }

    fn after_a_row(&mut self) -> Result<ControlFlow<()>> {
        if self.output.is_due(self.buffer.len(), self.flushed) {
            self.write_table();
            self.flush()?;
        }
        Ok(match self.output.is_full(self.rows) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    }

    /// Passes on the rows so far, for somebody who waits for each of them.
    pub(crate) fn pass_on(&mut self) -> Result<()> {
        if self.member.is_some() {
            return Ok(());
        }
        if self.output.format == Format::Table && !self.output.terminal {
            return Ok(());
        }
        self.write_table();
        self.flush()
    }

    /// Writes what is left, and the coverage where the format has a place for it.
    pub(crate) fn finish(mut self, totals: Option<&Totals>) -> Result<()> {
        // An empty table has no heading: "nothing" is said by the exit status and the coverage line.
        if self.output.format != Format::Table {
            self.start()?;
        }
        if let Some(member) = &self.member {
            if let Some(totals) = totals {
                let _ = member.push(Piece::Totals(Box::new(totals.clone())))?;
            }
            return Ok(());
        }
        self.write_table();
        if self.output.format == Format::Json {
            json::write_end(&mut self.buffer, self.rows, totals);
        }
        self.flush()?;
        self.output.tell_limit(self.rows, self.reporter);
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.started, true) {
            return Ok(());
        }
        debug_assert!(self.space == SpaceKind::Virtual || self.shape.physical);
        let mut columns = self.shape.columns();
        columns.retain(|field| field.column.is_some_and(|column| self.shows(&column)));
        self.columns = columns;
        if let Some(member) = &self.member {
            return member.begin(self.shape, &self.columns, self.space);
        }
        match self.output.format {
            Format::Json => json::write_start(&mut self.buffer, self.shape.id),
            Format::Csv => csv::write_header(&mut self.buffer, &self.columns, self.space),
            Format::Table | Format::Jsonl => {}
        }
        Ok(())
    }

    /// The columns of tables.
    fn shown(&self) -> Vec<&'static Field> {
        in_tables(&self.columns)
    }

    fn write_table(&mut self) {
        let columns = self.shown();
        let text = self.table.render(&columns, self.space, &self.output);
        self.buffer.extend_from_slice(text.as_bytes());
    }

    fn write_text(&mut self, text: &str, first: bool) {
        self.write_table();
        if !first {
            self.buffer.push(b'\n');
        }
        self.buffer
            .extend_from_slice(strip(text, self.output.color).as_bytes());
    }

    fn flush(&mut self) -> Result<()> {
        let Self { out, buffer, .. } = self;
        let written = self
            .reporter
            .suspend(|| out.write_all(buffer).and_then(|()| out.flush()));
        buffer.clear();
        self.flushed = Instant::now();
        written.map_err(|error| Stop::writing(&error))
    }
}

#[cfg(test)]
mod tests;
