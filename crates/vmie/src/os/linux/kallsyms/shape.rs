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

use super::tables::{Offsets, absolute, fetch, tokens_at};
use super::{Form, Kallsyms, Lengths, MAX_NAMES, TOKENS, u32_at, u64_at, walk_names};
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
const MARKER_STEP: std::ops::RangeInclusive<u64> = 0x200..=0x1_0000;

/// Finds the tables around `digits`, the address of an occurrence of [`DIGITS`].
///
/// # Errors
///
/// The step that failed, and what was seen.
pub(in crate::os::linux) fn locate<A: Address>(
    memory: &dyn Memory<Addr = A>,
    digits: A,
) -> Result<Kallsyms<A>, String> {
    let (token_table, token_index) = token_places(memory, digits)?;
    let tokens = tokens_at(memory, token_table, token_index)?;

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
        .ok_or("the names reach below address 0")?;

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
        addresses,
    })
}

/// Where the token table that contains `digits` starts, and where its index is.
fn token_places<A: Address>(memory: &dyn Memory<Addr = A>, digits: A) -> Result<(A, A), String> {
    // Tokens are a few bytes each; 16 KiB hold any real table, and fewer may be left in the region.
    let forward = [16 << 10, 4 << 10, 2 << 10]
        .into_iter()
        .find_map(|len| fetch(memory, digits, len))
        .ok_or_else(|| format!("digit tokens at {digits} with nothing behind them"))?;
    let mut end = 0;
    for _ in FIRST_DIGIT..TOKENS {
        let len = forward
            .get(end..)
            .and_then(|rest| memchr::memchr(0, rest))
            .ok_or_else(|| format!("digit tokens at {digits} are not part of a table"))?;
        end += len + 1;
    }
    // Two-byte numbers; versions differ in how they are aligned.
    for align in [2, 4, 8, 16] {
        let Some(index) = digits
            .raw()
            .checked_add(end as u64)
            .and_then(|raw| raw.checked_next_multiple_of(align))
        else {
            continue;
        };
        let at = (index - digits.raw()) as usize;
        let Some(first) = forward.get(at + 2 * FIRST_DIGIT..at + 2 * FIRST_DIGIT + 2) else {
            continue;
        };
        let first = u64::from(u16::from_le_bytes([first[0], first[1]]));
        let Some(table) = digits.checked_sub(first) else {
            continue;
        };
        if tokens_at(memory, table, A::new(index)).is_ok() {
            return Ok((table, A::new(index)));
        }
    }
    Err(format!("digit tokens at {digits} without a token index"))
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
            let markers = markers_at(back, place, width);
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
enum Width {
    Four,
    Eight,
}

impl Width {
    fn read(self, bytes: &[u8], at: usize) -> Option<u64> {
        match self {
            Self::Four => u32_at(bytes, at).map(u64::from),
            Self::Eight => u64_at(bytes, at),
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
        }
    }
}

/// The markers at `at`: as long as they rise by what 256 names can take.
fn markers_at(back: &[u8], at: usize, width: Width) -> Vec<u64> {
    let mut markers = vec![0];
    let mut last = 0_u64;
    while let Some(next) = width.read(back, at + markers.len() * width.bytes()) {
        if next
            .checked_sub(last)
            .is_none_or(|step| !MARKER_STEP.contains(&step))
        {
            break;
        }
        markers.push(next);
        last = next;
    }
    markers
}

/// The names that go with the markers at `place`.
fn names_with(
    back: &[u8],
    place: usize,
    markers: &[u64],
    width: Width,
    budget: &mut usize,
) -> Option<Names> {
    if markers.len() < 2 {
        return None;
    }
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

/// Tries every place where addresses can be.
fn addresses<A: Address>(
    memory: &dyn Memory<Addr = A>,
    token_index: A,
    num_syms: A,
    count: usize,
) -> Option<(Form, Vec<u64>)> {
    let behind = token_index.raw().checked_add(2 * TOKENS as u64)?;
    let size = (count as u64).checked_mul(4)?;
    let after = [8, 4].into_iter().find_map(|align| {
        let at = behind.checked_next_multiple_of(align)?;
        let base = at.checked_add(size)?.checked_next_multiple_of(8)?;
        let offsets = Offsets {
            at: A::new(at),
            base: Some(A::new(base)),
        };
        offsets.read(memory, count)
    });
    after
        .or_else(|| {
            let base = num_syms.raw().checked_sub(8)? & !7;
            let at = base.checked_sub(size)? & !7;
            let offsets = Offsets {
                at: A::new(at),
                base: Some(A::new(base)),
            };
            // Only from 7.0 on are offsets relative to their place, and then they are behind.
            offsets
                .read(memory, count)
                .filter(|(form, _)| *form != Form::PlaceRelative)
        })
        .or_else(|| {
            let at = num_syms.raw().checked_sub(size.checked_mul(2)?)? & !7;
            absolute(memory, A::new(at), count)
        })
}

/// Reads up to `reach` bytes that end at `end`, as far as they can be read.
fn read_back<A: Address>(memory: &dyn Memory<Addr = A>, end: A, reach: usize) -> Vec<u8> {
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
