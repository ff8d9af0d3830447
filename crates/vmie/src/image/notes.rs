//! The notes of ELF cores: what hypervisors say about the guest's CPUs, and kernels about themselves.
//!
//! | name | type | contents | source |
//! |---|---|---|---|
//! | `QEMU` | 0 | `QEMUCPUState` version 1: general registers, segments, CR0 to CR4 | QEMU `target/i386/arch_dump.c` |
//! | `VBCORE` | 0xb00 | `DBGFCOREDESCRIPTOR`: format version, number of CPUs | VirtualBox `dbgfcorefmt.h` |
//! | `VBCPU` | 0xb01 | `DBGFCORECPU`: the same registers, and EFER | VirtualBox `dbgfcorefmt.h` |
//! | `VMCOREINFO` | 0 | what a Linux kernel says of itself, as text | Linux `kernel/vmcore_info.c` |
//!
//! Other notes (`CORE` with NT_PRSTATUS) hold no control registers and are passed over: a CPU without CR3
//! leads nowhere.
//!
//! QEMU does not save EFER. Whether a CPU is in long mode is derived: not without CR0.PG and CR4.PAE,
//! which long mode needs; otherwise by the machine in the ELF header, which QEMU sets to x86-64
//! exactly when its *first* CPU is in long mode. The L bit of CS would add nothing: where it is set the
//! CPU is in long mode, where it is clear the CPU may run 32-bit code under a 64-bit kernel. So for
//! CPUs other than the first the answer assumes that all CPUs that have paging on run one kernel.

use crate::arch::x86::{CpuState, DescriptorTable, Registers, Segment, Segments};
use crate::filemap::FileMap;
use crate::hints::Hints;

/// A machine can have no more CPUs than this; QEMU's limit is 4096.
const MAX_CPUS: usize = 1 << 16;

/// How many bytes of notes are looked at in one file. QEMU writes less than 1 KiB for a CPU and
/// VirtualBox some 9 KiB; without a bound, many headers that share one large note would cost their
/// product.
const MAX_BYTES: u64 = 64 << 20;

const NOTE_HEADER: u64 = 12;

/// What the notes say.
#[derive(Default, Debug)]
pub(super) struct Notes {
    pub(super) hints: Hints,
    /// Whether VirtualBox wrote the file.
    pub(super) virtualbox: bool,
    /// VirtualBox's format version, from its descriptor.
    vbox_version: u32,
    /// Oddities, for the user.
    pub(super) oddities: Vec<String>,
    seen: u64,
}

impl Notes {
    /// Reads one segment of notes, `len` bytes at `offset`; `x86_64` is the machine in the ELF header.
    pub(super) fn read(&mut self, map: &FileMap, offset: u64, len: u64, x86_64: bool) {
        let mut at = offset;
        let end = offset.saturating_add(len).min(map.len());
        if end < offset.saturating_add(len) {
            self.odd("the notes reach beyond the end of the file");
        }
        while at.saturating_add(NOTE_HEADER) <= end {
            let Some(header) = map.array::<12>(at) else {
                return;
            };
            let word = |i: usize| u32::from_le_bytes(std::array::from_fn(|k| header[i + k]));
            let (name_len, desc_len, kind) = (u64::from(word(0)), u64::from(word(4)), word(8));
            let name_at = at + NOTE_HEADER;
            let desc_at = name_at + name_len.next_multiple_of(4);
            let next = desc_at + desc_len.next_multiple_of(4);
            // The last note may lack its padding.
            if desc_at + desc_len > end {
                self.odd("a note reaches beyond its segment; the notes behind it were not read");
                return;
            }
            // The length counts the final zero with QEMU, and not with VirtualBox.
            let mut name = [0; 12];
            let name_len = name_len.min(12) as usize;
            if !map.read(name_at, &mut name[..name_len]) {
                return;
            }
            let name = &name[..name_len];
            let name = name.strip_suffix(b"\0").unwrap_or(name);
            match (name, kind) {
                (b"QEMU", 0) => self.qemu_cpu(map, desc_at, desc_len, x86_64),
                (b"VBCORE", 0xb00) => {
                    self.virtualbox = true;
                    self.vbox_version = map.array(desc_at + 4).map_or(0, u32::from_le_bytes);
                }
                (b"VBCPU", 0xb01) => {
                    self.virtualbox = true;
                    self.vbox_cpu(map, desc_at, desc_len);
                }
                (b"VMCOREINFO", 0) => self.vmcoreinfo(map, desc_at, desc_len),
                _ => {}
            }
            self.seen = self.seen.saturating_add(next - at);
            if self.seen > MAX_BYTES || self.hints.cpus.len() > MAX_CPUS {
                self.hints.cpus.truncate(MAX_CPUS);
                self.odd("there are more notes than any machine needs; the rest was not read");
                return;
            }
            at = next;
        }
    }

    fn odd(&mut self, what: &str) {
        if !self.oddities.iter().any(|have| have == what) {
            self.oddities.push(what.to_owned());
        }
    }

    /// Takes the first text that says anything.
    pub(super) fn vmcoreinfo(&mut self, map: &FileMap, at: u64, len: u64) {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let mut text = vec![0; len.min(Hints::MAX_VMCOREINFO)];
        if self.hints.vmcoreinfo.is_none() && !text.is_empty() && map.read(at, &mut text) {
            self.hints.vmcoreinfo = Some(text);
        }
    }

    fn qemu_cpu(&mut self, map: &FileMap, at: u64, len: u64, x86_64: bool) {
        // Version and size; rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8 to r15; rip, rflags; cs, ds, es, fs, gs, ss, ldt, tr,
        // gdt, idt, of 24 bytes each: selector, limit, flags, 4 unused, base; cr0 to cr4. Newer versions append the base
        // that swapgs brings.
        const RAX: u64 = 8;
        const RSP: u64 = RAX + 6 * 8;
        const R8: u64 = RAX + 8 * 8;
        const RIP: u64 = 8 + 16 * 8;
        const SEGMENTS: u64 = RIP + 2 * 8;
        const CR0: u64 = SEGMENTS + 10 * 24;
        const END: u64 = CR0 + 5 * 8;

        let version = map.array(at).map_or(0, u32::from_le_bytes);
        if len < END || version != 1 {
            self.odd("a QEMU note is not QEMUCPUState version 1; its CPU was left out");
            return;
        }
        let long = |field| map.array(at + field).map_or(0, u64::from_le_bytes);
        let int = |field| map.array(at + field).map_or(0, u32::from_le_bytes);
        let segment = |number: u64| Segment {
            selector: int(SEGMENTS + 24 * number) as u16,
            base: long(SEGMENTS + 24 * number + 16),
        };
        let table = |number: u64| DescriptorTable {
            base: long(SEGMENTS + 24 * number + 16),
            limit: int(SEGMENTS + 24 * number + 4),
        };
        let mut cpu = CpuState {
            index: self.hints.cpus.len() as u32,
            cr0: long(CR0),
            cr3: long(CR0 + 24),
            cr4: long(CR0 + 32),
            efer: None,
            long_mode: None,
            rip: long(RIP),
            rsp: long(RSP),
            cr2: Some(long(CR0 + 16)),
            general: Some(Registers {
                rax: long(RAX),
                rbx: long(RAX + 8),
                rcx: long(RAX + 2 * 8),
                rdx: long(RAX + 3 * 8),
                rsi: long(RAX + 4 * 8),
                rdi: long(RAX + 5 * 8),
                rbp: long(RSP + 8),
                r8: long(R8),
                r9: long(R8 + 8),
                r10: long(R8 + 2 * 8),
                r11: long(R8 + 3 * 8),
                r12: long(R8 + 4 * 8),
                r13: long(R8 + 5 * 8),
                r14: long(R8 + 6 * 8),
                r15: long(R8 + 7 * 8),
                rflags: long(RIP + 8),
            }),
            segments: Some(Segments {
                cs: segment(0),
                ds: segment(1),
                es: segment(2),
                fs: segment(3),
                gs: segment(4),
                ss: segment(5),
                ldt: segment(6),
                tr: segment(7),
                gdt: table(8),
                idt: table(9),
            }),
            kernel_gs_base: (len >= END + 8).then(|| long(END)),
        };
        cpu.long_mode = Some(cpu.paging_enabled() && cpu.pae() && x86_64);
        self.hints.cpus.push(cpu);
    }

    fn vbox_cpu(&mut self, map: &FileMap, at: u64, len: u64) {
        // rax, rbx, rcx, rdx, rsi, rdi, r8 to r15, rip, rsp, rbp, rflags; cs, ds, es, fs, gs, ss of 24 bytes: base, limit,
        // attributes, selector; CR0, CR2, CR3, CR4, 8 debug registers, gdtr and idtr of 16 bytes: base, limit;
        // ldtr and tr of 24 bytes, 3 sysenter registers; EFER, STAR, PAT, LSTAR, CSTAR, SFMASK, KERNEL_GS_BASE.
        const R8: u64 = 6 * 8;
        const RIP: u64 = 14 * 8;
        const RSP: u64 = 15 * 8;
        const SEGMENTS: u64 = 18 * 8;
        const CR0: u64 = SEGMENTS + 6 * 24;
        const GDTR: u64 = CR0 + 4 * 8 + 8 * 8;
        const LDTR: u64 = GDTR + 2 * 16;
        const EFER: u64 = LDTR + 2 * 24 + 3 * 8;
        const KERNEL_GS_BASE: u64 = EFER + 6 * 8;

        // Version 0x10000 (VirtualBox 4.0 to 4.2) saved its internal structure instead.
        if self.vbox_version <= 0x1_0000 || len < EFER + 8 {
            self.odd("the CPU notes are of an old VirtualBox version and were not read");
            return;
        }
        let long = |field| map.array(at + field).map_or(0, u64::from_le_bytes);
        let int = |field| map.array(at + field).map_or(0, u32::from_le_bytes);
        let segment = |field: u64| Segment {
            selector: int(field + 16) as u16,
            base: long(field),
        };
        let table = |field: u64| DescriptorTable {
            base: long(field),
            limit: int(field + 8),
        };
        self.hints.cpus.push(CpuState {
            index: self.hints.cpus.len() as u32,
            cr0: long(CR0),
            cr3: long(CR0 + 16),
            cr4: long(CR0 + 24),
            efer: Some(long(EFER)),
            long_mode: None,
            rip: long(RIP),
            rsp: long(RSP),
            cr2: Some(long(CR0 + 8)),
            general: Some(Registers {
                rax: long(0),
                rbx: long(8),
                rcx: long(2 * 8),
                rdx: long(3 * 8),
                rsi: long(4 * 8),
                rdi: long(5 * 8),
                rbp: long(RSP + 8),
                r8: long(R8),
                r9: long(R8 + 8),
                r10: long(R8 + 2 * 8),
                r11: long(R8 + 3 * 8),
                r12: long(R8 + 4 * 8),
                r13: long(R8 + 5 * 8),
                r14: long(R8 + 6 * 8),
                r15: long(R8 + 7 * 8),
                rflags: long(RSP + 2 * 8),
            }),
            segments: Some(Segments {
                cs: segment(SEGMENTS),
                ds: segment(SEGMENTS + 24),
                es: segment(SEGMENTS + 2 * 24),
                fs: segment(SEGMENTS + 3 * 24),
                gs: segment(SEGMENTS + 4 * 24),
                ss: segment(SEGMENTS + 5 * 24),
                ldt: segment(LDTR),
                tr: segment(LDTR + 24),
                gdt: table(GDTR),
                idt: table(GDTR + 16),
            }),
            kernel_gs_base: (len >= KERNEL_GS_BASE + 8).then(|| long(KERNEL_GS_BASE)),
        });
    }
}
