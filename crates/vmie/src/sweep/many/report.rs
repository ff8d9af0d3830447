//! Reports what was seen, space by space.
//!
//! The space is cut once more, now knowing which frames could be read: pages whose frames could not
//! are odd, and, where the space has to be walked again, so are those that are mapped only since the
//! first time. Everything that is whole now
//! has been looked at, and what starts in it or at its seams is found by the physical addresses.

use std::ops::ControlFlow::{self, Break, Continue};

use super::cut::{Event, Zone, cut, walk};
use super::look::Seen;
use super::plain::sweep_part;
use super::reach::Reach;
use super::seams::Seam;
use super::{Many, Show, Sighting, SpacePart};
use crate::addr::{AddrRange, Gva};
use crate::memory::Coverage;
use crate::sweep::SweepOptions;
use crate::sweep::tally::{Heading, Tally};

impl<R: Clone + Send> Many<'_, R> {
    /// Reports what was seen in part `index`, the next one, which is number `number` of its batch.
    pub(super) fn report(
        &mut self,
        index: usize,
        number: usize,
        seen: &Seen<R>,
    ) -> ControlFlow<()> {
        let part = self.parts[index];
        let mut report = Report {
            part,
            options: self.options,
            reach: self.reach,
            seen,
            scan: self.scan,
            progress: self.progress,
            emit: &mut |addr, item| {
                (self.emit)(Sighting {
                    space: index,
                    addr,
                    item,
                })
            },
            tally: Tally::new(part.space),
            looked_at: self.looked_at,
        };
        let usable = |gpa, len| seen.read.run(gpa, len);
        let mut on = |event| report.event(event);
        let (options, reach) = (self.options, self.reach);
        let end = match seen.walks.of(number) {
            Some(met) => {
                let mut met = met.iter().copied();
                cut(&mut met, &part, options, reach, &usable, &mut on)
            }
            None => {
                let mut met = walk(part, options);
                cut(&mut met, &part, options, reach, &usable, &mut on)
            }
        };
        self.looked_at = report.looked_at;
        self.coverage.push(report.tally.finish());
        end?;
        (self.progress)(self.looked_at)
    }
}

struct Report<'r, R> {
    part: SpacePart<'r>,
    options: &'r SweepOptions<Gva>,
    reach: Reach,
    seen: &'r Seen<R>,
    scan: &'r Show<'r, R>,
    progress: &'r mut dyn FnMut(u64) -> ControlFlow<()>,
    emit: &'r mut dyn FnMut(Gva, R) -> ControlFlow<()>,
    tally: Tally<'r, Gva>,
    looked_at: u64,
}

/// Odd pages and what must be seen around them.
struct Around {
    /// What is swept.
    shown: AddrRange<Gva>,
    /// Bytes of whole pieces at its start and end.
    borders: u64,
    /// What starts here belongs to the zone.
    owned: AddrRange<Gva>,
    max_bytes: u64,
}

impl<R: Clone + Send> Report<'_, R> {
    fn event(&mut self, event: Event) -> ControlFlow<()> {
        match event {
            Event::Whole { va, gpa, len } => {
                self.tally.read(len);
                self.whole(va, gpa, len)
            }
            Event::Seam { va, seam } => self.seam(va, seam),
            Event::Zone(zone) => self.zone(zone),
            Event::Rest {
                start,
                whole_before,
                max_bytes,
            } => self.rest(start, whole_before, max_bytes),
            Event::Lost(gap) => {
                self.tally.gap(gap, Heading::of_span(gap.cause));
                Continue(())
            }
            Event::Unmapped(range) => {
                self.tally.unmapped(range);
                Continue(())
            }
        }
    }

    /// What starts in a whole piece, far enough from its ends.
    fn whole(&mut self, va: u64, gpa: u64, len: u64) -> ControlFlow<()> {
        if self.seen.inside.is_empty() || !self.seen.marked.any(gpa, len) {
            return Continue(());
        }
        let (first, end) = (gpa + self.reach.behind, gpa + len - self.reach.overlap);
        let inside = &self.seen.inside;
        let from = inside.partition_point(|&(at, _)| at < first);
        for (at, item) in inside[from..].iter().take_while(|&&(at, _)| at < end) {
            (self.emit)(Gva(va.wrapping_add(at - gpa)), item.clone())?;
        }
        Continue(())
    }

    fn seam(&mut self, va: u64, seam: Seam) -> ControlFlow<()> {
        if self.seen.at_seams.is_empty() || !self.seen.marked.any(seam.frame(), 1) {
            return Continue(());
        }
        let all = &self.seen.at_seams;
        let from = all.partition_point(|at| at.seam < seam);
        for at in all[from..].iter().take_while(|at| at.seam == seam) {
            (self.emit)(Gva(va.wrapping_add_signed(at.rel)), at.item.clone())?;
        }
        Continue(())
    }

    fn zone(&mut self, zone: Zone) -> ControlFlow<()> {
        let Zone {
            start,
            len,
            whole_before,
            whole_after,
        } = zone;
        // The pieces around are whole, that is long enough.
        let Reach {
            overlap,
            behind,
            both,
        } = self.reach;
        let around = |left: u64, right: u64| {
            let left = if whole_before { left } else { 0 };
            let right = if whole_after { right } else { 0 };
            AddrRange::new(Gva(start.wrapping_sub(left)), len + left + right)
        };
        let (Some(shown), Some(owned)) = (around(both, both), around(overlap, behind)) else {
            return Continue(());
        };
        self.sweep(&Around {
            shown,
            borders: shown.len() - len,
            owned,
            max_bytes: u64::MAX,
        })
    }

    /// Everything from `start` on.
    fn rest(&mut self, start: u64, whole_before: bool, max_bytes: u64) -> ControlFlow<()> {
        let left = |reach| if whole_before { reach } else { 0 };
        let from = |reach| {
            let last = self.part.asked(self.options)?.last();
            AddrRange::inclusive(Gva(start.wrapping_sub(left(reach))), last)
        };
        let (Some(shown), Some(owned)) = (from(self.reach.both), from(self.reach.overlap)) else {
            return Continue(());
        };
        let borders = left(self.reach.both);
        self.sweep(&Around {
            shown,
            borders,
            owned,
            max_bytes: max_bytes.saturating_add(borders),
        })
    }

    fn sweep(&mut self, around: &Around) -> ControlFlow<()> {
        let options = SweepOptions {
            max_bytes: around.max_bytes,
            ..self.options.clone()
        };
        let base = self.looked_at;
        let mut outcome = sweep_part(
            self.part.space,
            around.shown,
            &options,
            &mut |done| (self.progress)(base + done),
            self.scan,
            &mut |addr, item| {
                if around.owned.contains(addr) {
                    (self.emit)(addr, item)
                } else {
                    Continue(())
                }
            },
        );
        let coverage: &mut Coverage<Gva> = &mut outcome.coverage;
        self.looked_at += coverage.read;
        // Counted with the pieces they belong to.
        coverage.read = coverage.read.saturating_sub(around.borders);
        coverage.mapped = coverage.mapped.saturating_sub(around.borders);
        self.tally.merge(coverage);
        if outcome.stopped {
            Break(())
        } else {
            Continue(())
        }
    }
}
