//! Processes: `vmie ps` against `/proc/PID/stat`, `status` and `cmdline`.

use std::collections::BTreeMap;

use vmie::ProgramWidth;
use vmie::os::ProcessState;

use super::support::each;

/// What a name in `/proc` is without what a worker did last, which changes all the time.
fn without_work(name: &[u8]) -> &[u8] {
    let name = name.strip_suffix(b"\n").unwrap_or(name);
    let is_worker = name.starts_with(b"kworker/") && !name.starts_with(b"kworker/R-");
    match name.iter().position(|b| b"+-".contains(b)) {
        Some(end) if is_worker => &name[..end],
        _ => name,
    }
}

#[test]
fn processes_equal_the_guests_own_list() {
    each(|case| {
        let listing = case.guest.processes().expect("lists processes");
        assert_eq!(listing.findings, [], "{}", case.name());
        let ours: BTreeMap<u32, _> = listing.items.iter().map(|p| (p.pid, p)).collect();
        let theirs = case.truth.processes().expect("the guest's processes");
        assert_eq!(
            ours.keys().collect::<Vec<_>>(),
            theirs.iter().map(|p| &p.pid).collect::<Vec<_>>(),
            "{}",
            case.name()
        );
        assert_eq!(ours.len(), listing.items.len(), "each once");
        for truth in &theirs {
            let process = ours[&truth.pid];
            let what = format!("{}: {process:?}", case.name());
            assert_eq!(process.ppid, truth.ppid, "{what}");
            assert_eq!(process.uid(), Some(truth.uid), "{what}");
            assert_eq!(
                without_work(process.name.as_bytes()),
                without_work(&truth.name),
                "{what}"
            );
            assert_eq!(process.threads as usize, truth.threads.len(), "{what}");
            assert_eq!(process.kernel, truth.kernel_thread, "{what}");
            let ticks = process.started.map(|started| started.as_millis() / 10);
            assert_eq!(ticks, Some(truth.start_time.into()), "{what}");
            assert_eq!(
                process.state == ProcessState::Zombie,
                truth.state == 'Z',
                "{what}"
            );
            // A process whose first thread has exited shows no program and no arguments, but still has them.
            if truth.state != 'Z' {
                let program = case.guest.program(process).ok().flatten();
                assert_eq!(program.unwrap_or_default(), truth.exe, "{what}");
                let args: Vec<Vec<u8>> = case
                    .guest
                    .command_line(process)
                    .map(|args| args.into_iter().map(String::into_bytes).collect())
                    .unwrap_or_default();
                assert_eq!(args, truth.cmdline, "{what}");
            }
        }
    });
}

#[test]
fn roots_equal_those_in_cr3() {
    each(|case| {
        let listing = case.guest.processes().expect("lists processes");
        let mut checked = 0;
        for truth in &case.truth.roots {
            let process = listing.items.iter().find(|p| p.pid == truth.pid);
            let process = process.expect("is listed");
            // Taken in user mode: with page-table isolation, of the tables that user mode has.
            let root = process.user_root.or(process.root);
            assert_eq!(root.map(|root| root.0), Some(truth.root));
            let space = case.guest.space_of(process).expect("has a space");
            assert_eq!(space.root().0, truth.root);
            checked += 1;
        }
        assert!(checked > 10);
    });
}

#[test]
fn what_has_no_memory_says_why() {
    each(|case| {
        let listing = case.guest.processes().expect("lists processes");
        let (mut kernel, mut exited) = (0, 0);
        for process in &listing.items {
            match case.guest.space_of(process) {
                Ok(_) => assert!(!process.kernel && process.root.is_some()),
                Err(error) => {
                    let text = error.to_string();
                    if process.kernel {
                        kernel += 1;
                        assert!(text.ends_with("is a kernel thread"), "{text}");
                    } else {
                        exited += 1;
                        assert_eq!(process.state, ProcessState::Zombie);
                        assert!(text.ends_with("has exited"), "{text}");
                    }
                }
            }
        }
        assert!(kernel > 10 && exited == 1);
    });
}

/// Every program is as wide as its file says, by all that tells it: nothing contradicts, and nothing is missing.
#[test]
fn programs_are_as_wide_as_their_files() {
    each(|case| {
        let listing = case.guest.processes().expect("lists processes");
        let mut checked = 0;
        for process in listing.items.iter().filter(|one| one.root.is_some()) {
            let Ok(Some(program)) = case.guest.program(process) else {
                continue;
            };
            let file = case
                .truth
                .dir
                .join("files")
                .join(program.trim_start_matches('/'));
            let Ok(file) = std::fs::read(file) else {
                continue;
            };
            let expected = match (file[4], file[18]) {
                (1, 3) => ProgramWidth::I386,
                (1, 62) => ProgramWidth::X32,
                (2, 62) => ProgramWidth::X86_64,
                other => panic!("{program}: {other:?}"),
            };
            let told = case.guest.width_of(process).expect("has memory");
            let what = format!("{}: {} {program}: {told:?}", case.name(), process.pid);
            assert_eq!(told.width, expected, "{what}");
            assert_eq!(told.findings, [], "{what}");
            assert!(told.signs.len() >= 2, "{what}");
            checked += 1;
        }
        assert!(checked > 10, "{}: {checked}", case.name());
    });
}
