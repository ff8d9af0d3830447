//! The guest programs: `xtask/guest/*.cpp` and `*.c`, compiled with the host's g++.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::fingerprint::Fingerprint;
use crate::{Fallible, output, workspace};

/// The compiled programs with what they need, by their paths in the guest.
#[derive(Clone)]
pub(crate) struct Programs {
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

/// One program.
#[derive(Debug)]
struct Build {
    /// Its name in the guest.
    name: &'static str,
    sources: &'static [&'static str],
    /// What is common to its language.
    common: &'static [&'static str],
    flags: &'static [&'static str],
}

impl Build {
    const fn cpp(
        name: &'static str,
        sources: &'static [&'static str],
        flags: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            sources,
            common: &["-std=c++17", "-O2", "-g0", "-Wall", "-Wextra"],
            flags,
        }
    }

    /// Freestanding: the host's gcc has no 32-bit libraries.
    const fn c32(name: &'static str, flags: &'static [&'static str]) -> Self {
        Self {
            name,
            sources: &["program32.c"],
            common: &[
                "-x",
                "c",
                "-std=gnu11",
                "-m32",
                "-O1",
                "-g0",
                "-Wall",
                "-Wextra",
                "-ffreestanding",
                "-fno-stack-protector",
                "-nostdlib",
            ],
            flags,
        }
    }
}

const BUILDS: [Build; 7] = [
    Build::cpp(
        "objects-static",
        &["objects.cpp"],
        &["-static", "-fno-pie", "-no-pie"],
    ),
    Build::cpp(
        "objects-static-pie",
        &["objects.cpp"],
        &["-static-pie", "-fPIE"],
    ),
    Build::cpp("objects-dynamic", &["objects.cpp"], &["-fPIE", "-pie"]),
    Build::cpp(
        "crowd",
        &["crowd.cpp", "resident.cpp"],
        &["-static", "-pthread"],
    ),
    Build::cpp("witness", &["witness.cpp"], &["-static"]),
    Build::c32("program32", &["-static", "-fno-pie", "-no-pie"]),
    Build::c32("program32-pie", &["-static-pie", "-fPIE"]),
];

/// Compiles what has changed and collects everything.
pub(crate) fn build(lab: &Path) -> Fallible<Programs> {
    let sources = workspace().join("xtask/guest");
    let dir = lab.join("programs");
    fs::create_dir_all(&dir)?;
    let mut stamp = Fingerprint::default();
    // Folders hold what only some guests have.
    stamp.add_files(&sources)?;
    stamp.add("builds", format!("{BUILDS:?}").as_bytes());
    stamp.add("compiler", &output(Command::new("g++").arg("--version"))?);
    let stamp = stamp.text();
    let stamp_file = dir.join("stamp");
    if fs::read_to_string(&stamp_file).ok().as_deref() != Some(&stamp) {
        eprintln!("lab: compiling guest programs");
        for build in &BUILDS {
            let sources = build.sources.iter().map(|source| sources.join(source));
            output(
                Command::new("g++")
                    .args(build.common)
                    .arg(format!("-DNAME=\"{}\"", build.name))
                    .args(build.flags)
                    .arg("-o")
                    .arg(dir.join(build.name))
                    .args(sources),
            )?;
        }
        fs::write(&stamp_file, &stamp)?;
    }
    let mut files = Vec::new();
    for build in &BUILDS {
        let path = dir.join(build.name);
        files.push((format!("lab/{}", build.name), fs::read(&path)?));
        if build.flags.contains(&"-pie") {
            libraries(&path, &mut files)?;
        }
    }
    Ok(Programs { files })
}

/// The libraries of a dynamically linked program and its loader, as ldd finds them.
pub(super) fn libraries(program: &Path, files: &mut Vec<(String, Vec<u8>)>) -> Fallible<()> {
    let listed = String::from_utf8(output(Command::new("ldd").arg(program))?)?;
    for line in listed.lines() {
        // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)` or `/lib64/ld-linux... (0x...)`
        let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) else {
            continue;
        };
        files.push((path.to_owned(), fs::read(path)?));
    }
    Ok(())
}
