//! Where the pages of a process are, as its page tables say.
//!
//! An entry that is not present means nothing to the CPU, so the kernel keeps notes in it. The formats
//! are those of `arch/x86/include/asm/pgtable_64.h` since 4.18:
//!
//! ```text
//! 0                       nothing: never touched, or a page of a file that is not mapped now
//! bit 8 set               in memory, all access forbidden; the bits of the frame are inverted
//! bits 59..64, 9..59      a swap area, and the inverted place in it; numbers above those of the areas
//!                         stand for pages that are being moved, are broken, or bear a mark
//! ```
//!
//! What is mapped is counted by the walk over the page tables, and only what lies between is looked at
//! here, a table at a time.

use super::Linux;
use crate::addr::{AddrRange, Address, Gpa, Gva};
use crate::memory::{Cause, Memory, SpanKind};
use crate::os::{OsError, PageState, Process, Residency};
use crate::paging::{AddressSpace, Level};

const PAGE: u64 = 4096;
const PRESENT: u64 = 1;
/// Forbidden to all (`_PAGE_PROTNONE`).
const FORBIDDEN: u64 = 1 << 8;
/// Accessed and dirty, which some processors set in entries that are not present.
const TOUCHED: u64 = 0x60;
/// The frame in an entry.
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// How many swap areas there can be at most, should the kernel not say how many there are
/// (`MAX_SWAPFILES` is 32 less those numbers that stand for something else, at most 9).
const MAX_AREAS: u32 = 23;

/// How many tables are looked into for one answer. Each covers 2 MiB.
const MAX_TABLES: usize = 1 << 20;

/// What an entry that is not present says; `span` is what it covers and `va` an address in there.
pub(super) fn state(entry: u64, span: u64, va: Gva, areas: u32) -> PageState {
    if entry & !TOUCHED == 0 {
        return PageState::Empty;
    }
    if entry & FORBIDDEN != 0 {
        let frame = !entry & FRAME & !(span - 1);
        return PageState::Forbidden {
            gpa: Gpa(frame | (va.raw() & (span - 1) & !(PAGE - 1))),
        };
    }
    let area = (entry >> 59) as u32;
    if area < areas {
        let place = !entry << 5 >> 14;
        return PageState::Swapped {
            area,
            offset: place.wrapping_add((va.raw() & (span - 1)) / PAGE),
        };
    }
    PageState::Special
}

impl Linux {
    /// How many swap areas there are.
    fn swap_areas(&self) -> u32 {
        let told = self
            .symbols
            .address_of("nr_swapfiles")
            .and_then(|at| self.space.read_u32(at).ok());
        told.unwrap_or(MAX_AREAS).min(MAX_AREAS)
    }

    /// Where the page of a process at `va` is.
    pub(super) fn state_of_page(&self, process: &Process, va: Gva) -> Result<PageState, OsError> {
        let space = self.user_space(process)?;
        Ok(match space.translate(va) {
            Ok(mapping) => PageState::Present {
                gpa: mapping.gpa.align_down(PAGE),
            },
            Err(fault) => match fault.cause {
                Cause::NotMapped { level, entry, .. } => {
                    state(entry, span_of(&space, level), va, self.swap_areas())
                }
                Cause::NonCanonical => PageState::Empty,
                cause => PageState::Unknown(cause),
            },
        })
    }

    /// Counts the pages of a process within `range`.
    pub(super) fn count_pages(
        &self,
        process: &Process,
        range: AddrRange<Gva>,
    ) -> Result<Residency, OsError> {
        let space = self.user_space(process)?;
        let mut count = Count {
            space: &space,
            areas: self.swap_areas(),
            tables: 0,
            sum: Residency::default(),
        };
        let mut at = Some(range.start());
        for span in space.spans(range) {
            if let Some(from) = at
                && let Some(before) = span.start.checked_sub(1)
                && let Some(gap) = AddrRange::inclusive(from, before)
            {
                count.gap(gap);
            }
            match span.kind {
                SpanKind::Mapped(_) => count.sum.present += span.len,
                SpanKind::Lost(_) => count.sum.unknown += span.len,
            }
            at = span.range().end();
        }
        if let Some(from) = at
            && let Some(gap) = AddrRange::inclusive(from, range.last())
        {
            count.gap(gap);
        }
        Ok(count.sum)
    }
}

fn span_of(space: &AddressSpace, level: u8) -> u64 {
    let levels = space.mode().spec().levels;
    let level = levels.iter().find(|known| known.number == level);
    level.map_or(PAGE, Level::span)
}

struct Count<'c> {
    space: &'c AddressSpace,
    areas: u32,
    tables: usize,
    sum: Residency,
}

impl Count<'_> {
    /// Counts addresses that are not mapped.
    fn gap(&mut self, gap: AddrRange<Gva>) {
        let mut at = gap.start();
        loop {
            self.tables += 1;
            if self.tables > MAX_TABLES {
                self.sum.unknown += gap.last().raw() - at.raw() + 1;
                return;
            }
            let next = match self.entry(at, gap.last()) {
                Some(next) => next,
                None => return,
            };
            at = next;
            if at > gap.last() {
                return;
            }
        }
    }

    /// Counts from `at` on what one entry, or what is left of a lowest table, says. Answers where to go
    /// on, `None` at the end of the address space.
    fn entry(&mut self, at: Gva, last: Gva) -> Option<Gva> {
        let walk = self.space.walk(at);
        let (level, entry) = match walk.result {
            Err(fault) => match fault.cause {
                Cause::NotMapped { level, entry, .. } => (level, entry),
                Cause::Malformed { level, entry, .. } => (level, entry | PRESENT),
                Cause::TableAbsent { level, .. } => {
                    // All that the table would cover.
                    let span = span_of(self.space, level + 1);
                    return self.add(at, last, span, PageState::Unknown(fault.cause));
                }
                _ => return self.add(at, last, PAGE, PageState::Unknown(fault.cause)),
            },
            Ok(mapping) => {
                let here = PageState::Present { gpa: mapping.gpa };
                return self.add(at, last, mapping.page_size, here);
            }
        };
        let span = span_of(self.space, level);
        let place = walk.steps.last()?.gpa;
        if level != 1 || self.space.mode().spec().entry_bytes != 8 {
            return self.add(at, last, span, self.state(entry, span, at));
        }
        let left = (PAGE - place.raw() % PAGE) as usize;
        let mut bytes = [0; PAGE as usize];
        let bytes = &mut bytes[..left];
        if self.space.phys().read(place, bytes).is_err() {
            return self.add(at, last, span, self.state(entry, span, at));
        }
        let mut at = at;
        for entry in bytes.as_chunks::<8>().0 {
            let entry = u64::from_le_bytes(*entry);
            at = self.add(at, last, span, self.state(entry, span, at))?;
            if at > last {
                break;
            }
        }
        Some(at)
    }

    fn state(&self, entry: u64, span: u64, va: Gva) -> PageState {
        match entry & PRESENT {
            0 => state(entry, span, va, self.areas),
            // Present, and yet not mapped: it breaks a rule of the format.
            _ => PageState::Special,
        }
    }

    /// Counts what is left from `at` on of an entry that covers `span`.
    fn add(&mut self, at: Gva, last: Gva, span: u64, state: PageState) -> Option<Gva> {
        let border = Gva(at.raw() | (span - 1));
        let len = border.min(last).raw() - at.raw() + 1;
        let sum = &mut self.sum;
        *match state {
            PageState::Present { .. } => &mut sum.present,
            PageState::Forbidden { .. } => &mut sum.forbidden,
            PageState::Swapped { .. } => &mut sum.swapped,
            PageState::Special => &mut sum.special,
            PageState::Empty => &mut sum.empty,
            PageState::Unknown(_) => &mut sum.unknown,
        } += len;
        border.checked_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_are_not_present_say_where_the_page_is() {
        let of = |entry| state(entry, PAGE, Gva(0x7000_1234), 2);
        assert_eq!(of(0), PageState::Empty);
        // `__swp_entry(1, 0x200)`: the type on top, the offset inverted above bit 9.
        let swapped = 1 << 59 | !0x200_u64 << 14 >> 5;
        assert_eq!(
            of(swapped),
            PageState::Swapped {
                area: 1,
                offset: 0x200
            }
        );
        assert_eq!(of(swapped | 0xe), of(swapped), "flags of a swap entry");
        // `SWP_MIGRATION_READ` and its like have numbers above those of the areas.
        assert_eq!(of(swapped | 2 << 59), PageState::Special);
        // `mprotect(PROT_NONE)` of the page in frame 0x12345.
        let forbidden = !0x1234_5000_u64 & FRAME | FORBIDDEN | 0x60;
        assert_eq!(
            of(forbidden),
            PageState::Forbidden {
                gpa: Gpa(0x1234_5000)
            }
        );
        // The same of 2 MiB.
        let large = !0x4020_0000_u64 & FRAME & !0x1f_f000 | FORBIDDEN | 0x80;
        assert_eq!(
            state(large, 2 << 20, Gva(0x7000_3456), 2),
            PageState::Forbidden {
                gpa: Gpa(0x4020_3000)
            }
        );
    }
}
