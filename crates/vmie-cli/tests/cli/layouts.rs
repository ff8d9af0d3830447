//! Raw images that are opened without a word about their layout.

use std::fs::File;
use std::path::Path;

use vmie_synth::guest::{Flags, Frames, Machine, Phys};
use vmie_synth::linux::{Era, Program, Programs, Sort};
use vmie_synth::write::RamPart;

use crate::support::{rows, vmie};

const MIB: u64 = 1 << 20;
const LOW: u64 = 3 << 30;
const HIGH: u64 = 4 << 30;
const MORE: u64 = 128 * MIB;
const DATA: u64 = 0x60_0000;

/// A guest with 3 GiB below the hole and some more behind it, as a copy of its RAM; `known` if it has what tells at once.
fn write(path: &Path, known: bool) -> u64 {
    let mut phys = Phys::sparse();
    phys.add_ram(0..LOW);
    phys.add_ram(HIGH..HIGH + MORE);
    let frames = Frames::sequential(&[HIGH..HIGH + MORE, MIB..LOW]);
    let mut machine = Machine::with(phys, frames);
    let programs = [Program::of(7, "server", Sort::X86_64)];
    let made = Programs::load(&mut machine, Era::Flags, &programs);
    made.spaces[0].map_new(&mut machine, DATA, 1, Flags::DATA);
    made.spaces[0].write(&mut machine, DATA, b"beyond the hole");
    if known {
        let mut half = [0; 2048];
        let root = made.kernel.space.root();
        machine.phys.read(root + 2048, &mut half).expect("a table");
        machine.phys.write(0x9_a000 + 2048, &half);
    }
    let parts =
        [(0..LOW, 0), (HIGH..HIGH + MORE, LOW)].map(|(range, offset)| RamPart { range, offset });
    let file = File::create(path).expect("a file");
    machine.phys.save(&file, &parts).expect("written");
    made.spaces[0].root()
}

#[test]
fn the_layout_that_proves_itself_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("guest.raw");
    let root = write(&path, true);
    let image = path.display().to_string();

    let info = vmie(&["info", &image, "-o", "jsonl"]);
    assert_eq!(info.status, 0, "{}", info.err);
    assert!(info.err.contains("note: "), "{}", info.err);
    assert!(info.err.contains("laid out as microvm"), "{}", info.err);
    assert!(!info.err.contains("warning"), "{}", info.err);
    let row = &rows(&info)[0];
    assert_eq!(row["layout"], "microvm");
    let why = row["layout_why"].as_str().expect("a text");
    assert!(why.contains("page tables"), "{why}");
    assert_eq!(row["ranges"][1]["gpa"], "0x100000000");
    let table = vmie(&["info", &image, "-o", "table", "-q"]);
    assert!(table.out.contains("\nlayout  microvm  "), "{}", table.out);

    // Every way to the same bytes.
    let cr3 = format!("{root:#x}");
    for space in [&["--process", "server"][..], &["--cr3", &cr3]] {
        let mut args = vec!["read", &image, "-o", "jsonl"];
        args.extend(space);
        args.push("0x600000..+16");
        let read = vmie(&args);
        assert_eq!(read.status, 0, "{}", read.err);
        assert_eq!(rows(&read)[0]["bytes"], "6265796f6e642074686520686f6c6500");
    }
    let there = vmie(&["read", &image, "--phys", &format!("{cr3}..+16")]);
    assert_eq!(there.status, 0, "{}", there.err);

    // Whoever says it is not told.
    let given = vmie(&["ps", &image, "--layout", "microvm"]);
    assert_eq!((given.status, given.err.as_str()), (0, ""));
}

#[test]
fn what_is_not_known_is_a_warning_with_what_to_try() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("guest.raw");
    let root = write(&path, false);
    let image = path.display().to_string();
    // Physical memory is looked at without a search.
    let phys = vmie(&["read", &image, "--phys", "0x400000..+16"]);
    assert_eq!(phys.status, 0, "{}", phys.err);
    let warning = "how RAM lies in the file is not known";
    assert!(phys.err.contains(warning), "{}", phys.err);
    assert!(phys.err.contains("--layout microvm"), "{}", phys.err);
    let quiet = vmie(&["read", &image, "--phys", "0x400000..+16", "-q"]);
    assert_eq!(quiet.err, "");
    // A root tells.
    let cr3 = format!("{root:#x}");
    let read = vmie(&[
        "read",
        &image,
        "--cr3",
        &cr3,
        "0x600000..+16",
        "-o",
        "jsonl",
    ]);
    assert_eq!(read.status, 0, "{}", read.err);
    assert!(!read.err.contains(warning), "{}", read.err);
    assert!(read.err.contains("laid out as microvm"), "{}", read.err);
    assert_eq!(rows(&read)[0]["bytes"], "6265796f6e642074686520686f6c6500");
}

#[test]
fn an_image_that_was_cut_is_not_complete() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("guest.raw");
    write(&path, true);
    let image = path.display().to_string();
    let whole = vmie(&["info", &image, "--strict"]);
    assert_eq!(whole.status, 0, "{}", whole.err);
    let file = File::options().write(true).open(&path).expect("opens");
    file.set_len(LOW + MORE - MIB).expect("cut");
    drop(file);
    let cut = vmie(&["info", &image, "--strict", "-o", "jsonl"]);
    assert_eq!(cut.status, 3, "{}{}", cut.out, cut.err);
    assert!(cut.err.contains("warning: "), "{}", cut.err);
    assert!(cut.err.contains("the file was cut"), "{}", cut.err);
    let row = &rows(&cut)[0];
    assert_eq!(row["layout"], "microvm");
    assert_eq!(row["ranges"][1]["len"], MORE);
    assert!(
        row["notes"].to_string().contains("counts RAM up to"),
        "{row}"
    );
}
