//! Where the translation of an address begins.

use crate::addr::{Address, Gpa, Gva};

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
    fn masked(self, mask: u64) -> Self {
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

/// The roots as translations look them up, by the top bit of an address.
#[derive(Clone, Copy)]
pub(super) struct Tops {
    halves: [Gpa; 2],
    /// Whether both are one.
    one: bool,
}

impl Tops {
    /// Stands for a root that is not known: no bits that locate a table are so high. Smaller than an option, and one load
    /// less on the way of each translation.
    const UNKNOWN: Gpa = Gpa(!0xfff);

    /// Of these roots, with only those bits of each that locate a table.
    pub(super) fn new(roots: Roots, mask: u64) -> Self {
        let roots = roots.masked(mask);
        Self {
            halves: [false, true].map(|upper| roots.of_half(upper).unwrap_or(Self::UNKNOWN)),
            one: matches!(roots, Roots::One(_)),
        }
    }

    /// Where the translation of an address begins, if that is known.
    #[inline]
    pub(super) fn known(&self, va: Gva) -> Option<Gpa> {
        let root = self.halves[(va.raw() >> 63) as usize];
        Some(root).filter(|&root| root != Self::UNKNOWN)
    }

    /// The root that tells spaces apart: see [`Roots::first`].
    pub(super) fn first(&self) -> Gpa {
        self.roots().first().unwrap_or_default()
    }

    /// The roots.
    pub(super) fn roots(&self) -> Roots {
        let known = |root: Gpa| Some(root).filter(|&root| root != Self::UNKNOWN);
        let [lower, upper] = self.halves;
        match self.one {
            true => Roots::One(lower),
            false => Roots::Halves {
                lower: known(lower),
                upper: known(upper),
            },
        }
    }
}

impl From<Gpa> for Roots {
    fn from(root: Gpa) -> Self {
        Self::One(root)
    }
}
