//! What is left of tables of which parts are overwritten or missing.
//!
//! Nothing is believed for its own sake here either; what differs from a whole table is that each part
//! is checked by itself:
//!
//! * *Names* come in groups of 256, whose starts the markers tell. A group that ends where the next one
//!   starts is whole. Of another one, names are kept from its start up to the page in which they stop
//!   making sense, and from behind that page, counted back from its end.
//! * *Addresses* ascend. The longest ascending sequence is kept, and what stands out of it is lost.
//! * *Tokens* are told by the index or by their NULs, whichever is whole. Names with a token that is
//!   lost are lost.
//!
//! Numbers (how many symbols, the base of offsets) are told by what they count and move.

use std::cell::Cell;

use super::shape::{MARKER_STEP, NotFound, Width, markers_at, read_back, token_places};
use super::tables::{Places, fetch, fetch_up_to};
use super::{
    Form, IMAGE_LAST, IMAGE_START, Kallsyms, LOST, Lengths, MAX_NAMES, Piece, TOKENS, Tokens,
    next_name, u32_at,
};
use crate::addr::{Address, Gva};
use crate::memory::{Memory, read_around_holes};

const PAGE: usize = crate::addr::PAGE_SIZE as usize;

/// No symbol of a kernel takes more tokens than this, as far as damage is told by it.
const MAX_TOKENS: usize = 120;

/// Names that are dropped behind damage: a walk that started between names may take some to fall in step.
const IN_STEP: usize = 3;

/// How many names are stepped over, and markers compared, before no more of what is damaged is looked
/// for. A real kernel with a tenth of its pages damaged takes a tenth of this.
const BUDGET: usize = 200_000_000;

/// How many names are taken apart to find the base of offsets.
const MAX_BASES: usize = 4096;

/// At least this part of all groups must be whole, in one of so many.
const LEAST_WHOLE: usize = 3;

/// Reads what is left of the tables at `places`. `known` are symbols whose addresses are known
/// otherwise, which tell the base of offsets when it is lost.
///
/// # Errors
///
/// What is damaged too much.
pub(in crate::os::linux) fn from_damaged_places<A: Address>(
    memory: &dyn Memory<Addr = A>,
    places: &Places<A>,
    known: &[(&str, Gva)],
) -> Result<Kallsyms<A>, String> {
    let room = between(places.names, places.token_table, MAX_NAMES).ok_or_else(|| {
        format!(
            "kallsyms_names at {} is not followed by the token table at {}",
            places.names, places.token_table
        )
    })?;
    let tokens = tokens(memory, places.token_table, places.token_index)?;
    let count = memory.read_u32(places.num_syms).ok();
    let offsets = match places.relative_base {
        Some(base) => {
            let told = between(places.offsets, base, MAX_NAMES).map(|len| len / 4);
            Offsets {
                at: places.offsets,
                base: memory.read_u64(base).ok(),
                room: told,
            }
        }
        None => Offsets {
            at: places.offsets,
            base: None,
            room: None,
        },
    };
    let place_relative = places.relative_base.is_none();
    let table = Table {
        memory,
        tokens,
        names: places.names,
        bytes: fetch_around(memory, places.names, room),
        budget: Cell::new(BUDGET),
    };
    let forms: &[Form] = match place_relative {
        true => &[Form::PlaceRelative],
        false => &[Form::BaseWithPerCpu, Form::Base],
    };
    let told = count.map(|count| count as usize);
    table.read(
        places.token_table,
        told.filter(|&count| count > 0 && count <= room),
        &[(offsets, forms)],
        known,
    )
}

/// Reads what is left of the tables around `digits`, the address of an occurrence of the digit tokens.
///
/// # Errors
///
/// What is damaged too much.
pub(in crate::os::linux) fn around_digits<A: Address>(
    memory: &dyn Memory<Addr = A>,
    digits: A,
) -> Result<Kallsyms<A>, NotFound> {
    /// Usual tables have two megabytes.
    const REACH: usize = 4 << 20;
    let (token_table, token_index, tokens) = token_places(memory, digits)
        .or_else(|| tokens_by_text(memory, digits))
        .ok_or(NotFound::NoTable)?;
    let back = read_back(memory, token_table, REACH);
    let names = names_before(&back).ok_or_else(|| {
        format!("too little of names and markers is left before the token table at {token_table}")
    })?;
    let start = A::new(token_table.raw() - (back.len() - names) as u64);
    let told = [8, 4]
        .into_iter()
        .filter_map(|head| u32_at(&back, names.checked_sub(head)?))
        .find(|&count| count > 0 && count as usize <= back.len() - names);
    let table = Table {
        memory,
        tokens,
        names: start,
        bytes: back[names..].to_vec(),
        budget: Cell::new(BUDGET),
    };
    let groups = table.groups(told.map(|count| count as usize));
    let count = groups.as_ref().map_or(0, |groups| groups.count);
    let behind = token_index.raw() + 2 * TOKENS as u64;
    let offsets_at = |at: u64, base: Option<u64>| Offsets {
        at: A::new(at),
        base: base.and_then(|base| memory.read_u64(A::new(base)).ok()),
        room: Some(count),
    };
    let size = 4 * count as u64;
    let after = behind.next_multiple_of(8);
    let base_after = (after + size).next_multiple_of(8);
    let base_before = start.raw().saturating_sub(16) & !7;
    let before = base_before.saturating_sub(size) & !7;
    let based: &[Form] = &[Form::BaseWithPerCpu, Form::Base];
    let found = table.read(
        token_table,
        Some(count).filter(|&count| count > 0),
        &[
            (offsets_at(after, Some(base_after)), based),
            (offsets_at(before, Some(base_before)), based),
            (
                offsets_at(behind.next_multiple_of(4), None),
                &[Form::PlaceRelative],
            ),
        ],
        &[],
    );
    Ok(found?)
}

fn between<A: Address>(from: A, to: A, most: usize) -> Option<usize> {
    let len = usize::try_from(to.offset_from(from)?).ok()?;
    (len > 0 && len <= most).then_some(len)
}

/// The bytes from `at` on; zeros for what cannot be read.
fn fetch_around<A: Address>(memory: &dyn Memory<Addr = A>, at: A, len: usize) -> Vec<u8> {
    if let Some(bytes) = fetch(memory, at, len) {
        return bytes.into_owned();
    }
    let mut bytes = vec![0; len];
    let mut holes = Vec::new();
    read_around_holes(memory, at, &mut bytes, PAGE as u64, |at, len, _| {
        holes.push(at..at + len);
    });
    for hole in holes {
        bytes[hole].fill(0);
    }
    bytes
}

/// The tokens of a table of which parts may be damaged.
fn tokens<A: Address>(memory: &dyn Memory<Addr = A>, table: A, index: A) -> Result<Tokens, String> {
    let room = between(table, index, 1 << 16).ok_or_else(|| {
        format!("the token index at {index} does not follow the table at {table}")
    })?;
    let text = fetch_around(memory, table, room);
    let index = fetch_around(memory, index, 2 * TOKENS);
    let is_token = |token: &[u8]| !token.is_empty() && token.iter().all(u8::is_ascii_graphic);
    let by_index = || {
        let mut starts = [0_u16; TOKENS];
        let mut lost = [true; TOKENS];
        for number in 0..TOKENS {
            let start = u16::from_le_bytes([index[2 * number], index[2 * number + 1]]);
            let from = usize::from(start);
            let len = text.get(from..).and_then(|text| memchr::memchr(0, text));
            let Some(len) = len else {
                continue;
            };
            let after_nul = from == 0 || text[from - 1] == 0;
            let next = match index.get(2 * number + 2..2 * number + 4) {
                Some(next) => usize::from(u16::from_le_bytes([next[0], next[1]])),
                None => from + len + 1,
            };
            if after_nul && next == from + len + 1 && is_token(&text[from..from + len]) {
                starts[number] = start;
                lost[number] = false;
            }
        }
        Tokens {
            text: text.clone(),
            starts,
            lost: Some(Box::new(lost)),
        }
    };
    let found = match Tokens::parse(&text) {
        Some((whole, _)) if (0..=255).all(|token| is_token(whole.get(token))) => whole,
        _ => by_index(),
    };
    let left = (0..=255).filter(|&token| !found.is_lost(token)).count();
    match left >= TOKENS / 4 {
        true => Ok(found),
        false => Err(format!(
            "the token table at {table} and its index are damaged: {left} of {TOKENS} tokens are left"
        )),
    }
}

/// The tokens around `digits`, by their NULs: for a table whose index is damaged. The first one starts where a
/// table can, behind the end of another table.
fn tokens_by_text<A: Address>(memory: &dyn Memory<Addr = A>, digits: A) -> Option<(A, A, Tokens)> {
    const REACH: usize = 8 << 10;
    let before = read_back(memory, digits, REACH);
    let mut nuls = memchr::memrchr_iter(0, &before);
    // The NUL of the last token before the digits, and of each before it; then what is before the first.
    let start = nuls.nth(usize::from(b'0'))? + 1;
    let table = digits.checked_sub((before.len() - start) as u64)?;
    let mut text = before[start..].to_vec();
    text.extend_from_slice(&fetch_up_to(memory, digits, 16 << 10));
    let (tokens, len) = Tokens::parse(&text)?;
    let sensible = (0..=255).all(|token| {
        let token = tokens.get(token);
        !token.is_empty() && token.iter().all(u8::is_ascii_graphic)
    });
    let index = table
        .raw()
        .checked_add(len as u64)?
        .checked_next_multiple_of(8)?;
    (sensible && table.raw().is_multiple_of(4)).then_some((table, A::new(index), tokens))
}

/// Where offsets are, and what is known about them.
struct Offsets<A> {
    at: A,
    /// What they count from.
    base: Option<u64>,
    /// How many there are room for.
    room: Option<usize>,
}

struct Table<'t, A> {
    memory: &'t dyn Memory<Addr = A>,
    tokens: Tokens,
    /// Where the names start.
    names: A,
    /// From there up to the token table.
    bytes: Vec<u8>,
    /// What is left of [`BUDGET`].
    budget: Cell<usize>,
}

/// The names, as far as they were found.
struct Groups {
    pieces: Vec<Piece>,
    lengths: Lengths,
    count: usize,
}

impl Groups {
    /// How many names there are, and whether the last of them is one.
    fn named(&self) -> (usize, bool) {
        let named = self.pieces.iter().map(|piece| piece.count).sum();
        let last = self.pieces.last();
        let ends = last.is_some_and(|piece| piece.first + piece.count == self.count);
        (named, ends)
    }
}

impl<A: Address> Table<'_, A> {
    /// Takes so much work; whether there was as much left.
    fn take(&self, work: usize) -> bool {
        let left = self.budget.get().checked_sub(work);
        self.budget.set(left.unwrap_or(0));
        left.is_some()
    }

    /// Reads names and addresses.
    fn read(
        self,
        token_table: A,
        told: Option<usize>,
        offsets: &[(Offsets<A>, &[Form])],
        known: &[(&str, Gva)],
    ) -> Result<Kallsyms<A>, String> {
        let room = offsets.iter().find_map(|(offsets, _)| offsets.room);
        let groups = self
            .groups(told)
            .or_else(|| {
                // Room for one more may be what aligns the table behind.
                let counts = [room?.checked_sub(1), room];
                let groups = counts.into_iter().filter_map(|count| self.groups(count));
                groups.max_by_key(Groups::named)
            })
            .ok_or_else(|| {
                format!(
                    "too little is left of the names at {} and their markers",
                    self.names
                )
            })?;
        let names = |index: usize| self.name(&groups, index);
        let mut best: Option<(usize, Form, Vec<u64>)> = None;
        for (offsets, forms) in offsets {
            for &form in *forms {
                let Some((kept, addresses)) =
                    self.addresses(offsets, form, groups.count, known, &names)
                else {
                    continue;
                };
                if best.as_ref().is_none_or(|(most, ..)| kept > *most) {
                    best = Some((kept, form, addresses));
                }
            }
        }
        let (_, form, addresses) = best
            .filter(|(kept, ..)| kept * 2 > groups.count)
            .ok_or_else(|| {
                format!(
                    "too few of the addresses of {} symbols ascend in any known form",
                    groups.count
                )
            })?;
        Ok(Kallsyms {
            token_table,
            form,
            tokens: self.tokens,
            names: self.bytes,
            lengths: groups.lengths,
            pieces: groups.pieces,
            damaged: true,
            addresses,
        })
    }

    /// The name of a symbol, if it is not lost.
    fn name(&self, groups: &Groups, index: usize) -> Option<Vec<u8>> {
        let piece = groups.pieces.iter().find(|piece| piece.contains(index))?;
        let mut rest = &self.bytes[piece.at..];
        for _ in piece.first..index {
            rest = next_name(rest, groups.lengths)?.1;
        }
        let (name, _) = next_name(rest, groups.lengths)?;
        let text: Vec<u8> = name
            .iter()
            .flat_map(|&token| self.tokens.get(token).iter().copied())
            .collect();
        Some(text.get(1..)?.to_vec())
    }

    /// The page of memory that a place in the names is in, and where the next one starts.
    fn page(&self, at: usize) -> std::ops::Range<usize> {
        let skew = (self.names.raw() % PAGE as u64) as usize;
        let start = (at + skew) / PAGE * PAGE;
        start.saturating_sub(skew)..start + PAGE - skew
    }

    /// Finds the groups of names, `count` in all if that is told.
    fn groups(&self, count: Option<usize>) -> Option<Groups> {
        [Lengths::Long, Lengths::Byte]
            .into_iter()
            .filter_map(|lengths| self.groups_with(count?, lengths))
            .max_by_key(Groups::named)
    }

    fn groups_with(&self, count: usize, lengths: Lengths) -> Option<Groups> {
        let number = count.div_ceil(256);
        let (markers_at, markers) = self
            .markers(number)
            .unwrap_or((self.bytes.len(), Vec::new()));
        let start_of = |group: usize| match group {
            0 => Some(0),
            _ => markers.get(group).copied().flatten(),
        };
        let mut pieces: Vec<Piece> = Vec::new();
        // Where the last group ended, when it was whole.
        let mut end = Some(0);
        let mut whole = 0;
        for group in 0..number {
            let size = (count - group * 256).min(256);
            let Some(start) = start_of(group).or(end) else {
                end = None;
                continue;
            };
            let next = start_of(group + 1);
            let first = group * 256;
            let last = group + 1 == number;
            // What ends where it should needs no other proof.
            let walked = self.walk(start, size, lengths, next.is_none() && !last);
            let fits = match (walked, next) {
                (Ok(at), Some(next)) => at == next,
                (Ok(at), None) => !last || markers_at.checked_sub(at).is_some_and(|gap| gap < 16),
                (Err(_), _) => false,
            };
            if fits {
                whole += 1;
                pieces.push(Piece {
                    first,
                    count: size,
                    at: start,
                });
                end = walked.ok();
                continue;
            }
            end = None;
            let front = self.front(start, size, lengths);
            if front > 0 {
                pieces.push(Piece {
                    first,
                    count: front,
                    at: start,
                });
            }
            let border = next.or(last.then_some(markers_at));
            if let Some((at, left)) =
                border.and_then(|border| self.back(start, border, size - front, lengths, last))
            {
                pieces.push(Piece {
                    first: first + size - left,
                    count: left,
                    at,
                });
            }
        }
        (whole * LEAST_WHOLE >= number).then_some(Groups {
            pieces,
            lengths,
            count,
        })
    }

    /// Steps over so many names. With `look`, each must make sense.
    ///
    /// # Errors
    ///
    /// How many there were before one did not, and where that is.
    fn walk(
        &self,
        start: usize,
        count: usize,
        lengths: Lengths,
        look: bool,
    ) -> Result<usize, (usize, usize)> {
        let rest = self.bytes.get(start..);
        let mut rest = rest.filter(|_| self.take(count)).ok_or((0, start))?;
        for index in 0..count {
            let at = self.bytes.len() - rest.len();
            let (name, next) = next_name(rest, lengths).ok_or((index, at))?;
            if look && !self.makes_sense(name) {
                return Err((index, at));
            }
            rest = next;
        }
        Ok(self.bytes.len() - rest.len())
    }

    /// Whether a name is short enough, and starts with the letter of a type. Tokens that are lost do not
    /// count against it.
    fn makes_sense(&self, name: &[u8]) -> bool {
        const TYPES: &[u8] = b"AaBbCcDdGgIiNnRrSsTtUuVvWw";
        let first = self.tokens.get(name[0]);
        let typed =
            self.tokens.is_lost(name[0]) || first.first().is_some_and(|c| TYPES.contains(c));
        typed && name.len() <= MAX_TOKENS
    }

    /// How many names of a damaged group stand before the page that is damaged.
    fn front(&self, start: usize, size: usize, lengths: Lengths) -> usize {
        let Err((_, bad)) = self.walk(start, size, lengths, true) else {
            // They all make sense and end in the wrong place: none can be relied on.
            return 0;
        };
        let border = self.page(bad).start;
        let mut at = start;
        let mut kept = 0;
        while let Ok(next) = self.walk(at, 1, lengths, true) {
            if next > border || kept == size {
                break;
            }
            kept += 1;
            at = next;
        }
        kept
    }

    /// Where the names behind damage go on that end at `border`, and how many there are.
    fn back(
        &self,
        start: usize,
        border: usize,
        most: usize,
        lengths: Lengths,
        padded: bool,
    ) -> Option<(usize, usize)> {
        let mut page = match self.walk(start, most, lengths, true) {
            Err((_, bad)) => self.page(bad),
            Ok(_) => return None,
        };
        while page.end < border {
            let upto = self.page(page.end).end.min(border);
            for from in page.end..upto {
                let mut places = vec![from];
                let mut at = from;
                while at < border
                    && places.len() <= most + IN_STEP
                    && let Ok(next) = self.walk(at, 1, lengths, true)
                {
                    at = next;
                    places.push(at);
                }
                let zeros = |at: usize| self.bytes[at..border].iter().all(|&byte| byte == 0);
                let there = at == border || padded && at < border && border - at < 8 && zeros(at);
                if there && places.len() > IN_STEP + 1 {
                    let count = places.len() - 1 - IN_STEP;
                    return (count <= most).then_some((places[IN_STEP], count));
                }
            }
            page = self.page(page.end);
        }
        None
    }

    /// Where the markers are, and those of them that make sense.
    fn markers(&self, number: usize) -> Option<(usize, Vec<Option<usize>>)> {
        if number < 3 {
            return None;
        }
        let skew = (self.names.raw() % 4) as usize;
        let step = |at: usize, index: usize, width: Width| {
            let here = width.read(&self.bytes, at + index * width.bytes())?;
            let next = width.read(&self.bytes, at + (index + 1) * width.bytes())?;
            Some(
                next.checked_sub(here)
                    .is_some_and(|step| MARKER_STEP.contains(&step)),
            )
        };
        let mut best: Option<(usize, usize, Width)> = None;
        for width in [Width::Four, Width::Eight] {
            // The table is behind the names, which have two bytes each at least.
            let lowest = (number - 1) * 512;
            let highest = self.bytes.len().checked_sub(number * width.bytes())?;
            let mut at = (highest + skew) / 4 * 4 - skew.min((highest + skew) / 4 * 4);
            while at >= lowest {
                let samples = (0..8).map(|sample| sample * (number - 1) / 8);
                let good = samples
                    .filter(|&index| step(at, index, width) == Some(true))
                    .count();
                if good >= 3 && self.take(number) {
                    let good = (0..number - 1)
                        .filter(|&index| step(at, index, width) == Some(true))
                        .count();
                    let zero = usize::from(width.read(&self.bytes, at) == Some(0));
                    let score = 2 * good + zero;
                    if good * 2 > number && best.is_none_or(|(most, ..)| score > most) {
                        best = Some((score, at, width));
                    }
                }
                let Some(next) = at.checked_sub(4) else {
                    break;
                };
                at = next;
            }
        }
        let (_, at, width) = best?;
        let values: Vec<u64> = (0..number)
            .map(|index| {
                width
                    .read(&self.bytes, at + index * width.bytes())
                    .unwrap_or(LOST)
            })
            .collect();
        let bound = at as u64;
        let kept = ascending(&values, |value| value < bound);
        let markers = values
            .iter()
            .zip(kept)
            .map(|(&value, kept)| kept.then_some(value as usize));
        Some((at, markers.collect()))
    }

    /// The addresses in one form, those that do not ascend as [`LOST`], and how many are left.
    fn addresses(
        &self,
        offsets: &Offsets<A>,
        form: Form,
        count: usize,
        known: &[(&str, Gva)],
        name: &dyn Fn(usize) -> Option<Vec<u8>>,
    ) -> Option<(usize, Vec<u64>)> {
        let bytes = fetch_around(self.memory, offsets.at, count.checked_mul(4)?);
        let values: Vec<i32> = bytes
            .chunks_exact(4)
            .map(|b| i32::from_le_bytes(b.try_into().expect("four bytes")))
            .collect();
        // Told apart from each other by their order alone, from an arbitrary base.
        let relative = |index: usize, value: i32, base: u64| match form {
            Form::BaseWithPerCpu => match u64::try_from(value) {
                Ok(value) => value,
                Err(_) => base
                    .wrapping_sub(1)
                    .wrapping_sub(i64::from(value).cast_unsigned()),
            },
            Form::Base | Form::Absolute => base.wrapping_add(u64::from(value.cast_unsigned())),
            Form::PlaceRelative => {
                let place = offsets.at.raw().wrapping_add(4 * index as u64);
                place.wrapping_add(i64::from(value).cast_unsigned())
            }
        };
        let window = IMAGE_START..=IMAGE_LAST;
        let told = offsets.base.filter(|base| window.contains(base));
        let at_base = |base: u64| -> Vec<u64> {
            let values = values.iter().enumerate();
            values
                .map(|(index, &value)| relative(index, value, base))
                .collect()
        };
        let base = match (form, told) {
            (Form::PlaceRelative, _) => 0,
            (_, Some(base)) => base,
            (_, None) => {
                // Where a known symbol is listed tells it.
                let trial = at_base(IMAGE_START);
                let kept = ascending(&trial, |value| value < LOST);
                let mut left = MAX_BASES;
                (0..count).find_map(|index| {
                    // Names are taken apart only for what could be it: the first of a page.
                    let candidate = kept[index] && trial[index] >= IMAGE_START;
                    let (_, va) = known.iter().find(|(_, va)| {
                        candidate && (va.0.wrapping_sub(trial[index])).is_multiple_of(2 << 20)
                    })?;
                    left = left.checked_sub(1)?;
                    let name = name(index)?;
                    let (_, va) = known
                        .iter()
                        .find(|(known, other)| known.as_bytes() == name && other == va)?;
                    Some(IMAGE_START.wrapping_add(va.0.wrapping_sub(trial[index])))
                })?
            }
        };
        let mut addresses = at_base(base);
        let mut kept = ascending(&addresses, |value| value < LOST);
        // Where there is no address on one side, some of any noise ascends: of a page, most has to.
        let skew = (offsets.at.raw() % PAGE as u64) as usize / 4;
        let mut start = 0;
        while start < count {
            let end = count.min((start + skew) / (PAGE / 4) * (PAGE / 4) + PAGE / 4 - skew);
            let left = kept[start..end].iter().filter(|&&kept| kept).count();
            if left * 2 < end - start {
                kept[start..end].fill(false);
            }
            start = end;
        }
        let inside = addresses
            .iter()
            .zip(&kept)
            .filter(|&(va, &kept)| kept && (form == Form::PlaceRelative || window.contains(va)))
            .count();
        let left = kept.iter().filter(|&&kept| kept).count();
        for (address, kept) in addresses.iter_mut().zip(kept) {
            if !kept {
                *address = LOST;
            }
        }
        if form == Form::PlaceRelative {
            // As of a whole table: text before it and data behind, all in one image.
            let mut known = addresses.iter().filter(|&&address| address != LOST);
            let (&first, &last) = known.next().zip(known.next_back())?;
            let at = offsets.at.raw();
            let end = at.checked_add(bytes.len() as u64)?;
            if first >= at || last < end || last.checked_sub(first)? > IMAGE_LAST - IMAGE_START {
                return None;
            }
        }
        (inside * 2 > count).then_some((left, addresses))
    }
}

/// Which values are part of the longest sequence that does not descend, of those that `keep` accepts.
///
/// Cost: n log n.
fn ascending(values: &[u64], keep: impl Fn(u64) -> bool) -> Vec<bool> {
    // For each length, the place of the smallest value that a sequence of this length can end with.
    let mut ends: Vec<usize> = Vec::new();
    let mut before = vec![usize::MAX; values.len()];
    for (place, &value) in values.iter().enumerate().filter(|&(_, &value)| keep(value)) {
        let len = ends.partition_point(|&end| values[end] <= value);
        if let Some(last) = len.checked_sub(1) {
            before[place] = ends[last];
        }
        match ends.get_mut(len) {
            Some(end) => *end = place,
            None => ends.push(place),
        }
    }
    let mut kept = vec![false; values.len()];
    let mut place = ends.last().copied();
    while let Some(at) = place {
        kept[at] = true;
        place = Some(before[at]).filter(|&before| before != usize::MAX);
    }
    kept
}

/// Where the names start in `back`, which ends where the token table starts.
fn names_before(back: &[u8]) -> Option<usize> {
    /// So many groups are tried for each place.
    const TRIED: usize = 12;
    for width in [Width::Four, Width::Eight] {
        // The longest run of rising markers that starts with zero, gaps of one page forgiven.
        let mut best: Option<(usize, Vec<u64>)> = None;
        let mut at = back.len() & !3;
        let skew = back.len() - at;
        while at >= 4 {
            at -= 4;
            let place = at + skew;
            if width.read(back, place) != Some(0) {
                continue;
            }
            let Some(markers) = markers_at(back, place, width) else {
                continue;
            };
            if markers.len() >= 8 && best.as_ref().is_none_or(|(_, b)| markers.len() > b.len()) {
                best = Some((place, markers));
            }
        }
        let Some((place, markers)) = best else {
            continue;
        };
        let longest = *markers.last()? as usize + *MARKER_STEP.end() as usize;
        let nearest = place.checked_sub(markers[markers.len().saturating_sub(3)] as usize)?;
        let step = (markers.len() / TRIED).max(1);
        let tries: Vec<usize> = (0..markers.len() - 1).step_by(step).collect();
        let mut start = nearest & !3 | place & 3;
        while start >= place.saturating_sub(longest).max(8) {
            for lengths in [Lengths::Long, Lengths::Byte] {
                let mut whole = 0;
                for (done, &group) in tries.iter().enumerate() {
                    let from = start + markers[group] as usize;
                    let to = start + markers[group + 1] as usize;
                    let fits = back.get(from..to.min(place)).is_some_and(|names| {
                        super::walk_names(names, 256, lengths, |_, _| true) == Some(to - from)
                    });
                    whole += usize::from(fits);
                    if whole == 0 && done >= 2 {
                        break;
                    }
                }
                if whole * 2 > tries.len() {
                    return Some(start);
                }
            }
            let Some(next) = start.checked_sub(4) else {
                break;
            };
            start = next;
        }
    }
    None
}
