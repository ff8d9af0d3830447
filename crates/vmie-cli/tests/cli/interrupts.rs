//! Ctrl-C in searches that keep or need more than their rows.
#![cfg(unix)]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{Run, for_rows};

/// A large image that takes little of the disk, with `a string` every 8 MiB.
fn large(dir: &Path) {
    let file = File::create(dir.join("large.raw")).expect("a file");
    file.set_len(32 << 30).expect("a large file");
    for at in (0..32u64 << 30).step_by(8 << 20) {
        file.write_all_at(b"a string", at).expect("written");
    }
}

fn start(dir: &Path, verb: &str, args: &[&str]) -> Child {
    for_rows()
        .current_dir(dir)
        .args([verb, "large.raw", "--phys", "--layout", "0+32GiB@0"])
        .args(["-j", "1", "--strict"])
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

/// Presses Ctrl-C; what there is to read on both streams, and the status.
fn stop(mut child: Child, out: impl Read, err: impl Read) -> Run {
    let pid = child.id().to_string();
    let killed = Command::new("kill").args(["-INT", &pid]).status();
    assert!(killed.expect("kill runs").success());
    let text = |mut stream: Box<dyn Read + '_>| {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("text");
        text
    };
    let out = text(Box::new(out));
    let err = text(Box::new(err));
    let status = child.wait().expect("it ends").code();
    Run {
        status: status.expect("it ends by itself"),
        out,
        err,
    }
}

#[test]
fn a_file_of_candidates_is_whole_or_not_there() {
    let dir = tempfile::tempdir().expect("a directory");
    large(dir.path());
    let mut child = start(dir.path(), "find", &["--str", "a string", "--save", "c"]);
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let err = child.stderr.take().expect("a pipe");
    let mut first = String::new();
    out.read_line(&mut first).expect("a row");
    assert!(first.contains("a string"), "{first}");
    let run = stop(child, out, err);
    assert_eq!(run.status, 3, "{}", run.err);
    let said = "c was not written: there is no whole answer";
    assert!(run.err.contains(said), "{}", run.err);
    let names = std::fs::read_dir(dir.path()).expect("readable");
    assert_eq!(names.count(), 1, "nothing is left but the image");
}

#[test]
fn rules_are_evaluated_over_what_was_looked_at() {
    let dir = tempfile::tempdir().expect("a directory");
    large(dir.path());
    // What is odd about a rule is told before the search begins.
    let rule = r#"rule z { strings: $a = "a string" $b = /a\ string/ condition: $a and $b }"#;
    std::fs::write(dir.path().join("z.yar"), rule).expect("writes");
    let mut child = start(dir.path(), "scan", &["--yara", "z.yar"]);
    let out = child.stdout.take().expect("a pipe");
    let mut err = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut first = String::new();
    err.read_line(&mut first).expect("a warning");
    assert!(first.contains("z.yar:1:"), "{first}");
    std::thread::sleep(Duration::from_secs(1));
    let run = stop(child, out, err);
    assert_eq!(run.status, 3, "{}", run.err);
    assert!(run.err.contains("stopped by Ctrl-C"), "{}", run.err);
    assert!(run.err.contains("coverage: "), "{}", run.err);
    let count = run.out.lines().count();
    assert!((2..2 * 4095).contains(&count), "{count}");
}

/// One source that was begun, and one whose turn never came: neither was looked at to its end, and the answer says so of each.
#[test]
fn sources_that_were_not_begun_are_no_answer() {
    let dir = tempfile::tempdir().expect("a directory");
    large(dir.path());
    std::fs::hard_link(dir.path().join("large.raw"), dir.path().join("later.raw")).expect("a link");
    let mut child = start(dir.path(), "strings", &["later.raw", "-o", "json"]);
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let err = child.stderr.take().expect("a pipe");
    let mut first = String::new();
    out.read_line(&mut first).expect("the head of the document");
    let run = stop(child, out, err);
    assert_eq!(run.status, 3, "{}", run.err);
    let document = format!("{first}{}", run.out);
    let document: serde_json::Value = serde_json::from_str(&document).expect("a document");
    let sources = document["sources"].as_array().expect("sources");
    let ends: Vec<(u64, bool)> = sources
        .iter()
        .map(|one| {
            (
                one["status"].as_u64().expect("a status"),
                one["error"].is_null(),
            )
        })
        .collect();
    assert_eq!(ends, [(3, true), (3, false)], "{sources:?}");
    assert!(
        run.err.contains("later.raw was not looked at"),
        "{}",
        run.err
    );
}
