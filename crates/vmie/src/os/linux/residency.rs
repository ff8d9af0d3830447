//! Where the pages of a process are, as its page tables say.
//!
//! What is mapped, what is in memory without that, and what is swapped out, the walk over the page tables tells
//! (`software.rs` has what entries mean that the CPU calls not present). What lies between is looked at here, a
//! table at a time: whether it is nowhere, or something of which nothing can be read.

use super::Linux;
use super::software::{EMPTY, FORBIDDEN};
use crate::addr::{AddrRange, Address, Gva, PAGE_SIZE};
use crate::memory::{Cause, Memory, Prot, SpanKind};
use crate::os::{OsError, PageState, Process, Residency};
use crate::paging::{AddressSpace, Level};

const PRESENT: u64 = 1;

/// How many tables are looked into for one answer. Each covers 2 MiB.
const MAX_TABLES: usize = 1 << 20;

/// What an entry says that is not present and behind which there is no page.
fn state(entry: u64) -> PageState {
    match EMPTY.holds(entry) {
        true => PageState::Empty,
        false => PageState::Special,
    }
}

impl Linux {
    /// Where the page of a process at `va` is.
    pub(super) fn state_of_page(&self, process: &Process, va: Gva) -> Result<PageState, OsError> {
        let space = self.user_space(process)?;
        let walk = space.walk(va);
        Ok(match walk.result {
            Ok(mapping) => {
                let gpa = mapping.gpa.align_down(PAGE_SIZE);
                let entry = walk.steps.last().map_or(0, |step| step.entry);
                match (mapping.valid, entry & FORBIDDEN != 0) {
                    (true, _) => PageState::Present { gpa },
                    (false, true) if mapping.prot == Prot::NONE => PageState::Forbidden { gpa },
                    (false, true) => PageState::Hinted { gpa },
                    (false, false) => PageState::Moving { gpa },
                }
            }
            Err(fault) => match fault.cause {
                Cause::NotMapped { entry, .. } => state(entry),
                Cause::SwappedOut { area, offset } => PageState::Swapped {
                    area,
                    offset,
                    compressed: false,
                },
                Cause::Compressed { area, offset } => PageState::Swapped {
                    area,
                    offset,
                    compressed: true,
                },
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
                SpanKind::Mapped(Prot::NONE) => count.sum.forbidden += span.len,
                SpanKind::Mapped(_) => count.sum.present += span.len,
                SpanKind::Away(_, cause) => {
                    count.sum.swapped += span.len;
                    if matches!(cause, Cause::Compressed { .. }) {
                        count.sum.compressed += span.len;
                    }
                }
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
    level.map_or(PAGE_SIZE, Level::span)
}

struct Count<'c> {
    space: &'c AddressSpace,
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
                _ => return self.add(at, last, PAGE_SIZE, PageState::Unknown(fault.cause)),
            },
            Ok(mapping) => {
                let here = PageState::Present { gpa: mapping.gpa };
                return self.add(at, last, mapping.page_size, here);
            }
        };
        let span = span_of(self.space, level);
        let place = walk.steps.last()?.gpa;
        if level != 1 || self.space.mode().spec().entry_bytes != 8 {
            return self.add(at, last, span, whole(entry));
        }
        let left = (PAGE_SIZE - place.raw() % PAGE_SIZE) as usize;
        let mut bytes = [0; PAGE_SIZE as usize];
        let bytes = &mut bytes[..left];
        if self.space.phys().read(place, bytes).is_err() {
            return self.add(at, last, span, whole(entry));
        }
        let mut at = at;
        for entry in bytes.as_chunks::<8>().0 {
            let entry = u64::from_le_bytes(*entry);
            at = self.add(at, last, span, whole(entry))?;
            if at > last {
                break;
            }
        }
        Some(at)
    }

    /// Counts what is left from `at` on of an entry that covers `span`.
    fn add(&mut self, at: Gva, last: Gva, span: u64, state: PageState) -> Option<Gva> {
        let border = Gva(at.raw() | (span - 1));
        let len = border.min(last).raw() - at.raw() + 1;
        let sum = &mut self.sum;
        *match state {
            PageState::Present { .. } | PageState::Hinted { .. } | PageState::Moving { .. } => {
                &mut sum.present
            }
            PageState::Forbidden { .. } => &mut sum.forbidden,
            PageState::Swapped { .. } => &mut sum.swapped,
            PageState::Special => &mut sum.special,
            PageState::Empty => &mut sum.empty,
            PageState::Unknown(_) => &mut sum.unknown,
        } += len;
        border.checked_add(1)
    }
}

/// What an entry says that maps nothing.
fn whole(entry: u64) -> PageState {
    match entry & PRESENT {
        0 => state(entry),
        // Present, and yet not mapped: it breaks a rule of the format.
        _ => PageState::Special,
    }
}
