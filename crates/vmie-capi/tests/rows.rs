//! The structs of the headers are rows, as the command prints them: the same fields, wide enough, in the same units.
//!
//! Each struct of the headers stands in [`STRUCTS`], with the row that it corresponds to and what each member is, or
//! in [`NOT_ROWS`]. What a field means is not compared word for word: of the comments it is asked that they say the unit
//! where the row has one, and what stands for null. The values of the two are compared by `cargo xtask capi`.

use std::path::Path;

use vmie_rows::{
    Coverage, Cpu, ExtentRow, Field, FieldRow, FoundRow, MatchRow, ModuleRow, PathRow, ProcessRow,
    RefRow, RegionRow, Row as _, SymbolRow, Type, Unit, WalkRow, XrefRow, leaves,
};

/// What a member of a struct is.
#[derive(Clone, Copy)]
enum Is {
    /// The field of this key.
    Key(&'static str),
    /// A number, explained by constants of the header, for the word that the field of this key has.
    Word(&'static str),
    /// The field of this key, whose null the call tells by failing.
    OrFails(&'static str),
    /// The field of this key in another unit, which the member's name ends with.
    InUnit(&'static str, &'static str),
    /// Of the library only.
    Only,
}
use Is::{InUnit, Key, Only, OrFails, Word};

/// A struct, the fields of the row that it corresponds to, and its members.
type Struct = (
    &'static str,
    &'static [Field],
    &'static [(&'static str, Is)],
);

const STRUCTS: &[Struct] = &[
    (
        "vmie_coverage",
        Coverage::FIELDS,
        &[
            ("mapped", Key("mapped")),
            ("read", Key("read")),
            ("absent", Key("absent")),
            ("lost", Key("lost")),
            ("unmapped", Key("unmapped")),
            ("gaps", Key("gap_count")),
            ("complete", Only),
            ("stopped", Only),
        ],
    ),
    (
        "vregion",
        RegionRow::SHAPE.fields,
        &[
            ("va", Key("va")),
            ("len", Key("len")),
            ("prot", Key("prot")),
        ],
    ),
    (
        "vmie_cpu",
        Cpu::FIELDS,
        &[
            ("cr3", Key("cr3")),
            ("cr0", Key("cr0")),
            ("cr4", Key("cr4")),
            ("rip", Key("rip")),
            ("rsp", Key("rsp")),
            ("index", Key("index")),
            ("paging", Word("paging")),
        ],
    ),
    (
        "vmie_mapping",
        WalkRow::SHAPE.fields,
        &[
            ("gpa", OrFails("gpa")),
            ("page_size", OrFails("page_size")),
            ("prot", OrFails("prot")),
            ("reserved", Only),
        ],
    ),
    (
        "vmie_process",
        ProcessRow::SHAPE.fields,
        &[
            ("cr3", Key("cr3")),
            ("user_cr3", Key("user_cr3")),
            ("object", Key("task")),
            ("started_ns", InUnit("started", "ns")),
            ("pid", Key("pid")),
            ("ppid", Key("ppid")),
            ("uid", Key("uid")),
            ("threads", Key("threads")),
            ("flags", Only),
            ("state", Key("state")),
            ("name", Key("name")),
        ],
    ),
    (
        "vmie_module",
        ModuleRow::SHAPE.fields,
        &[
            ("va", Key("va")),
            ("len", Key("len")),
            ("start", Key("start")),
            ("span", Key("span")),
            ("flags", Only),
            ("name", Key("name")),
            ("path", Key("path")),
        ],
    ),
    (
        "vmie_symbol",
        SymbolRow::SHAPE.fields,
        &[
            ("va", Key("va")),
            ("name", Key("name")),
            ("kind", Key("type")),
        ],
    ),
    (
        "sig_match",
        MatchRow::SHAPE.fields,
        &[("va", Key("va")), ("sig", Key("sig")), ("reserved", Only)],
    ),
    (
        "code_xref",
        XrefRow::SHAPE.fields,
        &[
            ("va", Key("va")),
            ("target", Key("target")),
            ("kind", Word("kind")),
            ("len", Key("len")),
            ("linear", Key("linear")),
        ],
    ),
    (
        "value_hit",
        FoundRow::SHAPE.fields,
        &[("va", Key("va")), ("value", Key("value"))],
    ),
    (
        "narrow_hit",
        FoundRow::SHAPE.fields,
        &[
            ("va", Key("va")),
            ("value", Key("value")),
            ("old", OrFails("old")),
        ],
    ),
    (
        "scan_path",
        PathRow::SHAPE.fields,
        &[
            ("base", Key("base")),
            ("depth", Only),
            ("reserved", Only),
            ("offsets", Key("offsets")),
        ],
    ),
    (
        "pmap_edge",
        RefRow::SHAPE.fields,
        &[("at", Key("va")), ("value", Key("value"))],
    ),
    (
        "pmap_path",
        PathRow::SHAPE.fields,
        &[
            ("base", Key("base")),
            ("kind", Word("pointer")),
            ("count", Only),
            ("offsets", Key("offsets")),
        ],
    ),
    (
        "struct_field",
        FieldRow::SHAPE.fields,
        &[
            ("offset", Key("offset")),
            ("len", Key("len")),
            ("number", Only),
            ("room", Only),
            ("real", Only),
            ("kind", Word("kind")),
            ("value", Only),
            ("confidence", Key("confidence")),
            ("cut", Only),
            ("text", Key("value")),
            ("detail", Key("detail")),
            ("evidence", Key("evidence")),
        ],
    ),
];

/// What goes into the library, and what it shows of memory.
const NOT_ROWS: &[&str] = &["pmap_options", "pmap_range", "pmap_search", "scan_window"];

/// A struct of a header.
struct CStruct {
    name: String,
    /// The comment before it.
    about: String,
    members: Vec<Member>,
}

struct Member {
    name: String,
    /// With `[]` behind it for an array.
    ty: String,
    comment: String,
}

/// The structs that a header defines.
fn structs(header: &str) -> Vec<CStruct> {
    let mut all = Vec::new();
    let mut rest = header;
    while let Some(at) = rest.find("typedef struct ") {
        let (before, from) = rest.split_at(at);
        let from = &from["typedef struct ".len()..];
        let end = from.find(['{', ';']).expect("a struct has a body or none");
        rest = &from[end..];
        if rest.starts_with(';') {
            continue;
        }
        let body = &rest[1..rest.find('}').expect("a body ends")];
        all.push(CStruct {
            name: from[..end].trim().to_owned(),
            about: before.rsplit("/*").next().unwrap_or_default().to_owned(),
            members: members(body),
        });
    }
    all
}

fn members(body: &str) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    let mut rest = body.trim_start();
    while !rest.is_empty() {
        let end = if let Some(comment) = rest.strip_prefix("/*") {
            let end = comment.find("*/").expect("a comment ends");
            let of = members.last_mut().expect("a comment follows its member");
            of.comment = comment[..end].trim().to_owned();
            end + 4
        } else {
            let end = rest.find(';').expect("a member ends");
            members.push(member(&rest[..end]));
            end + 1
        };
        rest = rest[end..].trim_start();
    }
    members
}

fn member(text: &str) -> Member {
    let (text, array) = match text.split_once('[') {
        Some((text, _)) => (text, "[]"),
        None => (text, ""),
    };
    let at = text.rfind([' ', '*']).expect("a type and a name") + 1;
    Member {
        name: text[at..].to_owned(),
        ty: format!("{}{array}", text[..at].replace(' ', "")),
        comment: String::new(),
    }
}

/// What is wrong with the structs of some headers.
fn mistakes(structs: &[CStruct]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, ..) in STRUCTS {
        if !structs.iter().any(|of| of.name == *name) {
            wrong.push(format!("no header has {name}"));
        }
    }
    for of in structs {
        let name = &of.name;
        match STRUCTS.iter().find(|(known, ..)| known == name) {
            Some((_, fields, members)) => compare(of, fields, members, &mut wrong),
            None if NOT_ROWS.contains(&name.as_str()) => {}
            None => wrong.push(format!("{name} is neither in STRUCTS nor in NOT_ROWS")),
        }
    }
    wrong
}

fn compare(
    of: &CStruct,
    fields: &'static [Field],
    members: &[(&str, Is)],
    wrong: &mut Vec<String>,
) {
    let there: Vec<&str> = of
        .members
        .iter()
        .map(|member| member.name.as_str())
        .collect();
    let listed: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
    if there != listed {
        wrong.push(format!("{} has {there:?}, not {listed:?}", of.name));
        return;
    }
    for (member, (_, is)) in of.members.iter().zip(members) {
        let (Key(key) | Word(key) | OrFails(key) | InUnit(key, _)) = *is else {
            continue;
        };
        let mut say = |what: &str| wrong.push(format!("{}.{}: {what}", of.name, member.name));
        let leaves = leaves(fields);
        let Some(field) = leaves
            .iter()
            .map(|leaf| leaf.field)
            .find(|field| field.key == key)
        else {
            say(&format!("the row has no `{key}`"));
            continue;
        };
        let ty = field.ty.not_null();
        let fits = match is {
            Word(_) => member.ty == "uint32_t" && matches!(ty, Type::Text | Type::Bool),
            InUnit(_, unit) => {
                let ends = member.name.ends_with(&format!("_{unit}"));
                ends && member.ty == "uint64_t" && ty == Type::Float
            }
            _ => holds(&member.ty, &ty),
        };
        if !fits {
            say(&format!("{} for {:?}", member.ty, field.ty));
        }
        let comment = &member.comment;
        let says_unit = match field.unit {
            None => true,
            Some(Unit::bytes) => {
                comment.contains("bytes") || without_size(&of.about).contains("bytes")
            }
            Some(Unit::percent) => comment.contains("100"),
            Some(_) => matches!(is, InUnit(..)),
        };
        if !says_unit {
            say("its comment does not say the unit");
        }
        let may_be_null = matches!(field.ty, Type::Nullable(_)) && !matches!(is, OrFails(_));
        let null = ["none", "not known", "does not", "empty", "another one"];
        if may_be_null && !null.iter().any(|words| comment.contains(words)) {
            say("its comment does not say what stands for null");
        }
    }
}

/// A comment without how large the struct itself is.
fn without_size(about: &str) -> String {
    let words: Vec<&str> = about.split_whitespace().collect();
    let is_size = |index: usize| words[index].parse::<u64>().is_ok();
    let kept = (0..words.len()).filter(|&index| index == 0 || !is_size(index - 1));
    kept.map(|index| words[index]).collect::<Vec<_>>().join(" ")
}

/// Whether a C type has all values of a row's.
fn holds(c: &str, ty: &Type) -> bool {
    let bits = match c {
        "uint64_t" => 64,
        "uint32_t" => 32,
        "uint16_t" => 16,
        _ => 0,
    };
    match ty {
        Type::Hex => bits == 64,
        Type::Unsigned(of_row) => *of_row <= bits,
        // A letter each.
        Type::Prot => bits == 32,
        Type::Bool => bits > 0,
        // The index in the set; names are asked for.
        Type::NumberOrText => bits == 32,
        Type::Letter => c == "char",
        Type::Text => matches!(c, "char[]" | "constchar*"),
        Type::List(Type::Signed(64)) => c == "int64_t[]",
        // A union of what numbers there are.
        Type::Any => c == "gva_value",
        _ => false,
    }
}

fn headers() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder of headers")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 6);
    let read = |path| std::fs::read_to_string(path).expect("a header");
    paths.into_iter().map(read).collect()
}

#[test]
fn structs_are_rows() {
    let wrong = mistakes(&structs(&headers()));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn extents_are_mappings_with_an_address() {
    // What the library tells of one address is what the command tells of runs of them.
    for key in ["gpa", "page_size", "prot"] {
        let of = |fields| {
            let leaves = leaves(fields);
            let field = leaves.iter().find(|leaf| leaf.field.key == key);
            field.map(|leaf| (leaf.field.ty.not_null(), leaf.field.unit))
        };
        assert_eq!(of(ExtentRow::SHAPE.fields), of(WalkRow::SHAPE.fields));
    }
}

#[test]
fn what_is_wrong_is_told() {
    let headers = headers();
    let changed = |from: &str, to: &str| {
        assert!(headers.contains(from), "{from}");
        mistakes(&structs(&headers.replacen(from, to, 1)))
    };
    for (from, to, told) in [
        // A width, a unit, a null, a name, a member too many, a struct that nobody knows.
        (
            "    uint64_t len;  /* bytes, not zero */",
            "    uint32_t len;  /* bytes, not zero */",
            "vregion.len: uint32_t",
        ),
        (
            "    uint64_t len;  /* bytes, not zero */",
            "    uint64_t len;  /* not zero */",
            "vregion.len: its comment does not say the unit",
        ),
        (
            "UINT32_MAX when the system does not number users",
            "or UINT32_MAX",
            "vmie_process.uid: its comment does not say what stands for null",
        ),
        (
            "    uint32_t ppid; ",
            "    uint32_t parent; ",
            "vmie_process has",
        ),
        (
            "} vmie_module;",
            "    uint32_t more;\n} vmie_module;",
            "vmie_module has",
        ),
        (
            "typedef struct vmie_cpu {",
            "typedef struct vmie_core {",
            "vmie_core is neither",
        ),
    ] {
        let wrong = changed(from, to);
        assert!(
            wrong.iter().any(|one| one.starts_with(told)),
            "{told}: {wrong:#?}"
        );
    }
}
