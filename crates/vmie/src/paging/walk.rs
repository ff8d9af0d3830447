//! The enumeration of an address space: page tables in, runs of mapped addresses out.
//!
//! The walk is a resumable depth-first descent. It reads whole tables, never single entries, into a
//! buffer for each level, and finds runs of like entries in the lowest tables sixteen at a time:
//!
//! ```text
//! loop:
//!     table <- top of the stack
//!     if it has no entries left:      pop it, tell its parent what it was made of
//!     if it is a lowest table:        skip entries that are not present, then extend over all
//!                                     that agree with the first one; yield the run
//!     else take one entry:            not present -> go on; page -> yield it;
//!                                     table -> known to be uniform? yield it whole : push it
//! ```
//!
//! **Hostile tables.** The depth is the number of levels of the format, so a table that points at
//! itself or at an ancestor (Windows maps its own tables this way) ends by itself; it is reported in
//! [`WalkStats`]. What can explode is sharing: 512 entries at each of four levels that all point at
//! the same next table describe 2^36 pages in 16 KiB. Two things bound that. A table whose whole
//! subtree is uniform (all unmapped, or all mapped with the same rights) is remembered and yielded
//! in one piece wherever it occurs again, which also makes genuine sharing cheap (shadow memory,
//! fix-up stacks). And the number of tables entered has a limit, behind which the walk yields
//! [`Cause::Limit`] instead of going on.
//!
//! Remembering is done for tables above the lowest level only: looking a lowest table up costs as
//! much as scanning it. Tables with entries of the operating system's ([`SoftwareEntries`]) are never uniform: what
//! these stand for depends on where they are.

use std::collections::{HashMap, VecDeque};

use zerocopy::IntoBytes;

use super::roots::Roots;
use super::software::{Meaning, Software, SoftwareEntries};
use crate::addr::{AddrRange, Address, Gpa, Gva};
use crate::arch::{Level, Spec, Target};
use crate::memory::{Cause, Memory, Prot};

/// What a walk met besides mappings.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WalkStats {
    /// Tables read, each counted as often as it was read.
    pub tables: u64,
    /// Times a table above the lowest level was met that had been met before at the same level.
    pub shared: u64,
    /// Entries that point at their own table or at one above it, the first
    /// [`WalkStats::MAX_SELF_REFS`] of them.
    pub self_refs: Vec<SelfRef>,
    /// Whether the limit on tables was reached.
    pub limited: bool,
}

impl WalkStats {
    /// How many self-references are kept.
    pub const MAX_SELF_REFS: usize = 16;
}

/// An entry that points at its own table or at one above it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SelfRef {
    /// Level of the table that holds the entry.
    pub level: u8,
    /// Physical address of that table.
    pub table: Gpa,
    /// Index of the entry in it.
    pub index: u16,
    /// The first address the entry spans.
    pub va: Gva,
}

/// A run of addresses with one answer; runs come in ascending order, not merged across tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    pub(super) va: u64,
    pub(super) len: u64,
    pub(super) kind: RunKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RunKind {
    /// Mapped. `gpa` is meaningful only when the walk follows frames.
    Mapped {
        prot: Prot,
        gpa: u64,
        page_size: u64,
    },
    Lost(Cause),
    Away(Prot, Cause),
}

/// Whether everything below a table is the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Summary {
    /// Nothing seen yet.
    Fresh,
    /// All mapped with these rights (those of the levels above left out), or all unmapped.
    Uniform(Option<Prot>),
    Mixed,
}

impl Summary {
    fn note(&mut self, part: Option<Prot>) {
        *self = match *self {
            Self::Fresh => Self::Uniform(part),
            Self::Uniform(all) if all == part => Self::Uniform(all),
            _ => Self::Mixed,
        };
    }
}

/// A table on the way from the root to where the walk stands.
struct Frame {
    table: Gpa,
    depth: usize,
    /// Address of entry 0.
    base: u64,
    /// Rights of all levels above this table.
    inherited: Prot,
    /// Rights of the entry that led here.
    own: Prot,
    next: usize,
    /// Entries `next..end` remain.
    end: usize,
    /// Entries from `end` on that were asked for but could not be read.
    lost: Option<(usize, Cause)>,
    summary: Summary,
    entries: Box<[u64]>,
}

/// See the module documentation.
pub(super) struct Walker<'a> {
    phys: &'a dyn Memory<Addr = Gpa>,
    spec: &'static Spec,
    keep: u64,
    software: Option<&'a SoftwareEntries>,
    follow_frames: bool,
    /// The request, cut into canonical pieces; the front one is being walked.
    pieces: VecDeque<Piece>,
    started: bool,
    stack: Vec<Frame>,
    spare: Vec<Box<[u64]>>,
    known: HashMap<(Gpa, usize), Summary>,
    budget: u64,
    stats: WalkStats,
}

/// A part of a request that one root translates.
#[derive(Clone, Copy)]
struct Piece {
    lo: u64,
    hi: u64,
    root: Gpa,
}

/// Whose tables a walk goes over.
#[derive(Clone, Copy)]
pub(super) struct Tables<'a> {
    pub(super) phys: &'a dyn Memory<Addr = Gpa>,
    pub(super) roots: Roots,
    pub(super) spec: &'static Spec,
    /// Bits of an entry that count.
    pub(super) keep: u64,
    /// What entries that are not present mean.
    pub(super) software: Option<&'a SoftwareEntries>,
}

impl<'a> Walker<'a> {
    pub(super) fn new(
        tables: Tables<'a>,
        range: AddrRange<Gva>,
        follow_frames: bool,
        budget: u64,
    ) -> Self {
        let spec = tables.spec;
        Self {
            phys: tables.phys,
            spec,
            keep: tables.keep,
            software: tables.software,
            follow_frames,
            pieces: canonical_pieces(spec, tables.roots, range),
            started: false,
            stack: Vec::with_capacity(spec.levels.len()),
            spare: Vec::new(),
            known: HashMap::new(),
            budget,
            stats: WalkStats::default(),
        }
    }

    pub(super) fn stats(&self) -> &WalkStats {
        &self.stats
    }

    pub(super) fn next_run(&mut self) -> Option<Run> {
        loop {
            let &Piece { lo, hi, root } = self.pieces.front()?;
            let Some(top) = self.stack.last_mut() else {
                if self.started {
                    self.started = false;
                    self.pieces.pop_front();
                    continue;
                }
                self.started = true;
                let base = self.spec.root_base(lo);
                if let Some(run) = self.enter(root, 0, base, Prot::UNLIMITED, Prot::UNLIMITED, lo) {
                    return Some(run);
                }
                continue;
            };
            let level = &self.spec.levels[top.depth];
            if top.next >= top.end {
                if let Some(run) = self.leave(lo, hi) {
                    return Some(run);
                }
                continue;
            }
            if top.depth + 1 == self.spec.levels.len() {
                let how = How {
                    spec: self.spec,
                    level,
                    keep: self.keep,
                    software: self.software,
                    follow_frames: self.follow_frames,
                };
                if let Some(run) = how.lowest_run(top) {
                    return Some(cut(run, lo, hi));
                }
                continue;
            }

            let index = top.next;
            top.next += 1;
            let entry = top.entries[index];
            let va = top.base + ((index as u64) << level.shift);
            let target = if level.is_page.holds(entry) {
                &level.page
            } else {
                &level.table
            };
            if !self.spec.present.holds(entry) || entry & target.reserved != 0 {
                let present = self.spec.present.holds(entry);
                match self.software.filter(|_| !present) {
                    Some(software) if software.form(level, entry).is_some() => {
                        top.next = index;
                        let (spec, keep, frames) = (self.spec, self.keep, self.follow_frames);
                        let run = software_run(top, spec, level, keep, software, frames);
                        if let Some(run) = run {
                            return Some(cut(run, lo, hi));
                        }
                    }
                    _ => top.summary.note(None),
                }
                continue;
            }
            let own = target.rights.of(entry);
            let prot = top.inherited.intersect(own);
            let gpa = target.address(entry);
            if level.is_page.holds(entry) {
                top.summary.note(Some(own));
                let kind = RunKind::Mapped {
                    prot: level.page.rights.effective(prot),
                    gpa,
                    page_size: level.span(),
                };
                return Some(cut(
                    Run {
                        va,
                        len: level.span(),
                        kind,
                    },
                    lo,
                    hi,
                ));
            }
            let depth = top.depth + 1;
            if let Some(run) = self.enter(Gpa(gpa), depth, va, prot, own, va.max(lo)) {
                return Some(cut(run, lo, hi));
            }
        }
    }

    /// Pushes the table at `table`, or answers for it at once: it is known to be uniform, cannot be
    /// read, or the limit is reached. `from` is where the walk stands.
    fn enter(
        &mut self,
        table: Gpa,
        depth: usize,
        base: u64,
        inherited: Prot,
        own: Prot,
        from: u64,
    ) -> Option<Run> {
        let Piece { lo, hi, .. } = self.pieces[0];
        let level = &self.spec.levels[depth];
        let lowest = depth + 1 == self.spec.levels.len();
        let last_va = base + ((level.entries() as u64 - 1) << level.shift) + (level.span() - 1);

        if !lowest {
            self.note_self_reference(table, base);
            if let Some(&known) = self.known.get(&(table, depth)) {
                self.stats.shared += 1;
                if let (Summary::Uniform(all), false) = (known, self.follow_frames) {
                    let parent = &mut self.stack.last_mut()?.summary;
                    parent.note(all.map(|rel| rel.intersect(own)));
                    let prot = self.spec.effective(inherited.intersect(all?));
                    let kind = RunKind::Mapped {
                        prot,
                        gpa: 0,
                        page_size: 0,
                    };
                    return Some(Run {
                        va: base,
                        len: last_va - base + 1,
                        kind,
                    });
                }
            }
        } else if self.stack.iter().any(|frame| frame.table == table) {
            self.note_self_reference(table, base);
        }

        if self.budget == 0 {
            self.stats.limited = true;
            self.spare
                .extend(self.stack.drain(..).map(|frame| frame.entries));
            return Some(Run {
                va: from,
                len: hi - from + 1,
                kind: RunKind::Lost(Cause::Limit),
            });
        }
        self.budget -= 1;
        self.stats.tables += 1;

        let first = usize::try_from((lo.max(base) - base) >> level.shift).ok()?;
        let end = usize::try_from((hi.min(last_va) - base) >> level.shift).ok()? + 1;
        let mut entries = self
            .spare
            .pop()
            .unwrap_or_else(|| vec![0; level.entries().max(512)].into_boxed_slice());
        if entries.len() < level.entries() {
            entries = vec![0; level.entries()].into_boxed_slice();
        }
        let good = read_entries(
            self.phys,
            self.spec,
            self.keep,
            table,
            first,
            &mut entries[first..end],
        );
        let lost = (good < end - first).then_some((
            end,
            Cause::TableAbsent {
                level: level.number,
                table,
            },
        ));
        let whole = first == 0 && end == level.entries() && lost.is_none();
        self.stack.push(Frame {
            table,
            depth,
            base,
            inherited,
            own,
            next: first,
            end: first + good,
            lost,
            summary: if whole {
                Summary::Fresh
            } else {
                Summary::Mixed
            },
            entries,
        });
        None
    }

    /// Pops the finished table and tells its parent what it was made of.
    fn leave(&mut self, lo: u64, hi: u64) -> Option<Run> {
        let frame = self.stack.pop()?;
        self.spare.push(frame.entries);
        let level = &self.spec.levels[frame.depth];
        if let Some(parent) = self.stack.last_mut() {
            match frame.summary {
                Summary::Uniform(all) => {
                    parent.summary.note(all.map(|rel| rel.intersect(frame.own)));
                }
                _ => parent.summary = Summary::Mixed,
            }
        }
        if frame.depth > 0 && frame.depth + 1 < self.spec.levels.len() {
            self.known.insert((frame.table, frame.depth), frame.summary);
        }
        let (end, cause) = frame.lost?;
        let va = frame.base + ((frame.end as u64) << level.shift);
        let len = ((end - frame.end) as u64) << level.shift;
        Some(cut(
            Run {
                va,
                len,
                kind: RunKind::Lost(cause),
            },
            lo,
            hi,
        ))
    }

    fn note_self_reference(&mut self, table: Gpa, va: u64) {
        if !self.stack.iter().any(|frame| frame.table == table) {
            return;
        }
        let Some(holder) = self.stack.last() else {
            return;
        };
        let level = &self.spec.levels[holder.depth];
        let found = SelfRef {
            level: level.number,
            table: holder.table,
            index: u16::try_from((va - holder.base) >> level.shift).unwrap_or(u16::MAX),
            va: Gva(va),
        };
        // A self-map shows the same entry again at every level below; once is enough.
        let seen = |r: &SelfRef| r.table == found.table && r.index == found.index;
        if self.stats.self_refs.len() < WalkStats::MAX_SELF_REFS
            && !self.stats.self_refs.iter().any(seen)
        {
            self.stats.self_refs.push(found);
        }
    }
}

/// The parts of `range` that the format and the roots can translate, ascending.
fn canonical_pieces(spec: &Spec, roots: Roots, range: AddrRange<Gva>) -> VecDeque<Piece> {
    spec.ranges()
        .filter_map(|part| {
            let piece = range.intersect(part)?;
            let (lo, hi) = (piece.start().raw(), piece.last().raw());
            let root = roots.of_half(lo >> 63 != 0)?;
            Some(Piece { lo, hi, root })
        })
        .collect()
}

/// Reads `out.len()` entries of `table` from entry `first` on, with only the bits in `keep`.
/// Answers how many could be read.
pub(super) fn read_entries(
    phys: &dyn Memory<Addr = Gpa>,
    spec: &Spec,
    keep: u64,
    table: Gpa,
    first: usize,
    out: &mut [u64],
) -> usize {
    let Some(at) = table.checked_add((first * spec.entry_bytes) as u64) else {
        return 0;
    };
    let good = |fault_at: Gpa| {
        let bytes = fault_at.raw().saturating_sub(at.raw());
        usize::try_from(bytes).map_or(0, |n| n / spec.entry_bytes)
    };
    if spec.entry_bytes == 8 {
        let read = match phys.read(at, out.as_mut_bytes()) {
            Ok(()) => out.len(),
            Err(fault) => good(fault.addr).min(out.len()),
        };
        if keep != !0 || cfg!(target_endian = "big") {
            for entry in &mut out[..read] {
                *entry = u64::from_le(*entry) & keep;
            }
        }
        return read;
    }
    let mut bytes = [0; Spec::MAX_ENTRIES * 4];
    let bytes = &mut bytes[..out.len() * 4];
    let read = match phys.read(at, bytes) {
        Ok(()) => out.len(),
        Err(fault) => good(fault.addr).min(out.len()),
    };
    for (entry, raw) in out.iter_mut().zip(bytes.as_chunks::<4>().0).take(read) {
        *entry = u64::from(u32::from_le_bytes(*raw)) & keep;
    }
    read
}

/// How lowest tables are read.
struct How<'h> {
    spec: &'static Spec,
    level: &'static Level,
    keep: u64,
    software: Option<&'h SoftwareEntries>,
    follow_frames: bool,
}

impl How<'_> {
    /// The next run of like entries in a lowest table, or `None` when nothing is left in it.
    fn lowest_run(&self, frame: &mut Frame) -> Option<Run> {
        let (spec, level) = (self.spec, self.level);
        let Target {
            reserved,
            frame: frame_mask,
            rights,
            ..
        } = level.page;
        while frame.next < frame.end {
            let start = frame.next;
            let entries = &frame.entries[start..frame.end];
            let first = entries[0];
            let present = spec.present.holds(first);
            let key = spec.present.mask | level.page.key();
            let len = if !present {
                match self.software {
                    None => prefix_len(entries, spec.present.mask, first, 0),
                    Some(software) if software.empty().holds(first) => {
                        prefix_len(entries, software.empty().mask, first, 0)
                    }
                    Some(software) => {
                        let (keep, frames) = (self.keep, self.follow_frames);
                        match software_run(frame, spec, level, keep, software, frames) {
                            Some(run) => return Some(run),
                            None => continue,
                        }
                    }
                }
            } else if self.follow_frames {
                prefix_len(entries, key | frame_mask, first, level.span())
            } else {
                prefix_len(entries, key, first, 0)
            };
            frame.next = start + len;
            if !present || first & reserved != 0 {
                frame.summary.note(None);
                continue;
            }
            let own = rights.of(first);
            frame.summary.note(Some(own));
            return Some(Run {
                va: frame.base + ((start as u64) << level.shift),
                len: (len as u64) << level.shift,
                kind: RunKind::Mapped {
                    prot: rights.effective(frame.inherited.intersect(own)),
                    gpa: level.page.address(first),
                    page_size: level.span(),
                },
            });
        }
        None
    }
}

/// The run that begins with the next entry of `frame`, which is not present; `None` when there is nothing behind it.
/// With `follow_frames`, frames of a run follow each other.
///
/// One entry at a time: these are rare, and what they stand for changes with the address.
#[cold]
fn software_run(
    frame: &mut Frame,
    spec: &Spec,
    level: &Level,
    keep: u64,
    software: &SoftwareEntries,
    follow_frames: bool,
) -> Option<Run> {
    let start = frame.next;
    let first = frame.entries[start];
    let base = frame.base;
    let address = |index: usize| base + ((index as u64) << level.shift);
    let va = address(start);
    frame.next = start + 1;
    let Some(form) = software.form(level, first) else {
        frame.summary.note(None);
        return None;
    };
    frame.summary = Summary::Mixed;
    let span = level.span();
    let kind = match software.meaning(level, keep, first, Gva(va), frame.inherited) {
        Software::Nothing(until) => {
            // The same is true of like entries only.
            let like = |index: usize| {
                address(index) + (span - 1) <= until.raw() && frame.entries[index] == first
            };
            while frame.next < frame.end && like(frame.next) {
                frame.next += 1;
            }
            return None;
        }
        Software::Away { prot, cause } => RunKind::Away(prot, cause),
        Software::Page { gpa, prot, until } => {
            if let Meaning::Resident(at) = form.meaning {
                while frame.next < frame.end && address(frame.next) <= until.raw() {
                    let entry = frame.entries[frame.next];
                    let wanted = gpa.wrapping_add((frame.next - start) as u64 * span);
                    let follows = (at.of(entry) & keep & !(span - 1)) == wanted;
                    let like =
                        !spec.present.holds(entry) && software.form(level, entry) == Some(form);
                    if !like || (follow_frames && !follows) {
                        break;
                    }
                    frame.next += 1;
                }
            }
            RunKind::Mapped {
                prot,
                gpa,
                page_size: span,
            }
        }
    };
    Some(Run {
        va,
        len: ((frame.next - start) as u64) << level.shift,
        kind,
    })
}

/// How many leading `entries` agree with `first + i * step` under `mask`.
///
/// Written in fixed groups without a branch inside, so that the compiler uses vector instructions.
fn prefix_len(entries: &[u64], mask: u64, first: u64, step: u64) -> usize {
    const GROUP: usize = 16;
    // Scattered frames make runs of one: nothing is gained by looking at sixteen.
    match entries {
        [_, second, ..] if second & mask == (first & mask).wrapping_add(step) => (),
        _ => return entries.len().min(1),
    }
    let mut want = first & mask;
    let mut len = 0;
    for group in entries.as_chunks::<GROUP>().0 {
        let mut differs = 0;
        for (i, entry) in group.iter().enumerate() {
            differs |= (entry & mask) ^ want.wrapping_add(i as u64 * step);
        }
        if differs != 0 {
            break;
        }
        len += GROUP;
        want = want.wrapping_add(GROUP as u64 * step);
    }
    let rest = entries[len..].iter().take_while(|&&entry| {
        let agrees = entry & mask == want;
        want = want.wrapping_add(step);
        agrees
    });
    len + rest.count()
}

/// The part of `run` within `lo..=hi`. The walk only yields runs that reach into the request.
fn cut(mut run: Run, lo: u64, hi: u64) -> Run {
    let last = run.va + (run.len - 1);
    if run.va < lo {
        if let RunKind::Mapped { gpa, .. } = &mut run.kind {
            *gpa = gpa.wrapping_add(lo - run.va);
        }
        run.va = lo;
    }
    run.len = last.min(hi) - run.va + 1;
    run
}
