//! Imports of images: relocations of both forms and widths, and the stubs that go with them.

use super::*;
use crate::os::{Imports, SlotKind};

const RELOCATIONS: usize = 0x2a00;
const PLT_RELOCATIONS: usize = 0x2b00;
const NEEDED: usize = 0x2c00;
const CODE: usize = 0x1800;
const GOT: u64 = 0x3a00;

/// Sorts of relocations, by the numbers that both architectures have in common, and that of functions
/// which are chosen.
const POINTER: u64 = 1;
const COPY: u64 = 5;
const ADDRESS: u64 = 6;
const JUMP: u64 = 7;

/// What is imported, beyond what [`make`] makes.
#[derive(Clone, Copy, Debug)]
struct Machine {
    plan: Plan,
    /// Whether it is i386's: relocations without addends, and code of 32 bits.
    old: bool,
}

impl Machine {
    fn chosen(self) -> u64 {
        if self.old { 42 } else { 37 }
    }

    /// Place, sort, symbol and addend of a relocation.
    fn record(
        self,
        w: &mut Writer,
        at: usize,
        (place, kind, symbol, addend): (u64, u64, u64, u64),
    ) -> usize {
        let info = match self.plan.wide {
            true => symbol << 32 | kind,
            false => symbol << 8 | kind,
        };
        let place = place + self.plan.linked_at;
        let at = w.fields(at, &[(place, 4, 8), (info, 4, 8)]);
        match self.old {
            true => at,
            false => w.fields(at, &[(addend, 4, 8)]),
        }
    }

    fn bytes(self) -> Vec<u8> {
        let plan = self.plan;
        let mut w = Writer {
            plan,
            bytes: make(plan),
        };
        w.put(18, if self.old { 3 } else { 62 }, 2);
        let linked = |offset: usize| offset as u64 + plan.linked_at;
        let chooser = 0x1080 + plan.linked_at;
        let mut end = RELOCATIONS;
        for record in [
            (GOT + 0x40, ADDRESS, 1, 0),
            (GOT + 0x48, POINTER, 1, 0x10),
            // Not a slot: nothing but the distance is added.
            (GOT + 0x50, 8, 0, 0x1000),
            (GOT + 0x60, COPY, 7, 0),
        ] {
            end = self.record(&mut w, end, record);
        }
        let mut plt_end = PLT_RELOCATIONS;
        for record in [
            (GOT + 0x18, JUMP, 1, 0),
            (GOT + 0x20, self.chosen(), 0, chooser),
        ] {
            plt_end = self.record(&mut w, plt_end, record);
        }
        // What the file has where the loader will put the chosen function.
        if self.old {
            w.put(GOT as usize + 0x20, chooser, 4);
        }
        // The symbol that is imported is of version 5, which a library is to have.
        w.put(0x2600 + 2, 5, 2);
        let names = 0x2200 + SYMBOLS.len() * if plan.wide { 24 } else { 16 };
        let text = w
            .bytes
            .windows(4)
            .position(|bytes| bytes == b"OLD\0")
            .expect("a version");
        w.fields(
            NEEDED,
            &[(1, 2, 2), (1, 2, 2), (0, 4, 4), (16, 4, 4), (0, 4, 4)],
        );
        w.fields(
            NEEDED + 16,
            &[
                (0, 4, 4),
                (0, 2, 2),
                (5, 2, 2),
                ((text - names) as u64, 4, 4),
                (0, 4, 4),
            ],
        );
        let (table, len, form) = match self.old {
            true => (17, 18, 17),
            false => (7, 8, 7),
        };
        let mut at = 0x3800 + 6 * if plan.wide { 16 } else { 8 };
        for (tag, value) in [
            (table, linked(RELOCATIONS)),
            (len, (end - RELOCATIONS) as u64),
            (23, linked(PLT_RELOCATIONS)),
            (2, (plt_end - PLT_RELOCATIONS) as u64),
            (20, form),
            (3, linked(GOT as usize)),
            (0x6fff_fffe, linked(NEEDED)),
            (0, 0),
        ] {
            at = w.fields(at, &[(tag, 4, 8), (value, 4, 8)]);
        }
        for (index, slot) in [GOT + 0x18, GOT + 0x20].into_iter().enumerate() {
            let at = CODE + 16 * index;
            let (opcode, field) = match (self.old, plan.fixed) {
                (true, false) => (0xa3ff, slot - GOT),
                (true, true) => (0x25ff, slot + plan.linked_at),
                (false, _) => (0x25ff, slot - (at as u64 + 6)),
            };
            w.put(at, opcode, 2);
            w.put(at + 2, field, 4);
            w.put(at + 6, 0x68, 1);
            w.put(at + 11, 0xe9, 1);
        }
        w.bytes
    }
}

fn machines() -> Vec<Machine> {
    let mut machines = Vec::new();
    for plan in plans() {
        machines.push(Machine { plan, old: false });
        if !plan.wide {
            machines.push(Machine { plan, old: true });
        }
    }
    machines
}

fn imports(machine: Machine, bytes: &[u8]) -> Result<Imports, ElfError> {
    let base = base(machine.plan);
    let memory = load(bytes, base);
    let image = ElfImage::open(&memory, Gva(base)).expect("an image");
    image.imports(&|offset, buf| {
        let from = offset as usize;
        buf.copy_from_slice(&bytes[from..from + buf.len()]);
        true
    })
}

#[test]
fn slots_and_stubs_of_every_sort_of_image() {
    for machine in machines() {
        let base = base(machine.plan);
        let imports = imports(machine, &machine.bytes()).expect("imports");
        let slots: Vec<_> = imports
            .slots
            .iter()
            .map(|slot| {
                let name = imports.name_of(slot);
                let name = name.map(|name| (name.symbol.as_str(), name.version.as_deref()));
                let resolver = slot.resolver.map(|va| va.0 - base);
                (slot.va.0 - base, slot.kind, name, slot.addend, resolver)
            })
            .collect();
        let imported = Some(("imported", Some("OLD")));
        let addend = if machine.old { 0 } else { 0x10 };
        assert_eq!(
            slots,
            [
                (GOT + 0x18, SlotKind::Jump, imported, 0, None),
                (
                    GOT + 0x20,
                    SlotKind::Chosen,
                    None,
                    if machine.old {
                        0
                    } else {
                        (0x1080 + machine.plan.linked_at).cast_signed()
                    },
                    Some(0x1080)
                ),
                (GOT + 0x40, SlotKind::Address, imported, 0, None),
                (GOT + 0x48, SlotKind::Pointer, imported, addend, None),
                (
                    GOT + 0x60,
                    SlotKind::Copy,
                    Some(("variable", None)),
                    0,
                    None
                ),
            ],
            "{machine:?}"
        );
        let stubs: Vec<_> = imports
            .stubs
            .iter()
            .map(|stub| (stub.va.0 - base, stub.len, stub.slot.0 - base))
            .collect();
        let code = CODE as u64;
        assert_eq!(
            stubs,
            [(code, 16, GOT + 0x18), (code + 16, 16, GOT + 0x20)],
            "{machine:?}"
        );
        assert_eq!((imports.missing, imports.unseen), (0, 0));
        assert_eq!(imports.width, if machine.plan.wide { 8 } else { 4 });
    }
}

#[test]
fn stubs_are_named_after_what_they_lead_to() {
    for machine in machines() {
        let base = base(machine.plan);
        let bytes = machine.bytes();
        let memory = load(&bytes, base);
        let image = ElfImage::open(&memory, Gva(base)).expect("an image");
        let symbols = image.symbols(&|offset, buf| {
            let from = offset as usize;
            buf.copy_from_slice(&bytes[from..from + buf.len()]);
            true
        });
        let symbols = symbols.expect("symbols");
        let named = |at: u64| {
            let (symbol, offset) = symbols.nearest(Gva(base + at))?;
            Some((symbol.name, offset))
        };
        let code = CODE as u64;
        assert_eq!(named(code), Some(("imported@plt", 0)), "{machine:?}");
        assert_eq!(named(code + 6), Some(("imported@plt", 6)));
        assert_eq!(named(code + 16), Some(("resolver@plt", 0)));
    }
}

/// The tag of an entry of the dynamic section.
fn set(machine: Machine, bytes: &mut [u8], tag: u64, value: u64) {
    let each = if machine.plan.wide { 16 } else { 8 };
    let word = each / 2;
    let entries = bytes[0x3800..].chunks_exact_mut(each);
    let is_it = |entry: &&mut [u8]| entry[..word] == tag.to_le_bytes()[..word];
    let entry = entries.into_iter().find(is_it).expect("the tag is there");
    entry[word..].copy_from_slice(&value.to_le_bytes()[..word]);
}

#[test]
fn absurd_relocations_are_refused_or_counted() {
    for machine in machines() {
        let good = machine.bytes();
        let size_tag = if machine.old { 18 } else { 8 };
        for size in [u64::MAX, 1 << 30, 0x5000, 0x1000] {
            let mut bytes = good.clone();
            set(machine, &mut bytes, size_tag, size);
            let imports = imports(machine, &bytes);
            match size {
                // More than there is; all that is behind the records is zeros or no relocation.
                0x1000 => assert!(imports.is_ok(), "{machine:?}"),
                _ => assert!(
                    matches!(imports, Err(ElfError::Damaged(_))),
                    "{machine:?} {size:#x}"
                ),
            }
        }
        // A slot outside of the image.
        let mut bytes = good.clone();
        bytes[RELOCATIONS + 2] = 0x77;
        let imports = imports(machine, &bytes).expect("the others are good");
        assert_eq!(
            (imports.missing, imports.slots.len()),
            (1, 4),
            "{machine:?}"
        );
    }
    let machine = machines()[0];
    let mut other = machine.bytes();
    other[18] = 40;
    assert!(matches!(
        imports(machine, &other),
        Err(ElfError::Unsupported(_))
    ));
    // Tables that are not there, and a section that says nothing.
    let mut none = machine.bytes();
    none[0x3800..0x3a00].fill(0);
    let imports = imports(machine, &none).expect("nothing is imported");
    assert_eq!(imports.names, []);
    assert_eq!(imports.stubs.len(), 2, "they jump through data");
    assert!(
        imports
            .slots
            .iter()
            .all(|slot| slot.kind == SlotKind::OfStub)
    );
}
