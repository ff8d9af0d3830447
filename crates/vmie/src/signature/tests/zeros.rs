//! Stretches of zeros, which engines skip: what begins, ends or lies in them is found all the same.

use proptest::prelude::*;

use super::any_signature;
use crate::addr::Gva;
use crate::signature::*;
use crate::sweep::{SweepOptions, quiet, seek};
use crate::testmem::TestMemory;

/// Signatures that are cut out around an end of the zeros, some of their bytes masked, with more or fewer
/// zeros in them.
fn cut_at(bytes: &[u8], border: usize) -> impl Strategy<Value = String> + use<> {
    let bytes = bytes.to_vec();
    (0usize..14, 1usize..14, 0u32..1 << 14).prop_map(move |(before, after, masked)| {
        let from = border.saturating_sub(before);
        let part = &bytes[from..(border + after).min(bytes.len())];
        let texts = part.iter().enumerate().map(|(i, byte)| {
            if masked >> (i % 14) & 3 == 3 {
                "??".to_owned()
            } else {
                format!("{byte:02X}")
            }
        });
        texts.collect::<Vec<_>>().join(" ")
    })
}

/// Few bytes, a long stretch of zeros that begins and ends anywhere, few bytes; and where its ends are.
fn memory() -> impl Strategy<Value = (Vec<u8>, [usize; 2])> {
    let few = || prop::collection::vec(1u8..4, 0..30);
    let zeros = prop_oneof![0usize..100, 4000usize..4300, 8100usize..13_000];
    (few(), zeros, few()).prop_map(|(head, zeros, tail)| {
        let ends = [head.len(), head.len() + zeros];
        let bytes = [&head[..], &vec![0; zeros], &tail[..]].concat();
        (bytes, ends)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_engine_finds_what_touches_zeros(
        ((bytes, _), mut texts) in memory().prop_flat_map(|(bytes, ends)| {
            let cuts = (cut_at(&bytes, ends[0]), cut_at(&bytes, ends[1]), any_signature());
            let cuts = cuts.prop_map(|(a, b, c)| vec![a, b, c]);
            (Just((bytes, ends)), cuts)
        }),
        all_zeros in any::<bool>(),
        window in prop::sample::select(vec![1000usize, 4096, 4097, 1 << 18]),
    ) {
        prop_assume!(!bytes.is_empty());
        if all_zeros {
            texts.push("00 00 00 00 ?? 00".to_owned());
        }
        let signatures: Vec<_> = texts.iter().filter_map(|t| Signature::parse("", t).ok()).collect();
        prop_assume!(!signatures.is_empty());
        let judge = Set::compile_for(signatures.clone(), EngineKind::Naive).unwrap();
        let expected: Vec<_> = judge
            .matches(&bytes)
            .iter()
            .map(|hit| (0x1000 + hit.offset as u64, hit.sig))
            .collect();
        let memory = TestMemory::<Gva>::of(0x1000, &bytes).lending();
        let options = SweepOptions { window, threads: 1, ..SweepOptions::default() };
        for set in Set::with_every_engine(&signatures).iter().skip(1) {
            let mut found = Vec::new();
            let _ = seek(&memory, set, &options, &mut quiet, |addr, matched| {
                found.push((addr.0, matched.sig));
                std::ops::ControlFlow::Continue(())
            });
            prop_assert!(found == expected, "{}", set.engine().name());
        }
    }
}
