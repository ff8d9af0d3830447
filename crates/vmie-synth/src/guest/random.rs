//! Random guests for property tests.
//!
//! Uniformly random page tables are almost all alike: sparse, and with no two pages that touch. The
//! interesting cases are built on purpose and only their combination is random: runs of pages with
//! gaps in them, runs that change protection, frames that are adjacent and frames that are not, large
//! pages beside small ones, the first and the last page of each half of the address space, and, as
//! far as the [`Knobs`] allow, everything [`Space`] can do to a table.

use super::entry::{Flags, PageSize, Paging, reserved_bits};
use super::frames::Frames;
use super::machine::Machine;
use super::phys::{PAGE, Phys};
use super::rng::Rng;
use super::space::Space;
use super::truth::{Truth, TruthPage};

/// What a random guest may contain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Knobs {
    /// Runs of mappings to try; each has up to 24 pages.
    pub runs: u32,
    /// Large pages.
    pub large: bool,
    /// Protection in table entries, not in leaves only.
    pub restrict: bool,
    /// One table under several entries.
    pub share: bool,
    /// Self-maps and entries that refer to an ancestor.
    pub loops: bool,
    /// Entries with the present bit clear and other bits set, as swap entries are.
    pub leftovers: bool,
    /// Present entries with reserved bits set, and present entries that are noise.
    pub malformed: bool,
    /// Tables and pages whose frames are not in physical memory.
    pub absent: bool,
    /// A subtree that claims far more than memory holds.
    pub explode: bool,
}

impl Knobs {
    /// Only mappings that an orderly operating system makes.
    pub const PLAIN: Self = Self {
        runs: 12,
        large: true,
        restrict: true,
        share: false,
        loops: false,
        leftovers: true,
        malformed: false,
        absent: false,
        explode: false,
    };

    /// Everything at once.
    pub const HOSTILE: Self = Self {
        runs: 12,
        large: true,
        restrict: true,
        share: true,
        loops: true,
        leftovers: true,
        malformed: true,
        absent: true,
        explode: true,
    };
}

/// A random guest and the truth about it.
#[derive(Clone)]
pub struct RandomGuest {
    /// Memory and tables.
    pub machine: Machine,
    /// The one address space.
    pub space: Space,
    /// What is mapped in it.
    pub truth: Truth,
}

impl RandomGuest {
    /// Addresses worth asking about: page borders and the bytes beside them, inside and outside of
    /// everything the truth mentions, the edges of the address space, and `extra` random ones.
    pub fn probes(&self, seed: u64, extra: usize) -> Vec<u64> {
        let mut rng = Rng::new(seed);
        let paging = self.space.paging();
        let half = 1 << (paging.va_bits() - 1);
        let edges = [0, half - 1, half, u64::MAX].map(|va| paging.canonical(va));
        let pages = self.truth.pages.iter().map(|p| (p.va, p.size));
        let ranges = self.truth.lost.iter().chain(&self.truth.opaque);
        let ranges = ranges.chain(self.truth.repeats.iter().map(|r| &r.range));
        let mut probes: Vec<u64> = edges.to_vec();
        for (va, len) in pages.chain(ranges.map(|r| (r.va, r.len))) {
            let inside = va + rng.below(len);
            let around = [va.wrapping_sub(1), va, inside, va + (len - 1)];
            probes.extend(around);
            probes.push(va.wrapping_add(len));
        }
        probes.extend((0..extra).map(|_| rng.u64()));
        for va in &mut probes {
            *va = paging.canonical(*va);
        }
        probes
    }
}

/// RAM that frames are taken from: below and above a hole, and, where the mode can address it, above
/// 4 GiB. In all 24 MiB.
const LOW: std::ops::Range<u64> = 0x10_0000..0x90_0000;
const MIDDLE: std::ops::Range<u64> = 0xe000_0000..0xe080_0000;
const HIGH: std::ops::Range<u64> = 0x1_8000_0000..0x1_8080_0000;

/// Builds the guest that `seed` stands for: physically sparse, with a few hundred mapped pages.
///
/// Every mapped 4 KiB frame starts and ends with its own physical address, so that a test can see
/// which frame it was given.
pub fn random(seed: u64, paging: Paging, knobs: &Knobs) -> RandomGuest {
    let mut rng = Rng::new(seed);
    let mut phys = Phys::sparse();
    for range in [LOW, MIDDLE, HIGH] {
        phys.add_ram(range);
    }
    let frames = Frames::scattered(phys.ranges(), rng.u64());
    let mut machine = Machine::with(phys, frames);
    let space = Space::new(&mut machine, paging);
    let mut build = Build {
        rng,
        machine,
        space,
        knobs,
    };
    for run in 0..knobs.runs.max(1) {
        build.run(run);
    }
    if knobs.restrict {
        build.restrict();
    }
    if knobs.share {
        build.share();
    }
    if knobs.loops {
        build.loops();
    }
    if knobs.explode {
        build.explode();
    }
    if knobs.leftovers {
        build.leftovers();
    }
    if knobs.malformed {
        build.malform();
    }
    build.stamp();
    if knobs.absent {
        build.lose();
    }
    let truth = build.space.truth(&build.machine);
    RandomGuest {
        machine: build.machine,
        space: build.space,
        truth,
    }
}

struct Build<'a> {
    rng: Rng,
    machine: Machine,
    space: Space,
    knobs: &'a Knobs,
}

impl Build<'_> {
    fn paging(&self) -> Paging {
        self.space.paging()
    }

    fn flags(&mut self) -> Flags {
        let bits = self.rng.u64();
        // Accessed, dirty and software bits must make no difference.
        let noise = bits >> 8 & (0b111 << 9 | 1 << 5 | 1 << 6);
        Flags::of(bits & 1 != 0, bits & 2 != 0, bits & 4 != 0).with(noise)
    }

    /// Flags for a table entry of `level`: mostly open, or little would be left of the variety below.
    fn table_flags(&mut self, level: u8) -> Flags {
        if self.rng.chance(60) {
            Flags::OPEN
        } else {
            let flags = self.flags();
            // Dirty has no meaning in a table entry, and PAE's root entries have no accessed bit.
            let accessed = 1 << 5 & !reserved_bits(self.paging(), level, false);
            Flags {
                extra: flags.extra & accessed,
                ..flags
            }
        }
    }

    /// A place to start a run of pages of `size`.
    fn start(&mut self, run: u32, size: PageSize) -> u64 {
        let paging = self.paging();
        let half = 1u64 << (paging.va_bits() - 1);
        let last = size.bytes() * (1 + self.rng.below(4));
        let va = match run {
            0 => 0,
            1 => half - last,
            2 => half,
            3 => 0u64.wrapping_sub(last),
            // Near an earlier mapping, so that runs meet, and in the same table as often as not.
            _ if self.rng.chance(40) => {
                let pages = self.pages();
                let page = *self.rng.pick(&pages);
                let near = self.rng.below(64) * size.bytes();
                page.va.wrapping_add(page.size).wrapping_add(near)
            }
            _ => self.rng.u64(),
        };
        paging.canonical(va) & !(size.bytes() - 1)
    }

    fn run(&mut self, run: u32) {
        let paging = self.paging();
        let size = if self.knobs.large && self.rng.chance(30) {
            *self.rng.pick(paging.page_sizes())
        } else {
            PageSize::Size4K
        };
        let pages = if size == PageSize::Size4K {
            1 + self.rng.below(24)
        } else {
            1 + self.rng.below(4)
        };
        let mut va = self.start(run, size);
        let mut flags = self.flags();
        let mut previous = None;
        for _ in 0..pages {
            // The first page is never left out: later steps count on something being mapped.
            let skip = previous.is_some() && self.rng.chance(10);
            if !skip && self.space.is_free(&self.machine, size.level(), va) {
                if self.rng.chance(20) {
                    flags = self.flags();
                }
                let gpa = self.frame(size, previous);
                self.space.map(&mut self.machine, va, gpa, size, flags);
                previous = Some(gpa);
            }
            let next = va.wrapping_add(size.bytes());
            if paging.canonical(next) != next || next < va {
                break;
            }
            va = next;
        }
    }

    /// A frame for a page, often the one behind the previous page's.
    fn frame(&mut self, size: PageSize, previous: Option<u64>) -> u64 {
        if size != PageSize::Size4K {
            // Large pages map what they like: RAM, devices, nothing at all.
            let limit: u64 = match size {
                PageSize::Size4M => 1 << 40,
                _ => 1 << 34,
            };
            return match previous {
                Some(gpa) if self.rng.chance(50) && gpa + size.bytes() < limit => {
                    gpa + size.bytes()
                }
                _ => self.rng.below(limit / size.bytes()) * size.bytes(),
            };
        }
        let limit = self.paging().frame_limit();
        match previous.map(|gpa| gpa + PAGE) {
            Some(gpa)
                if gpa < limit && self.rng.chance(50) && self.machine.frames.try_take(gpa) =>
            {
                gpa
            }
            _ => self.space.alloc(&mut self.machine),
        }
    }

    fn pages(&self) -> Vec<TruthPage> {
        self.space.truth(&self.machine).pages
    }

    /// Some mapped page, and a level at which a table serves it.
    fn table(&mut self, pages: &[TruthPage]) -> (u64, u8) {
        let page = *self.rng.pick(pages);
        let paging = self.paging();
        let lowest = (1..=paging.levels())
            .find(|&level| paging.span(level) == page.size)
            .expect("every page has the span of some level");
        let level = u64::from(paging.levels() - lowest) + 1;
        (page.va, lowest + self.rng.below(level) as u8)
    }

    fn restrict(&mut self) {
        let pages = self.pages();
        for _ in 0..self.knobs.runs {
            let (va, level) = self.table(&pages);
            // The lowest level holds the leaf itself.
            if let Some(level) = self.above_leaf(&pages, va, level) {
                let flags = self.table_flags(level);
                self.space
                    .set_table_flags(&mut self.machine, level, va, flags);
            }
        }
    }

    /// `level`, or the next higher one that refers to a table on the way to the page at `va`.
    fn above_leaf(&self, pages: &[TruthPage], va: u64, level: u8) -> Option<u8> {
        let page = pages.iter().find(|page| page.va == va)?;
        let paging = self.paging();
        (level..=paging.levels()).find(|&level| paging.span(level) > page.size)
    }

    /// A free entry of `level`: beside the one for `near`, or anywhere.
    fn free(&mut self, level: u8, near: u64) -> Option<u64> {
        let paging = self.paging();
        let span = paging.span(level);
        for _ in 0..16 {
            let step = self.rng.below(6) * span;
            let va = if self.rng.chance(70) {
                near.wrapping_add(step)
            } else {
                self.rng.u64()
            };
            let va = paging.canonical(va) & !(span - 1);
            if self.space.is_free(&self.machine, level, va) {
                return Some(va);
            }
        }
        None
    }

    fn share(&mut self) {
        let pages = self.pages();
        for _ in 0..3 {
            let (va, level) = self.table(&pages);
            let Some(level) = self.above_leaf(&pages, va, level) else {
                continue;
            };
            let flags = self.table_flags(level);
            if let Some(to) = self.free(level, va) {
                self.space
                    .share_table(&mut self.machine, level, va, to, flags);
            }
        }
    }

    fn loops(&mut self) {
        let paging = self.paging();
        let top = paging.levels();
        let index = self.rng.below(paging.entries(top));
        let va = paging.canonical(index * paging.span(top));
        let pae = paging == Paging::Pae;
        let flags = self.table_flags(if pae { 2 } else { top });
        let free = if pae {
            // Four entries of the page directory are needed.
            (0..4).all(|n| {
                let va = va + n * paging.span(2);
                self.space.is_free(&self.machine, 2, va)
            })
        } else {
            self.space.is_free(&self.machine, top, va)
        };
        if free {
            self.space.self_map(&mut self.machine, index, flags);
        }
        let pages = self.pages();
        for _ in 0..2 {
            let page = *self.rng.pick(&pages);
            // A PAE root cannot serve as another table: its entries have a format of their own.
            let highest = if pae { 2 } else { top };
            let level = 1 + self.rng.below(u64::from(highest)) as u8;
            let ancestor = level + self.rng.below(u64::from(highest - level) + 1) as u8;
            if let Some(va) = self.free(level, page.va) {
                let flags = self.table_flags(level);
                self.space
                    .loop_table(&mut self.machine, level, va, ancestor, flags);
            }
        }
    }

    fn explode(&mut self) {
        let top = self.paging().levels();
        let level = 2 + self.rng.below(u64::from(top) - 1) as u8;
        let near = self.rng.u64();
        if let Some(va) = self.free(level, near) {
            let flags = self.table_flags(level);
            self.space.explode(&mut self.machine, level, va, flags);
        }
    }

    fn leftovers(&mut self) {
        let pages = self.pages();
        for _ in 0..6 {
            let (near, level) = self.table(&pages);
            let garbage = self.noise() & !1;
            if let Some(va) = self.free(level, near) {
                self.space.poke_entry(&mut self.machine, level, va, garbage);
            }
        }
    }

    fn malform(&mut self) {
        let paging = self.paging();
        let pages = self.pages();
        for _ in 0..3 {
            let (va, level) = self.table(&pages);
            let page = pages.iter().find(|page| page.va == va);
            let leaf = page.is_some_and(|page| page.size == paging.span(level));
            let reserved = reserved_bits(paging, level, leaf);
            let bits: Vec<u32> = (0..64).filter(|bit| reserved >> bit & 1 != 0).collect();
            let plain = self.space.is_plain(&self.machine, level, va);
            if bits.is_empty() || !plain || hides_most(&pages, va, paging.span(level)) {
                continue;
            }
            let bit = *self.rng.pick(&bits);
            self.space.malform(&mut self.machine, level, va, 1 << bit);
        }
        let (near, level) = self.table(&pages);
        let noise = self.noise() | 1;
        if let Some(va) = self.free(level, near) {
            self.space.poke_entry(&mut self.machine, level, va, noise);
        }
    }

    /// Random bits for an entry.
    fn noise(&mut self) -> u64 {
        let bits = 8 * self.paging().entry_bytes();
        self.rng.u64() >> (64 - bits)
    }

    fn stamp(&mut self) {
        for page in self.pages() {
            let machine = &mut self.machine;
            let ours = !machine.is_table(page.gpa) && machine.phys.contains(page.gpa, PAGE);
            if page.size == PAGE && ours {
                for at in [page.gpa, page.gpa + PAGE - 8] {
                    machine.phys.write_uint(at, page.gpa, 8);
                }
            }
        }
    }

    fn lose(&mut self) {
        let pages = self.pages();
        let paging = self.paging();
        for _ in 0..2 {
            let (va, level) = self.table(&pages);
            if level < paging.levels()
                && !hides_most(&pages, va, paging.span(level + 1))
                && self.space.is_plain(&self.machine, level, va)
            {
                self.space.lose_table(&mut self.machine, level, va);
            }
        }
        for _ in 0..3 {
            let page = *self.rng.pick(&pages);
            if page.size == PAGE && !self.machine.is_table(page.gpa) {
                self.machine.phys.make_absent(page.gpa..page.gpa + PAGE);
            }
        }
    }
}

/// Whether most pages lie in the aligned `span` bytes around `va`: spoiling all of those would leave
/// a guest with nothing to see.
fn hides_most(pages: &[TruthPage], va: u64, span: u64) -> bool {
    let hidden = pages.iter().filter(|page| page.va / span == va / span);
    hidden.count() * 2 > pages.len()
}
