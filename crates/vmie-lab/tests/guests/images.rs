//! What the formats say about the machine, and that they hold the same memory.

use std::sync::Arc;

use vmie::session::Session;
use vmie::{Format, Gpa, Image, Layout, Memory};
use vmie_lab::{ImageFile, ImageFormat, Snapshot};

use crate::support::{are_standard, each_image, raw, snapshots};

#[test]
fn formats_are_recognised_by_content() {
    for snapshot in snapshots() {
        for file in &snapshot.images {
            let image = Image::open(snapshot.path(&file.file)).expect("opens");
            let expected = match file.format {
                ImageFormat::Raw => Format::Raw,
                ImageFormat::Elf => Format::Elf,
                // Version 1 of AVML is LiME to the last byte.
                ImageFormat::Lime | ImageFormat::AvmlV1 => Format::Lime,
                ImageFormat::Avml => Format::Avml,
                ImageFormat::Kdump => Format::Kdump,
            };
            assert_eq!(image.info().format, expected, "{}", file.file.display());
        }
    }
}

/// A copy of RAM of which nothing is said is laid out as QEMU laid RAM out, and is known to be, before anything is searched for.
#[test]
fn raw_memory_tells_its_layout() {
    for snapshot in snapshots() {
        let file = snapshot.image(ImageFormat::Raw).expect("a copy of RAM");
        let session = Session::open(snapshot.path(&file.file)).expect("opens");
        let layout = session.info().layout.clone().expect("raw");
        assert!(layout.is_known(), "{}: {layout}", snapshot.variant);
        let notes = &session.info().notes;
        assert!(notes.is_empty(), "{}: {notes:?}", snapshot.variant);
        let told = layout.layout.resolve(session.info().size);
        let said: Layout = match &file.layout {
            Some(layout) => layout.parse().expect("a layout"),
            None => Layout::flat(session.info().size),
        };
        assert_eq!(
            told,
            said.resolve(session.info().size),
            "{}: {layout}",
            snapshot.variant
        );
        session.system().expect("found");
        assert!(session.info().notes.is_empty(), "{}", snapshot.variant);
        assert!(session.processes().expect("listed").items.len() > 10);
    }
}

/// `--layout pc|q35` puts RAM where QEMU put it.
#[test]
fn layouts_are_qemus() {
    let mut split = 0;
    for snapshot in snapshots() {
        let image = raw(&snapshot);
        // QEMU shows the firmware in front of RAM just below 1 MiB in some machines; what is behind
        // it is RAM all the same, so only what both call RAM is compared.
        let mut at = 0;
        for part in &snapshot.ram {
            split += usize::from(part.gpa >= 1 << 32);
            at = part.gpa + part.len;
            let covered = image
                .info()
                .ranges
                .iter()
                .any(|range| range.contains(Gpa(part.gpa)) && range.contains(Gpa(at - 1)));
            assert!(covered, "{}: {part:x?}", snapshot.variant);
        }
        let last = image.info().ranges.last().expect("has memory");
        assert_eq!(
            last.last(),
            Gpa(at - 1),
            "{}: the end of RAM",
            snapshot.variant
        );
        let mut bytes = [0; 4096];
        for part in &snapshot.ram {
            let end = part.gpa + part.len - 4096;
            image.read(Gpa(end), &mut bytes).expect("RAM");
            assert_eq!(
                bytes[..],
                at_offset(&snapshot, part.offset + part.len - 4096)
            );
        }
    }
    assert!(
        split > 0 || !are_standard(&snapshots()),
        "no variant with RAM above 4 GiB"
    );
}

fn at_offset(snapshot: &Snapshot, offset: u64) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::open(snapshot.path("ram.raw")).expect("opens");
    let mut bytes = vec![0; 4096];
    file.read_exact_at(&mut bytes, offset).expect("reads");
    bytes
}

/// All of System RAM, byte by byte, in every format; and nothing beyond it that is not there.
#[test]
fn every_format_holds_the_same_memory() {
    each_image(|snapshot, image, name| {
        let expected = raw(snapshot);
        for range in snapshot.system_ram().expect("readable") {
            same(&*expected, &image, range.start, range.end, name);
        }
    });
}

fn same(expected: &dyn Memory<Addr = Gpa>, image: &Arc<Image>, start: u64, end: u64, name: &str) {
    const PIECE: u64 = 1 << 20;
    let mut ours = vec![0; 1 << 20];
    let mut theirs = vec![0; 1 << 20];
    for at in (start..end).step_by(1 << 20) {
        let len = usize::try_from(PIECE.min(end - at)).expect("small");
        expected.read(Gpa(at), &mut theirs[..len]).expect("RAM");
        image
            .read(Gpa(at), &mut ours[..len])
            .unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert!(
            ours[..len] == theirs[..len],
            "{name}: differs in {at:#x}+{len:#x}"
        );
    }
}

#[test]
fn dumps_know_the_cpus() {
    let all = snapshots();
    let by_qemu = |file: &ImageFile| matches!(file.format, ImageFormat::Elf | ImageFormat::Kdump);
    let files = all.iter().flat_map(|snapshot| {
        let files = snapshot.images.iter().filter(|file| by_qemu(file));
        files.map(move |file| (snapshot, file))
    });
    for (snapshot, file) in files {
        let image = crate::support::open(snapshot, file);
        let cpus: Vec<_> = image
            .info()
            .hints
            .cpus
            .iter()
            .map(|cpu| (cpu.index, cpu.cr0, cpu.cr3, cpu.cr4, cpu.rip, cpu.rsp))
            .collect();
        let expected: Vec<_> = snapshot
            .cpus
            .iter()
            .map(|cpu| (cpu.cpu, cpu.cr0, cpu.cr3, cpu.cr4, cpu.rip, cpu.rsp))
            .collect();
        assert_eq!(cpus, expected, "{}", snapshot.variant);
        assert_eq!(cpus.len(), snapshot.machine.cpus as usize);
    }
}
