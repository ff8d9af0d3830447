//! Modules of the kernel and images of processes, with their symbols.

use std::collections::{BTreeMap, BTreeSet};

use object::{Object, ObjectSymbol};
use vmie::os::{Module, Process};

use crate::support::{Case, each};

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
        let mut add = |table: &vmie::os::SymbolTable, module: &str| {
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

fn find(processes: &[Process], pid: u32) -> &Process {
    let found = processes.iter().find(|p| p.pid == pid);
    found.expect("is listed")
}

#[test]
fn symbols_of_libraries_equal_those_in_their_files() {
    each(|case| {
        let listing = case.guest.processes().expect("lists processes");
        let program = case.truth.programs().expect("programs");
        let program = program.iter().find(|p| p.name == "objects-dynamic");
        let process = find(&listing.items, program.expect("runs").pid);
        let modules = case.guest.modules(Some(process)).expect("lists images");
        let mut compared = 0;
        for module in &modules.items {
            let ours = case.guest.module_symbols(Some(process), module);
            let Some(path) = &module.path else {
                let vdso = ours.expect("symbols of the vdso");
                assert!(vdso.address_of("__vdso_gettimeofday").is_some());
                continue;
            };
            let ours = ours.unwrap_or_else(|error| panic!("{module:?}: {error}"));
            compared += compare_with_file(case, path, module, &ours);
        }
        assert!(compared > 1000, "{compared}");
    });
}

/// Compares the dynamic symbols of an image in memory with those of its file; how many there are.
fn compare_with_file(
    case: &Case,
    path: &str,
    module: &Module,
    ours: &vmie::os::SymbolTable,
) -> usize {
    let bytes = std::fs::read(case.truth.path(format!("files{path}"))).expect("the file");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    let theirs: BTreeSet<(u64, String)> = file
        .dynamic_symbols()
        .filter(|s| !s.is_undefined() && s.kind() != object::SymbolKind::Tls)
        .filter_map(|s| Some((s.address(), s.name().ok()?.to_owned())))
        .filter(|(address, name)| *address != 0 && !name.is_empty())
        .collect();
    let bias = module.base.0;
    let ours_here: BTreeSet<(u64, String)> = ours
        .iter()
        .filter(|s| s.kind != 'A')
        .map(|s| {
            let name = s.name.split('@').next().unwrap_or_default();
            (s.va.0.wrapping_sub(bias), name.to_owned())
        })
        .collect();
    eprintln!(
        "{} {path}: {} of {}, missing {}",
        case.name(),
        ours_here.len(),
        theirs.len(),
        ours.missing()
    );
    for symbol in &ours_here {
        assert!(
            theirs.contains(symbol),
            "{path}: {symbol:x?} is not in the file"
        );
    }
    // Pages that nobody has touched are not in memory.
    let absent = theirs.difference(&ours_here).count();
    assert!(
        absent <= ours.missing(),
        "{path}: {absent} absent, {} missing",
        ours.missing()
    );
    ours_here.len()
}
