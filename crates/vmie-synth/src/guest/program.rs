//! A small program placed into an address space: code, strings, a static pointer, objects.
//!
//! It is the shape of every C++ program one looks into: a pointer in the data section leads to a root
//! object, which leads to a linked list of objects with a vtable each, which lead to further objects
//! and back; code refers to all of that relative to the instruction pointer. All addresses and values
//! are returned, so scans, references, pointer paths and dissection can be tested against them.
//!
//! The program is a toy space station: a [`World`] with a list of [`Ship`]s, each with [`Cargo`].

use super::asm::{Assembler, CodeRef, RefKind};
use super::entry::{Flags, Paging};
use super::machine::Machine;
use super::phys::PAGE;
use super::space::Space;
use super::truth::VaRange;

/// How a linked list ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListEnd {
    /// With a null pointer.
    Null,
    /// With a link back to the first item.
    Ring,
    /// With an item that links to itself.
    SelfLoop,
}

/// Where a program is put and what it looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProgramPlan {
    /// Start of the image: code, constants, data. A page border, 6 pages.
    pub base: u64,
    /// Start of the heap, a page border; a page for every four ships, at least one.
    pub heap: u64,
    /// Start of the stack, a page border, 2 pages.
    pub stack: u64,
    /// Number of ships, 1 to 20.
    pub ships: u64,
    /// How the list of ships ends.
    pub end: ListEnd,
}

impl Default for ProgramPlan {
    /// Eight ships, at addresses such as a 64-bit system chooses.
    fn default() -> Self {
        Self {
            base: 0x5581_4a20_0000,
            heap: 0x5581_4b7c_3000,
            stack: 0x7ffd_3c5e_0000,
            ships: 8,
            end: ListEnd::Null,
        }
    }
}

/// A function of the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// First byte.
    pub va: u64,
    /// Bytes.
    pub len: u64,
}

/// How text is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// One byte a character.
    Ascii,
    /// Little-endian UTF-16.
    Utf16,
}

/// Text in memory, ended by a null character.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Text {
    /// First byte.
    pub va: u64,
    /// How it is stored.
    pub encoding: Encoding,
    /// The text.
    pub text: String,
}

impl Text {
    /// The bytes in memory, without the null character.
    pub fn bytes(&self) -> Vec<u8> {
        match self.encoding {
            Encoding::Ascii => self.text.bytes().collect(),
            Encoding::Utf16 => self
                .text
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect(),
        }
    }
}

/// A qword in memory that holds an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct Pointer {
    /// Where the qword is.
    pub at: u64,
    /// The address in it.
    pub to: u64,
}

/// The root object: 0x40 bytes.
///
/// `+00 vtable, +08 u32 count, +10 first ship, +18 table of ships, +20 title, +28 f64 time`
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct World {
    /// Address of the object.
    pub va: u64,
    /// Number of ships.
    pub count: u32,
    /// An array of pointers to the ships.
    pub table: u64,
    /// ASCII text.
    pub title: u64,
    /// Seconds.
    pub time: f64,
}

/// An item of the list: 0x60 bytes.
///
/// `+00 vtable, +08 u32 id, +0c u32 flags, +10 name, +18 f32 health, +1c f32 shield,
/// +20 f64 position[3], +38 next, +40 cargo, +48 captain, +50 u8 docked, +52 u16 crew`
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ship {
    /// Address of the object.
    pub va: u64,
    /// A number of its own.
    pub id: u32,
    /// ASCII text among the constants.
    pub name: u64,
    /// Hit points.
    pub health: f32,
    /// Shield points.
    pub shield: f32,
    /// Coordinates.
    pub position: [f64; 3],
    /// The next ship; 0 behind the last one, unless the plan says otherwise.
    pub next: u64,
    /// Its cargo.
    pub cargo: u64,
    /// UTF-16 text on the heap.
    pub captain: u64,
    /// Whether it is docked.
    pub docked: bool,
    /// People on board.
    pub crew: u16,
}

/// What a ship carries: 0x28 bytes.
///
/// `+00 vtable, +08 u32 id, +10 f64 price, +18 owner (a ship), +20 i64 balance`
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cargo {
    /// Address of the object.
    pub va: u64,
    /// A number of its own.
    pub id: u32,
    /// Price.
    pub price: f64,
    /// The ship that carries it.
    pub owner: u64,
    /// May be negative.
    pub balance: i64,
}

/// A program in memory. All addresses are virtual.
#[derive(Clone, PartialEq, Debug)]
pub struct Program {
    /// Code: readable, executable.
    pub text: VaRange,
    /// Constants: readable.
    pub rodata: VaRange,
    /// Data: readable, writable.
    pub data: VaRange,
    /// Heap: readable, writable.
    pub heap: VaRange,
    /// Stack: readable, writable.
    pub stack: VaRange,
    /// Stack pointer.
    pub rsp: u64,
    /// Functions, in order of address; the first is the entry point.
    pub functions: Vec<Function>,
    /// What the code refers to, in order of address.
    pub references: Vec<CodeRef>,
    /// All text.
    pub texts: Vec<Text>,
    /// The greeting, which is also in `texts`.
    pub banner: Text,
    /// Every qword that holds an address, in order of place.
    pub pointers: Vec<Pointer>,
    /// The static pointer to the world, in the data section.
    pub root_pointer: u64,
    /// A static u32 that the code increments.
    pub ticks: u64,
    /// The vtables of world, ship and cargo.
    pub vtables: [u64; 3],
    /// The root object.
    pub world: World,
    /// The ships in list order.
    pub ships: Vec<Ship>,
    /// Their cargo, in the same order.
    pub cargo: Vec<Cargo>,
    /// A signature of the function `take_damage`. Its first instruction crosses a page border.
    pub signature: String,
    /// Where the signature matches, and nowhere else in the program.
    pub signature_va: u64,
}

const NAMES: [&str; 20] = [
    "Aurora",
    "Borealis",
    "Cassini",
    "Dauntless",
    "Endeavour",
    "Farewell",
    "Galatea",
    "Halcyon",
    "Icarus",
    "Juno",
    "Kestrel",
    "Lodestar",
    "Meridian",
    "Nautilus",
    "Orpheus",
    "Perihelion",
    "Quicksilver",
    "Rosalind",
    "Solitude",
    "Tempest",
];

/// Captains have letters outside ASCII.
const CAPTAINS: [&str; 4] = [
    "Zoë Brandt",
    "Łukasz Wójcik",
    "Ana Conceição",
    "Søren Ødegård",
];

/// Distances on the heap. The fifth ship, at 0xfc0, crosses a page border.
const TABLE_AT: u64 = 0x60;
const SHIP_AT: u64 = 0x100;
const SHIP_STRIDE: u64 = 0x3b0;
const CARGO_AT: u64 = 0x100;
const CAPTAIN_AT: u64 = 0x180;

impl Program {
    /// Puts the program into `space`, over new frames.
    ///
    /// # Panics
    /// When the space is not a 64-bit one, something is in the way, or the plan breaks its bounds.
    pub fn place(machine: &mut Machine, space: &Space, plan: &ProgramPlan) -> Self {
        assert!(
            matches!(space.paging(), Paging::FourLevel | Paging::FiveLevel),
            "the code is 64-bit code"
        );
        assert!((1..=20).contains(&plan.ships), "1 to 20 ships");
        Builder::new(machine, *space, plan).build()
    }

    /// The function of this name.
    ///
    /// # Panics
    /// When there is none.
    pub fn function(&self, name: &str) -> Function {
        *self
            .functions
            .iter()
            .find(|function| function.name == name)
            .unwrap_or_else(|| panic!("the program has no function {name}"))
    }
}

struct Builder<'a> {
    machine: &'a mut Machine,
    space: Space,
    plan: &'a ProgramPlan,
    texts: Vec<Text>,
    pointers: Vec<Pointer>,
}

/// The places that code and objects refer to.
struct Sites {
    text: u64,
    root_pointer: u64,
    ticks: u64,
    ready: u64,
    hook: u64,
    banner: u64,
    damage: u64,
    vtables: [u64; 3],
}

impl<'a> Builder<'a> {
    fn new(machine: &'a mut Machine, space: Space, plan: &'a ProgramPlan) -> Self {
        Self {
            machine,
            space,
            plan,
            texts: Vec::new(),
            pointers: Vec::new(),
        }
    }

    fn build(mut self) -> Program {
        let plan = *self.plan;
        let text = self.section(plan.base, 3, Flags::CODE);
        let rodata = self.section(plan.base + 0x3000, 2, Flags::CONST);
        let data = self.section(plan.base + 0x5000, 1, Flags::DATA);
        let heap_bytes = SHIP_AT + plan.ships * SHIP_STRIDE;
        let heap = self.section(plan.heap, heap_bytes.div_ceil(PAGE), Flags::DATA);
        let stack = self.section(plan.stack, 2, Flags::DATA);

        let sites = Sites {
            text: text.va,
            root_pointer: data.va + 0x10,
            ticks: data.va + 0x20,
            ready: data.va + 0x24,
            hook: data.va + 0x30,
            banner: rodata.va,
            damage: rodata.va + 0x7f0,
            vtables: [0x800, 0x840, 0x880].map(|at| rodata.va + at),
        };
        let banner = self.text(
            sites.banner,
            Encoding::Ascii,
            "Orbital station 7 ready, all docks clear",
        );
        self.text(
            rodata.va + 0x40,
            Encoding::Utf16,
            "Station log: nothing to report",
        );
        let title = self
            .text(rodata.va + 0x100, Encoding::Ascii, "Kepler Belt")
            .va;
        self.write(sites.damage, &12.5f32.to_le_bytes());

        let (functions, references) = self.code(&sites);
        let va_of = |name| {
            let function = functions.iter().find(|f: &&Function| f.name == name);
            function.expect("the code has every method").va
        };
        let methods = [
            [va_of("world_step"), va_of("world_report")],
            [va_of("ship_describe"), va_of("ship_tick")],
            [va_of("cargo_price"), va_of("cargo_owner")],
        ];
        for (vtable, methods) in sites.vtables.iter().zip(methods) {
            for (slot, to) in methods.into_iter().enumerate() {
                self.pointer(vtable + slot as u64 * 8, to);
            }
        }
        self.pointer(sites.hook, va_of("report"));
        self.write(sites.ticks, &1234u32.to_le_bytes());
        self.write(sites.ready, &[1]);

        let (ships, cargo) = self.ships(&sites, rodata.va + 0x200);
        let world = self.world(&sites, title, &ships);
        self.pointer(sites.root_pointer, world.va);

        // One frame of the entry function: a local, saved registers, the way back.
        let rsp = stack.va + stack.len - 0x40;
        self.pointer(rsp + 0x08, world.va);
        self.pointer(rsp + 0x20, rsp + 0x38);
        let call = references
            .iter()
            .find(|reference| reference.kind == RefKind::Call)
            .expect("the entry function calls");
        self.pointer(rsp + 0x28, call.va + u64::from(call.len));

        let signature_va = va_of("take_damage");
        self.pointers.sort_unstable();
        Program {
            text,
            rodata,
            data,
            heap,
            stack,
            rsp,
            functions,
            references,
            texts: self.texts,
            banner,
            pointers: self.pointers,
            root_pointer: sites.root_pointer,
            ticks: sites.ticks,
            vtables: sites.vtables,
            world,
            ships,
            cargo,
            signature: "48 8B 05 ?? ?? ?? ?? 48 85 C0 74 ?? 48 8B 40 10 F3 0F 10 40 18".into(),
            signature_va,
        }
    }

    fn section(&mut self, va: u64, pages: u64, flags: Flags) -> VaRange {
        self.space.map_new(self.machine, va, pages, flags);
        VaRange {
            va,
            len: pages * PAGE,
        }
    }

    fn write(&mut self, va: u64, data: &[u8]) {
        self.space.write(self.machine, va, data);
    }

    fn pointer(&mut self, at: u64, to: u64) {
        self.space.write_u64(self.machine, at, to);
        self.pointers.push(Pointer { at, to });
    }

    fn text(&mut self, va: u64, encoding: Encoding, text: &str) -> Text {
        let text = Text {
            va,
            encoding,
            text: text.into(),
        };
        self.write(va, &text.bytes());
        self.texts.push(text.clone());
        text
    }

    /// Writes the functions. Each starts at a fixed address, so they can refer to each other.
    fn code(&mut self, sites: &Sites) -> (Vec<Function>, Vec<CodeRef>) {
        let text = sites.text;
        let mut asm = Assembler::new(text);
        let mut functions = Vec::new();
        let mut function = |asm: &mut Assembler, name, at: u64, body: &dyn Fn(&mut Assembler)| {
            let va = asm.pad_to(text + at).here();
            body(asm);
            let len = asm.here() - va;
            functions.push(Function { name, va, len });
        };
        let (report, damage) = (text + 0x100, text + 0xffb);
        function(&mut asm, "start", 0, &|asm| {
            asm.prologue().lea_rdi(sites.banner).call(report);
            asm.store_imm(sites.ticks, 0);
            asm.compare_byte(sites.ready, 1).jne(text);
            asm.call_through(sites.hook).call(damage);
            asm.epilogue();
        });
        function(&mut asm, "report", 0x100, &|asm| {
            asm.load_rax(sites.root_pointer).increment(sites.ticks);
            asm.raw(&[0xc3]);
        });
        function(&mut asm, "world_step", 0x180, &|asm| {
            asm.prologue()
                .increment(sites.ticks)
                .call(damage)
                .epilogue();
        });
        function(&mut asm, "world_report", 0x200, &|asm| {
            asm.lea_rdi(sites.banner).jmp(report);
        });
        function(&mut asm, "ship_describe", 0x280, &|asm| {
            // mov rax, [rdi+0x10]; ret
            asm.raw(&[0x48, 0x8b, 0x47, 0x10, 0xc3]);
        });
        function(&mut asm, "ship_tick", 0x300, &|asm| {
            asm.load_address(sites.vtables[1]).raw(&[0xc3]);
        });
        function(&mut asm, "cargo_price", 0x380, &|asm| {
            // movsd xmm0, [rdi+0x10]; ret
            asm.raw(&[0xf2, 0x0f, 0x10, 0x47, 0x10, 0xc3]);
        });
        function(&mut asm, "cargo_owner", 0x400, &|asm| {
            // mov rax, [rdi+0x18]; ret
            asm.raw(&[0x48, 0x8b, 0x47, 0x18, 0xc3]);
        });
        function(&mut asm, "reset", 0x480, &|asm| {
            asm.lea_rax(sites.vtables[0]).store_rax(sites.hook);
            asm.raw(&[0xc3]);
        });
        // Five bytes before the border: the displacement of its first instruction crosses it.
        function(&mut asm, "take_damage", 0xffb, &|asm| {
            // test rax, rax
            asm.load_rax(sites.root_pointer).raw(&[0x48, 0x85, 0xc0]);
            let out = asm.here() + 28;
            asm.je_short(out);
            // mov rax, [rax+0x10]; movss xmm0, [rax+0x18]
            asm.raw(&[0x48, 0x8b, 0x40, 0x10, 0xf3, 0x0f, 0x10, 0x40, 0x18]);
            asm.load_xmm1(sites.damage);
            // subss xmm0, xmm1; movss [rax+0x18], xmm0; ret
            asm.raw(&[0xf3, 0x0f, 0x5c, 0xc1, 0xf3, 0x0f, 0x11, 0x40, 0x18]);
            assert_eq!(asm.here(), out);
            asm.raw(&[0xc3]);
        });
        asm.pad_to(text + 3 * PAGE);
        let (code, references) = asm.finish();
        self.write(text, &code);
        (functions, references)
    }

    fn ships(&mut self, sites: &Sites, names: u64) -> (Vec<Ship>, Vec<Cargo>) {
        let heap = self.plan.heap;
        let place = |number: u64| heap + SHIP_AT + number * SHIP_STRIDE;
        let (mut ships, mut cargo) = (Vec::new(), Vec::new());
        for number in 0..self.plan.ships {
            let last = number + 1 == self.plan.ships;
            let va = place(number);
            let small = number as u32;
            let ship = Ship {
                va,
                id: 1000 + small,
                name: names + number * 0x18,
                health: 100.0 - small as f32 * 2.5,
                shield: 50.0 + small as f32 * 0.25,
                position: [1.5, -2.0, 1024.25].map(|axis| axis * f64::from(small + 1)),
                next: match self.plan.end {
                    _ if !last => place(number + 1),
                    ListEnd::Null => 0,
                    ListEnd::Ring => place(0),
                    ListEnd::SelfLoop => va,
                },
                cargo: va + CARGO_AT,
                captain: va + CAPTAIN_AT,
                docked: number % 3 == 0,
                crew: 4 + 3 * number as u16,
            };
            self.text(ship.name, Encoding::Ascii, NAMES[number as usize]);
            let captain = CAPTAINS[number as usize % CAPTAINS.len()];
            self.text(ship.captain, Encoding::Utf16, captain);
            self.ship(sites, &ship);
            let goods = Cargo {
                va: ship.cargo,
                id: 2000 + small,
                price: 19.75 * f64::from(small + 1),
                owner: va,
                balance: 5 - 2 * i64::from(small),
            };
            self.cargo(sites, &goods);
            ships.push(ship);
            cargo.push(goods);
        }
        (ships, cargo)
    }

    fn ship(&mut self, sites: &Sites, ship: &Ship) {
        let at = ship.va;
        self.pointer(at, sites.vtables[1]);
        self.write(at + 0x08, &ship.id.to_le_bytes());
        self.write(at + 0x0c, &0x8000_0001u32.to_le_bytes());
        self.pointer(at + 0x10, ship.name);
        self.write(at + 0x18, &ship.health.to_le_bytes());
        self.write(at + 0x1c, &ship.shield.to_le_bytes());
        for (axis, place) in ship.position.iter().zip([0x20, 0x28, 0x30]) {
            self.write(at + place, &axis.to_le_bytes());
        }
        if ship.next != 0 {
            self.pointer(at + 0x38, ship.next);
        }
        self.pointer(at + 0x40, ship.cargo);
        self.pointer(at + 0x48, ship.captain);
        self.write(at + 0x50, &[u8::from(ship.docked)]);
        self.write(at + 0x52, &ship.crew.to_le_bytes());
    }

    fn cargo(&mut self, sites: &Sites, cargo: &Cargo) {
        let at = cargo.va;
        self.pointer(at, sites.vtables[2]);
        self.write(at + 0x08, &cargo.id.to_le_bytes());
        self.write(at + 0x10, &cargo.price.to_le_bytes());
        self.pointer(at + 0x18, cargo.owner);
        self.write(at + 0x20, &cargo.balance.to_le_bytes());
    }

    fn world(&mut self, sites: &Sites, title: u64, ships: &[Ship]) -> World {
        let heap = self.plan.heap;
        let world = World {
            va: heap + 0x10,
            count: ships.len() as u32,
            table: heap + TABLE_AT,
            title,
            time: 86_400.5,
        };
        let at = world.va;
        self.pointer(at, sites.vtables[0]);
        self.write(at + 0x08, &world.count.to_le_bytes());
        self.pointer(at + 0x10, ships[0].va);
        self.pointer(at + 0x18, world.table);
        self.pointer(at + 0x20, world.title);
        self.write(at + 0x28, &world.time.to_le_bytes());
        for (slot, ship) in (world.table..).step_by(8).zip(ships) {
            self.pointer(slot, ship.va);
        }
        world
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
