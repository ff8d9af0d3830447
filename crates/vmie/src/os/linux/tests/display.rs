//! Layouts and values, printed.

use vmie_synth::linux::Btf as Writer;

use crate::addr::{AddrRange, Gva};
use crate::memory::Prot;
use crate::os::linux::btf::Btf;
use crate::os::{
    LayoutKind, Resolver, Scope, ShowOptions, SymbolTableBuilder, Tier, TypeError, TypeId, Types,
    Value, show_text,
};
use crate::testmem::TestMemory;

fn open(writer: &Writer) -> Types {
    Types::new(Box::new(Btf::parse(writer.bytes()).expect("well-formed")))
}

struct Everything {
    types: Types,
    device: TypeId,
}

/// A record with a member of every sort.
fn everything() -> Everything {
    let mut w = Writer::default();
    let int = w.int("int", 4, 1);
    let unsigned = w.int("unsigned int", 4, 0);
    let long = w.int("long unsigned int", 8, 0);
    let char = w.int("char", 1, 1);
    let byte = w.int("unsigned char", 1, 0);
    let boolean = w.int("_Bool", 1, 4);
    let double = w.float("double", 8);
    let float = w.float("float", 4);
    let mode = w.enumeration("mode", false, &[("OFF", 0), ("ON", 1)]);
    let constant = w.qualifier(10, char);
    let text = w.pointer(constant);
    let name = w.array(char, long, 8);
    let bytes = w.array(byte, long, 6);
    let point = w.structure("point", 8, &[("x", int, 0), ("y", int, 32)]);
    let points = w.array(point, long, 2);
    let pointed = w.pointer(point);
    let file = w.forward("file", false);
    let file_pointer = w.pointer(file);
    let handler = w.prototype(int, &[("file", file_pointer), ("", long)]);
    let handler_pointer = w.pointer(handler);
    let halves = w.union("", 8, &[("whole", long), ("low", unsigned)]);
    let flags = w.bit_fields(
        "",
        4,
        &[
            ("a", unsigned, 0, 3),
            ("b", int, 3, 5),
            ("", unsigned, 10, 2),
        ],
    );
    let atomic = w.structure("", 4, &[("counter", int, 0)]);
    let atomic_t = w.typedef("atomic_t", atomic);
    let nothing = w.structure("lock_key", 0, &[]);
    let tail = w.array(int, long, 0);
    let numbers = w.pointer(unsigned);
    let row = w.array(point, long, 3);
    let grid = w.array(row, long, 2);
    let device = w.structure(
        "device",
        184,
        &[
            ("id", unsigned, 0),
            ("on", boolean, 32),
            // A hole of 3 bytes.
            ("label", text, 64),
            ("name", name, 128),
            ("serial", bytes, 192),
            ("mode", mode, 256),
            ("corners", points, 288),
            ("origin", pointed, 448),
            ("open", handler_pointer, 512),
            ("", halves, 576),
            ("flags", flags, 640),
            ("refs", atomic_t, 672),
            ("ratio", double, 704),
            ("scale", float, 768),
            ("key", nothing, 800),
            ("grid", grid, 832),
            ("counts", numbers, 1216),
            ("rest", tail, 1408),
        ],
    );
    Everything {
        types: open(&w),
        device: TypeId(device),
    }
}

#[test]
fn a_layout_says_where_everything_is() {
    let Everything { types, device } = everything();
    let layout = types.layout(device, 0).expect("well-formed");
    let expected = "\
struct device {
    unsigned int id;                                     /*       0      4 */
    _Bool on;                                            /*       4      1 */
    /* hole of 3 bytes */                                /*       5      3 */
    const char *label;                                   /*       8      8 */
    char name[8];                                        /*      16      8 */
    unsigned char serial[6];                             /*      24      6 */
    /* hole of 2 bytes */                                /*      30      2 */
    enum mode mode;                                      /*      32      4 */
    struct point corners[2];                             /*      36     16 */
    /* hole of 4 bytes */                                /*      52      4 */
    struct point *origin;                                /*      56      8 */
    int (*open)(struct file *file, long unsigned int);   /*      64      8 */
    union {
        long unsigned int whole;                         /*      72      8 */
        unsigned int low;                                /*      72      4 */
    };                                                   /*      72      8 */
    struct {
        unsigned int a:3;                                /*    80:0      3 bits */
        int b:5;                                         /*    80:3      5 bits */
        /* hole of 2 bits */                             /*    81:0      2 bits */
        unsigned int:2;                                  /*    81:2      2 bits */
        /* hole of 20 bits */                            /*    81:4     20 bits */
    } flags;                                             /*      80      4 */
    atomic_t refs;                                       /*      84      4 */
    double ratio;                                        /*      88      8 */
    float scale;                                         /*      96      4 */
    struct lock_key key;                                 /*     100      0 */
    /* hole of 4 bytes */                                /*     100      4 */
    struct point grid[2][3];                             /*     104     48 */
    unsigned int *counts;                                /*     152      8 */
    /* hole of 16 bytes */                               /*     160     16 */
    int rest[];                                          /*     176      0 */
    /* hole of 8 bytes */                                /*     176      8 */
}; /* 184 bytes */
";
    assert_eq!(layout.to_string(), expected);

    // One level down, records with names and behind aliases are opened, too.
    let deep = types.layout(device, 1).expect("well-formed").to_string();
    assert!(
        deep.contains(
            "    struct point {
        int x;                                           /*      36      4 */
        int y;                                           /*      40      4 */
    } corners[2];                                        /*      36     16 */
"
        ),
        "{deep}"
    );
    assert!(deep.contains("} grid[2][3];"), "{deep}");
    assert!(deep.contains("} refs;"), "{deep}");
}

#[test]
fn layouts_of_what_is_no_record() {
    let Everything { types, .. } = everything();
    let text = |name: &str| {
        let id = types.find(name).expect(name);
        types.layout(id, 0).expect(name).to_string()
    };
    assert_eq!(
        text("mode"),
        "enum mode {\n    OFF = 0,\n    ON = 1,\n}; /* 4 bytes */\n"
    );
    assert!(text("double").starts_with("double;"));
    let atomic = types
        .layout(types.find("atomic_t").expect("there"), 0)
        .expect("fine");
    assert_eq!(atomic.title, "struct {...}");
    assert_eq!(atomic.size, 4);
    assert!(matches!(&atomic.rows[0].kind, LayoutKind::Member { name, .. } if name == "counter"));
}

#[test]
fn declarations_as_c_writes_them() {
    let mut w = Writer::default();
    let int = w.int("int", 4, 1);
    let pointer = w.pointer(int);
    let array = w.array(pointer, int, 4);
    let plain = w.array(int, int, 4);
    let to_array = w.pointer(plain);
    let function = w.prototype(int, &[("a", int), ("b", pointer), ("", 0)]);
    let to_function = w.pointer(function);
    let table = w.array(to_function, int, 8);
    let returns = w.prototype(to_function, &[("signal", int)]);
    let named = w.function("signal", returns);
    let constant = w.qualifier(10, int);
    let to_constant = w.pointer(constant);
    let constant_pointer = w.qualifier(10, to_constant);
    let nothing = w.pointer(0);
    let tagged = w.qualifier(18, int);
    let user = w.pointer(tagged);
    let variable = w.variable("jiffies", constant);
    let restricted = w.qualifier(11, pointer);
    let types = open(&w);
    for (ty, name, expected) in [
        (int, "x", "int x"),
        (int, "", "int"),
        (pointer, "x", "int *x"),
        (array, "x", "int *x[4]"),
        (array, "", "int *[4]"),
        (to_array, "x", "int (*x)[4]"),
        (to_function, "x", "int (*x)(int a, int *b, ...)"),
        (to_function, "", "int (*)(int a, int *b, ...)"),
        (table, "x", "int (*x[8])(int a, int *b, ...)"),
        (named, "", "int (*signal(int signal))(int a, int *b, ...)"),
        (constant, "x", "const int x"),
        (to_constant, "x", "const int *x"),
        (constant_pointer, "x", "const int *const x"),
        (constant_pointer, "", "const int *const"),
        (nothing, "x", "void *x"),
        (user, "x", "int *x"),
        (variable, "", "const int jiffies"),
        (restricted, "x", "int *restrict x"),
        (999, "x", "<damaged> x"),
    ] {
        assert_eq!(types.declare(TypeId(ty), name), expected);
    }
}

#[test]
fn declarations_that_have_no_end_are_cut() {
    let mut w = Writer::default();
    w.pointer(1);
    let grows = w.prototype(0, &[("a", 2), ("b", 2)]);
    let types = open(&w);
    assert!(types.declare(TypeId(1), "x").contains("..."));
    assert!(types.declare(TypeId(grows), "x").len() < 10_000);
}

const DEVICE: u64 = 0x1000;
const ELSEWHERE: u64 = 0x8000;

/// A device, and what it points to.
fn memory() -> TestMemory<Gva> {
    let mut device = Vec::new();
    let mut put = |bytes: &[u8]| device.extend(bytes);
    put(&7_u32.to_le_bytes());
    put(&[1, 0, 0, 0]);
    put(&ELSEWHERE.to_le_bytes());
    put(b"disk\0xyz");
    put(&[1, 1, 1, 2, 3, 3, 0, 0]);
    put(&1_u32.to_le_bytes());
    for corner in [-1_i32, 2, 3, 70_000] {
        put(&corner.to_le_bytes());
    }
    put(&[0; 4]);
    put(&(ELSEWHERE + 0x10).to_le_bytes());
    put(&0xffff_ffff_8100_0010_u64.to_le_bytes());
    put(&0x1_0000_0002_u64.to_le_bytes());
    put(&0b1010_1101_1101_u32.to_le_bytes());
    put(&3_u32.to_le_bytes());
    put(&0.5_f64.to_le_bytes());
    put(&1.5_f32.to_le_bytes());
    put(&[0; 4]);
    put(&[0; 48]);
    put(&(ELSEWHERE + 0x20).to_le_bytes());
    put(&[0; 24]);
    assert_eq!(device.len(), 184);
    let mut elsewhere = b"a \"label\"\0".to_vec();
    elsewhere.resize(0x10, 0);
    elsewhere.extend([5, 0, 0, 0, 6, 0, 0, 0]);
    elsewhere.resize(0x20, 0);
    elsewhere.extend(99_u32.to_le_bytes());
    TestMemory::of(DEVICE, &device).part(ELSEWHERE, &elsewhere, Prot::R)
}

fn names() -> Resolver<'static> {
    let mut symbols = SymbolTableBuilder::default();
    let base = 0xffff_ffff_8100_0000;
    symbols.push(b"device_open", Gva(base), b'T');
    let range = AddrRange::new(Gva(base), 0x1_0000).expect("not empty");
    let table = std::sync::Arc::new(symbols.build(Some(range)));
    let scope = Scope::new("kernel", range, Tier::Kernel, move || Ok(table.clone()));
    Resolver::new(vec![scope])
}

#[test]
fn values_of_every_sort_are_shown() {
    let Everything { types, device } = everything();
    let names = names();
    let options = ShowOptions {
        names: Some(&names),
        elements: 4,
        pointers: 1,
        ..ShowOptions::default()
    };
    let rows = types
        .show(&memory(), device, Gva(DEVICE), &options)
        .expect("well-formed");
    let expected = r#"(struct device) {
    .id = 7,
    .on = true,
    .label = 0x8000 -> "a \"label\"",
    .name = "disk",
    .serial = {1 <3 times>, 2, ... 2 more},
    .mode = ON (1),
    .corners = {
        [0] = {
            .x = -1,
            .y = 2,
        },
        [1] = {
            .x = 3,
            .y = 70000 (0x11170),
        },
    },
    .origin = 0x8010,
        * = {
            .x = 5,
            .y = 6,
        },
    .open = 0xffffffff81000010 <device_open+0x10>,
    {
        .whole = 4294967298 (0x100000002),
        .low = 2,
    },
    .flags = {
        .a = 5,
        .b = -5,
        2,
    },
    .refs = {
        .counter = 3,
    },
    .ratio = 0.5,
    .scale = 1.5,
    .key = {},
    .grid = {
        [0] = {
            [0] = {
                .x = 0,
                .y = 0,
            },
            [1] = {
                .x = 0,
                .y = 0,
            },
            [2] = {
                .x = 0,
                .y = 0,
            },
        },
        [1] = {
            [0] = {
                .x = 0,
                .y = 0,
            },
            [1] = {
                .x = 0,
                .y = 0,
            },
            [2] = {
                .x = 0,
                .y = 0,
            },
        },
    },
    .counts = 0x8020 -> 99,
    .rest = {},
}
"#;
    assert_eq!(show_text(&rows), expected);
}

#[test]
fn one_member_can_be_shown() {
    let Everything { types, .. } = everything();
    let memory = memory();
    let one = |text: &str| {
        let field = types.expression(text).expect(text);
        let options = ShowOptions::default();
        show_text(
            &types
                .show_field(&memory, field, Gva(DEVICE), &options)
                .expect(text),
        )
    };
    assert_eq!(one("device.name"), "\"disk\"\n");
    assert_eq!(one("device.corners[1].x"), "3\n");
    assert_eq!(one("device.flags.b"), "-5\n");
    assert_eq!(one("device.label"), "0x8000 -> \"a \\\"label\\\"\"\n");
    assert_eq!(one("device.origin"), "0x8010\n");
    assert_eq!(
        one("point"),
        "(struct point) {\n    .x = 7,\n    .y = 1,\n}\n"
    );
    assert_eq!(
        types.expression("device.x").expect_err("none"),
        TypeError::NoMember {
            record: "struct device".into(),
            member: "x".into(),
        }
    );
}

#[test]
fn what_cannot_be_read_is_said_and_the_rest_shown() {
    let Everything { types, device } = everything();
    let mut memory = memory();
    memory.parts[0].bytes.truncate(20);
    memory.parts[1].bytes.truncate(4);
    let rows = types
        .show(&memory, device, Gva(DEVICE), &ShowOptions::default())
        .expect("well-formed");
    let value = |name: &str| {
        rows.iter()
            .find(|row| row.name == name)
            .expect(name)
            .value
            .clone()
    };
    assert_eq!(value("id"), Value::Integer(7));
    // The text ends where memory does: the NUL that ended it is not there.
    assert!(matches!(value("label"), Value::Pointer(_, _, Some(text))
        if *text == Value::Text(b"a \"l".to_vec(), true)));
    assert!(matches!(value("name"), Value::Unreadable(fault) if fault.addr == Gva(DEVICE + 20)));
    for name in ["serial", "mode", "origin", "ratio", "a"] {
        let shown = match value(name) {
            Value::List(values, _) => values[0].clone(),
            other => other,
        };
        assert!(matches!(shown, Value::Unreadable(_)), "{name}");
    }
}

#[test]
fn the_number_of_rows_is_bounded() {
    let mut w = Writer::default();
    let int = w.int("int", 4, 1);
    let one = w.structure("one", 4, &[("x", int, 0)]);
    let mut last = one;
    for _ in 0..5 {
        last = w.array(last, int, 1000);
    }
    let itself = w.structure("itself", 8, &[("x", 8, 0), ("y", 8, 0)]);
    assert_eq!(itself, 8, "its members are of its own type");
    let types = open(&w);
    let options = ShowOptions {
        elements: u64::MAX,
        rows: 500,
        ..ShowOptions::default()
    };
    let rows = types
        .show(&memory(), TypeId(last), Gva(DEVICE), &options)
        .expect("shown");
    assert!(rows.len() < 600, "{}", rows.len());
    assert!(
        types
            .show(&memory(), TypeId(itself), Gva(DEVICE), &options)
            .is_err()
    );
    let layout = types.layout(TypeId(itself), 100).expect("bounded");
    assert!(layout.cut && layout.rows.len() < 110_000);

    let mut w = Writer::default();
    let int = w.int("int", 4, 1);
    let one = w.structure("one", 0, &[("x", int, 0)]);
    let many = w.array(one, int, u32::MAX);
    let numbers = w.array(int, int, u32::MAX);
    let types = open(&w);
    for ty in [many, numbers] {
        let rows = types
            .show(&memory(), TypeId(ty), Gva(DEVICE), &options)
            .expect("shown");
        assert!(rows.len() < 600, "{}", rows.len());
    }
}
