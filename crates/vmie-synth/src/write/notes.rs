//! The CPU notes of ELF cores, as QEMU and VirtualBox write them.
//!
//! Sources: QEMU 7.2 `target/i386/arch_dump.c` (`x86_64_elf_prstatus`, `QEMUCPUState` version 1);
//! VirtualBox 6.1 `include/VBox/vmm/dbgfcorefmt.h` and `src/VBox/VMM/VMMR3/DBGFCoreWrite.cpp`.

/// Whose dumps an ELF core imitates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Flavour {
    /// QEMU's `dump-guest-memory`: an NT_PRSTATUS and a QEMU note for each CPU.
    #[default]
    Qemu,
    /// VirtualBox's `dumpvmcore`: a VBCORE note and a VBCPU note for each CPU.
    VirtualBox,
}

/// What the notes say about a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)] // the registers' names say it
pub struct Cpu {
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    /// Only VirtualBox's notes hold it.
    pub efer: u64,
    pub rip: u64,
    pub rsp: u64,
    pub rflags: u64,
    /// Whether CS is a 64-bit code segment (its L bit).
    pub code64: bool,
}

/// One note: header, name, contents, both padded to 4 bytes.
fn note(out: &mut Vec<u8>, name: &[u8], namesz: usize, kind: u32, desc: &[u8]) {
    for field in [namesz as u32, desc.len() as u32, kind] {
        out.extend(field.to_le_bytes());
    }
    for bytes in [name, desc] {
        out.extend(bytes);
        out.resize(out.len().next_multiple_of(4), 0);
    }
}

fn put(desc: &mut [u8], at: usize, value: u64) {
    desc[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// All the notes of a machine.
pub(super) fn notes(flavour: Flavour, cpus: &[Cpu], long: bool) -> Vec<u8> {
    let mut out = Vec::new();
    match flavour {
        Flavour::Qemu => {
            for (i, cpu) in cpus.iter().enumerate() {
                let desc = if long {
                    prstatus64(i, cpu)
                } else {
                    prstatus32(i, cpu)
                };
                note(&mut out, b"CORE\0", 5, 1, &desc);
            }
            for cpu in cpus {
                note(&mut out, b"QEMU\0", 5, 0, &qemu_cpu(cpu));
            }
        }
        Flavour::VirtualBox => {
            // Names are padded to 8 bytes and their length is given without the final zero.
            let mut core = Vec::new();
            for field in [
                0xc01a_c0de,
                0x0001_0006,
                24,
                0x0701_0000,
                160_000,
                cpus.len() as u32,
            ] {
                core.extend(u32::to_le_bytes(field));
            }
            note(&mut out, b"VBCORE\0\0", 6, 0xb00, &core);
            for cpu in cpus {
                note(&mut out, b"VBCPU\0\0\0", 5, 0xb01, &vbox_cpu(cpu));
            }
        }
    }
    out
}

/// The note in which a Linux kernel says where it is (`kernel/vmcore_info.c` in its sources): QEMU and kdump copy it.
pub(super) fn vmcoreinfo(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    if !text.is_empty() {
        note(&mut out, b"VMCOREINFO\0\0", 11, 0, text.as_bytes());
    }
    out
}

/// `x86_64_elf_prstatus`: process number at 32, registers from 112.
fn prstatus64(index: usize, cpu: &Cpu) -> Vec<u8> {
    let mut desc = vec![0; 336];
    desc[32..36].copy_from_slice(&(index as u32 + 1).to_le_bytes());
    put(&mut desc, 112 + 16 * 8, cpu.rip);
    put(&mut desc, 112 + 17 * 8, 0x10);
    put(&mut desc, 112 + 18 * 8, cpu.rflags);
    put(&mut desc, 112 + 19 * 8, cpu.rsp);
    desc
}

/// `x86_elf_prstatus`: process number at 24, registers from 72.
fn prstatus32(index: usize, cpu: &Cpu) -> Vec<u8> {
    let mut desc = vec![0; 144];
    desc[24..28].copy_from_slice(&(index as u32 + 1).to_le_bytes());
    desc[72 + 48..72 + 52].copy_from_slice(&(cpu.rip as u32).to_le_bytes());
    desc[72 + 60..72 + 64].copy_from_slice(&(cpu.rsp as u32).to_le_bytes());
    desc
}

/// `QEMUCPUState`: version and size, 16 registers, rip, rflags, 10 segments of 24 bytes, CR0 to CR4,
/// and since QEMU 3.0 the kernel's GS base.
fn qemu_cpu(cpu: &Cpu) -> Vec<u8> {
    const RSP: usize = 8 + 6 * 8;
    const RIP: usize = 8 + 16 * 8;
    const CS: usize = RIP + 16;
    const CR: usize = CS + 10 * 24;
    const SIZE: usize = CR + 6 * 8;
    const DESC_L: u32 = 1 << 21;

    let mut desc = vec![0; SIZE];
    desc[..4].copy_from_slice(&1u32.to_le_bytes());
    desc[4..8].copy_from_slice(&(SIZE as u32).to_le_bytes());
    put(&mut desc, RSP, cpu.rsp);
    put(&mut desc, RIP, cpu.rip);
    put(&mut desc, RIP + 8, cpu.rflags);
    let flags: u32 = 0x00a0_9b00 & !DESC_L | if cpu.code64 { DESC_L } else { 0 };
    desc[CS..CS + 4].copy_from_slice(&0x10u32.to_le_bytes());
    desc[CS + 8..CS + 12].copy_from_slice(&flags.to_le_bytes());
    put(&mut desc, CR, cpu.cr0);
    put(&mut desc, CR + 16, cpu.cr2);
    put(&mut desc, CR + 24, cpu.cr3);
    put(&mut desc, CR + 32, cpu.cr4);
    desc
}

/// `DBGFCORECPU`: 18 registers, 6 segments of 24 bytes, CR0, CR2, CR3, CR4, debug registers,
/// descriptor tables, and the MSRs from 488 on.
fn vbox_cpu(cpu: &Cpu) -> Vec<u8> {
    const CR: usize = 18 * 8 + 6 * 24;
    const EFER: usize = CR + 4 * 8 + 8 * 8 + 2 * 16 + 2 * 24 + 3 * 8;
    const SIZE: usize = EFER + 12 * 8 + 0x1000;

    let mut desc = vec![0; SIZE];
    put(&mut desc, 14 * 8, cpu.rip);
    put(&mut desc, 15 * 8, cpu.rsp);
    put(&mut desc, 17 * 8, cpu.rflags);
    put(&mut desc, CR, cpu.cr0);
    put(&mut desc, CR + 8, cpu.cr2);
    put(&mut desc, CR + 16, cpu.cr3);
    put(&mut desc, CR + 24, cpu.cr4);
    put(&mut desc, EFER, cpu.efer);
    desc
}
