//! What to try, as data.

use std::fmt;

/// What to try where something is odd about an image, or it cannot be opened. Displayed, it says so in words of what is meant;
/// whoever talks to people may word it as they give such things: as an option, an argument, a field.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Advice {
    /// Something that is done elsewhere, in words.
    Other(&'static str),
    /// To give the file that was saved with it as the source, and this one as its state
    /// ([`OpenOptions::state`](super::OpenOptions::state)).
    AsState,
    /// To give the file that Firecracker saved as `snapshot_path` as the state.
    GiveState,
    /// To do without the state: with a layout ([`OpenOptions::layout`](super::OpenOptions::layout)).
    LayoutWithoutState,
    /// To give the file that belongs to it, with a layout where RAM is more than 3 GiB.
    VmwareMemory,
    /// To say how raw memory lies in the file, to read it as that all the same.
    RawWithLayout,
    /// To say which machine it was, or its layout.
    SayMachine,
    /// To give the file that this one builds on ([`OpenOptions::bases`](super::OpenOptions::bases)).
    GiveBase,
    /// To say that there are zeros under it.
    ZerosBelow,
    /// To give the image, and this file as an index of its pointers.
    AsIndex,
    /// To give the image, and this file as candidates of a search in it.
    AsCandidates,
    /// To give the image that it lies beside, and have it used.
    AsCache,
    /// To give the image, and this file as the types of its kernel.
    AsTypes,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Other(words) => words,
            Self::AsState => {
                "give the memory file that was saved with it as the source, and this file as its state"
            }
            Self::GiveState => "give the file that was saved as snapshot_path as the state",
            Self::LayoutWithoutState => {
                "without this file the memory file can be read with a layout (the CPUs are unknown then)"
            }
            Self::VmwareMemory => {
                "give the .vmem file that belongs to it; where RAM is more than 3 GiB, with a layout \
                 that leaves out what lies from 3 to 4 GiB"
            }
            Self::RawWithLayout => {
                "give a memory image of the guest; to read this file as raw memory all the same, give \
                 its layout"
            }
            Self::SayMachine => "say which machine it was, or its layout",
            Self::GiveBase => "give the file under it",
            Self::ZerosBelow => "say that there are zeros under it",
            Self::AsIndex => "give the image, and this file as an index of its pointers",
            Self::AsCandidates => "give the image, and this file as candidates",
            Self::AsCache => "give the image that it lies beside",
            Self::AsTypes => "give the image, and this file as the types of its kernel",
        })
    }
}
