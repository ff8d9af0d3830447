//! Reads a file of candidates, block by block, and believes nothing that it has not checked.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

use super::CandidatesErrorKind as Kind;
use super::{
    CHECK, CandidatesError, END, Header, MAGIC, MAX_HEADER, PREFIX, RECORD, TRAILER, VERSION,
    per_block,
};

/// An open file whose every byte has been checked.
#[derive(Debug)]
pub struct Saved {
    path: PathBuf,
    file: File,
    /// What it says about itself.
    pub header: Header,
    /// How many candidates it holds.
    pub count: u64,
    size: u64,
    /// Where the first block begins.
    start: u64,
    block: Vec<u8>,
}

/// A candidate in a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'b> {
    /// Its address.
    pub va: u64,
    /// Index of its space, one that the header has.
    pub space: usize,
    /// Index of its query, one that the header has.
    pub query: usize,
    /// Its bytes as they were, at most as many as the query has.
    pub value: &'b [u8],
}

impl Saved {
    /// Opens a file and checks it from end to end.
    ///
    /// # Errors
    ///
    /// When it is none, is not whole, or was damaged; says where.
    pub fn open(path: &Path) -> Result<Self, CandidatesError> {
        Self::open_kind(path).map_err(|kind| kind.of(path))
    }

    fn open_kind(path: &Path) -> Result<Self, Kind> {
        let io = Kind::Read;
        let mut file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let mut prefix = [0; PREFIX];
        let got = read_up_to(&mut file, &mut prefix).map_err(io)?;
        if got < MAGIC.len() || !prefix.starts_with(MAGIC) {
            return Err(Kind::Other);
        }
        let cut = |needed: u64, what: &'static str| Kind::Cut { size, what, needed };
        if got < PREFIX {
            return Err(cut(PREFIX as u64, "its beginning alone"));
        }
        let version = number(&prefix[8..12]);
        if version != u64::from(VERSION) {
            return Err(Kind::Version {
                found: version,
                known: VERSION,
            });
        }
        let header_len = number(&prefix[12..16]);
        let start = PREFIX as u64 + header_len + CHECK as u64;
        if header_len > MAX_HEADER {
            let found = format!("a header of {header_len:#x} bytes, at 0xc");
            return Err(Kind::Damaged(found));
        }
        if start + TRAILER as u64 > size {
            return Err(cut(start + TRAILER as u64, "the header, at 0x10,"));
        }
        let mut json = vec![0; header_len as usize];
        file.read_exact(&mut json).map_err(io)?;
        let mut stored = [0; CHECK];
        file.read_exact(&mut stored).map_err(io)?;
        let header_check = xxh3_64(&[&prefix[..], &json].concat());
        if header_check.to_le_bytes() != stored {
            let at = start - CHECK as u64;
            return Err(Kind::Damaged(format!(
                "the header is not what its check at {at:#x} says"
            )));
        }
        let header: Header = serde_json::from_slice(&json)
            .map_err(|error| Kind::Damaged(format!("the header, at 0x10: {error}")))?;
        let plain = header
            .queries
            .iter()
            .all(|query| query.len > 0 && query.len <= header.value_len);
        if !plain || header.queries.is_empty() || header.spaces.is_empty() {
            return Err(Kind::Damaged(
                "the header, at 0x10, makes no sense".to_owned(),
            ));
        }
        let mut trailer = [0; TRAILER];
        file.seek(SeekFrom::Start(size - TRAILER as u64))
            .and_then(|_| file.read_exact(&mut trailer))
            .map_err(io)?;
        let mut check = Xxh3::with_seed(header_check);
        check.update(&trailer[..16]);
        if !trailer.starts_with(END) || check.digest() != number(&trailer[16..]) {
            return Err(Kind::End { size });
        }
        let count = number(&trailer[8..16]);
        let stride = header.stride();
        let blocks = count.div_ceil(per_block(stride) as u64);
        let wide = |count: u64, len: usize| u128::from(count) * len as u128;
        let expected = wide(count, stride) + wide(blocks, CHECK) + wide(start, 1) + TRAILER as u128;
        if expected != u128::from(size) {
            let found = format!("{size:#x} bytes, which is not what {count} candidates take");
            return Err(Kind::Damaged(found));
        }
        let mut saved = Self {
            path: path.to_owned(),
            file,
            header,
            count,
            size,
            start,
            block: Vec::new(),
        };
        saved.each_kind(|_, _| Ok::<(), Kind>(()))?;
        Ok(saved)
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.size
    }

    /// Passes the records of each block to `take`, with the place of the block in the file.
    ///
    /// # Errors
    ///
    /// Those of `take`, and when a block cannot be read or was damaged.
    pub fn each_block<E: From<CandidatesError>>(
        &mut self,
        mut take: impl FnMut(&[Record<'_>], u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = self.path.clone();
        let walked = self.each_kind(|records, at| take(records, at).map_err(Either::Theirs));
        walked.map_err(|error| match error {
            Either::Ours(kind) => kind.of(&path).into(),
            Either::Theirs(error) => error,
        })
    }

    fn each_kind<E: From<Kind>>(
        &mut self,
        mut take: impl FnMut(&[Record<'_>], u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let io = Kind::Read;
        let stride = self.header.stride();
        self.file.seek(SeekFrom::Start(self.start)).map_err(io)?;
        let (mut left, mut at, mut number_of) = (self.count, self.start, 0);
        while left > 0 {
            let count = left.min(per_block(stride) as u64);
            let len = count as usize * stride;
            self.block.resize(len + CHECK, 0);
            self.file.read_exact(&mut self.block).map_err(io)?;
            let (records, check) = self.block.split_at(len);
            if xxh3_64_with_seed(records, number_of) != number(check) {
                let end = at + len as u64;
                let found = format!("{at:#x}..{end:#x} is not what its check at {end:#x} says");
                return Err(Kind::Damaged(found).into());
            }
            let mut all = Vec::with_capacity(count as usize);
            for (index, bytes) in records.chunks_exact(stride).enumerate() {
                let record = record(&self.header, bytes).ok_or_else(|| {
                    let at = at + (index * stride) as u64;
                    Kind::Damaged(format!("the candidate at {at:#x} makes no sense"))
                })?;
                all.push(record);
            }
            take(&all, at)?;
            at += (len + CHECK) as u64;
            left -= count;
            number_of += 1;
        }
        Ok(())
    }
}

fn record<'b>(header: &Header, bytes: &'b [u8]) -> Option<Record<'b>> {
    let (fixed, value) = bytes.split_at_checked(RECORD)?;
    let record = Record {
        va: number(&fixed[..8]),
        space: number(&fixed[8..12]) as usize,
        query: number(&fixed[12..14]) as usize,
        value: value.get(..number(&fixed[14..16]) as usize)?,
    };
    let query = header.queries.get(record.query)?;
    let fits = !record.value.is_empty() && record.value.len() <= usize::from(query.len);
    (fits && record.space < header.spaces.len()).then_some(record)
}

/// Why going over the blocks ended.
enum Either<E> {
    Ours(Kind),
    Theirs(E),
}

impl<E> From<Kind> for Either<E> {
    fn from(kind: Kind) -> Self {
        Self::Ours(kind)
    }
}

/// A little-endian number of at most eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |all, &byte| all << 8 | u64::from(byte))
}

/// Fills `buf` as far as there is something.
fn read_up_to(file: &mut File, buf: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buf.len() {
        match file.read(&mut buf[got..])? {
            0 => break,
            n => got += n,
        }
    }
    Ok(got)
}
