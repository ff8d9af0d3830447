//! What a session says of a guest that runs a server, of guests with names that are not clear, and of other sources.

mod laying;

use std::path::Path;

use vmie_synth::guest::Machine;
use vmie_synth::linux::example::{CODE, REQUESTS, STATE, server};
use vmie_synth::linux::{Era, Program, Programs, Sort};
use vmie_synth::write::{self, Elf};

use super::*;
use crate::paging::Mode;
use crate::scan::Run;
use crate::signature::{Set, Signature};
use crate::snapshot::{SaveOptions, TakeOptions, take};
use crate::{AddrRange, AddressSpace, Gpa, Gva, Layout, ProgramWidth};

fn guest_of(dir: &Path, programs: &[Program]) -> PathBuf {
    let mut machine = Machine::new(0..32 << 20);
    let made = Programs::load(&mut machine, Era::Flags, programs);
    let path = dir.join("guest.elf");
    let core = Elf {
        cpus: vec![made.kernel.space.cpu()],
        ..Elf::default()
    };
    let mut file = std::fs::File::create(&path).expect("a file");
    let phys = &machine.phys;
    write::elf(&mut file, phys.ranges(), &mut &*phys, &core).expect("written");
    path
}

#[test]
fn a_process_is_named_and_its_half_is_meant() {
    let home = tempfile::tempdir().expect("a directory");
    server(home.path()).expect("written");
    let session = Session::open(home.path().join("before.elf")).expect("opens");
    assert_eq!(session.kind(), SourceKind::Image);
    assert_eq!(session.physical_size(), 64 << 20);
    let nginx = session.process("nginx").expect("runs");
    assert_eq!(nginx.pid, 42);
    for who in [
        Who::named("nginx"),
        Who::Pid(42),
        Who::root(nginx.root.expect("a root")),
    ] {
        let space = session.space(&who).expect("there");
        let tables = space.tables().expect("page tables");
        assert_eq!(tables.root(), nginx.root.expect("a root"), "{who:?}");
        let mut code = [0; 5];
        crate::Memory::read(tables, Gva(CODE + 0x123), &mut code).expect("mapped");
        assert_eq!(code[0], 0xe8);
        let of_process = !matches!(who, Who::Root(_));
        assert_eq!(space.process().is_some(), of_process);
        let range = Mode::FourLevel.user_range().filter(|_| of_process);
        assert_eq!(space.user_range::<Gva>(), range);
    }
    let kernel = session.space(&Who::Kernel).expect("there");
    assert_eq!(kernel.user_range::<Gva>(), None);
    assert!(matches!(kernel.owner, Owner::Kernel(_)));
    let physical = session.space(&Who::Physical).expect("there");
    assert!(physical.by_virtual().is_none() && physical.mode().is_none());
}

#[test]
fn the_three_questions_are_answered() {
    let home = tempfile::tempdir().expect("a directory");
    server(home.path()).expect("written");
    let open = |name| Session::open(home.path().join(name)).expect("opens");
    let (before, after) = (open("before.elf"), open("after.elf"));
    let who = Who::named("nginx");
    let (then, now) = (
        before.space(&who).expect("there"),
        after.space(&who).expect("there"),
    );
    let set = Set::compile(vec![Signature::parse("", "84 C0 74").expect("parses")]);
    let found = then
        .scan(&set.expect("compiles"), Run::new())
        .expect("virtual");
    let [one] = &found.items[..] else {
        panic!("{:?}", found.items);
    };
    assert_eq!(
        (one.start, one.len, one.item.sig),
        (Gva(CODE + 0x128), 3, 0)
    );
    assert!(found.is_complete() && found.coverage.gaps.is_empty());
    let changes = then.changes(&now).expect("virtual");
    assert!(changes.is_complete());
    let places: Vec<_> = changes
        .items
        .iter()
        .map(|one| (one.start, one.len))
        .collect();
    assert_eq!(places, [(Gva(REQUESTS), 1)]);
    let pointers = then.pointers().expect("few");
    assert_eq!(pointers.len(), 2);
    let options = crate::pointers::PathOptions {
        values: vec![Gva(STATE)],
        ..Default::default()
    };
    let paths: Vec<String> = pointers
        .paths(Gva(REQUESTS + 8), &options)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(paths, ["[0x600000+0x28]+0x8"]);
    // Of physical memory none of this is asked.
    let physical = before.space(&Who::Physical).expect("there");
    assert_eq!(physical.changes(&now), Err(SpaceError::NotVirtual));
    assert!(matches!(physical.pointers(), Err(SpaceError::NotVirtual)));
}

#[test]
fn names_that_are_not_clear_are_data() {
    let home = tempfile::tempdir().expect("a directory");
    let program = |pid, name| Program::of(pid, name, Sort::X86_64);
    let programs = [
        program(1, "init"),
        program(5, "worker"),
        program(6, "worker"),
        program(7, "Worker-main"),
    ];
    let session = Session::open(guest_of(home.path(), &programs)).expect("opens");
    let pids = |processes: &[Process]| processes.iter().map(|one| one.pid).collect::<Vec<_>>();
    match session.process("worker") {
        Err(SpaceError::Process(ProcessError::Ambiguous { name, processes })) => {
            assert_eq!((name.as_str(), pids(&processes)), ("worker", vec![5, 6]));
        }
        other => panic!("{other:?}"),
    }
    match session.space(&Who::named("WORKER")) {
        Err(SpaceError::Process(ProcessError::NoName {
            alike, processes, ..
        })) => {
            assert_eq!((pids(&alike), processes), (vec![5, 6, 7], 4));
        }
        other => panic!("{other:?}"),
    }
    let error = session.space(&Who::Pid(9)).expect_err("none");
    assert_eq!(
        error,
        SpaceError::Process(ProcessError::NoPid {
            pid: 9,
            processes: 4
        })
    );
    assert_eq!(session.process("init").map(|one| one.pid), Ok(1));
}

#[test]
fn all_spaces_are_looked_at_with_what_their_programs_may_use() {
    let home = tempfile::tempdir().expect("a directory");
    let programs = [
        Program::of(1, "init", Sort::X86_64),
        Program::of(5, "narrow", Sort::I386),
    ];
    let session = Session::open(guest_of(home.path(), &programs)).expect("opens");
    let user = Mode::FourLevel.user_range::<Gva>().expect("halves");
    let kernel = Mode::FourLevel.kernel_range::<Gva>().expect("halves");
    let spaces = session.spaces(true).expect("a system");
    assert!(spaces.is_complete() && spaces.processes == 2);
    let pids = |one: &Space<'_>| one.process().map(|process| process.pid);
    let owners: Vec<_> = spaces.members.iter().map(pids).collect();
    assert_eq!(owners, [Some(1), Some(5), None]);
    let ranges: Vec<_> = spaces.parts().iter().map(|part| part.range).collect();
    assert_eq!(ranges, [user, user, AddrRange::all()]);
    assert_eq!(session.spaces(false).expect("a system").members.len(), 2);

    let widths: Vec<SpaceWidth> = spaces.members.iter().map(Space::program_width).collect();
    let all: Vec<ProgramWidth> = widths.iter().map(|is| is.width).collect();
    let wide = ProgramWidth::X86_64;
    assert_eq!(all, [wide, ProgramWidth::I386, wide]);
    assert!(
        widths
            .iter()
            .all(|is| !is.is_assumed() && is.kernel() == wide)
    );
    let narrow = |part: AddrRange<Gva>| {
        let is = widths[1].of_part(part);
        (is.width, is.kernel)
    };
    assert_eq!(narrow(user), (ProgramWidth::I386, None));
    assert_eq!(narrow(AddrRange::all()), (ProgramWidth::I386, Some(wide)));
    assert_eq!(narrow(kernel), (wide, None));
    assert_eq!(widths[0].of_part(AddrRange::<Gva>::all()).kernel, None);

    let physical = session.space(&Who::Physical).expect("there");
    assert_eq!(physical.program_width().width, ProgramWidth::UNKNOWN);
    let root = session
        .process("narrow")
        .expect("runs")
        .root
        .expect("memory");
    let system = session.system().expect("a kernel");
    assert_eq!(system.width_of_root(root), ProgramWidth::I386);
    assert_eq!(system.width_of_root(Gpa(0)), ProgramWidth::UNKNOWN);
    // The number of the space and flags are no part of a root, whether the mode is known or not.
    for mode in [None, Some(Mode::FourLevel)] {
        let gpa = Gpa(root.0 | 1 << 63 | 0xfff);
        let space = session
            .space(&Who::Root(Root { gpa, mode }))
            .expect("there");
        assert_eq!(space.tables().map(AddressSpace::root), Some(root));
        // It is the hardware's, and nobody's: as wide as the kernel, for all that is known.
        assert_eq!(space.program_width().width, wide);
        assert!(session.left_out(space.tables().expect("tables")).is_none());
    }
}

#[test]
fn roots_that_are_none_say_why() {
    let home = tempfile::tempdir().expect("a directory");
    server(home.path()).expect("written");
    let session = Session::open(home.path().join("before.elf")).expect("opens");
    let absent = session
        .space(&Who::root(Gpa(1 << 40)))
        .expect_err("no such page");
    assert_eq!(absent, SpaceError::RootAbsent(Gpa(1 << 40)));
    let forced = Who::Root(Root {
        gpa: Gpa((64 << 20) - 4096),
        mode: Some(Mode::Pae),
    });
    let space = session.space(&forced).expect("was said to be one");
    assert_eq!(
        (space.mode(), space.detection.is_none()),
        (Some(Mode::Pae), true)
    );
    assert_eq!(
        session.space(&Who::Saved).expect_err("an image"),
        SpaceError::NotSaved
    );
}

#[test]
fn a_snapshot_of_a_space_is_that_and_nothing_else() {
    let home = tempfile::tempdir().expect("a directory");
    server(home.path()).expect("written");
    let session = Session::open(home.path().join("before.elf")).expect("opens");
    let space = session.space(&Who::named("nginx")).expect("there");
    let options = TakeOptions {
        range: space.user_range().expect("a half"),
        ..TakeOptions::default()
    };
    let memory = space.by_virtual().expect("virtual");
    let taken = take(memory, &options, Run::new()).expect("small");
    let path = home.path().join("nginx.snap");
    taken
        .save(&path, &SaveOptions::default(), Run::new())
        .expect("saved");
    let saved = Session::open(&path).expect("opens");
    assert_eq!(
        (saved.kind(), saved.info().format.as_str()),
        (SourceKind::Snapshot, "snapshot")
    );
    let kept = saved.space(&Who::Saved).expect("it is one");
    assert_eq!(kept.user_range::<Gva>(), Some(options.range));
    assert_eq!(
        saved.space(&Who::Kernel).expect_err("none"),
        SpaceError::OnlySaved
    );
    assert!(saved.system().is_err());
    // It may be named by its root, if that is known.
    let root = space.tables().expect("tables").root();
    assert!(saved.space(&Who::root(root)).is_err());
    let origin = crate::snapshot::Origin {
        space: Some((root, Mode::FourLevel)),
        width: ProgramWidth::X32,
        ..crate::snapshot::Origin::default()
    };
    let named = home.path().join("named.snap");
    let saving = SaveOptions::default();
    let with_origin = taken.with_origin(origin);
    with_origin
        .save(&named, &saving, Run::new())
        .expect("saved");
    let named = Session::open(&named).expect("opens");
    let of = |who: &Who| named.space(who).map(|space| space.program_width().width);
    assert_eq!(of(&Who::root(Gpa(root.0 | 0x18))), Ok(ProgramWidth::X32));
    assert_eq!(of(&Who::Saved), Ok(ProgramWidth::X32));
    assert_eq!(of(&Who::root(Gpa(0))), Err(SpaceError::OnlySaved));
    let (from, to) = (space.changes(&kept), kept.changes(&space));
    assert!(
        from.is_ok_and(|same| same.items.is_empty()) && to.is_ok_and(|same| same.items.is_empty())
    );
}

#[test]
fn options_that_mean_nothing_are_refused() {
    let home = tempfile::tempdir().expect("a directory");
    server(home.path()).expect("written");
    let image = home.path().join("before.elf");
    let fails = |path: &Path, options: SessionOptions| match Session::open_with(path, &options) {
        Err(SessionError::Option(option, kind)) => (option, kind),
        other => panic!("{other:?}"),
    };
    let options = SessionOptions::default;
    let layout: Layout = "pc".parse().expect("a layout");
    let live = Path::new("qemu:/nowhere");
    assert_eq!(
        fails(&image, options().pause(true)),
        (SourceOption::Pause, SourceKind::Image)
    );
    assert_eq!(
        fails(live, options().layout(Some(layout))),
        (SourceOption::Layout, SourceKind::Live)
    );
    assert_eq!(
        fails(live, options().bases(Vec::new(), true)),
        (SourceOption::Base, SourceKind::Live)
    );
    let missing = Session::open(home.path().join("nowhere"));
    assert!(
        matches!(missing, Err(SessionError::Image(_))),
        "{missing:?}"
    );
}

#[test]
fn what_was_found_is_kept_where_that_is_asked_for() {
    let home = tempfile::tempdir().expect("a directory");
    server(home.path()).expect("written");
    let image = home.path().join("before.elf");
    let open =
        || Session::open_with(&image, &SessionOptions::default().keep_system(true)).expect("opens");
    let first = open();
    let trail = first.guest().expect("a kernel").trail().clone();
    assert!(first.not_kept().is_none());
    let cache = first.cache().expect("asked for");
    assert_eq!(cache.load(), Some(trail));
    assert_eq!(open().process("nginx").map(|one| one.pid), Ok(42));
}
