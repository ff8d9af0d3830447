//! Results on standard output, in one of four shapes.
//!
//! A verb describes its rows once ([`Row`]) and pushes them into a [`Sink`] as they come. The sink
//! decides what becomes of them:
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
mod json;
mod table;

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde::Serialize;

pub(crate) use json::{Hex, ProtText, Totals, digits};
pub(crate) use table::{Cell, strip};

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

/// A column of a verb's rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// The JSON key, which heads the CSV column too; empty for what only tables show.
    pub(crate) key: &'static str,
    /// The heading in tables; empty when tables leave the column out.
    pub(crate) head: &'static str,
    /// Whether tables align it to the right.
    pub(crate) right: bool,
    /// When it is there.
    pub(crate) when: When,
}

/// When a column is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum When {
    /// Always.
    Always,
    /// For spaces whose operating system is known.
    Named,
    /// Where rows are about many spaces.
    Many,
    /// Where an option asks for what it shows.
    Asked,
}

impl Column {
    /// A column that stands to the left in tables.
    pub(crate) const fn left(key: &'static str) -> Self {
        Self {
            key,
            head: key,
            right: false,
            when: When::Always,
        }
    }

    /// A column that stands to the right in tables.
    pub(crate) const fn right(key: &'static str) -> Self {
        Self {
            key,
            head: key,
            right: true,
            when: When::Always,
        }
    }

    /// The column with another heading in tables.
    pub(crate) const fn titled(self, head: &'static str) -> Self {
        Self { head, ..self }
    }

    /// The column where the operating system of the space is known, and none elsewhere.
    pub(crate) const fn with_os(self) -> Self {
        let when = When::Named;
        Self { when, ..self }
    }

    /// The column where rows are about many spaces, and none elsewhere.
    pub(crate) const fn with_many(self) -> Self {
        let when = When::Many;
        Self { when, ..self }
    }

    /// The column where an option asks for it, and none elsewhere.
    pub(crate) const fn if_asked(self) -> Self {
        let when = When::Asked;
        Self { when, ..self }
    }

    /// A column that only tables show.
    pub(crate) const fn table_only(head: &'static str) -> Self {
        Self {
            key: "",
            head,
            right: false,
            when: When::Always,
        }
    }

    /// A column that tables do not show.
    pub(crate) const fn hidden(key: &'static str) -> Self {
        Self {
            key,
            head: "",
            right: false,
            when: When::Always,
        }
    }
}

/// What a row looks like to people.
pub(crate) enum View {
    /// One cell for each column that tables show.
    Cells(Vec<Cell>),
    /// Text of its own, with line breaks; guest text in it is already escaped.
    Text(String),
}

/// One result of a verb. Its `Serialize` form is the JSON row.
pub(crate) trait Row: Serialize {
    /// Columns in the order of tables and CSV.
    const COLUMNS: &'static [Column];

    /// The row for people.
    fn view(&self) -> View;
}

/// How much is held back before it is written.
const CHUNK_BYTES: usize = 64 << 10;
/// How many rows of a table are aligned together.
const CHUNK_ROWS: usize = 512;
/// How long a row may wait for company.
const CHUNK_TIME: Duration = Duration::from_millis(150);

/// Takes rows and writes them.
pub(crate) struct Sink<'a> {
    output: Output,
    verb: &'static str,
    space: SpaceKind,
    named: bool,
    many: bool,
    asked: bool,
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
        verb: &'static str,
        space: SpaceKind,
        reporter: &'a Reporter,
    ) -> Self {
        Self::new(output, verb, space, reporter, Box::new(io::stdout()))
    }

    /// A sink on any writer.
    pub(crate) fn new(
        output: Output,
        verb: &'static str,
        space: SpaceKind,
        reporter: &'a Reporter,
        out: Box<dyn Write + 'a>,
    ) -> Self {
        Self {
            output,
            verb,
            space,
            named: false,
            many: false,
            asked: false,
            reporter,
            out,
            buffer: Vec::new(),
            table: table::Chunk::default(),
            started: false,
            rows: 0,
            flushed: Instant::now(),
        }
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
            When::Named => self.named,
            When::Many => self.many,
            When::Asked => self.asked,
        }
    }

    /// The columns of this run.
    fn columns<R: Row>(&self) -> Vec<Column> {
        let columns = R::COLUMNS.iter().copied();
        columns.filter(|column| self.shows(column)).collect()
    }

    /// How many rows there were.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes a row. Breaks when `--limit` is reached with it.
    pub(crate) fn row<R: Row>(&mut self, row: &R) -> Result<ControlFlow<()>> {
        self.start::<R>();
        let first = self.rows == 0;
        self.rows += 1;
        match self.output.format {
            Format::Table => {
                match row.view() {
                    View::Cells(cells) => {
                        let shown = R::COLUMNS.iter().filter(|column| !column.head.is_empty());
                        let kept = shown.map(|column| self.shows(column));
                        let cells = cells.into_iter().zip(kept.chain(std::iter::repeat(true)));
                        let cells = cells.filter_map(|(cell, kept)| kept.then_some(cell));
                        self.table.push(cells.collect());
                    }
                    View::Text(text) => {
                        self.write_table::<R>();
                        if !first {
                            self.buffer.push(b'\n');
                        }
                        self.buffer
                            .extend_from_slice(strip(&text, self.output.color).as_bytes());
                    }
                }
                if self.table.len() >= CHUNK_ROWS {
                    self.write_table::<R>();
                }
            }
            Format::Jsonl => {
                json::write_row(&mut self.buffer, row, self.space);
                self.buffer.push(b'\n');
            }
            Format::Json => {
                self.buffer
                    .extend_from_slice(if first { b"\n  " } else { b",\n  " });
                json::write_row(&mut self.buffer, row, self.space);
            }
            Format::Csv => {
                let columns = self.columns::<R>();
                csv::write_row(
                    &mut self.buffer,
                    row,
                    &columns,
                    self.space,
                    self.output.terminal,
                );
            }
        }
        if self.buffer.len() >= CHUNK_BYTES || self.is_late() {
            self.write_table::<R>();
            self.flush()?;
        }
        Ok(match self.output.limit {
            Some(limit) if self.rows >= limit => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
    }

    /// Whether the rows held back should go out for the sake of who is waiting for them.
    ///
    /// Tables only on a terminal: how a chunk is aligned depends on where it ends, and what goes into
    /// a file should not depend on the clock.
    fn is_late(&self) -> bool {
        let may = self.output.terminal || self.output.format != Format::Table;
        may && self.flushed.elapsed() >= CHUNK_TIME
    }

    /// Passes on the rows so far, for somebody who waits for each of them.
    pub(crate) fn pass_on<R: Row>(&mut self) -> Result<()> {
        if self.output.format == Format::Table && !self.output.terminal {
            return Ok(());
        }
        self.write_table::<R>();
        self.flush()
    }

    /// Writes what is left, and the coverage where the format has a place for it.
    pub(crate) fn finish<R: Row>(mut self, totals: Option<&Totals>) -> Result<()> {
        // An empty table has no heading: "nothing" is said by the exit status and the coverage line.
        if self.output.format != Format::Table {
            self.start::<R>();
        }
        self.write_table::<R>();
        if self.output.format == Format::Json {
            json::write_end(&mut self.buffer, self.rows, totals);
        }
        self.flush()?;
        if let Some(limit) = self.output.limit.filter(|&limit| self.rows >= limit) {
            let rows = if limit == 1 { "row" } else { "rows" };
            self.reporter
                .note(&format!("stopped after {limit} {rows} (--limit)"));
        }
        Ok(())
    }

    fn start<R: Row>(&mut self) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        match self.output.format {
            Format::Json => json::write_start(&mut self.buffer, self.verb),
            Format::Csv => {
                let columns = self.columns::<R>();
                csv::write_header(&mut self.buffer, &columns, self.space);
            }
            Format::Table | Format::Jsonl => {}
        }
    }

    fn write_table<R: Row>(&mut self) {
        let text = self
            .table
            .render(&self.columns::<R>(), self.space, self.output.color);
        self.buffer.extend_from_slice(text.as_bytes());
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
