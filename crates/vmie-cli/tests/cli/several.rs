//! One question to several sources.

use serde_json::Value;

use crate::support::{CODE, Run, SIG, check_document, command, guest, rows, vmie};

/// The guest's images, in an order that is not that of their names.
fn sources() -> [String; 2] {
    let guest = guest();
    [guest.path("guest.lime"), guest.path("guest.elf")].map(|path| path.display().to_string())
}

/// A verb on sources, in the guest's address space.
fn ask(verb: &str, sources: &[&str], args: &[&str]) -> Run {
    let cr3 = guest().cr3_arg();
    let space = ["--cr3", &*cr3, "--paging", "4level"];
    vmie(&[&[verb], sources, &space, args].concat())
}

fn of(rows: &[Value]) -> Vec<&str> {
    let names = rows
        .iter()
        .map(|row| row["source"].as_str().expect("a source"));
    names.collect()
}

#[test]
fn rows_are_those_of_each_source_in_the_order_of_the_sources() {
    let [first, second] = sources();
    for (verb, args) in [
        ("maps", &[][..]),
        ("scan", &["-s", SIG]),
        ("find", &["--str", "third page"]),
        ("strings", &["--min", "8"]),
        ("xref", &["--all"]),
    ] {
        let alone = [&first, &second].map(|source| rows(&ask(verb, &[source], args)));
        for threads in ["1", "2", "7"] {
            let args = [args, &["-j", threads]].concat();
            let run = ask(verb, &[&first, &second], &args);
            assert!(run.status <= 1, "{verb}: {}", run.err);
            let mut together = rows(&run);
            let names = of(&together);
            let expected = [&first, &second].map(String::as_str);
            let wanted: Vec<&str> = expected
                .iter()
                .zip(&alone)
                .flat_map(|(name, rows)| std::iter::repeat_n(*name, rows.len()))
                .collect();
            assert_eq!(names, wanted, "{verb}");
            for row in &mut together {
                row.as_object_mut()
                    .expect("an object")
                    .shift_remove("source");
            }
            assert_eq!(together, alone.concat(), "{verb}");
        }
    }
}

#[test]
fn one_that_fails_is_named_and_does_not_stop_the_others() {
    let [first, second] = sources();
    let run = ask("scan", &[&first, "nosuch.elf", &second], &["-s", SIG]);
    assert_eq!(run.status, 2);
    assert!(run.err.contains("nosuch.elf"), "{}", run.err);
    assert_eq!(of(&rows(&run)), [&first, &second]);
}

#[test]
fn the_document_has_the_coverage_of_each() {
    let [first, second] = sources();
    let run = ask(
        "scan",
        &[&first, "nosuch.elf", &second],
        &["-s", SIG, "-o", "json"],
    );
    let document: Value = serde_json::from_str(&run.out).expect("a document");
    check_document(&document);
    let sources = document["sources"].as_array().expect("sources");
    let names: Vec<&str> = sources
        .iter()
        .filter_map(|one| one["source"].as_str())
        .collect();
    assert_eq!(names, [&first, "nosuch.elf", &second]);
    let statuses: Vec<u64> = sources
        .iter()
        .filter_map(|one| one["status"].as_u64())
        .collect();
    assert_eq!(statuses, [0, 2, 0]);
    assert!(sources[0]["coverage"]["read"].as_u64().expect("a number") > 0);
    assert!(sources[1]["coverage"].is_null() && sources[1]["error"].is_string());
}

#[test]
fn the_worst_decides_the_status() {
    let [first, second] = sources();
    let both = [&*first, &*second];
    assert_eq!(ask("scan", &both, &["-s", SIG]).status, 0);
    // A page is absent in both.
    assert_eq!(ask("scan", &both, &["-s", SIG, "--strict"]).status, 3);
    let nothing = "11 22 33 44 55 66 77 88";
    assert_eq!(ask("scan", &both, &["-s", nothing]).status, 1);
}

#[test]
fn tables_and_csv_are_one() {
    let [first, second] = sources();
    let csv = ask("scan", &[&first, &second], &["-s", SIG, "-o", "csv"]);
    let heads = csv
        .out
        .lines()
        .filter(|line| line.starts_with("source,va,"));
    assert_eq!(
        (heads.count(), csv.out.lines().count()),
        (1, 3),
        "{}",
        csv.out
    );
    let table = ask("scan", &[&first, &second], &["-s", SIG, "-o", "table"]);
    let lines: Vec<&str> = table.out.lines().collect();
    assert!(lines[0].starts_with("source"), "{}", table.out);
    assert!(lines[1].starts_with(&first) && lines[2].starts_with(&second));
    // Each says what was looked at.
    let said = table
        .err
        .lines()
        .filter(|line| line.starts_with("coverage: "));
    assert_eq!(said.count(), 2, "{}", table.err);
}

#[test]
fn a_limit_is_that_of_all_rows() {
    let [first, second] = sources();
    let run = ask("maps", &[&first, &second], &["--limit", "1"]);
    assert_eq!(of(&rows(&run)), [&first]);
    assert_eq!(
        run.err.matches("stopped after 1 row").count(),
        1,
        "{}",
        run.err
    );
}

#[test]
fn what_belongs_to_one_source_is_refused() {
    let [first, second] = sources();
    for args in [
        &["--base", "x"][..],
        &["--str", "x", "--save", "candidates"],
        &["--refine", "candidates", "--changed"],
    ] {
        let verb = if args[0] == "--base" { "maps" } else { "find" };
        let run = ask(verb, &[&first, &second], args);
        assert_eq!(run.status, 2, "{args:?}");
        assert!(run.out.is_empty() && run.err.contains("2"), "{}", run.err);
    }
}

/// An old script must not get another answer in silence.
#[test]
fn two_numbers_with_a_plus_are_refused_everywhere() {
    let at = format!("{CODE:#x}+64");
    let (elf, cr3) = (guest().elf(), guest().cr3_arg());
    for line in [
        &["read", &at][..],
        &["vtop", &at],
        &["dissect", &at],
        &["refs", &at],
        &["refs", "--pointees", &at],
        &["xref", "--to", &at],
        &["paths", &at, "--from", "0x1000..+8"],
        &["paths", "0x1000", "--from", &at],
        &["paths", "0x1000", "--from-value", &at],
        &["show", "task_struct", &at],
        &["maps", "--range", &at],
        &["scan", "-s", SIG, "--range", &at],
        &["find", "--u8", "1", "--range", &at],
        &["strings", "--range", &at],
        &["xref", "--all", "--range", &at],
        &["snap", "take", "-O", "x", "--range", &at],
    ] {
        // The source is the first thing behind the verb.
        let verbs = if line[0] == "snap" { 2 } else { 1 };
        let (verb, args) = line.split_at(verbs);
        let words = [verb, &[&*elf, "--cr3", &cr3], args].concat();
        let run: Run = command().args(&words).output().expect("runs").into();
        assert_eq!(run.status, 2, "{words:?}: {}", run.err);
        assert!(run.out.is_empty(), "{words:?}");
        for hint in ["try: 0x401000..+64", "try: 0x401040"] {
            assert!(run.err.contains(hint), "{words:?}: {}", run.err);
        }
    }
}
