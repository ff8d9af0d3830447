//! The tests that look at guests which run.

use std::fs;
use std::path::Path;
use std::process::ExitStatus;

use super::check::LAB_FEATURES;
use super::guest::Guest;
use super::initramfs::Tree;
use super::{dir, kernel, lock, modules, programs, variant};
use crate::{Fallible, everything, target_dir, tools};

/// Runs `cargo xtask lab live`.
pub(super) fn run() -> Fallible<()> {
    tools::ensure()?;
    crate::build_for_tests()?;
    match live_tests()?.success() {
        true => Ok(()),
        false => Err("tests failed".into()),
    }
}

/// Runs `cargo xtask lab live --hold`: guests to try a command on.
pub(super) fn run_and_hold() -> Fallible<()> {
    tools::ensure()?;
    with_guests(hold)
}

/// Boots the guests, runs the tests on them with the `vmie` that has been built, and ends them. They end
/// with this process in any case.
///
/// The tests kill the second guest. The first one must have answered on our own socket throughout.
pub(crate) fn live_tests() -> Fallible<ExitStatus> {
    with_guests(run_tests)
}

/// Boots the guests, and ends them after they have been used.
fn with_guests<T>(use_guests: fn(&Path) -> Fallible<T>) -> Fallible<T> {
    let lab = dir();
    fs::create_dir_all(&lab)?;
    let variants = variant::live();
    let mut guests = Vec::new();
    {
        let _lock = lock(&lab)?;
        let programs = programs::build(&lab)?;
        for variant in &variants {
            let kernel = kernel::fetch(&variant.kernel, &lab)?;
            let tree = Tree::build(&programs, &modules::collect(&kernel, variant.modules)?)?;
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
    let status = use_guests(&lab)?;
    // It answers, and runs.
    guests[0].rounds(1)?;
    drop(guests);
    fs::remove_dir_all(lab.join("live"))?;
    Ok(status)
}

fn run_tests(lab: &Path) -> Fallible<ExitStatus> {
    let mut command = everything("test");
    command
        .args(["--no-fail-fast", "--test", "live"])
        .args(["--features", LAB_FEATURES])
        .env("VMIE_LIVE", lab.join("live"))
        .env("VMIE_BIN", target_dir().join("debug/vmie"));
    Ok(command.status()?)
}

/// Tells where the guests are, and keeps them until a line is typed.
fn hold(lab: &Path) -> Fallible<()> {
    for variant in variant::live() {
        let socket = lab.join("live").join(&variant.name).join("qmp");
        println!("qemu:{}", socket.display());
    }
    println!("running until Enter is typed");
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}
