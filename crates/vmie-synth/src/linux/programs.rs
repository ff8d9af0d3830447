//! A kernel that runs programs of different widths: tasks, memory descriptors, page tables, kernel stacks and the
//! first page of each program's file, as an observer needs them who wants to know how wide a program is.
//!
//! Each place that tells it can be made to tell something else, or nothing. Written from the kernel's sources:
//! `arch/x86/kernel/process_64.c` (`set_personality_*`), `arch/x86/include/asm/{mmu,thread_info,ptrace,segment}.h` and
//! `include/uapi/linux/elf*.h`.

use std::ops::Range;

use super::btf::Btf;
use super::kernel::{Kernel, KernelPlan};
use crate::guest::{Flags, Machine, PAGE, PageSize, Paging, Space};

/// Where the kernel sees all of physical memory.
const DIRECT: u64 = 0xffff_8880_0000_0000;

const STACK: u64 = 16 << 10;
/// Bytes of a `struct page`.
const PAGE_OBJECT: u64 = 64;
/// Bit of `struct page.flags`, as the enum below has it.
const UPTODATE: u64 = 2;

/// How wide a program is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sort {
    /// 32-bit code and pointers.
    I386,
    /// 64-bit code with 32-bit pointers.
    X32,
    /// 64-bit code and pointers.
    X86_64,
}

/// How kernels note it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Era {
    /// `context.ia32_compat`, and a thread flag for each sort: before 5.11.
    Compat,
    /// `context.flags`, and one thread flag, bit 29.
    Flags,
    /// The same, and the flag is bit 28: since 6.18.
    Ordered,
}

/// A program that runs, and what tells how wide it is; `None` where a place says nothing.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its number, below 64.
    pub pid: u32,
    /// Its short name.
    pub name: &'static str,
    /// What `mm->context` says.
    pub record: Option<Sort>,
    /// What the header of its file says; without, the page is not in memory.
    pub header: Option<Sort>,
    /// What the flags of its thread say; without, none is set.
    pub flags: Option<Sort>,
    /// Which code its thread ran when it entered the kernel; without, the registers on its stack are gone.
    pub segment: Option<Sort>,
}

impl Program {
    /// One of which all places say the same.
    pub fn of(pid: u32, name: &'static str, sort: Sort) -> Self {
        Self {
            pid,
            name,
            record: Some(sort),
            header: Some(sort),
            flags: Some(sort),
            segment: Some(sort),
        }
    }
}

/// A kernel and the spaces of its programs, which have nothing mapped yet.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The kernel.
    pub kernel: Kernel,
    /// The space of each program.
    pub spaces: Vec<Space>,
}

/// Offsets in `task_struct`.
mod task {
    pub(super) const FLAGS: u64 = 0;
    pub(super) const STACK: u64 = 0x20;
    pub(super) const STATE: u64 = 0x28;
    pub(super) const PID: u64 = 0x34;
    pub(super) const TGID: u64 = 0x38;
    pub(super) const COMM: u64 = 0x40;
    pub(super) const MM: u64 = 0x50;
    pub(super) const THREAD_PID: u64 = 0x60;
    pub(super) const TASKS: u64 = 0x68;
    pub(super) const THREAD_NODE: u64 = 0x78;
    pub(super) const PID_LINKS: u64 = 0x88;
    pub(super) const GROUP_LEADER: u64 = 0xa8;
    pub(super) const REAL_PARENT: u64 = 0xb0;
    pub(super) const SIGNAL: u64 = 0xb8;
    pub(super) const REAL_CRED: u64 = 0xc0;
}

impl Programs {
    /// Loads a kernel that runs these programs into a machine of at least 32 MiB.
    pub fn load(machine: &mut Machine, era: Era, programs: &[Program]) -> Self {
        let kernel = Kernel::load(
            machine,
            &KernelPlan {
                load: 4 << 20,
                slide: 32 << 20,
                functions: 2000,
                btf: types(era),
                objects: vec![
                    ("init_pid_ns", 0x2_0000),
                    ("vmemmap_base", 0x2_1000),
                    ("max_low_pfn", 0x2_2000),
                    ("max_pfn", 0x2_2008),
                    ("e820_table", 0x2_2010),
                    ("e820_table_init", 0x2_2800),
                ],
                ..KernelPlan::default()
            },
        );
        let ram = machine.phys.ranges().last().map_or(0, |range| range.end);
        for gpa in (0..ram).step_by(2 << 20) {
            kernel.space.map(
                machine,
                DIRECT + gpa,
                gpa,
                PageSize::Size2M,
                Flags::KERNEL_DATA,
            );
        }
        let ranges = machine.phys.ranges().to_vec();
        let mut world = World { machine, era };
        // As newer kernels have it: the number of all frames in both places.
        for name in ["max_low_pfn", "max_pfn"] {
            world.put(kernel.gpa(kernel.symbol(name)), ram / PAGE);
        }
        world.memory_map(&kernel, &ranges);
        let vmemmap = world.room(ram / PAGE * PAGE_OBJECT);
        world.put(kernel.gpa(kernel.symbol("vmemmap_base")), vmemmap);
        let init = kernel.gpa(kernel.symbol("init_task"));
        world.machine.phys.write(init + task::COMM, b"swapper/0\0");
        let init_va = kernel.symbol("init_task");

        let mut spaces = Vec::new();
        let mut tasks = Vec::new();
        let mut numbers = Vec::new();
        for program in programs {
            let space = Space::new(world.machine, Paging::FourLevel);
            let (at, number) = world.task(program, &space, vmemmap, init_va);
            spaces.push(space);
            tasks.push(at + task::TASKS);
            numbers.push((program.pid, number));
        }
        let head = init_va + task::TASKS;
        let ring: Vec<u64> = std::iter::once(head).chain(tasks).collect();
        for (i, &node) in ring.iter().enumerate() {
            let next = ring[(i + 1) % ring.len()];
            let gpa = |va: u64| match va == head {
                true => init + task::TASKS,
                false => va - DIRECT,
            };
            world.put(gpa(node), next);
            world.put(gpa(next) + 8, node);
        }
        // A table of one node: shift 0, slots from 0x20 on.
        let node = world.room(0x230);
        for (pid, number) in numbers {
            world.put(node - DIRECT + 0x20 + 8 * u64::from(pid), number);
        }
        world.put(kernel.gpa(kernel.symbol("init_pid_ns")) + 16, node | 2);
        Self { kernel, spaces }
    }
}

struct World<'m> {
    machine: &'m mut Machine,
    era: Era,
}

impl World<'_> {
    /// Zeroed room, as the kernel sees it.
    fn room(&mut self, len: u64) -> u64 {
        DIRECT
            + self
                .machine
                .frames
                .alloc_block(len.next_multiple_of(PAGE), STACK)
    }

    fn put(&mut self, gpa: u64, value: u64) {
        self.machine.phys.write_uint(gpa, value, 8);
    }

    fn put32(&mut self, gpa: u64, value: u32) {
        self.machine.phys.write_uint(gpa, value.into(), 4);
    }

    /// The map of RAM, of which firmware has kept the end below 4 GiB for itself.
    fn memory_map(&mut self, kernel: &Kernel, ranges: &[Range<u64>]) {
        const FIRMWARE: u64 = 0x2_1000;
        let map = kernel.symbol("e820_table_init");
        self.put(kernel.gpa(kernel.symbol("e820_table")), map);
        let mut entries = Vec::new();
        for range in ranges {
            match range.end {
                end if end <= 4 << 30 && end - range.start > FIRMWARE => {
                    entries.push((range.start, end - FIRMWARE, 1));
                    entries.push((end - FIRMWARE, end, 2));
                }
                end => entries.push((range.start, end, 1)),
            }
        }
        let at = kernel.gpa(map);
        self.put32(at, entries.len() as u32);
        for (i, (start, end, kind)) in (0..).zip(entries) {
            let at = at + 4 + 20 * i;
            self.put(at, start);
            self.put(at + 8, end - start);
            self.put32(at + 16, kind);
        }
    }

    /// A task: its address, and that of its number.
    fn task(&mut self, program: &Program, space: &Space, vmemmap: u64, parent: u64) -> (u64, u64) {
        let at = self.room(PAGE);
        let number = at + 0x400;
        let signal = at + 0x600;
        let cred = at + 0x700;
        let gpa = at - DIRECT;
        self.put(gpa + task::FLAGS, self.thread_flags(program.flags));
        self.put32(gpa + task::STATE, 1);
        self.put32(gpa + task::PID, program.pid);
        self.put32(gpa + task::TGID, program.pid);
        self.machine
            .phys
            .write(gpa + task::COMM, program.name.as_bytes());
        let mm = self.mm(program, space, vmemmap);
        let stack = self.stack(program.segment);
        for (offset, value) in [
            (task::STACK, stack),
            (task::MM, mm),
            (task::THREAD_PID, number),
            (task::GROUP_LEADER, at),
            (task::REAL_PARENT, parent),
            (task::SIGNAL, signal),
            (task::REAL_CRED, cred),
            (task::THREAD_NODE, signal + 0x10),
            (task::THREAD_NODE + 8, signal + 0x10),
            // signal: one thread, in a ring of its own.
            (0x600 + 8, 1),
            (0x600 + 0x10, at + task::THREAD_NODE),
            (0x600 + 0x18, at + task::THREAD_NODE),
            // pid: the task that bears it, and the number.
            (0x400 + 0x10, at + task::PID_LINKS),
            (0x400 + 0x30, program.pid.into()),
        ] {
            self.put(gpa + offset, value);
        }
        (at, number)
    }

    fn thread_flags(&self, sort: Option<Sort>) -> u64 {
        let (ia32, x32, addr32) = (1 << 17, 1 << 30, 1 << 29);
        match (self.era, sort) {
            (_, None | Some(Sort::X86_64)) => 0,
            (Era::Compat, Some(Sort::I386)) => ia32 | addr32,
            (Era::Compat, Some(Sort::X32)) => x32 | addr32,
            (Era::Flags, _) => addr32,
            (Era::Ordered, _) => 1 << 28,
        }
    }

    fn mm(&mut self, program: &Program, space: &Space, vmemmap: u64) -> u64 {
        let at = self.room(PAGE);
        let gpa = at - DIRECT;
        self.put(gpa + 0x20, DIRECT + space.root());
        let context = match (self.era, program.record) {
            // No value of these is one that a kernel writes.
            (Era::Compat, None) => 99,
            (_, None | Some(Sort::X32)) if self.era != Era::Compat => 0,
            (Era::Compat, Some(Sort::I386)) => 17,
            (Era::Compat, Some(Sort::X32)) => 30,
            (Era::Compat, _) => 0,
            (_, Some(Sort::I386)) => 1,
            _ => 2,
        };
        self.put(gpa + 0x78, context);
        let file = at + 0x100;
        self.put(gpa + 0x68, file);
        if let Some(header) = program.header {
            // file -> mapping -> the one page, number 0
            let mapping = at + 0x200;
            let frame = self.machine.frames.alloc();
            self.machine.phys.write(frame, &elf_header(header));
            let page = vmemmap + frame / PAGE * PAGE_OBJECT;
            self.put(gpa + 0x100, mapping);
            self.put(gpa + 0x200 + 8, page);
            self.put(page - DIRECT, 1 << UPTODATE);
            self.put(page - DIRECT + 0x18, mapping);
        }
        at
    }

    fn stack(&mut self, segment: Option<Sort>) -> u64 {
        let at = self.room(STACK);
        // A live thread has a stack; what is at its top may be overwritten.
        let Some(segment) = segment else {
            return at;
        };
        let registers = at - DIRECT + STACK - 168;
        let cs = if segment == Sort::I386 { 0x23 } else { 0x33 };
        // ip, cs, flags, sp, ss
        for (place, value) in (16..).zip([0x40_1000, cs, 0x246, 0xffff_d000, 0x2b]) {
            self.put(registers + 8 * place, value);
        }
        at
    }
}

/// What a program's file begins with.
fn elf_header(sort: Sort) -> Vec<u8> {
    let (class, machine) = match sort {
        Sort::I386 => (1, 3),
        Sort::X32 => (1, 62),
        Sort::X86_64 => (2, 62),
    };
    let mut header = vec![0x7f, b'E', b'L', b'F', class, 1, 1];
    header.resize(16, 0);
    header.extend(2u16.to_le_bytes());
    header.extend(u16::to_le_bytes(machine));
    header
}

/// The types of such a kernel.
fn types(era: Era) -> Vec<u8> {
    let mut w = Btf::default();
    let long = w.int("u64", 8, 0);
    let int = w.int("u32", 4, 0);
    let short = w.int("u16", 2, 0);
    let byte = w.int("u8", 1, 0);
    let char = w.int("char", 1, 0);
    let ptr = w.pointer(0);
    let flags = [("PG_locked", 0), ("PG_uptodate", UPTODATE as i32)];
    w.enumeration("pageflags", false, &flags);
    let mut record = |name: &str, size: u32, members: &[(&str, u32, u64)]| {
        let bits = members
            .iter()
            .map(|&(name, ty, offset)| (name, ty, offset as u32 * 8));
        w.structure(name, size, &bits.collect::<Vec<_>>())
    };
    let list = record("list_head", 16, &[("next", ptr, 0), ("prev", ptr, 8)]);
    let head = record("hlist_head", 8, &[("first", ptr, 0)]);
    let node = record("hlist_node", 16, &[("next", ptr, 0), ("pprev", ptr, 8)]);
    let top = record("xarray", 16, &[("xa_head", ptr, 8)]);
    let idr = record("idr", 24, &[("idr_rt", top, 0)]);
    record("pid_namespace", 64, &[("idr", idr, 8)]);
    let upid = record("upid", 32, &[("nr", int, 0), ("ns", ptr, 8)]);
    record("cred", 16, &[("uid", int, 0), ("euid", int, 4)]);
    record(
        "signal_struct",
        64,
        &[("nr_threads", int, 8), ("thread_head", list, 0x10)],
    );
    record("file", 16, &[("f_mapping", ptr, 0)]);
    record("address_space", 16, &[("i_pages", top, 0)]);
    record(
        "page",
        PAGE_OBJECT as u32,
        &[
            ("flags", long, 0),
            ("mapping", ptr, 0x18),
            ("index", long, 0x20),
        ],
    );
    record(
        "pt_regs",
        168,
        &[
            ("ip", long, 128),
            ("cs", long, 136),
            ("flags", long, 144),
            ("sp", long, 152),
            ("ss", long, 160),
        ],
    );
    let noted = match era {
        Era::Compat => ("ia32_compat", short, 0),
        _ => ("flags", long, 0),
    };
    let context = record("mm_context_t", 8, &[noted]);
    record(
        "mm_struct",
        0x80,
        &[
            ("pgd", ptr, 0x20),
            ("arg_start", long, 0x28),
            ("arg_end", long, 0x30),
            ("env_start", long, 0x38),
            ("env_end", long, 0x40),
            ("start_brk", long, 0x48),
            ("brk", long, 0x50),
            ("start_stack", long, 0x58),
            ("map_count", int, 0x60),
            ("exe_file", ptr, 0x68),
            ("context", context, 0x78),
        ],
    );
    let work = [("flags", long, 0), ("syscall_work", long, 8)];
    let info = match era {
        Era::Compat => record("thread_info", 16, &work[..1]),
        _ => record("thread_info", 16, &work),
    };
    let slots = w.array(ptr, long, 64);
    let comm = w.array(char, long, 16);
    let links = w.array(node, long, 2);
    let heads = w.array(head, long, 4);
    let upids = w.array(upid, long, 1);
    let mut record = |name: &str, size: u32, members: &[(&str, u32, u64)]| {
        let bits = members
            .iter()
            .map(|&(name, ty, offset)| (name, ty, offset as u32 * 8));
        w.structure(name, size, &bits.collect::<Vec<_>>())
    };
    record(
        "xa_node",
        0x230,
        &[("shift", byte, 0), ("slots", slots, 0x20)],
    );
    record(
        "pid",
        0x60,
        &[("tasks", heads, 0x10), ("numbers", upids, 0x30)],
    );
    record(
        "task_struct",
        0x100,
        &[
            ("thread_info", info, task::FLAGS),
            ("stack", ptr, task::STACK),
            ("__state", int, task::STATE),
            ("flags", int, 0x2c),
            ("exit_state", int, 0x30),
            ("pid", int, task::PID),
            ("tgid", int, task::TGID),
            ("comm", comm, task::COMM),
            ("mm", ptr, task::MM),
            ("start_boottime", long, 0x58),
            ("thread_pid", ptr, task::THREAD_PID),
            ("tasks", list, task::TASKS),
            ("thread_node", list, task::THREAD_NODE),
            ("pid_links", links, task::PID_LINKS),
            ("group_leader", ptr, task::GROUP_LEADER),
            ("real_parent", ptr, task::REAL_PARENT),
            ("signal", ptr, task::SIGNAL),
            ("real_cred", ptr, task::REAL_CRED),
        ],
    );
    w.bytes()
}
