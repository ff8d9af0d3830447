//! Snapshots against the memory they were taken of, and differences against the reference implementation.

use proptest::prelude::*;

use super::diff::naive;
use super::*;
use crate::addr::Gva;
use crate::memory::Cause;
use crate::scan::Run;
use crate::sweep::{SweepOptions, quiet, sweep};
use crate::testany::any_memory;
use crate::testmem::TestMemory;
use std::sync::atomic::AtomicBool;

type Test = TestMemory<Gva>;

/// All addresses that test memories have anything at, and some around.
fn around() -> AddrRange<Gva> {
    AddrRange::new(Gva(0x3c000), 0xc000).unwrap()
}

/// Moved, so that a window of comparison ends in the middle.
fn moved(mut memory: Test) -> Test {
    const BY: u64 = 0x3c000;
    for part in &mut memory.parts {
        part.start += BY;
    }
    for (start, _) in memory.absent.iter_mut().chain(&mut memory.lost) {
        *start += BY;
    }
    memory
}

pub(super) fn any_moved() -> impl Strategy<Value = Test> {
    any_memory().prop_map(moved)
}

/// A memory, and what became of it: pages that stayed, pages of another memory in their place, and pages
/// of which some bytes were changed.
fn two_moments() -> impl Strategy<Value = (Test, Test)> {
    let edits = prop::collection::vec((0u64..0x1000, 1usize..20, any::<u8>()), 0..6);
    let fates = prop::collection::vec((0u8..4, edits), 8);
    (any_moved(), any_moved(), fates).prop_map(|(before, other, fates)| {
        let mut after = Test::new();
        after.lends = other.lends;
        for (page, (fate, edits)) in (0x3d000u64..).step_by(0x1000).zip(fates) {
            let from = if fate == 0 { &other } else { &before };
            let here = |&&(start, _): &&(u64, u64)| start == page;
            after.absent.extend(from.absent.iter().find(here));
            after.lost.extend(from.lost.iter().find(here));
            let mut part = from.parts.iter().find(|part| part.start == page).cloned();
            if let Some(part) = &mut part
                && fate == 1
            {
                for (at, len, value) in edits {
                    let bytes = part.bytes.iter_mut().skip(at as usize).take(len);
                    bytes.for_each(|byte| *byte = value);
                }
            }
            after.parts.extend(part);
        }
        (before, after)
    })
}

/// Spans cut at each page, so that spans which touch and say the same are one thing.
fn by_byte(memory: &dyn Memory<Addr = Gva>, range: AddrRange<Gva>) -> Vec<(u64, SpanKind)> {
    let spans = memory.spans(range);
    spans
        .flat_map(|span| (span.start.0..span.start.0 + span.len).map(move |at| (at, span.kind)))
        .collect()
}

fn byte(memory: &dyn Memory<Addr = Gva>, at: u64) -> Result<u8, Cause> {
    let mut byte = [0xee];
    let read = memory.read(Gva(at), &mut byte);
    read.map(|()| byte[0]).map_err(|fault| fault.cause)
}

/// That a snapshot answers as the memory does.
pub(super) fn assert_same(memory: &Test, snapshot: &Snapshot<Gva>) {
    assert_eq!(by_byte(snapshot, around()), by_byte(memory, around()));
    let lost = |at| {
        memory
            .lost
            .iter()
            .any(|&(start, len)| (start..start + len).contains(&at))
    };
    for at in around().start().0..=around().last().0 {
        match (byte(snapshot, at), byte(memory, at)) {
            (Err(one), Err(_)) if lost(at) => assert!(!one.is_unmapped(), "{at:#x}"),
            (Err(one), Err(other)) => assert_eq!(one.is_unmapped(), other.is_unmapped(), "{at:#x}"),
            (one, other) => assert_eq!(one, other, "at {at:#x}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_snapshot_is_the_memory(
        memory in any_moved(),
        reads in prop::collection::vec((0x3c000u64..0x48000, 1usize..0x5000), 8),
    ) {
        let snapshot = take(&memory, &TakeOptions::default(), Run::new()).unwrap();
        assert_same(&memory, &snapshot);
        let options = SweepOptions { threads: 1, ..SweepOptions::default() };
        let swept = sweep(&memory, &options, &mut quiet, |_, _: &mut crate::Found<()>| (), |()| {
            std::ops::ControlFlow::Continue(())
        });
        let (ours, theirs) = (snapshot.coverage(), swept.coverage);
        prop_assert_eq!(
            (ours.mapped, ours.read, ours.absent, ours.lost),
            (theirs.mapped, theirs.read, theirs.absent, theirs.lost)
        );
        for (start, len) in reads {
            let (mut one, mut other) = (vec![0; len], vec![0; len]);
            let ours = snapshot.read(Gva(start), &mut one);
            let theirs = memory.read(Gva(start), &mut other);
            prop_assert_eq!(ours.map_err(|fault| fault.addr), theirs.map_err(|fault| fault.addr));
            let good = ours.map_or_else(|fault| (fault.addr.0 - start) as usize, |()| len);
            prop_assert_eq!(&one[..good], &other[..good]);
            let range = AddrRange::new(Gva(start), len as u64).unwrap();
            if let Some(lent) = snapshot.borrow(range) {
                prop_assert_eq!(lent, &other[..]);
                prop_assert!(theirs.is_ok());
            }
        }
    }

    #[test]
    fn differences_are_those_of_the_reference(
        (before, after) in two_moments(),
        all in 0u8..8,
        any in 0u8..8,
        start in 0x3c000u64..0x48000,
    ) {
        let prot = |bits| Prot::from_bits(bits & 5).unwrap();
        let filter = Filter { all: prot(all), any: prot(any) };
        for range in [around(), AddrRange::inclusive(Gva(start), Gva(0x47fff)).unwrap()] {
            let options = DiffOptions { range, filter };
            let check = |before: &dyn Memory<Addr = Gva>, after: &dyn Memory<Addr = Gva>| {
                let mut rows = Vec::new();
                let outcome = diff(before, after, &options, Run::new(), |row| {
                    rows.push(row);
                    std::ops::ControlFlow::Continue(())
                });
                let (expected, totals) = naive(before, after, &options);
                let first = rows.iter().zip(&expected).find(|(row, reference)| row != reference);
                assert_eq!(first, None);
                assert_eq!(rows.len(), expected.len());
                let coverage = &outcome.coverage;
                assert_eq!([coverage.read, coverage.absent, coverage.lost], totals);
                let bytes = expected.iter().filter(|row| row.kind == ChangeKind::Modified);
                assert_eq!(outcome.modified, bytes.map(|row| row.len).sum::<u64>());
                assert!(!outcome.stopped);
                rows
            };
            let rows = check(&before, &after);
            // Through a snapshot that kept everything, or what is asked about, nothing is different.
            let whole = take(&before, &TakeOptions::default(), Run::new()).unwrap();
            assert_eq!(&check(&whole, &after), &rows);
            let part = TakeOptions { range, filter, ..TakeOptions::default() };
            let part = take(&before, &part, Run::new()).unwrap();
            check(&part, &after);
            check(&after, &part);
            assert_eq!(check(&whole, &before), []);
        }
    }
}

#[test]
fn what_was_left_out_is_told_from_what_was_not_there() {
    let (rx, rw) = (Prot::parse("rx").unwrap(), Prot::parse("rw").unwrap());
    let memory = Test::new()
        .part(0x1000, &[1; 0x1000], rx)
        .part(0x2000, &[2; 0x1000], rw)
        .part(0x9000, &[3; 0x1000], rw);
    let options = TakeOptions {
        range: AddrRange::new(Gva(0x1000), 0x4000).unwrap(),
        filter: Filter {
            any: Prot::W,
            ..Filter::default()
        },
        ..TakeOptions::default()
    };
    let snapshot = take(&memory, &options, Run::new()).unwrap();
    assert_eq!(byte(&snapshot, 0x2fff), Ok(2));
    assert_eq!(byte(&snapshot, 0x1000), Err(Cause::NotCaptured));
    assert_eq!(byte(&snapshot, 0x9000), Err(Cause::NotCaptured));
    assert_eq!(byte(&snapshot, 0x4000), Err(Cause::NothingThere));
    let missing = |start, len| {
        let gaps = snapshot.missing(AddrRange::new(Gva(start), len).unwrap());
        gaps.map(|gap| gap.len).sum::<u64>()
    };
    assert_eq!(
        (missing(0x1000, 0x2000), missing(0x1f00, 0x200)),
        (0x1000, 0x100)
    );
    let kept: Vec<_> = snapshot.kept().map(|region| region.start.0).collect();
    assert_eq!((kept, snapshot.stored_pages()), (vec![0x2000], 1));
    let all: Vec<_> = snapshot.spans(AddrRange::all()).collect();
    let kinds = [
        SpanKind::Lost(Cause::NotCaptured),
        SpanKind::Mapped(rx),
        SpanKind::Mapped(rw),
        SpanKind::Lost(Cause::NotCaptured),
    ];
    assert_eq!(all.iter().map(|span| span.kind).collect::<Vec<_>>(), kinds);
    // A region that stops being writable is neither gone nor new.
    let later = Test::new()
        .part(0x1000, &[9; 0x1000], rx)
        .part(0x2000, &[2; 0x1000], rx);
    let mut rows = Vec::new();
    let outcome = diff(
        &snapshot,
        &later,
        &snapshot.diff_options(),
        Run::new(),
        |row| {
            rows.push((row.start.0, row.kind));
            std::ops::ControlFlow::Continue(())
        },
    );
    assert_eq!(rows, [(0x2000, ChangeKind::Protection)]);
    assert_eq!(outcome.coverage.read, 0x1000);
}

#[test]
fn too_much_is_refused_and_not_cut() {
    let memory = Test::of(0x1000, &[1; 0x3000]);
    let with = |max_bytes| TakeOptions {
        max_bytes,
        ..TakeOptions::default()
    };
    assert!(take(&memory, &with(0x3000), Run::new()).is_ok());
    let refused = take(&memory, &with(0x2fff), Run::new()).map(|_| ());
    assert!(matches!(refused, Err(TakeError::TooLarge { .. })));
    let stop = AtomicBool::new(true);
    let run = Run::new().cancel(&stop);
    let stopped = take(&memory, &TakeOptions::default(), run).map(|_| ());
    assert_eq!(stopped, Err(TakeError::Stopped));
}

#[test]
fn pages_of_zeros_take_no_room() {
    let mut bytes = vec![0; 0x400_0000];
    bytes[0x123_4567] = 1;
    let memory = Test::of(0, &bytes).lending();
    let image = crate::Image::from_bytes(memory.parts[0].bytes.clone(), &Default::default());
    let snapshot = take(&image.unwrap(), &TakeOptions::default(), Run::new()).unwrap();
    assert_eq!(snapshot.stored_pages(), 1);
    assert_eq!(snapshot.coverage().read, 0x400_0000);
    let mut page = [0; 2];
    snapshot.read(Gpa(0x123_4566), &mut page).unwrap();
    assert_eq!(page, [0, 1]);
}
