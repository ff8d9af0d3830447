//! Opening a snapshot: verify, then believe.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::super::Snapshot;
use super::super::content::Content;
use super::super::layout::SNAPSHOT_PAGE;
use super::blocks::{Blocks, Place};
use super::tables::{self, Form, TRAILER, Tables};
use super::{BLOCK_PAGES, FileErrorKind as Kind};
use crate::addr::Address;
use crate::filemap::FileMap;

impl<A: Address> Snapshot<A> {
    /// Takes bytes in memory for a snapshot's file, as [`Snapshot::salvage`]: for tests, fuzzing and what comes by
    /// other ways than files.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::salvage`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<(Self, Vec<Kind>), Kind> {
        let mut problems = Vec::new();
        if bytes.is_empty() {
            return Err(Kind::Foreign);
        }
        let snapshot = Self::read_file(FileMap::from_bytes(bytes), &mut |problem| {
            problems.push(problem);
            Ok(())
        })?;
        Ok((snapshot, problems))
    }

    /// Reads a file. `problem` decides whether to go on after one.
    pub(in super::super) fn read_file(
        map: FileMap,
        problem: &mut dyn FnMut(Kind) -> Result<(), Kind>,
    ) -> Result<Self, Kind> {
        let (tables, begin) = both_tables::<A>(&map, problem)?;
        let places = places(&map, &tables.blocks, begin, problem)?;
        let blocks = Blocks::new(map, tables.compression, tables.pages, places);
        Ok(Self {
            coverage: tables.layout.coverage(),
            layout: tables.layout,
            slots: tables.slots,
            content: Content::File(Arc::new(blocks)),
            taken: tables.taken,
            took: tables.took,
            origin: tables.origin,
        })
    }
}

/// Where blocks are that follow each other from `offset` on, and which of them are intact.
pub(in super::super) fn places(
    map: &FileMap,
    blocks: &[(u64, u64)],
    mut offset: u64,
    problem: &mut dyn FnMut(Kind) -> Result<(), Kind>,
) -> Result<Vec<Place>, Kind> {
    let mut places = Vec::with_capacity(blocks.len());
    for &(len, sum) in blocks {
        let most = (BLOCK_PAGES * SNAPSHOT_PAGE) as u64;
        let Some(short) = u32::try_from(len).ok().filter(|_| len <= most) else {
            return Err(Kind::Inconsistent("the length of a block"));
        };
        let bytes = map.slice(offset, short as usize);
        let intact = bytes.is_some_and(|bytes| xxh3_64(bytes) == sum);
        if !intact {
            problem(Kind::Damaged {
                part: "contents",
                offset,
                len,
            })?;
        }
        places.push(Place {
            offset,
            len: short,
            intact,
        });
        offset += len;
    }
    Ok(places)
}

/// The tables, from the end of the file that is intact, and where the blocks begin.
fn both_tables<A: Address>(
    map: &FileMap,
    problem: &mut dyn FnMut(Kind) -> Result<(), Kind>,
) -> Result<(Tables<A>, u64), Kind> {
    let found = map.len();
    let all = |from: u64| {
        let len = usize::try_from(found - from).ok();
        len.and_then(|len| map.slice(from, len))
    };
    let front = Tables::<A>::decode(Form::Whole, all(0).unwrap_or_default(), 0);
    let begin = found
        .checked_sub(TRAILER as u64)
        .and_then(|at| map.array(at))
        .and_then(|trailer| tables::at_end(trailer, found));
    let back = |begin: u64| Tables::<A>::decode(Form::Whole, all(begin).unwrap_or_default(), begin);
    match front {
        Ok(tables) => {
            let expected = tables::header(Form::Whole, all(0).unwrap_or_default(), 0)?.file;
            if found != expected {
                problem(Kind::Length { found, expected })?;
            } else {
                match begin.map(back) {
                    Some(Ok(other)) if other == tables => {}
                    Some(Err(kind)) => problem(kind)?,
                    _ => problem(Kind::Damaged {
                        part: "tables at the end",
                        offset: found - tables.len(),
                        len: tables.len(),
                    })?,
                }
            }
            let len = tables.len();
            Ok((tables, len))
        }
        // A file that says clearly that it is something else is not repaired from its end.
        Err(kind @ (Kind::Version { .. } | Kind::Space { .. } | Kind::Compression(_))) => Err(kind),
        Err(kind) => {
            let Some(Ok(tables)) = begin.map(back) else {
                return Err(kind);
            };
            problem(kind)?;
            // Blocks end where these tables begin.
            let len = tables.len();
            Ok((tables, len))
        }
    }
}

/// Maps a file so that nobody can change it meanwhile.
pub(in super::super) fn map(path: &Path) -> Result<FileMap, Kind> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() == 0 {
        return Err(Kind::Foreign);
    }
    Ok(FileMap::new(&file)?.frozen()?)
}
