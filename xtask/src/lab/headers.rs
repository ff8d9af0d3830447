//! A second truth about types: what a compiler makes of a kernel's own headers.
//!
//! A kernel's BTF says how its structures lie in memory, and so does pahole, which reads BTF too. A
//! compiler that is given the headers of the same build, with its configuration, knows nothing of BTF.
//! From `xtask/headers/all.c` it makes an object file with debug information of everything that the
//! headers declare, and with that the tests compare.
//!
//! The headers are Debian's packages, downloaded, used once and thrown away; the object file is kept as
//! `target/lab/headers/RELEASE.o`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use super::fingerprint::Fingerprint;
use crate::{Fallible, output, tools, workspace};

/// As the kernel is compiled, where that has to do with how types lie in memory or with what the headers
/// insist on.
const FLAGS: [&str; 21] = [
    "-c",
    "-g",
    "-O1",
    "-w",
    "-std=gnu11",
    "-nostdinc",
    "-fshort-wchar",
    "-fno-pie",
    "-m64",
    "-mno-red-zone",
    "-mno-sse",
    "-mcmodel=kernel",
    "-pg",
    "-mfentry",
    "-DCC_USING_FENTRY",
    "-D__KERNEL__",
    "-DMODULE",
    "-DKBUILD_MODNAME=\"all\"",
    "-DKBUILD_BASENAME=\"all\"",
    // What nothing uses is what this is about.
    "-fno-eliminate-unused-debug-types",
    "-fno-eliminate-unused-debug-symbols",
];

/// Where headers are: generated ones below the flavour's own folder, others below the shared one.
const FOLDERS: [&str; 7] = [
    "arch/x86/include",
    "arch/x86/include/generated",
    "include",
    "arch/x86/include/uapi",
    "arch/x86/include/generated/uapi",
    "include/uapi",
    "include/generated/uapi",
];

/// Included before everything else.
const FIRST: [&str; 3] = ["compiler-version.h", "kconfig.h", "compiler_types.h"];

/// Makes sure that the object file for a kernel is there.
///
/// # Errors
///
/// When the archive does not have the headers of this build, or they do not compile.
pub(crate) fn ensure(release: &str, lab: &Path) -> Fallible<()> {
    let source = workspace().join("xtask/headers/all.c");
    let dir = lab.join("headers");
    let object = dir.join(format!("{release}.o"));
    let stamp_file = dir.join(format!("{release}.stamp"));
    let mut stamp = Fingerprint::default();
    stamp.add("source", &fs::read(&source)?);
    stamp.add(
        "flags",
        format!("{FLAGS:?} {FOLDERS:?} {FIRST:?}").as_bytes(),
    );
    let stamp = stamp.text();
    if object.is_file() && fs::read_to_string(&stamp_file).ok().as_deref() == Some(&stamp) {
        return Ok(());
    }
    let scratch = dir.join(format!(".{release}"));
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch)?;
    eprintln!("lab: compiling the headers of {release}");
    let made = unpack(release, &scratch).and_then(|()| compile(&source, &scratch, &object));
    let _ = fs::remove_dir_all(&scratch);
    made.map_err(|error| format!("headers of {release}: {error}"))?;
    fs::write(&stamp_file, &stamp)?;
    Ok(())
}

/// Unpacks the headers of this build, and those that it shares with other flavours, into `scratch`.
fn unpack(release: &str, scratch: &Path) -> Fallible<()> {
    let own = download(&format!("linux-headers-{release}"), scratch)?;
    let depends = output(Command::new("dpkg-deb").arg("-f").arg(&own).arg("Depends"))?;
    for package in needed(&String::from_utf8(depends)?, &["linux-headers-"]) {
        download(package, scratch)?;
    }
    unpack_all(scratch)
}

/// As [`unpack`], with what is needed to build modules: the kernel's build scripts. Makefiles lead to where the packages
/// would be installed, and are changed to lead to `scratch`, which must be an absolute path.
pub(super) fn unpack_to_build(release: &str, scratch: &Path) -> Fallible<()> {
    let own = download(&format!("linux-headers-{release}"), scratch)?;
    let depends = output(Command::new("dpkg-deb").arg("-f").arg(&own).arg("Depends"))?;
    let prefixes = ["linux-headers-", "linux-kbuild-"];
    for package in needed(&String::from_utf8(depends)?, &prefixes) {
        download(package, scratch)?;
    }
    unpack_all(scratch)?;
    let root = scratch.display();
    for entry in fs::read_dir(scratch.join("usr/src"))? {
        let makefile = entry?.path().join("Makefile");
        let Ok(text) = fs::read_to_string(&makefile) else {
            continue;
        };
        let text = text
            .replace("/usr/src/", &format!("{root}/usr/src/"))
            .replace("/usr/lib/", &format!("{root}/usr/lib/"));
        fs::write(&makefile, text)?;
    }
    Ok(())
}

fn unpack_all(scratch: &Path) -> Fallible<()> {
    for deb in debs(scratch)? {
        output(Command::new("dpkg-deb").arg("-x").arg(deb).arg(scratch))?;
    }
    Ok(())
}

/// The packages with such names among those that one depends on.
fn needed<'a>(depends: &'a str, prefixes: &[&str]) -> impl Iterator<Item = &'a str> {
    depends
        .split([',', '|'])
        .filter_map(|one| one.split_whitespace().next())
        .filter(move |name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
}

fn download(package: &str, into: &Path) -> Fallible<PathBuf> {
    let fetch = || {
        let mut apt = Command::new("apt-get");
        // Downloads go into folders of ours, which apt's own user cannot enter.
        apt.args(["-o", "APT::Sandbox::User=root", "download", "-qq", package]);
        output(apt.current_dir(into))
    };
    if let Err(error) = fetch() {
        // The lists may be missing or older than the archive; after one look they are not.
        static UPDATED: AtomicBool = AtomicBool::new(false);
        if !tools::is_root() || UPDATED.swap(true, Ordering::Relaxed) {
            return Err(error);
        }
        output(Command::new("apt-get").args(["update", "-qq"]))?;
        fetch()?;
    }
    let prefix = format!("{package}_");
    let named = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        // apt writes other characters of a file's name as %xx, which package names do not have.
        name.to_string_lossy().starts_with(&prefix)
    };
    let deb = debs(into)?.into_iter().find(named);
    deb.ok_or_else(|| format!("apt-get download {package} left no .deb").into())
}

fn debs(dir: &Path) -> Fallible<Vec<PathBuf>> {
    let mut debs: Vec<PathBuf> = fs::read_dir(dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    debs.sort();
    Ok(debs)
}

fn compile(source: &Path, scratch: &Path, object: &Path) -> Fallible<()> {
    let mut roots: Vec<PathBuf> = fs::read_dir(scratch.join("usr/src"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    roots.sort();
    let mut gcc = Command::new("gcc");
    gcc.args(FLAGS);
    for folder in FOLDERS {
        for root in &roots {
            gcc.arg("-I").arg(root.join(folder));
        }
    }
    for name in FIRST {
        let path = roots
            .iter()
            .map(|root| root.join("include/linux").join(name))
            .find(|path| path.is_file());
        if let Some(path) = path {
            gcc.arg("-include").arg(path);
        }
    }
    output(gcc.arg("-o").arg(object).arg(source))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_among_what_a_package_depends_on() {
        let depends = "linux-base (>= 4.12~), linux-headers-6.12.117+deb12-common (= 6.12.117-1), \
            linux-image-6.12.117+deb12-cloud-amd64 (= 6.12.117-1) | linux-image-6.12.117+deb12-x, \
            linux-kbuild-6.12.117+deb12, gcc-12\n";
        let names = |prefixes: &[&str]| needed(depends, prefixes).collect::<Vec<_>>();
        let shared = "linux-headers-6.12.117+deb12-common";
        assert_eq!(names(&["linux-headers-"]), [shared]);
        let scripts = "linux-kbuild-6.12.117+deb12";
        assert_eq!(
            names(&["linux-headers-", "linux-kbuild-"]),
            [shared, scripts]
        );
    }
}
