//! How wide pointers and code are in a space, and by what that is known.

use super::space::{Owner, Space, Target};
use crate::addr::{AddrRange, Address};
use crate::os::{OsError, ProcessWidth};
use crate::paging::Mode;
use crate::pointers::Width;
use crate::width::ProgramWidth;

/// How wide what is in a space is.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct SpaceWidth {
    /// Of the program whose space it is, completed by what is usual where the mode is known; all of it unknown in physical
    /// memory.
    pub width: ProgramWidth,
    /// What the operating system says of the program, where the space is a process's.
    pub told: Option<Result<ProcessWidth, OsError>>,
    /// What a snapshot says of the program it is of.
    pub kept: ProgramWidth,
    /// The paging mode, which says how wide the kernel is.
    mode: Option<Mode>,
}

/// How wide what is in a part of a space is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PartWidth {
    /// Of what the part begins with.
    pub width: ProgramWidth,
    /// The kernel's, where the part has memory of the program and of the kernel, and they are not alike.
    pub kernel: Option<ProgramWidth>,
}

impl SpaceWidth {
    fn of(
        mode: Option<Mode>,
        kept: ProgramWidth,
        told: Option<Result<ProcessWidth, OsError>>,
    ) -> Self {
        let known = match &told {
            Some(Ok(told)) => told.width,
            _ => kept,
        };
        let width = mode.map_or(known, |mode| known.or(mode.width()));
        Self {
            width,
            told,
            kept,
            mode,
        }
    }

    /// How wide the kernel is, as the paging mode has it; unknown in physical memory.
    pub fn kernel(&self) -> ProgramWidth {
        self.mode.map_or(ProgramWidth::UNKNOWN, Mode::width)
    }

    /// Whether some of the width of a process had to be taken from the paging mode, since nothing in memory tells it.
    pub fn is_assumed(&self) -> bool {
        match &self.told {
            Some(Ok(told)) => told.width.pointers.is_none() || told.width.code.is_none(),
            Some(Err(_)) => true,
            None => false,
        }
    }

    /// The width of a part of the space: the kernel's half of a process's space is as wide as the kernel.
    pub fn of_part<A: Address>(&self, part: AddrRange<A>) -> PartWidth {
        let all = PartWidth {
            width: self.width,
            kernel: None,
        };
        let Some(half) = self.mode.and_then(Mode::user_range::<A>) else {
            return all;
        };
        if !half.contains(part.start()) {
            return PartWidth {
                width: self.kernel(),
                ..all
            };
        }
        let both = !half.covers(part) && self.width != self.kernel();
        PartWidth {
            kernel: both.then(|| self.kernel()),
            ..all
        }
    }
}

impl Space<'_> {
    /// How wide pointers and code are: of a process as its program, which the operating system tells; of a snapshot as it
    /// says; of everything else as the kernel, whose paging mode tells it.
    pub fn program_width(&self) -> SpaceWidth {
        let told = match &self.owner {
            Owner::Process(system, process) => Some(system.guest().width_of(process)),
            _ => None,
        };
        let kept = match &self.target {
            Target::Saved(snapshot) => snapshot.origin().width,
            _ => ProgramWidth::UNKNOWN,
        };
        SpaceWidth::of(self.mode(), kept, told)
    }

    /// How wide the pointers of this space are: see [`Space::program_width`].
    pub fn width(&self) -> Width {
        self.program_width().width.pointers.unwrap_or_default()
    }
}
