//! `vmie scan --all-processes` beside `vmie scan --pid N` for each process, and on every image.

use serde_json::Value;
use vmie_lab::{ImageFile, ImageFormat, Page, Process, Snapshot};

use crate::command::{each, hex, run_bare};
use crate::entries::is_restless;
use crate::support::snapshots;

/// Code, headers of ELF images, small numbers; and what crosses pages, for none is aligned.
const SIGNATURES: [&str; 5] = [
    "48 8B ?? ?? E8",
    "(E8 | E9) ?? ?? ?? FF 48",
    "7F 45 4C 46 [2-40] 3E 00",
    "00 00 00 00 00 00 00 01",
    "2F 6C 61 62 2F",
];

fn arguments<'a>(space: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["--strict"];
    args.extend(SIGNATURES.iter().flat_map(|signature| ["-s", *signature]));
    args.extend(space);
    args
}

/// What a process maps where, as the guest itself says; of some it does not.
fn region(process: &Process, va: u64) -> Value {
    if process.vmas.is_empty() {
        return Value::from("not shown");
    }
    let vma = process.vmas.iter().find(|vma| vma.range.contains(&va));
    match vma {
        Some(vma) if !vma.path.is_empty() => Value::from(vma.path.clone()),
        _ => Value::Null,
    }
}

/// Whether a part of a process is in swap, as the guest says. It says so of pages that are just being moved, too.
fn has_swapped(process: &Process) -> bool {
    let mut pages = process.pages.iter().filter(|run| !is_restless(run.va));
    pages.any(|run| matches!(run.page, Page::Swapped { .. }))
}

/// The rows of one space after the other.
fn one_by_one(snapshot: &Snapshot, image: &ImageFile, processes: &[Process]) -> Vec<Value> {
    let (listed, _) = run_bare(snapshot, image, "ps", &[]);
    let mut rows = Vec::new();
    for listed in listed.iter().filter(|listed| !listed["cr3"].is_null()) {
        let number = listed["pid"].as_u64().expect("a number");
        let pid = number.to_string();
        let process = processes.iter().find(|one| u64::from(one.pid) == number);
        let process = process.expect("a process of the guest");
        let (found, status) = run_bare(snapshot, image, "scan", &arguments(&["--pid", &pid]));
        // What is in swap could not be looked at, as far as the guest shows what a process maps.
        let missing = i32::from(has_swapped(process)) * 3;
        let shown = !process.vmas.is_empty();
        assert!(
            !shown || status == missing,
            "{} {pid}: {status}",
            snapshot.variant
        );
        for mut row in found {
            row["pid"] = Value::from(number);
            row["process"] = listed["name"].clone();
            row["region"] = region(process, hex(&row["va"]));
            rows.push(row);
        }
    }
    rows
}

#[test]
fn all_processes_at_once_are_each_process() {
    for snapshot in snapshots() {
        let name = &snapshot.variant;
        let raw = snapshot.image(ImageFormat::Raw).expect("a raw image");
        let all = arguments(&["--all-processes"]);
        let (rows, status) = run_bare(&snapshot, raw, "scan", &all);
        let processes = snapshot.processes().expect("the guest's processes");
        assert!(processes.iter().any(has_swapped), "{name} swaps");
        assert_eq!(status, 3, "{name}");

        let expected = one_by_one(&snapshot, raw, &processes);
        assert!(expected.len() > 1000, "{name}: {}", expected.len());
        let mut shown = rows.clone();
        for row in &mut shown {
            let pid = row["pid"].as_u64().expect("a number");
            let process = processes.iter().find(|one| u64::from(one.pid) == pid);
            if process.is_some_and(|process| process.vmas.is_empty()) {
                row["region"] = Value::from("not shown");
            }
        }
        assert!(
            shown == expected,
            "{name}: {} of {}",
            rows.len(),
            expected.len()
        );

        // Some of them stand across the border of two pages.
        let crossing = rows.iter().filter(|row| hex(&row["va"]) & 0xfff > 0xffb);
        assert!(crossing.count() > 0, "{name}");

        for image in &snapshot.images {
            let (same, _) = run_bare(&snapshot, image, "scan", &all);
            assert!(same == rows, "{name} {:?}", image.format);
        }
    }
}

#[test]
fn the_kernel_comes_behind_the_processes() {
    each(|snapshot, image, name| {
        // The direct map of a large guest has as many matches as all of its memory.
        let code = ["-s", "0F 01 D0", "-s", "0F 22 D8", "--perm", "x"];
        let (both, status) = run_bare(
            snapshot,
            image,
            "scan",
            &[&code[..], &["--all-processes", "--kernel"]].concat(),
        );
        assert_eq!(status, 0, "{name}");
        let (users, _) = run_bare(
            snapshot,
            image,
            "scan",
            &[&code[..], &["--all-processes"]].concat(),
        );
        let (kernel, _) = run_bare(
            snapshot,
            image,
            "scan",
            &[&code[..], &["--kernel"]].concat(),
        );
        assert!(
            !kernel.is_empty(),
            "{name}: the kernel switches address spaces"
        );
        let (first, last) = both.split_at(users.len());
        assert_eq!(first, users, "{name}");
        assert_eq!(last.len(), kernel.len(), "{name}");
        for (row, alone) in last.iter().zip(&kernel) {
            assert_eq!((&row["pid"], &row["process"]), (&Value::Null, &Value::Null));
            for key in ["va", "sig", "name"] {
                assert_eq!(row.get(key), alone.get(key), "{name}");
            }
        }
    });
}
