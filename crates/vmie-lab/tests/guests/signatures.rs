//! Code signatures, taken from the programs' ELF files on the host, found in the guest's memory.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use object::{Object, ObjectSymbol};
use vmie::scan::{Run, Selection, scan_each};
use vmie::signature::{Set, Signature};
use vmie::{AddressSpace, DEFAULT_WINDOW, Gva};
use vmie_lab::walker::leaves;
use vmie_lab::{Process, Program, Snapshot};

use crate::objects::objects;
use crate::support::{are_standard, each_image, raw, snapshots, space, user_half};

/// Functions of `objects.cpp` that run at every tick or have run before READY, so that their pages
/// are present.
pub(crate) const FUNCTIONS: [&str; 4] = ["lab_mix", "lab_advance", "lab_find", "lab_count_items"];

/// Bytes taken of each.
const LEN: usize = 24;

#[test]
fn code_is_found_where_proc_maps_implies_in_every_format() {
    each_image(|snapshot, image, name| {
        for case in cases(snapshot) {
            let space = space(snapshot, image.clone(), case.root);
            for window in [0x1000, 256 << 10] {
                let selection = Selection::all().range(user_half());
                let found = find(&space, &case, &selection, window);
                assert_eq!(
                    found, case.expected,
                    "{name}: {}, window {window}",
                    case.program
                );
            }
        }
    });
}

/// In the whole address space the same code turns up again in the kernel's direct map; the user's
/// addresses must be among the matches. Small guests only: the direct map is as large as RAM.
#[test]
fn code_is_found_in_the_whole_space() {
    let mut checked = 0;
    for snapshot in snapshots() {
        if snapshot.machine.ram > 1 << 30 {
            continue;
        }
        let cases = cases(&snapshot);
        let case = cases
            .iter()
            .find(|case| case.program == snapshot.current.program)
            .expect("the current program is one of them");
        let space = space(&snapshot, raw(&snapshot), case.root);
        let found = find(&space, case, &Selection::all(), DEFAULT_WINDOW);
        let (user, kernel): (BTreeSet<_>, BTreeSet<_>) =
            found.iter().copied().partition(|(va, _)| *va >> 63 == 0);
        assert_eq!(
            user, case.expected,
            "{}: {}",
            snapshot.variant, case.program
        );
        // With page-table isolation the user's tables have next to nothing of the kernel.
        let upper: u64 = leaves(&snapshot, case.root)
            .iter()
            .filter(|leaf| leaf.va >> 63 != 0)
            .map(|leaf| leaf.size)
            .sum();
        if upper > snapshot.machine.ram {
            assert!(!kernel.is_empty(), "the direct map shows the frames again");
        }
        checked += 1;
    }
    assert!(checked > 0 || !are_standard(&snapshots()), "no small guest");
}

struct Case {
    program: String,
    root: u64,
    signatures: Vec<Signature>,
    /// Address and number of the signature.
    expected: BTreeSet<(u64, usize)>,
}

fn cases(snapshot: &Snapshot) -> Vec<Case> {
    let programs = snapshot.programs().expect("readable");
    let processes = snapshot.processes().expect("readable");
    let cases: Vec<Case> = objects(&programs)
        .map(|program| {
            let process = processes
                .iter()
                .find(|process| process.pid == program.pid)
                .expect("the program is a process");
            case(snapshot, program, process)
        })
        .collect();
    assert!(cases.len() >= 3, "static, static-PIE, dynamic");
    cases
}

fn case(snapshot: &Snapshot, program: &Program, process: &Process) -> Case {
    let file = std::fs::read(snapshot.path(format!("files{}", process.exe)))
        .unwrap_or_else(|error| panic!("{}: {error}", process.exe));
    let elf = object::File::parse(&*file).expect("an ELF file");
    let mut signatures = Vec::new();
    let mut expected = BTreeSet::new();
    for (number, function) in FUNCTIONS.iter().enumerate() {
        let symbol = elf
            .symbols()
            .find(|symbol| symbol.name() == Ok(function))
            .unwrap_or_else(|| panic!("{}: no symbol {function}", process.exe));
        let offset = file_offset(&elf, symbol.address());
        let code = &file[offset..offset + LEN];
        let text: Vec<String> = code.iter().map(|byte| format!("{byte:02X}")).collect();
        signatures.push(Signature::parse(*function, &text.join(" ")).expect("valid"));

        // Wherever these bytes stand in the file, and wherever that is mapped.
        let mut addresses = BTreeSet::new();
        for at in (0..file.len() - LEN).filter(|&at| file[at..at + LEN] == *code) {
            for vma in process.vmas.iter().filter(|vma| vma.path == process.exe) {
                let len = vma.range.end - vma.range.start;
                if let Some(within) = (at as u64).checked_sub(vma.offset)
                    && within + LEN as u64 <= len
                {
                    addresses.insert(vma.range.start + within);
                }
            }
        }
        assert!(
            addresses.contains(&program.symbols[*function]),
            "{}: {function}: /proc/PID/maps implies {addresses:x?}, the program says {:#x}",
            program.name,
            program.symbols[*function]
        );
        expected.extend(addresses.into_iter().map(|va| (va, number)));
    }
    Case {
        program: program.name.clone(),
        root: snapshot
            .root_of(program.pid)
            .expect("busy programs have roots"),
        signatures,
        expected,
    }
}

/// Where an address of an ELF file stands in the file, by its segments.
pub(crate) fn file_offset(elf: &object::File<'_>, address: u64) -> usize {
    use object::ObjectSegment;
    elf.segments()
        .find_map(|segment| {
            let within = address.checked_sub(segment.address())?;
            let (offset, len) = segment.file_range();
            (within < len).then_some(usize::try_from(offset + within).ok()?)
        })
        .expect("code is in a segment")
}

fn find(
    space: &AddressSpace,
    case: &Case,
    selection: &Selection<Gva>,
    window: usize,
) -> BTreeSet<(u64, usize)> {
    let set = Set::compile(case.signatures.clone()).expect("compiles");
    let mut found = BTreeSet::new();
    let mut last = None;
    let run = Run::new().window(window);
    let outcome = scan_each(space, &set, selection, run, |hit| {
        assert_eq!(hit.len, LEN, "of signatures without jumps");
        assert!(last < Some(hit), "matches come in order");
        last = Some(hit);
        found.insert((hit.start.0, hit.item.sig));
        ControlFlow::Continue(())
    });
    assert_eq!(outcome.coverage.lost, 0, "all tables could be read");
    found
}
