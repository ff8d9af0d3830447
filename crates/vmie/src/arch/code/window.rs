//! A piece of code as an architecture sees it.

use crate::addr::Gva;

/// A piece of code at a known address, with what surrounds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodeWindow<'b> {
    /// The address of the first byte.
    pub(crate) start: Gva,
    /// The bytes: those that are owned, and the look-ahead. It is shorter than
    /// [`Limits::overlap`](super::Limits) only where memory ends.
    pub(crate) bytes: &'b [u8],
    /// How many of `bytes` belong to this window. What starts in the others, another window finds.
    pub(crate) owned: usize,
    /// The look-behind: the bytes before `start`. It is shorter than [`Limits::behind`](super::Limits) only
    /// where memory begins.
    pub(crate) before: &'b [u8],
}

impl<'b> CodeWindow<'b> {
    /// Bytes that are all there is.
    pub(crate) fn alone(start: Gva, bytes: &'b [u8]) -> Self {
        Self {
            start,
            bytes,
            owned: bytes.len(),
            before: &[],
        }
    }
}
