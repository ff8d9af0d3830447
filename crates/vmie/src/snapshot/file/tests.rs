//! What was saved comes back, and nothing else does.

use proptest::prelude::*;

use super::super::tests::{any_moved, assert_same};
use super::super::{TakeOptions, take};
use super::*;
use crate::addr::{AddrRange, Gpa, Gva};
use crate::arch::x86::CpuState;
use crate::filemap::FileMap;
use crate::memory::{Cause, Memory, Prot};
use crate::paging::Mode;
use crate::scan::Run;
use crate::snapshot::{Origin, Snapshot};
use crate::testmem::TestMemory;

fn compressions() -> Vec<Compression> {
    vec![
        Compression::None,
        Compression::Lz4,
        #[cfg(feature = "zstd")]
        Compression::Zstd,
    ]
}

fn saved(snapshot: &Snapshot<Gva>, compression: Compression) -> (Saved, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("snapshot");
    let options = SaveOptions { compression };
    let saved = snapshot
        .save(&path, &options, Run::new().threads(1))
        .unwrap();
    (saved, std::fs::read(path).unwrap())
}

fn opened(bytes: &[u8]) -> Result<Snapshot<Gva>, FileErrorKind> {
    Snapshot::read_file(FileMap::from_bytes(bytes.to_vec()), &mut Err)
}

fn salvaged(bytes: &[u8]) -> Result<(Snapshot<Gva>, usize), FileErrorKind> {
    let mut problems = 0;
    let opened = Snapshot::read_file(FileMap::from_bytes(bytes.to_vec()), &mut |_| {
        problems += 1;
        Ok(())
    });
    opened.map(|snapshot| (snapshot, problems))
}

/// Pages of every sort: zeros, the same twice, what compresses and what does not, and holes.
fn rich() -> (TestMemory<Gva>, Snapshot<Gva>) {
    let mut noise = 1u64;
    let mut random = |_| {
        noise = noise.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (noise >> 33) as u8
    };
    let bytes: Vec<u8> = (0..0x1000).map(&mut random).collect();
    let text = b"what compresses ".repeat(0x100);
    let twice = [&bytes[..], &bytes[..], &[0; 0x1000], &text[..]].concat();
    let memory = TestMemory::new()
        .part(0x3d000, &twice, Prot::RWX)
        .part(0x42000, &text[..0x800], Prot::R)
        .part(0x43000, &[1; 0x1000], Prot::R)
        .absent(0x43000, 0x1000)
        .lost(0x45000, 0x1000);
    let snapshot = take(&memory, &TakeOptions::default(), Run::new()).unwrap();
    let origin = Origin {
        about: "of a test".to_owned(),
        space: Some((Gpa(0x1000), Mode::FiveLevel)),
        cpus: vec![
            CpuState {
                index: 1,
                cr3: 0x1000,
                efer: Some(0x500),
                ..CpuState::default()
            },
            CpuState {
                long_mode: Some(true),
                rip: 7,
                ..CpuState::default()
            },
        ],
        width: crate::ProgramWidth::X32,
    };
    (memory, snapshot.with_origin(origin))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_was_saved_comes_back(memory in any_moved()) {
        let snapshot = take(&memory, &TakeOptions::default(), Run::new()).unwrap();
        for compression in compressions() {
            let (saved, bytes) = saved(&snapshot, compression);
            prop_assert_eq!(saved.bytes, bytes.len() as u64);
            let again = opened(&bytes).unwrap();
            assert_same(&memory, &again);
            prop_assert_eq!(again.coverage(), snapshot.coverage());
            // A file of a file is the same file.
            prop_assert_eq!(self::saved(&again, compression).1, bytes);
        }
    }
}

#[test]
fn everything_that_is_known_comes_back() {
    let (memory, snapshot) = rich();
    for compression in compressions() {
        let (saved, bytes) = saved(&snapshot, compression);
        assert_eq!((saved.pages, saved.zero, saved.distinct), (6, 2, 3));
        let again = opened(&bytes).unwrap();
        assert_same(&memory, &again);
        assert_eq!(again.origin(), snapshot.origin());
        assert_eq!(
            (again.taken(), again.took()),
            (snapshot.taken(), snapshot.took())
        );
        assert_eq!(
            (again.range(), again.filter()),
            (snapshot.range(), snapshot.filter())
        );
        assert_eq!(again.layout, snapshot.layout);
    }
}

/// That nothing in what was salvaged is wrong.
fn assert_intact_or_missing(memory: &TestMemory<Gva>, snapshot: &Snapshot<Gva>) {
    let mut page = vec![0; 0x1000];
    for at in (0x3c000..0x48000).step_by(0x400) {
        let bytes = &mut page[..0x400];
        match snapshot.read(Gva(at), bytes) {
            Ok(()) => {
                let mut expected = vec![0; 0x400];
                memory.read(Gva(at), &mut expected).unwrap();
                assert!(*bytes == expected[..], "wrong bytes at {at:#x}");
            }
            Err(fault) => {
                let lost = matches!(fault.cause, Cause::Damaged { .. });
                assert!(lost || memory.read(Gva(at), bytes).is_err(), "{fault}");
            }
        }
    }
}

#[test]
fn every_changed_byte_and_every_other_length_is_noticed() {
    let (memory, snapshot) = rich();
    let (_, bytes) = saved(&snapshot, Compression::Lz4);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(opened(&changed).is_err(), "byte {at}");
        // One changed byte never takes more than one block with it.
        let (rest, problems) = salvaged(&changed).unwrap();
        assert_eq!(problems, 1, "byte {at}");
        assert_intact_or_missing(&memory, &rest);
    }
    let mut rescued = 0;
    for len in 0..bytes.len() {
        assert!(opened(&bytes[..len]).is_err(), "cut to {len}");
        if let Ok((rest, problems)) = salvaged(&bytes[..len]) {
            rescued += 1;
            assert!(problems > 0);
            assert_intact_or_missing(&memory, &rest);
        }
    }
    assert!(rescued > bytes.len() / 2, "{rescued} of {}", bytes.len());
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(opened(&longer), Err(FileErrorKind::Length { .. })));
}

#[test]
fn what_was_made_up_with_right_checksums_does_no_harm() {
    use xxhash_rust::xxh3::xxh3_64;

    let (_, snapshot) = rich();
    let (_, bytes) = saved(&snapshot, Compression::Lz4);
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().unwrap());
    let len = word(&bytes, 16) as usize;
    for at in 12..len - tables::TRAILER {
        for value in [0, 0x7f, 0xff] {
            let mut changed = bytes[..bytes.len() - len].to_vec();
            changed[at] = value;
            let sum = xxh3_64(&changed[..tables::HEADER - 8]);
            changed[tables::HEADER - 8..tables::HEADER].copy_from_slice(&sum.to_le_bytes());
            let sum = xxh3_64(&changed[..len - tables::TRAILER]);
            let end = len - tables::TRAILER;
            changed[end..end + 8].copy_from_slice(&sum.to_le_bytes());
            let tables = changed[..len].to_vec();
            changed.extend(tables);
            if let Ok((made_up, _)) = salvaged(&changed) {
                let mut buf = [0; 0x1000];
                for span in made_up.spans(AddrRange::all()).take(100) {
                    let _ = made_up.read(span.start, &mut buf);
                }
                let all = crate::snapshot::diff(
                    &made_up,
                    &snapshot,
                    &crate::snapshot::DiffOptions::default(),
                    Run::new().max_bytes(1 << 20),
                    |_| std::ops::ControlFlow::Continue(()),
                );
                assert!(all.coverage.mapped <= 1 << 20);
            }
        }
    }
}

#[test]
fn kinds_of_files_are_told_apart() {
    let (_, snapshot) = rich();
    let (_, bytes) = saved(&snapshot, Compression::Lz4);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(holds(&path).unwrap(), Some("virtual"));
    let physical = Snapshot::<Gpa>::open(&path)
        .map(|_| ())
        .map_err(|error| error.kind);
    assert!(matches!(physical, Err(FileErrorKind::Space { .. })));
    std::fs::write(&path, b"MDMP, say").unwrap();
    assert_eq!(holds(&path).unwrap(), None);
    let foreign = Snapshot::<Gva>::open(&path)
        .map(|_| ())
        .map_err(|error| error.kind);
    assert!(matches!(foreign, Err(FileErrorKind::Foreign)));
    let missing = Snapshot::<Gva>::open(directory.path().join("none"));
    assert!(matches!(
        missing.map_err(|error| error.kind),
        Err(FileErrorKind::Io(_))
    ));
}

#[test]
fn pages_that_only_look_the_same_to_a_hash_are_kept_apart() {
    // Not that anyone could make some here: that equal bytes are what counts is seen in what is shared.
    let page = |last: u8| [&[7u8; 0xfff][..], &[last]].concat();
    let memory = TestMemory::of(0x3d000, &[page(1), page(2), page(1)].concat());
    let snapshot = take(&memory, &TakeOptions::default(), Run::new()).unwrap();
    let (saved, bytes) = saved(&snapshot, Compression::Lz4);
    assert_eq!((saved.pages, saved.distinct), (3, 2));
    assert_same(&memory, &opened(&bytes).unwrap());
}

#[test]
fn what_is_stopped_leaves_nothing() {
    let (_, snapshot) = rich();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("snapshot");
    let stop = std::sync::atomic::AtomicBool::new(true);
    let run = Run::new().cancel(&stop);
    let stopped = snapshot.save(&path, &SaveOptions::default(), run);
    assert!(matches!(
        stopped.map_err(|error| error.kind),
        Err(FileErrorKind::Stopped)
    ));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
