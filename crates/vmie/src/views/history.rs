//! What people typed: the history of shells that use the library of GNU's that keeps one (bash), from their memory.
//!
//! The library (`lib/readline/history.h` of bash) keeps an array of pointers to entries, which ends with null; an entry is three
//! words: the line, the time as text (`#` and seconds since 1970), and data of the program's. None of them is found by a symbol, so it goes the
//! other way: from texts that look like times to words that point to them, and from entries to the array, which has them in order. A
//! program may be called anything, so all processes are looked at.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::addr::{Address, Gva};
use crate::memory::{Memory, Prot};
use crate::os::object::Walk;
use crate::os::{FindingKind, Guest, Listing, OsError, Process};
use crate::paging::AddressSpace;
use crate::scan::{Run, Selection, scan};
use crate::sweep::{Found, Piece, Scanner, SpacePart};

/// How long a line is read. Scripts that are pasted can be long.
const MAX_LINE: usize = 128 << 10;

/// How many digits a time has: nine were enough until 2001.
const DIGITS: std::ops::RangeInclusive<usize> = 9..=11;

/// How many entries of one process are kept: `HISTSIZE` is 500 where nobody sets it.
const MAX_ENTRIES: usize = 1 << 20;

/// A command that was typed, or read from a file of earlier ones.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Command {
    /// The shell.
    pub pid: u32,
    /// Its short name.
    pub process: String,
    /// When it was typed.
    pub time: SystemTime,
    /// What was typed; it may have line breaks.
    pub line: Vec<u8>,
    /// Whether the shell's list has it: one that was deleted from it, or pushed out, may still be in memory.
    pub listed: bool,
    /// Where the entry is.
    pub va: Gva,
}

/// The commands in the memory of `processes`, by process: those that its list has in the order of the list, then others by time.
///
/// Cost: one pass over what all of them may write to, each frame once, and two more over that of each shell.
///
/// # Errors
///
/// None but those of [`Guest::space_of`], which leave out a process.
pub fn history(
    guest: &dyn Guest,
    processes: &[Process],
    run: Run<'_>,
) -> Result<Listing<Command>, OsError> {
    let walk = guest.walk();
    let mut spaces = Vec::new();
    for process in processes {
        if let Ok(space) = guest.space_of(process) {
            spaces.push((process, space));
        }
    }
    let part = |space| {
        let range = AddressSpace::mode(space).user_range();
        range.map(|range| SpacePart { space, range })
    };
    let parts: Vec<SpacePart<'_>> = spaces.iter().filter_map(|(_, space)| part(space)).collect();
    let writable = Selection::all().perm(Prot::W);
    let found = scan(&parts[..], &Stamps, &writable, run);
    if found.stopped {
        walk.note(
            FindingKind::Limit,
            None,
            "the search for histories was stopped",
        );
    }
    let unseen = found.coverage.absent.saturating_add(found.coverage.lost);
    if unseen > 0 && !found.stopped {
        let text = format!(
            "{unseen} bytes that processes may write to could not be looked at: histories may be in them"
        );
        walk.note(FindingKind::Unreadable, None, text);
    }
    let mut stamps: HashMap<usize, HashMap<u64, u64>> = HashMap::new();
    for stamp in found.items {
        stamps
            .entry(stamp.space)
            .or_default()
            .insert(stamp.start.raw(), stamp.item);
    }
    let mut items = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let Some(stamps) = stamps.get(&index) else {
            continue;
        };
        let process = spaces
            .iter()
            .find(|(_, space)| std::ptr::eq(space, part.space));
        if let Some((process, _)) = process {
            items.extend(of_process(part, process, stamps, &walk));
        }
    }
    Ok(Listing {
        items,
        findings: walk.finish(),
    })
}

fn of_process(
    part: &SpacePart<'_>,
    process: &Process,
    stamps: &HashMap<u64, u64>,
    walk: &Walk,
) -> Vec<Command> {
    let writable = Selection::all().perm(Prot::W);
    let pointing = |targets: Vec<u64>| {
        let scanner = Words::new(targets);
        scan(
            std::slice::from_ref(part),
            &scanner,
            &writable,
            Run::new().threads(1),
        )
        .items
    };
    let mut entries: HashMap<u64, Command> = HashMap::new();
    for pointer in pointing(stamps.keys().copied().collect()) {
        if entries.len() == MAX_ENTRIES {
            let text = format!(
                "the history of process {} has more than {MAX_ENTRIES} entries",
                process.pid
            );
            walk.note(FindingKind::Limit, None, text);
            break;
        }
        let Some(at) = pointer.start.raw().checked_sub(8) else {
            continue;
        };
        let line = part
            .space
            .read_u64(Gva(at))
            .ok()
            .and_then(|line| line_at(part.space, line));
        if let (Some(line), Some(&seconds)) = (line, stamps.get(&pointer.item)) {
            let command = Command {
                pid: process.pid,
                process: process.name.clone(),
                time: UNIX_EPOCH + Duration::from_secs(seconds),
                line,
                listed: false,
                va: Gva(at),
            };
            entries.insert(at, command);
        }
    }
    if entries.is_empty() {
        return Vec::new();
    }
    let pointers: Vec<(u64, u64)> = pointing(entries.keys().copied().collect())
        .into_iter()
        .map(|pointer| (pointer.start.raw(), pointer.item))
        .collect();
    let ends = |at: u64| part.space.read_u64(Gva(at)).is_ok_and(|word| word == 0);
    let Some(list) = longest(&pointers, ends) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for &(_, entry) in list {
        if let Some(command) = entries.remove(&entry) {
            all.push(Command {
                listed: true,
                ..command
            });
        }
    }
    let mut others: Vec<Command> = entries.into_values().collect();
    others.sort_by_key(|command| (command.time, command.va));
    all.extend(others);
    all
}

/// The longest run of pointers one behind the other that ends with null. They come by ascending place.
fn longest(pointers: &[(u64, u64)], ends: impl Fn(u64) -> bool) -> Option<&[(u64, u64)]> {
    let runs = pointers.chunk_by(|a, b| a.0.checked_add(8) == Some(b.0));
    let whole = runs.filter(|run| {
        run.last()
            .and_then(|last| last.0.checked_add(8))
            .is_some_and(&ends)
    });
    whole.max_by_key(|run| run.len())
}

/// The text at a place in user memory; `None` where there is none.
fn line_at(space: &AddressSpace, at: u64) -> Option<Vec<u8>> {
    if at == 0 || at >> 63 != 0 {
        return None;
    }
    let mut line = Vec::new();
    let mut here = Gva(at);
    while line.len() < MAX_LINE {
        // Up to the end of a page: what is behind it need not be there.
        let mut bytes = [0; 256];
        let len = bytes.len().min((4096 - here.raw() % 4096) as usize);
        space.read(here, &mut bytes[..len]).ok()?;
        let end = bytes[..len].iter().position(|&byte| byte == 0);
        line.extend(&bytes[..end.unwrap_or(len)]);
        if end.is_some() {
            break;
        }
        here = here.checked_add(len as u64)?;
    }
    Some(line)
}

/// Finds texts that look like times.
struct Stamps;

impl Scanner for Stamps {
    type Item = u64;

    fn behind(&self) -> usize {
        0
    }

    fn overlap(&self) -> usize {
        DIGITS.end() + 1
    }

    fn len_of(&self, _: &u64) -> usize {
        DIGITS.start() + 2
    }

    fn scan(&self, piece: &Piece<'_>, found: &mut Found<(usize, u64)>) {
        for at in memchr::memchr_iter(b'#', &piece.bytes[..piece.owned]) {
            let rest = &piece.bytes[at + 1..];
            let digits = rest
                .iter()
                .take(DIGITS.end() + 1)
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            if !DIGITS.contains(&digits) || rest.get(digits) != Some(&0) {
                continue;
            }
            let value = rest[..digits]
                .iter()
                .fold(0, |value, byte| value * 10 + u64::from(byte - b'0'));
            found.push((at, value));
        }
    }
}

/// Finds aligned words that have one of some values.
struct Words {
    values: std::collections::HashSet<u64>,
    least: u64,
    most: u64,
}

impl Words {
    fn new(values: Vec<u64>) -> Self {
        Self {
            least: values.iter().copied().min().unwrap_or(u64::MAX),
            most: values.iter().copied().max().unwrap_or(0),
            values: values.into_iter().collect(),
        }
    }
}

impl Scanner for Words {
    type Item = u64;

    fn behind(&self) -> usize {
        0
    }

    fn overlap(&self) -> usize {
        7
    }

    fn len_of(&self, _: &u64) -> usize {
        8
    }

    fn scan(&self, piece: &Piece<'_>, found: &mut Found<(usize, u64)>) {
        let first = (piece.phase.wrapping_neg() % 8) as usize;
        let (words, _) = piece
            .bytes
            .get(first..)
            .unwrap_or_default()
            .as_chunks::<8>();
        for (index, word) in words.iter().enumerate() {
            let at = first + index * 8;
            if at >= piece.owned {
                break;
            }
            let value = u64::from_le_bytes(*word);
            if (self.least..=self.most).contains(&value) && self.values.contains(&value) {
                found.push((at, value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(bytes: &[u8], owned: usize, phase: u64) -> Piece<'_> {
        Piece {
            bytes,
            owned,
            before: &[],
            phase,
            start: None,
        }
    }

    #[test]
    fn times_are_told_by_their_shape() {
        let bytes = b"#1700000000\0#12345678\0##999999999\0#170000000000\0#1700000001x#1700000002";
        let mut found = Found::with_limit(100);
        Stamps.scan(&piece(bytes, bytes.len(), 0), &mut found);
        assert_eq!(found.items(), [(0, 1_700_000_000), (23, 999_999_999)]);
        // One that begins in what the window owns and ends behind it.
        let mut found = Found::with_limit(100);
        Stamps.scan(&piece(bytes, 1, 0), &mut found);
        assert_eq!(found.items().len(), 1);
    }

    #[test]
    fn words_are_found_where_they_are_aligned() {
        let mut bytes = [0_u8; 40];
        bytes[4..12].copy_from_slice(&0x1234_u64.to_le_bytes());
        bytes[21..29].copy_from_slice(&0x1234_u64.to_le_bytes());
        let words = Words::new(vec![0x1234]);
        let mut found = Found::with_limit(100);
        words.scan(&piece(&bytes, 40, 4), &mut found);
        assert_eq!(found.items(), [(4, 0x1234)]);
        let mut found = Found::with_limit(100);
        words.scan(&piece(&bytes, 40, 0), &mut found);
        assert_eq!(found.items(), []);
    }

    #[test]
    fn the_longest_run_that_ends_is_the_list() {
        let pointers = [
            (0x10, 1),
            (0x20, 1),
            (0x28, 2),
            (0x40, 1),
            (0x48, 2),
            (0x50, 3),
        ];
        assert_eq!(longest(&pointers, |at| at != 0x58), Some(&pointers[1..3]));
        assert_eq!(longest(&pointers, |_| true), Some(&pointers[3..]));
        assert_eq!(longest(&pointers, |_| false), None);
    }
}
