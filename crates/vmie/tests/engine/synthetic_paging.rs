//! The engine's page-table walk against synthetic guests, whose builder keeps its own truth and knows
//! nothing of the engine; and on page tables damaged at random.

use std::sync::Arc;

use crate::bodies::walk_tables::walk_tables;
use crate::testguest::Synthetic;
use vmie::paging::ExtentItem;
use vmie::{AddrRange, AddressSpace, Cause, CpuState, Gpa, Gva, Memory, Mode, Prot, paging};
use vmie_synth::guest::{self, Knobs, Machine, Paging, RandomGuest, Rights, Space, Truth};

fn mode(paging: Paging) -> Mode {
    match paging {
        Paging::X86 => Mode::X86,
        Paging::Pae => Mode::Pae,
        Paging::FourLevel => Mode::FourLevel,
        Paging::FiveLevel => Mode::FiveLevel,
    }
}

fn prot(rights: Rights) -> Prot {
    let mut prot = Prot::R;
    for (allowed, bit) in [
        (rights.write, Prot::W),
        (rights.exec, Prot::X),
        (rights.user, Prot::USER),
    ] {
        if allowed {
            prot = prot.union(bit);
        }
    }
    prot
}

fn open(machine: &Machine, space: &Space) -> AddressSpace {
    let phys = Arc::new(Synthetic::new(machine.phys.clone()));
    AddressSpace::new(phys, Gpa(space.root()), mode(space.paging()))
}

/// Single translations, with every table entry on the way.
fn check_probes(name: &str, guest: &RandomGuest, probes: &[u64]) {
    let engine = open(&guest.machine, &guest.space);
    let truth = &guest.truth;
    for &va in probes {
        if truth.opaque.iter().any(|range| range.contains(va)) {
            continue; // poked by hand: the builder does not say what it means
        }
        let walk = engine.walk(Gva(va));
        let result = engine.translate(Gva(va));
        assert_eq!(result, walk.result, "{name}: {va:#x}");
        let steps: Vec<_> = walk
            .steps
            .iter()
            .map(|s| (s.level, s.gpa.0, s.entry))
            .collect();
        let path = guest.space.path(&guest.machine, va);
        let path: Vec<_> = path.iter().map(|s| (s.level, s.gpa, s.entry)).collect();
        assert_eq!(steps, path, "{name}: {va:#x}");
        match (truth.knows(va), truth.lookup(va), result) {
            (true, Some(page), Ok(mapping)) => {
                let want = (page.gpa + (va - page.va), page.size, prot(page.rights));
                let got = (mapping.gpa.0, mapping.page_size, mapping.prot);
                assert_eq!(got, want, "{name}: {va:#x}");
            }
            (true, None, Err(fault)) => assert!(fault.cause.is_unmapped(), "{name}: {fault}"),
            (false, _, Err(fault)) => {
                assert!(
                    matches!(fault.cause, Cause::TableAbsent { .. }),
                    "{name}: {fault}"
                );
            }
            other => panic!("{name}: {va:#x}: {other:?}"),
        }
    }
}

/// Everything that is mapped, page by page and region by region.
fn check_enumeration(name: &str, engine: &AddressSpace, truth: &Truth) {
    let mut pages = Vec::new();
    let mut lost = 0;
    for item in engine.extents(AddrRange::all()) {
        match item {
            ExtentItem::Extent(e) => pages.extend((0..e.len / e.page_size).map(|i| {
                let at = i * e.page_size;
                (e.va.0 + at, e.gpa.0 + at, e.page_size, e.prot)
            })),
            ExtentItem::Lost { len, .. } | ExtentItem::Away { len, .. } => lost += len,
        }
    }
    pages.retain(|page| truth.knows(page.0));
    let known = truth.pages.iter().filter(|page| truth.knows(page.va));
    let want: Vec<_> = known
        .map(|p| (p.va, p.gpa, p.size, prot(p.rights)))
        .collect();
    let differs = pages.iter().zip(&want).find(|(a, b)| a != b);
    assert_eq!((differs, pages.len()), (None, want.len()), "{name}");
    if truth.opaque.is_empty() {
        assert_eq!(
            lost,
            truth.lost.iter().map(|range| range.len).sum::<u64>(),
            "{name}"
        );
        let regions = engine
            .regions(AddrRange::all())
            .map(|r| (r.start.0, r.len, r.prot));
        let want = truth
            .regions()
            .into_iter()
            .map(|r| (r.range.va, r.range.len, prot(r.rights)));
        assert!(regions.eq(want), "{name}: regions differ");
    }
}

#[test]
fn random_guests_are_what_their_builder_says() {
    for paging in Paging::ALL {
        for seed in 0..40 {
            let tame = Knobs {
                explode: false,
                ..Knobs::HOSTILE
            };
            for (kind, knobs) in [("plain", &Knobs::PLAIN), ("hostile", &tame)] {
                let name = format!("{kind} {paging:?} {seed}");
                let guest = guest::random(seed, paging, knobs);
                check_probes(&name, &guest, &guest.probes(seed, 100));
                check_enumeration(&name, &open(&guest.machine, &guest.space), &guest.truth);
            }
            let guest = guest::random(seed, paging, &Knobs::HOSTILE);
            let name = format!("exploding {paging:?} {seed}");
            check_probes(&name, &guest, &guest.probes(seed, 100));
        }
    }
}

#[test]
fn the_bare_guest_is_what_its_builder_says() {
    let bare = guest::bare();
    let engine = open(&bare.machine, &bare.space);
    check_enumeration("bare", &engine, &bare.space.truth(&bare.machine));
}

#[test]
fn the_mode_is_told_by_the_tables() {
    for paging in Paging::ALL {
        let (mut told, mut guests) = (0, 0);
        for seed in 0..40 {
            let guest = guest::random(seed, paging, &Knobs::PLAIN);
            let phys = Synthetic::new(guest.machine.phys.clone());
            guests += 1;
            // These guests point most of their large pages outside of memory, so there may be too
            // little to go by; a wrong answer that claims to be confirmed is never right.
            if let Ok(found) = paging::detect(&phys, Gpa(guest.space.root()), &[])
                && found.confirmed
            {
                assert_eq!(found.mode, mode(paging), "seed {seed}: {}", found.why);
                told += 1;
            }
        }
        println!("{paging:?}: told {told} of {guests}");
    }
}

#[test]
fn the_mode_of_a_busy_guest_is_told_and_confirmed() {
    for paging in Paging::ALL {
        let mut machine = Machine::scattered(0..0x100_0000, 7);
        let space = Space::new(&mut machine, paging);
        let flags = guest::Flags::DATA;
        for (i, at) in [0x40_0000_u64, 0x1000_0000, 0x7000_0000]
            .into_iter()
            .enumerate()
        {
            space.map_new(&mut machine, at, 100 + 50 * i as u64, flags);
        }
        // Page contents are what a wrong depth would take for tables.
        let text = b"It was a bright cold day in April, and the clocks were striking thirteen. ";
        for at in 0..100 * 4096 / 74 {
            space.write(&mut machine, 0x40_0000 + at * 74, text);
        }
        let phys = Synthetic::new(machine.phys.clone());
        let found = paging::detect(&phys, Gpa(space.root()), &[]).expect("there are tables");
        assert_eq!(
            (found.mode, found.confirmed),
            (mode(paging), true),
            "{}",
            found.why
        );
    }
}

/// Pages of real programs are mostly zeros with a number here and there. Read with a level too many,
/// the true lowest tables look like perfect tables, and there are far more of their entries than of
/// anything that speaks against it.
#[test]
fn many_good_tables_do_not_make_up_for_bad_pages() {
    for paging in Paging::ALL {
        let mut machine = Machine::scattered(0..0x100_0000, 11);
        let space = Space::new(&mut machine, paging);
        let base = 0x40_0000;
        space.map_new(&mut machine, base, 600, guest::Flags::DATA);
        for page in 0..600 {
            let at = base + page * 4096;
            // A small odd number leads to frame 0 and passes for a page; a large one leads nowhere.
            space.write(&mut machine, at + 0x40, &1_u64.to_le_bytes());
            space.write(&mut machine, at + 0x80, b"ABCDEFGI");
        }
        let phys = Synthetic::new(machine.phys.clone());
        let found = paging::detect(&phys, Gpa(space.root()), &[]).expect("there are tables");
        assert_eq!(found.mode, mode(paging), "{}", found.why);
        assert!(found.confirmed, "{}", found.why);
    }
}

/// Page tables are mapped as pages as well, by the kernel's direct map: one of them among the pages looks like a perfect
/// lowest table of the mode with a level more, and has more entries than all else that is looked at.
#[test]
fn a_table_that_is_mapped_as_a_page_is_one_table() {
    for paging in Paging::ALL {
        let mut machine = Machine::scattered(0..0x100_0000, 13);
        let space = Space::new(&mut machine, paging);
        let base = 0x40_0000;
        space.map_new(&mut machine, base, 600, guest::Flags::DATA);
        for page in 0..600 {
            let at = base + page * 4096;
            if page % 200 == 0 {
                for entry in 0..512_u64 {
                    let bytes = (0x10_0067 + entry * 0x1000).to_le_bytes();
                    space.write(&mut machine, at + entry * 8, &bytes);
                }
            } else if page % 10 == 0 {
                space.write(&mut machine, at + 0x40, &3_u64.to_le_bytes());
                space.write(&mut machine, at + 0x80, b"ABCDEFGI");
            }
        }
        let phys = Synthetic::new(machine.phys.clone());
        let found = paging::detect(&phys, Gpa(space.root()), &[]).expect("there are tables");
        assert_eq!(found.mode, mode(paging), "{}", found.why);
        assert!(found.confirmed, "{}", found.why);
    }
}

#[test]
fn cpu_state_decides_where_there_is_one() {
    let bare = guest::bare();
    let phys = Synthetic::new(bare.machine.phys.clone());
    let cpu = CpuState {
        cr0: bare.cpu.cr0,
        cr3: bare.cpu.cr3,
        cr4: bare.cpu.cr4,
        efer: Some(bare.cpu.efer),
        ..CpuState::default()
    };
    let found = paging::detect(&phys, Gpa(bare.cpu.cr3), &[cpu]).expect("the CPU says it");
    assert_eq!((found.mode, found.confirmed), (Mode::FourLevel, true));
    assert!(
        found.why.contains("CPU 0, whose CR3 this is"),
        "{}",
        found.why
    );
}

#[test]
fn nothing_at_the_root_is_an_error_that_says_what_was_seen() {
    let phys = Synthetic::new(Machine::new(0..0x10_0000).phys);
    let error = paging::detect(&phys, Gpa(0x3000), &[]).expect_err("all zero");
    let text = error.to_string();
    assert!(
        text.contains("0x3000") && text.contains("5level: 0 entries fit"),
        "{text}"
    );
}

/// Pages of memory of the guests that are damaged: few, so that damage meets tables.
const SMALL: u64 = 160;

/// A small guest of every sort of table, as the body wants it: mode, root page, bytes from address 0.
fn small_guest(paging: Paging, seed: u64) -> (Vec<u8>, usize) {
    let mut machine = Machine::scattered(0..SMALL * 4096, seed);
    let space = Space::new(&mut machine, paging);
    let flags = [
        guest::Flags::DATA,
        guest::Flags::CODE,
        guest::Flags::KERNEL_DATA,
    ];
    let mut pages = 0;
    for (i, at) in [0x40_0000_u64, 0x7ff0_0000, 0xaffe_f000]
        .into_iter()
        .enumerate()
    {
        let count = 20 + seed % 7;
        space.map_new(&mut machine, at, count, flags[i]);
        pages += count as usize;
    }
    space.share_table(&mut machine, 2, 0x40_0000, 0x1040_0000, guest::Flags::OPEN);
    space.self_map(
        &mut machine,
        if paging == Paging::Pae { 3 } else { 0x1ed },
        guest::Flags::OPEN,
    );
    if seed % 2 == 1 {
        space.explode(&mut machine, 2, 0x2000_0000, guest::Flags::OPEN);
    }
    let mut data = vec![0, (space.root() / 4096) as u8];
    data.extend(machine.phys.into_dense());
    (data, pages)
}

#[test]
fn damaged_tables_neither_panic_nor_hang_nor_contradict_themselves() {
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for (choice, paging) in Paging::ALL.into_iter().enumerate() {
        for seed in 0..6 {
            let (mut data, pages) = small_guest(paging, seed);
            data[0] = choice as u8;
            let walked = walk_tables(&data);
            assert!(
                walked >= pages,
                "{paging:?} {seed}: {walked} extents of {pages} pages"
            );
            for _ in 0..6 {
                let mut data = data.clone();
                for _ in 0..next() % 300 {
                    let slot = 2 + next() as usize % (data.len() / 8 - 1) * 8;
                    let bytes = &mut data[slot..slot + 8];
                    match next() % 4 {
                        0 => bytes[next() as usize % 8] ^= 1 << (next() % 8),
                        1 => bytes.copy_from_slice(&next().to_le_bytes()),
                        // An entry that points somewhere near, often at a table.
                        _ => {
                            let entry = ((next() % (SMALL + 2)) << 12) | (next() & 0xe7) | 1;
                            bytes.copy_from_slice(&entry.to_le_bytes());
                        }
                    }
                }
                if next() % 4 == 0 {
                    data[0] = next() as u8;
                }
                walk_tables(&data);
            }
        }
    }
}
