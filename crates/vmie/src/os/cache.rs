//! Keeping where an operating system was found, beside the image it was found in.
//!
//! Searching all of a large image takes time, and an image does not change. A [`Cache`] is a small text
//! file that holds the [`Trail`] of a search together with the [`Identity`] of the image:
//!
//! ```text
//! vmie-os 1
//! image 536870912 1763809123.123400000 5f0c8d1e2a3b4c5d
//! trail 4level root=0x6610000 ignore=0x0 0xffffffff97e10000 0xffffffff976c9db8
//! ```
//!
//! **A cache makes a search faster and never makes an answer.** What a trail leads to passes every
//! check of the search; a cache that is stale, of another image or made up costs a moment. The identity
//! only saves that moment, so a cheap one will do: size, time of the last change, and a hash of some
//! pages.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::error::FindError;
use super::find::find_with;
use super::guest::Guest;
use super::search::{FindOptions, Phys};
use super::trail::Trail;
use super::types::TypeStore;
use crate::addr::{AddrRange, Address, Gpa};
use crate::hints::Hints;
use crate::memory::Memory;

/// The first line of a cache.
const MAGIC: &str = "vmie-os 1";

/// What the first lines of all versions start with.
const FAMILY: &str = "vmie-os ";

/// What is appended to the name of an image for that of its cache.
const SUFFIX: &str = ".vmie-os";

/// The largest cache that is read.
const MAX_BYTES: u64 = 4096;

/// How many pages the hash is over.
const SAMPLES: u64 = 64;

/// What tells an image from others and from its former self.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Bytes in the file.
    pub size: u64,
    /// When it was last changed, in seconds and nanoseconds since 1970; 0 where that is not known.
    pub modified: (u64, u32),
    /// A hash of the first bytes of pages spread over its memory.
    pub sample: u64,
}

impl Identity {
    /// The identity of the image in the file at `path`, whose memory is `phys`.
    ///
    /// Cost: reads the starts of 64 pages.
    ///
    /// # Errors
    ///
    /// When the file cannot be looked at.
    pub fn of(path: &Path, phys: &dyn Memory<Addr = Gpa>) -> std::io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH);
        let modified = modified.map_or((0, 0), |since| (since.as_secs(), since.subsec_nanos()));
        Ok(Self {
            size: metadata.len(),
            modified,
            sample: sample(phys),
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanoseconds) = self.modified;
        write!(
            f,
            "{} {seconds}.{nanoseconds:09} {:016x}",
            self.size, self.sample
        )
    }
}

/// Hashes (FNV-1a) the starts of pages that are spread evenly over memory.
fn sample(phys: &dyn Memory<Addr = Gpa>) -> u64 {
    let regions: Vec<_> = phys.regions(AddrRange::all()).collect();
    let total: u64 = regions
        .iter()
        .fold(0, |sum, region| region.len.saturating_add(sum));
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for i in 0..SAMPLES {
        let mut skip = (total / SAMPLES).saturating_mul(i);
        for region in &regions {
            if skip >= region.len {
                skip -= region.len;
                continue;
            }
            let mut bytes = [0; 256];
            let page = Gpa(region.start.raw() + skip).align_down(4096);
            let at = page.max(region.start);
            let _ = phys.read(at, &mut bytes);
            for byte in bytes {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
            break;
        }
    }
    hash
}

/// The cache of one image. See the module documentation.
#[derive(Clone, Debug)]
pub struct Cache {
    path: PathBuf,
    identity: Identity,
}

impl Cache {
    /// The cache that stands, or would stand, beside the image at `image`, whose memory is `phys`.
    ///
    /// # Errors
    ///
    /// When the image's file cannot be looked at.
    pub fn beside(image: &Path, phys: &dyn Memory<Addr = Gpa>) -> std::io::Result<Self> {
        let mut path = image.as_os_str().to_owned();
        path.push(SUFFIX);
        Ok(Self {
            path: path.into(),
            identity: Identity::of(image, phys)?,
        })
    }

    /// A cache at `path` for what `identity` says.
    pub fn new(path: PathBuf, identity: Identity) -> Self {
        Self { path, identity }
    }

    /// Where the cache is kept.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where types of kernels are kept beside it.
    pub fn types(&self) -> TypeStore {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let here = folder.as_os_str().is_empty();
        TypeStore::keeping(if here { Path::new(".") } else { folder })
    }

    /// What the cache holds, if it is there and of this image.
    pub fn load(&self) -> Option<Trail> {
        let metadata = std::fs::metadata(&self.path).ok()?;
        if !metadata.is_file() || metadata.len() > MAX_BYTES {
            return None;
        }
        let text = std::fs::read_to_string(&self.path).ok()?;
        let mut lines = text.lines();
        let fits = lines.next()? == MAGIC
            && lines.next()?.strip_prefix("image ")? == self.identity.to_string();
        let trail = lines.next()?.strip_prefix("trail ")?.parse().ok()?;
        fits.then_some(trail)
    }

    /// Keeps a trail.
    ///
    /// # Errors
    ///
    /// When the file cannot be written, or something else than a cache stands in its place.
    pub fn save(&self, trail: &Trail) -> std::io::Result<()> {
        self.check_place()?;
        let text = format!("{MAGIC}\nimage {}\ntrail {trail}\n", self.identity);
        // Whole or not at all: another run may be reading it.
        vmie_replace::write(&self.path, text.as_bytes())
    }

    /// Whether there is nothing that a cache may not replace. A file that merely has such a name belongs
    /// to somebody.
    fn check_place(&self) -> std::io::Result<()> {
        let mut start = Vec::new();
        match std::fs::metadata(&self.path) {
            // Asked first: opening a pipe waits for its other end.
            Ok(metadata) if metadata.is_file() => {
                let file = File::open(&self.path)?;
                file.take(FAMILY.len() as u64).read_to_end(&mut start)?;
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        if start == FAMILY.as_bytes() {
            Ok(())
        } else {
            Err(std::io::Error::other(
                "what stands there is not a cache of vmie's",
            ))
        }
    }

    /// As [`find_with`], along the trail that is kept, and keeping that of a search that had to be made
    /// anew. Whether it could be kept stands beside the guest.
    ///
    /// # Errors
    ///
    /// What each search saw, when none succeeded.
    pub fn find(
        &self,
        phys: &Phys,
        hints: &Hints,
        options: &FindOptions,
    ) -> Result<(Box<dyn Guest>, std::io::Result<()>), FindError> {
        let known = self.load();
        let options = FindOptions {
            trail: known.clone().or_else(|| options.trail.clone()),
            ..options.clone()
        };
        let guest = find_with(phys, hints, &options)?;
        let kept = match known.as_ref() == Some(guest.trail()) {
            true => Ok(()),
            false => self.save(guest.trail()),
        };
        Ok((guest, kept))
    }
}
