//! The walk, translation and reading against the reference implementation, on tables made of arbitrary entries.

mod halves;

use std::sync::Arc;

use proptest::prelude::*;

use super::enumerate::ExtentItem;
use super::{
    AddressSpace, Backing, Bits, Elsewhere, Form, Frame, Meaning, Mode, Roots, SoftwareEntries,
    Test, naive,
};
use crate::addr::{AddrRange, Address, Gpa, Gva};
use crate::memory::{Cause, Fault, Memory, Prot, Span, SpanKind};
use crate::testmem::TestMemory;

/// Physical memory of whole pages from 0 on, some of them absent.
struct Pages(TestMemory<Gpa>);

impl Pages {
    fn zeroed(count: usize) -> Self {
        Self(TestMemory::of(0, &vec![0; count * 4096]))
    }

    fn put(&mut self, gpa: u64, value: u64) {
        self.0.put(gpa, &value.to_le_bytes());
    }

    fn lose(&mut self, page: u64) {
        self.0.absent.push((page * 4096, 4096));
    }

    fn with_roots(self, lower: Option<u64>, upper: Option<u64>) -> AddressSpace {
        let (lower, upper) = (lower.map(Gpa), upper.map(Gpa));
        AddressSpace::new(
            Arc::new(self.0),
            Roots::Halves { lower, upper },
            Mode::FourLevel,
        )
    }

    fn space(self, root: u64, mode: Mode) -> AddressSpace {
        AddressSpace::new(Arc::new(self.0), Gpa(root), mode)
    }
}

const PAGES: usize = 12;

/// Entries as hostile memory has them: mostly absent, pointing anywhere near, any flags. `density` is
/// how many of 512 are present.
fn arbitrary_pages(seed: u64, density: u64) -> Pages {
    let mut state = seed | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    let mut pages = Pages::zeroed(PAGES);
    for page in 0..PAGES as u64 {
        let mut last = 0;
        for slot in 0..512 {
            let r = next();
            let entry = if r % 512 >= density {
                // Runs of like and of consecutive entries are what the fast walk is about.
                match r % 8 {
                    0 => last,
                    1 if last & 1 == 1 => last + 0x1000,
                    2 => r & !1,
                    _ => 0,
                }
            } else {
                let frame = (next() % (PAGES as u64 + 2)) << 12;
                let flags = next() & 0x8000_0000_0000_0fff;
                // Bit 7 makes large pages or breaks upper levels: keep it rare.
                let flags = if next() % 8 == 0 {
                    flags
                } else {
                    flags & !0x80
                };
                let stray = if next() % 16 == 0 {
                    next() & 0x000f_ff00_0000_0000
                } else {
                    0
                };
                frame | flags | stray | 1
            };
            last = entry;
            pages.put(page * 4096 + slot * 8, entry);
        }
        if next() % 16 == 0 {
            pages.lose(page);
        }
    }
    pages
}

/// Compares lists that are too long to print whole.
fn assert_same<T: PartialEq + std::fmt::Debug>(
    fast: &[T],
    naive: &[T],
    what: &str,
    range: AddrRange<Gva>,
) {
    let at = fast.iter().zip(naive).take_while(|(a, b)| a == b).count();
    let (fast, naive) = (fast.get(at), naive.get(at));
    assert_eq!(fast, naive, "{what} of {range}, number {at}");
}

fn check_against_naive(space: &AddressSpace, range: AddrRange<Gva>) {
    let pages = naive::pages(space, range);
    let spans: Vec<_> = space.spans(range).collect();
    assert_same(&spans, &naive::spans(&pages), "regions", range);
    let extents: Vec<_> = space.extents(range).collect();
    assert_same(&extents, &naive::extents(&pages), "extents", range);
    for item in pages.iter().take(200) {
        match *item {
            ExtentItem::Extent(e) => {
                let mapping = space.translate(e.va).expect("the naive walk maps it");
                assert_eq!((mapping.gpa, mapping.prot), (e.gpa, e.prot));
                assert_eq!(mapping.page_size, e.page_size);
                let hardware = space.hardware().translate(e.va);
                assert_eq!(mapping.valid, hardware.is_ok());
                let walk = space.walk(e.va);
                assert_eq!(walk.result, Ok(mapping));
                let last = walk.steps.last().expect("at least one entry was read");
                assert_eq!(
                    space.mode().spec().levels[walk.steps.len() - 1].number,
                    last.level
                );
            }
            ExtentItem::Lost { va, cause, .. } | ExtentItem::Away { va, cause, .. } => {
                assert_eq!(space.translate(va), Err(Fault { addr: va, cause }));
            }
        }
    }
}

/// Reads byte by byte, each translated on its own.
fn naive_read(space: &AddressSpace, va: Gva, buf: &mut [u8]) -> Result<(), Fault<Gva>> {
    for (i, byte) in buf.iter_mut().enumerate() {
        let addr = Gva(va.raw() + i as u64);
        let mapping = space.translate(addr)?;
        space
            .phys()
            .read(mapping.gpa, std::slice::from_mut(byte))
            .map_err(|fault| Fault {
                addr,
                cause: fault.cause,
            })?;
    }
    Ok(())
}

/// What systems keep in entries that are not present, in three ways of telling it: the first with the frame inverted,
/// the second as it stands, the third elsewhere. Protections change every 20 pages.
fn software(way: usize) -> SoftwareEntries {
    struct Known;
    impl Backing for Known {
        fn prot(&self, va: Gva) -> (Prot, Gva) {
            const STRIPE: u64 = 20 << 12;
            let stripe = va.raw() / STRIPE;
            let prot = match stripe % 3 {
                0 => Prot::NONE,
                1 => Prot::R.union(Prot::USER),
                _ => Prot::ALL,
            };
            (prot, Gva((stripe * STRIPE).saturating_add(STRIPE - 1)))
        }

        fn is_compressed(&self, _area: u32, offset: u64) -> bool {
            offset % 2 == 1
        }

        fn elsewhere(&self, va: Gva, entry: u64) -> (Elsewhere, Gva) {
            match va.raw() >> 12 & 7 {
                0 => (Elsewhere::Resident(Gpa((va.raw() >> 3) & 0x7000)), va),
                1 => (
                    Elsewhere::Swapped {
                        area: 7,
                        offset: entry & 0xff,
                    },
                    va,
                ),
                n => (
                    Elsewhere::Nothing,
                    Gva((va.raw() | 0xfff) + ((7 - n) << 12)),
                ),
            }
        }
    }
    const FRAME: u64 = 0x000f_ffff_ffff_f000;
    let absent = |mask: u64, value: u64| Test {
        mask: mask | 1,
        value,
    };
    let form = |levels, test, meaning| Form {
        levels,
        test,
        meaning,
    };
    let swapped = Meaning::Swapped {
        area: Bits {
            flip: 0,
            shift: 59,
            mask: 31,
        },
        offset: Bits {
            flip: !0,
            shift: 9,
            mask: (1 << 50) - 1,
        },
    };
    let (forms, empty): (&[Form], _) = match way {
        0 => (
            &[
                form(
                    0b110,
                    absent(0x100, 0x100),
                    Meaning::Resident(Frame {
                        flip: FRAME,
                        shift: 0,
                        mask: FRAME,
                    }),
                ),
                form(0b10, absent(0x80, 0x80), Meaning::Nothing),
                form(0b10, absent(0, 0), swapped),
            ],
            absent(!0x60, 0),
        ),
        1 => (
            &[
                form(
                    0b1110,
                    absent(0xc00, 0x800),
                    Meaning::Resident(Frame {
                        flip: 0,
                        shift: 0,
                        mask: FRAME,
                    }),
                ),
                form(0b10, absent(0x400, 0x400), Meaning::Elsewhere),
            ],
            absent(!0, 0),
        ),
        _ => (
            &[
                form(
                    0b10,
                    absent(0xe, 0xa),
                    Meaning::Resident(Frame {
                        flip: !0,
                        shift: 3,
                        mask: FRAME,
                    }),
                ),
                form(0b10, absent(0, 0), Meaning::Elsewhere),
            ],
            Test::NEVER,
        ),
    };
    SoftwareEntries::new(empty, forms, Arc::new(Known))
}

fn any_mode() -> impl Strategy<Value = Mode> {
    prop::sample::select(Mode::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn walk_agrees_with_naive(mode in any_mode(), seed: u64, root in 0..PAGES as u64,
                              cut in any::<Option<(u64, u64)>>(), way in 0..6_usize) {
        // The deeper the tree, the sparser the tables: the naive walk visits everything.
        let density = match mode {
            Mode::X86 => 60,
            Mode::Pae => 40,
            Mode::FourLevel => 5,
            Mode::FiveLevel => 3,
        };
        let space = arbitrary_pages(seed, density).space(root * 4096, mode);
        let space = match way {
            0..3 => space.with_software(software(way)),
            _ => space,
        };
        let range = match cut {
            None => AddrRange::all(),
            Some((a, b)) => {
                let spec = mode.spec();
                let fit = |bits: u64| Gva(spec.canonical(bits & (u64::MAX >> (64 - spec.va_bits))));
                let (a, b) = (fit(a), fit(b));
                AddrRange::inclusive(a.min(b), a.max(b)).expect("ordered")
            }
        };
        // Sharing can make even sparse tables explode; leave those to the tests about limits.
        let bounded = space.clone().with_table_limit(20_000);
        let mut walk = bounded.extents(range);
        let items = walk.by_ref().take(200_000).count();
        prop_assume!(items < 200_000 && !walk.stats().limited);
        check_against_naive(&space, range);
    }

    #[test]
    fn read_agrees_with_naive(mode in any_mode(), seed: u64, root in 0..PAGES as u64,
                              which: prop::sample::Index, back in 0..9000_u64, len in 0..20_000_usize,
                              way in 0..6_usize) {
        let space = arbitrary_pages(seed, 60).space(root * 4096, mode).with_table_limit(3000);
        let space = match way {
            0..3 => space.with_software(software(way)),
            _ => space,
        };
        let starts: Vec<_> = space.spans(AddrRange::all()).take(400).collect();
        prop_assume!(!starts.is_empty());
        let span = which.get(&starts);
        let va = Gva(span.start.raw().saturating_add(span.len / 2).saturating_sub(back));
        let len = len.min(usize::try_from(u64::MAX - va.raw()).unwrap_or(usize::MAX));
        let (mut fast, mut naive) = (vec![0; len], vec![0; len]);
        let got = space.read(va, &mut fast);
        prop_assert_eq!(got, naive_read(&space, va, &mut naive));
        let good = got.map_or_else(|f| (f.addr.raw() - va.raw()) as usize, |()| len);
        prop_assert_eq!(&fast[..good], &naive[..good]);
    }
}

/// Four-level tables in pages 1 (root), 2, 3, 4, as a chain of single entries at index 0.
fn chain() -> Pages {
    let mut pages = Pages::zeroed(16);
    for (at, next) in [(0x1000, 0x2000), (0x2000, 0x3000), (0x3000, 0x4000)] {
        pages.put(at, next | 7);
    }
    pages
}

#[test]
fn effective_protection_takes_all_levels() {
    let mut pages = chain();
    pages.put(0x4000, 0x5000 | 7);
    pages.put(0x4008, 0x6000 | 1);
    let all = Prot::ALL;
    let space = pages.space(0x1000, Mode::FourLevel);
    assert_eq!(space.translate(Gva(0)).map(|m| m.prot), Ok(all));
    assert_eq!(
        space.translate(Gva(0x1000)).map(|m| m.prot),
        Ok(Prot::R.union(Prot::X))
    );

    let mut pages = chain();
    pages.put(0x2000, 0x3000 | 5 | (1 << 63)); // level 3: no write, no execute
    pages.put(0x4000, 0x5000 | 7);
    let space = pages.space(0x1000, Mode::FourLevel);
    assert_eq!(
        space.translate(Gva(0)).map(|m| m.prot),
        Ok(Prot::R.union(Prot::USER))
    );
}

/// Large pages that the CPU does not see: side by side in virtual memory, and in physical memory only in part.
#[test]
fn large_pages_of_the_systems_follow_their_frames() {
    const FRAME: u64 = 0x000f_ffff_ffff_f000;
    let mut pages = chain();
    for (slot, frame) in [
        (8, 0x380),
        (9, 0x3c0),
        (10, 0x3e0),
        (11, 0x400),
        (13, 0x420),
    ] {
        let frame: u64 = frame << 16;
        pages.put(0x3000 + slot * 8, (!frame & FRAME & !0x1f_f000) | 0x1e2);
    }
    let space = pages
        .space(0x1000, Mode::FourLevel)
        .with_software(software(0));
    let range = AddrRange::new(Gva(16 << 20), 16 << 20).expect("not empty");
    check_against_naive(&space, range);
    let frames: Vec<_> = space
        .extents(range)
        .map(|item| match item {
            ExtentItem::Extent(extent) => (extent.gpa.raw() >> 16, extent.len >> 20),
            other => panic!("{other:?}"),
        })
        .collect();
    let mapped: u64 = frames.iter().map(|(_, len)| len).sum();
    assert_eq!(mapped, 10, "{frames:x?}");
    for gpa in [0x380, 0x3c0, 0x420] {
        assert!(frames.iter().any(|&(at, _)| at == gpa), "{frames:x?}");
    }
}

#[test]
fn a_self_map_neither_loops_nor_explodes() {
    let mut pages = chain();
    pages.put(0x1000 + 0x1ed * 8, 0x1000 | 3);
    pages.put(0x4000, 0x5000 | 7);
    let space = pages.space(0x1000, Mode::FourLevel);
    check_against_naive(&space, AddrRange::all());
    let mut walk = space.region_walk(AddrRange::all());
    assert!(walk.by_ref().count() < 20);
    let stats = walk.stats();
    assert_eq!(stats.self_refs.len(), 1, "{:?}", stats.self_refs);
    assert_eq!(
        (stats.self_refs[0].index, stats.self_refs[0].level),
        (0x1ed, 4)
    );
    assert_eq!(stats.self_refs[0].va, Gva(0xffff_f680_0000_0000));
    // The table of tables is visible in itself.
    let root_seen = Gva(0xffff_f6fb_7dbe_d000);
    assert_eq!(space.translate(root_seen).map(|m| m.gpa), Ok(Gpa(0x1000)));
}

#[test]
fn tables_that_share_everything_are_one_region() {
    // 512 entries on each of four levels, all to the same next table: 2^36 pages.
    let mut pages = Pages::zeroed(16);
    for level in 1..=4_u64 {
        for slot in 0..512 {
            pages.put(level * 0x1000 + slot * 8, ((level + 1) * 0x1000) | 7);
        }
    }
    let space = pages.space(0x1000, Mode::FourLevel);
    let mut walk = space.region_walk(AddrRange::all());
    let spans: Vec<_> = walk.by_ref().collect();
    let half = 1 << 47;
    let mapped = SpanKind::Mapped(Prot::ALL);
    let low = Span {
        start: Gva(0),
        len: half,
        kind: mapped,
    };
    let high = Span {
        start: Gva(u64::MAX - (half - 1)),
        len: half,
        kind: mapped,
    };
    assert_eq!(spans, [low, high]);
    assert!(walk.stats().tables < 2000, "{:?}", walk.stats());
    assert!(walk.stats().shared > 0);
}

#[test]
fn what_cannot_be_summed_up_ends_at_the_limit() {
    // As above, but every other page is missing, so that nothing is uniform.
    let mut pages = Pages::zeroed(16);
    for level in 1..=4_u64 {
        for slot in (0..512).step_by(if level == 4 { 2 } else { 1 }) {
            pages.put(level * 0x1000 + slot * 8, ((level + 1) * 0x1000) | 7);
        }
    }
    let space = pages.space(0x1000, Mode::FourLevel).with_table_limit(1000);
    let mut walk = space.region_walk(AddrRange::all());
    let mut regions = 0_u64;
    let mut lost = Vec::new();
    for span in walk.by_ref() {
        match span.kind {
            SpanKind::Mapped(_) => regions += 1,
            SpanKind::Lost(cause) => lost.push((span, cause)),
            SpanKind::Away(..) => panic!("nothing is away"),
        }
    }
    assert!(walk.stats().limited && walk.stats().tables == 1000);
    // 1000 tables: the root, one of level 3, two of level 2, and lowest ones.
    let lowest = 1000 - 4;
    assert_eq!(regions, lowest * 256);
    let total: u128 = lost.iter().map(|(span, _)| u128::from(span.len)).sum();
    assert_eq!(
        total,
        (1 << 48) - u128::from(lowest) * (1 << 21),
        "everything else is said to be unknown"
    );
    assert!(lost.iter().all(|(_, cause)| *cause == Cause::Limit));
}

#[test]
fn an_absent_table_is_unknown_not_empty() {
    let mut pages = chain();
    pages.put(0x3008, 0x9000 | 7);
    pages.put(0x4000, 0x5000 | 7);
    pages.lose(9);
    let space = pages.space(0x1000, Mode::FourLevel);
    let cause = Cause::TableAbsent {
        level: 1,
        table: Gpa(0x9000),
    };
    let spans: Vec<_> = space.spans(AddrRange::all()).collect();
    assert_eq!(spans.len(), 2);
    assert_eq!(
        spans[1],
        Span {
            start: Gva(0x20_0000),
            len: 0x20_0000,
            kind: SpanKind::Lost(cause)
        }
    );
    assert_eq!(
        space.translate(Gva(0x20_1000)).map_err(|f| f.cause),
        Err(cause)
    );
}

#[test]
fn the_last_page_of_the_space() {
    let mut pages = Pages::zeroed(8);
    for level in 1..=3_u64 {
        pages.put(level * 0x1000 + 511 * 8, ((level + 1) * 0x1000) | 3);
    }
    pages.put(0x4000 + 511 * 8, 0x5000 | 3);
    pages.put(0x5ff8, 0x1122_3344_5566_7788);
    let space = pages.space(0x1000, Mode::FourLevel);
    let spans: Vec<_> = space.spans(AddrRange::all()).collect();
    assert_eq!(spans.len(), 1);
    assert_eq!(
        (spans[0].start, spans[0].len),
        (Gva(u64::MAX - 0xfff), 0x1000)
    );
    assert_eq!(space.read_u64(Gva(u64::MAX - 7)), Ok(0x1122_3344_5566_7788));
    let mut buf = [0; 16];
    let fault = space
        .read(Gva(u64::MAX - 7), &mut buf)
        .expect_err("passes the top");
    assert_eq!(fault.cause, Cause::NonCanonical);
    assert_eq!(buf[..8], 0x1122_3344_5566_7788_u64.to_le_bytes());
}

#[test]
fn non_canonical_addresses_fault() {
    let space = chain().space(0x1000, Mode::FourLevel);
    let va = Gva(0x0000_8000_0000_0000);
    assert_eq!(
        space.translate(va),
        Err(Fault {
            addr: va,
            cause: Cause::NonCanonical
        })
    );
}

#[test]
fn two_level_large_pages_reach_above_four_gib() {
    let mut pages = Pages::zeroed(4);
    // PSE-36: address bits 39:32 stand in bits 20:13 of the entry.
    let entry: u32 = (3 << 22) | (0x5a << 13) | 0x83;
    pages.put(0x1000, u64::from(entry));
    let space = pages.space(0x1000, Mode::X86);
    let mapping = space.translate(Gva(0x12_3456)).expect("mapped");
    assert_eq!(mapping.gpa, Gpa((0x5a << 32) | (3 << 22) | 0x12_3456));
    assert_eq!(mapping.page_size, 4 << 20);
}

#[test]
fn ignored_bits_are_not_address_bits() {
    let mut pages = chain();
    let c_bit = 1 << 47;
    pages.put(0x1000, 0x2000 | 7 | c_bit);
    pages.put(0x4000, 0x5000 | 7 | c_bit);
    let space = pages.space(0x1000, Mode::FourLevel);
    assert!(space.translate(Gva(0)).is_err());
    let space = space.ignoring(c_bit);
    assert_eq!(space.translate(Gva(0)).map(|m| m.gpa), Ok(Gpa(0x5000)));
    assert_eq!(space.extents(AddrRange::all()).count(), 1);
}

#[test]
fn public_types_cross_threads() {
    fn check<T: Send + Sync>() {}
    check::<AddressSpace>();
    check::<Fault<Gva>>();
    check::<super::Walk>();
    check::<super::WalkStats>();
}
