//! What the command writes is there whole or not at all, and a failure names the file.
#![cfg(unix)]

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use crate::golden::kernel_images;
use crate::support::{command, guest};

/// A way to write a file.
struct Writer {
    name: &'static str,
    args: Vec<String>,
    /// Whether the argument is a directory that files are written into.
    into: bool,
}

/// Each of them, of what it takes some blocks to write.
fn writers(dir: &Path) -> Vec<Writer> {
    let guest = guest();
    let (elf, cr3) = (guest.elf(), guest.cr3_arg());
    kernel_images(dir);
    let kernel = dir.join("kernel.raw").display().to_string();
    let series = dir.join("series").display().to_string();
    let watch = ["snap", "watch", &elf, "--cr3", &cr3, "-O"];
    for more in [&[][..], &["--append"]] {
        let recorded = command()
            .args(watch)
            .args([&series, "--count", "1"])
            .args(more)
            .output();
        assert!(recorded.expect("runs").status.success());
    }
    let writer = |name, args: &[&str]| Writer {
        name,
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        into: false,
    };
    let find = [
        "find", &elf, "--cr3", &cr3, "--u8", "..", "--limit", "1", "--save",
    ];
    let compressed = "symbols export --isf -O FILE.xz";
    vec![
        writer("find --save", &find),
        writer("refs --save", &["refs", &kernel, "--kernel", "--save"]),
        writer("snap take", &["snap", "take", &kernel, "--phys", "-O"]),
        writer("snap series --html", &["snap", "series", &series, "--html"]),
        writer(
            "symbols export",
            &["symbols", "export", &kernel, "--isf", "-O"],
        ),
        writer(compressed, &["symbols", "export", &kernel, "--isf", "-O"]),
        Writer {
            into: true,
            ..writer(
                "snap watch",
                &["snap", "watch", &kernel, "--phys", "--count", "1", "-O"],
            )
        },
        Writer {
            into: true,
            ..writer("demo", &["demo", "--keep"])
        },
        Writer {
            into: true,
            ..writer("man", &["man"])
        },
    ]
}

impl Writer {
    fn target(&self, dir: &Path) -> String {
        let name = if self.name.contains(".xz") {
            "out.xz"
        } else {
            "out"
        };
        dir.join(name).display().to_string()
    }

    /// The command, that may write files of 1 KiB at most. With `told` it is told so when it writes more, and else
    /// killed in the middle of it.
    fn limited(&self, target: &str, told: bool) -> Command {
        let mut command = Command::new("sh");
        let trap = if told { "trap '' XFSZ; " } else { "" };
        command
            .args([
                "-c",
                &format!("{trap}ulimit -c 0; ulimit -f 2; exec \"$@\""),
            ])
            .args(["sh", env!("CARGO_BIN_EXE_vmie")])
            .args(&self.args)
            .arg(target);
        command
    }
}

/// Everything under a directory, with its bytes.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).expect("readable") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => {
                let bytes = fs::read(&path).expect("readable");
                all.push((path.display().to_string(), bytes));
            }
        }
    }
    all.sort();
    all
}

#[test]
fn a_writer_that_fails_or_is_killed_leaves_what_was_there() {
    let inputs = tempfile::tempdir().expect("a directory");
    for writer in writers(inputs.path()) {
        let name = writer.name;
        for old in [false, true] {
            for told in [true, false] {
                let dir = tempfile::tempdir().expect("a directory");
                let target = writer.target(dir.path());
                if old && writer.into {
                    // One of the files that it writes.
                    fs::create_dir(&target).expect("a directory");
                    for name in ["demo.elf", "vmie-addr.1", "vmie-find.1"] {
                        fs::write(Path::new(&target).join(name), "old").expect("writes");
                    }
                } else if old {
                    fs::write(&target, "old").expect("writes");
                }
                let before = files(dir.path());
                let run = writer.limited(&target, told).output().expect("runs");
                let err = String::from_utf8_lossy(&run.stderr);
                match told {
                    true => {
                        assert_eq!(run.status.code(), Some(2), "{name}: {err}");
                        assert!(err.contains(&target), "{name}: {err}");
                        assert!(err.contains("File too large"), "{name}: {err}");
                    }
                    false => {
                        let signal = run.status.signal();
                        // SIGXFSZ
                        assert_eq!(signal, Some(25), "{name}: {err}");
                    }
                }
                let after: Vec<_> = files(dir.path());
                // Of several files, those that fit are whole; `pages.vmie` is whole from its header on.
                let small = |one: &&(String, Vec<u8>)| !writer.into || before.contains(*one);
                let after: Vec<_> = after.iter().filter(small).collect();
                assert_eq!(after, before.iter().collect::<Vec<_>>(), "{name}");
                let hidden = files(dir.path())
                    .into_iter()
                    .any(|(path, _)| path.contains("/.vmie"));
                assert!(!hidden, "{name}");
            }
        }
    }
}

#[test]
fn a_place_that_cannot_be_written_to_is_named() {
    let inputs = tempfile::tempdir().expect("a directory");
    for writer in writers(inputs.path()) {
        let name = writer.name;
        // A file where a directory should be, which holds for root as well.
        let target = writer.target(&inputs.path().join("kernel.raw"));
        let run = command().args(&writer.args).arg(&target).output();
        let run = run.expect("runs");
        let err = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{name}: {err}");
        assert!(err.contains(&target), "{name}: {err}");
        assert!(err.contains("Not a directory"), "{name}: {err}");
    }
}

#[test]
fn what_was_written_is_no_image() {
    let dir = tempfile::tempdir().expect("a directory");
    for writer in writers(dir.path()) {
        let what = match writer.name {
            "find --save" => "it is a file of candidates that vmie saved, and not the memory",
            "refs --save" => "it is an index of pointers that vmie saved, and not the memory",
            "symbols export" => "it is a file of symbols and types (ISF), and not the memory",
            _ => continue,
        };
        let target = writer.target(dir.path());
        let run = command().args(&writer.args).arg(&target).output();
        let run = run.expect("runs");
        let err = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(0), "{}: {err}", writer.name);
        let run = command().args(["info", &target]).output().expect("runs");
        let err = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{err}");
        assert!(err.contains(what), "{err}");
    }
}
