//! Firecracker's snapshots: memory file and state file, full and in layers.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::bodies::open_microvm::with_checksum;
use crate::common::{assert_holds, cpus, fill};
use tempfile::TempDir;
use vmie::{
    AddrRange, Advice, Cause, Format, Gpa, Image, Memory, OpenError, OpenErrorKind, OpenOptions,
};
use vmie_synth::write::{self, Cpu, Firecracker, FirecrackerForm, Hotplug};

/// One MiB, around the hole for devices.
const RANGES: [Range<u64>; 2] = [0..0xc_0000, 0x1_0000_0000..0x1_0004_0000];

const PAGE: u64 = 4096;
const PAGES: u64 = 256;

struct Dir(TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).expect("writes");
        self.path(name)
    }

    fn state(&self, options: &Firecracker) -> PathBuf {
        self.write("vm.state", &write::firecracker(&RANGES, options))
    }

    /// All of memory.
    fn full(&self) -> PathBuf {
        self.write("vm.mem", &crate::common::raw(&RANGES))
    }

    /// A file with these pages only, each filled with a byte.
    fn sparse(&self, name: &str, pages: impl IntoIterator<Item = (u64, u8)>) -> PathBuf {
        let mut file = File::create(self.path(name)).expect("creates");
        file.set_len(PAGES * PAGE).expect("grows");
        for (page, byte) in pages {
            file.seek(SeekFrom::Start(page * PAGE)).expect("seeks");
            file.write_all(&[byte; PAGE as usize]).expect("writes");
        }
        self.path(name)
    }
}

fn with_state(state: PathBuf) -> OpenOptions {
    OpenOptions {
        state: Some(state),
        ..OpenOptions::default()
    }
}

fn registers(cpus: &[Cpu]) -> Vec<(u64, u64, u64, u64, u64, u64)> {
    cpus.iter()
        .map(|cpu| (cpu.cr0, cpu.cr3, cpu.cr4, cpu.efer, cpu.rip, cpu.rsp))
        .collect()
}

fn seen(image: &Image) -> Vec<(u64, u64, u64, u64, u64, u64)> {
    let cpus = image.info().hints.cpus.iter().enumerate();
    cpus.map(|(index, cpu)| {
        assert_eq!(cpu.index, index as u32);
        let efer = cpu.efer.expect("known");
        (cpu.cr0, cpu.cr3, cpu.cr4, efer, cpu.rip, cpu.rsp)
    })
    .collect()
}

fn notes(image: &Image) -> String {
    image.info().notes.join("\n")
}

#[test]
fn every_form_of_the_state_and_any_number_of_cpus() {
    let dir = Dir::new();
    let memory = dir.full();
    for form in FirecrackerForm::ALL {
        for count in [1, 2, 3, 5, 6, 9, 32] {
            let name = format!("{form:?} with {count} CPUs");
            let cpus: Vec<Cpu> = cpus().into_iter().cycle().take(count).collect();
            let state = dir.state(&Firecracker {
                form,
                cpus: cpus.clone(),
                ..Firecracker::default()
            });
            let image = Image::open_with(&memory, &with_state(state)).expect(&name);
            assert_eq!(image.info().format, Format::Firecracker, "{name}");
            assert_eq!(image.info().notes, [""; 0], "{name}");
            assert_holds(&name, &image, &RANGES);
            assert_eq!(seen(&image), registers(&cpus), "{name}");
        }
    }
}

/// States that the bitcode and kvm-bindings crates have written, of structures as Firecracker has them.
#[test]
fn states_of_the_original_encoder() {
    let dir = Dir::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine/firecracker");
    let gib = |n: u64| n << 30;
    type Expected = (&'static str, u64, &'static [(u64, u64)], usize);
    let expected: [Expected; 3] = [
        ("one", 128 << 20, &[(0, 128 << 20)], 1),
        (
            "four",
            gib(4) + (512 << 20),
            &[
                (0, 3 << 30),
                (1 << 32, 1 << 30),
                (1 << 38, 128 << 20),
                ((1 << 38) + (384 << 20), 128 << 20),
            ],
            4,
        ),
        ("nine", 512 << 20, &[(0, 512 << 20)], 9),
    ];
    for (name, size, ranges, count) in expected {
        let memory = dir.path(name);
        File::create(&memory)
            .and_then(|file| file.set_len(size))
            .expect("grows");
        let options = OpenOptions {
            holes_are_zeros: true,
            ..with_state(from.join(format!("{name}.state")))
        };
        let image = Image::open_with(&memory, &options).expect(name);
        let got: Vec<_> = image
            .info()
            .ranges
            .iter()
            .map(|r| (r.start().0, r.len()))
            .collect();
        assert_eq!(got, ranges, "{name}");
        let expected: Vec<_> = (0..count as u64)
            .map(|n| {
                let rip = 0xffff_ffff_8100_0000 + n;
                (
                    0x8005_0033,
                    0x1000 * (n + 1),
                    0x6f0,
                    0xd01,
                    rip,
                    0xffff_c900_0000_3f00,
                )
            })
            .collect();
        assert_eq!(seen(&image), expected, "{name}");
        // All of it is zeros, which page tables are not.
        assert!(
            notes(&image).contains("begin with a page of zeros"),
            "{name}"
        );
    }
}

#[test]
fn slots_that_are_not_plugged_are_no_memory() {
    let dir = Dir::new();
    let hotplug = Hotplug {
        range: 0x10_0000_0000..0x10_0010_0000,
        plugged: vec![true, false, false, true],
    };
    let ranges = [
        RANGES[0].clone(),
        RANGES[1].clone(),
        0x10_0000_0000..0x10_0004_0000,
        0x10_000c_0000..0x10_0010_0000,
    ];
    let mut memory = crate::common::raw(&ranges[..3]);
    memory.resize(memory.len() + 0x8_0000, 0);
    memory.extend(crate::common::raw(&ranges[3..]));
    let memory = dir.write("vm.mem", &memory);
    for form in [FirecrackerForm::V1_14, FirecrackerForm::V1_15] {
        let state = dir.state(&Firecracker {
            form,
            cpus: cpus(),
            hotplug: Some(hotplug.clone()),
            ..Firecracker::default()
        });
        let image = Image::open_with(&memory, &with_state(state)).expect("opens");
        assert_holds("hot-plugged", &image, &ranges);
        assert_eq!(seen(&image), registers(&cpus()), "{form:?}");
    }
}

#[test]
fn a_guest_cannot_plant_a_cpu() {
    let dir = Dir::new();
    let memory = dir.full();
    // What a state holds about a CPU, with another root, put where vector registers are.
    let planted = Cpu {
        cr3: 0x3000,
        ..cpus()[0]
    };
    for form in FirecrackerForm::ALL {
        let donor = write::firecracker(
            &RANGES,
            &Firecracker {
                form: FirecrackerForm::V1_7,
                cpus: vec![planted],
                ..Firecracker::default()
            },
        );
        // The two structures stand right behind the 1024 bytes of an APIC and 4 of the CPU's state.
        let rip = planted.rip.to_le_bytes();
        let at = donor
            .windows(8)
            .position(|bytes| bytes == rip)
            .expect("there")
            - 128;
        let bare = &donor[at..at + 144 + 312];
        let prefixed = [
            &144_u64.to_le_bytes(),
            &bare[..144],
            &312_u64.to_le_bytes(),
            &bare[144..],
        ]
        .concat();
        for vectors in [bare.to_vec(), prefixed] {
            let state = dir.state(&Firecracker {
                form,
                cpus: cpus(),
                vectors,
                ..Firecracker::default()
            });
            let image = Image::open_with(&memory, &with_state(state)).expect("opens");
            assert_eq!(seen(&image), registers(&cpus()), "{form:?}");
        }
    }
}

/// The byte of each page in a file, or none.
type Layer = Vec<Option<u8>>;

fn layer(step: u64, byte: u8) -> Layer {
    // Single pages, runs, and runs that others cover in part.
    (0..PAGES)
        .map(|page| ((page / 3) % step == 0 || page % 17 == step).then_some(byte))
        .collect()
}

fn pages(layer: &Layer) -> impl Iterator<Item = (u64, u8)> + '_ {
    (0..)
        .zip(layer)
        .filter_map(|(page, byte)| byte.map(|byte| (page, byte)))
}

fn gpa_of(page: u64) -> u64 {
    let below = (RANGES[0].end - RANGES[0].start) / PAGE;
    match page.checked_sub(below) {
        None => page * PAGE,
        Some(above) => RANGES[1].start + above * PAGE,
    }
}

/// Compares an image with the first layer that has each page.
fn assert_layers(name: &str, image: &Image, layers: &[&Layer]) {
    for page in 0..PAGES {
        let want = layers.iter().find_map(|layer| layer[page as usize]);
        let mut buf = [0xee; PAGE as usize];
        let got = image.read(Gpa(gpa_of(page)), &mut buf);
        match want {
            Some(byte) => {
                got.unwrap_or_else(|fault| panic!("{name}, page {page}: {fault}"));
                assert_eq!(buf, [byte; PAGE as usize], "{name}, page {page}");
            }
            None => {
                let fault = got.expect_err("nobody has it");
                assert!(
                    matches!(fault.cause, Cause::Absent { .. }),
                    "{name}: {fault}"
                );
            }
        }
        let range = AddrRange::new(Gpa(gpa_of(page)), PAGE).expect("not empty");
        if let Some(lent) = image.borrow(range) {
            assert_eq!(Some(lent[7]), want, "{name}, page {page}");
        }
        let mapped = image.spans(range).all(|span| span.region().is_some());
        assert_eq!(mapped, want.is_some(), "{name}, page {page}");
    }
}

#[test]
fn diffs_over_diffs_over_a_full_snapshot() {
    let dir = Dir::new();
    let (newest, older, full) = (layer(7, 3), layer(4, 2), layer(1, 1));
    let source = dir.sparse("newest", pages(&newest));
    let middle = dir.sparse("older", pages(&older));
    let oldest = dir.sparse("full", pages(&full));
    let state = dir.state(&Firecracker {
        cpus: vec![cpus()[2]],
        ..Firecracker::default()
    });
    let open = |bases: &[&PathBuf], holes_are_zeros| {
        let options = OpenOptions {
            bases: bases.iter().map(|path| (*path).clone()).collect(),
            holes_are_zeros,
            ..with_state(state.clone())
        };
        Image::open_with(&source, &options).expect("opens")
    };
    let all = open(&[&middle, &oldest], false);
    assert_layers("all", &all, &[&newest, &older, &full]);
    assert_eq!(all.info().notes, [""; 0]);
    assert!(!all.info().ranges.is_empty());

    let part = open(&[&middle], false);
    assert_layers("without the full one", &part, &[&newest, &older]);
    assert!(
        notes(&part).contains("give the file under it"),
        "{}",
        notes(&part)
    );
    assert!(notes(&part).contains("not in the file"), "{}", notes(&part));

    let alone = open(&[], false);
    assert_layers("alone", &alone, &[&newest]);

    let zeros: Layer = vec![Some(0); PAGES as usize];
    let zero = open(&[&middle], true);
    assert_layers("over zeros", &zero, &[&newest, &older, &zeros]);
    assert_eq!(zero.info().notes, [""; 0]);

    // The wrong way round nothing of the diffs is seen, which is said.
    let options = OpenOptions {
        bases: vec![source.clone()],
        ..with_state(state.clone())
    };
    let wrong = Image::open_with(&oldest, &options).expect("opens");
    assert_layers("the wrong way round", &wrong, &[&full]);
    assert!(notes(&wrong).contains("has no holes"), "{}", notes(&wrong));

    // Without a state, as raw memory.
    let options = OpenOptions {
        bases: vec![middle.clone(), oldest.clone()],
        layout: Some("0+768KiB@0,4GiB+256KiB@768KiB".parse().expect("valid")),
        ..OpenOptions::default()
    };
    let raw = Image::open_with(&source, &options).expect("opens");
    assert_eq!(raw.info().format, Format::Raw);
    assert_layers("raw", &raw, &[&newest, &older, &full]);
}

#[test]
fn what_the_holes_of_one_file_mean_is_said() {
    let dir = Dir::new();
    let one = |cpu: Cpu| {
        dir.state(&Firecracker {
            cpus: vec![cpu],
            ..Firecracker::default()
        })
    };
    // The root is at page 1.
    let boot = cpus()[0];
    let diff = dir.sparse("diff", [(0, 1), (9, 1)]);
    let image = Image::open_with(&diff, &with_state(one(boot))).expect("opens");
    assert!(
        notes(&image).contains("page tables of CPU 0 are in one of them"),
        "{}",
        notes(&image)
    );
    assert!(image.read(Gpa(0x1000), &mut [0]).is_err());

    let undecided = dir.sparse("undecided", [(0, 1), (1, 1)]);
    let image = Image::open_with(&undecided, &with_state(one(boot))).expect("opens");
    let says = "say that there are zeros under it";
    assert!(notes(&image).contains(says), "{}", notes(&image));
    assert_eq!(image.info().advice, [Advice::GiveBase, Advice::ZerosBelow]);

    // Copied without holes: a note where it shows.
    let filled = dir.write("filled", &fs::read(&diff).expect("reads"));
    let image = Image::open_with(&filled, &with_state(one(boot))).expect("opens");
    assert!(
        notes(&image).contains("holes were filled"),
        "{}",
        notes(&image)
    );
}

fn refused(source: &Path, options: &OpenOptions) -> OpenError {
    Image::open_with(source, options).expect_err("refused")
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let dir = Dir::new();
    let memory = dir.full();
    let state = dir.state(&Firecracker {
        cpus: cpus(),
        ..Firecracker::default()
    });
    let bytes = fs::read(&state).expect("reads");

    // The state file as the source, alone or the two the wrong way round.
    for options in [OpenOptions::default(), with_state(memory.clone())] {
        let error = refused(&state, &options);
        let text = error.to_string();
        assert!(text.contains("this file as its state"), "{text}");
        assert_eq!(error.kind.advice(), Some(Advice::AsState));
    }
    let text = dir.write("text", b"not a state at all");
    let error = refused(&memory, &with_state(text));
    assert!(error.to_string().contains("magic number"), "{error}");
    assert!(matches!(error.kind, OpenErrorKind::Companion { .. }));

    let error = refused(&memory, &with_state(dir.path("nowhere"))).to_string();
    assert!(error.contains("nowhere"), "{error}");

    let mut spoilt = bytes.clone();
    spoilt[40] ^= 1;
    let error = refused(&memory, &with_state(dir.write("spoilt", &spoilt))).to_string();
    assert!(error.contains("checksum"), "{error}");

    // An aarch64 guest's, in both encodings.
    for form in [FirecrackerForm::V1_7, FirecrackerForm::V1_15] {
        let options = Firecracker {
            form,
            ..Firecracker::default()
        };
        let mut bytes = write::firecracker(&RANGES, &options);
        let at = if form == FirecrackerForm::V1_7 { 2 } else { 3 };
        bytes[at..at + 2].copy_from_slice(&[0xaa, 0xaa]);
        let path = dir.write("arm", &with_checksum(&bytes));
        let error = refused(&memory, &with_state(path)).to_string();
        assert!(error.contains("aarch64"), "{error}");
    }

    let options = OpenOptions {
        layout: Some("pc".parse().expect("valid")),
        ..with_state(state.clone())
    };
    let error = refused(&memory, &options);
    assert!(
        matches!(error.kind, OpenErrorKind::StateAndLayout { .. }),
        "{error}"
    );

    let elf = dir.write("elf", &crate::common::lime(&RANGES));
    let error = refused(&elf, &with_state(state.clone()));
    assert!(
        matches!(error.kind, OpenErrorKind::NotLayered { .. }),
        "{error}"
    );

    let short = dir.write("short", &crate::common::raw(&RANGES[..1]));
    let options = OpenOptions {
        bases: vec![short.clone()],
        ..with_state(state.clone())
    };
    let error = refused(&memory, &options).to_string();
    assert!(error.contains("as many as the source has"), "{error}");

    // A memory file that was cut opens, without what is missing.
    let image = Image::open_with(&short, &with_state(state)).expect("opens");
    assert_holds("cut", &image, &RANGES[..1]);
    assert!(
        notes(&image).contains("not in the file"),
        "{}",
        notes(&image)
    );
    let mut byte = [0];
    fill(0x5000, &mut byte);
    assert_eq!(
        image.borrow(AddrRange::new(Gpa(0x5000), 1).expect("one")),
        Some(&byte[..])
    );
}
