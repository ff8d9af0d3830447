//! The guest of the guided tour: a small Linux machine in which a program runs that is worth a look.
//!
//! Small enough to build in a moment, and with one of everything that makes real guests awkward: RAM in two ranges
//! with a hole between them, frames in no order, large pages, a kernel that is not where it was linked to be, memory
//! that two views share with different rights, a page whose frame is absent, and a page that is swapped out.
//!
//! ```text
//! types      the kernel's types, as BTF
//! processes  tasks, numbers, mapped regions
//! modules    the kernel's modules
//! userland   programs and libraries
//! ```

mod modules;
mod processes;
#[cfg(test)]
mod tests;
mod types;
mod userland;

use std::ops::Range;

use self::processes::{Area, Plan, READ, SHARED, WRITE};
use self::userland::{Libraries, Simple};
use super::kallsyms::Arrangement;
use super::kernel::{Kernel, KernelPlan};
use super::objects::{DIRECT, Objects};
use crate::guest::{
    Flags, Frames, Journal, Machine, PageSize, Phys, Program, Space, VaRange, journal, share_pages,
};
use crate::write::Cpu;

const LOW_RAM: Range<u64> = 0..16 << 20;
const HIGH_RAM: Range<u64> = 4 << 30..(4 << 30) + (4 << 20);
const MIB_2: u64 = 2 << 20;

/// How much memory the kernel has for its objects.
const OBJECTS: u64 = 512 << 10;

/// The demo guest and the addresses in it that are worth a look. Addresses are virtual unless they are called
/// `gpa`.
#[derive(Clone)]
pub struct Demo {
    /// Memory and tables: 16 MiB of RAM from 0 and 4 MiB from 4 GiB.
    pub machine: Machine,
    /// The kernel.
    pub kernel: Kernel,
    /// The space of the process [`Demo::PROCESS`].
    pub space: Space,
    /// The CPU's registers, for the notes of an ELF core: it runs that process.
    pub cpu: Cpu,
    /// Number and name of each process, by number.
    pub processes: Vec<(u64, &'static str)>,
    /// What that process runs.
    pub program: Program,
    /// Memory shared by two views, seen here readable and writable: 3 pages.
    pub shared: VaRange,
    /// The same pages through the same table, where the entry above it forbids writing.
    pub shared_view: VaRange,
    /// A region of 4 pages in which one page cannot be read.
    pub holed: VaRange,
    /// That page: mapped, but its frame is not in the image.
    pub absent_page: u64,
    /// Its frame, in the hole between the two ranges of RAM.
    pub absent_gpa: u64,
    /// The page before `holed`, which is swapped out.
    pub swapped_page: u64,
}

impl Demo {
    /// The process that the tour looks into: its number and name.
    pub const PROCESS: (u64, &'static str) = (702, "station");

    /// The guest a moment later: the first ship has been hit once, and time has gone on.
    pub fn later(&self) -> Machine {
        let mut machine = self.machine.clone();
        let program = &self.program;
        let health = program.ships[0].health - 12.5;
        let m = &mut machine;
        self.space
            .write(m, program.ships[0].va + 0x18, &health.to_le_bytes());
        self.space.write(m, program.ticks, &1240u32.to_le_bytes());
        let time = program.world.time + 0.25;
        self.space
            .write(m, program.world.va + 0x28, &time.to_le_bytes());
        machine
    }
}

/// Builds the demo guest. It is the same every time.
pub fn demo() -> Demo {
    let mut phys = Phys::sparse();
    phys.add_ram(LOW_RAM);
    phys.add_ram(HIGH_RAM);
    // As on a PC, the first MiB is not for general use.
    let pool = [1 << 20..LOW_RAM.end, HIGH_RAM];
    let mut machine = Machine::with(phys, Frames::scattered(&pool, 0x7669));
    let records = types::types();
    let kernel = Kernel::load(
        &mut machine,
        &KernelPlan {
            release: "6.12.8-demo".into(),
            load: 4 << 20,
            slide: 0x12e0_0000,
            arrangement: Arrangement::V6_14,
            functions: 2000,
            btf: records.btf(),
            objects: vec![
                ("init_pid_ns", 0x2_0000),
                ("modules", 0x2_1000),
                ("module_kset", 0x2_1100),
                ("page_offset_base", 0x2_1200),
            ],
            ..KernelPlan::default()
        },
    );
    for gpa in [LOW_RAM, HIGH_RAM]
        .into_iter()
        .flat_map(|ram| ram.step_by(MIB_2 as usize))
    {
        let (size, flags) = (PageSize::Size2M, Flags::KERNEL_DATA);
        kernel
            .space
            .map(&mut machine, DIRECT + gpa, gpa, size, flags);
    }
    let mut objects = Objects::new(&mut machine, &kernel, &records, OBJECTS);
    objects.put(kernel.symbol("page_offset_base"), DIRECT);
    modules::write(&mut objects);

    let m = &mut *objects.machine;
    let libraries = Libraries::new(m);
    let (mut user, program) = userland::station(m, &kernel, &libraries);
    let space = user.space;
    let (shared, shared_view) = share_pages(m, &space);
    let Journal {
        holed,
        absent_page,
        absent_gpa,
        swapped_page,
    } = journal(m, &space, SWAPPED);
    let orders = "/dev/shm/station-orders";
    user.areas.extend([
        Area::of_file(shared.va, shared.len, READ | WRITE | SHARED, orders, 0),
        Area::of_file(shared_view.va, shared_view.len, READ | SHARED, orders, 0),
        Area {
            name: Some("journal"),
            ..Area::anonymous(
                swapped_page,
                holed.va + holed.len - swapped_page,
                READ | WRITE,
            )
        },
    ]);
    user.areas.sort_by_key(|area| area.start);

    let mut plans = services(m, &kernel, &libraries);
    plans.push(Plan {
        pid: Demo::PROCESS.0,
        parent: 620,
        name: Demo::PROCESS.1,
        uid: 1000,
        started: 81_250,
        runs: true,
        user: Some(user),
    });
    processes::write(&mut objects, &plans);

    let mut cpu = space.cpu();
    cpu.rip = program.function("report").va;
    cpu.rsp = program.rsp;
    Demo {
        processes: plans.iter().map(|plan| (plan.pid, plan.name)).collect(),
        machine,
        kernel,
        space,
        cpu,
        program,
        shared,
        shared_view,
        holed,
        absent_page,
        absent_gpa,
        swapped_page,
    }
}

/// An entry for what is in the first swap file, at page 0x3a: the number stands inverted (`__swp_entry`).
const SWAPPED: u64 = !0x3a << 14 >> 5;

/// What runs besides: parents before their children.
fn services(m: &mut Machine, kernel: &Kernel, libraries: &Libraries) -> Vec<Plan> {
    let service = |pid, parent, name, started, user| Plan {
        pid,
        parent,
        name,
        uid: 0,
        started,
        runs: false,
        user,
    };
    let mut load = |program, base, library, stack, arguments, environment| {
        let simple = Simple {
            program,
            base,
            library,
            stack,
            arguments,
            environment,
        };
        Some(simple.load(m, kernel, libraries))
    };
    let init = load(
        "/usr/sbin/init",
        0x5569_1c40_0000,
        0x7f2a_9100_0000,
        0x7ffc_8a61_0000,
        "/sbin/init\0",
        "HOME=/\0TERM=linux\0",
    );
    let sshd = load(
        "/usr/sbin/sshd",
        0x55d0_7b20_0000,
        0x7fa3_0c80_0000,
        0x7ffe_10f3_0000,
        "sshd: /usr/sbin/sshd -D\0",
        "LANG=C.UTF-8\0",
    );
    let bash = load(
        "/usr/bin/bash",
        0x5612_ee00_0000,
        0x7f88_4560_0000,
        0x7fff_42b8_0000,
        "-bash\0",
        "HOME=/home/zoe\0LANG=C.UTF-8\0SHELL=/bin/bash\0",
    );
    vec![
        service(1, 0, "init", 12, init),
        service(2, 0, "kthreadd", 12, None),
        service(9, 2, "kworker/0:1", 15, None),
        service(220, 1, "sshd", 2_480, sshd),
        Plan {
            uid: 1000,
            ..service(620, 220, "bash", 64_030, bash)
        },
    ]
}
