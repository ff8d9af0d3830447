//! The forms agree, whatever the target; matches end where they do; what stops a scan is told.

use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use vmie_synth::guest::{Flags, Machine, Paging, Space};

use super::*;
use crate::addr::{Gpa, Gva};
use crate::paging::{AddressSpace, Mode};
use crate::signature::{Matched, Set, Signature};
use crate::sweep::SpacePart;
use crate::testany::any_memory;
use crate::testmem::TestMemory;
use crate::xref::{CodeBits, Xrefs};

fn set(texts: &[&str]) -> Set {
    let parsed = texts.iter().map(|text| Signature::parse("", text));
    Set::compile(parsed.collect::<Result<_, _>>().expect("parse")).expect("compiles")
}

fn dynamic(memory: &TestMemory<Gva>) -> &dyn Memory<Addr = Gva> {
    memory
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn the_forms_agree(
        memory in any_memory(),
        window in prop::sample::select(vec![1usize, 7, 4096, 1 << 18]),
        threads in 1usize..=2,
        (start, len) in (0u64..0x9000, 1u64..0x5000),
        whole: bool,
        part: bool,
    ) {
        let memory: TestMemory<Gva> = memory;
        let set = set(&["00", "01 ?? 00", "02 [1-3] 02"]);
        // Tiny windows read their surroundings again for each byte, and two pages have all borders.
        let (whole, len) = if window < 10 { (false, len.min(0x1800)) } else { (whole, len) };
        let range = if whole { None } else { AddrRange::new(Gva(start), len) };
        let selection = match part {
            true => Selection::all().part(range),
            false => Selection::all().range(range),
        };
        let run = || Run::new().window(window).threads(threads);
        let all = scan(dynamic(&memory), &set, &selection, run());
        let mut each = Vec::new();
        let outcome = scan_each(dynamic(&memory), &set, &selection, run(), |found| {
            each.push(found);
            Continue(())
        });
        prop_assert_eq!(&all.items, &each);
        prop_assert!(outcome.items.is_empty());
        let pool = Pool::new(threads).expect("starts");
        let pulled = Scan::new(&memory, &set, &selection, Run::new().window(window).pool(&pool));
        let mut pulled = pulled;
        prop_assert_eq!(&all.items, &pulled.by_ref().collect::<Vec<_>>());
        prop_assert_eq!(&all.coverage, &outcome.coverage);
        prop_assert_eq!(&all.coverage, &pulled.outcome().coverage);
        // What is not mapped in a range is not missing, and not even told of a part.
        prop_assert_eq!(all.is_complete(), all.coverage.absent == 0 && all.coverage.lost == 0);
        prop_assert!(!part || all.coverage.unmapped == 0);
    }

    #[test]
    fn a_match_ends_where_the_fewest_bytes_match(
        bytes in prop::collection::vec(0u8..3, 1..40),
        text in prop::sample::select(vec![
            "00 01", "00 [0-4] 01", "(00 | 00 01 02) [1-2] 02", "01 [2] 00", "02 [0-6] 01",
        ]),
    ) {
        let memory = TestMemory::<Gva>::of(0x1000, &bytes);
        let set = set(&[text]);
        for found in scan(dynamic(&memory), &set, &Selection::all(), Run::new()).items {
            let at = (found.start.0 - 0x1000) as usize;
            let matches = |len: usize| set.matches(&bytes[at..at + len]).iter().any(|hit| hit.offset == 0);
            let fewest = (1..=bytes.len() - at).find(|&len| matches(len));
            prop_assert_eq!(Some(found.len), fewest);
            prop_assert_eq!(found.end(), Some(Gva(found.start.0 + found.len as u64)));
            prop_assert_eq!(found.range().len(), found.len as u64);
        }
    }
}

/// Code that calls a function, mapped at two places in one space and at one of them in another.
fn spaces() -> Vec<AddressSpace> {
    let mut machine = Machine::scattered(0..4 << 20, 3);
    // call +0x10; nothing
    let mut code = vec![0x90; 4096];
    code[..5].copy_from_slice(&[0xe8, 0x10, 0, 0, 0]);
    let frame = machine.frames.alloc();
    machine.phys.write(frame, &code);
    let roots: Vec<u64> = [&[0x40_0000, 0x50_0000][..], &[0x40_0000]]
        .into_iter()
        .map(|places| {
            let space = Space::new(&mut machine, Paging::FourLevel);
            for &at in places {
                space.map_frames(&mut machine, at, &[frame], Flags::CODE);
            }
            space.root()
        })
        .collect();
    let memory = TestMemory::<Gpa>::of(0, &machine.phys.into_dense());
    let memory: Arc<dyn Memory<Addr = Gpa>> = Arc::new(memory);
    let space = |root| AddressSpace::new(Arc::clone(&memory), Gpa(root), Mode::FourLevel);
    roots.into_iter().map(space).collect()
}

/// The same bytes refer to different addresses, so frames in common are looked at in each place.
#[test]
fn a_scanner_that_knows_its_address_sees_all_of_them() {
    let spaces = spaces();
    let parts: Vec<SpacePart<'_>> = spaces.iter().map(SpacePart::all).collect();
    let to = |at| Xrefs::to(AddrRange::new(Gva(at), 1).expect("one"), CodeBits::B64);
    for (at, expected) in [
        (0x40_0015, vec![(0, 0x40_0000), (1, 0x40_0000)]),
        (0x50_0015, vec![(0, 0x50_0000)]),
    ] {
        let found = scan(&parts[..], &to(at), &Selection::all(), Run::new());
        let places: Vec<_> = found
            .items
            .iter()
            .map(|one| (one.space, one.start.0))
            .collect();
        assert_eq!(places, expected);
        assert!(found.items.iter().all(|one| one.len == 5));
        assert_eq!(found.spaces.len(), 2);
        let one = scan(&spaces[0], &to(at), &Selection::all(), Run::new());
        assert_eq!(
            one.items.len(),
            expected.iter().filter(|(space, _)| *space == 0).count()
        );
    }
    // One that does not is sent over each frame once, and finds it everywhere.
    let set = set(&["E8 10 00"]);
    let found = scan(&parts[..], &set, &Selection::all(), Run::new());
    let places: Vec<_> = found
        .items
        .iter()
        .map(|one| (one.space, one.start.0))
        .collect();
    assert_eq!(places, [(0, 0x40_0000), (0, 0x50_0000), (1, 0x40_0000)]);
    // The frame once, and what is around its border.
    assert_eq!(found.coverage.read, 3 * 4096);
    assert!(found.looked_at < 2 * 4096, "{}", found.looked_at);
}

#[test]
fn whoever_stops_a_scan_is_told_so() {
    let memory = TestMemory::<Gva>::of(0x1000, &[7; 64]);
    let set = set(&["07"]);
    let run = || Run::new().window(8).threads(1);
    let mut found = 0;
    let outcome = scan_each(dynamic(&memory), &set, &Selection::all(), run(), |_| {
        found += 1;
        if found == 10 { Break(()) } else { Continue(()) }
    });
    assert!(outcome.stopped && !outcome.is_complete());
    assert_eq!((found, outcome.coverage.read), (10, 16));

    let cancel = AtomicBool::new(false);
    let mut windows = Vec::new();
    let progress = |done| {
        windows.push(done);
        cancel.store(done == 24, Ordering::Relaxed);
    };
    let run = run().progress(progress).cancel(&cancel);
    let outcome = scan(dynamic(&memory), &set, &Selection::all(), run);
    assert!(outcome.stopped);
    assert_eq!((outcome.items.len(), windows), (24, vec![8, 16, 24]));

    cancel.store(true, Ordering::Relaxed);
    let run = Run::new().window(8).threads(1).cancel(&cancel);
    let mut pulled = Scan::new(&memory, &set, &Selection::all(), run);
    assert_eq!(pulled.by_ref().count(), 8);
    assert!(pulled.outcome().stopped);
}

#[test]
fn a_match_at_the_last_address_has_no_end() {
    let item = Matched { sig: 0, len: 4 };
    let found = Match {
        space: 0,
        start: Gva(u64::MAX - 3),
        len: 4,
        item,
    };
    assert_eq!(found.end(), None);
    assert_eq!(found.range().last(), Gva(u64::MAX));
}
