//! All references of a space at once, by target.
//!
//! One pass collects *candidates*: fields that by their surroundings could stand for an address of mapped
//! memory. Nothing is decoded, which would take most of the time; a query decodes what it asks for.
//!
//! ```text
//! relative   behind E8, E9, 0F 8x, C7 F8, and behind a mod r/m byte of [rip+...]
//! absolute   every position of four bytes, where something is mapped that four bytes can hold;
//!            behind 48 B8 and its like, and A0 to A3, eight bytes
//! short      not kept: they reach so little far that a query looks for them around its targets
//! ```
//!
//! The length of what is behind a displacement is not known without a decode, so a candidate is kept under
//! the address without it, and a query asks for the four bytes below its targets, too.

use std::ops::ControlFlow;

use super::resolve::{BEFORE, Resolver};
use super::{CodeBits, FilterKind, MAX_INSTRUCTION, Xref, filter};
use crate::addr::{AddrRange, Address, Gva};
use crate::memory::{Memory, SpanKind};
use crate::sweep::{Found, SweepOptions, SweepOutcome, Window, sweep};

/// The longest immediate behind a displacement.
const MAX_TAIL: u64 = 4;

/// Mapped regions with less than this between them are taken as one.
const GAP: u64 = 1 << 20;

/// A field that may stand for an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Candidate {
    target: u64,
    field: u64,
}

/// All references of a space, by target, for many questions about the same memory.
///
/// It holds candidates, sixteen bytes each, and reads the memory again to answer: about memory that has
/// changed it gives what still refers there, of what was a candidate before.
#[derive(Clone, Debug)]
pub struct XrefIndex {
    /// By target.
    candidates: Vec<Candidate>,
    /// What was looked at, in order, not touching.
    code: Vec<AddrRange<Gva>>,
    bits: CodeBits,
}

/// What one window has.
struct Part {
    start: u64,
    owned: u64,
    candidates: Vec<Candidate>,
}

impl XrefIndex {
    /// Collects the references from code that `options` select to whatever the memory maps.
    ///
    /// Surroundings are set by what this needs, whatever `options` says. When `progress` ends it early, the
    /// index knows what was looked at until then, and the outcome says so.
    ///
    /// # Cost
    ///
    /// A pass over the code, then a sort; sixteen bytes for each candidate, of which there is about one
    /// for twenty bytes of code.
    pub fn build(
        memory: &dyn Memory<Addr = Gva>,
        bits: CodeBits,
        options: &SweepOptions<Gva>,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> (Self, SweepOutcome<Gva>) {
        let options = SweepOptions {
            overlap: 2 * MAX_INSTRUCTION,
            behind: BEFORE,
            ..options.clone()
        };
        let collector = Collector {
            mapped: mapped(memory),
            bits,
            filter: FilterKind::best(),
        };
        let mut index = Self {
            candidates: Vec::new(),
            code: Vec::new(),
            bits,
        };
        let outcome = sweep(
            memory,
            &options,
            progress,
            |window, found: &mut Found<Part>| {
                found.push(Part {
                    start: window.start.0,
                    owned: window.owned as u64,
                    candidates: collector.collect(window),
                });
            },
            |part| {
                index.candidates.extend(part.candidates);
                index.looked_at(part.start, part.owned);
                ControlFlow::Continue(())
            },
        );
        sort(&mut index.candidates);
        (index, outcome)
    }

    fn looked_at(&mut self, start: u64, len: u64) {
        let Some(part) = AddrRange::new(Gva(start), len) else {
            return;
        };
        match self.code.last_mut() {
            Some(last) if last.end() == Some(part.start()) => {
                if let Some(both) = AddrRange::inclusive(last.start(), part.last()) {
                    *last = both;
                }
            }
            _ => self.code.push(part),
        }
    }

    /// How many candidates there are: at least as many as references that are not short jumps.
    pub fn len(&self) -> usize {
        self.candidates.len()
    }

    /// Whether there is no candidate. There may be short jumps.
    pub fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// All references to a range of addresses, as [`scan`](super::scan) finds them in the code that was
    /// looked at, by address.
    ///
    /// # Cost
    ///
    /// Some microseconds for each reference, and a look at the code around the targets, for short jumps.
    pub fn to(&self, memory: &dyn Memory<Addr = Gva>, targets: AddrRange<Gva>) -> Vec<Xref> {
        let mut found = Vec::new();
        let lowest = targets.start().0.saturating_sub(MAX_TAIL);
        let mut take = |low: u64, high: u64| {
            let from = self.candidates.partition_point(|c| c.target < low);
            let those = self.candidates[from..].iter();
            for candidate in those.take_while(|c| c.target <= high) {
                found.extend(self.resolve(memory, candidate.field, targets));
            }
        };
        take(lowest, targets.last().0);
        // Below the first address lies the last one.
        if let below @ 1.. = MAX_TAIL.saturating_sub(targets.start().0) {
            take(u64::MAX - (below - 1), u64::MAX);
        }
        self.short(memory, targets, &mut found);
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The instruction that has a field, read anew.
    fn resolve(
        &self,
        memory: &dyn Memory<Addr = Gva>,
        field: u64,
        targets: AddrRange<Gva>,
    ) -> Option<Xref> {
        let code = self.code_at(field)?;
        let start = code.start().0.max(field.saturating_sub(BEFORE as u64));
        let last = code
            .last()
            .0
            .min(field.saturating_add(2 * MAX_INSTRUCTION as u64));
        let mut buffer = [0; BEFORE + 2 * MAX_INSTRUCTION + 1];
        let bytes = buffer.get_mut(..usize::try_from(last - start + 1).ok()?)?;
        memory.read(Gva(start), bytes).ok()?;
        let window = Window {
            start: Gva(start),
            bytes,
            owned: bytes.len(),
            before: &[],
        };
        let at = usize::try_from(field - start).ok()?;
        Resolver::new(&window, self.bits).resolve(at, targets)
    }

    fn code_at(&self, va: u64) -> Option<AddrRange<Gva>> {
        let index = self.code.partition_point(|code| code.last().0 < va);
        self.code
            .get(index)
            .copied()
            .filter(|code| code.contains(Gva(va)))
    }

    /// Adds the short jumps.
    fn short(
        &self,
        memory: &dyn Memory<Addr = Gva>,
        targets: AddrRange<Gva>,
        found: &mut Vec<Xref>,
    ) {
        const REACH: u64 = 256;
        const PIECE: u64 = 64 << 10;
        let (first, last) = (targets.start().0, targets.last().0);
        let mut near = vec![(first.saturating_sub(REACH), last.saturating_add(REACH))];
        // Addresses wrap, in 32-bit code at 4 GiB.
        if first < REACH {
            near.push((u64::MAX - REACH, u64::MAX));
            near.push(((1 << 32) - REACH, 1 << 32));
        }
        if last > u64::MAX - REACH || (last <= u64::from(u32::MAX) && last > (1 << 32) - REACH) {
            near.push((0, REACH));
        }
        for (low, high) in near {
            let from = self.code.partition_point(|code| code.last().0 < low);
            for code in self.code[from..]
                .iter()
                .take_while(|code| code.start().0 <= high)
            {
                let (mut at, end) = (code.start().0.max(low), code.last().0.min(high));
                while at <= end {
                    // One byte more at the front: the opcode before a field.
                    let start = at.saturating_sub(1).max(code.start().0);
                    let len = (end - start + 1).min(PIECE);
                    let mut bytes = vec![0; len as usize];
                    if memory.read(Gva(start), &mut bytes).is_ok() {
                        let search = filter::Search::new(Gva(start), targets);
                        filter::short(&search, &bytes, |position| {
                            let field = start + position as u64;
                            found.extend(self.resolve(memory, field, targets));
                        });
                    }
                    match start.checked_add(len) {
                        Some(next) => at = next,
                        None => break,
                    }
                }
            }
        }
    }
}

/// Sorts by target, by digits of eleven bits; those of one target stay in their order.
///
/// Twice as fast as a sort by comparison: there are millions, and their targets differ in few bits.
fn sort(candidates: &mut Vec<Candidate>) {
    const DIGIT: u32 = 11;
    let lowest = candidates.iter().map(|c| c.target).min().unwrap_or(0);
    let highest = candidates.iter().map(|c| c.target).max().unwrap_or(0);
    let bits = u64::BITS - (highest - lowest).leading_zeros();
    let mut other = vec![
        Candidate {
            target: 0,
            field: 0
        };
        candidates.len()
    ];
    for shift in (0..bits).step_by(DIGIT as usize) {
        let digit = |c: &Candidate| (((c.target - lowest) >> shift) & ((1 << DIGIT) - 1)) as usize;
        let mut places = [0usize; 1 << DIGIT];
        for candidate in &*candidates {
            places[digit(candidate)] += 1;
        }
        let mut before = 0;
        for place in &mut places {
            before += std::mem::replace(place, before);
        }
        for candidate in &*candidates {
            let place = &mut places[digit(candidate)];
            other[*place] = *candidate;
            *place += 1;
        }
        std::mem::swap(candidates, &mut other);
    }
}

/// What a memory maps, in order, roughly: small gaps count as mapped, and so does what is not known.
fn mapped(memory: &dyn Memory<Addr = Gva>) -> Vec<(u64, u64)> {
    let mut mapped: Vec<(u64, u64)> = Vec::new();
    for span in memory.spans(AddrRange::all()) {
        let (SpanKind::Mapped(_) | SpanKind::Lost(_)) = span.kind;
        if span.len == 0 {
            continue;
        }
        let range = span.range();
        let (first, last) = (range.start().raw(), range.last().raw());
        match mapped.last_mut() {
            Some(before) if first - before.1 <= GAP => before.1 = last,
            _ => mapped.push((first, last)),
        }
    }
    mapped
}

/// Collects candidates.
struct Collector {
    mapped: Vec<(u64, u64)>,
    bits: CodeBits,
    filter: FilterKind,
}

impl Collector {
    /// The candidates of a window: fields of instructions that start in what it owns, and a few more.
    fn collect(&self, window: &Window<'_, Gva>) -> Vec<Candidate> {
        let bytes = window.bytes;
        // A field behind the window's last owned byte belongs to the next window, unless there is none.
        let goes_on = bytes.len() > window.owned;
        let count = if goes_on { window.owned } else { bytes.len() };
        let mut found = Vec::new();
        let around = Around {
            window,
            start: window.start.0,
        };
        if self.bits == CodeBits::B64 {
            let mut last = (1, 0);
            filter::after_opcodes(self.filter, bytes, &mut |position| {
                if position < count {
                    self.relative(&around, position, &mut last, &mut found);
                    self.wide(&around, position, &mut found);
                }
            });
            // What a field at the first byte follows is shown as look-behind.
            self.relative(&around, 0, &mut last, &mut found);
            self.wide(&around, 0, &mut found);
        } else {
            for position in 0..count {
                self.relative(&around, position, &mut (1, 0), &mut found);
            }
        }
        self.absolute(&around, count, &mut found);
        found
    }

    /// A field that is added to the address behind it.
    #[inline]
    fn relative(
        &self,
        around: &Around<'_>,
        position: usize,
        last: &mut (u64, u64),
        found: &mut Vec<Candidate>,
    ) {
        let Some(value) = around.dword(position) else {
            return;
        };
        let [before, one] = around.before(position);
        let is_field = match one {
            0xe8 | 0xe9 => true,
            0x80..=0x8f if before == 0x0f => true,
            0xf8 => before == 0xc7,
            one => self.bits == CodeBits::B64 && one & 0xc7 == 0x05,
        };
        if !is_field {
            return;
        }
        let field = around.start.wrapping_add(position as u64);
        let next = field.wrapping_add(4);
        let target = next.wrapping_add_signed(i64::from(value.cast_signed()));
        let mut add = |target: u64| {
            let near = target >= last.0.saturating_sub(MAX_TAIL) && target <= last.1;
            if !near {
                match self.region(target) {
                    Some(region) => *last = region,
                    None => return,
                }
            }
            found.push(Candidate { target, field });
        };
        if self.bits == CodeBits::B32 {
            return add(target & 0xffff_ffff);
        }
        add(target);
        // An operand relative to eip is cut to 32 bits.
        if target >> 32 != 0 && self.mapped.first().is_some_and(|first| first.0 >> 32 == 0) {
            add(target & 0xffff_ffff);
        }
    }

    /// The mapped region that an address lies in, or that begins a tail behind it.
    fn region(&self, target: u64) -> Option<(u64, u64)> {
        let index = self.mapped.partition_point(|region| region.1 < target);
        let region = *self.mapped.get(index)?;
        (region.0.saturating_sub(MAX_TAIL) <= target).then_some(region)
    }

    /// Fields that are addresses.
    fn absolute(&self, around: &Around<'_>, count: usize, found: &mut Vec<Candidate>) {
        const TOP: u64 = 0xffff_ffff_8000_0000;
        let mut add = |position: usize, target: u64| {
            if self.region(target).is_some_and(|region| region.0 <= target) {
                let field = around.start.wrapping_add(position as u64);
                found.push(Candidate { target, field });
            }
        };
        let holds = |low: u64, high: u64| {
            let mut mapped = self.mapped.iter();
            mapped.any(|region| region.0 <= high && region.1 >= low)
        };
        let (low, high) = (holds(0, 0xffff_ffff), holds(TOP, u64::MAX));
        if low || high {
            for position in 0..count {
                let Some(value) = around.dword(position) else {
                    break;
                };
                if low {
                    add(position, u64::from(value));
                }
                if high && value >> 31 != 0 {
                    add(position, TOP | u64::from(value));
                }
            }
        }
    }

    /// An address of eight bytes.
    #[inline]
    fn wide(&self, around: &Around<'_>, position: usize, found: &mut Vec<Candidate>) {
        let [rex, opcode] = around.before(position);
        let is_field = (rex & 0xf8 == 0x48 && opcode & 0xf8 == 0xb8) || opcode & 0xfc == 0xa0;
        if is_field
            && let Some(target) = around.qword(position)
            && self.region(target).is_some_and(|region| region.0 <= target)
        {
            let field = around.start.wrapping_add(position as u64);
            found.push(Candidate { target, field });
        }
    }
}

/// A window's bytes, with those before.
struct Around<'w> {
    window: &'w Window<'w, Gva>,
    start: u64,
}

impl Around<'_> {
    fn dword(&self, position: usize) -> Option<u32> {
        let bytes = self.window.bytes.get(position..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    }

    fn qword(&self, position: usize) -> Option<u64> {
        let bytes = self.window.bytes.get(position..)?.first_chunk()?;
        Some(u64::from_le_bytes(*bytes))
    }

    /// The two bytes before a position; zero where there is none, which is no opcode of interest.
    #[inline]
    fn before(&self, position: usize) -> [u8; 2] {
        if position >= 2 {
            return [
                self.window.bytes[position - 2],
                self.window.bytes[position - 1],
            ];
        }
        let byte = |back: usize| {
            let before = self.window.before;
            match position.checked_sub(back) {
                Some(at) => self.window.bytes[at],
                None => before
                    .len()
                    .checked_sub(back - position)
                    .map_or(0, |at| before[at]),
            }
        };
        [byte(2), byte(1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sorting_by_digits_is_sorting(
            list in prop::collection::vec((any::<u64>(), 0u32..64), 0..300),
        ) {
            let candidate = |(field, &(target, shift)): (usize, &(u64, u32))| Candidate {
                target: target >> shift,
                field: field as u64,
            };
            let mut quick: Vec<Candidate> = list.iter().enumerate().map(candidate).collect();
            let mut naive = quick.clone();
            naive.sort_by_key(|c| c.target);
            sort(&mut quick);
            prop_assert_eq!(quick, naive);
        }
    }
}
