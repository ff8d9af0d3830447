//! A set with what it needs to work through many pieces of bytes.

use super::{Hit, Set};
use crate::sweep::Found;

/// Finds a set in one piece of bytes after another, in memory that is taken once.
///
/// [`scan`](crate::scan::scan()) does all of this for a memory. A matcher is for bytes from anywhere else:
/// packets, files, the pages of another tool. Each thread makes its own; they share the set.
///
/// ```
/// use vmie::signature::{Hit, Matcher, Set, Signature};
///
/// let set = Set::compile(vec![Signature::parse("call", "E8 ?? ?? ?? ?? 48")?])?;
/// let mut matcher = Matcher::new(&set);
/// let pages: [&[u8]; 3] = [b"\xe8\x10\0\0\0\x48", b"nothing", b".\xe8\x20\0\0\0\x48\x89"];
/// let mut found = Vec::new();
/// for (number, page) in pages.iter().enumerate() {
///     for hit in matcher.find(page) {
///         found.push((number, hit.offset));
///     }
/// }
/// assert_eq!(found, [(0, 0), (2, 1)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A stream is worked through in pieces that overlap by [`Set::max_len`] less one byte; with
/// [`Matcher::find_owned`] a match belongs to the piece in which it starts:
///
/// ```
/// # use vmie::signature::{Matcher, Set, Signature};
/// let set = Set::compile(vec![Signature::parse("end", "\"needle\"")?])?;
/// let mut matcher = Matcher::new(&set);
/// let stream = b"..needle....needleneedle";
/// let (piece, overlap) = (4, set.max_len() - 1);
/// let mut found = Vec::new();
/// for start in (0..stream.len()).step_by(piece) {
///     let end = (start + piece + overlap).min(stream.len());
///     let hits = matcher.find_owned(&stream[start..end], piece);
///     found.extend(hits.iter().map(|hit| start + hit.offset));
/// }
/// assert_eq!(found, [2, 12, 18]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Matcher<'s> {
    set: &'s Set,
    found: Found<Hit>,
}

impl<'s> Matcher<'s> {
    /// For bytes that one trusts not to match everywhere: as many matches as there are, which can be as
    /// many as bytes times signatures.
    pub fn new(set: &'s Set) -> Self {
        Self::with_limit(set, usize::MAX)
    }

    /// Holds at most `limit` matches, see [`Matcher::is_full`].
    pub fn with_limit(set: &'s Set, limit: usize) -> Self {
        Self {
            set,
            found: Found::with_limit(limit),
        }
    }

    /// The set.
    pub fn set(&self) -> &'s Set {
        self.set
    }

    /// All matches in `bytes`, overlapping ones too, by offset, then by signature.
    ///
    /// They stay until the next call. Their list is allocated where it has to grow, and kept.
    pub fn find(&mut self, bytes: &[u8]) -> &[Hit] {
        self.find_owned(bytes, bytes.len())
    }

    /// As [`Matcher::find`], only matches that start in `bytes[..owned]`. More owned bytes than there
    /// are count as all.
    pub fn find_owned(&mut self, bytes: &[u8], owned: usize) -> &[Hit] {
        self.found.clear();
        self.set.find_raw(bytes, owned, &mut self.found);
        self.found.items()
    }

    /// Whether the last call had to drop matches because of the limit. Those kept are then any of
    /// them, not the first ones; half as many bytes may have few enough.
    pub fn is_full(&self) -> bool {
        self.found.is_full()
    }
}
