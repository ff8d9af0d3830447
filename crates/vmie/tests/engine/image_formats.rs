//! Images of every format, written by the independent writers, read back.

use crate::common::{
    RANGES, assert_holds, avml, byte_at, cpus, elf, elf32, lime, open, range, samples,
};
use vmie::{Cause, CpuState, Fault, Format, Gpa, Hints, Image, Memory, OpenErrorKind, SpanKind};
use vmie_synth::write::{self, Avml, Elf, ElfClass, Flavour};

/// Every format, one table: the same ranges, the same bytes.
#[test]
fn every_format_gives_the_same_memory() {
    for sample in samples() {
        let name = sample.name;
        let size = sample.bytes.len() as u64;
        let image = Image::from_bytes(sample.bytes, &sample.options).expect(name);
        let info = image.info();
        assert_eq!(info.format.to_string(), sample.format, "{name}");
        assert_eq!(info.size, size, "{name}");
        assert!(info.notes.is_empty(), "{name}: {:?}", info.notes);
        assert!(!info.live, "{name}");
        let ranges: Vec<_> = RANGES
            .iter()
            .map(|r| range(r.start, r.end - r.start))
            .collect();
        assert_eq!(info.ranges, ranges, "{name}");
        assert_holds(name, &image, &RANGES);
    }
    let image = open(elf32()).expect("elf32");
    assert_eq!(image.info().format, Format::Elf);
    assert_holds("elf32", &image, &RANGES[..2]);
}

#[test]
fn bytes_are_lent_only_where_they_stand_in_the_file() {
    for sample in samples() {
        let name = sample.name;
        let image = Image::from_bytes(sample.bytes, &sample.options).expect(name);
        let lent = image.borrow(range(0x1_0ffe, 4));
        if sample.format == "avml" {
            assert_eq!(lent, None, "{name}");
        } else {
            let want: Vec<u8> = (0x1_0ffe..0x1_1002).map(byte_at).collect();
            assert_eq!(lent, Some(&want[..]), "{name}");
            assert_eq!(
                image.borrow(range(0x9_fbff, 2)),
                None,
                "{name}: into a hole"
            );
            assert_eq!(image.borrow(range(0xa_0000, 1)), None, "{name}: in a hole");
        }
    }
}

#[test]
fn adjacent_ranges_read_through_and_enumerate_as_one() {
    let pieces = [0x1000..0x3000, 0x3000..0x3800, 0x3800..0x9000];
    for (name, bytes) in [
        ("lime", lime(&pieces)),
        ("avml", avml(&pieces, &Avml::default())),
        ("elf", elf(&pieces, &Elf::default())),
    ] {
        let image = open(bytes).expect(name);
        let mut all = vec![0; 0x8000];
        image.read(Gpa(0x1000), &mut all).expect(name);
        assert!((0x1000..0x9000).map(byte_at).eq(all), "{name}");
        assert_eq!(image.info().ranges, [range(0x1000, 0x8000)], "{name}");
        let inner: Vec<_> = image.spans(range(0x2000, 0x2000)).collect();
        assert_eq!(inner.len(), 1, "{name}");
        assert_eq!(
            (inner[0].start, inner[0].len),
            (Gpa(0x2000), 0x2000),
            "{name}"
        );
    }
}

#[test]
fn cpus_come_from_the_notes() {
    let want = |efer: Option<u64>, long_mode: [Option<bool>; 3]| -> Vec<CpuState> {
        cpus()
            .iter()
            .zip(long_mode)
            .enumerate()
            .map(|(i, (cpu, long_mode))| CpuState {
                index: i as u32,
                cr0: cpu.cr0,
                cr3: cpu.cr3,
                cr4: cpu.cr4,
                efer: efer.map(|_| cpu.efer),
                long_mode,
                rip: cpu.rip,
                rsp: cpu.rsp,
                ..CpuState::default()
            })
            .collect()
    };
    let dump = |options: Elf| {
        let image = elf(
            &RANGES,
            &Elf {
                cpus: cpus(),
                ..options
            },
        );
        let cpus = open(image).expect("opens").info().hints.cpus.clone();
        // What says how addresses are translated; the other registers have tests of their own.
        let only = |cpu: CpuState| {
            assert!(cpu.general.is_some() && cpu.segments.is_some() && cpu.cr2.is_some());
            CpuState {
                cr2: None,
                general: None,
                segments: None,
                kernel_gs_base: None,
                ..cpu
            }
        };
        cpus.into_iter().map(only).collect::<Vec<_>>()
    };
    let qemu = dump(Elf::default());
    assert_eq!(qemu, want(None, [Some(true), Some(true), Some(false)]));
    assert_eq!(qemu[1].is_long_mode(), Some(true));
    assert!(qemu[1].la57() && !qemu[0].la57());

    let legacy = dump(Elf {
        x86_64: false,
        ..Elf::default()
    });
    assert_eq!(legacy, want(None, [Some(false); 3]));

    let vbox = dump(Elf {
        flavour: Flavour::VirtualBox,
        ..Elf::default()
    });
    assert_eq!(vbox, want(Some(0), [None; 3]));
    assert_eq!(vbox[0].is_long_mode(), Some(true));
    assert_eq!(vbox[2].is_long_mode(), Some(false));
}

#[test]
fn an_elf_core_may_hold_what_its_kernel_notes_of_itself() {
    let long = format!("OSRELEASE=6.1.0\n{}", "X=1\n".repeat(10_000));
    for class in [ElfClass::Elf32, ElfClass::Elf64] {
        for text in ["", "OSRELEASE=6.1.0\nPAGESIZE=4096\n", &long] {
            let options = Elf {
                class,
                cpus: cpus(),
                vmcoreinfo: text.into(),
                ..Elf::default()
            };
            let ranges = [0x1000..0x3000];
            let image = open(elf(&ranges, &options)).expect("opens");
            let hints = &image.info().hints;
            let kept = &text.as_bytes()[..text.len().min(Hints::MAX_VMCOREINFO)];
            let expected = (!text.is_empty()).then_some(kept);
            assert_eq!(hints.vmcoreinfo.as_deref(), expected);
            assert_eq!(hints.cpus.len(), 3);
            assert_holds("elf", &image, &ranges);
        }
    }
}

#[test]
fn an_elf_core_may_have_more_than_65535_segments() {
    // Every second page of 280 MiB would be too slow to compare byte by byte; 16 bytes of each do.
    for count in [0xfffd, 0xfffe, 0xffff, 70_000u64] {
        let ranges: Vec<_> = (0..count).map(|i| i * 0x2000..i * 0x2000 + 16).collect();
        let image = open(elf(&ranges, &Elf::default())).expect("opens");
        assert_eq!(image.info().ranges.len() as u64, count);
        for i in [0, 1, 2, 0x8000, count - 2, count - 1] {
            let mut bytes = [0; 16];
            image.read(Gpa(i * 0x2000), &mut bytes).expect("there");
            assert!((i * 0x2000..i * 0x2000 + 16).map(byte_at).eq(bytes));
            assert!(image.read_u64(Gpa(i * 0x2000 + 16)).is_err());
        }
        let from = (count - 3) * 0x2000 + 16;
        assert_eq!(image.spans(vmie::AddrRange::from(Gpa(from))).count(), 2);
    }
}

#[test]
fn memory_that_qemu_left_out_is_declared_and_absent() {
    let options = Elf {
        without_bytes: vec![0x30_0000..0x40_0000],
        ..Elf::default()
    };
    let image = open(elf(&[0..0x1000], &options)).expect("opens");
    assert_eq!(
        image.info().ranges,
        [range(0, 0x1000), range(0x30_0000, 0x10_0000)]
    );
    let spans: Vec<_> = image.spans(range(0x38_0000, 0x100_0000)).collect();
    let gpa = Gpa(0x38_0000);
    assert_eq!(spans.len(), 1);
    assert_eq!((spans[0].start, spans[0].len), (gpa, 0x8_0000));
    assert_eq!(spans[0].kind, SpanKind::Lost(Cause::Absent { gpa }));
    let fault = image.read_u64(gpa).expect_err("absent");
    assert_eq!(fault.cause, Cause::Absent { gpa });
    assert_eq!(image.info().notes.len(), 1, "{:?}", image.info().notes);

    // VirtualBox's are device registers, not memory.
    let options = Elf {
        flavour: Flavour::VirtualBox,
        ..options
    };
    let image = open(elf(&[0..0x1000], &options)).expect("opens");
    assert_eq!(image.info().ranges, [range(0, 0x1000)]);
    assert!(image.info().notes.is_empty());
}

#[test]
fn a_tail_beyond_filesz_is_absent() {
    let mut bytes = elf(&[0x4000..0x6000], &Elf::default());
    // p_memsz of the second program header: 64 + 56 + 40.
    bytes[160..168].copy_from_slice(&0x3000u64.to_le_bytes());
    let image = open(bytes).expect("opens");
    let mut buf = [0; 0x2800];
    let gpa = Gpa(0x6000);
    assert_eq!(
        image.read(Gpa(0x4000), &mut buf),
        Err(Fault {
            addr: gpa,
            cause: Cause::Absent { gpa }
        })
    );
    assert!(
        (0x4000..0x6000)
            .map(byte_at)
            .eq(buf[..0x2000].iter().copied())
    );
}

#[test]
fn of_overlapping_segments_the_first_in_the_file_wins() {
    // Two ranges, the second moved onto the first's upper half.
    let mut bytes = elf(&[0x4000..0x6000, 0x7000..0x9000], &Elf::default());
    let paddr = 64 + 2 * 56 + 24;
    bytes[paddr..paddr + 8].copy_from_slice(&0x5000u64.to_le_bytes());
    let image = open(bytes).expect("opens");
    let mut buf = vec![0; 0x3000];
    image.read(Gpa(0x4000), &mut buf).expect("one run");
    let want = (0x4000..0x6000).chain(0x8000..0x9000);
    assert!(want.map(byte_at).eq(buf));
    assert_eq!(image.info().ranges, [range(0x4000, 0x3000)]);
    let notes = &image.info().notes;
    assert_eq!(notes.len(), 1, "{notes:?}");
    let differing = (0x5000..0x6000).filter(|&gpa| byte_at(gpa) != byte_at(gpa + 0x2000));
    let said = format!("{:#x} bytes, first at 0x5000", differing.count());
    assert!(notes[0].contains(&said), "{notes:?}");
}

/// The same frames twice, as `/proc/vmcore` has the kernel's text: only bytes that differ are a conflict.
#[test]
fn overlapping_parts_that_hold_the_same_bytes_are_no_conflict() {
    let bytes_of = |gpa: u64, buf: &mut [u8]| {
        for (i, byte) in buf.iter_mut().enumerate() {
            *byte = ((gpa + i as u64) % 251) as u8;
        }
        Ok(())
    };
    // The second is the first once more, a multiple of 251 bytes further.
    let shift = 251 * 0x4_0000;
    let ranges = [0x1000..0x5000, shift..shift + 0x1_0000];
    let mut core = Vec::new();
    write::elf(&mut core, &ranges, &mut { bytes_of }, &Elf::default()).expect("writes");
    let paddr = 64 + 2 * 56 + 24;
    core[paddr..paddr + 8].fill(0);
    let (first, second) = (core.len() - 0x1_4000, core.len() - 0x1_0000);

    let mut avml = Vec::new();
    for range in [0x1000..0x5000, 0..0x1_0000u64] {
        write::avml(&mut avml, &[range], &mut { bytes_of }, &Avml::default()).expect("writes");
    }
    let mut lime = Vec::new();
    for range in [0x1000..0x5000, 0..0x1_0000u64] {
        write::lime(&mut lime, &[range], &mut { bytes_of }).expect("writes");
    }
    for (name, bytes) in [("elf", core.clone()), ("avml", avml), ("lime", lime)] {
        let image = open(bytes).expect(name);
        assert!(
            image.info().notes.is_empty(),
            "{name}: {:?}",
            image.info().notes
        );
        assert_eq!(image.info().ranges, [range(0, 0x1_0000)], "{name}");
        let mut got = vec![0; 0x1_0000];
        image.read(Gpa(0), &mut got).expect(name);
        assert!(
            (0..0x1_0000u64).map(|gpa| (gpa % 251) as u8).eq(got),
            "{name}"
        );
    }
    let value = core[first + 0x2345];
    core[first + 0x2345] ^= 0xff;
    core[first + 0x3000] ^= 1;
    let image = open(core).expect("opens");
    assert_eq!(
        image.info().notes,
        [format!(
            "parts of the image overlap and disagree about 0x2 bytes, first at 0x3345: {:#04x}, at {:#x} in the \
             file, was taken, and not {value:#04x}, at {:#x} in the file",
            value ^ 0xff,
            first + 0x2345,
            second + 0x3345,
        )]
    );
}

/// What is declared and not stored has no bytes that could differ.
#[test]
fn parts_that_are_absent_are_no_conflict() {
    let options = Elf {
        without_bytes: vec![0x2000..0x9000],
        ..Elf::default()
    };
    let image = open(elf(&[0x1000..0x5000], &options)).expect("opens");
    let notes = &image.info().notes;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].starts_with("0x4000 bytes of memory"), "{notes:?}");
}

#[test]
fn segments_that_agree_about_a_frame_are_no_conflict() {
    // As with paging=true: the same memory under another virtual address.
    let mut bytes = elf(&[0x4000..0x6000, 0x7000..0x9000], &Elf::default());
    let first: Vec<u8> = bytes[64 + 56..64 + 2 * 56].to_vec();
    bytes[64 + 2 * 56..64 + 3 * 56].copy_from_slice(&first);
    bytes[64 + 2 * 56 + 16..64 + 2 * 56 + 24].copy_from_slice(&(!0u64 << 47).to_le_bytes());
    let image = open(bytes).expect("opens");
    assert_eq!(image.info().ranges, [range(0x4000, 0x2000)]);
    assert!(image.info().notes.is_empty(), "{:?}", image.info().notes);
}

#[test]
fn foreign_elf_files_are_named() {
    let good = elf(&[0..0x1000, 0x2000..0x3000], &Elf::default());
    let patched = |at: usize, with: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        open(bytes).expect_err("not a guest's memory").to_string()
    };
    for (error, part) in [
        (patched(5, &[2]), "big-endian"),
        (patched(4, &[9]), "class 1"),
        (patched(16, &[2, 0]), "not a core dump"),
        (patched(18, &[183, 0]), "AArch64"),
        (patched(54, &[32, 0]), "56 bytes"),
        (patched(56, &[0, 0]), "without any memory"),
        (patched(56, &[0xfe, 0xff]), "65534 headers"),
        (patched(56, &[0xff, 0xff]), "sh_info"),
        (patched(32, &[0xff; 8]), "headers"),
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    // Virtual addresses only: some process's core dump.
    let mut bytes = good;
    for i in 1..3 {
        let header = 64 + i * 56;
        bytes[header + 24..header + 32].fill(0);
    }
    let error = open(bytes).expect_err("a process").to_string();
    assert!(error.contains("process"), "{error}");
}

#[test]
fn zeros_between_and_behind_lime_ranges_are_padding() {
    let mut bytes = lime(&[0x1000..0x2000]);
    bytes.extend([0; 480]);
    bytes.extend(lime(&[0x8000..0x9000]));
    bytes.extend([0; 100]);
    let image = open(bytes.clone()).expect("opens");
    assert_holds("padded", &image, &[0x1000..0x2000, 0x8000..0x9000]);
    assert!(image.info().notes[0].contains("0x244 zero bytes"));

    bytes.extend(b"no header");
    let error = open(bytes.clone()).expect_err("garbage");
    let OpenErrorKind::Damaged { offset, .. } = error.kind else {
        panic!("{error}");
    };
    assert_eq!(offset, bytes.len() as u64 - 9);
}

#[test]
fn damaged_range_headers_are_errors_with_an_offset() {
    let good = lime(&[0x1000..0x2000, 0x8000..0x9000]);
    let second = 32 + 0x1000;
    for (at, with, offset, part) in [
        (second, &b"EMiX"[..], second, "EMiX"),
        (second + 4, &[7], second + 4, "version 7"),
        (second + 8, &[0xff; 8], second + 8, "ascending"),
        (second + 22, &[0xff], second + 8, "2^52"),
    ] {
        let mut bytes = good.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        let error = open(bytes).expect_err(part);
        assert!(error.to_string().contains(part), "{error}");
        let OpenErrorKind::Damaged { offset: found, .. } = error.kind else {
            panic!("{error}");
        };
        assert_eq!(found, offset as u64);
    }
}

#[test]
fn files_that_end_early_declare_what_is_missing() {
    for sample in samples() {
        let name = sample.name;
        // Cut in the first range of three; or behind a block of many, and the next header with it.
        if matches!(name, "elf reversed" | "avml of small blocks") {
            continue;
        }
        let mut bytes = sample.bytes;
        // Into the last range, which is 0x40000 bytes long and compresses to a third of that.
        let cut = if sample.format == "avml" {
            0x6000
        } else {
            0x1_5000
        };
        bytes.truncate(bytes.len() - cut);
        let image = Image::from_bytes(bytes, &sample.options).expect(name);
        let info = image.info();
        assert_eq!(info.ranges.len(), 3, "{name}");
        assert!(
            info.notes.iter().any(|n| n.contains("not in the file")),
            "{name}: {:?}",
            info.notes
        );
        let last = &RANGES[2];
        let mut buf = vec![0; (last.end - last.start) as usize];
        let fault = image.read(Gpa(last.start), &mut buf).expect_err(name);
        let good = (fault.addr.0 - last.start) as usize;
        assert!(
            good > 0x1_0000 || name == "avml of small blocks",
            "{name}: {good:#x}"
        );
        let want = (last.start..last.start + good as u64).map(byte_at);
        assert!(want.eq(buf[..good].iter().copied()), "{name}");
        assert!(
            matches!(fault.cause, Cause::Truncated { gpa, .. } if gpa == fault.addr),
            "{name}: {fault}"
        );
        let lost: Vec<_> = image
            .spans(vmie::AddrRange::all())
            .filter(|s| s.region().is_none())
            .collect();
        assert_eq!(lost.len(), 1, "{name}");
        assert_eq!(lost[0].start, fault.addr, "{name}");
        assert_eq!(lost[0].kind, SpanKind::Lost(fault.cause), "{name}");
        assert_eq!(lost[0].start.0 + lost[0].len, last.end, "{name}");
    }
}

#[test]
fn a_corrupt_frame_faults_and_its_neighbours_do_not() {
    let good = avml(&[0..0x4_0000], &Avml::default());
    // The second frame's data: behind the header, the identifier, and the first frame.
    let first = 32 + 10;
    let len =
        |at: usize| u32::from_le_bytes([good[at + 1], good[at + 2], good[at + 3], 0]) as usize;
    let second = first + 4 + len(first);
    for at in [second + 4, second + 2000, second + 3 + len(second)] {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        let image = open(bytes).expect("opens");
        let mut buf = vec![0; 0x4_0000];
        let fault = Fault {
            addr: Gpa(0x1_0000),
            cause: Cause::Corrupt {
                gpa: Gpa(0x1_0000),
                offset: second as u64,
            },
        };
        assert_eq!(image.read(Gpa(0), &mut buf), Err(fault));
        assert!(
            (0..0x1_0000)
                .map(byte_at)
                .eq(buf[..0x1_0000].iter().copied())
        );
        assert!(image.read(Gpa(0x1_8000), &mut [0]).is_err());
        image
            .read(Gpa(0x2_0000), &mut buf[..0x2_0000])
            .expect("behind it");
        assert!(
            (0x2_0000..0x4_0000)
                .map(byte_at)
                .eq(buf[..0x2_0000].iter().copied())
        );
    }
}

#[test]
fn avml_oddities_are_noted() {
    let mut bytes = avml(&[0..0x1000, 0x4000..0x5000], &Avml::default());
    let end = bytes.len();
    bytes[end - 8] ^= 1;
    let image = open(bytes).expect("opens");
    assert!(image.info().notes[0].contains("length"));

    let zero_in_the_middle = [0..0x1000, 0x100_1000..0x100_2000];
    let image = open(avml(&zero_in_the_middle, &Avml::default())).expect("opens");
    assert!(image.info().notes[0].contains("zeros"));
}

#[test]
fn a_cut_off_start_holds_no_memory() {
    for sample in samples().into_iter().filter(|s| s.format != "raw") {
        let mut bytes = sample.bytes;
        bytes.truncate(40);
        let error = Image::from_bytes(bytes, &sample.options);
        if sample.format == "lime" {
            assert_eq!(error.expect("8 bytes are left").read_u64(Gpa(0)), Ok(0));
        } else {
            error.expect_err(sample.name);
        }
    }
    let mut bytes = lime(&[0..0x1000]);
    bytes.truncate(32);
    let error = open(bytes).expect_err("only a header");
    assert!(
        matches!(error.kind, OpenErrorKind::NoMemory { .. }),
        "{error}"
    );
}

#[test]
fn images_are_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    let image = open(avml(&[0..0x80_0000], &Avml::default())).expect("opens");
    shared(&image);
    std::thread::scope(|scope| {
        for t in 0..4u64 {
            let image = &image;
            scope.spawn(move || {
                // More frames than the cache of one shard holds, in a different order each.
                for i in 0..2000u64 {
                    let gpa = (i * (0x1_0001 + 2 * t) * 8) % 0x7f_fff8;
                    let want: [u8; 8] = std::array::from_fn(|k| byte_at(gpa + k as u64));
                    assert_eq!(image.read_u64(Gpa(gpa)), Ok(u64::from_le_bytes(want)));
                }
            });
        }
    });
}
