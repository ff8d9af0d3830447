//! The command as a whole beside the engine alone: `vmie scan` with 1,000 signatures over an image
//! file, and the same set over the same bytes in memory.
//!
//! The command has to start, read the signatures from a file, compile them, map the image and be handed
//! its pages by the operating system, cut windows, and print the matches. All that should cost
//! less than a third of what the engine takes. What the operating system takes for the pages alone is
//! shown as well: the engine over the file, mapped anew each time.
//!
//! Times are those of the CPU, in user mode and in the kernel.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

use vmie::signature::{EngineKind, Set};
use vmie::{AddrRange, Gpa, Image, Memory, OpenOptions};
use vmie_lab::{ImageFormat, Snapshot};

use crate::image::Image as Bytes;
use crate::rivals::Tally;
use crate::sample::{Pattern, Sampler};
use crate::{SEED, cpu_time, over};

const SIGNATURES: usize = 1_000;
const ROUNDS: usize = 15;
const AIM: f64 = 1.3;

/// Prints the table. The command is where the environment says, `VMIE_BENCH_BIN`; files go to a
/// directory beside it.
pub(crate) fn table(image: &Bytes) {
    let vmie = PathBuf::from(std::env::var_os("VMIE_BENCH_BIN").expect("the path of the command"));
    let dir = vmie.with_file_name("bench-scan");
    fs::create_dir_all(&dir).expect("a directory for the files");
    let composed = dir.join("composed.raw");
    fs::write(&composed, image.bytes()).expect("the image can be written");
    let snapshots = Snapshot::all().unwrap_or_else(|error| panic!("{error}"));
    let raw = snapshots[0]
        .image(ImageFormat::Raw)
        .expect("every snapshot has its RAM");
    let ram = snapshots[0].path(&raw.file);

    println!("### `vmie scan` with {SIGNATURES} signatures\n");
    println!(
        "| image | signatures | engine alone | mapped anew | the command | to alone | to mapped | aim | matches |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (kind, masked) in [("literal", false), ("masked", true)] {
        let patterns = Sampler::new(image, SEED ^ SIGNATURES as u64).take(SIGNATURES, masked);
        let file = dir.join(format!("{kind}.toml"));
        fs::write(&file, toml(&patterns)).expect("the signatures can be written");
        for (name, path) in [("composed", &composed), ("RAM of a guest", &ram)] {
            let bytes = fs::read(path).expect("the image can be read");
            race(name, kind, &vmie, path, &bytes, &file, &patterns);
        }
    }
    println!();
}

fn toml(patterns: &[Pattern]) -> String {
    let mut text = String::new();
    for (i, pattern) in patterns.iter().enumerate() {
        let _ = writeln!(text, "s{i} = \"{}\"", pattern.signature());
    }
    text
}

fn race(
    name: &str,
    kind: &str,
    vmie: &Path,
    path: &Path,
    bytes: &[u8],
    file: &Path,
    patterns: &[Pattern],
) {
    let signatures = patterns.iter().map(Pattern::signature).collect();
    let set = Set::compile_for(signatures, EngineKind::Auto).expect("they are valid");
    let mut command = Command::new(vmie);
    command
        .arg("scan")
        .arg(path)
        .args([
            "--phys",
            "--threads",
            "1",
            "--output",
            "jsonl",
            "--quiet",
            "--layout",
        ])
        .arg(format!("0+{}@0", bytes.len()))
        .arg("--file")
        .arg(file);
    let lines = command.output().expect("it runs").stdout;
    let lines = lines.iter().filter(|&&byte| byte == b'\n').count();
    command.stdout(Stdio::null());

    let layout = format!("0+{}@0", bytes.len()).parse().expect("a layout");
    let options = OpenOptions {
        layout: Some(layout),
        ..OpenOptions::default()
    };
    let all = AddrRange::new(Gpa(0), bytes.len() as u64).expect("not empty");
    let mapped_anew = || {
        let image = Image::open_with(path, &options).expect("opens");
        let bytes = image.borrow(all).expect("nobody writes to it");
        over(bytes, &set)
    };
    let [mut alone, mut mapped, mut whole] = [Duration::MAX; 3];
    let mut tally = Tally::default();
    for _ in 0..ROUNDS {
        let start = cpu_time();
        tally = over(bytes, &set);
        alone = alone.min(cpu_time().saturating_sub(start));
        let start = cpu_time();
        assert_eq!(mapped_anew().matches, tally.matches);
        mapped = mapped.min(cpu_time().saturating_sub(start));
        let start = children();
        let status = command.status().expect("it runs");
        whole = whole.min(children().saturating_sub(start));
        assert!(status.success());
    }
    assert_eq!(lines as u64, tally.matches, "both find the same");
    let ratio = |to: Duration| whole.as_secs_f64() / to.as_secs_f64();
    let verdict = if ratio(alone) <= AIM {
        "reached"
    } else {
        "**missed**"
    };
    let [alone_ms, mapped_ms, whole_ms] =
        [alone, mapped, whole].map(|time| time.as_secs_f64() * 1e3);
    println!(
        "| {name}, {} MiB | {kind} | {alone_ms:.1} ms | {mapped_ms:.1} ms | {whole_ms:.1} ms | {:.2} | {:.2} | {AIM}: {verdict} | {} |",
        bytes.len() >> 20,
        ratio(alone),
        ratio(mapped),
        tally.matches,
    );
}

/// CPU time of all commands that have ended.
fn children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("it is known");
    let time = usage.user_time() + usage.system_time();
    Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000)
}
