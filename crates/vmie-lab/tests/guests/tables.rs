//! The page tables of the current address space, page by page.

use vmie::paging::{Extent, ExtentItem};
use vmie::{AddrRange, AddressSpace, Gva, Memory, Prot, SpanKind};
use vmie_lab::walker::{Flags, Leaf, leaves};

use crate::support::{are_standard, current, each_image, raw, snapshots};

/// First of all: our own walker finds what QEMU finds. Then it may speak where QEMU is silent.
#[test]
fn the_plain_walker_agrees_with_info_tlb_on_every_page() {
    for snapshot in snapshots() {
        let leaves = leaves(&snapshot, snapshot.current.root);
        let tlb = snapshot.tlb().expect("readable");
        assert_eq!(
            leaves.len(),
            tlb.len(),
            "{}: number of pages",
            snapshot.variant
        );
        assert!(
            tlb.len() > 200,
            "{}: a real guest maps more",
            snapshot.variant
        );
        for (leaf, line) in leaves.iter().zip(&tlb) {
            let from_leaf = (leaf.va, leaf.gpa, leaf.own, leaf.size > 4096);
            let from_line = (
                line.va,
                line.gpa,
                Flags {
                    write: line.write,
                    user: line.user,
                    nx: line.nx,
                },
                line.large,
            );
            assert_eq!(from_leaf, from_line, "{}", snapshot.variant);
        }
    }
}

#[test]
fn extents_agree_with_info_tlb_on_every_page_in_every_format() {
    each_image(|snapshot, image, name| {
        let expected = leaves(snapshot, snapshot.current.root);
        let pages: Vec<_> = extents(&current(snapshot, image), name)
            .into_iter()
            .flat_map(pages)
            .collect();
        assert_eq!(pages.len(), expected.len(), "{name}: number of pages");
        for (page, leaf) in pages.iter().zip(&expected) {
            assert_eq!(*page, (leaf.va, leaf.gpa, leaf.size, prot(leaf)), "{name}");
        }
    });
}

/// QEMU's own idea of effective protection, where it has one.
#[test]
fn effective_write_and_user_agree_with_info_mem() {
    let mut compared = 0;
    for snapshot in snapshots() {
        let Some(expected) = snapshot.mem().expect("readable") else {
            assert!(snapshot.machine.five_levels);
            continue;
        };
        let space = current(&snapshot, raw(&snapshot));
        let mut ranges: Vec<(u64, u64, bool, bool)> = Vec::new();
        for extent in extents(&space, &snapshot.variant) {
            let (va, len) = (extent.va.0, extent.len);
            let (user, write) = (extent.prot.user(), extent.prot.write());
            match ranges.last_mut() {
                Some(last) if last.0 + last.1 == va && (last.2, last.3) == (user, write) => {
                    last.1 += len;
                }
                _ => ranges.push((va, len, user, write)),
            }
        }
        let expected: Vec<_> = expected
            .iter()
            .map(|range| (range.start, range.len, range.user, range.write))
            .collect();
        assert_eq!(ranges, expected, "{}", snapshot.variant);
        compared += 1;
    }
    assert!(
        compared > 0 || !are_standard(&snapshots()),
        "no variant with four levels"
    );
}

#[test]
fn regions_are_the_pages_run_together_in_every_format() {
    each_image(|snapshot, image, name| {
        let mut expected: Vec<(u64, u64, Prot)> = Vec::new();
        for leaf in leaves(snapshot, snapshot.current.root) {
            match expected.last_mut() {
                Some((va, len, same)) if *va + *len == leaf.va && *same == prot(&leaf) => {
                    *len += leaf.size;
                }
                _ => expected.push((leaf.va, leaf.size, prot(&leaf))),
            }
        }
        let regions: Vec<_> = current(snapshot, image)
            .spans(AddrRange::all())
            .map(|span| match span.kind {
                SpanKind::Mapped(prot) => (span.start.0, span.len, prot),
                SpanKind::Lost(cause) | SpanKind::Away(_, cause) => {
                    panic!("{name}: lost at {}: {cause}", span.start)
                }
            })
            .collect();
        assert_eq!(regions, expected, "{name}");
    });
}

/// A range of the space gives the same as the same part of the whole.
#[test]
fn a_part_is_a_part_of_the_whole() {
    for snapshot in snapshots() {
        let space = current(&snapshot, raw(&snapshot));
        let all = extents(&space, &snapshot.variant);
        let middle = all[all.len() / 2];
        for (from, to) in [
            (0, middle.va.0),
            (middle.va.0, u64::MAX),
            (middle.va.0 + 0x10, middle.va.0 + middle.len - 0x10),
        ] {
            let range = AddrRange::inclusive(Gva(from), Gva(to)).expect("ordered");
            let part: u64 = space
                .extents(range)
                .map(|item| match item {
                    ExtentItem::Extent(extent) => extent.len,
                    ExtentItem::Lost { va, cause, .. } | ExtentItem::Away { va, cause, .. } => {
                        panic!("lost at {va}: {cause}")
                    }
                })
                .sum();
            let expected: u64 = all
                .iter()
                .filter_map(|extent| AddrRange::new(extent.va, extent.len)?.intersect(range))
                .map(AddrRange::len)
                .sum();
            assert_eq!(part, expected, "{}: {range}", snapshot.variant);
        }
    }
}

fn extents(space: &AddressSpace, name: &str) -> Vec<Extent> {
    space
        .extents(AddrRange::all())
        .map(|item| match item {
            ExtentItem::Extent(extent) => extent,
            ExtentItem::Lost { va, cause, .. } | ExtentItem::Away { va, cause, .. } => {
                panic!("{name}: lost at {va}: {cause}")
            }
        })
        .collect()
}

/// An extent's pages one by one: address, frame, size, protection.
fn pages(extent: Extent) -> impl Iterator<Item = (u64, u64, u64, Prot)> {
    let size = extent.page_size;
    assert_eq!(extent.len % size, 0, "an extent has whole pages");
    (0..extent.len / size).map(move |i| {
        (
            extent.va.0 + i * size,
            extent.gpa.0 + i * size,
            size,
            extent.prot,
        )
    })
}

pub(crate) fn prot(leaf: &Leaf) -> Prot {
    let mut prot = Prot::R;
    if leaf.effective.write {
        prot = prot.union(Prot::W);
    }
    if !leaf.effective.nx {
        prot = prot.union(Prot::X);
    }
    if leaf.effective.user {
        prot = prot.union(Prot::USER);
    }
    prot
}
