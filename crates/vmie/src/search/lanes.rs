//! Tests every place of a window for a value: the loops that take the time.
//!
//! Values that stand side by side are tested in blocks without a branch, which the compiler makes
//! vector code of; only a block in which one passes is looked at again. Where values may stand at any
//! byte, each of the `N` ways to lay them side by side takes one pass over the window, which is in the
//! cache by then. Other alignments are rare and tested one by one.

use super::number::Test;
use super::value::ValueQuery;

/// Values in a block.
const BLOCK: usize = 64;

/// Where in a window values are tested.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// Offset of the first aligned place.
    pub(super) first: usize,
    /// Distance between places.
    pub(super) align: usize,
    /// Values start before this offset.
    pub(super) owned: usize,
}

/// Passes offset and bits of each value that is searched for to `push`, in no particular order, until
/// that answers `false`.
pub(super) fn each(
    query: &ValueQuery,
    bytes: &[u8],
    places: Places,
    push: &mut impl FnMut(usize, u64) -> bool,
) {
    /// Over one width, with the arithmetic of that width.
    macro_rules! integers {
        ($number:ty, $flip:expr, $low:expr, $span:expr) => {{
            let (flip, low, span) = ($flip as $number, $low as $number, $span as $number);
            let test = |lane| (<$number>::from_le_bytes(lane) ^ flip).wrapping_sub(low) <= span;
            lanes(bytes, places, test, &mut |at, lane| {
                push(at, u64::from(<$number>::from_le_bytes(lane)))
            });
        }};
    }
    macro_rules! floats {
        ($number:ty, $test:expr) => {{
            let test = |lane| $test(f64::from(<$number>::from_le_bytes(lane)));
            lanes(bytes, places, test, &mut |at, lane| {
                push(at, u64::from(<$number>::from_le_bytes(lane).to_bits()))
            });
        }};
    }
    match (query.test, query.ty.size()) {
        (Test::Integer { flip, low, span }, 1) => integers!(u8, flip, low, span),
        (Test::Integer { flip, low, span }, 2) => integers!(u16, flip, low, span),
        (Test::Integer { flip, low, span }, 4) => integers!(u32, flip, low, span),
        (Test::Integer { flip, low, span }, _) => integers!(u64, flip, low, span),
        (Test::Real { low, high }, 4) => floats!(f32, |value| low <= value && value <= high),
        (Test::Real { low, high }, _) => floats!(f64, |value| low <= value && value <= high),
        (Test::Nan, 4) => floats!(f32, f64::is_nan),
        (Test::Nan, _) => floats!(f64, f64::is_nan),
    }
}

fn lanes<const N: usize>(
    bytes: &[u8],
    places: Places,
    test: impl Fn([u8; N]) -> bool,
    push: &mut impl FnMut(usize, [u8; N]) -> bool,
) {
    let Places {
        first,
        align,
        owned,
    } = places;
    // No value starts behind this.
    let end = bytes.len().min(owned.saturating_add(N - 1));
    if align > N || !N.is_multiple_of(align) {
        let mut at = first;
        while let Some(lane) = bytes[..end].get(at..).and_then(|rest| rest.first_chunk()) {
            if test(*lane) && !push(at, *lane) {
                return;
            }
            at += align;
        }
        return;
    }
    for start in (first..first + N).step_by(align) {
        let Some(part) = bytes[..end].get(start..) else {
            return;
        };
        let mut at = start;
        for block in part.as_chunks::<N>().0.chunks(BLOCK) {
            if block.iter().fold(false, |any, lane| any | test(*lane)) {
                for (i, lane) in block.iter().enumerate() {
                    if test(*lane) && !push(at + i * N, *lane) {
                        return;
                    }
                }
            }
            at += block.len() * N;
        }
    }
}
