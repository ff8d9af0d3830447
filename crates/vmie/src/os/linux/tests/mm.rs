//! What a process's memory says of itself: its roots with and without page-table isolation, and
//! whether it has the page of old system calls.

use vmie_synth::guest::{Flags, Machine, PageSize, Paging, Space};

use super::world::{Definition, World, types};
use crate::addr::{Gpa, Gva};
use crate::memory::Memory;
use crate::os::Types;
use crate::os::linux::linear::Linear;
use crate::os::linux::mm::{Mm, MmPlan, Roots};
use crate::os::object::BadLink;
use crate::paging::{AddressSpace, Mode};
use crate::testguest::Synthetic;

const PAGE: u64 = 4096;
const NO_EXEC: u64 = 1 << 63;
/// Accessed and dirty.
const TOUCHED: u64 = 0x60;

/// Where the kernel sees all physical memory.
const DIRECT: u64 = 0xffff_8880_0000_0000;

/// An entry of a top table: present, writable, for user mode.
const ENTRY: u64 = 7;

const MEMBERS: [(&str, &str, u32); 9] = [
    ("pgd", "ptr", 0x20),
    ("arg_start", "u64", 0x28),
    ("arg_end", "u64", 0x30),
    ("env_start", "u64", 0x38),
    ("env_end", "u64", 0x40),
    ("start_brk", "u64", 0x48),
    ("brk", "u64", 0x50),
    ("start_stack", "u64", 0x58),
    ("map_count", "u32", 0x60),
];

/// `mm_struct`, with these members of its `context`.
fn definitions(context: &[(&str, &str, u32)]) -> Types {
    let mut members = MEMBERS.to_vec();
    if !context.is_empty() {
        members.push(("context", "mm_context_t", 0x70));
    }
    let all: &[Definition<'_>] = &[
        ("mm_context_t", 0x10, context),
        ("mm_struct", 0x80, &members),
    ];
    types(all, &[])
}

fn mm(world: &World, at: u64, types: &Types) -> Mm {
    let plan = MmPlan::new(types, &mut Vec::new()).expect("all members are there");
    plan.read(world, at).expect("is mapped")
}

/// A process's two top tables, the first at an even frame, as physical memory has them.
struct Tables {
    machine: Machine,
    kernel: Space,
    first: u64,
}

impl Tables {
    /// Two empty tables, of which the kernel sees the whole of memory.
    fn new() -> Self {
        let mut machine = Machine::new(0..4 << 20);
        let kernel = Space::new(&mut machine, Paging::FourLevel);
        let flags = Flags::KERNEL_DATA;
        for gpa in [0, 2 << 20] {
            kernel.map(&mut machine, DIRECT + gpa, gpa, PageSize::Size2M, flags);
        }
        let first = machine.frames.alloc_block(2 * PAGE, 2 * PAGE);
        Self {
            machine,
            kernel,
            first,
        }
    }

    /// The same with these entries in the first table, and in the second.
    fn with(first: &[(u64, u64)], second: &[(u64, u64)]) -> Self {
        let mut tables = Self::new();
        for (table, entries) in [(0, first), (1, second)] {
            for &(index, entry) in entries {
                let at = tables.first + table * PAGE + 8 * index;
                tables.machine.phys.write(at, &entry.to_le_bytes());
            }
        }
        tables
    }

    /// What is found for a process whose `pgd` leads here.
    fn roots(self, pgd: u64) -> Result<Roots, BadLink> {
        let mut world = World::new();
        let at = world.room(0x80);
        world.put64(at + 0x20, pgd);
        let mm = mm(&world, at, &definitions(&[]));
        let root = Gpa(self.kernel.root());
        let kernel = AddressSpace::new(Synthetic::of(self.machine), root, Mode::FourLevel);
        mm.roots(&Linear::new(&kernel, Vec::new()))
    }

    /// The user's root, which is the second table or none.
    fn has_user_root(self) -> bool {
        let first = self.first;
        let roots = self.roots(DIRECT + first).expect("pgd leads to memory");
        assert_eq!(roots.full, Gpa(first));
        match roots.user {
            Some(user) => {
                assert_eq!(user, Gpa(first + PAGE));
                true
            }
            None => false,
        }
    }
}

/// Entries of a process's user half: program, libraries, and the stack at its end.
const USER_HALF: [(u64, u64); 3] = [
    (0xaa, 0x12_3000 | ENTRY | TOUCHED),
    (0xfe, 0x12_4000 | ENTRY),
    (0xff, 0x12_5000 | ENTRY | TOUCHED),
];

/// Entries of a kernel's half.
const KERNEL_HALF: [(u64, u64); 2] = [(0x111, 0x20_1000 | 3), (0x1ff, 0x20_2000 | 3)];

#[test]
fn isolation_is_told_by_tables_that_agree() {
    // The kernel's copy of the user half forbids execution; the CPU marks each as it uses it; the
    // user's kernel half has little in it.
    let kernel: Vec<_> = USER_HALF
        .iter()
        .map(|&(index, entry)| (index, entry | NO_EXEC))
        .chain(KERNEL_HALF)
        .collect();
    let user: Vec<_> = USER_HALF
        .iter()
        .map(|&(index, entry)| (index, entry & !TOUCHED))
        .chain([(0x1fe, 0x30_0000 | 3)])
        .collect();
    assert!(Tables::with(&kernel, &user).has_user_root());
}

#[test]
fn what_is_behind_another_table_is_not_its_user_half() {
    let kernel: Vec<_> = USER_HALF.iter().copied().chain(KERNEL_HALF).collect();
    // Nothing; all of it the same but for one entry; an entry that the other does not have; another
    // process's; other rights.
    let mut moved = USER_HALF.to_vec();
    moved[1].1 += PAGE;
    let mut more = USER_HALF.to_vec();
    more.push((3, 0x15_0000 | ENTRY));
    let mut rights = USER_HALF.to_vec();
    rights[0].1 &= !2;
    for second in [&[][..], &USER_HALF[1..], &moved, &more, &rights] {
        assert!(
            !Tables::with(&kernel, second).has_user_root(),
            "{second:x?}"
        );
    }
    // The test can tell: nothing else is different.
    assert!(Tables::with(&kernel, &USER_HALF).has_user_root());
}

#[test]
fn nothing_mapped_is_nothing_to_agree_in() {
    assert!(!Tables::with(&KERNEL_HALF, &[]).has_user_root());
    // Entries that are not present, as swapped-out ones are not.
    let absent = [(5, 0x1000 | TOUCHED)];
    assert!(!Tables::with(&absent, &absent).has_user_root());
}

#[test]
fn both_tables_are_one_aligned_allocation() {
    // The second table alone, with a third behind it that agrees.
    let mut tables = Tables::with(&USER_HALF, &USER_HALF);
    let second = tables.first + PAGE;
    let third = tables.machine.frames.alloc();
    if third != second + PAGE {
        assert!(tables.machine.frames.try_take(second + PAGE));
    }
    for (index, entry) in USER_HALF {
        let at = second + PAGE + 8 * index;
        tables.machine.phys.write(at, &entry.to_le_bytes());
    }
    let roots = tables.roots(DIRECT + second).expect("leads to memory");
    assert_eq!((roots.full, roots.user), (Gpa(second), None));
}

#[test]
fn a_second_table_outside_of_memory_is_none() {
    // The last frames there are: the table behind the first is not in memory.
    let mut machine = Machine::new(0..(4 << 20) - PAGE);
    let kernel = Space::new(&mut machine, Paging::FourLevel);
    let first = (4 << 20) - 2 * PAGE;
    assert!(machine.frames.try_take(first));
    kernel.map(
        &mut machine,
        DIRECT + first,
        first,
        PageSize::Size4K,
        Flags::KERNEL_DATA,
    );
    for (index, entry) in USER_HALF {
        machine.phys.write(first + 8 * index, &entry.to_le_bytes());
    }
    let tables = Tables {
        machine,
        kernel,
        first,
    };
    assert!(!tables.has_user_root());
}

#[test]
fn page_tables_that_are_nowhere_are_told() {
    type Is = fn(&BadLink) -> bool;
    let cases: &[(u64, Is)] = &[
        (0, |bad| *bad == BadLink::Null),
        (0x5555_0000_1000, |bad| matches!(bad, BadLink::User(_))),
        (DIRECT + 0x10_0800, |bad| {
            matches!(bad, BadLink::Unaligned(_))
        }),
        (0xffff_9999_0000_0000, |bad| {
            matches!(bad, BadLink::Fault { .. })
        }),
    ];
    for (pgd, is) in cases {
        let roots = Tables::with(&USER_HALF, &USER_HALF).roots(*pgd);
        let bad = roots.expect_err("leads nowhere");
        assert!(is(&bad), "{pgd:#x}: {bad:?}");
    }
}

#[test]
fn the_page_of_old_system_calls() {
    let flags: &[(&str, &str, u32)] = &[("flags", "u16", 4)];
    let compat: &[(&str, &str, u32)] = &[("ia32_compat", "u16", 4)];
    for (context, value, expected) in [
        // Since 5.11 a bit says that there is one, beside others.
        (flags, 0_u16, false),
        (flags, 1, false),
        (flags, 2, true),
        (flags, 7, true),
        // Before, it is there unless the program has 32 bits.
        (compat, 0, true),
        (compat, 17, false),
        (&[], 0, false),
    ] {
        let mut world = World::new();
        let at = world.room(0x80);
        world.put(at + 0x74, &value.to_le_bytes());
        assert!(world.read_u64(Gva(at)).is_ok());
        let mm = mm(&world, at, &definitions(context));
        assert_eq!(mm.has_vsyscall(), expected, "{context:?} {value}");
    }
}
