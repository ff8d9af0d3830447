//! The `vmie` command by name: processes, modules and symbols where other tests give a root and
//! addresses.

use std::collections::BTreeMap;

use serde_json::Value;
use vmie_lab::{ImageFile, ImageFormat, Page, Process, Snapshot};

use crate::command::{each, hex, run_bare};
use crate::entries::{is_restless, present};
use crate::support::snapshots;

fn each_raw(check: impl Fn(&Snapshot, &ImageFile)) {
    for snapshot in snapshots() {
        let raw = snapshot.image(ImageFormat::Raw).expect("a raw image");
        check(&snapshot, raw);
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

/// The rows of a verb that finds something.
fn found(snapshot: &Snapshot, image: &ImageFile, verb: &str, args: &[&str]) -> Vec<Value> {
    let (rows, status) = run_bare(snapshot, image, verb, args);
    assert_eq!(status, 0, "{}: {verb} {args:?}", snapshot.variant);
    rows
}

/// Processes whose mappings the guest showed.
fn with_mappings(snapshot: &Snapshot) -> Vec<Process> {
    let all = snapshot.processes().expect("the guest's processes");
    let shown: Vec<Process> = all.into_iter().filter(|p| !p.vmas.is_empty()).collect();
    assert!(shown.len() >= 10, "{}", snapshot.variant);
    shown
}

#[test]
fn ps_lists_the_processes_of_every_image() {
    each(|snapshot, image, name| {
        let rows = found(snapshot, image, "ps", &["--strict"]);
        let theirs = snapshot.processes().expect("the guest's processes");
        let pids: Vec<u64> = rows.iter().map(|row| number(&row["pid"])).collect();
        let expected: Vec<u64> = theirs.iter().map(|p| u64::from(p.pid)).collect();
        assert_eq!(pids, expected, "{name}");
        for (row, process) in rows.iter().zip(&theirs) {
            let pid = process.pid;
            assert_eq!(
                number(&row["ppid"]),
                u64::from(process.ppid),
                "{name} {pid}"
            );
            assert_eq!(number(&row["uid"]), u64::from(process.uid), "{name} {pid}");
            assert_eq!(row["kernel"], process.kernel_thread, "{name} {pid}");
            let threads = process.threads.len();
            assert_eq!(number(&row["threads"]), threads as u64, "{name} {pid}");
            if let Some(root) = snapshot.root_of(pid) {
                // Taken in user mode, which may have a root of its own.
                let own = Some(&row["user_cr3"]).filter(|root| !root.is_null());
                assert_eq!(hex(own.unwrap_or(&row["cr3"])), root, "{name} {pid}");
            }
            if !process.vmas.is_empty() {
                let line: Vec<String> = process
                    .cmdline
                    .iter()
                    .map(|word| String::from_utf8_lossy(word).into_owned())
                    .collect();
                assert_eq!(row["cmdline"], Value::from(line), "{name} {pid}");
            }
        }
    });
}

#[test]
fn ps_draws_every_process_below_its_parent() {
    each_raw(|snapshot, image| {
        let rows = found(snapshot, image, "ps", &["--tree"]);
        let mut above: Vec<u64> = Vec::new();
        for row in &rows {
            let depth = number(&row["depth"]) as usize;
            above.truncate(depth);
            assert_eq!(above.len(), depth, "{row}");
            if let Some(&parent) = above.last() {
                assert_eq!(number(&row["ppid"]), parent, "{row}");
            }
            above.push(number(&row["pid"]));
        }
        assert!(rows.iter().any(|row| number(&row["depth"]) > 1));
    });
}

#[test]
fn maps_names_what_the_guest_names() {
    each_raw(|snapshot, image| {
        for process in with_mappings(snapshot) {
            let pid = process.pid.to_string();
            let args = ["--pid", &pid, "--vmas"];
            let ours: Vec<_> = found(snapshot, image, "maps", &args)
                .iter()
                .map(|row| {
                    let va = hex(&row["va"]);
                    let name = row["name"].as_str().unwrap_or_default().to_owned();
                    let shared = if row["shared"] == true { 's' } else { 'p' };
                    let prot = format!("{}{shared}", text(&row["prot"]));
                    (va..va + number(&row["len"]), prot, name)
                })
                .collect();
            let theirs: Vec<_> = process
                .vmas
                .iter()
                .map(|vma| (vma.range.clone(), vma.prot.clone(), vma.path.clone()))
                .collect();
            assert_eq!(ours, theirs, "{} {pid}", snapshot.variant);

            // Regions lie within one mapping and bear its name.
            let regions = found(snapshot, image, "maps", &["--pid", &pid]);
            for row in &regions {
                let (va, len) = (hex(&row["va"]), number(&row["len"]));
                let mapping = theirs.iter().find(|(range, ..)| range.contains(&va));
                let (range, _, name) = mapping.expect("pages are in a mapping");
                assert!(va + len <= range.end, "{row}");
                assert_eq!(row["name"].as_str().unwrap_or_default(), name, "{row}");
            }
        }
    });
}

#[test]
fn symbols_are_those_of_kallsyms_and_lead_back() {
    each_raw(|snapshot, image| {
        let kallsyms = snapshot.guest_text("kallsyms").expect("kallsyms");
        let mut theirs: Vec<_> = kallsyms
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split_ascii_whitespace().collect();
                let va = u64::from_str_radix(words[0], 16).expect("hexadecimal");
                let module = words
                    .get(3)
                    .map_or("", |name| name.trim_matches(['[', ']']));
                (
                    va,
                    words[1].to_owned(),
                    words[2].to_owned(),
                    module.to_owned(),
                )
            })
            .collect();
        theirs.sort();
        let mut ours: Vec<_> = found(snapshot, image, "symbols", &["--strict"])
            .iter()
            .map(|row| {
                let module = row["module"].as_str().unwrap_or_default().to_owned();
                let (kind, name) = (text(&row["type"]).to_owned(), text(&row["name"]).to_owned());
                (hex(&row["va"]), kind, name, module)
            })
            .collect();
        ours.sort();
        let differs = ours
            .iter()
            .zip(&theirs)
            .find(|(ours, theirs)| ours != theirs);
        assert_eq!(
            (differs, ours.len()),
            (None, theirs.len()),
            "{}",
            snapshot.variant
        );

        // Names that stand for one address only, spread over the table.
        let mut by_name: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for (va, _, name, _) in &theirs {
            by_name.entry(name).or_default().push(*va);
        }
        // Low numbers are places in the memory of each CPU.
        let is_address = |va: u64| va >> 63 == 1;
        let unique = by_name.iter().filter(|(_, vas)| vas.len() == 1);
        let unique = unique.filter(|(_, vas)| is_address(vas[0]));
        let sample: Vec<_> = unique.step_by(by_name.len() / 50).collect();
        let typed: Vec<String> = sample
            .iter()
            .map(|(name, _)| format!("{name}+0x0"))
            .collect();
        let typed: Vec<&str> = typed.iter().map(String::as_str).collect();
        let rows = found(
            snapshot,
            image,
            "vtop",
            &[&["--kernel"][..], &typed].concat(),
        );
        let found: Vec<u64> = rows.iter().map(|row| hex(&row["va"])).collect();
        let expected: Vec<u64> = sample.iter().map(|(_, vas)| vas[0]).collect();
        assert_eq!(found, expected, "{}", snapshot.variant);
        for (va, _, name, _) in &theirs {
            if name == "__per_cpu_start" && !is_address(*va) {
                let args = ["--kernel", name];
                let (rows, status) = run_bare(snapshot, image, "vtop", &args);
                assert_eq!((rows.len(), status), (0, 2), "{}", snapshot.variant);
            }
        }
    });
}

#[test]
fn offsets_in_kernel_modules_count_from_the_address_that_the_guest_gives() {
    each_raw(|snapshot, image| {
        let text = snapshot.guest_text("proc/modules").expect("modules");
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let base = u64::from_str_radix(words[5].trim_start_matches("0x"), 16);
            let typed = format!("{}+0x10", words[0]);
            let rows = found(snapshot, image, "vtop", &["--kernel", &typed]);
            assert_eq!(
                hex(&rows[0]["va"]),
                base.expect("an address") + 0x10,
                "{}: {typed}",
                snapshot.variant
            );
        }
    });
}

#[test]
fn pages_that_are_not_in_memory_say_where_they_are() {
    each_raw(|snapshot, image| {
        let mut swapped = 0;
        for process in with_mappings(snapshot) {
            let pid = process.pid.to_string();
            for run in process.pages.iter().filter(|run| !is_restless(run.va)) {
                let Page::Swapped { area, offset } = run.page else {
                    continue;
                };
                let va = format!("{:#x}", run.va);
                let (rows, status) = run_bare(snapshot, image, "vtop", &["--pid", &pid, &va]);
                assert_eq!(status, 1, "{rows:?}");
                assert_eq!(rows[0]["state"], "swapped", "{rows:?}");
                // The lab's guests swap to zram.
                let detail = rows[0]["detail"].as_str().expect("a sentence");
                let expected = format!(
                    "in swap: page {offset} of area {area}, which is kept in memory compressed"
                );
                assert!(detail.starts_with(&expected), "{rows:?}");
                assert_eq!(rows[0]["cause"], "compressed in memory", "{rows:?}");
            }

            let seen = present(&process);
            // A page before the mapping has something else to say.
            let vmas = process.vmas.iter();
            for vma in vmas.filter(|vma| !is_restless(vma.range.start)) {
                let pages = process.pages.iter().filter(|run| {
                    matches!(run.page, Page::Swapped { .. }) && vma.range.contains(&run.va)
                });
                let expected: u64 = pages.map(|run| run.count * 4096).sum();
                let typed = format!("{:#x}..{:#x}", vma.range.start - 0x1000, vma.range.end);
                let mut seen = seen.keys().filter(|va| vma.range.contains(va));
                let (rows, status) = match expected {
                    0 => continue,
                    // Where no page can be read there is nothing to show.
                    _ if seen.next().is_none() => continue,
                    _ => run_bare(snapshot, image, "read", &["--pid", &pid, &typed]),
                };
                assert_eq!(status, 0, "{} {typed}", snapshot.variant);
                let ours = rows.iter().filter(|row| row["state"] == "swapped");
                let ours: u64 = ours.map(|row| number(&row["len"])).sum();
                assert_eq!(ours, expected, "{} {typed}", snapshot.variant);
                swapped += 1;
            }
        }
        assert!(swapped > 0, "{}", snapshot.variant);
    });
}

#[test]
fn modules_of_a_process_are_its_mapped_images() {
    each_raw(|snapshot, image| {
        let mut libraries = 0;
        for process in with_mappings(snapshot) {
            let pid = process.pid.to_string();
            let rows = found(snapshot, image, "modules", &["--pid", &pid]);
            for row in rows.iter().filter(|row| row["path"].is_string()) {
                let path = text(&row["path"]);
                let mut of_file = process.vmas.iter().filter(|vma| vma.path == path);
                let first = of_file.next().expect("the guest has it mapped");
                assert_eq!(hex(&row["va"]), first.range.start, "{row}");
                // What is printed beside an address can be typed back.
                let inside = format!("{:#x}", first.range.start + 0x40);
                // The page itself may not be there.
                let vtop = |addr: &str| {
                    let args = ["--pid", &pid, addr];
                    let (rows, status) = run_bare(snapshot, image, "vtop", &args);
                    assert!(
                        status < 2 && rows.len() == 1,
                        "{} {args:?}",
                        snapshot.variant
                    );
                    rows[0].clone()
                };
                let named = vtop(&inside);
                let again = vtop(text(&named["name"]));
                assert_eq!(again["va"], named["va"], "{named}");
                libraries += 1;
            }
        }
        assert!(libraries > 15, "{libraries}");
    });
}

#[test]
fn a_process_is_the_same_by_name_by_number_and_by_root() {
    each_raw(|snapshot, image| {
        let all = snapshot.processes().expect("the guest's processes");
        let named = |wanted: &Process| {
            let same = all
                .iter()
                .filter(|p| p.name == wanted.name && !p.kernel_thread);
            same.count()
        };
        let alone = with_mappings(snapshot)
            .into_iter()
            .find(|p| snapshot.root_of(p.pid).is_some() && named(p) == 1);
        let process = alone.expect("a name that only one process has");
        let root = snapshot.root_of(process.pid).expect("a root");
        let range = format!("{:#x}..+64", process.vmas[0].range.start);
        let (pid, root) = (process.pid.to_string(), format!("{root:#x}"));
        let name = String::from_utf8(process.name).expect("UTF-8");
        let by_root = found(snapshot, image, "read", &[&range, "--cr3", &root]);
        for args in [["--pid", &pid], ["--process", &name]] {
            let rows = found(snapshot, image, "read", &[&[&*range][..], &args].concat());
            assert_eq!(rows, by_root, "{} {args:?}", snapshot.variant);
        }

        // Longer than a process's own name can be.
        let file = "objects-static-pie";
        let process = all.iter().find(|p| p.exe == format!("/lab/{file}"));
        let pid = process.expect("runs in every guest").pid.to_string();
        let of = |args: [&str; 2]| found(snapshot, image, "maps", &args);
        assert_eq!(of(["--process", file]), of(["--pid", &pid]));
    });
}

#[test]
fn what_has_no_memory_is_an_error() {
    each_raw(|snapshot, image| {
        let all = snapshot.processes().expect("the guest's processes");
        let thread = all
            .iter()
            .find(|p| p.kernel_thread)
            .expect("a kernel thread");
        let zombie = all.iter().find(|p| p.state == 'Z' && p.threads.len() == 1);
        let zombie = zombie.expect("one that nobody has waited for");
        for pid in [thread.pid, zombie.pid, 4_000_000_000] {
            let (rows, status) = run_bare(snapshot, image, "maps", &["--pid", &pid.to_string()]);
            assert_eq!((rows.len(), status), (0, 2), "{} {pid}", snapshot.variant);
        }
        // Many have this name.
        let (rows, status) = run_bare(snapshot, image, "maps", &["--process", "crowd"]);
        assert_eq!((rows.len(), status), (0, 2), "{}", snapshot.variant);
    });
}
