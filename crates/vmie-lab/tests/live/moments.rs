//! Moments of a guest that runs: what differs between them is what the guest has changed, and nothing else.

use serde_json::Value;
use vmie_lab::Program;

use crate::machine::{Machine, run, wait_for};

const PAGE: u64 = 4096;

/// What a program of the guest says about itself.
fn program(machine: &Machine, name: &str) -> Program {
    let text = std::fs::read_to_string(machine.dir.join("programs").join(name));
    Program::parse(&text.expect("the program runs")).expect("it says what it should")
}

/// Takes a snapshot of a process while the guest stands still.
fn take(machine: &Machine, pid: u32, file: &str) {
    let (pid, pause) = (pid.to_string(), "--pause");
    let mut command = machine.on(
        "take",
        "snap",
        &["qemu:qmp", "--pid", &pid, pause, "-O", file],
    );
    command.arg("--strict");
    let (row, _) = run(command, 0);
    assert!(row.contains("\"absent\":0"), "{row}");
}

/// Start, length, change and protection of what differs; the status says whether anything does.
fn differences(machine: &Machine, before: &str, after: &str, status: i32) -> Vec<Row> {
    let command = machine.on("diff", "snap", &[before, after, "--strict"]);
    let (rows, _) = run(command, status);
    rows.lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line).expect("a row");
            let text = |key: &str| row[key].as_str().expect("text").to_owned();
            let va = text("va");
            let va = u64::from_str_radix(va.trim_start_matches("0x"), 16).expect("a number");
            let len = row["len"].as_u64().expect("a number");
            (va, len, text("change"), text("prot"))
        })
        .collect()
}

type Row = (u64, u64, String, String);

#[test]
fn values_that_change_are_what_differs() {
    let machine = Machine::new("shared");
    let program = program(&machine, "objects-static");
    take(&machine, program.pid, "first.snap");
    // Each moment is one, and between them the guest runs.
    wait_for("the program has gone on", || {
        take(&machine, program.pid, "second.snap");
        let mut diff = machine.on("diff", "snap", &["first.snap", "second.snap", "-q"]);
        let rows = diff.output().expect("it starts").stdout;
        let rows = String::from_utf8(rows).expect("text");
        rows.lines().count() > 3
    });
    let rows = differences(&machine, "first.snap", "second.snap", 0);
    let covers = |at: u64| {
        rows.iter()
            .any(|(va, len, ..)| (*va..va + len).contains(&at))
    };
    assert!(
        rows.iter()
            .all(|(_, len, change, _)| *len > 0 && change == "modified")
    );
    // The lowest byte of a counter changes at every tick.
    let ticks = program.ticks.iter().find(|tick| tick.name == "world.ticks");
    assert!(covers(ticks.expect("the world's clock").va));
    for value in &program.values {
        assert!(!covers(value.va), "{} does not change", value.name);
    }
}

#[test]
fn moments_of_a_guest_that_stands_still_are_equal() {
    let machine = Machine::new("shared");
    let program = program(&machine, "objects-dynamic");
    let _stopped = machine.stop();
    take(&machine, program.pid, "one.snap");
    take(&machine, program.pid, "two.snap");
    assert_eq!(differences(&machine, "one.snap", "two.snap", 1), []);
    let same = machine.on("diff", "snap", &["one.snap", "qemu:qmp", "--strict"]);
    run(same, 1);
}

#[test]
fn regions_that_come_and_go_are_told() {
    let machine = Machine::new("shared");
    let program = program(&machine, "breathing");
    let at = program.symbols["breathing"];
    // By what is mapped there: everything, with a part that cannot be written, or nothing.
    let mut states: [Option<String>; 3] = Default::default();
    let mut count = 0;
    wait_for("all three states are seen", || {
        let file = format!("breath-{count}.snap");
        count += 1;
        take(&machine, program.pid, &file);
        let range = format!("{at:#x}..+{:#x}", 16 * PAGE);
        let output = machine
            .on(&file, "maps", &["--range", &range, "-q"])
            .output()
            .expect("it starts");
        let regions = String::from_utf8(output.stdout).expect("text");
        let state = match regions.lines().count() {
            1 => 0,
            3 => 1,
            _ => 2,
        };
        states[state] = Some(file);
        states.iter().all(Option::is_some)
    });
    let [whole, part, none] = states.map(|file| file.expect("seen"));
    let there = |rows: Vec<Row>| -> Vec<Row> {
        let inside = |row: &Row| (at..at + 16 * PAGE).contains(&row.0);
        rows.into_iter().filter(inside).collect()
    };
    let row = |from: u64, pages: u64, change: &str, prot: &str| {
        (
            at + from * PAGE,
            pages * PAGE,
            change.to_owned(),
            prot.to_owned(),
        )
    };
    assert_eq!(
        there(differences(&machine, &whole, &part, 0)),
        [row(4, 4, "protection", "r--")]
    );
    assert_eq!(
        there(differences(&machine, &whole, &none, 0)),
        [row(0, 16, "disappeared", "---")]
    );
    assert_eq!(
        there(differences(&machine, &none, &part, 0)),
        [
            row(0, 4, "appeared", "rw-"),
            row(4, 4, "appeared", "r--"),
            row(8, 8, "appeared", "rw-")
        ]
    );
}
