//! The lab's tests on every guest there is, one after another.
//!
//! Each guest is booted, tested and, when all is well, forgotten: together the snapshots would take
//! more room than most disks have. What the tests print goes into a file for each.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use vmie_lab::Snapshot;

use super::variant::{self, Variant};
use crate::{Fallible, tools};

/// What came of one guest.
struct Row {
    variant: String,
    /// As `uname -r` says; empty when it was not built.
    release: String,
    passed: usize,
    /// Names of the tests that failed.
    failed: Vec<String>,
    /// Why there are no results.
    error: Option<String>,
}

impl Row {
    fn is_good(&self) -> bool {
        self.error.is_none() && self.failed.is_empty() && self.passed > 0
    }
}

/// Runs `cargo xtask lab matrix [VARIANT...]`.
pub(super) fn run(names: &[&str]) -> Fallible<()> {
    tools::ensure()?;
    let lab = super::dir();
    let variants = match names {
        [] => variant::matrix(&lab)?,
        names => names
            .iter()
            .map(|name| super::by_name(name))
            .collect::<Fallible<_>>()?,
    };
    crate::build_for_tests()?;
    let logs = lab.join("matrix");
    fs::create_dir_all(&logs)?;
    let mut rows = Vec::new();
    for (i, variant) in variants.iter().enumerate() {
        let started = Instant::now();
        let row = one(variant, &logs);
        eprintln!(
            "lab matrix: {}/{}: {} ({:.0} s)",
            i + 1,
            variants.len(),
            line(&row),
            started.elapsed().as_secs_f32()
        );
        rows.push(row);
    }
    println!("| guest | kernel | passed | failed |\n|---|---|---|---|");
    for row in &rows {
        println!("{}", line(row));
    }
    let bad = rows.iter().filter(|row| !row.is_good()).count();
    println!("\n{} guests, {bad} with failures", rows.len());
    match bad {
        0 => Ok(()),
        _ => Err(format!("the matrix failed; see {}", logs.display()).into()),
    }
}

fn line(row: &Row) -> String {
    let failed = match &row.error {
        Some(error) => error.lines().next().unwrap_or_default().to_owned(),
        None => row.failed.join(", "),
    };
    let Row {
        variant,
        release,
        passed,
        ..
    } = row;
    format!("| {variant} | {release} | {passed} | {failed} |")
}

/// Builds one guest and tests it.
fn one(variant: &Variant, logs: &Path) -> Row {
    let mut row = Row {
        variant: variant.name.clone(),
        release: String::new(),
        passed: 0,
        failed: Vec::new(),
        error: None,
    };
    let log = logs.join(format!("{}.log", variant.name));
    let _ = fs::remove_file(&log);
    let dir = super::snapshot_dir(&variant.name);
    let was_there = dir.exists();
    let tested = super::build(std::slice::from_ref(variant)).and_then(|snapshots| {
        row.release.clone_from(&snapshots[0].kernel.release);
        tests(&snapshots, &log)
    });
    match tested {
        Ok(said) => (row.passed, row.failed) = results(&said),
        Err(error) => {
            // The table has room for a line; all of it goes where the tests' words would be.
            let text = error.to_string();
            let _ = File::create(&log).and_then(|mut file| file.write_all(text.as_bytes()));
            row.error = Some(text);
        }
    }
    if row.error.is_none() && row.passed == 0 {
        row.error = Some(format!("no test has run: see {}", log.display()));
    }
    if row.is_good() && !was_there {
        let _ = fs::remove_dir_all(&dir);
    }
    row
}

/// Runs the tests and answers what they printed.
fn tests(snapshots: &[Snapshot], log: &Path) -> Fallible<String> {
    let file = File::create(log)?;
    let mut command = super::guest_tests(snapshots)?;
    // Whether they passed is read from what they print.
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()?;
    Ok(String::from_utf8_lossy(&fs::read(log)?).into_owned())
}

/// How many tests passed, and which failed. A test program that ends without a result counts as a
/// failure.
fn results(said: &str) -> (usize, Vec<String>) {
    let mut passed = 0;
    let mut failed = Vec::new();
    let mut open: Option<&str> = None;
    for line in said.lines() {
        let line = line.trim_start();
        if line.starts_with("Running ") {
            failed.extend(open.map(|program| format!("{program} did not end")));
            open = line.split_whitespace().nth(1);
        }
        if line.starts_with("test result: ") {
            open = None;
        } else if let Some(test) = line.strip_prefix("test ") {
            if let Some(name) = test.strip_suffix(" ... FAILED") {
                failed.push(name.to_owned());
            } else if test.ends_with(" ... ok") {
                passed += 1;
            }
        }
    }
    failed.extend(open.map(|program| format!("{program} did not end")));
    (passed, failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tests_print() {
        let said = "\
   Compiling vmie-lab v0.1.0
     Running tests/guests/main.rs (target/debug/deps/guests-1)

running 3 tests
test tables::leaves ... ok
test names::all ... FAILED
test objects::here - should panic ... ok

failures:

---- names::all stdout ----
test data that looks like a result

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out
     Running tests/volatility/main.rs (target/debug/deps/volatility-1)

running 1 test
test processes::all ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out
";
        assert_eq!(results(said), (3, vec!["names::all".to_owned()]));
        let cut = said.rfind("\ntest result").expect("there are two");
        let (passed, failed) = results(&said[..cut]);
        assert_eq!(passed, 3);
        assert_eq!(
            failed,
            ["names::all", "tests/volatility/main.rs did not end"]
        );
        assert_eq!(results("error: could not compile"), (0, vec![]));
    }
}
