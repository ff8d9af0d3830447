//! `truth.json`, and finding snapshots.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::hex;
use crate::qemu::{Registers, TlbEntry};
use crate::{Error, Process, Program, qemu, read_text};

/// Version of the snapshot's form; snapshots of another version are made anew.
pub const SCHEMA: u32 = 1;

/// One moment of one guest: `truth.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Stands for everything the snapshot was made from; when it changes the snapshot is stale.
    pub fingerprint: String,
    /// Name of the variant: `pc-6.1`, ...
    pub variant: String,
    /// The guest's kernel.
    pub kernel: Kernel,
    /// The machine.
    pub machine: Machine,
    /// RAM as QEMU laid it out: where each physical range begins in `ram.raw`.
    pub ram: Vec<RamPart>,
    /// Registers of all CPUs.
    pub cpus: Vec<Registers>,
    /// Which program was running, on which CPU: the address space of `qemu/info-tlb.txt`.
    pub current: Current,
    /// Roots of the programs' address spaces, taken from CR3 while each was running in user mode.
    pub roots: Vec<Root>,
    /// Images of this moment.
    pub images: Vec<ImageFile>,
    /// Whether the guest has a scene: things that hide among others, and more truth ([`crate::Scene`]).
    #[serde(default)]
    pub scene: bool,
    /// The directory; not part of the file.
    #[serde(skip)]
    pub dir: PathBuf,
}

/// A guest's kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kernel {
    /// As `uname -r` says: `6.1.0-56-cloud-amd64`.
    pub release: String,
    /// Debian's package.
    pub package: String,
    /// Where the package is unpacked: `boot/vmlinuz-*`, `lib/modules/*`.
    pub unpacked: PathBuf,
}

/// The virtual machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// QEMU's machine type, which is also the name of the raw image's layout: `pc`, `q35`.
    pub kind: String,
    /// RAM in bytes.
    pub ram: u64,
    /// Number of CPUs.
    pub cpus: u32,
    /// Whether the guest pages with five levels.
    pub five_levels: bool,
    /// QEMU's command line, for reference.
    pub command: Vec<String>,
}

/// A range of physical memory and where it lies in the RAM file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RamPart {
    /// First physical address.
    #[serde(with = "hex")]
    pub gpa: u64,
    /// Length in bytes.
    #[serde(with = "hex")]
    pub len: u64,
    /// Offset in the file.
    #[serde(with = "hex")]
    pub offset: u64,
}

/// The address space that was current when the CPUs were stopped.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Current {
    /// The CPU it was current on.
    pub cpu: u32,
    /// The process.
    pub pid: u32,
    /// The program's name.
    pub program: String,
    /// Its root.
    #[serde(with = "hex")]
    pub root: u64,
}

/// The root of one process's address space.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Root {
    /// The process.
    pub pid: u32,
    /// Physical address of its top page table.
    #[serde(with = "hex")]
    pub root: u64,
}

/// One image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageFile {
    /// The file, relative to the snapshot's directory.
    pub file: PathBuf,
    /// Its format.
    pub format: ImageFormat,
    /// The layout that has to be given to open it, for raw images.
    pub layout: Option<String>,
}

/// Formats of images.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// The machine's RAM file.
    Raw,
    /// QEMU's dump-guest-memory: all of RAM, and the firmware.
    Elf,
    /// LiME: what the guest calls System RAM.
    Lime,
    /// AVML version 2 (compressed): System RAM.
    Avml,
    /// AVML version 1: System RAM.
    AvmlV1,
    /// QEMU's dump-guest-memory, compressed: all of RAM, and the firmware. One for each compression that the
    /// QEMU at hand has.
    Kdump,
}

impl Snapshot {
    /// Reads the snapshot in `dir`.
    ///
    /// # Errors
    ///
    /// When there is none, or it has another form than this crate's.
    pub fn load(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("truth.json");
        let text = read_text(&path)?;
        let mut snapshot: Self =
            serde_json::from_str(&text).map_err(|error| Error::new(&path, error))?;
        if snapshot.schema != SCHEMA {
            return Err(Error::new(
                &path,
                format!("schema {}, expected {SCHEMA}", snapshot.schema),
            ));
        }
        dir.clone_into(&mut snapshot.dir);
        Ok(snapshot)
    }

    /// The snapshots that tests shall use: the variants that `$VMIE_LAB_VARIANTS` lists, separated by
    /// commas, as `cargo xtask` sets it; else all there are. Not scenes: what hides in them is missing from lists.
    ///
    /// # Errors
    ///
    /// When one of them is missing, or there is none at all: a test must not pass because there was
    /// nothing to look at.
    pub fn all() -> Result<Vec<Self>, Error> {
        Self::of_kind(false)
    }

    /// As [`Snapshot::all`], the scenes.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::all`].
    pub fn scenes() -> Result<Vec<Self>, Error> {
        Self::of_kind(true)
    }

    fn of_kind(scene: bool) -> Result<Vec<Self>, Error> {
        let base = lab_dir().join("snapshots");
        let mut snapshots = Self::wanted(&base)?;
        snapshots.retain(|snapshot| snapshot.scene == scene);
        if snapshots.is_empty() {
            return Err(Error::new(&base, "no snapshot; run `cargo xtask lab`"));
        }
        Ok(snapshots)
    }

    fn wanted(base: &Path) -> Result<Vec<Self>, Error> {
        if let Ok(variants) = std::env::var("VMIE_LAB_VARIANTS") {
            return variants
                .split(',')
                .map(|variant| Self::load(&base.join(variant)))
                .collect();
        }
        let mut dirs: Vec<PathBuf> = fs::read_dir(base)
            .map_err(|error| Error::new(base, format!("{error}; run `cargo xtask lab`")))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            // What is being made has a name that begins with a dot.
            .filter(|dir| {
                dir.file_name()
                    .is_none_or(|name| name.as_encoded_bytes()[0] != b'.')
            })
            .filter(|dir| dir.join("truth.json").is_file())
            .collect();
        dirs.sort();
        dirs.iter().map(|dir| Self::load(dir)).collect()
    }

    /// The snapshot of one variant.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::load`].
    pub fn of_variant(name: &str) -> Result<Self, Error> {
        Self::load(&lab_dir().join("snapshots").join(name))
    }

    /// Writes `truth.json`. It comes last: where it stands, the snapshot is complete.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn save(&self) -> Result<(), Error> {
        let path = self.path("truth.json");
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::new(&path, error))?;
        fs::write(&path, text).map_err(|error| Error::new(&path, error))
    }

    /// A file of the snapshot.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.dir.join(relative)
    }

    /// The image of a format.
    pub fn image(&self, format: ImageFormat) -> Option<&ImageFile> {
        self.images.iter().find(|image| image.format == format)
    }

    /// A text that the guest handed out: `kallsyms`, `iomem`, `proc/modules`, ...
    ///
    /// # Errors
    ///
    /// When there is no such file.
    pub fn guest_text(&self, name: &str) -> Result<String, Error> {
        read_text(&self.path("guest").join(name))
    }

    /// What the guest calls System RAM, as half-open ranges of physical addresses.
    ///
    /// # Errors
    ///
    /// When `iomem` is missing or names no RAM.
    pub fn system_ram(&self) -> Result<Vec<std::ops::Range<u64>>, Error> {
        let text = self.guest_text("iomem")?;
        let ranges = system_ram(&text);
        if ranges.is_empty() {
            return Err(Error::new(&self.dir, "guest/iomem names no System RAM"));
        }
        Ok(ranges)
    }

    /// The guest's processes by pid, kernel threads included.
    ///
    /// # Errors
    ///
    /// When a file is missing or not understood.
    pub fn processes(&self) -> Result<Vec<Process>, Error> {
        Process::load_all(&self.path("guest/proc"))
    }

    /// What the programs state about themselves.
    ///
    /// # Errors
    ///
    /// When a file is missing or not understood.
    pub fn programs(&self) -> Result<Vec<Program>, Error> {
        Program::load_all(&self.path("guest/programs"))
    }

    /// The root of a process's address space.
    pub fn root_of(&self, pid: u32) -> Option<u64> {
        self.roots
            .iter()
            .find(|root| root.pid == pid)
            .map(|root| root.root)
    }

    /// The leaf page-table entries of the current address space, as QEMU found them.
    ///
    /// # Errors
    ///
    /// When the file is missing or not understood.
    pub fn tlb(&self) -> Result<Vec<TlbEntry>, Error> {
        let path = self.path("qemu/info-tlb.txt");
        qemu::parse_tlb(&read_text(&path)?).map_err(|what| Error::new(&path, what))
    }

    /// The effective write and user protection of the current address space, as QEMU found it.
    /// `None` with five levels, where QEMU's `info mem` does not work.
    ///
    /// # Errors
    ///
    /// When the file is missing or not understood.
    pub fn mem(&self) -> Result<Option<Vec<qemu::MemRange>>, Error> {
        if self.machine.five_levels {
            return Ok(None);
        }
        let path = self.path("qemu/info-mem.txt");
        let ranges = qemu::parse_mem(&read_text(&path)?).map_err(|what| Error::new(&path, what))?;
        Ok(Some(ranges))
    }

    /// Virtual addresses of the current address space and what QEMU translates them to.
    ///
    /// # Errors
    ///
    /// When the file is missing or not understood.
    pub fn translations(&self) -> Result<Vec<qemu::Translation>, Error> {
        let path = self.path("qemu/gva2gpa.txt");
        qemu::parse_translations(&read_text(&path)?).map_err(|what| Error::new(&path, what))
    }
}

/// Where the lab keeps everything: `$VMIE_LAB`, or `target/lab` of this workspace.
pub fn lab_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("VMIE_LAB") {
        return dir.into();
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.join("target"), |dir| workspace.join(dir))
        .join("lab")
}

/// The top-level `System RAM` lines of `/proc/iomem`.
fn system_ram(iomem: &str) -> Vec<std::ops::Range<u64>> {
    iomem
        .lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| {
            let range = line.strip_suffix(" : System RAM")?;
            let (first, last) = range.split_once('-')?;
            let first = u64::from_str_radix(first, 16).ok()?;
            let last = u64::from_str_radix(last, 16).ok()?;
            Some(first..last.checked_add(1)?)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_top_level_ram_counts() {
        let iomem = "00000000-00000fff : Reserved\n00001000-0009fbff : System RAM\n  \
                     00100000-001fffff : System RAM\n100000000-13fffffff : System RAM\n";
        assert_eq!(
            system_ram(iomem),
            [0x1000..0x9_fc00, 0x1_0000_0000..0x1_4000_0000]
        );
    }
}
