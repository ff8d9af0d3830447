//! Code of libc and of the guest program that lies across page borders, by process number.
//!
//! Signatures are cut out of the ELF files on the host, across borders at which both pages are present
//! in the guest, where the two frames lie side by side in physical memory and where they do not, so that
//! the bytes stand nowhere in one piece. Where frames of other memory lie apart, signatures are cut out of
//! that memory, too.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

use vmie_lab::walker::{Leaf, leaves};
use vmie_lab::{ImageFormat, Process, Snapshot};

use crate::command::{hex, run_bare};
use crate::objects::objects;
use crate::support::snapshots;

const PAGE: u64 = 4096;

/// Bytes of a signature.
const LEN: usize = 20;

/// Borders of each kind in each file.
const EACH: usize = 6;

/// A signature that lies across a border.
struct Cut {
    name: String,
    /// Where it is in the process.
    va: u64,
    bytes: Vec<u8>,
    /// Whether the frames lie side by side.
    adjacent: bool,
}

#[test]
fn code_across_page_borders_is_found_by_pid() {
    let mut apart = 0;
    for snapshot in snapshots() {
        let programs = snapshot.programs().expect("readable");
        let processes = snapshot.processes().expect("readable");
        for program in objects(&programs) {
            let process = processes.iter().find(|process| process.pid == program.pid);
            let process = process.expect("the program is a process");
            let root = snapshot.root_of(program.pid).expect("it is busy");
            let user: Vec<Leaf> = leaves(&snapshot, root)
                .into_iter()
                .filter(|leaf| leaf.va >> 63 == 0 && leaf.size == PAGE)
                .collect();
            let memory = memory(&snapshot, &user);
            let mut cuts = cuts(&snapshot, process, &user);
            cuts.extend(data(&memory, &user));
            apart += cuts.iter().filter(|cut| !cut.adjacent).count();
            if cuts.is_empty() {
                continue;
            }
            let mut expected = BTreeSet::new();
            for cut in &cuts {
                let found = search(&memory, &cut.bytes);
                assert!(
                    found.contains(&cut.va),
                    "{}: {}: it is mapped at {:#x}",
                    snapshot.variant,
                    cut.name,
                    cut.va
                );
                expected.extend(found.into_iter().map(|va| (va, cut.name.clone())));
            }
            assert_eq!(
                scan(&snapshot, process.pid, &cuts),
                expected,
                "{}: {}",
                snapshot.variant,
                program.name
            );
        }
    }
    assert!(apart > 0, "no two frames lie apart");
}

/// Signatures from the executable mappings of the program and of libc.
fn cuts(snapshot: &Snapshot, process: &Process, user: &[Leaf]) -> Vec<Cut> {
    let mut cuts = Vec::new();
    let code = process.vmas.iter().filter(|vma| {
        let is_wanted = vma.path == process.exe || vma.path.contains("libc.so");
        is_wanted && vma.prot.contains('x')
    });
    for vma in code {
        let file = std::fs::read(snapshot.path(format!("files{}", vma.path)));
        let file = file.unwrap_or_else(|error| panic!("{}: {error}", vma.path));
        let name = vma.path.rsplit('/').next().unwrap_or_default();
        let (mut side_by_side, mut apart) = (0, 0);
        for pair in user.windows(2) {
            let border = pair[1].va;
            if pair[0].va + PAGE != border
                || pair[0].va < vma.range.start
                || border + PAGE > vma.range.end
            {
                continue;
            }
            let adjacent = pair[0].gpa + PAGE == pair[1].gpa;
            let count = if adjacent {
                &mut side_by_side
            } else {
                &mut apart
            };
            // From one byte before the border to one byte behind it.
            let before = 1 + (*count * 5) % (LEN - 1);
            let va = border - before as u64;
            let at = usize::try_from(va - vma.range.start + vma.offset).expect("small");
            let Some(bytes) = file.get(at..at + LEN) else {
                continue;
            };
            let distinct: BTreeSet<u8> = bytes.iter().copied().collect();
            if *count >= EACH || distinct.len() < 8 {
                continue;
            }
            *count += 1;
            let kind = if adjacent { "adjacent" } else { "apart" };
            cuts.push(Cut {
                name: format!("{name}-{kind}-{count}").replace('.', "_"),
                va,
                bytes: bytes.to_vec(),
                adjacent,
            });
        }
    }
    cuts
}

/// Signatures from whatever else the process has, across borders of frames that lie apart: the kernel
/// puts files into frames side by side, but not always what a program writes.
fn data(memory: &[(u64, Vec<u8>)], user: &[Leaf]) -> Vec<Cut> {
    let mut cuts = Vec::new();
    for pair in user.windows(2) {
        let border = pair[1].va;
        if pair[0].va + PAGE != border || pair[0].gpa + PAGE == pair[1].gpa || cuts.len() == EACH {
            continue;
        }
        let va = border - (1 + (cuts.len() as u64 * 5) % (LEN as u64 - 1));
        let piece = memory.iter().rev().find(|(start, _)| *start <= va);
        let bytes = piece.and_then(|(start, bytes)| {
            let at = usize::try_from(va - start).ok()?;
            bytes.get(at..at + LEN)
        });
        let Some(bytes) = bytes else { continue };
        let distinct: BTreeSet<u8> = bytes.iter().copied().collect();
        if distinct.len() >= 4 {
            cuts.push(Cut {
                name: format!("data-apart-{}", cuts.len()),
                va,
                bytes: bytes.to_vec(),
                adjacent: false,
            });
        }
    }
    cuts
}

/// What the process has in memory: touching pages joined, straight from the RAM file.
fn memory(snapshot: &Snapshot, user: &[Leaf]) -> Vec<(u64, Vec<u8>)> {
    let ram = File::open(snapshot.path("ram.raw")).expect("every snapshot has one");
    let mut memory: Vec<(u64, Vec<u8>)> = Vec::new();
    for leaf in user {
        let part = snapshot
            .ram
            .iter()
            .find(|part| part.gpa <= leaf.gpa && leaf.gpa < part.gpa + part.len);
        // Frames of devices.
        let Some(part) = part else { continue };
        let mut page = [0; PAGE as usize];
        ram.read_exact_at(&mut page, part.offset + (leaf.gpa - part.gpa))
            .expect("the RAM file is whole");
        match memory.last_mut() {
            Some((va, bytes)) if *va + bytes.len() as u64 == leaf.va => bytes.extend(page),
            _ => memory.push((leaf.va, page.to_vec())),
        }
    }
    memory
}

fn search(memory: &[(u64, Vec<u8>)], bytes: &[u8]) -> BTreeSet<u64> {
    let pieces = memory.iter().flat_map(|(va, piece)| {
        let windows = piece.windows(bytes.len()).enumerate();
        let found = windows.filter(|(_, window)| window[0] == bytes[0] && *window == bytes);
        found.map(move |(at, _)| va + at as u64)
    });
    pieces.collect()
}

/// Asks the command, by process number.
fn scan(snapshot: &Snapshot, pid: u32, cuts: &[Cut]) -> BTreeSet<(u64, String)> {
    let file = std::env::temp_dir().join(format!("vmie-borders-{}.toml", std::process::id()));
    let lines: Vec<String> = cuts
        .iter()
        .map(|cut| {
            let bytes: Vec<String> = cut.bytes.iter().map(|b| format!("{b:02X}")).collect();
            format!("{} = \"{}\"\n", cut.name, bytes.join(" "))
        })
        .collect();
    std::fs::write(&file, lines.concat()).expect("a temporary file");
    let image = snapshot.image(ImageFormat::Raw).expect("there is one");
    let (pid, path) = (pid.to_string(), file.display().to_string());
    let (rows, status) = run_bare(snapshot, image, "scan", &["--pid", &pid, "-f", &path]);
    let _ = std::fs::remove_file(&file);
    assert_eq!(status, 0, "{}: pid {pid}", snapshot.variant);
    let place = |row: &serde_json::Value| {
        let sig = row["sig"].as_str().expect("a name").to_owned();
        (hex(&row["va"]), sig)
    };
    rows.iter().map(place).collect()
}
