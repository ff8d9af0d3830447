//! Known bytes that a window may begin with, as the choice among them sees them.

/// Bytes in a gram.
pub(super) const GRAM: usize = 4;

/// A window of known bytes that may be chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Literal {
    pub(super) bytes: [u8; GRAM],
    /// The stretch of its signature that it is in, and where it begins there.
    pub(super) stretch: usize,
    pub(super) index: usize,
    /// Expected tests for each byte searched.
    pub(super) chance: f32,
}
