//! XArrays and radix trees, built by an encoder of their format and damaged.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::world::{World, types};
use crate::addr::Gva;
use crate::os::FindingKind::{self, Damaged, Limit};
use crate::os::Types;
use crate::os::object::{BadLink, Budget, Findings, XarrayPlan};

const USER: u64 = 0x0000_5555_0000_1000;
const UNMAPPED: u64 = 0xffff_9999_0000_0000;

/// Where the slots are in a node.
const SLOTS: u64 = 40;

/// The last number there is.
const END: u64 = u64::MAX;

/// `XA_RETRY_ENTRY` and `XA_ZERO_ENTRY`: what stands in a node that is being taken apart, and where a
/// number is being given out.
const RETRY: u64 = 256 << 2 | 2;
const ZERO: u64 = 257 << 2 | 2;

/// An array as some kernel has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Form {
    /// `xa_node` or `radix_tree_node`.
    node: &'static str,
    /// What its pointers to nodes are tagged with.
    tag: u64,
    /// Bits of the index that a node resolves.
    bits: u64,
}

const XARRAY: Form = Form {
    node: "xa_node",
    tag: 2,
    bits: 6,
};

const FORMS: [Form; 4] = [
    XARRAY,
    Form { bits: 4, ..XARRAY },
    Form {
        node: "radix_tree_node",
        tag: 1,
        bits: 6,
    },
    Form {
        node: "radix_tree_node",
        tag: 1,
        bits: 4,
    },
];

impl Form {
    fn definitions(self) -> Types {
        let slots = format!("ptr[{}]", 1 << self.bits);
        let members: &[(&str, &str, u32)] = &[("shift", "u8", 0), ("slots", &slots, SLOTS as u32)];
        types(&[(self.node, self.size() as u32, members)], &[])
    }

    fn size(self) -> u64 {
        SLOTS + (8 << self.bits)
    }

    fn plan(self) -> XarrayPlan {
        XarrayPlan::new(&self.definitions()).expect("all members are there")
    }

    /// A node with these slots; answers the pointer to it as others hold it.
    fn node(self, world: &mut World, shift: u64, slots: &[(u64, u64)]) -> u64 {
        let at = world.room(self.size());
        world.put(at, &[shift as u8]);
        for &(index, entry) in slots {
            assert!(index < 1 << self.bits);
            world.put64(slot(at, index), entry);
        }
        at | self.tag
    }

    /// An array of entries by number, as high as it must be; answers its top entry.
    fn array(self, world: &mut World, entries: &BTreeMap<u64, u64>) -> u64 {
        let Some(&last) = entries.keys().next_back() else {
            return 0;
        };
        if last == 0 {
            return entries[&0];
        }
        let mut level = entries.clone();
        let mut shift = 0;
        loop {
            let mut nodes: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
            for (index, entry) in level {
                let slot = (index & ((1 << self.bits) - 1), entry);
                nodes.entry(index >> self.bits).or_default().push(slot);
            }
            level = nodes
                .into_iter()
                .map(|(index, slots)| (index, self.node(world, shift, &slots)))
                .collect();
            shift += self.bits;
            if shift >= 64 || last >> shift == 0 {
                return level[&0];
            }
        }
    }
}

/// Where a slot of a node is, by a pointer to the node.
fn slot(node: u64, index: u64) -> u64 {
    (node & !3) + SLOTS + 8 * index
}

fn pointer(i: u64) -> u64 {
    0xffff_8880_1000_0000 + i * 0x40
}

/// Entries at numbers that need nodes of many heights.
fn entries() -> BTreeMap<u64, u64> {
    [0, 1, 15, 16, 17, 63, 64, 100, 1 << 12, (1 << 18) - 1]
        .into_iter()
        .zip((0..).map(pointer))
        .collect()
}

fn all(form: Form, world: &World, top: u64, budget: usize) -> (Vec<(u64, Gva)>, Vec<FindingKind>) {
    let mut findings = Findings::default();
    let mut budget = Budget(budget);
    let at = Gva(world.extent().start);
    let found = form
        .plan()
        .pointers(world, at, top, "the array", &mut budget, &mut findings);
    let kinds = findings.finish().into_iter().map(|finding| finding.kind);
    (found, kinds.collect())
}

#[test]
fn arrays_of_every_height_are_read() {
    for form in FORMS {
        for height in 0..=entries().len() {
            let mut world = World::new();
            let entries: BTreeMap<u64, u64> = entries().into_iter().take(height).collect();
            let top = form.array(&mut world, &entries);
            let expected: Vec<(u64, Gva)> = entries.iter().map(|(&i, &e)| (i, Gva(e))).collect();
            assert_eq!(
                all(form, &world, top, 100_000),
                (expected, vec![]),
                "{form:?}"
            );
            let plan = form.plan();
            let near = |&i: &u64| [i.wrapping_sub(1), i, i + 1, i << 7, END];
            for index in entries.keys().flat_map(near) {
                let expected = entries.get(&index).copied().unwrap_or(0);
                assert_eq!(
                    plan.get(&world, top, index),
                    Ok(expected),
                    "{form:?}: {index:#x}"
                );
            }
        }
    }
}

#[test]
fn the_last_number_there_is_can_be_looked_up() {
    for form in FORMS {
        let mut world = World::new();
        let entries = BTreeMap::from([(3, pointer(1)), (END, pointer(2))]);
        let top = form.array(&mut world, &entries);
        let plan = form.plan();
        assert_eq!(plan.get(&world, top, END), Ok(pointer(2)), "{form:?}");
        assert_eq!(plan.get(&world, top, 3), Ok(pointer(1)), "{form:?}");
        assert_eq!(plan.get(&world, top, END - 1), Ok(0), "{form:?}");
        assert_eq!(plan.get(&world, top, END >> form.bits), Ok(0), "{form:?}");
    }
}

#[test]
fn an_entry_without_nodes_stands_for_the_number_0() {
    let world = World::new();
    for form in FORMS {
        let plan = form.plan();
        assert_eq!(plan.get(&world, 0, 0), Ok(0));
        assert_eq!(plan.get(&world, pointer(0), 0), Ok(pointer(0)));
        assert_eq!(plan.get(&world, pointer(0), 1), Ok(0));
        assert_eq!(plan.get(&world, pointer(0), END), Ok(0));
        assert_eq!(all(form, &world, 0, 10), (vec![], vec![]));
        let alone = vec![(0, Gva(pointer(0)))];
        assert_eq!(all(form, &world, pointer(0), 10), (alone, vec![]));
    }
}

#[test]
fn markers_are_no_entries() {
    let mut world = World::new();
    let slots = [(1, RETRY), (2, ZERO), (3, pointer(3))];
    let top = XARRAY.node(&mut world, 0, &slots);
    let plan = XARRAY.plan();
    for (index, expected) in [(0, 0), (1, 0), (2, 0), (3, pointer(3)), (4, 0)] {
        assert_eq!(plan.get(&world, top, index), Ok(expected), "{index}");
    }
    for marker in [RETRY, ZERO] {
        assert_eq!(plan.get(&world, marker, 0), Ok(0), "{marker:#x} at the top");
    }
    let (found, kinds) = all(XARRAY, &world, top, 100);
    assert_eq!(found, [(3, Gva(pointer(3)))]);
    assert_eq!(kinds, []);
}

#[test]
fn numbers_of_the_user_are_entries() {
    // `xa_mk_value`: what is swapped out, in the array of a file's pages.
    let mut world = World::new();
    let value = 0x1234 << 1 | 1;
    let top = XARRAY.node(&mut world, 0, &[(5, value)]);
    assert_eq!(XARRAY.plan().get(&world, top, 5), Ok(value));
    // As a pointer it is damage.
    assert_eq!(all(XARRAY, &world, top, 100), (vec![], vec![Damaged]));
}

#[test]
fn an_entry_for_many_numbers_is_found_at_each() {
    // A page of 2 MiB: eight slots of a node with shift 6, of which seven say that they belong to the
    // first (siblings).
    let mut world = World::new();
    let sibling = |of: u64| of << 2 | 2;
    let mut slots = vec![(8, pointer(8)), (16, pointer(16))];
    slots.extend((9..16).map(|index| (index, sibling(8))));
    let top = XARRAY.node(&mut world, 6, &slots);
    let plan = XARRAY.plan();
    for (index, expected) in [
        (7 * 64 + 63, 0),
        (8 * 64, pointer(8)),
        (8 * 64 + 63, pointer(8)),
        (15 * 64 + 63, pointer(8)),
        (16 * 64, pointer(16)),
        (17 * 64, 0),
    ] {
        assert_eq!(plan.get(&world, top, index), Ok(expected), "{index}");
    }
    // The last slot there is has siblings too.
    let mut world = World::new();
    let top = XARRAY.node(&mut world, 0, &[(62, pointer(1)), (63, sibling(62))]);
    assert_eq!(plan.get(&world, top, 63), Ok(pointer(1)));
    assert_eq!(
        all(XARRAY, &world, top, 100),
        (vec![(62, Gva(pointer(1)))], vec![])
    );
}

#[test]
fn siblings_of_siblings_end() {
    let mut world = World::new();
    let top = XARRAY.node(&mut world, 0, &[(1, 2 << 2 | 2), (2, 1 << 2 | 2)]);
    assert_eq!(XARRAY.plan().get(&world, top, 1), Ok(0));
}

#[test]
fn nodes_that_are_damaged_are_told() {
    let plan = XARRAY.plan();
    for (link, bad) in [
        (USER, BadLink::User(USER)),
        (UNMAPPED | 4, BadLink::Unaligned(UNMAPPED | 4)),
    ] {
        let mut world = World::new();
        let top = XARRAY.node(&mut world, 6, &[(0, link | 2)]);
        assert_eq!(plan.get(&world, top, 3), Err(bad));
        assert_eq!(all(XARRAY, &world, top, 100), (vec![], vec![Damaged]));
    }
    let mut world = World::new();
    let top = XARRAY.node(&mut world, 6, &[(0, UNMAPPED | 2)]);
    let got = plan.get(&world, top, 3);
    assert!(
        matches!(
            got,
            Err(BadLink::Fault {
                pointer: UNMAPPED,
                ..
            })
        ),
        "{got:?}"
    );
    let got = plan.get(&world, UNMAPPED | 2, 3);
    assert!(matches!(got, Err(BadLink::Fault { .. })), "{got:?}");

    // A node below one whose shift is not the next, and one below the lowest.
    for (above, below) in [(12, 0), (6, 6), (6, 12), (0, 0)] {
        let mut world = World::new();
        let lower = XARRAY.node(&mut world, below, &[(0, pointer(1))]);
        let top = XARRAY.node(&mut world, above, &[(0, lower)]);
        let got = plan.get(&world, top, 0);
        assert!(
            matches!(got, Err(BadLink::Unaligned(_))),
            "{above}, {below}: {got:?}"
        );
        let (found, kinds) = all(XARRAY, &world, top, 100);
        assert_eq!((found, kinds), (vec![], vec![Damaged]), "{above}, {below}");
    }
    // A top node that claims more than there are bits.
    let mut world = World::new();
    let top = XARRAY.node(&mut world, 66, &[(0, pointer(1))]);
    assert_eq!(plan.get(&world, top, 0), Ok(0));
    assert_eq!(all(XARRAY, &world, top, 100), (vec![], vec![Damaged]));
}

#[test]
fn loops_and_shared_nodes_end() {
    // A node that leads to itself fits no level but its own.
    let mut world = World::new();
    let top = XARRAY.node(&mut world, 6, &[(1, pointer(1))]);
    world.put64(slot(top, 0), top);
    let got = XARRAY.plan().get(&world, top, 0);
    assert!(matches!(got, Err(BadLink::Unaligned(_))), "{got:?}");

    // Each of ten nodes holds the next one 64 times: 2^60 paths.
    let mut world = World::new();
    let mut below = XARRAY.node(&mut world, 0, &[(7, pointer(7))]);
    for level in 1..10 {
        let slots: Vec<(u64, u64)> = (0..64).map(|i| (i, below)).collect();
        below = XARRAY.node(&mut world, 6 * level, &slots);
    }
    let (found, kinds) = all(XARRAY, &world, below, 1_000_000);
    assert_eq!(found, [(7, Gva(pointer(7)))]);
    assert!(!kinds.is_empty() && kinds.iter().all(|kind| [Damaged, Limit].contains(kind)));
}

#[test]
fn the_budget_ends_a_walk() {
    let mut world = World::new();
    let entries: BTreeMap<u64, u64> = (0..500).map(|i| (i, pointer(i))).collect();
    let top = XARRAY.array(&mut world, &entries);
    let (found, kinds) = all(XARRAY, &world, top, 100);
    assert!(found.len() <= 100);
    assert!(kinds.contains(&Limit), "{kinds:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// The array says what a map would, whatever is in it.
    #[test]
    fn it_is_a_map(
        form in (0..FORMS.len()).prop_map(|i| FORMS[i]),
        entries in proptest::collection::btree_map(
            any::<(u32, u8)>().prop_map(|(i, shift)| u64::from(i) >> (shift % 32)),
            (0_u64..1 << 20).prop_map(pointer),
            0..40,
        ),
        others in proptest::collection::vec(any::<u32>(), 20),
    ) {
        let mut world = World::new();
        let top = form.array(&mut world, &entries);
        let plan = form.plan();
        for index in entries.keys().copied().chain(others.into_iter().map(u64::from)) {
            let expected = entries.get(&index).copied().unwrap_or(0);
            prop_assert_eq!(plan.get(&world, top, index), Ok(expected));
        }
        let (found, kinds) = all(form, &world, top, 1_000_000);
        let expected: Vec<(u64, Gva)> = entries.iter().map(|(&i, &e)| (i, Gva(e))).collect();
        prop_assert_eq!(found, expected);
        prop_assert!(kinds.is_empty());
    }

    /// Whatever is overwritten, walk and lookup end.
    #[test]
    fn any_damage_ends(
        damage in proptest::collection::vec((any::<u32>(), 0_usize..5, any::<u64>()), 1..8),
        index in any::<u64>(),
    ) {
        let mut world = World::new();
        let entries = entries();
        let top = XARRAY.array(&mut world, &entries);
        let extent = world.extent();
        for (at, kind, value) in damage {
            let at = extent.start + u64::from(at) % (extent.end - extent.start);
            let value = match kind {
                0 => value,
                1 => (extent.start + value % (extent.end - extent.start)) & !7 | 2,
                2 => 0,
                3 => (value % 300) << 2 | 2,
                _ => top,
            };
            match kind {
                0 => world.put(at, &[value as u8]),
                _ => world.put64(at & !7, value),
            }
        }
        let (found, _) = all(XARRAY, &world, top, 100_000);
        prop_assert!(found.len() <= 100_000);
        for index in entries.keys().copied().chain([index]) {
            let _ = XARRAY.plan().get(&world, top, index);
        }
    }
}
