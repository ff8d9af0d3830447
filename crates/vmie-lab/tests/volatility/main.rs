//! Volatility 3 on a file that `vmie symbols export --isf` wrote, compared with what the guest says of itself.
//!
//! It checks the file by its own schema before it uses it. What runs is `xtask/volatility/run.py`, in the virtual
//! environment that xtask makes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde::Deserialize;
use vmie_lab::{ImageFormat, Page, PageRun, Process, Snapshot, volatility_dir};

const PLUGINS: [&str; 9] = [
    "linux.lsof.Lsof",
    "linux.malware.malfind.Malfind",
    "linux.malware.check_syscall.Check_syscall",
    "linux.sockstat.Sockstat",
    "linux.library_list.LibraryList",
    "linux.elfs.Elfs",
    "linux.pslist.PsList",
    "linux.psaux.PsAux",
    "linux.envars.Envars",
];

/// How many plugins run at a time.
const JOBS: &str = "2";

/// What a plugin had to say.
#[derive(Deserialize)]
struct Answer {
    seconds: f64,
    columns: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
    error: Option<String>,
}

impl Answer {
    /// All rows, reduced to these columns.
    fn rows(&self, columns: &[&str]) -> BTreeSet<Vec<&str>> {
        let place = |column: &&str| self.columns.iter().position(|one| one == column);
        let places: Vec<usize> = columns
            .iter()
            .map(|column| place(column).unwrap_or_else(|| panic!("{column}: {:?}", self.columns)))
            .collect();
        self.rows
            .iter()
            .map(|row| {
                places
                    .iter()
                    .map(|&at| row[at].as_deref().unwrap_or_default())
                    .collect()
            })
            .collect()
    }
}

/// The smallest of the guests that Volatility can read: it knows four levels of page tables, not five.
fn smallest() -> Option<Snapshot> {
    let snapshots = Snapshot::all().unwrap_or_else(|error| panic!("{error}"));
    let known = snapshots.into_iter().filter(|one| !one.machine.five_levels);
    known.min_by_key(|one| one.machine.ram)
}

/// The command under test: `$VMIE_BIN`, or the one that was built beside these tests.
fn vmie() -> PathBuf {
    std::env::var_os("VMIE_BIN").map_or_else(
        || {
            let test = std::env::current_exe().expect("a path");
            test.ancestors().nth(2).expect("a folder").join("vmie")
        },
        PathBuf::from,
    )
}

fn run(truth: &Snapshot, image: &Path, out: &Path) -> BTreeMap<&'static str, Answer> {
    let symbols = out.join("symbols");
    std::fs::create_dir_all(symbols.join("linux")).expect("a folder");
    let export = Command::new(vmie())
        .args(["symbols", "export", "--isf"])
        .arg(image)
        .arg("-O")
        .arg(symbols.join("linux/kernel.json"))
        .output()
        .expect("vmie, which `cargo xtask` builds");
    assert!(export.status.success(), "{export:?}");

    let python = volatility_dir().join("bin/python");
    assert!(
        python.is_file(),
        "no {}; `cargo xtask test` and `cargo xtask lab matrix` make it",
        python.display()
    );
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../xtask/volatility/run.py");
    let begin = Instant::now();
    let ran = Command::new(python)
        .arg(driver)
        .args([image, &symbols, out])
        .arg(JOBS)
        .args(PLUGINS)
        .env("XDG_CACHE_HOME", volatility_dir().join("cache"))
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&ran.stderr);
    let answers: BTreeMap<&str, Answer> = PLUGINS
        .into_iter()
        .filter_map(|plugin| {
            let text = std::fs::read(out.join(format!("{plugin}.json"))).ok()?;
            Some((plugin, serde_json::from_slice(&text).expect("an answer")))
        })
        .collect();
    for (plugin, answer) in &answers {
        assert_eq!(answer.error, None, "{} {plugin}", truth.variant);
    }
    assert!(
        ran.status.success(),
        "{}: {}\n{said}",
        truth.variant,
        ran.status
    );
    assert_eq!(answers.len(), PLUGINS.len(), "{said}");
    assert!(!said.contains("Traceback"), "{said}");
    let seconds: Vec<String> = answers
        .iter()
        .map(|(plugin, answer)| format!("{plugin} {:.0} s", answer.seconds))
        .collect();
    println!(
        "{}: {} plugins in {:.0} s: {}",
        truth.variant,
        answers.len(),
        begin.elapsed().as_secs_f32(),
        seconds.join(", ")
    );
    answers
}

/// The name of a process as it is in its `comm`: what a worker of the kernel did last is not part of it, and of the name
/// of another thread of the kernel 15 bytes.
fn name(process: &Process) -> String {
    let name = &process.name;
    let is_worker = name.starts_with(b"kworker/") && !name.starts_with(b"kworker/R-");
    let end = name.iter().position(|b| is_worker && b"+-".contains(b));
    let end = end.unwrap_or(name.len()).min(15);
    String::from_utf8_lossy(&name[..end]).into_owned()
}

/// Requires what the guest lists to be among the rows of a plugin.
fn require(
    what: &str,
    listed: impl IntoIterator<Item = Vec<String>>,
    rows: &BTreeSet<Vec<&str>>,
) -> usize {
    let listed: BTreeSet<Vec<String>> = listed.into_iter().collect();
    let missing: Vec<&Vec<String>> = listed
        .iter()
        .filter(|row| !rows.contains(&row.iter().map(String::as_str).collect::<Vec<_>>()))
        .collect();
    assert!(
        missing.is_empty(),
        "{what}: {missing:#?} are not among {rows:#?}"
    );
    listed.len()
}

#[test]
fn plugins_find_what_the_guest_lists() {
    let Some(truth) = smallest() else {
        println!("no guest with four levels of page tables: Volatility does not read the others");
        return;
    };
    let image = truth.image(ImageFormat::Elf).expect("every guest has one");
    let out = tempfile::tempdir().expect("a folder");
    let answers = run(&truth, &truth.path(&image.file), out.path());
    let rows = |plugin: &str, columns: &[&str]| answers[plugin].rows(columns);
    // Volatility leaves out what has ended.
    let processes = truth.processes().expect("readable").into_iter();
    let processes: Vec<Process> = processes.filter(|one| one.state != 'Z').collect();

    let listed = processes
        .iter()
        .map(|one| vec![one.pid.to_string(), name(one)]);
    let count = require("processes", listed, &rows(PLUGINS[6], &["PID", "COMM"]));
    assert!(count > 30, "{count}");
    let listed = processes
        .iter()
        .filter(|one| !one.cmdline.is_empty())
        .map(|one| {
            let words: Vec<_> = one
                .cmdline
                .iter()
                .map(|word| String::from_utf8_lossy(word))
                .collect();
            vec![one.pid.to_string(), name(one), words.join(" ")]
        });
    let count = require(
        "arguments",
        listed,
        &rows(PLUGINS[7], &["PID", "COMM", "ARGS"]),
    );
    assert!(count > 10, "{count}");

    let mut variables = Vec::new();
    let mut files = Vec::new();
    for process in &processes {
        let pid = process.pid;
        for variable in truth.environment(pid).expect("the guest told") {
            let (key, value) = variable.split_once('=').expect("a value");
            variables.push([pid.to_string(), key.to_owned(), value.to_owned()].to_vec());
        }
        for file in truth.open_files(pid).expect("the guest told") {
            files.push(vec![pid.to_string(), file.fd.to_string(), file.path]);
        }
    }
    let count = require(
        "variables",
        variables,
        &rows(PLUGINS[8], &["PID", "KEY", "VALUE"]),
    );
    assert!(count > 40, "{count}");
    let count = require(
        "files",
        files.clone(),
        &rows(PLUGINS[0], &["PID", "FD", "Path"]),
    );
    assert!(count > 40, "{count}");

    let mut sockets = Vec::new();
    for one in truth.listeners().expect("readable") {
        let state = if one.family.starts_with("udp") {
            "UNCONNECTED"
        } else {
            "LISTEN"
        };
        // Volatility shows the inode where others have a port.
        let port = if one.family == "unix" {
            one.inode
        } else {
            one.port.into()
        };
        let name = format!("socket:[{}]", one.inode);
        let owners = files.iter().filter(|file| file[2] == name);
        let before = sockets.len();
        sockets.extend(owners.map(|file| {
            let (pid, fd) = (file[0].clone(), file[1].clone());
            vec![
                pid,
                fd,
                one.address.clone(),
                port.to_string(),
                state.to_owned(),
            ]
        }));
        assert!(sockets.len() > before, "nobody holds {one:?}");
    }
    let columns = ["PID", "FD", "Source Addr", "Source Port", "State"];
    let count = require("sockets", sockets, &rows(PLUGINS[3], &columns));
    assert!(count >= 3, "{count}");

    // The first page of each program, and of each library of one that has some, as far as it is in its page tables: a
    // child need not have touched it.
    let firsts = |process: &Process| {
        let first = process
            .vmas
            .iter()
            .filter(|vma| vma.offset == 0 && vma.path.starts_with('/'));
        first
            .map(|vma| (vma.range.start, vma.path.clone()))
            .collect::<Vec<_>>()
    };
    let mut images = Vec::new();
    let mut libraries = Vec::new();
    for process in processes.iter().filter(|one| !one.exe.is_empty()) {
        let is_there = |va: u64| {
            let present = |run: &PageRun| matches!(run.page, Page::Present { .. });
            let within = |run: &PageRun| run.va <= va && va < run.va + run.count * 4096;
            process.pages.iter().any(|run| present(run) && within(run))
        };
        for (va, path) in firsts(process).into_iter().filter(|one| is_there(one.0)) {
            let row = vec![process.pid.to_string(), format!("{va:#x}"), path.clone()];
            if path == process.exe {
                images.push(row.clone());
            }
            if path.contains(".so") {
                images.push(row.clone());
                libraries.push(row);
            }
        }
    }
    let count = require(
        "programs",
        images,
        &rows(PLUGINS[5], &["PID", "Start", "File Path"]),
    );
    assert!(count > 10, "{count}");
    let count = require(
        "libraries",
        libraries,
        &rows(PLUGINS[4], &["Pid", "LoadAddress", "Path"]),
    );
    assert!(count >= 4, "{count}");

    // What the programs say that they map to be executed and written.
    let programs = truth.programs().expect("readable");
    let areas = programs.iter().flat_map(|program| {
        let rwx = program.areas.iter().filter(|area| area.name == "rwx");
        rwx.map(|area| {
            vec![
                program.pid.to_string(),
                format!("{:#x}", area.va),
                "rwx".to_owned(),
            ]
        })
    });
    let count = require(
        "code",
        areas,
        &rows(PLUGINS[1], &["PID", "Start", "Protection"]),
    );
    assert_eq!(count, 1);

    // Nobody has replaced a system call: each leads to a function that the guest names.
    let kallsyms = truth.guest_text("kallsyms").expect("readable");
    let functions: BTreeSet<(u64, &str)> = kallsyms
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let va = u64::from_str_radix(words.next()?, 16).ok()?;
            Some((va, words.nth(1)?))
        })
        .collect();
    let calls = rows(PLUGINS[2], &["Index", "Handler Address", "Handler Symbol"]);
    assert!(calls.len() > 300, "{}", calls.len());
    for call in &calls {
        let va = call[1]
            .strip_prefix("0x")
            .and_then(|va| u64::from_str_radix(va, 16).ok());
        let va = va.unwrap_or_else(|| panic!("{call:?}"));
        // Volatility shortens addresses to 48 bits.
        let known = |va: u64| functions.contains(&(va, call[2]));
        assert!(known(va) || known(va | 0xffff << 48), "{call:?}");
    }
}
