//! The guest programs: `xtask/guest/*.cpp`, compiled with the host's g++.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::fingerprint::Fingerprint;
use crate::{Fallible, output, workspace};

/// The compiled programs with what they need, by their paths in the guest.
pub(crate) struct Programs {
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

/// Name in the guest, source, flags.
const BUILDS: [(&str, &str, &[&str]); 5] = [
    (
        "objects-static",
        "objects.cpp",
        &["-static", "-fno-pie", "-no-pie"],
    ),
    (
        "objects-static-pie",
        "objects.cpp",
        &["-static-pie", "-fPIE"],
    ),
    ("objects-dynamic", "objects.cpp", &["-fPIE", "-pie"]),
    ("crowd", "crowd.cpp", &["-static", "-pthread"]),
    ("witness", "witness.cpp", &["-static"]),
];

const FLAGS: [&str; 5] = ["-std=c++17", "-O2", "-g0", "-Wall", "-Wextra"];

/// Compiles what has changed and collects everything.
pub(crate) fn build(lab: &Path) -> Fallible<Programs> {
    let sources = workspace().join("xtask/guest");
    let dir = lab.join("programs");
    fs::create_dir_all(&dir)?;
    let mut stamp = Fingerprint::default();
    stamp.add_dir(&sources)?;
    stamp.add("builds", format!("{BUILDS:?} {FLAGS:?}").as_bytes());
    stamp.add("compiler", &output(Command::new("g++").arg("--version"))?);
    let stamp = stamp.text();
    let stamp_file = dir.join("stamp");
    if fs::read_to_string(&stamp_file).ok().as_deref() != Some(&stamp) {
        eprintln!("lab: compiling guest programs");
        for (name, source, flags) in BUILDS {
            output(
                Command::new("g++")
                    .args(FLAGS)
                    .args(flags)
                    .arg("-o")
                    .arg(dir.join(name))
                    .arg(sources.join(source)),
            )?;
        }
        fs::write(&stamp_file, &stamp)?;
    }
    let mut files = Vec::new();
    for (name, _, flags) in BUILDS {
        let path = dir.join(name);
        files.push((format!("lab/{name}"), fs::read(&path)?));
        if flags.contains(&"-pie") {
            libraries(&path, &mut files)?;
        }
    }
    Ok(Programs { files })
}

/// The libraries of a dynamically linked program and its loader, as ldd finds them.
fn libraries(program: &Path, files: &mut Vec<(String, Vec<u8>)>) -> Fallible<()> {
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
