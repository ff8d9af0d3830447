//! The registers of the CPUs in a state: KVM's `kvm_regs` and behind it `kvm_sregs`.
//!
//! ```text
//! fields    regs, sregs, vcpu_events (64), xcrs (392), xsave; since 1.10 or so a u64, its length, before each
//! columns   regs: length of each CPU's | bytes of each CPU's, one after the other; then sregs in the same way
//! ```

use super::columns::Columns;
use super::regions::Region;
use crate::arch::x86::CpuState;
use crate::arch::x86::kvm::{
    self, APIC_BASE, BITMAP, CR0, CR3, CR4, CR8, EFER, REGS, RFLAGS, SREGS, TABLES, word,
};

/// `kvm_vcpu_events`, `kvm_xcrs`, `kvm_xsave`.
const EVENTS: usize = 64;
const XCRS: usize = 392;
const XSAVE: usize = 4096;

/// Firecracker allows no more.
const MAX_CPUS: usize = 32;

/// Makes a CPU of bytes that can be nothing else.
fn cpu(index: usize, regs: &[u8], sregs: &[u8], ram: &[Region]) -> Option<CpuState> {
    // Bit 1 is always set, and bits 3, 5, 15 and those from 22 on never are.
    let rflags = word(regs, RFLAGS)?;
    let valid = rflags & !0x3f_7fd5 == 2 && is_sregs(sregs)?;
    valid.then_some(())?;
    let cpu = kvm::cpu(u32::try_from(index).ok()?, regs, sregs)?;
    let root = cpu.cr3 & 0x000f_ffff_ffff_f000;
    let in_ram = !cpu.paging_enabled() || ram.iter().any(|region| region.holds(root));
    in_ram.then_some(cpu)
}

/// Whether these bytes can be `kvm_sregs`.
fn is_sregs(sregs: &[u8]) -> Option<bool> {
    // The cheapest first, for this is asked at every byte of the state. Bit 4 of CR0 is always set; PE, MP,
    // EM, TS, ET, NE, WP, AM, NW, CD, PG exist, and PG only with PE.
    let cr0 = word(sregs, CR0)?;
    if cr0 & !0xe005_003f != 0 || cr0 & 0x10 == 0 || cr0 & 0x8000_0001 == 0x8000_0000 {
        return Some(false);
    }
    // The enabled bit, x2APIC, and whether it is the first CPU; the address is whole pages.
    let apic = word(sregs, APIC_BASE)?;
    if apic & 0xfff0_0000_0000_02ff != 0 || apic >> 12 == 0 {
        return Some(false);
    }
    // The bits of CR4 go up to 32 (FRED), without 15, 26 and 29 to 31; those of CR3 above the address are LAM's.
    let (cr4, cr3, cr8) = (word(sregs, CR4)?, word(sregs, CR3)?, word(sregs, CR8)?);
    if cr4 >> 33 != 0 || cr4 & 0xe400_8000 != 0 || cr3 >> 52 & !0x600 != 0 || cr8 > 15 {
        return Some(false);
    }
    // SCE, LME, LMA, NXE, AMD's SVME to TCE, MCOMMIT, INTWB, UAIE, AUTOIBRS; LMA is LME with paging.
    let efer = word(sregs, EFER)?;
    let long = efer & 0x100 != 0 && cr0 >> 31 != 0;
    if efer & !0x36_fd01 != 0 || (efer & 0x400 != 0) != long {
        return Some(false);
    }
    let segments = sregs.get(..TABLES)?.chunks_exact(24).all(|segment| {
        // type, present, dpl, db, s, l, g, avl, unusable, padding
        let limits = [15, 1, 3, 1, 1, 1, 1, 1, 1, 0];
        segment[14..]
            .iter()
            .zip(limits)
            .all(|(byte, most)| *byte <= most)
    });
    let tables = [TABLES, TABLES + 16]
        .iter()
        .all(|&at| sregs[at + 10..at + 16] == [0; 6]);
    // CS is a present segment of code, or of data in real mode.
    let (kind, present, s) = (sregs[14], sregs[15], sregs[18]);
    let code = present == 1 && s == 1 && (kind & 8 != 0 || cr0 & 1 == 0);
    // At most one interrupt waits.
    let waiting: u32 = sregs
        .get(BITMAP..SREGS)?
        .iter()
        .map(|byte| byte.count_ones())
        .sum();
    Some(segments && tables && code && waiting <= 1)
}

/// Looks through fields that follow each other.
pub(super) fn in_fields(body: &[u8], from: usize, ram: &[Region]) -> Vec<CpuState> {
    let mut cpus: Vec<CpuState> = Vec::new();
    let mut at = from;
    while at < body.len() && cpus.len() < MAX_CPUS {
        let Some((cpu, end)) = one(body, at, cpus.len(), ram) else {
            at += 1;
            continue;
        };
        cpus.push(cpu);
        at = end;
    }
    cpus
}

/// The CPU whose registers begin here, and where what the guest controls of it is over.
fn one(body: &[u8], at: usize, index: usize, ram: &[Region]) -> Option<(CpuState, usize)> {
    // With a length before each part, or without.
    let prefixed = word(body, at)? == REGS as u64 && word(body, at + 8 + REGS)? == SREGS as u64;
    let gap = if prefixed { 8 } else { 0 };
    let sregs_at = at + gap + REGS + gap;
    let sregs = body.get(sregs_at..sregs_at + SREGS)?;
    let regs = body.get(at + gap..at + gap + REGS)?;
    let cpu = cpu(index, regs, sregs, ram)?;

    let xsave = sregs_at + SREGS + gap + EVENTS + gap + XCRS;
    let end = if prefixed && word(body, xsave)? == (XSAVE + 8) as u64 {
        // `kvm_xsave2`: a word, the usual area, and as many words of 4 bytes behind it as it says.
        let more = xsave + 8 + 8 + XSAVE;
        let words = usize::try_from(word(body, more)?).ok()?;
        more.checked_add(8)?.checked_add(words.checked_mul(4)?)?
    } else {
        xsave + gap + XSAVE
    };
    // All of it has to be there.
    (end <= body.len()).then_some((cpu, end))
}

/// Looks through columns.
pub(super) fn in_columns(body: &[u8], from: usize, ram: &[Region]) -> Vec<CpuState> {
    (from..body.len())
        .find_map(|at| all(body, at, ram))
        .unwrap_or_default()
}

/// The CPUs whose column of lengths of `kvm_regs` begins here.
fn all(body: &[u8], at: usize, ram: &[Region]) -> Option<Vec<CpuState>> {
    // One or two lengths stand as they are; more are packed with a byte in front, and less than six of them
    // are as they are then. From six on it is 9, the least of them, and a bit of zero for each.
    let counts = match body[at..] {
        [144, 144, ..] => 2..=2,
        [144, ..] => 1..=1,
        [0, 144, 144, 144, ..] => 3..=5,
        [9, 144, 0, ..] => 6..=MAX_CPUS,
        _ => return None,
    };
    let mut counts = counts;
    counts.find_map(|count| {
        // How the lengths of `kvm_sregs` begin, which are too long for a byte: spares most of the work.
        let own = match count {
            1 | 2 => count,
            3..=5 => 1 + count,
            _ => 2 + count.div_ceil(8),
        };
        let next = body.get(at + own + 1 + REGS * count..)?;
        let begins: &[u8] = match count {
            1 | 2 => &[255],
            3..=5 => &[0, 255],
            _ => &[9, 255],
        };
        next.starts_with(begins).then_some(())?;

        let mut columns = Columns::new(body, at);
        let mut part = |len: usize| {
            let lengths = columns.lengths(count)?;
            if lengths.iter().any(|&one| one != len as u64) {
                return None;
            }
            // Registers are too different to be packed.
            (columns.take(1)? == [0]).then_some(())?;
            columns.take(len * count)
        };
        let (regs, sregs) = (part(REGS)?, part(SREGS)?);
        let parts = regs.chunks_exact(REGS).zip(sregs.chunks_exact(SREGS));
        parts
            .enumerate()
            .map(|(index, (regs, sregs))| cpu(index, regs, sregs, ram))
            .collect()
    })
}
