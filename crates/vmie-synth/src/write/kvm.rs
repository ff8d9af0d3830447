//! KVM's structures of a CPU's registers, as the state files of hypervisors hold them.
//!
//! Source: Linux `arch/x86/include/uapi/asm/kvm.h`.

use super::notes::Cpu;

fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// `struct kvm_regs`.
pub(super) fn regs(cpu: &Cpu) -> Vec<u8> {
    let mut bytes = vec![0; 144];
    put(&mut bytes, 6 * 8, cpu.rsp);
    put(&mut bytes, 16 * 8, cpu.rip);
    // Bit 1 is always set.
    put(&mut bytes, 17 * 8, cpu.rflags | 2);
    bytes
}

/// `struct kvm_sregs`.
pub(super) fn sregs(cpu: &Cpu, first: bool) -> Vec<u8> {
    const CR: usize = 8 * 24 + 2 * 16;
    let mut bytes = vec![0; 312];
    // CS: limit, selector, type, present, dpl, db, s, l, g.
    bytes[8..12].copy_from_slice(&0xffff_ffff_u32.to_le_bytes());
    bytes[12..14].copy_from_slice(&0x10_u16.to_le_bytes());
    let db = u8::from(!cpu.code64);
    bytes[14..21].copy_from_slice(&[11, 1, 0, db, 1, u8::from(cpu.code64), 1]);
    let boot = if first { 0x100 } else { 0 };
    for (index, value) in [
        cpu.cr0,
        cpu.cr2,
        cpu.cr3,
        cpu.cr4,
        0,
        cpu.efer,
        0xfee0_0800 | boot,
    ]
    .into_iter()
    .enumerate()
    {
        put(&mut bytes, CR + 8 * index, value);
    }
    bytes
}
