//! Many spaces at once against one after the other.

mod guest;
mod repeats;

use std::collections::BTreeSet;
use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use vmie_synth::guest::{Flags, Knobs, Machine, Paging, Rng, Space, random};

use super::frames::{FrameSet, Lineup, Ram};
use super::seams::{Seam, Seams};
use super::{Limits, Piece, SpacePart, sweep_many};
use crate::addr::{AddrRange, Address, Gpa, Gva, PAGE_SIZE};
use crate::memory::{Cause, Fault, Memory, Prot, Spans};
use crate::paging::{AddressSpace, Mode};
use crate::sweep::{Found, SweepOptions, quiet};
use crate::testguest::Synthetic;
use crate::testmem::Made;
use guest::{Guest, Picky, any_range, assert_same, at_once, one_by_one};

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, ..ProptestConfig::default() })]

    #[test]
    fn many_spaces_give_what_each_gives(
        seed: u64,
        count in 1u64..5,
        (overlap, behind) in prop::sample::select(vec![
            (0usize, 0usize), (1, 0), (0, 1), (3, 2), (15, 0), (40, 40), (63, 1), (64, 1), (200, 0),
            (0, 300), (1000, 7), (4000, 95), (4000, 97), (5000, 0), (9000, 3), (70_000, 0),
        ]),
        window in prop::sample::select(vec![1usize, 3, 7, 4096, 5000, 1 << 18]),
        threads in 1usize..=2,
        perm in prop::sample::select(vec![Prot::NONE, Prot::W, Prot::X, Prot::USER]),
        asked in prop::option::of(any_range()),
        parts in prop::collection::vec(prop::option::weighted(0.3, any_range()), 4),
        rarity in prop::sample::select(vec![1u64, 40, 5000]),
        max_bytes in prop::sample::select(vec![u64::MAX, 50_000, 8192, 0x40_0000]),
        limits in prop::sample::select(vec![
            Limits::USUAL,
            Limits { seams_per_frame: 0, seams: 3, ..Limits::USUAL },
            Limits { found_bytes: 4000, ..Limits::USUAL },
            Limits { walked_bytes: 0, ..Limits::USUAL },
            Limits { walked_bytes: 700, ..Limits::USUAL },
        ]),
    ) {
        // Tiny windows read their surroundings again for each byte.
        let window = if overlap + behind > 70 { window.max(2500) } else { window };
        let rarity = if window < 10 { rarity.max(40) } else { rarity };
        let guest = Guest::random(seed, count);
        let parts: Vec<SpacePart<'_>> = guest
            .spaces
            .iter()
            .zip(&parts)
            .map(|(space, part)| SpacePart { space, range: part.unwrap_or(AddrRange::all()) })
            .collect();
        let options = SweepOptions {
            range: asked, perm, window, overlap, behind, threads, max_bytes, ..SweepOptions::default()
        };
        let scanner = Picky { overlap, behind, rarity };
        let reference = one_by_one(&parts, &options, &scanner);
        assert_same(&at_once(limits, &parts, &options, &scanner), &reference);
    }

    #[test]
    fn hostile_tables_give_what_each_gives(
        seed: u64,
        paging in prop::sample::select(vec![
            Paging::X86, Paging::Pae, Paging::FourLevel, Paging::FiveLevel,
        ]),
        overlap in prop::sample::select(vec![0usize, 15, 300]),
        threads in 1usize..=2,
        knobs in prop::sample::select(vec![Knobs::PLAIN, Knobs::HOSTILE]),
        parts in prop::collection::vec(any_range(), 1..3),
    ) {
        let guest = random(seed, paging, &knobs);
        let mode = match paging {
            Paging::X86 => Mode::X86,
            Paging::Pae => Mode::Pae,
            Paging::FourLevel => Mode::FourLevel,
            Paging::FiveLevel => Mode::FiveLevel,
        };
        let memory: Arc<dyn Memory<Addr = Gpa>> = Synthetic::of(guest.machine);
        let space = AddressSpace::new(memory, Gpa(guest.space.root()), mode);
        let parts: Vec<SpacePart<'_>> = std::iter::once(AddrRange::all())
            .chain(parts)
            .map(|range| SpacePart { space: &space, range })
            .collect();
        let options = SweepOptions {
            overlap,
            threads,
            window: 1 << 14,
            max_bytes: 1 << 20,
            ..SweepOptions::default()
        };
        let scanner = Picky { overlap, behind: 0, rarity: 50 };
        let reference = one_by_one(&parts, &options, &scanner);
        assert_same(&at_once(Limits::USUAL, &parts, &options, &scanner), &reference);
    }

    #[test]
    fn frame_sets_agree_with_a_list(
        regions in prop::collection::vec((0u64..300, 1u64..100, 0u64..3), 1..5),
        steps in prop::collection::vec((0u64..400 * PAGE_SIZE, 0u64..200 * PAGE_SIZE, any::<bool>()), 1..30),
    ) {
        let mut memory = crate::testmem::TestMemory::<Gpa>::new();
        let mut declared = BTreeSet::new();
        let mut start = 0;
        for (gap, pages, cut) in regions {
            // Some regions touch, some begin or end in the middle of a page.
            start += gap * PAGE_SIZE;
            let len = pages * PAGE_SIZE - cut * 100;
            memory = memory.part(start, &vec![0; len as usize], Prot::RWX);
            let (first, end) = (start.div_ceil(PAGE_SIZE), (start + len) / PAGE_SIZE);
            declared.extend(first..end);
            start += len;
        }
        let ram = Arc::new(Ram::of(&memory).expect("small"));
        prop_assert_eq!(ram.frames(), declared.len() as u64);
        let mut set = FrameSet::new(&ram);
        let mut list = BTreeSet::new();
        let holds = |list: &BTreeSet<u64>, gpa: u64| list.contains(&(gpa / PAGE_SIZE));
        for (gpa, len, put) in steps {
            let frames = gpa / PAGE_SIZE..(gpa + len).div_ceil(PAGE_SIZE);
            let any = frames.clone().any(|frame| list.contains(&frame));
            prop_assert_eq!(set.any(gpa, len), len > 0 && any);
            if put {
                set.insert(gpa, len);
                list.extend(frames.filter(|frame| len > 0 && declared.contains(frame)));
            } else {
                set.remove(gpa, len);
                list.retain(|frame| len == 0 || !frames.contains(frame));
            }
            for query in [gpa & !(PAGE_SIZE - 1), 0] {
                let (held, n) = set.run(query, 500 * PAGE_SIZE);
                prop_assert!(n > 0 && n <= 500 * PAGE_SIZE && n.is_multiple_of(PAGE_SIZE));
                for at in (query..query + n).step_by(PAGE_SIZE as usize) {
                    prop_assert_eq!(held, holds(&list, at), "{:#x}", at);
                }
                let (there, n) = ram.declared(query, 500 * PAGE_SIZE);
                for at in (query..query + n).step_by(PAGE_SIZE as usize) {
                    prop_assert_eq!(there, holds(&declared, at), "{:#x}", at);
                }
            }
        }
        let runs: Vec<u64> = set
            .runs()
            .into_iter()
            .flat_map(|(gpa, len)| (gpa / PAGE_SIZE)..(gpa + len) / PAGE_SIZE)
            .collect();
        prop_assert_eq!(&runs, &list.iter().copied().collect::<Vec<_>>());

        // All put in a line: each frame is there once, in order.
        let lineup = Lineup::new(&memory, &set);
        let mut all = FrameSet::new(&ram);
        let mut seen = Vec::new();
        for span in lineup.spans(AddrRange::all()) {
            for at in (span.start.0..span.start.0 + span.len).step_by(PAGE_SIZE as usize) {
                seen.push(lineup.gpa(at) / PAGE_SIZE);
            }
            lineup.mark(span.range(), &mut all);
        }
        prop_assert_eq!(&seen, &runs);
        prop_assert_eq!(all.runs(), set.runs());
    }
}

/// Many processes that map the same library, and some memory of their own.
fn crowd(processes: u64) -> (Arc<dyn Memory<Addr = Gpa>>, Vec<AddressSpace>, u64) {
    let mut machine = Machine::scattered(0..64 << 20, 7);
    let mut rng = Rng::new(3);
    let mut page = vec![0; 4096];
    let mut frames = |machine: &mut Machine, count: u64| -> Vec<u64> {
        (0..count)
            .map(|_| {
                let gpa = machine.frames.alloc();
                rng.fill(&mut page);
                machine.phys.write(gpa, &page);
                gpa
            })
            .collect()
    };
    let library = frames(&mut machine, 300);
    let mut total = 300;
    let mut roots = Vec::new();
    for process in 0..processes {
        let space = Space::new(&mut machine, Paging::FourLevel);
        let at = 0x7f00_0000_0000 + process * 0x1000_0000;
        space.map_frames(&mut machine, at, &library, Flags::CODE);
        let own = frames(&mut machine, 20);
        space.map_frames(&mut machine, 0x40_0000, &own, Flags::DATA);
        total += 20;
        roots.push(space.root());
    }
    let memory: Arc<dyn Memory<Addr = Gpa>> = Synthetic::of(machine);
    let spaces = roots
        .iter()
        .map(|&root| AddressSpace::new(Arc::clone(&memory), Gpa(root), Mode::FourLevel))
        .collect();
    (memory, spaces, total * PAGE_SIZE)
}

#[test]
fn a_match_across_a_border_is_found_where_the_border_is() {
    let mut machine = Machine::new(0..1 << 20);
    let frames: Vec<u64> = (0..6).map(|_| machine.frames.alloc()).collect();
    // The text lies across the frames 0 and 1, which touch, and again across 3 and 2, which do not.
    machine.phys.write(frames[1] - 3, b"needle");
    machine.phys.write(frames[3] + 4096 - 2, b"ne");
    machine.phys.write(frames[2], b"edle");
    let orders: [&[usize]; 5] = [
        &[0, 1],
        &[5, 0, 1, 3, 2],
        &[1, 0, 2, 3],
        &[3, 2, 4, 3, 2],
        &[0, 2, 3, 1],
    ];
    let roots = orders.map(|order| {
        let space = Space::new(&mut machine, Paging::FourLevel);
        let order: Vec<u64> = order.iter().map(|&n| frames[n]).collect();
        space.map_frames(&mut machine, 0x10_0000, &order, Flags::DATA);
        space.root()
    });
    let memory: Arc<dyn Memory<Addr = Gpa>> = Synthetic::of(machine);
    let spaces =
        roots.map(|root| AddressSpace::new(Arc::clone(&memory), Gpa(root), Mode::FourLevel));
    let mut seen = Vec::new();
    let outcome = sweep_many(
        &spaces.each_ref().map(SpacePart::all),
        &SweepOptions {
            overlap: 5,
            ..SweepOptions::default()
        },
        &mut quiet,
        |piece, found| {
            let starts = piece.bytes.windows(6).take(piece.owned).enumerate();
            let needles = starts.filter(|(_, six)| six == b"needle");
            needles.for_each(|(at, _)| found.push((at, ())));
        },
        |sighting| {
            seen.push((sighting.space, sighting.addr.raw()));
            Continue(())
        },
    );
    assert!(outcome.total().is_complete());
    let expected = [
        (0, 0x10_0ffd),
        (1, 0x10_1ffd),
        (1, 0x10_3ffe),
        (3, 0x10_0ffe),
        (3, 0x10_3ffe),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn each_frame_is_looked_at_once() {
    let (_memory, spaces, bytes) = crowd(40);
    let parts: Vec<_> = spaces.iter().map(SpacePart::all).collect();
    let options = SweepOptions {
        overlap: 15,
        threads: 1,
        ..SweepOptions::default()
    };
    let shown = AtomicU64::new(0);
    let outcome = sweep_many(
        &parts,
        &options,
        &mut quiet,
        |piece, _: &mut Found<(usize, ())>| {
            shown.fetch_add(piece.owned as u64, Ordering::Relaxed);
        },
        |_| Continue(()),
    );
    let total = outcome.total();
    assert!(total.is_complete());
    assert_eq!(total.read, 40 * 320 * PAGE_SIZE, "each mapping counts");
    assert_eq!(outcome.looked_at, shown.into_inner());
    assert!(outcome.looked_at >= bytes);
    assert!(
        outcome.looked_at <= bytes + bytes / 20,
        "{} bytes of {bytes}",
        outcome.looked_at
    );
}

#[test]
fn one_frame_mapped_all_over_is_looked_at_once() {
    let mut machine = Machine::new(0..16 << 20);
    let space = Space::new(&mut machine, Paging::FourLevel);
    // 2^27 pages.
    space.explode(&mut machine, 4, 0, Flags::DATA);
    let memory: Arc<dyn Memory<Addr = Gpa>> = Synthetic::of(machine);
    let space = AddressSpace::new(memory, Gpa(space.root()), Mode::FourLevel);
    let bound = 1 << 30;
    let options = SweepOptions {
        overlap: 15,
        threads: 1,
        max_bytes: bound,
        ..SweepOptions::default()
    };
    let outcome = sweep_many(
        &[SpacePart::all(&space)],
        &options,
        &mut quiet,
        |_, _: &mut Found<(usize, ())>| {},
        |_| Continue(()),
    );
    let coverage = &outcome.coverage[0];
    assert_eq!(coverage.read, bound);
    assert_eq!(coverage.lost, (1 << 39) - bound, "and says so");
    assert!(coverage.gaps.iter().all(|gap| gap.cause == Cause::Limit));
    assert!(outcome.looked_at < 1 << 14, "{}", outcome.looked_at);
}

#[test]
fn spaces_of_different_guests() {
    let (one, two) = (Guest::random(1, 3), Guest::random(2, 2));
    let spaces: Vec<_> = [
        &one.spaces[0],
        &two.spaces[0],
        &one.spaces[1],
        &two.spaces[1],
    ]
    .into_iter()
    .map(SpacePart::all)
    .collect();
    let options = SweepOptions {
        overlap: 20,
        threads: 1,
        max_bytes: 1 << 24,
        ..SweepOptions::default()
    };
    let scanner = Picky {
        overlap: 20,
        behind: 0,
        rarity: 20,
    };
    let reference = one_by_one(&spaces, &options, &scanner);
    assert!(reference.0.iter().any(|found| found.space == 3));
    assert_same(
        &at_once(Limits::USUAL, &spaces, &options, &scanner),
        &reference,
    );
    assert_same(
        &at_once(Limits::USUAL, &[], &options, &scanner),
        &one_by_one(&[], &options, &scanner),
    );
}

#[test]
fn emit_and_progress_can_stop() {
    let (_memory, spaces, _) = crowd(3);
    let parts: Vec<_> = spaces.iter().map(SpacePart::all).collect();
    let options = SweepOptions {
        threads: 1,
        ..SweepOptions::default()
    };
    let every_page = |piece: &Piece<'_>, found: &mut Found<(usize, ())>| {
        let pages = (0..piece.owned).step_by(4096);
        pages.for_each(|at| found.push((at, ())));
    };
    let mut seen = Vec::new();
    let outcome = sweep_many(&parts, &options, &mut quiet, every_page, |sighting| {
        seen.push((sighting.space, sighting.addr));
        if seen.len() == 321 {
            Break(())
        } else {
            Continue(())
        }
    });
    assert!(outcome.stopped);
    assert_eq!(seen.last(), Some(&(1, Gva(0x40_0000))));
    assert!(seen.is_sorted());
    assert_eq!(outcome.coverage.len(), 3);
    assert_eq!(outcome.coverage[0].read, 320 * PAGE_SIZE);
    assert_eq!(outcome.coverage[2].read, 0);

    let outcome = sweep_many(
        &parts,
        &options,
        &mut |done| {
            if done > 1 << 20 {
                Break(())
            } else {
                Continue(())
            }
        },
        every_page,
        |_| panic!("stopped before anything is reported"),
    );
    assert!(outcome.stopped);
    assert_eq!(outcome.total().read, 0);
}

/// A memory in which the frame at `gpa` can be read so many times.
fn fading(
    memory: &Arc<dyn Memory<Addr = Gpa>>,
    gpa: u64,
    times: u64,
) -> Arc<dyn Memory<Addr = Gpa>> {
    let (mapped, memory) = (Arc::clone(memory), Arc::clone(memory));
    let left = AtomicU64::new(times);
    let read = move |addr: Gpa, buf: &mut [u8]| {
        let end = addr.0 + buf.len() as u64;
        if addr.0 < gpa + PAGE_SIZE && end > gpa {
            let left_now = left.load(Ordering::Relaxed);
            left.store(left_now.saturating_sub(1), Ordering::Relaxed);
            if left_now == 0 {
                let addr = Gpa(gpa.max(addr.0));
                memory.read(addr, &mut [0])?;
                let cause = Cause::Absent { gpa: addr };
                return Err(Fault { addr, cause });
            }
        }
        memory.read(addr, buf)
    };
    let spans = move |range| -> Spans<'static, Gpa> {
        let spans: Vec<_> = mapped.spans(range).collect();
        Box::new(spans.into_iter())
    };
    Arc::new(Made::of(spans, read))
}

#[test]
fn memory_that_goes_away_is_not_said_to_have_been_read() {
    let (memory, spaces, _) = crowd(2);
    let root = spaces[0].root();
    let gpa = spaces[0].translate(Gva(0x40_1000)).expect("mapped").gpa.0;
    for times in (0..8).chain([100]) {
        let space = AddressSpace::new(fading(&memory, gpa, times), root, Mode::FourLevel);
        let options = SweepOptions {
            overlap: 15,
            threads: 1,
            ..SweepOptions::default()
        };
        let mut seen = 0;
        let mut last = None;
        let outcome = sweep_many(
            &[SpacePart::all(&space)],
            &options,
            &mut quiet,
            |piece, found: &mut Found<(usize, ())>| {
                (0..piece.owned).for_each(|at| found.push((at, ())));
            },
            |sighting| {
                // In order, so none comes twice.
                assert!(
                    last < Some(sighting.addr),
                    "after {last:?}: {}",
                    sighting.addr
                );
                last = Some(sighting.addr);
                seen += 1;
                Continue(())
            },
        );
        let coverage = &outcome.coverage[0];
        assert_eq!(coverage.mapped, 320 * PAGE_SIZE);
        assert_eq!(coverage.mapped, coverage.read + coverage.absent);
        assert_eq!(seen, coverage.read, "after {times} reads");
        match times {
            0 => assert_eq!(coverage.absent, PAGE_SIZE),
            100 => assert_eq!(coverage.absent, 0),
            _ => assert!(coverage.absent <= PAGE_SIZE),
        }
    }
}

#[test]
fn seams_are_distinct_however_they_come() {
    let seam = |n: u64| Seam {
        left: (n % 1000) * PAGE_SIZE,
        right: (n * 7 % 3000) * PAGE_SIZE,
    };
    let mut rng = Rng::new(1);
    let mut seams = Seams::with_limit(3000);
    let mut distinct = BTreeSet::new();
    for _ in 0..300_000 {
        let seam = seam(rng.below(3000));
        distinct.insert(seam);
        assert!(seams.push(seam).is_continue());
    }
    assert_eq!(seams.finish(), distinct.into_iter().collect::<Vec<_>>());

    let mut seams = Seams::with_limit(2000);
    let full = (0..1_000_000).find(|&n| {
        let left = n * PAGE_SIZE;
        seams.push(Seam { left, right: 0 }).is_break()
    });
    assert!(full.is_some_and(|n| (2000..4000).contains(&n)), "{full:?}");
}
