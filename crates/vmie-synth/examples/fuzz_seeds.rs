//! Writes small images of every format into a directory, as seeds for fuzzing.

use std::error::Error;
use std::path::PathBuf;

use vmie_synth::write::{self, Avml, Compression, Cpu, Elf, ElfClass, Flavour, Kdump};

fn main() -> Result<(), Box<dyn Error>> {
    let dir: PathBuf = std::env::args_os()
        .nth(1)
        .ok_or("usage: fuzz_seeds DIRECTORY")?
        .into();
    std::fs::create_dir_all(&dir)?;
    let ranges = [0x1000..0x1200, 0x1200..0x1300, 0x1_0000_0000..0x1_0000_0100];
    let mut memory = |gpa: u64, buf: &mut [u8]| {
        for (i, byte) in buf.iter_mut().enumerate() {
            *byte = ((gpa + i as u64) >> 2) as u8;
        }
        Ok(())
    };
    let mut image = Vec::new();
    write::lime(&mut image, &ranges, &mut memory)?;
    std::fs::write(dir.join("lime"), &image)?;

    image.clear();
    write::avml(&mut image, &ranges, &mut memory, &Avml::default())?;
    std::fs::write(dir.join("avml"), &image)?;

    let qemu = Elf {
        cpus: vec![Cpu::default(); 2],
        ..Elf::default()
    };
    let virtualbox = Elf {
        flavour: Flavour::VirtualBox,
        without_bytes: vec![0xe000_0000..0xe000_1000],
        ..qemu.clone()
    };
    let narrow = Elf {
        class: ElfClass::Elf32,
        x86_64: false,
        ..qemu.clone()
    };
    for (name, ranges, options) in [
        ("elf-qemu", &ranges[..], qemu),
        ("elf-virtualbox", &ranges[..], virtualbox),
        ("elf32", &ranges[..2], narrow),
    ] {
        image.clear();
        write::elf(&mut image, ranges, &mut memory, &options)?;
        std::fs::write(dir.join(name), &image)?;
    }
    // Whole pages.
    let pages = [0x1000..0x3000];
    for (name, compression, flattened) in [
        ("kdump-zlib", Compression::Zlib, false),
        ("kdump-lzo", Compression::Lzo, false),
        ("kdump-snappy", Compression::Snappy, false),
        ("kdump-zstd", Compression::Zstd, false),
        ("kdump-flattened", Compression::Lzo, true),
    ] {
        let options = Kdump {
            compression,
            flattened,
            ..Kdump::default()
        };
        image.clear();
        write::kdump(&mut image, &pages, &mut memory, &options)?;
        std::fs::write(dir.join(name), &image)?;
    }
    Ok(())
}
