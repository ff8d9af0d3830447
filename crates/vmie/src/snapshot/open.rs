//! Opening what was saved: a snapshot, or one of a series.

use std::path::Path;

use super::file::{FileError, FileErrorKind as Kind, Form, map};
use super::{Snapshot, series};
use crate::addr::Address;
use crate::filemap::FileMap;

impl<A: Address> Snapshot<A> {
    /// Opens a snapshot that was saved.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is no snapshot, is of another format version or another kind of
    /// addresses, or when anything in it is not what was written; the error says which part.
    ///
    /// # Cost
    ///
    /// The file is mapped and its checksums are verified, at the speed of memory for a file that is in the
    /// page cache. A file that somebody has open for writing is copied.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        let opened = map(path).and_then(|map| Self::read_path(path, map, &mut Err));
        opened.map_err(|kind| FileError {
            path: path.to_owned(),
            kind,
        })
    }

    /// Opens what is intact of a damaged snapshot, and says what is not.
    ///
    /// Bytes that are lost fault with [`Cause::Damaged`](crate::Cause::Damaged); all others are what was
    /// captured.
    ///
    /// # Errors
    ///
    /// When the tables at both ends of the file are damaged, and as [`Snapshot::open`].
    pub fn salvage(path: impl AsRef<Path>) -> Result<(Self, Vec<Kind>), FileError> {
        let path = path.as_ref();
        let mut problems = Vec::new();
        let opened = map(path).and_then(|map| {
            Self::read_path(path, map, &mut |problem| {
                problems.push(problem);
                Ok(())
            })
        });
        match opened {
            Ok(snapshot) => Ok((snapshot, problems)),
            Err(kind) => Err(FileError {
                path: path.to_owned(),
                kind,
            }),
        }
    }

    /// Reads a snapshot, or a moment of the series that it is in.
    fn read_path(
        path: &Path,
        map: FileMap,
        problem: &mut dyn FnMut(Kind) -> Result<(), Kind>,
    ) -> Result<Self, Kind> {
        match map.slice(0, 8) {
            Some(magic) if magic == Form::Moment.magic() => series::moment(path, &map, problem),
            _ => Self::read_file(map, problem),
        }
    }
}
