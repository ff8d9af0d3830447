//! Circular lists, whole and damaged.

use proptest::prelude::*;

use super::world::World;
use crate::addr::Gva;
use crate::os::FindingKind::{self, Damaged, Inconsistent, Limit};
use crate::os::object::{BadLink, Budget, Findings, ring};

const USER: u64 = 0x0000_7fff_1234_5670;
const UNMAPPED: u64 = 0xffff_9999_0000_0000;

/// A list of five nodes; the head and the nodes.
fn list() -> (World, u64, Vec<u64>) {
    let mut world = World::new();
    let head = world.room(16);
    let nodes: Vec<u64> = (0..5).map(|_| world.room(16)).collect();
    world.ring(head, &nodes);
    (world, head, nodes)
}

fn walk(world: &World, head: u64, budget: usize) -> (Vec<u64>, Vec<FindingKind>) {
    let mut findings = Findings::default();
    let nodes = ring(
        world,
        Gva(head),
        "things",
        &mut Budget(budget),
        &mut findings,
    );
    let nodes = nodes.expect("the head can be read");
    let kinds = findings.finish().into_iter().map(|finding| finding.kind);
    (
        nodes.into_iter().map(|node| node.0).collect(),
        kinds.collect(),
    )
}

#[test]
fn whole_lists_are_walked_in_order() {
    let (mut world, head, nodes) = list();
    assert_eq!(walk(&world, head, 100), (nodes, vec![]));
    world.ring(head, &[]);
    assert_eq!(walk(&world, head, 100), (vec![], vec![]));
}

#[test]
fn damage_is_found_and_gone_around() {
    type Damage = fn(&mut World, u64, &[u64]);
    // What is done, which nodes are still found, and what is said.
    let cases: &[(&str, Damage, &[usize], &[FindingKind])] = &[
        (
            "a node that leads to itself",
            |w, _, n| w.put64(n[2], n[2]),
            &[0, 1, 2, 3, 4],
            &[Damaged, Damaged],
        ),
        (
            "a node that leads back",
            |w, _, n| w.put64(n[3], n[1]),
            &[0, 1, 2, 3, 4],
            &[Damaged, Damaged],
        ),
        (
            "a link into user memory",
            |w, _, n| w.put64(n[1], USER),
            &[0, 1, 2, 3, 4],
            &[Damaged, Damaged],
        ),
        (
            "a link into unmapped memory",
            |w, _, n| w.put64(n[0], UNMAPPED),
            &[0, 1, 2, 3, 4],
            &[Damaged, Damaged],
        ),
        (
            "a null link",
            |w, _, n| w.put64(n[0], 0),
            &[0, 1, 2, 3, 4],
            &[Damaged, Damaged],
        ),
        (
            "a link to no multiple of eight",
            |w, _, n| w.put64(n[0], n[1] + 3),
            &[0, 1, 2, 3, 4],
            &[Damaged, Damaged],
        ),
        (
            "links damaged in both directions: what is between is lost",
            |w, _, n| {
                w.put64(n[0], USER);
                w.put64(n[3] + 8, 0);
            },
            &[0, 3, 4],
            &[Damaged, Damaged, Damaged],
        ),
        (
            "a head that leads into user memory",
            |w, h, _| w.put64(h, USER),
            &[0, 1, 2, 3, 4],
            &[Damaged, Damaged],
        ),
        (
            "a head that leads to itself one way only",
            |w, h, _| w.put64(h, h),
            &[],
            &[Inconsistent],
        ),
        (
            "a node taken out of the way forward only",
            |w, _, n| w.put64(n[1], n[3]),
            &[0, 1, 3, 4],
            &[Inconsistent],
        ),
        (
            "a node taken out of the way backward only",
            |w, _, n| w.put64(n[3] + 8, n[1]),
            &[0, 1, 2, 3, 4],
            &[Inconsistent],
        ),
    ];
    for (name, damage, expected, kinds) in cases {
        let (mut world, head, nodes) = list();
        damage(&mut world, head, &nodes);
        let expected: Vec<u64> = expected.iter().map(|&i| nodes[i]).collect();
        assert_eq!(
            walk(&world, head, 100),
            (expected, kinds.to_vec()),
            "{name}"
        );
    }
}

#[test]
fn a_list_longer_than_the_budget_ends_with_it() {
    let (world, head, nodes) = list();
    let (found, kinds) = walk(&world, head, 3);
    assert_eq!(found, nodes[..3]);
    assert_eq!(kinds, [Limit, Limit], "one for each direction");
}

#[test]
fn a_head_that_cannot_be_read_is_an_error() {
    let (world, ..) = list();
    let mut findings = Findings::default();
    let bad = ring(
        &world,
        Gva(UNMAPPED),
        "things",
        &mut Budget(9),
        &mut findings,
    );
    assert!(matches!(bad, Err(BadLink::Fault { .. })), "{bad:?}");
}

#[test]
fn findings_are_kept_up_to_a_bound() {
    let mut findings = Findings::default();
    for i in 0..100_000 {
        findings.add(Damaged, None, format!("{i}"));
    }
    let kept = findings.finish();
    assert!(kept.len() < 1000);
    let last = kept.last().expect("some");
    assert_eq!(last.kind, Limit);
    assert!(last.text.starts_with("99"), "{}", last.text);
}

proptest! {
    /// Any words in any place: the walk ends, and gives each node once.
    #[test]
    fn any_damage_ends(damage in proptest::collection::vec((0_usize..12, 0_usize..16), 1..8)) {
        let (mut world, head, nodes) = list();
        let mut words: Vec<u64> = nodes.clone();
        words.extend([head, 0, USER, UNMAPPED, head + 8, nodes[1] + 1, nodes[2] + 8]);
        for (at, value) in damage {
            let places: Vec<u64> = nodes.iter().chain([&head]).copied().collect();
            let at = places[at / 2] + (at as u64 % 2) * 8;
            world.put64(at, words[value % words.len()]);
        }
        let (mut found, _) = walk(&world, head, 100);
        let all = found.len();
        found.sort_unstable();
        found.dedup();
        prop_assert_eq!(found.len(), all);
    }
}
