//! AVML, after `src/image.rs` of AVML 0.14 and, for blocks of zeros, 0.17.

use std::io::{self, Write};
use std::ops::Range;

use super::{Source, copy, lime_header};

/// How AVML writes an image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Avml {
    /// Whether blocks are compressed (version 2) or stored as in LiME (version 1).
    pub compress: bool,
    /// Ranges are cut into blocks of this many bytes, each with its own header. AVML uses 16 MiB in
    /// version 2 and does not cut in version 1.
    pub block: u64,
    /// What is done with blocks that hold only zeros.
    pub zeros: Zeros,
}

/// What becomes of a block that holds only zeros.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Zeros {
    /// It is written like any other.
    #[default]
    Written,
    /// It is left out, as by AVML since version 0.3: the reader cannot tell it from memory that was not there.
    LeftOut,
    /// Its header is written and nothing else, as by AVML up to 0.17.0, for blocks of at most 16 MiB.
    HeaderOnly,
}

/// AVML looks at blocks of at most so many bytes.
const LOOKED_AT: u64 = 16 << 20;

impl Default for Avml {
    /// Compressed, in blocks of 16 MiB, with nothing left out.
    fn default() -> Self {
        Self {
            compress: true,
            block: 16 << 20,
            zeros: Zeros::Written,
        }
    }
}

/// Writes an AVML image. A compressed block is a header, a snappy frame stream, and the length of
/// that stream in 8 bytes.
///
/// # Errors
/// The source's or the output's.
pub fn avml(
    out: &mut (impl Write + ?Sized),
    ranges: &[Range<u64>],
    source: &mut (impl Source + ?Sized),
    options: &Avml,
) -> io::Result<()> {
    let mut buf = Vec::new();
    for range in ranges {
        let mut start = range.start;
        while start < range.end {
            let end = start.saturating_add(options.block).min(range.end);
            let block = start..end;
            start = end;
            let header = if options.compress {
                lime_header(b"AVML", 2, &block)
            } else {
                lime_header(b"EMiL", 1, &block)
            };
            let zero = options.zeros != Zeros::Written
                && block.end - block.start <= LOOKED_AT
                && is_zero(block.clone(), source, &mut buf)?;
            if zero {
                if options.zeros == Zeros::HeaderOnly {
                    out.write_all(&header)?;
                }
                continue;
            }
            out.write_all(&header)?;
            if !options.compress {
                copy(out, block, source, &mut buf)?;
                continue;
            }
            let mut counter = Counter {
                out: &mut *out,
                count: 0,
            };
            let mut encoder = snap::write::FrameEncoder::new(&mut counter);
            copy(&mut encoder, block, source, &mut buf)?;
            encoder.flush()?;
            drop(encoder);
            let count = counter.count;
            out.write_all(&count.to_le_bytes())?;
        }
    }
    Ok(())
}

/// Whether a range holds only zeros.
fn is_zero(
    range: Range<u64>,
    source: &mut (impl Source + ?Sized),
    buf: &mut Vec<u8>,
) -> io::Result<bool> {
    let mut zero = ZeroCheck(true);
    copy(&mut zero, range, source, buf)?;
    Ok(zero.0)
}

struct ZeroCheck(bool);

impl Write for ZeroCheck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 &= bytes.iter().all(|&b| b == 0);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts what goes through it.
struct Counter<W> {
    out: W,
    count: u64,
}

impl<W: Write> Write for Counter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.count += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn blocks_decode_and_say_their_length() {
        let mut memory = |gpa: u64, buf: &mut [u8]| {
            for (i, byte) in buf.iter_mut().enumerate() {
                *byte = ((gpa + i as u64) / 3) as u8;
            }
            Ok(())
        };
        let mut image = Vec::new();
        let options = Avml {
            block: 0x1_8000,
            ..Avml::default()
        };
        avml(&mut image, &[0x1000..0x2_1000], &mut memory, &options).expect("writes");

        let mut rest = &image[..];
        let mut blocks = Vec::new();
        while !rest.is_empty() {
            let (header, body) = rest.split_at(32);
            assert_eq!(header[..8], *b"AVML\x02\0\0\0");
            let number =
                |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
            let len = (number(16) - number(8) + 1) as usize;
            let mut data = vec![0; len];
            // One stream ends where its decoded length says; the length follows it.
            snap::read::FrameDecoder::new(body)
                .read_exact(&mut data)
                .expect("decodes");
            assert!(
                data.iter()
                    .enumerate()
                    .all(|(i, &b)| b == ((number(8) + i as u64) / 3) as u8)
            );
            let end = (0..body.len() - 7)
                .find(|&at| body[at..at + 8] == (at as u64).to_le_bytes())
                .expect("the stream's length stands behind it");
            blocks.push((number(8), len));
            rest = &body[end + 8..];
        }
        assert_eq!(blocks, [(0x1000, 0x1_8000), (0x1_9000, 0x8000)]);
    }

    #[test]
    fn zero_blocks_are_left_out_or_cut_to_their_header_on_request() {
        let mut memory = |gpa: u64, buf: &mut [u8]| {
            buf.fill(u8::from(gpa < 0x1000));
            Ok(())
        };
        for (zeros, len) in [
            (Zeros::Written, 3 * (32 + 0x1000)),
            (Zeros::LeftOut, 32 + 0x1000),
            (Zeros::HeaderOnly, 3 * 32 + 0x1000),
        ] {
            let options = Avml {
                compress: false,
                block: 0x1000,
                zeros,
            };
            let mut image = Vec::new();
            avml(&mut image, &[0..0x3000], &mut memory, &options).expect("writes");
            assert_eq!(image.len(), len, "{zeros:?}");
        }
    }
}
