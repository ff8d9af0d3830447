//! `vmie find` and `vmie strings` in the guest's programs, which say what they hold where.

use serde_json::Value;
use vmie_lab::{ImageFile, ImageFormat, Program, Snapshot, Type};

use crate::command::{each, hex, run_bare};
use crate::support::snapshots;

fn rows(snapshot: &Snapshot, image: &ImageFile, verb: &str, args: &[&str]) -> Vec<Value> {
    let (rows, status) = run_bare(snapshot, image, verb, args);
    assert!(status <= 1, "{}: {verb} {args:?}", snapshot.variant);
    rows
}

fn objects(snapshot: &Snapshot) -> Vec<Program> {
    let programs = snapshot.programs().expect("readable");
    let objects = |program: &Program| program.name.starts_with("objects");
    let programs: Vec<Program> = programs.into_iter().filter(objects).collect();
    assert!(programs.len() >= 3, "static, static-PIE, dynamic");
    programs
}

/// The option for a type, and the value as somebody would type it.
fn typed(ty: Type, bytes: &[u8]) -> Option<(&'static str, String)> {
    let mut bits = [0; 8];
    bits.get_mut(..bytes.len())?.copy_from_slice(bytes);
    let bits = u64::from_le_bytes(bits);
    Some(match ty {
        Type::U8 => ("--u8", bits.to_string()),
        Type::U16 => ("--u16", bits.to_string()),
        Type::U32 => ("--u32", bits.to_string()),
        Type::U64 => ("--u64", bits.to_string()),
        Type::I32 => ("--i32", (bits as i32).to_string()),
        Type::I64 => ("--i64", (bits as i64).to_string()),
        Type::F32 => ("--f32", f32::from_bits(bits as u32).to_string()),
        Type::F64 => ("--f64", f64::from_bits(bits).to_string()),
        _ => return None,
    })
}

#[test]
fn numbers_are_found_where_the_program_put_them() {
    each(|snapshot, image, name| {
        let mut checked = 0;
        for program in objects(snapshot) {
            let pid = program.pid.to_string();
            // One search for all of them. Of small numbers memory is full.
            let rare = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte != 0).count() > 2;
            let mut args = vec!["--pid".to_owned(), pid];
            let mut expected = Vec::new();
            for value in program.values.iter().filter(|value| rare(&value.bytes)) {
                let Some((option, text)) = typed(value.ty, &value.bytes) else {
                    continue;
                };
                args.extend([option.to_owned(), text]);
                expected.push((value.va, &option[2..]));
            }
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let found: Vec<(u64, String)> = rows(snapshot, image, "find", &args)
                .iter()
                .map(|row| {
                    (
                        hex(&row["va"]),
                        row["type"].as_str().expect("text").to_owned(),
                    )
                })
                .collect();
            assert!(found.is_sorted_by_key(|(va, _)| *va), "{name}");
            for (va, ty) in expected {
                assert!(
                    found.iter().any(|(at, kind)| *at == va && kind == ty),
                    "{name}: {}: no {ty} at {va:#x}",
                    program.name
                );
                checked += 1;
            }
        }
        assert!(checked > 30, "{name}: {checked}");
    });
}

#[test]
fn all_processes_are_searched_as_each_is() {
    for snapshot in snapshots() {
        let name = &snapshot.variant;
        let raw = snapshot.image(ImageFormat::Raw).expect("a raw image");
        for (verb, what) in [
            (
                "find",
                &[
                    "--str", "lab", "--utf16", "lab", "--f64", "0.5..2", "--align", "4",
                ][..],
            ),
            ("strings", &["--min", "7", "--encoding", "utf8,utf16"]),
        ] {
            let mut all = rows(&snapshot, raw, verb, &[what, &["--all-processes"]].concat());
            let mut one_by_one = Vec::new();
            let listed = rows(&snapshot, raw, "ps", &[]);
            for process in listed.iter().filter(|process| !process["cr3"].is_null()) {
                let pid = process["pid"].to_string();
                for mut row in rows(&snapshot, raw, verb, &[what, &["--pid", &pid]].concat()) {
                    row["pid"] = process["pid"].clone();
                    row["process"] = process["name"].clone();
                    one_by_one.push(row);
                }
            }
            for row in &mut all {
                assert!(
                    row.as_object_mut()
                        .expect("a row")
                        .remove("region")
                        .is_some()
                );
            }
            assert!(all.len() > 100, "{name}: {verb}");
            assert!(all == one_by_one, "{name}: {verb}");
        }
    }
}
