//! Series against the memories they were recorded of.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::super::groups::tests::moments;
use super::super::tests::assert_same;
use super::super::{
    Change, ChangeKind, Compression, Origin, SaveOptions, Snapshot, TakeOptions, diff, tell_apart,
};
use super::*;
use crate::addr::Gva;
use crate::memory::{Cause, Prot};
use crate::scan::Run;
use crate::testmem::TestMemory;

type Test = TestMemory<Gva>;

fn options() -> SaveOptions {
    SaveOptions {
        compression: Compression::Lz4,
    }
}

fn take_options() -> TakeOptions<Gva> {
    TakeOptions {
        range: AddrRange::new(Gva(0x3c000), 0xc000).unwrap(),
        ..TakeOptions::default()
    }
}

fn add(recorder: &mut Recorder<Gva>, memory: &Test) -> Recorded {
    let moment = recorder
        .capture(memory, &take_options(), Run::new())
        .unwrap();
    moment.keep(Origin::default()).unwrap()
}

fn record(dir: &Path, memories: &[Test]) {
    let mut recorder = Recorder::create(dir, &options()).unwrap().threads(1);
    for memory in memories {
        add(&mut recorder, memory);
    }
}

fn all(diff: impl FnOnce(&mut dyn FnMut(Change<Gva>) -> ControlFlow<()>)) -> Vec<Change<Gva>> {
    let mut changes = Vec::new();
    diff(&mut |change| {
        changes.push(change);
        ControlFlow::Continue(())
    });
    changes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_series_is_its_moments(
        memories in moments(),
        again in 0usize..6,
        letters in prop::collection::vec(0usize..3, 6),
    ) {
        let dir = tempfile::tempdir().unwrap();
        record(dir.path(), &memories[..again]);
        let mut recorder = Recorder::open(dir.path()).unwrap().threads(1);
        for memory in &memories[again..] {
            add(&mut recorder, memory);
        }
        let series = Series::<Gva>::open(dir.path()).unwrap();
        prop_assert_eq!(series.len(), memories.len());
        for (index, memory) in memories.iter().enumerate() {
            assert_same(memory, &series.snapshots()[index]);
            let alone = Snapshot::open(moment_path(dir.path(), index as u32 + 1)).unwrap();
            assert_same(memory, &alone);
        }
        // Comparisons that skip what is shared give what those of the memories give.
        let wanted = take_options();
        let wanted = DiffOptions { range: wanted.range, ..DiffOptions::default() };
        for (one, other) in [(0, 1), (1, 2), (2, 0), (3, 3), (4, 5), (5, 0)] {
            let mut outcomes = Vec::new();
            let known = all(|emit| {
                outcomes.push(series.diff(one, other, &wanted, Run::new(), emit));
            });
            let (before, after) = (&memories[one], &memories[other]);
            let read = all(|emit| {
                outcomes.push(diff(before, after, &wanted, Run::new(), emit));
            });
            prop_assert_eq!(known, read);
            prop_assert_eq!(outcomes[0].coverage.read, outcomes[1].coverage.read);
            prop_assert_eq!(outcomes[0].coverage.absent, outcomes[1].coverage.absent);
            prop_assert_eq!(outcomes[0].coverage.lost, outcomes[1].coverage.lost);
            prop_assert_eq!(outcomes[0].modified, outcomes[1].modified);
        }
        let mut groups = vec![Vec::new(); 3];
        let mut by_memory: Vec<Vec<&dyn Memory<Addr = Gva>>> = vec![Vec::new(); 3];
        for (index, &group) in letters.iter().enumerate() {
            groups[group].push(index);
            by_memory[group].push(&memories[index]);
        }
        let mut runs = [Vec::new(), Vec::new()];
        let [known, read] = &mut runs;
        let one = series.tell_apart(&groups, &wanted, Run::new(), |run| {
            known.push(run);
            ControlFlow::Continue(())
        });
        let other = tell_apart(&by_memory, &wanted, Run::new(), |run| {
            read.push(run);
            ControlFlow::Continue(())
        });
        prop_assert_eq!(&runs[0], &runs[1]);
        prop_assert_eq!(one.telling, other.telling);
        prop_assert_eq!(one.coverage.read, other.coverage.read);
        prop_assert_eq!(one.coverage.absent, other.coverage.absent);
    }

    #[test]
    fn a_history_is_what_changed_where(
        memories in moments(),
        block in prop::sample::select(vec![0u64, 0x1000, 0x2800]),
    ) {
        let dir = tempfile::tempdir().unwrap();
        record(dir.path(), &memories);
        let series = Series::<Gva>::open(dir.path()).unwrap();
        let wanted = DiffOptions { range: take_options().range, ..DiffOptions::default() };
        let history = series.history(&wanted, block, Run::new());
        let regions = &history.regions;
        // The regions are apart, and are all that some snapshot maps, with the protection it had last.
        let mut last = vec![None; 0xc000];
        for memory in &memories {
            for region in memory.regions(wanted.range) {
                for at in region.range().start().0..=region.range().last().0 {
                    last[(at - 0x3c000) as usize] = Some(region.prot);
                }
            }
        }
        let mut said = vec![None; 0xc000];
        for region in regions {
            for at in region.range.start().0..=region.range.last().0 {
                prop_assert!(said[(at - 0x3c000) as usize].replace(region.prot).is_none());
            }
        }
        prop_assert_eq!(said, last);
        let apart = |two: &[RegionHistory<Gva>]| {
            let (end, next) = (two[0].range.last().0 + 1, two[1].range.start().0);
            two[0].prot != two[1].prot || end < next || block > 0 && next % block == 0
        };
        prop_assert!(regions.windows(2).all(apart));
        let whole = |region: &RegionHistory<Gva>| {
            let block = block.max(1);
            region.range.start().0 / block == region.range.last().0 / block
        };
        prop_assert!(block == 0 || regions.iter().all(whole));
        // Byte by byte: each change is counted in the region that its address is in.
        let mut counts = std::collections::BTreeMap::new();
        for moment in 1..memories.len() {
            let (before, after) = (&memories[moment - 1], &memories[moment]);
            for change in super::super::diff::naive(before, after, &wanted).0 {
                for at in change.start.0..change.start.0 + change.len {
                    let region = regions.iter().position(|region| region.range.contains(Gva(at)));
                    *counts.entry((region.unwrap(), moment, change.kind)).or_insert(0) += 1;
                }
            }
        }
        let mut told = std::collections::BTreeMap::new();
        for (index, region) in regions.iter().enumerate() {
            for step in &region.steps {
                for (kind, bytes) in [
                    (ChangeKind::Modified, step.modified),
                    (ChangeKind::Appeared, step.appeared),
                    (ChangeKind::Disappeared, step.disappeared),
                    (ChangeKind::Protection, step.protection),
                ] {
                    if bytes > 0 {
                        prop_assert!(told.insert((index, step.snapshot, kind), bytes).is_none());
                    }
                }
            }
        }
        prop_assert_eq!(told, counts);
    }
}

/// Pages that repeat, change, come back and are zero.
fn three() -> [Test; 3] {
    let page = |byte: u8| [byte; 0x1000];
    let with = |pages: &[[u8; 0x1000]]| Test::of(0x40000, &pages.concat());
    let mut noise = page(9);
    for (at, byte) in noise.iter_mut().enumerate() {
        *byte = (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0];
    }
    [
        with(&[page(1), page(2), page(1), page(0), noise]),
        with(&[page(1), page(3), page(1), page(4), noise]),
        with(&[page(2), page(3), page(1), page(0), noise, page(1)]),
    ]
}

#[test]
fn pages_are_shared_between_moments() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::create(dir.path(), &options()).unwrap().threads(1);
    let [first, second, third] = three();
    let numbers = |recorded: Recorded| {
        let Recorded {
            number,
            pages,
            zero,
            changed,
            added,
            ..
        } = recorded;
        (u64::from(number), pages, zero, changed, added)
    };
    assert_eq!(numbers(add(&mut recorder, &first)), (1, 5, 1, 4, 3));
    assert_eq!(numbers(add(&mut recorder, &second)), (2, 5, 0, 2, 2));
    // All of its pages are known, the first of them from the first snapshot only.
    assert_eq!(numbers(add(&mut recorder, &third)), (3, 6, 1, 3, 0));
    assert_eq!(numbers(add(&mut recorder, &third)), (4, 6, 1, 0, 0));
}

#[test]
fn pages_of_the_same_hash_are_not_shared_for_that() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::create(dir.path(), &options()).unwrap().threads(1);
    let [first, second, _] = three();
    add(&mut recorder, &first);
    // As if the page of threes had the hash of the first page.
    recorder.store.remember(xxh3_64(&[3; 0x1000]), 0);
    add(&mut recorder, &second);
    let series = Series::<Gva>::open(dir.path()).unwrap();
    assert_same(&second, &series.snapshots()[1]);
}

#[test]
fn a_moment_that_was_not_kept_leaves_the_series_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second, third] = three();
    let mut recorder = Recorder::create(dir.path(), &options()).unwrap().threads(1);
    add(&mut recorder, &first);
    drop(recorder.capture(&second, &take_options(), Run::new()));
    let refused = recorder.capture(&third, &take_options(), Run::new());
    assert!(matches!(refused, Err(RecordError::Interrupted)));
    drop(refused);
    // One process at a time.
    let other = Recorder::<Gva>::open(dir.path());
    assert!(matches!(
        other,
        Err(FileError {
            kind: Kind::Busy,
            ..
        })
    ));
    let other = Recorder::<Gva>::create(dir.path(), &options());
    assert!(matches!(
        other,
        Err(FileError {
            kind: Kind::Exists,
            ..
        })
    ));
    drop(recorder);
    // What a process that was killed left behind.
    let pages = store::path(dir.path());
    let mut bytes = fs::read(&pages).unwrap();
    let whole = bytes.len();
    bytes.extend_from_slice(&[7; 100]);
    fs::write(&pages, &bytes).unwrap();
    assert_eq!(Series::<Gva>::open(dir.path()).unwrap().len(), 1);
    let mut recorder = Recorder::open(dir.path()).unwrap().threads(1);
    assert_eq!(fs::metadata(&pages).unwrap().len(), whole as u64);
    add(&mut recorder, &third);
    let series = Series::<Gva>::open(dir.path()).unwrap();
    assert_same(&first, &series.snapshots()[0]);
    assert_same(&third, &series.snapshots()[1]);
    // One that is taken away is missed by nobody.
    add(&mut recorder, &second);
    fs::remove_file(moment_path(dir.path(), 2)).unwrap();
    let series = Series::<Gva>::open(dir.path()).unwrap();
    assert_eq!((series.number(0), series.number(1)), (Some(1), Some(3)));
    assert_same(&second, &series.snapshots()[1]);
    let nowhere = Series::<Gva>::open(dir.path().join("nowhere"));
    assert!(matches!(
        nowhere,
        Err(FileError {
            kind: Kind::NoSeries,
            ..
        })
    ));
}

/// Every byte of every file is changed, and every length tried: nothing is believed that is not what was
/// recorded.
#[test]
fn damage_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let memories = three();
    record(dir.path(), &memories);
    let mut files: Vec<_> = moment_files(dir.path()).unwrap();
    files.push((0, store::path(dir.path())));
    let (mut refused, mut salvaged) = (0, 0);
    for (_, path) in &files {
        let whole = fs::read(path).unwrap();
        let stride = 1 + whole.len() / 700;
        let mut check = |bytes: &[u8], what: &str| {
            fs::write(path, bytes).unwrap();
            let opened = Series::<Gva>::open(dir.path());
            assert!(opened.is_err(), "{}: {what}", path.display());
            refused += 1;
            let Ok((series, problems)) = Series::<Gva>::salvage(dir.path()) else {
                return;
            };
            assert!(!problems.is_empty(), "{}: {what}", path.display());
            salvaged += 1;
            for (index, moment) in series.snapshots().iter().enumerate() {
                let memory = &memories[series.number(index).unwrap() as usize - 1];
                assert_right_or_damaged(memory, moment);
            }
        };
        for at in (0..whole.len()).step_by(stride) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            check(&bytes, &format!("byte {at}"));
            check(&whole[..at], &format!("cut at {at}"));
        }
        fs::write(path, &whole).unwrap();
    }
    assert!(refused > 1000 && salvaged > 500, "{refused} {salvaged}");
}

fn assert_right_or_damaged(memory: &Test, moment: &Snapshot<Gva>) {
    for page in (0x40000u64..0x46000).step_by(0x1000) {
        let (mut told, mut real) = ([0; 0x1000], [0; 0x1000]);
        let read = memory.read(Gva(page), &mut real);
        match moment.read(Gva(page), &mut told) {
            Ok(()) => assert!(read.is_ok() && told == real),
            Err(fault) => assert!(read.is_err() || matches!(fault.cause, Cause::Damaged { .. })),
        }
    }
}

#[test]
fn newer_regions_lie_over_older_ones() {
    let range = |from: u64, to: u64| AddrRange::inclusive(Gva(from), Gva(to)).unwrap();
    let (r, w) = (Prot::R, Prot::W);
    let older = [
        (range(0, 9), r),
        (range(20, 29), r),
        (range(40, u64::MAX), r),
    ];
    let newer = [(range(5, 24), w), (range(30, 39), r), (range(50, 59), r)];
    assert_eq!(
        history::over(&older, &newer),
        [
            (range(0, 4), r),
            (range(5, 24), w),
            (range(25, u64::MAX), r)
        ]
    );
    assert_eq!(history::over(&older, &[]), older);
    assert_eq!(history::over(&[], &newer), newer);
}
