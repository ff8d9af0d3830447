//! Opens the snapshots.

use std::sync::Arc;

use vmie::os::{Guest, find};
use vmie::{Gpa, Image, Memory, OpenOptions};
use vmie_lab::{ImageFormat, Snapshot};

/// The standard variants.
pub(crate) const VARIANTS: [&str; 3] = ["pc-6.1", "q35-6.12", "la57-6.12"];

/// A snapshot and the guest that was found in its raw image.
pub(crate) struct Case {
    pub(crate) truth: Snapshot,
    pub(crate) guest: Box<dyn Guest>,
}

impl Case {
    /// What to call it in messages.
    pub(crate) fn name(&self) -> &str {
        &self.truth.variant
    }
}

/// The raw image of a snapshot.
pub(crate) fn open(truth: &Snapshot) -> Arc<dyn Memory<Addr = Gpa>> {
    let file = truth.image(ImageFormat::Raw).expect("a raw image");
    let layout = file.layout.as_deref();
    let options = OpenOptions {
        layout: layout.map(|name| name.parse().expect("a layout")),
    };
    Arc::new(Image::open_with(truth.path(&file.file), &options).expect("opens"))
}

/// Looks into the raw image of each variant, without any CPU state.
pub(crate) fn each(mut check: impl FnMut(&Case)) {
    for variant in VARIANTS {
        let truth = Snapshot::of_variant(variant);
        let truth = truth.expect("a snapshot, which `cargo xtask lab` makes");
        let guest = find(&open(&truth), &[]).expect("finds the kernel");
        check(&Case { truth, guest });
    }
}
