//! Maple trees, built by an encoder of their format and damaged.

use proptest::prelude::*;

use super::world::{Definition, World, types};
use crate::addr::Gva;
use crate::os::FindingKind::{self, Damaged, Limit};
use crate::os::Types;
use crate::os::object::{Budget, Entry, Findings, MaplePlan};

/// Numbers of node types, as kernels have them.
const LEAF: u64 = 1;
const RANGE: u64 = 2;
const ARANGE: u64 = 3;

const PIVOTS: u64 = 8;
const NODE: u64 = 256;

const USER: u64 = 0x0000_5555_0000_1000;
const UNMAPPED: u64 = 0xffff_9999_0000_0000;

fn definitions() -> Types {
    let all: &[Definition<'_>] = &[
        (
            "maple_range_64",
            256,
            &[("pivot", "u64[15]", 8), ("slot", "ptr[16]", 128)],
        ),
        (
            "maple_arange_64",
            248,
            &[("pivot", "u64[9]", 8), ("slot", "ptr[10]", 80)],
        ),
    ];
    let kinds = [
        ("maple_dense", 0),
        ("maple_leaf_64", 1),
        ("maple_range_64", 2),
        ("maple_arange_64", 3),
    ];
    types(all, &[("maple_type", &kinds)])
}

/// Number of slots, and where they are, by type of node.
fn shape(kind: u64) -> (usize, u64) {
    match kind {
        ARANGE => (10, 80),
        _ => (16, 128),
    }
}

/// Writes a node that holds these slots, each with the last number of its range; answers the pointer
/// to it as other nodes hold it.
fn node(world: &mut World, kind: u64, max: u64, slots: &[(u64, u64)]) -> u64 {
    let at = world.room(NODE);
    let (count, first) = shape(kind);
    assert!(slots.len() <= count);
    for (i, &(last, pointer)) in slots.iter().enumerate() {
        // The last slot has no pivot when the node is full, and 0 when it is not.
        if i + 1 < count && last != max {
            world.put64(at + PIVOTS + 8 * i as u64, last);
        }
        world.put64(at + first + 8 * i as u64, pointer);
    }
    at | kind << 3 | 4
}

/// Builds a tree: leaves of at most `width` slots, below inner nodes of this kind. Null slots fill gaps.
fn tree(world: &mut World, entries: &[Entry], kind: u64, width: usize) -> u64 {
    let mut slots: Vec<(u64, u64)> = Vec::new();
    let mut next = 0;
    for entry in entries {
        if entry.first > next {
            slots.push((entry.first - 1, 0));
        }
        slots.push((entry.last, entry.pointer));
        next = entry.last.wrapping_add(1);
    }
    if next != 0 {
        slots.push((u64::MAX, 0));
    }
    let mut level = LEAF;
    loop {
        let width = width.min(shape(level).0);
        let nodes: Vec<(u64, u64)> = slots
            .chunks(width)
            .map(|slots| {
                let last = slots.last().expect("not empty").0;
                (last, node(world, level, last, slots))
            })
            .collect();
        if let [(_, only)] = nodes[..] {
            return only | 2;
        }
        (slots, level) = (nodes, kind);
    }
}

fn read(world: &World, root: u64, budget: usize) -> (Vec<Entry>, Vec<FindingKind>) {
    let plan = MaplePlan::new(&definitions()).expect("all members are there");
    let mut findings = Findings::default();
    let mut budget = Budget(budget);
    let entries = plan.entries(world, Gva(8), root, "the tree", &mut budget, &mut findings);
    let kinds = findings.finish().into_iter().map(|finding| finding.kind);
    (entries, kinds.collect())
}

/// Entries with gaps between some of them.
fn entries(count: u64) -> Vec<Entry> {
    (0..count)
        .map(|i| Entry {
            first: 0x40_0000 + i * 0x3000,
            last: 0x40_0000 + i * 0x3000 + if i % 3 == 0 { 0x2fff } else { 0xfff },
            pointer: 0xffff_8880_1000_0000 + i * 0x100,
        })
        .collect()
}

#[test]
fn trees_of_every_shape_are_read_in_order() {
    for kind in [RANGE, ARANGE] {
        for width in [2, 3, 9, 16] {
            for count in [1, 2, 7, 15, 16, 17, 100, 400] {
                let mut world = World::new();
                let entries = entries(count);
                let root = tree(&mut world, &entries, kind, width);
                assert_eq!(
                    read(&world, root, 100_000),
                    (entries, vec![]),
                    "{kind} {width} {count}"
                );
            }
        }
    }
}

#[test]
fn small_trees_have_no_nodes() {
    let world = World::new();
    assert_eq!(read(&world, 0, 10), (vec![], vec![]), "an empty tree");
    let pointer = 0xffff_8880_1000_0000;
    let alone = Entry {
        first: 0,
        last: 0,
        pointer,
    };
    assert_eq!(read(&world, pointer, 10), (vec![alone], vec![]));
}

#[test]
fn markers_are_no_entries() {
    let mut world = World::new();
    // `XA_ZERO_ENTRY`, which stands for a range that is being worked on.
    let slots = [(0xfff, 257 << 2 | 2), (0x1fff, 0xffff_8880_1000_0000)];
    let root = node(&mut world, LEAF, u64::MAX, &slots) | 2;
    let (entries, kinds) = read(&world, root, 100);
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].first, 0x1000);
    assert_eq!(kinds, []);
}

#[test]
fn damaged_trees_end_with_a_finding_and_keep_the_rest() {
    type Damage = fn(&mut World, u64);
    let slot = |node: u64, kind: u64, index: u64| (node & !0xff) + shape(kind).1 + 8 * index;
    let cases: &[(&str, Damage)] = &[
        ("a link into user memory", |w, slot| {
            w.put64(slot, USER | 0xc);
        }),
        ("a link into unmapped memory", |w, slot| {
            w.put64(slot, UNMAPPED | 0xc);
        }),
        ("a node of no known type", |w, slot| {
            w.put64(slot, slot & !0xff | 0x7c);
        }),
        ("a node that leads to itself", |w, slot| {
            let own = (slot & !0xff) | RANGE << 3 | 4;
            w.put64(slot, own);
        }),
    ];
    for (name, damage) in cases {
        let mut world = World::new();
        let entries = entries(60);
        let root = tree(&mut world, &entries, RANGE, 16);
        damage(&mut world, slot(root, RANGE, 1));
        let (found, kinds) = read(&world, root, 100_000);
        assert!(
            found.len() > 30 && found.len() < 60,
            "{name}: {}",
            found.len()
        );
        assert!(found.iter().all(|entry| entries.contains(entry)), "{name}");
        assert!(
            !kinds.is_empty() && kinds.iter().all(|&k| k == Damaged),
            "{name}"
        );
    }
}

#[test]
fn ranges_that_do_not_ascend_end_the_node() {
    let mut world = World::new();
    let entries = entries(5);
    let root = tree(&mut world, &entries, RANGE, 16);
    let pivots = (root & !0xff) + PIVOTS;
    world.put64(pivots + 8 * 3, 0x10);
    let (found, kinds) = read(&world, root, 100);
    assert_eq!(found, entries[..2]);
    assert_eq!(kinds, [Damaged]);
}

#[test]
fn sharing_nodes_does_not_multiply_them() {
    // Each of twenty nodes holds the next one sixteen times: 16^20 paths.
    let mut world = World::new();
    let mut below = node(&mut world, LEAF, u64::MAX, &[(u64::MAX, 0)]);
    for _ in 0..20 {
        let slots: Vec<(u64, u64)> = (1..16)
            .map(|i| (i << 8, below))
            .chain([(u64::MAX, below)])
            .collect();
        below = node(&mut world, RANGE, u64::MAX, &slots);
    }
    let (found, kinds) = read(&world, below | 2, 1_000_000);
    assert_eq!(found, []);
    assert!(kinds.len() < 400 && kinds.iter().all(|&kind| kind == Damaged));
}

#[test]
fn the_budget_ends_a_tree() {
    let mut world = World::new();
    let root = tree(&mut world, &entries(400), ARANGE, 16);
    let (found, kinds) = read(&world, root, 50);
    assert!(found.len() <= 50);
    assert!(kinds.contains(&Limit), "{kinds:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Whatever is overwritten, the walk ends, and entries ascend.
    #[test]
    fn any_damage_ends(
        kind in prop_oneof![Just(RANGE), Just(ARANGE)],
        damage in proptest::collection::vec((any::<u32>(), 0_usize..6, any::<u64>()), 1..8),
    ) {
        let mut world = World::new();
        let root = tree(&mut world, &entries(150), kind, 10);
        let extent = world.extent();
        let words = (extent.end - extent.start) / 8;
        for (place, what, any) in damage {
            let at = extent.start + u64::from(place) % words * 8;
            let other = (extent.start + any % words * 8) & !0xff;
            let value = [0, u64::MAX, any, USER, other | LEAF << 3 | 4, other | kind << 3 | 4][what];
            world.put64(at, value);
        }
        let (found, _) = read(&world, root, 100_000);
        for pair in found.windows(2) {
            prop_assert!(pair[0].last < pair[1].first);
        }
    }
}
