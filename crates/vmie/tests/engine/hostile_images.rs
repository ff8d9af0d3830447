//! Damaged and lying images of every format: they open or they do not, but nothing panics, hangs or
//! answers with bytes that were never in the guest.
//!
//! Deterministic: every run tries the same images.

use std::ops::Range;

use crate::bodies::open_image::open_image;
use crate::common::{byte_at, cpus};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use vmie::{AddrRange, Gpa, Image, Memory};
use vmie_synth::write::{Avml, Elf, ElfClass, Flavour, Kdump};

/// Little memory, so that thousands of mutations cost little; the last range has three frames.
const RANGES: [Range<u64>; 3] = [0x1000..0x3000, 0x8000..0x9800, 0x1_0000_0000..0x1_0002_2000];

/// For kdumps, which hold whole pages.
const KDUMP_RANGES: [Range<u64>; 3] = [0x1000..0x3000, 0x8000..0xa000, 0x40_0000..0x40_3000];

/// An image and where in it the structure is; what lies between is memory.
struct Subject {
    name: &'static str,
    bytes: Vec<u8>,
    structure: Vec<Range<usize>>,
}

fn subjects() -> Vec<Subject> {
    let elf = |options: Elf| {
        let bytes = crate::common::elf(
            &RANGES,
            &Elf {
                cpus: cpus(),
                ..options
            },
        );
        let memory = RANGES
            .iter()
            .map(|r| (r.end - r.start) as usize)
            .sum::<usize>();
        let head = bytes.len() - memory;
        (bytes, vec![0..head])
    };
    let plain = |bytes: Vec<u8>| {
        let mut at = 0;
        let mut structure = Vec::new();
        for r in &RANGES {
            structure.push(at..at + 32);
            at += 32 + (r.end - r.start) as usize;
        }
        assert_eq!(at, bytes.len());
        (bytes, structure)
    };
    let compressed = |bytes: Vec<u8>| {
        let mut structure = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let len = |at: usize| {
                u32::from_le_bytes([bytes[at + 1], bytes[at + 2], bytes[at + 3], 0]) as usize
            };
            match &bytes[at..at + 4] {
                b"AVML" => {
                    structure.push(at..at + 42);
                    at += 42;
                }
                [0 | 1, ..]
                    if structure.last().is_some_and(|r: &Range<usize>| r.end <= at)
                        && len(at) > 4
                        && at + 4 + len(at) <= bytes.len() - 8 =>
                {
                    structure.push(at..at + 11);
                    at += 4 + len(at);
                }
                _ => {
                    structure.push(at..at + 8);
                    at += 8;
                }
            }
        }
        (bytes, structure)
    };
    // Fields of the headers, bits of both bitmaps, descriptors; the blocks between hold nothing.
    let kdump = |options: Kdump| {
        let bytes = crate::common::kdump(&KDUMP_RANGES, &options);
        let pages = KDUMP_RANGES.iter().map(|r| (r.end - r.start) / 4096);
        let table = 0x5000..0x5000 + 24 * pages.sum::<u64>() as usize;
        let bitmaps = [0x3000..0x4000, 0x4000..0x5000];
        let heads = [0..464, 0x1000..0x1068, 0x2000..0x3000];
        if options.flattened {
            // The stream's header, and the records of the dump's header and what is behind it.
            return (bytes, vec![0..32, 0x1000..0x1200]);
        }
        (bytes, [&heads[..], &bitmaps, &[table]].concat())
    };
    [
        (
            "kdump",
            kdump(Kdump {
                cpus: cpus(),
                share_zeros: false,
                ..Kdump::default()
            }),
        ),
        (
            "kdump flattened",
            kdump(Kdump {
                cpus: cpus(),
                share_zeros: false,
                flattened: true,
                ..Kdump::default()
            }),
        ),
        ("lime", plain(crate::common::lime(&RANGES))),
        (
            "avml",
            compressed(crate::common::avml(&RANGES, &Avml::default())),
        ),
        ("elf", elf(Elf::default())),
        (
            "elf of virtualbox",
            elf(Elf {
                flavour: Flavour::VirtualBox,
                without_bytes: vec![0xf000_0000..0xf010_0000],
                ..Elf::default()
            }),
        ),
        (
            "elf with memory left out",
            elf(Elf {
                without_bytes: vec![0x10_0000..0x20_0000],
                ..Elf::default()
            }),
        ),
        ("elf32", {
            let bytes = crate::common::elf(
                &RANGES[..2],
                &Elf {
                    class: ElfClass::Elf32,
                    x86_64: false,
                    cpus: cpus(),
                    ..Elf::default()
                },
            );
            let head = bytes.len() - 0x3800;
            (bytes, vec![0..head])
        }),
    ]
    .into_iter()
    .map(|(name, (bytes, structure))| Subject {
        name,
        bytes,
        structure,
    })
    .collect()
}

/// Everything the image gives out was in the guest at that address, except what `spoilt` excuses.
fn assert_genuine(name: &str, image: &Image, spoilt: impl Fn(u64) -> bool) {
    for region in image.regions(AddrRange::all()) {
        let mut at = region.start.0;
        let end = at + region.len;
        let mut buf = [0; 4096];
        while at < end {
            let n = (end - at).min(4096);
            let good = match image.read(Gpa(at), &mut buf[..n as usize]) {
                Ok(()) => n,
                Err(fault) => fault.addr.0 - at,
            };
            for (gpa, &byte) in (at..at + good).zip(&buf) {
                assert!(
                    byte == byte_at(gpa) || spoilt(gpa),
                    "{name}: wrong byte at {gpa:#x}"
                );
            }
            at += n;
        }
    }
}

#[test]
fn undamaged_subjects_open() {
    for subject in subjects() {
        let image = open_image(&subject.bytes).expect(subject.name);
        assert_genuine(subject.name, &image, |_| false);
    }
}

#[test]
fn truncations_at_every_border_give_only_genuine_bytes() {
    for subject in subjects() {
        let name = subject.name;
        let mut cuts: Vec<usize> = subject
            .structure
            .iter()
            .flat_map(|r| {
                let step = if r.len() > 0x800 { 97 } else { 1 };
                r.clone().step_by(step).chain([r.end, r.end + 1])
            })
            .chain((0..subject.bytes.len()).step_by(4099))
            .filter(|&cut| cut < subject.bytes.len())
            .collect();
        cuts.sort_unstable();
        cuts.dedup();
        for cut in cuts {
            let Ok(image) = open_image(&subject.bytes[..cut]) else {
                continue;
            };
            assert_ne!(
                image.info().format.to_string(),
                "raw",
                "{name} cut at {cut:#x}"
            );
            // A compressed block that is cut right behind its header may be one of zeros, and that is said.
            let headers = subject.structure.iter().filter(|r| r.len() == 42);
            let zeros = headers
                .zip(&RANGES)
                .find(|(header, _)| name == "avml" && header.start + 32 == cut)
                .map(|(_, range)| range.clone());
            assert_genuine(name, &image, |gpa| {
                zeros.as_ref().is_some_and(|zeros| zeros.contains(&gpa))
            });
            let missing =
                zeros.is_some() || image.spans(AddrRange::all()).any(|s| s.region().is_none());
            let said = image.info().notes.iter().any(|n| n.contains("the file"));
            // LiME and AVML cut exactly between two ranges cannot be told from whole ones, and behind
            // a compressed block stands only its length.
            let within = |r: &Range<usize>| r.start < cut && cut < r.end;
            let between = subject.structure.iter().any(|r| r.start == cut);
            let in_length = subject.structure.iter().any(|r| r.len() == 8 && within(r));
            // The end mark of a stream, and what stands in it twice, is missed and no memory.
            let stream = name == "kdump flattened";
            assert!(
                between || (said && (missing || in_length || stream)),
                "{name} cut at {cut:#x} says nothing"
            );
        }
    }
}

#[test]
fn flipped_memory_bits_spoil_no_more_than_their_byte_or_frame() {
    for subject in subjects() {
        let name = subject.name;
        let mut rng = rng();
        for _ in 0..200 {
            let at = (rng.next() % subject.bytes.len() as u64) as usize;
            if subject.structure.iter().any(|r| r.contains(&at)) {
                continue;
            }
            let mut bytes = subject.bytes.clone();
            bytes[at] ^= 1 << (rng.next() % 8);
            // A stream has heads of records among its memory.
            if name == "kdump flattened" {
                let _ = open_image(&bytes);
                continue;
            }
            let image = open_image(&bytes).unwrap_or_else(|e| panic!("{name}, byte {at:#x}: {e}"));
            let wrong = std::cell::Cell::new(0);
            assert_genuine(name, &image, |_| {
                wrong.set(wrong.get() + 1);
                wrong.get() <= 1
            });
            // Pages that zlib has packed are checked, others and what pads the parts are not.
            if name == "kdump" {
                continue;
            }
            if name == "avml" {
                assert_eq!(wrong.get(), 0, "a spoilt frame gives no bytes ({at:#x})");
            } else {
                assert_eq!(wrong.get(), 1, "{name}: {at:#x}");
            }
        }
    }
}

#[test]
fn flipped_structure_bits_do_no_harm() {
    for subject in subjects() {
        for range in &subject.structure {
            // The registers in long notes are as good as one another.
            let step = if range.len() > 0x800 { 61 } else { 1 };
            for at in range.clone().step_by(step) {
                for bit in 0..8 {
                    let mut bytes = subject.bytes.clone();
                    bytes[at] ^= 1 << bit;
                    let _ = open_image(&bytes);
                }
            }
        }
    }
}

#[test]
fn extreme_numbers_in_every_field_do_no_harm() {
    for subject in subjects() {
        let size = subject.bytes.len() as u64;
        let extremes = [
            0,
            1,
            0x7fff_ffff,
            0xffff_ffff,
            1 << 32,
            (1 << 52) - 1,
            1 << 52,
            i64::MAX as u64,
            u64::MAX - 0xfff,
            u64::MAX,
            size - 1,
            size,
            size + 1,
        ];
        for range in &subject.structure {
            let step = if range.len() > 0x800 { 124 } else { 2 };
            for at in range.clone().step_by(step) {
                for value in extremes {
                    for width in [2, 4, 8] {
                        let mut bytes = subject.bytes.clone();
                        let Some(field) = bytes.get_mut(at..at + width) else {
                            continue;
                        };
                        field.copy_from_slice(&value.to_le_bytes()[..width]);
                        let _ = open_image(&bytes);
                    }
                }
            }
        }
    }
}

#[test]
fn spliced_images_do_no_harm() {
    let subjects = subjects();
    let mut rng = rng();
    for _ in 0..600 {
        let a = &subjects[(rng.next() % subjects.len() as u64) as usize];
        let b = &subjects[(rng.next() % subjects.len() as u64) as usize];
        let mut bytes = a.bytes.clone();
        for _ in 0..1 + rng.next() % 4 {
            // A piece of structure over a place in the structure.
            let pick = |s: &Subject, n: u64| {
                let r = &s.structure[(n % s.structure.len() as u64) as usize];
                r.start + (n >> 32) as usize % r.len()
            };
            let (from, to) = (pick(b, rng.next()), pick(a, rng.next()));
            let len = (1 + rng.next() % 64) as usize;
            let len = len.min(b.bytes.len() - from).min(bytes.len() - to);
            bytes[to..to + len].copy_from_slice(&b.bytes[from..from + len]);
        }
        let _ = open_image(&bytes);
    }
}

/// What fuzzing has found once is tried for ever.
#[test]
fn what_fuzzing_found_stays_fixed() {
    let dir = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fuzz/regressions/open_image"
    );
    let mut files = 0;
    for entry in std::fs::read_dir(dir).expect("fuzz/regressions/open_image") {
        let path = entry.expect("listed").path();
        let _ = open_image(&std::fs::read(&path).expect("readable"));
        files += 1;
    }
    assert!(files > 0);
}

/// The same numbers in every run (SplitMix64).
fn rng() -> Numbers {
    Numbers(0x766d_6965)
}

struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Arbitrary bytes behind each magic number.
#[test]
fn arbitrary_bytes_do_no_harm() {
    let mut runner = TestRunner::new_with_rng(
        Config {
            cases: 300,
            failure_persistence: None,
            ..Config::default()
        },
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let magic = proptest::sample::select(vec![
        &b"EMiL\x01\0\0\0"[..],
        b"AVML\x02\0\0\0",
        b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0",
        b"KDUMP   \x06\0\0\0",
        b"makedumpfile\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01",
        b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x03\0",
        b"",
    ]);
    let bytes = proptest::collection::vec(
        proptest::prop_oneof![
            proptest::strategy::Just(0u8),
            proptest::arbitrary::any::<u8>()
        ],
        0..6000,
    );
    runner
        .run(&(magic, bytes), |(magic, bytes)| {
            let mut image = magic.to_vec();
            image.extend(bytes);
            let _ = open_image(&image);
            Ok(())
        })
        .expect("no harm");
}
