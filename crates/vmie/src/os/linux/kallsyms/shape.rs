//! Tables that nobody pointed at: find them by their shape.
//!
//! 1. Every kernel has symbols with each digit in them, so the tokens `0x30` to `0x39` are the digits
//!    themselves, and the token table contains [`DIGITS`]. That is what memory is searched for.
//! 2. From there, forward over the remaining tokens to the token index; it says where the table starts,
//!    and must equal the recomputed one.
//! 3. Backward to the markers: a zero and then rising numbers.
//! 4. The markers bound where the names start, which is just behind the number of symbols. All names
//!    are stepped over, each marker must be met, and the names must end where the markers start.
//! 5. Addresses are either behind the token index or before the number of symbols.

use super::tables::{absolute, fetch_up_to, from_base, from_places_of_their_own, tokens_at};
use super::{
    Form, Kallsyms, Lengths, MAX_NAMES, Piece, TOKENS, Tokens, u32_at, u64_at, walk_names,
};
use crate::addr::Address;
use crate::memory::Memory;

/// What to search memory for: the ten digit tokens.
pub(in crate::os::linux) const DIGITS: &[u8; 20] =
    b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00";

/// Number of the token `0`.
const FIRST_DIGIT: usize = b'0' as usize;

/// How many places for names are tried, and names stepped over, before giving up on one occurrence of
/// [`DIGITS`]. A real kernel takes a tenth of this; a hostile one could make it take hours.
const BUDGET: usize = 20_000_000;

/// How far apart markers are: 256 names of two bytes at least, and no more than they ever took.
pub(super) const MARKER_STEP: std::ops::RangeInclusive<u64> = 0x200..=0x1_0000;

/// Why there are no tables around a run of digits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::os::linux) enum NotFound {
    /// The digits are not part of a token table: they are something else.
    NoTable,
    /// They are, but the rest did not verify: the step that failed, and what was seen.
    Table(String),
}

impl From<String> for NotFound {
    fn from(seen: String) -> Self {
        Self::Table(seen)
    }
}

/// Finds the tables around `digits`, the address of an occurrence of [`DIGITS`].
///
/// # Errors
///
/// The step that failed, and what was seen.
pub(in crate::os::linux) fn locate<A: Address>(
    memory: &dyn Memory<Addr = A>,
    digits: A,
) -> Result<Kallsyms<A>, NotFound> {
    let (token_table, token_index, tokens) =
        token_places(memory, digits).ok_or(NotFound::NoTable)?;

    // The usual kernel needs two megabytes here; look further only when that was not enough.
    let mut found = None;
    for reach in [4 << 20, MAX_NAMES] {
        let back = read_back(memory, token_table, reach);
        found = names_before(&back).map(|names| {
            let compressed = back[names.start..names.end].to_vec();
            let before = back.len() - names.start;
            (names, compressed, before)
        });
        if found.is_some() || back.len() < reach {
            break;
        }
    }
    let (names, compressed, names_back) = found.ok_or_else(|| {
        format!("no markers and names that fit each other before the token table at {token_table}")
    })?;
    let num_syms = token_table
        .checked_sub((names_back + names.head) as u64)
        .ok_or_else(|| format!("the names before {token_table} reach below address 0"))?;

    let (form, addresses) =
        addresses(memory, token_index, num_syms, names.count).ok_or_else(|| {
            format!(
                "no addresses for the {} names before {token_table}",
                names.count
            )
        })?;
    Ok(Kallsyms {
        token_table,
        form,
        tokens,
        names: compressed,
        lengths: names.lengths,
        pieces: vec![Piece {
            first: 0,
            count: names.count,
            at: 0,
        }],
        damaged: false,
        addresses,
    })
}

/// Where the token table that contains `digits` starts, where its index is, and the tokens.
pub(super) fn token_places<A: Address>(
    memory: &dyn Memory<Addr = A>,
    digits: A,
) -> Option<(A, A, Tokens)> {
    // Tokens are a few bytes each; 16 KiB hold any real table.
    let forward = fetch_up_to(memory, digits, 16 << 10);
    let mut end = 0;
    for _ in FIRST_DIGIT..TOKENS {
        end += memchr::memchr(0, forward.get(end..)?)? + 1;
    }
    // Two-byte numbers; versions differ in how they are aligned.
    [2, 4, 8, 16].into_iter().find_map(|align| {
        let index = digits
            .raw()
            .checked_add(end as u64)?
            .checked_next_multiple_of(align)?;
        let entry = (index - digits.raw()) as usize + 2 * FIRST_DIGIT;
        let before = forward.get(entry..entry + 2)?;
        let before = u64::from(u16::from_le_bytes([before[0], before[1]]));
        let (table, index) = (digits.checked_sub(before)?, A::new(index));
        let tokens = tokens_at(memory, table, index).ok()?;
        Some((table, index, tokens))
    })
}

/// What was found before a token table.
struct Names {
    /// Where the names start and end in what was searched.
    start: usize,
    end: usize,
    /// How many bytes before `start` the number of symbols is.
    head: usize,
    count: usize,
    lengths: Lengths,
}

/// Looks for markers and names in `back`, which ends where the token table starts.
fn names_before(back: &[u8]) -> Option<Names> {
    // Tables are aligned to 4 at least, and so is the end of `back`.
    let mut budget = BUDGET;
    let mut at = back.len() & !3;
    let skew = back.len() - at;
    while at >= 4 && budget > 0 {
        at -= 4;
        let place = at + skew;
        if u32_at(back, place) != Some(0) {
            continue;
        }
        let found = [Width::Four, Width::Eight].into_iter().find_map(|width| {
            let markers = markers_at(back, place, width)?;
            names_with(back, place, &markers, width, &mut budget)
        });
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Size of a marker, and of the number of symbols.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Four,
    Eight,
}

impl Width {
    pub(super) fn read(self, bytes: &[u8], at: usize) -> Option<u64> {
        match self {
            Self::Four => u32_at(bytes, at).map(u64::from),
            Self::Eight => u64_at(bytes, at),
        }
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
        }
    }
}

/// The markers at `at`, where there is a zero: as long as they rise by what 256 names can take, two at least.
///
/// Most of memory is zeros, so a place without a second marker must not cost an allocation.
pub(super) fn markers_at(back: &[u8], at: usize, width: Width) -> Option<Vec<u64>> {
    let marker = |number: usize, last: u64| {
        let next = width.read(back, at + number * width.bytes())?;
        let step = next.checked_sub(last)?;
        MARKER_STEP.contains(&step).then_some(next)
    };
    let mut last = marker(1, 0)?;
    let mut markers = vec![0, last];
    while let Some(next) = marker(markers.len(), last) {
        markers.push(next);
        last = next;
    }
    Some(markers)
}

/// The names that go with the markers at `place`.
fn names_with(
    back: &[u8],
    place: usize,
    markers: &[u64],
    width: Width,
    budget: &mut usize,
) -> Option<Names> {
    // What follows the markers may happen to go on rising, once or twice.
    let counts = (markers.len().saturating_sub(3) * 256 + 1) as u64..=(markers.len() * 256) as u64;
    let last = usize::try_from(*markers.last()?).ok()?;
    let shortest = usize::try_from(*markers.get(markers.len().saturating_sub(3))?).ok()?;
    let longest = last.checked_add(usize::try_from(*MARKER_STEP.end()).ok()? + 16)?;
    let nearest = place.checked_sub(shortest)?;
    let farthest = place.saturating_sub(longest);

    // `head`: where the names start behind the number of symbols.
    let heads: &[usize] = match width {
        Width::Four => &[8, 4],
        Width::Eight => &[8],
    };
    let mut start = nearest & !3 | place & 3;
    while start >= farthest.max(8) {
        *budget = budget.checked_sub(1)?;
        for &head in heads {
            let Some(count) = width.read(back, start - head) else {
                continue;
            };
            if !counts.contains(&count) {
                continue;
            }
            for lengths in [Lengths::Long, Lengths::Byte] {
                let names = &back[start..place];
                let mut met = 0;
                let fits = |i: usize, at: usize| {
                    met = i;
                    markers.get(i) == Some(&(at as u64))
                };
                let walked = walk_names(names, count as usize, lengths, fits);
                *budget = budget.checked_sub(met * 256)?;
                let Some(len) = walked else {
                    continue;
                };
                let padding = &names[len..];
                if padding.len() < 16 && padding.iter().all(|&b| b == 0) {
                    return Some(Names {
                        start,
                        end: start + len,
                        head,
                        count: count as usize,
                        lengths,
                    });
                }
            }
        }
        let Some(next) = start.checked_sub(4) else {
            break;
        };
        start = next;
    }
    None
}

/// Tries every place where addresses can be, the arrangements that say most about themselves first.
fn addresses<A: Address>(
    memory: &dyn Memory<Addr = A>,
    token_index: A,
    num_syms: A,
    count: usize,
) -> Option<(Form, Vec<u64>)> {
    let size = (count as u64).checked_mul(4)?;
    let behind = token_index.raw().checked_add(2 * TOKENS as u64)?;
    let behind = |align| behind.checked_next_multiple_of(align);

    let offsets_behind = || {
        let at = behind(8)?;
        let base = at.checked_add(size)?.checked_next_multiple_of(8)?;
        from_base(memory, A::new(at), A::new(base), count)
    };
    let offsets_before = || {
        let base = num_syms.raw().checked_sub(8)? & !7;
        let at = base.checked_sub(size)? & !7;
        from_base(memory, A::new(at), A::new(base), count)
    };
    let absolute_before = || {
        let at = num_syms.raw().checked_sub(size.checked_mul(2)?)? & !7;
        absolute(memory, A::new(at), count)
    };
    let place_relative_behind = || from_places_of_their_own(memory, A::new(behind(4)?), count);
    offsets_behind()
        .or_else(offsets_before)
        .or_else(absolute_before)
        .or_else(place_relative_behind)
}

/// Reads up to `reach` bytes that end at `end`, as far as they can be read.
pub(super) fn read_back<A: Address>(
    memory: &dyn Memory<Addr = A>,
    end: A,
    reach: usize,
) -> Vec<u8> {
    let reach = reach.min(usize::try_from(end.raw()).unwrap_or(reach));
    let mut bytes = vec![0; reach];
    let mut from = reach;
    for step in [256 << 10, 4 << 10] {
        // Align the first piece, so that later ones do not straddle pages.
        while from > 0 {
            let here = end.raw() - (reach - from) as u64;
            let within = (here & (step as u64 - 1)) as usize;
            let len = if within == 0 { step } else { within }.min(from);
            let at = A::new(here - len as u64);
            if memory.read(at, &mut bytes[from - len..from]).is_err() {
                break;
            }
            from -= len;
        }
    }
    bytes.drain(..from);
    bytes
}
