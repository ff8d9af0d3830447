//! A process made by hand: a library that defines, and a program that imports in every way.

use super::*;
use crate::memory::Prot;
use crate::os::SymbolTableBuilder;
use crate::testmem::TestMemory;

const LIBRARY: u64 = 0x7f00_0000_0000;
const PROGRAM: u64 = 0x40_0000;
const PRELOADED: u64 = 0x7f10_0000_0000;
const VDSO: u64 = 0x7fff_0000_0000;

/// What the library defines.
const OPEN: u64 = LIBRARY + 0x1000;
const OLD_COPY: u64 = LIBRARY + 0x1100;
const COPY: u64 = LIBRARY + 0x1200;
const FORM: u64 = LIBRARY + 0x1280;
const NOW: u64 = LIBRARY + 0x1300;
const VARIABLE: u64 = LIBRARY + 0x3000;

/// Of the program: where stubs are, code that binds, and slots.
const STUBS: u64 = PROGRAM + 0x1000;
const BINDS: u64 = PROGRAM + 0x1800;
const SLOTS: u64 = PROGRAM + 0x2000;
const CONSTANT: u64 = PROGRAM + 0x2800;

fn module(name: &str, base: u64, path: bool) -> Module {
    Module {
        name: name.to_owned(),
        path: path.then(|| format!("/lib/{name}")),
        base: Gva(base),
        range: AddrRange::new(Gva(base), 0x4000).expect("a range"),
        size: 0x4000,
        object: None,
    }
}

fn table(symbols: &[(&str, u64, u8)]) -> Arc<SymbolTable> {
    let mut builder = SymbolTableBuilder::default();
    for &(name, va, kind) in symbols {
        builder.push_sized(name.as_bytes(), Gva(va), kind, 16);
    }
    Arc::new(builder.build(Some(AddrRange::all())))
}

/// A slot of the program: sort, name, and what it holds (0: not in memory).
type Import = (SlotKind, &'static str, u64);

/// The ways to `target`; slots are 8 bytes apart, the stub of each 16.
fn routes(imports: &[Import], constants: &[u64], target: u64) -> Routes {
    let mut data = vec![0; 0x1000];
    let mut present = Vec::new();
    let mut slots = Vec::new();
    let mut names = Vec::new();
    let mut stubs = Vec::new();
    for (index, &(kind, name, value)) in imports.iter().enumerate() {
        let at = 8 * index;
        data[at..at + 8].copy_from_slice(&value.to_le_bytes());
        present.push((SLOTS + at as u64, value));
        let (symbol, version) = match name.split_once('@') {
            Some((symbol, version)) => (symbol, Some(version.to_owned())),
            None => (name, None),
        };
        names.push(ImportName {
            symbol: symbol.to_owned(),
            version,
        });
        slots.push(Slot {
            va: Gva(SLOTS + at as u64),
            kind,
            name: Some(index as u32),
            addend: 0,
            resolver: None,
        });
        if kind == SlotKind::Jump {
            stubs.push(Stub {
                va: Gva(STUBS + 16 * index as u64),
                len: 16,
                slot: Gva(SLOTS + at as u64),
            });
        }
    }
    for (index, value) in constants.iter().enumerate() {
        let at = 0x800 + 8 * index;
        data[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    let mut code = vec![0; 0x1000];
    // push 0
    code[0x800] = 0x68;
    let mut memory = TestMemory::new().part(STUBS, &code, Prot::R.union(Prot::X));
    memory = memory.part(SLOTS, &data, Prot::R);
    for (va, _) in present.iter().filter(|(_, value)| *value == 0) {
        memory = memory.absent(*va, 8);
    }
    let images = [
        Image::new(
            module("program", PROGRAM, true),
            Imports {
                width: 8,
                slots,
                stubs,
                names,
                constant: AddrRange::new(Gva(CONSTANT), 0x100),
                ..Imports::default()
            },
        ),
        Image::new(module("library", LIBRARY, true), Imports::default()),
        Image::new(module("preloaded", PRELOADED, true), Imports::default()),
        Image::new(module("[vdso]", VDSO, false), Imports::default()),
    ];
    let symbols = |module: &Module| {
        Some(match &*module.name {
            "library" => table(&[
                ("open", OPEN, b'T'),
                ("open_alias", OPEN, b'W'),
                ("copy@OLD", OLD_COPY, b'i'),
                ("copy", COPY, b'i'),
                ("now", NOW, b'i'),
                ("variable", VARIABLE, b'D'),
            ]),
            "preloaded" => table(&[("open", PRELOADED + 0x100, b'T')]),
            "[vdso]" => table(&[("now", VDSO + 0x100, b'W')]),
            _ => table(&[]),
        })
    };
    let mut routes = Routes::default();
    let targets = [AddrRange::new(Gva(target), 1).expect("one byte")];
    routes.search(&images, &memory, &symbols, &targets);
    routes
}

/// Which of stub and slot `index` lead there, and how that is known.
fn found(routes: &Routes) -> Vec<(&'static str, u64, &'static str)> {
    let all = routes.all().iter().map(|route| {
        let index = match route.via {
            Via::Stub => (route.at.0 - STUBS) / 16,
            Via::Slot | Via::Pointer => (route.at.0 - SLOTS) / 8,
        };
        (route.via.label(), index, route.binding.label())
    });
    all.collect()
}

#[test]
fn what_a_slot_holds_is_where_it_leads() {
    let imports = [
        (SlotKind::Jump, "open", OPEN),
        (SlotKind::Address, "open", OPEN),
        (SlotKind::Pointer, "open", OPEN),
        // An alias, and one that somebody has redirected here.
        (SlotKind::Jump, "open_alias", OPEN),
        (SlotKind::Jump, "close", OPEN),
        // Another function.
        (SlotKind::Jump, "close", OPEN + 0x10),
    ];
    let routes = routes(&imports, &[], OPEN);
    assert_eq!(
        found(&routes),
        [
            ("plt", 0, "value"),
            ("plt", 3, "value"),
            ("plt", 4, "value"),
            ("got", 0, "value"),
            ("got", 1, "value"),
            ("pointer", 2, "value"),
            ("got", 3, "value"),
            ("got", 4, "value"),
        ]
    );
    assert!(routes.all().iter().all(|route| route.reaches == Gva(OPEN)));
    assert_eq!(
        routes.at(Gva(STUBS + 64)).and_then(|r| r.symbol.as_deref()),
        Some("close")
    );
    assert_eq!(routes.at(Gva(STUBS + 80)), None);
    assert!(routes.astray.is_empty() && routes.is_complete());
}

#[test]
fn a_slot_that_somebody_redirected_leads_elsewhere() {
    let imports = [
        (SlotKind::Jump, "open", PRELOADED + 0x100),
        (SlotKind::Address, "open", 0x1234_5678),
    ];
    let to_library = routes(&imports, &[], OPEN);
    assert_eq!(found(&to_library), []);
    let astray: Vec<_> = to_library
        .astray
        .iter()
        .map(|slot| (slot.slot.0, slot.value.0))
        .collect();
    assert_eq!(
        astray,
        [(SLOTS, PRELOADED + 0x100), (SLOTS + 8, 0x1234_5678)]
    );
    assert_eq!(to_library.astray_count, 2);
    let to_preloaded = routes(&imports, &[], PRELOADED + 0x100);
    assert_eq!(
        found(&to_preloaded),
        [("plt", 0, "value"), ("got", 0, "value")]
    );
}

#[test]
fn names_decide_where_values_say_nothing() {
    let imports = [
        // Not bound yet, with a version that the library does not tell apart; not in memory.
        (SlotKind::Jump, "copy@NEW", BINDS),
        (SlotKind::Jump, "copy", 0),
        // The form that was chosen, and that of the old version.
        (SlotKind::Jump, "copy@NEW", FORM),
        (SlotKind::Jump, "copy@OLD", FORM),
        // Code of the program that does not bind.
        (SlotKind::Jump, "copy", STUBS + 0x400),
    ];
    let to_new = routes(&imports, &[], COPY);
    assert_eq!(
        found(&to_new),
        [
            ("plt", 0, "lazy"),
            ("plt", 1, "unread"),
            ("plt", 2, "ifunc"),
            ("got", 0, "lazy"),
            ("got", 1, "unread"),
            ("got", 2, "ifunc"),
        ]
    );
    assert_eq!(to_new.astray_count, 1);
    assert_eq!(
        found(&routes(&imports, &[], OLD_COPY)),
        [("plt", 3, "ifunc"), ("got", 3, "ifunc")]
    );
    // Whoever asks for the form itself finds both.
    assert_eq!(found(&routes(&imports, &[], FORM)).len(), 4);
}

#[test]
fn forms_may_be_chosen_from_what_the_kernel_gives() {
    let imports = [(SlotKind::Jump, "now", VDSO + 0x100)];
    assert_eq!(
        found(&routes(&imports, &[], NOW)),
        [("plt", 0, "ifunc"), ("got", 0, "ifunc")]
    );
    let replaced = [(SlotKind::Jump, "now", PRELOADED + 0x200)];
    assert_eq!(found(&routes(&replaced, &[], NOW)), []);
}

#[test]
fn a_slot_that_is_not_bound_may_get_what_another_image_defines() {
    let routes = routes(&[(SlotKind::Jump, "open", BINDS)], &[], OPEN);
    assert_eq!(found(&routes), [("plt", 0, "lazy"), ("got", 0, "lazy")]);
    assert_eq!(routes.findings.len(), 1, "{:?}", routes.findings);
    assert!(routes.findings[0].text.contains("preloaded"));
}

#[test]
fn stubs_stand_for_functions_in_programs_that_are_not_moved() {
    let imports = [
        (SlotKind::Jump, "open", OPEN),
        (SlotKind::Address, "open", STUBS),
    ];
    let routes = routes(&imports, &[], OPEN);
    assert_eq!(
        found(&routes),
        [("plt", 0, "value"), ("got", 0, "value"), ("got", 1, "stub")]
    );
    assert_eq!(routes.astray_count, 0);
}

#[test]
fn constant_pointers_and_variables_that_moved() {
    let constants = [OPEN, 7, OPEN + 1];
    let to_open = routes(&[], &constants, OPEN);
    assert_eq!(found(&to_open), [("pointer", 0x100, "value")]);

    let imports = [
        (SlotKind::Copy, "variable", 5),
        (SlotKind::Address, "variable", SLOTS),
    ];
    let moved = routes(&imports, &[], VARIABLE);
    assert_eq!(found(&moved), []);
    assert_eq!(moved.moved.len(), 1);
    assert_eq!(
        (moved.moved[0].to, &*moved.moved[0].image),
        (Gva(SLOTS), "program")
    );
    // Where it is now, the slots of everybody lead there.
    assert_eq!(found(&routes(&imports, &[], SLOTS)), [("got", 1, "value")]);
}
