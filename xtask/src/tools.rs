//! Programs that the lab and the tests of the C library need and Rust does not bring.
//!
//! As root on Debian missing ones are installed with apt-get; anybody else is told what to install.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Fallible, run};

/// A program and the Debian package that has it.
struct Tool {
    program: &'static str,
    package: &'static str,
    /// Looks further than the name.
    is_right: fn(&Path) -> bool,
}

const TOOLS: [Tool; 12] = [
    Tool {
        program: "qemu-system-x86_64",
        package: "qemu-system-x86",
        is_right: |_| true,
    },
    Tool {
        // The guest has no libraries, so only a static one will do.
        program: "busybox",
        package: "busybox-static",
        is_right: is_static,
    },
    Tool {
        program: "g++",
        package: "g++",
        is_right: |_| true,
    },
    Tool {
        program: "gcc",
        package: "gcc",
        is_right: |_| true,
    },
    Tool {
        // Builds modules of the kernel.
        program: "make",
        package: "make",
        is_right: |_| true,
    },
    Tool {
        // Runs in guests, and so does the next one.
        program: "bash",
        package: "bash",
        is_right: |_| true,
    },
    Tool {
        program: "mke2fs",
        package: "e2fsprogs",
        is_right: |_| true,
    },
    Tool {
        // What instructions there are, by somebody else's reading.
        program: "objdump",
        package: "binutils",
        is_right: |_| true,
    },
    Tool {
        program: "dpkg-deb",
        package: "dpkg",
        is_right: |_| true,
    },
    Tool {
        // How types lie in memory, by somebody else's reading.
        program: "pahole",
        package: "pahole",
        is_right: |_| true,
    },
    Tool {
        // Shows the picture of a series.
        program: "chromium",
        package: "chromium",
        is_right: |_| true,
    },
    Tool {
        program: "setpriv",
        package: "util-linux",
        is_right: |_| true,
    },
];

/// What the tests of the C library need.
const C_TOOLS: [Tool; 8] = [
    Tool {
        program: "gcc",
        package: "gcc",
        is_right: |_| true,
    },
    Tool {
        program: "g++",
        package: "g++",
        is_right: |_| true,
    },
    Tool {
        program: "clang",
        package: "clang",
        is_right: |_| true,
    },
    Tool {
        program: "clang++",
        package: "clang",
        is_right: |_| true,
    },
    Tool {
        program: "valgrind",
        package: "valgrind",
        is_right: |_| true,
    },
    Tool {
        program: "pkg-config",
        package: "pkg-config",
        is_right: |_| true,
    },
    Tool {
        program: "nm",
        package: "binutils",
        is_right: |_| true,
    },
    Tool {
        program: "objdump",
        package: "binutils",
        is_right: |_| true,
    },
];

/// What the tests with Volatility 3 need.
const PYTHON: [Tool; 1] = [Tool {
    program: "python3",
    // Also brings python3; Debian has what makes virtual environments in a package of its own.
    package: "python3-venv",
    is_right: |python| {
        let check = Command::new(python)
            .args(["-c", "import ensurepip, venv"])
            .output();
        check.is_ok_and(|check| check.status.success())
    },
}];

/// Makes sure that everything the lab needs is there.
///
/// # Errors
///
/// Names what is missing and how to get it.
pub(crate) fn ensure() -> Fallible<()> {
    ensure_all(&TOOLS, "The lab needs")
}

/// Makes sure that everything the tests of the C library need is there.
///
/// # Errors
///
/// As [`ensure`].
pub(crate) fn ensure_for_c() -> Fallible<()> {
    ensure_all(&C_TOOLS, "The tests of the C library need")
}

/// Makes sure that there is a Python that can make virtual environments.
///
/// # Errors
///
/// As [`ensure`].
pub(crate) fn ensure_for_python() -> Fallible<()> {
    ensure_all(&PYTHON, "The tests with Volatility 3 need")
}

fn ensure_all(tools: &[Tool], who: &str) -> Fallible<()> {
    let missing = missing(tools);
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if find("apt-get").is_none() || !is_root() {
        return Err(format!(
            "{who} programs that are not installed. On Debian or Ubuntu:\n\n    \
             apt-get install {packages}\n\n`cargo test --workspace` runs the tests that do not need them."
        )
        .into());
    }
    eprintln!("installing {packages}");
    let install = || {
        run(Command::new("apt-get")
            .args(["install", "--yes", "--no-install-recommends", "-qq"])
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive"))
    };
    // The lists may be missing or older than the archive.
    if install().is_err() {
        run(Command::new("apt-get").args(["update", "-qq"]))?;
        install()?;
    }
    let still = self::missing(tools);
    if still.is_empty() {
        Ok(())
    } else {
        Err(format!("apt-get succeeded, but {} is not usable", still.join(" ")).into())
    }
}

/// The packages to install.
fn missing(tools: &[Tool]) -> Vec<&'static str> {
    let mut packages: Vec<&str> = tools
        .iter()
        .filter(|tool| !find(tool.program).is_some_and(|path| (tool.is_right)(&path)))
        .map(|tool| tool.package)
        .collect();
    packages.dedup();
    packages
}

/// Finds a program as the shell would; root's folders count for everybody.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// Whether we are root. `/proc/self` belongs to the process's effective user.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// Whether an ELF64 program asks for no interpreter (no `PT_INTERP`).
fn is_static(path: &Path) -> bool {
    let Ok(elf) = fs::read(path) else {
        return false;
    };
    let number = |at: usize, len: usize| {
        let bytes = elf.get(at..at + len)?;
        Some(bytes.iter().rev().fold(0, |n, &b| n << 8 | usize::from(b)))
    };
    let interpreter = || {
        let table = number(0x20, 8)?;
        let size = number(0x36, 2)?;
        let count = number(0x38, 2)?;
        (0..count)
            .map(|i| number(table + i * size, 4))
            .find(|kind| *kind == Some(3))
    };
    elf.starts_with(b"\x7fELF\x02") && interpreter().is_none()
}
