//! Pointers in the guest's programs: instances by their virtual table, and how things are reached from a
//! static pointer, in this boot and in another one.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;
use vmie::pointers::{PointerMap, PointerOptions, Width};
use vmie::scan::Run;
use vmie::{AddrRange, Gva, Memory};
use vmie_lab::{ImageFile, ImageFormat, Program, Snapshot};

use crate::command::{hex, run_bare};
use crate::objects::objects;
use crate::support::{each_image, raw, snapshots, space, user_half};

/// The pointer that a value is.
fn pointer(program: &Program, name: &str) -> u64 {
    let value = program.value(name).unwrap_or_else(|| panic!("no {name}"));
    u64::from_le_bytes(value.bytes.clone().try_into().expect("eight bytes"))
}

/// All instances of each class that the program has made.
pub(crate) fn instances(program: &Program) -> Vec<(&'static str, BTreeSet<u64>)> {
    let actor = |index: u32| pointer(program, &format!("world.actors.{index}"));
    let monsters = BTreeSet::from([actor(1), actor(3)]);
    // The second base of a monster is at the end of the first one, which is the same in both.
    let talker = program.vtables["Monster.Talker"];
    assert_ne!(talker, program.vtables["Monster"]);
    vec![
        ("World", BTreeSet::from([pointer(program, "g_world")])),
        ("Player", BTreeSet::from([actor(0)])),
        ("Monster", monsters),
    ]
}

#[test]
fn instances_are_what_points_at_the_virtual_table() {
    each_image(|snapshot, image, name| {
        let programs = snapshot.programs().expect("readable");
        let mut checked = 0;
        for program in objects(&programs) {
            let root = snapshot.root_of(program.pid).expect("it runs");
            let space = space(snapshot, Arc::clone(&image), root);
            let options = PointerOptions {
                range: Some(user_half()),
                ..PointerOptions::default()
            };
            let map = PointerMap::build(&space, &options, Run::new()).expect("few pointers");
            let world = Gva(pointer(program, "g_world"));
            let heap = space
                .regions(user_half())
                .find(|region| region.range().contains(world));
            let heap = heap.expect("the world is mapped").range();
            for (class, expected) in instances(program) {
                let vtable = Gva(program.vtables[class]);
                let vtable = AddrRange::inclusive(vtable, vtable).expect("one address");
                let found: BTreeSet<u64> = map
                    .referrers(vtable)
                    .map(|edge| edge.at.0)
                    .filter(|&at| heap.contains(Gva(at)))
                    .collect();
                assert_eq!(found, expected, "{name}: {} {class}", program.name);
                checked += found.len();
            }
            let second = Gva(program.vtables["Monster.Talker"]);
            let second = AddrRange::inclusive(second, second).expect("one address");
            let inside: Vec<u64> = map
                .referrers(second)
                .map(|edge| edge.at.0)
                .filter(|&at| heap.contains(Gva(at)))
                .collect();
            let size = program.sizes["Monster"];
            let monsters = &instances(program)[2].1;
            assert_eq!(inside.len(), monsters.len(), "{name}: {}", program.name);
            for (at, monster) in inside.iter().zip(monsters) {
                assert!(
                    (monster + 8..monster + size).contains(at),
                    "{name}: {at:#x}"
                );
            }
        }
        assert!(checked >= 12, "{name}: {checked}");
    });
}

/// The paths that the command finds, as base and offsets.
fn paths(
    snapshot: &Snapshot,
    program: &Program,
    target: u64,
    more: &[&str],
) -> (Vec<Value>, BTreeSet<(u64, Vec<u64>)>) {
    let image: &ImageFile = snapshot.image(ImageFormat::Raw).expect("one");
    let target = format!("{target:#x}");
    let name = program.name.as_str();
    // The names of processes are cut; by number there is no doubt.
    let pid = program.pid.to_string();
    let fixed = [
        target.as_str(),
        "--pid",
        &pid,
        "--from",
        name,
        "--depth",
        "4",
        "--max-offset",
        "0x100",
    ];
    let (rows, status) = run_bare(snapshot, image, "paths", &[&fixed, more].concat());
    assert_eq!(status, 0, "{} {name} {more:?}", snapshot.variant);
    let set = rows
        .iter()
        .map(|row| {
            let offsets = row["offsets"].as_array().expect("a list");
            let offsets = offsets
                .iter()
                .map(|offset| offset.as_u64().expect("not negative"));
            (hex(&row["base"]), offsets.collect())
        })
        .collect();
    (rows, set)
}

#[test]
fn paths_lead_where_the_programs_say_and_still_do_after_another_boot() {
    let snapshots = snapshots();
    for (index, snapshot) in snapshots.iter().enumerate() {
        let programs = snapshot.programs().expect("readable");
        let other = &snapshots[(index + 1) % snapshots.len()];
        let others = other.programs().expect("readable");
        for program in objects(&programs) {
            for path in &program.paths {
                let what = format!("{} {} {}", snapshot.variant, program.name, path.name);
                let truth = (path.base, path.offsets.clone());
                let (_, found) = paths(snapshot, program, path.target, &[]);
                assert!(found.contains(&truth), "{what}");
                let (_, once) = paths(snapshot, program, path.target, &["--no-index"]);
                assert_eq!(once, found, "{what}");

                let again = others
                    .iter()
                    .find(|one| one.name == program.name)
                    .expect("the same");
                let end = again
                    .paths
                    .iter()
                    .find(|one| one.name == path.name)
                    .expect("the same");
                let other_image = other.image(ImageFormat::Elf).expect("one");
                let file = other.path(&other_image.file);
                let file = file.to_str().expect("UTF-8");
                let (to, pid) = (format!("{:#x}", end.target), again.pid.to_string());
                let also = ["--also", file, "--also-to", &to, "--also-pid", &pid];
                let (rows, stable) = paths(snapshot, program, path.target, &also);
                assert!(stable.contains(&truth), "{what} in {}", other.variant);
                assert!(stable.is_subset(&found), "{what}");
                for row in &rows {
                    assert_eq!(hex(&row["also"][0]), end.target, "{what}: {row}");
                }
            }
        }
    }
}

#[test]
fn an_index_answers_as_memory_does() {
    for snapshot in snapshots() {
        let directory = tempfile::tempdir().expect("a directory");
        let index = directory.path().join("index");
        let index = index.to_str().expect("UTF-8");
        let image = snapshot.image(ImageFormat::Raw).expect("one");
        let programs = snapshot.programs().expect("readable");
        for program in objects(&programs) {
            let pid = program.pid.to_string();
            let run = |args: &[&str]| {
                run_bare(&snapshot, image, "refs", &[&["--pid", &pid], args].concat())
            };
            let (_, status) = run(&["--save", index]);
            assert_eq!(status, 0);
            let world = pointer(program, "g_world");
            let size = program.sizes["World"];
            let what = format!("{world:#x}..{:#x}", world + size);
            let (direct, status) = run(&[&what]);
            assert!(
                status == 0 && direct.len() >= 5,
                "{} {}",
                snapshot.variant,
                program.name
            );
            let (indexed, _) = run(&[&what, "--index", index]);
            assert_eq!(indexed, direct);
            let (pointees, _) = run(&[&what, "--pointees", "--index", index]);
            assert_eq!(run(&[&what, "--pointees"]).0, pointees);
            // What the world points at, word by word.
            let space = space(
                &snapshot,
                raw(&snapshot),
                snapshot.root_of(program.pid).expect("runs"),
            );
            for row in &pointees {
                let at = hex(&row["va"]);
                assert!((world..world + size).contains(&at));
                let value = space.read_u64(Gva(at)).expect("mapped");
                assert_eq!(hex(&row["value"]), value);
            }
            assert!(
                pointees.iter().any(|row| hex(&row["va"]) == world),
                "its virtual table"
            );
            // The index of one process is refused for another one.
            let other = objects(&programs)
                .find(|one| one.pid != program.pid)
                .expect("another");
            let other = other.pid.to_string();
            let args = ["--pid", &other, &what, "--index", index];
            let (rows, status) = run_bare(&snapshot, image, "refs", &args);
            assert_eq!((rows.len(), status), (0, 2));
        }
    }
}

#[test]
fn a_path_is_followed_by_the_width_of_its_pointers() {
    for snapshot in snapshots() {
        for program in objects(&snapshot.programs().expect("readable")) {
            let root = snapshot.root_of(program.pid).expect("runs");
            let space = space(&snapshot, raw(&snapshot), root);
            for truth in &program.paths {
                let path = vmie::pointers::Path {
                    base: vmie::pointers::Base::Place(Gva(truth.base)),
                    offsets: truth.offsets.iter().map(|&offset| offset as i64).collect(),
                };
                assert_eq!(path.follow(&space, Width::Eight), Ok(Gva(truth.target)));
            }
        }
    }
}
