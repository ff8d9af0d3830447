//! vmie on guests that run: what it reads against what QEMU itself saves, and what becomes of the guests.
//!
//! `cargo xtask test` boots two guests and runs this: one with its RAM in a file that QEMU shares, one whose RAM is
//! QEMU's own and split around the PCI hole. Each test has its guest for itself.

mod browser;
mod machine;
mod moments;
mod series;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use machine::{Client, Machine, run, wait_for};
use serde_json::Value;
use vmie::{AddrRange, Cause, Gpa, LiveGuest, Memory, Paused};

const MIB: u64 = 1 << 20;

/// Compares a stopped guest's memory with what QEMU saves.
fn compare(machine: &Machine, guest: &LiveGuest, gpa: u64, len: u64) {
    let saved = machine.saved(gpa, len);
    let mut read = vec![0; saved.len()];
    guest.read(Gpa(gpa), &mut read).expect("RAM");
    let differs = read.iter().zip(&saved).position(|(a, b)| a != b);
    assert_eq!(differs.map(|at| gpa + at as u64), None, "at {gpa:#x}");
}

#[test]
fn shared_memory_is_what_qemu_saves() {
    let machine = Machine::new("shared");
    let _stopped = machine.stop();
    let guest = LiveGuest::open(machine.socket("qmp")).expect("it opens");
    let info = guest.info();
    assert_eq!(info.shared, 512 * MIB, "all of it is in the file");
    assert!(!info.running);
    let all = AddrRange::new(Gpa(0), 512 * MIB).expect("not empty");
    assert_eq!(info.ranges, [all], "no graphics card, no firmware");
    compare(&machine, &guest, 0, 512 * MIB);
    let bios = guest.read(Gpa(0xffff_0000), &mut [0]).expect_err("not RAM");
    assert!(matches!(bios.cause, Cause::Absent { .. }));
}

#[test]
fn what_is_found_is_what_is_found_in_the_file() {
    let machine = Machine::new("shared");
    let _stopped = machine.stop();
    let same = |verb: &str, args: &[&str]| {
        let (live, _) = run(machine.command(verb, args), 0);
        let args = [args, &["--layout", "pc"]].concat();
        let (file, _) = run(machine.on("ram", verb, &args), 0);
        assert!(live.lines().count() > 3, "{verb}: {live}");
        assert_eq!(live, file, "{verb}");
    };
    same("ps", &[]);
    same("modules", &[]);
    same("maps", &["--pid", "1"]);
    same("read", &["linux_banner..+64", "--kernel"]);
    same(
        "scan",
        &[
            "--phys",
            "-s",
            "4c 69 6e 75 78 20 76 65 72 73 69 6f 6e 20 36",
        ],
    );
    same("find", &["--all-processes", "--str", "crowd"]);
}

#[test]
fn a_guest_is_described() {
    let machine = Machine::new("shared");
    let (out, err) = run(machine.command("info", &["-v"]), 0);
    let row: Value = serde_json::from_str(&out).expect("a row");
    assert_eq!(row["format"], "qemu");
    assert_eq!(row["size"], 512 * MIB);
    assert_eq!(row["live"], true);
    assert_eq!(row["cpus"][0]["paging"], "4level");
    assert_eq!(row["os"]["kind"], "linux");
    assert!(
        err.contains("512 MiB of it in files that QEMU shares; the guest runs on"),
        "{err}"
    );
    // Kept beside the socket, and of use.
    let cache = machine.dir.join("qmp.vmie-os");
    run(machine.command("ps", &["--os-cache"]), 0);
    assert!(cache.exists());
    run(machine.command("ps", &["--os-cache"]), 0);
    std::fs::remove_file(cache).expect("it is there");
}

/// Starts a search that does not end by itself: nobody reads what it finds.
fn start(machine: &Machine, args: &[&str]) -> (Child, BufReader<impl Read + use<>>) {
    let mut command = machine.command("strings", &[&["--phys", "-q"], args].concat());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut first = String::new();
    out.read_line(&mut first).expect("a row");
    assert!(first.starts_with('{'), "{first}");
    (child, out)
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args([name, &pid]).status();
    assert!(sent.expect("kill runs").success());
}

#[test]
fn a_guest_stands_still_while_it_is_looked_at_and_runs_on_whatever_happens() {
    let machine = Machine::new("shared");
    for name in ["-INT", "-TERM", "-HUP"] {
        assert!(machine.runs());
        let (mut child, mut out) = start(&machine, &["--pause"]);
        assert!(!machine.runs(), "stopped for {name}");
        signal(&child, name);
        if name == "-INT" {
            // It says what it has found before it ends.
            std::io::copy(&mut out, &mut std::io::sink()).expect("the rest");
        }
        child.wait().expect("it ends");
        assert!(machine.runs(), "resumed after {name}");
    }
    // A reader that has seen enough, an error, and the ordinary end.
    let (mut child, out) = start(&machine, &["--pause"]);
    drop(out);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert!(machine.runs());
    run(machine.command("maps", &["--pause", "--pid", "999999"]), 2);
    assert!(machine.runs());
    let (rows, _) = run(machine.command("ps", &["--pause"]), 0);
    assert!(rows.contains("\"crowd\""), "{rows}");
    assert!(machine.runs());
    // A guest that stood before stays so.
    let _stopped = machine.stop();
    run(machine.command("ps", &["--pause"]), 0);
    assert!(!machine.runs());
}

#[test]
fn nothing_changes_while_a_guest_is_paused() {
    let machine = Machine::new("shared");
    let paused = Paused::new(machine.socket("qmp")).expect("it stops");
    let guest = paused.open().expect("it opens");
    let all = || {
        let mut bytes = vec![0; 512 << 20];
        guest.read(Gpa(0), &mut bytes).expect("RAM");
        bytes
    };
    let before = all();
    assert!(before == all());
    paused.resume().expect("it runs on");
    wait_for("a guest that runs changes its memory", || before != all());
}

#[test]
fn one_monitor_at_a_time_is_said() {
    let machine = Machine::new("shared");
    let held = Client::connect(&machine.socket("qmp").display().to_string());
    let (_, err) = run(machine.command("info", &[]), 2);
    assert!(err.contains("another client is connected"), "{err}");
    assert!(err.contains("-qmp unix:PATH,server=on,wait=off"), "{err}");
    drop(held);
    run(machine.command("info", &[]), 0);
    // The others have noticed nothing.
    assert!(machine.runs());
}

#[test]
fn private_memory_is_what_qemu_saves_and_a_guest_that_quits_is_an_error() {
    let machine = Machine::new("private");
    {
        let _stopped = machine.stop();
        let guest = LiveGuest::open(machine.socket("qmp")).expect("it opens");
        assert_eq!(guest.info().shared, 0);
        assert_eq!(guest.info().cpus.len(), 2);
        let bounds: Vec<_> = guest
            .info()
            .ranges
            .iter()
            .map(|r| (r.start().0, r.len()))
            .collect();
        assert_eq!(
            bounds,
            [(0, 2048 * MIB), (4096 * MIB, 1024 * MIB)],
            "around the hole"
        );
        for gpa in [0, 1024 * MIB, 2040 * MIB, 4096 * MIB, 5112 * MIB] {
            compare(&machine, &guest, gpa, 8 * MIB);
        }
    }
    let (rows, _) = run(machine.command("ps", &["--pause"]), 0);
    assert!(rows.contains("\"crowd\""), "{rows}");
    assert!(machine.runs());

    let guest = LiveGuest::open(machine.socket("qmp")).expect("it opens");
    // A search for a file that is to be whole, held before it is over.
    let save = ["--phys", "--str", "crowd", "--save", "found", "-v"];
    let mut saving = machine
        .command("find", &save)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut said = BufReader::new(saving.stderr.take().expect("a pipe"));
    let mut opened = String::new();
    said.read_line(&mut opened).expect("a note");
    assert!(opened.contains("the guest runs on"), "{opened}");
    signal(&saving, "-STOP");
    // The same of a moment that is to be kept.
    let take = ["qemu:qmp", "--phys", "-O", "kept.snap", "-v"];
    let mut taking = machine
        .on("take", "snap", &take)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut taken = BufReader::new(taking.stderr.take().expect("a pipe"));
    let mut opened = String::new();
    taken.read_line(&mut opened).expect("a note");
    assert!(opened.contains("the guest runs on"), "{opened}");
    signal(&taking, "-STOP");
    let (child, out) = start(&machine, &[]);
    let pid = guest.info().pid.to_string();
    let killed = Command::new("kill").args(["-KILL", &pid]).status();
    assert!(killed.expect("kill runs").success());
    wait_for("QEMU ends", || !guest.is_alive());
    let fault = guest.read(Gpa(0), &mut [0]).expect_err("it has quit");
    assert_eq!(fault.cause, Cause::Gone);
    let read = std::thread::spawn(move || std::io::copy(&mut { out }, &mut std::io::sink()));
    let ended = child.wait_with_output().expect("it ends");
    read.join().expect("no panic").expect("the rest");
    let err = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{err}");
    assert!(err.contains("has quit while it was looked at"), "{err}");

    signal(&saving, "-CONT");
    let mut err = String::new();
    said.read_to_string(&mut err).expect("text");
    assert_eq!(saving.wait().expect("it ends").code(), Some(2), "{err}");
    assert_eq!(
        err.matches("has quit while it was looked at").count(),
        1,
        "{err}"
    );
    signal(&taking, "-CONT");
    let mut err = String::new();
    taken.read_to_string(&mut err).expect("text");
    assert_eq!(taking.wait().expect("it ends").code(), Some(2), "{err}");
    assert!(err.contains("has quit while it was looked at"), "{err}");
    let files = std::fs::read_dir(&machine.dir).expect("readable");
    let names = files.flatten().map(|file| file.file_name());
    let left: Vec<_> = names
        .filter(|name| {
            let name = name.to_string_lossy();
            name.contains("found") || name.contains("kept")
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let (_, err) = run(machine.command("info", &[]), 2);
    assert!(err.contains("nobody listens"), "{err}");
}
