//! Instances of a class together.

use super::*;
use crate::pointers::Edge;

/// Objects of `{vtable, Object *next, u32 id, float, std::string}` and what only looks like them.
fn crowd() -> (World, Vec<Gva>) {
    let mut world = World::new();
    let table = world.class(DATA, "5Actor", 0, 2);
    let at = |index: u64| HEAP + 0x10 + index * 0x100;
    for index in 0..3 {
        let base = at(index);
        world.word(base - 8, 0x51);
        world.word(base, table);
        world.word(base + 8, if index == 0 { 0 } else { at(index - 1) });
        world.put(base + 16, &pair(7 + index as u32, 0.5_f32.to_bits()));
        world.word(base + 24, base + 40);
        world.word(base + 32, 3);
        world.put(base + 40, b"Ada\0");
    }
    // On a stack, among return addresses.
    world.put(CODE + 0x100, &[0xe8, 1, 2, 3, 4]);
    world.put(CODE + 0x200, &[0xff, 0x50, 0x18]);
    let stack = HEAP + 0x1000;
    for (index, word) in [
        CODE + 0x105,
        stack + 0x80,
        table,
        at(1),
        7,
        CODE + 0x203,
        stack + 0x90,
        at(2),
    ]
    .into_iter()
    .enumerate()
    {
        world.word(stack + 8 * index as u64, word);
    }
    // Alone among zeros, but beside a return address.
    world.word(stack + 0x200, table);
    world.word(stack + 0x1e0, CODE + 0x105);
    let mut places: Vec<Gva> = (0..3).map(|index| Gva(at(index))).collect();
    places.push(Gva(stack + 16));
    places.push(Gva(stack + 0x200));
    (world, places)
}

#[test]
fn stale_tables_on_a_stack_are_no_instances() {
    let (mut world, places) = crowd();
    // A live one on the stack agrees in its fields, whatever is around it.
    let local = HEAP + 0x1800;
    let copy = world.heap[0x110..0x160].to_vec();
    world.put(local, &copy);
    world.word(local + 24, local + 40);
    world.word(local - 16, CODE + 0x105);
    let memory = world.memory();
    let mut dissector = Dissector::new(&memory, Width::Eight);
    let mut all = places.clone();
    all.push(Gva(local));
    for &model in &places[..3] {
        let judged = dissector.likeness(model, &all, 0x48);
        let alike: Vec<bool> = judged.iter().map(|one| one.alike).collect();
        assert_eq!(alike, [true, true, true, false, false, true], "{judged:#?}");
        assert!(
            judged[3].evidence.contains("a return address"),
            "{judged:#?}"
        );
    }
    // Where nothing can be read nothing speaks against it, and nothing panics.
    let outside = dissector.likeness(places[0], &[Gva(8), Gva(u64::MAX - 7)], 0x48);
    assert!(outside.iter().all(|one| one.agrees == 0));
    assert!(dissector.likeness(places[0], &[], 0x48).is_empty());
}

#[test]
fn numbers_that_are_two_are_told_by_several_instances() {
    let mut world = World::new();
    let at = |index: u64| HEAP + index * 0x40;
    for index in 0..6_u32 {
        let base = at(u64::from(index));
        // {u32 id, u16 count, u8 grade, pad}, {u8 kind, u8 level, u16 pad, u32 pad}.
        world.put(
            base,
            &pair(1000 + index, (0x41 + index % 4) << 16 | (index + 1)),
        );
        world.word(base + 8, u64::from((index + 1) << 8 | 3));
        world.word(base + 16, u64::from(40 + index));
    }
    let memory = world.memory();
    let starts: Vec<Gva> = (0..6).map(|index| Gva(at(index))).collect();
    let all = Dissector::new(&memory, Width::Eight).instances(&starts, 0x18);
    let fields: Vec<Field> = all.fields.iter().map(|one| one.field.clone()).collect();
    assert_eq!(
        shape(&fields),
        [
            (0, 4, Kind::Integer),
            (4, 2, Kind::Integer),
            (6, 2, Kind::Integer),
            (8, 1, Kind::Integer),
            (9, 1, Kind::Integer),
            (10, 6, Kind::Zero),
            (16, 8, Kind::Integer)
        ]
    );
    assert!(fields[1].evidence.contains("two numbers"), "{fields:#?}");
    assert_eq!(all.fields[2].values[1], Value::Integer(0x42));
    assert!(!all.fields[3].varies && all.fields[4].varies);
}

#[test]
fn instances_vote() {
    let mut world = World::new();
    let table = world.class(DATA, "5Actor", 0, 2);
    let size = 0x40;
    let at = |index: u64| HEAP + index * 0x100;
    for index in 0..4 {
        let base = at(index);
        world.word(base, table);
        // An integer and one that is zero in most; a pointer that is null in some; a float.
        world.put(
            base + 8,
            &pair(7 + index as u32, if index == 1 { 5 } else { 0 }),
        );
        world.word(base + 16, if index > 1 { at(0) } else { 0 });
        world.put(base + 24, &pair((0.5 + index as f32).to_bits(), 0));
        world.word(base + 32, 0);
        world.word(base + 40, 1);
    }
    let memory = world.memory();
    let mut dissector = Dissector::new(&memory, Width::Eight);
    let starts: Vec<Gva> = (0..4).map(|index| Gva(at(index))).collect();
    let all = dissector.instances(&starts, size);
    let map: Vec<(u64, u64, Kind, usize, bool)> = all
        .fields
        .iter()
        .map(|one| {
            (
                one.field.offset,
                one.field.len,
                one.field.kind,
                one.votes,
                one.varies,
            )
        })
        .collect();
    assert_eq!(
        map,
        [
            (0, 8, Kind::Vtable, 4, false),
            (8, 4, Kind::Integer, 4, true),
            (12, 4, Kind::Integer, 1, true),
            (16, 8, Kind::Object, 2, true),
            (24, 4, Kind::Float, 4, true),
            (28, 12, Kind::Zero, 0, false),
            (40, 8, Kind::Integer, 4, false),
            (48, 16, Kind::Zero, 0, false)
        ]
    );
    assert_eq!(
        all.fields[1].values,
        [7, 8, 9, 10].map(Value::Integer).to_vec()
    );
    assert_eq!(all.fields[3].values[0], Value::Zeros);
    assert!(all.fields[3].field.confidence > 80, "zeros are neutral");
    assert!(dissector.instances(&[], 16).fields.is_empty());
}

#[test]
fn what_only_one_instance_lacks_is_told_by_the_others() {
    let mut world = World::new();
    world.word(HEAP + 0x10, 77);
    world.word(HEAP + 0x1010, 78);
    let memory = world.memory().absent(HEAP + 0x1000, 0x1000);
    let mut dissector = Dissector::new(&memory, Width::Eight);
    let all = dissector.instances(&[Gva(HEAP), Gva(HEAP + 0x1000)], 0x20);
    let field = all.fields.iter().find(|one| one.field.offset == 0x10);
    let field = field.expect("covered");
    assert_eq!(field.field.kind, Kind::Integer);
    assert!(matches!(field.values[1], Value::Unread(_)));
    let both = dissector.instances(&[Gva(HEAP + 0x1000), Gva(HEAP + 0x1800)], 0x20);
    assert_eq!(both.fields[0].field.kind, Kind::Unreadable);
    assert_eq!(both.fields[0].field.len, 0x20);
}

/// Seventeen objects of `{vtable, u64 count, Object *next, u64 id, u32, u32}`, `next` being null in all but one.
fn mostly_null() -> (World, Vec<Gva>) {
    let mut world = World::new();
    let table = world.class(DATA, "5Actor", 0, 2);
    let at = |index: u64| HEAP + index * 0x40;
    let mut id = 0x0123_4567_89ab_cdef_u64;
    for index in 0..17 {
        let base = at(index);
        world.word(base, table);
        world.word(base + 8, 1000 + index);
        world.word(base + 16, if index == 16 { at(0) } else { 0 });
        id = id
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        world.word(base + 24, id);
        world.put(base + 32, &pair(7 + index as u32, 0x8000_0001));
    }
    (world, (0..17).map(|index| Gva(at(index))).collect())
}

fn find(all: &Comparison<Gva>, offset: u64) -> &Common {
    let covers =
        |one: &&Common| one.field.offset <= offset && offset < one.field.offset + one.field.len;
    all.fields.iter().find(covers).expect("covered")
}

#[test]
fn one_of_many_is_not_believed() {
    let (world, starts) = mostly_null();
    let memory = world.memory();
    let mut dissector = Dissector::new(&memory, Width::Eight);
    let all = dissector.instances(&starts, 0x28);
    let next = find(&all, 16);
    assert_eq!((next.field.kind, next.votes, next.of), (Kind::Object, 1, 1));
    assert!(next.field.confidence <= 20, "{next:#?}");
    assert!(
        next.field.evidence.ends_with("zero in 16 of 17 instances"),
        "{next:#?}"
    );
    // Without a vote it is shown, and names nothing.
    let votes: Vec<bool> = (0..17).map(|index| index != 16).collect();
    let all = dissector.instances_that_vote(&starts, &votes, 0x28);
    let next = find(&all, 16);
    assert_eq!(
        (next.field.kind, next.field.len),
        (Kind::Zero, 8),
        "{next:#?}"
    );
    assert_eq!((next.field.confidence, next.of, next.varies), (0, 0, false));
    assert_eq!(next.values[16].to_string(), format!("{HEAP:#x}"));
    // A vote of nobody is one of all.
    let nobody = dissector.instances_that_vote(&starts, &[false; 17], 0x28);
    assert_eq!(find(&nobody, 16).field.kind, Kind::Object);
    // Four that agree are enough, whatever the others lack.
    let (mut world, starts) = mostly_null();
    for index in 4..7 {
        world.word(HEAP + index * 0x40 + 16, HEAP);
    }
    let memory = world.memory();
    let all = Dissector::new(&memory, Width::Eight).instances(&starts, 0x28);
    assert!(find(&all, 16).field.confidence > 90);
}

#[test]
fn identifiers_are_one_field() {
    let (world, starts) = mostly_null();
    let memory = world.memory();
    let mut dissector = Dissector::new(&memory, Width::Eight);
    let all = dissector.instances(&starts, 0x28);
    let id = find(&all, 24);
    assert_eq!(
        (id.field.offset, id.field.len, id.field.kind, id.of),
        (24, 8, Kind::Integer, 17),
        "{id:#?}"
    );
    assert!(
        id.values
            .iter()
            .all(|value| matches!(value, Value::Bits(_)))
    );
    assert!(id.field.evidence.contains("one number"), "{id:#?}");
    // A number beside flags stays two; one instance alone cannot tell.
    assert_eq!(find(&all, 32).field.len, 4);
    assert_eq!(find(&all, 36).field.kind, Kind::Flags);
    let two = dissector.instances(&starts[..2], 0x28);
    assert_eq!(find(&two, 8).field.len, 8);
}

#[test]
fn what_contradicts_counts_against() {
    let mut world = World::new();
    let at = |index: u64| HEAP + index * 0x40;
    for index in 0..8 {
        // Three pointers and five numbers; a text in one and numbers in the rest; floats but for one.
        world.word(
            at(index),
            if index < 3 { HEAP + 0x1000 } else { 40 + index },
        );
        if index == 0 {
            world.put(at(index) + 8, b"left over text\0");
        } else {
            world.put(at(index) + 8, &pair(500 + index as u32, 1 + index as u32));
            world.word(at(index) + 16, 3);
        }
        let float = (0.5 + index as f32).to_bits();
        world.put(
            at(index) + 24,
            &pair(if index == 7 { 9 } else { float }, 1.5_f32.to_bits()),
        );
        // Each another kind.
        let words = [HEAP + 0x1000, CODE + 8, 12, (-2.5_f64).to_bits()];
        world.word(at(index) + 32, words[index as usize % 4]);
        // Names, of which each has its length.
        world.put(at(index) + 40, &b"abcdefgh"[..4 + index as usize % 4]);
    }
    let memory = world.memory();
    let starts: Vec<Gva> = (0..8).map(|index| Gva(at(index))).collect();
    let all = Dissector::new(&memory, Width::Eight).instances(&starts, 0x30);
    let kind = |offset| find(&all, offset).field.kind;
    assert_eq!(kind(0), Kind::Integer, "{all:#?}");
    assert!(find(&all, 0).field.confidence < 30, "{all:#?}");
    assert!(
        find(&all, 0)
            .field
            .evidence
            .contains("3 of 8 instances say otherwise")
    );
    assert_eq!(
        [kind(8), kind(12), kind(16)],
        [Kind::Integer; 3],
        "{all:#?}"
    );
    assert_eq!(kind(24), Kind::Float);
    let sure = |offset| find(&all, offset).field.confidence;
    assert!(sure(24) < sure(28), "{all:#?}");
    assert_eq!(kind(32), Kind::Unknown, "{all:#?}");
    assert!(sure(32) <= 10 && find(&all, 32).field.evidence.contains("disagree"));
    let name = find(&all, 40);
    assert_eq!(
        (name.field.kind, name.field.len, name.votes),
        (Kind::Utf8, 8, 8)
    );
    assert!(name.field.confidence > 50, "{name:#?}");
}

/// Six allocations of 72 bytes, one behind the other, as glibc's malloc makes them.
fn allocations() -> (World, Vec<Gva>) {
    let mut world = World::new();
    let table = world.class(DATA, "5Actor", 0, 2);
    let at = |index: u64| HEAP + 0x10 + index * 0x50;
    for index in 0..6 {
        world.word(at(index) - 8, 0x51);
        world.word(at(index), table);
    }
    world.word(at(6) - 8, 0x1001);
    (world, (0..6).map(|index| Gva(at(index))).collect())
}

fn stale(lives: &[Life]) -> Vec<usize> {
    let all = lives.iter().enumerate();
    all.filter(|(_, life)| life.stale)
        .map(|(index, _)| index)
        .collect()
}

#[test]
fn copies_in_freed_memory_have_no_vote() {
    let (mut world, at) = allocations();
    let edge = |from: u64, to: u64| Edge::found(Gva(from), to);
    let memory = world.memory();
    let life = |memory: &TestMemory<Gva>, at: &[Gva], pointers: Option<&[Edge<Gva>]>| {
        Dissector::new(memory, Width::Eight).life(at, 0x40, pointers)
    };
    assert_eq!(stale(&life(&memory, &at, None)), [0_usize; 0]);
    // Where the next one begins, malloc notes that the third one is free.
    world.word(at[3].raw() - 8, 0x50);
    let memory = world.memory();
    let judged = life(&memory, &at, None);
    assert_eq!(stale(&judged), [2]);
    assert!(judged[2].evidence.contains("free"), "{judged:#?}");
    // A chain from outside; one that only itself points into; one that another such points at.
    world.word(at[3].raw() - 8, 0x51);
    let memory = world.memory();
    let mut edges = vec![
        edge(DATA + 0x800, at[0].raw()),
        edge(at[0].raw() + 8, at[1].raw()),
        edge(at[1].raw() + 8, at[2].raw() + 0x10),
        edge(DATA + 0x808, at[3].raw()),
        edge(at[4].raw() + 8, at[4].raw() + 0x18),
        edge(at[4].raw() + 0x20, at[5].raw()),
    ];
    assert_eq!(stale(&life(&memory, &at, Some(&edges))), [4, 5]);
    // Where few are reached, being reached means nothing.
    edges.remove(0);
    assert_eq!(stale(&life(&memory, &at, Some(&edges))), [0_usize; 0]);
    assert!(life(&memory, &[], Some(&edges)).is_empty());
    let outside = [Gva(8), Gva(u64::MAX - 7)];
    assert_eq!(stale(&life(&memory, &outside, Some(&edges))), [0_usize; 0]);
}

#[test]
fn arrays_are_reached_as_one() {
    let world = World::new();
    let memory = world.memory();
    let edge = |from: u64, to: u64| Edge::found(Gva(from), to);
    // Five elements, three of an array that was there before, one alone.
    let at: Vec<Gva> = (0..5)
        .map(|index| HEAP + 0x100 + index * 0x48)
        .chain((0..3).map(|index| HEAP + 0x800 + index * 0x48))
        .chain([HEAP + 0x1000])
        .map(Gva)
        .collect();
    let edges: Vec<_> = (0..5)
        .map(|index| edge(DATA + 8 * index, at[index as usize].raw()))
        .collect();
    let lives = Dissector::new(&memory, Width::Eight).life(&at, 0x48, Some(&edges));
    assert_eq!(stale(&lives), [5, 6, 7]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the bytes are: no panic, and the fields cover the instance once, in order.
    #[test]
    fn fields_cover_the_instance(
        words in prop::collection::vec(
            prop_oneof![
                any::<u64>(),
                (0_u64..0x2000).prop_map(|at| HEAP + at),
                (0_u64..0x1000).prop_map(|at| DATA + at),
                (0_u64..0x1000).prop_map(|at| CODE + at),
                any::<u8>().prop_map(u64::from),
                prop::array::uniform8(0x20_u8..0x7f).prop_map(u64::from_le_bytes),
                any::<f32>().prop_map(|one| u64::from(one.to_bits())),
                any::<f64>().prop_map(f64::to_bits),
            ],
            0x180,
        ),
        start in 0_u64..0x200,
        len in 0_u64..0x600,
        absent in (0_u64..0x800, 1_u64..0x80),
        four in any::<bool>(),
    ) {
        let mut world = World::new();
        for (index, word) in words.iter().enumerate() {
            world.word(HEAP + 8 * index as u64, *word);
            world.word(DATA + 8 * index as u64, words[words.len() - 1 - index]);
        }
        let memory = world.memory().absent(HEAP + absent.0, absent.1);
        let width = if four { Width::Four } else { Width::Eight };
        let mut dissector = Dissector::new(&memory, width);
        let fields = dissector.instance(Gva(HEAP + start), len);
        let mut at = 0;
        for field in &fields {
            prop_assert_eq!(field.offset, at);
            prop_assert!(field.len > 0 && field.confidence <= 100);
            // Every byte that was taken for something is read again, without the code under test.
            let mut bytes = vec![0; field.len as usize];
            match memory.read(Gva(HEAP + start + field.offset), &mut bytes) {
                Ok(()) => prop_assert!(agrees(field, &bytes, width), "{:?} {:x?}", field, bytes),
                Err(_) => prop_assert_eq!(field.kind, Kind::Unreadable),
            }
            prop_assert_eq!(field.kind == Kind::Zero, field.confidence == 0);
            prop_assert!(!field.evidence.is_empty());
            at += field.len;
        }
        prop_assert_eq!(at, len);
        // One instance alone has the fields that it has for itself, but for the fields of zeros.
        let alone = dissector.instances(&[Gva(HEAP + start)], len);
        let telling = |fields: &[Field]| -> Vec<Shape> {
            let kinds = [Kind::Zero, Kind::Unreadable, Kind::Unknown];
            shape(fields).into_iter().filter(|one| !kinds.contains(&one.2)).collect()
        };
        let own: Vec<Field> = alone.fields.iter().map(|one| one.field.clone()).collect();
        prop_assert_eq!(telling(&fields), telling(&own));
        let starts: Vec<Gva> = (0..5).map(|one| Gva(HEAP + start + 0x88 * one)).collect();
        let all = dissector.instances(&starts, len);
        let mut at = 0;
        for one in &all.fields {
            prop_assert_eq!(one.field.offset, at);
            prop_assert_eq!(one.values.len(), 5);
            at += one.field.len;
        }
        prop_assert_eq!(at, len);
    }
}
