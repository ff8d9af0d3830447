//! Modules of the kernel and images of processes, with their symbols.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use object::{Object, ObjectSegment, ObjectSymbol};
use vmie::os::{Module, Process, SymbolTable};

use super::support::{Case, each};

/// A line of `/proc/kallsyms`: address, letter, name and module.
type Line = (u64, char, String, String);

fn truth_lines(case: &Case) -> Vec<Line> {
    let text = case.truth.guest_text("kallsyms").expect("kallsyms");
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        let letter = words.next()?.chars().next()?;
        let name = words.next()?.to_owned();
        let module = words.next().unwrap_or_default();
        let module = module.trim_start_matches('[').trim_end_matches(']');
        Some((address, letter, name, module.to_owned()))
    };
    text.lines().map(|l| line(l).expect("a symbol")).collect()
}

#[test]
fn all_symbols_equal_kallsyms() {
    each(|case| {
        let mut ours: Vec<Line> = Vec::new();
        let mut add = |table: &SymbolTable, module: &str| {
            let line = |s: vmie::os::Symbol<'_>| (s.va.0, s.kind, s.name.into(), module.into());
            ours.extend(table.iter().map(line));
            assert_eq!(table.missing(), 0);
        };
        add(&case.guest.symbols().expect("kernel symbols"), "");
        let modules = case.guest.modules(None).expect("lists modules");
        assert_eq!(modules.findings, [], "{}", case.name());
        for module in &modules.items {
            let table = case.guest.module_symbols(None, module);
            add(&table.expect("symbols of a module"), &module.name);
        }
        let mut theirs = truth_lines(case);
        assert!(theirs.iter().any(|(_, _, _, module)| !module.is_empty()));
        ours.sort();
        theirs.sort();
        let first = ours
            .iter()
            .zip(&theirs)
            .find(|(ours, theirs)| ours != theirs);
        assert_eq!(first, None, "{}", case.name());
        assert_eq!(ours.len(), theirs.len(), "{}", case.name());
    });
}

#[test]
fn kernel_modules_equal_the_guests_list() {
    each(|case| {
        let text = case.truth.guest_text("proc/modules").expect("modules");
        let theirs: BTreeMap<String, (u64, u64)> = text
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                let address = u64::from_str_radix(words[5].trim_start_matches("0x"), 16);
                let size = words[1].parse().expect("a size");
                (words[0].to_owned(), (address.expect("an address"), size))
            })
            .collect();
        let modules = case.guest.modules(None).expect("lists modules").items;
        let ours: BTreeMap<String, (u64, u64)> = modules
            .iter()
            .map(|module| (module.name.clone(), (module.base.0, module.size)))
            .collect();
        assert_eq!(ours, theirs, "{}", case.name());
        assert_eq!(modules.len(), theirs.len());
    });
}

/// The images of a process by what `/proc/PID/maps` says: what has code among its mappings and is an ELF
/// file, or the vdso; and how long it is in memory.
fn truth_images(case: &Case, process: &vmie_lab::Process) -> BTreeMap<String, (u64, u64)> {
    let mut images = BTreeMap::new();
    for vma in process.vmas.iter().filter(|vma| vma.prot.contains('x')) {
        let first = process.vmas.iter().find(|first| first.path == vma.path);
        let start = first.expect("itself").range.start;
        let len = match vma.path.as_str() {
            "[vdso]" => Some(vma.range.end - vma.range.start),
            path => len_in_memory(case, path),
        };
        if let Some(len) = len {
            images.insert(vma.path.clone(), (start, len));
        }
    }
    images
}

/// From the first to the last page of an ELF file's segments; `None` for what is no such file.
fn len_in_memory(case: &Case, path: &str) -> Option<u64> {
    let bytes = std::fs::read(case.truth.path(format!("files{path}"))).ok()?;
    let file = object::File::parse(&*bytes).ok()?;
    let first = file.segments().map(|s| s.address() & !0xfff).min()?;
    let last = file.segments().map(|s| s.address() + s.size()).max()?;
    Some(last.next_multiple_of(0x1000) - first)
}

#[test]
fn images_of_processes_are_what_is_mapped() {
    each(|case| {
        let listing = case.guest.processes().expect("lists processes");
        let mut all = BTreeSet::new();
        for truth in case.truth.processes().expect("the guest's processes") {
            if truth.vmas.is_empty() {
                continue;
            }
            let process = find(&listing.items, truth.pid);
            let images = case.guest.modules(Some(process)).expect("lists images");
            assert_eq!(images.findings, [], "{}: {process:?}", case.name());
            let ours: BTreeMap<String, (u64, u64)> = images
                .items
                .iter()
                .map(|m| {
                    let path = m.path.as_ref().unwrap_or(&m.name).clone();
                    (path, (m.base.0, m.range.len()))
                })
                .collect();
            assert_eq!(
                ours,
                truth_images(case, &truth),
                "{}: {process:?}",
                case.name()
            );
            assert_eq!(ours.len(), images.items.len());
            all.extend(ours.into_keys());
        }
        assert!(all.len() >= 10, "{all:?}");
    });
}

fn find(processes: &[Process], pid: u32) -> &Process {
    let found = processes.iter().find(|p| p.pid == pid);
    found.expect("is listed")
}

#[test]
fn symbols_of_images_equal_those_in_their_files() {
    each(|case| {
        let listing = case.guest.processes().expect("lists processes");
        let mut compared = 0;
        for program in case.truth.programs().expect("programs") {
            let process = find(&listing.items, program.pid);
            let modules = case.guest.modules(Some(process)).expect("lists images");
            for module in &modules.items {
                let ours = case.guest.module_symbols(Some(process), module);
                let ours = ours.unwrap_or_else(|error| panic!("{module:?}: {error}"));
                let Some(path) = &module.path else {
                    assert!(ours.address_of("__vdso_gettimeofday").is_some());
                    continue;
                };
                compared += compare_with_file(case, path, module, &ours);
                if module.name == program.name {
                    for (name, &va) in &program.symbols {
                        assert!(
                            ours.named(name).any(|symbol| symbol.va.0 == va),
                            "{name} of {module:?} is at {va:#x}"
                        );
                    }
                }
            }
        }
        assert!(compared > 10_000, "{compared}");
    });
}

/// The name without a version.
fn bare(name: &str) -> String {
    name.split('@').next().unwrap_or_default().to_owned()
}

/// Compares the symbols of an image in memory with those of its file; how many there are.
fn compare_with_file(case: &Case, path: &str, module: &Module, ours: &SymbolTable) -> usize {
    let bytes = std::fs::read(case.truth.path(format!("files{path}"))).expect("the file");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    let first = file.segments().map(|s| s.address() & !0xfff).min();
    let bias = module.base.0 - first.expect("segments");
    let theirs: BTreeSet<(u64, String)> = file
        .dynamic_symbols()
        .chain(file.symbols())
        .filter(|s| {
            use object::SymbolKind::{File, Section, Tls};
            !s.is_undefined() && ![File, Section, Tls].contains(&s.kind())
        })
        .map(|s| {
            let absolute = s.section() == object::SymbolSection::Absolute;
            let bias = if absolute { 0 } else { bias };
            (
                s.address().wrapping_add(bias),
                bare(s.name().expect("a name")),
            )
        })
        .filter(|(_, name)| !name.is_empty())
        .collect();
    let (stubs, ours_here): (Vec<_>, Vec<_>) = ours
        .iter()
        .partition(|symbol| symbol.name.ends_with("@plt"));
    let stubs = stubs.iter().map(|s| (s.va.0 - bias, s.name.to_owned()));
    let stubs: BTreeSet<_> = stubs.collect();
    let shown = stubs_of_file(&case.truth.path(format!("files{path}")), &file);
    // Of files that are linked as a whole objdump knows none.
    if !shown.is_empty() {
        assert_eq!(stubs, shown, "{path}: stubs");
    }
    let ours_here: BTreeSet<(u64, String)> =
        ours_here.iter().map(|s| (s.va.0, bare(s.name))).collect();
    assert_eq!(
        ours_here.difference(&theirs).collect::<Vec<_>>(),
        Vec::<&(u64, String)>::new(),
        "{path}: not in the file"
    );
    // Pages of files that nobody has read are not in memory.
    let absent = theirs.difference(&ours_here).count();
    assert!(
        absent <= ours.missing(),
        "{path}: {absent} absent, {} missing",
        ours.missing()
    );
    assert!(ours.missing() == 0, "the lab's file system is in memory");
    ours_here.len()
}

/// The stubs of imported functions that objdump shows in a file. It has no names for functions that
/// others choose, but says where those are.
fn stubs_of_file(path: &Path, file: &object::File<'_>) -> BTreeSet<(u64, String)> {
    let output = Command::new("objdump")
        .args(["--disassemble", "--wide"])
        .arg(path)
        .output()
        .expect("objdump runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut stubs = BTreeSet::new();
    for line in text.lines() {
        let label = line
            .strip_suffix("@plt>:")
            .and_then(|line| line.split_once(" <"));
        let Some((va, name)) = label else { continue };
        let va = u64::from_str_radix(va, 16).expect("an address");
        let chooser = name.strip_prefix("*ABS*+0x");
        let name = match chooser.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
            None => Some(bare(name)),
            Some(at) => {
                let mut symbols = file.dynamic_symbols().chain(file.symbols());
                let symbol = symbols.find(|s| s.address() == at && !s.is_undefined());
                symbol.map(|symbol| symbol.name().expect("a name").to_owned())
            }
        };
        stubs.extend(name.map(|name| (va, format!("{name}@plt"))));
    }
    stubs
}
