//! The tests that look at guests which run.

use std::fs;
use std::process::ExitStatus;

use super::guest::Guest;
use super::initramfs::Tree;
use super::{dir, kernel, lock, modules, programs, variant};
use crate::{Fallible, cargo, target_dir, tools};

/// Runs `cargo xtask lab live`.
pub(super) fn run() -> Fallible<()> {
    tools::ensure()?;
    crate::run(cargo().args(["build", "--package", "vmie-cli"]))?;
    match live_tests()?.success() {
        true => Ok(()),
        false => Err("tests failed".into()),
    }
}

/// Boots the guests, runs the tests on them with the `vmie` that has been built, and ends them. They end
/// with this process in any case.
///
/// The tests kill the second guest. The first one must have answered on our own socket throughout.
pub(crate) fn live_tests() -> Fallible<ExitStatus> {
    let lab = dir();
    fs::create_dir_all(&lab)?;
    let variants = variant::live();
    let mut guests = Vec::new();
    {
        let _lock = lock(&lab)?;
        let programs = programs::build(&lab)?;
        for variant in &variants {
            let kernel = kernel::fetch(&variant.kernel, &lab)?;
            let tree = Tree::build(&programs, &modules::collect(&kernel)?)?;
            let run = lab.join("live").join(&variant.name);
            eprintln!("lab: live {}: booting {}", variant.name, kernel.release);
            guests.push(Guest::start(variant, &kernel, &tree, &run)?);
        }
    }
    for (guest, variant) in guests.iter_mut().zip(&variants) {
        guest.wait_until_ready()?;
        // What the programs in it say about themselves, for the tests.
        let run = lab.join("live").join(&variant.name);
        fs::create_dir_all(run.join("programs"))?;
        for (name, text) in guest.files("programs/") {
            fs::write(run.join(name), text)?;
        }
    }
    let mut command = cargo();
    command
        .args(["test", "--no-fail-fast", "--package", "vmie-lab"])
        .args(["--test", "live", "--features", "live"])
        .env("VMIE_LIVE", lab.join("live"))
        .env("VMIE_BIN", target_dir().join("debug/vmie"));
    let status = command.status()?;
    // It answers, and runs.
    guests[0].rounds(1)?;
    drop(guests);
    fs::remove_dir_all(lab.join("live"))?;
    Ok(status)
}
