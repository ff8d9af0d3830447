//! Transcripts of every verb on the demo's images, under `tests/golden/`.
//!
//! A transcript is what a terminal would show: comments (`#`), commands (`$`), everything they print
//! on either stream, and `? N` where the exit status is not 0. The test runs the commands again and
//! compares. After a change that is meant, `SNAPSHOTS=overwrite cargo test -p vmie-cli golden` writes
//! the new transcripts; read the difference before you commit it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::command;

/// The transcript again, from its comments and commands.
fn replay(transcript: &str, dir: &Path) -> String {
    let mut out = String::new();
    // A blank line is kept where it stands before a comment or a command; others are output.
    let mut blank = false;
    for line in transcript.lines() {
        let is_input = line.starts_with("# ") || line.starts_with("$ ");
        if is_input {
            if blank {
                out.push('\n');
            }
            let _ = writeln!(out, "{line}");
        }
        blank = line.is_empty();
        if let Some(typed) = line.strip_prefix("$ ") {
            out.push_str(&run(typed, dir));
        }
    }
    out
}

fn run(typed: &str, dir: &Path) -> String {
    let exe = Path::new(env!("CARGO_BIN_EXE_vmie"));
    let bin = exe.parent().expect("a directory");
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1; {typed}")])
        .current_dir(dir)
        .envs(
            command()
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE")
        .env("PATH", format!("{}:{path}", bin.display()))
        .output()
        .expect("sh runs");
    let mut text = String::from_utf8(output.stdout).expect("UTF-8");
    let clash = text
        .lines()
        .find(|line| line.starts_with("# ") || line.starts_with("$ "));
    assert_eq!(
        clash, None,
        "output that looks like input: indent it with sed"
    );
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    match output.status.code() {
        Some(0) => {}
        code => {
            let _ = writeln!(text, "? {}", code.expect("ended by itself"));
        }
    }
    text
}

/// A directory with the demo's images.
fn demo_images() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let made = command()
        .args(["demo", "--keep", "."])
        .current_dir(dir.path())
        .output()
        .expect("runs");
    let err = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{err}");
    dir
}

#[test]
fn transcripts() {
    let dir = demo_images();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<PathBuf> = std::fs::read_dir(golden)
        .expect("the transcripts")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(files.len() >= 8, "a transcript for every verb");
    for file in files {
        let expected = std::fs::read_to_string(&file).expect("a text file");
        let actual = replay(&expected, dir.path());
        snapbox::assert_data_eq!(actual, snapbox::Data::read_from(&file, None).raw());
    }
}

/// The command lines that the demo prints work as they are.
#[test]
fn the_demo_prints_commands_that_work() {
    // In a directory whose name a shell would split.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tour = command()
        .args(["demo", "--keep", "images of the demo"])
        .current_dir(dir.path())
        .output()
        .expect("runs");
    let tour = String::from_utf8(tour.stdout).expect("UTF-8");
    let mut typed = 0;
    for line in tour.lines().filter_map(|line| line.strip_prefix("$ ")) {
        let table = if line.contains(" -o ") {
            ""
        } else {
            " -o table"
        };
        let output = run(&format!("{line}{table}"), dir.path());
        let output = output.strip_suffix("? 2\n").map_or(Ok(&*output), Err);
        let output = output.unwrap_or_else(|text| panic!("{line}: {text}"));
        let results = output.lines().filter(|line| {
            !["note:", "warning:", "coverage:", "? "]
                .iter()
                .any(|p| line.starts_with(p))
        });
        for result in results {
            assert!(tour.contains(result), "{line}: {result}");
        }
        typed += 1;
    }
    assert!(typed >= 10, "{tour}");
}

/// So do those of the README that are about the demo's images.
#[test]
fn the_readme_shows_commands_that_work() {
    let dir = demo_images();
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(readme).expect("the README");
    let mut typed = 0;
    for line in readme.lines() {
        let line = line.strip_prefix("$ ").unwrap_or(line);
        if line.starts_with("vmie ") && line.contains(" demo.elf") {
            let output = run(line, dir.path());
            assert!(!output.contains("? "), "{line}: {output}");
            typed += 1;
        }
    }
    assert!(typed >= 10, "{typed} command lines");
}
