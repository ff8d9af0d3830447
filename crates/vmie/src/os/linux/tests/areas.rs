//! Areas of a process from a tree and from a list, with their files, whole and damaged.

use super::world::{Definition, World, types};
use crate::os::FindingKind::{self, Damaged, Inconsistent, Limit, Unreadable};
use crate::os::Types;
use crate::os::linux::files::{FilePlan, Files, as_in_proc};
use crate::os::linux::mm::MmPlan;
use crate::os::linux::vma::{Reader, VmaPlan};
use crate::os::object::{Budget, Findings};

const USER: u64 = 0x0000_5555_0000_1000;
const UNMAPPED: u64 = 0xffff_9999_0000_0000;

/// How a kernel keeps areas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Tree,
    List,
}

const FORMS: [Form; 2] = [Form::Tree, Form::List];

fn definitions(form: Form) -> Types {
    let maple: &[Definition<'_>] = &[
        ("maple_tree", 24, &[("ma_root", "ptr", 8)]),
        (
            "maple_range_64",
            256,
            &[("pivot", "u64[15]", 8), ("slot", "ptr[16]", 128)],
        ),
        (
            "maple_arange_64",
            248,
            &[("pivot", "u64[9]", 8), ("slot", "ptr[10]", 80)],
        ),
    ];
    let common: &[Definition<'_>] = &[
        ("path", 16, &[("mnt", "ptr", 0), ("dentry", "ptr", 8)]),
        (
            "file",
            0x40,
            &[
                ("f_mode", "u32", 0),
                ("f_inode", "ptr", 8),
                ("f_path", "path", 16),
            ],
        ),
        ("qstr", 16, &[("len", "u32", 4), ("name", "ptr", 8)]),
        (
            "hlist_bl_node",
            16,
            &[("next", "ptr", 0), ("pprev", "ptr", 8)],
        ),
        (
            "dentry",
            0x80,
            &[
                ("d_hash", "hlist_bl_node", 8),
                ("d_parent", "ptr", 0x18),
                ("d_name", "qstr", 0x20),
                ("d_inode", "ptr", 0x30),
                ("d_op", "ptr", 0x38),
                ("d_sb", "ptr", 0x40),
            ],
        ),
        (
            "vfsmount",
            16,
            &[("mnt_root", "ptr", 0), ("mnt_sb", "ptr", 8)],
        ),
        (
            "mount",
            0x40,
            &[
                ("mnt_parent", "ptr", 0),
                ("mnt_mountpoint", "ptr", 8),
                ("mnt", "vfsmount", 0x20),
            ],
        ),
        ("inode", 0x20, &[("i_ino", "u64", 0), ("i_sb", "ptr", 8)]),
        ("super_block", 0x20, &[("s_dev", "u32", 16)]),
        ("dentry_operations", 0x40, &[("d_dname", "ptr", 0x20)]),
        ("vm_operations_struct", 0x40, &[("name", "ptr", 0x20)]),
        ("vm_special_mapping", 0x20, &[("name", "ptr", 0)]),
        ("anon_vma_name", 0x60, &[("name", "char[80]", 4)]),
    ];
    type Members<'d> = &'d [(&'d str, &'d str, u32)];
    let (mm_first, vma_first): (Members<'_>, Members<'_>) = match form {
        Form::Tree => (&[("mm_mt", "maple_tree", 0)], &[]),
        Form::List => (&[("mmap", "ptr", 0x18)], &[("vm_next", "ptr", 0x10)]),
    };
    let mm_rest = [
        ("pgd", "ptr", 0x20),
        ("arg_start", "u64", 0x28),
        ("arg_end", "u64", 0x30),
        ("env_start", "u64", 0x38),
        ("env_end", "u64", 0x40),
        ("start_brk", "u64", 0x48),
        ("brk", "u64", 0x50),
        ("start_stack", "u64", 0x58),
        ("map_count", "u32", 0x60),
    ];
    let vma_rest = [
        ("vm_start", "u64", 0),
        ("vm_end", "u64", 8),
        ("vm_mm", "ptr", 0x18),
        ("vm_flags", "u64", 0x20),
        ("vm_ops", "ptr", 0x28),
        ("vm_pgoff", "u64", 0x30),
        ("vm_file", "ptr", 0x38),
        ("vm_private_data", "ptr", 0x40),
        ("shared", "ptr[4]", 0x48),
        ("anon_name", "ptr", 0x70),
    ];
    let mm: Vec<_> = mm_first.iter().chain(&mm_rest).copied().collect();
    let vma: Vec<_> = vma_first.iter().chain(&vma_rest).copied().collect();
    let mut all: Vec<Definition<'_>> = Vec::new();
    if form == Form::Tree {
        all.extend(maple);
    }
    all.extend(common);
    all.push(("mm_struct", 0x80, &mm));
    all.push(("vm_area_struct", 0x80, &vma));
    let kinds = [
        ("maple_leaf_64", 1),
        ("maple_range_64", 2),
        ("maple_arange_64", 3),
    ];
    let enums: &[(&str, &[(&str, i32)])] = match form {
        Form::Tree => &[("maple_type", &kinds)],
        Form::List => &[],
    };
    types(&all, enums)
}

/// A process with six areas: two of a file, heap, one with a name, a special one, and the stack.
struct Guest {
    world: World,
    form: Form,
    mm: u64,
    areas: Vec<u64>,
    /// The leaf of the tree.
    leaf: u64,
    file: u64,
    dentry: u64,
}

impl Guest {
    fn new(form: Form) -> Self {
        let mut world = World::new();
        let mm = world.room(0x80);
        let tree = FileTree::new(&mut world);
        let dentry = tree.path(&mut world, &["usr", "lib", "libm.so"]);
        let file = tree.file(&mut world, dentry);
        let areas: Vec<u64> = [
            (0x1000, 0x3000, 0x1, file),
            (0x3000, 0x5000, 0x5, file),
            (0x8000, 0xa000, 0x3, 0),
            (0xb000, 0xc000, 0x83, 0),
            (0xd000, 0xe000, 0x1, 0),
            (0x7000_0000, 0x7002_0000, 0x3, 0),
        ]
        .into_iter()
        .map(|(start, end, flags, file)| {
            let at = world.room(0x80);
            world.put64(at, start);
            world.put64(at + 8, end);
            world.put64(at + 0x18, mm);
            world.put64(at + 0x20, flags);
            world.put64(at + 0x38, file);
            at
        })
        .collect();
        world.put64(areas[1] + 0x30, 2);
        world.put64(mm + 0x48, 0x8000);
        world.put64(mm + 0x50, 0x9800);
        world.put64(mm + 0x58, 0x7001_f000);
        world.put32(mm + 0x60, areas.len() as u32);
        let name = world.room(0x60);
        world.put(name + 4, b"my name\0");
        world.put64(areas[3] + 0x70, name);
        let operations = world.room(0x40);
        let function = world.symbol("special_mapping_name", 16);
        world.put64(operations + 0x20, function);
        let special = world.room(0x20);
        let text = world.room(16);
        world.put(text, b"[vvar]\0");
        world.put64(special, text);
        world.put64(areas[4] + 0x28, operations);
        world.put64(areas[4] + 0x40, special);
        let mut guest = Self {
            world,
            form,
            mm,
            areas,
            leaf: 0,
            file,
            dentry,
        };
        guest.link();
        guest
    }

    fn link(&mut self) {
        match self.form {
            Form::List => {
                let ends = self.areas.iter().copied().chain([0]).collect::<Vec<_>>();
                self.world.put64(self.mm + 0x18, ends[0]);
                for pair in ends.windows(2) {
                    self.world.put64(pair[0] + 0x10, pair[1]);
                }
            }
            Form::Tree => {
                let leaf = self.world.room(256);
                let mut last = Vec::new();
                let mut next = 0;
                for &area in &self.areas {
                    let (start, end) = (self.number(area), self.number(area + 8));
                    if start > next {
                        last.push((start - 1, 0));
                    }
                    last.push((end - 1, area));
                    next = end;
                }
                for (i, (last, area)) in (0..).zip(last) {
                    self.world.put64(leaf + 8 + 8 * i, last);
                    self.world.put64(leaf + 128 + 8 * i, area);
                }
                self.world.put64(self.mm + 8, leaf | 1 << 3 | 4 | 2);
                self.leaf = leaf;
            }
        }
    }

    fn number(&self, at: u64) -> u64 {
        crate::memory::Memory::read_u64(&self.world, crate::addr::Gva(at)).expect("mapped")
    }

    /// Lines as in `/proc/PID/maps`, shortened, and the kinds of findings.
    fn lines(&self) -> (Vec<String>, Vec<FindingKind>) {
        let types = definitions(self.form);
        let plan = VmaPlan::new(&types).expect("all members are there");
        let mm = MmPlan::new(&types, &mut Vec::new()).expect("all members are there");
        let mm = mm.read(&self.world, self.mm).expect("is mapped");
        let symbols = self.world.symbols();
        let mut findings = Findings::default();
        let mut reader = Reader::new(&plan, &self.world, &symbols, &mm, &mut findings);
        let areas = reader.areas().expect("there is a view of areas");
        let lines = areas
            .iter()
            .map(|area| {
                let row = reader.row(area);
                let offset = row.file.map_or(0, |file| file.offset);
                let kind = if row.shared { 's' } else { 'p' };
                format!(
                    "{} {}{kind} {offset:x} {}",
                    row.range,
                    row.prot,
                    row.name.as_deref().unwrap_or("-")
                )
            })
            .collect();
        let kinds = findings.finish().into_iter().map(|finding| finding.kind);
        (lines, kinds.collect())
    }
}

/// A file system with another one mounted at `/usr`.
struct FileTree {
    super_block: u64,
    inode: u64,
    outer: u64,
    outer_root: u64,
    inner: u64,
    inner_root: u64,
}

impl FileTree {
    fn new(world: &mut World) -> Self {
        let super_block = world.room(0x20);
        world.put32(super_block + 16, 8 << 20 | 3);
        let inode = world.room(0x20);
        world.put64(inode, 77);
        world.put64(inode + 8, super_block);
        let mut tree = Self {
            super_block,
            inode,
            outer: world.room(0x40),
            outer_root: 0,
            inner: world.room(0x40),
            inner_root: 0,
        };
        tree.outer_root = tree.dentry(world, "/", None);
        tree.inner_root = tree.dentry(world, "/", None);
        let mountpoint = tree.dentry(world, "usr", Some(tree.outer_root));
        world.put64(tree.outer, tree.outer);
        world.put64(tree.outer + 8, tree.outer_root);
        world.put64(tree.outer + 0x20, tree.outer_root);
        world.put64(tree.inner, tree.outer);
        world.put64(tree.inner + 8, mountpoint);
        world.put64(tree.inner + 0x20, tree.inner_root);
        tree
    }

    fn dentry(&self, world: &mut World, name: &str, parent: Option<u64>) -> u64 {
        let at = world.room(0x80);
        let text = world.room(name.len() as u64 + 1);
        world.put(text, name.as_bytes());
        // Hashed: something links to it.
        world.put64(at + 0x10, at);
        world.put64(at + 0x18, parent.unwrap_or(at));
        world.put32(at + 0x24, name.len() as u32);
        world.put64(at + 0x28, text);
        world.put64(at + 0x30, self.inode);
        world.put64(at + 0x40, self.super_block);
        at
    }

    /// The dentry of a path under `/usr`.
    fn path(&self, world: &mut World, parts: &[&str]) -> u64 {
        assert_eq!(parts[0], "usr");
        parts[1..].iter().fold(self.inner_root, |parent, part| {
            self.dentry(world, part, Some(parent))
        })
    }

    fn file(&self, world: &mut World, dentry: u64) -> u64 {
        let file = world.room(0x40);
        world.put64(file + 8, self.inode);
        world.put64(file + 16, self.inner + 0x20);
        world.put64(file + 24, dentry);
        file
    }
}

fn whole() -> Vec<String> {
    [
        "0x1000..0x3000 r--p 0 /usr/lib/libm.so",
        "0x3000..0x5000 r-xp 2000 /usr/lib/libm.so",
        "0x8000..0xa000 rw-p 0 [heap]",
        "0xb000..0xc000 rw-s 0 [anon:my name]",
        "0xd000..0xe000 r--p 0 [vvar]",
        "0x70000000..0x70020000 rw-p 0 [stack]",
    ]
    .map(str::to_owned)
    .to_vec()
}

#[test]
fn areas_are_named_and_in_order() {
    for form in FORMS {
        assert_eq!(Guest::new(form).lines(), (whole(), vec![]), "{form:?}");
    }
}

#[test]
fn damage_to_areas_is_found() {
    type Damage = fn(&mut Guest);
    // Where the pointer to the third area is.
    fn third(g: &Guest) -> u64 {
        match g.form {
            Form::Tree => g.leaf + 128 + 8 * 4,
            Form::List => g.areas[1] + 0x10,
        }
    }
    let cases: &[(&str, Damage, &[FindingKind])] = &[
        (
            "an area of another process",
            |g| g.world.put64(g.areas[2] + 0x18, UNMAPPED),
            &[Inconsistent],
        ),
        (
            "an area that ends before it starts",
            |g| g.world.put64(g.areas[2] + 8, 0x10),
            &[Damaged, Inconsistent],
        ),
        (
            "areas that overlap",
            |g| {
                g.world.put64(g.areas[2] + 8, 0xb800);
            },
            &[Damaged],
        ),
        (
            "a wrong number of areas",
            |g| g.world.put32(g.mm + 0x60, 0xffff_ffff),
            &[Inconsistent],
        ),
        (
            "a pointer into user memory",
            |g| g.world.put64(third(g), USER),
            &[Damaged, Inconsistent],
        ),
        (
            "a pointer to what is not mapped",
            |g| g.world.put64(third(g), UNMAPPED),
            &[Damaged, Inconsistent],
        ),
        (
            "an area that is there twice",
            |g| g.world.put64(third(g), g.areas[0]),
            &[Damaged, Inconsistent],
        ),
        (
            "a file in user memory",
            |g| g.world.put64(g.areas[0] + 0x38, USER),
            &[Damaged],
        ),
    ];
    for form in FORMS {
        for (name, damage, kinds) in cases {
            let mut guest = Guest::new(form);
            damage(&mut guest);
            let (lines, mut found) = guest.lines();
            assert!(lines.len() >= 2, "{form:?}: {name}: {lines:?}");
            found.dedup();
            for kind in *kinds {
                assert!(found.contains(kind), "{form:?}: {name}: {found:?}");
            }
            assert!(!found.contains(&Unreadable), "{form:?}: {name}: {found:?}");
        }
    }
}

#[test]
fn a_list_of_areas_that_loops_ends() {
    let mut guest = Guest::new(Form::List);
    guest.world.put64(guest.areas[5] + 0x10, guest.areas[2]);
    assert_eq!(guest.lines(), (whole(), vec![Damaged]));
}

/// The path of the file, as in `/proc`, and the kinds of findings.
fn path_of(guest: &Guest, steps: usize) -> (String, Vec<FindingKind>) {
    let plan = FilePlan::new(&definitions(guest.form)).expect("all members are there");
    let mut findings = Findings::default();
    let mut files = Files {
        plan: &plan,
        memory: &guest.world,
        symbols: &guest.world.symbols(),
        steps: &mut Budget(steps),
    };
    let file = files.file(guest.file, &mut findings).expect("is a file");
    assert_eq!((file.device, file.inode), ((8, 3), 77));
    let kinds = findings.finish().into_iter().map(|finding| finding.kind);
    (as_in_proc(&file), kinds.collect())
}

#[test]
fn paths_are_written_as_in_proc() {
    let mut guest = Guest::new(Form::List);
    assert_eq!(path_of(&guest, 99), ("/usr/lib/libm.so".into(), vec![]));
    // No longer hashed: deleted.
    guest.world.put64(guest.dentry + 0x10, 0);
    let text = guest.number(guest.dentry + 0x28);
    guest.world.put(text, b"l\nbm.so");
    assert_eq!(
        path_of(&guest, 99),
        ("/usr/lib/l\\012bm.so (deleted)".into(), vec![])
    );
}

#[test]
fn files_without_directories_are_named_by_their_functions() {
    for (function, expected) in [
        ("simple_dname", "/libm.so (deleted)"),
        ("anon_inodefs_dname", "anon_inode:libm.so"),
        ("dmabuffs_dname", "/libm.so:"),
        ("sockfs_dname", "socket:[77]"),
        ("another_dname", "libm.so"),
    ] {
        let mut guest = Guest::new(Form::List);
        let operations = guest.world.room(0x40);
        let function = guest.world.symbol(function, 16);
        guest.world.put64(operations + 0x20, function);
        guest.world.put64(guest.dentry + 0x38, operations);
        guest.world.put64(guest.dentry + 0x18, guest.dentry);
        assert_eq!(path_of(&guest, 99), (expected.into(), vec![]));
    }
}

#[test]
fn paths_that_do_not_end_are_cut() {
    let mut guest = Guest::new(Form::List);
    let parent = guest.number(guest.dentry + 0x18);
    guest.world.put64(parent + 0x18, guest.dentry);
    let (path, kinds) = path_of(&guest, 1_000_000);
    assert!(path.starts_with(".../"), "{}", &path[..20]);
    assert!(path.ends_with("lib/libm.so/lib/libm.so"));
    assert!(path.len() < 100_000);
    assert_eq!(kinds, [Damaged]);

    let (path, _) = path_of(&guest, 3);
    assert_eq!(
        path, ".../libm.so/lib/libm.so",
        "steps are shared by all files"
    );

    let mut guest = Guest::new(Form::List);
    let parent = guest.number(guest.dentry + 0x18);
    guest.world.put64(parent + 0x18, USER);
    let (path, kinds) = path_of(&guest, 99);
    assert_eq!(
        (path.as_str(), &*kinds),
        (".../lib/libm.so", &[Damaged][..])
    );
}

#[test]
fn names_that_are_too_long_in_all_are_left_out() {
    // A directory whose name is as long as can be, in a path that goes around and around.
    let mut guest = Guest::new(Form::List);
    let parent = guest.number(guest.dentry + 0x18);
    guest.world.put64(parent + 0x18, guest.dentry);
    // Areas that each have a file of their own with that path.
    let mut areas = Vec::new();
    for i in 0..700_u64 {
        let file = guest.world.room(0x40);
        for word in 0..8 {
            let value = guest.number(guest.file + 8 * word);
            guest.world.put64(file + 8 * word, value);
        }
        let area = guest.world.room(0x80);
        guest.world.put64(area, 0x10_0000 + i * 0x1000);
        guest.world.put64(area + 8, 0x10_1000 + i * 0x1000);
        guest.world.put64(area + 0x18, guest.mm);
        guest.world.put64(area + 0x38, file);
        areas.push(area);
    }
    guest.areas = areas;
    guest.link();
    let (lines, kinds) = guest.lines();
    assert_eq!(lines.len(), 700);
    let bytes: usize = lines.iter().map(String::len).sum();
    assert!(bytes < 64 << 20, "{bytes}");
    assert!(kinds.contains(&Damaged) && kinds.contains(&Limit));
}
