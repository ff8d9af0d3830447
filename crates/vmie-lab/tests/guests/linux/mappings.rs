//! Mappings: line by line against `/proc/PID/maps`.

use vmie::Gva;
use vmie::os::{PageState, Process, Residency, Vma};
use vmie_lab::Page;

use super::support::{Case, each};

const PAGE: u64 = 4096;

/// Where a program moves its pages all the time: what the guest said of them was of another moment.
fn is_restless(va: u64) -> bool {
    (0x2000_0000_0000..0x3000_0000_0000).contains(&va)
}

/// The line of `/proc/PID/maps`, without the padding before the name.
fn line(vma: &Vma) -> String {
    let range = vma.range;
    let end = u128::from(range.last().0) + 1;
    let kind = if vma.shared { 's' } else { 'p' };
    let (offset, (major, minor), inode) = match &vma.file {
        Some(file) => (file.offset, file.device, file.inode),
        None => (0, (0, 0), 0),
    };
    let name = vma.name.as_deref().unwrap_or_default();
    format!(
        "{:08x}-{end:08x} {}{kind} {offset:08x} {major:02x}:{minor:02x} {inode} {name}",
        range.start().0,
        vma.prot
    )
}

fn truth_lines(case: &Case, process: &Process) -> Vec<String> {
    let path = format!("guest/proc/{}/maps", process.pid);
    let text = std::fs::read(case.truth.path(path)).expect("the guest's maps");
    let text = String::from_utf8_lossy(&text).into_owned();
    let squeeze = |line: &str| {
        let mut rest = line;
        let mut fields: Vec<&str> = Vec::new();
        for _ in 0..5 {
            let (field, after) = rest.split_once(' ').expect("five fields and a name");
            fields.push(field);
            rest = after;
        }
        format!("{} {}", fields.join(" "), rest.trim_start_matches(' '))
    };
    text.lines().map(squeeze).collect()
}

#[test]
fn mappings_equal_the_guests_own_line_by_line() {
    each(|case| {
        let listing = case.guest.processes().expect("lists processes");
        let mut lines = 0;
        for process in listing.items.iter().filter(|p| p.root.is_some()) {
            let vmas = case.guest.vmas(process).expect("lists mappings");
            assert_eq!(vmas.findings, [], "{}: {process:?}", case.name());
            let ours: Vec<String> = vmas.items.iter().map(line).collect();
            let theirs = truth_lines(case, process);
            if theirs.is_empty() {
                // Its first thread has exited, so the guest shows nothing; the others still run.
                assert!(process.threads > 1 && !ours.is_empty(), "{process:?}");
                continue;
            }
            assert_eq!(ours, theirs, "{}: {process:?}", case.name());
            lines += ours.len();
        }
        assert!(lines > 200, "{lines}");
    });
}

#[test]
fn pages_are_where_the_guest_says() {
    each(|case| {
        let listing = case.guest.processes().expect("lists processes");
        let (mut present, mut swapped) = (0, 0);
        for truth in case.truth.processes().expect("the guest's processes") {
            let process = listing.items.iter().find(|p| p.pid == truth.pid);
            let process = process.expect("is listed");
            if truth.pages.is_empty() {
                continue;
            }
            let what = format!("{}: {process:?}", case.name());
            let state = |va| case.guest.page_state(process, Gva(va)).expect("has pages");
            let mut expected = Residency::default();
            for run in truth.pages.iter().filter(|run| !is_restless(run.va)) {
                for page in 0..run.count {
                    let va = run.va + page * PAGE;
                    match (run.page, state(va)) {
                        (
                            Page::Present { gpa, .. },
                            PageState::Present { gpa: ours }
                            | PageState::Hinted { gpa: ours }
                            | PageState::Moving { gpa: ours },
                        ) => {
                            assert_eq!(ours.0, gpa + page * PAGE, "{va:#x} of {what}");
                            expected.present += PAGE;
                        }
                        (Page::Present { gpa, .. }, PageState::Forbidden { gpa: ours }) => {
                            assert_eq!(ours.0, gpa + page * PAGE, "{va:#x} of {what}");
                            expected.forbidden += PAGE;
                        }
                        (
                            Page::Swapped { area, offset },
                            PageState::Swapped {
                                area: our_area,
                                offset: our_offset,
                                ..
                            },
                        ) => {
                            assert_eq!((our_area, our_offset), (area, offset + page));
                            expected.swapped += PAGE;
                        }
                        (theirs, ours) => panic!("{va:#x} of {what}: {theirs:?} and {ours:?}"),
                    }
                }
            }
            let mut sum = Residency::default();
            for vma in case.guest.vmas(process).expect("lists mappings").items {
                if is_restless(vma.range.start().0) {
                    continue;
                }
                let part = case.guest.residency(process, vma.range).expect("counts");
                let all = part.present + part.forbidden + part.swapped + part.empty;
                assert_eq!(all, vma.range.len(), "{vma:?} of {what}: {part:?}");
                // Pages of the kernel's that were put there by number (`VM_PFNMAP`) are not in pagemap.
                if vma
                    .name
                    .as_deref()
                    .is_some_and(|name| name.starts_with("[vvar"))
                {
                    continue;
                }
                sum.present += part.present;
                sum.forbidden += part.forbidden;
                sum.swapped += part.swapped;
            }
            assert_eq!(sum, expected, "{what}");
            present += sum.present;
            swapped += sum.swapped;
        }
        assert!(present > 8 << 20, "{present}");
        assert!(swapped > 0);
    });
}
