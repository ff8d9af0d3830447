//! Spaces whose halves have a root each.

use std::sync::Arc;

use proptest::prelude::*;

use super::{arbitrary_pages, assert_same, chain, check_against_naive};
use crate::addr::{AddrRange, Gpa, Gva};
use crate::arch::{Above, Level, Mode, Rights, Spec, Target, Test};
use crate::memory::{Cause, Fault, Memory, Prot};
use crate::paging::{AddressSpace, ExtentItem, Roots, naive};

/// A format as AArch64 has it: 36 bits of an address are translated, in either half, each by tables of its own.
static HALVES: Spec = {
    const RIGHTS: Rights = Rights {
        no_write: Test::clear(1),
        user: Test::set(2),
        no_exec: Test::set(63),
        no_kernel_exec: Some(Test::set(9)),
    };
    const fn target(reserved: u64) -> Target {
        Target {
            frame: 0x000f_ffff_ffff_f000,
            high_mask: 0,
            high_shift: 0,
            reserved,
            rights: RIGHTS,
        }
    }
    const fn level(number: u8, shift: u8, index_bits: u8, is_page: Test) -> Level {
        let page = target((1 << shift) - (1 << 12));
        Level {
            number,
            shift,
            index_bits,
            is_page,
            page,
            table: target(1 << 40),
        }
    }
    Spec {
        entry_bytes: 8,
        va_bits: 36,
        above: Above::Alike,
        root_mask: 0x000f_ffff_ffff_f000,
        present: Test::set(0),
        levels: &[
            level(3, 30, 6, Test::set(7)),
            level(2, 21, 9, Test::set(7)),
            level(1, 12, 9, Test::ALWAYS),
        ],
        flags: &[],
    }
};

/// As [`check_against_naive`], by [`HALVES`].
fn check_halves(space: &AddressSpace, range: AddrRange<Gva>) {
    let pages = naive::pages_by(space, &HALVES, range);
    let (regions, extents) = space.enumerate_by(&HALVES, range);
    let regions: Vec<_> = regions.collect();
    assert_same(&regions, &naive::spans(&pages), "regions", range);
    let extents: Vec<_> = extents.collect();
    assert_same(&extents, &naive::extents(&pages), "extents", range);
    let some = pages.iter().take(100).chain(pages.iter().rev().take(100));
    for item in some {
        match *item {
            ExtentItem::Extent(e) => {
                let mapping = space.translate_by(&HALVES, e.va).expect("mapped");
                assert_eq!((mapping.gpa, mapping.prot), (e.gpa, e.prot));
                let (mut read, mut want) = ([0; 8], [0; 8]);
                let good = space.phys().read(e.gpa, &mut want).is_ok();
                assert_eq!(space.read_by(&HALVES, e.va, &mut read).is_ok(), good);
                assert!(!good || read == want);
            }
            ExtentItem::Lost { va, cause, .. } | ExtentItem::Away { va, cause, .. } => {
                let fault = Fault { addr: va, cause };
                assert_eq!(space.translate_by(&HALVES, va), Err(fault));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Two roots, of which one may be unknown, in halves of one table's and of a table's each.
    #[test]
    fn two_roots_equal_the_naive_walk(
        seed: u64,
        density in prop_oneof![Just(3_u64), Just(40)],
        known in prop_oneof![Just((true, true)), Just((true, false)), Just((false, true))],
        cut: u64,
    ) {
        let root = |is_known: bool, gpa| is_known.then_some(gpa);
        let (lower, upper) = (root(known.0, 0x1000), root(known.1, 0x2000));
        let space = |density| arbitrary_pages(seed, density).with_roots(lower, upper);
        let part = |va: u64| {
            let first = Gva(va & !0xfff);
            AddrRange::inclusive(first, Gva(u64::MAX)).expect("not empty")
        };
        let low = (cut >> 28) & !0xfff;
        let three = space(density);
        check_halves(&three, AddrRange::all());
        check_halves(&three, part(low));
        check_halves(&three, part(!low));
        // The deeper the tree, the sparser the tables: the naive walk visits everything.
        let space = space(density.min(8));
        for range in [part(0x7fff_ff00_0000), part(0xffff_8000_0000_0000), part(!0x7fff_f000)] {
            let pages = naive::pages(&space, range);
            let spans: Vec<_> = space.spans(range).collect();
            assert_same(&spans, &naive::spans(&pages), "regions", range);
        }
    }
}

#[test]
fn each_half_has_its_root() {
    let mut pages = chain();
    pages.put(0x4000, 0x5000 | 7);
    // The other half's tables: its last page, through the last entry of each.
    for (at, to) in [
        (0x6000, 0x7000),
        (0x7000, 0x8000),
        (0x8000, 0x9000),
        (0x9000, 0xa000),
    ] {
        pages.put(at + 511 * 8, to | 3);
    }
    pages.put(0xa000, 0x1234);
    let space = pages.with_roots(Some(0x1000), Some(0x6000));
    let last = Gva(u64::MAX - 0xfff);
    assert_eq!(space.translate(Gva(0)).map(|m| m.gpa), Ok(Gpa(0x5000)));
    assert_eq!(space.translate(last).map(|m| m.gpa), Ok(Gpa(0xa000)));
    assert_eq!(space.read_u64(last).ok(), Some(0x1234));
    assert_eq!(space.walk(last).steps.len(), 4);
    assert_eq!(space.regions(AddrRange::all()).count(), 2);
    check_against_naive(&space, AddrRange::all());

    // Another process has the same upper half.
    let other = space.with_root(Gpa(0xb000));
    assert_eq!(other.root(), Gpa(0xb000));
    assert!(other.translate(Gva(0)).is_err());
    assert_eq!(other.translate(last).map(|m| m.gpa), Ok(Gpa(0xa000)));

    let phys = Arc::clone(space.phys());
    let upper = Some(Gpa(0x6000));
    let kernel = AddressSpace::new(phys, Roots::Halves { lower: None, upper }, Mode::FourLevel);
    let cause = Cause::NonCanonical;
    let fault = Fault {
        addr: Gva(0),
        cause,
    };
    assert_eq!(kernel.translate(Gva(0)), Err(fault));
    assert_eq!(kernel.read_u64(Gva(0)), Err(fault));
    assert_eq!(kernel.read_u64(last).ok(), Some(0x1234));
    assert_eq!(kernel.regions(AddrRange::all()).count(), 1);
    assert_eq!(kernel.root(), Gpa(0x6000));
}

#[test]
fn each_mode_has_its_right_to_execute() {
    const NO_USER: u64 = 1 << 63;
    const NO_KERNEL: u64 = 1 << 9;
    let rx = Prot::R.union(Prot::X);
    // What the table above forbids, the page, and who may execute it: user mode, the kernel.
    for (above, page, user, kernel) in [
        (0, 1, true, true),
        (0, 1 | NO_USER, false, true),
        (0, 1 | NO_KERNEL, true, false),
        (NO_USER, 1, false, true),
        (NO_USER, 1 | NO_KERNEL, false, false),
        (0, 5, true, true),
        (0, 5 | NO_KERNEL, true, false),
        (0, 5 | NO_USER, false, true),
        (NO_KERNEL, 5, true, false),
        (NO_KERNEL, 5 | NO_USER, false, false),
    ] {
        let mut pages = chain();
        pages.put(0x2000, 0x3000 | 7 | above);
        pages.put(0x3000, 0x5000 | page);
        let space = pages.with_roots(Some(0x1000), None);
        let prot = space.translate_by(&HALVES, Gva(0)).expect("mapped").prot;
        assert_eq!((prot.user_exec(), prot.kernel_exec()), (user, kernel));
        assert_eq!(prot.user(), page & 4 != 0);
        // That of the mode to which it belongs is the one that is shown and asked for.
        let own = if prot.user() { user } else { kernel };
        assert_eq!(prot.exec(), own);
        assert_eq!(prot.contains(rx), own);
        check_halves(&space, AddrRange::all());
        // x86 has one right, and never says anything of the other mode.
        let plain = space.translate(Gva(0)).map(|mapping| mapping.prot);
        assert!(plain.is_err() || plain.is_ok_and(|prot| !prot.contains(Prot::OTHER_X)));
    }
}
