//! Where the translation of an address begins.

use crate::addr::{Address, Gpa};

/// The root tables of an address space.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Roots {
    /// One for all addresses.
    One(Gpa),
    /// One for the lower half of the space and one for the upper one, where the top bit is set: AArch64's TTBR0 and TTBR1, which
    /// are of one format here. A half whose root is not known cannot be translated, like what is not canonical.
    Halves {
        /// That of the lower half, a process's own.
        lower: Option<Gpa>,
        /// That of the upper half, the kernel's.
        upper: Option<Gpa>,
    },
}

impl Roots {
    /// The root that translates addresses of the lower (`false`) or the upper half.
    pub const fn of_half(self, upper: bool) -> Option<Gpa> {
        match (self, upper) {
            (Self::One(root), _) => Some(root),
            (Self::Halves { lower, .. }, false) => lower,
            (Self::Halves { upper, .. }, true) => upper,
        }
    }

    /// The root that tells spaces apart: the only one, or that of the lower half, or else that of the upper one.
    pub const fn first(self) -> Option<Gpa> {
        match self.of_half(false) {
            Some(root) => Some(root),
            None => self.of_half(true),
        }
    }

    /// The same with another root of a process: where there are two, the upper half stays.
    #[must_use]
    pub const fn with_process(self, root: Gpa) -> Self {
        match self {
            Self::One(_) => Self::One(root),
            Self::Halves { upper, .. } => Self::Halves {
                lower: Some(root),
                upper,
            },
        }
    }

    /// With only those bits of each that locate a table.
    pub(super) fn masked(self, mask: u64) -> Self {
        let only = |root: Gpa| Gpa(root.raw() & mask);
        match self {
            Self::One(root) => Self::One(only(root)),
            Self::Halves { lower, upper } => Self::Halves {
                lower: lower.map(only),
                upper: upper.map(only),
            },
        }
    }
}

impl From<Gpa> for Roots {
    fn from(root: Gpa) -> Self {
        Self::One(root)
    }
}
