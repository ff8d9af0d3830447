//! Programs of different widths in one 64-bit guest: every verb that takes memory for pointers or code goes by the
//! program, unless `--bits` says otherwise.

use std::path::Path;

use serde_json::Value;
use vmie_synth::guest::{Flags, Machine, PageSize};
use vmie_synth::linux::{Era, Program, Programs, Sort};
use vmie_synth::write;

use crate::support::{Run, rows, vmie};

/// A page of code and one of data, the same frames in all programs.
const CODE: u64 = 0x0804_9000;
const DATA: u64 = 0x0804_b000;

const WIDE: u32 = 1;
const NARROW: u32 = 2;
const X32: u32 = 3;
const GATE: u32 = 4;
const SILENT: u32 = 5;

struct Image {
    _dir: tempfile::TempDir,
    dir: String,
    path: String,
    /// The frame of the data.
    data: u64,
}

/// Where the kernel of the guest sees physical memory.
const DIRECT: u64 = 0xffff_8880_0000_0000;

fn image() -> Image {
    let mut machine = Machine::new(0..32 << 20);
    let programs = [
        Program::of(WIDE, "wide", Sort::X86_64),
        Program::of(NARROW, "narrow", Sort::I386),
        Program::of(X32, "x32", Sort::X32),
        Program {
            segment: Some(Sort::I386),
            ..Program::of(GATE, "gate", Sort::X86_64)
        },
        Program {
            record: None,
            header: None,
            flags: None,
            segment: None,
            ..Program::of(SILENT, "silent", Sort::X86_64)
        },
    ];
    let made = Programs::load(&mut machine, Era::Flags, &programs);
    let [code, data] = [(); 2].map(|()| machine.frames.alloc());
    for space in &made.spaces {
        space.map(&mut machine, CODE, code, PageSize::Size4K, Flags::CODE);
        space.map(&mut machine, DATA, data, PageSize::Size4K, Flags::DATA);
    }
    // mov eax, [0x804b004]; mov eax, [eax+0x8]; ret: as 32-bit code, and at 0x10 as code of either sort.
    machine
        .phys
        .write(code, b"\xa1\x04\xb0\x04\x08\x8b\x40\x08\xc3");
    machine
        .phys
        .write(code + 0x10, b"\x8b\x04\x25\x04\xb0\x04\x08\xc3");
    // A head, three nodes of 32-bit pointers, and a pointer that is one of 64 bits as well.
    machine.phys.write_uint(data + 4, DATA + 0x20, 4);
    for (at, next, health, name) in [
        (0x20, DATA + 0x40, 12, "node-one\0"),
        (0x40, DATA + 0x60, 22, "node-two\0"),
        (0x60, 0, 34, "node-three\0"),
    ] {
        machine.phys.write_uint(data + at, 0xc0de_3201, 4);
        machine.phys.write_uint(data + at + 4, next, 4);
        machine.phys.write_uint(data + at + 8, health, 4);
        machine.phys.write(data + at + 12, &1.5f32.to_le_bytes());
        machine.phys.write(data + at + 16, name.as_bytes());
    }
    machine.phys.write_uint(data + 0x100, DATA + 0x20, 8);

    let temporary = tempfile::tempdir().expect("a directory");
    let path = temporary.path().join("programs.raw");
    let ranges = machine.phys.ranges().to_vec();
    let mut source =
        |gpa: u64, buf: &mut [u8]| machine.phys.read(gpa, buf).map_err(std::io::Error::other);
    let mut file = std::fs::File::create(&path).expect("a file");
    write::raw(&mut file, &ranges, &mut source).expect("writes");
    Image {
        dir: temporary.path().display().to_string(),
        _dir: temporary,
        path: path.display().to_string(),
        data,
    }
}

impl Image {
    fn file(&self, name: &str) -> String {
        Path::new(&self.dir).join(name).display().to_string()
    }

    /// A verb on a program.
    fn run(&self, verb: &str, pid: u32, args: &[&str]) -> Run {
        let pid = pid.to_string();
        let run = vmie(&[&[verb, &self.path, "--pid", &pid], args].concat());
        assert!(run.status < 2, "{verb}: {}", run.err);
        run
    }
}

fn keys<'r>(run: &Run, names: impl IntoIterator<Item = &'r str> + Clone) -> Vec<Vec<Value>> {
    let row = |row: &Value| {
        names
            .clone()
            .into_iter()
            .map(|name| row[name].clone())
            .collect()
    };
    rows(run).iter().map(row).collect()
}

fn vas(run: &Run) -> Vec<String> {
    let text = |row: &Value| row["va"].as_str().expect("an address").to_owned();
    rows(run).iter().map(text).collect()
}

fn hex(addresses: &[u64]) -> Vec<String> {
    addresses.iter().map(|at| format!("{at:#x}")).collect()
}

const NODE: &str = "0x804b020";

#[test]
fn pointers_are_as_wide_as_the_program_has_them() {
    let image = image();
    let (narrow, wide) = (hex(&[DATA + 4, DATA + 0x100]), hex(&[DATA + 0x100]));
    for (pid, expected) in [
        (WIDE, &wide),
        (NARROW, &narrow),
        (X32, &narrow),
        (GATE, &wide),
    ] {
        let run = image.run("refs", pid, &[NODE]);
        assert_eq!(&vas(&run), expected, "{pid}: {}", run.err);
        // Indexed, saved and asked again it is the same.
        let index = image.file("index");
        let _ = std::fs::remove_file(&index);
        let run = image.run("refs", pid, &[NODE, "--save", &index]);
        assert_eq!(&vas(&run), expected, "{pid}: {}", run.err);
        let run = image.run("refs", pid, &[NODE, "--index", &index]);
        assert_eq!(&vas(&run), expected, "{pid}: {}", run.err);
        assert!(!run.err.contains("the index knows"), "{}", run.err);
        // --bits decides.
        assert_eq!(
            vas(&image.run("refs", pid, &[NODE, "--bits", "32"])),
            narrow
        );
        assert_eq!(vas(&image.run("refs", pid, &[NODE, "--bits", "64"])), wide);
    }
    let run = image.run("refs", NARROW, &[NODE]);
    assert!(
        run.err
            .contains("narrow (2) has 32-bit code and pointers, by the kernel's record"),
        "{}",
        run.err
    );
    let run = image.run("refs", X32, &[NODE]);
    assert!(
        run.err
            .contains("x32 (3) has 64-bit code with 32-bit pointers"),
        "{}",
        run.err
    );
    assert!(
        !image
            .run("refs", WIDE, &[NODE])
            .err
            .contains("pointers, by")
    );

    // An index of the other width answers, and says what it is.
    let index = image.file("other");
    image.run("refs", NARROW, &[NODE, "--save", &index, "--bits", "64"]);
    let run = image.run("refs", NARROW, &[NODE, "--index", &index]);
    assert_eq!(vas(&run), wide);
    assert!(
        run.err.contains("the index knows pointers of 64 bits"),
        "{}",
        run.err
    );
}

#[test]
fn a_width_that_nothing_tells_is_said_to_be_assumed() {
    let image = image();
    let run = image.run("refs", SILENT, &[NODE]);
    assert_eq!(vas(&run), hex(&[DATA + 0x100]));
    assert!(
        run.err.contains("how wide silent (5) is could not be told"),
        "{}",
        run.err
    );
    // What was typed needs nobody to tell.
    let run = image.run("refs", SILENT, &[NODE, "--bits", "32"]);
    assert!(!run.err.contains("could not be told"), "{}", run.err);
}

#[test]
fn signs_that_contradict_each_other_are_told() {
    let image = image();
    let run = image.run("refs", GATE, &[NODE, "--strict"]);
    assert_eq!(run.status, 0);
    assert!(
        run.err
            .contains("process 4 (gate) has 64-bit code and pointers")
            && run
                .err
                .contains("but 32-bit code by the code segment of its first thread"),
        "{}",
        run.err
    );
}

#[test]
fn all_processes_are_looked_at_each_with_its_own_width() {
    let image = image();
    let run = vmie(&["refs", &image.path, "--all-processes", "--kernel", NODE]);
    assert_eq!(run.status, 0, "{}", run.err);
    let expected = [
        (Some(WIDE), DATA + 0x100),
        (Some(NARROW), DATA + 4),
        (Some(NARROW), DATA + 0x100),
        (Some(X32), DATA + 4),
        (Some(X32), DATA + 0x100),
        (Some(GATE), DATA + 0x100),
        (Some(SILENT), DATA + 0x100),
        (None, DIRECT + image.data + 0x100),
    ];
    let expected = expected.map(|(pid, va)| vec![Value::from(pid), format!("{va:#x}").into()]);
    assert_eq!(keys(&run, ["pid", "va"]), expected);
    assert!(
        run.err.contains("2 of the spaces are of 32-bit programs"),
        "{}",
        run.err
    );
    assert!(run.err.contains("narrow (2), x32 (3)"), "{}", run.err);

    let all = |bits: &str| {
        let run = vmie(&["refs", &image.path, "--all-processes", NODE, "--bits", bits]);
        keys(&run, ["pid"]).len()
    };
    assert_eq!((all("32"), all("64")), (10, 5));
}

#[test]
fn paths_and_fields_follow_narrow_pointers() {
    let image = image();
    let to = format!("{:#x}", DATA + 0x68);
    let run = image.run(
        "paths",
        NARROW,
        &[&to, "--from", "0x804b004..+4", "--max-offset", "0x10"],
    );
    let expected = vec![vec![Value::from("0x804b004"), serde_json::json!([4, 4, 8])]];
    assert_eq!(keys(&run, ["base", "offsets"]), expected, "{}", run.err);
    let once = [
        "--no-index",
        "--from",
        "0x804b004..+4",
        "--max-offset",
        "0x10",
    ];
    let run = image.run("paths", NARROW, &[&[&*to][..], &once].concat());
    assert_eq!(keys(&run, ["base", "offsets"]), expected, "{}", run.err);
    let run = image.run("paths", WIDE, &[&to, "--from", "0x804b004..+4"]);
    assert_eq!((run.status, run.out.as_str()), (1, ""));

    let run = image.run("dissect", NARROW, &["0x804b020..+32"]);
    let next = rows(&run)
        .into_iter()
        .find(|row| row["offset"] == 4)
        .expect("the pointer");
    assert_eq!(
        (&next["kind"], &next["value"], &next["len"]),
        (&"pointer".into(), &"0x804b040".into(), &4.into())
    );
    let run = image.run("dissect", NARROW, &["0x804b020..+32", "--as", "c"]);
    assert!(run.out.contains("uint32_t pointer_4;"), "{}", run.out);
}

#[test]
fn code_is_as_wide_as_the_program_has_it() {
    let image = image();
    let read = |pid, at: &str| {
        let run = image.run("read", pid, &[at, "--as", "asm"]);
        keys(&run, ["text", "len"])
    };
    let row = |text: &str, len: u64| vec![Value::from(text), len.into()];
    let narrow = [
        row("mov eax, [0x804b004]", 5),
        row("mov eax, [eax+0x8]", 3),
        row("ret", 1),
    ];
    assert_eq!(read(NARROW, "0x8049000..+9"), narrow);
    assert_eq!(
        read(WIDE, "0x8049000..+9"),
        [row("mov eax, [0xc308408b0804b004]", 9)]
    );
    for pid in [WIDE, X32, GATE] {
        assert_eq!(read(pid, "0x8049010..+7"), [row("mov eax, [0x804b004]", 7)]);
    }
    let bits = image.run(
        "read",
        X32,
        &["0x8049000..+9", "--as", "asm", "--bits", "32"],
    );
    assert_eq!(keys(&bits, ["text", "len"]), narrow);

    let xref = |pid, args: &[&str]| vas(&image.run("xref", pid, args));
    for how in [
        &["--to", "0x804b004"][..],
        &["--all", "--range", "0x8049000..+0x20"],
    ] {
        assert_eq!(xref(NARROW, how), hex(&[CODE, CODE + 0x10]), "{how:?}");
        assert_eq!(xref(X32, how), hex(&[CODE + 0x10]), "{how:?}");
        assert_eq!(
            xref(WIDE, &[how, &["--bits", "32"]].concat()),
            hex(&[CODE, CODE + 0x10])
        );
    }
}

#[test]
fn snapshots_keep_the_width() {
    let image = image();
    for (pid, expected) in [
        (NARROW, hex(&[DATA + 4, DATA + 0x100])),
        (WIDE, hex(&[DATA + 0x100])),
    ] {
        let file = image.file(&format!("{pid}.snap"));
        let pid = pid.to_string();
        let run = vmie(&["snap", "take", &image.path, "--pid", &pid, "-O", &file]);
        assert_eq!(run.status, 0, "{}", run.err);
        let run = vmie(&["refs", &file, NODE]);
        assert_eq!(vas(&run), expected, "{}", run.err);
    }
    let run = vmie(&[
        "read",
        &image.file("2.snap"),
        "0x8049000..+5",
        "--as",
        "asm",
    ]);
    assert_eq!(
        keys(&run, ["text"]),
        [[Value::from("mov eax, [0x804b004]")]]
    );
    assert!(
        run.err
            .contains("a snapshot of a program that has 32-bit code"),
        "{}",
        run.err
    );
}
