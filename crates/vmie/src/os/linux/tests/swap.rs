//! Which swapped-out pages are in memory after all, and which pages are being moved.

use super::world::{Definition, World, types};
use crate::os::Types;
use crate::os::linux::software::PagePlan;
use crate::os::linux::swap::Swap;

const DISKS: [Definition<'_>; 3] = [
    ("gendisk", 0x60, &[("disk_name", "char[32]", 0x10)]),
    ("block_device", 0x40, &[("bd_disk", "ptr", 0x18)]),
    ("swap_info_struct", 0x80, &[("bdev", "ptr", 0x30)]),
];

/// `swap_info` with an area on each of these disks.
fn areas(world: &mut World, disks: &[&str]) {
    let info = world.symbol("swap_info", 23 * 8);
    let count = world.symbol("nr_swapfiles", 4);
    world.put32(count, disks.len() as u32);
    for (area, name) in disks.iter().enumerate() {
        let [one, device, disk] = [0x80, 0x40, 0x60].map(|len| world.room(len));
        world.put64(info + 8 * area as u64, one);
        world.put64(one + 0x30, device);
        world.put64(device + 0x18, disk);
        world.put(disk + 0x10, name.as_bytes());
    }
}

fn swap(world: &World, types: &Types) -> Swap {
    Swap::new(Some(types), &world.symbols(), world)
}

#[test]
fn zram_is_a_swap_area_in_memory() {
    let mut world = World::new();
    areas(&mut world, &["vda2", "zram0", "sdb"]);
    let swap = swap(&world, &types(&DISKS, &[]));
    assert_eq!(swap.areas(), 3);
    let compressed = |area| swap.is_compressed(&world, area, 5);
    assert!(!compressed(0) && compressed(1) && !compressed(2) && !compressed(u32::MAX));
}

#[test]
fn without_types_nothing_is_known_to_be_compressed() {
    let mut world = World::new();
    areas(&mut world, &["zram0"]);
    let swap = Swap::new(None, &world.symbols(), &world);
    assert_eq!(swap.areas(), 1);
    assert!(!swap.is_compressed(&world, 0, 0));
}

#[test]
fn zswap_holds_some_pages_of_an_area_in_one_tree() {
    let nodes: &[Definition<'_>] = &[
        (
            "rb_node",
            24,
            &[
                ("parent", "u64", 0),
                ("rb_right", "ptr", 8),
                ("rb_left", "ptr", 16),
            ],
        ),
        ("rb_root", 8, &[("rb_node", "ptr", 0)]),
        ("zswap_tree", 16, &[("rbroot", "rb_root", 8)]),
        (
            "zswap_entry",
            0x40,
            &[("rbnode", "rb_node", 8), ("offset", "u64", 0x28)],
        ),
    ];
    let all: Vec<_> = DISKS.iter().chain(nodes).copied().collect();
    let mut world = World::new();
    areas(&mut world, &["vda2", "vdb1"]);
    let trees = world.symbol("zswap_trees", 23 * 8);
    let tree = world.room(16);
    world.put64(trees + 8, tree);
    // 50 with 20 and 70 below it, and 60 below that.
    let [top, low, high, inner] = [(50, 0), (20, 0), (70, 0), (60, 0)].map(|(offset, _)| {
        let at = world.room(0x40);
        world.put64(at + 0x28, offset);
        at
    });
    world.put64(tree + 8, top + 8);
    world.put64(top + 8 + 16, low + 8);
    world.put64(top + 8 + 8, high + 8);
    world.put64(high + 8 + 16, inner + 8);
    let swap = swap(&world, &types(&all, &[]));
    for offset in [20, 50, 60, 70] {
        assert!(swap.is_compressed(&world, 1, offset), "{offset}");
    }
    for offset in [0, 21, 55, 65, 80] {
        assert!(!swap.is_compressed(&world, 1, offset), "{offset}");
    }
    assert!(!swap.is_compressed(&world, 0, 50), "another area");
    // A tree that leads around in a circle has an end.
    world.put64(inner + 8 + 8, top + 8);
    assert!(!swap.is_compressed(&world, 1, 65));
}

#[test]
fn a_page_that_is_being_moved_is_locked() {
    let page: &[Definition<'_>] = &[(
        "page",
        0x40,
        &[("flags", "u64", 0), ("compound_head", "u64", 8)],
    )];
    let flags: &[(&str, &[(&str, i32)])] = &[(
        "pageflags",
        &[("PG_locked", 0), ("PG_uptodate", 2), ("PG_hwpoison", 22)],
    )];
    let mut world = World::new();
    let map = world.room(16 * 0x40);
    let plan = PagePlan::new(&types(page, flags), map).expect("all members are there");
    let mut put = |number: u64, flags: u64, head: u64| {
        world.put64(map + number * 0x40, flags);
        world.put64(map + number * 0x40 + 8, head);
    };
    put(1, 0b101, 0);
    put(2, 0b100, 0);
    put(3, 0b101 | 1 << 22, 0);
    // Within a larger page, only that one's first is locked.
    put(5, 0, map + 4 * 0x40 + 1);
    put(4, 0b1, 0);
    put(7, 0b1, map + 6 * 0x40 + 1);
    let moving: Vec<u64> = (0..16).filter(|&at| plan.is_moving(&world, at)).collect();
    assert_eq!(moving, [1, 4, 5]);
    assert!(!plan.is_moving(&world, u64::MAX / 0x40));
}
