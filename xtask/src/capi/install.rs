//! `cargo xtask install --prefix DIR`: the library as C programs and linkers expect it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::sources;
use crate::{Fallible, build_for_tests, cargo, run, target_dir};

/// What the static library needs besides itself, on Linux with the GNU C library; a test links with it.
const PRIVATE: &str = "-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc";

const USAGE: &str = "usage: cargo xtask install --prefix DIR [--debug]";

/// How the library is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// For tests.
    Debug,
    /// What is packaged.
    Dist,
}

/// A prefix that the library was installed under.
pub(crate) struct Installed {
    /// The prefix, absolute.
    pub(crate) prefix: PathBuf,
}

impl Installed {
    pub(crate) fn include(&self) -> PathBuf {
        self.prefix.join("include/vmie")
    }

    pub(crate) fn lib(&self) -> PathBuf {
        self.prefix.join("lib")
    }

    /// Lets a command find the library when it compiles and when it runs.
    pub(crate) fn env<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("PKG_CONFIG_PATH", self.lib().join("pkgconfig"))
            .env("LD_LIBRARY_PATH", self.lib())
    }
}

/// Runs `cargo xtask install ARGS`.
pub(crate) fn install(args: &[&str]) -> Fallible<()> {
    let (prefix, profile) = match args {
        ["--prefix", prefix] => (prefix, Profile::Dist),
        ["--prefix", prefix, "--debug"] | ["--debug", "--prefix", prefix] => {
            (prefix, Profile::Debug)
        }
        _ => return Err(USAGE.into()),
    };
    let installed = into(Path::new(prefix), profile)?;
    println!("installed under {}", installed.prefix.display());
    let pkgconfig = installed.lib().join("pkgconfig");
    println!("  export PKG_CONFIG_PATH={}", pkgconfig.display());
    println!("  cc program.c $(pkg-config --cflags --libs vmie)");
    Ok(())
}

/// Builds the library and installs it.
pub(crate) fn into(prefix: &Path, profile: Profile) -> Fallible<Installed> {
    let built = match profile {
        // The command as well, with which it is compared.
        Profile::Debug => {
            build_for_tests()?;
            "debug"
        }
        Profile::Dist => {
            run(cargo().args(["build", "--package", "vmie-capi", "--profile", "dist"]))?;
            "dist"
        }
    };
    let version = env!("CARGO_PKG_VERSION");
    fs::create_dir_all(prefix)?;
    let installed = Installed {
        prefix: fs::canonicalize(prefix)?,
    };
    let built = target_dir().join(built);
    let lib = installed.lib();
    fs::create_dir_all(lib.join("pkgconfig"))?;

    let whole = format!("libvmie.so.{version}");
    replace(&built.join("libvmie_capi.so"), &lib.join(&whole))?;
    let soname = soname(version);
    link(&whole, &lib.join(&soname))?;
    link(&soname, &lib.join("libvmie.so"))?;
    replace(&built.join("libvmie_capi.a"), &lib.join("libvmie.a"))?;
    fs::write(
        lib.join("pkgconfig/vmie.pc"),
        pkg_config(&installed.prefix, version),
    )?;

    // A header that is no more must not be found.
    let include = installed.include();
    let _ = fs::remove_dir_all(&include);
    fs::create_dir_all(&include)?;
    for header in headers()? {
        let name = header.file_name().ok_or("a header without a name")?;
        fs::copy(&header, include.join(name))?;
    }
    Ok(installed)
}

/// The headers in the sources, by name.
pub(crate) fn headers() -> Fallible<Vec<PathBuf>> {
    let mut headers: Vec<PathBuf> = fs::read_dir(sources().join("include"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    headers.retain(|path| path.extension().is_some_and(|extension| extension == "h"));
    headers.sort();
    Ok(headers)
}

/// The name that the dynamic linker looks for; the crate's build script gives it to the library.
pub(crate) fn soname(version: &str) -> String {
    let mut parts = version.split('.');
    match (parts.next(), parts.next()) {
        (Some("0"), Some(minor)) => format!("libvmie.so.0.{minor}"),
        (major, _) => format!("libvmie.so.{}", major.unwrap_or("0")),
    }
}

fn pkg_config(prefix: &Path, version: &str) -> String {
    format!(
        "prefix={}\n\
         includedir=${{prefix}}/include/vmie\n\
         libdir=${{prefix}}/lib\n\
         \n\
         Name: vmie\n\
         Description: Looks into the memory of virtual machines from outside\n\
         Version: {version}\n\
         Cflags: -I${{includedir}}\n\
         Libs: -L${{libdir}} -lvmie\n\
         Libs.private: {PRIVATE}\n",
        prefix.display()
    )
}

/// Puts a file in the place of another: programs that use the old one keep it.
fn replace(from: &Path, to: &Path) -> Fallible<()> {
    let _ = fs::remove_file(to);
    fs::copy(from, to)
        .map_err(|error| format!("{} -> {}: {error}", from.display(), to.display()))?;
    Ok(())
}

fn link(target: &str, at: &Path) -> Fallible<()> {
    let _ = fs::remove_file(at);
    std::os::unix::fs::symlink(target, at)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soname_changes_with_the_abi() {
        assert_eq!(soname("0.1.7"), "libvmie.so.0.1");
        assert_eq!(soname("1.2.3"), "libvmie.so.1");
    }
}
