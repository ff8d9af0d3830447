//! What runs in the demo: programs and libraries, loaded as a loader leaves them.

use super::processes::{Area, EXEC, READ, User, WRITE};
use crate::guest::{Flags, Machine, PAGE, Paging, Program, ProgramPlan, Space};
use crate::linux::kernel::Kernel;
use crate::linux::loaded::{Exported, R, RW, RX, first_segment};

/// Distance of functions in libraries.
const PITCH: u64 = 64;

/// A library of three pages: tables, code, data. All who load it share the first two.
#[derive(Clone, Debug)]
pub(super) struct Library {
    path: &'static str,
    shared: [u64; 2],
}

impl Library {
    /// Writes a library with these functions, and data symbols of 64 bytes.
    pub(super) fn new(
        machine: &mut Machine,
        path: &'static str,
        functions: &[&'static str],
        data: &[&'static str],
    ) -> Self {
        let symbol = |page: u64, function: bool| {
            move |(at, &name): (u64, &&'static str)| Exported {
                name,
                at: page + at * PITCH,
                len: PITCH,
                function,
            }
        };
        let code = (0..).zip(functions).map(symbol(PAGE, true));
        let data = (0..).zip(data).map(symbol(2 * PAGE, false));
        let symbols: Vec<Exported> = code.chain(data).collect();
        let shared = [(); 2].map(|()| machine.frames.alloc());
        let segments = [(0, PAGE, R), (PAGE, PAGE, RX), (2 * PAGE, PAGE, RW)];
        let tables = first_segment(&segments, &symbols);
        machine.phys.write(shared[0], &tables);
        for gpa in (shared[1]..).step_by(PITCH as usize).take(functions.len()) {
            machine.phys.write(gpa, FUNCTION);
        }
        Self { path, shared }
    }

    /// Loads it at `base`.
    pub(super) fn load(&self, machine: &mut Machine, space: &Space, base: u64) -> [Area; 3] {
        let [tables, code] = self.shared;
        let own = space.alloc(machine);
        let parts = [(tables, READ), (code, READ | EXEC), (own, READ | WRITE)];
        let mut offset = 0;
        parts.map(|(frame, flags)| {
            let area = Area::of_file(base + offset, PAGE, flags, self.path, offset);
            space.map_frames(machine, area.start, &[frame], area.rights());
            offset += PAGE;
            area
        })
    }
}

/// endbr64; push rbp; mov rbp, rsp; mov rax, rdi; pop rbp; ret
const FUNCTION: &[u8] = b"\xf3\x0f\x1e\xfa\x55\x48\x89\xe5\x48\x89\xf8\x5d\xc3";

/// The libraries of the guest.
#[derive(Clone, Debug)]
pub(super) struct Libraries {
    c: Library,
    cpp: Library,
}

impl Libraries {
    pub(super) fn new(machine: &mut Machine) -> Self {
        Self {
            c: Library::new(
                machine,
                "/usr/lib/libc.so.6",
                &["malloc", "free", "memcpy", "strlen", "read", "write"],
                &["environ"],
            ),
            cpp: Library::new(
                machine,
                "/usr/lib/libstdc++.so.6",
                &["_Znwm", "_ZdlPv"],
                &[CLASS_TYPE_INFO],
            ),
        }
    }
}

/// The virtual table of what describes a class without bases.
const CLASS_TYPE_INFO: &str = "_ZTVN10__cxxabiv117__class_type_infoE";

/// A space with the kernel in its upper half, as every process has it.
fn space(machine: &mut Machine, kernel: &Kernel) -> Space {
    let space = Space::new(machine, Paging::FourLevel);
    for va in (256..512).map(|index| 0xffff_0000_0000_0000 | index << 39) {
        if !kernel.space.is_free(machine, 4, va) {
            let (from, flags) = (kernel.space, Flags::OPEN);
            from.share_with(machine, 4, va, space, va, flags);
        }
    }
    space
}

/// What a simple program is like.
pub(super) struct Simple {
    pub(super) program: &'static str,
    /// Where it is loaded; its heap is 16 MiB above.
    pub(super) base: u64,
    /// Where its library and its stack are.
    pub(super) library: u64,
    pub(super) stack: u64,
    /// Arguments and environment, each ended by a null character.
    pub(super) arguments: &'static str,
    pub(super) environment: &'static str,
}

impl Simple {
    /// Loads it: a page each of tables, code and data, a heap, a library and a stack.
    pub(super) fn load(&self, m: &mut Machine, kernel: &Kernel, libraries: &Libraries) -> User {
        let space = space(m, kernel);
        let main = [Exported {
            name: "main",
            at: PAGE,
            len: PITCH,
            function: true,
        }];
        let segments = [(0, PAGE, R), (PAGE, PAGE, RX), (2 * PAGE, PAGE, RW)];
        let file = |at: u64, flags| Area::of_file(self.base + at, PAGE, flags, self.program, at);
        let heap = (self.base + (16 << 20), 2 * PAGE);
        let mut areas = vec![
            file(0, READ),
            file(PAGE, READ | EXEC),
            file(2 * PAGE, READ | WRITE),
            Area::anonymous(heap.0, heap.1, READ | WRITE),
        ];
        for area in &areas {
            space.map_new(m, area.start, area.len / PAGE, area.rights());
        }
        space.write(m, self.base, &first_segment(&segments, &main));
        space.write(m, self.base + PAGE, FUNCTION);
        // A block that malloc has handed out: its size, and a text in it.
        space.write_u64(m, heap.0 + 8, 0x51);
        space.write(m, heap.0 + 16, self.program.as_bytes());
        areas.extend(libraries.c.load(m, &space, self.library));
        let stack = Area::anonymous(self.stack, 3 * PAGE, READ | WRITE);
        space.map_new(m, stack.start, 3, stack.rights());
        let top = self.stack + 2 * PAGE;
        areas.push(stack);
        User {
            words: words(m, &space, top, self.arguments, self.environment),
            space,
            areas,
            program: self.program,
            heap,
            stack: top,
        }
    }
}

/// Writes arguments and environment at `at`: where they are, and the length of each.
fn words(m: &mut Machine, space: &Space, at: u64, args: &str, env: &str) -> (u64, u64, u64) {
    space.write(m, at, args.as_bytes());
    space.write(m, at + args.len() as u64, env.as_bytes());
    (at, args.len() as u64, env.len() as u64)
}

/// Where the libraries of the station's program are.
const LIBSTDCPP: u64 = 0x7f6b_2040_0000;
const LIBC: u64 = 0x7f6b_2080_0000;

/// The path of the station's program.
const STATION: &str = "/usr/bin/station";

/// Loads the station's program, which the tour looks into: the areas of its files, heap and stack.
pub(super) fn station(m: &mut Machine, kernel: &Kernel, libraries: &Libraries) -> (User, Program) {
    let space = space(m, kernel);
    let program = Program::place(m, &space, &ProgramPlan::default());
    // The program's file has a page of tables before its code.
    let base = program.text.va - PAGE;
    let file = |start: u64, len, flags| Area::of_file(start, len, flags, STATION, start - base);
    let (text, rodata, data) = (program.text, program.rodata, program.data);
    let (heap, stack) = (program.heap, program.stack);
    let mut areas = vec![
        file(base, PAGE, READ),
        file(text.va, text.len, READ | EXEC),
        file(rodata.va, rodata.len, READ),
        file(data.va, data.len, READ | WRITE),
        Area::anonymous(heap.va, heap.len, READ | WRITE),
    ];
    let segments = areas[..4]
        .iter()
        .zip([R, RX, R, RW])
        .map(|(area, flags)| (area.start - base, area.len, flags))
        .collect::<Vec<_>>();
    let mut symbols: Vec<Exported> = program
        .functions
        .iter()
        .map(|function| Exported {
            name: function.name,
            at: function.va - base,
            len: function.len,
            function: true,
        })
        .collect();
    for (name, va, len) in [
        ("world", program.root_pointer, 8),
        ("ticks", program.ticks, 4),
    ] {
        symbols.push(Exported {
            name,
            at: va - base,
            len,
            function: false,
        });
    }
    space.map_new(m, base, 1, Flags::CONST);
    space.write(m, base, &first_segment(&segments, &symbols));

    areas.extend(libraries.cpp.load(m, &space, LIBSTDCPP));
    areas.extend(libraries.c.load(m, &space, LIBC));
    describe_classes(m, &space, &program);

    // Above the stack's first frame are the words that it was started with.
    let top = stack.va + stack.len;
    space.map_new(m, top, 1, Flags::DATA);
    areas.push(Area::anonymous(stack.va, stack.len + PAGE, READ | WRITE));
    let arguments = "/usr/bin/station\0--docks\08\0";
    let environment = "HOME=/home/zoe\0LANG=C.UTF-8\0STATION_LOG=verbose\0";
    let user = User {
        words: words(m, &space, top + 0x100, arguments, environment),
        space,
        areas,
        program: STATION,
        heap: (heap.va, heap.len),
        stack: top,
    };
    (user, program)
}

/// Gives the virtual tables of ships and their cargo what C++ compilers write: the distance to the start of the
/// object, and the description of the class before them (Itanium C++ ABI, 2.5.2 and 2.9).
fn describe_classes(m: &mut Machine, space: &Space, program: &Program) {
    let [_, ship, cargo] = program.vtables;
    // Behind the tables the page of constants is free.
    let at = program.rodata.va + 0x900;
    // The first data symbol of the library, behind its own distance and description.
    let described_by = LIBSTDCPP + 2 * PAGE + 16;
    for (table, info, name) in [
        (ship, at, "N7station4ShipE"),
        (cargo, at + 0x40, "N7station5CargoE"),
    ] {
        space.write_u64(m, table - 16, 0);
        space.write_u64(m, table - 8, info);
        space.write_u64(m, info, described_by);
        space.write_u64(m, info + 8, info + 16);
        space.write(m, info + 16, name.as_bytes());
    }
}
