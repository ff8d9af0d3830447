//! The reference implementation, windows and holes.

use std::ops::ControlFlow::Continue;

use proptest::prelude::*;

use super::*;
use crate::memory::Prot;
use crate::scan::{Run, Selection};
use crate::sweep::{SweepOptions, quiet, seek};
use crate::testany::any_memory;
use crate::testmem::TestMemory;

/// The reference implementation.
fn naive(
    start: u64,
    code: &[u8],
    targets: AddrRange<Gva>,
    set: impl Into<InstructionSet>,
) -> Vec<Xref> {
    set.into().code().naive(Gva(start), code, targets)
}

fn filters() -> impl Iterator<Item = FilterKind> {
    FilterKind::ALL
        .into_iter()
        .filter(|kind| kind.is_available())
}

use CodeBits::{B32, B64};

#[test]
fn kinds_have_names_of_their_own() {
    let names: std::collections::BTreeSet<_> = XrefKind::ALL.map(XrefKind::name).into();
    assert_eq!(names.len(), XrefKind::ALL.len());
}

/// Bytes that make instructions with fields more often than chance does.
fn any_code() -> impl Strategy<Value = Vec<u8>> {
    let common = prop::sample::select(vec![
        0xe8u8, 0xe9, 0xeb, 0x74, 0xe2, 0x0f, 0x84, 0x48, 0x4c, 0x8d, 0x8b, 0x05, 0x0d, 0x25, 0x15,
        0xff, 0xc7, 0x80, 0x3d, 0x66, 0x67, 0x64, 0xb8, 0xa1, 0x68, 0x9a, 0xc5, 0xf8, 0x62, 0x90,
        0x04,
    ]);
    let byte = prop_oneof![4 => common, 4 => Just(0u8), 1 => any::<u8>(), 2 => 0u8..8];
    prop::collection::vec(byte, 1..400)
}

/// Where code is, and how wide.
fn any_place() -> impl Strategy<Value = (u64, CodeBits)> {
    prop_oneof![
        Just((0u64, B64)),
        Just((0x40_0ff0, B64)),
        Just((0x7fff_fff0_0000, B64)),
        Just((0xffff_ffff_8100_0000, B64)),
        Just((u64::MAX - 399, B64)),
        Just((0xffff_ff80, B64)),
        Just((0, B32)),
        Just((0x804_8000, B32)),
        Just((0xffff_fe00, B32)),
        Just((0xffff_ffc0, B32)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_is_found_equals_a_decode_from_every_byte(
        code in any_code(),
        (start, bits) in any_place(),
        at in prop_oneof![-300i64..700, 0i64..8, any::<i64>()],
        absolute in any::<bool>(),
        len in prop_oneof![Just(1u64), 1u64..300, Just(1 << 20), Just(1 << 33), Just(u64::MAX)],
    ) {
        let first = if absolute { at.cast_unsigned() } else { start.wrapping_add_signed(at) };
        let last = first.saturating_add(len - 1);
        let targets = AddrRange::inclusive(Gva(first), Gva(last)).expect("in order");
        let expected = naive(start, &code, targets, bits);
        for filter in filters() {
            let xrefs = Xrefs::to(targets, bits).with_filter(filter).unwrap();
            prop_assert_eq!(&xrefs.find(Gva(start), &code), &expected, "{:?}", filter);
        }
    }

    #[test]
    fn a_scan_equals_the_reference_on_each_readable_stretch(
        memory in any_memory::<Gva>(),
        code in prop::collection::vec(any_code(), 4),
        window in prop_oneof![1usize..20, 90usize..200, Just(4096), Just(1 << 18)],
        threads in 1usize..=2,
        target in 0u64..0x9000,
        len in prop_oneof![Just(1u64), Just(0x40), Just(0x1000)],
    ) {
        let mut memory = memory;
        // Code across the borders of pages.
        for (i, code) in code.iter().enumerate() {
            let at = 0x1000 * (i as u64 + 2) - code.len() as u64 / 2;
            for (i, &byte) in code.iter().enumerate() {
                let at = at + i as u64;
                let mut parts = memory.parts.iter_mut();
                let part = parts.find(|part| (part.start..part.start + part.bytes.len() as u64).contains(&at));
                if let Some(part) = part {
                    part.bytes[(at - part.start) as usize] = byte;
                }
            }
        }
        let targets = AddrRange::new(Gva(target), len).expect("not empty");
        let mut expected = Vec::new();
        for (start, bytes) in memory.readable(Prot::NONE, None) {
            expected.extend(naive(start, &bytes, targets, B64));
        }
        let options = SweepOptions { window, threads, ..SweepOptions::default() };
        let mut found = Vec::new();
        let outcome = seek(&memory, &Xrefs::to(targets, B64), &options, &mut quiet, |_, xref| {
            found.push(xref);
            Continue(())
        });
        prop_assert!(!outcome.stopped);
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn an_index_answers_as_a_scan_does(
        code in prop::collection::vec(any_code(), 1..4),
        (start, bits) in any_place(),
        window in prop_oneof![1usize..20, Just(100), Just(1 << 18)],
        asked in prop::collection::vec((-300i64..2000, 1u64..100), 1..12),
    ) {
        // Stretches of code with holes between them, all of it mapped.
        let mut memory = TestMemory::<Gva>::new();
        let mut at = start;
        for code in &code {
            let room = u64::MAX - at;
            let limit = if bits == B32 { 0xffff_ffffu64.saturating_sub(at) } else { room };
            let len = code.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
            if len == 0 {
                break;
            }
            memory = memory.part(at, &code[..len], Prot::RWX);
            at = at.saturating_add(code.len() as u64 + 7);
        }
        prop_assume!(!memory.parts.is_empty());
        let options = SweepOptions { window, threads: 1, ..SweepOptions::default() };
        let (index, outcome) = XrefIndex::build(&memory, bits, &Selection::all(), Run::new().window(window).threads(1));
        prop_assert!(!outcome.stopped);
        let ends: Vec<u64> = memory.parts.iter().map(|p| p.start + (p.bytes.len() as u64 - 1)).collect();
        for (from, len) in asked {
            // References to what is not mapped are not kept.
            let first = start.saturating_add_signed(from).max(start);
            let Some(&end) = ends.iter().find(|&&end| end >= first) else { continue };
            let part = memory.parts.iter().find(|p| p.start + (p.bytes.len() as u64 - 1) == end).unwrap();
            let first = first.max(part.start);
            let targets = AddrRange::inclusive(Gva(first), Gva(end.min(first.saturating_add(len - 1))));
            let targets = targets.expect("in order");
            let mut expected = Vec::new();
            let _ = seek(&memory, &Xrefs::to(targets, bits), &options, &mut quiet, |_, xref| {
                expected.push(xref);
                Continue(())
            });
            prop_assert_eq!(index.to(&memory, targets), expected);
        }
        // All at once is all of them, by target.
        let mut expected = Vec::new();
        for part in &memory.parts {
            let targets = AddrRange::new(Gva(part.start), part.bytes.len() as u64).expect("not empty");
            let mut found = Vec::new();
            let _ = seek(&memory, &Xrefs::to(targets, bits), &options, &mut quiet, |_, xref| {
                found.push(xref);
                Continue(())
            });
            found.sort_by_key(|xref| xref.target);
            expected.extend(found);
        }
        let mut found = Vec::new();
        let flow = index.each(&memory, AddrRange::all(), |xref| {
            found.push(xref);
            Continue(())
        });
        prop_assert!(flow.is_continue());
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn several_targets_are_each_of_them(
        code in any_code(),
        (start, bits) in any_place(),
        targets in prop::collection::vec((-300i64..700, 1u64..300), 0..4),
    ) {
        let targets = targets.into_iter().filter_map(|(at, len)| {
            AddrRange::new(Gva(start.wrapping_add_signed(at)), len)
        });
        let targets: Vec<_> = targets.collect();
        let mut expected = std::collections::BTreeSet::new();
        for &targets in &targets {
            expected.extend(naive(start, &code, targets, bits));
        }
        let found = Xrefs::to_any(targets, bits).find(Gva(start), &code);
        prop_assert_eq!(found, Vec::from_iter(expected));
    }
}
