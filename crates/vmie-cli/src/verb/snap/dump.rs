//! The bytes of both sides of a change, what differs highlighted.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use vmie::snapshot::{Change, ChangeKind};
use vmie::{Address, Memory, PAGE_SIZE, read_around_holes};
use vmie_rows::{ChangeRow, Hex};

use crate::size;

/// Bytes shown of one change: what appeared may be gigabytes.
const MOST: u64 = 1024;
/// Bytes a line.
const LINE: u64 = 16;
const OLD: Style = AnsiColor::Red.on_default().bold();
const NEW: Style = AnsiColor::Green.on_default().bold();

/// Reads both sides.
pub(super) struct Dump<'a, A: Address> {
    before: &'a dyn Memory<Addr = A>,
    after: &'a dyn Memory<Addr = A>,
}

impl<'a, A: Address> Dump<'a, A> {
    pub(super) fn new(before: &'a dyn Memory<Addr = A>, after: &'a dyn Memory<Addr = A>) -> Self {
        Self { before, after }
    }

    /// The bytes around a change, whole lines of them.
    pub(super) fn of(&mut self, change: Change<A>) -> Sides {
        let from = change.start.raw() / LINE * LINE;
        let shown = change.len.min(MOST);
        let last = change.start.raw() + (shown - 1);
        let len = ((last | (LINE - 1)) - from + 1) as usize;
        let read = |memory: &dyn Memory<Addr = A>| {
            let mut bytes = vec![0; len];
            let mut known = vec![true; len];
            read_around_holes(memory, A::new(from), &mut bytes, PAGE_SIZE, |at, len, _| {
                known[at..at + len].fill(false);
            });
            let cells = bytes.into_iter().zip(known);
            Bytes(cells.map(|(byte, known)| known.then_some(byte)).collect())
        };
        // What was not there then, or is not there now, is not read: it may be something else by now.
        let nothing = || Bytes(vec![None; len]);
        Sides {
            before: match change.kind {
                ChangeKind::Appeared => nothing(),
                _ => read(self.before),
            },
            after: match change.kind {
                ChangeKind::Disappeared => nothing(),
                _ => read(self.after),
            },
            from,
        }
    }
}

/// Bytes, those that can be read.
struct Bytes(Vec<Option<u8>>);

impl Bytes {
    /// Two digits each, `??` for what cannot be read; nothing when nothing can.
    fn digits(&self) -> Option<String> {
        if self.0.iter().all(Option::is_none) {
            return None;
        }
        let mut text = String::with_capacity(2 * self.0.len());
        for byte in &self.0 {
            let _ = match byte {
                Some(byte) => write!(text, "{byte:02x}"),
                None => write!(text, "??"),
            };
        }
        Some(text)
    }
}

/// Both sides of a change.
pub(super) struct Sides {
    before: Bytes,
    after: Bytes,
    from: u64,
}

impl Sides {
    /// Both, as a part of a row.
    pub(super) fn row(&self) -> vmie_rows::Dump {
        vmie_rows::Dump {
            before: self.before.digits(),
            after: self.after.digits(),
            dump_va: Hex(self.from),
        }
    }

    /// Lines for people: the earlier bytes above the later ones.
    pub(super) fn text(&self, row: &ChangeRow) -> String {
        let (va, prot, len) = (row.va, row.prot, row.len);
        let mut text = format!("{va}  {}  {prot}  {}\n", size::exact(len), row.change);
        let lines = self.before.0.chunks(LINE as usize);
        let lines = lines.zip(self.after.0.chunks(LINE as usize));
        for (index, (before, after)) in lines.enumerate() {
            let at = self.from + index as u64 * LINE;
            line(&mut text, '-', at, OLD, before, after);
            line(&mut text, '+', at, NEW, after, before);
        }
        if len > MOST {
            let _ = writeln!(text, "  {} more", size::exact(len - MOST));
        }
        text
    }
}

/// A line of one side; nothing of a side that is not there.
fn line(
    text: &mut String,
    sign: char,
    at: u64,
    style: Style,
    bytes: &[Option<u8>],
    other: &[Option<u8>],
) {
    if bytes.iter().all(Option::is_none) {
        return;
    }
    let _ = write!(text, "{sign} {at:#018x} ");
    for (byte, other) in bytes.iter().zip(other) {
        let shown = byte.map_or_else(|| "??".to_owned(), |byte| format!("{byte:02x}"));
        let _ = match byte == other {
            true => write!(text, " {shown}"),
            false => write!(text, " {style}{shown}{style:#}"),
        };
    }
    let _ = write!(text, "  ");
    for (byte, other) in bytes.iter().zip(other) {
        let shown = match byte {
            Some(byte @ 0x20..0x7f) => char::from(*byte),
            _ => '.',
        };
        let _ = match byte == other {
            true => write!(text, "{shown}"),
            false => write!(text, "{style}{shown}{style:#}"),
        };
    }
    text.push('\n');
}
