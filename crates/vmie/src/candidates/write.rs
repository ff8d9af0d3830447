//! Writes a file of candidates: beside its place, and put there when it is whole.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

use vmie_replace::Replacement;

use super::{CandidatesError, CandidatesErrorKind, END, Header, MAGIC, VERSION, per_block};

/// A file while it is written. Dropped before it is finished, it leaves nothing behind.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: BufWriter<Replacement>,
    header_check: u64,
    value_len: usize,
    block: Vec<u8>,
    block_len: usize,
    blocks: u64,
    count: u64,
    bytes: u64,
}

impl Writer {
    /// Begins a file that will be at `path`.
    ///
    /// # Errors
    ///
    /// When it cannot be made there.
    pub fn begin(path: &Path, header: &Header) -> Result<Self, CandidatesError> {
        let error = |error: io::Error| cannot_write(path, error);
        let file = Replacement::create(path).map_err(error)?;
        let json = serde_json::to_vec(header).map_err(|e| error(e.into()))?;
        let len = u32::try_from(json.len()).map_err(|e| error(io::Error::other(e)))?;
        let mut start = Vec::new();
        start.extend_from_slice(MAGIC);
        start.extend_from_slice(&VERSION.to_le_bytes());
        start.extend_from_slice(&len.to_le_bytes());
        start.extend_from_slice(&json);
        let header_check = xxh3_64(&start);
        start.extend_from_slice(&header_check.to_le_bytes());
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(&start).map_err(error)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            header_check,
            value_len: usize::from(header.value_len),
            block: Vec::new(),
            block_len: per_block(header.stride()) * header.stride(),
            blocks: 0,
            count: 0,
            bytes: start.len() as u64,
        })
    }

    /// Adds a candidate. The value is cut to what the header says of its length.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn push(
        &mut self,
        va: u64,
        space: u32,
        query: u16,
        value: &[u8],
    ) -> Result<(), CandidatesError> {
        let value = &value[..value.len().min(self.value_len)];
        let block = &mut self.block;
        block.extend_from_slice(&va.to_le_bytes());
        block.extend_from_slice(&space.to_le_bytes());
        block.extend_from_slice(&query.to_le_bytes());
        block.extend_from_slice(&(value.len() as u16).to_le_bytes());
        block.extend_from_slice(value);
        block.resize(block.len() + self.value_len - value.len(), 0);
        self.count += 1;
        if self.block.len() >= self.block_len {
            self.end_block()
                .map_err(|error| cannot_write(&self.path, error))?;
        }
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        let check = xxh3_64_with_seed(&self.block, self.blocks);
        self.file.write_all(&self.block)?;
        self.file.write_all(&check.to_le_bytes())?;
        self.bytes += self.block.len() as u64 + size_of_val(&check) as u64;
        self.blocks += 1;
        self.block.clear();
        Ok(())
    }

    /// How many candidates there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many bytes have been written.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts the whole file in its place.
    ///
    /// # Errors
    ///
    /// When it cannot be written; what was at its place is still there then.
    pub fn finish(mut self) -> Result<(), CandidatesError> {
        let path = std::mem::take(&mut self.path);
        self.put().map_err(|error| cannot_write(&path, error))
    }

    fn put(mut self) -> io::Result<()> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        let mut check = Xxh3::with_seed(self.header_check);
        for part in [&END[..], &self.count.to_le_bytes()] {
            check.update(part);
            self.file.write_all(part)?;
        }
        self.file.write_all(&check.digest().to_le_bytes())?;
        let file = self.file.into_inner().map_err(io::Error::from)?;
        file.commit()
    }
}

fn cannot_write(path: &Path, error: io::Error) -> CandidatesError {
    CandidatesErrorKind::Write(error).of(path)
}
