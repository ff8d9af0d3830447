//! Which of several layouts of a raw image is the right one, by what page tables say.
//!
//! Layouts differ in where they put what lies beyond the hole below 4 GiB, and agree below it. So what tells them apart must lie in
//! the *disputed* part of memory, at addresses for which they have different bytes, or some have none. Page tables do: a
//! system with RAM above 4 GiB keeps most of its tables there. A layout under which the tables that others lead to are tables is
//! right; one under which they are something else is wrong; where no table lies in the disputed part, nothing is known.
//!
//! A table that lies beyond the end of a layout speaks neither for nor against it: the file may have been cut.

use crate::addr::{Gpa, PAGE_SIZE};
use crate::image::{Layout, LayoutPart};
use crate::os::{Phys, RamCount};
use crate::paging::{AddressSpace, Look, each_table};

/// How many tables of each level are looked at under one root.
const TABLES: usize = 256;

/// Firmware takes no more than this of the RAM right below the hole, and layouts differ by more.
const FIRMWARE: u64 = 64 << 20;

/// A layout that may be right, and memory as it is then.
pub(super) struct Candidate {
    pub(super) layout: Layout,
    pub(super) parts: Vec<LayoutPart>,
    pub(super) memory: Phys,
}

/// Where a layout has an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// At this offset in the file.
    At(u64),
    /// Between its parts, where there is no RAM.
    Hole,
    /// Where a longer file would go on, or nothing is.
    Beyond,
}

/// What speaks for a layout and against it, in page tables.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Score {
    /// Tables in the disputed part that are tables.
    pub(super) sound: u64,
    /// Those that are something else, or lie where there is no RAM.
    pub(super) unsound: u64,
    /// Those of the lower two levels that are zeros.
    pub(super) empty: u64,
    /// The end of the last table that lies beyond the end of the file.
    pub(super) beyond: Option<Gpa>,
}

/// What evidence amounts to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// This candidate is right.
    By(usize, Proof),
    /// These may be.
    Open(Vec<usize>),
}

/// What a candidate was chosen by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Proof {
    /// Its tables.
    Tables,
    /// What the system counts as RAM.
    Count,
    /// That all others are contradicted.
    Others,
}

impl Candidate {
    fn place(&self, gpa: Gpa, size: u64) -> Place {
        let inside = |part: &&LayoutPart| gpa >= part.gpa && gpa.0 - part.gpa.0 < part.len;
        if let Some(part) = self.parts.iter().find(inside) {
            let offset = part.offset + (gpa.0 - part.gpa.0);
            return if offset < size {
                Place::At(offset)
            } else {
                Place::Beyond
            };
        }
        match self.end() > gpa {
            true => Place::Hole,
            false => Place::Beyond,
        }
    }

    /// Where its last part ends.
    pub(super) fn end(&self) -> Gpa {
        let ends = self
            .parts
            .iter()
            .map(|part| part.gpa.0.saturating_add(part.len));
        Gpa(ends.max().unwrap_or(0))
    }
}

impl Score {
    /// Adds what the tables under one root say of candidate `own` of several, for a file of `size` bytes.
    pub(super) fn look(
        &mut self,
        space: &AddressSpace,
        own: usize,
        candidates: &[Candidate],
        size: u64,
    ) {
        let limit = Gpa(size.saturating_mul(4).saturating_add(1 << 40));
        each_table(space, TABLES, limit, |gpa, level, look| {
            let place = candidates[own].place(gpa, size);
            if place == Place::Beyond && look == Look::Missing {
                let end = Gpa(gpa.0.saturating_add(PAGE_SIZE));
                self.beyond = self.beyond.max(Some(end));
            }
            if candidates
                .iter()
                .all(|other| other.place(gpa, size) == place)
            {
                return;
            }
            match (look, place) {
                (Look::Sound, _) => self.sound += 1,
                // Systems set up the tables right below the root long before they use them.
                (Look::Empty, _) => self.empty += u64::from(level < 3),
                (Look::Unsound, _) | (Look::Missing, Place::Hole) => self.unsound += 1,
                (Look::Missing, _) => {}
            }
        });
    }

    /// Adds whether what is at an address of a disputed part is what it should be.
    pub(super) fn count(&mut self, right: bool) {
        match right {
            true => self.sound += 1,
            false => self.unsound += 1,
        }
    }

    /// Whether this layout is wrong. Some tables of the right one may be damaged.
    fn is_contradicted(&self) -> bool {
        self.unsound > 0 && self.unsound * 4 > self.sound
    }

    fn is_proven(&self) -> bool {
        self.sound > 0 && !self.is_contradicted() && self.empty <= self.sound.saturating_mul(2)
    }
}

/// Whether an address is a matter of dispute.
pub(super) fn is_disputed(gpa: Gpa, candidates: &[Candidate], size: u64) -> bool {
    let mut places = candidates.iter().map(|one| one.place(gpa, size));
    let first = places.next();
    places.any(|place| Some(place) != first)
}

/// Whether RAM that ends so below 4 GiB fills a machine up to `end`: all but what firmware takes.
pub(super) fn fills(low_end: Gpa, end: Gpa) -> bool {
    (low_end.0..low_end.0.saturating_add(FIRMWARE)).contains(&end.0)
}

/// Whether what the system counts as RAM is what a candidate has, to the end.
fn is_counted(candidate: &Candidate, count: RamCount) -> bool {
    let below = match &candidate.parts[..] {
        [low, high] if low.gpa.0 == 0 && high.gpa.0 == 4 << 30 => Some(Gpa(low.len)),
        // In one piece: the hole is in the file, or there is none.
        _ => None,
    };
    fills(count.end, candidate.end())
        && match (below, count.low_end) {
            (None, _) => true,
            (Some(below), Some(low_end)) => count.end > low_end && fills(low_end, below),
            (Some(_), None) => false,
        }
}

/// What the evidence amounts to.
pub(super) fn decide(
    candidates: &[Candidate],
    scores: &[Score],
    count: Option<RamCount>,
) -> Verdict {
    let possible: Vec<usize> = (0..candidates.len())
        .filter(|&i| !scores[i].is_contradicted())
        .collect();
    let counted: Vec<usize> = possible
        .iter()
        .copied()
        .filter(|&i| count.is_some_and(|count| is_counted(&candidates[i], count)))
        .collect();
    let mut proven: Vec<usize> = possible
        .iter()
        .copied()
        .filter(|&i| scores[i].is_proven())
        .collect();
    proven.sort_by_key(|&i| std::cmp::Reverse(scores[i].sound));
    let by_tables = match proven[..] {
        [best] => Some(best),
        // By chance, some tables look like tables under other layouts.
        [best, next, ..] if scores[next].sound * 8 <= scores[best].sound => Some(best),
        _ => None,
    };
    match (&counted[..], by_tables, &possible[..]) {
        (_, Some(best), _) => Verdict::By(best, Proof::Tables),
        (&[one], None, _) if proven.is_empty() || proven.contains(&one) => {
            Verdict::By(one, Proof::Count)
        }
        (_, None, &[one]) if candidates.len() > 1 => Verdict::By(one, Proof::Others),
        _ => Verdict::Open(possible),
    }
}

/// The parts of a layout when RAM goes on to `end`, and below 4 GiB to `low_end` where that is known. What a file does not have of
/// it is declared all the same.
pub(super) fn extended(
    parts: &[LayoutPart],
    size: u64,
    low_end: Option<Gpa>,
    end: Gpa,
) -> Vec<LayoutPart> {
    const FOUR_GIB: u64 = 4 << 30;
    let mut parts = parts.to_vec();
    let Some(last) = parts.last_mut() else {
        return parts;
    };
    let to = |last: &mut LayoutPart, end: u64| {
        last.len = last.len.max(end.saturating_sub(last.gpa.0));
    };
    if last.gpa.0.saturating_add(last.len) > FOUR_GIB || end.0 <= FOUR_GIB {
        to(last, end.0);
        return parts;
    }
    if let Some(low_end) = low_end {
        to(last, low_end.0);
    }
    let offset = size.max(last.offset + last.len).next_multiple_of(PAGE_SIZE);
    parts.push(LayoutPart {
        gpa: Gpa(FOUR_GIB),
        len: end.0 - FOUR_GIB,
        offset,
    });
    parts
}
