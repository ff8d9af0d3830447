//! Looks at what the spaces of a batch consist of: frames and seams, each once.

use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;

use super::cut::{Event, Met, cut, walk};
use super::frames::{FrameSet, Lineup, Ram};
use super::seams::{Seam, SeamLineup, Seams};
use super::{Many, Piece};
use crate::addr::{AddrRange, Address, Gva};
use crate::memory::{Memory, Prot};
use crate::sweep::{Found, SweepOptions, sweep};

/// What the spaces of a batch consist of, all mappings forgotten.
pub(super) struct Batch {
    /// How many parts, from the next one on.
    pub(super) count: usize,
    frames: FrameSet,
    /// In order, each once.
    seams: Vec<Seam>,
    walks: Walks,
}

/// What the walks over the first spaces of a batch met, so that those need not be walked again.
///
/// There is no bound on what page tables can claim, so there is one on what is kept of it.
#[derive(Default)]
pub(super) struct Walks {
    met: Vec<Met>,
    /// Where each space's ends.
    ends: Vec<usize>,
}

impl Walks {
    /// What the walk over the space with this number in the batch met, if it was kept.
    pub(super) fn of(&self, number: usize) -> Option<&[Met]> {
        let end = *self.ends.get(number)?;
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.met[start..end])
    }
}

/// What was seen in the frames and at the seams of a batch.
pub(super) struct Seen<R> {
    /// What the spaces map.
    pub(super) walks: Walks,
    /// Frames that were read whole.
    pub(super) read: FrameSet,
    /// Frames in which something starts, or that have a seam at which something starts.
    pub(super) marked: FrameSet,
    /// By physical address.
    pub(super) inside: Vec<(u64, R)>,
    /// By seam, then by distance from it.
    pub(super) at_seams: Vec<AtSeam<R>>,
}

/// Something starts near a seam.
pub(super) struct AtSeam<R> {
    pub(super) seam: Seam,
    /// Where, counted from the seam.
    pub(super) rel: i64,
    pub(super) item: R,
}

/// How looking at a batch can end early.
pub(super) enum Unfinished {
    Stopped,
    TooMuchFound,
}

/// Either a part was looked at, or something starts there; as places in a made-up memory.
enum Look<R> {
    Read { start: u64, len: u64 },
    Hit(u64, R),
}

impl<R: Clone + Send> Many<'_, R> {
    /// Cuts as many spaces as fit.
    pub(super) fn gather(&self, ram: &Arc<Ram>) -> Batch {
        let rest = &self.parts[self.coverage.len()..];
        let mut frames = FrameSet::new(ram);
        let most = ram.frames().saturating_mul(self.limits.seams_per_frame);
        let mut seams = Seams::with_limit(most.max(self.limits.seams));
        let mut count = 0;
        let mut walks = Walks::default();
        let room = self.limits.walked_bytes / size_of::<Met>();
        for part in rest {
            if !Arc::ptr_eq(part.space.phys(), self.parts[0].space.phys()) {
                break;
            }
            let declared = |gpa, len| ram.declared(gpa, len);
            let keeps = walks.ends.len() == count;
            let kept = &mut walks.met;
            let mut met = walk(*part, self.options).inspect(|met| {
                if keeps && kept.len() <= room {
                    kept.push(*met);
                }
            });
            let mut on = |event| {
                match event {
                    Event::Whole { gpa, len, .. } => frames.insert(gpa, len),
                    Event::Seam { seam, .. } => return seams.push(seam),
                    _ => {}
                }
                Continue(())
            };
            if cut(&mut met, part, self.options, self.reach, &declared, &mut on).is_break() {
                break;
            }
            if keeps && walks.met.len() <= room {
                walks.ends.push(walks.met.len());
            }
            count += 1;
        }
        Batch {
            count,
            frames,
            seams: seams.finish(),
            walks,
        }
    }

    /// Looks at the frames and seams of a batch.
    pub(super) fn look(&mut self, batch: Batch) -> Result<Seen<R>, Unfinished> {
        let phys = Arc::clone(self.parts[self.coverage.len()].space.phys());
        let mut read = FrameSet::new(batch.frames.ram());
        let mut marked = FrameSet::new(batch.frames.ram());
        let lineup = Lineup::new(&*phys, &batch.frames);
        drop(batch.frames);

        let most = self.limits.found_bytes;
        let mut inside = Vec::new();
        let mut joined = Joined::default();
        self.sweep_lineup(&lineup, &mut |look| {
            match look {
                Look::Read { start, len } => {
                    if let Some(done) = joined.join(start, len) {
                        lineup.mark(done, &mut read);
                    }
                }
                Look::Hit(at, item) => {
                    let gpa = lineup.gpa(at);
                    marked.insert(gpa, 1);
                    inside.push((gpa, item));
                }
            }
            inside.len() * size_of::<(u64, R)>() <= most
        })?;
        if let Some(done) = joined.finish() {
            lineup.mark(done, &mut read);
        }
        drop(lineup);

        let mut at_seams = Vec::new();
        for seams in batch.seams.chunks(SeamLineup::most(self.reach)) {
            let seams = SeamLineup::new(&*phys, seams, &read, self.reach);
            let complete = self.sweep_lineup(&seams, &mut |look| {
                if let Look::Hit(at, item) = look
                    && let Some((seam, rel)) = seams.place(at)
                {
                    marked.insert(seam.frame(), 1);
                    at_seams.push(AtSeam { seam, rel, item });
                }
                at_seams.len() * size_of::<AtSeam<R>>() <= most
            })?;
            if !complete {
                // Memory changes while we look. What is not in the set is looked at in its space.
                seams.forget(&mut read);
            }
        }
        Ok(Seen {
            walks: batch.walks,
            read,
            marked,
            inside,
            at_seams,
        })
    }

    /// Sweeps a made-up memory until `take` answers that it is too much. Answers whether all of it
    /// could be read.
    fn sweep_lineup(
        &mut self,
        lineup: &dyn Memory<Addr = Gva>,
        take: &mut dyn FnMut(Look<R>) -> bool,
    ) -> Result<bool, Unfinished> {
        let options = SweepOptions {
            range: None,
            perm: Prot::NONE,
            max_bytes: u64::MAX,
            ..self.options.clone()
        };
        let (scan, base) = (self.scan, self.looked_at);
        let mut too_much = false;
        let outcome = sweep(
            lineup,
            &options,
            &mut |done| (self.progress)(base + done),
            |window, found: &mut Found<Look<R>>| {
                let start = window.start.raw();
                found.push(Look::Read {
                    start,
                    len: window.owned as u64,
                });
                found.gather(
                    |hits| scan(&Piece::of(window), hits),
                    |(offset, item)| Look::Hit(start + offset as u64, item),
                );
            },
            |look| {
                too_much = !take(look);
                if too_much { Break(()) } else { Continue(()) }
            },
        );
        self.looked_at += outcome.coverage.read;
        match (too_much, outcome.stopped) {
            (true, _) => Err(Unfinished::TooMuchFound),
            (_, true) => Err(Unfinished::Stopped),
            _ => Ok(outcome.coverage.absent == 0),
        }
    }
}

/// Joins ranges that follow each other.
#[derive(Default)]
struct Joined(Option<AddrRange<Gva>>);

impl Joined {
    /// Answers what was joined so far when the range does not follow it.
    fn join(&mut self, start: u64, len: u64) -> Option<AddrRange<Gva>> {
        let part = AddrRange::new(Gva(start), len)?;
        match self.0 {
            Some(last) if last.end() == Some(part.start()) => {
                self.0 = AddrRange::inclusive(last.start(), part.last());
                None
            }
            _ => self.0.replace(part),
        }
    }

    fn finish(self) -> Option<AddrRange<Gva>> {
        self.0
    }
}
