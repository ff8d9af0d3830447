//! Files that vmie writes itself are no images, and are refused by name: they would be searched as raw memory.

use std::path::Path;

use vmie::os::{Cache, Identity, Trail};
use vmie::pointers::{PointerMap, PointerOptions};
use vmie::scan::Run;
use vmie::snapshot::series::Recorder;
use vmie::snapshot::{SaveOptions, TakeOptions, take};
use vmie::{Gpa, Image, Mode, OpenErrorKind, OpenOptions};

/// What it is said to be; also when all that is left of it is its beginning.
fn said(path: &Path) -> String {
    let error = Image::open(path).expect_err("no image");
    if path.is_file() {
        let bytes = std::fs::read(path).expect("reads");
        for len in [12, bytes.len() / 2] {
            let cut = bytes[..len.max(12)].to_vec();
            let cut = Image::from_bytes(cut, &OpenOptions::default());
            let same = cut.expect_err("no image either").kind.to_string();
            assert_eq!(same, error.kind.to_string());
        }
    }
    match error.kind {
        OpenErrorKind::Unsupported { found, .. } => found.into_owned(),
        OpenErrorKind::Beside { found, .. } => found.to_owned(),
        kind => panic!("{}: {kind}", path.display()),
    }
}

#[test]
fn they_are_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let image = Image::from_bytes(vec![7; 0x3000], &OpenOptions::default()).expect("raw");

    let snapshot = dir.path().join("snapshot");
    let taken = take(&image, &TakeOptions::default(), Run::new()).expect("taken");
    let options = SaveOptions::default();
    taken
        .save(&snapshot, &options, Run::new())
        .expect("is saved");
    assert_eq!(said(&snapshot), "a snapshot that vmie took");

    let series = dir.path().join("series");
    let mut recorder = Recorder::<Gpa>::create(&series, &options).expect("begins");
    let moment = recorder.capture(&image, &TakeOptions::default(), Run::new());
    moment
        .expect("captured")
        .keep(taken.origin().clone())
        .expect("kept");
    let moment = series.join("000001.moment");
    assert_eq!(said(&moment), "a moment of a series that vmie recorded");
    let pages = series.join("pages.vmie");
    assert_eq!(said(&pages), "the pages of a series that vmie recorded");
    assert_eq!(said(&series), "a series of moments that vmie recorded");

    let index = dir.path().join("index");
    let map = PointerMap::build(&image, &PointerOptions::default(), Run::new()).expect("built");
    map.save(&index, "what it is of").expect("is saved");
    assert_eq!(said(&index), "an index of pointers that vmie saved");

    let cache = dir.path().join("image.vmie-os");
    let identity = Identity::of(&snapshot, &image).expect("a file");
    let trail = Trail {
        root: Gpa(0x1000),
        mode: Mode::FourLevel,
        ignore: 0,
        marks: Vec::new(),
    };
    let cache = Cache::new(cache, identity);
    cache.save(&trail).expect("is saved");
    let what = "a note of vmie's of where an operating system was found";
    assert_eq!(said(cache.path()), what);
}
