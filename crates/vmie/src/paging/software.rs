//! Entries that the CPU calls not present, behind which the operating system keeps something.
//!
//! A page-table entry that is not present means nothing to the CPU, so operating systems keep notes of their own in
//! it, and in part these are about pages that are in memory all the same: pages on which the CPU is meant to fault,
//! so that accesses can be counted or refused, and pages that are being moved. Who walks the tables as the CPU does
//! passes over them.
//!
//! What such entries mean differs from system to system, so it is handed to the walk as data: a [`SoftwareEntries`]
//! is a list of [`Form`]s, each a question about the entry and where in it the frame stands. What is not in the
//! entry is asked of a [`Backing`]: the protection that the system has arranged for an address, where a page is that
//! is described elsewhere, and what became of a page that was swapped out.
//!
//! Everything that goes through an [`AddressSpace`](super::AddressSpace) follows them: translation, reads, spans,
//! extents, and so all sweeps and snapshots. A space without a description is the hardware's.

use std::fmt;
use std::sync::Arc;

use crate::addr::{Address, Gpa, Gva};
use crate::arch::{Level, Test};
use crate::memory::{Cause, Prot};

/// What entries that are not present mean to a guest's operating system.
///
/// Cloning is cheap.
#[derive(Clone)]
pub struct SoftwareEntries {
    /// Entries that hold nothing, whatever the forms say.
    empty: Test,
    forms: Arc<[Form]>,
    backing: Arc<dyn Backing>,
}

/// One form of entries that are not present.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Form {
    /// The levels that have such entries: bit `n` for the level with the number `n`.
    pub levels: u8,
    /// Which entries are of this form. The first form that fits counts.
    pub test: Test,
    /// What stands in them.
    pub meaning: Meaning,
}

/// What stands in an entry that is not present.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// A page that is in memory.
    Resident(Frame),
    /// A page that has been swapped out: a swap area and a place in it.
    Swapped {
        /// The number of the area.
        area: Bits,
        /// The place in it.
        offset: Bits,
    },
    /// Nothing that could be read.
    Nothing,
    /// Only the system's own records tell: [`Backing::elsewhere`].
    Elsewhere,
}

/// Where a frame stands in an entry: `((entry ^ flip) << shift) & mask` is its physical address.
///
/// Bits below the size of the page are not looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Bits that stand inverted.
    pub flip: u64,
    /// How far the number is below its place in a physical address.
    pub shift: u8,
    /// The bits of a physical address that are told.
    pub mask: u64,
}

impl Frame {
    /// The frame that `entry` names.
    pub const fn of(self, entry: u64) -> u64 {
        ((entry ^ self.flip) << self.shift) & self.mask
    }
}

/// Where a number stands in an entry: `((entry ^ flip) >> shift) & mask`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bits {
    /// Bits that stand inverted.
    pub flip: u64,
    /// The lowest bit.
    pub shift: u8,
    /// The bits of the number.
    pub mask: u64,
}

impl Bits {
    /// The number in `entry`.
    pub const fn of(self, entry: u64) -> u64 {
        ((entry ^ self.flip) >> self.shift) & self.mask
    }
}

/// What an operating system knows of an address space beside its page tables.
///
/// It is asked while tables are walked, and may answer from what it read when it was first asked.
pub trait Backing: Send + Sync {
    /// What the system has arranged that may be done at `va`, and the last address for which this holds (never
    /// below `va`). [`Prot::NONE`] where nothing is known.
    fn prot(&self, va: Gva) -> (Prot, Gva);

    /// Whether a page that was swapped out is in memory all the same, compressed.
    fn is_compressed(&self, area: u32, offset: u64) -> bool {
        let _ = (area, offset);
        false
    }

    /// What an entry of the form [`Meaning::Elsewhere`] stands for, and the last address for which this holds,
    /// should it be nothing (never below `va`).
    fn elsewhere(&self, va: Gva, entry: u64) -> (Elsewhere, Gva) {
        let _ = entry;
        (Elsewhere::Nothing, va)
    }
}

/// Where a page is whose entry does not say it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Elsewhere {
    /// Nowhere.
    Nothing,
    /// In the frame at this physical address.
    Resident(Gpa),
    /// Swapped out.
    Swapped {
        /// Number of the swap area.
        area: u32,
        /// Number of the page in it.
        offset: u64,
    },
}

/// What an entry that is not present stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Software {
    /// Nothing, up to this address at least.
    Nothing(Gva),
    /// A page in memory. The protection holds up to this address.
    Page { gpa: u64, prot: Prot, until: Gva },
    /// A page that is not.
    Away { prot: Prot, cause: Cause },
}

impl SoftwareEntries {
    /// `empty` entries hold nothing; what others hold, the first of `forms` that fits tells. What none fits holds
    /// nothing.
    pub fn new(empty: Test, forms: &[Form], backing: Arc<dyn Backing>) -> Self {
        Self {
            empty,
            forms: forms.into(),
            backing,
        }
    }

    /// The same forms with what is known of another space.
    #[must_use]
    pub fn with_backing(&self, backing: Arc<dyn Backing>) -> Self {
        Self {
            backing,
            ..self.clone()
        }
    }

    /// Which entries hold nothing.
    pub(super) fn empty(&self) -> Test {
        self.empty
    }

    /// The forms, for the naive walk.
    #[cfg(test)]
    pub(super) fn forms(&self) -> (&[Form], &dyn Backing) {
        (&self.forms, &*self.backing)
    }

    /// The first form that fits an entry in a table of this level.
    pub(super) fn form(&self, level: &Level, entry: u64) -> Option<&Form> {
        if self.empty.holds(entry) {
            return None;
        }
        self.forms
            .iter()
            .find(|form| form.levels >> level.number & 1 != 0 && form.test.holds(entry))
    }

    /// What `entry` stands for in a table of this level, where it spans the addresses from `va` on; `keep` are the
    /// bits of an entry that count, and `inherited` is what the levels above allow.
    ///
    /// A page has the protection that is arranged for its first byte.
    pub(super) fn meaning(
        &self,
        level: &Level,
        keep: u64,
        entry: u64,
        va: Gva,
        inherited: Prot,
    ) -> Software {
        let Some(form) = self.form(level, entry) else {
            return Software::Nothing(va);
        };
        let resident = |frame: u64| {
            let (prot, until) = self.backing.prot(va);
            Software::Page {
                gpa: frame & !(level.span() - 1),
                prot: inherited.intersect(prot),
                until: until.max(va),
            }
        };
        let away = |area, offset| Software::Away {
            prot: inherited.intersect(self.backing.prot(va).0),
            cause: self.swapped(area, offset),
        };
        match form.meaning {
            Meaning::Nothing => Software::Nothing(va),
            // Bits that do not count are not set in any address, inverted or not.
            Meaning::Resident(frame) => resident(frame.of(entry) & keep),
            Meaning::Swapped { area, offset } => {
                let area = u32::try_from(area.of(entry)).unwrap_or(u32::MAX);
                away(area, offset.of(entry))
            }
            Meaning::Elsewhere => match self.backing.elsewhere(va, entry) {
                (Elsewhere::Nothing, until) => Software::Nothing(until.max(va)),
                (Elsewhere::Resident(gpa), _) => resident(gpa.raw()),
                (Elsewhere::Swapped { area, offset }, _) => away(area, offset),
            },
        }
    }

    fn swapped(&self, area: u32, offset: u64) -> Cause {
        match self.backing.is_compressed(area, offset) {
            true => Cause::Compressed { area, offset },
            false => Cause::SwappedOut { area, offset },
        }
    }
}

impl fmt::Debug for SoftwareEntries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoftwareEntries")
            .field("empty", &self.empty)
            .field("forms", &self.forms)
            .finish_non_exhaustive()
    }
}
