//! What pmap.h finds in a guest is what `vmie refs`, `vmie paths` and `vmie dissect` show, through a map that the
//! command saved.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::compile::Program;
use super::guests::{Subject, number};
use crate::Fallible;

/// Compares a program's pointers into its code and out of its data, paths to an object, and two objects.
pub(crate) fn compare(programs: &[Program], guest: &Subject, dir: &Path) -> Fallible<()> {
    let program = programs
        .iter()
        .find(|program| program.header == "pmap")
        .ok_or("no test program for pmap")?;
    let hex = |number: u64| format!("{number:#x}");
    let range = |first: u64, last: u64| format!("{first:#x}..{:#x}", u128::from(last) + 1);
    let user = range(0, guest.user_last);
    let file = dir.join("pointers.index");
    let map = file.display().to_string();
    guest.vmie("refs", &["--range", &user, "--save", &map])?;

    let (first, last) = data(guest)?;
    let (data, code) = (range(first, last), range(guest.code.0, guest.code.1));
    let tag = |rows: Vec<Value>, what: &'static str, fields: &'static [&'static str]| {
        rows.into_iter().map(move |row| only(&row, what, fields))
    };
    let edge: &[&str] = &["va", "value"];
    // Without an index, so that two ways lead there.
    let into_code = guest.vmie("refs", &[&code, "--range", &user])?;
    let out_of_data = guest.vmie("refs", &[&data, "--pointees", "--index", &map])?;
    let target = out_of_data
        .iter()
        .filter_map(|row| number(&row["value"]))
        .find(|&value| value < guest.user_last && !(first..=last).contains(&value))
        .ok_or("no pointer leads out of the data")?;
    let target_at = hex(target);
    let paths = [
        &target_at,
        "--from",
        &data,
        "--depth",
        "3",
        "--max-offset",
        "0x40",
        "--index",
        &map,
    ];
    let paths = guest.vmie("paths", &paths)?;
    let mut expected: Vec<Value> = Vec::new();
    for (what, rows) in [
        ("pointers into code", into_code.len()),
        ("pointers out of data", out_of_data.len()),
        ("paths", paths.len()),
    ] {
        if rows == 0 {
            return Err(format!("{}: no {what}, so nothing is compared", guest.name).into());
        }
    }
    expected.extend(tag(into_code, "referrer", edge));
    expected.extend(tag(out_of_data, "pointee", edge));
    expected.extend(tag(paths, "path", &["base", "pointer", "offsets"]));
    let field = &[
        "offset",
        "len",
        "kind",
        "confidence",
        "value",
        "detail",
        "evidence",
    ];
    for object in [first, target] {
        let rows = guest.vmie("dissect", &[&hex(object), "--len", "256"])?;
        expected.extend(tag(rows, "field", field));
    }

    let [source, layout, cr3] = guest.words();
    let numbers = [
        guest.user_last,
        guest.code.0,
        guest.code.1,
        first,
        last,
        target,
    ]
    .map(hex);
    let mut words = vec!["agree", "pointers", &source, &layout, &cr3, &map];
    words.extend(numbers.iter().map(String::as_str));
    let said: Vec<Value> = program
        .read(&words)?
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    fs::remove_file(&file)?;
    match (0..said.len().max(expected.len())).find(|&at| said.get(at) != expected.get(at)) {
        None => Ok(()),
        Some(at) => Err(format!(
            "{}: pmap: row {at} is {:?}, and by the command {:?}",
            guest.name,
            said.get(at),
            expected.get(at)
        )
        .into()),
    }
}

/// The first data of user mode that is in memory, at most 64 KiB of it.
fn data(guest: &Subject) -> Fallible<(u64, u64)> {
    const MOST: u64 = 64 << 10;
    let rows = guest.vmie("maps", &["--perm", "wu"])?;
    let first = rows.first().ok_or("no data in user mode")?;
    let va = number(&first["va"]).ok_or("a region without an address")?;
    let len = number(&first["len"]).ok_or("a region without a length")?;
    Ok((va, va + len.min(MOST) - 1))
}

/// Some fields of a row, and what it is.
fn only(row: &Value, what: &str, fields: &[&str]) -> Value {
    let field = |&name: &&str| (name.to_owned(), row.get(name).cloned().unwrap_or_default());
    fields
        .iter()
        .map(field)
        .chain([("what".to_owned(), what.into())])
        .collect::<serde_json::Map<_, _>>()
        .into()
}
