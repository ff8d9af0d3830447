//! The user half of each program's address space against its `/proc/PID/pagemap` and `maps`.

use std::collections::BTreeMap;

use vmie::paging::ExtentItem;
use vmie_lab::Page;
use vmie_lab::walker::hidden;

use crate::entries::{hidden_pages, is_restless, present};
use crate::support::{raw, snapshots, space, user_half};

/// Address to frame of every present page.
type Pages = BTreeMap<u64, u64>;

#[test]
fn user_pages_are_those_of_proc_pagemap() {
    for snapshot in snapshots() {
        let processes = snapshot.processes().expect("readable");
        let mut compared = 0;
        for root in &snapshot.roots {
            let process = processes
                .iter()
                .find(|process| process.pid == root.pid)
                .expect("roots belong to processes");
            if process.vmas.is_empty() {
                // A leader that has ended: the kernel no longer shows its address space.
                assert_eq!(process.state, 'Z', "{}", process.pid);
                continue;
            }
            // Pages that nobody may use, or whose accesses are sampled, keep their frames, but not in a form
            // that the CPU would translate: Linux clears the present bit.
            let hidden = hidden_pages(&snapshot, root.root);
            let mut expected: Pages = present(process);
            expected.retain(|va, _| !hidden.contains_key(va));
            let mut pages = Pages::new();
            for item in space(&snapshot, raw(&snapshot), root.root).extents(user_half()) {
                let ExtentItem::Extent(extent) = item else {
                    panic!("{}: process {}: {item:?}", snapshot.variant, process.pid);
                };
                let vma = process
                    .vmas
                    .iter()
                    .find(|vma| vma.range.contains(&extent.va.0))
                    .unwrap_or_else(|| panic!("{}: {} is in no mapping", process.pid, extent.va));
                let may = |letter: char| vma.prot.contains(letter);
                assert!(extent.prot.user(), "{}: {}", process.pid, extent.va);
                // The tables may allow less than the mapping (copy on write), never more.
                assert!(may('w') || !extent.prot.write(), "{} {vma:?}", process.pid);
                assert_eq!(may('x'), extent.prot.exec(), "{} {vma:?}", process.pid);
                // Pages of the kernel's that were put there by number (`VM_PFNMAP`) are not in pagemap.
                if !vma.path.starts_with("[vvar") && !is_restless(extent.va.0) {
                    for at in (0..extent.len).step_by(4096) {
                        pages.insert(extent.va.0 + at, extent.gpa.0 + at);
                    }
                }
            }
            assert_eq!(
                pages,
                expected,
                "{}: process {} {}",
                snapshot.variant,
                process.pid,
                String::from_utf8_lossy(&process.name)
            );
            compared += 1;
        }
        assert!(compared >= 10, "{}: {compared} processes", snapshot.variant);
    }
}

/// The odd inhabitants are there and odd in the way they should be; else tests that rely on them
/// would test nothing.
#[test]
fn the_crowd_is_what_it_is_meant_to_be() {
    for snapshot in snapshots() {
        let variant = &snapshot.variant;
        let processes = snapshot.processes().expect("readable");
        let programs = snapshot.programs().expect("readable");
        let process = |name: &str| {
            let program = programs.iter().find(|program| program.name == name);
            let pid = program
                .unwrap_or_else(|| panic!("{variant}: no {name}"))
                .pid;
            processes
                .iter()
                .find(|process| process.pid == pid)
                .unwrap_or_else(|| panic!("{variant}: {name} has ended"))
        };
        assert_eq!(process("threads").threads.len(), 4, "{variant}");
        assert_eq!(process("threads").threads[1].name, b"worker-a", "{variant}");
        assert_eq!(process("user").uid, 1000, "{variant}");
        assert_eq!(process("odd-name").name, b"x) R \x1b[31m\n(", "{variant}");
        assert_eq!(process("leaderless").state, 'Z', "{variant}");
        assert!(
            processes
                .iter()
                .any(|zombie| zombie.state == 'Z' && zombie.ppid == process("zombie").pid),
            "{variant}"
        );
        assert!(
            process("files")
                .vmas
                .iter()
                .any(|vma| vma.path == "/lab/out/doomed (deleted)"),
            "{variant}"
        );
        assert!(
            process("swapped")
                .pages
                .iter()
                .any(|run| matches!(run.page, Page::Swapped { .. }) && run.count > 100),
            "{variant}: nothing is swapped out"
        );
        assert!(
            processes
                .iter()
                .any(|process| process.kernel_thread && process.name == b"kthreadd"),
            "{variant}"
        );
        // Real-time kernels have no huge pages.
        let program = programs.iter().find(|program| program.name == "huge-pages");
        let areas = &program.expect("was looked up").areas;
        let has_huge = areas.iter().any(|area| area.name == "huge");
        let release = &snapshot.kernel.release;
        assert!(has_huge || release.contains("-rt-"), "{variant}: {release}");
        let root = snapshot.root_of(process("huge-pages").pid).expect("busy");
        // Their accesses may be sampled, and the CPU does not see them now.
        let hidden = hidden(&snapshot, root).expect("the kernel's configuration");
        let hidden = hidden.iter().any(|page| page.size == 2 << 20);
        let seen = space(&snapshot, raw(&snapshot), root)
            .extents(user_half())
            .any(|item| matches!(item, ExtentItem::Extent(extent) if extent.page_size == 2 << 20));
        assert_eq!(hidden || seen, has_huge, "{variant}: huge pages");
        let shared = process("shared");
        let child = processes
            .iter()
            .find(|child| child.ppid == shared.pid)
            .expect("it has a child");
        assert_ne!(
            snapshot.root_of(shared.pid),
            snapshot.root_of(child.pid),
            "{variant}"
        );
        assert!(
            snapshot
                .guest_text("kallsyms")
                .expect("sent")
                .lines()
                .any(|line| line.ends_with(" init_task") && !line.starts_with("0000000000000000")),
            "{variant}: kallsyms without addresses"
        );
    }
}
