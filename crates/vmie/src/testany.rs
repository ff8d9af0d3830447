//! Test memories of any arrangement, for properties that hold of all.

use proptest::prelude::*;

use crate::addr::Address;
use crate::memory::Prot;
use crate::testmem::TestMemory;

/// Bytes of few values that look like chance, by a seed, of which 0 gives zeros: a value for each of them would be
/// most of the work of a test.
fn few_values(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    });
    let bytes = words.flat_map(|word| (0..16).map(move |i| (word >> (2 * i + 32) & 3) as u8));
    bytes.take(len).collect()
}

/// Eight pages from 0x1000 on, each mapped or not, present or not, or lost, with few different bytes
/// and protections.
pub(crate) fn any_memory<A: Address>() -> impl Strategy<Value = TestMemory<A>> {
    let page = prop_oneof![
        5 => (any::<u64>(), any::<bool>()).prop_map(Some),
        1 => Just(None),
    ];
    (
        prop::collection::vec((page, 0u8..8), 8),
        any::<bool>(),
        0u64..3,
    )
        .prop_map(|(pages, lends, cut)| {
            let mut memory = TestMemory::new();
            memory.lends = lends;
            for (i, (page, state)) in pages.into_iter().enumerate() {
                let start = 0x1000 * (i as u64 + 1);
                match page {
                    Some((seed, exec)) => {
                        let prot = if exec { Prot::RWX } else { Prot::R };
                        // Some regions end in the middle of a page, as physical memory does.
                        let short = if state == 7 { 0x123 * cut } else { 0 };
                        if state == 0 {
                            memory = memory.absent(start, 0x1000);
                        }
                        let len = usize::try_from(0x1000 - short).expect("small");
                        memory = memory.part(start, &few_values(seed, len), prot);
                    }
                    None if state < 4 => memory = memory.lost(start, 0x1000),
                    None => {}
                }
            }
            memory
        })
}
