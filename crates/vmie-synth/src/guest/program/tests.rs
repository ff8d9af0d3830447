//! The program in memory against what is said about it.

use super::*;
use crate::guest::phys::PAGE;

fn placed(end: ListEnd) -> (Machine, Space, Program) {
    let mut machine = Machine::scattered(0x1000..0x100_0000, 4);
    let space = Space::new(&mut machine, Paging::FourLevel);
    let plan = ProgramPlan {
        end,
        ..ProgramPlan::default()
    };
    let program = Program::place(&mut machine, &space, &plan);
    (machine, space, program)
}

fn read(machine: &Machine, space: &Space, range: VaRange) -> Vec<u8> {
    let truth = space.truth(machine);
    let byte = |va| {
        let gpa = truth.translate(va).expect("mapped");
        let mut byte = [0];
        machine.phys.read(gpa, &mut byte).expect("RAM");
        byte[0]
    };
    (range.va..range.va + range.len).map(byte).collect()
}

fn qword(machine: &Machine, space: &Space, va: u64) -> u64 {
    let bytes = read(machine, space, VaRange { va, len: 8 });
    u64::from_le_bytes(bytes.try_into().expect("eight"))
}

#[test]
fn the_list_is_reached_from_the_static_pointer() {
    for end in [ListEnd::Null, ListEnd::Ring, ListEnd::SelfLoop] {
        let (machine, space, program) = placed(end);
        let qword = |va| qword(&machine, &space, va);
        let world = qword(program.root_pointer);
        assert_eq!(world, program.world.va);
        assert_eq!(qword(world), program.vtables[0]);
        let mut at = qword(world + 0x10);
        for (ship, cargo) in program.ships.iter().zip(&program.cargo) {
            assert_eq!(at, ship.va);
            assert_eq!(qword(at), program.vtables[1]);
            assert_eq!(f64::from_bits(qword(at + 0x30)), ship.position[2]);
            assert_eq!(qword(at + 0x18) as u32, ship.health.to_bits());
            assert_eq!(qword(qword(at + 0x40) + 0x18), ship.va, "cargo's owner");
            assert_eq!(qword(cargo.va + 0x20) as i64, cargo.balance);
            at = qword(at + 0x38);
        }
        let last = program.ships.last().expect("eight ships");
        let expected = match end {
            ListEnd::Null => 0,
            ListEnd::Ring => program.ships[0].va,
            ListEnd::SelfLoop => last.va,
        };
        assert_eq!(at, expected);
        for pointer in &program.pointers {
            assert_eq!(qword(pointer.at), pointer.to);
        }
        assert!(program.pointers.is_sorted_by(|a, b| a.at < b.at));
        let crossing = program.ships.iter().filter(|s| s.va % PAGE > PAGE - 0x60);
        assert_eq!(crossing.count(), 1);
    }
}

#[test]
fn pointers_are_all_the_pointers() {
    let (machine, space, program) = placed(ListEnd::Null);
    let parts = [program.rodata, program.data, program.heap, program.stack];
    let inside = |va| {
        let all = parts.iter().chain([&program.text]);
        all.into_iter().any(|part| part.contains(va))
    };
    let mut found = Vec::new();
    for part in parts {
        let bytes = read(&machine, &space, part);
        for (i, bytes) in bytes.chunks_exact(8).enumerate() {
            let to = u64::from_le_bytes(bytes.try_into().expect("eight"));
            if inside(to) {
                let at = part.va + i as u64 * 8;
                found.push(Pointer { at, to });
            }
        }
    }
    assert_eq!(found, program.pointers);
}

#[test]
fn texts_are_in_memory() {
    let (machine, space, program) = placed(ListEnd::Null);
    assert!(program.texts.contains(&program.banner));
    for text in &program.texts {
        let bytes = text.bytes();
        let range = VaRange {
            va: text.va,
            len: bytes.len() as u64 + 2,
        };
        let found = read(&machine, &space, range);
        assert_eq!(found[..bytes.len()], bytes, "{}", text.text);
        assert_eq!(found[bytes.len()..], [0, 0], "{} has an end", text.text);
    }
}

#[test]
fn the_signature_matches_once_across_a_border() {
    let (machine, space, program) = placed(ListEnd::Null);
    let code = read(&machine, &space, program.text);
    let pattern: Vec<Option<u8>> = program
        .signature
        .split(' ')
        .map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect();
    let matches: Vec<u64> = code
        .windows(pattern.len())
        .zip(program.text.va..)
        .filter(|(window, _)| {
            let pairs = window.iter().zip(&pattern);
            pairs.into_iter().all(|(b, p)| p.is_none_or(|p| p == *b))
        })
        .map(|(_, va)| va)
        .collect();
    assert_eq!(matches, [program.signature_va]);

    let border = program.text.va + PAGE;
    let first = program
        .references
        .iter()
        .find(|r| r.va == program.signature_va)
        .expect("it begins with a reference");
    assert!(first.va < border && border < first.va + 7);
    assert_eq!(first.target, program.root_pointer);
    let truth = space.truth(&machine);
    assert_ne!(
        truth.translate(border - 1).map(|gpa| gpa + 1),
        truth.translate(border)
    );
}

/// Displacements are decoded from the bytes and compared with the list.
#[test]
fn references_are_in_the_code() {
    let (machine, space, program) = placed(ListEnd::Null);
    let code = read(&machine, &space, program.text);
    assert!(program.references.len() > 15);
    for reference in &program.references {
        let at = (reference.va - program.text.va) as usize;
        let bytes = &code[at..at + usize::from(reference.len)];
        let end = reference.va + u64::from(reference.len);
        let tail = match bytes[0] {
            0xc7 => 4,
            0x80 => 1,
            _ => 0,
        };
        let target = match bytes {
            [0x74, disp] => end.wrapping_add(i64::from(*disp as i8) as u64),
            [0x48, 0xb8, imm @ ..] => u64::from_le_bytes(imm.try_into().expect("eight")),
            _ => {
                let disp = &bytes[bytes.len() - tail - 4..bytes.len() - tail];
                let disp = i32::from_le_bytes(disp.try_into().expect("four"));
                end.wrapping_add(i64::from(disp) as u64)
            }
        };
        assert_eq!(target, reference.target, "{reference:x?}");
    }
}

#[test]
fn the_smallest_and_the_largest_list_fit() {
    for (ships, pages) in [(1, 1), (4, 1), (5, 2), (20, 5)] {
        let mut machine = Machine::new(0x1000..0x100_0000);
        let space = Space::new(&mut machine, Paging::FiveLevel);
        let plan = ProgramPlan {
            ships,
            ..ProgramPlan::default()
        };
        let program = Program::place(&mut machine, &space, &plan);
        assert_eq!(program.heap.len, pages * PAGE);
        let table_end = program.world.table + ships * 8;
        assert!(table_end <= program.ships[0].va);
        let last = qword(&machine, &space, table_end - 8);
        assert_eq!(last, program.ships[ships as usize - 1].va);
    }
}
