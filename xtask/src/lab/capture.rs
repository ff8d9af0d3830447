//! One moment of a guest, kept: QEMU's truth, the guest's truth, and images in every format.
//!
//! That the guest's truth is true of *this* moment is proved, not hoped: the witness in the guest
//! reports a digest of everything stable again and again, and a snapshot counts only when the last
//! round before the stop and two rounds after it agree (the first of them may have begun before the
//! stop). Else it is taken again.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use vmie_lab::qemu::{Registers, TlbEntry, parse_tlb};
use vmie_lab::{
    Current, ImageFile, ImageFormat, Kernel, Machine, Program, RamPart, Root, SCHEMA, Snapshot,
};
use vmie_synth::write::{self, Avml, RamFile};

use super::guest::Guest;
use super::kernel;
use super::machine::{has_five_levels, visible};
use super::sparse::{self, SparseFile};
use super::variant::Variant;
use super::{catch, initramfs::Tree, resident::Resident};
use crate::Fallible;

/// Kernel workers may come and go; never this often.
const ATTEMPTS: usize = 8;

/// Copying 3 GiB on a slow disk.
const DUMP_PATIENCE: Duration = Duration::from_secs(300);

/// Takes a snapshot of a guest that is ready into `dir`, which must exist and be empty.
pub(crate) fn snapshot(
    mut guest: Guest,
    kernel: &kernel::Kernel,
    tree: &Tree,
    fingerprint: &str,
    dir: &Path,
) -> Fallible<()> {
    let programs = programs(&guest)?;
    let wanted: Vec<u32> = programs
        .iter()
        .flat_map(|program| program.busy.iter().copied())
        .collect();
    let roots = catch::roots(&mut guest, &wanted)?;
    let current = programs
        .iter()
        .find(|program| program.name == guest.variant.current)
        .ok_or_else(|| format!("no program {} reports", guest.variant.current))?;

    fs::create_dir_all(dir.join("qemu"))?;
    let resident = match guest.variant.second_node_mib {
        0 => None,
        _ => Some(Resident::new(kernel, &programs, &roots)?),
    };
    let (cpu, cpus, ram) = moment(&mut guest, current.pid, resident.as_ref(), dir)?;
    let five_levels = has_five_levels(&cpus);
    // Not that in which the program was caught: after a panic with page-table isolation the CPU has the
    // kernel's view of it.
    let root = cpus
        .iter()
        .find(|registers| registers.cpu == cpu)
        .ok_or("the CPU has gone")?
        .root();

    for (name, content) in &guest.witness.files {
        let path = dir.join("guest").join(name);
        fs::create_dir_all(path.parent().ok_or("a name without folder")?)?;
        fs::write(path, content)?;
    }
    fs::write(dir.join("console.log"), guest.console())?;
    fs::copy(kernel.config(), dir.join("config"))?;
    tree.write_files(&dir.join("files"))?;
    let snapshot = Snapshot {
        schema: SCHEMA,
        fingerprint: fingerprint.to_owned(),
        variant: guest.variant.name.clone(),
        kernel: Kernel {
            release: guest.witness.text("osrelease")?.trim().to_owned(),
            package: kernel.package.clone(),
            unpacked: kernel.dir.clone(),
        },
        machine: Machine {
            kind: guest.variant.machine.to_owned(),
            ram: guest.variant.ram_mib << 20,
            cpus: guest.variant.cpus,
            five_levels,
            command: guest.command.clone(),
        },
        ram,
        cpus,
        current: Current {
            cpu,
            pid: current.pid,
            program: current.name.clone(),
            root,
        },
        roots: roots
            .into_iter()
            .map(|(pid, root)| Root { pid, root })
            .collect(),
        images: images(&guest.variant, dir),
        scene: guest.variant.scene,
        dir: dir.to_owned(),
    };
    drop(guest);
    sparse::copy(&[dir.join("memory.elf.qemu")], &dir.join("memory.elf"))?;
    fs::remove_file(dir.join("memory.elf.qemu"))?;
    if !snapshot.scene {
        acquisitions(&snapshot)?;
    }
    snapshot.save()?;
    Ok(())
}

/// What the programs state about themselves.
pub(crate) fn programs(guest: &Guest) -> Fallible<Vec<Program>> {
    guest
        .witness
        .files
        .iter()
        .filter(|(name, _)| name.starts_with("programs/"))
        .map(|(name, text)| {
            Program::parse(&String::from_utf8_lossy(text))
                .map_err(|error| format!("{name}: {error}").into())
        })
        .collect()
}

/// The compressions of kdumps, if QEMU was built with them.
const KDUMPS: [(&str, &str); 3] = [
    ("kdump-zlib", "memory-zlib.kdump"),
    ("kdump-lzo", "memory-lzo.kdump"),
    ("kdump-snappy", "memory-snappy.kdump"),
];

/// Dumps in each compressed form that this QEMU can write.
fn kdumps(guest: &mut Guest, dir: &Path) -> Fallible<()> {
    let known = guest
        .qmp
        .execute("query-dump-guest-memory-capability", json!({}))?;
    let known = known["formats"].as_array().cloned().unwrap_or_default();
    for (format, file) in KDUMPS {
        if known.iter().any(|one| one == format) {
            // Of an attempt before; QEMU makes its files unwritable.
            let _ = fs::remove_file(dir.join(file));
            guest.qmp.execute_within(
                "dump-guest-memory",
                json!({
                    "paging": false,
                    "protocol": format!("file:{}", dir.join(file).display()),
                    "format": format,
                }),
                DUMP_PATIENCE,
            )?;
        }
    }
    Ok(())
}

/// Of a scene one image is enough: what formats keep is told apart on other guests.
fn images(variant: &Variant, dir: &Path) -> Vec<ImageFile> {
    let kdumps = KDUMPS.map(|(_, file)| file);
    let kdumps = kdumps.into_iter().filter(|file| dir.join(file).exists());
    let kdumps = kdumps.map(|file| (file, ImageFormat::Kdump, None));
    [
        (
            "ram.raw",
            ImageFormat::Raw,
            Some(variant.machine.to_owned()),
        ),
        ("memory.elf", ImageFormat::Elf, None),
        ("memory.lime", ImageFormat::Lime, None),
        ("memory.avml", ImageFormat::Avml, None),
        ("memory-v1.avml", ImageFormat::AvmlV1, None),
    ]
    .into_iter()
    .chain(kdumps)
    .filter(|(_, format, _)| !variant.scene || *format == ImageFormat::Elf)
    .map(|(file, format, layout)| ImageFile {
        file: file.into(),
        format,
        layout,
    })
    .collect()
}

/// Stops while `pid` is running (and pages are where they shall be), keeps everything that QEMU knows, and
/// makes sure that the guest's own report is of this moment.
fn moment(
    guest: &mut Guest,
    pid: u32,
    resident: Option<&Resident>,
    dir: &Path,
) -> Fallible<(u32, Vec<Registers>, Vec<RamPart>)> {
    for _ in 0..ATTEMPTS {
        // Two rounds: the first may have begun before we looked.
        let before = guest.rounds(2)?;
        let (cpu, mut cpus) = match resident {
            Some(resident) => resident.stop_in(guest, pid)?,
            None => catch::stop_in(guest, pid)?,
        };
        if guest.variant.panics {
            guest.panic()?;
            cpus = guest.registers()?;
        }
        let ram = qemu_truth(guest, cpu, has_five_levels(&cpus), dir)?;
        guest.qmp.execute_within(
            "dump-guest-memory",
            json!({"paging": false, "protocol": format!("file:{}", dir.join("memory.elf.qemu").display())}),
            DUMP_PATIENCE,
        )?;
        if !guest.variant.scene {
            kdumps(guest, dir)?;
            let files: Vec<_> = guest
                .blocks()
                .iter()
                .map(|block| guest.ram(block))
                .collect();
            sparse::copy(&files, &dir.join("ram.raw"))?;
        }
        if guest.variant.panics {
            // Nobody is left to ask, and nothing left that could change.
            return Ok((cpu, cpus, ram));
        }
        guest.resume()?;
        let after = guest.rounds(2)?;
        if after.digest == before.digest {
            return Ok((cpu, cpus, ram));
        }
        eprintln!(
            "lab: {}: processes changed meanwhile, once more",
            guest.variant.name
        );
    }
    Err(format!(
        "guest {} does not come to rest: its processes changed during each of {ATTEMPTS} snapshots",
        guest.variant.name
    )
    .into())
}

/// Asks QEMU's monitor, and keeps what it answers.
fn keep(guest: &mut Guest, dir: &Path, command: &str, cpu: u32, file: &str) -> Fallible<String> {
    let text = guest.qmp.monitor(command, cpu)?.replace('\r', "");
    fs::write(dir.join(file), &text)?;
    Ok(text)
}

/// Asks QEMU's own page walker about the current address space of `cpu`; of a scene only where RAM is and what
/// registers hold.
fn qemu_truth(
    guest: &mut Guest,
    cpu: u32,
    five_levels: bool,
    dir: &Path,
) -> Fallible<Vec<RamPart>> {
    let dir = dir.join("qemu");
    let mtree = keep(guest, &dir, "info mtree -f", cpu, "info-mtree.txt")?;
    for cpu in 0..guest.variant.cpus {
        let file = format!("info-registers-{cpu}.txt");
        keep(guest, &dir, "info registers", cpu, &file)?;
    }
    // The blocks are copied one behind the other.
    let mut parts: Vec<RamPart> = Vec::new();
    let mut base = 0;
    for block in guest.blocks() {
        parts.extend(visible(&mtree, &block.name, base)?);
        base += block.len;
    }
    parts.sort_by_key(|part| part.gpa);
    if guest.variant.scene {
        return Ok(parts);
    }
    let tlb = keep(guest, &dir, "info tlb", cpu, "info-tlb.txt")?;
    // With five levels QEMU 7.2's `info mem` takes the entries that are *not* present for tables
    // (mem_info_la57 in target/i386/monitor.c), runs for a minute and prints nothing.
    if !five_levels {
        keep(guest, &dir, "info mem", cpu, "info-mem.txt")?;
    }
    let tlb = parse_tlb(&tlb).map_err(|error| format!("info tlb: {error}"))?;
    let mut translations = String::new();
    for va in addresses(&tlb) {
        let answer = guest.qmp.monitor(&format!("gva2gpa {va:#x}"), cpu)?;
        match answer.trim() {
            "Unmapped" => writeln!(translations, "{va:x} -")?,
            gpa => {
                // C's "%#x" writes 0 without 0x.
                let gpa = gpa
                    .strip_prefix("gpa: ")
                    .ok_or_else(|| format!("gva2gpa {va:#x}: {gpa}"))?
                    .trim_start_matches("0x");
                writeln!(translations, "{va:x} {gpa}")?;
            }
        }
    }
    fs::write(dir.join("gva2gpa.txt"), translations)?;
    Ok(parts)
}

/// Addresses to translate: within mapped pages, around them, anywhere, and outside of what is
/// canonical.
fn addresses(tlb: &[TlbEntry]) -> Vec<u64> {
    // xorshift64*: the same addresses for the same tables.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    let user: Vec<&TlbEntry> = tlb.iter().filter(|entry| entry.va >> 63 == 0).collect();
    let mut out = vec![
        0,
        0xfff,
        0x7fff_ffff_ffff,
        0x8000_0000_0000,
        0xffff_7fff_ffff_ffff,
        0xffff_8000_0000_0000,
        0x00ff_ffff_ffff_ffff,
        0x0100_0000_0000_0000,
        0xff00_0000_0000_0000,
        0xffff_ffff_8000_0000,
        u64::MAX,
    ];
    let pick = |random: u64, from: usize| usize::try_from(random % from as u64).unwrap_or(0);
    for i in 0..3000 {
        let entry = if i % 3 == 0 && !user.is_empty() {
            user[pick(random(), user.len())]
        } else {
            &tlb[pick(random(), tlb.len())]
        };
        let within = if entry.large { 0x20_0000 } else { 0x1000 };
        out.push(entry.va.wrapping_add(random() % within));
        if i % 3 == 1 {
            let pages = random() % 64;
            out.push(entry.va.wrapping_sub(pages << 12));
            out.push(entry.va.wrapping_add(within + (pages << 12)));
        }
    }
    for _ in 0..500 {
        let any = random();
        // Sign-extended from 48 and from 57 bits, and as it is.
        out.push((((any << 16) as i64) >> 16) as u64);
        out.push((((any << 7) as i64) >> 7) as u64);
        out.push(any);
    }
    out
}

/// What LiME and AVML would have written: the ranges that the guest calls System RAM.
fn acquisitions(snapshot: &Snapshot) -> Fallible<()> {
    let ranges = snapshot.system_ram()?;
    let parts = snapshot
        .ram
        .iter()
        .map(|part| write::RamPart {
            range: part.gpa..part.gpa + part.len,
            offset: part.offset,
        })
        .collect();
    let mut source = RamFile::new(File::open(snapshot.path("ram.raw"))?, parts);

    let mut out = SparseFile::create(&snapshot.path("memory.lime"))?;
    write::lime(&mut out, &ranges, &mut source)?;
    out.finish()?;
    for (file, options) in [
        ("memory.avml", Avml::default()),
        (
            "memory-v1.avml",
            Avml {
                compress: false,
                ..Avml::default()
            },
        ),
    ] {
        let mut out = SparseFile::create(&snapshot.path(file))?;
        write::avml(&mut out, &ranges, &mut source, &options)?;
        out.flush()?;
        out.finish()?;
    }
    Ok(())
}
