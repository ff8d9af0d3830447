//! What a kernel counts as RAM.
//!
//! It keeps the map that firmware gave it (`e820_table`, arch/x86/kernel/e820.c), a number of entries and the entries, packed:
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 4 | number of entries |
//! | 4 + 20 i | 8 | first address |
//! | 12 + 20 i | 8 | length in bytes |
//! | 20 + 20 i | 4 | type: 1 is RAM |
//!
//! and numbers frames up to `max_pfn`, and up to `max_low_pfn` below 4 GiB; the latter only in some versions, others have the former there, too.

use crate::addr::{Address, Gpa, Gva, PAGE_SIZE};
use crate::memory::Memory;
use crate::os::{RamCount, SymbolTable};
use crate::paging::AddressSpace;

/// No machine has more RAM: 46 bits of address are what the kernel takes with four levels of page tables.
const MAX_RAM: u64 = 1 << 46;

const FOUR_GIB: u64 = 4 << 30;

/// The kernel has room for no more entries: 128, and 3 for each of at most 1024 nodes.
const MAX_ENTRIES: u32 = 3200;

/// What the kernel of this space counts; `None` where that cannot be read, or cannot be right.
pub(super) fn count(space: &AddressSpace, symbols: &SymbolTable) -> Option<RamCount> {
    let word = |name| space.read_u64(symbols.address_of(name)?).ok();
    let frames = |name| word(name)?.checked_mul(PAGE_SIZE).filter(is_plausible);
    let map = word("e820_table").and_then(|table| map(space, Gva(table)));
    let end = frames("max_pfn").or(map.map(|(_, end)| end))?;
    let low_end = map.map(|(low_end, _)| low_end);
    let low_end = low_end.or_else(|| frames("max_low_pfn").filter(|&low| low <= FOUR_GIB));
    let low_end = low_end.filter(|&low| low == end || low < end && end > FOUR_GIB);
    Some(RamCount {
        low_end: low_end.map(Gpa),
        end: Gpa(end),
    })
}

fn is_plausible(end: &u64) -> bool {
    (1..=MAX_RAM).contains(end)
}

/// Where RAM ends below 4 GiB, and where it ends, by a map.
fn map(space: &AddressSpace, table: Gva) -> Option<(u64, u64)> {
    let entries = space.read_u32(table).ok()?;
    if !(1..=MAX_ENTRIES).contains(&entries) {
        return None;
    }
    let mut bytes = vec![0; entries as usize * 20];
    space.read(table.checked_add(4)?, &mut bytes).ok()?;
    let (mut low_end, mut end) = (0, 0);
    for entry in bytes.chunks_exact(20) {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| entry[at + i]));
        let is_ram = entry[16..] == [1, 0, 0, 0];
        let Some(last) = word(0).checked_add(word(8)).filter(is_plausible) else {
            continue;
        };
        if is_ram && last <= FOUR_GIB {
            low_end = low_end.max(last);
        }
        if is_ram {
            end = end.max(last);
        }
    }
    (low_end > 0).then_some((low_end, end))
}
