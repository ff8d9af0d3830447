//! Signatures from the outside: any text, any bytes, and whole guests through their page tables.

use std::sync::Arc;

use crate::bodies::match_signatures::match_signatures;
use crate::bodies::parse_signature::parse_signature;
use crate::testguest::Synthetic;
use proptest::prelude::*;
use vmie::scan::{Run, Selection, scan};
use vmie::signature::{Set, Signature};
use vmie::{AddressSpace, Gpa, Mode};
use vmie_synth::guest::{self, Knobs, Paging, RandomGuest};

/// Text that is almost a signature.
fn almost_a_signature() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        r"[0-9a-fA-F?~\[\]\-(){}|/* \nx\\]{0,60}",
        r"(\\x[0-9a-f]{2}){0,5} ?[x?]{0,6}",
        r"(\{ )?([0-3]{2} |\?\? |~0[01] |[0?][0-3]|\[[0-3]-[3-6]\] |\([01]{2}|[01]{2}\)){0,12}\}?",
    ]
}

proptest! {
    #[test]
    fn no_text_does_harm(text in almost_a_signature()) {
        parse_signature(&text);
    }

    #[test]
    fn engines_agree_on_any_input(
        texts in prop::collection::vec(almost_a_signature(), 0..20),
        bytes in prop::collection::vec(0u8..3, 0..300),
    ) {
        let mut data = texts.join("\n").replace("\n\n", "\n").into_bytes();
        data.extend(b"\n\n");
        data.extend(bytes);
        match_signatures(&data);
    }
}

#[test]
fn the_body_that_compares_engines_does_find_something() {
    assert_eq!(match_signatures(b"61 ?? 61\n62\nnot one\n\nabacada"), 4);
    let many: String = (0..20).map(|i| format!("61626364{i:02x}\n")).collect();
    assert_eq!(
        match_signatures(format!("{many}\nabcd\u{1}abcd\u{2}").as_bytes()),
        2
    );
}

/// Readable stretches of virtual memory, from the builder's truth, page by page.
fn stretches(guest: &RandomGuest) -> Vec<(u64, Vec<u8>)> {
    let mut stretches: Vec<(u64, Vec<u8>)> = Vec::new();
    for page in &guest.truth.pages {
        let mut bytes = vec![0; usize::try_from(page.size).unwrap()];
        if guest.machine.phys.read(page.gpa, &mut bytes).is_err() {
            continue;
        }
        match stretches.last_mut() {
            Some((start, before)) if start.wrapping_add(before.len() as u64) == page.va => {
                before.extend(bytes);
            }
            _ => stretches.push((page.va, bytes)),
        }
    }
    stretches
}

#[test]
fn guests_are_scanned_across_scattered_frames_and_around_absent_ones() {
    // Frames begin and end with their own address, so a signature over a page border can only match
    // where both pages are there and in the right order.
    let knobs = Knobs {
        large: false,
        absent: true,
        ..Knobs::PLAIN
    };
    let modes = [
        (Paging::X86, Mode::X86),
        (Paging::Pae, Mode::Pae),
        (Paging::FourLevel, Mode::FourLevel),
        (Paging::FiveLevel, Mode::FiveLevel),
    ];
    let (mut borders, mut absent) = (0, 0);
    for (paging, mode) in modes {
        for seed in 0..6 {
            let guest = guest::random(seed, paging, &knobs);
            let stretches = stretches(&guest);
            let mut texts = vec!["?? 00 00 00 00 00 00".to_owned()];
            for (_, bytes) in &stretches {
                for border in (4096..bytes.len()).step_by(4096).take(3) {
                    let around = &bytes[border - 8..border + 8];
                    texts.push(around.iter().map(|b| format!("{b:02X}")).collect());
                    borders += 1;
                }
            }
            let signatures: Vec<_> = texts
                .iter()
                .map(|text| Signature::parse("", text).unwrap())
                .collect();
            let needles: Vec<Vec<Option<u8>>> = texts.iter().map(|text| exact(text)).collect();
            let mut expected = Vec::new();
            for (start, bytes) in &stretches {
                for at in 0..bytes.len() {
                    for (sig, needle) in needles.iter().enumerate() {
                        if begins_with(&bytes[at..], needle) {
                            expected.push((start + at as u64, sig));
                        }
                    }
                }
            }

            let phys = Arc::new(Synthetic::new(guest.machine.phys.clone()));
            let space = AddressSpace::new(phys, Gpa(guest.space.root()), mode);
            let set = Set::compile(signatures).unwrap();
            for (window, threads) in [(1 << 18, 1), (1 << 18, 2), (4096, 1), (1000, 2)] {
                let run = Run::new().window(window).threads(threads);
                let outcome = scan(&space, &set, &Selection::all(), run);
                let matches = outcome.items.iter();
                let matches: Vec<_> = matches.map(|m| (m.start.0, m.item.sig)).collect();
                let name = format!("{paging:?}, seed {seed}, window {window}, {threads} threads");
                assert!(matches == expected, "{name}");
                let coverage = outcome.coverage;
                let readable: usize = stretches.iter().map(|(_, bytes)| bytes.len()).sum();
                let mapped: u64 = guest.truth.pages.iter().map(|page| page.size).sum();
                assert_eq!(
                    (coverage.read, coverage.mapped),
                    (readable as u64, mapped),
                    "{name}"
                );
                let lost: u64 = guest.truth.lost.iter().map(|range| range.len).sum();
                assert_eq!(coverage.lost, lost, "{name}");
                absent += coverage.absent;
            }
        }
    }
    assert!(
        borders > 100 && absent > 0,
        "{borders} borders, {absent} bytes absent"
    );
}

/// The bytes of a signature that has only bytes and `??`.
fn exact(text: &str) -> Vec<Option<u8>> {
    let text = text.replace(' ', "");
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[i * 2..i * 2 + 2], 16).ok())
        .collect()
}

fn begins_with(bytes: &[u8], needle: &[Option<u8>]) -> bool {
    bytes.len() >= needle.len()
        && needle
            .iter()
            .zip(bytes)
            .all(|(want, byte)| want.is_none_or(|want| want == *byte))
}
