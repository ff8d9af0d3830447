//! Memory files that lie on each other: what is a hole in one is as in the next one below.
//!
//! A hypervisor that saves only what has changed writes a file as long as all of memory and leaves holes
//! for the rest (Firecracker's diff snapshots). The source is the newest file; the others follow from there
//! down to the oldest, a full snapshot. Each says by itself which of its pages it holds: the operating system
//! is asked for its holes (`SEEK_HOLE`), once, and a page of which any part is data is data.
//!
//! A hole in the oldest file is what nobody has saved: absent. It may as well be zeros that some program
//! left out when it copied a full snapshot, and no file tells the one from the other; so the caller has to
//! say so ([`OpenOptions::holes_are_zeros`](super::OpenOptions::holes_are_zeros)).
//!
//! The other way round, a copy that has lost its holes looks like a full snapshot full of zeros. That shows
//! where nothing of the files below can be seen, or where a CPU's page tables begin with a page of zeros; a note
//! says it then.
//!
//! ```text
//! needed = all of the file
//! for each file from the top:  take needed ∩ data from it;  needed = needed ∩ its holes
//! ```

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::advice::Advice;
use super::error::OpenErrorKind;
use super::format::Format;
use super::layout::LayoutPart;
use super::opening::{OpenOptions, Opened, Parsed, TOO_MANY_PARTS, map_file};
use super::segments::{Added, GPA_LIMIT, SegmentsBuilder};
use crate::addr::{Gpa, PAGE_SIZE};
use crate::arch::x86::CpuState;
use crate::filemap::FileMap;
use crate::hints::Hints;
use crate::memory::Memory;

/// The address in CR3.
const ROOT: u64 = 0x000f_ffff_ffff_f000;

/// As many as an image can have pieces between them.
const MOST_HOLES: usize = 1 << 24;

/// How the memory in the files is laid out, and what else is known of it.
pub(super) struct Laid {
    pub(super) format: Format,
    pub(super) parts: Vec<LayoutPart>,
    pub(super) hints: Hints,
    pub(super) notes: Vec<String>,
}

/// Lays out raw memory that a state file describes, or that lies on other files.
pub(super) fn open(
    map: FileMap,
    options: &OpenOptions,
    laid: Laid,
) -> Result<Opened, OpenErrorKind> {
    let Laid {
        format,
        parts,
        hints,
        notes: told,
    } = laid;
    let layers = Layers::open(map, &options.bases, options.holes_are_zeros)?;
    let (mut notes, mut advice) = (layers.notes.clone(), Vec::new());
    let mut builder = SegmentsBuilder::new(layers.maps[0].len());
    for part in &parts {
        if layers.add(&mut builder, part) == Added::Refused {
            notes.push(format!(
                "{:#x}+{:#x} is no range of physical memory; left out",
                part.gpa, part.len
            ));
        }
        if builder.is_full() {
            return Err(TOO_MANY_PARTS);
        }
    }
    notes.extend(told);
    if parts.iter().any(|part| layers.loses(part.offset, part.len)) {
        // A full snapshot holds the page tables that its CPUs use.
        let lost = |cpu: &&CpuState| {
            cpu.paging_enabled()
                && parts.iter().any(|part| {
                    let at = (cpu.cr3 & ROOT).wrapping_sub(part.gpa.0);
                    at < part.len && layers.loses(part.offset + at, 1)
                })
        };
        let oldest = match options.bases.last() {
            Some(path) => path.display().to_string(),
            None => "the file".to_owned(),
        };
        advice.push(Advice::GiveBase);
        notes.push(match hints.cpus.iter().find(lost) {
            Some(cpu) => format!(
                "{oldest} has holes, and the page tables of CPU {} are in one of them: it holds only what had \
                 changed (a diff snapshot); {}",
                cpu.index,
                Advice::GiveBase
            ),
            None => {
                advice.push(Advice::ZerosBelow);
                format!(
                    "{oldest} has holes, which count as not saved: if it holds only what had changed (a diff \
                     snapshot), {}; if it is a full snapshot that was copied without its zeros, {}",
                    Advice::GiveBase,
                    Advice::ZerosBelow
                )
            }
        });
    }
    let parsed = Parsed {
        builder,
        hints,
        notes,
        advice,
        pages: None,
    };
    Ok(Opened {
        maps: layers.maps,
        format,
        parsed,
    })
}

/// A note when memory looks as if holes had been filled with zeros.
pub(super) fn lost_holes(memory: &dyn Memory<Addr = Gpa>, cpus: &[CpuState]) -> Option<String> {
    let zero = |cpu: &&CpuState| {
        let mut page = [0; PAGE_SIZE as usize];
        cpu.paging_enabled()
            && memory.read(Gpa(cpu.cr3 & ROOT), &mut page).is_ok()
            && page.iter().all(|&byte| byte == 0)
    };
    cpus.iter().find(zero).map(|cpu| {
        format!(
            "the page tables of CPU {} begin with a page of zeros: most likely this is a diff snapshot whose \
             holes were filled when it was copied, and most of what reads as zeros was never saved in it",
            cpu.index
        )
    })
}

/// What is wrong with a file that was given beside the source.
pub(super) fn companion(what: &'static str, path: &Path, kind: OpenErrorKind) -> OpenErrorKind {
    OpenErrorKind::Companion {
        what,
        path: path.to_owned(),
        kind: Box::new(kind),
    }
}

/// The files, and which part of memory comes from which.
struct Layers {
    /// From the source down.
    maps: Vec<FileMap>,
    /// Ascending and disjoint, in offsets of the files, which are equally long: from which file.
    data: Vec<(Range<u64>, u32)>,
    /// What is a hole in all of them.
    lost: Vec<Range<u64>>,
    notes: Vec<String>,
}

impl Layers {
    /// Opens what lies under a source.
    fn open(source: FileMap, bases: &[PathBuf], zeros: bool) -> Result<Self, OpenErrorKind> {
        let mut maps = vec![source];
        for path in bases {
            let map = open_base(path, maps[0].len());
            maps.push(map.map_err(|kind| companion("the file under it", path, kind))?);
        }
        let mut holes = Vec::new();
        for map in &maps {
            let all = map.all_holes(MOST_HOLES);
            if all.len() >= MOST_HOLES {
                // What is behind the last one would be taken for data.
                return Err(TOO_MANY_PARTS);
            }
            holes.push(whole_pages(all));
        }
        let mut notes = Vec::new();
        for (index, path) in bases.iter().enumerate() {
            if holes[index].is_empty() {
                let above = match index {
                    0 => "the source".to_owned(),
                    _ => bases[index - 1].display().to_string(),
                };
                notes.push(format!(
                    "{above} has no holes, so nothing of {} is seen: it holds all of memory, or lost its holes \
                     when it was copied (then its unchanged pages read as zeros)",
                    path.display()
                ));
            }
        }
        let (data, lost) = flatten(maps[0].len(), &holes);
        let mut layers = Self {
            maps,
            data,
            lost,
            notes,
        };
        if zeros {
            // Holes read as zeros.
            let oldest = (layers.maps.len() - 1) as u32;
            let holes = std::mem::take(&mut layers.lost);
            layers
                .data
                .extend(holes.into_iter().map(|hole| (hole, oldest)));
            layers.data.sort_unstable_by_key(|(range, _)| range.start);
        }
        if let Some(note) = coarse(&holes) {
            layers.notes.push(note);
        }
        Ok(layers)
    }

    /// Adds a part of memory from wherever its bytes are.
    fn add(&self, builder: &mut SegmentsBuilder, part: &LayoutPart) -> Added {
        let Some(last) = part.gpa.0.checked_add(part.len) else {
            return Added::Refused;
        };
        if part.len == 0 || last > GPA_LIMIT {
            return Added::Refused;
        }
        let gpa = |offset: u64| part.gpa.0 + (offset - part.offset);
        let inside = self.maps[0].len().saturating_sub(part.offset).min(part.len);
        let end = part.offset.saturating_add(inside);
        let mut at = part.offset;
        let first = self.data.partition_point(|(range, _)| range.end <= at);
        for (range, layer) in &self.data[first..] {
            if range.start >= end || builder.is_full() {
                break;
            }
            let (from, to) = (range.start.max(at), range.end.min(end));
            builder.add_absent(gpa(at), from - at);
            builder.add_layer(gpa(from), to - from, *layer, from);
            at = to;
        }
        if at < end {
            builder.add_absent(gpa(at), end - at);
        }
        if inside == part.len {
            return Added::Whole;
        }
        builder.add_truncated(gpa(end), part.len - inside, end)
    }

    /// Whether any byte of these pieces of the file is a hole in all files.
    fn loses(&self, offset: u64, len: u64) -> bool {
        let index = self.lost.partition_point(|hole| hole.end <= offset);
        let hole = self.lost.get(index);
        hole.is_some_and(|hole| hole.start < offset.saturating_add(len))
    }
}

fn open_base(path: &Path, len: u64) -> Result<FileMap, OpenErrorKind> {
    let map = map_file(path)?;
    if map.len() != len {
        return Err(OpenErrorKind::Damaged {
            what: "length of a memory file",
            offset: map.len().min(len),
            expected: format!("{len:#x} bytes, as many as the source has"),
            found: format!("{:#x} bytes", map.len()),
            advice: Advice::Other("give the snapshot of the same guest that the source builds on"),
        });
    }
    Ok(map)
}

/// Holes without the pages of which a part is data.
fn whole_pages(holes: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let whole =
        |hole: Range<u64>| hole.start.next_multiple_of(PAGE_SIZE)..hole.end / PAGE_SIZE * PAGE_SIZE;
    let holes = holes.into_iter().map(whole);
    holes.filter(|hole| hole.start < hole.end).collect()
}

/// A note where holes are kept in larger blocks than pages, as some file systems do.
fn coarse(holes: &[Vec<Range<u64>>]) -> Option<String> {
    let borders = holes
        .iter()
        .flatten()
        .flat_map(|hole| [hole.start, hole.end]);
    let bits = borders.fold(0, |bits, at| bits | at);
    let block = 1_u64 << bits.trailing_zeros().min(63);
    // A few borders are at round numbers by chance.
    let many = holes.iter().map(Vec::len).sum::<usize>() >= 16;
    (many && block > PAGE_SIZE).then(|| {
        format!(
            "the holes are multiples of {block:#x} bytes: if the file system keeps them in such blocks, \
             unchanged pages beside changed ones read as zeros"
        )
    })
}

/// What comes from which file, and what from none.
#[expect(clippy::type_complexity, reason = "two lists that are made together")]
fn flatten(len: u64, holes: &[Vec<Range<u64>>]) -> (Vec<(Range<u64>, u32)>, Vec<Range<u64>>) {
    let mut data = Vec::new();
    let mut needed = vec![0..len];
    for (layer, holes) in (0..).zip(holes) {
        let mut next = Vec::new();
        let mut holes = holes.iter().peekable();
        for range in needed {
            let mut at = range.start;
            while let Some(hole) = holes.peek() {
                if hole.end <= at {
                    holes.next();
                    continue;
                }
                if hole.start >= range.end {
                    break;
                }
                if at < hole.start {
                    data.push((at..hole.start, layer));
                }
                let end = hole.end.min(range.end);
                next.push(at.max(hole.start)..end);
                at = end;
                if at == range.end {
                    break;
                }
            }
            if at < range.end {
                data.push((at..range.end, layer));
            }
        }
        needed = next;
    }
    data.sort_unstable_by_key(|(range, _)| range.start);
    (data, needed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Page by page: from the first file that has it.
        #[test]
        fn every_page_is_from_the_first_file_that_has_it(
            files in prop::collection::vec(prop::collection::vec(any::<bool>(), 20), 1..5)
        ) {
            let holes: Vec<Vec<Range<u64>>> = files
                .iter()
                .map(|file| {
                    let mut holes: Vec<Range<u64>> = Vec::new();
                    for (page, _) in (0..).zip(file).filter(|(_, data)| !**data) {
                        match holes.last_mut() {
                            Some(last) if last.end == page => last.end += 1,
                            _ => holes.push(page..page + 1),
                        }
                    }
                    holes
                })
                .collect();
            let (data, lost) = flatten(20, &holes);
            let mut seen = vec![None; 20];
            for (range, layer) in data {
                for page in range {
                    prop_assert_eq!(seen[page as usize].replace(Some(layer as usize)), None);
                }
            }
            for page in lost.into_iter().flatten() {
                prop_assert_eq!(seen[page as usize].replace(None), None);
            }
            for (page, seen) in seen.into_iter().enumerate() {
                let naive = files.iter().position(|file| file[page]);
                prop_assert_eq!(seen, Some(naive), "page {}", page);
            }
        }
    }

    #[test]
    fn a_page_that_is_data_in_part_is_data() {
        let holes = vec![1024..4096, 5120..16384, 20000..40000];
        assert_eq!(whole_pages(holes), [8192..16384, 20480..36864]);
    }
}
