//! Opens the snapshots and finds their kernels, once for all tests.

use std::sync::{Arc, OnceLock};

use vmie::os::{Guest, find};
use vmie::{Gpa, Image, Memory, OpenOptions};
use vmie_lab::{ImageFile, ImageFormat, Snapshot};

/// An image of a snapshot, and the guest that was found in it.
pub(crate) struct Case {
    pub(crate) truth: Snapshot,
    pub(crate) format: ImageFormat,
    pub(crate) memory: Arc<dyn Memory<Addr = Gpa>>,
    pub(crate) guest: Box<dyn Guest>,
    name: String,
}

impl Case {
    fn open(truth: &Snapshot, file: &ImageFile) -> Self {
        let name = format!("{} {:?}", truth.variant, file.format);
        let layout = file.layout.as_deref();
        let options = OpenOptions {
            layout: layout.map(|name| name.parse().expect("a layout")),
            ..OpenOptions::default()
        };
        let image = Image::open_with(truth.path(&file.file), &options);
        let image = image.unwrap_or_else(|error| panic!("{name}: {error}"));
        let hints = image.info().hints.clone();
        // Only one of the formats has CPU state.
        let dumped = matches!(file.format, ImageFormat::Elf | ImageFormat::Kdump);
        assert_eq!(hints.cpus.is_empty(), !dumped, "{name}");
        let memory: Arc<dyn Memory<Addr = Gpa>> = Arc::new(image);
        let guest = find(&memory, &hints).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self {
            truth: truth.clone(),
            format: file.format,
            memory,
            guest,
            name,
        }
    }

    /// What to call it in messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// Every image of every snapshot.
pub(crate) fn cases() -> &'static [Case] {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    CASES.get_or_init(|| {
        let snapshots = Snapshot::all().unwrap_or_else(|error| panic!("{error}"));
        let mut cases = Vec::new();
        for truth in &snapshots {
            let formats: Vec<ImageFormat> = truth.images.iter().map(|file| file.format).collect();
            let all = [
                ImageFormat::Raw,
                ImageFormat::Elf,
                ImageFormat::Lime,
                ImageFormat::Avml,
                ImageFormat::AvmlV1,
                ImageFormat::Kdump,
            ];
            assert_eq!(formats, all, "{}", truth.variant);
            cases.extend(truth.images.iter().map(|file| Case::open(truth, file)));
        }
        cases
    })
}

/// Looks into every image.
pub(crate) fn each(check: impl FnMut(&Case)) {
    cases().iter().for_each(check);
}

/// Looks into one image of each snapshot: for what takes long, or does not depend on the image.
pub(crate) fn each_raw(check: impl FnMut(&Case)) {
    let raw = |case: &&Case| case.format == ImageFormat::Raw;
    cases().iter().filter(raw).for_each(check);
}
