//! Real guests with damaged lists: an answer with findings, in time, and no process lost that another
//! view has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use vmie::os::{FindingKind, Guest, Process, find};
use vmie::{Gpa, Gva, Hints, Memory};

use super::overlay::{Overlay, PAGE};
use super::support::{Case, each_raw};

const USER: u64 = 0x0000_5555_0000_1000;
const UNMAPPED: u64 = 0xffff_f000_0000_0000;

/// A guest whose kernel memory is to be damaged.
struct Victim<'c> {
    case: &'c Case,
    processes: Vec<Process>,
}

impl<'c> Victim<'c> {
    fn new(case: &'c Case) -> Self {
        let processes = case.guest.processes().expect("lists processes").items;
        Self { case, processes }
    }

    fn offset(&self, record: &str, member: &str) -> u64 {
        self.find_offset(record, member).expect("a member")
    }

    fn find_offset(&self, record: &str, member: &str) -> Option<u64> {
        let types = self.case.guest.types().expect("types");
        types.offset_of(record, member).ok()
    }

    /// The word at an address of the kernel.
    fn word(&self, va: u64) -> u64 {
        let space = self.case.guest.kernel_space();
        space.read_u64(Gva(va)).expect("mapped")
    }

    fn gpa(&self, va: u64) -> Gpa {
        let mapping = self.case.guest.kernel_space().translate(Gva(va));
        mapping.expect("is mapped").gpa
    }

    fn symbol(&self, name: &str) -> u64 {
        let symbols = self.case.guest.symbols().expect("symbols");
        symbols.address_of(name).expect("a symbol").0
    }

    /// The guest with these words of the kernel's memory replaced.
    fn with(&self, words: &[(u64, u64)]) -> Box<dyn Guest> {
        let memory = &self.case.memory;
        let whole = |page: u64| {
            let mut bytes = vec![0; PAGE as usize];
            memory
                .read(Gpa(page * PAGE), &mut bytes)
                .expect("a page of the kernel's");
            bytes
        };
        let mut pages = BTreeMap::new();
        for &(va, word) in words {
            for (at, byte) in (self.gpa(va).0..).zip(word.to_le_bytes()) {
                let page = pages.entry(at / PAGE).or_insert_with(|| whole(at / PAGE));
                page[(at % PAGE) as usize] = byte;
            }
        }
        let patched = Overlay::over(memory, pages);
        find(&patched, &Hints::default()).expect("the kernel itself is whole")
    }
}

fn pids(processes: &[Process]) -> BTreeSet<u32> {
    processes.iter().map(|process| process.pid).collect()
}

/// Runs what must not hang.
fn in_time<R>(run: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = run();
    assert!(start.elapsed() < Duration::from_secs(20), "took too long");
    result
}

#[test]
fn damaged_lists_of_tasks() {
    each_raw(|case| {
        let victim = Victim::new(case);
        let tasks = victim.offset("task_struct", "tasks");
        let process = &victim.processes[victim.processes.len() / 2];
        let node = process.object.0 + tasks;
        let other = victim.processes[3].object.0 + tasks;
        let init = victim.symbol("init_task") + tasks;
        let cases: &[(&str, &[(u64, u64)])] = &[
            ("a task that leads to itself", &[(node, node)]),
            ("both links to itself", &[(node, node), (node + 8, node)]),
            ("back to an earlier one", &[(node, other)]),
            ("into user memory", &[(node, USER)]),
            ("into unmapped memory", &[(node, UNMAPPED)]),
            ("null", &[(node, 0)]),
            ("in the middle of something", &[(node, node + 0x28)]),
            ("nothing to start with", &[(init, USER), (init + 8, USER)]),
            ("an empty list", &[(init, init), (init + 8, init)]),
        ];
        for (what, words) in cases {
            let guest = victim.with(words);
            let listing = in_time(|| guest.processes()).expect("lists processes");
            let what = format!("{}: {what}: {:?}", case.name(), listing.findings);
            assert_eq!(pids(&listing.items), pids(&victim.processes), "{what}");
            assert!(!listing.findings.is_empty(), "{what}");
        }
    });
}

#[test]
fn hidden_processes() {
    each_raw(|case| {
        let victim = Victim::new(case);
        let tasks = victim.offset("task_struct", "tasks");
        let mut user = victim.processes.iter().filter(|p| p.root.is_some());
        let process = user.next_back().expect("a process with memory");
        let node = process.object.0 + tasks;
        let space = case.guest.kernel_space();
        let next = space.read_u64(Gva(node)).expect("mapped");
        let prev = space.read_u64(Gva(node + 8)).expect("mapped");
        let guest = victim.with(&[(prev, next), (next + 8, prev)]);
        let listing = guest.processes().expect("lists processes");
        assert_eq!(pids(&listing.items), pids(&victim.processes));
        let [finding] = &listing.findings[..] else {
            panic!("{:?}", listing.findings);
        };
        assert_eq!(finding.kind, FindingKind::Hidden);
        assert_eq!(finding.at, Some(process.object));
        assert!(
            finding.text.contains(&format!("process {}", process.pid)),
            "{finding}"
        );
        // Hidden or not, it can be looked into.
        let hidden = listing.items.iter().find(|p| p.pid == process.pid);
        let vmas = guest.vmas(hidden.expect("is listed")).expect("mappings");
        assert_eq!(vmas.findings, []);
        assert!(!vmas.items.is_empty());
    });
}

#[test]
fn damaged_pid_tables() {
    each_raw(|case| {
        let victim = Victim::new(case);
        let top =
            victim.symbol("init_pid_ns") + victim.offset("pid_namespace", "idr.idr_rt.xa_head");
        let space = case.guest.kernel_space();
        let node = space.read_u64(Gva(top)).expect("mapped");
        let slots = (node & !3) + victim.offset("xa_node", "slots");
        let all: Vec<(u64, u64)> = (0..64).map(|slot| (slots + slot * 8, node)).collect();
        for (what, words) in [
            ("no table", vec![(top, 0)]),
            ("in user memory", vec![(top, USER | 2)]),
            ("in unmapped memory", vec![(top, UNMAPPED | 2)]),
            ("a node that holds itself everywhere", all),
        ] {
            let guest = victim.with(&words);
            let listing = in_time(|| guest.processes()).expect("lists processes");
            let what = format!("{}: {what}", case.name());
            assert_eq!(pids(&listing.items), pids(&victim.processes), "{what}");
            let hidden = listing
                .findings
                .iter()
                .filter(|f| f.kind == FindingKind::Hidden);
            assert!(hidden.count() >= victim.processes.len() / 2, "{what}");
        }
    });
}

#[test]
fn absurd_counts() {
    each_raw(|case| {
        let victim = Victim::new(case);
        let mut user = victim.processes.iter().filter(|p| p.root.is_some());
        let process = user.next_back().expect("a process with memory");
        let signal = process.object.0 + victim.offset("task_struct", "signal");
        let space = case.guest.kernel_space();
        let signal = space.read_u64(Gva(signal)).expect("mapped");
        let threads = signal + victim.offset("signal_struct", "nr_threads");
        let mm = process
            .linux()
            .and_then(|linux| linux.mm)
            .expect("has memory")
            .0;
        let count = mm + victim.offset("mm_struct", "map_count");
        let guest = victim.with(&[(threads, u64::MAX), (count, u64::MAX)]);
        let listing = in_time(|| guest.processes()).expect("lists processes");
        assert_eq!(pids(&listing.items), pids(&victim.processes));
        assert_eq!(listing.findings.len(), 1, "{:?}", listing.findings);
        assert_eq!(listing.findings[0].kind, FindingKind::Inconsistent);
        let vmas = in_time(|| guest.vmas(process)).expect("mappings");
        let whole = case.guest.vmas(process).expect("mappings");
        assert_eq!(vmas.items, whole.items);
        assert_eq!(vmas.findings.len(), 1, "{:?}", vmas.findings);
    });
}

#[test]
fn damaged_views_of_mappings() {
    each_raw(|case| {
        let victim = Victim::new(case);
        let mut user = victim.processes.iter().filter(|p| p.root.is_some());
        let process = user.next_back().expect("a process with memory");
        let mm = process
            .linux()
            .and_then(|linux| linux.mm)
            .expect("has memory")
            .0;
        let has_tree = victim.find_offset("mm_struct", "mm_mt.ma_root").is_some();
        let damages = match has_tree {
            true => damages_of_tree(&victim, mm),
            false => damages_of_list(&victim, mm),
        };
        for (what, at, value) in damages {
            let guest = victim.with(&[(at, value)]);
            let vmas = in_time(|| guest.vmas(process)).expect("mappings");
            assert!(!vmas.findings.is_empty(), "{}: {what}", case.name());
        }
    });
}

/// What is done to it, where, and the word that is put there.
type Damage = (&'static str, u64, u64);

/// Since 6.1 the mappings of a process are a tree.
fn damages_of_tree(victim: &Victim<'_>, mm: u64) -> Vec<Damage> {
    let root = mm + victim.offset("mm_struct", "mm_mt.ma_root");
    let node = victim.word(root);
    // `maple_arange_64` is type 3.
    let kind = match node >> 3 & 0xf {
        3 => "maple_arange_64",
        _ => "maple_range_64",
    };
    let slots = (node & !0xff) + victim.offset(kind, "slot");
    vec![
        ("no tree", root, 0),
        ("a tree in user memory", root, USER & !0xff | 0xe),
        ("a tree in unmapped memory", root, UNMAPPED | 0xe),
        ("a node of no type", root, node | 0x78),
        ("an entry that is the node itself", slots, node & !0x7f),
    ]
}

/// Before, they are a list.
fn damages_of_list(victim: &Victim<'_>, mm: u64) -> Vec<Damage> {
    let head = mm + victim.offset("mm_struct", "mmap");
    let next = victim.offset("vm_area_struct", "vm_next");
    let first = victim.word(head);
    let second = victim.word(first + next);
    vec![
        ("no list", head, 0),
        ("a list in user memory", head, USER),
        ("a list in unmapped memory", head, UNMAPPED),
        ("an area that leads to itself", first + next, first),
        ("a list that goes back", second + next, first),
        ("a list that is cut", second + next, 0),
        ("an area that is left out", head, second),
    ]
}

#[test]
fn damaged_lists_of_modules() {
    each_raw(|case| {
        let victim = Victim::new(case);
        let list = victim.offset("module", "list");
        let modules = case.guest.modules(None).expect("modules").items;
        let module = modules[2].object.expect("has a record").0 + list;
        let space = case.guest.kernel_space();
        let next = space.read_u64(Gva(module)).expect("mapped");
        let prev = space.read_u64(Gva(module + 8)).expect("mapped");
        for (what, words) in [
            ("a module that leads to itself", vec![(module, module)]),
            ("into user memory", vec![(module, USER)]),
            ("a hidden module", vec![(prev, next), (next + 8, prev)]),
        ] {
            let guest = victim.with(&words);
            let listing = in_time(|| guest.modules(None)).expect("modules");
            let what = format!("{}: {what}: {:?}", case.name(), listing.findings);
            assert_eq!(listing.items, modules, "{what}");
            assert!(!listing.findings.is_empty(), "{what}");
        }
    });
}
