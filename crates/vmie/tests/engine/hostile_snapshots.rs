//! Files of snapshots that were damaged in many ways: each is refused, or what is read of it is right.

use std::sync::Arc;

use crate::bodies::open_snapshot::open_snapshot;
use vmie::scan::Run;
use vmie::snapshot::{self, Compression, SaveOptions, Snapshot, TakeOptions};
use vmie::{AddressSpace, Gpa, Gva, Image, Memory, Mode, OpenOptions, Span, SpanKind};
use vmie_synth::guest::{Flags, Machine, Paging, Space};

/// A small xorshift generator: the same damage in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// A space of some pages, text and noise and zeros, and a file of it.
fn original(compression: Compression) -> (AddressSpace, Vec<u8>) {
    let mut machine = Machine::new(0..4 << 20);
    let space = Space::new(&mut machine, Paging::FourLevel);
    let mut noise = Noise(7);
    for (start, flags) in [
        (0x40_0000, Flags::CODE),
        (0x40_1800_0000, Flags::DATA),
        (0x7f00_0000_0000, Flags::DATA),
    ] {
        let gpas = space.map_new(&mut machine, start, 24, flags);
        for (page, gpa) in gpas.into_iter().enumerate() {
            match page % 3 {
                0 => machine.phys.write(gpa, &b"some text again ".repeat(256)),
                1 => {
                    let bytes: Vec<u8> = (0..4096).map(|_| noise.next() as u8).collect();
                    machine.phys.write(gpa, &bytes);
                }
                _ => {}
            }
        }
    }
    let raw = machine.phys.into_dense();
    let image = Image::from_bytes(raw, &OpenOptions::default()).expect("opens");
    let space = AddressSpace::new(Arc::new(image), Gpa(space.root()), Mode::FourLevel);
    let taken = snapshot::take(&space, &TakeOptions::default(), Run::new()).expect("fits");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("snapshot");
    let options = SaveOptions { compression };
    taken
        .save(&path, &options, Run::new().threads(1))
        .expect("saves");
    let bytes = std::fs::read(path).expect("reads");
    (space, bytes)
}

/// That nothing in a snapshot is other than in the memory it was taken of.
fn assert_right(space: &AddressSpace, spans: &[Span<Gva>], rest: &Snapshot<Gva>) {
    let (mut ours, mut theirs) = ([0; 4096], [0; 4096]);
    for span in spans {
        for at in (span.start.0..span.start.0 + span.len).step_by(4096) {
            if rest.read(Gva(at), &mut ours).is_ok() {
                space.read(Gva(at), &mut theirs).expect("it is there");
                assert!(ours == theirs, "wrong bytes at {at:#x}");
            }
        }
    }
}

#[test]
fn damaged_files_are_refused_or_right() {
    for compression in [Compression::None, Compression::Lz4] {
        let (space, bytes) = original(compression);
        let spans: Vec<Span<Gva>> = space
            .spans(vmie::AddrRange::all())
            .filter(|span| matches!(span.kind, SpanKind::Mapped(_)))
            .collect();
        let (whole, problems) = open_snapshot(&bytes).expect("it is whole");
        assert!(problems.is_empty() && whole.coverage().read > 40 * 4096);
        assert_right(&space, &spans, &whole);
        let mut noise = Noise(compression.name().len() as u64 + 1);
        let (mut refused, mut rescued) = (0, 0);
        for round in 0..20_000 {
            let mut damaged = bytes.clone();
            match round % 4 {
                0 => damaged.truncate(noise.below(bytes.len())),
                1 => {
                    for _ in 0..=noise.below(8) {
                        let at = noise.below(damaged.len());
                        damaged[at] ^= 1 << noise.below(8);
                    }
                }
                // A part of the file where another one should be.
                2 => {
                    let len = noise.below(bytes.len() / 4) + 1;
                    let (from, to) = (
                        noise.below(bytes.len() - len),
                        noise.below(bytes.len() - len),
                    );
                    damaged.copy_within(from..from + len, to);
                }
                // A part that was never written.
                _ => {
                    let len = noise.below(8192) + 1;
                    let at = noise.below(damaged.len());
                    let end = (at + len).min(damaged.len());
                    damaged[at..end].fill(0);
                }
            }
            if damaged == bytes {
                continue;
            }
            match open_snapshot(&damaged) {
                Err(_) => refused += 1,
                Ok((rest, problems)) => {
                    assert!(!problems.is_empty(), "round {round} was not noticed");
                    rescued += 1;
                    assert_right(&space, &spans, &rest);
                }
            }
        }
        assert!(refused > 0 && rescued > 1000, "{refused} {rescued}");
    }
}
