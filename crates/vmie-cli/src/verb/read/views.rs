//! Rows of bytes: 16 bytes in hexadecimal, 64-bit words, instructions.
//!
//! A run of bytes may come in several pieces; a view cuts it into rows as if it had come in one.
//! A gap is a row too, with no bytes, its length and why.

use std::ops::ControlFlow;

use vmie::os::Process;
use vmie::views::Pages;
use vmie::{AddrRange, Address, Cause, Gva, Memory};
use vmie_rows::{Bytes, BytesRow, Field, Hex, Hole, InstructionRow, Piece, State, WordRow};

use super::pieces::Piece as Part;
use crate::asm::{self, Bits, Disassembler};
use crate::exit::Result;
use crate::guest::Os;
use crate::names::Names;
use crate::output::{Cell, Row, Sink, Totals, View as RowView, cells};
use crate::pages::state;
use crate::size;

/// A way to cut bytes into rows.
pub(super) trait View {
    /// Its rows.
    type Row: Row;

    /// Bytes behind the end of the range that may be needed to complete the last row.
    const AHEAD: usize = 0;

    /// The row at the start of `bytes`, which is not empty, and how many bytes it takes. `None` when
    /// more bytes are needed to tell; never when this is the `last` piece of the run.
    fn row(&mut self, at: u64, bytes: &[u8], last: bool) -> Option<(usize, Self::Row)>;

    /// The row of a hole.
    fn gap(piece: Piece, hole: Hole) -> Self::Row;
}

fn piece(at: u64, bytes: &[u8]) -> Piece {
    Piece {
        va: Hex(at),
        bytes: Bytes::of(bytes),
        len: bytes.len() as u64,
    }
}

fn gap<V: View>(at: u64, len: u64, cause: Cause, state: Option<State>) -> V::Row {
    let piece = Piece {
        len,
        ..piece(at, &[])
    };
    let gap = Some(cause.label());
    V::gap(piece, Hole { gap, state })
}

/// There is none.
const NO_HOLE: Hole = Hole {
    gap: None,
    state: None,
};

/// Two cells for a hole: where, and what.
fn hole(piece: &Piece, hole: &Hole) -> Option<RowView> {
    let gap = hole.gap?;
    let state = hole
        .state
        .map_or_else(String::new, |state| format!(": {state}"));
    let len = size::exact(piece.len);
    Some(RowView::Cells(vec![
        Cell::new(piece.va.to_string()).strong(),
        Cell::new(format!("-- {len} {gap}{state} --")).gap(),
    ]))
}

/// The cell of bytes: `48 8b 05 ...`, with a wider gap after eight of them.
fn bytes_cell(bytes: &Bytes) -> Cell {
    let mut text = String::new();
    for (index, pair) in bytes.pairs().enumerate() {
        match index {
            0 => {}
            8 => text.push_str("  "),
            _ => text.push(' '),
        }
        text.push_str(pair);
    }
    Cell::new(text)
}

fn ascii(bytes: &[u8]) -> String {
    let shown = |byte: &u8| match byte {
        0x20..0x7f => char::from(*byte),
        _ => '.',
    };
    bytes.iter().map(shown).collect()
}

/// 16 bytes a row, with their ASCII.
pub(super) struct Hex16;

impl View for Hex16 {
    type Row = BytesRow;

    fn row(&mut self, at: u64, bytes: &[u8], last: bool) -> Option<(usize, BytesRow)> {
        let len = whole(bytes, 16, last)?;
        let bytes = &bytes[..len];
        let row = BytesRow {
            piece: piece(at, bytes),
            hole: NO_HOLE,
            ascii: ascii(bytes),
        };
        Some((len, row))
    }

    fn gap(piece: Piece, hole: Hole) -> BytesRow {
        let ascii = String::new();
        BytesRow { piece, hole, ascii }
    }
}

impl Row for BytesRow {
    fn cell(&self, key: &str) -> Option<Cell> {
        match key {
            "bytes" => Some(bytes_cell(&self.piece.bytes)),
            "ascii" => Some(Cell::raw(&self.ascii).dim()),
            _ => None,
        }
    }

    fn view(&self, columns: &[&'static Field]) -> RowView {
        hole(&self.piece, &self.hole).unwrap_or_else(|| cells(self, columns))
    }
}

/// Little-endian 64-bit words, and what they point at.
pub(super) struct Words64<'a, 's> {
    pub(super) names: &'a Names<'s>,
}

impl View for Words64<'_, '_> {
    type Row = WordRow;

    fn row(&mut self, at: u64, bytes: &[u8], last: bool) -> Option<(usize, WordRow)> {
        let len = whole(bytes, 8, last)?;
        let bytes = &bytes[..len];
        // Bytes that a hole or the end of the range leaves over are no word.
        let word = bytes.try_into().ok().map(u64::from_le_bytes);
        let row = WordRow {
            piece: piece(at, bytes),
            value: word.map(Hex),
            value_name: word.and_then(|word| self.names.pointee(word)),
            hole: NO_HOLE,
            ascii: ascii(bytes),
        };
        Some((len, row))
    }

    fn gap(piece: Piece, hole: Hole) -> WordRow {
        WordRow {
            piece,
            value: None,
            value_name: None,
            hole,
            ascii: String::new(),
        }
    }
}

impl Row for WordRow {
    fn cell(&self, key: &str) -> Option<Cell> {
        match key {
            "bytes" => Some(bytes_cell(&self.piece.bytes)),
            "value" => Some(Cell::new(format!("{:#018x}", self.value?.0))),
            "ascii" => Some(Cell::raw(&self.ascii).dim()),
            _ => None,
        }
    }

    fn view(&self, columns: &[&'static Field]) -> RowView {
        hole(&self.piece, &self.hole).unwrap_or_else(|| cells(self, columns))
    }
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
    type Row = InstructionRow;

    const AHEAD: usize = asm::MAX_LEN - 1;

    fn row(&mut self, at: u64, bytes: &[u8], last: bool) -> Option<(usize, InstructionRow)> {
        if bytes.len() < asm::MAX_LEN && !last {
            return None;
        }
        let (len, text) = self.disassembler.decode(at, bytes);
        let target = self.disassembler.target();
        let name = target.and_then(|target| self.names.name(target));
        let row = InstructionRow {
            piece: piece(at, &bytes[..len]),
            text: Some(text),
            target: target.filter(|_| name.is_some()).map(Hex),
            name,
            hole: NO_HOLE,
        };
        Some((len, row))
    }

    fn gap(piece: Piece, hole: Hole) -> InstructionRow {
        InstructionRow {
            piece,
            text: None,
            target: None,
            name: None,
            hole,
        }
    }
}

impl Row for InstructionRow {
    fn cell(&self, key: &str) -> Option<Cell> {
        (key == "bytes").then(|| bytes_cell(&self.piece.bytes))
    }

    fn view(&self, columns: &[&'static Field]) -> RowView {
        hole(&self.piece, &self.hole).unwrap_or_else(|| cells(self, columns))
    }
}

/// As many bytes as a full row takes; fewer only at the end of a run.
fn whole(bytes: &[u8], full: usize, last: bool) -> Option<usize> {
    (bytes.len() >= full || last).then_some(bytes.len().min(full))
}

/// How many gaps wait for a first byte, so that a range without any leaves no row.
const MAX_WAITING: usize = 1024;

/// Turns pieces into rows.
pub(super) struct Rows<'a, V: View> {
    view: V,
    sink: Sink<'a>,
    /// Bytes of the current run that are not in a row yet, and the address of the first.
    run: Vec<u8>,
    at: u64,
    waiting: Vec<V::Row>,
    started: bool,
    /// Of a process: its pages, where there are holes.
    pages: Option<Pages<'a>>,
}

impl<'a, V: View> Rows<'a, V> {
    /// Rows for `sink`; of memory of `process`, where it is that of one.
    pub(super) fn new(view: V, sink: Sink<'a>, process: Option<(&'a Os, &'a Process)>) -> Self {
        Self {
            pages: process.map(|(os, process)| Pages::new(os.guest(), process)),
            view,
            sink,
            run: Vec::new(),
            at: 0,
            waiting: Vec::new(),
            started: false,
        }
    }

    /// Takes the next piece.
    pub(super) fn piece<A: Address>(&mut self, piece: &Part<'_, A>) -> Result<ControlFlow<()>> {
        match *piece {
            Part::Bytes { start, bytes } => {
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
            Part::Gap { start, len, cause } => {
                let owned = self.run.len();
                if self.cut(owned, true)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                for (start, len, state) in self.parts(start.raw(), len, cause) {
                    let row = gap::<V>(start, len, cause, state);
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
    fn parts(&self, start: u64, len: u64, cause: Cause) -> Vec<(u64, u64, Option<State>)> {
        let pages = self
            .pages
            .as_ref()
            .filter(|_| cause.is_unmapped() || cause.is_away());
        match pages.zip(AddrRange::new(Gva(start), len)) {
            Some((pages, range)) => pages
                .parts(range)
                .into_iter()
                .map(|(part, is)| (part.start().0, part.len(), is.as_ref().and_then(state)))
                .collect(),
            None => vec![(start, len, None)],
        }
    }

    fn gap(&mut self, row: V::Row) -> Result<ControlFlow<()>> {
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
        self.sink.finish(Some(totals))
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
