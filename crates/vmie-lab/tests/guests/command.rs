//! The `vmie` command on the same images: what a user would type.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use vmie_lab::walker::leaves;
use vmie_lab::{ImageFile, Snapshot};

use crate::support::snapshots;
use crate::tables::prot;

/// The command: `cargo xtask` has built it and says where; else it is built now, because an old one
/// would be tested without anybody noticing.
fn vmie() -> &'static Path {
    static VMIE: OnceLock<PathBuf> = OnceLock::new();
    VMIE.get_or_init(|| {
        if let Some(path) = std::env::var_os("VMIE_BIN") {
            return path.into();
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let build = Command::new(cargo)
            .args(["build", "--quiet", "--package", "vmie-cli"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
            .status();
        assert!(
            build.is_ok_and(|status| status.success()),
            "vmie-cli builds"
        );
        let exe = std::env::current_exe().expect("we run");
        let deps = exe.parent().and_then(Path::parent);
        deps.expect("tests are in target/PROFILE/deps").join("vmie")
    })
}

/// Runs a verb on an image in the current address space; its rows, and the exit status.
fn run(snapshot: &Snapshot, image: &ImageFile, verb: &str, args: &[&str]) -> (Vec<Value>, i32) {
    let root = format!("{:#x}", snapshot.current.root);
    run_bare(snapshot, image, verb, &[args, &["--cr3", &root]].concat())
}

/// Runs a verb on an image with just these arguments; its rows, and the exit status.
pub(crate) fn run_bare(
    snapshot: &Snapshot,
    image: &ImageFile,
    verb: &str,
    args: &[&str],
) -> (Vec<Value>, i32) {
    let (out, status) = run_text(
        snapshot,
        image,
        verb,
        &[args, &["--output", "jsonl"]].concat(),
    );
    let rows = out
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON value a line"))
        .collect();
    (rows, status)
}

/// Runs a verb on an image with just these arguments; what it prints, and the exit status.
pub(crate) fn run_text(
    snapshot: &Snapshot,
    image: &ImageFile,
    verb: &str,
    args: &[&str],
) -> (String, i32) {
    let mut command = Command::new(vmie());
    command.arg(verb).arg(snapshot.path(&image.file)).args(args);
    if let Some(layout) = &image.layout {
        command.args(["--layout", layout]);
    }
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", vmie().display()));
    let out = String::from_utf8(output.stdout).expect("UTF-8");
    let status = output.status.code();
    let errors = String::from_utf8_lossy(&output.stderr);
    (
        out,
        status.unwrap_or_else(|| panic!("{command:?}: {errors}")),
    )
}

/// Runs a verb of some words on a file; its rows, and the exit status.
pub(crate) fn run_words(words: &[&str], file: &Path, args: &[&str]) -> (Vec<Value>, i32) {
    let mut command = Command::new(vmie());
    command.args(words).arg(file).args(args);
    let output = command.args(["--output", "jsonl"]).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", vmie().display()));
    let out = String::from_utf8(output.stdout).expect("UTF-8");
    let rows = out
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON value a line"));
    let errors = String::from_utf8_lossy(&output.stderr);
    let status = output.status.code();
    (
        rows.collect(),
        status.unwrap_or_else(|| panic!("{command:?}: {errors}")),
    )
}

pub(crate) fn each(check: impl Fn(&Snapshot, &ImageFile, &str)) {
    for snapshot in snapshots() {
        for image in &snapshot.images {
            let name = format!("{} {:?}", snapshot.variant, image.format);
            check(&snapshot, image, &name);
        }
    }
}

pub(crate) fn hex(value: &Value) -> u64 {
    let text = value.as_str().expect("addresses are strings");
    u64::from_str_radix(text.strip_prefix("0x").expect("0x"), 16).expect("hexadecimal")
}

#[test]
fn maps() {
    each(|snapshot, image, name| {
        let (rows, status) = run(snapshot, image, "maps", &[]);
        assert_eq!(status, 0, "{name}");
        let mut expected: Vec<(u64, u64, String, bool)> = Vec::new();
        for leaf in leaves(snapshot, snapshot.current.root) {
            let prot = prot(&leaf);
            let (text, user) = (prot.to_string()[..3].to_owned(), prot.user());
            match expected.last_mut() {
                Some(last) if last.0 + last.1 == leaf.va && (&last.2, last.3) == (&text, user) => {
                    last.1 += leaf.size;
                }
                _ => expected.push((leaf.va, leaf.size, text, user)),
            }
        }
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                (
                    hex(&row["va"]),
                    row["len"].as_u64().expect("a number"),
                    row["prot"].as_str().expect("text").to_owned(),
                    row["user"].as_bool().expect("a truth value"),
                )
            })
            .collect();
        assert_eq!(rows, expected, "{name}");
    });
}

#[test]
fn vtop() {
    each(|snapshot, image, name| {
        let translations = snapshot.translations().expect("readable");
        let mapped = translations.iter().filter(|t| t.gpa.is_some()).step_by(500);
        let unmapped = translations.iter().filter(|t| t.gpa.is_none()).step_by(500);
        for translation in mapped.chain(unmapped) {
            let va = format!("{:#x}", translation.va);
            let (rows, status) = run(snapshot, image, "vtop", &[&va]);
            match translation.gpa {
                Some(gpa) => {
                    assert_eq!((status, rows.len()), (0, 1), "{name}: {va}");
                    assert_eq!(hex(&rows[0]["gpa"]), gpa, "{name}: {va}");
                }
                None => assert_eq!(status, 1, "{name}: {va} is not mapped"),
            }
        }
    });
}

#[test]
fn read() {
    each(|snapshot, image, name| {
        let programs = snapshot.programs().expect("readable");
        let program = programs
            .iter()
            .find(|program| program.pid == snapshot.current.pid)
            .expect("the current one is one of them");
        for value in program
            .values
            .iter()
            .filter(|v| !v.bytes.is_empty())
            .step_by(37)
        {
            let range = format!("{:#x}..+{}", value.va, value.bytes.len());
            let (rows, status) = run(snapshot, image, "read", &[&range, "--as", "hex"]);
            assert_eq!(status, 0, "{name}: {}", value.name);
            let bytes: String = rows
                .iter()
                .map(|row| row["bytes"].as_str().expect("text"))
                .collect();
            let expected: String = value.bytes.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(bytes.replace(' ', ""), expected, "{name}: {}", value.name);
        }
    });
}

#[test]
fn scan() {
    each(|snapshot, image, name| {
        let programs = snapshot.programs().expect("readable");
        let program = programs
            .iter()
            .find(|program| program.pid == snapshot.current.pid)
            .expect("the current one is one of them");
        // The banner is put together at run time, so it is in memory once, and in no file.
        let banner = program.value("banner").expect("every one has a banner");
        let signature: Vec<String> = banner.bytes.iter().map(|b| format!("{b:02x}")).collect();
        let range = "0..0x8000000000000000";
        let args = ["-s", &signature.join(" "), "--range", range];
        let (rows, status) = run(snapshot, image, "scan", &args);
        let found: Vec<u64> = rows.iter().map(|row| hex(&row["va"])).collect();
        assert_eq!((found, status), (vec![banner.va], 0), "{name}");

        let (rows, status) = run(
            snapshot,
            image,
            "scan",
            &["-s", &"f1 e2 d3 ".repeat(8), "--range", range],
        );
        assert_eq!((rows.len(), status), (0, 1), "{name}: nothing found");
    });
}
