//! `vmie find --save` and `--refine` in two moments of a guest: an image, and a copy of it in which a counter
//! of a program has gone on.

use std::fs::{self, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use vmie::{Gva, Memory as _};
use vmie_lab::{ImageFile, ImageFormat, Program, Snapshot, Tick, Type};

use crate::command::{hex, run_bare};
use crate::support::{raw, snapshots, space};

/// How far the counter goes on.
const MORE: u64 = 5;

/// A program's counter, where it is in the raw image, and its value.
fn counter(snapshot: &Snapshot) -> (Program, Tick, u64, u64) {
    let programs = snapshot.programs().expect("readable");
    let image = raw(snapshot);
    for program in programs {
        let Some(root) = snapshot.root_of(program.pid) else {
            continue;
        };
        let space = space(snapshot, image.clone(), root);
        for tick in &program.ticks {
            if tick.ty != Type::U64 {
                continue;
            }
            let gpa = space.translate(Gva(tick.va)).expect("in memory").gpa.0;
            let part = snapshot
                .ram
                .iter()
                .find(|part| gpa >= part.gpa && gpa - part.gpa < part.len)
                .expect("RAM");
            let value = space.read_u64(Gva(tick.va)).expect("in memory");
            let offset = part.offset + (gpa - part.gpa);
            return (program.clone(), tick.clone(), offset, value);
        }
    }
    panic!("{}: no program counts", snapshot.variant);
}

/// A counter of which nothing is known but that it counts, in one process and in all.
#[test]
fn a_counter_is_found_by_its_going_on() {
    // One is enough, and it is copied.
    let all = snapshots().into_iter();
    let snapshot = all.min_by_key(|snapshot| snapshot.machine.ram);
    let snapshot = snapshot.expect("a snapshot");
    let name = &snapshot.variant;
    let (program, tick, offset, value) = counter(&snapshot);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("refine");
    fs::create_dir_all(&dir).expect("a directory");
    let image = snapshot.image(ImageFormat::Raw).expect("a raw image");
    let later = ImageFile {
        file: dir.join("later.raw"),
        ..image.clone()
    };
    fs::copy(snapshot.path(&image.file), &later.file).expect("copies");
    let mut file = OpenOptions::new()
        .write(true)
        .open(&later.file)
        .expect("opens");
    file.seek(SeekFrom::Start(offset)).expect("seeks");
    file.write_all(&(value + MORE).to_le_bytes())
        .expect("writes");
    drop(file);

    let saved = dir.join("candidates").display().to_string();
    let pid = program.pid.to_string();
    for spaces in [&["--pid", &pid][..], &["--all-processes"]] {
        let unknown = ["--u64", "..", "--align", "8", "--perm", "w", "--limit", "1"];
        let first = [&unknown[..], spaces, &["--save", &saved]].concat();
        let (rows, status) = run_bare(&snapshot, image, "find", &first);
        assert_eq!((rows.len(), status), (1, 0), "{name}: {first:?}");
        let more = MORE.to_string();
        for relation in [
            &["--increased"][..],
            &["--increased-by", &more],
            &["--changed"],
        ] {
            let again = [&["--refine", &saved][..], relation, spaces].concat();
            let (rows, status) = run_bare(&snapshot, &later, "find", &again);
            assert_eq!(status, 0, "{name}: {again:?}");
            // Others may map the same page.
            let own: Vec<_> = rows
                .iter()
                .filter(|row| row["pid"].is_null() || row["pid"] == program.pid)
                .collect();
            assert_eq!(own.len(), 1, "{name}: {again:?}: {rows:?}");
            assert_eq!(hex(&own[0]["va"]), tick.va, "{name}");
            assert_eq!(own[0]["old"], value.to_string(), "{name}");
            assert_eq!(own[0]["value"], (value + MORE).to_string(), "{name}");
        }
        let (rows, status) = run_bare(
            &snapshot,
            image,
            "find",
            &[&["--refine", &saved, "--changed"], spaces].concat(),
        );
        assert_eq!((rows.len(), status), (0, 1), "{name}: the same moment");
    }
    // Another process is another space.
    let listed = run_bare(&snapshot, image, "ps", &[]).0;
    let other = listed
        .iter()
        .find(|process| !process["cr3"].is_null() && process["name"] != program.name)
        .expect("another process")["pid"]
        .to_string();
    for spaces in [&["--pid", &other][..], &["--kernel"], &["--phys"]] {
        let args = [&["--refine", &saved, "--changed"], spaces].concat();
        let (_, status) = run_bare(&snapshot, &later, "find", &args);
        assert_eq!(status, 2, "{name}: {spaces:?}");
    }
    fs::remove_dir_all(&dir).expect("removes");
}
