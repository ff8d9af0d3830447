//! How wide programs are: what each place says on its own, and what is made of places that contradict each other.

use vmie_synth::guest::{Machine, Rng};
use vmie_synth::linux::{Era, Program, Programs, Sort};

use crate::hints::Hints;
use crate::os::linux::Linux;
use crate::os::{
    FindingKind, Guest, OsError, Process, ProcessState, ProcessSystem, ProcessWidth, elf,
};
use crate::testguest::Synthetic;
use crate::width::{CodeBits, ProgramWidth, Width};

const ERAS: [Era; 3] = [Era::Compat, Era::Flags, Era::Ordered];
const SORTS: [Sort; 3] = [Sort::I386, Sort::X32, Sort::X86_64];

const RECORD: &str = "the kernel's record of its memory";
const HEADER: &str = "the header of its program";
const FLAGS: &str = "the flags of its first thread";
const SEGMENT: &str = "the code segment of its first thread";

fn is(sort: Sort) -> ProgramWidth {
    match sort {
        Sort::I386 => ProgramWidth::I386,
        Sort::X32 => ProgramWidth::X32,
        Sort::X86_64 => ProgramWidth::X86_64,
    }
}

/// What is found out about each of these programs.
fn widths(era: Era, programs: &[Program]) -> Vec<ProcessWidth> {
    let mut machine = Machine::new(0..32 << 20);
    Programs::load(&mut machine, era, programs);
    let linux = Linux::find(&Synthetic::of(machine), &Hints::default()).expect("a kernel");
    let listing = linux.processes().expect("its processes");
    assert_eq!(listing.findings, []);
    let pids: Vec<u32> = listing.items.iter().map(|process| process.pid).collect();
    let expected: Vec<u32> = programs.iter().map(|program| program.pid).collect();
    assert_eq!(pids, expected);
    let width = |process| linux.width_of(process).expect("it has memory");
    listing.items.iter().map(width).collect()
}

fn of(era: Era, program: Program) -> ProcessWidth {
    widths(era, &[program]).pop().expect("one")
}

fn silent(pid: u32) -> Program {
    Program {
        pid,
        name: "silent",
        record: None,
        header: None,
        flags: None,
        segment: None,
    }
}

fn names(told: &ProcessWidth) -> Vec<&'static str> {
    told.signs.iter().map(|sign| sign.name).collect()
}

#[test]
fn places_that_agree_have_no_findings() {
    for era in ERAS {
        let programs: Vec<Program> = (1..)
            .zip(SORTS)
            .map(|(pid, sort)| Program::of(pid, "whole", sort))
            .collect();
        for (told, sort) in widths(era, &programs).iter().zip(SORTS) {
            assert_eq!(told.width, is(sort), "{era:?}");
            assert_eq!(told.findings, [], "{era:?} {sort:?}");
            // Nothing set is nothing said, and so is a record without a mark.
            let mut expected = vec![HEADER, SEGMENT];
            if era == Era::Compat || sort != Sort::X32 {
                expected.insert(0, RECORD);
            }
            if sort != Sort::X86_64 {
                expected.insert(expected.len() - 1, FLAGS);
            }
            assert_eq!(names(told), expected, "{era:?} {sort:?}");
            assert!(told.grounds().eq(expected));
        }
    }
}

#[test]
fn each_place_is_believed_on_its_own() {
    let pointers = |pointers| ProgramWidth {
        pointers: Some(pointers),
        code: None,
    };
    let code = |code| ProgramWidth {
        pointers: None,
        code: Some(code),
    };
    for era in ERAS {
        for sort in SORTS {
            let one = |program: Program| of(era, program).width;
            let record = one(Program {
                record: Some(sort),
                ..silent(1)
            });
            match (era, sort) {
                (Era::Flags | Era::Ordered, Sort::X32) => assert_eq!(record, ProgramWidth::UNKNOWN),
                _ => assert_eq!(record, is(sort), "{era:?}"),
            }
            let header = one(Program {
                header: Some(sort),
                ..silent(1)
            });
            assert_eq!(header, is(sort));
            let flags = one(Program {
                flags: Some(sort),
                ..silent(1)
            });
            let expected = match (era, sort) {
                (_, Sort::X86_64) => ProgramWidth::UNKNOWN,
                (Era::Compat, _) => is(sort),
                // The flag is that of both.
                _ => pointers(Width::Four),
            };
            assert_eq!(flags, expected, "{era:?} {sort:?}");
            let segment = one(Program {
                segment: Some(sort),
                ..silent(1)
            });
            let expected = match sort {
                // 32-bit code has no other pointers.
                Sort::I386 => ProgramWidth::I386,
                _ => code(CodeBits::B64),
            };
            assert_eq!(segment, expected);
        }
        let nothing = of(era, silent(1));
        assert_eq!(nothing, ProcessWidth::default(), "{era:?}");
    }
}

#[test]
fn the_strongest_decides_and_the_others_are_findings() {
    let told = |era, change: fn(&mut Program)| {
        let mut program = Program::of(7, "doctored", Sort::I386);
        change(&mut program);
        let told = of(era, program);
        let findings: Vec<String> = told
            .findings
            .iter()
            .map(|finding| {
                assert_eq!(finding.kind, FindingKind::Inconsistent);
                assert!(finding.at.is_some());
                finding.text.clone()
            })
            .collect();
        (told.width, findings)
    };
    let begins = "process 7 (doctored) has";
    let narrow = "32-bit code and pointers";
    let wide = "64-bit code and pointers";
    for era in ERAS {
        let (width, findings) = told(era, |program| program.header = Some(Sort::X86_64));
        assert_eq!(width, ProgramWidth::I386);
        assert_eq!(
            findings,
            [format!(
                "{begins} {narrow} by {RECORD}, but {wide} by {HEADER}"
            )]
        );

        let (width, findings) = told(era, |program| program.segment = Some(Sort::X86_64));
        assert_eq!(width, ProgramWidth::I386);
        assert_eq!(
            findings,
            [format!(
                "{begins} {narrow} by {RECORD}, but 64-bit code by {SEGMENT}"
            )]
        );

        // The record against all others: each of those is told.
        let (width, findings) = told(era, |program| program.record = Some(Sort::X86_64));
        assert_eq!(width, ProgramWidth::X86_64);
        let flags = match era {
            Era::Compat => narrow,
            _ => "32-bit pointers",
        };
        let expected = [(narrow, HEADER), (flags, FLAGS), ("32-bit code", SEGMENT)];
        let expected =
            expected.map(|(says, by)| format!("{begins} {wide} by {RECORD}, but {says} by {by}"));
        assert_eq!(findings, expected);

        // Without a record the header decides.
        let (width, findings) = told(era, |program| {
            program.record = None;
            program.header = Some(Sort::X32);
        });
        assert_eq!(width, ProgramWidth::X32);
        assert!(
            findings
                .iter()
                .all(|text| text.contains(&format!(" by {HEADER}, but ")))
        );
        assert_eq!(findings.len(), if era == Era::Compat { 2 } else { 1 });
    }
    // 64-bit programs in 32-bit code, as those are that do not want to be seen.
    let mut gate = Program::of(7, "gate", Sort::X86_64);
    gate.segment = Some(Sort::I386);
    let told = of(Era::Flags, gate);
    assert_eq!(told.width, ProgramWidth::X86_64);
    assert_eq!(told.findings.len(), 1);
    assert!(told.grounds().eq([RECORD, HEADER]));
}

#[test]
fn without_memory_there_is_no_program() {
    let mut machine = Machine::new(0..32 << 20);
    Programs::load(&mut machine, Era::Flags, &[silent(1)]);
    let linux = Linux::find(&Synthetic::of(machine), &Hints::default()).expect("a kernel");
    let listing = linux.processes().expect("its processes");
    let thread = Process {
        root: None,
        system: ProcessSystem::default(),
        kernel: true,
        state: ProcessState::Idle,
        ..listing.items[0].clone()
    };
    let error = linux.width_of(&thread).expect_err("none");
    assert!(matches!(error, OsError::NoMemory { .. }));
}

#[test]
fn identities_of_programs() {
    let identity = |class: u8, order: u8, machine: u16| {
        let mut bytes = [0; elf::IDENTITY];
        bytes[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, order]);
        bytes[18..].copy_from_slice(&machine.to_le_bytes());
        elf::program_width(&bytes)
    };
    assert_eq!(identity(1, 1, 3), Some(ProgramWidth::I386));
    assert_eq!(identity(1, 1, 6), Some(ProgramWidth::I386));
    assert_eq!(identity(1, 1, 62), Some(ProgramWidth::X32));
    assert_eq!(identity(2, 1, 62), Some(ProgramWidth::X86_64));
    // Big-endian, a class that there is not, other machines, and no ELF.
    for (class, order, machine) in [(1, 2, 3), (3, 1, 62), (0, 1, 62), (2, 1, 183), (2, 1, 3)] {
        assert_eq!(identity(class, order, machine), None);
    }
    assert_eq!(elf::program_width(&[0; elf::IDENTITY]), None);
}

#[test]
fn damaged_records_are_no_more_than_silent_or_contradicted() {
    let mut machine = Machine::new(0..32 << 20);
    let programs = [
        Program::of(1, "one", Sort::I386),
        Program::of(2, "two", Sort::X86_64),
    ];
    Programs::load(&mut machine, Era::Flags, &programs);
    // All that is not the kernel's image and says something: tasks, memory descriptors, stacks, tables.
    let words: Vec<u64> = (0..4 << 20)
        .chain(14 << 20..32 << 20)
        .step_by(8)
        .filter(|&gpa| machine.phys.read_uint(gpa, 8).is_ok_and(|word| word != 0))
        .collect();
    let mut rng = Rng::new(7);
    let mut asked = 0;
    for _ in 0..60 {
        let mut machine = machine.clone();
        for _ in 0..3 {
            let value = match rng.below(4) {
                0 => u64::MAX - rng.below(64),
                1 => 0xffff_8880_0000_0000 + rng.below(33 << 20),
                2 => rng.below(1 << 30),
                _ => 0xffff_ffff_ffff_f000,
            };
            let at = words[rng.below(words.len() as u64) as usize];
            machine.phys.write_uint(at, value, 8);
        }
        let Ok(linux) = Linux::find(&Synthetic::of(machine), &Hints::default()) else {
            continue;
        };
        let listing = linux.processes().unwrap_or_default();
        for process in &listing.items {
            asked += usize::from(linux.width_of(process).is_ok());
        }
    }
    assert!(asked > 60, "{asked}");
}
