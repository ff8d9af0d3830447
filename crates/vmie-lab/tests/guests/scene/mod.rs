//! Guests with a scene: that all is planted in them which answers are tested on, and that what vmie lists of them is what the guest lists,
//! but for what hides.

mod answers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use vmie::os::{FindingKind, Guest, Process, Vma, find};
use vmie::{Gpa, Gva, Image, Memory};
use vmie_lab::{Fact, ImageFormat, SCENES, Scene, Snapshot};

/// How many facts of a kind there are at least. A thing that a kernel does not allow is a fact of its own.
const AT_LEAST: [(&str, usize); 33] = [
    ("actor", 35),
    ("bpf-map", 3),
    ("bpf-program", 10),
    ("cached", 10),
    ("code", 8),
    ("container", 1),
    ("creds", 8),
    ("elevated", 1),
    ("environment", 1),
    ("fd", 40),
    ("file", 1),
    ("hidden-module", 2),
    ("hidden-port", 1),
    ("hidden-process", 2),
    ("hidden-task", 2),
    ("honest", 7),
    ("hook", 20),
    ("in-flight", 2),
    ("interface", 4),
    ("library", 1),
    ("mount", 2),
    ("name", 7),
    ("neighbour", 1),
    ("netns", 3),
    ("orphan-code", 1),
    ("patch", 3),
    ("perf", 1),
    ("preload", 2),
    ("program", 4),
    ("socket", 50),
    ("state", 6),
    ("thread", 6),
    ("uprobe", 1),
];

/// Kinds of hooks, by the names that the rows of `check` have.
const HOOKS: [&str; 15] = [
    "file-ops",
    "ftrace",
    "idt",
    "inline",
    "inode-ops",
    "kprobe",
    "kretprobe",
    "kthread",
    "lsm",
    "netfilter",
    "notifier",
    "proto-ops",
    "seq-ops",
    "syscall-table",
    "tracepoint",
];

/// What a kernel of Debian's may not have.
const MAY_BE_MISSING: [&str; 12] = [
    "bpf-attach-nf_accept",
    "bpf-attach-on_many",
    "bpf-attach-tcx_in",
    "bpf-nf_accept",
    "bpf-on_many",
    "fd-fanotify",
    "fd-io-uring",
    "fd-memfd-secret",
    "fd-socket-alg",
    "fd-socket-xdp",
    "notifier",
    "syscall-dispatch",
];

struct Case {
    truth: Snapshot,
    facts: Scene,
    guest: Box<dyn Guest>,
}

fn each(check: impl Fn(&Case)) {
    let snapshots = Snapshot::scenes().unwrap_or_else(|error| panic!("{error}"));
    for truth in snapshots {
        let file = truth
            .image(ImageFormat::Elf)
            .expect("scenes have one image");
        let image = Image::open(truth.path(&file.file)).expect("opens");
        let hints = image.info().hints.clone();
        let memory: Arc<dyn Memory<Addr = Gpa>> = Arc::new(image);
        let guest =
            find(&memory, &hints).unwrap_or_else(|error| panic!("{}: {error}", truth.variant));
        let facts = truth.facts().expect("facts");
        check(&Case {
            truth,
            facts,
            guest,
        });
    }
}

#[test]
fn everything_is_planted() {
    let mut variants = BTreeSet::new();
    each(|case| {
        let name = &case.truth.variant;
        let counts = case.facts.counts();
        for (kind, least) in AT_LEAST {
            let count = counts.get(kind).copied().unwrap_or_default();
            assert!(
                count >= least,
                "{name}: {count} facts of {kind}, {counts:?}"
            );
        }
        let missing = case.facts.not_planted();
        for what in missing.keys() {
            assert!(MAY_BE_MISSING.contains(what), "{name}: {missing:?}");
        }
        let hooks: BTreeSet<&str> = case
            .facts
            .of("hook")
            .filter_map(|fact| fact.text("what"))
            .collect();
        for what in HOOKS {
            assert!(hooks.contains(what), "{name}: no {what} among {hooks:?}");
        }
        // Either by its table or by code, calls are taken over in each kernel.
        let dispatch =
            hooks.contains("syscall-dispatch") || missing.contains_key("syscall-dispatch");
        assert!(dispatch, "{name}");
    });
    for truth in Snapshot::scenes().expect("scenes") {
        variants.insert(truth.variant);
    }
    if std::env::var_os("VMIE_LAB_VARIANTS").is_none() {
        assert!(
            SCENES.iter().all(|name| variants.contains(*name)),
            "{variants:?}"
        );
    }
}

/// What programs state of their sockets is what the kernel lists, in the namespaces in which they are; and of each namespace that somebody
/// states there is truth.
#[test]
fn facts_and_the_guests_own_tables_agree() {
    each(|case| {
        let name = &case.truth.variant;
        let spaces = case.truth.net_namespaces().expect("namespaces");
        for fact in case.facts.of("netns") {
            let inode = fact.number("inode").expect("a number");
            assert!(spaces.contains(&inode), "{name}: {fact:?}");
        }
        let mut listed: BTreeMap<u64, String> = BTreeMap::new();
        for &space in &spaces {
            for (table, inode) in [
                ("tcp", 9),
                ("tcp6", 9),
                ("udp", 9),
                ("udp6", 9),
                ("unix", 6),
                ("packet", 8),
                ("netlink", 9),
            ] {
                for words in case.truth.net_table(space, table).expect("a table") {
                    let number = words.get(inode).and_then(|word| word.parse().ok());
                    let number: u64 =
                        number.unwrap_or_else(|| panic!("{name}: {table}: {words:?}"));
                    listed.insert(number, table.to_owned());
                }
            }
        }
        let mut checked = 0;
        for fact in case.facts.of("socket") {
            let state = fact.text("state").unwrap_or_default();
            let Some(inode) = fact.number("inode") else {
                continue;
            };
            let proto = fact.text("proto").expect("a protocol");
            // Raw sockets are in no table that is read here; what is bound to nothing is in none.
            if proto.starts_with("raw")
                || state == "UNBOUND" && proto != "unix"
                || state == "BOUND" && proto.starts_with("tcp")
            {
                continue;
            }
            assert_eq!(
                listed.get(&inode).map(String::as_str),
                Some(proto),
                "{name}: {fact:?}"
            );
            checked += 1;
        }
        assert!(checked > 40, "{name}: {checked}");
        for fact in case.facts.of("fd") {
            let (Some(pid), Some(fd)) = (fact.pid(), fact.number("fd")) else {
                panic!("{name}: {fact:?}")
            };
            let descriptors = case.truth.descriptors(pid).expect("descriptors");
            let is_there = descriptors.iter().any(|one| u64::from(one.fd) == fd);
            // Those of a thread with a table of its own are not its process's.
            assert_eq!(is_there, fact.number("tid").is_none(), "{name}: {fact:?}");
        }
        let log = case.truth.log().expect("the log");
        assert!(
            log.windows(2)
                .all(|pair| pair[0].sequence < pair[1].sequence),
            "{name}"
        );
        assert!(
            log.iter()
                .any(|record| record.text.starts_with("shade: fact ")),
            "{name}"
        );
    });
}

fn hexadecimal(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    let bytes = (0..text.len()).step_by(2).map(byte);
    bytes.collect::<Option<_>>().expect("pairs of digits")
}

/// What a fact's field says in hexadecimal is at an address.
fn holds(case: &Case, space: &dyn Memory<Addr = Gva>, fact: &Fact, va: u64, field: &str) {
    let wanted = hexadecimal(fact.text(field).expect("bytes"));
    let mut bytes = vec![0; wanted.len()];
    let read = space.read(Gva(va), &mut bytes);
    assert!(read.is_ok(), "{}: {fact:?}: {read:?}", case.truth.variant);
    assert_eq!(bytes, wanted, "{}: {fact:?}", case.truth.variant);
}

/// The image is of a moment at which all of it was in place: what facts say of memory is in memory.
#[test]
fn what_is_planted_is_in_memory() {
    /// Kinds of hooks whose place holds the address that it leads to.
    const POINTERS: [&str; 6] = [
        "file-ops",
        "inode-ops",
        "proto-ops",
        "seq-ops",
        "syscall-table",
        "tty-ldisc",
    ];
    each(|case| {
        let name = &case.truth.variant;
        let kernel = case.guest.kernel_space();
        let mut pointers = BTreeSet::new();
        for fact in case.facts.of("hook") {
            let what = fact.text("what").expect("a kind");
            let va = fact.number("va").expect("an address");
            if POINTERS.contains(&what) {
                let holds = kernel.read_u64(Gva(va)).expect("reads");
                assert_eq!(Some(holds), fact.number("after"), "{name}: {fact:?}");
                pointers.insert(what);
            } else if what == "inline" {
                holds(case, kernel, fact, va, "now");
            }
        }
        assert_eq!(pointers.len(), POINTERS.len(), "{name}: {pointers:?}");
        for fact in case.facts.of("orphan-code") {
            holds(
                case,
                kernel,
                fact,
                fact.number("va").expect("an address"),
                "bytes",
            );
        }

        let processes = case.guest.processes().expect("lists processes").items;
        let space = |pid: u32| {
            let process = processes.iter().find(|process| process.pid == pid);
            let process = process.unwrap_or_else(|| panic!("{name}: no process {pid}"));
            case.guest.space_of(process).expect("has a space")
        };
        for (kind, field) in [("code", "bytes"), ("patch", "after")] {
            for fact in case.facts.of(kind) {
                let inside = fact.number("thread-in").or(fact.number("va"));
                let pid = fact.pid().expect("a process");
                holds(case, &space(pid), fact, inside.expect("an address"), field);
            }
        }
        // The breakpoint is where the shell's program begins.
        let shell = case.facts.of("shell").next().and_then(Fact::pid);
        let shell = shell.expect("there is a shell");
        let probe = case.facts.of("uprobe").next().expect("there is a probe");
        let offset = probe.number("offset").expect("a number");
        let truth = case.truth.processes().expect("processes");
        let truth = truth.iter().find(|process| process.pid == shell);
        let mut mappings = truth.expect("the shell").vmas.iter();
        let code = mappings.find(|vma| vma.path == "/bin/bash" && vma.prot.contains('x'));
        let code = code.expect("code of the shell");
        let mut first = [0];
        let va = Gva(code.range.start + offset - code.offset);
        space(shell).read(va, &mut first).expect("reads");
        assert_eq!(first, [0xcc], "{name}: {probe:?}");
    });
}

/// The line of `/proc/PID/maps`, without the padding before the name.
fn line(vma: &Vma) -> String {
    let (offset, (major, minor), inode) = match &vma.file {
        Some(file) => (file.offset, file.device, file.inode),
        None => (0, (0, 0), 0),
    };
    let range = vma.range;
    format!(
        "{:x}-{:x} {}{} {offset:x} {major:x}:{minor:x} {inode} {}",
        range.start().0,
        u128::from(range.last().0) + 1,
        vma.prot,
        if vma.shared { 's' } else { 'p' },
        vma.name.as_deref().unwrap_or_default()
    )
}

fn their_lines(process: &vmie_lab::Process) -> Vec<String> {
    let device = |text: &str| {
        let (major, minor) = text.split_once(':').expect("two numbers");
        let number = |text| u32::from_str_radix(text, 16).expect("a number");
        format!("{:x}:{:x}", number(major), number(minor))
    };
    let line = |vma: &vmie_lab::Vma| {
        let (start, end) = (vma.range.start, vma.range.end);
        let device = device(&vma.device);
        format!(
            "{start:x}-{end:x} {} {:x} {device} {} {}",
            vma.prot, vma.offset, vma.inode, vma.path
        )
    };
    process.vmas.iter().map(line).collect()
}

#[test]
fn lists_are_the_guests_own_but_for_what_hides() {
    each(|case| {
        let name = &case.truth.variant;
        let hidden = case.facts.hidden_processes();
        assert_eq!(hidden.len(), 2, "{name}");
        let theirs = case.truth.processes().expect("processes");
        let listing = case.guest.processes().expect("lists processes");
        // One that still has its number is found by it, and that it hides is said.
        let numbered = case
            .facts
            .of("hidden-process")
            .filter(|fact| fact.is("idr", "1"));
        let numbered: Vec<u32> = numbered.filter_map(Fact::pid).collect();
        let tasks = case.facts.of("hidden-task");
        let tasks = tasks.filter(|fact| fact.pid().is_some_and(|pid| numbered.contains(&pid)));
        let tasks: Vec<Option<u64>> = tasks.map(|fact| fact.number("va")).collect();
        let found = listing.findings.iter().map(|finding| {
            assert_eq!(finding.kind, FindingKind::Hidden, "{name}: {finding:?}");
            finding.at.map(|at| at.0)
        });
        assert_eq!(found.collect::<Vec<_>>(), tasks, "{name}");
        let ours = listing.items;
        let by_pid: BTreeMap<u32, &Process> = ours.iter().map(|one| (one.pid, one)).collect();
        let mut lines = 0;
        for truth in &theirs {
            let Some(process) = by_pid.get(&truth.pid) else {
                let is_hidden = hidden.contains(&truth.pid) && !numbered.contains(&truth.pid);
                assert!(is_hidden, "{name}: {} is missing", truth.pid);
                continue;
            };
            assert_eq!(process.kernel, truth.kernel_thread, "{name}: {process:?}");
            assert_eq!(process.ppid, truth.ppid, "{name}: {process:?}");
            assert_eq!(process.uid(), Some(truth.uid), "{name}: {process:?}");
            if process.root.is_none() || truth.vmas.is_empty() {
                continue;
            }
            let vmas = case.guest.vmas(process).expect("mappings").items;
            let vmas: Vec<String> = vmas.iter().map(line).collect();
            assert_eq!(vmas, their_lines(truth), "{name}: {process:?}");
            lines += vmas.len();
        }
        assert_eq!(
            ours.len() + hidden.len() - numbered.len(),
            theirs.len(),
            "{name}"
        );
        assert!(lines > 500, "{name}: {lines}");

        let text = case.truth.guest_text("proc/modules").expect("modules");
        let theirs: BTreeSet<&str> = text
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        let listing = case.guest.modules(None).expect("lists modules");
        let hiding = |folder| {
            let hiding = case.facts.of("hidden-module");
            hiding.filter(move |fact| fact.is("folder", folder))
        };
        // One that still has its folder is found by it.
        let found = listing.findings.iter().map(|finding| {
            assert_eq!(finding.kind, FindingKind::Hidden, "{name}: {finding:?}");
            finding.at.map(|at| at.0)
        });
        let veiled: Vec<Option<u64>> = hiding("1").map(|fact| fact.number("va")).collect();
        assert_eq!(found.collect::<Vec<_>>(), veiled, "{name}");
        let ours = listing.items.iter().map(|module| module.name.as_str());
        let ours: BTreeSet<&str> = ours.filter(|name| *name != "bpf").collect();
        let missing: Vec<&str> = theirs.difference(&ours).copied().collect();
        let gone: Vec<&str> = hiding("0").filter_map(|fact| fact.text("name")).collect();
        assert_eq!(missing, gone, "{name}");
        assert!(
            ours.is_subset(&theirs) && ours.contains("lantern"),
            "{name}: {ours:?}"
        );
    });
}
