//! What a search for an operating system is given, and what it leaves behind beside the guest.

use std::fmt;
use std::sync::Arc;

use super::trail::Trail;
use super::types::{SuppliedTypes, TypeStore};
use crate::addr::Gpa;
use crate::memory::Memory;
use crate::paging::AddressSpace;

/// Physical memory, as searches take it.
pub(crate) type Phys = Arc<dyn Memory<Addr = Gpa>>;

/// Which operating system a guest runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// Linux on x86-64.
    Linux,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Linux => "linux",
        })
    }
}

/// What a search looked at, and what it saw there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// What was looked for.
    pub name: &'static str,
    /// What was seen.
    pub seen: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.seen)
    }
}

/// What is known beforehand about a guest's operating system.
#[derive(Clone, Debug, Default)]
pub struct FindOptions {
    /// Types to use when the guest has none of its own, or damaged ones.
    pub types: Option<SuppliedTypes>,
    /// Where to look for types then, in this order, and where to keep those that are whole.
    pub stores: Vec<TypeStore>,
    /// Where it was found before, in the same memory. What is found there is verified all the same.
    pub trail: Option<Trail>,
    /// Whether the guest stood still while its memory was taken.
    pub acquisition: Acquisition,
    /// The kernel that is meant, where memory has several: by the physical address of its top page table
    /// ([`Trail::root`]). No other is found then, and no CPU contradicts it.
    pub kernel_at: Option<Gpa>,
    /// How far the search goes.
    pub effort: Effort,
}

/// How far a search for an operating system goes: each goes as far as the one before it, and then further.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[non_exhaustive]
pub enum Effort {
    /// Where something leads there: a trail, CPUs, places that every guest of a system has. Milliseconds.
    Hints,
    /// To what a system tells of itself at the start of some page: a glance at every page.
    Notes,
    /// To what can be told by its shape: a pass over all of memory.
    #[default]
    Everywhere,
}

/// A search that did not find its system.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Missed {
    /// What each step saw.
    pub steps: Vec<Step>,
    /// Whether anything was met that leads to such a system, though none verified.
    pub led: bool,
}

/// A top page table that is likely to be of a guest's system, and is not verified.
#[derive(Clone, Debug)]
pub struct LikelyRoot {
    /// What leads to it, in words.
    pub what: String,
    /// The space behind it.
    pub space: AddressSpace,
}

/// How much RAM a guest's system counts itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RamCount {
    /// Where it ends below 4 GiB, where that is known. Firmware takes some of what is right below the end.
    pub low_end: Option<Gpa>,
    /// Where it ends; the same when there is none from 4 GiB on.
    pub end: Gpa,
}

/// Whether a guest stood still while its memory was taken: what one list has and another lacks may
/// be what came and went between two looks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
#[non_exhaustive]
pub enum Acquisition {
    /// Nobody knows: an image that may have been taken while the guest ran.
    #[default]
    Unknown,
    /// It stood still.
    Stopped,
    /// It runs while it is looked at, so what does not add up is looked at again.
    Running,
}

/// A kernel in a guest's memory beside the one that was found: one that ran before, or will if that one
/// crashes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OtherKernel {
    /// Its release.
    pub version: String,
    /// Its top page table: what [`FindOptions::kernel_at`] takes.
    pub root: Gpa,
}
