//! Objects of a system made up for the purpose: read by name, walked, and damaged.

use std::sync::Arc;

use proptest::prelude::*;
use vmie_synth::linux::Btf as Writer;

use super::{Known, Object, ObjectError, Objects, Walk, Why};
use crate::addr::Gva;
use crate::os::FindingKind::{self, Damaged, Inconsistent, Limit, Unreadable};
use crate::os::Types;
use crate::os::linux::tests::world::World;
use crate::os::linux::types_of_btf;

const USER: u64 = 0x0000_5555_0000_1000;
const UNMAPPED: u64 = 0xffff_9999_0000_0000;

/// Where members of `struct task` are, in bytes.
mod task {
    pub(super) const TASKS: u64 = 8;
    pub(super) const MM: u64 = 24;
    pub(super) const COMM: u64 = 32;
    pub(super) const NICE: u64 = 48;
    pub(super) const UID: u64 = 52;
    pub(super) const STATE: u64 = 56;
    pub(super) const FLAGS: u64 = 60;
    pub(super) const NAME: u64 = 64;
    pub(super) const FILES: u64 = 72;
    pub(super) const HASH: u64 = 80;
    pub(super) const TREE: u64 = 96;
    pub(super) const DATA: u64 = 120;
    pub(super) const PID: u64 = 128;
    pub(super) const PARENT: u64 = 136;
    pub(super) const LEN: u64 = 144;
}

/// A task with a member of each sort, what it leads to, and the links of all lists, trees and tables.
fn types() -> Types {
    let mut w = Writer::default();
    let record = |w: &mut Writer, name: &str, len: u64, members: &[(&str, u32, u64)]| {
        let members: Vec<_> = members
            .iter()
            .map(|&(name, ty, at)| (name, ty, at as u32 * 8))
            .collect();
        w.structure(name, len as u32, &members)
    };
    let long = w.int("long", 8, 0);
    let word = w.int("int", 4, 0);
    let signed = w.int("signed", 4, 1);
    let byte = w.int("char", 1, 0);
    let text = w.pointer(byte);
    let void = w.pointer(0);
    let list = record(
        &mut w,
        "list_head",
        16,
        &[("next", void, 0), ("prev", void, 8)],
    );
    let links = [("next", void, 0), ("pprev", void, 8)];
    let hlist = record(&mut w, "hlist_node", 16, &links);
    record(&mut w, "hlist_nulls_node", 16, &links);
    let head = record(&mut w, "hlist_head", 8, &[("first", void, 0)]);
    record(&mut w, "hlist_nulls_head", 8, &[("first", void, 0)]);
    record(&mut w, "llist_head", 8, &[("first", void, 0)]);
    record(&mut w, "llist_node", 8, &[("next", void, 0)]);
    record(
        &mut w,
        "bucket",
        16,
        &[("lock", long, 0), ("head", head, 8)],
    );
    let rb = [
        ("__rb_parent_color", long, 0),
        ("rb_right", void, 8),
        ("rb_left", void, 16),
    ];
    let rb = record(&mut w, "rb_node", 24, &rb);
    let root = record(&mut w, "rb_root", 8, &[("rb_node", void, 0)]);
    record(
        &mut w,
        "rb_root_cached",
        16,
        &[("rb_root", root, 0), ("rb_leftmost", void, 8)],
    );
    record(&mut w, "rhash_head", 8, &[("next", void, 0)]);
    let flexible = w.array(void, long, 0);
    let slots = w.array(void, long, 64);
    let marks = w.array(long, long, 3);
    record(
        &mut w,
        "xa_node",
        576,
        &[
            ("shift", byte, 0),
            ("slots", slots, 40),
            ("marks", marks, 552),
        ],
    );
    record(
        &mut w,
        "xarray",
        16,
        &[("xa_lock", word, 0), ("xa_head", void, 8)],
    );
    let path = record(&mut w, "path", 8, &[("dentry", void, 0)]);
    let either = w.union("", 8, &[("f_path", path), ("f_other", path)]);
    let file = record(&mut w, "file", 8, &[("", either, 0)]);
    let file = w.pointer(file);
    let mm = record(&mut w, "mm", 16, &[("exe_file", file, 0), ("brk", long, 8)]);
    let mm = w.pointer(mm);
    let kuid = record(&mut w, "kuid", 4, &[("val", word, 0)]);
    let flags = [
        ("on", word, 0, 1),
        ("level", word, 3, 7),
        ("sign", signed, 10, 4),
    ];
    let flags = w.bit_fields("flags", 4, &flags);
    let files = w.pointer(file);
    let comm = w.array(byte, long, 16);
    let parent = w.pointer(comm + 2);
    record(
        &mut w,
        "task",
        task::LEN,
        &[
            ("tasks", list, task::TASKS),
            ("mm", mm, task::MM),
            ("comm", comm, task::COMM),
            ("nice", signed, task::NICE),
            ("uid", kuid, task::UID),
            ("__state", word, task::STATE),
            ("flags", flags, task::FLAGS),
            ("name", text, task::NAME),
            ("files", files, task::FILES),
            ("hash", hlist, task::HASH),
            ("tree", rb, task::TREE),
            ("data", void, task::DATA),
            ("pid", long, task::PID),
            ("parent", parent, task::PARENT),
        ],
    );
    // A table leads to another one, and a hash table to the first.
    let table = w.pointer(parent + 3);
    assert_eq!(table + 1, parent + 3);
    record(
        &mut w,
        "bucket_table",
        16,
        &[
            ("size", word, 0),
            ("nest", word, 4),
            ("future_tbl", table, 8),
            ("buckets", flexible, 16),
        ],
    );
    record(&mut w, "rhashtable", 8, &[("tbl", table, 0)]);
    types_of_btf(w.bytes()).expect("well-formed")
}

/// What is read, and how to say where.
struct Made {
    world: World,
    types: Arc<Types>,
}

impl Made {
    fn new() -> Self {
        Self {
            world: World::new(),
            types: Arc::new(types()),
        }
    }

    fn objects(&self) -> Objects<'_> {
        let symbols = Arc::new(self.world.symbols());
        Objects::new(&self.world, Arc::clone(&self.types), symbols)
    }

    /// A task with this number.
    fn task(&mut self, pid: u64) -> u64 {
        let at = self.world.room(task::LEN);
        self.world.put64(at + task::PID, pid);
        at
    }

    fn tasks(&mut self, count: u64) -> Vec<u64> {
        (1..=count).map(|pid| self.task(pid)).collect()
    }

    /// Links nodes by a word each, from a head on.
    fn chain(&mut self, head: u64, nodes: &[u64], back: Option<u64>, end: u64) {
        let mut from = head;
        for &node in nodes {
            self.world.put64(from, node);
            if let Some(back) = back {
                self.world.put64(node + back, from);
            }
            from = node;
        }
        self.world.put64(from, end);
    }
}

fn pids<'o>(tasks: impl Iterator<Item = Object<'o>>) -> Vec<u64> {
    tasks
        .map(|task| task.u64("pid").expect("a number"))
        .collect()
}

fn kinds(walk: Walk) -> Vec<FindingKind> {
    let findings = walk.finish().into_iter();
    findings.map(|finding| finding.kind).collect()
}

#[test]
fn members_are_read_by_name() {
    let mut made = Made::new();
    let at = made.task(7);
    let w = &mut made.world;
    let [mm, file, dentry] = [w.room(16), w.room(8), w.room(64)];
    let name = w.room(8);
    w.put64(at + task::MM, mm);
    w.put64(mm, file);
    w.put64(file, dentry);
    w.put(at + task::COMM, b"shell\0and what was before");
    w.put32(at + task::NICE, (-5_i32).cast_unsigned());
    w.put32(at + task::UID, 1000);
    w.put32(at + task::STATE, 2);
    // 1 in bit 0, 0x55 in bits 3 to 9, -3 in bits 10 to 13, and others around them.
    w.put32(
        at + task::FLAGS,
        1 | 0b110 | 0x55 << 3 | 0b1101 << 10 | 0xffff << 14,
    );
    w.put64(at + task::NAME, name + 3);
    w.put(name, b"...n\xffme\0");
    w.put64(at + task::DATA, USER);
    let objects = made.objects();
    let task = objects.object_at(Gva(at), "struct task").expect("a type");
    for task in [task.clone(), task.load()] {
        let path = task.at("mm.exe_file.f_path.dentry").expect("all there");
        assert_eq!(path.address(), Gva(dentry));
        assert_eq!(
            task.place("mm.exe_file.f_path.dentry")
                .map(|at| at.address()),
            Ok(Gva(file))
        );
        assert_eq!(
            task.at("mm").map(|mm| mm.type_name()),
            Ok("struct mm".into())
        );
        assert_eq!(
            task.at("mm.exe_file.f_gone | mm.exe_file.f_other")
                .map(|at| at.address()),
            Ok(Gva(file))
        );
        assert_eq!(task.u32("state | __state"), Ok(2));
        assert_eq!(task.text("comm").as_deref(), Ok("shell"));
        assert_eq!(task.text("name").as_deref(), Ok("n\u{fffd}me"));
        assert_eq!(task.raw_text("name").as_deref(), Ok(&b"n\xffme"[..]));
        assert_eq!(task.bytes("name", 2).as_deref(), Ok(&b"n\xff"[..]));
        assert_eq!(task.u8("comm[1]"), Ok(b'h'));
        assert_eq!(task.i32("nice"), Ok(-5));
        assert_eq!(task.u64("nice"), Ok(0xffff_fffb));
        assert_eq!(task.u32("uid"), Ok(1000));
        assert_eq!(task.bool("flags.on"), Ok(true));
        assert_eq!(task.u8("flags.level"), Ok(0x55));
        assert_eq!(task.i64("flags.sign"), Ok(-3));
        assert_eq!(task.pointer("data"), Ok(Gva(USER)));
        assert_eq!(task.declared_len("comm"), Ok(16));
        let place = task.place("tasks").expect("a member");
        assert_eq!(place.container_of("task", "tasks").as_ref(), Ok(&task));
        assert!(task.has("mm.brk") && !task.has("mm.brake"));
    }
}

#[test]
fn what_is_not_there_is_told_from_what_cannot_be_read() {
    let mut made = Made::new();
    let at = made.task(7);
    let objects = made.objects();
    let task = objects.object_at(Gva(at), "task").expect("a type");
    // The kernel has no such thing.
    let missing = task.u32("loginuid");
    assert_eq!(missing.clone().unless_missing(), Ok(None));
    assert!(missing.is_err_and(|error| error.is_missing() && !error.is_null()));
    assert_eq!(
        objects
            .object_at(Gva(at), "struct nothing")
            .unless_missing(),
        Ok(None)
    );
    assert_eq!(
        objects.object("init_task", "task").unless_missing(),
        Ok(None)
    );
    // This object has none.
    assert_eq!(task.at("mm").unless_null(), Ok(None));
    assert_eq!(task.at("mm.exe_file").unless_null(), Ok(None));
    let null = task.at("mm.exe_file").unless_missing();
    assert!(null.is_err_and(|error| error.is_null() && error.kind() == Damaged));
    // It is of another kind.
    let mistyped = |read: Result<u64, ObjectError>| {
        read.is_err_and(|error| matches!(error.why(), Why::Mistyped(_)))
    };
    assert!(mistyped(task.u64("tasks")));
    assert!(task.text("pid").is_err());
    assert!(
        task.place("comm")
            .and_then(|comm| comm.element(16))
            .is_err()
    );

    // It is damaged, or absent, and says where.
    made.world.put64(at + task::MM, UNMAPPED);
    made.world.put64(at + task::FILES, USER);
    made.world.put64(at + task::PARENT, at + 4);
    made.world.lose(at + task::COMM, 4);
    let objects = made.objects();
    let task = objects.object_at(Gva(at), "task").expect("a type");
    for task in [task.clone(), task.load()] {
        let shown = |error: ObjectError| error.to_string();
        let brk = task.u64("mm.brk").map_err(shown).expect_err("unmapped");
        assert!(brk.starts_with("mm.brk of struct task at 0xffff"), "{brk}");
        assert!(brk.contains("0xffff999900000008"), "{brk}");
        let fd = task.at("files[3]").map_err(shown).expect_err("user memory");
        assert!(fd.contains("leads into user memory"), "{fd}");
        let odd = task.at("parent").map_err(shown).expect_err("unaligned");
        assert!(odd.contains("unaligned"), "{odd}");
        let comm = task.text("comm").expect_err("absent");
        assert_eq!(comm.kind(), Unreadable);
        assert_eq!((comm.at(), comm.member()), (Some(Gva(at)), "comm"));
        assert_eq!(task.u64("pid"), Ok(7), "what is beside it can be read");
    }
}

#[test]
fn lists_of_each_kind_are_walked() {
    let mut made = Made::new();
    let tasks = made.tasks(4);
    let w = &mut made.world;
    let [list, hlist, nulls, llist, table] = [
        ("list", 16),
        ("hlist", 8),
        ("nulls", 8),
        ("llist", 8),
        ("table", 3 * 16),
    ]
    .map(|(name, len)| w.symbol(name, len));
    let nodes = |offset: u64| tasks.iter().map(|at| at + offset).collect::<Vec<_>>();
    w.ring(list, &nodes(task::TASKS));
    made.chain(hlist, &nodes(task::HASH), Some(8), 0);
    {
        let objects = made.objects();
        let walk = Walk::new(100);
        let in_list = objects.object("list", "list_head").expect("a head");
        assert_eq!(
            pids(in_list.list("task", "tasks", &walk).expect("a list")),
            [1, 2, 3, 4]
        );
        let in_hlist = objects.object("hlist", "hlist_head").expect("a head");
        assert_eq!(
            pids(in_hlist.hlist("task", "hash", &walk).expect("a list")),
            [1, 2, 3, 4]
        );
        assert!(
            in_list.hlist("task", "hash", &walk).is_err(),
            "of the other kind"
        );
        assert_eq!(kinds(walk), []);
    }
    {
        let objects = made.objects();
        let walk = Walk::new(3);
        let in_list = objects.object("list", "list_head").expect("a head");
        let some = in_list.list("task", "tasks", &walk).expect("a list");
        assert_eq!(pids(some), [1, 2, 3]);
        assert!(kinds(walk).contains(&Limit));
    }
    made.chain(nulls, &nodes(task::HASH), Some(8), 0x155);
    made.chain(llist, &nodes(task::DATA), None, 0);
    made.chain(table + 16 + 8, &nodes(task::TASKS)[..2], None, 0);
    made.chain(table + 32 + 8, &nodes(task::TASKS)[2..], None, 0);
    for (at, parent) in tasks.iter().zip(tasks.iter().skip(1)) {
        made.world.put64(at + task::PARENT, *parent);
    }
    let objects = made.objects();
    let walk = Walk::new(100);
    let in_nulls = objects.object("nulls", "hlist_nulls_head").expect("a head");
    assert_eq!(
        pids(in_nulls.hlist("task", "hash", &walk).expect("a list")),
        [1, 2, 3, 4]
    );
    let in_llist = objects.object("llist", "llist_head").expect("a head");
    assert_eq!(
        pids(in_llist.hlist("task", "data", &walk).expect("a list")),
        [1, 2, 3, 4]
    );
    let first = objects.object_at(Gva(tasks[0]), "task").expect("a type");
    assert_eq!(
        pids(first.chain("parent", &walk).expect("a list")),
        [2, 3, 4]
    );
    assert_eq!(kinds(walk), []);
    // Heads within larger elements. That the first of each chain has a link to elsewhere is said.
    let walk = Walk::new(100);
    let buckets = objects.object("table", "bucket").expect("a table");
    let all = buckets.hash_table(3, "head", "task", "tasks", &walk);
    assert_eq!(pids(all.expect("a table")), [1, 2, 3, 4]);
    assert_eq!(kinds(walk), [Inconsistent; 2]);
}

#[test]
fn chains_end_at_damage() {
    type Damage = fn(&mut World, &[u64]);
    // What is done, how many are found, and what is said.
    let cases: &[(Damage, u64, &[FindingKind])] = &[
        (|w, n| w.put64(n[2], n[1]), 3, &[Damaged]),
        (|w, n| w.put64(n[2], n[2]), 3, &[Damaged]),
        (|w, n| w.put64(n[2], UNMAPPED), 3, &[Damaged]),
        (|w, n| w.put64(n[2], USER), 3, &[Damaged]),
        (|w, n| w.put64(n[2], n[3] + 1), 3, &[Damaged]),
        (|w, n| w.put64(n[2], n[4]), 4, &[Inconsistent]),
        (|w, n| w.put64(n[2] + 8, n[0]), 5, &[Inconsistent]),
        (|w, n| w.lose(n[2], 8), 2, &[Unreadable]),
    ];
    for (case, (damage, found, said)) in cases.iter().enumerate() {
        let mut made = Made::new();
        let tasks = made.tasks(5);
        let head = made.world.symbol("head", 8);
        let nodes: Vec<u64> = tasks.iter().map(|at| at + task::HASH).collect();
        made.chain(head, &nodes, Some(8), 0);
        damage(&mut made.world, &nodes);
        let objects = made.objects();
        let walk = Walk::new(100);
        let head = objects.object("head", "hlist_head").expect("a head");
        let tasks = head.hlist("task", "hash", &walk).expect("a list");
        assert_eq!(tasks.count() as u64, *found, "case {case}");
        assert_eq!(kinds(walk), *said, "case {case}");
    }
}

/// A tree of tasks, as balanced as can be; answers its root.
fn plant(world: &mut World, tasks: &[u64], parent: u64) -> u64 {
    let Some(middle) = tasks.get(tasks.len() / 2) else {
        return 0;
    };
    let node = middle + task::TREE;
    let (left, right) = (&tasks[..tasks.len() / 2], &tasks[tasks.len() / 2 + 1..]);
    world.put64(node, parent | u64::from(tasks.len().is_multiple_of(2)));
    let right = plant(world, right, node);
    world.put64(node + 8, right);
    let left = plant(world, left, node);
    world.put64(node + 16, left);
    node
}

#[test]
fn trees_are_walked_in_order_and_around_damage() {
    type Damage = fn(&mut World, u64, &[u64]);
    // What is done, which tasks are found, and what is said. The root is 4, with 2 and 6 below it.
    let cases: &[(Damage, &[u64], &[FindingKind])] = &[
        (|_, _, _| {}, &[1, 2, 3, 4, 5, 6, 7], &[]),
        (
            |w, _, t| w.put64(t[1] + task::TREE + 16, t[3] + task::TREE),
            &[2, 3, 4, 5, 6, 7],
            &[Damaged],
        ),
        (
            |w, _, t| w.put64(t[1] + task::TREE + 8, UNMAPPED),
            &[1, 2, 4, 5, 6, 7],
            &[Damaged],
        ),
        (
            |w, _, t| w.put64(t[4] + task::TREE, t[0]),
            &[1, 2, 3, 4, 5, 6, 7],
            &[Inconsistent],
        ),
        (|w, root, _| w.put64(root, USER), &[], &[Damaged]),
        (|w, root, _| w.put64(root, 0), &[], &[]),
    ];
    for (case, (damage, found, said)) in cases.iter().enumerate() {
        let mut made = Made::new();
        let tasks = made.tasks(7);
        let root = made.world.symbol("root", 16);
        let top = plant(&mut made.world, &tasks, 0);
        made.world.put64(root, top);
        damage(&mut made.world, root, &tasks);
        let objects = made.objects();
        for kind in ["rb_root", "rb_root_cached"] {
            let walk = Walk::new(100);
            let root = objects.object("root", kind).expect("a root");
            let tree = root.rb_tree("task", "tree", &walk).expect("a tree");
            assert_eq!(pids(tree), *found, "case {case}");
            assert_eq!(kinds(walk), *said, "case {case}");
        }
    }
    // One that is a list, longer than a balanced tree is deep.
    let mut made = Made::new();
    let tasks = made.tasks(200);
    for pair in tasks.windows(2) {
        made.world
            .put64(pair[0] + task::TREE + 16, pair[1] + task::TREE);
        made.world.put64(pair[1] + task::TREE, pair[0] + task::TREE);
    }
    let root = made.world.symbol("root", 16);
    made.world.put64(root, tasks[0] + task::TREE);
    let objects = made.objects();
    let walk = Walk::new(1000);
    let root = objects.object("root", "rb_root").expect("a root");
    let tree = root.rb_tree("task", "tree", &walk).expect("a tree");
    assert_eq!(tree.count(), 128);
    assert_eq!(kinds(walk), [Damaged]);
}

#[test]
fn arrays_of_pointers_are_read_around_what_is_absent() {
    let mut made = Made::new();
    let tasks = made.tasks(3);
    let array = made.world.room(8 * 1024);
    let holder = made.task(9);
    let pointers = [
        (0, tasks[0]),
        (600, tasks[1]),
        (1023, tasks[2]),
        (5, USER),
        (601, tasks[0]),
    ];
    for (index, at) in pointers {
        made.world.put64(array + 8 * index, at);
    }
    made.world.lose(array + 8 * 601, 8);
    made.world.put64(holder + task::FILES, array);
    let objects = made.objects();
    let walk = Walk::new(100);
    let found = objects.pointers_at(Gva(array), 1024, "task", &walk);
    let found: Vec<_> = found
        .expect("a type")
        .map(|(index, task)| (index, task.address().0))
        .collect();
    assert!(
        found.starts_with(&[(0, tasks[0]), (600, tasks[1])]),
        "{found:x?}"
    );
    let mut said = kinds(walk);
    said.sort_by_key(|kind| kind.label());
    assert_eq!(said, [Damaged, Unreadable]);
    // By a member, and far more of them than are mapped.
    let walk = Walk::new(100);
    let holder = objects.object_at(Gva(holder), "task").expect("a type");
    let files = holder.place("files").expect("a member");
    let found = files.pointers(u64::MAX, &walk).expect("an array");
    assert!(found.count() >= 2);
    assert!(walk.findings() >= 3, "where it ends is said");
    let walk = Walk::new(1);
    assert_eq!(files.pointers(1024, &walk).expect("an array").count(), 0);
    assert_eq!(kinds(walk), [Limit]);
}

#[test]
fn hash_tables_that_grow_are_read_in_all_their_parts() {
    let mut made = Made::new();
    let tasks = made.tasks(4);
    let node = |pid: usize| tasks[pid - 1] + task::DATA;
    let w = &mut made.world;
    let [old, new, table] = [16 + 4 * 8, 16 + 8 * 8, 8].map(|len| w.room(len));
    w.put64(table, old);
    w.put32(old, 4);
    w.put64(old + 8, new);
    w.put32(new, 8);
    // Two in a chain under a lock, an empty chain that says so, one alone, and one that has moved.
    w.put64(old + 16, node(1) | 1);
    w.put64(node(1), node(2));
    w.put64(node(2), (old + 16) | 1);
    w.put64(old + 24, (old + 24) | 1);
    w.put64(old + 40, node(3));
    w.put64(node(3), (old + 40) | 1);
    w.put64(new + 16, node(4));
    w.put64(node(4), 0x155);
    for (looped, said) in [(false, &[][..]), (true, &[Damaged])] {
        if looped {
            made.world.put64(new + 8, old);
        }
        let objects = made.objects();
        let table = objects.object_at(Gva(table), "rhashtable").expect("a type");
        let walk = Walk::new(100);
        let tasks = table.rhashtable("task", "data", &walk).expect("a table");
        assert_eq!(pids(tasks), [1, 2, 3, 4]);
        assert_eq!(kinds(walk), said);
    }
}

#[test]
fn arrays_by_number_hold_pointers_numbers_and_what_stands_for_many() {
    let mut made = Made::new();
    let tasks = made.tasks(2);
    let w = &mut made.world;
    let [array, top, low] = [16, 576, 576].map(|len| w.room(len));
    w.put64(array + 8, top | 2);
    w.put(top, &[6]);
    w.put64(top + 40, low | 2);
    // Of four slots of 64 numbers each, the last three say that theirs is the first.
    w.put64(top + 40 + 8 * 4, tasks[1]);
    for slot in 5..8 {
        w.put64(top + 40 + 8 * slot, 4 << 2 | 2);
    }
    w.put64(low + 40 + 8 * 3, tasks[0]);
    w.put64(low + 40 + 8 * 9, 17 << 1 | 1);
    // The first mark of the first, the third of the second.
    w.put64(low + 552, 1 << 3);
    w.put64(top + 552 + 16, 1 << 4);
    let objects = made.objects();
    let array = objects.object_at(Gva(array), "xarray").expect("a type");
    let walk = Walk::new(100);
    let entries = array.xarray(&walk).expect("an array");
    let shown: Vec<_> = entries
        .iter()
        .map(|entry| (entry.index, entry.last, entry.entry, entry.marks))
        .collect();
    let expected = [
        (3, 3, tasks[0], 1),
        (9, 9, 17 << 1 | 1, 0),
        (256, 511, tasks[1], 4),
    ];
    assert_eq!(shown, expected);
    let found = array.xarray_of("task", &walk).expect("an array");
    let found: Vec<_> = found
        .map(|(index, task)| (index, task.u64("pid")))
        .collect();
    assert_eq!(found, [(3, Ok(1)), (256, Ok(2))]);
    assert_eq!(kinds(walk), []);
}

#[test]
fn each_cpu_has_its_own() {
    let mut made = Made::new();
    let w = &mut made.world;
    let offsets = w.symbol("__per_cpu_offset", 130 * 8);
    let count = w.symbol("nr_cpu_ids", 4);
    let mask = w.symbol("__cpu_possible_mask", 24);
    let first = w.symbol("current", task::LEN);
    w.put32(count, 130);
    w.put64(mask, 0b11);
    w.put64(mask + 16, 0b10);
    let second = w.room(task::LEN);
    w.put64(offsets + 8, second.wrapping_sub(first));
    w.put64(offsets + 129 * 8, UNMAPPED.wrapping_sub(first));
    w.put64(first + task::PID, 10);
    w.put64(second + task::PID, 11);
    let objects = made.objects();
    assert_eq!(objects.cpus(), Ok(vec![0, 1, 129]));
    let pid = |cpu| objects.per_cpu("current", "task", cpu)?.u64("pid");
    assert_eq!((pid(0), pid(1)), (Ok(10), Ok(11)));
    let why = |cpu| pid(cpu).map_err(|error| error.why().clone());
    assert!(matches!(why(129), Err(Why::Unread(_))));
    assert_eq!(why(2), Err(Why::OutOfRange(2)));
    // A kernel for one CPU.
    let mut made = Made::new();
    let at = made.world.symbol("current", task::LEN);
    made.world.put64(at + task::PID, 12);
    let objects = made.objects();
    assert_eq!(objects.cpus(), Ok(vec![0]));
    let task = objects.per_cpu("current", "task", 0);
    assert_eq!(task.and_then(|task| task.u64("pid")), Ok(12));
}

#[test]
fn what_could_not_be_kept_is_said() {
    let walk = Walk::new(1);
    let mut made = Made::new();
    let at = made.task(7);
    let objects = made.objects();
    let task = objects.object_at(Gva(at), "task").expect("a type");
    assert_eq!(walk.keep(task.u64("pid"), "the number of a task"), Some(7));
    assert_eq!(walk.keep(task.u64("mm.brk"), "the heap of task 7"), None);
    assert_eq!(walk.findings(), 1);
    let said = walk.finish();
    let text = "the heap of task 7: mm.brk of struct task at 0xffff888000100000 is null";
    assert_eq!((said[0].text.as_str(), said[0].at), (text, Some(Gva(at))));
}

proptest! {
    /// Whatever stands in memory: nothing panics, and no walk takes more than its steps.
    #[test]
    fn any_bytes_may_stand_there(
        damage in prop::collection::vec(
            (0_usize..4000, prop::sample::select(vec![0, 1, 2, 3, 8, 16, 4096]), any::<bool>()), 0..40),
        wild in prop::collection::vec((0_usize..4000, any::<u64>()), 0..10),
    ) {
        let mut made = Made::new();
        let tasks = made.tasks(6);
        let [list, root, table, array, holder] = [16, 16, 64, 16, 8].map(|len| made.world.room(len));
        let nodes: Vec<u64> = tasks.iter().map(|at| at + task::TASKS).collect();
        made.world.ring(list, &nodes);
        let top = plant(&mut made.world, &tasks, 0);
        made.world.put64(root, top);
        let node = made.world.room(576);
        made.world.put64(array + 8, node | 2);
        made.world.put64(holder, table);
        let words: Vec<u64> = made.world.extent().step_by(8).collect();
        for (at, tag, far) in damage {
            let target = words[at * 7 % words.len()] & !0xff;
            let distance = if far { 1 << 40 } else { 0 };
            made.world.put64(words[at % words.len()], (target | tag).wrapping_add(distance));
        }
        for (at, value) in wild {
            made.world.put64(words[at % words.len()], value);
        }
        let objects = made.objects();
        let object = |at, ty| objects.object_at(Gva(at), ty).expect("a type");
        fn count<'o>(found: Result<impl Iterator<Item = Object<'o>>, ObjectError>) -> usize {
            found.map_or(0, Iterator::count)
        }
        let walk = Walk::new(200);
        let mut found = count(object(list, "list_head").list("task", "tasks", &walk));
        found += count(object(list, "hlist_head").hlist("task", "tasks", &walk));
        found += count(object(root, "rb_root").rb_tree("task", "tree", &walk));
        found += object(array, "xarray").xarray(&walk).map_or(0, |entries| entries.len());
        found += count(object(holder, "rhashtable").rhashtable("task", "data", &walk));
        found += count(object(table, "bucket").hash_table(1 << 40, "head", "task", "hash", &walk));
        let files = object(table, "task").place("files");
        let files = files.and_then(|files| files.pointers(1 << 40, &walk));
        found += files.map_or(0, Iterator::count);
        prop_assert!(found <= 200, "{found}");
        for at in tasks {
            let task = object(at, "task").load();
            let _ = (task.at("mm.exe_file.f_path.dentry"), task.text("name"), task.u64("flags.level"));
            let _ = (count(task.chain("parent", &walk)), task.bytes("files", u64::MAX), task.element(u64::MAX));
        }
        prop_assert!(walk.finish().len() <= 257);
    }
}
