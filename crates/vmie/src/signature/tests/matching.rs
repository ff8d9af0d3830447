//! Every engine, every window size, with holes and borders.

use std::ops::ControlFlow::Continue;

use proptest::prelude::*;

use super::any_signature;
use crate::addr::{AddrRange, Gpa, Gva};
use crate::memory::{Memory, Prot};
use crate::paging::{AddressSpace, Mode};
use crate::signature::*;
use crate::sweep::{DEFAULT_WINDOW, Found, SpacePart, SweepOptions, quiet, seek, seek_many};
use crate::testany::any_memory;
use crate::testmem::TestMemory;

const WINDOWS: [usize; 6] = [1, 2, 3, 7, 4096, DEFAULT_WINDOW];

fn signatures(texts: &[&str]) -> Vec<Signature> {
    texts
        .iter()
        .map(|text| Signature::parse("", text).unwrap_or_else(|e| panic!("{}", e.explain())))
        .collect()
}

/// The set once for every engine.
fn sets(texts: &[&str]) -> Vec<Set> {
    Set::with_every_engine(&signatures(texts))
}

fn run(memory: &TestMemory<Gva>, set: &Set, options: &SweepOptions<Gva>) -> Vec<(u64, usize)> {
    let mut matches = Vec::new();
    let outcome = seek(memory, set, options, &mut quiet, |addr, matched| {
        matches.push((addr.0, matched.sig));
        Continue(())
    });
    assert!(!outcome.stopped);
    matches
}

/// A name, memory from 0x1000 on, signatures, and where they match (offset, signature).
struct Case(
    &'static str,
    &'static [u8],
    &'static [&'static str],
    &'static [(u64, usize)],
);

const CASES: &[Case] = &[
    Case("one byte", b"abca", &["61"], &[(0, 0), (3, 0)]),
    Case("nothing", b"abca", &["62 61"], &[]),
    Case("longer than memory", b"ab", &["61 62 63"], &[]),
    Case("the whole", b"abc", &["61 62 63"], &[(0, 0)]),
    Case(
        "overlapping",
        b"aaaa",
        &["61 61"],
        &[(0, 0), (1, 0), (2, 0)],
    ),
    Case(
        "overlapping itself",
        b"abababa",
        &["61 62 61"],
        &[(0, 0), (2, 0), (4, 0)],
    ),
    Case(
        "wildcard inside",
        b"axbayb",
        &["61 ?? 62"],
        &[(0, 0), (3, 0)],
    ),
    Case("wildcard first", b"xab", &["?? 61 62"], &[(0, 0)]),
    Case("no byte for the wildcard first", b"ab", &["?? 61 62"], &[]),
    Case("wildcard last", b"abab", &["61 62 ??"], &[(0, 0)]),
    Case(
        "high half",
        b"\x3f\x40\x48\x4f\x50",
        &["4?"],
        &[(1, 0), (2, 0), (3, 0)],
    ),
    Case(
        "low half",
        b"\x08\x18\x81\xf8",
        &["?8"],
        &[(0, 0), (1, 0), (3, 0)],
    ),
    Case("halves only", b"\x12\x34\x52", &["?2 3?"], &[(0, 0)]),
    Case("negated", b"\x00\x01\x00", &["~00"], &[(1, 0)]),
    Case(
        "negated half",
        b"\x08\x18\x20",
        &["~?8", "~1?"],
        &[(0, 1), (2, 0), (2, 1)],
    ),
    Case(
        "jump",
        b"a1b a12b a123b",
        &["61 [1-2] 62"],
        &[(0, 0), (4, 0)],
    ),
    Case(
        "jump of none",
        b"ab a1b",
        &["61 [0-1] 62"],
        &[(0, 0), (3, 0)],
    ),
    Case(
        "jump to several ends is one match",
        b"a1b2b",
        &["61 [1-3] 62"],
        &[(0, 0)],
    ),
    Case(
        "jump takes the second chance",
        b"abbc",
        &["61 [0-2] 62 63"],
        &[(0, 0)],
    ),
    Case("two jumps", b"a..b.c", &["61 [1-2] 62 [1-2] 63"], &[(0, 0)]),
    Case(
        "alternatives",
        b"axc ayc azc",
        &["61 (78 | 79) 63"],
        &[(0, 0), (4, 0)],
    ),
    Case(
        "alternatives of different length",
        b"ab abb",
        &["61 (62 | 62 62)"],
        &[(0, 0), (3, 0)],
    ),
    Case(
        "an alternative that is a prefix",
        b"abbc",
        &["61 (62 | 62 62) 63"],
        &[(0, 0)],
    ),
    Case(
        "nested",
        b"pac pbxc",
        &["(70 | 71) (61 | (62 | 63) 78) 63"],
        &[(0, 0), (4, 0)],
    ),
    Case(
        "alternatives first",
        b"xc ybc",
        &["(78 | 79 62) 63"],
        &[(0, 0), (3, 0)],
    ),
    Case(
        "a jump in an alternative",
        b"a.b ac",
        &["(61 [1-2] 62 | 61 63)"],
        &[(0, 0), (4, 0)],
    ),
    Case(
        "two at one place, by number",
        b"ab",
        &["61 62", "61", "62"],
        &[(0, 0), (0, 1), (1, 2)],
    ),
    Case(
        "equal ones both report",
        b"aba",
        &["61", "61"],
        &[(0, 0), (0, 1), (2, 0), (2, 1)],
    ),
    Case(
        "one inside another",
        b"abcd",
        &["62 63", "61 62 63 64"],
        &[(0, 1), (1, 0)],
    ),
    Case(
        "one the end of another",
        b"xabab",
        &["61 62", "78 61 62"],
        &[(0, 1), (1, 0), (3, 0)],
    ),
    Case("zeros", b"\0\0\0\0\0", &["00 00 00 00"], &[(0, 0), (1, 0)]),
    Case(
        "fixed after a jump",
        b"a....Q..",
        &["61 [3-5] 51 ?? ??"],
        &[(0, 0)],
    ),
    Case(
        "mask form",
        b"a.ba-b",
        &["\\x61\\x00\\x62 x?x"],
        &[(0, 0), (3, 0)],
    ),
    Case(
        "the highest byte",
        b"\xff\xfe\xff",
        &["FF", "F? ??"],
        &[(0, 0), (0, 1), (1, 1), (2, 0)],
    ),
];

#[test]
fn cases() {
    for Case(name, bytes, signatures, expected) in CASES {
        let expected: Vec<_> = expected
            .iter()
            .map(|&(at, sig)| (0x1000 + at, sig))
            .collect();
        for set in sets(signatures) {
            for window in WINDOWS {
                for threads in [1, 2] {
                    for memory in [
                        TestMemory::of(0x1000, bytes),
                        TestMemory::of(0x1000, bytes).lending(),
                    ] {
                        let options = SweepOptions {
                            window,
                            threads,
                            ..SweepOptions::default()
                        };
                        assert_eq!(
                            run(&memory, &set, &options),
                            expected,
                            "{name}: {}, window {window}, {threads} threads",
                            set.engine().name(),
                        );
                    }
                }
            }
        }
    }
}

/// 0x1000 bytes of `fill` with `end` as the last ones.
fn page(fill: u8, start: &[u8], end: &[u8]) -> Vec<u8> {
    let mut page = vec![fill; 0x1000];
    page[..start.len()].copy_from_slice(start);
    page[0x1000 - end.len()..].copy_from_slice(end);
    page
}

#[test]
fn matches_cross_borders_and_never_holes() {
    let a = page(b'.', b"", b"needle na");
    let b = page(b'.', b"il", b"nee");
    let c = page(b'.', b"dle", b"na");
    let d = page(b'.', b"il", b"");
    let rx = Prot::R.union(Prot::X);
    let signatures = &[
        "6E 65 65 64 6C 65",
        "6E 61 69 6C",
        "6E 61",
        "6E 61 ?? ??",
        "6E ?? [0-9] 6C",
    ];
    // a and b touch with different protection, c is behind b, d lies behind a page that is mapped
    // and absent.
    let memory = TestMemory::<Gva>::new()
        .part(0x1000, &a, rx)
        .part(0x2000, &b, Prot::RWX)
        .part(0x3000, &c, Prot::RWX)
        .part(0x4000, &page(b'!', b"", b""), Prot::RWX)
        .part(0x5000, &d, Prot::RWX)
        .absent(0x4000, 0x1000);
    let expected = [
        (0x1ff7, 0),
        (0x1ff7, 4),
        (0x1ffe, 1),
        (0x1ffe, 2),
        (0x1ffe, 3),
        (0x1ffe, 4),
        (0x2ffd, 0),
        (0x2ffd, 4),
        (0x3ffe, 2),
    ];
    for set in sets(signatures) {
        for window in WINDOWS {
            for threads in [1, 2] {
                let options = SweepOptions {
                    window,
                    threads,
                    ..SweepOptions::default()
                };
                assert_eq!(run(&memory, &set, &options), expected, "window {window}");
                let writable = SweepOptions {
                    perm: Prot::W,
                    ..options.clone()
                };
                assert_eq!(
                    run(&memory, &set, &writable),
                    expected[6..],
                    "a region that was left out is a border"
                );
            }
        }
    }
}

#[test]
fn a_range_ends_a_match() {
    let memory = TestMemory::<Gva>::of(0x1000, b"abcabc");
    for set in sets(&["61 62 63"]) {
        let range = AddrRange::new(Gva(0x1000), 5);
        let options = SweepOptions {
            range,
            ..SweepOptions::default()
        };
        assert_eq!(run(&memory, &set, &options), [(0x1000, 0)]);
    }
}

#[test]
fn everything_matches_everywhere_in_bounded_memory() {
    // 16 signatures at each of 64 Ki bytes: a million matches, far more than a window may hold.
    let memory = TestMemory::<Gva>::of(0x10000, &[0; 1 << 16]).lending();
    for threads in [1, 2] {
        // The last one crosses the borders of whatever windows are halved into.
        let mut texts = ["00"; 16];
        texts[15] = "00 00 00 00 00";
        let set = Set::compile(signatures(&texts)).unwrap();
        let (mut count, mut last) = (0, None);
        let options = SweepOptions {
            threads,
            ..SweepOptions::default()
        };
        let outcome = seek(&memory, &set, &options, &mut quiet, |addr, matched| {
            let found = (addr, matched.sig);
            assert!(last.is_none_or(|last| last < found), "in order");
            last = Some(found);
            count += 1;
            Continue(())
        });
        assert_eq!((count, outcome.coverage.read), ((16 << 16) - 4, 1 << 16));
    }
}

#[test]
fn memory_made_to_match_almost_everywhere_takes_bounded_time() {
    // One position at a time this would be 10^11 steps.
    let mut bytes = vec![0; 1 << 19];
    *bytes.last_mut().unwrap() = 1;
    let last = bytes.len() as u64 - 1;
    let memory = TestMemory::<Gva>::of(0, &bytes).lending();
    let long = format!("00 {} 01", "00 ".repeat(1000));
    let texts = [
        "00 [0-4096] 00 [0-4096] 00 [0-4096] 01",
        "00 [0-4096] 01",
        &long,
        "0? 00 00 ~00",
        "00 (00 | 00 00 | 00 (00 | 00 00)) [0-100] 02",
    ];
    let mut expected = Vec::new();
    for at in 0..last {
        let left = last - at - 1;
        let matches = [
            (2..=2 + 3 * 4096).contains(&left),
            left <= 4096,
            left == 1000,
            left == 2,
            false,
        ];
        expected.extend((0..5).filter(|&sig| matches[sig]).map(|sig| (at, sig)));
    }
    // All but the judge, which would take years.
    let bounded = EngineKind::ALL
        .into_iter()
        .filter(|&kind| kind != EngineKind::Naive);
    for kind in bounded.filter(|kind| kind.is_available()) {
        let set = Set::compile_for(signatures(&texts), kind).unwrap();
        let matches = run(&memory, &set, &SweepOptions::default());
        assert!(matches == expected, "{kind:?}");
    }
}

/// Bytes with the skew of code: a few values make up half of them.
fn skewed(seed: u64, len: usize) -> Vec<u8> {
    const COMMON: [u8; 8] = [0x00, 0x48, 0x8b, 0x89, 0xff, 0xe8, 0x0f, 0x24];
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 33) as usize
    };
    (0..len)
        .map(|_| match next() % 16 {
            0..8 => COMMON[next() % 8],
            8..14 => (next() % 32) as u8,
            _ => next() as u8,
        })
        .collect()
}

/// Signatures cut out of `bytes`, some of their bytes masked.
fn cut(bytes: &[u8], seed: u64, count: usize) -> Vec<Signature> {
    let choice = skewed(seed, count * 64);
    let cuts = choice.chunks_exact(64).enumerate().map(|(i, choice)| {
        let at = (i * 7919 + usize::from(choice[0]) * 31) % (bytes.len() - 40);
        let len = 5 + usize::from(choice[1]) % 30;
        let text: Vec<String> = bytes[at..at + len]
            .iter()
            .zip(&choice[2..])
            .map(|(byte, choice)| match choice % 29 {
                1 | 2 => "??".to_owned(),
                3 => format!("{:X}?", byte >> 4),
                4 => format!("~{:02X}", byte ^ 0x55),
                5 => format!("({byte:02X} | 90)"),
                _ => format!("{byte:02X}"),
            })
            .collect();
        text.join(" ").parse().ok()
    });
    cuts.flatten().collect()
}

#[test]
fn many_signatures_over_several_batches() {
    let mut bytes = skewed(1, 40_000);
    // A stretch of zeros longer than a batch: it is skipped, and what begins or ends in it is not.
    bytes[9_000..19_000].fill(0);
    let mut signatures = cut(&bytes, 2, 400);
    let around = |at: usize| {
        let text: Vec<String> = bytes[at..at + 12]
            .iter()
            .map(|b| format!("{b:02X}"))
            .collect();
        text.join(" ").parse::<Signature>().unwrap()
    };
    signatures.extend([around(8_994), around(18_994), around(39_988), around(0)]);
    let judge = Set::compile_for(signatures.clone(), EngineKind::Dense).unwrap();
    let mut expected = Found::with_limit(usize::MAX);
    judge.find(&bytes, 39_999, &mut expected);
    assert!(expected.items().len() >= signatures.len());
    for set in Set::with_every_engine(&signatures) {
        if set.engine().name() != "naive" {
            let mut found = Found::with_limit(usize::MAX);
            set.find(&bytes, 39_999, &mut found);
            assert!(found.items() == expected.items(), "{}", set.engine().name());
        }
    }
}

#[test]
fn a_guest_full_of_a_gram_is_searched_in_bounded_time() {
    // Every position holds the gram of every signature, and each test but the last byte's succeeds: 10^10 steps one
    // by one, in two batches.
    let bytes = [0x9d; 1 << 17];
    let text = format!("{} ~9D", "9D ".repeat(900));
    let signatures = vec![text.parse::<Signature>().unwrap(); 100];
    for kind in EngineKind::ALL {
        if kind == EngineKind::Naive || !kind.is_available() {
            continue;
        }
        let set = Set::compile_for(signatures.clone(), kind).unwrap();
        let mut found = Found::with_limit(usize::MAX);
        set.find(&bytes, bytes.len(), &mut found);
        assert_eq!(found.items(), [], "{kind}");
    }
}

#[test]
fn engines_go_by_their_names() {
    for kind in EngineKind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
        let set = Set::compile_for(signatures(&["90 91 92 93"]), kind);
        assert_eq!(set.is_ok(), kind.is_available(), "{kind}");
    }
    assert!("fast".parse::<EngineKind>().is_err());
}

/// All byte conditions a signature stands for, its choices multiplied out: matching without sets or
/// jumps, to judge the judge.
fn flat(nodes: &[Node]) -> Vec<Vec<Option<ByteTest>>> {
    nodes.iter().fold(vec![Vec::new()], |heads, node| {
        let tails: Vec<Vec<Option<ByteTest>>> = match node {
            Node::Byte(test) => vec![vec![Some(*test)]],
            Node::Skip { min, max } => (*min..=*max).map(|n| vec![None; n]).collect(),
            Node::Alt(branches) => branches.iter().flat_map(|branch| flat(branch)).collect(),
        };
        heads
            .iter()
            .flat_map(|head| tails.iter().map(|tail| [&head[..], &tail[..]].concat()))
            .collect()
    })
}

fn flat_matches(choices: &[Vec<Option<ByteTest>>], bytes: &[u8]) -> bool {
    choices.iter().any(|tests| {
        tests.len() <= bytes.len()
            && tests
                .iter()
                .zip(bytes)
                .all(|(test, &byte)| test.is_none_or(|t| t.accepts(byte)))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_engine_equals_multiplied_out_choices(
        texts in prop::collection::vec(any_signature(), 1..5),
        bytes in prop_oneof![
            prop::collection::vec(0u8..4, 1..200),
            prop::collection::vec(0u8..2, 1..200),
        ],
        owned in 1usize..200,
    ) {
        let signatures: Vec<_> = texts.iter().filter_map(|t| Signature::parse("", t).ok()).collect();
        prop_assume!(!signatures.is_empty());
        let owned = owned.min(bytes.len());
        let choices: Vec<_> = signatures.iter().map(|s| flat(s.nodes())).collect();
        prop_assume!(choices.iter().all(|c| c.len() < 2000));
        let expected: Vec<_> = (0..owned)
            .flat_map(|offset| (0..choices.len()).map(move |sig| Hit { offset, sig }))
            .filter(|hit| flat_matches(&choices[hit.sig], &bytes[hit.offset..]))
            .collect();
        for set in Set::with_every_engine(&signatures) {
            let mut found = Found::with_limit(usize::MAX);
            set.find(&bytes, owned, &mut found);
            prop_assert_eq!(found.items(), &expected[..], "{}", set.engine().name());
        }
    }

    #[test]
    fn a_scan_equals_the_naive_engine_on_each_readable_stretch(
        memory in any_memory::<Gva>(),
        texts in prop::collection::vec(any_signature(), 1..4),
        window in prop_oneof![1..8usize, 4000..9000usize, Just(DEFAULT_WINDOW)],
        threads in 1usize..=2,
        exec in any::<bool>(),
        around in 0u64..0x9000,
    ) {
        let signatures: Vec<_> = texts.iter().filter_map(|t| Signature::parse("", t).ok()).collect();
        prop_assume!(!signatures.is_empty());
        let perm = if exec { Prot::X } else { Prot::NONE };
        let judge = Set::compile_for(signatures.clone(), EngineKind::Naive).unwrap();
        let mut expected = Vec::new();
        // Tiny windows read their surroundings again for each byte, and two pages have all borders.
        let range = if window < 8 { AddrRange::new(Gva(around), 0x1800) } else { None };
        for (start, bytes) in memory.readable(perm, range) {
            let mut found = Found::with_limit(usize::MAX);
            judge.find(&bytes, bytes.len(), &mut found);
            expected.extend(found.items().iter().map(|hit| (start + hit.offset as u64, hit.sig)));
        }
        let options = SweepOptions { range, perm, window, threads, ..SweepOptions::default() };
        for set in Set::with_every_engine(&signatures).iter().skip(1) {
            prop_assert!(run(&memory, set, &options) == expected, "{}", set.engine().name());
        }
    }
}

#[test]
fn many_spaces_match_as_each_does() {
    use std::sync::Arc;
    use vmie_synth::guest::{Flags, Machine, Paging, Rng, Space};

    let mut machine = Machine::scattered(0..1 << 20, 5);
    let mut rng = Rng::new(11);
    let shared: Vec<u64> = (0..40).map(|_| machine.frames.alloc()).collect();
    for &gpa in &shared {
        let bytes: Vec<u8> = (0..4096).map(|_| rng.below(6) as u8).collect();
        machine.phys.write(gpa, &bytes);
    }
    let roots = [1usize, 2, 3].map(|step| {
        let space = Space::new(&mut machine, Paging::FourLevel);
        let frames: Vec<u64> = shared.iter().copied().step_by(step).collect();
        space.map_frames(&mut machine, 0x40_0000, &frames, Flags::CODE);
        space.map_frames(&mut machine, 0x80_0000, &shared[..7], Flags::DATA);
        space.root()
    });
    let mut memory = TestMemory::<Gpa>::of(0, &machine.phys.into_dense());
    memory.lends = true;
    let memory: Arc<dyn Memory<Addr = Gpa>> = Arc::new(memory);
    let spaces =
        roots.map(|root| AddressSpace::new(Arc::clone(&memory), Gpa(root), Mode::FourLevel));
    let parts = spaces.each_ref().map(SpacePart::all);
    for set in sets(&[
        "00 01 02 03 ?? 05",
        "01 [2-9] (04 04 | 05 05 05) 00 03",
        "02 02 02 02 02",
    ]) {
        let options = SweepOptions {
            threads: 1,
            ..SweepOptions::default()
        };
        let mut each = Vec::new();
        for (index, space) in spaces.iter().enumerate() {
            let _ = seek(space, &set, &options, &mut quiet, |addr, matched| {
                each.push((index, addr, matched));
                Continue(())
            });
        }
        let mut many = Vec::new();
        let outcome = seek_many(&parts, &set, &options, &mut quiet, |found| {
            many.push((found.space, found.addr, found.item));
            Continue(())
        });
        assert!(each.len() > 100 && many == each, "{}", set.engine().name());
        assert_eq!(outcome.total().read, (40 + 20 + 14 + 3 * 7) * 4096);
    }
}

#[test]
fn a_matcher_forgets_what_it_found_before() {
    for set in sets(&["61 62", "62"]) {
        let mut matcher = Matcher::with_limit(&set, 3);
        for _ in 0..2 {
            let hit = |offset, sig| Hit { offset, sig };
            assert_eq!(matcher.find(b"ab"), [hit(0, 0), hit(1, 1)]);
            assert!(!matcher.is_full());
            assert_eq!(matcher.find(b""), []);
            assert_eq!(matcher.find_owned(b"ab", 1), [hit(0, 0)]);
            assert_eq!(matcher.find(b"abab").len(), 3);
            assert!(matcher.is_full(), "{}", set.engine().name());
            assert_eq!(matcher.find(b"b"), [hit(0, 1)]);
        }
    }
}
