//! Writes small images of every format into a directory, or states of microVMs, as seeds for fuzzing.

use std::error::Error;
use std::path::{Path, PathBuf};

use vmie_synth::write::{
    self, Avml, Compression, Cpu, Elf, ElfClass, Firecracker, FirecrackerForm, Flavour, Kdump,
};

fn main() -> Result<(), Box<dyn Error>> {
    let dir: PathBuf = std::env::args_os()
        .nth(1)
        .ok_or("usage: fuzz_seeds DIRECTORY [microvm]")?
        .into();
    std::fs::create_dir_all(&dir)?;
    if std::env::args_os()
        .nth(2)
        .is_some_and(|word| word == "microvm")
    {
        return microvms(&dir);
    }
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

/// States that describe the 1 MiB of memory that the target has beside them.
fn microvms(dir: &Path) -> Result<(), Box<dyn Error>> {
    let ranges = [0..0xc_0000, 0x1_0000_0000..0x1_0004_0000];
    let cpu = Cpu {
        cr0: 0x8005_0033,
        cr3: 0x1000,
        cr4: 0x6f0,
        efer: 0xd01,
        rip: 0xffff_ffff_8100_0000,
        ..Cpu::default()
    };
    for form in FirecrackerForm::ALL {
        let options = Firecracker {
            form,
            cpus: vec![cpu; 2],
            ..Firecracker::default()
        };
        let state = write::firecracker(&ranges, &options);
        std::fs::write(dir.join(format!("firecracker-{form:?}")), state)?;
    }
    let scratch = std::env::temp_dir().join(format!("vmie-seeds-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let mut memory = |_: u64, _: &mut [u8]| Ok(());
    write::cloud_hypervisor(&scratch, &ranges, &mut memory, &[cpu; 2])?;
    std::fs::copy(scratch.join("state.json"), dir.join("cloud-hypervisor"))?;
    std::fs::remove_dir_all(&scratch)?;
    Ok(())
}
