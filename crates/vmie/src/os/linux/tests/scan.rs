//! Searches over memory against the naive way: every position, one by one.

use std::ops::ControlFlow;

use vmie_synth::guest::{Phys, Rng};
use vmie_synth::linux::note;

use crate::addr::{AddrRange, Address, Gpa};
use crate::memory::Memory;
use crate::os::linux::kallsyms::DIGITS;
use crate::os::linux::scan::{each_chunk, each_note};
use crate::testguest::Synthetic;
use crate::testmem::TestMemory;

const MIB: u64 = 1 << 20;

fn found(memory: &dyn Memory<Addr = Gpa>, range: AddrRange<Gpa>) -> Vec<u64> {
    let mut found = Vec::new();
    let _ = each_chunk(
        memory,
        range,
        |_| true,
        DIGITS.len() - 1,
        |start, bytes| {
            found
                .extend(memchr::memmem::find_iter(bytes, DIGITS).map(|at| start.raw() + at as u64));
            ControlFlow::Continue(())
        },
    );
    found
}

/// Where the digits are, and are readable as a whole.
fn naive(memory: &dyn Memory<Addr = Gpa>, places: &[u64], range: AddrRange<Gpa>) -> Vec<u64> {
    let whole = |&at: &u64| {
        let mut bytes = [0; DIGITS.len()];
        let inside = range.contains(Gpa(at)) && range.contains(Gpa(at + bytes.len() as u64 - 1));
        inside && memory.read(Gpa(at), &mut bytes).is_ok() && bytes == *DIGITS
    };
    places.iter().copied().filter(whole).collect()
}

/// Places around borders of pieces, of regions and of holes, far enough from each other.
fn places() -> Vec<u64> {
    let mut rng = Rng::new(21);
    let borders = [1, 2, 3, 4, 5].map(|i| i * MIB);
    let mut places: Vec<u64> = borders
        .into_iter()
        .flat_map(|border| {
            [
                border - 4096 - rng.below(20),
                border - rng.below(25),
                border + 4090,
            ]
        })
        .collect();
    places.push(0);
    places.sort_unstable();
    places
}

#[test]
fn nothing_is_missed_or_met_twice() {
    for shift in 0..25 {
        let places: Vec<u64> = places().iter().map(|at| at + shift).collect();
        let mut phys = Phys::sparse();
        phys.add_ram(0..3 * MIB);
        phys.add_ram(4 * MIB..6 * MIB);
        let mut dense = vec![0; 6 << 20];
        for &at in &places {
            dense[at as usize..][..DIGITS.len()].copy_from_slice(DIGITS);
            for (i, &byte) in DIGITS.iter().enumerate() {
                let gpa = at + i as u64;
                if phys.contains(gpa, 1) {
                    phys.write(gpa, &[byte]);
                }
            }
        }
        let mut holey = phys.clone();
        holey.make_absent(MIB - 4096..MIB);
        holey.make_absent(5 * MIB..5 * MIB + 4096);
        let memories: [Box<dyn Memory<Addr = Gpa>>; 3] = [
            Box::new(Synthetic::new(phys)),
            Box::new(Synthetic::new(holey)),
            Box::new(TestMemory::of(0, &dense).lending()),
        ];
        for (i, memory) in memories.iter().enumerate() {
            let ranges = [
                (0, 8 * MIB),
                (4096 + shift, 2 * MIB),
                (MIB - 7, 14),
                (MIB - 30, 60),
            ];
            for (start, len) in ranges {
                let range = AddrRange::new(Gpa(start), len).expect("not empty");
                let seen = found(&**memory, range);
                assert_eq!(
                    seen,
                    naive(&**memory, &places, range),
                    "memory {i}, {range}"
                );
            }
        }
    }
}

#[test]
fn every_page_is_looked_at_once() {
    let mut phys = Phys::sparse();
    phys.add_ram(0..2 * MIB + 3 * 4096);
    phys.add_ram(8 * MIB..8 * MIB + 4096);
    let pages = [0, MIB - 4096, MIB, 2 * MIB + 2 * 4096, 8 * MIB];
    for page in pages {
        phys.write(page, &note(&["OSRELEASE=6.1.0".into()]));
    }
    // Not at the start of a page: no note.
    phys.write(4096 + 8, &note(&["OSRELEASE=6.1.0".into()]));
    let memory = Synthetic::new(phys);
    let mut seen = Vec::new();
    let count = each_note(&memory, |gpa| {
        seen.push(gpa.raw());
        ControlFlow::Continue(())
    });
    assert_eq!(seen, pages);
    assert_eq!(count, 512 + 3 + 1);
    let mut first = Vec::new();
    each_note(&memory, |gpa| {
        first.push(gpa.raw());
        ControlFlow::Break(())
    });
    assert_eq!(first, [0], "the search ends when told to");
}
