//! An index as a file: made in one piece, opened by mapping it.
//!
//! All numbers are little-endian. The header, [`HEADER`] bytes:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `vmieptrs` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 1 | what addresses are: 0 physical, 1 virtual |
//! | 13 | 1 | width of a pointer in bytes |
//! | 14 | 1 | alignment |
//! | 15 | 1 | bits of a `low` |
//! | 16 | 1 | bits of a `source` |
//! | 24 | 8 | pointers |
//! | 32 | 8 | hash of some pages of the memory |
//! | 40 | 48 | coverage: mapped, read, absent, lost, unmapped, number of gaps |
//! | 88 | 7 × 24 | sections: offset, length, XXH3 of the bytes |
//! | 256 | 8 | XXH3 of the 256 bytes before |
//!
//! Sections follow one another without gaps up to the end of the file: a text of whoever saved it, the
//! runs (first and last address of each), and the [tables](super::tables) in their order there.
//!
//! Opening verifies every checksum: what is not whole is not used.

use std::fs::File;
use std::io::{self, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use vmie_replace::Replacement;

use super::map::PointerMap;
use super::packed;
use super::runs::Runs;
use super::tables::{Bytes, SAMPLE, Tables, words};
use super::{MAX_EDGES, Width};
use crate::addr::Address;
use crate::filemap::FileMap;
use crate::memory::Coverage;

const MAGIC: &[u8; 8] = b"vmieptrs";
const VERSION: u32 = 1;
const SECTIONS: usize = 7;
const SECTIONS_AT: usize = 88;
const SUM_AT: usize = 256;
const HEADER: usize = 264;

/// Names of the sections, for messages.
const NAMES: [&str; SECTIONS] = [
    "text", "runs", "starts", "low", "sources", "order", "samples",
];

/// An index that could not be saved or opened.
#[derive(Debug, thiserror::Error)]
#[error("{}: {kind}", path.display())]
pub struct IndexError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub kind: IndexErrorKind,
}

/// What is wrong with a file of an index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexErrorKind {
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It does not begin as an index does.
    #[error("not an index of pointers")]
    Foreign,
    /// It was written by another version of vmie.
    #[error("an index of format version {found}; this vmie reads version {expected}")]
    Version {
        /// What the file says.
        found: u32,
        /// What would do.
        expected: u32,
    },
    /// It is an index of physical memory where one of virtual memory was expected, or the reverse.
    #[error("an index of {found} addresses, where one of {expected} addresses was expected")]
    Space {
        /// What the file says.
        found: &'static str,
        /// What would do.
        expected: &'static str,
    },
    /// The file ends before the index does, or goes on behind it.
    #[error("the file has {found} bytes, and the index {expected}: it was cut or added to")]
    Length {
        /// Bytes in the file.
        found: u64,
        /// Bytes there should be.
        expected: u64,
    },
    /// The bytes are not those that were written.
    #[error(
        "damaged: the {section} at offset {offset:#x} ({len} bytes) do not have their checksum"
    )]
    Damaged {
        /// Which part.
        section: &'static str,
        /// Where it begins.
        offset: u64,
        /// How long it is.
        len: u64,
    },
    /// The checksums are right, and what is said makes no sense.
    #[error("not an index that vmie wrote: {0}")]
    Inconsistent(&'static str),
}

use IndexErrorKind as Kind;

impl<A: Address> PointerMap<A> {
    /// Writes the index to a file, with a text that says what it is of.
    ///
    /// The file appears when it is whole and synced: there is either the whole index or what was there
    /// before.
    ///
    /// # Errors
    ///
    /// When writing fails; nothing is left behind.
    pub fn save(&self, path: impl AsRef<Path>, about: &str) -> Result<(), IndexError> {
        let path = path.as_ref();
        self.write(path, about).map_err(|error| IndexError {
            path: path.to_owned(),
            kind: error.into(),
        })
    }

    fn write(&self, path: &Path, about: &str) -> io::Result<()> {
        let runs: Vec<u8> = self
            .runs
            .runs()
            .iter()
            .flat_map(|run| [run.start, run.last])
            .flat_map(u64::to_le_bytes)
            .collect();
        let tables = &self.tables;
        let sections: [&[u8]; SECTIONS] = [
            about.as_bytes(),
            &runs,
            tables.starts.get(),
            tables.low.get(),
            tables.sources.get(),
            tables.order.get(),
            tables.samples.get(),
        ];
        let mut header = [0; HEADER];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, MAGIC);
        put(8, &VERSION.to_le_bytes());
        let bits = [tables.low_bits as u8, tables.source_bits as u8];
        put(
            12,
            &[space::<A>(), self.width.bytes() as u8, self.align as u8],
        );
        put(15, &bits);
        let coverage = &self.coverage;
        let numbers = [
            tables.edges,
            self.fingerprint,
            coverage.mapped,
            coverage.read,
            coverage.absent,
            coverage.lost,
            coverage.unmapped,
            coverage.gap_count,
        ];
        for (index, number) in numbers.into_iter().enumerate() {
            put(24 + index * 8, &number.to_le_bytes());
        }
        let mut offset = HEADER as u64;
        for (index, section) in sections.iter().enumerate() {
            let len = section.len() as u64;
            for (part, number) in [offset, len, xxh3_64(section)].into_iter().enumerate() {
                put(SECTIONS_AT + index * 24 + part * 8, &number.to_le_bytes());
            }
            offset += len;
        }
        let sum = xxh3_64(&header[..SUM_AT]);
        header[SUM_AT..].copy_from_slice(&sum.to_le_bytes());

        let mut replacement = Replacement::create(path)?;
        let file = replacement.file();
        file.write_all(&header)?;
        sections
            .iter()
            .try_for_each(|section| file.write_all(section))?;
        replacement.commit()
    }

    /// Opens an index that was saved.
    ///
    /// That it is of the memory that is being looked at, [`PointerMap::check`] tells.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is no index, is of another format version or another kind of
    /// addresses, was cut or damaged.
    ///
    /// # Cost
    ///
    /// The file is mapped and its checksums are verified: some 10 ms for ten million pointers that are
    /// in the page cache. A file that somebody has open for writing is copied.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, IndexError> {
        let path = path.as_ref();
        Self::read(path).map_err(|kind| IndexError {
            path: path.to_owned(),
            kind,
        })
    }

    fn read(path: &Path) -> Result<Self, Kind> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Err(Kind::Foreign);
        }
        Self::of(FileMap::new(&file)?.frozen()?)
    }

    /// From the bytes of a file.
    pub(super) fn of(map: FileMap) -> Result<Self, Kind> {
        let found = map.len();
        if map.slice(0, 8) != Some(MAGIC) {
            return Err(Kind::Foreign);
        }
        let header = map.array::<HEADER>(0).ok_or(Kind::Length {
            found,
            expected: HEADER as u64,
        })?;
        let word = |at: usize| {
            let bytes = header[at..].first_chunk().expect("within the header");
            u64::from_le_bytes(*bytes)
        };
        let version = word(8) as u32;
        if version != VERSION {
            return Err(Kind::Version {
                found: version,
                expected: VERSION,
            });
        }
        if word(SUM_AT) != xxh3_64(&header[..SUM_AT]) {
            return Err(Kind::Damaged {
                section: "header",
                offset: 0,
                len: HEADER as u64,
            });
        }
        if header[12] != space::<A>() {
            return Err(Kind::Space {
                found: if header[12] == 0 {
                    "physical"
                } else {
                    "virtual"
                },
                expected: A::SPACE,
            });
        }
        let width = match header[13] {
            4 => Width::Four,
            8 => Width::Eight,
            _ => return Err(Kind::Inconsistent("the width of its pointers")),
        };
        let align = u64::from(header[14]);
        if !align.is_power_of_two() || align > width.bytes() as u64 {
            return Err(Kind::Inconsistent("the alignment of its pointers"));
        }
        let mut expected = HEADER as u64;
        let mut sections = [(0, 0); SECTIONS];
        for (index, section) in sections.iter_mut().enumerate() {
            let at = SECTIONS_AT + index * 24;
            let (offset, len) = (word(at), word(at + 8));
            if offset != expected {
                return Err(Kind::Inconsistent("the order of its sections"));
            }
            expected = expected
                .checked_add(len)
                .ok_or(Kind::Inconsistent("the length of a section"))?;
            *section = (offset, len);
        }
        if expected != found {
            return Err(Kind::Length { found, expected });
        }
        let map = Arc::new(map);
        let mut parts = sections.iter().enumerate().map(|(index, &(offset, len))| {
            let bytes = usize::try_from(len)
                .ok()
                .and_then(|len| map.slice(offset, len));
            let sum = word(SECTIONS_AT + index * 24 + 16);
            match bytes.filter(|bytes| xxh3_64(bytes) == sum) {
                Some(bytes) => Ok(Bytes::File(Arc::clone(&map), offset, bytes.len())),
                None => Err(Kind::Damaged {
                    section: NAMES[index],
                    offset,
                    len,
                }),
            }
        });
        let mut part = || parts.next().expect("seven sections");
        let about = part()?;
        let about = str::from_utf8(about.get()).map_err(|_| Kind::Inconsistent("its text"))?;
        let runs = runs(part()?.get())?;
        let tables = Tables {
            edges: word(24),
            low_bits: u32::from(header[15]),
            source_bits: u32::from(header[16]),
            starts: part()?,
            low: part()?,
            sources: part()?,
            order: part()?,
            samples: part()?,
        };
        consistent(&tables, &runs)?;
        Ok(Self {
            about: about.to_owned(),
            runs,
            tables,
            width,
            align,
            fingerprint: word(32),
            coverage: Coverage {
                unmapped_wanted: 0,
                mapped: word(40),
                read: word(48),
                absent: word(56),
                lost: word(64),
                unmapped: word(72),
                gap_count: word(80),
                gaps: Vec::new(),
            },
            marker: PhantomData,
        })
    }
}

fn space<A: Address>() -> u8 {
    u8::from(A::SPACE == "virtual")
}

fn runs(bytes: &[u8]) -> Result<Runs, Kind> {
    let (words, rest) = bytes.as_chunks::<16>();
    let number = |word: &[u8]| u64::from_le_bytes(*word.first_chunk().expect("eight bytes"));
    let ranges = || {
        words
            .iter()
            .map(|pair| (number(&pair[..8]), number(&pair[8..])))
    };
    let ascending = ranges().all(|(start, last)| start <= last)
        && ranges()
            .zip(ranges().skip(1))
            .all(|((_, last), (next, _))| last < next);
    if !rest.is_empty() || !ascending {
        return Err(Kind::Inconsistent("the order of its runs"));
    }
    Runs::new(ranges(), u64::MAX >> 8).map_err(|_| Kind::Inconsistent("the size of its runs"))
}

/// Whether the arrays are as long as they must be, so that no look into one goes astray.
fn consistent(tables: &Tables, runs: &Runs) -> Result<(), Kind> {
    let edges = tables.edges;
    let widths = [tables.low_bits, tables.source_bits];
    if edges > MAX_EDGES
        || widths
            .iter()
            .any(|bits| !(1..=packed::MAX_BITS).contains(bits))
    {
        return Err(Kind::Inconsistent("the number or size of its pointers"));
    }
    let lengths = [
        (&tables.low, packed::size(edges, tables.low_bits)),
        (&tables.sources, packed::size(edges, tables.source_bits)),
        (&tables.order, edges.checked_mul(4)),
        (
            &tables.samples,
            packed::size(edges.div_ceil(SAMPLE), tables.source_bits),
        ),
        (
            &tables.starts,
            (runs.total() >> tables.low_bits)
                .checked_add(2)
                .and_then(|n| n.checked_mul(4)),
        ),
    ];
    if lengths
        .iter()
        .any(|(bytes, expected)| Some(bytes.get().len() as u64) != *expected)
    {
        return Err(Kind::Inconsistent("the length of its tables"));
    }
    let starts = words(tables.starts.get());
    if !starts.is_sorted()
        || starts
            .last()
            .is_none_or(|last| u64::from(last.get()) != edges)
    {
        return Err(Kind::Inconsistent("the order of its pointers"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Gva;
    use crate::pointers::PointerOptions;
    use crate::pointers::tests::rich_map;
    use crate::scan::Run;

    fn opened(bytes: Vec<u8>) -> Result<PointerMap<Gva>, Kind> {
        PointerMap::of(FileMap::from_bytes(bytes))
    }

    /// A file of a small index.
    fn saved() -> (PointerMap<Gva>, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index");
        let map = PointerMap::build(&rich_map(), &PointerOptions::default(), Run::new()).unwrap();
        map.save(&path, "of a test").unwrap();
        let names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "the temporary file is gone");
        (map, std::fs::read(&path).unwrap())
    }

    #[test]
    fn every_changed_byte_and_every_other_length_is_noticed() {
        let (map, bytes) = saved();
        let again = opened(bytes.clone()).unwrap();
        assert!(map.len() > 50 && again.len() == map.len());
        assert_eq!(again.about(), "of a test");
        assert_eq!(again.runs.runs(), map.runs.runs());
        for at in 0..bytes.len() {
            for bit in [0, 3, 7] {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(opened(changed).is_err(), "bit {bit} of byte {at}");
            }
        }
        for len in 0..bytes.len() {
            assert!(opened(bytes[..len].to_vec()).is_err(), "cut to {len}");
        }
        let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
        assert!(matches!(opened(longer), Err(Kind::Length { .. })));
    }

    #[test]
    fn what_was_made_up_with_right_checksums_does_no_harm() {
        let (_, bytes) = saved();
        let all = crate::AddrRange::all();
        for at in (12..SECTIONS_AT).chain(HEADER..bytes.len()) {
            for value in [0, 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                for index in 0..SECTIONS {
                    let at = SECTIONS_AT + index * 24;
                    let word = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().unwrap());
                    let from = word(at) as usize;
                    let sum = xxh3_64(&changed[from..from + word(at + 8) as usize]);
                    changed[at + 16..at + 24].copy_from_slice(&sum.to_le_bytes());
                }
                let sum = xxh3_64(&changed[..SUM_AT]);
                changed[SUM_AT..HEADER].copy_from_slice(&sum.to_le_bytes());
                if let Ok(map) = opened(changed) {
                    let _ = (map.referrers(all).count(), map.pointees(all).count());
                }
            }
        }
    }

    #[test]
    fn kinds_of_files_are_told_apart() {
        let (_, bytes) = saved();
        assert!(matches!(opened(b"MDMP, say".to_vec()), Err(Kind::Foreign)));
        let physical = PointerMap::<crate::Gpa>::of(FileMap::from_bytes(bytes.clone()));
        assert!(matches!(physical, Err(Kind::Space { .. })));
        let mut newer = bytes;
        newer[8] = 2;
        assert!(matches!(opened(newer), Err(Kind::Version { found: 2, .. })));
    }
}
