//! The exit status is a contract, and so is what goes to which stream.

use std::process::Stdio;

use crate::support::{BIG, CODE, DATA, LOST, SIG, command, for_rows, guest, in_space, vmie};

fn hex(value: u64) -> String {
    format!("{value:#x}")
}

#[test]
fn found_is_0() {
    for (verb, args) in [
        ("maps", vec![]),
        ("vtop", vec![hex(CODE)]),
        ("read", vec![format!("{CODE:#x}..+16")]),
        ("scan", vec!["-s".into(), SIG.into()]),
        ("find", vec!["--bytes".into(), "E8 22".into()]),
        ("strings", vec!["--min".into(), "1".into()]),
        // mov rax, [rip+0x3322e811]
        ("xref", vec!["--to".into(), "0x33630814".into()]),
    ] {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let run = in_space(verb, &args);
        assert_eq!(run.status, 0, "{verb}: {}", run.err);
        assert!(!run.out.is_empty(), "{verb}");
    }
    assert_eq!(vmie(&["info", &guest().elf()]).status, 0);
}

#[test]
fn nothing_found_is_1_and_prints_no_row() {
    for (verb, args) in [
        ("maps", vec!["--range", "0x1000..0x2000"]),
        ("maps", vec!["--perm", "wx", "--range", "0..0x800000000000"]),
        ("scan", vec!["-s", "DE AD C0 DE 12 34 56 78"]),
        ("find", vec!["--u64", "0x78563412dec0adde"]),
        ("strings", vec!["--min", "64"]),
        ("xref", vec!["--to", "0x33630815"]),
    ] {
        let run = in_space(verb, &args);
        assert_eq!(
            (run.status, run.out.as_str()),
            (1, ""),
            "{verb}: {}",
            run.err
        );
    }
    let run = in_space("vtop", &["0x1000"]);
    assert_eq!(run.status, 1, "{}", run.err);
    assert!(
        run.out.contains(r#""gpa":null"#),
        "the steps are shown: {}",
        run.out
    );
}

#[test]
fn errors_are_2_and_print_nothing_on_stdout() {
    let elf = guest().elf();
    let zeros = guest().path("zeros.raw").display().to_string();
    let cr3 = guest().cr3_arg();
    let in_lost = format!("{LOST:#x}..+0x1000");
    let at_lost = hex(LOST);
    let in_absent = format!("{:#x}..+0x1000", DATA + 0x1000);
    let outside = "0x7fff00000000..+16".to_owned();
    for args in [
        vec!["maps", "/nonexistent/image", "--phys"],
        vec!["maps", &elf],
        vec!["maps", &elf, "--cr3"],
        vec!["maps", &elf, "--cr3", "12ab"],
        vec!["maps", &elf, "--cr3", &cr3, "--phys"],
        vec!["maps", &elf, "--cr3", "0x7ff000", "--paging", "4level"],
        vec![
            "maps",
            &elf,
            "--cr3",
            "0x123456789000",
            "--paging",
            "4level",
        ],
        vec!["maps", &zeros, "--cr3", "0x1000"],
        vec!["maps", &elf, "--phys", "--extents"],
        vec!["maps", &elf, "--cr3", &cr3, "--range", &in_lost],
        vec!["vtop", &elf, "--cr3", &cr3, &at_lost],
        vec!["vtop", &elf, "--phys", "0x1000"],
        vec!["vtop", &elf, "--cr3", &cr3, "kernel_start"],
        vec!["read", &elf, "--cr3", &cr3, "0x401000+64"],
        vec!["maps", &elf, "--cr3", &cr3, "--range", "0x401000"],
        vec!["read", &elf, "--cr3", &cr3, &in_lost],
        vec!["read", &elf, "--cr3", &cr3, &in_absent],
        vec!["read", &elf, "--cr3", &cr3, &in_absent, "--as", "raw"],
        vec![
            "read", &elf, "--cr3", &cr3, &in_absent, "--as", "raw", "--fill", "0",
        ],
        vec!["read", &elf, "--cr3", &cr3, &outside],
        vec!["read", &elf, "--cr3", &cr3, "0x401000..+16", "--fill", "0"],
        vec!["read", &elf, "--cr3", &cr3, "0x401000..+16", "--bits", "64"],
        vec!["scan", &elf, "--cr3", &cr3],
        vec!["scan", &elf, "--cr3", &cr3, "-s", "48 8B GG"],
        vec!["scan", &elf, "--cr3", &cr3, "-f", "/nonexistent/sigs.toml"],
        vec!["scan", &elf, "--cr3", &cr3, "-s", "90", "--perm", "q"],
        vec!["scan", &elf, "--cr3", &cr3, "-s", "90", "--range", &in_lost],
        vec![
            "scan", &elf, "--cr3", &cr3, "-s", "90", "--range", &in_absent,
        ],
        vec![
            "scan", &elf, "--cr3", "0x7ff000", "--paging", "4level", "-s", "90",
        ],
        vec!["info", &elf, "--limit", "0"],
        vec!["nosuchverb"],
        vec![],
    ] {
        let run = vmie(&args);
        assert_eq!(run.status, 2, "{args:?}: {}{}", run.out, run.err);
        assert!(!run.err.is_empty(), "{args:?} says why");
        let answers = args.first() == Some(&"vtop") && args.last() == Some(&at_lost.as_str());
        assert!(run.out.is_empty() || answers, "{args:?}: {}", run.out);
    }
}

#[test]
fn incomplete_is_3_under_strict_only() {
    let with_hole = format!("{DATA:#x}..+0x3000");
    let lost_and_good = [hex(LOST), hex(CODE)];
    for (verb, args) in [
        ("maps", vec![]),
        ("read", vec![with_hole.as_str()]),
        ("scan", vec!["-s", SIG]),
        ("scan", vec!["-s", "DE AD C0 DE 12 34 56 78"]),
        ("vtop", lost_and_good.iter().map(String::as_str).collect()),
    ] {
        let plain = in_space(verb, &args);
        assert!(plain.status < 2, "{verb}: {}", plain.err);
        let mut strict = args.clone();
        strict.push("--strict");
        let run = in_space(verb, &strict);
        assert_eq!(run.status, 3, "{verb} {strict:?}: {}", run.err);
        assert_eq!(run.out, plain.out, "--strict changes the status only");
    }
    let range = format!("{CODE:#x}..+0x2000");
    for args in [
        vec!["maps", "--range", &range],
        vec!["read", &range],
        vec!["scan", "--range", &range, "-s", SIG],
        vec!["vtop", "0x401000"],
    ] {
        let mut strict = args[1..].to_vec();
        strict.push("--strict");
        assert_eq!(in_space(args[0], &strict).status, 0, "{args:?}");
    }
}

/// Runs the command with nobody at the other end of the pipe.
fn into_closed_pipe(args: &[&str]) {
    let mut child = command()
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {err}");
    let complains = err.lines().any(|line| line.starts_with("error"));
    assert!(!complains && !err.contains("panicked"), "{args:?}: {err}");
}

#[test]
fn a_closed_pipe_is_success() {
    let (elf, cr3) = (guest().elf(), guest().cr3_arg());
    let big = format!("{BIG:#x}..+2MiB");
    for format in ["table", "jsonl", "json", "csv"] {
        into_closed_pipe(&["read", &elf, "--cr3", &cr3, &big, "-o", format]);
    }
    into_closed_pipe(&["read", &elf, "--cr3", &cr3, &big, "--as", "raw"]);
    into_closed_pipe(&["scan", &elf, "--cr3", &cr3, "-s", "00 00"]);
    into_closed_pipe(&["man"]);
    into_closed_pipe(&["completions", "bash"]);
    into_closed_pipe(&["demo"]);
    into_closed_pipe(&["--help"]);
}

#[test]
fn a_full_disk_is_an_error() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        return;
    };
    let output = command()
        .args(["info", &guest().elf()])
        .stdout(full)
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(2));
}

/// A search that would take long is stopped when its first rows are there.
#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_was_found() {
    use std::fs::File;
    use std::io::{BufRead as _, BufReader, Read as _};
    use std::os::unix::fs::FileExt as _;
    use std::process::Command;

    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("large.raw");
    let file = File::create(&path).expect("a file");
    // Holes for the most part: large to look at, and nothing on the disk.
    file.set_len(16 << 30).expect("a large file");
    for at in (0..16u64 << 30).step_by(8 << 20) {
        file.write_all_at(b"a string", at).expect("written");
    }
    drop(file);
    let mut child = for_rows()
        .args(["strings", &path.display().to_string()])
        .args(["--phys", "--layout", "0+16GiB@0", "-j", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut rows = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut first = String::new();
    rows.read_line(&mut first).expect("a row");
    assert!(first.contains("a string"), "{first}");
    let pid = child.id().to_string();
    let killed = Command::new("kill").args(["-INT", &pid]).status();
    assert!(killed.expect("kill runs").success());
    let mut rest = String::new();
    rows.read_to_string(&mut rest).expect("more rows");
    let mut errors = String::new();
    let mut stderr = child.stderr.take().expect("a pipe");
    stderr.read_to_string(&mut errors).expect("text");
    let status = child.wait().expect("it ends");
    // There is an answer, and a part was not looked at.
    assert_eq!(status.code(), Some(3), "{errors}");
    assert!(errors.contains("stopped by Ctrl-C"), "{errors}");
    assert!(errors.contains("coverage: "), "{errors}");
    assert!(rest.lines().count() < 2047, "all of it");
}
