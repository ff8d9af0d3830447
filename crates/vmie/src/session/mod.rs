//! The front door: open a source, find the operating system in it, name an address space, ask.
//!
//! A [`Session`] is one source that was opened: an image, a snapshot or a running guest. It finds the operating system
//! when something first needs it, and lists the processes once. What may be meant by a name, which part of a space
//! is a process's own, how many bytes a sweep may look at, what an option means for which kind of source: all that is
//! decided here and nowhere else. Advice is data ([`ProcessError::Ambiguous`] has the processes); wording it is for
//! whoever talks to people.
//!
//! | file | subject |
//! |---|---|
//! | `options.rs` | what may be said when a source is opened |
//! | `source.rs` | opening sources of each kind |
//! | `process.rs` | the operating system's processes, and which of them is meant |
//! | `space.rs` | which memory is meant, and its parts |
//! | `spaces.rs` | the spaces of all processes together |
//! | `width.rs` | how wide pointers and code are in a space |
//! | `info.rs` | what is known about a source |
//! | `laying.rs`, `evidence.rs` | how a raw image is laid out |
//! | `ask.rs` | the shortest way to what occurs in it, what changed, how it is reached |

mod ask;
mod evidence;
mod info;
mod laying;
mod options;
mod process;
mod source;
mod space;
mod spaces;
#[cfg(test)]
mod tests;
mod width;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::addr::{Gpa, Gva};
use crate::memory::Memory;
use crate::os::{self, FindError, FindOptions, Guest, Listing, OsError, Process};
use crate::snapshot::Snapshot;
use laying::{Laid, Laying};

pub use ask::Changes;
pub use info::{LayoutInfo, LayoutKnown, SourceInfo};
pub use options::SessionOptions;
pub use process::{ProcessError, System};
#[cfg(all(feature = "live", target_os = "linux"))]
pub use source::{LiveSource, Still};
pub use source::{SessionError, SourceKind, SourceOption, live_socket};
pub use space::{LeftOut, Owner, Root, Space, SpaceError, Target, Who};
pub use spaces::Spaces;
pub use width::{PartWidth, SpaceWidth};

/// A source that was opened, and what was found out about it. See the module documentation.
pub struct Session {
    path: PathBuf,
    opened: source::Opened,
    /// A raw image as it is laid out, where that was found out later than it was opened.
    laid: OnceLock<Laid>,
    known: FindOptions,
    system: OnceLock<Result<Arc<System>, FindError>>,
    /// Why where the system was found could not be kept.
    not_kept: OnceLock<std::io::Error>,
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Session>();
};

impl Session {
    /// Opens an image, a snapshot, a directory of one, or `qemu:SOCKET`, a running guest.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub fn open(source: impl AsRef<Path>) -> Result<Self, SessionError> {
        Self::open_with(source, &SessionOptions::default())
    }

    /// Opens a source with all that is known about it.
    ///
    /// # Errors
    ///
    /// [`SessionError`]. An option that means nothing for this kind of source is one.
    pub fn open_with(
        source: impl AsRef<Path>,
        options: &SessionOptions,
    ) -> Result<Self, SessionError> {
        let path = source.as_ref();
        let opened = source::Opened::open(path, options)?;
        let mut stores = options.stores.clone();
        stores.extend(opened.cache.as_ref().map(os::Cache::types));
        let known = FindOptions {
            types: options.types.clone(),
            stores,
            trail: None,
            acquisition: opened.acquisition(options),
            kernel_at: options.kernel_at,
            effort: os::Effort::default(),
        };
        Ok(Self {
            path: path.to_owned(),
            opened,
            laid: OnceLock::new(),
            known,
            system: OnceLock::new(),
            not_kept: OnceLock::new(),
        })
    }

    /// The source as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is known about the source. Of a raw image whose layout nobody told, more may be known once a space or the system was asked
    /// for ([`SourceInfo::layout`]).
    pub fn info(&self) -> &SourceInfo {
        self.laid.get().map_or(&self.opened.info, |laid| &laid.info)
    }

    /// Which kind of source it is.
    pub fn kind(&self) -> SourceKind {
        self.opened.kind
    }

    /// The guest's physical memory. A snapshot of one address space has none of it. A raw image is laid out as far as is known
    /// by now.
    pub fn physical(&self) -> &Arc<dyn Memory<Addr = Gpa>> {
        let laid = self.laid.get();
        laid.map_or(&self.opened.memory, |laid| &laid.memory)
    }

    /// Finds out how a raw image is laid out by the page tables under a root, where that is not known.
    fn lay_by_root(&self, root: Root) {
        if let Some(laying) = &self.opened.laying
            && self
                .info()
                .layout
                .as_ref()
                .is_some_and(|layout| !layout.is_known())
            && let Some(laid) = laying.by_root(root)
        {
            let _ = self.laid.set(laid);
        }
    }

    /// Looks for the operating system of a raw image, and finds out by it how that is laid out.
    fn find_laying(&self, laying: &Laying) -> Result<Box<dyn Guest>, FindError> {
        let mut known = self.known.clone();
        let kept = self.cache().and_then(os::Cache::load);
        known.trail = kept.clone().or(known.trail);
        let info = self.info();
        // What is plausible by size alone, the system may know better.
        let settled = info
            .layout
            .as_ref()
            .filter(|layout| layout.is_known() && layout.known != LayoutKnown::Only);
        let settled = settled.map(|layout| (self.physical(), layout));
        let (guest, laid) = laying.by_system(settled, &info.hints, &known)?;
        if let Some(laid) = laid {
            let _ = self.laid.set(laid);
        }
        if let Some(cache) = self.cache()
            && kept.as_ref() != Some(guest.trail())
            && let Err(error) = cache.save(guest.trail())
        {
            let _ = self.not_kept.set(error);
        }
        Ok(guest)
    }

    /// The snapshot of one address space, where the source is that.
    pub fn saved(&self) -> Option<&Arc<Snapshot<Gva>>> {
        self.opened.saved.as_ref()
    }

    /// What of the source is damaged, in words, where [`SessionOptions::salvage`] let it be opened all the same.
    pub fn damage(&self) -> &[String] {
        &self.opened.damage
    }

    /// The running guest, where the source is one.
    #[cfg(all(feature = "live", target_os = "linux"))]
    pub fn live(&self) -> Option<&LiveSource> {
        self.opened.live.as_ref()
    }

    /// What is known beforehand about the operating system.
    pub fn known(&self) -> &FindOptions {
        &self.known
    }

    /// Where it is kept where the operating system was found, if that was asked for.
    pub fn cache(&self) -> Option<&os::Cache> {
        self.opened.cache.as_ref()
    }

    /// Why that was not kept, once [`Session::system`] was asked for.
    pub fn not_kept(&self) -> Option<&std::io::Error> {
        self.not_kept.get()
    }

    /// The guest's operating system, looked for when first asked for.
    ///
    /// Cost: a glance at every page until the kernel is found, a full pass over memory when there is none.
    ///
    /// # Errors
    ///
    /// What each search saw. A snapshot of one address space has no operating system.
    pub fn system(&self) -> Result<&Arc<System>, &FindError> {
        self.system.get_or_init(|| self.find()).as_ref()
    }

    /// The operating system as it is now: looked for anew in a guest that runs, which may have been started again since.
    ///
    /// Cost: as [`Session::system`].
    ///
    /// # Errors
    ///
    /// As [`Session::system`].
    pub fn system_now(&self) -> Result<Arc<System>, FindError> {
        match self.kind() {
            SourceKind::Live => self.find(),
            _ => self.system().cloned().map_err(Clone::clone),
        }
    }

    fn find(&self) -> Result<Arc<System>, FindError> {
        if self.saved().is_some() {
            return Err(FindError {
                searches: Vec::new(),
                led: false,
            });
        }
        let (phys, hints) = (self.physical(), &self.info().hints);
        let guest = match (&self.opened.laying, self.cache()) {
            (Some(laying), _) => self.find_laying(laying)?,
            (None, Some(cache)) => {
                let (guest, kept) = cache.find(phys, hints, &self.known)?;
                if let Err(error) = kept {
                    let _ = self.not_kept.set(error);
                }
                guest
            }
            (None, None) => os::find_with(phys, hints, &self.known)?,
        };
        Ok(Arc::new(System::new(guest, self.info().live)))
    }

    /// The guest as the operating-system layer has it: symbols, types, modules.
    ///
    /// # Errors
    ///
    /// As [`Session::system`].
    pub fn guest(&self) -> Result<&dyn Guest, &FindError> {
        self.system().map(|system| system.guest())
    }

    /// All processes, listed when first asked for.
    ///
    /// # Errors
    ///
    /// When there is no operating system, or its processes cannot be listed.
    pub fn processes(&self) -> Result<&Listing<Process>, SpaceError> {
        let system = self
            .system()
            .map_err(|error| SpaceError::NoSystem(error.clone()))?;
        system
            .processes()
            .map_err(|error: &OsError| SpaceError::Os(error.clone()))
    }

    /// The one process with memory of its own that has this name, or whose program is in a file of this name.
    ///
    /// # Errors
    ///
    /// [`SpaceError::Process`], with the processes that may have been meant, when there is none or are several.
    pub fn process(&self, name: &str) -> Result<&Process, SpaceError> {
        let system = self
            .system()
            .map_err(|error| SpaceError::NoSystem(error.clone()))?;
        Ok(system.by_name(name)?)
    }

    /// The memory that is meant.
    ///
    /// # Errors
    ///
    /// [`SpaceError`].
    pub fn space(&self, who: &Who) -> Result<Space<'_>, SpaceError> {
        Space::select(self, who)
    }

    /// Bytes of physical memory that there should be.
    pub fn physical_size(&self) -> u64 {
        let ranges = self.info().ranges.iter();
        ranges.fold(0, |sum, range| range.len().saturating_add(sum))
    }

    /// How many bytes one sweep of this guest may look at.
    ///
    /// Frames are mapped more than once, but a space that maps each sixty times over was made to keep whoever looks busy.
    pub fn sweep_bound(&self) -> u64 {
        self.physical_size().saturating_mul(64).max(64 << 30)
    }

    /// What tells the source from its state at other moments: for a file its length, and when it was changed last, in
    /// nanoseconds since 1970. A running guest is never what it was: for it, now.
    pub fn stamp(&self) -> Option<(u64, u64)> {
        let (len, changed) = match self.kind() {
            SourceKind::Live => (self.info().size, SystemTime::now()),
            _ => {
                let metadata = std::fs::metadata(&self.path).ok()?;
                (metadata.len(), metadata.modified().ok()?)
            }
        };
        let since = changed.duration_since(UNIX_EPOCH).ok()?;
        Some((len, u64::try_from(since.as_nanos()).ok()?))
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("path", &self.path)
            .field("kind", &self.opened.kind)
            .finish_non_exhaustive()
    }
}
