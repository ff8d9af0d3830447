//! Compressed kdumps: every form holds the same memory, and damage never passes for memory.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::common::{assert_holds, byte_at, cpus, kdump, open, range};
use vmie::{AddrRange, Format, Gpa, Image, Memory, OpenErrorKind, SpanKind};
use vmie_synth::write::{Compression, Kdump};

/// Whole pages, as kdumps hold them; more than 16 in a row, so that long runs arise.
const RANGES: [Range<u64>; 3] = [0..0x9_f000, 0x10_0000..0x13_0000, 0x4000_0000..0x4004_0000];
const LEFT_OUT: Range<u64> = 0x13_0000..0x14_0000;
/// Few pages, so that thousands of damaged files cost little.
const SMALL: [Range<u64>; 3] = [0x1000..0x4000, 0x8000..0x9000, 0x40_0000..0x40_c000];

const COMPRESSIONS: &[Compression] = &[
    Compression::Plain,
    Compression::Zlib,
    Compression::Lzo,
    Compression::Snappy,
    #[cfg(feature = "zstd")]
    Compression::Zstd,
];

#[test]
fn every_form_holds_the_same_memory() {
    for &compression in COMPRESSIONS {
        for (version, wide, share_zeros, flattened) in [
            (6, true, true, false),
            (6, true, false, true),
            (6, false, true, true),
            (5, true, true, false),
            (4, false, false, false),
            (3, true, true, true),
            (1, false, true, false),
        ] {
            let name = format!("{compression:?} {version} {wide} {share_zeros} {flattened}");
            let options = Kdump {
                version,
                wide,
                compression,
                share_zeros,
                flattened,
                cpus: cpus(),
                vmcoreinfo: "OSRELEASE=6.1.0\nPAGESIZE=4096\n".into(),
                ..Kdump::default()
            };
            let image = open(kdump(&RANGES, &options)).expect(&name);
            assert_eq!(image.info().format, Format::Kdump, "{name}");
            assert_eq!(image.info().notes, [""; 0], "{name}");
            assert_holds(&name, &image, &RANGES);
            // The text of the note came with version 3.
            let text = image.info().hints.vmcoreinfo.as_deref();
            let expected = (version >= 3).then_some(options.vmcoreinfo.as_bytes());
            assert_eq!(text, expected, "{name}");
            // The notes came with version 4.
            let seen = &image.info().hints.cpus;
            assert_eq!(seen.len(), if version < 4 { 0 } else { 3 }, "{name}");
            if let [first, second, asleep] = &seen[..] {
                assert_eq!((first.cr3, second.cr3, asleep.cr3), (0x1000, 0x2801, 0));
                assert_eq!(first.long_mode, Some(wide), "{name}");
            }
        }
    }
}

#[test]
fn pages_that_were_left_out_are_absent_and_no_zeros() {
    let options = Kdump {
        excluded: vec![LEFT_OUT],
        ..Kdump::default()
    };
    let image = open(kdump(&RANGES, &options)).expect("opens");
    let declared = image.info().ranges.clone();
    assert!(
        declared.contains(&range(0x10_0000, 0x4_0000)),
        "{declared:?}"
    );
    let spans: Vec<_> = image.spans(range(0x12_f000, 0x1_2000)).collect();
    assert_eq!(spans.len(), 2, "{spans:?}");
    assert!(matches!(spans[1].kind, SpanKind::Lost(_)));
    assert_eq!(spans[1].range(), range(LEFT_OUT.start, 0x1_0000));
    let mut byte = [0xee];
    let fault = image
        .read(Gpa(LEFT_OUT.start), &mut byte)
        .expect_err("absent");
    assert_eq!(fault.addr, Gpa(LEFT_OUT.start));
    assert!(image.info().notes[0].contains("not in the file"));
}

#[test]
fn long_runs_of_plain_pages_are_lent() {
    let plain = Kdump {
        compression: Compression::Plain,
        share_zeros: false,
        ..Kdump::default()
    };
    let image = open(kdump(&RANGES, &plain)).expect("opens");
    let lent = image.borrow(range(0x1_0ffe, 4)).expect("in one piece");
    assert_eq!(lent, (0x1_0ffe..0x1_1002).map(byte_at).collect::<Vec<u8>>());
    let image = open(kdump(&RANGES, &Kdump::default())).expect("opens");
    assert_eq!(image.borrow(range(0x1_0ffe, 4)), None);
}

#[test]
fn what_cannot_be_read_is_named() {
    let split = Kdump {
        split: true,
        ..Kdump::default()
    };
    let error = open(kdump(&SMALL, &split)).expect_err("one part of several");
    assert!(
        matches!(error.kind, OpenErrorKind::Unsupported { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("--reassemble"), "{error}");

    let good = kdump(&SMALL, &Kdump::default());
    for (at, value, says) in [
        (8, 7, "version 1 to 6"),
        (428, 65536, "blocks of 4096 bytes"),
        (436, 4, "blocks of bitmaps"),
        (432, 0, "sub header"),
    ] {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
        let error = open(bytes).expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[cfg(not(feature = "zstd"))]
#[test]
fn zstandard_is_named_where_it_cannot_be_undone() {
    let packed = Kdump {
        compression: Compression::Zstd,
        ..Kdump::default()
    };
    let error = open(kdump(&SMALL, &packed)).expect_err("without the feature");
    assert!(error.to_string().contains("`zstd`"), "{error}");
}

/// Pages of which some byte is not the guest's; what cannot be read is none.
fn wrong_pages(image: &Image) -> BTreeSet<u64> {
    let mut wrong = BTreeSet::new();
    let mut page = [0; 4096];
    for region in image.regions(AddrRange::all()) {
        for gpa in (region.start.0..region.start.0 + region.len).step_by(4096) {
            if image.read(Gpa(gpa), &mut page).is_ok() {
                let fine = (gpa..).zip(&page).all(|(gpa, &byte)| byte == byte_at(gpa));
                if !fine {
                    wrong.insert(gpa);
                }
            }
        }
    }
    wrong
}

/// A file, and how many wrong pages a single flipped bit may make: in its structure, in a descriptor, in data.
struct Subject {
    name: String,
    bytes: Vec<u8>,
    compression: Compression,
    flattened: bool,
}

fn subjects() -> Vec<Subject> {
    let forms = COMPRESSIONS
        .iter()
        .copied()
        .flat_map(|one| [(one, false), (one, true)]);
    forms
        .map(|(compression, flattened)| {
            let options = Kdump {
                compression,
                flattened,
                share_zeros: false,
                excluded: vec![0x9000..0xa000],
                cpus: cpus(),
                ..Kdump::default()
            };
            Subject {
                name: format!("{compression:?} flattened: {flattened}"),
                bytes: kdump(&SMALL, &options),
                compression,
                flattened,
            }
        })
        .collect()
}

#[test]
fn a_flipped_bit_is_refused_or_spoils_one_page() {
    let (mut tried, mut refused) = (0, 0);
    for subject in subjects() {
        let len = subject.bytes.len();
        // Structure: every bit that says something, and some of the rest.
        let bits: Vec<usize> = (0..len * 8)
            .filter(|bit| {
                let byte = bit / 8;
                subject.bytes[byte] != 0 || bit % 37 == 0
            })
            .filter(|bit| bit / 8 < 0x6400 || bit % 11 == 0)
            .step_by(13)
            .collect();
        for bit in bits {
            let mut bytes = subject.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            tried += 1;
            let Ok(image) = open(bytes) else {
                refused += 1;
                continue;
            };
            if image.info().format == Format::Raw {
                // The magic number is gone, and with it what could be noticed.
                assert!(bit / 8 < 16, "{}: bit {bit}", subject.name);
                continue;
            }
            let wrong = wrong_pages(&image);
            assert!(
                wrong.len() <= 1,
                "{}: bit {bit:#x}: {wrong:x?}",
                subject.name
            );
        }
    }
    assert!(tried > 10_000 && refused > 500, "{tried} {refused}");
}

#[test]
fn zlib_notices_every_flipped_bit_of_its_pages() {
    let subject = subjects()
        .into_iter()
        .find(|one| one.compression == Compression::Zlib && !one.flattened);
    let subject = subject.expect("one");
    let plain = |gpa: u64| (gpa >> 12) % 3 == 1;
    for byte in 0x5200..subject.bytes.len() {
        let mut bytes = subject.bytes.clone();
        bytes[byte] ^= 0x10;
        // Random pages are stored as they are: there alone nobody notices.
        let image = open(bytes).expect("the structure is whole");
        let wrong = wrong_pages(&image);
        assert!(wrong.iter().all(|&gpa| plain(gpa)), "{byte:#x}: {wrong:x?}");
    }
}

#[test]
fn every_truncation_gives_only_genuine_bytes_and_says_so() {
    let mut tried = 0;
    for subject in subjects() {
        for cut in (0..subject.bytes.len()).step_by(13) {
            tried += 1;
            let Ok(image) = open(subject.bytes[..cut].to_vec()) else {
                continue;
            };
            let name = format!("{} cut at {cut:#x}", subject.name);
            assert!(wrong_pages(&image).is_empty(), "{name}");
            assert!(
                image
                    .info()
                    .notes
                    .iter()
                    .any(|note| note.contains("the file")),
                "{name}: {:?}",
                image.info().notes
            );
        }
    }
    assert!(tried > 5_000, "{tried}");
}
