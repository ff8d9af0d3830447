//! Tables whose places are known: check them, and read the addresses in whichever form they are.

use std::borrow::Cow;

use super::{
    Form, IMAGE_LAST, IMAGE_START, Kallsyms, Lengths, MAX_NAMES, Piece, TOKENS, Tokens, u32_at,
    u64_at, walk_names,
};
use crate::addr::{AddrRange, Address};
use crate::memory::Memory;

/// Where the tables are, as a kernel from 6.0 on says itself in its VMCOREINFO note.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::os::linux) struct Places<A> {
    pub(in crate::os::linux) num_syms: A,
    pub(in crate::os::linux) names: A,
    pub(in crate::os::linux) token_table: A,
    pub(in crate::os::linux) token_index: A,
    pub(in crate::os::linux) offsets: A,
    /// Kernels from 7.0 on have none.
    pub(in crate::os::linux) relative_base: Option<A>,
}

/// Reads the tables at `places`.
///
/// # Errors
///
/// Which check failed, and what was seen.
pub(in crate::os::linux) fn from_places<A: Address>(
    memory: &dyn Memory<Addr = A>,
    places: &Places<A>,
) -> Result<Kallsyms<A>, String> {
    let tokens = tokens_at(memory, places.token_table, places.token_index)?;
    let count = memory
        .read_u32(places.num_syms)
        .map_err(|fault| format!("kallsyms_num_syms at {}: {fault}", places.num_syms))?;
    let room = places
        .token_table
        .offset_from(places.names)
        .and_then(|room| usize::try_from(room).ok())
        .filter(|&room| room <= MAX_NAMES)
        .ok_or_else(|| {
            format!(
                "kallsyms_names at {} is not followed by the token table at {}",
                places.names, places.token_table
            )
        })?;
    let count = count as usize;
    if count == 0 || count > room {
        return Err(format!(
            "{count} symbols cannot be in {room} bytes of names"
        ));
    }
    let bytes = fetch(memory, places.names, room)
        .ok_or_else(|| format!("kallsyms_names at {} cannot be read", places.names))?;
    let (lengths, end) = [Lengths::Long, Lengths::Byte]
        .into_iter()
        .find_map(|lengths| Some((lengths, names_before_markers(&bytes, count, lengths)?)))
        .ok_or_else(|| format!("{count} names at {} do not fit the markers", places.names))?;

    let addresses = match places.relative_base {
        Some(base) => from_base(memory, places.offsets, base, count),
        None => from_places_of_their_own(memory, places.offsets, count),
    };
    let (form, addresses) = addresses.ok_or_else(|| {
        format!(
            "kallsyms_offsets at {} do not give ascending addresses in any known form",
            places.offsets
        )
    })?;
    Ok(Kallsyms {
        token_table: places.token_table,
        form,
        tokens,
        names: bytes[..end].to_vec(),
        lengths,
        pieces: vec![Piece {
            first: 0,
            count,
            at: 0,
        }],
        damaged: false,
        addresses,
    })
}

/// Reads `count` names at the front of `bytes` and answers where they end, provided that the markers
/// that follow agree about every 256th of them.
fn names_before_markers(bytes: &[u8], count: usize, lengths: Lengths) -> Option<usize> {
    let mut seen = Vec::with_capacity(count / 256 + 1);
    let end = walk_names(bytes, count, lengths, |_, at| {
        seen.push(at as u64);
        true
    })?;
    // 64-bit markers are aligned to 8; 32-bit ones to 8 or, from 7.0 on, to 4. Alignment counts from
    // the start of the names, which are aligned in the same way.
    let narrow = |from: usize| {
        seen.iter()
            .enumerate()
            .all(|(i, &at)| u32_at(bytes, from + 4 * i).map(u64::from) == Some(at))
    };
    let wide = |from: usize| {
        seen.iter()
            .enumerate()
            .all(|(i, &at)| u64_at(bytes, from + 8 * i) == Some(at))
    };
    let (to4, to8) = (end.next_multiple_of(4), end.next_multiple_of(8));
    (narrow(to8) || wide(to8) || narrow(to4)).then_some(end)
}

/// Reads the tokens at `table` and checks them against the index at `index`.
pub(super) fn tokens_at<A: Address>(
    memory: &dyn Memory<Addr = A>,
    table: A,
    index: A,
) -> Result<Tokens, String> {
    let room = index
        .offset_from(table)
        .and_then(|room| usize::try_from(room).ok())
        .filter(|&room| room <= 1 << 16)
        .ok_or_else(|| {
            format!("the token index at {index} does not follow the table at {table}")
        })?;
    let text = fetch(memory, table, room)
        .ok_or_else(|| format!("the token table at {table} cannot be read"))?;
    let entries = fetch(memory, index, 2 * TOKENS)
        .ok_or_else(|| format!("the token index at {index} cannot be read"))?;
    let (tokens, _) = Tokens::parse(&text)
        .ok_or_else(|| format!("the token table at {table} does not hold {TOKENS} tokens"))?;
    if !tokens.index_is(&entries) {
        return Err(format!(
            "the token index at {index} does not fit the table at {table}"
        ));
    }
    Ok(tokens)
}

/// Reads `count` offsets at `at` from the base at `base`.
pub(super) fn from_base<A: Address>(
    memory: &dyn Memory<Addr = A>,
    at: A,
    base: A,
    count: usize,
) -> Option<(Form, Vec<u64>)> {
    let base = memory.read_u64(base).ok()?;
    if !(IMAGE_START..=IMAGE_LAST).contains(&base) {
        return None;
    }
    let bytes = fetch(memory, at, count.checked_mul(4)?)?;
    let with_per_cpu = offsets(&bytes).map(|offset| match u64::try_from(offset) {
        Ok(value) => value,
        Err(_) => base
            .wrapping_sub(1)
            .wrapping_sub(i64::from(offset).cast_unsigned()),
    });
    if let Some(addresses) = in_order(with_per_cpu) {
        return Some((Form::BaseWithPerCpu, addresses));
    }
    let plain = offsets(&bytes).map(|offset| base.wrapping_add(u64::from(offset.cast_unsigned())));
    Some((Form::Base, in_order(plain)?))
}

/// Reads `count` offsets at `at`, each from its own place.
///
/// This is the weakest form, for nothing but the order of addresses speaks for it. Try it last, and
/// believe it only when page tables agree.
pub(super) fn from_places_of_their_own<A: Address>(
    memory: &dyn Memory<Addr = A>,
    at: A,
    count: usize,
) -> Option<(Form, Vec<u64>)> {
    let bytes = fetch(memory, at, count.checked_mul(4)?)?;
    let places = (at.raw()..).step_by(4);
    let addresses: Vec<u64> = offsets(&bytes)
        .zip(places)
        .map(|(offset, place)| place.wrapping_add(i64::from(offset).cast_unsigned()))
        .collect();
    // The table lies inside the image whose symbols it lists, with text before and data behind it, and
    // the image is below a gigabyte.
    let (&first, &last) = addresses.first().zip(addresses.last())?;
    let end = at.raw().checked_add(bytes.len() as u64)?;
    let around = first < at.raw() && end <= last;
    let fits = last.checked_sub(first)? <= IMAGE_LAST - IMAGE_START;
    (around && fits && addresses.is_sorted()).then_some((Form::PlaceRelative, addresses))
}

fn offsets(bytes: &[u8]) -> impl ExactSizeIterator<Item = i32> {
    bytes
        .chunks_exact(4)
        .map(|b| i32::from_le_bytes(b.try_into().expect("four bytes")))
}

/// Reads `count` absolute addresses.
pub(super) fn absolute<A: Address>(
    memory: &dyn Memory<Addr = A>,
    at: A,
    count: usize,
) -> Option<(Form, Vec<u64>)> {
    let bytes = fetch(memory, at, count.checked_mul(8)?)?;
    let addresses = in_order(
        bytes
            .chunks_exact(8)
            .map(|b| u64::from_le_bytes(b.try_into().expect("eight bytes"))),
    )?;
    Some((Form::Absolute, addresses))
}

/// The addresses, provided that they ascend and that most are of the kernel's image.
fn in_order(addresses: impl ExactSizeIterator<Item = u64>) -> Option<Vec<u64>> {
    let mut last = 0;
    let mut inside = 0;
    let count = addresses.len();
    let mut all = Vec::with_capacity(count);
    for address in addresses {
        if address < last {
            return None;
        }
        last = address;
        inside += usize::from((IMAGE_START..=IMAGE_LAST).contains(&address));
        all.push(address);
    }
    (inside * 2 > count).then_some(all)
}

/// `len` bytes from `addr` on, in place where the memory allows that.
pub(in crate::os::linux) fn fetch<A: Address>(
    memory: &dyn Memory<Addr = A>,
    addr: A,
    len: usize,
) -> Option<Cow<'_, [u8]>> {
    if let Some(bytes) = memory.borrow(AddrRange::new(addr, len as u64)?) {
        return Some(Cow::Borrowed(bytes));
    }
    let mut bytes = vec![0; len];
    memory.read(addr, &mut bytes).ok()?;
    Some(Cow::Owned(bytes))
}

/// Up to `len` bytes from `addr` on: as many as there are before a hole.
pub(super) fn fetch_up_to<A: Address>(
    memory: &dyn Memory<Addr = A>,
    addr: A,
    len: usize,
) -> Cow<'_, [u8]> {
    if let Some(bytes) = fetch(memory, addr, len) {
        return bytes;
    }
    let mut bytes = vec![0; len];
    if let Err(fault) = memory.read(addr, &mut bytes) {
        let good = fault.addr.offset_from(addr).unwrap_or(0);
        bytes.truncate(usize::try_from(good).unwrap_or(0));
    }
    Cow::Owned(bytes)
}
