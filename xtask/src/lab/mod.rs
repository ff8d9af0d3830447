//! `cargo xtask lab`: real guests to test and to play with.
//!
//! A Debian kernel boots under QEMU's software emulation with an initramfs of busybox and our guest
//! programs. When all programs have said where their objects are, the CPUs are stopped and everything
//! is kept that can be compared with vmie's answers: see the crate `vmie-lab` for what a snapshot
//! holds, [`capture`] for how it is taken, and `guest/` for what runs inside.

mod capture;
mod catch;
mod check;
mod fingerprint;
mod guest;
mod headers;
mod initramfs;
mod kernel;
mod live;
mod machine;
mod matrix;
mod modules;
mod programs;
pub(crate) mod qmp;
mod resident;
mod scene;
mod sparse;
mod variant;
mod volatility;
mod witness;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use vmie_lab::{SCENES, STANDARD, Snapshot};

pub(crate) use self::check::guest_tests;
use self::fingerprint::Fingerprint;
use self::guest::Guest;
use self::initramfs::Tree;
use self::kernel::Kernel;
pub(crate) use self::live::live_tests;
use self::programs::Programs;
use self::variant::Variant;
use crate::{Fallible, output, target_dir, tools, workspace};

/// Runs `cargo xtask lab ARGS`.
pub(crate) fn run(args: &[&str]) -> Fallible<()> {
    match args {
        ["up"] => up(&variant::standard()[0]),
        ["up", name] => up(&by_name(name)?),
        ["up", ..] => Err("usage: cargo xtask lab up [VARIANT]".into()),
        ["live"] => live::run(),
        ["live", "--hold"] => live::run_and_hold(),
        ["clean"] => clean(),
        ["list"] => list(),
        ["matrix", names @ ..] => matrix::run(names),
        names => {
            let variants = if names.is_empty() {
                [variant::standard(), variant::scenes()].concat()
            } else {
                names
                    .iter()
                    .map(|name| by_name(name))
                    .collect::<Fallible<_>>()?
            };
            let snapshots = build(&variants)?;
            for snapshot in &snapshots {
                summary(snapshot);
            }
            Ok(())
        }
    }
}

/// Where the lab keeps everything.
pub(crate) fn dir() -> PathBuf {
    target_dir().join("lab")
}

/// Makes sure that there is a fresh snapshot of each variant.
///
/// # Errors
///
/// When a guest does not start: the lab is never left out silently.
pub(crate) fn build(variants: &[Variant]) -> Fallible<Vec<Snapshot>> {
    tools::ensure()?;
    let lab = dir();
    fs::create_dir_all(&lab)?;
    let _lock = lock(&lab)?;
    let programs = programs::build(&lab)?;
    variants
        .iter()
        .map(|variant| build_one(variant, &programs, &lab))
        .collect()
}

/// Makes sure that the standard variants have fresh snapshots.
pub(crate) fn build_standard() -> Fallible<Vec<Snapshot>> {
    build(&variant::standard())
}

/// Makes sure that the scenes have fresh snapshots.
pub(crate) fn build_scenes() -> Fallible<Vec<Snapshot>> {
    build(&variant::scenes())
}

fn build_one(variant: &Variant, programs: &Programs, lab: &Path) -> Fallible<Snapshot> {
    let kernel = kernel::fetch(&variant.kernel, lab)?;
    let programs = &of_variant(variant, programs, &kernel, lab)?;
    if let Err(error) = headers::ensure(&kernel.release, lab) {
        // Builds leave the archive, the headers before the kernels; the standard ones are there.
        if STANDARD.contains(&&*variant.name) || SCENES.contains(&&*variant.name) {
            return Err(error);
        }
        eprintln!(
            "lab: {}: types are not compared with headers: {error}",
            variant.name
        );
    }
    let fingerprint = fingerprint(variant, &kernel, programs)?;
    let dir = snapshot_dir(&variant.name);
    if let Some(snapshot) = fresh(&dir, &fingerprint) {
        return Ok(snapshot);
    }
    let started = Instant::now();
    eprintln!("lab: {}: booting {}", variant.name, kernel.release);
    let tree = Tree::build(programs, &modules::collect(&kernel, variant.modules)?)?;
    let run = lab.join("run").join(&variant.name);
    let mut guest = Guest::start(variant, &kernel, &tree, &run)?;
    guest.wait_until_ready()?;
    let booted = started.elapsed();

    // Everything goes to a draft first: a directory with a name is always whole.
    let draft = lab.join("snapshots").join(format!(".{}", variant.name));
    let _ = fs::remove_dir_all(&draft);
    fs::create_dir_all(&draft)?;
    let draft = fs::canonicalize(draft)?;
    capture::snapshot(guest, &kernel, &tree, &fingerprint, &draft)?;
    let _ = fs::remove_dir_all(&dir);
    fs::rename(&draft, &dir)?;
    let _ = fs::remove_dir_all(&run);
    eprintln!(
        "lab: {}: ready after {:.0} s, snapshot complete after {:.0} s",
        variant.name,
        booted.as_secs_f32(),
        started.elapsed().as_secs_f32()
    );
    Ok(Snapshot::load(&dir)?)
}

/// The programs of a guest: those of all, or also those of a scene.
fn of_variant(
    variant: &Variant,
    programs: &Programs,
    kernel: &Kernel,
    lab: &Path,
) -> Fallible<Programs> {
    match variant.scene {
        true => scene::with_scene(programs, kernel, lab),
        false => Ok(programs.clone()),
    }
}

/// The snapshot in `dir`, when it is whole and made from the same things.
fn fresh(dir: &Path, fingerprint: &str) -> Option<Snapshot> {
    let snapshot = Snapshot::load(dir).ok()?;
    let whole = snapshot
        .images
        .iter()
        .all(|image| snapshot.path(&image.file).is_file());
    (whole && snapshot.fingerprint == fingerprint).then_some(snapshot)
}

/// Stands for everything that goes into a snapshot.
fn fingerprint(variant: &Variant, kernel: &Kernel, programs: &Programs) -> Fallible<String> {
    let mut fingerprint = Fingerprint::default();
    fingerprint.add("variant", format!("{variant:?}").as_bytes());
    fingerprint.add("kernel", kernel.package.as_bytes());
    fingerprint.add("init", include_bytes!("../../guest/init"));
    for (path, content) in &programs.files {
        fingerprint.add(path, content);
    }
    fingerprint.add_dir(&workspace().join("xtask/src/lab"))?;
    fingerprint.add_dir(&workspace().join("crates/vmie-lab/src"))?;
    fingerprint.add_dir(&workspace().join("crates/vmie-synth/src/write"))?;
    let qemu = output(Command::new("qemu-system-x86_64").arg("--version"))?;
    fingerprint.add("qemu", &qemu);
    Ok(fingerprint.text())
}

/// Leaves a guest running until Ctrl-C.
fn up(variant: &Variant) -> Fallible<()> {
    tools::ensure()?;
    let lab = dir();
    fs::create_dir_all(&lab)?;
    let up = lab.join("up").join(&variant.name);
    let (kernel, tree) = {
        let _lock = lock(&lab)?;
        let kernel = kernel::fetch(&variant.kernel, &lab)?;
        let programs = of_variant(variant, &programs::build(&lab)?, &kernel, &lab)?;
        let tree = Tree::build(&programs, &modules::collect(&kernel, variant.modules)?)?;
        (kernel, tree)
    };
    eprintln!("lab: {}: booting {}", variant.name, kernel.release);
    let mut guest = Guest::start(variant, &kernel, &tree, &up)?;
    guest.wait_until_ready()?;
    let programs = capture::programs(&guest)?;
    let busy: Vec<u32> = programs
        .iter()
        .flat_map(|program| program.busy.iter().copied())
        .collect();
    let roots = catch::roots(&mut guest, &busy)?;

    println!("guest {} is running {}", variant.name, kernel.release);
    for block in guest.blocks() {
        println!("  RAM file     {}", guest.ram(&block).display());
    }
    println!("  QMP socket   {}", guest.socket().display());
    println!("  console      {}", up.join("console.log").display());
    println!("  roots        pid    --cr3");
    for program in &programs {
        for pid in &program.busy {
            println!("  {:<20} {pid:<6} {:#x}", program.name, roots[pid]);
        }
    }
    println!("try:");
    println!("  vmie ps qemu:{}", guest.socket().display());
    if let Some(program) = programs
        .iter()
        .find(|program| program.name == variant.current)
        && let Some(banner) = program.value("banner")
    {
        let source = match &guest.blocks()[..] {
            [block] => format!(
                "{} --layout {}",
                guest.ram(block).display(),
                variant.machine
            ),
            _ => format!("qemu:{}", guest.socket().display()),
        };
        let space = format!("--cr3 {:#x}", roots[&program.pid]);
        println!("  vmie maps {source} {space}");
        println!(
            "  vmie read {source} {space} {:#x}..+{:#x}",
            banner.va,
            banner.bytes.len()
        );
    }
    println!("Ctrl-C ends the guest.");
    guest.wait()?;
    fs::remove_dir_all(&up)?;
    Ok(())
}

fn clean() -> Fallible<()> {
    let lab = dir();
    if lab.exists() {
        let _lock = lock(&lab)?;
        fs::remove_dir_all(&lab).map_err(|error| format!("{}: {error}", lab.display()))?;
    }
    Ok(())
}

fn list() -> Fallible<()> {
    for variant in [variant::standard(), variant::scenes()].concat() {
        let dir = snapshot_dir(&variant.name);
        let state = match Snapshot::load(&dir) {
            Ok(snapshot) => format!("{} in {}", snapshot.kernel.release, dir.display()),
            Err(_) => "no snapshot".to_owned(),
        };
        println!("{:<12} {state}", variant.name);
    }
    Ok(())
}

/// A variant by its name; the matrix has to ask apt, so it comes last.
fn by_name(name: &str) -> Fallible<Variant> {
    let mut known = variant::standard();
    known.extend(variant::scenes());
    known.extend(variant::machines());
    let is_it = |variant: &Variant| variant.name == name;
    if let Some(variant) = known.into_iter().find(is_it) {
        return Ok(variant);
    }
    let variants = variant::matrix(&dir())?;
    let names: Vec<String> = variants
        .iter()
        .map(|variant| variant.name.clone())
        .collect();
    variants
        .into_iter()
        .find(is_it)
        .ok_or_else(|| format!("no variant {name}; there are {}", names.join(", ")).into())
}

/// A fresh snapshot of the variant with this name.
pub(crate) fn build_named(name: &str) -> Fallible<Snapshot> {
    let variant = by_name(name)?;
    let snapshot = build(std::slice::from_ref(&variant))?.pop();
    Ok(snapshot.expect("one snapshot for one variant"))
}

/// Where the snapshot of a variant is kept.
fn snapshot_dir(variant: &str) -> PathBuf {
    dir().join("snapshots").join(variant)
}

/// Two builds at once would overwrite each other's files: the second waits.
fn lock(lab: &Path) -> Fallible<File> {
    let file = File::create(lab.join("lock"))?;
    if file.try_lock().is_err() {
        eprintln!("lab: waiting for another `cargo xtask`");
        file.lock()?;
    }
    Ok(file)
}

fn summary(snapshot: &Snapshot) {
    let dir = snapshot.dir.display();
    println!(
        "{}: Linux {}, {} MiB, {} CPU(s), {} levels",
        snapshot.variant,
        snapshot.kernel.release,
        snapshot.machine.ram >> 20,
        snapshot.machine.cpus,
        if snapshot.machine.five_levels { 5 } else { 4 },
    );
    println!("  {dir}");
    for image in &snapshot.images {
        let options = image
            .layout
            .as_ref()
            .map_or(String::new(), |layout| format!(" --layout {layout}"));
        println!("    {}{options}", image.file.display());
    }
    println!(
        "  vmie maps {dir}/memory.elf --cr3 {:#x}     # {}",
        snapshot.current.root, snapshot.current.program
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_set_is_known_by_name_and_has_all_that_tests_require_of_it() {
        let standard = variant::standard();
        let names: Vec<&str> = standard.iter().map(|v| v.name.as_str()).collect();
        assert_eq!(names, STANDARD);
        let scenes = variant::scenes();
        let names: Vec<&str> = scenes.iter().map(|v| v.name.as_str()).collect();
        assert_eq!(names, SCENES);
        assert!(standard.iter().all(|v| !v.scene) && scenes.iter().all(|v| v.scene));
        assert!(standard.iter().any(|v| v.cpu.is_none()), "four levels");
        assert!(standard.iter().any(|v| v.cpu.is_some()), "five levels");
        assert!(standard.iter().any(|v| v.second_node_mib > 0), "two nodes");
    }
}
