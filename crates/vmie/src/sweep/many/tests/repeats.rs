//! One space that maps frames more than once.

use std::collections::BTreeSet;
use std::ops::ControlFlow::Continue;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use vmie_synth::guest::{Flags, Machine, Paging, Space};

use super::guest::{Guest, Picky, any_range};
use crate::addr::{Gpa, Gva};
use crate::memory::{Memory, Prot};
use crate::paging::{AddressSpace, ExtentItem, Mode};
use crate::sweep::many::{Piece, SpacePart, repeats_frames};
use crate::sweep::{Found, Scanner, SweepOptions, quiet, seek, seek_space};
use crate::testguest::Synthetic;

impl Scanner for Picky {
    type Item = u64;

    fn behind(&self) -> usize {
        self.behind
    }

    fn overlap(&self) -> usize {
        self.overlap
    }

    fn len_of(&self, _: &u64) -> usize {
        1
    }

    fn scan(&self, piece: &Piece<'_>, found: &mut Found<(usize, u64)>) {
        Self::scan(self, piece, found);
    }
}

/// The decision by a list of all pages.
fn repeats_naively(space: &AddressSpace) -> bool {
    let mut pages = Vec::new();
    for item in space.extents(crate::addr::AddrRange::all()) {
        if let ExtentItem::Extent(extent) = item {
            pages.extend((0..extent.len / 4096).map(|page| extent.gpa.0 / 4096 + page));
        }
    }
    // Without memory behind it a frame cannot be told from others.
    let is_ram = |page: &u64| space.phys().read(Gpa(page * 4096), &mut [0]).is_ok();
    let ram: Vec<u64> = pages.iter().copied().filter(is_ram).collect();
    let distinct = ram.iter().collect::<BTreeSet<_>>().len();
    (ram.len() - distinct) > pages.len() / 4
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_space_gives_the_same_whether_it_repeats_frames_or_not(
        seed: u64,
        (overlap, behind) in prop::sample::select(vec![(0usize, 0usize), (15, 0), (40, 40), (0, 9)]),
        window in prop::sample::select(vec![1usize, 3, 7, 4096, 1 << 18]),
        threads in 1usize..=2,
        perm in prop::sample::select(vec![Prot::NONE, Prot::W]),
        range in prop::option::of(any_range()),
        max_bytes in prop::sample::select(vec![u64::MAX, 50_000]),
    ) {
        let window = if overlap + behind > 70 { window.max(2500) } else { window };
        // All small pages, and of a large one what shows the same.
        let max_bytes = if window < 10 { max_bytes.min(1 << 18) } else { max_bytes };
        let guest = Guest::random(seed, 1);
        let options = SweepOptions {
            range, perm, window, threads, max_bytes, ..SweepOptions::default()
        };
        let scanner = Picky { overlap, behind, rarity: 200 };
        let space = &guest.spaces[0];
        let (mut plain, mut either) = (Vec::new(), Vec::new());
        let reference = seek(space, &scanner, &options, &mut quiet, |addr, item| {
            plain.push((addr, item));
            Continue(())
        });
        let outcome = seek_space(space, &scanner, &options, &mut quiet, |addr, item| {
            either.push((addr, item));
            Continue(())
        });
        prop_assert_eq!(either, plain);
        prop_assert_eq!(outcome, reference);
    }
}

/// A space of so many pages over so many frames, and both counts as a sweep would have them.
fn wheel(pages: u64, frames: u64) -> AddressSpace {
    let mut machine = Machine::scattered(0..4 << 20, 3);
    let space = Space::new(&mut machine, Paging::FourLevel);
    let frames: Vec<u64> = (0..frames).map(|_| machine.frames.alloc()).collect();
    for &gpa in &frames {
        machine.phys.write(gpa, &[7]);
    }
    let all: Vec<u64> = frames
        .iter()
        .copied()
        .cycle()
        .take(pages as usize)
        .collect();
    space.map_frames(&mut machine, 0x40_0000, &all, Flags::DATA);
    let memory: Arc<dyn Memory<Addr = Gpa>> = Arc::new(Synthetic::new(machine.phys));
    AddressSpace::new(memory, Gpa(space.root()), Mode::FourLevel)
}

#[test]
fn a_fourth_is_enough() {
    let options = SweepOptions::default();
    for (pages, frames, repeats) in [
        (100, 100, false),
        (100, 75, false),
        (100, 74, true),
        (100, 1, true),
        (1, 1, false),
    ] {
        let space = wheel(pages, frames);
        assert_eq!(
            repeats_frames(SpacePart::all(&space), &options),
            repeats,
            "{pages} pages over {frames} frames"
        );
        assert_eq!(repeats_naively(&space), repeats);
    }
}

/// Counts the bytes that it is shown.
struct Counter(AtomicU64);

impl Scanner for Counter {
    type Item = ();

    fn behind(&self) -> usize {
        0
    }

    fn overlap(&self) -> usize {
        15
    }

    fn len_of(&self, (): &()) -> usize {
        1
    }

    fn scan(&self, piece: &Piece<'_>, _: &mut Found<(usize, ())>) {
        self.0.fetch_add(piece.owned as u64, Ordering::Relaxed);
    }
}

#[test]
fn repeated_frames_are_looked_at_once() {
    for (pages, frames, most) in [(400, 4, 16), (100, 100, 100)] {
        let space = wheel(pages, frames);
        let counter = Counter(AtomicU64::new(0));
        let options = SweepOptions::<Gva> {
            threads: 1,
            ..SweepOptions::default()
        };
        let outcome = seek_space(&space, &counter, &options, &mut quiet, |_, ()| Continue(()));
        assert_eq!(outcome.coverage.read, pages * 4096);
        let shown = counter.0.into_inner();
        assert!(shown <= most * 4096, "{shown} bytes of {frames} frames");
    }
}
