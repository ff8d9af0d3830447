//! BTF of every kind, and BTF that makes no sense.

use vmie_synth::guest::Rng;
use vmie_synth::linux::{Btf as Writer, btf_header};

use crate::os::linux::btf::Btf;
use crate::os::{Encoding, Record, Type, TypeError, TypeId, Types};

fn open(writer: &Writer) -> Types {
    Types::new(Box::new(Btf::parse(writer.bytes()).expect("well-formed")))
}

/// A list head, a task with everything in it, and what they need.
fn tasks() -> (Writer, u32) {
    let mut w = Writer::default();
    let int = w.int("int", 4, 1);
    let unsigned = w.int("unsigned int", 4, 0);
    let long = w.int("unsigned long", 8, 0);
    let char = w.int("char", 1, 1);
    let head_pointer = w.pointer(6);
    let head = w.structure(
        "list_head",
        16,
        &[("next", head_pointer, 0), ("prev", head_pointer, 64)],
    );
    assert_eq!(head, 6, "the pointer refers to it");
    let comm = w.array(char, long, 16);
    let pid_t = w.typedef("pid_t", int);
    let const_pid = w.qualifier(10, pid_t);
    let volatile = w.qualifier(9, const_pid);
    let inner = w.union("", 8, &[("whole", long), ("half", unsigned)]);
    let outer = w.structure("", 16, &[("", inner, 0), ("behind", long, 64)]);
    let heads = w.array(head, long, 4);
    let task = w.structure(
        "task_struct",
        128,
        &[
            ("state", unsigned, 0),
            ("pid", volatile, 32),
            ("tasks", head, 64),
            ("comm", comm, 192),
            ("", outer, 320),
            ("heads", heads, 448),
        ],
    );
    (w, task)
}

#[test]
fn members_are_found_by_path() {
    let (w, task) = tasks();
    let types = open(&w);
    assert_eq!(types.find("task_struct"), Ok(TypeId(task)));
    assert_eq!(types.find("struct task_struct"), Ok(TypeId(task)));
    for (path, offset) in [
        ("state", 0),
        ("pid", 4),
        ("tasks", 8),
        ("tasks.next", 8),
        ("tasks.prev", 16),
        ("comm[3]", 27),
        ("whole", 40),
        ("half", 40),
        ("behind", 48),
        ("heads[0x2].prev", 56 + 2 * 16 + 8),
    ] {
        assert_eq!(types.offset_of("task_struct", path), Ok(offset), "{path}");
    }
    let comm = types.field(TypeId(task), "comm").expect("a member");
    assert_eq!(types.size_of(comm.ty), Ok(16));
    let (_, pid) = types
        .resolve(types.field(TypeId(task), "pid").expect("a member").ty)
        .expect("an int");
    assert!(matches!(
        pid,
        Type::Int {
            name: "int",
            size: 4,
            signed: true,
            ..
        }
    ));
}

#[test]
fn paths_that_lead_nowhere_say_where_they_end() {
    let (w, _) = tasks();
    let types = open(&w);
    let said = |name: &str, path: &str| types.offset_of(name, path).expect_err(path).to_string();
    assert_eq!(said("task", "pid"), "no type named \"task\"");
    assert_eq!(
        said("union task_struct", "pid"),
        "no type named \"union task_struct\""
    );
    assert_eq!(said("", "pid"), "no type named \"\"");
    assert_eq!(
        said("task_struct", "tasks.first"),
        "struct list_head has no member \"first\""
    );
    assert_eq!(
        said("task_struct", "pid.x"),
        "type int has no members to go into"
    );
    assert_eq!(
        said("task_struct", "tasks.next.prev"),
        "a pointer has no members to go into"
    );
    for (path, why) in [
        ("comm[", "a [ without its ]"),
        ("comm[x]", "an index is a number"),
        ("comm]", "struct task_struct has no member \"comm]\""),
        ("heads[1]prev", "members are separated by dots"),
        (".pid", "members are separated by dots"),
        ("tasks..next", "a member without a name"),
        ("tasks.", "a member without a name"),
    ] {
        assert!(
            said("task_struct", path).contains(why),
            "{path}: {}",
            said("task_struct", path)
        );
    }
    assert!(
        types
            .offset_of("task_struct", "heads[0xffffffffffffffff]")
            .is_err()
    );
}

#[test]
fn every_kind_is_described() {
    let mut w = Writer::default();
    let int = w.int("int", 4, 1);
    let boolean = w.int("_Bool", 1, 4);
    let signed = w.enumeration("direction", true, &[("back", -1), ("on", 1)]);
    let unsigned = w.enumeration("flags", false, &[("top", -1)]);
    let wide = w.enumeration64("wide", false, &[("high", 1 << 40), ("all", u64::MAX)]);
    let declared = w.forward("secret", false);
    let double = w.float("double", 8);
    let prototype = w.prototype(int, &[("fd", int), ("", 0)]);
    let function = w.function("open", prototype);
    let nothing = w.prototype(0, &[]);
    let variable = w.variable("jiffies", int);
    let tagged = w.qualifier(18, int);
    let section = w.record(".data", 15, false, 1, 4, &[variable, 0, 4]);
    let note = w.record("note", 17, false, 0, int, &[u32::MAX]);
    let types = open(&w);
    let get = |id| types.get(TypeId(id)).expect("described");

    assert_eq!(get(0), Type::Void);
    assert!(matches!(
        get(boolean),
        Type::Int {
            encoding: Encoding::Bool,
            bits: None,
            ..
        }
    ));
    let values = |id| match get(id) {
        Type::Enum {
            signed,
            values,
            size,
            ..
        } => (signed, values, size),
        other => panic!("{other:?}"),
    };
    assert_eq!(values(signed), (true, vec![("back", -1), ("on", 1)], 4));
    assert_eq!(values(unsigned), (false, vec![("top", 0xffff_ffff)], 4));
    assert_eq!(
        values(wide),
        (false, vec![("high", 1 << 40), ("all", -1)], 8)
    );
    assert_eq!(
        get(declared),
        Type::Forward {
            name: "secret",
            keyword: "struct"
        }
    );
    assert_eq!(
        get(double),
        Type::Float {
            name: "double",
            size: 8
        }
    );
    let open_type = Type::Prototype {
        result: TypeId(int),
        params: vec![("fd", TypeId(int))],
        variadic: true,
    };
    assert_eq!(get(prototype), open_type);
    assert_eq!(
        get(function),
        Type::Function {
            name: "open",
            prototype: TypeId(prototype)
        }
    );
    assert!(matches!(
        get(nothing),
        Type::Prototype {
            variadic: false,
            ..
        }
    ));
    assert_eq!(
        get(variable),
        Type::Variable {
            name: "jiffies",
            target: TypeId(int)
        }
    );
    assert_eq!(
        get(tagged),
        Type::Qualified {
            qualifier: "",
            target: TypeId(int)
        }
    );
    assert_eq!(get(section), Type::Other { name: ".data" });
    assert_eq!(get(note), Type::Other { name: "note" });
    assert_eq!(
        types.get(TypeId(note + 1)),
        Err(TypeError::Damaged(note + 1))
    );
    assert_eq!(types.end(), note + 1);
    assert_eq!(types.size_of(TypeId(declared)), Ok(0));
}

#[test]
fn bit_fields_of_both_kinds() {
    let mut w = Writer::default();
    let unsigned = w.int("unsigned int", 4, 0);
    let three = w.int_bits("unsigned int", 4, 5, 3);
    let new = w.bit_fields(
        "new",
        8,
        &[
            ("a", unsigned, 0, 3),
            ("b", unsigned, 3, 29),
            ("c", unsigned, 32, 0),
        ],
    );
    let old = w.structure("old", 8, &[("a", three, 0), ("c", unsigned, 32)]);
    let types = open(&w);
    let fields = |id| match types.get(TypeId(id)).expect("described") {
        Type::Record(Record { members, .. }) => members
            .iter()
            .map(|m| (m.name.to_owned(), m.bit_offset, m.bit_size))
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let field = |name: &str, offset, size| (name.to_owned(), offset, size);
    assert_eq!(
        fields(new),
        [
            field("a", 0, Some(3)),
            field("b", 3, Some(29)),
            field("c", 32, None)
        ]
    );
    assert_eq!(fields(old), [field("a", 5, Some(3)), field("c", 32, None)]);
}

#[test]
fn what_a_user_means_comes_first() {
    let mut w = Writer::default();
    let int = w.int("int", 4, 1);
    let prototype = w.prototype(0, &[]);
    w.function("thing", prototype);
    w.forward("thing", false);
    w.typedef("thing", int);
    let record = w.structure("thing", 4, &[("x", int, 0)]);
    w.enumeration("thing", false, &[]);
    let types = open(&w);
    assert_eq!(types.find("thing"), Ok(TypeId(record)));
    assert_eq!(types.named("thing").len(), 5);
    assert_eq!(types.named("enum  thing"), [TypeId(record + 1)]);
}

#[test]
fn circles_end() {
    let mut w = Writer::default();
    let first = w.typedef("first", 2);
    let second = w.qualifier(10, first);
    let itself = w.typedef("itself", 3);
    let matryoshka = w.structure("matryoshka", 8, &[("", 4, 0)]);
    let array = w.array(5, first, 2);
    let types = open(&w);
    for id in [first, second, itself] {
        assert_eq!(types.resolve(TypeId(id)), Err(TypeError::Damaged(id)));
        assert_eq!(types.size_of(TypeId(id)), Err(TypeError::Damaged(id)));
    }
    assert_eq!(
        types.field(TypeId(matryoshka), "x"),
        Err(TypeError::Damaged(matryoshka))
    );
    assert!(types.size_of(TypeId(array)).is_err());
}

#[test]
fn records_that_contain_themselves_many_times_end_soon() {
    // Each of 16 members without a name leads back: 16^32 ways without a bound.
    let mut w = Writer::default();
    let itself = w.structure("hydra", 8, &[("", 1, 0); 16]);
    let types = open(&w);
    assert!(types.field(TypeId(itself), "x").is_err());
    // The same without a circle: each record holds the next one twice.
    let mut w = Writer::default();
    for next in 2..=30 {
        w.structure("", 8, &[("", next, 0), ("", next, 0)]);
    }
    let last = w.structure("", 8, &[]);
    assert_eq!(last, 30);
    let types = open(&w);
    assert!(types.field(TypeId(1), "x").is_err());
}

#[test]
fn headers_that_lie_are_refused() {
    let (w, _) = tasks();
    let good = w.bytes();
    assert!(Btf::parse(good.clone()).is_ok());
    let said = |bytes: Vec<u8>| Btf::parse(bytes).expect_err("refused");
    assert_eq!(said(Vec::new()), "shorter than its header");
    assert_eq!(said(vec![0; 24]), "starts with 0x0000, not 0xeb9f");
    let with = |at: usize, word: u32| {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        bytes
    };
    assert_eq!(said(with(0, 0x0002_eb9f)), "version 2 is not known");
    for (at, words) in [
        (4, &[0, 23, u32::MAX][..]),
        (8, &[u32::MAX]),
        (12, &[u32::MAX, 1 << 20]),
        (16, &[u32::MAX]),
        (20, &[u32::MAX, 0]),
    ] {
        for &word in words {
            let why = said(with(at, word));
            assert!(
                why.contains("outside") || why.contains("NUL"),
                "{at} {word}: {why}"
            );
        }
    }
    // A record that claims more parts than there are bytes.
    let mut huge = btf_header(12, 1);
    huge.extend([0, 0, 0, 0, 0xff, 0xff, 0, 4, 8, 0, 0, 0, 0]);
    assert_eq!(said(huge), "type 1 is cut off");
    let mut unknown = btf_header(12, 1);
    unknown.extend([0, 0, 0, 0, 0, 0, 0, 31, 8, 0, 0, 0, 0]);
    assert_eq!(said(unknown), "type 1 is of unknown kind 31");
}

#[test]
fn a_longer_header_is_honoured() {
    let (w, _) = tasks();
    let mut bytes = w.bytes();
    bytes[4] = 32;
    bytes.splice(24..24, [0; 8]);
    let types = Types::new(Box::new(Btf::parse(bytes).expect("well-formed")));
    assert_eq!(types.offset_of("task_struct", "tasks"), Ok(8));
}

#[test]
fn damaged_types_are_refused_or_described() {
    let (w, _) = tasks();
    let good = w.bytes();
    let mut rng = Rng::new(5);
    let mut opened = 0;
    for _ in 0..3000 {
        let mut bytes = good.clone();
        for _ in 0..1 + rng.below(4) {
            let at = 24 + rng.below(bytes.len() as u64 - 24) as usize;
            bytes[at] = rng.below(256) as u8;
        }
        let Ok(btf) = Btf::parse(bytes) else {
            continue;
        };
        opened += 1;
        let types = Types::new(Box::new(btf));
        for id in 0..types.end() + 2 {
            let _ = types.get(TypeId(id));
            let _ = types.size_of(TypeId(id));
            let _ = types.resolve(TypeId(id));
            let _ = types.field(TypeId(id), "tasks.next");
            let _ = types.field(TypeId(id), "half");
        }
        let _ = types.offset_of("task_struct", "heads[1].next");
    }
    assert!(opened > 500, "{opened}");
}
