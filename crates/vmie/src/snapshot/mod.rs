//! Moments of memory: captured, kept in files, compared.
//!
//! A [`Snapshot`] holds what a [`Memory`] mapped within a range at one moment: the regions with their
//! protections, and the bytes of those that pass a [`Filter`]. It is a [`Memory`] itself, so everything
//! that works on a guest works on a snapshot, and [`diff`] compares any two of them, or one with now.
//!
//! ```
//! use vmie::snapshot::{self, TakeOptions};
//! # use vmie::scan::Run;
//! # use vmie::{Gpa, Image, OpenOptions};
//! # let image = Image::from_bytes(vec![7; 0x3000], &OpenOptions::default())?;
//! let then = snapshot::take(&image, &TakeOptions::default(), Run::new())?;
//! // ... later:
//! let mut changes = Vec::new();
//! let outcome = snapshot::diff(&then, &image, &then.diff_options(), Run::new(), |change| {
//!     changes.push(change);
//!     std::ops::ControlFlow::Continue(())
//! });
//! assert!(changes.is_empty() && outcome.coverage.is_complete());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is promised
//!
//! * What was mapped and could not be read is recorded as such and faults with its cause; so does what
//!   was left out. Neither is zero, neither counts as unchanged.
//! * A snapshot does not change. One moment is seen only if the guest stood still while it was taken:
//!   that is the business of whoever takes it.
//!
//! # How it is kept
//!
//! Pages of 4 KiB, numbered through in the order of their addresses; each has a *slot*, a place among
//! the contents, and pages of zeros share a slot that takes no room. In memory, slots are in the order
//! of capture. In a file, each distinct page is kept once; see [`Snapshot::save`].

mod content;
mod diff;
mod file;
mod groups;
mod layout;
mod open;
pub mod series;
mod slot;
mod take;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use crate::addr::{AddrRange, Address, Gpa};
use crate::arch::x86::CpuState;
use crate::memory::{Coverage, Fault, Gap, Memory, Prot, Region, SpanKind, Spans, Whole};
use crate::paging::Mode;
use crate::view::View;
use crate::width::ProgramWidth;
use content::Content;
pub use diff::{Change, ChangeKind, DiffOptions, DiffOutcome, diff};
pub use file::{Compression, FileError, FileErrorKind, SaveOptions, Saved, holds};
pub use groups::{GroupsOutcome, tell_apart};
use layout::Layout;
use slot::Slots;
pub use take::{DEFAULT_MAX_BYTES, TakeError, TakeOptions, memory_available, take};

/// Which regions are meant, by their protection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// All of this must be allowed.
    pub all: Prot,
    /// Something of this must be allowed; with [`Prot::NONE`], nothing is asked for.
    pub any: Prot,
}

impl Filter {
    /// Whether a region of this protection is meant.
    pub fn passes(self, prot: Prot) -> bool {
        prot.contains(self.all)
            && (self.any == Prot::NONE || prot.intersect(self.any) != Prot::NONE)
    }

    fn keeps(self, kind: SpanKind) -> bool {
        matches!(kind, SpanKind::Mapped(prot) if self.passes(prot))
    }
}

/// Where a snapshot comes from, as far as whoever takes it says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Origin {
    /// Anything about the source and the space, for people or programs; kept as it is.
    pub about: String,
    /// The address space: its root and paging mode.
    pub space: Option<(Gpa, Mode)>,
    /// The registers of the CPUs.
    pub cpus: Vec<CpuState>,
    /// How wide the program is whose space it is. Unknown in files of before this was kept.
    pub width: ProgramWidth,
}

/// What was mapped within a range at one moment, with its bytes.
#[derive(Debug)]
pub struct Snapshot<A: Address> {
    layout: Layout<A>,
    slots: Slots,
    content: Content,
    coverage: Coverage<A>,
    taken: SystemTime,
    took: Duration,
    origin: Origin,
}

impl<A: Address> Snapshot<A> {
    /// Says where it comes from.
    #[must_use]
    pub fn with_origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    /// Where it comes from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// When taking it began, by the clock of the machine that took it.
    pub fn taken(&self) -> SystemTime {
        self.taken
    }

    /// How long taking it took: unless the guest stood still, the moment is this long.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// The addresses that were asked for.
    pub fn range(&self) -> AddrRange<A> {
        self.layout.asked()
    }

    /// Which regions' bytes were asked for.
    pub fn filter(&self) -> Filter {
        self.layout.filter()
    }

    /// What was read when it was taken, and what could not be.
    pub fn coverage(&self) -> &Coverage<A> {
        &self.coverage
    }

    /// How many pages of contents are kept: those of zeros are not, and in a file the same page is kept once.
    pub fn stored_pages(&self) -> u64 {
        self.content.len()
    }

    /// The regions that are kept, in order.
    pub fn kept(&self) -> impl Iterator<Item = Region<A>> {
        let filter = self.layout.filter();
        let spans = self.layout.all_spans().iter();
        spans
            .filter(move |span| filter.keeps(span.kind))
            .filter_map(|span| span.region())
    }

    /// What of a range was mapped and cannot be read here: what was left out, then what was not readable.
    pub fn missing(&self, range: AddrRange<A>) -> impl Iterator<Item = Gap<A>> {
        self.layout.missing(range)
    }

    /// What to compare with another moment so that nothing is said about what was not asked for.
    pub fn diff_options(&self) -> DiffOptions<A> {
        DiffOptions {
            range: self.range(),
            filter: self.filter(),
        }
    }
}

impl<A: Address> Memory for Snapshot<A> {
    type Addr = A;

    /// Regions that were left out by the filter are there, and reading them faults. Addresses outside of
    /// what was asked for are lost.
    fn spans(&self, range: AddrRange<A>) -> Spans<'_, A> {
        Box::new(self.layout.spans(range))
    }

    fn read(&self, addr: A, buf: &mut [u8]) -> Result<(), Fault<A>> {
        let mut done = 0;
        while done < buf.len() {
            let Some(here) = addr.checked_add(done as u64) else {
                return Err(Fault {
                    addr: A::new(u64::MAX),
                    cause: crate::Cause::NonCanonical,
                });
            };
            let fault = |addr, cause| Fault { addr, cause };
            let readable = self.layout.readable(here);
            let readable = readable.map_err(|cause| fault(here, cause))?;
            let rest = &mut buf[done..];
            let len = usize::try_from(readable).map_or(rest.len(), |len| len.min(rest.len()));
            let (page, _) = self.layout.page(here).expect("what is readable has a page");
            let skip = (here.raw() % layout::SNAPSHOT_PAGE as u64) as usize;
            self.content
                .read(&self.slots, page, skip, &mut rest[..len])
                .map_err(|(at, cause)| fault(A::new(here.raw() + at as u64), cause))?;
            done += len;
        }
        Ok(())
    }

    /// What lies in one piece in memory from `addr` on, up to some number of pages.
    fn view(&self, addr: A) -> Option<View<'_, A>> {
        let readable = self.layout.readable(addr).ok()?;
        let (page, _) = self.layout.page(addr)?;
        let skip = (addr.raw() % layout::SNAPSHOT_PAGE as u64) as usize;
        let bytes = self.content.run(&self.slots, page)?.get(skip..)?;
        let len = usize::try_from(readable).map_or(bytes.len(), |len| len.min(bytes.len()));
        Some(View::of_slice(addr, &bytes[..len]))
    }

    /// Lends what lies in one piece in memory; of zeros, any number up to a bound.
    fn borrow(&self, range: AddrRange<A>) -> Option<&[u8]> {
        let len = usize::try_from(range.len()).ok()?;
        // Spans of different protection touch, and what is lent may reach over several.
        let mut done = 0;
        while done < range.len() {
            done += self
                .layout
                .readable(range.start().checked_add(done)?)
                .ok()?;
        }
        let (page, _) = self.layout.page(range.start())?;
        let skip = (range.start().raw() % layout::SNAPSHOT_PAGE as u64) as usize;
        self.content.slice(&self.slots, page, skip, len)
    }
}

impl<A: Address> Whole for Snapshot<A> {}
