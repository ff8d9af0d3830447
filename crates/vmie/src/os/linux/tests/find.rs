//! Kernels of every arrangement, by note and by shape.

use vmie_synth::guest::{Flags, Frames, Machine, Paging, Phys, Space};
use vmie_synth::linux::{Arrangement, Kernel, KernelPlan};

use crate::addr::{Gpa, Gva};
use crate::arch::x86::CpuState;
use crate::hints::Hints;
use crate::os::linux::Linux;
use crate::os::{FindOptions, Guest, Step};
use crate::paging::Mode;
use crate::testguest::Synthetic;

const RAM: u64 = 96 << 20;

/// A machine whose low memory stays empty, so that nothing in it gives a hint.
fn empty() -> Machine {
    let mut phys = Phys::sparse();
    phys.add_ram(0..RAM);
    Machine::with(phys, Frames::sequential(&[1 << 20..RAM]))
}

fn machine(plan: &KernelPlan) -> (Machine, Kernel) {
    let mut machine = empty();
    let kernel = Kernel::load(&mut machine, plan);
    (machine, kernel)
}

fn find(machine: Machine) -> Result<Linux, Vec<Step>> {
    Linux::find(&Synthetic::of(machine), &Hints::default()).map_err(|missed| missed.steps)
}

#[track_caller]
fn assert_found(found: &Linux, kernel: &Kernel) {
    let symbols = found.symbols().expect("symbols");
    let seen: Vec<(u64, char, &str)> = symbols.iter().map(|s| (s.va.0, s.kind, s.name)).collect();
    let truth: Vec<(u64, char, &str)> = kernel
        .symbols
        .iter()
        .map(|s| (s.va, s.kind, s.name.as_str()))
        .collect();
    assert_eq!(seen, truth);
    assert_eq!(found.version(), kernel.banner);
    assert_eq!(found.kernel_space().root(), Gpa(kernel.space.root()));
    let mode = match kernel.space.paging() {
        Paging::FiveLevel => Mode::FiveLevel,
        _ => Mode::FourLevel,
    };
    assert_eq!(found.kernel_space().mode(), mode);
}

/// Each arrangement with four and five levels, moved virtually and physically.
fn plans() -> impl Iterator<Item = KernelPlan> {
    Arrangement::ALL
        .into_iter()
        .enumerate()
        .flat_map(|(i, arrangement)| {
            [Paging::FourLevel, Paging::FiveLevel].map(|paging| KernelPlan {
                arrangement,
                paging,
                // phys_base is negative for some and positive for others.
                load: (4 + 6 * i as u64) << 20,
                slide: if i % 2 == 0 { 0 } else { (i as u64 * 34) << 20 },
                ..KernelPlan::default()
            })
        })
}

#[test]
fn every_arrangement_is_found_by_its_note() {
    for plan in plans() {
        let (mut machine, kernel) = machine(&plan);
        kernel.write_note(&mut machine, &kernel.note_lines());
        let found = find(machine).unwrap_or_else(|steps| panic!("{plan:?}: {steps:#?}"));
        assert_found(&found, &kernel);
        assert!(found.steps().iter().any(|step| step.name == "VMCOREINFO"));
    }
}

#[test]
fn every_arrangement_is_found_by_its_shape() {
    for plan in plans() {
        let (machine, kernel) = machine(&plan);
        let found = find(machine).unwrap_or_else(|steps| panic!("{plan:?}: {steps:#?}"));
        assert_found(&found, &kernel);
    }
}

#[test]
fn any_number_of_symbols_is_right() {
    // Around multiples of 256, where the number of markers changes.
    for functions in [1001, 1258, 1259, 1260, 1261, 1262, 1516] {
        let plan = KernelPlan {
            functions,
            arrangement: Arrangement::V6_14,
            ..KernelPlan::default()
        };
        let (machine, kernel) = machine(&plan);
        assert_found(&find(machine).expect("found"), &kernel);
    }
}

#[test]
fn a_note_of_a_kernel_that_does_not_run_is_passed_over() {
    let (mut machine, kernel) = machine(&KernelPlan::default());
    let mut stale = kernel.note_lines();
    for line in &mut stale {
        if line.starts_with("NUMBER(phys_base)") {
            *line = format!("NUMBER(phys_base)={}", kernel.phys_base + (2 << 20));
        }
    }
    let first = kernel.write_note(&mut machine, &stale);
    let second = kernel.write_note(&mut machine, &kernel.note_lines());
    assert!(first < second, "the stale one is met first");
    let found = find(machine).expect("found");
    assert_found(&found, &kernel);
    let roots: Vec<&Step> = found.steps().iter().filter(|s| s.name == "root").collect();
    assert!(roots[0].seen.contains("do not map themselves"), "{roots:?}");
}

#[test]
fn a_note_that_lies_about_symbols_does_not_hide_them() {
    let (mut machine, kernel) = machine(&KernelPlan::default());
    for label in [
        "names",
        "num_syms",
        "token_table",
        "token_index",
        "offsets",
        "relative_base",
    ] {
        let mut machine = machine.clone();
        let mut lines = kernel.note_lines();
        let key = format!("SYMBOL(kallsyms_{label})=");
        let line = lines
            .iter_mut()
            .find(|line| line.starts_with(&key))
            .expect("listed");
        *line = format!("{key}{:x}", kernel.text + 0x40);
        kernel.write_note(&mut machine, &lines);
        let found = find(machine).unwrap_or_else(|steps| panic!("{label}: {steps:#?}"));
        assert_found(&found, &kernel);
    }
    // And one that gives garbage for everything.
    let lines = kernel
        .note_lines()
        .iter()
        .map(|l| l.replace('f', "x"))
        .collect::<Vec<_>>();
    kernel.write_note(&mut machine, &lines);
    assert_found(&find(machine).expect("found by shape"), &kernel);
}

#[test]
fn a_release_that_differs_from_the_banner_is_refused() {
    let (mut machine, kernel) = machine(&KernelPlan::default());
    let mut lines = kernel.note_lines();
    lines[0] = "OSRELEASE=6.1.0-other".into();
    kernel.write_note(&mut machine, &lines);
    // The kernel is still found by its shape, which nothing contradicts.
    let found = find(machine).expect("found");
    assert_found(&found, &kernel);
    let banners: Vec<&Step> = found
        .steps()
        .iter()
        .filter(|s| s.name == "banner")
        .collect();
    assert!(
        banners[0]
            .seen
            .contains("not \"Linux version 6.1.0-other\""),
        "{banners:?}"
    );
}

#[test]
fn copies_of_the_tables_are_passed_over() {
    let (mut machine, kernel) = machine(&KernelPlan {
        load: 64 << 20,
        ..KernelPlan::default()
    });
    // As in the page cache: the same bytes, aligned in the same way or not, and before the image.
    for at in [
        16 << 20,
        (20 << 20) + 0x3000,
        (24 << 20) + kernel.kallsyms_va % (2 << 20),
    ] {
        machine.phys.write(at, &kernel.kallsyms.bytes);
    }
    let found = find(machine).expect("found");
    assert_found(&found, &kernel);
    let refused = found.steps().iter().filter(|s| s.name == "root").count();
    assert_eq!(refused, 4, "{:#?}", found.steps());
}

fn cpu(machine_cpu: vmie_synth::write::Cpu) -> CpuState {
    CpuState {
        cr0: machine_cpu.cr0,
        cr3: machine_cpu.cr3,
        cr4: machine_cpu.cr4,
        efer: Some(machine_cpu.efer),
        ..CpuState::default()
    }
}

/// Two kernels in one memory, as after a warm reboot. Only the second one runs.
fn rebooted() -> (Machine, Kernel, Kernel) {
    let old = KernelPlan::default();
    let new = KernelPlan {
        load: 40 << 20,
        release: "6.1.0-rebooted".into(),
        ..old.clone()
    };
    let mut machine = empty();
    let first = Kernel::load(&mut machine, &old);
    let second = Kernel::load(&mut machine, &new);
    first.write_note(&mut machine, &first.note_lines());
    (machine, first, second)
}

#[test]
fn a_cpu_leads_to_the_kernel_that_runs() {
    let (machine, first, second) = rebooted();
    let phys = Synthetic::of(machine);
    let blind = Linux::find(&phys, &Hints::default()).expect("found");
    assert_eq!(blind.version(), first.banner, "nothing tells them apart");
    let told = Linux::find(&phys, &Hints::of_cpus([cpu(second.space.cpu())])).expect("found");
    assert_found(&told, &second);
    assert_eq!(told.steps()[0].name, "hint");
    // Four-level paging read as five-level leads nowhere, and hints are only hints.
    let wrong = CpuState {
        cr4: cpu(second.space.cpu()).cr4 | 1 << 12,
        ..cpu(second.space.cpu())
    };
    let found = Linux::find(&phys, &Hints::of_cpus([wrong])).expect("found");
    assert_eq!(found.version(), first.banner);
}

#[test]
fn a_note_in_the_headers_of_an_image_leads_to_the_kernel_it_is_of() {
    for plan in plans() {
        let (machine, kernel) = machine(&plan);
        let mut hints = Hints {
            vmcoreinfo: Some(kernel.note_lines().join("\n").into_bytes()),
            ..Hints::default()
        };
        let found = Linux::find(&Synthetic::of(machine.clone()), &hints).expect("found");
        assert_found(&found, &kernel);
        let said = |what: &str| found.steps().iter().any(|step| step.seen.contains(what));
        assert!(said("in the headers of the image"), "{:#?}", found.steps());
        assert!(!said("of any of"), "no page is looked at for another note");
        // What it says is a claim. A made-up one, and what is none, cost a look elsewhere.
        let lines = kernel.note_lines();
        let moved = lines
            .join("\n")
            .replace("SYMBOL(swapper_pg_dir)=ffff", "SYMBOL(swapper_pg_dir)=fff0");
        for text in [
            moved.as_bytes(),
            b"",
            b"OSRELEASE=",
            b"\xff\xfe\n",
            &[b'='; 70_000],
        ] {
            hints.vmcoreinfo = Some(text.to_vec());
            let found = Linux::find(&Synthetic::of(machine.clone()), &hints).expect("found");
            assert_found(&found, &kernel);
        }
    }
    // Of two kernels the one that it is of, and not that whose note lies in memory.
    let (machine, first, second) = rebooted();
    let phys = Synthetic::of(machine);
    for kernel in [&first, &second] {
        let hints = Hints {
            vmcoreinfo: Some(kernel.note_lines().join("\n").into_bytes()),
            ..Hints::default()
        };
        let found = Linux::find(&phys, &hints).expect("found");
        assert_found(&found, kernel);
    }
}

#[test]
fn a_kernel_that_a_cpu_contradicts_does_not_stand_for_a_damaged_one() {
    let (mut machine, first, second) = rebooted();
    let hints = Hints::of_cpus([cpu(second.space.cpu())]);
    // A part of the index is lost, which the tokens tell as well.
    let at = |label: &str| second.gpa(second.kallsyms_va + second.kallsyms.labels[label] as u64);
    machine.phys.write(at("kallsyms_token_index"), &[0xff; 32]);
    let found = Linux::find(&Synthetic::of(machine.clone()), &hints).expect("found");
    assert_found(&found, &second);
    // The symbols of the one that runs are lost; those of the other one are not its.
    machine
        .phys
        .write(at("kallsyms_token_table"), &[0xff; 1024]);
    let found = Linux::find(&Synthetic::of(machine.clone()), &hints).expect("found");
    assert_eq!(found.kernel_space().root(), Gpa(second.space.root()));
    assert_eq!(found.version(), second.banner);
    assert!(found.symbols().expect("none").is_empty());
    assert!(found.findings()[0].text.contains("symbol tables are lost"));
    let said = found.steps().iter().filter(|step| step.name == "cpus");
    assert!(said.count() >= 1, "{:#?}", found.steps());
    assert!(
        found
            .steps()
            .iter()
            .any(|step| step.seen.contains(&first.banner[14..25]))
    );
}

#[test]
fn one_of_several_kernels_can_be_chosen() {
    let (machine, first, second) = rebooted();
    let phys = Synthetic::of(machine);
    let hints = Hints::of_cpus([cpu(second.space.cpu())]);
    for kernel in [&first, &second] {
        let options = FindOptions {
            kernel_at: Some(Gpa(kernel.space.root())),
            ..FindOptions::default()
        };
        let found = Linux::find_with(&phys, &hints, &options).expect("found");
        assert_found(&found, kernel);
    }
    let options = FindOptions {
        kernel_at: Some(Gpa(0x5000)),
        ..FindOptions::default()
    };
    Linux::find_with(&phys, &hints, &options).expect_err("there is none");
    // The one with a note is told beside the one that runs.
    let found = Linux::find(&phys, &hints).expect("found");
    let others = found.other_kernels();
    assert_eq!(others.len(), 1, "{others:?}");
    assert_eq!(others[0].root, Gpa(first.space.root()));
    assert!(
        first
            .banner
            .contains(others[0].version.trim_start_matches("Linux "))
    );
}

#[test]
fn a_root_in_low_memory_leads_to_the_kernel() {
    for plan in plans() {
        let (mut machine, kernel) = machine(&plan);
        let low = 0x9_c000;
        let entry = kernel.space.path(&machine, kernel.text)[0].entry;
        machine.phys.write_uint(low + 8 * 511, entry, 8);
        let found = find(machine).unwrap_or_else(|steps| panic!("{plan:?}: {steps:#?}"));
        assert_found(&found, &kernel);
        assert!(found.steps()[0].seen.starts_with("the page at 0x9c000 ("));
        assert!(!found.steps().iter().any(|step| step.name == "VMCOREINFO"));
    }
}

#[test]
fn a_cpu_in_user_mode_says_nothing() {
    let (mut machine, kernel) = machine(&KernelPlan::default());
    let user = Space::new(&mut machine, Paging::FourLevel);
    let hints = Hints::of_cpus([cpu(user.cpu())]);
    let found = Linux::find(&Synthetic::of(machine), &hints).expect("found");
    assert_found(&found, &kernel);
}

#[test]
fn memory_without_a_kernel_says_what_was_seen() {
    let steps = find(Machine::new(0..4 << 20)).expect_err("nothing there");
    let said: Vec<String> = steps.iter().map(Step::to_string).collect();
    assert_eq!(
        said,
        [
            "hint: neither a CPU nor a page below 1 MiB leads to a kernel image",
            "VMCOREINFO: no note at the start of any of 1024 pages",
            "kallsyms: no token table; 0 runs of digits are not part of one"
        ]
    );
}

#[test]
fn a_kernel_with_functions_only_is_found_by_its_note() {
    let (mut machine, kernel) = machine(&KernelPlan {
        all_symbols: false,
        ..KernelPlan::default()
    });
    kernel.write_note(&mut machine, &kernel.note_lines());
    let found = find(machine).expect("found");
    assert_found(&found, &kernel);
}

#[test]
fn a_kernel_with_functions_only_is_found_by_its_shape() {
    for plan in
        plans().filter(|plan| [Arrangement::V6_1, Arrangement::V7_0].contains(&plan.arrangement))
    {
        let plan = KernelPlan {
            all_symbols: false,
            ..plan
        };
        let (mut machine, kernel) = machine(&plan);
        // A process's page tables lead to the kernel as well, and must not be taken for its own.
        let process = Space::new(&mut machine, plan.paging);
        let top = kernel.space.path(&machine, kernel.text)[0];
        machine
            .phys
            .write_uint(process.root() + 8 * 511, top.entry, 8);
        process.map_new(&mut machine, 0x40_0000, 1, Flags::DATA);
        let found = find(machine).unwrap_or_else(|steps| panic!("{plan:?}: {steps:#?}"));
        assert_found(&found, &kernel);
    }
}

#[test]
fn addresses_are_named() {
    let (machine, kernel) = machine(&KernelPlan::default());
    let found = find(machine).expect("found");
    let symbols = found.symbols().expect("symbols");
    let task = kernel.symbol("init_task");
    let (symbol, offset) = symbols.nearest(Gva(task + 0x10)).expect("named");
    assert_eq!((symbol.name, offset), ("init_task", 0x10));
    assert_eq!(symbols.nearest(Gva(0x6000)), None, "not the per-CPU symbol");
    assert_eq!(symbols.nearest(Gva(kernel.text - 1)), None);
    assert_eq!(symbols.address_of("init_task"), Some(Gva(task)));
}
