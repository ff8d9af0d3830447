//! Processes and threads, whole, hidden and damaged, in every form of pid table.

use proptest::prelude::*;

use super::world::{Definition, World, types};
use crate::addr::{Address, Gpa, Gva};
use crate::memory::{Cause, Fault, Memory, Spans};
use crate::os::FindingKind::{self, Damaged, Hidden, Inconsistent, Limit, Unreadable};
use crate::os::OsError;
use crate::os::linux::tasks::{Group, TaskTables};
use crate::os::object::Findings;
use crate::os::{Finding, Types};
use crate::testmem::Made;

/// Offsets in the structures below.
const TASKS: u64 = 0x40;
const THREAD_NODE: u64 = 0x50;
const PID_LINKS: u64 = 0x60;
const GROUP_LEADER: u64 = 0x90;
const REAL_PARENT: u64 = 0x98;
const SIGNAL: u64 = 0xa0;
const PID_TASKS: u64 = 0x10;
const PID_NUMBERS: u64 = 0x30;
const NODE_SLOTS: u64 = 0x20;

const USER: u64 = 0x0000_5555_0000_1000;
const UNMAPPED: u64 = 0xffff_9999_0000_0000;

/// The forms of the pid table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Xarray,
    RadixTree,
    Hash,
}

const FORMS: [Form; 3] = [Form::Xarray, Form::RadixTree, Form::Hash];

fn definitions(form: Form) -> Types {
    definitions_where(form, &|_| true)
}

/// The definitions of all structures, with those members of `task_struct` and `signal_struct` that `keep`
/// accepts.
fn definitions_where(form: Form, keep: &dyn Fn(&str) -> bool) -> Types {
    let node = match form {
        Form::RadixTree => "radix_tree_node",
        _ => "xa_node",
    };
    let top = match form {
        Form::RadixTree => "rnode",
        _ => "xa_head",
    };
    let namespace: &[(&str, &str, u32)] = match form {
        Form::Hash => &[("level", "u32", 0)],
        _ => &[("level", "u32", 0), ("idr", "idr", 8)],
    };
    let all: &[Definition<'_>] = &[
        ("list_head", 16, &[("next", "ptr", 0), ("prev", "ptr", 8)]),
        ("hlist_head", 8, &[("first", "ptr", 0)]),
        ("hlist_node", 16, &[("next", "ptr", 0), ("pprev", "ptr", 8)]),
        (
            node,
            0x230,
            &[("shift", "u8", 0), ("slots", "ptr[64]", 0x20)],
        ),
        ("root", 16, &[(top, "ptr", 8)]),
        ("idr", 24, &[("idr_rt", "root", 0)]),
        ("pid_namespace", 64, namespace),
        (
            "upid",
            32,
            &[
                ("nr", "u32", 0),
                ("ns", "ptr", 8),
                ("pid_chain", "hlist_node", 16),
            ],
        ),
        (
            "pid",
            0x60,
            &[
                ("tasks", "hlist_head[4]", 0x10),
                ("numbers", "upid[1]", 0x30),
            ],
        ),
        (
            "signal_struct",
            0x40,
            &[("nr_threads", "u32", 8), ("thread_head", "list_head", 0x10)],
        ),
        (
            "task_struct",
            0x100,
            &[
                ("__state", "u32", 0),
                ("flags", "u32", 4),
                ("exit_state", "u32", 8),
                ("pid", "u32", 0x10),
                ("tgid", "u32", 0x14),
                ("comm", "char[16]", 0x18),
                ("mm", "ptr", 0x28),
                ("start_boottime", "u64", 0x30),
                ("thread_pid", "ptr", 0x38),
                ("tasks", "list_head", 0x40),
                ("thread_node", "list_head", 0x50),
                ("pid_links", "hlist_node[2]", 0x60),
                ("group_leader", "ptr", 0x90),
                ("real_parent", "ptr", 0x98),
                ("signal", "ptr", 0xa0),
                ("real_cred", "ptr", 0xa8),
            ],
        ),
    ];
    let kept: Vec<Vec<(&str, &str, u32)>> = all
        .iter()
        .map(|&(name, _, members)| {
            let tasks = ["task_struct", "signal_struct"].contains(&name);
            let kept = members.iter().filter(|member| !tasks || keep(member.0));
            kept.copied().collect()
        })
        .collect();
    let all: Vec<Definition<'_>> = all
        .iter()
        .zip(&kept)
        .map(|(&(name, size, _), members)| (name, size, &members[..]))
        .collect();
    types(&all, &[])
}

/// A task of the guest.
#[derive(Clone, Copy, Debug)]
struct Thread {
    pid: u32,
    at: u64,
    /// Its `struct pid`.
    number: u64,
    signal: u64,
}

/// A guest with these processes: 1 with threads 1, 2 and 3; 4; 70 with threads 70 and 4200.
struct Guest {
    world: World,
    form: Form,
    init_task: u64,
    /// Of the pointer to the top node or the buckets.
    table: u64,
    namespace: u64,
    threads: Vec<Thread>,
}

const GROUPS: &[&[u32]] = &[&[1, 2, 3], &[4], &[70, 4200]];

impl Guest {
    fn new(form: Form) -> Self {
        let mut world = World::new();
        let init_task = world.symbol("init_task", 0x100);
        let namespace = world.symbol("init_pid_ns", 64);
        let table = match form {
            Form::Hash => {
                let shift = world.symbol("pidhash_shift", 4);
                world.put32(shift, 2);
                world.symbol("pid_hash", 8)
            }
            _ => namespace + 8 + 8,
        };
        world.put(init_task + 0x18, b"swapper/0\0");
        let mut threads = Vec::new();
        for group in GROUPS {
            let signal = world.room(0x40);
            world.put32(signal + 8, group.len() as u32);
            let leader = threads.len();
            for &pid in *group {
                let (at, number) = (world.room(0x100), world.room(0x60));
                world.put32(at + 0x10, pid);
                world.put32(at + 0x14, group[0]);
                world.put(at + 0x18, format!("task{pid}\0").as_bytes());
                world.put64(at + 0x38, number);
                world.put64(at + REAL_PARENT, init_task);
                world.put64(at + SIGNAL, signal);
                world.put64(number + PID_TASKS, at + PID_LINKS);
                world.put32(number + PID_NUMBERS, pid);
                world.put64(number + PID_NUMBERS + 8, namespace);
                threads.push(Thread {
                    pid,
                    at,
                    number,
                    signal,
                });
            }
            let own = &threads[leader..];
            for thread in own {
                world.put64(thread.at + GROUP_LEADER, own[0].at);
            }
            let nodes: Vec<u64> = own.iter().map(|t| t.at + THREAD_NODE).collect();
            world.ring(signal + 0x10, &nodes);
        }
        let leaders: Vec<u64> = GROUPS
            .iter()
            .map(|group| threads.iter().find(|t| t.pid == group[0]).expect("made").at + TASKS)
            .collect();
        world.ring(init_task + TASKS, &leaders);
        let mut guest = Self {
            world,
            form,
            init_task,
            table,
            namespace,
            threads,
        };
        guest.fill_table();
        guest
    }

    /// Puts all numbers into the table: two levels above the lowest, for 4200 needs three.
    fn fill_table(&mut self) {
        match self.form {
            Form::Hash => {
                let buckets = self.world.room(4 * 8);
                self.world.put64(self.table, buckets);
                for (i, thread) in self.threads.clone().into_iter().enumerate() {
                    let bucket = buckets + 8 * (i as u64 % 2);
                    let mut first = [0; 8];
                    crate::memory::Memory::read(&self.world, crate::addr::Gva(bucket), &mut first)
                        .expect("mapped");
                    let chain = thread.number + PID_NUMBERS + 16;
                    self.world.put(chain, &first);
                    self.world.put64(bucket, chain);
                }
            }
            _ => {
                let top = self.node(12);
                self.world.put64(self.table, self.tagged(top));
                for thread in self.threads.clone() {
                    let mut node = top;
                    for shift in [12, 6] {
                        let slot = self.slot(node, thread.pid, shift);
                        node = match self.number(slot) {
                            0 => {
                                let below = self.node(shift - 6);
                                self.world.put64(slot, self.tagged(below));
                                below
                            }
                            below => below & !3,
                        };
                    }
                    let slot = self.slot(node, thread.pid, 0);
                    self.world.put64(slot, thread.number);
                }
            }
        }
    }

    fn node(&mut self, shift: u32) -> u64 {
        let node = self.world.room(0x230);
        self.world.put32(node, shift);
        node
    }

    fn tagged(&self, node: u64) -> u64 {
        node | if self.form == Form::RadixTree { 1 } else { 2 }
    }

    fn slot(&self, node: u64, number: u32, shift: u32) -> u64 {
        node + NODE_SLOTS + 8 * (u64::from(number) >> shift & 63)
    }

    fn number(&self, at: u64) -> u64 {
        crate::memory::Memory::read_u64(&self.world, crate::addr::Gva(at)).expect("mapped")
    }

    /// The slot of the table that holds a number, or the link of the chain that leads to it.
    fn entry_of(&self, pid: u32) -> u64 {
        if self.form == Form::Hash {
            let chain = self.thread(pid).number + PID_NUMBERS + 16;
            let mut at = self.number(self.table);
            for bucket in 0..2 {
                at = self.number(self.table) + 8 * bucket;
                while self.number(at) != 0 && self.number(at) != chain {
                    at = self.number(at);
                }
                if self.number(at) == chain {
                    break;
                }
            }
            return at;
        }
        let mut node = self.number(self.table) & !3;
        for shift in [12, 6] {
            node = self.number(self.slot(node, pid, shift)) & !3;
        }
        self.slot(node, pid, 0)
    }

    /// Takes a number out of the table.
    fn unlist_number(&mut self, pid: u32) {
        let at = self.entry_of(pid);
        let next = match self.form {
            Form::Hash => self.number(self.number(at)),
            _ => 0,
        };
        self.world.put64(at, next);
    }

    /// Takes a node out of its list, as the kernel would.
    fn unlink(&mut self, node: u64) {
        let (next, prev) = (self.number(node), self.number(node + 8));
        self.world.put64(prev, next);
        self.world.put64(next + 8, prev);
    }

    fn thread(&self, pid: u32) -> Thread {
        *self.threads.iter().find(|t| t.pid == pid).expect("made")
    }

    /// Numbers of all processes with those of their threads, and what was found.
    fn list(&self, limit: usize) -> Result<(Vec<Vec<u32>>, Vec<Finding>), OsError> {
        let tables = TaskTables::new(&definitions(self.form), &self.world.symbols(), &self.world)?;
        let mut findings = Findings::default();
        let groups = tables.groups(&self.world, None, limit, &mut findings)?;
        let numbers =
            |group: &crate::os::linux::tasks::Group| group.threads().map(|task| task.pid).collect();
        Ok((groups.iter().map(numbers).collect(), findings.finish()))
    }

    fn kinds(&self) -> (Vec<Vec<u32>>, Vec<FindingKind>) {
        let (groups, findings) = self.list(1000).expect("init_task is whole");
        (
            groups,
            findings.into_iter().map(|finding| finding.kind).collect(),
        )
    }
}

fn all() -> Vec<Vec<u32>> {
    GROUPS.iter().map(|group| group.to_vec()).collect()
}

#[test]
fn whole_guests_have_no_findings() {
    for form in FORMS {
        assert_eq!(Guest::new(form).kinds(), (all(), vec![]), "{form:?}");
    }
}

#[test]
fn what_an_image_lacks_of_one_view_is_in_another() {
    for form in FORMS {
        let mut guest = Guest::new(form);
        guest.world.lose(guest.init_task, 0x100);
        // The list of tasks, and how many are not in it.
        let (groups, kinds) = guest.kinds();
        assert_eq!((groups, kinds), (all(), vec![Unreadable; 2]), "{form:?}");

        // The buckets, or the top node.
        let mut guest = Guest::new(form);
        let table = guest.number(guest.table);
        guest.world.lose(table & !3, 4 * 8);
        let (groups, kinds) = guest.kinds();
        assert_eq!(groups, all(), "{form:?}");
        assert!(kinds.len() >= 2 && kinds.iter().all(|&kind| kind == Unreadable));

        // Nothing is left of any view: that is no empty list.
        guest.world.lose(guest.init_task, 0x100);
        let error = guest.list(1000).expect_err("nothing to list");
        assert!(matches!(error, OsError::Unreadable { .. }), "{error:?}");
    }
}

#[test]
fn what_is_behind_a_lost_task_is_not_hidden() {
    // Two processes whose links are lost, and one between them that no walk reaches.
    let mut guest = Guest::new(Form::Xarray);
    for pid in [1, 70] {
        let at = guest.thread(pid).at + TASKS;
        guest.world.lose(at, 16);
    }
    let (groups, findings) = guest.list(1000).expect("init_task is whole");
    assert!(groups.contains(&vec![4]), "{groups:?}");
    assert!(
        findings
            .iter()
            .all(|finding| finding.kind != Hidden || !finding.text.contains("list of tasks")),
        "{findings:#?}"
    );
    assert!(findings.iter().any(|finding| finding.kind == Unreadable));
}

#[test]
fn what_is_hidden_from_one_view_is_found_in_another() {
    type Hide = fn(&mut Guest);
    let cases: &[(&str, Hide, &[FindingKind])] = &[
        (
            "a process out of the list of tasks",
            |g| g.unlink(g.thread(4).at + TASKS),
            &[Hidden],
        ),
        (
            "a process out of the pid table",
            |g| g.unlist_number(4),
            &[Hidden],
        ),
        (
            "a thread out of the pid table",
            |g| g.unlist_number(4200),
            &[Hidden],
        ),
        (
            "a thread out of its process's list, count included",
            |g| {
                let thread = g.thread(2);
                g.unlink(thread.at + THREAD_NODE);
                g.world.put32(thread.signal + 8, 2);
            },
            &[Hidden],
        ),
        (
            "a thread out of its process's list",
            |g| g.unlink(g.thread(2).at + THREAD_NODE),
            &[Hidden, Inconsistent],
        ),
        (
            "a process out of both, but not its thread",
            |g| {
                g.unlink(g.thread(70).at + TASKS);
                g.unlist_number(70);
            },
            &[Hidden],
        ),
        (
            "a process out of all views, but the parent of another",
            |g| {
                let hidden = g.thread(4);
                g.unlink(hidden.at + TASKS);
                g.unlist_number(4);
                let child = g.thread(70).at;
                g.world.put64(child + REAL_PARENT, hidden.at);
            },
            &[Hidden],
        ),
    ];
    for form in FORMS {
        for (name, hide, kinds) in cases {
            let mut guest = Guest::new(form);
            hide(&mut guest);
            assert_eq!(guest.kinds(), (all(), kinds.to_vec()), "{form:?}: {name}");
        }
    }
}

#[test]
fn a_process_in_no_view_is_nowhere() {
    let mut guest = Guest::new(Form::Xarray);
    guest.unlink(guest.thread(4).at + TASKS);
    guest.unlist_number(4);
    assert_eq!(guest.kinds(), (vec![vec![1, 2, 3], vec![70, 4200]], vec![]));
}

#[test]
fn damage_ends_with_findings_and_the_other_views_fill_in() {
    type Damage = fn(&mut Guest);
    let cases: &[(&str, Damage)] = &[
        ("a task that leads to itself", |g| {
            let at = g.thread(4).at + TASKS;
            g.world.put64(at, at);
            g.world.put64(at + 8, at);
        }),
        ("a link into user memory", |g| {
            let at = g.thread(1).at + TASKS;
            g.world.put64(at, USER);
        }),
        ("a link into unmapped memory", |g| {
            let at = g.thread(1).at + TASKS;
            g.world.put64(at, UNMAPPED);
        }),
        ("a head that leads nowhere in either direction", |g| {
            g.world.put64(g.init_task + TASKS, USER);
            g.world.put64(g.init_task + TASKS + 8, 0);
        }),
        ("threads that loop", |g| {
            let at = g.thread(3).at + THREAD_NODE;
            g.world.put64(at, g.thread(2).at + THREAD_NODE);
        }),
        ("an absurd number of threads", |g| {
            let at = g.thread(4).signal + 8;
            g.world.put32(at, u32::MAX);
        }),
        ("an entry of the table that leads nowhere", |g| {
            let at = g.entry_of(4200);
            g.world.put64(at, UNMAPPED);
        }),
        ("an entry that leads to another task", |g| {
            let at = g.thread(4).number + PID_TASKS;
            g.world.put64(at, g.thread(3).at + PID_LINKS);
        }),
        ("a parent that is no task", |g| {
            let at = g.thread(4).at + REAL_PARENT;
            g.world.put64(at, g.thread(4).signal);
        }),
        ("a parent in user memory", |g| {
            let at = g.thread(4).at + REAL_PARENT;
            g.world.put64(at, USER);
        }),
        ("a number that is not the task's", |g| {
            let at = g.thread(70).number + PID_NUMBERS;
            g.world.put32(at, 71);
        }),
    ];
    for form in FORMS {
        for (name, damage) in cases {
            let mut guest = Guest::new(form);
            damage(&mut guest);
            let (groups, kinds) = guest.kinds();
            assert_eq!(groups, all(), "{form:?}: {name}");
            assert!(!kinds.is_empty(), "{form:?}: {name}");
            let expected = |kind| [Damaged, Hidden, Inconsistent].contains(kind);
            assert!(kinds.iter().all(expected), "{form:?}: {name}: {kinds:?}");
        }
    }
}

#[test]
fn trees_of_numbers_that_loop_end() {
    for form in [Form::Xarray, Form::RadixTree] {
        let mut guest = Guest::new(form);
        let top = guest.number(guest.table);
        // Every slot of the top node leads to the node itself, and those of another to one node.
        for slot in 0..64 {
            guest.world.put64((top & !3) + NODE_SLOTS + 8 * slot, top);
        }
        let (groups, kinds) = guest.kinds();
        assert_eq!(groups, all(), "by the lists");
        assert_eq!(kinds.iter().filter(|&&kind| kind == Damaged).count(), 64);
        assert!(kinds.contains(&Hidden), "nothing is in the table");
    }
}

#[test]
fn a_shared_node_is_entered_once() {
    let mut guest = Guest::new(Form::Xarray);
    let top = guest.number(guest.table) & !3;
    let below = guest.number(top + NODE_SLOTS);
    for slot in 2..64 {
        guest.world.put64(top + NODE_SLOTS + 8 * slot, below);
    }
    let (groups, kinds) = guest.kinds();
    assert_eq!(groups, all());
    assert_eq!(kinds, vec![Damaged; 62]);
}

#[test]
fn more_tasks_than_memory_has_room_for_end_with_the_limit() {
    for form in FORMS {
        let guest = Guest::new(form);
        let (groups, findings) = guest.list(3).expect("init_task is whole");
        assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), 3, "{form:?}");
        assert!(findings.iter().any(|f| f.kind == Limit), "{findings:?}");
    }
}

#[test]
fn an_init_task_that_is_none_is_told_and_without_other_views_an_error() {
    let mut guest = Guest::new(Form::Xarray);
    guest.world.put(guest.init_task + 0x18, b"systemd\0\0\0");
    let (groups, findings) = guest.list(1000).expect("there are other views");
    assert_eq!(groups, all());
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].kind, Damaged);
    assert!(findings[0].text.contains("systemd"), "{findings:?}");
    guest.world.put64(guest.init_task + TASKS, USER);
    guest.world.put64(guest.init_task + TASKS + 8, USER);
    guest.world.put64(guest.table, 0);
    let error = guest.list(1000).expect_err("is refused");
    assert!(matches!(error, OsError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("systemd"), "{error}");
}

/// The definitions without some members.
fn without(form: Form, members: &[&str]) -> Types {
    let lost = |name: &str| members.contains(&name);
    definitions_where(form, &|member| !lost(member))
}

#[test]
fn a_member_that_is_not_known_costs_what_it_says() {
    for form in FORMS {
        let guest = Guest::new(form);
        for members in [
            &["mm", "real_cred", "flags", "__state", "exit_state"][..],
            &["real_parent"],
            &["group_leader"],
            &["signal"],
            &["tgid"],
            &["tasks"],
            &["pid_links"],
            &["thread_node"],
            &["nr_threads", "thread_head"],
            &["comm"],
        ] {
            let types = without(form, members);
            let mut findings = Findings::default();
            let tables = TaskTables::new(&types, &guest.world.symbols(), &guest.world);
            let tables = tables.unwrap_or_else(|error| panic!("{form:?}: {members:?}: {error}"));
            let groups = tables
                .groups(&guest.world, None, 1000, &mut findings)
                .unwrap_or_else(|error| panic!("{form:?}: {members:?}: {error}"));
            let numbers: Vec<Vec<u32>> = groups
                .iter()
                .map(|group| group.threads().map(|task| task.pid).collect())
                .collect();
            assert_eq!(
                numbers,
                all(),
                "{form:?}: {members:?}: {:?}",
                findings.finish()
            );
            let told = tables.lost.iter().any(|lost| lost.ends_with(members[0]));
            let found_otherwise = ["thread_node", "comm"].contains(&members[0]);
            assert!(told || found_otherwise, "{members:?}: {:?}", tables.lost);
        }
        // Without its number nothing is a task.
        let types = without(form, &["pid"]);
        TaskTables::new(&types, &guest.world.symbols(), &guest.world).expect_err("no number");
    }
}

/// The world without a part of it.
fn without_part(world: &World, part: std::ops::Range<u64>) -> impl Memory<Addr = Gva> {
    let read = move |addr: Gva, buf: &mut [u8]| {
        let end = addr.raw().saturating_add(buf.len() as u64);
        if addr.raw() >= part.end || end <= part.start {
            return world.read(addr, buf);
        }
        let at = part.start.max(addr.raw());
        let good = (at - addr.raw()) as usize;
        world.read(addr, &mut buf[..good])?;
        Err(Fault {
            addr: Gva(at),
            cause: Cause::Absent { gpa: Gpa(0x1000) },
        })
    };
    let spans = |range| -> Spans<'static, Gva> {
        let spans: Vec<_> = world.spans(range).collect();
        Box::new(spans.into_iter())
    };
    Made::of(spans, read)
}

#[test]
fn a_task_that_is_partly_absent_is_what_is_there_of_it() {
    for form in FORMS {
        let guest = Guest::new(form);
        let types = definitions(form);
        let tables = TaskTables::new(&types, &guest.world.symbols(), &guest.world);
        let tables = tables.expect("complete types");
        let at = guest.thread(4).at;
        let whole = tables.task.read(&guest.world, at).expect("a task");
        assert_eq!(whole.absent, None);
        let size = types
            .find("struct task_struct")
            .and_then(|task| types.size_of(task));
        let size = size.expect("a size");
        let mut known = 0;
        for offset in (0..size).step_by(8) {
            let memory = without_part(&guest.world, at + offset..at + size);
            let Ok(part) = tables.task.read(&memory, at) else {
                continue;
            };
            known += 1;
            // What is there is as it is, and nothing is invented.
            assert_eq!((part.pid, &part.comm), (whole.pid, &whole.comm));
            assert!(part.absent.is_some() || part == whole, "{offset}");
            for (of_part, of_whole) in [
                (part.mm, whole.mm),
                (part.signal, whole.signal),
                (part.real_parent, whole.real_parent),
                (part.group_leader, whole.group_leader),
            ] {
                assert!(of_part == of_whole || of_part == 0, "{offset}");
            }
            assert!(part.flags == whole.flags || part.flags.is_none());
            assert!(part.state == whole.state || part.state.is_none());
            let mut findings = Findings::default();
            let groups = tables
                .groups(&memory, None, 1000, &mut findings)
                .expect("listed");
            let found = groups
                .iter()
                .flat_map(Group::threads)
                .any(|task| task.pid == 4);
            assert!(found, "{form:?} {offset}");
            let findings = findings.finish();
            let told = |finding: &Finding| finding.text.contains("a part of task 4");
            assert!(part == whole || findings.iter().any(told), "{findings:?}");
        }
        assert!(known >= 3, "{form:?}: {known}");
    }
}

#[test]
fn numbers_of_other_namespaces_are_no_numbers_of_the_first() {
    let mut guest = Guest::new(Form::Hash);
    let other = guest.namespace + 8;
    let at = guest.thread(4).number + PID_NUMBERS + 8;
    guest.world.put64(at, other);
    assert_eq!(guest.kinds(), (all(), vec![Hidden]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Anything may be overwritten with anything: an answer, bounded, or a refusal.
    #[test]
    fn any_damage_ends(
        form in 0_usize..3,
        damage in proptest::collection::vec((any::<u32>(), 0_usize..10), 1..6),
    ) {
        let mut guest = Guest::new(FORMS[form]);
        let extent = guest.world.extent();
        let words = (extent.end - extent.start) / 8;
        for (place, value) in damage {
            let at = extent.start + u64::from(place) % words * 8;
            let target = extent.start + u64::from(place.rotate_left(7)) % words * 8;
            let value = match value {
                0 => 0,
                1 => u64::MAX,
                2 => USER,
                3 => UNMAPPED,
                4 => at,
                5 => target | 2,
                6 => target | 1,
                7 => u64::from(place),
                _ => target,
            };
            guest.world.put64(at, value);
        }
        if let Ok((groups, findings)) = guest.list(1000) {
            prop_assert!(groups.iter().map(Vec::len).sum::<usize>() <= 7);
            prop_assert!(findings.len() < 300);
        }
    }
}
