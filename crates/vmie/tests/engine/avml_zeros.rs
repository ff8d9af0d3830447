//! Blocks of zeros that AVML up to 0.17.0 wrote as their header alone, wherever they stand.

use std::ops::Range;

use crate::common::open;
use proptest::prelude::*;
use vmie::{AddrRange, Cause, Gpa, Image, Memory, OpenErrorKind};
use vmie_synth::write::{self, Avml, Zeros};

const BLOCK: u64 = 0x2000;

/// A guest of blocks, some of which hold only zeros.
struct Blocks<'a> {
    ranges: &'a [Range<u64>],
    zero: &'a [bool],
    /// What every block that is no zeros begins with.
    head: &'a [u8],
}

impl Blocks<'_> {
    fn byte(&self, gpa: u64) -> u8 {
        if self.zero[(gpa / BLOCK) as usize % self.zero.len()] {
            return 0;
        }
        let at = (gpa % BLOCK) as usize;
        match self.head.get(at) {
            Some(&byte) => byte,
            None => (gpa >> 4) as u8 | 1,
        }
    }

    fn image(&self, compress: bool) -> Vec<u8> {
        let mut image = Vec::new();
        let mut source = |gpa: u64, buf: &mut [u8]| {
            for (i, byte) in buf.iter_mut().enumerate() {
                *byte = self.byte(gpa + i as u64);
            }
            Ok(())
        };
        let options = Avml {
            compress,
            block: BLOCK,
            zeros: Zeros::HeaderOnly,
        };
        write::avml(&mut image, self.ranges, &mut source, &options).expect("writes");
        image
    }

    fn assert_read(&self, name: &str, image: &Image) {
        let ranges: Vec<_> = self
            .ranges
            .iter()
            .map(|r| crate::common::range(r.start, r.end - r.start))
            .collect();
        assert_eq!(image.info().ranges, ranges, "{name}");
        for r in self.ranges {
            let mut got = vec![0xee; (r.end - r.start) as usize];
            image.read(Gpa(r.start), &mut got).expect(name);
            assert!(
                (r.start..r.end).map(|gpa| self.byte(gpa)).eq(got),
                "{name}: {r:x?}"
            );
        }
        assert!(
            image
                .spans(AddrRange::all())
                .all(|span| span.region().is_some()),
            "{name}"
        );
    }
}

#[test]
fn such_blocks_are_zeros_first_in_the_middle_last_and_in_a_row() {
    let whole = [0..8 * BLOCK, 0x10_0000..0x10_0000 + 8 * BLOCK];
    for compress in [true, false] {
        for (zero, ends_in_zeros) in [
            (
                [true, false, false, false, false, false, false, false],
                false,
            ),
            ([false, true, false, true, true, true, false, false], false),
            ([false, true, false, false, false, false, false, true], true),
            ([true, true, true, true, true, true, false, true], true),
            ([true, true, true, true, true, true, true, true], true),
        ] {
            let blocks = Blocks {
                ranges: &whole,
                zero: &zero,
                head: b"",
            };
            let name = format!("{compress} {zero:?}");
            let image = open(blocks.image(compress)).expect(&name);
            blocks.assert_read(&name, &image);
            // Nothing but what can be doubted is told.
            let notes = &image.info().notes;
            let told = usize::from(ends_in_zeros) + usize::from(!compress);
            assert_eq!(notes.len(), told, "{name}: {notes:?}");
        }
    }
}

proptest! {
    /// With memory that looks like a header where blocks begin.
    #[test]
    fn whatever_guests_hold_comes_back(
        zero in prop::collection::vec(any::<bool>(), 1..9),
        kind in 0..4u8,
        last in any::<u32>(),
        compress: bool,
    ) {
        let mut head = Vec::new();
        match kind {
            0 => {}
            1 => head.extend(b"AVML\x02\0\0\0"),
            2 => head.extend(b"EMiL\x01\0\0\0"),
            _ => head.extend(b"\xff\x06\0\0sNaPpY"),
        }
        if kind == 1 || kind == 2 {
            head.extend(0x20_0000u64.to_le_bytes());
            head.extend((0x20_0000 + u64::from(last) % 0x10_0000).to_le_bytes());
            head.extend([0; 8]);
        }
        let ranges = [0..5 * BLOCK, 0x10_0000..0x10_0000 + 4 * BLOCK];
        let blocks = Blocks { ranges: &ranges, zero: &zero, head: &head };
        let bytes = blocks.image(compress);
        // What ends in a header and has no other like it, LiME may have written.
        let bare = (0..9).filter(|i| blocks.byte(if *i < 5 { i * BLOCK } else { 0x10_0000 + (i - 5) * BLOCK } + BLOCK - 1) == 0).count();
        prop_assume!(compress || bare != 1 || blocks.byte(0x10_0000 + 4 * BLOCK - 1) != 0);
        let image = open(bytes).expect("opens");
        blocks.assert_read("guest", &image);
    }
}

#[test]
fn a_header_at_the_end_of_a_lime_file_is_a_cut() {
    let mut bytes = crate::common::lime(&[0x1000..0x2000, 0x8000..0x9000]);
    bytes.truncate(bytes.len() - 0x1000);
    let image = open(bytes).expect("opens");
    let fault = image.read(Gpa(0x8000), &mut [0]).expect_err("cut");
    assert!(matches!(fault.cause, Cause::Truncated { .. }), "{fault}");
}

/// Zeros cost nothing to declare, so headers may not declare more of them than AVML does.
#[test]
fn a_header_alone_is_at_most_16_mib() {
    for (len, opens) in [(16 << 20, true), ((16 << 20) + 1, false)] {
        let mut bytes = crate::common::avml(&[0..0x1000], &Avml::default());
        let at = bytes.len() as u64;
        let header = |first: u64, len: u64| {
            let mut header = b"AVML\x02\0\0\0".to_vec();
            header.extend(first.to_le_bytes());
            header.extend((first + len - 1).to_le_bytes());
            header.extend([0; 8]);
            header
        };
        bytes.extend(header(1 << 30, len));
        bytes.extend(crate::common::avml(
            &[0x1_0000_0000..0x1_0000_1000],
            &Avml::default(),
        ));
        match (open(bytes), opens) {
            (Ok(image), true) => assert_eq!(image.read_u64(Gpa((1 << 30) + len - 8)), Ok(0)),
            (Err(error), false) => {
                let OpenErrorKind::Damaged { offset, .. } = error.kind else {
                    panic!("{error}");
                };
                assert_eq!(offset, at + 32);
            }
            (other, _) => panic!("{len:#x}: {other:?}"),
        }
    }
}

#[test]
fn one_header_is_no_memory() {
    for compress in [true, false] {
        let blocks = Blocks {
            ranges: &[0..BLOCK],
            zero: &[true],
            head: b"",
        };
        let error = open(blocks.image(compress)).expect_err("only a header");
        assert!(
            matches!(error.kind, OpenErrorKind::NoMemory { .. }),
            "{error}"
        );
    }
}
