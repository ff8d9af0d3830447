//! Opening what the lab made.

use std::sync::Arc;

use vmie::{AddrRange, AddressSpace, Gpa, Gva, Image, Mode, OpenOptions};
use vmie_lab::{ImageFile, ImageFormat, STANDARD, Snapshot};

/// All snapshots.
pub(crate) fn snapshots() -> Vec<Snapshot> {
    Snapshot::all().unwrap_or_else(|error| panic!("{error}"))
}

/// Whether these are at least the variants of every ordinary run, which together have all that tests
/// look for. The matrix tests one guest at a time.
pub(crate) fn are_standard(snapshots: &[Snapshot]) -> bool {
    let has = |name: &&str| snapshots.iter().any(|snapshot| snapshot.variant == **name);
    STANDARD.iter().all(has)
}

/// Runs `check` on every image of every snapshot, named for messages.
pub(crate) fn each_image(check: impl Fn(&Snapshot, Arc<Image>, &str)) {
    for snapshot in snapshots() {
        let formats: Vec<ImageFormat> = snapshot.images.iter().map(|image| image.format).collect();
        for format in [
            ImageFormat::Raw,
            ImageFormat::Elf,
            ImageFormat::Lime,
            ImageFormat::Avml,
        ] {
            assert!(
                formats.contains(&format),
                "{}: no {format:?}",
                snapshot.variant
            );
        }
        for file in &snapshot.images {
            let name = format!("{} {:?}", snapshot.variant, file.format);
            check(&snapshot, open(&snapshot, file), &name);
        }
    }
}

pub(crate) fn open(snapshot: &Snapshot, file: &ImageFile) -> Arc<Image> {
    let path = snapshot.path(&file.file);
    let options = OpenOptions {
        layout: file
            .layout
            .as_ref()
            .map(|layout| layout.parse().expect("the lab writes valid layouts")),
        ..OpenOptions::default()
    };
    let image = Image::open_with(&path, &options);
    Arc::new(image.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// The raw image: QEMU's RAM file itself.
pub(crate) fn raw(snapshot: &Snapshot) -> Arc<Image> {
    let file = snapshot
        .image(ImageFormat::Raw)
        .expect("every snapshot has one");
    open(snapshot, file)
}

pub(crate) fn mode(snapshot: &Snapshot) -> Mode {
    if snapshot.machine.five_levels {
        Mode::FiveLevel
    } else {
        Mode::FourLevel
    }
}

pub(crate) fn space(snapshot: &Snapshot, image: Arc<Image>, root: u64) -> AddressSpace {
    AddressSpace::new(image, Gpa(root), mode(snapshot))
}

/// The address space that was current when the CPUs stopped.
pub(crate) fn current(snapshot: &Snapshot, image: Arc<Image>) -> AddressSpace {
    space(snapshot, image, snapshot.current.root)
}

/// The lower half, where user programs are.
pub(crate) fn user_half() -> AddrRange<Gva> {
    AddrRange::inclusive(Gva(0), Gva((1 << 63) - 1)).expect("not empty")
}
