//! Transcripts of every verb on images of synthetic guests, under `tests/golden/`.
//!
//! A transcript is what a terminal would show: comments (`#`), commands (`$`), everything they print
//! on either stream, and `? N` where the exit status is not 0. The test runs the commands again and
//! compares. After a change that is meant, `SNAPSHOTS=overwrite cargo test -p vmie-cli golden` writes
//! the new transcripts; read the difference before you commit it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use vmie_synth::guest::{Machine, bare};
use vmie_synth::linux::{Btf, Kernel, KernelPlan};
use vmie_synth::write;

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

/// A directory with images of a guest without an operating system, `plain.elf` and `plain.raw`, and signatures for it,
/// `plain.toml`.
fn plain_images() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let guest = bare();
    let phys = &guest.machine.phys;
    let core = write::Elf {
        cpus: vec![guest.cpu],
        ..write::Elf::default()
    };
    let mut image = Vec::new();
    write::elf(&mut image, phys.ranges(), &mut &*phys, &core).expect("writes");
    std::fs::write(dir.path().join("plain.elf"), image).expect("writes");
    let mut image = Vec::new();
    write::raw(&mut image, phys.ranges(), &mut &*phys).expect("writes");
    std::fs::write(dir.path().join("plain.raw"), image).expect("writes");
    let signature = &guest.program.signature;
    let signatures = format!(
        "# Signatures for `vmie scan -f`, one a line.\n\
         report = \"{signature}\"\n\
         prologue = \"55 48 89 E5 B8 [4] 5D C3\"\n\
         banner = '\\x44\\x65\\x6d\\x6f\\x20\\x6b\\x65\\x72\\x6e\\x65\\x6c'\n"
    );
    std::fs::write(dir.path().join("plain.toml"), signatures).expect("writes");
    dir
}

/// Adds `later.elf`: the plain guest at a later moment, in which a player has lost a quarter of his health.
fn later_image(dir: &Path) {
    let mut bytes = std::fs::read(dir.join("plain.elf")).expect("the plain image");
    let player = [100f32, 50.0].map(f32::to_le_bytes).concat();
    let mut at = bytes.windows(8).enumerate();
    let at = at.find_map(|(at, window)| (window == player).then_some(at));
    let at = at.expect("a player");
    bytes[at..at + 4].copy_from_slice(&75f32.to_le_bytes());
    std::fs::write(dir.join("later.elf"), bytes).expect("writes");
}

/// Adds a Firecracker snapshot of the plain guest: `vm.mem` with `vm.state`, and `diff.mem`, which holds the page that
/// is different at the later moment and has holes for the rest.
fn firecracker_snapshot(dir: &Path) {
    use std::os::unix::fs::FileExt;

    let memory = std::fs::read(dir.join("plain.raw")).expect("the plain image");
    std::fs::write(dir.join("vm.mem"), &memory).expect("writes");
    let player = [100f32, 50.0].map(f32::to_le_bytes).concat();
    let at = memory.windows(8).position(|window| window == player);
    let at = at.expect("a player");
    let page = at / 4096 * 4096;
    let mut changed = memory[page..page + 4096].to_vec();
    changed[at - page..at - page + 4].copy_from_slice(&75f32.to_le_bytes());
    let diff = std::fs::File::create(dir.join("diff.mem")).expect("a file");
    diff.set_len(memory.len() as u64).expect("grows");
    diff.write_all_at(&changed, page as u64).expect("writes");

    // The CPU that the plain ELF core has.
    let cpu = write::Cpu {
        cr0: 0x8005_0033,
        cr3: 0x1_0009_d000,
        cr4: 0xb0,
        efer: 0xd01,
        rip: 0x5581_4a20_0100,
        rsp: 0x7ffd_3c5e_1fc0,
        code64: true,
        ..write::Cpu::default()
    };
    let ranges = [0..8 << 20, 0x1_0000_0000..0x1_0040_0000];
    let options = write::Firecracker {
        cpus: vec![cpu],
        ..write::Firecracker::default()
    };
    let state = write::firecracker(&ranges, &options);
    std::fs::write(dir.join("vm.state"), state).expect("writes");
}

/// Adds `zeros.avml`, in which blocks of zeros are their headers alone, and `overlap.elf`, two segments of which lie on
/// each other and differ in a byte.
fn odd_images(dir: &Path) {
    let mut source = |gpa: u64, buf: &mut [u8]| {
        buf.fill(if gpa & 0x1000 == 0 { 0 } else { 0x5a });
        Ok(())
    };
    let options = write::Avml {
        block: 0x1000,
        zeros: write::Zeros::HeaderOnly,
        ..write::Avml::default()
    };
    let mut image = Vec::new();
    write::avml(&mut image, &[0..0x5000], &mut source, &options).expect("writes");
    std::fs::write(dir.join("zeros.avml"), image).expect("writes");

    let mut image = Vec::new();
    let ranges = [0x1000..0x2000, 0x3000..0x4000];
    write::elf(&mut image, &ranges, &mut source, &write::Elf::default()).expect("writes");
    // The second one's physical address, and a byte of it.
    let paddr = 64 + 2 * 56 + 24;
    image[paddr..paddr + 8].copy_from_slice(&0x1000u64.to_le_bytes());
    let len = image.len();
    image[len - 0x1000 + 0x234] = 0x5b;
    std::fs::write(dir.join("overlap.elf"), image).expect("writes");
}

/// Adds images of a small Linux kernel: `kernel.raw`, and `bare.raw`, which has no types.
pub(crate) fn kernel_images(dir: &Path) {
    for (name, btf) in [("kernel.raw", kernel_types()), ("bare.raw", Vec::new())] {
        let mut machine = Machine::new(0..16 << 20);
        let plan = KernelPlan {
            load: 4 << 20,
            slide: 32 << 20,
            functions: 2000,
            btf,
            objects: vec![
                ("_ZN6Player6updateEi", 0x3_0000),
                ("_RNvCskwGfYPst2Cb_3foo16example_function", 0x3_0100),
            ],
            ..KernelPlan::default()
        };
        let kernel = Kernel::load(&mut machine, &plan);
        let task = kernel.gpa(kernel.symbol("init_task"));
        // The list of tasks leads back to its head.
        let head = kernel.symbol("init_task") + 8;
        machine.phys.write_uint(task + 8, head, 8);
        machine.phys.write_uint(task + 16, head, 8);
        machine.phys.write(task + 24, b"swapper\0");
        machine.phys.write_uint(task + 40, 0b101, 8);
        machine
            .phys
            .write_uint(task + 48, kernel.symbol("linux_banner"), 8);
        let ranges = machine.phys.ranges().to_vec();
        let mut source =
            |gpa: u64, buf: &mut [u8]| machine.phys.read(gpa, buf).map_err(std::io::Error::other);
        let mut file = std::fs::File::create(dir.join(name)).expect("a file");
        write::raw(&mut file, &ranges, &mut source).expect("writes");
    }
}

fn kernel_types() -> Vec<u8> {
    let mut w = Btf::default();
    let int = w.int("int", 4, 1);
    let char = w.int("char", 1, 1);
    let long = w.int("long unsigned int", 8, 0);
    let next = w.pointer(5);
    let head = w.structure("list_head", 16, &[("next", next, 0), ("prev", next, 64)]);
    assert_eq!(head, 5, "the pointer refers to it");
    let comm = w.array(char, int, 16);
    let text = w.pointer(char);
    let flags = w.bit_fields("", 8, &[("exiting", long, 0, 1), ("depth", long, 1, 3)]);
    let state = w.enumeration("state", false, &[("RUNNING", 0), ("STOPPED", 4)]);
    w.structure(
        "task_struct",
        64,
        &[
            ("pid", int, 0),
            ("state", state, 32),
            ("tasks", head, 64),
            ("comm", comm, 192),
            ("", flags, 320),
            ("version", text, 384),
        ],
    );
    w.bytes()
}

#[test]
fn transcripts() {
    let dir = plain_images();
    later_image(dir.path());
    firecracker_snapshot(dir.path());
    odd_images(dir.path());
    kernel_images(dir.path());
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

/// What is told about mistakes, on the images of the demo.
#[test]
fn mistakes_say_what_to_try() {
    let dir = demo_images();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes/mistakes.console");
    let expected = std::fs::read_to_string(&file).expect("a text file");
    let actual = replay(&expected, dir.path());
    let typed = actual.lines().filter(|line| line.starts_with("$ ")).count();
    assert!(typed >= 60, "{typed} mistakes");
    snapbox::assert_data_eq!(actual, snapbox::Data::read_from(&file, None).raw());
}

/// Text without the times at which it was made: a snapshot says when it was taken.
fn without_times(text: &str) -> String {
    let is_time = |word: &&str| word.len() == 24 && word.ends_with('Z') && word.contains('T');
    let times: Vec<&str> = text.split_whitespace().filter(is_time).collect();
    times
        .iter()
        .fold(text.to_owned(), |text, time| text.replace(time, "a time"))
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
    let tour = without_times(&String::from_utf8(tour.stdout).expect("UTF-8"));
    let mut typed = 0;
    for line in tour.lines().filter_map(|line| line.strip_prefix("$ ")) {
        let table = if line.contains(" -o ") {
            ""
        } else {
            " -o table"
        };
        let output = without_times(&run(&format!("{line}{table}"), dir.path()));
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

/// So do those of the README and the guide that are about the demo's images.
#[test]
fn the_manual_shows_commands_that_work() {
    let dir = demo_images();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let guide = std::fs::read_dir(root.join("docs/guide")).expect("the guide");
    let mut pages: Vec<PathBuf> = guide.map(|page| page.expect("a page").path()).collect();
    pages.push(root.join("README.md"));
    pages.sort_unstable();
    let mut typed = 0;
    for page in pages {
        let text = std::fs::read_to_string(&page).expect("a page");
        for line in text.lines() {
            let line = line.strip_prefix("$ ").unwrap_or(line);
            if line.starts_with("vmie ") && line.contains(" demo") {
                let output = run(line, dir.path());
                assert!(
                    !output.contains("? "),
                    "{}: {line}: {output}",
                    page.display()
                );
                typed += 1;
            }
        }
    }
    assert!(typed >= 10, "{typed} command lines");
}
