//! Parts of an image that lie on each other: whether they say the same.
//!
//! `/proc/vmcore` declares the kernel's text and its direct mapping, so copies of it hold the same frames twice;
//! QEMU's dumps of guest-virtual memory list a frame under each of its addresses. That is fine as long as the
//! bytes agree, and whether they do only a comparison can tell. Each part is compared with what the table has
//! in its place, when the image is opened, and only where the two are different bytes of the file: an image
//! without overlaps pays nothing.
//!
//! What somebody can put into headers is bounded: so many bytes are compared, and so many pieces looked at.
//! What lies behind either bound is counted and said, as is what cannot be read. Memory that is declared and
//! not stored has no bytes that could differ.

use super::segments::{Backing, STORED_PAGE, Segment, Segments};
use crate::addr::PAGE_SIZE;

/// So many bytes are compared: several times the text and data of a kernel.
const MOST_BYTES: u64 = 256 << 20;

/// Bytes compared at a time.
const CHUNK: u64 = 64 << 10;

/// What a comparison has shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Overlap {
    /// Bytes that are not what the table has in their place.
    pub(super) differing: u64,
    /// Of those, the one at the lowest address.
    pub(super) first: Option<Difference>,
    /// Bytes that were not compared, being too many or unreadable.
    pub(super) unknown: u64,
}

/// Two parts have different bytes at one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Difference {
    pub(super) gpa: u64,
    /// The byte that the table leads to, and where it is.
    pub(super) taken: (u8, Backing),
    /// The other one.
    pub(super) other: (u8, Backing),
}

impl Overlap {
    /// Compares overlapping parts with the table that was made of them. `read` copies bytes from the start of a
    /// backing, as many as it can and at least one, and says how many.
    pub(super) fn of(
        parts: &[Segment],
        table: &Segments,
        read: impl Fn(Backing, &mut [u8]) -> Option<usize>,
    ) -> Self {
        Self::bounded(parts, table, read, MOST_BYTES)
    }

    fn bounded(
        parts: &[Segment],
        table: &Segments,
        read: impl Fn(Backing, &mut [u8]) -> Option<usize>,
        most: u64,
    ) -> Self {
        let mut found = Self::default();
        let mut left = most;
        // Parts by the million on each other would make their number squared of pieces.
        let mut pieces = 4 * (parts.len() as u64 + table.len() as u64) + (1 << 20);
        let mut both = (vec![0; CHUNK as usize], vec![0; CHUNK as usize]);
        for part in parts.iter().filter(|part| !part.backing.is_missing()) {
            for taken in table.from(part.start) {
                let start = part.start.max(taken.start);
                let end = (part.start + part.len).min(taken.start + taken.len);
                if start >= end {
                    break;
                }
                if pieces == 0 {
                    found.unknown += part.start + part.len - start;
                    break;
                }
                pieces -= 1;
                let mine = part.backing.skip(start - part.start);
                let its = taken.backing.skip(start - taken.start);
                // What is in the file wins over what is not, so nothing is compared with nothing.
                if mine == its || its.is_missing() {
                    continue;
                }
                let compared = (end - start).min(left);
                left -= compared;
                found.unknown += end - start - compared;
                found.compare(start, compared, its, mine, &read, &mut both);
            }
        }
        found
    }

    fn compare(
        &mut self,
        gpa: u64,
        len: u64,
        taken: Backing,
        other: Backing,
        read: &impl Fn(Backing, &mut [u8]) -> Option<usize>,
        both: &mut (Vec<u8>, Vec<u8>),
    ) {
        let mut done = 0;
        while done < len {
            // At most a chunk, so it fits.
            let most = (len - done).min(CHUNK) as usize;
            let (taken, other) = (taken.skip(done), other.skip(done));
            let got = read(taken, &mut both.0[..most]).zip(read(other, &mut both.1[..most]));
            let Some((a, b)) = got else {
                // What cannot be read is passed over page by page.
                let skipped = (len - done).min(PAGE_SIZE);
                self.unknown += skipped;
                done += skipped;
                continue;
            };
            let count = a.min(b).clamp(1, most);
            let (a, b) = (&both.0[..count], &both.1[..count]);
            if a != b {
                let mut differing = a.iter().zip(b).enumerate().filter(|(_, (a, b))| a != b);
                if let Some((at, (&a, &b))) = differing.next() {
                    let first = Difference {
                        gpa: gpa + done + at as u64,
                        taken: (a, taken.skip(at as u64)),
                        other: (b, other.skip(at as u64)),
                    };
                    if self.first.is_none_or(|known| first.gpa < known.gpa) {
                        self.first = Some(first);
                    }
                    self.differing += 1 + differing.count() as u64;
                }
            }
            done += count as u64;
        }
    }

    /// What is to be said of it.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> {
        let differ = self.first.map(|first| {
            let Difference { gpa, taken, other } = first;
            format!(
                "parts of the image overlap and disagree about {:#x} bytes, first at {gpa:#x}: {:#04x}, {}, was \
                 taken, and not {:#04x}, {}",
                self.differing,
                taken.0,
                place(taken.1),
                other.0,
                place(other.1),
            )
        });
        let unknown = (self.unknown != 0).then(|| {
            format!(
                "parts of the image overlap; of {:#x} bytes it is not known whether they agree (more than {} MiB \
                 are not compared, nor what is damaged); the part that comes first in the file was taken",
                self.unknown,
                MOST_BYTES >> 20
            )
        });
        differ.into_iter().chain(unknown)
    }
}

/// Where bytes are, in words.
fn place(backing: Backing) -> String {
    match backing {
        Backing::File(offset) | Backing::Layer { offset, .. } | Backing::Truncated(offset) => {
            format!("at {offset:#x} in the file")
        }
        Backing::Frame { offset, .. } => format!("in the frame at {offset:#x}"),
        Backing::Page(position) => format!("in page {} of the dump", position / STORED_PAGE),
        Backing::Zero => "in a block of zeros".to_owned(),
        Backing::Absent => "not stored".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::segments::SegmentsBuilder;
    use super::*;

    const FILE: u64 = 200;

    /// The file's byte at an offset: few values, so that places often agree.
    fn byte(offset: u64) -> u8 {
        (offset / 3 % 4) as u8
    }

    fn read(backing: Backing, buf: &mut [u8]) -> Option<usize> {
        let Backing::File(offset) = backing else {
            return match backing {
                Backing::Zero => {
                    buf.fill(0);
                    Some(buf.len())
                }
                // Damaged.
                _ => None,
            };
        };
        // Pieces of odd lengths, as compressed pages come.
        let count = buf.len().min(7 - (offset % 7) as usize);
        for (i, out) in buf[..count].iter_mut().enumerate() {
            *out = byte(offset + i as u64);
        }
        Some(count)
    }

    /// At each address every part is looked at, and the first that is stored is what counts.
    fn naive(parts: &[Segment]) -> Overlap {
        let mut all = Overlap::default();
        let value = |backing| {
            let mut one = [0];
            read(backing, &mut one).map(|_| one[0])
        };
        for gpa in 0..100 {
            let stored: Vec<Backing> = parts
                .iter()
                .filter(|part| gpa >= part.start && gpa < part.start + part.len)
                .filter(|part| !part.backing.is_missing())
                .map(|part| part.backing.skip(gpa - part.start))
                .collect();
            let Some((&taken, others)) = stored.split_first() else {
                continue;
            };
            for &other in others.iter().filter(|&&other| other != taken) {
                let (Some(a), Some(b)) = (value(taken), value(other)) else {
                    continue;
                };
                if a != b {
                    all.differing += 1;
                    all.first = all.first.or(Some(Difference {
                        gpa,
                        taken: (a, taken),
                        other: (b, other),
                    }));
                }
            }
        }
        all
    }

    proptest! {
        #[test]
        fn parts_are_compared_byte_by_byte(
            parts in prop::collection::vec((0..48u64, 1..24u64, 0..190u64, 0..5u8), 0..9),
        ) {
            let mut builder = SegmentsBuilder::new(FILE);
            for &(gpa, len, offset, kind) in &parts {
                match kind {
                    0 => builder.add_absent(gpa, len),
                    1 => builder.add_zeros(gpa, len),
                    2 => builder.add_frame(gpa, len as u32, 1000 + offset),
                    3 => builder.add_file(gpa, len, gpa),
                    _ => builder.add_file(gpa, len, offset),
                };
            }
            let (table, parts) = builder.finish();
            let found = Overlap::of(&parts, &table, read);
            let naive = naive(&parts);
            prop_assert_eq!((found.differing, found.first), (naive.differing, naive.first));
            let damaged = parts.iter().any(|part| matches!(part.backing, Backing::Frame { .. }));
            prop_assert!(found.unknown == 0 || damaged);
        }
    }

    #[test]
    fn what_is_not_compared_is_counted() {
        let mut builder = SegmentsBuilder::new(FILE);
        builder.add_file(0, 50, 0);
        builder.add_file(0, 50, 51);
        let (table, parts) = builder.finish();
        let found = Overlap::bounded(&parts, &table, read, 20);
        assert_eq!(found.unknown, 30);
        assert_eq!(found.first.map(|first| first.gpa), Some(0));
        assert_eq!(found.notes().count(), 2);
        assert_eq!(Overlap::of(&parts, &table, read).unknown, 0);
    }

    /// Many parts over the same addresses must not cost their number squared.
    #[test]
    fn piled_up_parts_are_cheap() {
        let mut builder = SegmentsBuilder::new(1 << 20);
        for i in 0..200_000u64 {
            builder.add_file(i, (1 << 19) - 2 * i.min(1 << 17), i * 3 % 7);
        }
        let (table, parts) = builder.finish();
        let start = std::time::Instant::now();
        let found = Overlap::of(&parts, &table, read_all);
        assert!(found.unknown > 0 && found.first.is_some());
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }

    fn read_all(backing: Backing, buf: &mut [u8]) -> Option<usize> {
        let Backing::File(offset) = backing else {
            return None;
        };
        buf.fill(byte(offset));
        Some(buf.len())
    }
}
