//! A guest of which nothing is known but bytes and page tables: no operating system that any reader knows.
//!
//! Small enough to build in a moment, and with one of everything that makes real guests awkward: RAM
//! in two ranges with a hole between them, frames in no order, a large page, a direct map through which
//! every frame is seen a second time, one table under two entries with different rights, a self-map, a
//! page whose frame is absent, and a page that is swapped out.

use super::entry::{Flags, PageSize, Paging};
use super::frames::Frames;
use super::machine::Machine;
use super::phys::{PAGE, Phys};
use super::program::{Encoding, Program, ProgramPlan, Text};
use super::space::Space;
use super::truth::VaRange;
use crate::write::Cpu;

/// The bare guest and the addresses in it that are worth a look. Addresses are virtual unless they
/// are called `gpa`.
#[derive(Clone)]
pub struct Bare {
    /// Memory and tables: 8 MiB of RAM from 0 and 4 MiB from 4 GiB.
    pub machine: Machine,
    /// The address space; its root is what `--cr3` takes.
    pub space: Space,
    /// The CPU's registers, for the notes of an ELF core.
    pub cpu: Cpu,
    /// A program in the user half.
    pub program: Program,
    /// Kernel code: one 2 MiB page, readable and executable, not for user mode.
    pub kernel_text: VaRange,
    /// The kernel's greeting, in its code page.
    pub kernel_banner: Text,
    /// Kernel data: 16 scattered pages.
    pub kernel_data: VaRange,
    /// The direct map of the RAM below the hole, in 2 MiB pages: physical address `p` is seen at
    /// `direct_map.va + p`.
    pub direct_map: VaRange,
    /// The same for the RAM above the hole.
    pub direct_map_high: VaRange,
    /// Which entry of the root refers to the root itself.
    pub self_map_index: u64,
    /// What appears through that entry; the root table itself is the page at `self_map_root`.
    pub self_map: VaRange,
    /// The root table seen through the self-map.
    pub self_map_root: u64,
    /// Memory shared by two views, seen here readable and writable: 3 pages.
    pub shared: VaRange,
    /// The same pages through the same table, where the entry above it forbids writing.
    pub shared_view: VaRange,
    /// A user region of 4 pages in which one page cannot be read.
    pub holed: VaRange,
    /// That page: mapped, but its frame is not in the image.
    pub absent_page: u64,
    /// Its frame, in the hole between the two ranges of RAM.
    pub absent_gpa: u64,
    /// The page before `holed`, which is swapped out: its entry is not zero, but not present.
    pub swapped_page: u64,
}

const LOW_RAM: std::ops::Range<u64> = 0..8 << 20;
const HIGH_RAM: std::ops::Range<u64> = 4 << 30..(4 << 30) + (4 << 20);
const MIB_2: u64 = 2 << 20;

/// Builds the bare guest. It is the same every time.
pub fn bare() -> Bare {
    let mut phys = Phys::sparse();
    phys.add_ram(LOW_RAM);
    phys.add_ram(HIGH_RAM);
    // As on a PC, the first MiB is not for general use.
    let pool = [1 << 20..LOW_RAM.end, HIGH_RAM];
    let mut machine = Machine::with(phys, Frames::scattered(&pool, 0x7669));
    // Set apart before frames are handed out, while a whole 2 MiB is free.
    let kernel_gpa = machine.frames.alloc_block(MIB_2, MIB_2);
    let space = Space::new(&mut machine, Paging::FourLevel);
    let m = &mut machine;

    let program = Program::place(m, &space, &ProgramPlan::default());
    let (kernel_text, kernel_banner) = kernel_code(m, &space, kernel_gpa);
    let kernel_data = VaRange {
        va: 0xffff_ffff_8200_0000,
        len: 16 * PAGE,
    };
    space.map_new(m, kernel_data.va, 16, Flags::KERNEL_DATA);
    let directory = kernel_data.va + 0x40;
    space.write_u64(m, directory, program.world.va);
    space.write_u64(m, directory + 8, kernel_banner.va);

    let direct = 0xffff_8880_0000_0000;
    let direct_map = map_all(m, &space, direct, &LOW_RAM);
    let direct_map_high = map_all(m, &space, direct, &HIGH_RAM);

    let (shared, shared_view) = share_pages(m, &space);
    let Journal {
        holed,
        absent_page,
        absent_gpa,
        swapped_page,
    } = journal(m, &space, 0x0000_0001_23ff_f800);

    let self_map_index = 0x1ed;
    let self_map_at = |levels: u32| {
        let path = (0..levels).fold(0, |va, level| va | self_map_index << (39 - 9 * level));
        Paging::FourLevel.canonical(path)
    };
    space.self_map(m, self_map_index, Flags::KERNEL_DATA);

    let mut cpu = space.cpu();
    cpu.rip = program.function("report").va;
    cpu.rsp = program.rsp;
    Bare {
        cpu,
        program,
        kernel_text,
        kernel_banner,
        kernel_data,
        direct_map,
        direct_map_high,
        self_map_index,
        self_map: VaRange {
            va: self_map_at(1),
            len: 1 << 39,
        },
        self_map_root: self_map_at(4),
        shared,
        shared_view,
        holed,
        absent_page,
        absent_gpa,
        swapped_page,
        space,
        machine,
    }
}

/// A 2 MiB page of code: functions that do nothing, and a greeting.
fn kernel_code(machine: &mut Machine, space: &Space, gpa: u64) -> (VaRange, Text) {
    let range = VaRange {
        va: 0xffff_ffff_8100_0000,
        len: MIB_2,
    };
    let size = PageSize::Size2M;
    space.map(machine, range.va, gpa, size, Flags::KERNEL_CODE);
    let banner = Text {
        va: range.va + 0x1_8000,
        encoding: Encoding::Ascii,
        text: "Demo kernel 1.0, built for looking into".into(),
    };
    // push rbp; mov rbp, rsp; mov eax, N; pop rbp; ret; padding to 16 bytes.
    for number in 0..0x400u32 {
        let mut code = [0xcc; 16];
        code[..5].copy_from_slice(&[0x55, 0x48, 0x89, 0xe5, 0xb8]);
        code[5..9].copy_from_slice(&number.to_le_bytes());
        code[9..11].copy_from_slice(&[0x5d, 0xc3]);
        space.write(machine, range.va + u64::from(number) * 16, &code);
    }
    space.write(machine, banner.va, &banner.bytes());
    (range, banner)
}

/// Maps all of `ram` at `base` plus its physical address.
fn map_all(machine: &mut Machine, space: &Space, base: u64, ram: &std::ops::Range<u64>) -> VaRange {
    for gpa in ram.clone().step_by(MIB_2 as usize) {
        let size = PageSize::Size2M;
        space.map(machine, base + gpa, gpa, size, Flags::KERNEL_DATA);
    }
    VaRange {
        va: base + ram.start,
        len: ram.end - ram.start,
    }
}

/// Three pages under one table that two entries refer to.
pub(crate) fn share_pages(machine: &mut Machine, space: &Space) -> (VaRange, VaRange) {
    let [first, second] =
        [0x7f10_0000_0000, 0x7f20_0000_0000].map(|va| VaRange { va, len: 3 * PAGE });
    space.map_new(machine, first.va, 3, Flags::DATA);
    let read_only = Flags::of(false, true, false);
    space.share_table(machine, 2, first.va, second.va, read_only);
    space.write(machine, first.va + 0x20, b"message queue: empty\0");
    (first, second)
}

/// A region with a hole, and what is before it.
pub(crate) struct Journal {
    /// Four pages.
    pub(crate) holed: VaRange,
    /// The third of them: its frame is where there is no RAM.
    pub(crate) absent_page: u64,
    pub(crate) absent_gpa: u64,
    /// The page before them: its entry is not zero, but not present.
    pub(crate) swapped_page: u64,
}

/// Four pages, the third of which has its frame where there is no RAM, behind one whose entry is `swapped`. Numbered
/// records run through them, so that what is missing can be told.
pub(crate) fn journal(machine: &mut Machine, space: &Space, swapped: u64) -> Journal {
    let absent_gpa = 0xa000_0000;
    let range = VaRange {
        va: 0x7f30_0000_1000,
        len: 4 * PAGE,
    };
    let mut frames: Vec<u64> = (0..4).map(|_| space.alloc(machine)).collect();
    frames[2] = absent_gpa;
    space.map_frames(machine, range.va, &frames, Flags::DATA);
    for at in (0..range.len).step_by(32) {
        if at / PAGE != 2 {
            let record = format!("journal record {:05}", at / 32);
            space.write(machine, range.va + at, record.as_bytes());
        }
    }
    let swapped_page = range.va - PAGE;
    space.poke_entry(machine, 1, swapped_page, swapped);
    Journal {
        holed: range,
        absent_page: range.va + 2 * PAGE,
        absent_gpa,
        swapped_page,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::Rights;

    #[test]
    fn holds_what_it_promises() {
        let guest = bare();
        let truth = guest.space.truth(&guest.machine);
        assert_eq!(guest.machine.phys.ranges(), [LOW_RAM, HIGH_RAM]);
        assert_eq!(guest.machine.phys.ram_bytes(), 12 << 20);
        let rights = |va| truth.lookup(va).expect("mapped").rights;
        let of = |write, user, exec| Rights { write, user, exec };

        assert_eq!(
            truth.lookup(guest.kernel_text.va).expect("mapped").size,
            MIB_2
        );
        assert_eq!(rights(guest.kernel_banner.va), of(false, false, true));
        assert_eq!(rights(guest.program.text.va), of(false, true, true));
        assert_eq!(rights(guest.program.world.va), of(true, true, false));

        assert_eq!(rights(guest.shared.va), of(true, true, false));
        assert_eq!(rights(guest.shared_view.va), of(false, true, false));
        for page in 0..3 {
            assert_eq!(
                truth.translate(guest.shared.va + page * PAGE),
                truth.translate(guest.shared_view.va + page * PAGE)
            );
        }

        assert_eq!(truth.translate(guest.absent_page), Some(guest.absent_gpa));
        assert!(!guest.machine.phys.contains(guest.absent_gpa, 1));
        let region = truth.regions();
        let region = region.iter().find(|r| r.range.contains(guest.absent_page));
        assert_eq!(region.expect("mapped").range, guest.holed);
        assert_eq!(truth.translate(guest.swapped_page), None);
        let step = guest.space.path(&guest.machine, guest.swapped_page)[3];
        assert!(step.entry != 0 && step.entry & 1 == 0);

        assert_eq!(
            truth.translate(guest.self_map_root),
            Some(guest.space.root())
        );
        assert!(guest.self_map.contains(guest.self_map_root));
        assert_eq!(
            truth.translate(guest.direct_map_high.va + 0x1234),
            Some(HIGH_RAM.start + 0x1234)
        );
    }

    #[test]
    fn the_signature_crosses_frames_that_are_far_apart() {
        let guest = bare();
        let truth = guest.space.truth(&guest.machine);
        let border = (guest.program.signature_va + PAGE) & !(PAGE - 1);
        let before = truth.translate(border - 1).expect("code");
        let behind = truth.translate(border).expect("code");
        assert!(before.abs_diff(behind) > 2 * PAGE);
    }

    #[test]
    fn uses_frames_on_both_sides_of_the_hole() {
        let guest = bare();
        let truth = guest.space.truth(&guest.machine);
        let range = guest.program.text.va..guest.program.data.va;
        let pages = truth.pages.iter().filter(|p| range.contains(&p.va));
        let high = pages.filter(|p| p.gpa >= HIGH_RAM.start).count();
        assert!((1..5).contains(&high), "{high} of 5 pages are above");
    }

    #[test]
    fn is_the_same_every_time() {
        let (one, two) = (bare(), bare());
        let image = |guest: &Bare| {
            let phys = &guest.machine.phys;
            let mut image = Vec::new();
            crate::write::raw(&mut image, phys.ranges(), &mut &*phys).expect("RAM");
            image
        };
        assert!(image(&one) == image(&two));
        assert_eq!(one.cpu, two.cpu);
    }
}
