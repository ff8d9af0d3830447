//! `cargo xtask install` and `cargo xtask capi`: the C library, put where C programs find it, and tested as they
//! use it.
//!
//! ```text
//! install   the library, its headers and vmie.pc under a prefix
//! headers   each alone, by every compiler, all warnings errors
//! symbols   symbols.txt = what the library exports = what the headers declare
//! examples  compiled by the line that stands in them, run, compared with what they printed before
//! tests     each by every compiler, plain, under valgrind, with AddressSanitizer; what they read from a guest
//!           is what the command says
//! live      a running QEMU, stopped and resumed by a C program, and ended under it
//! ```
//!
//! AddressSanitizer watches the C side and what the library does with memory of its own allocator, which it
//! replaces; valgrind watches everything.

mod agree;
mod changes;
mod compile;
mod examples;
mod guests;
mod install;
mod live;
mod pointers;
mod symbols;
mod system;

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) use self::install::install;
use vmie_lab::Snapshot;

use crate::{Fallible, target_dir, tools, workspace};

/// The headers, and so the test programs and examples.
const HEADERS: &[&str] = &[
    "memmodel", "sigscan", "scan", "narrow", "os", "snapdiff", "pmap",
];

/// Runs `cargo xtask capi ARGS`.
pub(crate) fn run(args: &[&str]) -> Fallible<()> {
    match args {
        // Where the lab was not built there is none to look at, which the last line tells.
        [] => test(Some(&Snapshot::all().unwrap_or_default())),
        ["--no-lab"] => test(None),
        _ => Err("usage: cargo xtask capi [--no-lab]".into()),
    }
}

/// All tests of the C library: on synthetic guests, and where there is a lab on its guests and on a running
/// QEMU.
pub(crate) fn test(lab: Option<&[Snapshot]>) -> Fallible<()> {
    tools::ensure_for_c()?;
    let dir = target_dir().join("capi");
    fs::create_dir_all(&dir)?;
    let dir = fs::canonicalize(dir)?;
    let installed = install::into(&dir.join("prefix"), install::Profile::Debug)?;
    compile::headers(&installed)?;
    symbols::compare(&installed)?;
    let demo = guests::demo(&dir.join("guest"))?;
    examples::run(&installed, &dir.join("examples"), &demo)?;
    let bare = guests::bare(&dir.join("guest"))?;
    let programs = compile::tests(&installed, &dir.join("tests"))?;
    for program in &programs {
        program.check(&bare)?;
    }
    let of_lab = guests::of_lab(lab.unwrap_or_default())?;
    for guest in &of_lab {
        system::compare(&programs, guest)?;
    }
    let mut all = vec![bare];
    all.extend(of_lab);
    for guest in &all {
        agree::compare(&programs, guest)?;
        changes::compare(&programs, guest, &dir)?;
        pointers::compare(&programs, guest, &dir)?;
    }
    let mut names: Vec<&str> = all.iter().map(|guest| guest.name.as_str()).collect();
    if lab.is_some() {
        live::run(&programs[0], &dir.join("live"))?;
        names.push("a running QEMU");
    }
    println!(
        "C library: {} headers, {} test programs, guests: {}",
        HEADERS.len(),
        programs.len(),
        names.join(", ")
    );
    Ok(())
}

/// Where the C library's sources are.
fn sources() -> PathBuf {
    workspace().join("crates/vmie-capi")
}

/// A path for command lines and messages.
fn shown(path: &Path) -> String {
    path.display().to_string()
}
