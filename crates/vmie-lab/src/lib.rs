//! What a lab snapshot is: memory images of a real guest together with the truth about it.
//!
//! `cargo xtask lab` boots Debian kernels under QEMU and writes one directory per variant under
//! `target/lab/snapshots/`. This crate is the form of those directories: `xtask` writes it and tests
//! read it. It does not depend on `vmie`, because it is what `vmie` is compared with.
//!
//! A snapshot directory holds
//!
//! | path | what |
//! |---|---|
//! | `truth.json` | [`Snapshot`]: kernel, machine, CPUs, address-space roots, list of images |
//! | `ram.raw`, `memory.*` | images of one and the same moment, with all CPUs stopped |
//! | `guest/` | what the guest says: `kallsyms`, `btf`, `iomem`, `proc/PID/*` ([`Process`], [`OpenFile`]), `proc/net/*` ([`Listener`]), `programs/*` ([`Program`]) |
//! | `guest/{facts,kmsg,net,bpf,...}` | in guests with a scene: what is planted in them, and more that the guest says ([`Scene`]) |
//! | `qemu/` | what QEMU says of the same moment: `info tlb` and friends ([`qemu`]) |
//! | `config` | the configuration of the guest's kernel |
//! | `files/` | the guest's file system: its programs, libraries and kernel modules |
//! | `console.log` | the guest's console |
//!
//! Three independent witnesses, then: the guest's kernel, QEMU's page walker, and the programs, which
//! state the addresses and values of their own objects. A fourth is not of a guest but of its kernel: what
//! a compiler makes of that kernel's headers ([`compiled_headers`]).

mod hex;
mod open;
mod process;
mod program;
pub mod qemu;
mod scene;
mod snapshot;
pub mod walker;

pub use open::{Listener, OpenFile};
pub use process::{Page, PageRun, Process, Thread, Vma};
pub use program::{Area, PointerPath, Program, Tick, Type, Value};
pub use scene::{Descriptor, Fact, LogRecord, Scene};
pub use snapshot::{
    Current, ImageFile, ImageFormat, Kernel, Machine, RamPart, Root, SCHEMA, Snapshot, lab_dir,
};

use std::fmt;
use std::path::{Path, PathBuf};

/// The variants that every test run uses. Of any other set of snapshots tests cannot require what only
/// these are sure to have.
pub const STANDARD: [&str; 4] = ["pc-6.1", "q35-6.12", "la57-6.12", "numa-6.1"];

/// The variants with a scene, on which every test run looks for what is planted in them.
pub const SCENES: [&str; 2] = ["scene-6.1", "scene-6.12"];

/// The object file with debug information of everything that a kernel's headers declare.
pub fn compiled_headers(release: &str) -> PathBuf {
    lab_dir().join("headers").join(format!("{release}.o"))
}

/// The virtual environment with Volatility 3 that `cargo xtask` makes, and its cache.
pub fn volatility_dir() -> PathBuf {
    lab_dir().join("volatility")
}

/// A snapshot that cannot be used, and why.
#[derive(Debug)]
pub struct Error {
    path: PathBuf,
    what: String,
}

impl Error {
    fn new(path: &Path, what: impl fmt::Display) -> Self {
        Self {
            path: path.to_owned(),
            what: what.to_string(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for Error {}

/// Reads a text file of a snapshot. Guests may use any byte in a name, so what is not UTF-8 is
/// replaced.
fn read_text(path: &Path) -> Result<String, Error> {
    let bytes = std::fs::read(path).map_err(|error| Error::new(path, error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
