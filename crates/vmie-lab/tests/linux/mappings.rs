//! Mappings: line by line against `/proc/PID/maps`.

use vmie::os::{Process, Vma};

use crate::support::{Case, each};

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
