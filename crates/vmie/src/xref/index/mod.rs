//! All references of a space at once, by target.
//!
//! One pass collects *candidates*: fields that by their surroundings could stand for an address of mapped
//! memory. Nothing is decoded, which would take most of the time; a query decodes what it asks for.
//!
//! Which fields are candidates, the architecture says ([`Collector`](crate::arch::code::Collector)). Those that reach so little far that a
//! query can look for them around its targets are not kept.

mod keys;

use std::ops::ControlFlow;

use super::{FilterKind, InstructionSet, Xref};
use crate::addr::{AddrRange, Gva};
use crate::arch::code::{
    CODE, Candidate, Candidates, CodeWindow, FIELD_BITS, GROUPS, Limits, Mapped, SPAN,
};
use crate::memory::{Memory, Span};
use crate::scan::{Run, Selection};
use crate::sweep::{Found, SweepOptions, SweepOutcome, sweep};
use keys::Keys;

/// So many candidates are sorted at once: more would not stay in a cache meanwhile.
const RUN: usize = 1 << 18;

/// Once there are so many runs, they are made twice as long: a query looks into each.
const RUNS: usize = 8;

/// Bytes that are read, or asked for, at a time.
const PIECE: u64 = 64 << 10;

/// The candidates of one window.
struct Part {
    start: u64,
    owned: u64,
    candidates: Candidates,
}

/// All references of a space, by target, for many questions about the same memory.
///
/// It holds candidates, eight bytes each, and reads the memory again to answer: about memory that has
/// changed it gives what still refers there, of what was a candidate before.
#[derive(Clone, Debug)]
pub struct XrefIndex {
    /// Runs of candidates, sorted by target.
    groups: Vec<Group>,
    /// Candidates of eight bytes, by target.
    far: Vec<Candidate>,
    /// What was looked at, in order, not touching.
    code: Vec<AddrRange<Gva>>,
    set: InstructionSet,
}

/// Candidates that have upper bits in common, or some of them.
#[derive(Clone, Debug)]
struct Group {
    /// What fields count from.
    code: u64,
    /// What targets count from.
    origin: u64,
    keys: Keys,
}

impl XrefIndex {
    /// Collects the references from selected code to whatever the memory maps.
    ///
    /// When it is cancelled, the index knows what was looked at until then, and the outcome says so.
    ///
    /// # Cost
    ///
    /// A pass over the code, then a sort by digits: about a hundredth of a second for 20 MB of code. Eight bytes for each
    /// candidate, of which there is about one for thirty bytes of code, and twice as much while it is built.
    pub fn build(
        memory: &dyn Memory<Addr = Gva>,
        code: impl Into<InstructionSet>,
        selection: &Selection<Gva>,
        mut run: Run<'_>,
    ) -> (Self, SweepOutcome<Gva>) {
        let set = code.into();
        let limits = set.code().limits();
        let options = SweepOptions {
            overlap: limits.overlap,
            behind: limits.behind,
            ..run.options(selection)
        };
        let mapped = memory.spans(AddrRange::all());
        let mapped = Mapped::new(mapped.filter(|span| span.len > 0).map(Span::range));
        let collector = set.code().collector(mapped, FilterKind::best());
        let mut index = Self {
            groups: Vec::new(),
            far: Vec::new(),
            code: Vec::new(),
            set,
        };
        let mut code = 0;
        let mut open = <[Vec<u64>; GROUPS]>::default();
        let mut spare = Vec::new();
        let outcome = sweep(
            memory,
            &options,
            &mut |done| run.step(done),
            |window, found: &mut Found<Part>| {
                let code = CodeWindow {
                    start: window.start,
                    bytes: window.bytes,
                    owned: window.owned,
                    before: window.before,
                };
                found.push(Part {
                    start: window.start.0,
                    owned: window.owned as u64,
                    candidates: collector.collect(&code),
                });
            },
            |part| {
                let Candidates { keys, far } = part.candidates;
                let here = part.start & !(CODE - 1);
                if code != here {
                    index.close(code, &mut open, 0, &mut spare);
                    code = here;
                }
                for (open, keys) in open.iter_mut().zip(&keys) {
                    open.extend_from_slice(keys);
                }
                let limit = RUN << (index.groups.len() / RUNS).min(10);
                index.close(code, &mut open, limit, &mut spare);
                index.far.extend(far);
                index.looked_at(part.start, part.owned);
                ControlFlow::Continue(())
            },
        );
        index.close(code, &mut open, 0, &mut spare);
        index.far.sort_unstable();
        (index, outcome)
    }

    /// Sorts what was found in a group of code, of those kinds of which there are more than `limit`.
    fn close(
        &mut self,
        code: u64,
        open: &mut [Vec<u64>; GROUPS],
        limit: usize,
        spare: &mut Vec<u64>,
    ) {
        let origins = self.set.code().origins(code);
        for (origin, keys) in origins.into_iter().zip(open) {
            if keys.len() > limit {
                self.groups.push(Group {
                    code,
                    origin,
                    keys: Keys::sort(keys, spare),
                });
            }
        }
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
        let groups = self.groups.iter().map(|group| group.keys.as_slice().len());
        groups.sum::<usize>() + self.far.len()
    }

    /// Whether there is no candidate. There may be short jumps.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All references to a range of addresses, as [`scan`](crate::scan::scan()) finds them in the code that was
    /// looked at, by address.
    ///
    /// # Cost
    ///
    /// Some microseconds for each reference, and a look at the code around the targets, for short jumps.
    pub fn to(&self, memory: &dyn Memory<Addr = Gva>, targets: AddrRange<Gva>) -> Vec<Xref> {
        let mut found = Vec::new();
        let tail = self.limits().tail;
        let lowest = targets.start().0.saturating_sub(tail);
        let mut take = |low: u64, high: u64| {
            self.fields(low, high, &mut |field| {
                found.extend(self.resolve(memory, field, targets));
            });
        };
        take(lowest, targets.last().0);
        // Below the first address lies the last one, with addresses of 32 bits, too.
        if let below @ 1.. = tail.saturating_sub(targets.start().0) {
            take(u64::MAX - (below - 1), u64::MAX);
            let last = u64::from(u32::MAX);
            take(last - (below - 1), last);
        }
        self.short(memory, targets, &mut found);
        found.sort_unstable();
        found.dedup();
        found
    }

    /// All references to those addresses of a range at which something is mapped, by target, then by
    /// address. Ends when `emit` says so.
    ///
    /// # Cost
    ///
    /// As [`XrefIndex::to`]; a piece of the targets at a time, so that memory stays bounded.
    pub fn each(
        &self,
        memory: &dyn Memory<Addr = Gva>,
        targets: AddrRange<Gva>,
        mut emit: impl FnMut(Xref) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for span in memory.spans(targets) {
            let Some(mapped) = AddrRange::new(span.start, span.len) else {
                continue;
            };
            let mut at = mapped.start().0;
            while let Some(from) = self.next(at).filter(|&from| from <= mapped.last().0) {
                let last = mapped.last().0.min(from.saturating_add(PIECE - 1));
                let Some(piece) = AddrRange::inclusive(Gva(from), Gva(last)) else {
                    break;
                };
                let mut found = self.to(memory, piece);
                found.sort_by_key(|xref| xref.target);
                found.into_iter().try_for_each(&mut emit)?;
                match last.checked_add(1) {
                    Some(next) => at = next,
                    None => break,
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// The first address from `at` on that something may refer to.
    fn next(&self, at: u64) -> Option<u64> {
        let &Limits { tail, short, .. } = self.limits();
        if at < tail {
            // What ends at the last address may refer to the first ones.
            return Some(at);
        }
        let groups = self.groups.iter().flat_map(|Group { origin, keys, .. }| {
            // A group's targets may go on at the first address.
            let offset = at.wrapping_sub(*origin);
            let here = (offset < SPAN).then(|| keys.next(offset.saturating_sub(tail)));
            let here = here.flatten();
            let here = here.and_then(|next| at.checked_add(next.saturating_sub(offset)));
            let first = keys.next(0).filter(|_| at < *origin);
            [here, first.and_then(|first| origin.checked_add(first))]
        });
        let far = self.far.partition_point(|c| c.target < at);
        let far = self.far.get(far).map(|candidate| candidate.target);
        let near = groups.flatten().chain(far);
        if short == 0 {
            return near.min();
        }
        let code = self
            .code
            .partition_point(|code| code.last().0.saturating_add(short) < at);
        let code = self.code.get(code);
        // At both ends of all addresses, what reaches not far may lead around.
        let around = self
            .code
            .last()
            .filter(|code| code.last().0 > u64::MAX - short);
        let around = around.filter(|_| at < short).map(|_| at);
        let short = code.map(|code| code.start().0.saturating_sub(short).max(at));
        near.chain(short).chain(around).min()
    }

    /// Passes on where the candidates are whose targets lie from `low` to `high`.
    fn fields(&self, low: u64, high: u64, on: &mut impl FnMut(u64)) {
        let mask = (1 << FIELD_BITS) - 1;
        for Group { code, origin, keys } in &self.groups {
            // A group's targets may go on at the first address.
            let last = origin.wrapping_add(SPAN - 1);
            let wraps = last < *origin;
            let pieces = [(*origin, if wraps { u64::MAX } else { last }), (0, last)];
            for (first, last) in pieces.into_iter().take(1 + usize::from(wraps)) {
                let (low, high) = (low.max(first), high.min(last));
                if low <= high {
                    let (low, high) = (low.wrapping_sub(*origin), high.wrapping_sub(*origin));
                    let keys = keys.between(low, high).iter();
                    keys.for_each(|key| on(code.wrapping_add(key & mask)));
                }
            }
        }
        let from = self.far.partition_point(|c| c.target < low);
        let those = self.far[from..].iter().take_while(|c| c.target <= high);
        those.for_each(|candidate| on(candidate.field));
    }

    /// The instruction that has a field, read anew.
    fn resolve(
        &self,
        memory: &dyn Memory<Addr = Gva>,
        field: u64,
        targets: AddrRange<Gva>,
    ) -> Option<Xref> {
        let code = self.code_at(field)?;
        let set = self.set.code();
        let limits = set.limits();
        let start = code
            .start()
            .0
            .max(field.saturating_sub(limits.behind as u64));
        let last = code
            .last()
            .0
            .min(field.saturating_add(limits.overlap as u64));
        let mut buffer = [0; Limits::AROUND];
        let bytes = buffer.get_mut(..usize::try_from(last - start + 1).ok()?)?;
        memory.read(Gva(start), bytes).ok()?;
        let at = usize::try_from(field - start).ok()?;
        set.resolve(&CodeWindow::alone(Gva(start), bytes), at, targets)
    }

    fn limits(&self) -> &'static Limits {
        self.set.code().limits()
    }

    fn code_at(&self, va: u64) -> Option<AddrRange<Gva>> {
        let index = self.code.partition_point(|code| code.last().0 < va);
        self.code
            .get(index)
            .copied()
            .filter(|code| code.contains(Gva(va)))
    }

    /// Adds what refers to the targets from so near that it is no candidate.
    fn short(
        &self,
        memory: &dyn Memory<Addr = Gva>,
        targets: AddrRange<Gva>,
        found: &mut Vec<Xref>,
    ) {
        let &Limits {
            short: reach,
            short_before,
            ..
        } = self.limits();
        if reach == 0 {
            return;
        }
        let (first, last) = (targets.start().0, targets.last().0);
        let mut near = vec![(first.saturating_sub(reach), last.saturating_add(reach))];
        // Addresses wrap, in 32-bit code at 4 GiB.
        if first < reach {
            near.push((u64::MAX - reach, u64::MAX));
            near.push(((1 << 32) - reach, 1 << 32));
        }
        if last > u64::MAX - reach || (last <= u64::from(u32::MAX) && last > (1 << 32) - reach) {
            near.push((0, reach));
        }
        for (low, high) in near {
            let from = self.code.partition_point(|code| code.last().0 < low);
            for code in self.code[from..]
                .iter()
                .take_while(|code| code.start().0 <= high)
            {
                let (mut at, end) = (code.start().0.max(low), code.last().0.min(high));
                while at <= end {
                    // A little more at the front: what stands before a field.
                    let start = at.saturating_sub(short_before).max(code.start().0);
                    let len = (end - start + 1).min(PIECE);
                    let mut bytes = vec![0; len as usize];
                    if memory.read(Gva(start), &mut bytes).is_ok() {
                        let set = self.set.code();
                        set.short(Gva(start), &bytes, targets, &mut |position| {
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
