//! Tables whose places are known: check them, and read the addresses in whichever form they are.

use std::borrow::Cow;

use super::{
    Form, IMAGE_LAST, IMAGE_START, Kallsyms, Lengths, MAX_NAMES, TOKENS, Tokens, u32_at, u64_at,
    walk_names,
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

    let offsets = Offsets {
        at: places.offsets,
        base: places.relative_base,
    };
    let (form, addresses) = offsets.read(memory, count).ok_or_else(|| {
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

/// Where offsets are, and their base if there is one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offsets<A> {
    pub(super) at: A,
    pub(super) base: Option<A>,
}

impl<A: Address> Offsets<A> {
    /// Reads `count` addresses in whichever form verifies.
    pub(super) fn read(
        self,
        memory: &dyn Memory<Addr = A>,
        count: usize,
    ) -> Option<(Form, Vec<u64>)> {
        let bytes = fetch(memory, self.at, count.checked_mul(4)?)?;
        let offsets = || {
            bytes
                .chunks_exact(4)
                .map(|b| i32::from_le_bytes(b.try_into().expect("four bytes")))
        };
        let base = self
            .base
            .and_then(|base| memory.read_u64(base).ok())
            .filter(|base| (IMAGE_START..=IMAGE_LAST).contains(base));
        if let Some(base) = base {
            let with_per_cpu = offsets().map(|offset| match u64::try_from(offset) {
                Ok(value) => value,
                Err(_) => base
                    .wrapping_sub(1)
                    .wrapping_sub(i64::from(offset).cast_unsigned()),
            });
            if let Some(addresses) = in_order(with_per_cpu) {
                return Some((Form::BaseWithPerCpu, addresses));
            }
            let plain =
                offsets().map(|offset| base.wrapping_add(u64::from(offset.cast_unsigned())));
            if let Some(addresses) = in_order(plain) {
                return Some((Form::Base, addresses));
            }
        }
        let places = (self.at.raw()..).step_by(4);
        let addresses: Vec<u64> = offsets()
            .zip(places)
            .map(|(offset, place)| place.wrapping_add(i64::from(offset).cast_unsigned()))
            .collect();
        // The table lies inside the image whose symbols it lists, and the image is below a gigabyte.
        let (&first, &last) = addresses.first().zip(addresses.last())?;
        let around = (first..last).contains(&self.at.raw());
        let fits = last.checked_sub(first)? <= IMAGE_LAST - IMAGE_START;
        (around && fits && addresses.is_sorted()).then_some((Form::PlaceRelative, addresses))
    }
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
