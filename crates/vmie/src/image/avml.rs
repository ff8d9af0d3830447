//! AVML's compressed blocks.
//!
//! Behind its header (see [`lime`](super::lime)) a block is a snappy stream in the framing format, and
//! behind that the stream's length in 8 bytes. A stream is a sequence of chunks: one byte of type,
//! three of length, then the contents. Each chunk of data decodes, on its own, to at most 64 KiB, and
//! carries a CRC-32C of them. So a chunk is the unit of random access; it is called a *frame* here.
//!
//! [`index`] walks the chunk headers when the image is opened. It reads 16 bytes for each frame, that
//! is one page fault for each 64 KiB of guest memory (1.3 s for 16 GiB from a disk that does 200,000
//! reads a second), and keeps 32 bytes for each. Reading a byte of a frame decodes the frame, checks
//! its CRC, and keeps the outcome in a [`BlockCache`].
//!
//! Versions of AVML up to 0.17.0 wrote a block of zeros as its header alone. That is the business of
//! [`lime`](super::lime), which reads headers; a stream cannot be taken for a header, as it begins with the
//! byte 0xff.
//!
//! Rejected: walking backwards over the lengths behind the blocks, which finds all blocks with one read
//! for each, and indexing a block at its first use. It makes opening 100 times cheaper, but a damaged
//! block would come to light in the middle of a scan instead of before it.
//!
//! Sources: `src/image.rs` of AVML 0.14 and 0.17; snappy's `framing_format.txt` of 2013-10-25.

use std::io::Read;

use super::advice::Advice;
use super::error::OpenErrorKind;
use super::opening::TOO_MANY_PARTS;
use super::segments::SegmentsBuilder;
use crate::addr::{AddrRange, Address, Gpa};
use crate::blocks::{BlockCache, Reader};
use crate::filemap::FileMap;

/// The most a frame decodes to, in bytes, by the framing format.
const MAX_DECODED: u32 = 1 << 16;

/// Snappy's densest code makes 64 bytes of 3.
const MAX_RATIO: u64 = 22;

/// The first chunk of every stream.
pub(super) const STREAM_IDENTIFIER: &[u8; 10] = b"\xff\x06\x00\x00sNaPpY";

const CHUNK_HEADER: u64 = 4;
const CRC: u64 = 4;
const COMPRESSED: u8 = 0x00;
const UNCOMPRESSED: u8 = 0x01;

/// What [`index`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Indexed {
    /// The whole block.
    Whole {
        /// Where the next header should be.
        end: u64,
        /// Whether the length behind the stream is the stream's.
        length_ok: bool,
    },
    /// The file ends within the block; what is missing has been declared.
    Truncated,
}

/// AVML looks for zeros in blocks of at most this many bytes.
pub(super) const BLOCK: u64 = 16 << 20;

/// Whether memory between two blocks may be blocks that AVML left out because they hold only zeros.
pub(super) fn may_be_left_out(end: u64, next: u64) -> bool {
    next > end && (next - end).is_multiple_of(BLOCK)
}

/// Adds the frames of the block whose stream begins at `begin`.
pub(super) fn index(
    map: &FileMap,
    begin: u64,
    block: AddrRange<Gpa>,
    builder: &mut SegmentsBuilder,
) -> Result<Indexed, OpenErrorKind> {
    let damaged = |offset, expected: String, found: String| OpenErrorKind::Damaged {
        what: "AVML block",
        offset,
        expected,
        found,
        advice: Advice::Other("the file was overwritten there, or was not written by AVML"),
    };
    let (start, len) = (block.start().raw(), block.len());
    let mut offset = begin;
    let mut done = 0;
    while done < len {
        let left = len - done;
        let mut cut = || {
            builder.add_truncated(start + done, left, map.len());
            Ok(Indexed::Truncated)
        };
        let Some([kind, l0, l1, l2]) = map.array(offset) else {
            return cut();
        };
        // Before its length is believed: what is no chunk has none.
        if matches!(kind, 0x02..=0x7f) {
            let next_header = matches!(&[kind, l0, l1, l2], b"AVML" | b"EMiL");
            return Err(damaged(
                offset,
                format!("a snappy frame ({left} bytes of the block are still to come)"),
                if next_header && done == 0 {
                    format!("the next header; a header alone is for at most {BLOCK} zeros")
                } else {
                    format!("chunk type {kind:#04x}")
                },
            ));
        }
        let chunk = u64::from(u32::from_le_bytes([l0, l1, l2, 0]));
        let next = offset + CHUNK_HEADER + chunk;
        if next > map.len() {
            return cut();
        }
        match kind {
            COMPRESSED | UNCOMPRESSED => {
                let size = decoded_size(map, offset, kind, chunk).ok_or_else(|| {
                    damaged(
                        offset,
                        format!("a frame that decodes to at most {MAX_DECODED} bytes"),
                        format!("a frame of type {kind:#04x} and {chunk} bytes"),
                    )
                })?;
                if u64::from(size) > left {
                    return Err(damaged(
                        offset,
                        format!("a frame that decodes to at most the {left} bytes left"),
                        format!("one that decodes to {size} bytes"),
                    ));
                }
                // Refused only when empty: `lime::header` has checked the block's range.
                builder.add_frame(start + done, size, offset);
                done += u64::from(size);
            }
            0xff if map.array(offset) != Some(*STREAM_IDENTIFIER) => {
                return Err(damaged(
                    offset,
                    "the stream identifier \"sNaPpY\"".to_owned(),
                    "something else".to_owned(),
                ));
            }
            // Types that a decoder may skip.
            _ => {}
        }
        offset = next;
        if builder.is_full() {
            return Err(TOO_MANY_PARTS);
        }
    }
    let length = map.array(offset).map(u64::from_le_bytes);
    Ok(Indexed::Whole {
        end: offset + 8,
        length_ok: length == Some(offset - begin),
    })
}

/// How many bytes the frame at `offset` decodes to; `None` when it cannot be right.
fn decoded_size(map: &FileMap, offset: u64, kind: u8, len: u64) -> Option<u32> {
    let data = len.checked_sub(CRC)?;
    let size = if kind == UNCOMPRESSED {
        u32::try_from(data).ok()?
    } else {
        // Snappy data begins with its decoded length: 7 bits a byte, the last without the top bit.
        let mut size = 0u32;
        for i in 0.. {
            if i >= data.min(4) {
                return None;
            }
            let [byte] = map.array(offset + CHUNK_HEADER + CRC + i)?;
            size |= u32::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                break;
            }
        }
        size
    };
    let plausible = size <= MAX_DECODED && u64::from(size) <= data * MAX_RATIO;
    plausible.then_some(size)
}

/// Copies `buf.len()` bytes out of the frame at `offset`, skipping its first `skip` bytes. Answers
/// `false` when the frame does not decode, or not to that many bytes.
#[must_use]
pub(super) fn read(
    map: &FileMap,
    cache: &BlockCache,
    offset: u64,
    skip: usize,
    buf: &mut [u8],
    reader: Reader,
) -> bool {
    cache.read(offset, skip, buf, reader, || decode(map, offset))
}

/// Decodes the frame at `offset` and checks its CRC.
///
/// Goes through the stream decoder, given a stream of this one frame, because that is what checks the
/// CRC and it does so with the processor's instruction; the block decoder does not.
fn decode(map: &FileMap, offset: u64) -> Option<Vec<u8>> {
    let [kind, l0, l1, l2] = map.array(offset)?;
    let len = u64::from(u32::from_le_bytes([l0, l1, l2, 0]));
    let size = decoded_size(map, offset, kind, len)? as usize;
    let whole = usize::try_from(CHUNK_HEADER + len).ok()?;
    let copy;
    let chunk = match map.slice(offset, whole) {
        Some(slice) => slice,
        None => {
            let mut bytes = vec![0; whole];
            if !map.read(offset, &mut bytes) {
                return None;
            }
            copy = bytes;
            &copy
        }
    };
    let mut decoded = vec![0; size];
    snap::read::FrameDecoder::new(STREAM_IDENTIFIER.chain(chunk))
        .read_exact(&mut decoded)
        .ok()?;
    Some(decoded)
}
