//! 32-bit programs in 64-bit guests: vmie knows by itself how wide their pointers and code are.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use object::{Object, ObjectSymbol};
use serde_json::Value;
use vmie_lab::{ImageFormat, Process, Program, Snapshot};

use crate::command::{hex, run_bare};
use crate::support::snapshots;

/// Each 32-bit program of each snapshot, with its process.
fn each(check: impl Fn(&Snapshot, &Program, &Process)) {
    for snapshot in snapshots() {
        let processes = snapshot.processes().expect("readable");
        let mut programs = snapshot.programs().expect("readable");
        programs.retain(|program| program.name.starts_with("program32"));
        assert_eq!(programs.len(), 2, "{}", snapshot.variant);
        for program in &programs {
            let process = processes.iter().find(|process| process.pid == program.pid);
            check(&snapshot, program, process.expect("it runs"));
        }
    }
}

/// The rows of a verb on the program's process.
fn rows(snapshot: &Snapshot, program: &Program, verb: &str, args: &[&str]) -> Vec<Value> {
    let image = snapshot.image(ImageFormat::Raw).expect("there is one");
    let pid = program.pid.to_string();
    let args = [args, &["--pid", &pid]].concat();
    let (rows, status) = run_bare(snapshot, image, verb, &args);
    let what = format!("{} {}: {verb} {args:?}", snapshot.variant, program.name);
    assert_eq!(status, 0, "{what}");
    rows
}

fn text(va: u64) -> String {
    format!("{va:#x}")
}

/// Pointers that the program states: where each stands and what it is.
fn pointers(program: &Program) -> Vec<(u64, u64)> {
    let values = program.values.iter().filter(|value| value.bytes.len() == 4);
    let pointers = values.filter(|value| value.ty == vmie_lab::Type::Ptr32);
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let pointers = pointers.map(|value| (value.va, u64::from(number(&value.bytes))));
    pointers.filter(|(_, target)| *target != 0).collect()
}

#[test]
fn what_points_at_an_object_is_found() {
    each(|snapshot, program, _| {
        let pointers = pointers(program);
        assert_eq!(pointers.len(), 5, "{}", program.name);
        for (at, target) in pointers {
            let found = rows(snapshot, program, "refs", &[&text(target)]);
            let found: Vec<u64> = found.iter().map(|row| hex(&row["va"])).collect();
            let what = format!("{} {}", snapshot.variant, program.name);
            assert!(found.contains(&at), "{what}: {at:#x} to {target:#x}");
        }
    });
}

#[test]
fn paths_lead_from_a_static_pointer() {
    each(|snapshot, program, _| {
        for path in &program.paths {
            let (target, name) = (text(path.target), program.name.as_str());
            let args = [
                &target,
                "--from",
                name,
                "--depth",
                "3",
                "--max-offset",
                "0x20",
            ];
            let found = rows(snapshot, program, "paths", &args);
            let is_it = |row: &Value| {
                let offsets = row["offsets"].as_array().expect("a list").iter();
                let offsets = offsets.map(|offset| offset.as_u64().unwrap_or(u64::MAX));
                hex(&row["base"]) == path.base && offsets.eq(path.offsets.iter().copied())
            };
            assert!(
                found.iter().any(is_it),
                "{} {name} {}",
                snapshot.variant,
                path.name
            );
        }
    });
}

/// One instruction as objdump prints it.
struct Line {
    va: u64,
    bytes: String,
    text: String,
}

/// What objdump makes of a program, at the addresses of the process.
fn listing(snapshot: &Snapshot, program: &Program) -> Vec<Line> {
    let path = file(snapshot, program);
    let output = Command::new("objdump")
        .args(["-d", "--wide"])
        .arg(path)
        .output();
    let output = output.expect("objdump runs").stdout;
    let bias = bias(snapshot, program);
    let line = |line: &str| {
        let mut parts = line.split('\t');
        let va = parts.next()?.trim().strip_suffix(':')?;
        Some(Line {
            va: u64::from_str_radix(va, 16).ok()? + bias,
            bytes: parts.next()?.replace(' ', ""),
            text: parts.next()?.trim().to_owned(),
        })
    };
    let lines: Vec<Line> = String::from_utf8_lossy(&output)
        .lines()
        .filter_map(line)
        .collect();
    assert!(lines.len() > 100, "{}", program.name);
    lines
}

fn file(snapshot: &Snapshot, program: &Program) -> PathBuf {
    snapshot.path(format!("files/lab/{}", program.name))
}

/// Address and size of a function in the file.
fn symbol(snapshot: &Snapshot, program: &Program, name: &str) -> (u64, u64) {
    let bytes = std::fs::read(file(snapshot, program)).expect("the program");
    let elf = object::File::parse(&*bytes).expect("an ELF file");
    let mut symbols = elf.symbols();
    let symbol = symbols.find(|symbol| symbol.name() == Ok(name));
    let symbol = symbol.unwrap_or_else(|| panic!("no {name}"));
    (symbol.address(), symbol.size())
}

/// How far the process is from the addresses in the file.
fn bias(snapshot: &Snapshot, program: &Program) -> u64 {
    program.symbols["use_ticks"] - symbol(snapshot, program, "use_ticks").0
}

/// Instructions of the listing that name an address of the file.
fn naming<'l>(lines: impl Iterator<Item = &'l Line>, address: u64) -> BTreeSet<u64> {
    let names = |line: &&'l Line| {
        let numbers = line.text.split([' ', ',', '(', ')', '$', '*', '<']);
        let mut numbers = numbers.filter_map(|word| {
            u64::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16).ok()
        });
        numbers.any(|number| number == address)
    };
    lines.filter(names).map(|line| line.va).collect()
}

#[test]
fn code_that_refers_to_something_is_what_objdump_says() {
    each(|snapshot, program, _| {
        let lines = listing(snapshot, program);
        let found = |target: u64| {
            let args = ["--to", &text(target), "--linear"];
            let rows = rows(snapshot, program, "xref", &args);
            let places = rows.iter().map(|row| hex(&row["va"]));
            places.collect::<BTreeSet<u64>>()
        };
        // Calls are relative in both.
        let (function, _) = symbol(snapshot, program, "use_ticks");
        let calls = lines.iter().filter(|line| line.text.starts_with("call"));
        let expected = naming(calls, function);
        let what = format!("{} {}", snapshot.variant, program.name);
        assert!(!expected.is_empty(), "{what}");
        let calls = found(program.symbols["use_ticks"]);
        assert!(
            calls.is_superset(&expected),
            "{what}: {calls:x?} {expected:x?}"
        );
        // Position-independent code reaches its data by a register.
        if program.name == "program32" {
            let ticks = program.symbols["g_ticks"];
            let expected = naming(lines.iter(), ticks);
            assert!(expected.len() >= 4, "{what}: {expected:x?}");
            assert_eq!(found(ticks), expected, "{what}");
        }
    });
}

#[test]
fn code_is_shown_as_objdump_shows_it() {
    each(|snapshot, program, _| {
        let (_, size) = symbol(snapshot, program, "use_ticks");
        let from = program.symbols["use_ticks"];
        let range = format!("{from:#x}..{:#x}", from + size);
        let shown = rows(snapshot, program, "read", &[&range, "--as", "asm"]);
        let shown: Vec<(u64, String, String)> = shown
            .iter()
            .map(|row| {
                let word = |key: &str| row[key].as_str().expect("text").to_owned();
                (hex(&row["va"]), word("bytes"), mnemonic(&word("text")))
            })
            .collect();
        let lines = listing(snapshot, program).into_iter();
        let lines = lines.filter(|line| (from..from + size).contains(&line.va));
        let expected: Vec<(u64, String, String)> = lines
            .map(|line| (line.va, line.bytes, mnemonic(&line.text)))
            .collect();
        let what = format!("{} {}", snapshot.variant, program.name);
        assert!(expected.len() >= 8, "{what}");
        assert_eq!(shown, expected, "{what}");
    });
}

fn mnemonic(text: &str) -> String {
    text.split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn an_object_is_taken_apart() {
    each(|snapshot, program, _| {
        let object = text(program.symbols["n1"]);
        let fields = rows(snapshot, program, "dissect", &[&object, "--len", "32"]);
        let what = format!("{} {}: {fields:#?}", snapshot.variant, program.name);
        let at = |offset: u64| {
            let is_it = |row: &&Value| row["offset"] == offset;
            let field = fields.iter().find(is_it);
            field.unwrap_or_else(|| panic!("no field at {offset}: {what}"))
        };
        // magic, next, health, speed, name
        assert_eq!(at(4)["len"], 4, "{what}");
        assert_eq!(at(4)["kind"], "pointer", "{what}");
        assert_eq!(hex(&at(4)["value"]), program.symbols["n2"], "{what}");
        assert_eq!(at(8)["value"], "12", "{what}");
        assert_eq!(at(12)["kind"], "float", "{what}");
        assert_eq!(at(12)["value"], "1.5", "{what}");
        assert!(at(16)["value"].to_string().contains("node-one"), "{what}");
    });
}

/// In all processes at once each is looked at by its own width, as it is alone.
#[test]
fn all_processes_are_searched_by_the_width_of_each() {
    each(|snapshot, program, _| {
        let image = snapshot.image(ImageFormat::Raw).expect("there is one");
        let programs = snapshot.programs().expect("readable");
        let wide = programs.iter().find(|one| one.name == "objects-static");
        let world = wide
            .and_then(|one| one.value("g_world"))
            .expect("it has one");
        let world = u64::from_le_bytes(world.bytes.clone().try_into().expect("eight bytes"));
        for target in [program.symbols["n1"], world].map(text) {
            let (all, _) = run_bare(snapshot, image, "refs", &[&target, "--all-processes"]);
            let all: BTreeSet<(u64, u64)> = all
                .iter()
                .map(|row| (row["pid"].as_u64().expect("a number"), hex(&row["va"])))
                .collect();
            let mut one_by_one = BTreeSet::new();
            let (listed, _) = run_bare(snapshot, image, "ps", &[]);
            for process in listed.iter().filter(|process| !process["cr3"].is_null()) {
                let number = process["pid"].as_u64().expect("a number");
                let pid = number.to_string();
                let (rows, _) = run_bare(snapshot, image, "refs", &[&target, "--pid", &pid]);
                one_by_one.extend(rows.iter().map(|row| (number, hex(&row["va"]))));
            }
            let what = format!("{} {} {target}", snapshot.variant, program.name);
            assert!(!all.is_empty(), "{what}");
            assert_eq!(all, one_by_one, "{what}");
        }
    });
}
