//! Page tables: their formats as data, the walk over them, and the address space they describe.

mod detect;
mod enumerate;
#[cfg(test)]
mod naive;
mod roots;
mod software;
mod space;
mod tables;
#[cfg(test)]
mod tests;
mod viewed;
mod walk;

pub use crate::arch::{
    Above, EntryKind, Flag, Level, Mode, Rights, Spec, Target, Test, UnknownMode,
};
pub use detect::{DetectError, Detection, detect};
pub use enumerate::{Extent, ExtentItem, ExtentWalk, RegionWalk};
pub use roots::Roots;
pub use software::{Backing, Bits, Elsewhere, Form, Frame, Meaning, SoftwareEntries};
pub use space::{AddressSpace, Mapping, Step, Walk};
pub(crate) use tables::{Look, each_table};
pub use walk::{SelfRef, WalkStats};
