//! Writing files that are mostly zeros: a guest's memory is, and the disk need not know.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Blocks of zeros of this size become holes: the block size of common file systems.
const BLOCK: usize = 4096;

/// Writes a new file and leaves holes where the content is zero.
pub(crate) struct SparseFile {
    file: File,
    /// A block that is not full yet.
    pending: Vec<u8>,
    len: u64,
}

impl SparseFile {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::create(path)?,
            pending: Vec::with_capacity(BLOCK),
            len: 0,
        })
    }

    /// Writes out what is left and sets the length, in case the file ends with a hole.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.write_all(&self.pending)?;
        self.file.set_len(self.len)
    }

    /// Writes whole blocks: runs of zero ones by moving on, runs of others in one piece.
    fn blocks(&mut self, bytes: &[u8]) -> io::Result<()> {
        let is_zero = |block: &[u8]| block.iter().all(|&byte| byte == 0);
        let mut rest = bytes;
        while !rest.is_empty() {
            let zero = is_zero(&rest[..BLOCK]);
            let run = rest
                .chunks(BLOCK)
                .take_while(|block| is_zero(block) == zero)
                .count()
                * BLOCK;
            let (now, later) = rest.split_at(run);
            if zero {
                self.file.seek(SeekFrom::Current(now.len() as i64))?;
            } else {
                self.file.write_all(now)?;
            }
            rest = later;
        }
        Ok(())
    }
}

impl Write for SparseFile {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<usize> {
        let total = bytes.len();
        if !self.pending.is_empty() {
            let missing = BLOCK - self.pending.len();
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            self.pending.extend_from_slice(now);
            bytes = later;
            if self.pending.len() == BLOCK {
                let block = std::mem::take(&mut self.pending);
                self.blocks(&block)?;
            }
        }
        let whole = bytes.len() / BLOCK * BLOCK;
        self.blocks(&bytes[..whole])?;
        self.pending.extend_from_slice(&bytes[whole..]);
        self.len += total as u64;
        Ok(total)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies files one behind the other into one, making holes of their zeros.
pub(crate) fn copy(from: &[impl AsRef<Path>], to: &Path) -> io::Result<()> {
    let mut out = SparseFile::create(to)?;
    let mut buf = vec![0; 1 << 20];
    for from in from {
        let mut source = File::open(from)?;
        loop {
            let len = source.read(&mut buf)?;
            if len == 0 {
                break;
            }
            out.write_all(&buf[..len])?;
        }
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_back_is_what_was_written() {
        let path = std::env::temp_dir().join(format!("vmie-sparse-{}", std::process::id()));
        let mut content = vec![0_u8; 10 * BLOCK + 17];
        content[3 * BLOCK + 5] = 1;
        content[4 * BLOCK] = 2;
        for step in [1, 1000, BLOCK, content.len()] {
            let mut file = SparseFile::create(&path).expect("creates");
            for piece in content.chunks(step) {
                file.write_all(piece).expect("writes");
            }
            file.finish().expect("finishes");
            assert_eq!(std::fs::read(&path).expect("reads"), content, "step {step}");
        }
        std::fs::remove_file(&path).expect("removes");
    }
}
