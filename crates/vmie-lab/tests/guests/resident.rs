//! vmie's answers about pages that are in memory although the CPU does not find them: made PROT_NONE by the program,
//! or by the kernel to sample accesses, and those that are just being moved.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;
use vmie::os::{Guest, Listing, Process, find};
use vmie::{AddressSpace, Gpa, Gva, Hints, Memory, Prot};
use vmie_lab::walker::{Why, leaves};
use vmie_lab::{Area, ImageFile, ImageFormat, Page, Program, Snapshot};

use crate::command::{hex, run_bare, run_words};
use crate::entries::{has_nodes, hidden_pages, is_restless, present, program};
use crate::support::{raw, snapshots};

/// Finds the system in the raw image of every snapshot.
fn each_guest(check: impl Fn(&Snapshot, &dyn Guest, &Listing<Process>)) {
    for snapshot in snapshots() {
        let memory: Arc<dyn Memory<Addr = Gpa>> = raw(&snapshot);
        let guest = find(&memory, &Hints::default()).unwrap_or_else(|error| panic!("{error}"));
        let listing = guest.processes().expect("lists processes");
        check(&snapshot, &*guest, &listing);
    }
}

fn space_of(guest: &dyn Guest, listing: &Listing<Process>, pid: u32) -> AddressSpace {
    let process = listing.items.iter().find(|process| process.pid == pid);
    let process = process.unwrap_or_else(|| panic!("process {pid} is listed"));
    guest.space_of(process).expect("it has memory")
}

/// Three letters, as in a line of `/proc/PID/maps`.
fn letters(prot: Prot) -> String {
    prot.to_string()[..3].to_owned()
}

fn read_text(space: &AddressSpace, va: u64, len: usize) -> Option<String> {
    let mut bytes = vec![0; len];
    space.read(Gva(va), &mut bytes).ok()?;
    String::from_utf8(bytes).ok()
}

#[test]
fn every_page_of_pagemap_is_translated_to_its_frame() {
    each_guest(|snapshot, guest, listing| {
        let (mut sampled, mut forbidden) = (0, 0);
        for truth in snapshot.processes().expect("readable") {
            let Some(root) = snapshot
                .root_of(truth.pid)
                .filter(|_| !truth.vmas.is_empty())
            else {
                continue;
            };
            let space = space_of(guest, listing, truth.pid);
            let hidden = hidden_pages(snapshot, root);
            let writable: BTreeSet<u64> = leaves(snapshot, root)
                .into_iter()
                .filter(|leaf| leaf.effective.write)
                .flat_map(|leaf| (leaf.va..leaf.va + leaf.size).step_by(4096))
                .collect();
            for (va, gpa) in present(&truth) {
                let what = format!("{}: {va:#x} of process {}", snapshot.variant, truth.pid);
                let mapping = space.translate(Gva(va));
                let mapping = mapping.unwrap_or_else(|fault| panic!("{what}: {fault}"));
                assert_eq!(mapping.gpa.0, gpa, "{what}");
                let vma = truth.vmas.iter().find(|vma| vma.range.contains(&va));
                let vma = &vma.expect("present pages are in a mapping").prot[..3];
                let prot = letters(mapping.prot);
                if hidden.contains_key(&va) {
                    // Of pages that the kernel samples, what the program may do.
                    assert_eq!(prot, vma, "{what}");
                    *(if vma == "---" {
                        &mut forbidden
                    } else {
                        &mut sampled
                    }) += 1;
                } else {
                    // The tables may allow less than the mapping: copy on write.
                    let write = if writable.contains(&va) { "w" } else { "-" };
                    assert_eq!(prot, format!("r{write}{}", &vma[2..]), "{what}");
                }
            }
        }
        assert!(forbidden > 1000, "{}: {forbidden}", snapshot.variant);
        let has_sampled = sampled > 0;
        assert_eq!(has_sampled, has_nodes(snapshot), "{}", snapshot.variant);
    });
}

#[test]
fn marked_pages_are_read_wherever_they_are() {
    each_guest(|snapshot, guest, listing| {
        let (mut read, mut away) = (0, 0);
        let truth = snapshot.processes().expect("the guest's processes");
        for program in snapshot.programs().expect("readable") {
            let space = space_of(guest, listing, program.pid);
            let runs = truth.iter().find(|process| process.pid == program.pid);
            let runs = runs.map_or(&[][..], |process| &process.pages[..]);
            // The kernel need not do what it is asked to, a page in use stays: what it says of each page counts.
            let is_swapped = |va: u64| {
                runs.iter().any(|run| {
                    let inside = (run.va..run.va + run.count * 4096).contains(&va);
                    inside && matches!(run.page, Page::Swapped { .. })
                })
            };
            let asked = |area: &Area| ["COMPRESSED", "NONESWAP"].contains(&area.name.as_str());
            for area in program.areas.iter().filter(|area| area.is_marked()) {
                for (va, marker) in area.markers() {
                    let what = format!("{}: {va:#x}, {marker}", snapshot.variant);
                    let text = read_text(&space, va, marker.len());
                    if asked(area) && is_swapped(va) {
                        assert_eq!(text, None, "{what}: it is swapped out");
                        away += 1;
                    } else {
                        assert_eq!(text, Some(marker), "{what}");
                        read += 1;
                    }
                }
            }
        }
        let least = if has_nodes(snapshot) { 8000 } else { 1000 };
        assert!(read > least, "{}: {read}", snapshot.variant);
        assert!(away > 50, "{}: {away}", snapshot.variant);
    });
}

/// A page that is being moved is read in one frame or the other: both have its content.
#[test]
fn pages_that_are_being_moved_are_read() {
    each_guest(|snapshot, guest, listing| {
        let Some((mover, pages)) = program(snapshot, "mover") else {
            return;
        };
        let space = space_of(guest, listing, mover.pid);
        let moving = pages.iter().filter(|page| page.why == Why::Migration);
        let moving: Vec<_> = moving.filter(|page| is_restless(page.va)).collect();
        assert!(!moving.is_empty(), "{}", snapshot.variant);
        for page in moving {
            let what = format!("{}: {:#x}", snapshot.variant, page.va);
            let mapping = space.translate(Gva(page.va));
            let mapping = mapping.unwrap_or_else(|fault| panic!("{what}: {fault}"));
            assert_eq!(
                (mapping.gpa.0, mapping.page_size),
                (page.gpa, page.size),
                "{what}"
            );
            assert_eq!(letters(mapping.prot), "rw-", "{what}");
        }
    });
}

fn image(snapshot: &Snapshot) -> &ImageFile {
    snapshot.image(ImageFormat::Raw).expect("there is one")
}

/// Runs a verb on a process and answers the addresses in its rows that are in an area.
fn addresses(snapshot: &Snapshot, verb: &str, pid: u32, area: &Area, args: &[&str]) -> Vec<u64> {
    let pid = pid.to_string();
    let (rows, status) = run_bare(
        snapshot,
        image(snapshot),
        verb,
        &[&["--pid", &pid], args].concat(),
    );
    assert!(status <= 1, "{}: {verb} {args:?}", snapshot.variant);
    in_area(&rows, area)
}

fn in_area(rows: &[Value], area: &Area) -> Vec<u64> {
    let addresses = rows.iter().map(|row| hex(&row["va"]));
    addresses.filter(|&va| area.contains(va)).collect()
}

fn places(area: &Area) -> Vec<u64> {
    area.markers().map(|(va, _)| va).collect()
}

/// The areas whose pages the CPU does not see, all of them or in part, but that are in memory.
fn areas(program: &Program) -> impl Iterator<Item = &Area> {
    let areas = program.areas.iter().filter(|area| area.is_marked());
    areas.filter(|area| area.name != "NONESWAP")
}

#[test]
fn markers_are_found_by_every_verb_that_looks_for_content() {
    for snapshot in snapshots() {
        for name in ["prot-none", "numabal", "mover"] {
            let Some((program, _)) = program(&snapshot, name) else {
                assert!(!has_nodes(&snapshot));
                continue;
            };
            for area in areas(&program) {
                let what = format!("{} {}", snapshot.variant, area.name);
                let (from, to) = (area.va, area.va + area.len);
                let range = format!("{from:#x}..{to:#x}");
                let text = format!("{}-", area.name);
                let expected = places(area);
                let find = |args: &[&str]| {
                    let args = [&["--str", &text], args].concat();
                    addresses(&snapshot, "find", program.pid, area, &args)
                };
                assert_eq!(find(&[]), expected, "{what}");
                let signature: Vec<String> = text.bytes().map(|b| format!("{b:02x}")).collect();
                let signature = ["-s", &signature.join(" "), "--range", &range];
                let found = addresses(&snapshot, "scan", program.pid, area, &signature);
                assert_eq!(found, expected, "{what}: scan");
                let args = ["--min", "12", "--encoding", "ascii", "--range", &range];
                let found: BTreeSet<u64> =
                    addresses(&snapshot, "strings", program.pid, area, &args)
                        .into_iter()
                        .collect();
                let all: BTreeSet<u64> = expected.iter().copied().collect();
                assert!(found.is_superset(&all), "{what}: strings");
            }
        }
    }
}

#[test]
fn a_snapshot_of_a_process_has_them() {
    for snapshot in snapshots() {
        for name in ["prot-none", "numabal"] {
            let Some((program, _)) = program(&snapshot, name) else {
                continue;
            };
            let directory = tempfile::tempdir().expect("a directory");
            let file = directory.path().join("resident.snap");
            let (pid, out) = (program.pid.to_string(), file.to_str().expect("UTF-8"));
            let image = image(&snapshot);
            let layout = image.layout.as_deref().expect("a raw image has one");
            let args = ["--pid", &pid, "--out", out, "--layout", layout];
            let (_, status) = run_words(&["snap", "take"], &snapshot.path(&image.file), &args);
            assert_eq!(status, 0, "{} {name}", snapshot.variant);
            for area in areas(&program) {
                let text = format!("{}-", area.name);
                let (rows, _) = run_words(&["find"], &file, &["--str", &text]);
                let found = in_area(&rows, area);
                assert_eq!(found, places(area), "{} {}", snapshot.variant, area.name);
            }
        }
    }
}

#[test]
fn hardware_is_what_the_cpu_sees() {
    for snapshot in snapshots() {
        for name in ["prot-none", "numabal", "mover"] {
            let Some((program, _)) = program(&snapshot, name) else {
                continue;
            };
            let root = snapshot.root_of(program.pid).expect("it is busy");
            let hidden = hidden_pages(&snapshot, root);
            for area in areas(&program) {
                let text = format!("{}-", area.name);
                let args = ["--hardware", "--str", &text];
                let found = addresses(&snapshot, "find", program.pid, area, &args);
                let mut expected = places(area);
                expected.retain(|va| !hidden.contains_key(va));
                assert_eq!(found, expected, "{} {}", snapshot.variant, area.name);
            }
        }
    }
}

#[test]
fn what_may_be_read_is_what_the_mapping_says() {
    for snapshot in snapshots() {
        let processes = snapshot.processes().expect("readable");
        for name in ["prot-none", "numabal"] {
            let Some((program, _)) = program(&snapshot, name) else {
                continue;
            };
            let process = processes.iter().find(|process| process.pid == program.pid);
            let vmas = &process.expect("it runs").vmas;
            for area in areas(&program) {
                let text = format!("{}-", area.name);
                let args = ["--perm", "r", "--str", &text];
                let found = addresses(&snapshot, "find", program.pid, area, &args);
                let readable = |va: &u64| {
                    let vma = vmas.iter().find(|vma| vma.range.contains(va));
                    vma.expect("a mapping").prot.starts_with('r')
                };
                let mut expected = places(area);
                expected.retain(readable);
                assert_eq!(found, expected, "{} {}", snapshot.variant, area.name);
            }
        }
    }
}

#[test]
fn pointers_lead_through_pages_that_nobody_may_use() {
    for snapshot in snapshots() {
        let name = &snapshot.variant;
        let (program, _) = program(&snapshot, "prot-none").expect("in every guest");
        let pid = program.pid.to_string();
        let path = program.paths.first().expect("it states one");
        // Each link stands at the same place of a page, the first is in the area of small pages.
        let small = program.area("NONE4K").expect("stated");
        let first = small.va + 3 * 4096 + 0x100;
        let huge = program.area("NONETHP").or(program.area("NOTHP"));
        let second = huge.expect("stated").va + 7 * 4096 + 0x100;
        let refs = |target: u64| {
            let args = ["--pid", &pid, &format!("{target:#x}")];
            let (rows, _) = run_bare(&snapshot, image(&snapshot), "refs", &args);
            let places = rows.iter().map(|row| hex(&row["va"]));
            places.collect::<BTreeSet<u64>>()
        };
        assert!(refs(first).contains(&program.symbols["g_chain"]), "{name}");
        assert!(refs(second).contains(&first), "{name}");

        let target = format!("{:#x}", path.target);
        let args = [
            &target,
            "--pid",
            &pid,
            "--from",
            "crowd",
            "--depth",
            "4",
            "--max-offset",
            "0x100",
        ];
        let (rows, status) = run_bare(&snapshot, image(&snapshot), "paths", &args);
        assert_eq!(status, 0, "{name}");
        let found = rows.iter().any(|row| {
            let offsets = row["offsets"].as_array().expect("a list").iter();
            let offsets = offsets.map(|offset| offset.as_u64().unwrap_or(u64::MAX));
            hex(&row["base"]) == path.base && offsets.eq(path.offsets.iter().copied())
        });
        assert!(found, "{name}: {rows:?}");
    }
}

#[test]
fn vtop_says_what_becomes_of_a_page() {
    for snapshot in snapshots() {
        let state = |program: &Program, va: u64| {
            let (pid, va) = (program.pid.to_string(), format!("{va:#x}"));
            let (rows, _) = run_bare(&snapshot, image(&snapshot), "vtop", &["--pid", &pid, &va]);
            assert_eq!(rows.len(), 1, "{} {va}", snapshot.variant);
            let state = rows[0].get("state").and_then(Value::as_str);
            state.map(str::to_owned)
        };
        let (none, _) = program(&snapshot, "prot-none").expect("in every guest");
        let first = |area: &str| none.area(area).expect("stated").va;
        for area in ["NONE4K", "NONESHARED", "NONEHUGE"] {
            let state = state(&none, first(area));
            assert_eq!(
                state.as_deref(),
                Some("forbidden"),
                "{} {area}",
                snapshot.variant
            );
        }
        let swapped = state(&none, first("NONESWAP"));
        assert_eq!(swapped.as_deref(), Some("swapped"), "{}", snapshot.variant);
        assert_eq!(
            state(&none, first("chain-end")),
            None,
            "{}",
            snapshot.variant
        );
        if let Some((numabal, pages)) = program(&snapshot, "numabal") {
            let page = pages.iter().find(|page| page.why == Why::ProtNone);
            let state = state(&numabal, page.expect("some are sampled").va);
            assert_eq!(state.as_deref(), Some("hinted"), "{}", snapshot.variant);
        }
        if let Some((mover, pages)) = program(&snapshot, "mover") {
            let page = pages.iter().find(|page| page.why == Why::Migration);
            let state = state(&mover, page.expect("some are moved").va);
            assert_eq!(state.as_deref(), Some("moving"), "{}", snapshot.variant);
        }
    }
}
