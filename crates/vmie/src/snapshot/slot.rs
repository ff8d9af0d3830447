//! What stands for the content of a page.

/// Where the content of a page is: its number among the contents, or [`ZERO`].
pub(super) type Slot = u32;

/// The content of all pages that are zero.
pub(super) const ZERO: Slot = Slot::MAX;

/// The slot of each page that was kept.
pub(super) type Slots = Vec<Slot>;
