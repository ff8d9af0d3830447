//! Types of kernels that were seen whole, kept for images of the same kernels in which they are damaged.
//!
//! A [`TypeStore`] is a folder. Each file of ours in it has the types (BTF) of one build:
//!
//! ```text
//! vmie-types 1
//! build 5f0c8d1e...            or `-`
//! kernel Linux version 6.1.0-57-amd64 (...)
//! btf 6021345 0123456789abcdef     bytes, and their XXH3-64
//!
//! (the bytes)
//! ```
//!
//! ISF files in the folder count too, where their names have the kernel's build id or its release. What belongs to
//! another build is passed over, and so is what is damaged: kept types are better than damaged ones, and
//! never better than none that are right.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use vmie_replace::Replacement;

use super::supplied::{BuildId, SuppliedTypes, fits};

const MAGIC: &str = "vmie-types 1";

/// What files of this kind are called.
const SUFFIX: &str = ".vmie-types";

/// The longest header that is read.
const MAX_HEADER: u64 = 4096;

/// The most bytes of types that are read.
const MAX_TYPES: u64 = 128 << 20;

/// How many names of a folder are looked at.
const MAX_NAMES: usize = 1 << 16;

/// How many files that somebody else wrote are opened: each takes a second or so.
#[cfg(feature = "isf")]
const MAX_OPENED: usize = 8;

/// Which kernel is meant.
#[derive(Clone, Copy, Debug)]
pub(in crate::os) struct KernelId<'a> {
    /// Its banner.
    pub(in crate::os) version: &'a str,
    /// Its build, where that can be read.
    pub(in crate::os) build: Option<&'a BuildId>,
}

impl KernelId<'_> {
    /// The name of the file that keeps its types.
    fn file_name(&self) -> String {
        match self.build {
            Some(build) => format!("{build}{SUFFIX}"),
            None => {
                let hash = xxh3_64(self.version.trim_end().as_bytes());
                format!("{hash:016x}{SUFFIX}")
            }
        }
    }

    /// Its banner in one line.
    fn line(&self) -> String {
        let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
        let text: String = self.version.trim_end().chars().map(plain).collect();
        text.chars().take(1024).collect()
    }
}

/// Types that were kept.
pub(in crate::os) enum Kept {
    /// A blob of BTF.
    Btf(Vec<u8>),
    /// Those of a file that is no BTF.
    #[cfg_attr(
        not(feature = "isf"),
        allow(dead_code, reason = "made of ISF files only")
    )]
    Supplied(SuppliedTypes),
}

/// A folder with types of kernels. See the module documentation.
#[derive(Clone, Debug)]
pub struct TypeStore {
    folder: PathBuf,
    keeps: bool,
}

impl TypeStore {
    /// The folder `folder`, in which types are looked for and nothing is written; or one file of such a folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            keeps: false,
        }
    }

    /// The folder `folder`, in which types that are whole are kept as well.
    pub fn keeping(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            keeps: true,
        }
    }

    /// Whether a file is one that a store keeps, of whichever kernel.
    pub fn is_kept(path: &Path) -> bool {
        let is_file = std::fs::metadata(path).is_ok_and(|found| found.is_file());
        let mut start = [0; MAGIC.len()];
        let read = |mut file: File| file.read_exact(&mut start);
        is_file && File::open(path).and_then(read).is_ok() && start == *MAGIC.as_bytes()
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The types of this kernel, if they are here and whole.
    pub(in crate::os) fn load(&self, kernel: KernelId<'_>) -> Option<Kept> {
        let names = self.names();
        let mut ours = names
            .iter()
            .filter(|path| has_suffix(path, SUFFIX) || names.len() == 1);
        let found = ours.find_map(|path| open(path, kernel));
        if let Some(bytes) = found {
            return Some(Kept::Btf(bytes));
        }
        others(&names, kernel).map(Kept::Supplied)
    }

    /// Whether those of this kernel are to be kept, and are not here yet, or no longer whole.
    pub(in crate::os) fn wants(&self, kernel: KernelId<'_>) -> bool {
        self.keeps && open(&self.folder.join(kernel.file_name()), kernel).is_none()
    }

    /// Keeps a blob of BTF that is whole.
    pub(in crate::os) fn keep(&self, kernel: KernelId<'_>, btf: &[u8]) -> io::Result<()> {
        let mut new = Replacement::create(&self.folder.join(kernel.file_name()))?;
        let build = kernel.build.map_or("-".to_owned(), BuildId::to_string);
        let (line, len, hash) = (kernel.line(), btf.len(), xxh3_64(btf));
        let header = format!("{MAGIC}\nbuild {build}\nkernel {line}\nbtf {len} {hash:016x}\n\n");
        new.file().write_all(header.as_bytes())?;
        new.file().write_all(btf)?;
        new.commit()
    }

    /// What is in the folder, ordered by name.
    fn names(&self) -> Vec<PathBuf> {
        if self.folder.is_file() {
            return vec![self.folder.clone()];
        }
        let Ok(entries) = std::fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let mut names: Vec<PathBuf> = entries
            .take(MAX_NAMES)
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        names.sort();
        names
    }
}

fn has_suffix(path: &Path, suffix: &str) -> bool {
    let name = path.file_name().map(std::ffi::OsStr::as_encoded_bytes);
    name.is_some_and(|name| name.ends_with(suffix.as_bytes()))
}

/// The types in a file of ours, if they are this kernel's and whole.
fn open(path: &Path, kernel: KernelId<'_>) -> Option<Vec<u8>> {
    // Asked first: opening a pipe waits for its other end.
    let size = std::fs::metadata(path)
        .ok()
        .filter(std::fs::Metadata::is_file)?
        .len();
    let file = File::open(path).ok()?;
    let mut head = Vec::new();
    (&file).take(MAX_HEADER).read_to_end(&mut head).ok()?;
    let end = head.windows(2).position(|two| two == b"\n\n")? + 2;
    let text = std::str::from_utf8(&head[..end]).ok()?;
    let mut lines = text.lines();
    if lines.next()? != MAGIC {
        return None;
    }
    let build = lines.next()?.strip_prefix("build ")?.parse().ok();
    let banner = lines.next()?.strip_prefix("kernel ")?;
    let (len, hash) = lines.next()?.strip_prefix("btf ")?.split_once(' ')?;
    let len: u64 = len.parse().ok()?;
    let fit = fits(Some(banner), build.as_ref(), &kernel.line(), kernel.build);
    if !fit || len > MAX_TYPES || size != end as u64 + len {
        return None;
    }
    let mut bytes = head[end..].to_vec();
    file.take(MAX_TYPES).read_to_end(&mut bytes).ok()?;
    let whole = bytes.len() as u64 == len && format!("{:016x}", xxh3_64(&bytes)) == hash;
    whole.then_some(bytes)
}

/// The types in a file of somebody else's.
#[cfg(feature = "isf")]
fn others(names: &[PathBuf], kernel: KernelId<'_>) -> Option<SuppliedTypes> {
    let build = kernel.build.map(BuildId::to_string);
    let release = kernel
        .version
        .split(' ')
        .nth(2)
        .filter(|release| release.len() >= 3);
    // Longest first: with its build id there is nothing to guess.
    let marks = [build.as_deref(), release];
    let is_isf = |path: &&PathBuf| has_suffix(path, ".json") || has_suffix(path, ".json.xz");
    let named = marks.into_iter().flatten().flat_map(|mark| {
        let has = move |path: &&PathBuf| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().contains(mark))
        };
        names.iter().filter(is_isf).filter(has)
    });
    named.take(MAX_OPENED).find_map(|path| {
        let isf = super::isf::Isf::open(path).ok()?;
        let supplied = isf.supply(path.display().to_string());
        supplied
            .fits(kernel.version, kernel.build)
            .then_some(supplied)
    })
}

#[cfg(not(feature = "isf"))]
fn others(_names: &[PathBuf], _kernel: KernelId<'_>) -> Option<SuppliedTypes> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn btf_of(store: &TypeStore, kernel: KernelId<'_>) -> Option<Vec<u8>> {
        match store.load(kernel)? {
            Kept::Btf(bytes) => Some(bytes),
            Kept::Supplied(_) => None,
        }
    }

    #[test]
    fn what_is_kept_is_that_kernels_and_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = TypeStore::keeping(folder.path());
        let (one, two) = (BuildId::new(&[1; 20]), BuildId::new(&[2; 20]));
        let id = |version, build: &'static Option<BuildId>| KernelId {
            version,
            build: build.as_ref(),
        };
        let (one, two, none): (&'static _, &'static _, &'static _) =
            (Box::leak(Box::new(one)), Box::leak(Box::new(two)), &None);
        let types = vec![7_u8; 10_000];
        assert!(store.wants(id("v 1\n", one)));
        store.keep(id("v 1\n", one), &types).expect("kept");
        assert!(!store.wants(id("v 1\n", one)) && store.wants(id("v 1\n", two)));
        assert!(!TypeStore::new(folder.path()).wants(id("v 1\n", two)));
        // By build, with whatever banner; without one, by banner.
        for (kernel, found) in [
            (id("v 1", one), true),
            (id("damaged", one), true),
            (id("v 1", none), true),
            (id("v 1", two), false),
            (id("v 2", none), false),
        ] {
            assert_eq!(
                btf_of(&store, kernel),
                found.then(|| types.clone()),
                "{kernel:?}"
            );
        }
        // Each bit of the content counts, and each byte of the length.
        let path = folder.path().join(id("", one).file_name());
        let whole = std::fs::read(&path).expect("there");
        for at in (0..whole.len()).step_by(97) {
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            std::fs::write(&path, &changed).expect("written");
            let found = btf_of(&store, id("v 1", none));
            assert!(found.is_none_or(|found| found == types), "{at}");
            std::fs::write(&path, &whole[..at]).expect("written");
            assert_eq!(btf_of(&store, id("v 1", none)), None, "{at}");
        }
    }

    #[test]
    fn folders_that_are_none_have_nothing() {
        let store = TypeStore::keeping("/nonexistent/folder");
        let kernel = KernelId {
            version: "v",
            build: None,
        };
        assert!(store.load(kernel).is_none());
        assert!(store.keep(kernel, b"x").is_err());
    }
}
