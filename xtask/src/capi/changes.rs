//! What snap_diff lists is what `vmie snap diff` shows, joined as the header says.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::compile::Program;
use super::guests::{Subject, number};
use crate::Fallible;

/// Compares the user halves of two address spaces of a guest, as both say it.
pub(crate) fn compare(programs: &[Program], guest: &Subject, dir: &Path) -> Fallible<()> {
    let program = programs
        .iter()
        .find(|program| program.header == "snapdiff")
        .ok_or("no test program for snapdiff")?;
    // The bare guest has one space; it is compared with itself.
    let now = guest.other.unwrap_or(guest.cr3);
    let file = dir.join("before.snap");
    let range = format!("0..{:#x}", u128::from(guest.user_last) + 1);
    let path = file.display().to_string();
    guest.vmie("snap take", &["--range", &range, "-O", &path])?;
    let root = format!("{now:#x}");
    let rows = guest.vmie_after("snap diff", &[&path], &["--cr3", &root])?;
    fs::remove_file(&file)?;
    let expected = joined(&rows)?;
    if guest.other.is_some() && expected.is_empty() {
        return Err(format!("{}: two processes do not differ", guest.name).into());
    }
    let [source, layout, cr3] = guest.words();
    let last = format!("{:#x}", guest.user_last);
    let words = [
        "agree", "changes", &source, &layout, &cr3, &root, "0", &last,
    ];
    let said: Vec<Value> = program
        .read(&words)?
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    match (0..said.len().max(expected.len())).find(|&at| said.get(at) != expected.get(at)) {
        None => Ok(()),
        Some(at) => Err(format!(
            "{}: snap_diff: run {at} is {:?}, and by vmie snap diff {:?}",
            guest.name,
            said.get(at),
            expected.get(at)
        )
        .into()),
    }
}

/// The command's rows as the header has them: no changes of protection alone, and what touches and has the same
/// protection is one run.
fn joined(rows: &[Value]) -> Fallible<Vec<Value>> {
    let mut runs: Vec<(u64, u64, &str)> = Vec::new();
    for row in rows {
        let (Some(va), Some(len), Some(prot), Some(change)) = (
            number(&row["va"]),
            number(&row["len"]),
            row["prot"].as_str(),
            row["change"].as_str(),
        ) else {
            return Err(format!("not a row of snap diff: {row}").into());
        };
        if change == "protection" {
            continue;
        }
        match runs.last_mut() {
            Some((start, so_far, same)) if *start + *so_far == va && *same == prot => {
                *so_far += len;
            }
            _ => runs.push((va, len, prot)),
        }
    }
    let run = |&(va, len, prot): &(u64, u64, &str)| json!({"va": format!("{va:#x}"), "len": len, "prot": prot});
    Ok(runs.iter().map(run).collect())
}
