//! The builder against two things that are not the builder: tables written out by hand, and a naive
//! walker that decodes the bytes in memory by the manual and knows nothing of the record.

use super::*;
use PageSize::{Size1G, Size2M, Size4K, Size4M};

/// What the walker finds for an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    Page(TruthPage),
    NotPresent,
    Reserved,
    NoTable,
}

struct Walker<'a> {
    phys: &'a Phys,
    paging: Paging,
}

impl Walker<'_> {
    /// Decodes one entry of `level`: a page (address and size), a table, or neither.
    fn decode(&self, level: u8, entry: u64) -> Result<(u64, Option<u64>), Found> {
        if entry & 1 == 0 {
            return Err(Found::NotPresent);
        }
        let ps = entry >> 7 & 1 == 1;
        let leaf = match level {
            1 => true,
            2 => ps,
            3 => ps && self.paging != Paging::Pae,
            _ => false,
        };
        if entry & reserved_bits(self.paging, level, leaf) != 0 {
            return Err(Found::Reserved);
        }
        let frame = entry & 0x000f_ffff_ffff_f000;
        Ok(match (leaf, level, self.paging) {
            (false, ..) => (frame, None),
            (true, 1, _) => (frame, Some(0x1000)),
            (true, 2, Paging::X86) => (
                (entry & 0xffc0_0000) | (entry >> 13 & 0xff) << 32,
                Some(0x40_0000),
            ),
            (true, 2, _) => (frame & !0x1f_ffff, Some(0x20_0000)),
            (true, ..) => (frame & !0x3fff_ffff, Some(0x4000_0000)),
        })
    }

    fn rights(&self, level: u8, entry: u64, above: Rights) -> Rights {
        if self.paging == Paging::Pae && level == 3 {
            return above;
        }
        Rights {
            write: above.write && entry >> 1 & 1 == 1,
            user: above.user && entry >> 2 & 1 == 1,
            exec: above.exec && entry >> 63 == 0,
        }
    }

    fn entry(&self, level: u8, table: u64, va: u64) -> Option<u64> {
        let (shift, mask, size) = match self.paging {
            Paging::X86 => (12 + 10 * (u32::from(level) - 1), 0x3ff, 4),
            Paging::Pae if level == 3 => (30, 3, 8),
            _ => (12 + 9 * (u32::from(level) - 1), 0x1ff, 8),
        };
        let gpa = table + (va >> shift & mask) * size;
        self.phys.read_uint(gpa, size).ok()
    }

    fn walk(&self, root: u64, va: u64) -> Found {
        let mut table = root;
        let mut rights = Rights {
            write: true,
            user: true,
            exec: true,
        };
        for level in (1..=self.paging.levels()).rev() {
            let Some(entry) = self.entry(level, table, va) else {
                return Found::NoTable;
            };
            rights = self.rights(level, entry, rights);
            match self.decode(level, entry) {
                Err(found) => return found,
                Ok((gpa, Some(size))) => {
                    return Found::Page(TruthPage {
                        va: va & !(size - 1),
                        gpa,
                        size,
                        rights,
                    });
                }
                Ok((next, None)) => table = next,
            }
        }
        unreachable!("level-1 entries map pages or nothing")
    }

    /// Every page, by looking at every entry of every table.
    fn enumerate(&self, table: u64, level: u8, base: u64, rights: Rights) -> Vec<TruthPage> {
        let mut pages = Vec::new();
        for index in 0..self.paging.entries(level) {
            let va = self
                .paging
                .canonical(base + index * self.paging.span(level));
            let Some(entry) = self.entry(level, table, va) else {
                break;
            };
            let rights = self.rights(level, entry, rights);
            match self.decode(level, entry) {
                Err(_) => {}
                Ok((gpa, Some(size))) => pages.push(TruthPage {
                    va,
                    gpa,
                    size,
                    rights,
                }),
                Ok((next, None)) => pages.extend(self.enumerate(next, level - 1, va, rights)),
            }
        }
        pages
    }
}

const ALL: Rights = Rights {
    write: true,
    user: true,
    exec: true,
};

#[test]
fn truth_agrees_with_the_bytes_everywhere() {
    let mut kinds = [0; 3];
    for paging in Paging::ALL {
        for seed in 0..40 {
            let guest = random(seed, paging, &Knobs::HOSTILE);
            let walker = Walker {
                phys: &guest.machine.phys,
                paging,
            };
            for va in guest.probes(seed, 200) {
                if !guest.truth.knows(va) {
                    continue;
                }
                let found = walker.walk(guest.space.root(), va);
                match (guest.truth.lookup(va), found) {
                    (Some(page), Found::Page(found)) => {
                        assert_eq!(page, found, "{paging:?} seed {seed} at {va:#x}");
                        kinds[0] += 1;
                    }
                    (None, Found::NotPresent) => kinds[1] += 1,
                    (None, Found::Reserved) => kinds[2] += 1,
                    (truth, found) => {
                        panic!("{paging:?} seed {seed} at {va:#x}: {truth:x?}, {found:x?}")
                    }
                }
            }
            for range in &guest.truth.lost {
                assert_eq!(
                    walker.walk(guest.space.root(), range.va),
                    Found::NoTable,
                    "{paging:?} seed {seed}"
                );
            }
        }
    }
    assert!(
        kinds.iter().all(|&n| n > 100),
        "one-sided guests: {kinds:?}"
    );
}

#[test]
fn truth_is_complete() {
    let knobs = Knobs {
        explode: false,
        ..Knobs::HOSTILE
    };
    for paging in Paging::ALL {
        let mut seen = 0;
        for seed in 100..112 {
            let guest = random(seed, paging, &knobs);
            let walker = Walker {
                phys: &guest.machine.phys,
                paging,
            };
            let mut pages = walker.enumerate(guest.space.root(), paging.levels(), 0, ALL);
            pages.retain(|page| guest.truth.knows(page.va));
            assert_eq!(guest.truth.pages, pages, "{paging:?} seed {seed}");
            seen += pages.len();
        }
        assert!(seen > 12 * 50, "{paging:?}: hardly a page");
    }
}

#[test]
fn random_guests_are_varied_and_reproducible() {
    for paging in Paging::ALL {
        let mut sizes = std::collections::BTreeSet::new();
        let mut rights = std::collections::HashSet::new();
        let mut edges = [false; 4];
        let (mut lost, mut opaque, mut repeats, mut joined) = (0, 0, 0, 0);
        for seed in 0..40 {
            let guest = random(seed, paging, &Knobs::HOSTILE);
            let again = random(seed, paging, &Knobs::HOSTILE);
            assert_eq!(guest.truth, again.truth);
            let truth = &guest.truth;
            sizes.extend(truth.pages.iter().map(|p| p.size));
            rights.extend(truth.pages.iter().map(|p| p.rights));
            let half = 1 << (paging.va_bits() - 1);
            for (seen, va) in edges.iter_mut().zip([0, half - 1, half, u64::MAX]) {
                *seen |= truth.lookup(paging.canonical(va)).is_some();
            }
            lost += truth.lost.len();
            opaque += truth.opaque.len();
            repeats += truth.repeats.len();
            joined += truth.pages.len() + truth.repeats.len() - truth.regions().len();
        }
        assert_eq!(sizes.len(), paging.page_sizes().len(), "{paging:?}");
        assert_eq!(rights.len(), if paging.has_nx() { 8 } else { 4 });
        assert_eq!(edges, [true; 4], "{paging:?}");
        assert!(
            lost > 10 && opaque > 10 && repeats > 10 && joined > 1000,
            "{paging:?}: {lost} lost, {opaque} opaque, {repeats} repeats, {joined} joined"
        );
    }
}

#[test]
fn guests_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Machine>();
    shared::<Truth>();
    shared::<Bare>();
    shared::<Scattered>();
}

#[test]
fn four_levels_by_hand() {
    let mut machine = Machine::new(0x1000..0x10_0000);
    let space = Space::new(&mut machine, Paging::FourLevel);
    let va = 0xffff_8123_4567_8000;
    space.map(&mut machine, va, 0x1_2345_6000, Size4K, Flags::DATA);
    space.set_table_flags(&mut machine, 2, va, Flags::of(true, false, false));
    // 0xffff_8123_4567_8000: index 0x102 at level 4, 0x8d at 3, 0x2b at 2, 0x78 at 1. Frames are
    // handed out in order: root 0x1000, then one table for each level down.
    let expected = [
        (4, 0x1000 + 0x102 * 8, 0x2007),
        (3, 0x2000 + 0x8d * 8, 0x3007),
        (2, 0x3000 + 0x2b * 8, 0x4003),
        (1, 0x4000 + 0x78 * 8, 0x8000_0001_2345_6007),
    ]
    .map(|(level, gpa, entry)| PathStep { level, gpa, entry });
    assert_eq!(space.path(&machine, va), expected);
    assert_eq!(
        space.truth(&machine).pages,
        [TruthPage {
            va,
            gpa: 0x1_2345_6000,
            size: 0x1000,
            rights: Rights {
                write: true,
                user: false,
                exec: false
            },
        }]
    );
}

#[test]
fn pae_root_may_stand_at_32_bytes() {
    let mut machine = Machine::new(0x1000..0x10_0000);
    let root = machine.frames.alloc() + 0x60;
    let space = Space::at_root(&mut machine, Paging::Pae, root);
    space.map(&mut machine, 0xc020_0000, 0x60_0000, Size2M, Flags::CODE);
    assert_eq!(machine.phys.read_uint(0x1078, 8), Ok(0x2001));
    assert_eq!(machine.phys.read_uint(0x2008, 8), Ok(0x60_0085));
    assert_eq!(
        space.truth(&machine).translate(0xc021_2345),
        Some(0x61_2345)
    );
}

#[test]
fn two_level_large_page_above_4_gib() {
    let mut machine = Machine::new(0x1000..0x10_0000);
    let space = Space::new(&mut machine, Paging::X86);
    space.map(
        &mut machine,
        0x8040_0000,
        0x3_0080_0000,
        Size4M,
        Flags::OPEN,
    );
    assert_eq!(
        machine.phys.read_uint(0x1000 + 0x201 * 4, 4),
        Ok(0x0080_6087)
    );
}

/// The self-map of Windows: with the entry at 0x1ed, the tables are visible from
/// 0xffff_f680_0000_0000 on, and the root at 0xffff_f6fb_7dbe_d000.
#[test]
fn self_map_shows_every_table_once() {
    let mut machine = Machine::new(0x1000..0x10_0000);
    let space = Space::new(&mut machine, Paging::FourLevel);
    space.self_map(&mut machine, 0x1ed, Flags::KERNEL_DATA);
    space.map(&mut machine, 0x1000, 0x9_9000, Size4K, Flags::CODE);
    space.map(&mut machine, 0x4000_0000, 0x4000_0000, Size1G, Flags::CODE);
    let truth = space.truth(&machine);
    let seen: Vec<_> = truth.pages.iter().map(|p| (p.va, p.gpa, p.size)).collect();
    assert_eq!(
        seen,
        [
            (0x1000, 0x9_9000, 0x1000),
            (0x4000_0000, 0x4000_0000, 0x4000_0000),
            (0xffff_f680_0000_0000, 0x4000, 0x1000), // level-1 table
            (0xffff_f680_0020_0000, 0x4000_0000, 0x20_0000), // 1 GiB entry, read as 2 MiB
            (0xffff_f6fb_4000_0000, 0x3000, 0x1000), // level-2 table
            (0xffff_f6fb_4000_1000, 0x4000_0000, 0x1000), // the same entry, read as 4 KiB
            (0xffff_f6fb_7da0_0000, 0x2000, 0x1000), // level-3 table
            (0xffff_f6fb_7dbe_d000, 0x1000, 0x1000), // root
        ]
    );
    let walker = Walker {
        phys: &machine.phys,
        paging: Paging::FourLevel,
    };
    assert_eq!(truth.pages, walker.enumerate(0x1000, 4, 0, ALL));
}

#[test]
fn shared_tables_show_later_pages_too() {
    let mut machine = Machine::new(0x1000..0x100_0000);
    let kernel = Space::new(&mut machine, Paging::FourLevel);
    let process = Space::new(&mut machine, Paging::FourLevel);
    let half = 0xffff_8000_0000_0000;
    kernel.share_with(&mut machine, 4, half, process, half, Flags::OPEN);
    kernel.share_table(&mut machine, 2, half, half + 0x20_0000, Flags::KERNEL_CONST);
    kernel.map(&mut machine, half, 0x5000, Size4K, Flags::KERNEL_DATA);
    assert_eq!(process.truth(&machine), kernel.truth(&machine));
    let pages = process.truth(&machine).pages;
    assert_eq!(pages.len(), 2);
    assert!(pages[0].rights.write && !pages[1].rights.write);
    assert_eq!(pages[1].va, half + 0x20_0000);
}

#[test]
fn explosions_and_mirrors_cost_a_handful_of_tables() {
    for paging in Paging::ALL {
        let mut machine = Machine::new(0x1000..0x10_0000);
        let space = Space::new(&mut machine, paging);
        let top = paging.levels();
        space.explode(&mut machine, top, 0, Flags::DATA);
        let truth = space.truth(&machine);
        let frame = u64::from(top) * 0x1000 + 0x1000;
        assert_eq!(truth.translate(paging.span(top) - 1), Some(frame + 0xfff));
        assert_eq!(truth.translate(paging.span(top)), None);
        assert_eq!(machine.frames.left(), 255 - usize::from(top) - 1);
        let walker = Walker {
            phys: &machine.phys,
            paging,
        };
        for va in [0, 0x3456_7123 % paging.span(top), paging.span(top) - 1] {
            let page = truth.lookup(va).expect("all of the span is mapped");
            assert_eq!(walker.walk(space.root(), va), Found::Page(page));
            let path = space.path(&machine, va);
            assert_eq!(path.len(), usize::from(top));
            assert_eq!(path[path.len() - 1].entry & !0xfff & !(1 << 63), frame);
        }
        if paging != Paging::Pae {
            let mirrors = Space::new(&mut machine, paging);
            mirrors.mirrors(&mut machine, Flags::OPEN);
            let truth = mirrors.truth(&machine);
            let walker = Walker {
                phys: &machine.phys,
                paging,
            };
            for va in [0x1234_5678, paging.canonical(u64::MAX)] {
                let page = truth.lookup(va).expect("everything is mapped");
                assert_eq!(page.gpa, mirrors.root());
                assert_eq!(walker.walk(mirrors.root(), va), Found::Page(page));
            }
            let halves = if paging == Paging::X86 { 1 } else { 2 };
            assert_eq!(truth.regions().len(), halves);
        }
    }
}

#[test]
fn odd_entries_are_accounted_for() {
    let mut machine = Machine::new(0x1000..0x100_0000);
    let space = Space::new(&mut machine, Paging::FourLevel);
    let m = &mut machine;
    for va in [0, 0x20_0000, 0x40_0000, 0x60_0000] {
        space.map_new(m, va, 2, Flags::DATA);
    }
    let swapped = space.poke_entry(m, 1, 0, 0xdead_0000_0000_0ffe);
    space.poke_entry(m, 1, 0x20_0000, 0xf_f001);
    space.malform(m, 2, 0x40_0000, 1 << 7 | 1 << 13);
    space.lose_table(m, 1, 0x60_0000);

    assert_eq!(m.phys.read_uint(swapped, 8), Ok(0xdead_0000_0000_0ffe));
    let truth = space.truth(m);
    let mapped: Vec<u64> = truth.pages.iter().map(|p| p.va).collect();
    assert_eq!(mapped, [0x1000, 0x20_1000]);
    let range = |va, len| VaRange { va, len };
    assert_eq!(truth.opaque, [range(0x20_0000, 0x1000)]);
    assert_eq!(truth.lost, [range(0x60_0000, 0x20_0000)]);
    assert!(truth.knows(0x40_0000) && !truth.knows(0x60_1000));
    assert_eq!(space.path(m, 0x60_0000).len(), 3, "the table is absent");
}

#[test]
fn writes_follow_the_mapping_across_pages() {
    let mut machine = Machine::scattered(0x1000..0x100_0000, 1);
    let space = Space::new(&mut machine, Paging::FiveLevel);
    let va = 0x10_0000_0000_0000;
    let frames = space.map_new(&mut machine, va, 2, Flags::DATA);
    assert_ne!(frames[1], frames[0] + PAGE);
    space.write(&mut machine, va + 0xffe, b"abcd");
    let read = |gpa| machine.phys.read_uint(gpa, 4).expect("RAM");
    assert_eq!(read(frames[0] + 0xffc).to_le_bytes()[2..4], *b"ab");
    assert_eq!(read(frames[1]).to_le_bytes()[..2], *b"cd");
}

#[test]
#[should_panic(expected = "in use")]
fn mapping_twice_panics() {
    let mut machine = Machine::new(0x1000..0x10_0000);
    let space = Space::new(&mut machine, Paging::Pae);
    space.map_new(&mut machine, 0x1000, 1, Flags::DATA);
    space.map_new(&mut machine, 0x1000, 1, Flags::DATA);
}
