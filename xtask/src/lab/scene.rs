//! What a guest with a scene has beside what every guest has: actors that plant all that a responder asks about,
//! a witness that says more, and modules of the kernel, two of which hide (`xtask/guest/scene/`).
//!
//! The modules are made for each kernel with Debian's own headers and build scripts, which are downloaded, used once
//! and thrown away; the modules are kept in `target/lab/scene/RELEASE/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::fingerprint::Fingerprint;
use super::headers;
use super::kernel::Kernel;
use super::programs::{self, Programs};
use crate::{Fallible, output, tools, workspace};

/// Of which the actors are made.
const ACTORS: [&str; 18] = [
    "main.c",
    "sha256.c",
    "files.c",
    "cache.c",
    "links.c",
    "net.c",
    "netns.c",
    "creds.c",
    "threads.c",
    "states.c",
    "identity.c",
    "environment.c",
    "code.c",
    "container.c",
    "shell.c",
    "hidden.c",
    "bpf.c",
    "scene.h",
];

const C: [&str; 6] = ["-std=gnu11", "-O2", "-g0", "-Wall", "-Wextra", "-pthread"];

/// In the order in which they are loaded.
const MODULES: [&str; 3] = ["lantern", "veil", "shade"];

/// Programs of the host's that the guest uses as they are, and where they go.
const BORROWED: [(&str, &str); 2] = [("bash", "bin/bash"), ("mke2fs", "lab/mke2fs")];

/// The programs of all guests, and those of a scene.
pub(crate) fn with_scene(programs: &Programs, kernel: &Kernel, lab: &Path) -> Fallible<Programs> {
    let mut files = programs.files.clone();
    let mut add = |path: &str, content: Vec<u8>| {
        // Several programs need the same libraries.
        if files.iter().all(|(known, _)| known != path) {
            files.push((path.to_owned(), content));
        }
    };
    let sources = sources();
    let dir = lab.join("scene");
    compile(&sources, &dir)?;
    for (name, path) in [
        ("scene", "lab/scene"),
        ("lab-hook.so", "lib/lab-hook.so"),
        ("scene-witness", "lab/scene-witness"),
    ] {
        add(path, fs::read(dir.join(name))?);
    }
    add("lab/scene-init", fs::read(sources.join("init"))?);
    let mut needed = Vec::new();
    programs::libraries(&dir.join("scene"), &mut needed)?;
    for (name, path) in BORROWED {
        let program = tools::find(name).ok_or_else(|| format!("{name} is not installed"))?;
        programs::libraries(&program, &mut needed)?;
        add(path, fs::read(&program)?);
    }
    for (path, content) in needed {
        add(&path, content);
    }
    let modules = modules(&kernel.release, &dir)?;
    for name in MODULES {
        let file = format!("{name}.ko");
        add(
            &format!("lab/scene-modules/{file}"),
            fs::read(modules.join(file))?,
        );
    }
    Ok(Programs { files })
}

fn sources() -> PathBuf {
    workspace().join("xtask/guest/scene")
}

/// The programs and the library, when something of them has changed.
fn compile(sources: &Path, dir: &Path) -> Fallible<()> {
    fs::create_dir_all(dir)?;
    let mut stamp = Fingerprint::default();
    stamp.add_files(sources)?;
    stamp.add_files(&sources.join(".."))?;
    stamp.add("orders", &fs::read(sources.join("module/orders.h"))?);
    stamp.add("flags", format!("{ACTORS:?} {C:?}").as_bytes());
    stamp.add("compiler", &output(Command::new("gcc").arg("--version"))?);
    let (stamp, file) = (stamp.text(), dir.join("stamp"));
    if fs::read_to_string(&file).ok().as_deref() == Some(&stamp) {
        return Ok(());
    }
    eprintln!("lab: compiling the programs of a scene");
    let actors = ACTORS.iter().filter(|name| name.ends_with(".c"));
    output(
        Command::new("gcc")
            .args(C)
            .args(["-fPIE", "-pie", "-o"])
            .arg(dir.join("scene"))
            .args(actors.map(|name| sources.join(name))),
    )?;
    output(
        Command::new("gcc")
            .args(C)
            .args(["-fPIC", "-shared", "-o"])
            .arg(dir.join("lab-hook.so"))
            .arg(sources.join("hook.c")),
    )?;
    output(
        Command::new("g++")
            .args(["-std=c++17", "-O2", "-g0", "-Wall", "-Wextra", "-DSCENE"])
            .args(["-static", "-o"])
            .arg(dir.join("scene-witness"))
            .arg(sources.join("../witness.cpp"))
            .arg(sources.join("truth.cpp")),
    )?;
    fs::write(&file, &stamp)?;
    Ok(())
}

/// The folder with the modules for a kernel, which are made when something of them has changed.
fn modules(release: &str, dir: &Path) -> Fallible<PathBuf> {
    let sources = sources().join("module");
    let dir = dir.join(release);
    let mut stamp = Fingerprint::default();
    stamp.add_files(&sources)?;
    let (stamp, file) = (stamp.text(), dir.join("stamp"));
    if fs::read_to_string(&file).ok().as_deref() == Some(&stamp) {
        return Ok(dir);
    }
    eprintln!("lab: making the modules of a scene for {release}");
    let scratch = dir.join("scratch");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch)?;
    let scratch = fs::canonicalize(scratch)?;
    let made = make(release, &sources, &scratch, &dir);
    let _ = fs::remove_dir_all(&scratch);
    made.map_err(|error| format!("modules for {release}: {error}"))?;
    fs::write(&file, &stamp)?;
    Ok(dir)
}

fn make(release: &str, sources: &Path, scratch: &Path, into: &Path) -> Fallible<()> {
    headers::unpack_to_build(release, scratch)?;
    let work = scratch.join("module");
    fs::create_dir(&work)?;
    for entry in fs::read_dir(sources)? {
        let entry = entry?;
        fs::copy(entry.path(), work.join(entry.file_name()))?;
    }
    let headers = scratch.join(format!("usr/src/linux-headers-{release}"));
    output(
        Command::new("make")
            .arg("-C")
            .arg(&headers)
            .arg(format!("M={}", work.display()))
            .arg("modules"),
    )?;
    for name in MODULES {
        let file = format!("{name}.ko");
        fs::copy(work.join(&file), into.join(&file))?;
    }
    Ok(())
}
