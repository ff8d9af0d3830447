//! Snapshots as scripts rely on them: rows, statuses, and files that are whole or not there.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{DATA, Run, check_document, for_rows, guest, rows, vmie};

pub(crate) fn path(directory: &Path, name: &str) -> String {
    directory.join(name).display().to_string()
}

fn take(source: &str, out: &str, args: &[&str]) -> Run {
    let run = vmie(&[&["snap", "take", source, "-O", out], args].concat());
    assert_eq!(run.status, 0, "{}", run.err);
    run
}

/// The guest's image with a few bytes changed at these physical addresses.
pub(crate) fn changed(out: &str, at: &[(u64, &[u8])]) {
    let guest = guest();
    let raw = vmie(&["read", &guest.elf(), "--phys", "0..+16", "-o", "jsonl"]);
    assert_eq!(raw.status, 0);
    let mut bytes = std::fs::read(guest.elf()).expect("the image");
    for (gpa, new) in at {
        let offset = offset_of(&bytes, *gpa);
        bytes[offset..offset + new.len()].copy_from_slice(new);
    }
    std::fs::write(out, bytes).expect("writes");
}

/// Where the bytes of a physical address stand in an ELF core.
fn offset_of(elf: &[u8], gpa: u64) -> usize {
    let word = |at: usize| u64::from_le_bytes(elf[at..at + 8].try_into().expect("eight bytes"));
    let half = |at: usize| usize::from(u16::from_le_bytes([elf[at], elf[at + 1]]));
    let (table, size, count) = (word(32) as usize, half(54), half(56));
    (0..count)
        .map(|index| table + index * size)
        .find_map(|at| {
            let load = elf[at] == 1;
            let (offset, start, len) = (word(at + 8), word(at + 24), word(at + 32));
            (load && gpa >= start && gpa - start < len).then(|| (offset + gpa - start) as usize)
        })
        .expect("the address is in the image")
}

#[test]
fn rows_are_the_contract() {
    let directory = tempfile::tempdir().expect("a directory");
    let guest = guest();
    let (before, later) = (
        path(directory.path(), "before"),
        path(directory.path(), "later"),
    );
    let row = &rows(&take(&guest.elf(), &before, &["--cr3", &guest.cr3_arg()]))[0];
    assert_eq!(row["file"], Value::String(before.clone()));
    assert_eq!(
        row["mapped"].as_u64(),
        Some(row["read"].as_u64().unwrap() + row["absent"].as_u64().unwrap())
    );
    assert!(row["absent"].as_u64() >= Some(0x1000));

    // The same is status 1, with what could not be compared told; under --strict that is 3.
    let same = vmie(&["snap", "diff", &before, &guest.elf()]);
    assert_eq!((same.status, same.out.as_str()), (1, ""), "{}", same.err);
    assert!(same.err.contains("not readable"), "{}", same.err);
    assert_eq!(
        vmie(&["snap", "diff", &before, &guest.elf(), "--strict"]).status,
        3
    );

    // Changed bytes with exact borders, also across a page in which nothing else changed.
    changed(
        &later,
        &[
            (guest.data_gpa + 0x10, &[0xee; 3]),
            (guest.data_gpa + 0x20, &[0xee]),
        ],
    );
    let run = vmie(&["snap", "diff", &before, &later]);
    assert_eq!(run.status, 0, "{}", run.err);
    let seen: Vec<_> = rows(&run)
        .iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().expect("text").to_owned();
            (
                text("va"),
                row["len"].as_u64().expect("a number"),
                text("prot"),
                text("change"),
            )
        })
        .collect();
    let row = |at: u64, len| {
        let (va, rw) = (format!("{:#x}", DATA + at), "rw-".to_owned());
        (va, len, rw, "modified".to_owned())
    };
    assert_eq!(seen, [row(0x10, 3), row(0x20, 1)]);
    let grouped = rows(&vmie(&[
        "snap",
        "diff",
        &before,
        &later,
        "--group-by",
        "page",
    ]));
    assert_eq!(grouped.len(), 1);
    assert_eq!(
        (&grouped[0]["bytes"], &grouped[0]["runs"]),
        (&4.into(), &2.into())
    );
    let envelope = vmie(&["snap", "diff", &before, &later, "-o", "json"]);
    let json: Value = serde_json::from_str(&envelope.out).expect("one JSON document");
    check_document(&json);
    assert_eq!(json["schema"], "vmie.snap-diff/1");
    assert_eq!(json["results"], Value::Array(rows(&run)));
}

#[test]
fn protections_and_regions_that_change_are_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let guest = guest();
    let (before, later) = (
        path(directory.path(), "before"),
        path(directory.path(), "later"),
    );
    take(&guest.elf(), &before, &["--cr3", &guest.cr3_arg()]);
    // The entry of the first page of data, by the command itself.
    let walk = rows(&vmie(&[
        "vtop",
        &guest.elf(),
        "--cr3",
        &guest.cr3_arg(),
        &format!("{DATA:#x}"),
    ]));
    let steps = walk[0]["steps"].as_array().expect("steps");
    let hex = |value: &Value| {
        let text = value.as_str().expect("text").trim_start_matches("0x");
        u64::from_str_radix(text, 16).expect("a number")
    };
    let last = steps.last().expect("a step");
    let (gpa, entry) = (hex(&last["gpa"]), hex(&last["entry"]));
    let kinds = |entry: u64| {
        changed(&later, &[(gpa, &entry.to_le_bytes())]);
        let run = vmie(&[
            "snap",
            "diff",
            &before,
            &later,
            "--range",
            &format!("{DATA:#x}..+4KiB"),
        ]);
        assert_eq!(run.status, 0, "{}", run.err);
        let row = rows(&run).remove(0);
        let text = |key: &str| row[key].as_str().expect("text").to_owned();
        (
            text("change"),
            text("was"),
            text("prot"),
            row["len"].as_u64(),
        )
    };
    let told = |change: &str, was: &str, prot: &str| {
        (
            change.to_owned(),
            was.to_owned(),
            prot.to_owned(),
            Some(0x1000),
        )
    };
    assert_eq!(kinds(entry & !2), told("protection", "rw-", "r--"));
    assert_eq!(kinds(entry & !1), told("disappeared", "rw-", "---"));
    // And the other way round.
    changed(&later, &[(gpa, &(entry & !1).to_le_bytes())]);
    let gone = path(directory.path(), "gone");
    take(&later, &gone, &["--cr3", &guest.cr3_arg()]);
    let run = vmie(&[
        "snap",
        "diff",
        &gone,
        &before,
        "--range",
        &format!("{DATA:#x}..+4KiB"),
    ]);
    assert_eq!(rows(&run)[0]["change"], "appeared");
}

#[test]
fn whoever_is_killed_leaves_a_whole_file_or_none() {
    const LEN: usize = 48 << 20;
    let directory = tempfile::tempdir().expect("a directory");
    let raw = directory.path().join("noise.raw");
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 40).to_le_bytes()
    })
    .flat_map(|bytes| [bytes[0], bytes[1]])
    .take(LEN)
    .collect();
    std::fs::write(&raw, noise).expect("writes");
    let out = directory.path().join("snapshots");
    std::fs::create_dir(&out).expect("a directory");
    let (raw, file) = (raw.display().to_string(), path(&out, "snapshot"));
    let start = || {
        for_rows()
            .args([
                "snap",
                "take",
                &raw,
                "--layout",
                "0+48MiB@0",
                "--phys",
                "-O",
                &file,
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts")
    };
    let began = Instant::now();
    assert!(start().wait().expect("it ends").success());
    let whole = began.elapsed();
    let size = std::fs::metadata(&file).expect("it is there").len();
    std::fs::remove_file(&file).expect("removes");
    let (mut none, mut some) = (0, 0);
    const TRIES: u32 = 40;
    for attempt in 0..TRIES {
        let mut child = start();
        std::thread::sleep(whole * attempt * 5 / 4 / TRIES);
        let killed = Command::new("kill")
            .args(["-KILL", &child.id().to_string()])
            .status();
        assert!(killed.is_ok());
        child.wait().expect("it ends");
        let names: Vec<_> = std::fs::read_dir(&out)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        if names.is_empty() {
            none += 1;
            continue;
        }
        some += 1;
        assert_eq!(names, ["snapshot"]);
        assert_eq!(std::fs::metadata(&file).expect("it is there").len(), size);
        let same = vmie(&["snap", "diff", &file, &raw, "--layout", "0+48MiB@0"]);
        assert_eq!(same.status, 1, "{}", same.err);
        std::fs::remove_file(&file).expect("removes");
    }
    // Else it was killed always too early or always too late, and nothing was tried.
    assert!(
        none > 0,
        "{none} without, {some} with a file, {:?}",
        Duration::from_secs(0) + whole
    );
}
