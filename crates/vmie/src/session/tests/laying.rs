//! Raw images of guests whose RAM goes beyond the hole below 4 GiB, opened without a word about their layout.

use std::fs::File;
use std::path::{Path, PathBuf};

use vmie_synth::guest::{Flags, Frames, Machine, PageSize, Paging, Phys, Space};
use vmie_synth::linux::{Era, Program, Programs, Sort};
use vmie_synth::write::RamPart;

use crate::image::LayoutPart;
use crate::memory::{Cause, SpanKind};
use crate::paging::Mode;
use crate::session::{LayoutKnown, Root, Session, SessionOptions, Who};
use crate::{AddrRange, Gpa, Gva, Layout};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const HIGH: u64 = 4 * GIB;
/// RAM from 4 GiB on.
const MORE: u64 = 256 * MIB;
/// Where kernels keep a root to start CPUs with.
const LOW_ROOT: u64 = 0x9_a000;
const DATA: u64 = 0x60_0000;

/// A guest with RAM up to `low` and from 4 GiB on, which hands out the latter first, as systems do.
fn empty(low: u64) -> Machine {
    let mut phys = Phys::sparse();
    phys.add_ram(0..low);
    phys.add_ram(HIGH..HIGH + MORE);
    Machine::with(phys, Frames::sequential(&[HIGH..HIGH + MORE, MIB..low]))
}

/// One that runs programs. With `low_root`, it is found at once.
fn guest(low: u64, low_root: bool) -> (Machine, Programs) {
    let mut machine = empty(low);
    let programs = [
        Program::of(1, "init", Sort::X86_64),
        Program::of(7, "server", Sort::X86_64),
    ];
    let made = Programs::load(&mut machine, Era::Flags, &programs);
    made.spaces[1].map_new(&mut machine, DATA, 1, Flags::DATA);
    made.spaces[1].write(&mut machine, DATA, b"beyond the hole");
    // Tables that the kernel has set up ahead of time.
    for i in 320..384 {
        let (table, root) = (machine.frames.alloc(), made.kernel.space.root());
        machine.phys.write_uint(root + 8 * i, table | 0x63, 8);
    }
    if low_root {
        let mut half = [0; 2048];
        let root = made.kernel.space.root();
        machine.phys.read(root + 2048, &mut half).expect("a table");
        machine.phys.write(LOW_ROOT + 2048, &half);
    }
    (machine, made)
}

/// RAM back to back.
fn copy(low: u64) -> Vec<RamPart> {
    vec![
        RamPart {
            range: 0..low,
            offset: 0,
        },
        RamPart {
            range: HIGH..HIGH + MORE,
            offset: low,
        },
    ]
}

/// Every byte at its own address.
fn padded() -> Vec<RamPart> {
    vec![RamPart {
        range: 0..HIGH + MORE,
        offset: 0,
    }]
}

fn save(dir: &Path, machine: &Machine, parts: &[RamPart]) -> PathBuf {
    let path = dir.join("guest.raw");
    let file = File::create(&path).expect("a file");
    machine.phys.save(&file, parts).expect("written");
    path
}

fn parts_of(session: &Session) -> Vec<(u64, u64, u64)> {
    let layout = session.info().layout.as_ref().expect("raw");
    let parts = layout.layout.resolve(session.info().size);
    let part = |part: &LayoutPart| (part.gpa.0, part.len, part.offset);
    parts.iter().map(part).collect()
}

fn wanted(parts: &[RamPart]) -> Vec<(u64, u64, u64)> {
    let part = |part: &RamPart| {
        (
            part.range.start,
            part.range.end - part.range.start,
            part.offset,
        )
    };
    parts.iter().map(part).collect()
}

#[track_caller]
fn is_the_guest(session: &Session) {
    let names = session.processes().expect("listed").items.iter();
    let names: Vec<&str> = names.map(|process| process.name.as_str()).collect();
    assert_eq!(names, ["init", "server"]);
    let space = session.space(&Who::named("server")).expect("there");
    let mut text = [0; 15];
    let memory = space.by_virtual().expect("virtual");
    memory.read(Gva(DATA), &mut text).expect("mapped");
    assert_eq!(&text, b"beyond the hole");
}

#[test]
fn the_layout_that_proves_itself_is_taken() {
    let lows = [2048, 2816, 3072, 3328, 3584, 3840, 3968].map(|low| low * MIB);
    let home = tempfile::tempdir().expect("a directory");
    for low in lows {
        let (machine, _) = guest(low, true);
        for parts in [copy(low), padded()] {
            let path = save(home.path(), &machine, &parts);
            let session = Session::open(&path).expect("opens");
            // Known when it is opened, before anything is looked for.
            let layout = session.info().layout.clone().expect("raw");
            assert!(layout.is_known() && layout.others.is_empty(), "{layout:?}");
            assert!(matches!(layout.known, LayoutKnown::Tables(_)), "{layout:?}");
            assert_eq!(parts_of(&session), wanted(&parts), "{low:#x}");
            assert_eq!(session.info().notes, [""; 0]);
            is_the_guest(&session);
            assert_eq!(session.info().notes, [""; 0]);
        }
    }
    let (machine, _) = guest(3072 * MIB, true);
    let path = save(home.path(), &machine, &copy(3072 * MIB));
    let session = Session::open(&path).expect("opens");
    let layout = session.info().layout.clone().expect("raw");
    // A machine's name where there is one; 3.25 GiB are too few for `pc` to have a hole.
    assert_eq!(layout.layout, Layout::Microvm);
}

#[test]
fn what_was_said_is_not_tried() {
    let home = tempfile::tempdir().expect("a directory");
    let (machine, _) = guest(2 * GIB, true);
    let path = save(home.path(), &machine, &copy(2 * GIB));
    let given: Layout = "0+2GiB@0,4GiB+256MiB@2GiB".parse().expect("a layout");
    let options = SessionOptions::default().layout(Some(given.clone()));
    let session = Session::open_with(&path, &options).expect("opens");
    let layout = session.info().layout.clone().expect("raw");
    assert_eq!((layout.layout, layout.known), (given, LayoutKnown::Given));
    is_the_guest(&session);
    // Nobody's memory comes out under a wrong one.
    let options = SessionOptions::default().layout(Some(Layout::Pc));
    let session = Session::open_with(&path, &options).expect("opens");
    assert!(session.system().is_err());
}

#[test]
fn the_system_decides_where_a_glance_does_not() {
    let home = tempfile::tempdir().expect("a directory");
    let low = 2 * GIB;
    let (mut machine, made) = guest(low, false);
    made.kernel
        .write_note(&mut machine, &made.kernel.note_lines());
    for parts in [copy(low), padded()] {
        let path = save(home.path(), &machine, &parts);
        let session = Session::open(&path).expect("opens");
        let layout = session.info().layout.clone().expect("raw");
        assert_eq!(layout.known, LayoutKnown::Open);
        assert!(!layout.others.is_empty());
        is_the_guest(&session);
        assert_eq!(parts_of(&session), wanted(&parts));
        let layout = session.info().layout.clone().expect("raw");
        assert!(matches!(layout.known, LayoutKnown::Tables(_)), "{layout:?}");
        // What is read as physical memory is what the system was found in.
        let root = Gpa(made.spaces[1].root());
        assert!(root.0 > HIGH && session.physical().read_u64(root).is_ok());
    }
}

#[test]
fn the_tables_under_a_root_decide() {
    let home = tempfile::tempdir().expect("a directory");
    for paging in [Paging::FourLevel, Paging::FiveLevel, Paging::Pae] {
        let mut machine = empty(3 * GIB);
        let space = Space::new(&mut machine, paging);
        // The root itself is below the hole where it has to be.
        for va in [0x40_0000, 0x1000_0000, 0x5000_0000] {
            space.map_new(&mut machine, va, 20, Flags::DATA);
        }
        space.write(&mut machine, 0x40_0000, b"found");
        for parts in [copy(3 * GIB), padded()] {
            let path = save(home.path(), &machine, &parts);
            let session = Session::open(&path).expect("opens");
            let root = Root {
                gpa: Gpa(space.root()),
                mode: None,
            };
            let found = session.space(&Who::Root(root)).expect("there");
            let mut text = [0; 5];
            let memory = found.by_virtual().expect("virtual");
            memory.read(Gva(0x40_0000), &mut text).expect("mapped");
            assert_eq!((&text, parts_of(&session)), (b"found", wanted(&parts)));
            // Whoever asks for physical memory afterwards sees the same.
            assert!(session.physical().read_u64(Gpa(space.root())).is_ok());
        }
    }
}

#[test]
fn damaged_tables_do_not_turn_the_answer() {
    let home = tempfile::tempdir().expect("a directory");
    let low = 2 * GIB;
    let (mut machine, made) = guest(low, true);
    // More tables beyond the hole than the few that a small kernel has.
    for i in 0..40 {
        let va = 0xffff_c900_0000_0000 + i * (2 << 20);
        made.kernel
            .space
            .map_new(&mut machine, va, 1, Flags::KERNEL_DATA);
    }
    let mut half = [0; 2048];
    let root = made.kernel.space.root();
    machine.phys.read(root + 2048, &mut half).expect("a table");
    machine.phys.write(LOW_ROOT + 2048, &half);
    let tables: Vec<u64> = (HIGH..HIGH + MORE)
        .step_by(4096)
        .filter(|&gpa| machine.is_table(gpa))
        .collect();
    assert!(tables.len() > 40);
    // Not those by which the kernel's image is found.
    for &table in tables.iter().skip(20).step_by(8) {
        machine.phys.write(table, &[0x5b; 4096]);
    }
    let path = save(home.path(), &machine, &copy(low));
    let session = Session::open(&path).expect("opens");
    let layout = session.info().layout.clone().expect("raw");
    assert!(matches!(layout.known, LayoutKnown::Tables(_)), "{layout:?}");
    assert_eq!(parts_of(&session), wanted(&copy(low)));
}

#[test]
fn without_evidence_nothing_is_claimed() {
    let home = tempfile::tempdir().expect("a directory");
    let mut machine = empty(3 * GIB);
    machine.phys.write(0x5000, b"no page tables at all");
    let path = save(home.path(), &machine, &copy(3 * GIB));
    let session = Session::open(&path).expect("opens");
    assert!(session.system().is_err());
    let layout = session.info().layout.clone().expect("raw");
    assert_eq!(layout.known, LayoutKnown::Open);
    assert_eq!(layout.layout, Layout::flat(3 * GIB + MORE));
    assert!(layout.others.contains(&Layout::Microvm), "{layout:?}");
    assert!(layout.to_string().contains("not known"), "{layout}");
    // Tables that lie where all layouts agree say nothing.
    let low = Frames::sequential(&[MIB..GIB]);
    let mut machine = Machine::with(machine.phys, low);
    let space = Space::new(&mut machine, Paging::FourLevel);
    space.map_new(&mut machine, 0x40_0000, 4, Flags::DATA);
    let path = save(home.path(), &machine, &copy(3 * GIB));
    let session = Session::open(&path).expect("opens");
    session
        .space(&Who::root(Gpa(space.root())))
        .expect("a space");
    let layout = session.info().layout.clone().expect("raw");
    assert_eq!(layout.known, LayoutKnown::Open);
}

/// Bytes that are declared and not in the file.
fn lost(session: &Session) -> u64 {
    let spans = session.physical().spans(AddrRange::all());
    let lost = spans.filter(|span| matches!(span.kind, SpanKind::Lost(Cause::Truncated { .. })));
    lost.map(|span| span.len).sum()
}

/// Has the kernel use a table in the last page of RAM.
fn use_last_page(machine: &mut Machine, made: &Programs) {
    let (last, top) = (HIGH + MORE - 4096, made.kernel.space.root());
    machine.phys.write_uint(last, 0x63 | MIB, 8);
    machine.phys.write_uint(top + 8 * 300, last | 0x63, 8);
    machine.phys.write_uint(LOW_ROOT + 8 * 300, last | 0x63, 8);
}

#[track_caller]
fn cut_is_told(path: &Path, size: u64, parts: &[(u64, u64, u64)]) {
    let file = File::options().write(true).open(path).expect("opens");
    file.set_len(size).expect("cut");
    drop(file);
    let session = Session::open(path).expect("opens");
    let notes = session.info().notes.join("\n");
    assert!(notes.contains("the file was cut"), "{size:#x}: {notes}");
    assert!(notes.contains("page tables lie beyond its end"), "{notes}");
    assert_eq!(parts_of(&session), parts, "{size:#x}");
    assert!(lost(&session) >= MORE / 2);
    if session.system().is_ok() {
        // The kernel knows exactly.
        assert_eq!(lost(&session), 2 * GIB + MORE - size, "{size:#x}");
        assert!(session.info().notes.join("\n").contains("cut"));
    }
    let last = Gpa(HIGH + MORE - 4096);
    let fault = session.physical().read_u64(last).expect_err("missing");
    assert!(matches!(fault.cause, Cause::Truncated { .. }), "{fault}");
}

#[test]
fn a_file_that_was_cut_is_told_and_what_is_missing_is_declared() {
    let home = tempfile::tempdir().expect("a directory");
    let low = 2 * GIB;
    let (mut machine, made) = guest(low, true);
    use_last_page(&mut machine, &made);
    let path = save(home.path(), &machine, &copy(low));
    let parts = [(0, low, 0), (HIGH, MORE / 2, low)];
    cut_is_told(&path, low + MORE / 2, &parts);
}

#[test]
fn a_file_that_ends_below_the_hole_is_told_too() {
    let home = tempfile::tempdir().expect("a directory");
    let low = 2 * GIB;
    let mut machine = empty(low);
    machine.frames = Frames::sequential(&[MIB..GIB]);
    let made = Programs::load(
        &mut machine,
        Era::Flags,
        &[Program::of(1, "init", Sort::X86_64)],
    );
    let mut half = [0; 2048];
    let root = made.kernel.space.root();
    machine.phys.read(root + 2048, &mut half).expect("a table");
    machine.phys.write(LOW_ROOT + 2048, &half);
    use_last_page(&mut machine, &made);
    for size in [low, GIB] {
        let path = save(home.path(), &machine, &copy(low));
        cut_is_told(&path, size, &[(0, size, 0)]);
    }
}

#[test]
fn a_small_image_that_was_cut_is_told_too() {
    let home = tempfile::tempdir().expect("a directory");
    let mut machine = Machine::new(0..64 * MIB);
    let made = Programs::load(
        &mut machine,
        Era::Flags,
        &[Program::of(1, "init", Sort::X86_64)],
    );
    let parts = [RamPart {
        range: 0..64 * MIB,
        offset: 0,
    }];
    let path = save(home.path(), &machine, &parts);
    let session = Session::open(&path).expect("opens");
    session.system().expect("found");
    let layout = session.info().layout.clone().expect("raw");
    assert_eq!(
        (layout.known, session.info().notes.len()),
        (LayoutKnown::Only, 0)
    );
    let file = File::options().write(true).open(&path).expect("opens");
    file.set_len(48 * MIB + 100).expect("cut");
    drop(file);
    let session = Session::open(&path).expect("opens");
    assert!(
        session
            .info()
            .notes
            .join("\n")
            .contains("100 bytes into a page")
    );
    session.system().expect("found");
    let notes = session.info().notes.join("\n");
    assert!(notes.contains("counts RAM up to 0x4000000"), "{notes}");
    assert_eq!(session.physical_size(), 64 * MIB);
    assert_eq!(made.spaces.len(), 1);
}

#[test]
fn a_hole_that_begins_elsewhere_is_told_by_what_the_system_counts() {
    let home = tempfile::tempdir().expect("a directory");
    let low = 1536 * MIB;
    let mut machine = empty(low);
    // Everything that tells lies below the hole.
    machine.frames = Frames::sequential(&[MIB..low]);
    Programs::load(
        &mut machine,
        Era::Flags,
        &[Program::of(1, "init", Sort::X86_64)],
    );
    let path = save(home.path(), &machine, &copy(low));
    let file = File::options().write(true).open(&path).expect("opens");
    let session = Session::open(&path).expect("opens");
    drop(file);
    session.system().expect("found");
    // 1.75 GiB in one piece are plausible for nothing else, until the kernel says otherwise.
    assert_eq!(parts_of(&session), wanted(&copy(low)));
}

#[test]
fn large_pages_beyond_the_hole_need_no_table_there() {
    let home = tempfile::tempdir().expect("a directory");
    let mut machine = empty(3 * GIB);
    machine.frames = Frames::sequential(&[MIB..GIB]);
    let space = Space::new(&mut machine, Paging::FourLevel);
    space.map(
        &mut machine,
        0x4000_0000,
        HIGH,
        PageSize::Size2M,
        Flags::DATA,
    );
    let path = save(home.path(), &machine, &copy(3 * GIB));
    let session = Session::open(&path).expect("opens");
    let root = Root {
        gpa: Gpa(space.root()),
        mode: Some(Mode::FourLevel),
    };
    let found = session.space(&Who::Root(root)).expect("a space");
    // Nothing tells, and nothing is invented: the page is not in the image as it is taken.
    assert!(
        found
            .by_virtual()
            .expect("virtual")
            .read_u64(Gva(0x4000_0000))
            .is_err()
    );
    let layout = session.info().layout.clone().expect("raw");
    assert_eq!(layout.known, LayoutKnown::Open);
}
