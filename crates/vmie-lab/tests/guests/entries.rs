//! Pages that are in memory although the CPU does not find them: that the guests have such, of each kind, and that
//! our own walker reads their entries as the kernel does. vmie has no part in this.

use std::collections::BTreeMap;

use vmie_lab::walker::{Hidden, Why, hidden, leaves};
use vmie_lab::{Area, Page, Process, Program, Snapshot};

use crate::support::{are_standard, snapshots};

const PAGE: u64 = 4096;
const HUGE_PAGE: u64 = 2 << 20;

/// Where programs move their pages all the time, as the guest's witness has it: what it said of frames there was
/// of another moment.
pub(crate) fn is_restless(va: u64) -> bool {
    (0x2000_0000_0000..0x3000_0000_0000).contains(&va)
}

/// The pages that a process has in memory by the guest's own word, and their frames; without restless ones.
pub(crate) fn present(process: &Process) -> BTreeMap<u64, u64> {
    let mut pages = BTreeMap::new();
    for run in &process.pages {
        let Page::Present { gpa, .. } = run.page else {
            continue;
        };
        for at in (0..run.count).map(|page| page * PAGE) {
            if !is_restless(run.va + at) {
                pages.insert(run.va + at, gpa + at);
            }
        }
    }
    pages
}

/// The hidden pages of a process whose root is known, in pieces of 4 KiB.
pub(crate) fn hidden_pages(snapshot: &Snapshot, root: u64) -> BTreeMap<u64, Hidden> {
    let mut pages = BTreeMap::new();
    for page in hidden(snapshot, root).expect("the kernel's configuration") {
        for at in (0..page.size).step_by(PAGE as usize) {
            let (va, gpa) = (page.va + at, page.gpa + at);
            pages.insert(va, Hidden { va, gpa, ..page });
        }
    }
    pages
}

/// A program of the guest, with the hidden pages of its process as they are in the tables.
pub(crate) fn program(snapshot: &Snapshot, name: &str) -> Option<(Program, Vec<Hidden>)> {
    let programs = snapshot.programs().expect("readable");
    let program = programs.into_iter().find(|program| program.name == name)?;
    let root = snapshot.root_of(program.pid).expect("it is busy");
    let pages = hidden(snapshot, root).expect("the kernel's configuration");
    Some((program, pages))
}

/// Whether a guest has two NUMA nodes.
pub(crate) fn has_nodes(snapshot: &Snapshot) -> bool {
    snapshot.variant.starts_with("numa-")
}

/// How many hidden pages of a size and for a reason are in an area.
fn count(pages: &[Hidden], area: &Area, size: u64, why: Why) -> u64 {
    let is_it = |page: &&Hidden| area.contains(page.va) && (page.size, page.why) == (size, why);
    pages.iter().filter(is_it).count() as u64
}

#[test]
fn pagemap_has_what_the_cpu_sees_and_what_is_hidden() {
    for snapshot in snapshots() {
        let processes = snapshot.processes().expect("readable");
        let mut compared = 0;
        for root in &snapshot.roots {
            let process = processes.iter().find(|process| process.pid == root.pid);
            let process = process.expect("roots belong to processes");
            if process.vmas.is_empty() {
                continue;
            }
            let of_the_kernel = |va: u64| {
                let vma = process.vmas.iter().find(|vma| vma.range.contains(&va));
                vma.is_none_or(|vma| vma.path.starts_with("[vvar"))
            };
            let mut pages: BTreeMap<u64, u64> = BTreeMap::new();
            for leaf in leaves(&snapshot, root.root) {
                if leaf.va >> 63 == 0 && !of_the_kernel(leaf.va) {
                    for at in (0..leaf.size).step_by(PAGE as usize) {
                        pages.insert(leaf.va + at, leaf.gpa + at);
                    }
                }
            }
            let hidden = hidden_pages(&snapshot, root.root);
            compared += hidden.len();
            for (va, page) in hidden {
                assert_eq!(pages.insert(va, page.gpa), None, "{va:#x} is in both");
            }
            pages.retain(|va, _| !is_restless(*va));
            assert!(
                pages == present(process),
                "{}: process {}",
                snapshot.variant,
                process.pid
            );
        }
        assert!(compared > 1000, "{}: {compared}", snapshot.variant);
    }
}

#[test]
fn a_program_has_pages_of_every_size_that_nobody_may_use() {
    for snapshot in snapshots() {
        let name = &snapshot.variant;
        let (program, pages) = program(&snapshot, "prot-none").expect("in every guest");
        let count = |area: &str, size| {
            let area = program.area(area).expect("it is in every guest");
            count(&pages, area, size, Why::ProtNone)
        };
        assert_eq!(count("NONE4K", PAGE), 16, "{name}");
        assert_eq!(count("PARTLY", PAGE), 16, "{name}");
        assert_eq!(count("NONECODE", PAGE), 4, "{name}");
        assert_eq!(count("NONESHARED", PAGE), 4, "{name}");
        assert_eq!(count("NONESWAP", PAGE), 0, "{name}");
        assert_eq!(count("NONEHUGE", HUGE_PAGE), 1, "{name}");
        // Real-time kernels have no transparent huge pages; only guests that are told to have those of 1 GiB.
        let has_huge = program.area("NONETHP").is_some();
        assert!(
            has_huge || snapshot.kernel.release.contains("-rt-"),
            "{name}"
        );
        if has_huge {
            assert_eq!(count("NONETHP", HUGE_PAGE), 1, "{name}");
        }
        let has_giant = program.area("NONEGIANT").is_some();
        assert_eq!(has_giant, name.starts_with("giant-"), "{name}");
        if has_giant {
            assert_eq!(count("NONEGIANT", 1 << 30), 1, "{name}");
        }
    }
}

#[test]
fn a_guest_with_nodes_samples_accesses_and_moves_pages() {
    let snapshots = snapshots();
    let guests: Vec<_> = snapshots.iter().filter(|one| has_nodes(one)).collect();
    assert!(!guests.is_empty() || !are_standard(&snapshots));
    for snapshot in guests {
        let name = &snapshot.variant;
        let (program, pages) = program(snapshot, "numabal").expect("it has nodes");
        for (area, size) in [("NUMABAL", PAGE), ("NUMATHP", HUGE_PAGE)] {
            let area = program.area(area).expect("stated");
            let sampled = count(&pages, area, size, Why::ProtNone);
            assert!(sampled > 0, "{name}: {}", area.name);
            // All its pages are on a node, by the guest's own count.
            let counts = on_nodes(snapshot, program.pid, area);
            assert_eq!(counts.iter().sum::<u64>(), area.len / PAGE, "{name}");
        }
        // Some are used and some not, so not all of them are sampled now.
        let small = program.area("NUMABAL").expect("stated");
        let sampled = count(&pages, small, PAGE, Why::ProtNone);
        assert!(sampled < small.len / PAGE, "{name}: {sampled}");

        let (program, pages) = self::program(snapshot, "mover").expect("it has nodes");
        let moving = |(area, size)| {
            let area = program.area(area).expect("stated");
            count(&pages, area, size, Why::Migration)
        };
        let moving = [("MOVER", PAGE), ("MOVERTHP", HUGE_PAGE)].map(moving);
        assert!(moving.iter().sum::<u64>() > 0, "{name}");
    }
}

/// How many pages of an area are on each node, as `/proc/PID/numa_maps` says.
fn on_nodes(snapshot: &Snapshot, pid: u32, area: &Area) -> Vec<u64> {
    let maps = snapshot.guest_text(&format!("proc/{pid}/numa_maps"));
    let start = format!("{:08x} ", area.va);
    let maps = maps.expect("the guest has nodes");
    let line = maps.lines().find(|line| line.starts_with(&start));
    let words = line.unwrap_or_else(|| panic!("no line of {}", area.name));
    let on_node = |word: &str| {
        let (node, count) = word.split_once('=')?;
        let number = node.strip_prefix('N')?;
        number.parse::<u32>().ok()?;
        count.parse().ok()
    };
    words.split(' ').filter_map(on_node).collect()
}

#[test]
fn zswap_holds_pages_where_it_is_on() {
    for snapshot in snapshots() {
        if snapshot.variant.starts_with("zswap-") {
            let stored = snapshot.guest_text("zswap_stored_pages").expect("sent");
            let stored: u64 = stored.trim().parse().expect("a number");
            assert!(stored > 50, "{}: {stored}", snapshot.variant);
        }
    }
}
