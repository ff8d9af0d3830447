//! A small guest whose memory is a function of the address, and images of it in every format.
#![allow(dead_code, unreachable_pub)] // each test file uses its part of this

use std::ops::Range;

use vmie::{AddrRange, Gpa, Image, Memory, OpenOptions};
use vmie_synth::write::{self, Avml, Cpu, Elf, ElfClass, Flavour, Kdump, Order};

/// RAM with a hole, a range that ends within a page, and memory above 4 GiB.
pub const RANGES: [Range<u64>; 3] = [
    0..0x9_fc00,
    0x10_0000..0x13_0000,
    0x1_0000_0000..0x1_0004_0000,
];

/// The byte at a physical address: pages of zeros, of random bytes and of repeating text in turn, so
/// that compressed frames of every kind arise.
pub fn byte_at(gpa: u64) -> u8 {
    match (gpa >> 12) % 3 {
        0 => 0,
        1 => {
            let word = (gpa >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let word = (word ^ (word >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((word ^ (word >> 32)) >> ((gpa & 7) * 8)) as u8
        }
        _ => b"guest memory "[(gpa % 13) as usize].wrapping_add((gpa >> 12) as u8),
    }
}

pub fn fill(gpa: u64, buf: &mut [u8]) {
    for (i, byte) in buf.iter_mut().enumerate() {
        *byte = byte_at(gpa + i as u64);
    }
}

fn source(gpa: u64, buf: &mut [u8]) -> std::io::Result<()> {
    fill(gpa, buf);
    Ok(())
}

pub fn cpus() -> Vec<Cpu> {
    let boot = Cpu {
        cr0: 0x8005_0033,
        cr3: 0x1000,
        cr4: 0x6f0,
        efer: 0xd01,
        rip: 0xffff_ffff_8100_0000,
        rsp: 0xffff_c900_0000_3f00,
        code64: true,
        ..Cpu::default()
    };
    let second = Cpu {
        cr3: 0x2801,
        cr4: 0x16f0,
        ..boot
    };
    let asleep = Cpu {
        cr0: 0x6000_0010,
        rip: 0xfff0,
        ..Cpu::default()
    };
    vec![boot, second, asleep]
}

pub fn lime(ranges: &[Range<u64>]) -> Vec<u8> {
    let mut image = Vec::new();
    write::lime(&mut image, ranges, &mut source).expect("writes");
    image
}

pub fn avml(ranges: &[Range<u64>], options: &Avml) -> Vec<u8> {
    let mut image = Vec::new();
    write::avml(&mut image, ranges, &mut source, options).expect("writes");
    image
}

pub fn elf(ranges: &[Range<u64>], options: &Elf) -> Vec<u8> {
    let mut image = Vec::new();
    write::elf(&mut image, ranges, &mut source, options).expect("writes");
    image
}

pub fn kdump(ranges: &[Range<u64>], options: &Kdump) -> Vec<u8> {
    let mut image = Vec::new();
    write::kdump(&mut image, ranges, &mut source, options).expect("writes");
    image
}

pub fn raw(ranges: &[Range<u64>]) -> Vec<u8> {
    let mut image = Vec::new();
    write::raw(&mut image, ranges, &mut source).expect("writes");
    image
}

/// One image of [`RANGES`] in each format, with what it takes to open it.
pub struct Sample {
    pub name: &'static str,
    pub format: &'static str,
    pub bytes: Vec<u8>,
    pub options: OpenOptions,
}

pub fn samples() -> Vec<Sample> {
    let sample = |name, format, bytes| Sample {
        name,
        format,
        bytes,
        options: OpenOptions::default(),
    };
    let elf_like = |options: Elf| {
        elf(
            &RANGES,
            &Elf {
                cpus: cpus(),
                ..options
            },
        )
    };
    let mut parts = Vec::new();
    let mut offset = 0;
    for range in &RANGES {
        let len = range.end - range.start;
        parts.push(format!("{:#x}+{len:#x}@{offset:#x}", range.start));
        offset += len;
    }
    vec![
        Sample {
            options: OpenOptions {
                layout: Some(parts.join(",").parse().expect("valid layout")),
                ..OpenOptions::default()
            },
            ..sample("raw", "raw", raw(&RANGES))
        },
        sample("lime", "lime", lime(&RANGES)),
        sample("avml", "avml", avml(&RANGES, &Avml::default())),
        sample(
            "avml of small blocks",
            "avml",
            avml(
                &RANGES,
                &Avml {
                    block: 0x1_1000,
                    ..Avml::default()
                },
            ),
        ),
        sample(
            "avml uncompressed",
            "lime",
            avml(
                &RANGES,
                &Avml {
                    compress: false,
                    ..Avml::default()
                },
            ),
        ),
        sample("elf", "elf", elf_like(Elf::default())),
        sample(
            "elf reversed",
            "elf",
            elf_like(Elf {
                order: Order::Reversed,
                ..Elf::default()
            }),
        ),
        sample(
            "elf of a 32-bit guest with memory above 4 GiB",
            "elf",
            elf_like(Elf {
                x86_64: false,
                ..Elf::default()
            }),
        ),
        sample(
            "elf of virtualbox",
            "elf",
            elf_like(Elf {
                flavour: Flavour::VirtualBox,
                without_bytes: vec![0xe000_0000..0xf000_0000],
                ..Elf::default()
            }),
        ),
    ]
}

/// The same guest without its memory above 4 GiB, in 32-bit ELF.
pub fn elf32() -> Vec<u8> {
    elf(
        &RANGES[..2],
        &Elf {
            class: ElfClass::Elf32,
            x86_64: false,
            cpus: cpus(),
            ..Elf::default()
        },
    )
}

pub fn open(bytes: Vec<u8>) -> Result<Image, vmie::OpenError> {
    Image::from_bytes(bytes, &OpenOptions::default())
}

pub fn range(start: u64, len: u64) -> AddrRange<Gpa> {
    AddrRange::new(Gpa(start), len).expect("valid range")
}

/// Asserts that an image holds exactly these ranges of the guest.
pub fn assert_holds(name: &str, image: &Image, ranges: &[Range<u64>]) {
    let want: Vec<_> = ranges
        .iter()
        .map(|r| range(r.start, r.end - r.start))
        .collect();
    let spans: Vec<_> = image.spans(AddrRange::all()).collect();
    let got: Vec<_> = spans
        .iter()
        .filter_map(|s| s.region())
        .map(vmie::Region::range)
        .collect();
    assert_eq!(got, want, "{name}");

    for r in ranges {
        // The whole range at once, then odd pieces of it.
        let mut want = vec![0; (r.end - r.start) as usize];
        fill(r.start, &mut want);
        let mut got = vec![0xee; want.len()];
        image.read(Gpa(r.start), &mut got).expect(name);
        assert!(got == want, "{name}: wrong bytes in {r:x?}");
        for (at, len) in [
            (0, 1),
            (0xffd, 7),
            (0xfffc, 8),
            (0x1_0fff, 3),
            (0x8003, 0x1_2345),
        ] {
            if at + len > want.len() {
                continue;
            }
            let mut piece = vec![0xee; len];
            image
                .read(Gpa(r.start + at as u64), &mut piece)
                .expect(name);
            assert_eq!(piece, want[at..at + len], "{name}: {len} bytes at {at:#x}");
        }
        // Just before and just behind.
        let mut two = [0xee; 2];
        let fault = image.read(Gpa(r.end - 1), &mut two).expect_err(name);
        assert_eq!(fault.addr, Gpa(r.end), "{name}");
        assert_eq!(
            two[0],
            byte_at(r.end - 1),
            "{name}: the byte before the fault"
        );
        if let Some(before) = r.start.checked_sub(1) {
            assert_eq!(
                image.read(Gpa(before), &mut two).expect_err(name).addr,
                Gpa(before),
                "{name}"
            );
        }
    }
}
