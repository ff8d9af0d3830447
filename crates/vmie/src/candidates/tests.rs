//! Files of candidates: written and read again, cut off, damaged, and made up.

use std::fs;
use std::path::PathBuf;

use xxhash_rust::xxh3::xxh3_64;

use super::*;

fn header(value_len: u16, lens: &[u16]) -> Header {
    Header {
        source: "guest.raw".to_owned(),
        scope: Scope::All { kernel: false },
        spaces: vec![process(7, "init", Some(5)), process(9, "game", None)],
        queries: lens
            .iter()
            .map(|&len| Sought {
                kind: "u32".to_owned(),
                typed: "5".to_owned(),
                len,
            })
            .collect(),
        value_len,
    }
}

fn process(pid: u32, name: &str, started: Option<u64>) -> SpaceId {
    SpaceId::Process {
        pid,
        name: name.to_owned(),
        started,
    }
}

type Plain = (u64, usize, usize, Vec<u8>);

fn records(saved: &mut Saved) -> Result<Vec<Plain>, CandidatesError> {
    let mut all = Vec::new();
    saved.each_block(|records, _| {
        all.extend(
            records
                .iter()
                .map(|record| (record.va, record.space, record.query, record.value.to_vec())),
        );
        Ok(())
    })?;
    Ok(all)
}

fn written(header: &Header, records: &[Plain]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("candidates");
    let mut writer = Writer::begin(&path, header).expect("begins");
    for (va, space, query, value) in records {
        writer
            .push(*va, *space as u32, *query as u16, value)
            .expect("writes");
    }
    assert!(!path.exists(), "nothing is there before it is whole");
    writer.finish().expect("finishes");
    let left: Vec<_> = fs::read_dir(dir.path()).expect("readable").collect();
    assert_eq!(left.len(), 1, "{left:?}");
    (dir, path)
}

fn some(count: u64) -> Vec<Plain> {
    (0..count)
        .map(|i| {
            let value = (i as u32).to_le_bytes()[..1 + i as usize % 4].to_vec();
            (i * 4, usize::from(i > count / 2), i as usize % 2, value)
        })
        .collect()
}

#[test]
fn what_is_written_is_read_again() {
    // None, a part of a block, whole blocks, and one more than that.
    let whole = per_block(RECORD + 4) as u64;
    for count in [0, 1, 100, whole, 2 * whole, 2 * whole + 1] {
        let header = header(4, &[4, 4]);
        let plain = some(count);
        let (_dir, path) = written(&header, &plain);
        let mut saved = Saved::open(&path).expect("opens");
        assert_eq!((saved.count, &saved.header), (count, &header));
        assert_eq!(records(&mut saved).expect("reads"), plain);
    }
    // Values longer than a block.
    let header = header(60_000, &[60_000]);
    let plain: Vec<Plain> = (0..9).map(|i| (i, 0, 0, vec![i as u8; 60_000])).collect();
    let (_dir, path) = written(&header, &plain);
    let mut saved = Saved::open(&path).expect("opens");
    assert_eq!(records(&mut saved).expect("reads"), plain);
}

#[test]
fn no_byte_can_change_and_no_end_be_missing() {
    let (_dir, path) = written(&header(4, &[4, 4]), &some(20));
    let bytes = fs::read(&path).expect("readable");
    for at in 0..bytes.len() {
        let mut other = bytes.clone();
        other[at] ^= 0x10;
        fs::write(&path, &other).expect("writes");
        let failure = Saved::open(&path).expect_err("damaged");
        assert_eq!(failure.path, path, "{at}");
        fs::write(&path, &bytes[..at]).expect("writes");
        Saved::open(&path).expect_err("cut off");
    }
    fs::write(&path, [&bytes[..], b"more"].concat()).expect("writes");
    Saved::open(&path).expect_err("too long");
    fs::write(&path, &bytes).expect("writes");
    Saved::open(&path).expect("as it was");
}

#[test]
fn damage_is_named_by_its_place() {
    let whole = per_block(RECORD + 4);
    let (_dir, path) = written(&header(4, &[4, 4]), &some(2 * whole as u64));
    let mut bytes = fs::read(&path).expect("readable");
    let start = bytes.len() - TRAILER - 2 * (whole * (RECORD + 4) + CHECK);
    let second = start + whole * (RECORD + 4) + CHECK;
    bytes[second + 17] ^= 1;
    fs::write(&path, &bytes).expect("writes");
    let failure = Saved::open(&path).expect_err("damaged");
    let end = second + whole * (RECORD + 4);
    let found = format!("{second:#x}..{end:#x} is not what its check at {end:#x} says");
    assert!(
        matches!(&failure.kind, CandidatesErrorKind::Damaged(told) if *told == found),
        "{failure:?}"
    );
}

/// A file whose checks are right may still say what makes no sense.
#[test]
fn made_up_files_are_refused() {
    for (space, query, len) in [(2, 0, 4), (0, 2, 4), (0, 1, 3), (0, 0, 0)] {
        let (_dir, path) = written(&header(4, &[4, 2]), &[(0, space, query, vec![0; len])]);
        let failure = Saved::open(&path).expect_err("makes no sense");
        assert!(
            failure.to_string().contains("makes no sense"),
            "{failure:?}"
        );
    }
    for (value_len, lens) in [(4, &[5][..]), (4, &[0]), (4, &[])] {
        let (_dir, path) = written(&header(value_len, lens), &[]);
        Saved::open(&path).expect_err("makes no sense");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("candidates");
    let mut foreign = vec![
        Vec::new(),
        b"vmie".to_vec(),
        b"\x7fELF and so on, for a while".to_vec(),
    ];
    // A header as long as can be said, another version, and a header that is no JSON.
    foreign.push(b"vmiecand\x01\0\0\0\xff\xff\xff\xff".to_vec());
    foreign.push(b"vmiecand\x02\0\0\0\0\0\0\0".to_vec());
    let mut bad = b"vmiecand\x01\0\0\0\x04\0\0\0{{{{".to_vec();
    let check = xxh3_64(&bad).to_le_bytes();
    bad.extend_from_slice(&check);
    bad.extend_from_slice(&[0; TRAILER]);
    foreign.push(bad);
    for bytes in foreign {
        fs::write(&path, &bytes).expect("writes");
        Saved::open(&path).expect_err("foreign");
    }
    Saved::open(dir.path()).expect_err("a directory");
}

#[test]
fn only_files_are_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    for path in [dir.path(), std::path::Path::new("/dev/null")] {
        assert!(Writer::begin(path, &header(4, &[4])).is_err());
    }
    let path = dir.path().join("here");
    fs::write(&path, "before").expect("writes");
    drop(Writer::begin(&path, &header(4, &[4])).expect("begins"));
    assert_eq!(fs::read(&path).expect("still there"), b"before");
    assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1);
}

#[test]
fn processes_are_known_by_number_and_start() {
    let was = process(7, "game", Some(5));
    for (now, likeness) in [
        (process(7, "game", Some(5)), Likeness::Same),
        (process(7, "renamed", Some(5)), Likeness::Same),
        (process(8, "game", Some(5)), Likeness::OtherRun),
        (process(7, "game", Some(6)), Likeness::OtherRun),
        (process(7, "game", None), Likeness::OtherRun),
        (process(7, "other", Some(6)), Likeness::Different),
        (SpaceId::Phys, Likeness::Different),
    ] {
        assert_eq!(was.likeness(&now), likeness, "{now:?}");
    }
    let unknown = process(7, "game", None);
    assert_eq!(unknown.likeness(&unknown), Likeness::Same);
    assert_eq!(SpaceId::Phys.likeness(&SpaceId::Phys), Likeness::Same);
    let kernel = |version: &str, slide| SpaceId::Kernel {
        version: version.to_owned(),
        slide,
    };
    let was = kernel("6.1", 0x1000);
    assert_eq!(was.likeness(&kernel("6.1", 0x1000)), Likeness::Same);
    assert_eq!(was.likeness(&kernel("6.1", 0)), Likeness::OtherRun);
    assert_eq!(was.likeness(&kernel("6.2", 0x1000)), Likeness::Different);
}
