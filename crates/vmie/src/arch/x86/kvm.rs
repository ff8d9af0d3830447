//! Registers as KVM keeps them: `kvm_regs` and `kvm_sregs` of its API, which hypervisors write into their states.
//!
//! ```text
//! kvm_regs  rax rbx rcx rdx rsi rdi rsp rbp r8 .. r15 rip rflags
//! kvm_sregs cs ds es fs gs ss tr ldt, 24 bytes each: base (8), limit (4), selector (2), ...
//!           gdt idt, 16 bytes each: base (8), limit (2), ...; cr0 cr2 cr3 cr4 cr8 efer apic_base, bitmap of 4 words
//! ```

use super::{CpuState, DescriptorTable, Registers, Segment, Segments};

/// Bytes of `kvm_regs`.
pub(crate) const REGS: usize = 144;
/// Bytes of `kvm_sregs`.
pub(crate) const SREGS: usize = 312;

/// Where in `kvm_regs` they are.
pub(crate) const RSP: usize = 6 * 8;
pub(crate) const RIP: usize = 16 * 8;
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

/// The CPU that two structures describe; `None` where they are too short.
pub(crate) fn cpu(index: u32, regs: &[u8], sregs: &[u8]) -> Option<CpuState> {
    let reg = |number: usize| word(regs, number * 8);
    let segment = |number: usize| {
        let bytes = sregs.get(number * 24..)?;
        Some(Segment {
            selector: u16::from_le_bytes(*bytes.get(12..)?.first_chunk()?),
            base: word(bytes, 0)?,
        })
    };
    let table = |number: usize| {
        let bytes = sregs.get(TABLES + number * 16..)?;
        Some(DescriptorTable {
            base: word(bytes, 0)?,
            limit: u16::from_le_bytes(*bytes.get(8..)?.first_chunk()?).into(),
        })
    };
    Some(CpuState {
        index,
        cr0: word(sregs, CR0)?,
        cr3: word(sregs, CR3)?,
        cr4: word(sregs, CR4)?,
        efer: Some(word(sregs, EFER)?),
        long_mode: None,
        rip: word(regs, RIP)?,
        rsp: word(regs, RSP)?,
        cr2: word(sregs, CR0 + 8),
        general: Some(Registers {
            rax: reg(0)?,
            rbx: reg(1)?,
            rcx: reg(2)?,
            rdx: reg(3)?,
            rsi: reg(4)?,
            rdi: reg(5)?,
            rbp: reg(7)?,
            r8: reg(8)?,
            r9: reg(9)?,
            r10: reg(10)?,
            r11: reg(11)?,
            r12: reg(12)?,
            r13: reg(13)?,
            r14: reg(14)?,
            r15: reg(15)?,
            rflags: word(regs, RFLAGS)?,
        }),
        segments: Some(Segments {
            cs: segment(0)?,
            ds: segment(1)?,
            es: segment(2)?,
            fs: segment(3)?,
            gs: segment(4)?,
            ss: segment(5)?,
            tr: segment(6)?,
            ldt: segment(7)?,
            gdt: table(0)?,
            idt: table(1)?,
        }),
        kernel_gs_base: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
