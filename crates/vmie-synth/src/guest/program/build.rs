//! Writes the program: sections, code, text, objects.

use super::{Cargo, Encoding, Function, ListEnd, Pointer, Program, ProgramPlan, Ship, Text, World};
use crate::guest::asm::{Assembler, CodeRef, RefKind};
use crate::guest::entry::Flags;
use crate::guest::machine::Machine;
use crate::guest::phys::PAGE;
use crate::guest::space::Space;
use crate::guest::truth::VaRange;

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

pub(super) struct Builder<'a> {
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
    pub(super) fn new(machine: &'a mut Machine, space: Space, plan: &'a ProgramPlan) -> Self {
        Self {
            machine,
            space,
            plan,
            texts: Vec::new(),
            pointers: Vec::new(),
        }
    }

    pub(super) fn build(mut self) -> Program {
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
