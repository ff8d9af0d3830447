//! The flattened form: a dump as a stream, for pipes.
//!
//! ```text
//! 4096 bytes   "makedumpfile", type 1, version 1
//! records      offset and length (8 bytes each, big-endian), and so many bytes for that offset of the dump
//! end          offset and length are -1
//! ```
//!
//! Records come in any order and may be written over by later ones. All are indexed when the file is opened,
//! 16 bytes read for each; reading looks offsets up.

use super::super::error::OpenErrorKind;
use super::super::opening::TOO_MANY_PARTS;
use super::damaged;
use crate::filemap::FileMap;

const HEADER: u64 = 4096;
const RECORD: u64 = 16;
/// The most records; writers put at least some KiB into each.
const MAX_RECORDS: usize = 1 << 24;

/// Bytes of the dump that are together in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Piece {
    /// Offset in the dump.
    start: u64,
    len: u64,
    /// Offset in the file.
    offset: u64,
}

impl Piece {
    fn end(self) -> u64 {
        self.start + self.len
    }
}

/// Where the bytes of the dump are in the file.
#[derive(Debug)]
pub(super) struct Flat {
    /// Ascending, disjoint.
    pieces: Vec<Piece>,
    /// Whether the end mark is there.
    pub(super) ended: bool,
    /// Where the last bytes end that more than one record has written.
    pub(super) rewritten: u64,
}

impl Flat {
    /// Reads the heads of all records.
    pub(super) fn index(map: &FileMap) -> Result<Self, OpenErrorKind> {
        const WHAT: &str = "flattened kdump";
        let number = |at| map.array(at).map(i64::from_be_bytes);
        match (number(16), number(24)) {
            (Some(1), Some(1)) => {}
            (kind, version) => {
                let found = format!("{kind:?} and {version:?}");
                return Err(damaged(WHAT, 16, "type 1 and version 1", found));
            }
        }
        let mut records = Vec::new();
        let mut ended = false;
        let mut at = HEADER;
        while let (Some(start), Some(len)) = (number(at), at.checked_add(8).and_then(number)) {
            if (start, len) == (-1, -1) {
                ended = true;
                break;
            }
            let (Ok(start), Ok(len)) = (u64::try_from(start), u64::try_from(len)) else {
                let found = format!("{start} and {len}");
                return Err(damaged(WHAT, at, "an offset and a length", found));
            };
            if start.checked_add(len).is_none_or(|end| end >= 1 << 62) {
                let found = format!("{start:#x}+{len:#x}");
                return Err(damaged(WHAT, at, "an offset within a file", found));
            }
            let offset = at + RECORD;
            let inside = len.min(map.len() - offset);
            if inside > 0 {
                records.push(Piece {
                    start,
                    len: inside,
                    offset,
                });
            }
            if records.len() > MAX_RECORDS {
                return Err(TOO_MANY_PARTS);
            }
            if inside < len {
                break;
            }
            at = offset + len;
        }
        let (pieces, rewritten) = disjoint(records);
        Ok(Self {
            pieces,
            ended,
            rewritten,
        })
    }

    /// The piece that holds an offset of the dump.
    fn find(&self, at: u64) -> Option<Piece> {
        let after = self.pieces.partition_point(|piece| piece.start <= at);
        self.pieces[..after]
            .last()
            .copied()
            .filter(|piece| at < piece.end())
    }

    fn len(&self) -> u64 {
        self.pieces.last().map_or(0, |piece| piece.end())
    }
}

/// Makes records disjoint: later ones win. Answers too where the last overlap ends, 0 when there is none: then
/// it costs a sort.
fn disjoint(mut records: Vec<Piece>) -> (Vec<Piece>, u64) {
    let mut rewritten = 0;
    let order: Vec<u64> = {
        let mut sorted = records.clone();
        sorted.sort_by_key(|piece| piece.start);
        let mut reach = 0;
        for piece in &sorted {
            if piece.start < reach {
                rewritten = rewritten.max(reach.min(piece.end()));
            }
            reach = reach.max(piece.end());
        }
        if rewritten == 0 {
            return (sorted, 0);
        }
        let mut borders: Vec<u64> = sorted
            .iter()
            .flat_map(|one| [one.start, one.end()])
            .collect();
        borders.sort_unstable();
        borders.dedup();
        borders
    };
    // The last record first: what is taken stays taken. `next[i]` leads to the first free stretch between two
    // borders at or behind stretch `i`, with the way shortened as it is walked.
    records.reverse();
    let mut next: Vec<usize> = (0..=order.len()).collect();
    let mut out = Vec::new();
    for record in records {
        let mut at = free(
            &mut next,
            order.partition_point(|&border| border < record.start),
        );
        while at + 1 < order.len() && order[at] < record.end() {
            let start = order[at];
            out.push(Piece {
                start,
                len: order[at + 1] - start,
                offset: record.offset + (start - record.start),
            });
            next[at] = at + 1;
            at = free(&mut next, at + 1);
        }
    }
    out.sort_by_key(|piece| piece.start);
    (out, rewritten)
}

fn free(next: &mut [usize], from: usize) -> usize {
    let mut end = from;
    while next[end] != end {
        end = next[end];
    }
    let mut at = from;
    while next[at] != end {
        at = std::mem::replace(&mut next[at], end);
    }
    end
}

/// The bytes of a dump, whichever form the file has.
pub(super) struct Bytes<'a> {
    map: &'a FileMap,
    flat: Option<&'a Flat>,
}

impl<'a> Bytes<'a> {
    pub(super) fn new(map: &'a FileMap, flat: Option<&'a Flat>) -> Self {
        Self { map, flat }
    }

    /// Behind the last byte.
    pub(super) fn len(&self) -> u64 {
        self.flat.map_or(self.map.len(), Flat::len)
    }

    /// Whether this is a stream that came to its end.
    pub(super) fn is_whole(&self) -> bool {
        self.flat.is_some_and(|flat| flat.ended)
    }

    /// Reads bytes that are all there.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> bool {
        self.copy(offset, buf, false)
    }

    /// Reads bytes; what no record has written is zeros, as in a file that is put together, when the stream
    /// came to its end.
    pub(super) fn read_with_gaps(&self, offset: u64, buf: &mut [u8]) -> bool {
        self.copy(offset, buf, self.is_whole())
    }

    /// Whether all of these bytes are there.
    pub(super) fn has(&self, offset: u64, len: u64) -> bool {
        let Some(flat) = self.flat else {
            return offset
                .checked_add(len)
                .is_some_and(|end| end <= self.map.len());
        };
        let mut at = offset;
        while at < offset.saturating_add(len) {
            match flat.find(at) {
                Some(piece) => at = piece.end(),
                None => return false,
            }
        }
        true
    }

    pub(super) fn array<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.read_with_gaps(offset, &mut bytes).then_some(bytes)
    }

    fn copy(&self, offset: u64, buf: &mut [u8], gaps: bool) -> bool {
        let Some(flat) = self.flat else {
            return self.map.read(offset, buf);
        };
        let mut done = 0;
        while done < buf.len() {
            let Some(at) = offset.checked_add(done as u64) else {
                return false;
            };
            let rest = &mut buf[done..];
            let fits =
                |len: u64| usize::try_from(len).map_or(rest.len(), |len| len.min(rest.len()));
            done += match flat.find(at) {
                Some(piece) => {
                    let len = fits(piece.end() - at);
                    if !self
                        .map
                        .read(piece.offset + (at - piece.start), &mut rest[..len])
                    {
                        return false;
                    }
                    len
                }
                None if gaps && at < flat.len() => {
                    let after = flat.pieces.partition_point(|piece| piece.start <= at);
                    let len = fits(flat.pieces.get(after).map_or(1, |piece| piece.start - at));
                    rest[..len].fill(0);
                    len
                }
                None => return false,
            };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Beside writing the records one after the other.
        #[test]
        fn later_records_win(records in prop::collection::vec((0_u64..40, 1_u64..20), 0..20)) {
            let mut all = Vec::new();
            let mut naive = vec![None; 64];
            let mut offset = 0;
            for (start, len) in records {
                all.push(Piece { start, len, offset });
                for at in 0..len {
                    naive[(start + at) as usize] = Some(offset + at);
                }
                offset += len;
            }
            let twice = (0..64).rev().find(|at| {
                all.iter().filter(|one| (one.start..one.end()).contains(at)).count() > 1
            });
            let (pieces, rewritten) = disjoint(all);
            prop_assert_eq!(rewritten, twice.map_or(0, |at| at + 1));
            let flat = Flat { pieces, ended: true, rewritten };
            for (at, expected) in naive.iter().enumerate() {
                let at = at as u64;
                let found = flat.find(at).map(|piece| piece.offset + (at - piece.start));
                prop_assert_eq!(found, *expected, "{}", at);
            }
        }
    }
}
