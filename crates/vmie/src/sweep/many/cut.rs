//! Cuts a space into whole pieces, seams and odd zones; see the module above for what those are.
//!
//! Every start of a result belongs to exactly one of them. With `behind` and `overlap` as the sweep
//! has them, next to a whole piece from `a` to `b`:
//!
//! ```text
//!        seam at a               the piece itself                  seam at b
//! ...|  behind  |                                            |  overlap  |...
//!    a ------- starts ---------- starts --------------------- starts ---- b
//! ```
//!
//! so a seam owns the last `overlap` starts of the piece before it and the first `behind` of the one
//! after it, also where one of the two is missing because memory begins or ends there. Where odd pages
//! follow, the zone takes the place of the seam.
//!
//! Addresses are plain numbers that wrap: the end of what reaches the top of the space is zero.

use std::ops::ControlFlow::{self, Break, Continue};

use super::SpacePart;
use super::reach::Reach;
use super::seams::Seam;
use crate::addr::{AddrRange, Address, Gva, PAGE_SIZE};
use crate::memory::{Gap, Prot};
use crate::paging::{Extent, ExtentItem};
use crate::sweep::SweepOptions;
use crate::sweep::unseen::Unseen;

/// A part of a space; they come in ascending order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// A whole piece. Comes after the seam at its start.
    Whole { va: u64, gpa: u64, len: u64 },
    /// A seam at the address.
    Seam { va: u64, seam: Seam },
    /// Odd pages.
    Zone(Zone),
    /// The work is at its bound: from here on, everything, with what is left of the bound.
    Rest {
        start: u64,
        whole_before: bool,
        max_bytes: u64,
    },
    /// It is not known what is mapped here.
    Lost(Gap<Gva>),
    /// Asked for by address and not mapped.
    Unmapped(AddrRange<Gva>),
}

/// Odd pages from `start` on; whether a whole piece stands right before or after them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Zone {
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) whole_before: bool,
    pub(super) whole_after: bool,
}

/// Tells whether the frames from an address on can be part of a whole piece, and for how many of
/// so many bytes that answer holds. Never answers zero bytes.
pub(super) type Usable<'c> = dyn Fn(u64, u64) -> (bool, u64) + 'c;

/// What a walk over the page tables of a space meets, in ascending order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Met {
    /// Pages to look at.
    Run(Run),
    /// Pages of other protections.
    Other { va: Gva, len: u64 },
    /// It is not known what is mapped here.
    Lost(Gap<Gva>),
}

/// Walks the page tables of a part.
pub(super) fn walk<'s>(
    part: SpacePart<'s>,
    options: &SweepOptions<Gva>,
) -> impl Iterator<Item = Met> + 's {
    let perm = options.perm;
    let items = part.asked(options).map(|range| part.space.extents(range));
    let mut items = items.into_iter().flatten();
    let mut pending: Option<Run> = None;
    let mut next: Option<Met> = None;
    std::iter::from_fn(move || {
        loop {
            let met = match next.take() {
                Some(met) => met,
                None => match items.next() {
                    Some(item) => Met::of(item, perm),
                    None => return pending.take().map(Met::Run),
                },
            };
            match (pending.take(), met) {
                (None, Met::Run(run)) => pending = Some(run),
                (None, met) => return Some(met),
                (Some(run), met) => {
                    pending = run.joined(met);
                    if pending.is_none() {
                        next = Some(met);
                        return Some(Met::Run(run));
                    }
                }
            }
        }
    })
}

impl Met {
    fn of(item: ExtentItem, perm: Prot) -> Self {
        match item {
            ExtentItem::Lost { va, len, cause } => Self::Lost(Gap {
                start: va,
                len,
                cause,
            }),
            ExtentItem::Extent(Extent {
                va, gpa, len, prot, ..
            }) if prot.contains(perm) => {
                let (va, gpa) = (va.raw(), gpa.raw());
                Self::Run(Run { va, gpa, len })
            }
            ExtentItem::Away {
                va,
                len,
                prot,
                cause,
            } if prot.contains(perm) => Self::Lost(Gap {
                start: va,
                len,
                cause,
            }),
            ExtentItem::Extent(Extent { va, len, .. }) | ExtentItem::Away { va, len, .. } => {
                Self::Other { va, len }
            }
        }
    }

    fn place(&self) -> (Gva, u64) {
        match *self {
            Self::Run(Run { va, len, .. }) => (Gva(va), len),
            Self::Other { va, len } => (va, len),
            Self::Lost(Gap { start, len, .. }) => (start, len),
        }
    }
}

/// Cuts what a walk over a space met, and passes its parts to `on`, until it breaks off.
pub(super) fn cut(
    met: &mut dyn Iterator<Item = Met>,
    part: &SpacePart<'_>,
    options: &SweepOptions<Gva>,
    reach: Reach,
    usable: &Usable<'_>,
    on: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut cutter = Cutter {
        reach,
        usable,
        on,
        budget: options.max_bytes,
        last: Last::Nothing,
        end: 0,
        unseen: Unseen::new(options.asked().and(part.asked(options))),
    };
    match cutter.space(met) {
        Err(End::BrokenOff) => Break(()),
        Ok(()) | Err(End::Bound) => Continue(()),
    }
}

/// Why cutting ended.
enum End {
    BrokenOff,
    /// The rest of the space has been passed on.
    Bound,
}

/// What ends where the cutter stands.
#[derive(Clone, Copy)]
enum Last {
    Nothing,
    /// A whole piece whose frames end at this address.
    Whole {
        gpa_end: u64,
    },
    /// Odd pages.
    Odd {
        start: u64,
        whole_before: bool,
    },
}

/// Pages that lie side by side in virtual and in physical memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    va: u64,
    gpa: u64,
    len: u64,
}

impl Run {
    /// The frames: where they start, and how many bytes.
    pub(super) fn frames(self) -> (u64, u64) {
        (self.gpa, self.len)
    }

    /// Both as one, if `next` follows in virtual and in physical memory.
    fn joined(self, next: Met) -> Option<Self> {
        let Self { va, gpa, len } = self;
        match next {
            Met::Run(next)
                if va.wrapping_add(len) == next.va && gpa.wrapping_add(len) == next.gpa =>
            {
                let len = len + next.len;
                Some(Self { va, gpa, len })
            }
            _ => None,
        }
    }
}

struct Cutter<'c> {
    reach: Reach,
    usable: &'c Usable<'c>,
    on: &'c mut dyn FnMut(Event) -> ControlFlow<()>,
    budget: u64,
    last: Last,
    /// Where `last` ends.
    end: u64,
    unseen: Unseen<Gva>,
}

impl Cutter<'_> {
    fn space(&mut self, met: &mut dyn Iterator<Item = Met>) -> Result<(), End> {
        for met in met {
            let (va, len) = met.place();
            self.skip_to(va)?;
            self.unseen.seen(va, len);
            match met {
                Met::Run(run) => self.run(run)?,
                Met::Other { .. } => {}
                Met::Lost(gap) => {
                    self.close()?;
                    self.pass(Event::Lost(gap))?;
                }
            }
        }
        self.close()?;
        match self.unseen.rest() {
            Some(unseen) => self.pass(Event::Unmapped(unseen)),
            None => Ok(()),
        }
    }

    fn pass(&mut self, event: Event) -> Result<(), End> {
        match (self.on)(event) {
            Continue(()) => Ok(()),
            Break(()) => Err(End::BrokenOff),
        }
    }

    /// Nothing is mapped between what was seen last and `va`.
    fn skip_to(&mut self, va: Gva) -> Result<(), End> {
        match self.unseen.before(va) {
            Some(skipped) => {
                self.close()?;
                self.pass(Event::Unmapped(skipped))
            }
            None => Ok(()),
        }
    }

    /// Takes a run as long as it goes.
    fn run(&mut self, run: Run) -> Result<(), End> {
        if run.len > self.budget {
            return self.rest(run.va);
        }
        self.budget -= run.len;
        let Run { va, gpa, len } = run;
        let head = (va.wrapping_neg() % PAGE_SIZE).min(len);
        if head > 0 {
            self.odd(va, head)?;
        }
        let mut at = head;
        while len - at >= PAGE_SIZE {
            let whole_pages = (len - at) & !(PAGE_SIZE - 1);
            let (usable, n) = (self.usable)(gpa + at, whole_pages);
            let here = va.wrapping_add(at);
            if usable && n >= self.reach.both {
                self.whole(here, gpa + at, n)?;
            } else {
                self.odd(here, n)?;
            }
            at += n;
        }
        if at < len {
            self.odd(va.wrapping_add(at), len - at)?;
        }
        Ok(())
    }

    fn whole(&mut self, va: u64, gpa: u64, len: u64) -> Result<(), End> {
        self.meet(va)?;
        match self.last {
            Last::Nothing => self.seam(va, Seam::NOTHING, gpa)?,
            Last::Whole { gpa_end } => self.seam(va, gpa_end, gpa)?,
            Last::Odd { .. } => self.zone(true)?,
        }
        self.pass(Event::Whole { va, gpa, len })?;
        self.last = Last::Whole { gpa_end: gpa + len };
        self.end = va.wrapping_add(len);
        Ok(())
    }

    fn odd(&mut self, va: u64, len: u64) -> Result<(), End> {
        self.meet(va)?;
        let whole_before = matches!(self.last, Last::Whole { .. });
        if !matches!(self.last, Last::Odd { .. }) {
            self.last = Last::Odd {
                start: va,
                whole_before,
            };
        }
        self.end = va.wrapping_add(len);
        Ok(())
    }

    /// Ends what does not touch `va`.
    fn meet(&mut self, va: u64) -> Result<(), End> {
        if self.end == va { Ok(()) } else { self.close() }
    }

    /// Memory ends where the last piece does.
    fn close(&mut self) -> Result<(), End> {
        match self.last {
            Last::Nothing => {}
            Last::Whole { gpa_end } => self.seam(self.end, gpa_end, Seam::NOTHING)?,
            Last::Odd { .. } => self.zone(false)?,
        }
        self.last = Last::Nothing;
        Ok(())
    }

    fn seam(&mut self, va: u64, left: u64, right: u64) -> Result<(), End> {
        let Reach {
            overlap, behind, ..
        } = self.reach;
        let owns_left = overlap > 0 && left != Seam::NOTHING;
        let owns_right = behind > 0 && right != Seam::NOTHING;
        if owns_left || owns_right {
            let seam = Seam { left, right };
            self.pass(Event::Seam { va, seam })?;
        }
        Ok(())
    }

    fn zone(&mut self, whole_after: bool) -> Result<(), End> {
        let Last::Odd {
            start,
            whole_before,
        } = self.last
        else {
            return Ok(());
        };
        self.pass(Event::Zone(Zone {
            start,
            len: self.end.wrapping_sub(start),
            whole_before,
            whole_after,
        }))
    }

    /// Passes on everything from `va` on.
    fn rest(&mut self, va: u64) -> Result<(), End> {
        self.meet(va)?;
        let (start, whole_before, odd) = match self.last {
            Last::Nothing => (va, false, 0),
            Last::Whole { .. } => (va, true, 0),
            // Those pages are in the zone and have been paid for already.
            Last::Odd {
                start,
                whole_before,
            } => (start, whole_before, va.wrapping_sub(start)),
        };
        self.pass(Event::Rest {
            start,
            whole_before,
            max_bytes: self.budget.saturating_add(odd),
        })?;
        Err(End::Bound)
    }
}
