//! Programs of different widths that have frames in common: one sweep finds in each what reading it word by word does.

use std::ops::ControlFlow::Continue;
use std::sync::Arc;

use proptest::prelude::*;
use vmie::pointers::{ReferrersOfAnyWidth, Width};
use vmie::scan::{Run, Selection, scan_each};
use vmie::{AddrRange, AddressSpace, Gpa, Gva, Image, Memory, Mode, OpenOptions, SpacePart};
use vmie_synth::guest::{Flags, Machine, PageSize, Paging, Rng, Space};

const PAGE: u64 = 4096;
const FIRST: u64 = 0x1_0000;
const FRAMES: u64 = 6;

/// Frames full of words that lead to where something is mapped, of both widths, and spaces that map them.
fn guest(seed: u64, spaces: usize) -> (Arc<dyn Memory<Addr = Gpa>>, Vec<AddressSpace>) {
    let mut rng = Rng::new(seed);
    let mut machine = Machine::new(0..1 << 20);
    let frames: Vec<u64> = (0..FRAMES).map(|_| machine.frames.alloc()).collect();
    for &frame in &frames {
        // Some up to the very end of the frame, and over it.
        for _ in 0..60 {
            let len = if rng.below(2) == 0 { 4 } else { 8 };
            let at = (rng.below(PAGE / 4) * 4 + u64::from(rng.below(8) == 0)).min(PAGE - 4);
            let len = len.min(PAGE - at);
            machine
                .phys
                .write_uint(frame + at, FIRST + rng.below(0x8000), len);
        }
        machine
            .phys
            .write_uint(frame + PAGE - 4, FIRST + rng.below(0x8000), 4);
    }
    let roots: Vec<u64> = (0..spaces)
        .map(|_| {
            let space = Space::new(&mut machine, Paging::FourLevel);
            for page in 0..8 {
                if rng.below(4) > 0 {
                    let frame = frames[rng.below(FRAMES) as usize];
                    let va = FIRST + page * PAGE;
                    space.map(&mut machine, va, frame, PageSize::Size4K, Flags::DATA);
                }
            }
            space.root()
        })
        .collect();
    let image = Image::from_bytes(machine.phys.into_dense(), &OpenOptions::default());
    let memory: Arc<dyn Memory<Addr = Gpa>> = Arc::new(image.expect("raw memory"));
    let space = |root| AddressSpace::new(Arc::clone(&memory), Gpa(root), Mode::FourLevel);
    let spaces = roots.into_iter().map(space).collect();
    (memory, spaces)
}

/// What stands in a space, read word by word.
fn naive(space: &AddressSpace, range: AddrRange<Gva>, width: Width, align: u64) -> Vec<(Gva, u64)> {
    let mut found = Vec::new();
    for at in (FIRST..FIRST + 9 * PAGE).step_by(align as usize) {
        let mut word = [0; 8];
        if space.read(Gva(at), &mut word[..width.bytes()]).is_ok() {
            let value = u64::from_le_bytes(word);
            if range.contains(Gva(value)) {
                found.push((Gva(at), value));
            }
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn each_space_is_read_with_its_own_width(
        seed: u64,
        widths in prop::collection::vec(prop::sample::select(vec![Width::Four, Width::Eight]), 1..5),
        align in prop::option::of(prop::sample::select(vec![1u64, 2, 4, 8])),
        from in 0u64..0x8000,
        len in 1u64..0x8000,
        window in prop::sample::select(vec![1usize, 5, 4096, 1 << 18]),
        threads in 1usize..=2,
    ) {
        let (_memory, spaces) = guest(seed, widths.len());
        let parts: Vec<SpacePart<'_>> = spaces.iter().map(SpacePart::all).collect();
        let range = AddrRange::new(Gva(FIRST + from), len).expect("a range");
        let scanner = ReferrersOfAnyWidth::new(range, align);
        let run = Run::new().window(window).threads(threads);
        let mut found = vec![Vec::new(); widths.len()];
        let mut order = Vec::new();
        let outcome = scan_each(&parts[..], &scanner, &Selection::all(), run, |one| {
            order.push((one.space, one.start, one.item));
            if one.item.width == widths[one.space] {
                found[one.space].push((one.start, one.item.value));
            }
            Continue(())
        });
        prop_assert!(!outcome.stopped);
        prop_assert!(order.is_sorted());
        for ((space, &width), found) in spaces.iter().zip(&widths).zip(found) {
            let align = align.unwrap_or(8).min(width.bytes() as u64);
            prop_assert_eq!(found, naive(space, range, width, align));
        }
    }
}
