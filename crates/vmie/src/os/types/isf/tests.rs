//! Round trips, and files that make no sense.

use vmie_synth::guest::Rng;
use vmie_synth::linux::Btf as Writer;

use super::{Export, Isf, IsfError, export, export_xz};
use crate::addr::{AddrRange, Gva};
use crate::os::linux::types_of_btf;
use crate::os::{SymbolTable, SymbolTableBuilder, Type, Types};

const BANNER: &str = "Linux version 6.1.0-synthetic (builder@synthetic)";
const SLIDE: u64 = 0x1400_0000;

fn types() -> Types {
    let mut w = Writer::default();
    let int = w.int("int", 4, 1);
    let long = w.int("long unsigned int", 8, 0);
    let char = w.int("char", 1, 1);
    let byte = w.int("unsigned char", 1, 0);
    let boolean = w.int("_Bool", 1, 4);
    let double = w.float("double", 8);
    let mode = w.enumeration("mode", true, &[("BACK", -1), ("ON", 1)]);
    let wide = w.enumeration64("wide", false, &[("TOP", u64::MAX)]);
    let nameless = w.enumeration("", false, &[("A", 0), ("B", 7)]);
    let pid_t = w.typedef("pid_t", int);
    let constant = w.qualifier(10, pid_t);
    let name = w.array(char, long, 16);
    let raw = w.array(byte, long, 3);
    let table = w.array(raw, long, 5);
    let declared = w.forward("file", false);
    let file = w.pointer(declared);
    let handler = w.prototype(int, &[("file", file)]);
    let open = w.pointer(handler);
    let halves = w.union("", 8, &[("whole", long), ("low", int)]);
    let flags = w.bit_fields(
        "",
        8,
        &[("a", int, 0, 3), ("b", long, 35, 20), ("", int, 60, 2)],
    );
    let head_pointer = w.pointer(22);
    let head = w.structure(
        "list_head",
        16,
        &[("next", head_pointer, 0), ("prev", head_pointer, 64)],
    );
    assert_eq!(head, 22);
    w.structure(
        "task_struct",
        160,
        &[
            ("pid", constant, 0),
            ("on", boolean, 32),
            ("comm", name, 64),
            ("tasks", head, 192),
            ("", halves, 320),
            ("flags", flags, 384),
            ("mode", mode, 448),
            ("kind", nameless, 480),
            ("wide", wide, 512),
            ("ratio", double, 576),
            ("open", open, 640),
            ("table", table, 704),
            ("file", file, 832),
        ],
    );
    // Another kind of head has the same name, and a record that is known by an alias.
    let other = w.structure("list_head", 4, &[("only", int, 0)]);
    let pair = w.structure("", 8, &[("x", int, 0), ("y", int, 32)]);
    w.typedef("pair_t", pair);
    w.structure("other", 16, &[("head", other, 0), ("pair", pair, 64)]);
    w.structure("taint_flag", 3, &[("c_true", char, 0)]);
    w.structure("printk_ringbuffer", 8, &[("text", name, 0)]);
    w.structure("seq_operations", 8, &[("start", open, 0)]);
    // What no compiler makes: a bit-field of a record.
    w.bit_fields("broken", 16, &[("pair", pair, 0, 3)]);
    // No record has one of these.
    w.enumeration("lonely", false, &[("ALONE", 3)]);
    types_of_btf(w.bytes()).expect("well-formed")
}

fn symbols() -> SymbolTable {
    let mut builder = SymbolTableBuilder::default();
    let text = 0xffff_ffff_8100_0000 + SLIDE;
    for (name, va, kind) in [
        ("fixed_percpu_data", 0, b'A'),
        ("_text", text, b'T'),
        ("linux_banner", text + 0x100_0000, b'D'),
        ("init_task", text + 0x200_0000, b'D'),
        ("modules", text + 0x210_0000, b'D'),
        ("taint_flags", text + 0x210_0010, b'R'),
        ("cap_last_cap", text + 0x210_0028, b'R'),
        ("prb", text + 0x210_0030, b'D'),
        ("tcp4_seq_ops", text + 0x210_0038, b'r'),
    ] {
        builder.push(name.as_bytes(), Gva(va), kind);
    }
    builder.build(AddrRange::new(Gva(text), 0x300_0000))
}

fn written_by(write: fn(&Export<'_>, &mut Vec<u8>) -> std::io::Result<()>) -> Vec<u8> {
    let (types, symbols) = (types(), symbols());
    let what = Export {
        types: &types,
        symbols: &symbols,
        banner: BANNER,
        build: None,
        slide: SLIDE,
    };
    let mut bytes = Vec::new();
    write(&what, &mut bytes).expect("memory takes everything");
    bytes
}

fn written() -> Vec<u8> {
    written_by(|what, out| export(what, out))
}

/// Every path through the records, with place and size of what it leads to.
fn places(types: &Types, path: &[&str]) -> Vec<(String, u64, Option<u32>, u64)> {
    path.iter()
        .map(|path| {
            let field = types.expression(path).expect(path);
            let size = types.size_of(field.ty).expect(path);
            ((*path).to_owned(), field.bit_offset, field.bit_size, size)
        })
        .collect()
}

const PATHS: [&str; 22] = [
    "task_struct",
    "task_struct.pid",
    "task_struct.on",
    "task_struct.comm",
    "task_struct.comm[3]",
    "task_struct.tasks",
    "task_struct.tasks.prev",
    "task_struct.whole",
    "task_struct.low",
    "task_struct.flags",
    "task_struct.flags.a",
    "task_struct.flags.b",
    "task_struct.mode",
    "task_struct.kind",
    "task_struct.wide",
    "task_struct.ratio",
    "task_struct.open",
    "task_struct.table",
    "task_struct.table[4][2]",
    "task_struct.file",
    "list_head",
    "mode",
];

#[test]
fn what_is_written_reads_the_same() {
    let isf = Isf::parse(&written()).expect("well-formed");
    assert_eq!(places(&isf.types, &PATHS), places(&types(), &PATHS));
    let values = |types: &Types, name: &str| match types.get(types.find(name).expect(name)) {
        Ok(Type::Enum { values, signed, .. }) => (
            values
                .iter()
                .map(|&(name, v)| (name.to_owned(), v))
                .collect::<Vec<_>>(),
            signed,
        ),
        other => panic!("{other:?}"),
    };
    for name in ["mode", "wide"] {
        assert_eq!(values(&isf.types, name), values(&types(), name));
    }
    let declared = |path: &str| {
        let field = isf.types.expression(path).expect(path);
        isf.types.declare(field.ty, "x")
    };
    assert_eq!(declared("task_struct.file"), "struct file *x");
    assert_eq!(declared("task_struct.comm"), "char x[16]");
    assert_eq!(declared("task_struct.table"), "unsigned char x[5][3]");
    assert_eq!(declared("task_struct.tasks.next"), "struct list_head *x");

    assert_eq!(isf.banner.as_deref(), Some(BANNER));
    assert_eq!(isf.fits(BANNER), Some(true));
    assert_eq!(isf.fits("Linux version 6.1.0-other"), Some(false));
    // Addresses are those of an unmoved kernel; per-CPU ones do not move.
    let address = |name: &str| isf.symbols.address_of(name).map(|va| va.0);
    assert_eq!(address("_text"), Some(0xffff_ffff_8100_0000));
    assert_eq!(address("fixed_percpu_data"), Some(0));
}

#[test]
fn the_json_is_what_others_expect() {
    let json: serde_json::Value = serde_json::from_slice(&written()).expect("JSON");
    // All that the schema allows here: it has no word for BTF, and no hash of what is no file.
    let metadata = serde_json::json!({
        "format": "6.2.0",
        "producer": {"name": "vmie", "version": "1.0.0"},
        "linux": {"symbols": [{"kind": "symtab", "name": "kallsyms"}]},
    });
    assert_eq!(json["metadata"], metadata);
    assert!(json["user_types"].get("broken").is_none());
    let task = &json["user_types"]["task_struct"];
    assert_eq!(
        (&task["kind"], &task["size"]),
        (&"struct".into(), &160.into())
    );
    let pid = serde_json::json!({"type": {"kind": "base", "name": "int"}, "offset": 0});
    assert_eq!(task["fields"]["pid"], pid);
    assert_eq!(task["fields"]["unnamed_field_4"]["anonymous"], true);
    let open = serde_json::json!({"kind": "pointer", "subtype": {"kind": "function"}});
    assert_eq!(task["fields"]["open"]["type"], open);
    let flags = task["fields"]["flags"]["type"]["name"]
        .as_str()
        .expect("a name");
    // Starts in the second int, but counts from the start of the long that it is of.
    let b = serde_json::json!({
        "type": {
            "kind": "bitfield", "bit_position": 35, "bit_length": 20,
            "type": {"kind": "base", "name": "long unsigned int"},
        },
        "offset": 0,
    });
    assert_eq!(json["user_types"][flags]["fields"]["b"], b);
    let task = serde_json::json!({"kind": "struct", "name": "task_struct"});
    assert_eq!(json["symbols"]["init_task"]["type"], task);
    assert_eq!(json["symbols"]["_text"]["type"]["kind"], "function");
    let ty = |name: &str| json["symbols"][name]["type"].clone();
    assert_eq!(ty("modules")["name"], "list_head");
    assert_eq!(ty("cap_last_cap")["name"], "int");
    assert_eq!(ty("taint_flags")["count"], 8);
    assert_eq!(ty("taint_flags")["subtype"]["name"], "taint_flag");
    assert_eq!(ty("prb")["kind"], "pointer");
    assert_eq!(ty("prb")["subtype"]["name"], "printk_ringbuffer");
    assert_eq!(ty("tcp4_seq_ops")["name"], "seq_operations");
    assert_eq!(json["base_types"]["void"]["kind"], "void");
    assert_eq!(json["base_types"]["pointer"]["size"], 8);
    assert_eq!(json["enums"]["mode"]["constants"]["BACK"], -1);
    assert_eq!(json["enums"]["lonely"]["constants"]["ALONE"], 3);
    assert_eq!(json["user_types"]["list_head"]["size"], 16);
    let head = &json["user_types"]["other"]["fields"]["head"]["type"]["name"];
    let head = head.as_str().expect("a name");
    assert!(head.starts_with("list_head__"), "{head}");
    assert_eq!(json["user_types"][head]["size"], 4);
    let pair = &json["user_types"]["other"]["fields"]["pair"]["type"]["name"];
    assert_eq!(*pair, "pair_t");
    assert_eq!(json["user_types"]["pair_t"]["size"], 8);
}

#[test]
fn files_of_any_writer_are_read() {
    let mut json: serde_json::Value = serde_json::from_slice(&written()).expect("JSON");
    let origin = |kind: &str, hash: &str, value: &str| serde_json::json!([{"kind": kind, "name": "x", "hash_type": hash, "hash_value": value}]);
    for metadata in [
        // As this was before the schema was kept to.
        serde_json::json!({
            "format": "6.2.0",
            "producer": {"name": "vmie", "version": "0.1.0"},
            "linux": {"symbols": origin("symtab", "none", "none"), "types": origin("btf", "none", "none")},
        }),
        serde_json::json!({
            "format": "6.2.0",
            "producer": {"name": "dwarf2json", "version": "0.9.0", "datetime": "2024-01-01T00:00:00Z"},
            "linux": {"symbols": origin("dwarf", "sha256", "00ff"), "types": origin("dwarf", "sha256", "00ff")},
        }),
        // The least that the schema asks for, and parts of what it allows.
        serde_json::json!({"format": "6.0.0"}),
        serde_json::json!({"format": "6.1.0", "producer": {"name": "somebody"}, "linux": {"types": [{}]}}),
    ] {
        json["metadata"] = metadata;
        let isf = Isf::parse(json.to_string().as_bytes()).expect("readable");
        assert_eq!(places(&isf.types, &PATHS), places(&types(), &PATHS));
        assert_eq!(isf.fits(BANNER), Some(true));
    }
}

#[test]
fn compressed_files_are_written_and_read() {
    let xz = written_by(|what, out| export_xz(what, out));
    let mut json = Vec::new();
    let mut reader = lzma_rust2::XzReader::new(&*xz, true);
    std::io::Read::read_to_end(&mut reader, &mut json).expect("well-formed");
    assert!(json == written());
    let isf = Isf::parse(&xz).expect("well-formed");
    assert_eq!(places(&isf.types, &PATHS), places(&types(), &PATHS));
    assert!(matches!(
        Isf::parse(&xz[..xz.len() / 2]),
        Err(IsfError::Xz(_))
    ));
    let mut broken = xz.clone();
    broken[xz.len() / 2] ^= 0xff;
    assert!(Isf::parse(&broken).is_err());
}

#[test]
fn files_that_make_no_sense_are_refused() {
    let json: serde_json::Value = serde_json::from_slice(&written()).expect("JSON");
    let with = |pointer: &str, value: serde_json::Value| {
        let mut json = json.clone();
        *json.pointer_mut(pointer).expect(pointer) = value;
        Isf::parse(json.to_string().as_bytes())
    };
    let said = |result: Result<Isf, IsfError>| result.expect_err("refused").to_string();
    let pid = "/user_types/task_struct/fields/pid";
    assert_eq!(
        said(with(&format!("{pid}/type/name"), "float128".into())),
        "float128: there is no such base type"
    );
    assert_eq!(
        said(with(&format!("{pid}/offset"), u64::MAX.into())),
        "task_struct: pid lies outside"
    );
    assert_eq!(
        said(with("/base_types/int/endian", "big".into())),
        "int: byte order \"big\" is not read"
    );
    assert!(said(with(&format!("{pid}/type/kind"), "riddle".into())).contains("riddle"));
    assert!(said(with("/user_types", 3.into())).starts_with("not an ISF file"));
    assert!(said(Isf::parse(b"")).starts_with("not an ISF file"));
    assert!(said(Isf::parse(b"{}")).contains("metadata"));
    // What is not defined is declared, whatever it is called.
    let isf = with(
        "/user_types/task_struct/fields/tasks/type/name",
        "elsewhere".into(),
    );
    let types = isf.expect("readable").types;
    assert!(types.expression("task_struct.tasks.next").is_err());
    // Without a banner nobody can tell whose types they are.
    let isf = with(
        "/symbols/linux_banner/constant_data",
        serde_json::Value::Null,
    );
    assert_eq!(isf.expect("readable").fits(BANNER), None);
    let deep = "[".repeat(100_000);
    assert!(Isf::parse(deep.as_bytes()).is_err());
}

#[test]
fn damaged_files_end_with_an_answer() {
    let json = written();
    let mut rng = Rng::new(6);
    for _ in 0..400 {
        let mut bytes = json.clone();
        for _ in 0..1 + rng.below(4) {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] = b"0123456789\"{}[]:,ax"[rng.below(19) as usize];
        }
        if let Ok(isf) = Isf::parse(&bytes) {
            for path in PATHS {
                let _ = isf.types.expression(path);
            }
        }
    }
}
