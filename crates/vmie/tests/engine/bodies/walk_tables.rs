//! What must hold for *any* bytes taken for page tables.
//!
//! One body for the tests, which run it on mutated guests of every paging mode, and for the fuzz
//! target of the same name.

#![allow(unreachable_pub)] // shared by a test and a fuzz target, a library of neither

use std::sync::Arc;

use vmie::paging::{Backing, Bits, ExtentItem, Form, Frame, Meaning, SoftwareEntries, Test};
use vmie::{AddrRange, Address, AddressSpace, Cause, Fault, Gpa, Gva, Memory, Mode, Prot, Span};

use super::testmem::TestMemory;

/// Entries that are not present, as an operating system might use them: one bit says that there is a page whose frame
/// stands inverted, everything else is a place in swap.
fn software() -> SoftwareEntries {
    struct Striped;
    impl Backing for Striped {
        fn prot(&self, va: Gva) -> (Prot, Gva) {
            let prot = match va.0 >> 14 & 1 {
                0 => Prot::NONE,
                _ => Prot::RWX,
            };
            (prot, Gva(va.0 | 0x3fff))
        }

        fn is_compressed(&self, _area: u32, offset: u64) -> bool {
            offset % 2 == 1
        }
    }
    const FRAME: u64 = 0x000f_ffff_ffff_f000;
    let form = |levels, mask, value, meaning| Form {
        levels,
        test: Test { mask, value },
        meaning,
    };
    let frame = Frame {
        flip: FRAME,
        shift: 0,
        mask: FRAME,
    };
    let number = |flip, shift, mask| Bits { flip, shift, mask };
    let swapped = Meaning::Swapped {
        area: number(0, 59, 31),
        offset: number(!0, 9, (1 << 50) - 1),
    };
    let forms = [
        form(0b1110, 0x101, 0x100, Meaning::Resident(frame)),
        form(0b10, 1, 0, swapped),
    ];
    let empty = Test { mask: !0, value: 0 };
    SoftwareEntries::new(empty, &forms, Arc::new(Striped))
}

/// Walks the tables that `data` holds: its first two bytes choose mode and root, the rest is memory. Once as the CPU
/// would, and once with entries of an operating system's.
///
/// Answers how many extents and unknown ranges it saw, at most 4000 each time.
///
/// # Panics
///
/// When the walk breaks a promise.
pub fn walk_tables(data: &[u8]) -> usize {
    walk(data, None) + walk(data, Some(software()))
}

fn walk(data: &[u8], software: Option<SoftwareEntries>) -> usize {
    let [choice, root, memory @ ..] = data else {
        return 0;
    };
    let mode = Mode::ALL[usize::from(choice % 4)];
    let root = Gpa(u64::from(*root) * 4096);
    let space = |direct| {
        // With views, as a mapped image; without, everything goes through reads, as for a compressed one.
        let mut phys = TestMemory::of(0, memory);
        phys.views = direct;
        let phys = Arc::new(phys);
        let space = AddressSpace::new(phys, root, mode).with_table_limit(3000);
        match &software {
            Some(software) => space.with_software(software.clone()),
            None => space,
        }
    };
    let (direct, plain) = (space(true), space(false));

    let extents: Vec<_> = direct.extents(AddrRange::all()).take(4000).collect();
    assert!(
        extents.iter().eq(plain
            .extents(AddrRange::all())
            .take(4000)
            .collect::<Vec<_>>()
            .iter())
    );
    let mut end = Some(Gva(0));
    for item in &extents {
        let (va, len) = match *item {
            ExtentItem::Extent(e) => (e.va, e.len),
            ExtentItem::Lost { va, len, .. } | ExtentItem::Away { va, len, .. } => (va, len),
        };
        assert!(
            len > 0 && end.is_some_and(|end| end <= va),
            "{item:?} after {end:?}"
        );
        end = va.checked_add(len);
        check_translation(&direct, &plain, *item);
    }

    let mut walk = direct.region_walk(AddrRange::all());
    let spans: Vec<_> = walk.by_ref().take(4000).collect();
    assert!(walk.stats().tables <= 3000);
    let mut last: Option<Span<Gva>> = None;
    for span in &spans {
        if let Some(last) = last {
            assert!(
                last.range().last() < span.range().start(),
                "{last:?} {span:?}"
            );
            let touches = last.start.checked_add(last.len) == Some(span.start);
            assert!(
                !(touches && last.kind == span.kind),
                "not maximal: {last:?} {span:?}"
            );
        }
        last = Some(*span);
    }
    for span in spans.iter().take(50) {
        check_reads(&direct, &plain, *span);
    }
    extents.len()
}

/// Both ways of reading must agree with what the enumeration says, at both ends of a run.
fn check_translation(direct: &AddressSpace, plain: &AddressSpace, item: ExtentItem) {
    match item {
        ExtentItem::Extent(e) => {
            for at in [0, e.len - 1] {
                let va = Gva(e.va.raw() + at);
                let mapping = direct.translate(va).expect("enumerated");
                assert_eq!(mapping.gpa, Gpa(e.gpa.raw() + at), "{va}");
                assert_eq!((mapping.prot, mapping.page_size), (e.prot, e.page_size));
                assert_eq!(plain.translate(va), Ok(mapping));
                assert_eq!(plain.walk(va).result, Ok(mapping));
            }
        }
        ExtentItem::Lost {
            cause: Cause::Limit,
            ..
        } => (),
        ExtentItem::Lost { va, cause, .. } | ExtentItem::Away { va, cause, .. } => {
            let fault = Err(Fault { addr: va, cause });
            assert_eq!((direct.translate(va), plain.translate(va)), (fault, fault));
        }
    }
}

/// Reads across the beginning and the end of a span, in pieces small and large.
fn check_reads(direct: &AddressSpace, plain: &AddressSpace, span: Span<Gva>) {
    let end = span.range().last();
    for start in [
        span.start,
        Gva(end.raw().saturating_sub(5000)),
        Gva(end.raw().saturating_sub(3)),
    ] {
        for len in [1, 8, 4096, 9000] {
            let (mut a, mut b) = (vec![0; len], vec![0; len]);
            let got = direct.read(start, &mut a);
            assert_eq!(got, plain.read(start, &mut b), "{start} {len}");
            let good = match got {
                Ok(()) => len,
                Err(fault) => {
                    usize::try_from(fault.addr.raw().wrapping_sub(start.raw())).expect("fits")
                }
            };
            assert_eq!(a[..good], b[..good], "{start} {len}");
        }
        assert_eq!(direct.read_u64(start), plain.read_u64(start), "{start}");
    }
}
