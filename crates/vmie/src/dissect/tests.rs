//! Every kind of field on memory made for it, and memory made to deceive.

mod instances;

use proptest::prelude::*;

use super::class::{itanium_name, msvc_name};
use super::*;
use crate::addr::Gva;
use crate::memory::Prot;
use crate::testmem::TestMemory;

const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x50_0000;
const HEAP: u64 = 0x60_0000;

/// A program's memory: a page of code, one of constants, two of heap.
struct World {
    code: Vec<u8>,
    constants: Vec<u8>,
    heap: Vec<u8>,
}

impl World {
    fn new() -> Self {
        Self {
            code: vec![0xcc; 0x1000],
            constants: vec![0; 0x1000],
            heap: vec![0; 0x2000],
        }
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        let (part, start) = match at {
            HEAP.. => (&mut self.heap, HEAP),
            DATA.. => (&mut self.constants, DATA),
            _ => (&mut self.code, CODE),
        };
        let from = (at - start) as usize;
        part[from..from + bytes.len()].copy_from_slice(bytes);
    }

    fn word(&mut self, at: u64, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    /// A table with RTTI of the Itanium ABI; its address point.
    fn class(&mut self, at: u64, name: &str, base: u64, slots: u64) -> u64 {
        self.word(at, base.wrapping_neg());
        self.word(at + 8, at + 0x80);
        for slot in 0..slots {
            self.word(at + 16 + 8 * slot, CODE + 16 * slot);
        }
        self.word(at + 0x80, DATA + 0xf00);
        self.word(at + 0x88, at + 0xa0);
        self.put(at + 0xa0, name.as_bytes());
        at + 16
    }

    fn memory(&self) -> TestMemory<Gva> {
        TestMemory::new()
            .part(CODE, &self.code, Prot::R.union(Prot::X))
            .part(DATA, &self.constants, Prot::R)
            .part(HEAP, &self.heap, Prot::R.union(Prot::W))
    }

    fn fields(&self, len: u64) -> Vec<Field> {
        let memory = self.memory();
        Dissector::new(&memory, Width::Eight).instance(Gva(HEAP), len)
    }
}

/// Offset, length and kind of a field.
type Shape = (u64, u64, Kind);

fn shape(fields: &[Field]) -> Vec<Shape> {
    let one = |field: &Field| (field.offset, field.len, field.kind);
    fields.iter().map(one).collect()
}

#[test]
fn tables_and_what_leads_to_objects() {
    let mut world = World::new();
    let table = world.class(DATA, "N3lab6PlayerE", 0, 3);
    let second = world.class(DATA + 0x200, "7Monster", 0x58, 2);
    world.word(HEAP, table);
    world.word(HEAP + 8, HEAP + 0x800);
    world.word(HEAP + 0x800, second);
    world.word(HEAP + 16, second);
    world.word(HEAP + 24, CODE + 0x30);
    world.word(HEAP + 32, HEAP + 0x900);
    world.word(HEAP + 40, DATA + 0x600);
    world.put(DATA + 0x600, b"a banner\0");
    world.word(HEAP + 48, DATA + 0x700);
    world.put(DATA + 0x700, &utf16("Гlück auf"));
    let fields = world.fields(56);
    let kinds: Vec<Kind> = fields.iter().map(|field| field.kind).collect();
    assert_eq!(
        kinds,
        [
            Kind::Vtable,
            Kind::Object,
            Kind::Vtable,
            Kind::Function,
            Kind::Pointer,
            Kind::String,
            Kind::String
        ]
    );
    let details: Vec<&str> = fields.iter().map(|field| field.detail.as_str()).collect();
    assert_eq!(
        details,
        [
            "lab::Player, 3 slots",
            "Monster, base at +0x58",
            "Monster, base at +0x58, 2 slots",
            "",
            "",
            "\"a banner\"",
            "\"Гlück auf\""
        ]
    );
    assert!(fields[0].confidence > 95 && fields[0].evidence.contains("Itanium"));
    assert_eq!(fields[0].value, Value::Address(table));
}

/// An address that is made of letters, as one in some thousands is.
#[test]
fn what_leads_to_a_pointer_of_letters_is_no_string() {
    const LETTERS: u64 = 0x5566_5560_6170;
    assert!(LETTERS.to_le_bytes()[..6].iter().all(u8::is_ascii_graphic));
    let mut world = World::new();
    world.word(HEAP, HEAP + 0x800);
    world.word(HEAP + 0x800, LETTERS);
    world.word(HEAP + 8, HEAP + 0x900);
    world.put(HEAP + 0x900, b"letter\0");
    let memory = world.memory().part(LETTERS & !0xfff, &[0; 4096], Prot::R);
    let fields = Dissector::new(&memory, Width::Eight).instance(Gva(HEAP), 16);
    let kinds: Vec<Kind> = fields.iter().map(|field| field.kind).collect();
    assert_eq!(kinds, [Kind::Pointer, Kind::String]);
}

/// The last bytes of a number and the first of an address, which are letters up to a zero.
#[test]
fn a_number_and_an_address_are_no_text() {
    let mut world = World::new();
    world.put(HEAP, &[0x01, 0x02, 0x03, b'8', b't', b'8', b't', b'@']);
    const AT: u64 = 0x5566_7700_5061;
    world.word(HEAP + 8, AT);
    let memory = world.memory().part(AT & !0xfff, &[0; 4096], Prot::R);
    let fields = Dissector::new(&memory, Width::Eight).instance(Gva(HEAP), 16);
    let last = fields.last().expect("covers all");
    assert_eq!((last.offset, last.kind), (8, Kind::Pointer), "{fields:?}");
    assert!(
        fields.iter().all(|field| field.kind != Kind::Utf8),
        "{fields:?}"
    );
}

#[test]
fn an_address_of_letters_alone_is_no_text() {
    // As in a program that is not relocated: all that is not zero in the address is letters, and the number before it ends in some.
    const AT: u64 = 0x2f5a_7730;
    let mut world = World::new();
    world.put(HEAP, &2.0e4_f64.to_le_bytes()[..6]);
    world.put(HEAP + 6, b"n@");
    world.word(HEAP + 8, AT);
    let memory = world.memory().part(AT & !0xfff, &[0; 4096], Prot::R);
    let fields = Dissector::new(&memory, Width::Eight).instance(Gva(HEAP), 16);
    assert_eq!(
        shape(&fields),
        [(0, 8, Kind::Double), (8, 8, Kind::Pointer)],
        "{fields:?}"
    );
    // Text that goes on for longer, and text that is no address, is text.
    for (text, len) in [(&b"a name, 0wZ/\0"[..], 13), (b"\0\0\0name-abcd\0", 10)] {
        let mut world = World::new();
        world.put(HEAP, text);
        let memory = world.memory().part(AT & !0xfff, &[0; 4096], Prot::R);
        let fields = Dissector::new(&memory, Width::Eight).instance(Gva(HEAP), 24);
        assert!(
            fields
                .iter()
                .any(|field| field.kind == Kind::Utf8 && field.len == len),
            "{fields:?}"
        );
    }
}

fn utf16(text: &str) -> Vec<u8> {
    let units = text.encode_utf16().chain([0]);
    units.flat_map(u16::to_le_bytes).collect()
}

#[test]
fn tables_without_type_information_count_their_slots() {
    let mut world = World::new();
    world.word(DATA + 8, CODE);
    world.word(DATA + 16, CODE + 8);
    world.word(HEAP, DATA + 8);
    let fields = world.fields(8);
    assert_eq!(shape(&fields), [(0, 8, Kind::Vtable)]);
    assert_eq!(fields[0].detail, "2 slots");
    assert!(fields[0].confidence < 70);
}

#[test]
fn visual_c_names_its_classes() {
    let mut world = World::new();
    // 64 bits: addresses relative to the image, found by the locator's own.
    let locator = DATA + 0x100;
    for (index, value) in [1, 0x10, 0, 0x200, 0x300, 0x100].into_iter().enumerate() {
        let part: u32 = value;
        world.put(locator + 4 * index as u64, &part.to_le_bytes());
    }
    world.put(DATA + 0x210, b".?AVShip@space@@\0");
    world.word(DATA + 8, locator);
    world.word(DATA + 16, CODE);
    world.word(HEAP, DATA + 16);
    let memory = world.memory();
    let table = Dissector::new(&memory, Width::Eight).vtable(Gva(DATA + 16));
    let rtti = table.and_then(|table| table.rtti).expect("named");
    assert_eq!(
        (rtti.class.as_str(), rtti.base, rtti.msvc),
        ("space::Ship", 0x10, true)
    );

    // 32 bits: addresses.
    let mut world = World::new();
    for (index, value) in [0, 0, 0, DATA as u32 + 0x200].into_iter().enumerate() {
        let part: u32 = value;
        world.put(locator + 4 * index as u64, &part.to_le_bytes());
    }
    world.put(DATA + 0x208, b".?AUCargo@@\0");
    world.put(DATA + 12, &(locator as u32).to_le_bytes());
    world.put(DATA + 16, &(CODE as u32).to_le_bytes());
    world.put(DATA + 20, &(CODE as u32 + 4).to_le_bytes());
    let memory = world.memory();
    let table = Dissector::new(&memory, Width::Four).vtable(Gva(DATA + 16));
    let table = table.expect("a table");
    assert_eq!(table.slots, 2);
    assert_eq!(table.rtti.map(|rtti| rtti.class), Some("Cargo".to_owned()));
}

#[test]
fn names_of_classes() {
    for (mangled, class) in [
        ("5World", Some("World")),
        ("*5World", Some("World")),
        ("N3lab6PlayerE", Some("lab::Player")),
        (
            "N12_GLOBAL__N_15ThingE",
            Some("(anonymous namespace)::Thing"),
        ),
        ("3BoxIiE", Some("Box<int>")),
        ("i", None),
        ("5Wor", None),
        ("", None),
        ("\u{7f}", None),
    ] {
        assert_eq!(itanium_name(mangled).as_deref(), class, "{mangled}");
    }
    for (mangled, class) in [
        (".?AVShip@@", Some("Ship")),
        (".?AUInner@Outer@ns@@", Some("ns::Outer::Inner")),
        (".?AV?$Box@H@@", Some("?$Box@H@@")),
        (".?AV@@", None),
        (".?AVShip", None),
        (".H", None),
    ] {
        assert_eq!(msvc_name(mangled).as_deref(), class, "{mangled}");
    }
}

#[test]
fn a_name_that_stands_for_an_endless_one_is_none() {
    // Each pair is twice as long as the one before.
    let mut name = "1aI".to_owned();
    for _ in 0..40 {
        name.push_str("S_IS_");
    }
    name.push_str(&"E".repeat(41));
    let begin = std::time::Instant::now();
    let class = itanium_name(&name);
    assert!(class.is_none_or(|class| class.len() <= 1024));
    let mut name = "1aIi".to_owned();
    for index in 0..30 {
        let last = if index == 0 {
            "_".to_owned()
        } else {
            format!("{:X}_", index - 1)
        };
        name.push_str(&format!("1aIS{last}S{last}E"));
    }
    name.push('E');
    let class = itanium_name(&name);
    assert!(class.is_none_or(|class| class.len() <= 1024));
    assert!(begin.elapsed().as_secs() < 5);
}

#[test]
fn numbers() {
    let cases: &[(&[u8], &[Shape])] = &[
        (&1.0_f64.to_le_bytes(), &[(0, 8, Kind::Double)]),
        (&0.1_f64.to_le_bytes(), &[(0, 8, Kind::Double)]),
        (&(0.1_f64 + 0.2).to_le_bytes(), &[(0, 8, Kind::Double)]),
        (&(-1234.5_f64).to_le_bytes(), &[(0, 8, Kind::Double)]),
        (
            &pair(87.5_f32.to_bits(), 12.25_f32.to_bits()),
            &[(0, 4, Kind::Float), (4, 4, Kind::Float)],
        ),
        (
            &pair(0.1_f32.to_bits(), (-1e-3_f32).to_bits()),
            &[(0, 4, Kind::Float), (4, 4, Kind::Float)],
        ),
        (
            &pair(100.0_f32.to_bits(), 0),
            &[(0, 4, Kind::Float), (4, 4, Kind::Zero)],
        ),
        (
            &pair(7, (-17_i32).cast_unsigned()),
            &[(0, 4, Kind::Integer), (4, 4, Kind::Integer)],
        ),
        (
            &pair(8, 1_234_567),
            &[(0, 4, Kind::Integer), (4, 4, Kind::Integer)],
        ),
        (
            &pair(7, 1.0_f32.to_bits()),
            &[(0, 4, Kind::Integer), (4, 4, Kind::Float)],
        ),
        (&42_u64.to_le_bytes(), &[(0, 8, Kind::Integer)]),
        (&(-3_i64).to_le_bytes(), &[(0, 8, Kind::Integer)]),
        (
            &pair(0x8000_0001, 0x9000_0000),
            &[(0, 4, Kind::Flags), (4, 4, Kind::Flags)],
        ),
        (
            &0xdead_beef_cafe_f00d_u64.to_le_bytes(),
            &[(0, 8, Kind::Unknown)],
        ),
        (
            &f64::MIN_POSITIVE.to_le_bytes(),
            &[(0, 4, Kind::Zero), (4, 4, Kind::Integer)],
        ),
        (
            &f64::NAN.to_le_bytes(),
            &[(0, 4, Kind::Zero), (4, 4, Kind::Unknown)],
        ),
        (&[0; 8], &[(0, 8, Kind::Zero)]),
    ];
    for (bytes, expected) in cases {
        let mut world = World::new();
        world.put(HEAP, bytes);
        let fields = world.fields(8);
        assert_eq!(shape(&fields), *expected, "{bytes:x?} {fields:?}");
    }
    let mut world = World::new();
    world.put(HEAP, &pair(7, (-17_i32).cast_unsigned()));
    world.put(HEAP + 8, &(-1e-3_f64).to_le_bytes());
    let values: Vec<String> = world
        .fields(16)
        .iter()
        .map(|one| one.value.to_string())
        .collect();
    assert_eq!(values, ["7", "-17", "-0.001"]);
}

fn pair(low: u32, high: u32) -> [u8; 8] {
    (u64::from(high) << 32 | u64::from(low)).to_le_bytes()
}

#[test]
fn text_in_place() {
    let mut world = World::new();
    // As in a list item: a number, and text that begins at no border.
    world.put(HEAP, &pair(1000, 0));
    world.put(HEAP + 4, &1_u16.to_le_bytes());
    world.put(HEAP + 7, b"item-0001\0");
    world.put(HEAP + 32, &utf16("Hüter der Schlüssel"));
    world.put(HEAP + 96, "Zürich Größe\0".as_bytes());
    let fields = world.fields(128);
    let text: Vec<(u64, Kind, String)> = fields
        .iter()
        .filter(|field| matches!(field.kind, Kind::Utf8 | Kind::Utf16))
        .map(|field| (field.offset, field.kind, field.value.to_string()))
        .collect();
    assert_eq!(
        text,
        [
            (7, Kind::Utf8, "\"item-0001\"".to_owned()),
            (32, Kind::Utf16, "\"Hüter der Schlüssel\"".to_owned()),
            (96, Kind::Utf8, "\"Zürich Größe\"".to_owned())
        ]
    );
    assert_eq!(fields.iter().map(|field| field.len).sum::<u64>(), 128);
}

#[test]
fn strings_and_vectors() {
    let mut world = World::new();
    // In place.
    world.word(HEAP, HEAP + 16);
    world.word(HEAP + 8, 3);
    world.put(HEAP + 16, b"Ada\0");
    // On the heap.
    world.word(HEAP + 32, HEAP + 0x1000);
    world.word(HEAP + 40, 20);
    world.word(HEAP + 48, 30);
    world.put(HEAP + 0x1000, b"twenty bytes of text\0");
    // Of four pointers, in an allocation of 40 bytes.
    for (index, end) in [0, 32, 32].into_iter().enumerate() {
        world.word(HEAP + 64 + 8 * index as u64, HEAP + 0x1108 + 8 + end);
    }
    world.word(HEAP + 0x1108, 0x31);
    let fields = world.fields(88);
    assert_eq!(
        shape(&fields),
        [
            (0, 32, Kind::StdString),
            (32, 32, Kind::StdString),
            (64, 24, Kind::StdVector)
        ]
    );
    let values: Vec<String> = fields.iter().map(|one| one.value.to_string()).collect();
    assert_eq!(
        values,
        ["\"Ada\"", "\"twenty bytes of text\"", "32 of 32 bytes"]
    );

    // A length that the terminator does not agree with, and pointers that ascend by chance.
    world.word(HEAP + 8, 2);
    world.word(HEAP + 40, 31);
    world.word(HEAP + 0x1108, 0x21);
    let kinds: Vec<Kind> = world.fields(88).iter().map(|one| one.kind).collect();
    assert!(
        !kinds.contains(&Kind::StdString) && !kinds.contains(&Kind::StdVector),
        "{kinds:?}"
    );
}

/// Three words, and what is behind them up to 32 bytes.
fn words(values: [u64; 4]) -> Vec<u8> {
    values.into_iter().flat_map(u64::to_le_bytes).collect()
}

fn padded(bytes: &[u8], len: usize) -> Vec<u8> {
    let mut all = bytes.to_vec();
    all.resize(len, 0);
    all
}

/// What a string object is: its length, kind and text.
type Shown = (u64, Kind, &'static str);

#[test]
fn strings_of_every_library() {
    let text = "text of thirty bytes, 30 in all";
    let at = HEAP + 0x1000;
    let cases: Vec<(&str, Vec<u8>, Option<Shown>)> = vec![
        // libc++: the length doubled, the text; or allocated with its lowest bit set, length, pointer.
        (
            "classic, in place",
            padded(b"\x1eexperimentation", 24),
            Some((24, Kind::LibcxxString, "experimentation")),
        ),
        (
            "classic, as long as it gets",
            padded(b"\x2ca text of 22 letters, \0", 24),
            Some((24, Kind::LibcxxString, "a text of 22 letters, ")),
        ),
        (
            "classic, elsewhere",
            words([0x31, 31, at, 0])[..24].to_vec(),
            Some((24, Kind::LibcxxString, text)),
        ),
        (
            "alternate, in place",
            [padded(b"experimentation", 23), vec![15]].concat(),
            Some((24, Kind::LibcxxAltString, "experimentation")),
        ),
        (
            "alternate, elsewhere",
            words([at, 31, 0x30 | 1 << 63, 0])[..24].to_vec(),
            Some((24, Kind::LibcxxAltString, text)),
        ),
        // Visual C++: sixteen bytes, length, capacity.
        (
            "Visual C++, in place",
            [padded(b"Ada", 16), words([3, 15, 0, 0])[..16].to_vec()].concat(),
            Some((32, Kind::MsvcString, "Ada")),
        ),
        (
            "Visual C++, elsewhere",
            words([at, 0, 31, 47]),
            Some((32, Kind::MsvcString, text)),
        ),
        (
            "Visual C++, wide, in place",
            [
                padded(&utf16("Größe")[..10], 16),
                words([5, 7, 0, 0])[..16].to_vec(),
            ]
            .concat(),
            Some((32, Kind::MsvcWstring, "Größe")),
        ),
        (
            "Visual C++, wide, elsewhere",
            words([at + 0x80, 0, 11, 15]),
            Some((32, Kind::MsvcWstring, "漢字 and more")),
        ),
        // Lengths, terminators and capacities that do not agree.
        (
            "a length too long",
            padded(b"\x20experimentation", 24),
            None,
        ),
        (
            "a length too short",
            [padded(b"experimentation", 23), vec![14]].concat(),
            None,
        ),
        // All of the text is there, so a character that is cut is none.
        (
            "half a character at the end, in place",
            padded(b"\x14experimen\xc3", 24),
            None,
        ),
        (
            "half a character at the end, Visual C++",
            [padded(b"Ad\xc3", 16), words([3, 15, 0, 0])[..16].to_vec()].concat(),
            None,
        ),
        (
            "no terminator",
            words([0x31, 30, at, 0])[..24].to_vec(),
            None,
        ),
        ("longer than its room", words([at, 0, 31, 30]), None),
        ("an odd capacity", words([at, 0, 31, 40]), None),
        (
            "an unmapped text",
            words([0x31, 31, HEAP + 0x10_0000, 0])[..24].to_vec(),
            None,
        ),
        ("a constant text", words([DATA, 0, 0, 31]), None),
    ];
    for (what, bytes, expected) in cases {
        let mut world = World::new();
        world.put(HEAP, &bytes);
        world.put(at, text.as_bytes());
        world.put(at + 0x80, &utf16("漢字 and more"));
        let fields = world.fields(0x40);
        let strings: Vec<&Field> = fields.iter().filter(|one| one.kind.is_string()).collect();
        match expected {
            Some((len, kind, text)) => {
                let [string] = strings[..] else {
                    panic!("{what}: {fields:#?}");
                };
                assert_eq!(
                    (string.offset, string.len, string.kind),
                    (0, len, kind),
                    "{what}"
                );
                assert_eq!(string.value, Value::Text(text.to_owned()), "{what}");
                assert!(string.confidence >= 88, "{what}: {string:?}");
                assert_eq!(string.detail, kind.library());
            }
            None => assert!(strings.is_empty(), "{what}: {strings:#?}"),
        }
    }
}

#[test]
fn strings_of_32_bits() {
    let mut world = World::new();
    let four =
        |values: [u32; 3]| -> Vec<u8> { values.into_iter().flat_map(u32::to_le_bytes).collect() };
    let at = HEAP as u32 + 0x1000;
    world.put(HEAP + 0x1000, b"text of thirty bytes, 30 in all");
    world.put(HEAP, &padded(b"\x0aseven", 12));
    world.put(HEAP + 16, &four([0x21, 31, at]));
    world.put(HEAP + 32, &padded(b"Visual", 16));
    world.put(HEAP + 48, &four([6, 15, 0]));
    world.put(HEAP + 64, &padded(&utf16("wide"), 16));
    world.put(HEAP + 80, &four([4, 7, 0]));
    let memory = world.memory();
    let fields = Dissector::new(&memory, Width::Four).instance(Gva(HEAP), 0x60);
    let strings: Vec<(u64, u64, Kind)> = shape(&fields)
        .into_iter()
        .filter(|one| one.2.is_string())
        .collect();
    assert_eq!(
        strings,
        [
            (0, 12, Kind::LibcxxString),
            (16, 12, Kind::LibcxxString),
            (32, 24, Kind::MsvcString),
            (64, 24, Kind::MsvcWstring)
        ],
        "{fields:#?}"
    );
}

#[test]
fn vectors_without_a_note_of_their_size() {
    let mut world = World::new();
    // Visual C++'s heap notes nothing that could be read. Of two pointers; of numbers.
    let vector = |begin: u64, used: u64, room: u64| words([begin, begin + used, begin + room, 0]);
    world.put(HEAP, &vector(HEAP + 0x1100, 16, 24));
    world.word(HEAP + 0x1100, HEAP + 0x1400);
    world.word(HEAP + 0x1108, HEAP + 0x1500);
    world.put(HEAP + 32, &vector(HEAP + 0x1200, 24, 36));
    world.put(HEAP + 0x1200, &[7; 24]);
    // Pointers that ascend by chance, far from each other.
    world.put(HEAP + 64, &vector(HEAP + 0x1300, 8, 0x800));
    let fields = world.fields(88);
    assert_eq!(
        shape(&fields),
        [
            (0, 24, Kind::StdVector),
            (24, 8, Kind::Zero),
            (32, 24, Kind::StdVector),
            (56, 8, Kind::Zero),
            (64, 8, Kind::Pointer),
            (72, 8, Kind::Pointer),
            (80, 8, Kind::Pointer)
        ]
    );
    assert!(fields[0].confidence > fields[2].confidence);
}

/// What a field says, from the bytes alone and without the code under test.
fn agrees(field: &Field, bytes: &[u8], width: Width) -> bool {
    let mut word = [0; 8];
    let len = bytes.len().min(8);
    word[..len].copy_from_slice(&bytes[..len]);
    let bits = u64::from_le_bytes(word);
    let size = width.bytes() as u64;
    match (field.kind, &field.value) {
        (Kind::Zero, Value::Zeros) => bytes.iter().all(|&byte| byte == 0),
        (kind, Value::Address(value)) => {
            kind.is_pointer() && field.len == size && *value == bits && *value >= 0x1_0000
        }
        (Kind::Float, Value::Float(value)) => field.len == 4 && value.to_bits() == bits as u32,
        (Kind::Double, Value::Double(value)) => field.len == 8 && value.to_bits() == bits,
        (Kind::Integer, Value::Integer(value)) => match field.len {
            1..=3 => *value == bits as i64,
            4 => *value == i64::from(bits as i32),
            8 => *value == bits as i64,
            _ => false,
        },
        (Kind::Flags | Kind::Unknown, Value::Bits(value)) => field.len <= 8 && *value == bits,
        (Kind::Utf8, Value::Text(text)) => bytes.starts_with(text.as_bytes()),
        (Kind::Utf16, Value::Text(text)) => {
            let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            bytes.starts_with(&units)
        }
        (Kind::StdVector, Value::Room { used, room }) => {
            let size = size as usize;
            let part = |index: usize| {
                let mut word = [0; 8];
                word[..size].copy_from_slice(&bytes[index * size..(index + 1) * size]);
                u64::from_le_bytes(word)
            };
            bytes.len() == 3 * size && part(0) + used == part(1) && part(0) + room == part(2)
        }
        // The text may lie elsewhere; its length is among the bytes, however it is written there.
        (kind, Value::Text(text)) => {
            let count = if kind == Kind::MsvcWstring {
                text.encode_utf16().count()
            } else {
                text.len()
            };
            let short = bytes[0] as usize == 2 * count || bytes[bytes.len() - 1] as usize == count;
            let long = bytes
                .chunks_exact(size as usize)
                .any(|part| part[..4] == (count as u32).to_le_bytes());
            kind.is_string() && (short || long || count >= 256)
        }
        _ => false,
    }
}

#[test]
fn a_hole_is_not_zeros() {
    let mut world = World::new();
    world.word(HEAP + 0xff8, 42);
    let memory = world.memory().absent(HEAP + 0x1000, 0x800);
    let mut dissector = Dissector::new(&memory, Width::Eight);
    let fields = dissector.instance(Gva(HEAP + 0xff8), 0x820);
    assert_eq!(
        shape(&fields),
        [(0, 8, Kind::Integer), (8, 0x818, Kind::Unreadable)]
    );
    assert!(matches!(
        fields[1].value,
        Value::Unread(Cause::Absent { .. })
    ));
    // Behind the end of what is mapped, and at the end of the space.
    let fields = dissector.instance(Gva(HEAP + 0x1ff8), 16);
    assert_eq!(
        shape(&fields),
        [(0, 8, Kind::Zero), (8, 8, Kind::Unreadable)]
    );
    let fields = dissector.instance(Gva(u64::MAX - 3), 100);
    assert_eq!(shape(&fields), [(0, 4, Kind::Unreadable)]);
    assert!(dissector.instance(Gva(HEAP), 0).is_empty());
    let all: u64 = dissector
        .instance(Gva(HEAP), u64::MAX)
        .iter()
        .map(|one| one.len)
        .sum();
    assert_eq!(all, MAX_LEN);
}
