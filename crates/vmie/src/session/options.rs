//! What may be said when a source is opened.

use std::path::PathBuf;
#[cfg(all(feature = "live", target_os = "linux"))]
use std::sync::Arc;

use crate::addr::Gpa;
use crate::image::Layout;
#[cfg(all(feature = "live", target_os = "linux"))]
use crate::live::Paused;
use crate::os::{SuppliedTypes, TypeStore};

/// What is known about a source, and how to look at it. Begins with nothing: `SessionOptions::default()`.
#[derive(Clone, Default, Debug)]
pub struct SessionOptions {
    pub(super) layout: Option<Layout>,
    pub(super) state: Option<PathBuf>,
    pub(super) bases: Vec<PathBuf>,
    pub(super) holes_are_zeros: bool,
    pub(super) salvage: bool,
    pub(super) keeps: bool,
    pub(super) kernel_at: Option<Gpa>,
    pub(super) types: Option<SuppliedTypes>,
    pub(super) stores: Vec<TypeStore>,
    pub(super) pause: bool,
    #[cfg(all(feature = "live", target_os = "linux"))]
    pub(super) held: Option<Arc<Paused>>,
}

impl SessionOptions {
    /// How a raw image lays out physical memory.
    #[must_use]
    pub fn layout(mut self, layout: Option<Layout>) -> Self {
        self.layout = layout;
        self
    }

    /// The state file of a Firecracker snapshot whose memory file is the source.
    #[must_use]
    pub fn state(mut self, path: Option<PathBuf>) -> Self {
        self.state = path;
        self
    }

    /// The files that a source which holds only changes builds on, the oldest last; and whether there are zeros under
    /// all of them.
    #[must_use]
    pub fn bases(mut self, bases: Vec<PathBuf>, zeros: bool) -> Self {
        self.bases = bases;
        self.holes_are_zeros = zeros;
        self
    }

    /// Whether a damaged snapshot is opened as far as it is intact.
    #[must_use]
    pub fn salvage(mut self, salvage: bool) -> Self {
        self.salvage = salvage;
        self
    }

    /// Whether it is kept beside the source where the operating system was found, and the types of its kernel.
    #[must_use]
    pub fn keep_system(mut self, keep: bool) -> Self {
        self.keeps = keep;
        self
    }

    /// The kernel that is meant, where memory has several, by its top page table.
    #[must_use]
    pub fn kernel_at(mut self, root: Option<Gpa>) -> Self {
        self.kernel_at = root;
        self
    }

    /// Types for a kernel that has none, or damaged ones.
    #[must_use]
    pub fn types(mut self, types: Option<SuppliedTypes>) -> Self {
        self.types = types;
        self
    }

    /// Folders to look for such types in, in this order.
    #[must_use]
    pub fn type_stores(mut self, stores: Vec<TypeStore>) -> Self {
        self.stores = stores;
        self
    }

    /// Whether a running guest stands still as long as the session lives.
    #[must_use]
    pub fn pause(mut self, pause: bool) -> Self {
        self.pause = pause;
        self
    }

    /// A pause that somebody holds already, for as long as they want.
    #[cfg(all(feature = "live", target_os = "linux"))]
    #[must_use]
    pub fn held(mut self, paused: Arc<Paused>) -> Self {
        self.pause = true;
        self.held = Some(paused);
        self
    }
}
