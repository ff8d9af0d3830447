//! `cargo xtask bench`: the tables of BENCHMARKS.md, every figure from one run.

mod process;
mod ps;

use std::path::{Path, PathBuf};
use std::process::Command;

use vmie_lab::{ImageFormat, Snapshot};

use crate::{Fallible, cargo, lab, run as run_command, target_dir, tools};

/// Peers of the signatures bench that come as a library: Debian's package, and a name for its folder,
/// by which the bench tells them apart.
const LIBRARIES: [(&str, &str); 2] = [
    ("libhyperscan5", "hyperscan"),
    ("libvectorscan5", "vectorscan"),
];

const USAGE: &str = "\
usage: cargo xtask bench [paging | spaces | pointers | snapshots | dissect]
       cargo xtask bench signatures [NUMBER...] [literal | masked] [ENGINE...] [--ours]
       cargo xtask bench [scan | xref]
       cargo xtask bench ps [VARIANT]";

pub(crate) fn run(args: &[&str]) -> Fallible<()> {
    match args {
        ["paging", rest @ ..] => paging(rest),
        ["signatures", rest @ ..] => signatures(rest),
        ["scan"] => scan(),
        ["xref"] => run_command(&mut bench("xref")),
        ["ps", rest @ ..] => ps::run(rest),
        ["spaces"] => spaces(),
        ["pointers"] => on_guests("pointers"),
        ["snapshots"] => on_guests("snapshots"),
        ["dissect"] => run_command(bench("dissect").arg(target_dir().join("bench"))),
        [process::MEASURE, command @ ..] => process::report(command),
        [] => {
            paging(&[])?;
            spaces()?;
            on_guests("pointers")?;
            on_guests("snapshots")?;
            run_command(bench("dissect").arg(target_dir().join("bench")))?;
            signatures(&[])?;
            scan()?;
            run_command(&mut bench("xref"))?;
            ps::run(&[])
        }
        _ => Err(USAGE.into()),
    }
}

fn paging(args: &[&str]) -> Fallible<()> {
    let dir = target_dir().join("bench");
    run_command(bench("vmie-bench").arg(dir).args(args))
}

/// Whatever real guests there are, then a made one of scattered frames.
fn spaces() -> Fallible<()> {
    let guests = match Snapshot::all() {
        Ok(guests) => guests,
        Err(_) => lab::build_standard()?,
    };
    for guest in guests {
        let raw = guest.image(ImageFormat::Raw).ok_or("a raw image")?;
        println!("\n{}:\n", guest.variant);
        run_command(bench("spaces").arg(guest.path(&raw.file)).args(&raw.layout))?;
    }
    println!("\nmade:\n");
    run_command(&mut bench("spaces"))
}

/// A made space, then the kernels of whatever real guests there are.
fn on_guests(name: &str) -> Fallible<()> {
    let dir = target_dir().join("bench");
    run_command(bench(name).arg(&dir))?;
    let guests = match Snapshot::all() {
        Ok(guests) => guests,
        Err(_) => lab::build_standard()?,
    };
    for guest in guests {
        let raw = guest.image(ImageFormat::Raw).ok_or("a raw image")?;
        println!("\n{}:\n", guest.variant);
        let mut command = bench(name);
        run_command(
            command
                .arg(&dir)
                .arg(guest.path(&raw.file))
                .args(&raw.layout),
        )?;
    }
    Ok(())
}

fn signatures(args: &[&str]) -> Fallible<()> {
    // Any real guest will do.
    if Snapshot::all().is_err() {
        lab::build_standard()?;
    }
    run_command(
        bench("signatures")
            .args(args)
            .env("VMIE_LAB", lab::dir())
            .env("VMIE_BENCH_HS", libraries().join(":")),
    )
}

/// The command as a whole beside the engine alone.
fn scan() -> Fallible<()> {
    if Snapshot::all().is_err() {
        lab::build_standard()?;
    }
    run_command(cargo().args(["build", "--release", "--quiet", "--package", "vmie-cli"]))?;
    run_command(
        bench("signatures")
            .arg("scan")
            .env("VMIE_LAB", lab::dir())
            .env("VMIE_BENCH_BIN", target_dir().join("release/vmie")),
    )
}

fn bench(binary: &str) -> Command {
    let mut command = cargo();
    command.args([
        "run",
        "--release",
        "--quiet",
        "-p",
        "vmie-bench",
        "--bin",
        binary,
        "--",
    ]);
    command
}

/// The peers that could be had, fetched and unpacked without being installed: both call themselves
/// `libhs.so.5`, so only one of them could be.
fn libraries() -> Vec<String> {
    let mut files = Vec::new();
    for (package, name) in LIBRARIES {
        match library(package, &target_dir().join("bench/peers").join(name)) {
            Ok(file) => files.push(file.display().to_string()),
            Err(error) => eprintln!("{package} is left out: {error}"),
        }
    }
    files
}

fn library(package: &str, dir: &Path) -> Fallible<PathBuf> {
    if let Some(file) = shared_object(dir) {
        return Ok(file);
    }
    if tools::find("apt-get").is_none() || tools::find("dpkg-deb").is_none() {
        return Err("it is fetched with apt-get and dpkg-deb, which are not here".into());
    }
    std::fs::create_dir_all(dir)?;
    run_command(
        Command::new("apt-get")
            .args(["download", "-qq", package])
            .current_dir(dir),
    )?;
    let archive = std::fs::read_dir(dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|ext| ext == "deb"))
        .ok_or("apt-get fetched nothing")?;
    run_command(
        Command::new("dpkg-deb")
            .arg("--extract")
            .arg(archive)
            .arg(dir),
    )?;
    shared_object(dir).ok_or_else(|| format!("no libhs.so.5 in {package}").into())
}

/// Debian puts it into a folder named for the architecture.
fn shared_object(dir: &Path) -> Option<PathBuf> {
    std::fs::read_dir(dir.join("usr/lib"))
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("libhs.so.5")))
        .find(|path| path.is_file())
}
