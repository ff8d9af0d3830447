//! What is known about a source, as data.

use std::fmt;

use crate::addr::{AddrRange, Gpa};
use crate::hints::Hints;
use crate::image::{Advice, ImageInfo, Layout};
use crate::os::RamCount;

/// What is known about a source, whatever its kind.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SourceInfo {
    /// Its format in one word; `qemu` for a running guest.
    pub format: String,
    /// Bytes of the file, or of memory where there is no file.
    pub size: u64,
    /// Physical memory that there should be, ascending.
    pub ranges: Vec<AddrRange<Gpa>>,
    /// What it says of the guest: its CPUs, where they are known, and what leads to its kernel.
    pub hints: Hints,
    /// Whether the memory may change while it is read.
    pub live: bool,
    /// Oddities met while opening.
    pub notes: Vec<String>,
    /// What the notes say to try.
    pub advice: Vec<Advice>,
    /// How a raw image is laid out; `None` where the source says so itself, or builds on others.
    pub layout: Option<LayoutInfo>,
}

impl From<&ImageInfo> for SourceInfo {
    fn from(info: &ImageInfo) -> Self {
        Self {
            format: info.format.to_string(),
            size: info.size,
            ranges: info.ranges.clone(),
            hints: info.hints.clone(),
            live: info.live,
            notes: info.notes.clone(),
            advice: info.advice.clone(),
            layout: None,
        }
    }
}

/// How a raw image is laid out, and how that is known.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LayoutInfo {
    /// The layout that is used.
    pub layout: Layout,
    /// How it is known.
    pub known: LayoutKnown,
    /// Layouts that may be right as well, where it is not known.
    pub others: Vec<Layout>,
}

/// How it is known how a raw image is laid out. Displayed, it says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LayoutKnown {
    /// Whoever opened it said so.
    Given,
    /// There is no other plausible one for its size.
    Only,
    /// So many page tables in the part of memory about which layouts differ are where others say they are.
    Tables(u64),
    /// It has what the operating system counts as RAM.
    Count(RamCount),
    /// Under all others, what page tables lead to is none.
    Others,
    /// It is not known: nothing was found yet that tells.
    Open,
}

impl LayoutInfo {
    /// As whoever opened the image said.
    pub(super) fn given(layout: Layout) -> Self {
        Self {
            layout,
            known: LayoutKnown::Given,
            others: Vec::new(),
        }
    }

    /// Whether the layout is more than a guess.
    pub fn is_known(&self) -> bool {
        self.known != LayoutKnown::Open
    }
}

impl fmt::Display for LayoutInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known {
            LayoutKnown::Open => write!(
                f,
                "how RAM lies in the file is not known ({}): taken as {}; if addresses look wrong, {}",
                self.known,
                self.layout,
                Advice::SayMachine
            ),
            known => write!(f, "laid out as {}: {known}", self.layout),
        }
    }
}

impl fmt::Display for LayoutKnown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given => f.write_str("as it was given"),
            Self::Only => f.write_str("no other is plausible for its size"),
            Self::Tables(1) => f.write_str(
                "a page table in the part of memory about which layouts differ is where others say it is",
            ),
            Self::Tables(count) => write!(
                f,
                "{count} page tables in the part of memory about which layouts differ are where others say they are"
            ),
            Self::Count(RamCount { low_end, end }) => match low_end {
                Some(low_end) if end > low_end => write!(
                    f,
                    "the operating system counts RAM up to {low_end}, and from 4 GiB up to {end}"
                ),
                _ => write!(f, "the operating system counts RAM up to {end}"),
            },
            Self::Others => f.write_str("under all others page tables lead to what is none"),
            Self::Open => f.write_str("nothing was found that tells"),
        }
    }
}
