//! Rows of bytes: 16 bytes in hexadecimal, 64-bit words, instructions.
//!
//! A run of bytes may come in several pieces; a view cuts it into rows as if it had come in one.
//! Every view has the same row, [`ReadRow`]; a gap is a row too, with no bytes, its length and why.

use std::marker::PhantomData;
use std::ops::ControlFlow;

use serde::Serialize;
use vmie::os::Process;
use vmie::{AddrRange, Address, Cause, Gva, Memory};

use super::pieces::Piece;
use crate::asm::{self, Bits, Disassembler};
use crate::exit::Result;
use crate::guest::Os;
use crate::names::Names;
use crate::output::{Cell, Column, Hex, Row, Sink, Totals, View as RowView, digits};
use crate::size;

/// A way to cut bytes into rows.
pub(super) trait View {
    /// The columns of its rows.
    const COLUMNS: &'static [Column];

    /// Bytes behind the end of the range that may be needed to complete the last row.
    const AHEAD: usize = 0;

    /// The row at the start of `bytes`, which is not empty, and how many bytes it takes. `None` when
    /// more bytes are needed to tell; never when this is the `last` piece of the run.
    fn row(&mut self, at: u64, bytes: &[u8], last: bool) -> Option<(usize, ReadRow<Self>)>
    where
        Self: Sized;
}

/// A row of `read`.
#[derive(Serialize)]
#[serde(bound = "")]
pub(super) struct ReadRow<V> {
    va: Hex,
    /// Two digits a byte; empty for a gap.
    bytes: String,
    len: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The address that an instruction refers to, where it has a name, and that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Why there are no bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    gap: Option<&'static str>,
    /// Where the pages of a process are that are not mapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip)]
    ascii: String,
    #[serde(skip)]
    view: PhantomData<V>,
}

impl<V> ReadRow<V> {
    fn new(at: u64, bytes: &[u8]) -> Self {
        Self {
            va: Hex(at),
            bytes: digits(bytes),
            len: bytes.len() as u64,
            value: None,
            text: None,
            target: None,
            name: None,
            gap: None,
            state: None,
            ascii: bytes.iter().copied().map(ascii).collect(),
            view: PhantomData,
        }
    }

    fn gap(at: u64, len: u64, cause: Cause, state: Option<&'static str>) -> Self {
        Self {
            len,
            gap: Some(cause.label()),
            state,
            ..Self::new(at, &[])
        }
    }

    /// `48 8b 05 ...`, with a wider gap after eight bytes.
    fn spaced(&self) -> String {
        let mut text = String::with_capacity(self.bytes.len() * 2);
        for (index, pair) in self.bytes.as_bytes().chunks(2).enumerate() {
            match index {
                0 => {}
                8 => text.push_str("  "),
                _ => text.push(' '),
            }
            text.extend(pair.iter().map(|&digit| char::from(digit)));
        }
        text
    }
}

fn ascii(byte: u8) -> char {
    match byte {
        0x20..0x7f => char::from(byte),
        _ => '.',
    }
}

impl<V: View> Row for ReadRow<V> {
    const COLUMNS: &'static [Column] = V::COLUMNS;

    fn view(&self) -> RowView {
        let mut cells = vec![Cell::new(format!("{:#x}", self.va.0)).strong()];
        if let Some(gap) = self.gap {
            let state = self
                .state
                .map_or_else(String::new, |state| format!(": {state}"));
            let len = size::exact(self.len);
            cells.push(Cell::new(format!("-- {len} {gap}{state} --")).gap());
            return RowView::Cells(cells);
        }
        cells.push(Cell::new(self.spaced()));
        for column in V::COLUMNS.iter().filter(|column| !column.head.is_empty()) {
            match column.head {
                "value" => cells
                    .push(Cell::new(self.value.map_or_else(String::new, |value| {
                        format!("{:#018x}", value.0)
                    }))),
                "text" => cells.push(Cell::new(self.text.as_deref().unwrap_or_default())),
                "name" => cells.push(Cell::new(self.name.as_deref().unwrap_or_default())),
                "ascii" => cells.push(Cell::raw(&self.ascii).dim()),
                _ => {}
            }
        }
        RowView::Cells(cells)
    }
}

/// 16 bytes a row, with their ASCII.
pub(super) struct Hex16;

impl View for Hex16 {
    const COLUMNS: &'static [Column] = &[
        Column::right("va"),
        Column::left("bytes"),
        Column::table_only("ascii"),
        Column::hidden("len"),
        Column::hidden("gap"),
        Column::hidden("state").with_os(),
    ];

    fn row(&mut self, at: u64, bytes: &[u8], last: bool) -> Option<(usize, ReadRow<Self>)> {
        let len = whole(bytes, 16, last)?;
        Some((len, ReadRow::new(at, &bytes[..len])))
    }
}

/// Little-endian 64-bit words.
pub(super) struct Words64;

impl View for Words64 {
    const COLUMNS: &'static [Column] = &[
        Column::right("va"),
        Column::left("bytes"),
        Column::right("value"),
        Column::table_only("ascii"),
        Column::hidden("len"),
        Column::hidden("gap"),
        Column::hidden("state").with_os(),
    ];

    fn row(&mut self, at: u64, bytes: &[u8], last: bool) -> Option<(usize, ReadRow<Self>)> {
        let len = whole(bytes, 8, last)?;
        let mut row = ReadRow::new(at, &bytes[..len]);
        // Bytes that a hole or the end of the range leaves over are no word.
        row.value = bytes[..len]
            .try_into()
            .ok()
            .map(|word| Hex(u64::from_le_bytes(word)));
        Some((len, row))
    }
}

/// As many bytes as a full row takes; fewer only at the end of a run.
fn whole(bytes: &[u8], full: usize, last: bool) -> Option<usize> {
    (bytes.len() >= full || last).then_some(bytes.len().min(full))
}

/// Instructions, one after the other from the start of each run.
pub(super) struct Asm<'a, 's> {
    disassembler: Disassembler,
    names: &'a Names<'s>,
}

impl<'a, 's> Asm<'a, 's> {
    pub(super) fn new(bits: Bits, names: &'a Names<'s>) -> Self {
        Self {
            disassembler: Disassembler::new(bits),
            names,
        }
    }
}

impl View for Asm<'_, '_> {
    const COLUMNS: &'static [Column] = &[
        Column::right("va"),
        Column::left("bytes"),
        Column::left("text"),
        Column::left("name").with_os(),
        Column::hidden("target").with_os(),
        Column::hidden("len"),
        Column::hidden("gap"),
        Column::hidden("state").with_os(),
    ];

    const AHEAD: usize = asm::MAX_LEN - 1;

    fn row(&mut self, at: u64, bytes: &[u8], last: bool) -> Option<(usize, ReadRow<Self>)> {
        if bytes.len() < asm::MAX_LEN && !last {
            return None;
        }
        let (len, text) = self.disassembler.decode(at, bytes);
        let mut row = ReadRow::new(at, &bytes[..len]);
        row.text = Some(text);
        if let Some(target) = self.disassembler.target() {
            row.name = self.names.name(target);
            row.target = row.name.is_some().then_some(Hex(target));
        }
        Some((len, row))
    }
}

/// How many gaps wait for a first byte, so that a range without any leaves no row.
const MAX_WAITING: usize = 1024;

/// Turns pieces into rows.
pub(super) struct Rows<'a, V> {
    view: V,
    sink: Sink<'a>,
    /// Bytes of the current run that are not in a row yet, and the address of the first.
    run: Vec<u8>,
    at: u64,
    waiting: Vec<ReadRow<V>>,
    started: bool,
    process: Option<(&'a Os, &'a Process)>,
}

impl<'a, V: View> Rows<'a, V> {
    /// Rows for `sink`; of memory of `process`, where it is that of one.
    pub(super) fn new(view: V, sink: Sink<'a>, process: Option<(&'a Os, &'a Process)>) -> Self {
        Self {
            process,
            view,
            sink,
            run: Vec::new(),
            at: 0,
            waiting: Vec::new(),
            started: false,
        }
    }

    /// Takes the next piece.
    pub(super) fn piece<A: Address>(&mut self, piece: &Piece<'_, A>) -> Result<ControlFlow<()>> {
        match *piece {
            Piece::Bytes { start, bytes } => {
                if !std::mem::replace(&mut self.started, true) && self.release()?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                if self.run.is_empty() {
                    self.at = start.raw();
                }
                self.run.extend_from_slice(bytes);
                let owned = self.run.len();
                self.cut(owned, false)
            }
            Piece::Gap { start, len, cause } => {
                let owned = self.run.len();
                if self.cut(owned, true)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                for (start, len, state) in self.parts(start.raw(), len, cause) {
                    let row = ReadRow::gap(start, len, cause, state);
                    if self.gap(row)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Ok(ControlFlow::Continue(()))
            }
        }
    }

    /// The parts of a gap of which there is different things to say: where the pages of a process are that
    /// its tables do not map.
    fn parts(&self, start: u64, len: u64, cause: Cause) -> Vec<(u64, u64, Option<&'static str>)> {
        let process = self
            .process
            .filter(|_| cause.is_unmapped() || cause.is_away());
        match process.zip(AddrRange::new(Gva(start), len)) {
            Some(((os, process), range)) => os
                .parts(process, range)
                .into_iter()
                .map(|(part, state)| (part.start().0, part.len(), state))
                .collect(),
            None => vec![(start, len, None)],
        }
    }

    fn gap(&mut self, row: ReadRow<V>) -> Result<ControlFlow<()>> {
        if self.started {
            return self.sink.row(&row);
        }
        self.waiting.push(row);
        if self.waiting.len() < MAX_WAITING {
            return Ok(ControlFlow::Continue(()));
        }
        self.started = true;
        self.release()
    }

    /// Ends the last run, completing its last row from behind the range where the view wants that.
    pub(super) fn end<A: Address>(
        &mut self,
        memory: &dyn Memory<Addr = A>,
        range: AddrRange<A>,
    ) -> Result<()> {
        let owned = self.run.len();
        let ends_here = self.at.checked_add(owned as u64) == range.end().map(Address::raw);
        if let Some(mut at) = range.end().filter(|_| owned > 0 && ends_here) {
            let mut byte = [0];
            for _ in 0..V::AHEAD {
                if memory.read(at, &mut byte).is_err() {
                    break;
                }
                self.run.push(byte[0]);
                let Some(next) = at.checked_add(1) else { break };
                at = next;
            }
        }
        let _ = self.cut(owned, true)?;
        Ok(())
    }

    /// Writes what is left.
    pub(super) fn finish(self, totals: &Totals) -> Result<()> {
        self.sink.finish::<ReadRow<V>>(Some(totals))
    }

    /// Makes rows of what starts in the first `owned` bytes of the run.
    fn cut(&mut self, owned: usize, last: bool) -> Result<ControlFlow<()>> {
        let mut from = 0;
        let mut flow = ControlFlow::Continue(());
        while from < owned && flow.is_continue() {
            let at = self.at.wrapping_add(from as u64);
            let Some((len, row)) = self.view.row(at, &self.run[from..], last) else {
                break;
            };
            from += len;
            flow = self.sink.row(&row)?;
        }
        self.at = self.at.wrapping_add(from as u64);
        self.run.drain(..from);
        if last {
            self.run.clear();
        }
        Ok(flow)
    }

    /// Writes the gaps that waited for the first byte.
    fn release(&mut self) -> Result<ControlFlow<()>> {
        for row in std::mem::take(&mut self.waiting) {
            if self.sink.row(&row)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
