//! Registers as KVM keeps them: `kvm_regs` and `kvm_sregs` of its API, which hypervisors write into their states.
//!
//! ```text
//! kvm_regs  rax rbx rcx rdx rsi rdi rsp rbp r8 .. r15 rip rflags
//! kvm_sregs cs ds es fs gs ss tr ldt, 24 bytes each: base (8), limit (4), selector (2), ...
//!           gdt idt, 16 bytes each: base (8), limit (2), ...; cr0 cr2 cr3 cr4 cr8 efer apic_base, bitmap of 4 words
//! ```

use super::{CpuState, DescriptorTable, Segment, Segments};

/// Bytes of `kvm_regs`.
pub(crate) const REGS: usize = 144;
/// Bytes of `kvm_sregs`.
pub(crate) const SREGS: usize = 312;

/// Where in `kvm_regs` they are.
pub(crate) const RFLAGS: usize = 17 * 8;

/// Where in `kvm_sregs` they are.
pub(crate) const TABLES: usize = 8 * 24;
pub(crate) const CR0: usize = TABLES + 2 * 16;
pub(crate) const CR3: usize = CR0 + 2 * 8;
pub(crate) const CR4: usize = CR0 + 3 * 8;
pub(crate) const CR8: usize = CR0 + 4 * 8;
pub(crate) const EFER: usize = CR0 + 5 * 8;
pub(crate) const APIC_BASE: usize = CR0 + 6 * 8;
pub(crate) const BITMAP: usize = CR0 + 7 * 8;

/// A word of one of the structures.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The words of `kvm_regs`.
const GENERAL: [&str; 18] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15", "rip", "rflags",
];
/// The segments of `kvm_sregs`.
const SEGMENTS: [&str; 8] = ["cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt"];
/// The tables of `kvm_sregs`.
const DESCRIPTORS: [&str; 2] = ["gdt", "idt"];
/// The words behind the tables.
const CONTROL: [&str; 6] = ["cr0", "cr2", "cr3", "cr4", "cr8", "efer"];

/// The CPU that two structures describe; `None` where they are too short.
pub(crate) fn cpu(index: u32, regs: &[u8], sregs: &[u8]) -> Option<CpuState> {
    if regs.len() < REGS || sregs.len() < EFER + 8 {
        return None;
    }
    let place = |names: &[&str], name: &str| names.iter().position(|known| *known == name);
    let register = |name: &str| match place(&GENERAL, name) {
        Some(number) => word(regs, number * 8),
        None => word(sregs, CR0 + place(&CONTROL, name)? * 8),
    };
    let segment = |name: &str| {
        let bytes = sregs.get(place(&SEGMENTS, name)? * 24..)?;
        Some(Segment {
            selector: u16::from_le_bytes(*bytes.get(12..)?.first_chunk()?),
            base: word(bytes, 0)?,
        })
    };
    let table = |name: &str| {
        let bytes = sregs.get(TABLES + place(&DESCRIPTORS, name)? * 16..)?;
        Some(DescriptorTable {
            base: word(bytes, 0)?,
            limit: u16::from_le_bytes(*bytes.get(8..)?.first_chunk()?).into(),
        })
    };
    CpuState::from_names(index, register, Segments::from_names(segment, table))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::x86::Registers;

    /// Numbers that are all different, each where the headers of the system put it.
    #[test]
    fn every_register_is_where_kvm_puts_it() {
        let regs: Vec<u8> = (0..18u64).flat_map(|n| (0x100 + n).to_le_bytes()).collect();
        let mut sregs = Vec::new();
        for number in 0..8u64 {
            sregs.extend((0x200 + number).to_le_bytes());
            sregs.extend(0xffff_ffff_u32.to_le_bytes());
            sregs.extend((0x30 + number as u16).to_le_bytes());
            sregs.extend([1; 10]);
        }
        for number in 0..2u64 {
            sregs.extend((0x300 + number).to_le_bytes());
            sregs.extend((0x7f + number as u16).to_le_bytes());
            sregs.extend([0; 6]);
        }
        // cr0 cr2 cr3 cr4 cr8 efer apic_base, and four words
        for number in 0..11u64 {
            sregs.extend((0x400 + number).to_le_bytes());
        }
        assert_eq!((regs.len(), sregs.len()), (REGS, SREGS));
        let cpu = cpu(3, &regs, &sregs).expect("whole");
        let general = cpu.general.expect("known");
        assert_eq!(
            (general.rax, general.rdi, cpu.rsp, general.rbp),
            (0x100, 0x105, 0x106, 0x107)
        );
        assert_eq!(
            (general.r8, general.r15, cpu.rip, general.rflags),
            (0x108, 0x10f, 0x110, 0x111)
        );
        let segments = cpu.segments.expect("known");
        let at = |segment: Segment| (segment.base, segment.selector);
        assert_eq!(
            (at(segments.cs), at(segments.fs)),
            ((0x200, 0x30), (0x203, 0x33))
        );
        assert_eq!(
            (at(segments.tr), at(segments.ldt)),
            ((0x206, 0x36), (0x207, 0x37))
        );
        assert_eq!((segments.gdt.base, segments.gdt.limit), (0x300, 0x7f));
        assert_eq!((segments.idt.base, segments.idt.limit), (0x301, 0x80));
        assert_eq!(
            (cpu.cr0, cpu.cr2, cpu.cr3, cpu.cr4),
            (0x400, Some(0x401), 0x402, 0x403)
        );
        assert_eq!(cpu.efer, Some(0x405));
        assert_eq!(super::cpu(0, &regs[1..], &sregs), None);
        assert_eq!(super::cpu(0, &regs, &sregs[..CR0]), None);
    }
    #[test]
    fn all_of_it_is_known_but_what_swapgs_brings() {
        let cpu = CpuState::sample();
        let (general, segments) = (cpu.general.expect("known"), cpu.segments.expect("known"));
        let Registers {
            rax,
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            rbp,
            r8,
            r9,
            r10,
            ..
        } = general;
        let Registers {
            r11,
            r12,
            r13,
            r14,
            r15,
            rflags,
            ..
        } = general;
        let regs = [
            rax, rbx, rcx, rdx, rsi, rdi, cpu.rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15,
            cpu.rip, rflags,
        ];
        let regs: Vec<u8> = regs.iter().flat_map(|word| word.to_le_bytes()).collect();
        let Segments {
            cs,
            ds,
            es,
            fs,
            gs,
            ss,
            tr,
            ldt,
            gdt,
            idt,
        } = segments;
        let mut sregs = Vec::new();
        for segment in [cs, ds, es, fs, gs, ss, tr, ldt] {
            sregs.extend(segment.base.to_le_bytes());
            sregs.extend([0xff; 4]);
            sregs.extend(segment.selector.to_le_bytes());
            sregs.extend([1; 10]);
        }
        for table in [gdt, idt] {
            sregs.extend(table.base.to_le_bytes());
            sregs.extend(table.limit.to_le_bytes());
            sregs.extend([0; 4]);
        }
        let (cr2, efer) = (cpu.cr2.expect("known"), cpu.efer.expect("known"));
        for word in [
            cpu.cr0,
            cr2,
            cpu.cr3,
            cpu.cr4,
            8,
            efer,
            0xfee0_0900,
            0,
            0,
            0,
            0,
        ] {
            sregs.extend(word.to_le_bytes());
        }
        let known = CpuState {
            kernel_gs_base: None,
            ..cpu
        };
        assert_eq!(super::cpu(0, &regs, &sregs), Some(known));
    }
}
