//! Reads a file of candidates, block by block, and believes nothing that it has not checked.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

use super::{CHECK, END, Header, MAGIC, MAX_HEADER, PREFIX, RECORD, TRAILER, VERSION, per_block};
use crate::escape::shell_word;
use crate::exit::Failure;

/// An open file whose every byte has been checked.
#[derive(Debug)]
pub(crate) struct Saved {
    path: PathBuf,
    file: File,
    /// What it says about itself.
    pub(crate) header: Header,
    /// How many candidates it holds.
    pub(crate) count: u64,
    size: u64,
    /// Where the first block begins.
    start: u64,
    block: Vec<u8>,
}

/// A candidate in a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Record<'b> {
    /// Its address.
    pub(crate) va: u64,
    /// Index of its space, one that the header has.
    pub(crate) space: usize,
    /// Index of its query, one that the header has.
    pub(crate) query: usize,
    /// Its bytes as they were, at most as many as the query has.
    pub(crate) value: &'b [u8],
}

impl Saved {
    /// Opens a file and checks it from end to end.
    ///
    /// # Errors
    ///
    /// When it is none, is not whole, or was damaged; says where.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let name = shell_word(path);
        let io = |error: io::Error| Failure::new(format!("cannot read {name}: {error}"));
        let mut file = File::open(path)
            .map_err(|error| io(error).hint("a file that `vmie find --save FILE` has written"))?;
        let size = file.metadata().map_err(io)?.len();
        let mut prefix = [0; PREFIX];
        let got = read_up_to(&mut file, &mut prefix).map_err(io)?;
        if got < MAGIC.len() || !prefix.starts_with(MAGIC) {
            return Err(Failure::new(format!("{name} is not a file of candidates"))
                .found("it does not begin with `vmiecand`")
                .hint("a file that `vmie find --save FILE` has written"));
        }
        let cut = |needed: u64, what: &str| {
            Failure::new(format!("{name} is cut off at {size:#x}, its end"))
                .found(format!("{what} needs {needed:#x} bytes"))
                .hint("`vmie find --save` once more, from the beginning")
        };
        if got < PREFIX {
            return Err(cut(PREFIX as u64, "its beginning alone"));
        }
        let version = number(&prefix[8..12]);
        if version != u64::from(VERSION) {
            return Err(
                Failure::new(format!("{name} cannot be read")).found(format!(
                    "version {version} at 0x8; this is version {VERSION}"
                )),
            );
        }
        let header_len = number(&prefix[12..16]);
        let start = PREFIX as u64 + header_len + CHECK as u64;
        if header_len > MAX_HEADER {
            let found = format!("a header of {header_len:#x} bytes, at 0xc");
            return Err(damaged(&name, found));
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
            return Err(damaged(
                &name,
                format!("the header is not what its check at {at:#x} says"),
            ));
        }
        let header: Header = serde_json::from_slice(&json)
            .map_err(|error| damaged(&name, format!("the header, at 0x10: {error}")))?;
        let plain = header
            .queries
            .iter()
            .all(|query| query.len > 0 && query.len <= header.value_len);
        if !plain || header.queries.is_empty() || header.spaces.is_empty() {
            return Err(damaged(
                &name,
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
            return Err(Failure::new(format!(
                "{name} is cut off or damaged at its end, {size:#x}"
            ))
            .found("the last 24 bytes do not say how many candidates it holds")
            .hint("`vmie find --save` once more, from the beginning"));
        }
        let count = number(&trailer[8..16]);
        let stride = header.stride();
        let blocks = count.div_ceil(per_block(stride) as u64);
        let wide = |count: u64, len: usize| u128::from(count) * len as u128;
        let expected = wide(count, stride) + wide(blocks, CHECK) + wide(start, 1) + TRAILER as u128;
        if expected != u128::from(size) {
            let found = format!("{size:#x} bytes, which is not what {count} candidates take");
            return Err(damaged(&name, found));
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
        saved.each_block(|_, _| Ok::<(), Failure>(()))?;
        Ok(saved)
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.size
    }

    /// Passes the records of each block to `take`, with the place of the block in the file.
    ///
    /// # Errors
    ///
    /// Those of `take`, and when a block cannot be read or was damaged.
    pub(crate) fn each_block<E: From<Failure>>(
        &mut self,
        mut take: impl FnMut(&[Record<'_>], u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let name = shell_word(&self.path);
        let io = |error: io::Error| Failure::new(format!("cannot read {name}: {error}"));
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
                return Err(damaged(&name, found).into());
            }
            let mut all = Vec::with_capacity(count as usize);
            for (index, bytes) in records.chunks_exact(stride).enumerate() {
                let record = record(&self.header, bytes).ok_or_else(|| {
                    let at = at + (index * stride) as u64;
                    damaged(&name, format!("the candidate at {at:#x} makes no sense"))
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

fn damaged(name: &str, found: String) -> Failure {
    Failure::new(format!("{name} is damaged"))
        .found(found)
        .hint("`vmie find --save` once more, from the beginning")
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
