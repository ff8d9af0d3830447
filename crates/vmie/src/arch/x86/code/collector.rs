//! Candidates of one window: fields that by their surroundings could stand for an address of mapped memory.
//!
//! ```text
//! relative   behind E8, E9, 0F 8x, C7 F8, and behind a mod r/m byte of [rip+...]
//! absolute   every position of four bytes, where something is mapped that four bytes can hold;
//!            behind 48 B8 and its like, and A0 to A3, eight bytes
//! short      none: they reach so little far that a query looks for them around its targets
//! ```

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::filter::collect::{absolute, relative};
use super::filter::opcodes::{self, RELATIVE, RELATIVE_32, Reach, Relative, WIDE};
use super::{MAX_INSTRUCTION, MAX_TAIL};
use crate::arch::code::{
    CODE, Candidate, Candidates, CodeWindow, Collector, FIELD_BITS, FilterKind, GROUPS, Mapped,
};
use crate::width::CodeBits;

/// Where addresses of four bytes with the sign bit lie.
const TOP: u64 = 0xffff_ffff_8000_0000;

/// How far a relative field reaches.
const FAR: u64 = 1 << 31;

/// What a group's targets have in common.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Where {
    /// Reached by relative fields.
    Near,
    /// Below 4 GiB.
    Low,
    /// In the highest 2 GiB.
    Top,
}

impl Where {
    pub(super) const ALL: [Self; GROUPS] = [Self::Near, Self::Low, Self::Top];

    /// What keys count targets from, in a group of code.
    pub(super) fn origin(self, code: u64, bits: CodeBits) -> u64 {
        match (self, bits) {
            (Self::Near, CodeBits::B64) => code.wrapping_sub(FAR),
            (Self::Near, CodeBits::B32) | (Self::Low, _) => 0,
            (Self::Top, _) => TOP,
        }
    }
}

/// Collects candidates.
pub(super) struct Collecting {
    mapped: Mapped,
    /// Of all addresses that four bytes can hold, by these.
    short: Option<Reach>,
    /// Of the lowest 4 GiB.
    low: Option<Reach>,
    /// Whether the uppermost byte of all that is mapped is 0 or FF.
    canonical: bool,
    bits: CodeBits,
    filter: FilterKind,
    /// Room for keys, so that not each window's is allocated and cleared anew.
    shelf: Mutex<Vec<Vec<u64>>>,
}

impl Collecting {
    pub(super) fn new(mapped: Mapped, bits: CodeBits, filter: FilterKind) -> Self {
        let within = |first: u64, last: u64, tail: u64| {
            let mut reach = None;
            for (from, to) in mapped.within(first, last) {
                let reach = reach.get_or_insert_with(Reach::default);
                add_cut(reach, from.wrapping_sub(tail), to - from + tail);
            }
            reach
        };
        let low = within(0, u64::from(u32::MAX), 0);
        let top = within(TOP, u64::MAX, 0).filter(|_| bits == CodeBits::B64);
        Self {
            short: match (low, top) {
                (Some(low), Some(top)) => Some(low.or(&top)),
                (one, other) => one.or(other),
            },
            low: within(0, u64::from(u32::MAX), MAX_TAIL),
            canonical: mapped.regions().iter().all(|&(first, last)| {
                let top = first >> 56;
                top == last >> 56 && matches!(top, 0 | 0xff)
            }),
            bits,
            filter,
            mapped,
            shelf: Mutex::default(),
        }
    }

    fn shelf(&self) -> MutexGuard<'_, Vec<Vec<u64>>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a relative field of a window may lead.
    fn near(&self, start: u64, len: u64) -> Reach {
        let mut reach = Reach::default();
        let mut add = |first: u64, last: u64| {
            for (from, to) in self.mapped.within(first, last) {
                add_cut(
                    &mut reach,
                    from.wrapping_sub(MAX_TAIL),
                    (to - from).saturating_add(MAX_TAIL),
                );
            }
        };
        if self.bits == CodeBits::B32 {
            add(0, u64::from(u32::MAX));
            return reach;
        }
        // A few bytes more on both sides, for what stands behind fields.
        let (first, last) = (
            start.wrapping_sub(FAR + 16),
            start.wrapping_add(FAR + len + 16),
        );
        if first <= last {
            add(first, last);
        } else {
            add(first, u64::MAX);
            add(0, last);
        }
        reach
    }

    /// An address of eight bytes.
    #[inline]
    fn wide(&self, window: &CodeWindow<'_>, position: usize, far: &mut Vec<Candidate>) {
        let bytes = window
            .bytes
            .get(position..)
            .and_then(|rest| rest.first_chunk());
        if let Some(target) = bytes.copied().map(u64::from_le_bytes)
            && let Some((first, last)) = self.mapped.ends()
            && (first..=last).contains(&target)
            && self.mapped.has(target)
        {
            let field = window.start.0.wrapping_add(position as u64);
            far.push(Candidate { target, field });
        }
    }
}

impl Collector for Collecting {
    fn collect(&self, window: &CodeWindow<'_>) -> Candidates {
        let bytes = window.bytes;
        // A field behind the window's last owned byte belongs to the next window, unless there is none.
        let goes_on = bytes.len() > window.owned;
        let count = if goes_on { window.owned } else { bytes.len() };
        let start = window.start.0;
        let code = start & !(CODE - 1);
        let mut candidates = Candidates {
            keys: Default::default(),
            far: Vec::new(),
        };
        let [near, low, top] = &mut candidates.keys;
        let is_wide = self.bits == CodeBits::B64;
        let mut spec = Relative {
            classes: if is_wide { RELATIVE } else { RELATIVE_32 },
            reach: self.near(start, bytes.len() as u64),
            next: start.wrapping_add(4),
            mask: if is_wide {
                u64::MAX
            } else {
                u64::from(u32::MAX)
            },
            origin: Where::Near.origin(code, self.bits),
            field: start - code,
            canonical: self.canonical,
        };
        let far = &mut candidates.far;
        let mut on_wide = |position| {
            if is_wide {
                self.wide(window, position, far);
            }
        };
        for position in 0..count.min(2) {
            // What a field at the first bytes follows is shown as look-behind.
            let before = before(window, position);
            if let Some(value) = dword(bytes, position) {
                spec.one(before, value, position, near);
            }
            if opcodes::before(before) & WIDE != 0 {
                on_wide(position);
            }
        }
        let mut room = self.shelf().pop().unwrap_or_default();
        let found = relative(self.filter, &spec, bytes, 2..count, &mut room, &mut on_wide);
        near.extend_from_slice(&room[..found]);
        if is_wide && let Some(reach) = self.low {
            // An operand relative to eip is cut to 32 bits.
            spec = Relative {
                reach,
                mask: u64::from(u32::MAX),
                origin: 0,
                ..spec
            };
            let found = relative(self.filter, &spec, bytes, 2..count, &mut room, &mut |_| {});
            low.extend_from_slice(&room[..found]);
            for position in 0..count.min(2) {
                if let Some(value) = dword(bytes, position) {
                    spec.one(before(window, position), value, position, low);
                }
            }
            low.retain(|key| {
                let position = (key & ((1 << FIELD_BITS) - 1)) - (start - code);
                may_be_cut(bytes, position as usize)
            });
        }
        self.shelf().push(room);
        if let Some(reach) = &self.short {
            absolute(
                self.filter,
                reach,
                bytes,
                count,
                &mut |position, value: u32| {
                    let field = start - code + position as u64;
                    let add = |target: u64, origin: u64, keys: &mut Vec<u64>| {
                        if self.mapped.has(target) {
                            keys.push((target - origin) << FIELD_BITS | field);
                        }
                    };
                    add(u64::from(value), 0, low);
                    if is_wide && value >> 31 != 0 {
                        add(TOP | u64::from(value), TOP, top);
                    }
                },
            );
        }
        candidates
    }
}

/// Adds addresses by their lower 32 bits.
fn add_cut(reach: &mut Reach, first: u64, len: u64) {
    let first = first & u64::from(u32::MAX);
    reach.add(first, first.saturating_add(len));
}

/// Whether there may be a prefix before a field that makes addresses 32 bits wide.
fn may_be_cut(bytes: &[u8], position: usize) -> bool {
    match position.checked_sub(MAX_INSTRUCTION) {
        Some(from) => bytes[from..position].contains(&0x67),
        None => true,
    }
}

fn dword(bytes: &[u8], position: usize) -> Option<u32> {
    let bytes = bytes.get(position..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

/// The two bytes before a position; zero where there is none, which is no opcode of interest.
fn before(window: &CodeWindow<'_>, position: usize) -> [u8; 2] {
    let byte = |back: usize| {
        let before = window.before;
        match position.checked_sub(back) {
            Some(at) => window.bytes[at],
            None => before
                .len()
                .checked_sub(back - position)
                .map_or(0, |at| before[at]),
        }
    };
    [byte(2), byte(1)]
}
