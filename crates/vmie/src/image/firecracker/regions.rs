//! The regions of RAM in a state, wherever in it they are listed.
//!
//! ```text
//! fields    count u64, then for each: base u64, size u64
//!                  and up to 1.9 or so: offset in the memory file u64
//!                  and since 1.14: kind u32 (0 RAM, 1 hot-pluggable), slots: count u64, plugged u8 each
//! columns   count | base.. | size.. | kind.. | slots: count.. | plugged..
//! ```
//!
//! Hot-pluggable memory is in slots of the same size. What is not plugged is no memory of the guest: it is
//! a hole in the memory file, and left out here.
//!
//! x86 guests have RAM from 0 to the hole for devices below 4 GiB, from 4 GiB on, and behind a second hole; how
//! large the holes are depends on the version, and is read and not assumed.

use super::columns::Columns;
use crate::addr::PAGE_SIZE;
use crate::image::segments::GPA_LIMIT;

/// Three regions of RAM and one that is hot-pluggable are the most in sight.
const MAX_REGIONS: usize = 16;
/// 128 MiB each at least.
const MAX_SLOTS: usize = 1 << 16;

/// How far behind the header the list is looked for: between them are two paths of 4 KiB and a command line of 2.
const REACH: usize = 64 << 10;

/// A region of RAM, in the order of the memory file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::image) struct Region {
    /// First physical address.
    pub(in crate::image) gpa: u64,
    /// Length in bytes, which is what it takes in the memory file, too.
    pub(in crate::image) len: u64,
    /// Which of its slots hold memory; they share the length.
    pub(in crate::image) plugged: Vec<bool>,
    hotplug: bool,
}

impl Region {
    fn ram(gpa: u64, len: u64) -> Self {
        Self {
            gpa,
            len,
            plugged: vec![true],
            hotplug: false,
        }
    }

    /// The slots that hold memory: from where in the region, and how long.
    pub(in crate::image) fn slots(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        // At least one, and the length is a multiple: `is_valid` has seen to it.
        let len = self.len / (self.plugged.len() as u64).max(1);
        let numbered = (0_u64..).zip(&self.plugged);
        numbered.filter_map(move |(index, &plugged)| plugged.then_some((index * len, len)))
    }

    /// Whether this physical address is memory.
    pub(super) fn holds(&self, gpa: u64) -> bool {
        gpa.checked_sub(self.gpa).is_some_and(|at| {
            self.slots()
                .any(|(start, len)| at.wrapping_sub(start) < len)
        })
    }
}

/// Whether this can be the memory of a guest that was started with so many bytes.
fn is_valid(regions: &[Region], mem_size: u64) -> bool {
    let mut end = 0;
    let mut sum = 0_u64;
    for (index, region) in regions.iter().enumerate() {
        let slots = region.plugged.len() as u64;
        if !region.hotplug && region.plugged.contains(&false) {
            return false;
        }
        let whole = slots != 0
            && region.len.is_multiple_of(slots)
            && (region.len / slots).is_multiple_of(PAGE_SIZE);
        let Some(next) = region.gpa.checked_add(region.len) else {
            return false;
        };
        let ascends = region.gpa >= end && (index == 0) == (region.gpa == 0);
        if !whole
            || !ascends
            || region.len == 0
            || !region.gpa.is_multiple_of(PAGE_SIZE)
            || next > GPA_LIMIT
        {
            return false;
        }
        end = next;
        if !region.hotplug {
            // Below 2^52 each.
            sum = sum.saturating_add(region.len);
        }
    }
    sum == mem_size
}

/// The only valid list, or what was found instead.
fn only(found: impl Iterator<Item = Vec<Region>>) -> Result<Vec<Region>, &'static str> {
    let mut only: Option<Vec<Region>> = None;
    for regions in found {
        match &only {
            // One form may be the beginning of another: what counts is that they say the same.
            Some(other) if *other != regions => return Err("several different ones"),
            _ => only = Some(regions),
        }
    }
    only.ok_or("none")
}

/// One way to write so many regions.
type Form = fn(&mut Columns<'_>, usize) -> Option<Vec<Region>>;

/// Looks through fields that follow each other.
pub(super) fn in_fields(
    body: &[u8],
    from: usize,
    mem_size: u64,
) -> Result<Vec<Region>, &'static str> {
    let forms: [Form; 3] = [with_offsets, plain, with_slots];
    let word = |at: usize| Some(u64::from_le_bytes(*body.get(at..)?.first_chunk()?));
    let candidates = (from..body.len().min(from + REACH)).filter_map(|at| {
        let count = usize::try_from(word(at)?).ok()?;
        // The first one begins at 0; most places end here.
        ((1..=MAX_REGIONS).contains(&count) && word(at + 8)? == 0).then_some((at + 8, count))
    });
    let lists = candidates.flat_map(|(at, count)| {
        forms
            .into_iter()
            .filter_map(move |form| form(&mut Columns::new(body, at), count))
    });
    only(lists.filter(|regions| is_valid(regions, mem_size)))
}

fn word(fields: &mut Columns<'_>) -> Option<u64> {
    Some(u64::from_le_bytes(*fields.take(8)?.first_chunk()?))
}

fn plain(fields: &mut Columns<'_>, count: usize) -> Option<Vec<Region>> {
    (0..count)
        .map(|_| Some(Region::ram(word(fields)?, word(fields)?)))
        .collect()
}

fn with_offsets(fields: &mut Columns<'_>, count: usize) -> Option<Vec<Region>> {
    let mut sum = 0_u64;
    (0..count)
        .map(|_| {
            let region = Region::ram(word(fields)?, word(fields)?);
            let back_to_back = word(fields)? == sum;
            sum = sum.checked_add(region.len)?;
            back_to_back.then_some(region)
        })
        .collect()
}

fn with_slots(fields: &mut Columns<'_>, count: usize) -> Option<Vec<Region>> {
    (0..count)
        .map(|_| {
            let region = Region::ram(word(fields)?, word(fields)?);
            let kind = u32::from_le_bytes(*fields.take(4)?.first_chunk()?);
            let slots = usize::try_from(word(fields)?).ok()?;
            let slots = fields.take((slots <= MAX_SLOTS).then_some(slots)?)?;
            Some(Region {
                plugged: slots
                    .iter()
                    .map(|&slot| flag(slot))
                    .collect::<Option<_>>()?,
                hotplug: flag(u8::try_from(kind).ok()?)?,
                ..region
            })
        })
        .collect()
}

fn flag(byte: u8) -> Option<bool> {
    (byte < 2).then_some(byte == 1)
}

/// Looks through columns.
pub(super) fn in_columns(
    body: &[u8],
    from: usize,
    mem_size: u64,
) -> Result<Vec<Region>, &'static str> {
    let lists = (from..body.len().min(from + REACH)).filter_map(|at| {
        let mut columns = Columns::new(body, at);
        // A length by itself is as it is.
        let count = usize::from(columns.take(1)?[0]);
        if !(1..=MAX_REGIONS).contains(&count) {
            return None;
        }
        let bases = columns.ints(count)?;
        // Most places end here.
        if bases[0] != 0 {
            return None;
        }
        let sizes = columns.ints(count)?;
        let kinds = columns.bytes(count)?;
        let slots = columns.lengths(count)?;
        let total = slots
            .iter()
            .try_fold(0, |sum: u64, len| sum.checked_add(*len))?;
        let total = usize::try_from(total)
            .ok()
            .filter(|&total| total <= MAX_SLOTS)?;
        let mut plugged = columns.bools(total)?.into_iter();
        let parts = bases.into_iter().zip(sizes).zip(kinds).zip(slots);
        let regions = parts.map(|(((gpa, len), kind), slots)| {
            Some(Region {
                gpa,
                len,
                plugged: plugged.by_ref().take(slots as usize).collect(),
                hotplug: flag(kind)?,
            })
        });
        let regions: Vec<Region> = regions.collect::<Option<_>>()?;
        is_valid(&regions, mem_size).then_some(regions)
    });
    only(lists)
}
