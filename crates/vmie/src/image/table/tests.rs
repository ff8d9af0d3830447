//! Each row of the table: what begins like a format and is not whole is an error of that format.

use std::path::{Path, PathBuf};

use super::*;
use crate::image::{Image, ImageInfo};

/// What follows a beginning that promises more.
fn garbled(start: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![start.to_vec()];
    for len in [1, 16, 64, 4096, 70_000] {
        let mut word = 0x9e37_79b9_7f4a_7c15_u64;
        let random = std::iter::repeat_with(|| {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            word as u8
        });
        let fillings: [Vec<u8>; 4] = [
            vec![0; len],
            vec![0xff; len],
            start.iter().copied().cycle().take(len).collect(),
            random.take(len).collect(),
        ];
        all.extend(fillings.map(|filling| [start, &filling].concat()));
    }
    all
}

/// An error that says which format it is about.
fn assert_named(row: &Row, opened: Result<ImageInfo, String>, of: &[u8]) {
    let start = of[..of.len().min(24)].escape_ascii();
    let error = match opened {
        Ok(info) => panic!("{}: {start}... of {} bytes: {info:?}", row.name, of.len()),
        Err(error) => error,
    };
    let said = error.to_lowercase().replace([' ', '\''], "-");
    assert!(said.contains(row.name), "{}: {error}", row.name);
}

fn open(path: &Path, options: &OpenOptions) -> Result<ImageInfo, String> {
    let opened = Image::open_with(path, options);
    // The path may have the name in it.
    opened
        .map(|image| image.info().clone())
        .map_err(|error| error.kind.to_string())
}

fn written(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).expect("writes");
    path
}

#[test]
fn what_begins_like_a_format_and_is_cut_or_garbled_is_an_error_of_that_format() {
    let dir = tempfile::tempdir().expect("a directory");
    for row in TABLE {
        let options = OpenOptions::default();
        match row.told {
            Told::Magic(starts, _) => {
                assert!(!starts.is_empty());
                for bytes in starts.iter().flat_map(|start| garbled(start)) {
                    let opened = Image::from_bytes(bytes.clone(), &options);
                    let opened = opened.map(|image| image.info().clone());
                    assert_named(row, opened.map_err(|error| error.kind.to_string()), &bytes);
                    let path = written(dir.path(), "file", &bytes);
                    assert_named(row, open(&path, &options), &bytes);
                }
            }
            Told::Directory(files, _) => {
                for bytes in garbled(b"{\"snapshots\":") {
                    let dir = tempfile::tempdir().expect("a directory");
                    for file in files {
                        written(dir.path(), file, &bytes);
                    }
                    assert_named(row, open(dir.path(), &options), &bytes);
                }
            }
            Told::State(_) => {
                let memory = written(dir.path(), "memory", &[7; 0x4000]);
                for bytes in garbled(b"\x01\0\x64\x86\x84\x19\x10\x07") {
                    let options = OpenOptions {
                        state: Some(written(dir.path(), "state", &bytes)),
                        ..OpenOptions::default()
                    };
                    assert_named(row, open(&memory, &options), &bytes);
                }
            }
            // Nothing begins like it.
            Told::Rest(_) => {}
        }
    }
}

#[test]
fn every_format_has_one_row_and_a_name_of_its_own() {
    for row in TABLE {
        let same = |other: &&Row| {
            other.format == row.format || other.name == row.name || other.article == row.article
        };
        assert_eq!(TABLE.iter().filter(same).count(), 1, "{}", row.name);
        assert_eq!(row.format.to_string(), row.name);
        if let Told::Magic(starts, _) = row.told {
            for start in starts {
                let Some(Found::Format(found, _)) = probe(start) else {
                    panic!("{}", row.name);
                };
                assert_eq!(found.format, row.format);
                assert!(probe(&start[..start.len() - 1]).is_none(), "{}", row.name);
                assert!(refused::file(start).is_none(), "{}", row.name);
            }
        }
    }
    let rest = |row: &&Row| matches!(row.told, Told::Rest(_));
    assert_eq!(TABLE.iter().filter(rest).count(), 1);
    let state = |row: &&Row| matches!(row.told, Told::State(_));
    assert_eq!(TABLE.iter().filter(state).count(), 1);
}
