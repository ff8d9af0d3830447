//! All instances of the guest's classes, and nothing else: in the engine, and as the command prints them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use vmie::dissect::Dissector;
use vmie::pointers::{PointerMap, PointerOptions, Width};
use vmie::scan::Run;
use vmie::{AddrRange, Gva};
use vmie_lab::{ImageFormat, Program, Snapshot, Type};

use crate::command::{hex, run_bare, run_text};
use crate::objects::objects;
use crate::pointers::instances;
use crate::support::{each_image, snapshots, space, user_half};

#[test]
fn every_instance_is_found_and_nothing_else() {
    each_image(|snapshot, image, name| {
        for program in objects(&snapshot.programs().expect("readable")) {
            let what = format!("{name} {}", program.name);
            let root = snapshot.root_of(program.pid).expect("it runs");
            let space = space(snapshot, Arc::clone(&image), root);
            let options = PointerOptions {
                range: Some(user_half()),
                ..PointerOptions::default()
            };
            let map = PointerMap::build(&space, &options, Run::new()).expect("few pointers");
            let mut dissector = Dissector::new(&space, Width::Eight);
            for (class, expected) in instances(program) {
                let table = Gva(program.vtables[class]);
                let rtti = dissector.vtable(table).and_then(|table| table.rtti);
                let rtti = rtti.unwrap_or_else(|| panic!("{what}: {class} has no name"));
                assert_eq!((rtti.class.as_str(), rtti.base), (class, 0), "{what}");
                let table = AddrRange::inclusive(table, table).expect("one address");
                let places: Vec<Gva> = map.referrers(table).map(|edge| edge.at).collect();
                // Whichever instance is the model.
                for &model in &expected {
                    let judged = dissector.likeness(Gva(model), &places, program.sizes[class]);
                    let alike = places.iter().zip(&judged).filter(|one| one.1.alike);
                    let alike: BTreeSet<u64> = alike.map(|one| one.0.0).collect();
                    assert_eq!(alike, expected, "{what} {class}: {places:x?} {judged:#?}");
                }
            }
        }
    });
}

/// The arguments for the object at an address.
fn about<'a>(pid: &'a str, at: &'a str, len: &'a str) -> Vec<&'a str> {
    vec!["--pid", pid, at, "--len", len]
}

#[test]
fn the_command_compares_all_instances_with_and_without_an_index() {
    for snapshot in snapshots() {
        let directory = tempfile::tempdir().expect("a directory");
        let index = directory.path().join("index");
        let index = index.to_str().expect("UTF-8");
        let image = snapshot.image(ImageFormat::Raw).expect("one");
        for program in objects(&snapshot.programs().expect("readable")) {
            let pid = program.pid.to_string();
            let (_, status) = run_bare(&snapshot, image, "refs", &["--pid", &pid, "--save", index]);
            assert_eq!(status, 0);
            for (class, expected) in instances(program) {
                let what = format!("{} {} {class}", snapshot.variant, program.name);
                let len = program.sizes[class].to_string();
                let first = format!("{:#x}", expected.first().expect("one"));
                let args = about(&pid, &first, &len);
                let run = |more: &[&str]| {
                    run_bare(&snapshot, image, "dissect", &[&args[..], more].concat())
                };
                let (rows, status) = run(&["--like"]);
                assert_eq!(status, 0, "{what}");
                let values = rows[0]["values"].as_array().expect("a list");
                let seen: BTreeSet<u64> = values.iter().map(|one| hex(&one["va"])).collect();
                assert_eq!(seen, expected, "{what}");
                assert_eq!(rows[0]["votes"], expected.len(), "{what}");
                let detail = rows[0]["detail"].as_str().expect("a class");
                assert!(detail.starts_with(class), "{what}: {detail}");
                let (indexed, status) = run(&["--like", "--index", index]);
                assert_eq!((indexed, status), (rows, 0), "{what}");
            }
        }
    }
}

/// What the source declares of a monster: name of the value, and what the members of the structure that
/// hold it are called.
const MONSTER: &[(&str, &str)] = &[
    ("world", "object"),
    ("id", "number"),
    ("score", "number"),
    ("health", "float"),
    ("energy", "double"),
    ("target", "object"),
];

#[test]
fn the_structure_in_c_compiles_to_the_declared_offsets() {
    for snapshot in snapshots() {
        let directory = tempfile::tempdir().expect("a directory");
        for program in objects(&snapshot.programs().expect("readable")) {
            let what = format!("{} {}", snapshot.variant, program.name);
            let size = program.sizes["Monster"];
            let monsters = &instances(program)[2].1;
            let wolf = wolf(program);
            assert!(monsters.contains(&wolf));
            let text = structure(&snapshot, program, wolf, size);
            let mut source = format!(
                "#include <stddef.h>\n#include <stdint.h>\n#include <uchar.h>\n{text}\n\
                 typedef struct object_{wolf:x} object;\n\
                 _Static_assert(sizeof(object) == {size}, \"its size\");\n\
                 _Static_assert(offsetof(object, vtable_0) == 0, \"first\");\n"
            );
            for (name, member) in MONSTER {
                let (offset, ty) = declared(program, &format!("wolf.{name}"), wolf);
                let bytes = match ty {
                    Type::U32 | Type::I32 | Type::F32 => 4,
                    Type::U64 | Type::F64 | Type::Ptr => 8,
                    other => unreachable!("{other:?} is not among them"),
                };
                for (what, is) in [("offsetof", offset), ("sizeof", bytes)] {
                    let of = match what {
                        "sizeof" => format!("sizeof(((object *)0)->{member}_{offset:x})"),
                        _ => format!("offsetof(object, {member}_{offset:x})"),
                    };
                    let _ = writeln!(source, "_Static_assert({of} == {is}, \"{name}\");");
                }
            }
            // The string follows the double, as in the source.
            let string = declared(program, "wolf.energy", wolf).0 + 8;
            let _ = writeln!(
                source,
                "_Static_assert(sizeof(((object *)0)->string_{string:x}) == 32, \"name\");"
            );
            compile(directory.path(), &source, &what);
        }
    }
}

fn wolf(program: &Program) -> u64 {
    let health = program.value("wolf.health").expect("stated").va;
    let monsters = &instances(program)[2].1;
    let before = monsters.range(..health).next_back();
    *before.expect("its health lies in it")
}

fn declared(program: &Program, name: &str, object: u64) -> (u64, Type) {
    let value = program.value(name).map(|value| (value.va, value.ty));
    let mut ticks = program.ticks.iter();
    let tick = ticks.find(|tick| tick.name == name);
    let (va, ty) = value
        .or(tick.map(|tick| (tick.va, tick.ty)))
        .unwrap_or_else(|| panic!("no {name}"));
    (va - object, ty)
}

fn structure(snapshot: &Snapshot, program: &Program, at: u64, size: u64) -> String {
    let image = snapshot.image(ImageFormat::Raw).expect("one");
    let (pid, at, len) = (
        program.pid.to_string(),
        format!("{at:#x}"),
        size.to_string(),
    );
    let args = [&about(&pid, &at, &len)[..], &["--like", "--as", "c"]].concat();
    let (text, status) = run_text(snapshot, image, "dissect", &args);
    assert_eq!(status, 0, "{text}");
    // The same rows, in another form.
    let (rows, _) = run_bare(
        snapshot,
        image,
        "dissect",
        &[&args[..5], &["--like"]].concat(),
    );
    let members = text.lines().filter(|line| line.contains("; ")).count();
    assert_eq!(members, rows.len(), "{text}");
    text
}

fn compile(directory: &Path, source: &str, what: &str) {
    let file = directory.join("object.c");
    std::fs::write(&file, source).expect("writes");
    let gcc = Command::new("gcc")
        .args(["-std=c11", "-Wall", "-Werror", "-fsyntax-only"])
        .arg(&file)
        .output()
        .expect("gcc, which built the guest's programs");
    let errors = String::from_utf8_lossy(&gcc.stderr);
    assert!(gcc.status.success(), "{what}: {errors}\n{source}");
}
