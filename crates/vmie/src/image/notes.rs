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

use crate::cpu::CpuState;
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
        // Version and size, 16 registers of which rsp is the seventh, rip, rflags, 10 segments of
        // 24 bytes, 5 control registers. Newer versions append to it.
        const RSP: u64 = 8 + 6 * 8;
        const RIP: u64 = 8 + 16 * 8;
        const CR0: u64 = RIP + 2 * 8 + 10 * 24;
        const END: u64 = CR0 + 5 * 8;

        let version = map.array(at).map_or(0, u32::from_le_bytes);
        if len < END || version != 1 {
            self.odd("a QEMU note is not QEMUCPUState version 1; its CPU was left out");
            return;
        }
        let long = |field| map.array(at + field).map_or(0, u64::from_le_bytes);
        let mut cpu = CpuState {
            index: self.hints.cpus.len() as u32,
            cr0: long(CR0),
            cr3: long(CR0 + 24),
            cr4: long(CR0 + 32),
            efer: None,
            long_mode: None,
            rip: long(RIP),
            rsp: long(RSP),
        };
        cpu.long_mode = Some(cpu.paging_enabled() && cpu.pae() && x86_64);
        self.hints.cpus.push(cpu);
    }

    fn vbox_cpu(&mut self, map: &FileMap, at: u64, len: u64) {
        // 18 registers, 6 segments of 24 bytes, CR0, CR2, CR3, CR4, 8 debug registers, gdtr and idtr of
        // 16 bytes, ldtr and tr of 24 bytes, 3 sysenter registers, EFER.
        const RIP: u64 = 14 * 8;
        const RSP: u64 = 15 * 8;
        const CR0: u64 = 18 * 8 + 6 * 24;
        const EFER: u64 = CR0 + 4 * 8 + 8 * 8 + 2 * 16 + 2 * 24 + 3 * 8;

        // Version 0x10000 (VirtualBox 4.0 to 4.2) saved its internal structure instead.
        if self.vbox_version <= 0x1_0000 || len < EFER + 8 {
            self.odd("the CPU notes are of an old VirtualBox version and were not read");
            return;
        }
        let long = |field| map.array(at + field).map_or(0, u64::from_le_bytes);
        self.hints.cpus.push(CpuState {
            index: self.hints.cpus.len() as u32,
            cr0: long(CR0),
            cr3: long(CR0 + 16),
            cr4: long(CR0 + 24),
            efer: Some(long(EFER)),
            long_mode: None,
            rip: long(RIP),
            rsp: long(RSP),
        });
    }
}
