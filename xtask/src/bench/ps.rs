//! `cargo xtask bench ps`: listing the processes of a Linux guest, beside mquire.
//!
//! mquire is a crate and a command that does the same from the same knowledge: symbols and types that
//! are in the guest's memory. It is built once, under the target directory; nothing else in the
//! workspace depends on it. Both read the same raw image and are asked for the same columns. Neither
//! keeps anything from one run to the next. Before any time is taken, both lists are compared with the
//! guest's own: an answer that is wrong would be no contender.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use vmie_lab::{ImageFormat, Snapshot};

use super::process::{self, Cost};
use crate::{Fallible, cargo, lab, output, target_dir};

/// The peer's version: figures of another one would not be comparable.
const VERSION: &str = "1.4.1";

/// The guest, unless another one is asked for: 512 MiB, four levels.
const VARIANT: &str = "pc-6.12";

/// Runs of each, taking turns, after one that does not count.
const ROUNDS: usize = 9;

/// What the peer is asked for: what a row of `vmie ps` has. Of its two ways to find tasks, the one
/// that walks the pid table is taken: it is the one whose answer is right. It has a row for each thread.
const QUERY: &str = "SELECT pid, ppid, uid, comm, command_line, start_time, page_table \
                     FROM tasks WHERE source = 'pid_ns' AND type <> 'thread'";

/// What is aimed at: so many times as fast, less than this of CPU time and memory.
const AIM_RATIO: f64 = 3.0;
const AIM_CPU: f64 = 0.5;
const AIM_PEAK_MIB: f64 = 200.0;

pub(super) fn run(args: &[&str]) -> Fallible<()> {
    let variant = match args {
        [] => VARIANT,
        [variant] => variant,
        _ => return Err(super::USAGE.into()),
    };
    let peer = peer()?;
    crate::run(cargo().args(["build", "--release", "--package", "vmie-cli"]))?;
    let snapshot = lab::build_named(variant)?;
    let file = snapshot
        .image(ImageFormat::Raw)
        .ok_or("the snapshot has no raw image")?;
    let image = snapshot.path(&file.file);

    let mut ours = Command::new(target_dir().join("release/vmie"));
    ours.args(["ps", "--output", "jsonl"]).arg(&image);
    if let Some(layout) = &file.layout {
        ours.args(["--layout", layout]);
    }
    let mut theirs = Command::new(peer);
    theirs.args(["query", "--format", "json"]).arg(&image);
    theirs.arg(QUERY);

    let truth = truth(&snapshot)?;
    check("vmie", &our_pids(&output(&mut ours)?)?, &truth)?;
    check("mquire", &their_pids(&output(&mut theirs)?)?, &truth)?;

    let [ours, theirs] = race([&ours, &theirs])?;
    print(&snapshot, truth.len(), ours, theirs);
    Ok(())
}

/// The peer's command, built when it is not there.
fn peer() -> Fallible<PathBuf> {
    let root = target_dir().join(format!("bench/mquire-{VERSION}"));
    let program = root.join("bin/mquire");
    if program.is_file() {
        return Ok(program);
    }
    eprintln!("bench: building mquire {VERSION}");
    crate::run(
        cargo()
            .args(["install", "mquire", "--locked", "--version", VERSION])
            .arg("--root")
            .arg(&root)
            // Built where cargo builds such things, and cleared away behind it.
            .env_remove("CARGO_TARGET_DIR"),
    )
    .map_err(|error| {
        format!(
            "The peer cannot be built, so there is nothing to compare with: {error}\n\
             It is a published crate, so this needs the network once."
        )
    })?;
    Ok(program)
}

/// The pids of all processes that the guest itself lists and that stay.
fn truth(snapshot: &Snapshot) -> Fallible<BTreeSet<u64>> {
    let processes = snapshot.processes()?;
    Ok(processes.iter().map(|process| process.pid.into()).collect())
}

fn our_pids(rows: &[u8]) -> Fallible<BTreeSet<u64>> {
    std::str::from_utf8(rows)?
        .lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line)?;
            row["pid"].as_u64().ok_or_else(|| no_pid(&row))
        })
        .collect()
}

fn their_pids(answer: &[u8]) -> Fallible<BTreeSet<u64>> {
    let answer: Value = serde_json::from_slice(answer)?;
    let rows = answer["row_list"].as_array().ok_or("no list of rows")?;
    rows.iter()
        .map(|row| {
            let pid = &row["pid"]["SignedInteger"];
            pid.as_u64().ok_or_else(|| no_pid(row))
        })
        .collect()
}

fn no_pid(row: &Value) -> Box<dyn std::error::Error> {
    format!("a row without pid: {row}").into()
}

fn check(who: &str, found: &BTreeSet<u64>, truth: &BTreeSet<u64>) -> Fallible<()> {
    let missing: Vec<_> = truth.difference(found).collect();
    let invented: Vec<_> = found.difference(truth).collect();
    if missing.is_empty() && invented.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{who} does not list the guest's processes: missing {missing:?}, not there {invented:?}"
    )
    .into())
}

/// The least cost of each, over runs in turn.
fn race(contenders: [&Command; 2]) -> Fallible<[Cost; 2]> {
    for command in contenders {
        process::measure(command)?;
    }
    let mut best: [Option<Cost>; 2] = [None; 2];
    for _ in 0..ROUNDS {
        for (best, command) in best.iter_mut().zip(contenders) {
            let cost = process::measure(command)?;
            *best = Some(best.map_or(cost, |best| best.least(cost)));
        }
    }
    Ok(best.map(|best| best.expect("there is at least one round")))
}

fn print(snapshot: &Snapshot, processes: usize, ours: Cost, theirs: Cost) {
    let verdict = |good| if good { "reached" } else { "missed" };
    println!(
        "Linux {}, {} MiB, {} levels, {processes} processes; minimum of {ROUNDS} runs\n",
        snapshot.kernel.release,
        snapshot.machine.ram >> 20,
        if snapshot.machine.five_levels { 5 } else { 4 },
    );
    println!("| `ps` | vmie | mquire {VERSION} | ratio | aim | |\n|---|---|---|---|---|---|");
    for (what, ours, theirs) in [
        ("time", ours.wall, theirs.wall),
        ("CPU time", ours.cpu, theirs.cpu),
    ] {
        let (ours, theirs) = (ours.as_secs_f64(), theirs.as_secs_f64());
        let ratio = theirs / ours;
        println!(
            "| {what} | {ours:.3} s | {theirs:.3} s | {ratio:.1} | {AIM_RATIO:.1} | {} |",
            verdict(ratio >= AIM_RATIO)
        );
    }
    let [peak, their_peak] = [ours, theirs].map(|cost| cost.peak_kib as f64 / 1024.0);
    println!(
        "| peak memory | {peak:.0} MiB | {their_peak:.0} MiB | {:.1} | | |",
        their_peak / peak
    );
    let cpu = ours.cpu.as_secs_f64();
    println!(
        "| CPU time, alone | {cpu:.3} s | | | under {AIM_CPU} s | {} |",
        verdict(cpu < AIM_CPU)
    );
    println!(
        "| peak memory, alone | {peak:.0} MiB | | | under {AIM_PEAK_MIB:.0} MiB | {} |",
        verdict(peak < AIM_PEAK_MIB)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_compared() {
        let ours = our_pids(b"{\"pid\":1}\n{\"pid\":7,\"name\":\"x\"}\n").expect("rows");
        let theirs = br#"{"column_order":["pid"],"row_list":[{"pid":{"SignedInteger":7}},{"pid":{"SignedInteger":1}}]}"#;
        assert_eq!(their_pids(theirs).expect("rows"), ours);
        assert!(check("it", &ours, &BTreeSet::from([1, 7])).is_ok());
        let error = check("it", &ours, &BTreeSet::from([1, 2])).expect_err("another list");
        assert!(error.to_string().ends_with("missing [2], not there [7]"));
        assert!(our_pids(b"{}").is_err());
        assert!(their_pids(b"{}").is_err());
    }
}
