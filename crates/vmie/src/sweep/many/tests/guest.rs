//! What the tests need: guests, a scanner that is hard to please, the reference implementation.

use std::ops::ControlFlow::Continue;
use std::sync::Arc;

use proptest::prelude::*;
use vmie_synth::guest::{Flags, Frames, Machine, PageSize, Paging, Phys, Rng, Space};

use crate::addr::{AddrRange, Gpa, Gva};
use crate::memory::{Coverage, Memory};
use crate::paging::{AddressSpace, Mode};
use crate::sweep::many::plain::sweep_part;
use crate::sweep::many::{Limits, ManyOutcome, Piece, Sighting, SpacePart, sweep_within};
use crate::sweep::{Found, SweepOptions, quiet};
use crate::testguest::Synthetic;

/// A scanner that is as hard to please as can be: it reports what starts at a byte as a hash of all
/// the surroundings, of how far they reach, and of the address as far as it may know it; one in
/// `rarity` of them.
pub(super) struct Picky {
    pub(super) overlap: usize,
    pub(super) behind: usize,
    pub(super) rarity: u64,
}

impl Picky {
    pub(super) fn scan(&self, piece: &Piece<'_>, found: &mut Found<(usize, u64)>) {
        const BASE: u64 = 0x100_0000_01b3;
        let bytes = || piece.before.iter().chain(piece.bytes);
        // Polynomial hashes of all prefixes give that of any part.
        let mut prefixes = Vec::with_capacity(piece.before.len() + piece.bytes.len() + 1);
        let mut last = 0u64;
        prefixes.push(last);
        for &byte in bytes() {
            last = last.wrapping_mul(BASE).wrapping_add(u64::from(byte) + 1);
            prefixes.push(last);
        }
        let (mut exponent, mut power) = (0, 1);
        for offset in 0..piece.owned {
            let at = piece.before.len() + offset;
            let from = at - self.behind.min(at);
            let to = (at + 1 + self.overlap).min(prefixes.len() - 1);
            // All parts but those at the ends are equally long.
            if to - from != exponent {
                exponent = to - from;
                power = BASE.wrapping_pow(u32::try_from(exponent).expect("a window"));
            }
            let part = prefixes[to].wrapping_sub(prefixes[from].wrapping_mul(power));
            let phase = (piece.phase + offset as u64) % Piece::ALIGN;
            let hash = [(at - from) as u64, (to - at) as u64, phase]
                .into_iter()
                .fold(part, |hash, n| {
                    (hash ^ n).wrapping_mul(BASE).rotate_left(29)
                });
            if hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 < (1 << 32) / self.rarity {
                found.push((offset, hash));
            }
        }
    }
}

pub(super) type Results = (Vec<Sighting<u64>>, ManyOutcome);

/// The reference implementation.
pub(super) fn one_by_one(
    parts: &[SpacePart<'_>],
    options: &SweepOptions<Gva>,
    scanner: &Picky,
) -> Results {
    let mut all = Vec::new();
    let mut coverage = Vec::new();
    for (space, part) in parts.iter().enumerate() {
        let Some(range) = part.asked(options) else {
            coverage.push(Coverage::default());
            continue;
        };
        let outcome = sweep_part(
            part.space,
            range,
            options,
            &mut quiet,
            &|piece: &Piece<'_>, found: &mut Found<(usize, u64)>| scanner.scan(piece, found),
            &mut |addr, item| {
                all.push(Sighting { space, addr, item });
                Continue(())
            },
        );
        assert!(!outcome.stopped);
        coverage.push(outcome.coverage);
    }
    let looked_at = coverage.iter().map(|c| c.read).sum();
    let outcome = ManyOutcome {
        coverage,
        looked_at,
        stopped: false,
    };
    (all, outcome)
}

pub(super) fn at_once(
    limits: Limits,
    parts: &[SpacePart<'_>],
    options: &SweepOptions<Gva>,
    scanner: &Picky,
) -> Results {
    let mut all = Vec::new();
    let outcome = sweep_within(
        limits,
        parts,
        options,
        &mut quiet,
        &|piece: &Piece<'_>, found: &mut Found<(usize, u64)>| scanner.scan(piece, found),
        &mut |sighting| {
            all.push(sighting);
            Continue(())
        },
    );
    (all, outcome)
}

/// Compares lists that are too long to print whole.
pub(super) fn assert_same(at_once: &Results, one_by_one: &Results) {
    let (a, b) = (&at_once.0, &one_by_one.0);
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    assert_eq!(
        a.get(same),
        b.get(same),
        "result {same} of {} and {}",
        a.len(),
        b.len()
    );
    assert_eq!(at_once.1.coverage, one_by_one.1.coverage);
    assert_eq!(at_once.1.stopped, one_by_one.1.stopped);
}

const LOW: std::ops::Range<u64> = 0..0x40_0000;
const HIGH: std::ops::Range<u64> = 0x60_0000..0x61_0000;

/// A guest whose spaces share frames, tables and neighbourhoods.
pub(super) struct Guest {
    pub(super) spaces: Vec<AddressSpace>,
}

impl Guest {
    pub(super) fn random(seed: u64, count: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut phys = Phys::sparse();
        phys.add_ram(LOW);
        phys.add_ram(HIGH);
        let frames = Frames::sequential(&[0x10_0000..0x20_0000]);
        let mut machine = Machine::with(phys, frames);
        // Few frames, so that each is mapped often; some of them touch, those at the end of a region
        // too.
        let pool: Vec<u64> = (0..24)
            .map(|n| n * 0x1000)
            .chain([
                0x3f_e000, 0x3f_f000, 0x60_0000, 0x60_1000, 0x60_e000, 0x60_f000,
            ])
            .collect();
        // Few byte values, long repetitions: what stands across a border looks like what does not.
        for &gpa in &pool {
            let bytes: Vec<u8> = (0..4096).map(|_| rng.below(3) as u8).collect();
            if !rng.chance(20) {
                machine.phys.write(gpa, &bytes);
            }
        }
        let spaces: Vec<Space> = (0..count)
            .map(|_| Space::new(&mut machine, Paging::FourLevel))
            .collect();
        for space in &spaces {
            for _ in 0..rng.below(5) {
                map_some(&mut rng, &mut machine, space, &pool);
            }
            if rng.chance(8) {
                let va = 0x4000_0000 + rng.below(2) * 0x20_0000;
                let gpa = rng.below(3) * 0x20_0000;
                let flags = Flags::of(rng.chance(50), true, rng.chance(50));
                space.map(&mut machine, va, gpa, PageSize::Size2M, flags);
            }
        }
        for pair in spaces.windows(2) {
            let to = 0x7000_0000_0000;
            if rng.chance(50) && pair[1].is_free(&machine, 2, to) {
                pair[0].share_with(&mut machine, 2, 0, pair[1], to, Flags::OPEN);
            }
        }
        if rng.chance(30) {
            spaces[0].lose_table(&mut machine, 1, 0x1000);
        }
        let mut memory = Synthetic::new(machine.phys);
        for _ in 0..rng.below(4) {
            let gpa = *rng.pick(&pool);
            memory.unreadable.push(match rng.below(3) {
                0 => (gpa, 0x1000),
                1 => (gpa, 0x2000),
                _ => (gpa + 0x800, 0x800),
            });
        }
        if rng.chance(30) {
            memory.cut = rng.below(0x2000);
        }
        if rng.chance(50) {
            memory = memory.lending();
        }
        let memory: Arc<dyn Memory<Addr = Gpa>> = Arc::new(memory);
        Self {
            spaces: spaces
                .iter()
                .map(|s| AddressSpace::new(Arc::clone(&memory), Gpa(s.root()), Mode::FourLevel))
                .collect(),
        }
    }
}

/// Maps a run of pages: the same file in every space, more or less.
fn map_some(rng: &mut Rng, machine: &mut Machine, space: &Space, pool: &[u64]) {
    let starts = [
        0,
        0x1000,
        0x7fff_ffff_8000,
        0xffff_8000_0000_0000,
        0xffff_ffff_ffff_8000,
    ];
    let start = *rng.pick(&starts);
    let file = rng.below(3);
    let mut flags = Flags::DATA;
    for page in 0..1 + rng.below(8) {
        let va = start + page * 0x1000;
        if rng.chance(20) {
            flags = Flags::of(rng.chance(50), rng.chance(50), rng.chance(50));
        }
        if rng.chance(15) || !space.is_free(machine, 1, va) {
            continue;
        }
        let gpa = match rng.below(10) {
            0 => 0x5f_f000, // not RAM
            1 | 2 => *rng.pick(pool),
            // In order, or every other one.
            _ => pool[((page + file) * (1 + file) % pool.len() as u64) as usize],
        };
        space.map(machine, va, gpa, PageSize::Size4K, flags);
    }
}

pub(super) fn any_range() -> impl Strategy<Value = AddrRange<Gva>> {
    let edge = prop::sample::select(vec![
        0u64,
        0x1000,
        0x1800,
        0x2fc1,
        0x7fff_ffff_9000,
        0x7fff_ffff_9abc,
        0x7fff_ffff_ffff,
        0xffff_8000_0000_0000,
        0xffff_ffff_ffff_9100,
        u64::MAX,
    ]);
    (edge.clone(), edge)
        .prop_map(|(a, b)| AddrRange::inclusive(Gva(a.min(b)), Gva(a.max(b))).expect("in order"))
}
