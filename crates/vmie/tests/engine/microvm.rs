//! Snapshots that are directories.

use crate::common::{RANGES, assert_holds, cpus, fill};
use vmie::{Format, Image, OpenErrorKind, OpenOptions};
use vmie_synth::write;

fn snapshot() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let mut source = |gpa: u64, buf: &mut [u8]| {
        fill(gpa, buf);
        Ok(())
    };
    write::cloud_hypervisor(directory.path(), &RANGES, &mut source, &cpus()).expect("writes");
    directory
}

#[test]
fn a_cloud_hypervisor_snapshot_is_opened_by_its_directory() {
    let directory = snapshot();
    let image = Image::open(directory.path()).expect("opens");
    let info = image.info();
    assert_eq!(info.format, Format::CloudHypervisor);
    assert_eq!(info.notes, [""; 0]);
    assert_holds("cloud-hypervisor", &image, &RANGES);
    let seen: Vec<_> = info
        .hints
        .cpus
        .iter()
        .map(|cpu| (cpu.cr0, cpu.cr3, cpu.cr4, cpu.efer))
        .collect();
    let expected = cpus().into_iter();
    let expected: Vec<_> = expected
        .map(|cpu| (cpu.cr0, cpu.cr3, cpu.cr4, Some(cpu.efer)))
        .collect();
    assert_eq!(seen, expected);
}

#[test]
fn what_is_no_whole_snapshot_is_refused_or_has_holes() {
    let directory = snapshot();
    let memory = directory.path().join("memory-ranges");
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&memory)
        .expect("opens");
    let len = file.metadata().expect("exists").len();
    file.set_len(len - 0x1000).expect("shrinks");
    drop(file);
    let image = Image::open(directory.path()).expect("opens");
    assert!(
        image
            .info()
            .notes
            .iter()
            .any(|note| note.contains("not in the file"))
    );

    let options = OpenOptions {
        layout: Some("pc".parse().expect("valid")),
        ..OpenOptions::default()
    };
    let error = Image::open_with(directory.path(), &options).expect_err("it knows its layout");
    assert!(
        matches!(error.kind, OpenErrorKind::LayoutForFormat { .. }),
        "{error}"
    );

    let options = OpenOptions {
        bases: vec![memory],
        ..OpenOptions::default()
    };
    let error = Image::open_with(directory.path(), &options).expect_err("nothing is under it");
    assert!(
        matches!(error.kind, OpenErrorKind::NotLayered { .. }),
        "{error}"
    );

    std::fs::write(directory.path().join("state.json"), "{}").expect("writes");
    let error = Image::open(directory.path()).expect_err("no memory manager");
    assert!(
        matches!(error.kind, OpenErrorKind::Damaged { .. }),
        "{error}"
    );
    std::fs::remove_file(directory.path().join("state.json")).expect("removes");
    let error = Image::open(directory.path()).expect_err("a directory");
    assert!(
        matches!(error.kind, OpenErrorKind::NotAFile { .. }),
        "{error}"
    );
}
