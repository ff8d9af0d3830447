//! References by way of imports, compared with what `objdump -d` and `readelf -r` say of the ELF files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use vmie_lab::walker::leaves;
use vmie_lab::{ImageFormat, Process, Snapshot, Vma};

use crate::command::{hex, run_bare};
use crate::support::snapshots;
use crate::xrefs::{Listing, instruction, refers};

/// Functions of libc that programs and libraries call. Some exist in several forms, of which one is chosen.
const FUNCTIONS: [&str; 7] = [
    "malloc",
    "free",
    "abort",
    "strlen",
    "memcpy",
    "perror",
    "nanosleep",
];

/// Address, kind and way of a reference, and whether the process has mapped all of the instruction.
type Refs = BTreeSet<(u64, String, String, bool)>;

/// Slots of a file: by address, name without version, and the way that goes through it.
fn slots(path: &Path) -> BTreeMap<u64, (String, &'static str)> {
    let output = Command::new("readelf")
        .args(["--relocs", "--wide"])
        .arg(path)
        .output()
        .expect("readelf runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut slots = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [at, _, kind, rest @ ..] = &words[..] else {
            continue;
        };
        let via = match *kind {
            "R_X86_64_JUMP_SLOT" | "R_X86_64_GLOB_DAT" | "R_X86_64_IRELATIV"
            | "R_X86_64_IRELATIVE" => "got",
            "R_X86_64_64" => "pointer",
            _ => continue,
        };
        let at = u64::from_str_radix(at, 16).expect("an address");
        let name = match rest {
            [chooser] => format!("chosen by {chooser}"),
            // What is to be added is not zero: a place behind what has the name.
            [_, _, "+", addend] if *addend != "0" => continue,
            // The old one is another function.
            [_, "memcpy@GLIBC_2.2.5", ..] => continue,
            [_, name, ..] => name.split('@').next().unwrap_or_default().to_owned(),
            [] => continue,
        };
        slots.insert(at, (name, via));
    }
    slots
}

/// All names that libc has for what has this name by default, and how its own relocations call what
/// chooses it.
fn names(libc: &Path, name: &str) -> BTreeSet<String> {
    let output = Command::new("readelf")
        .args(["--dyn-syms", "--wide"])
        .arg(libc)
        .output()
        .expect("readelf runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut defined = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [_, address, _, _, _, _, section, symbol, ..] = words[..]
            && section != "UND"
            && let Ok(address) = u64::from_str_radix(address, 16)
        {
            defined.push((address, symbol));
        }
    }
    let default = format!("{name}@@");
    let is_it = |symbol: &str| symbol == name || symbol.starts_with(&default);
    let found = defined.iter().find(|(_, symbol)| is_it(symbol));
    let &(address, _) = found.unwrap_or_else(|| panic!("libc has no {name}"));
    let others = defined.iter().filter(|(at, _)| *at == address);
    let bare = |symbol: &str| symbol.split('@').next().unwrap_or_default().to_owned();
    let mut names: BTreeSet<String> = others.map(|(_, symbol)| bare(symbol)).collect();
    names.insert(format!("chosen by {address:x}"));
    names
}

struct File<'v> {
    vma: &'v Vma,
    listing: Listing,
    slots: BTreeMap<u64, (String, &'static str)>,
}

impl File<'_> {
    /// What refers to functions of these names by way of slots, and of stubs that jump through those.
    fn references(&self, names: &BTreeSet<String>, present: &BTreeSet<u64>) -> Refs {
        let mut targets: BTreeMap<u64, &str> = BTreeMap::new();
        for (&at, (name, via)) in &self.slots {
            if names.contains(name) {
                targets.insert(at, via);
            }
        }
        // A stub, by the instruction under the label of objdump.
        let mut stub = None;
        for line in self.listing.text.lines() {
            if let Some((va, label)) = line
                .strip_suffix(">:")
                .and_then(|line| line.split_once(" <"))
            {
                stub = label
                    .ends_with("@plt")
                    .then(|| u64::from_str_radix(va, 16).expect("an address"));
            } else if let (Some(at), Some((_, _, text))) = (stub, instruction(line))
                && text.contains("jmp")
                && let Some((_, slot)) = text.split_once("# ")
            {
                let slot = slot.split_whitespace().next().unwrap_or_default();
                let slot = u64::from_str_radix(slot, 16).expect("an address");
                if targets.get(&slot) == Some(&"got") {
                    targets.insert(at, "plt");
                }
                stub = None;
            }
        }
        let targets = targets
            .iter()
            .map(|(&target, &via)| (target, via, format!("{target:x}")));
        let targets: Vec<_> = targets.collect();
        let mut refs = Refs::new();
        for line in self.listing.text.lines() {
            for &(target, via, ref digits) in &targets {
                if !line.contains(digits) {
                    continue;
                }
                let Some((at, bytes, text)) = instruction(line) else {
                    continue;
                };
                if let (Some(kind), Some(va)) =
                    (refers(text, target), self.listing.va(at, self.vma))
                {
                    let pages = [va, va + bytes - 1].map(|va| va & !0xfff);
                    let mapped = pages.iter().all(|page| present.contains(page));
                    refs.insert((va, kind.to_owned(), via.to_owned(), mapped));
                }
            }
        }
        refs
    }
}

/// What the rows of a process say of references by imports. Pointers that no relocation fills are the
/// loader's own: it keeps the functions of libc that it calls itself.
fn told<'r>(rows: impl Iterator<Item = &'r Value>) -> Refs {
    let mut told = Refs::new();
    for row in rows.filter(|row| row.get("via").is_some()) {
        let text = |key: &str| row[key].as_str().expect("text").to_owned();
        let state = row.get("state").and_then(Value::as_str);
        assert!(matches!(state, None | Some("page cache")));
        if text("via") == "pointer" && row["symbol"].is_null() {
            assert!(text("name").starts_with("ld-linux"), "{row}");
            continue;
        }
        let mapped = state.is_none();
        told.insert((hex(&row["va"]), text("kind"), text("via"), mapped));
    }
    told
}

fn libc_of(process: &Process) -> Option<&Vma> {
    process
        .vmas
        .iter()
        .find(|vma| vma.path.ends_with("/libc.so.6") && vma.prot.contains('x'))
}

#[test]
fn calls_of_imported_functions_are_where_objdump_says() {
    let (mut compared, mut not_mapped) = (0, 0);
    for snapshot in snapshots() {
        let image = snapshot.image(ImageFormat::Raw).expect("there is one");
        let processes = snapshot.processes().expect("readable");
        let dynamic: Vec<&Process> = processes.iter().filter(|p| libc_of(p).is_some()).collect();
        assert!(!dynamic.is_empty(), "{}", snapshot.variant);
        let files: Vec<Vec<File<'_>>> = dynamic
            .iter()
            .map(|process| files(&snapshot, process))
            .collect();
        let present: Vec<Option<BTreeSet<u64>>> = dynamic
            .iter()
            .map(|process| {
                let root = snapshot.root_of(process.pid)?;
                Some(leaves(&snapshot, root).iter().map(|leaf| leaf.va).collect())
            })
            .collect();
        for name in FUNCTIONS {
            let what = format!("{}: {name}", snapshot.variant);
            let to = format!("libc.so.6!{name}");
            let everywhere = ["--all-processes", "--to", &to, "--linear"];
            let (all, _) = run_bare(&snapshot, image, "xref", &everywhere);
            let mut pids = BTreeSet::new();
            for ((process, files), present) in dynamic.iter().zip(&files).zip(&present) {
                let Some(present) = present else { continue };
                let libc = &libc_of(process).expect("it is mapped").path;
                let names = names(&snapshot.path(format!("files{libc}")), name);
                let mut expected = Refs::new();
                for file in files {
                    expected.extend(file.references(&names, present));
                }
                let pid = process.pid.to_string();
                let one = ["--pid", &pid, "--to", &to, "--linear"];
                let (rows, _) = run_bare(&snapshot, image, "xref", &one);
                assert_eq!(told(rows.iter()), expected, "{what} in {pid}");
                let of_process = all.iter().filter(|row| row["pid"] == process.pid);
                assert_eq!(told(of_process), expected, "{what} among all, in {pid}");
                compared += expected.len();
                not_mapped += expected.iter().filter(|(.., mapped)| !mapped).count();
                pids.insert(process.pid);
                for row in rows
                    .iter()
                    .filter(|row| row.get("via").is_some_and(|via| via == "plt"))
                {
                    let stub = row["target_name"].as_str().expect("stubs have names");
                    assert!(stub.ends_with("@plt"), "{what}: {stub}");
                    // Of several names for one address, any.
                    let reaches = row["reaches_name"].as_str().expect("it has a name");
                    let symbol = reaches.strip_prefix("libc.so.6!").unwrap_or(reaches);
                    let symbol = symbol.split('@').next().unwrap_or_default();
                    assert!(names.contains(symbol), "{what}: {row}");
                }
            }
            let told: BTreeSet<u64> = all.iter().filter_map(|row| row["pid"].as_u64()).collect();
            let mapping = dynamic.iter().map(|process| u64::from(process.pid));
            assert!(told.is_subset(&mapping.collect()), "{what}: {told:?}");
            assert!(
                pids.iter().all(|&pid| told.contains(&pid.into())),
                "{what}: {told:?}"
            );
            assert!(
                all.is_sorted_by_key(|row| (row["pid"].as_u64(), hex(&row["va"]))),
                "{what}"
            );
        }
    }
    assert!(compared > 500, "only {compared} references");
    assert!(
        not_mapped > 50,
        "only {not_mapped} in code that is not mapped"
    );
}

/// The files whose code a process maps.
fn files<'p>(snapshot: &Snapshot, process: &'p Process) -> Vec<File<'p>> {
    let code = process
        .vmas
        .iter()
        .filter(|vma| vma.path.starts_with('/') && vma.prot.contains('x'));
    let files = code.map(|vma| File {
        vma,
        listing: Listing::of(snapshot, vma),
        slots: slots(&snapshot.path(format!("files{}", vma.path))),
    });
    files.collect()
}
