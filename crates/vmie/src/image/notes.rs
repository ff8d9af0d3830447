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

use crate::arch::x86::{CpuState, DescriptorTable, Segment, Segments};
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
        // Version and size; registers; segments and tables of 24 bytes each: selector, limit, flags, 4 unused, base; control
        // registers. Newer versions append the base that swapgs brings.
        const REGISTERS: [&str; 18] = [
            "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11",
            "r12", "r13", "r14", "r15", "rip", "rflags",
        ];
        const SEGMENTS: [&str; 10] = [
            "cs", "ds", "es", "fs", "gs", "ss", "ldt", "tr", "gdt", "idt",
        ];
        const CONTROL: [&str; 5] = ["cr0", "cr1", "cr2", "cr3", "cr4"];
        const SEGMENTS_AT: u64 = 8 + 18 * 8;
        const CR0: u64 = SEGMENTS_AT + 10 * 24;
        const END: u64 = CR0 + 5 * 8;

        let version = map.array(at).map_or(0, u32::from_le_bytes);
        if len < END || version != 1 {
            self.odd("a QEMU note is not QEMUCPUState version 1; its CPU was left out");
            return;
        }
        let long = |field| map.array(at + field).map_or(0, u64::from_le_bytes);
        let int = |field| map.array(at + field).map_or(0, u32::from_le_bytes);
        let register = |name: &str| match place(&REGISTERS, name) {
            Some(number) => Some(long(8 + number * 8)),
            None if name == "kernel_gs_base" => (len >= END + 8).then(|| long(END)),
            None => Some(long(CR0 + place(&CONTROL, name)? * 8)),
        };
        let segment = |name: &str| {
            let field = SEGMENTS_AT + place(&SEGMENTS, name)? * 24;
            Some(Segment {
                selector: int(field) as u16,
                base: long(field + 16),
            })
        };
        let table = |name: &str| {
            let field = SEGMENTS_AT + place(&SEGMENTS, name)? * 24;
            Some(DescriptorTable {
                base: long(field + 16),
                limit: int(field + 4),
            })
        };
        let index = self.hints.cpus.len() as u32;
        let segments = Segments::from_names(segment, table);
        let Some(mut cpu) = CpuState::from_names(index, register, segments) else {
            return;
        };
        cpu.long_mode = Some(cpu.paging_enabled() && cpu.pae() && x86_64);
        self.hints.cpus.push(cpu);
    }

    fn vbox_cpu(&mut self, map: &FileMap, at: u64, len: u64) {
        // Registers; segments of 24 bytes: base, limit, attributes, selector; control registers, 8 debug registers, tables of 16
        // bytes: base, limit; system segments of 24 bytes, 3 sysenter registers; EFER, STAR, PAT, LSTAR, CSTAR, SFMASK,
        // KERNEL_GS_BASE.
        const REGISTERS: [&str; 18] = [
            "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
            "r14", "r15", "rip", "rsp", "rbp", "rflags",
        ];
        const SEGMENTS: [&str; 6] = ["cs", "ds", "es", "fs", "gs", "ss"];
        const CONTROL: [&str; 4] = ["cr0", "cr2", "cr3", "cr4"];
        const TABLES: [&str; 2] = ["gdt", "idt"];
        const SYSTEM: [&str; 2] = ["ldt", "tr"];
        const SEGMENTS_AT: u64 = 18 * 8;
        const CR0: u64 = SEGMENTS_AT + 6 * 24;
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
        let register = |name: &str| match (place(&REGISTERS, name), name) {
            (Some(number), _) => Some(long(number * 8)),
            (None, "efer") => Some(long(EFER)),
            (None, "kernel_gs_base") => (len >= KERNEL_GS_BASE + 8).then(|| long(KERNEL_GS_BASE)),
            (None, name) => Some(long(CR0 + place(&CONTROL, name)? * 8)),
        };
        let segment = |name: &str| {
            let field = match place(&SEGMENTS, name) {
                Some(number) => SEGMENTS_AT + number * 24,
                None => LDTR + place(&SYSTEM, name)? * 24,
            };
            Some(Segment {
                selector: int(field + 16) as u16,
                base: long(field),
            })
        };
        let table = |name: &str| {
            let field = GDTR + place(&TABLES, name)? * 16;
            Some(DescriptorTable {
                base: long(field),
                limit: int(field + 8),
            })
        };
        let index = self.hints.cpus.len() as u32;
        let segments = Segments::from_names(segment, table);
        let cpu = CpuState::from_names(index, register, segments);
        self.hints.cpus.extend(cpu);
    }
}

/// Which of some names one is.
fn place(names: &[&str], name: &str) -> Option<u64> {
    let place = names.iter().position(|known| *known == name)?;
    Some(place as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One note, with the name padded.
    fn note(name: &[u8; 8], name_len: u32, kind: u32, contents: &[u8]) -> Vec<u8> {
        let header = [name_len, contents.len() as u32, kind];
        let header = header.iter().flat_map(|word| word.to_le_bytes());
        let name = &name[..name_len.next_multiple_of(4) as usize];
        header.chain(name.iter().chain(contents).copied()).collect()
    }

    fn words(words: impl IntoIterator<Item = u64>) -> Vec<u8> {
        words.into_iter().flat_map(u64::to_le_bytes).collect()
    }

    /// Every register in its place, by what QEMU and VirtualBox declare; each is known but what the format lacks.
    #[test]
    fn all_that_a_format_has_is_known() {
        let cpu = CpuState::sample();
        let (g, s) = (cpu.general.expect("known"), cpu.segments.expect("known"));
        let (cr2, efer) = (cpu.cr2.expect("known"), cpu.efer.expect("known"));
        let swapped = cpu.kernel_gs_base.expect("known");
        let read = |bytes: Vec<u8>| {
            let len = bytes.len() as u64;
            let mut notes = Notes::default();
            notes.read(&FileMap::from_bytes(bytes), 0, len, true);
            assert_eq!(notes.oddities, [""; 0]);
            notes.hints.cpus
        };

        let mut qemu = words([
            1 | 440 << 32,
            g.rax,
            g.rbx,
            g.rcx,
            g.rdx,
            g.rsi,
            g.rdi,
            cpu.rsp,
            g.rbp,
            g.r8,
            g.r9,
            g.r10,
            g.r11,
            g.r12,
            g.r13,
            g.r14,
            g.r15,
            cpu.rip,
            g.rflags,
        ]);
        for segment in [s.cs, s.ds, s.es, s.fs, s.gs, s.ss, s.ldt, s.tr] {
            qemu.extend(words([
                u64::from(segment.selector) | !0 << 32,
                0x9b00,
                segment.base,
            ]));
        }
        for table in [s.gdt, s.idt] {
            qemu.extend(words([u64::from(table.limit) << 32, 0, table.base]));
        }
        qemu.extend(words([cpu.cr0, 0, cr2, cpu.cr3, cpu.cr4, swapped]));
        let known = CpuState {
            efer: None,
            long_mode: Some(true),
            ..cpu
        };
        assert_eq!(read(note(b"QEMU\0\0\0\0", 5, 0, &qemu)), [known]);

        let mut vbox = words([
            g.rax, g.rbx, g.rcx, g.rdx, g.rsi, g.rdi, g.r8, g.r9, g.r10, g.r11, g.r12, g.r13,
            g.r14, g.r15, cpu.rip, cpu.rsp, g.rbp, g.rflags,
        ]);
        let segment = |segment: Segment| {
            words([
                segment.base,
                0xffff_ffff | 0xa09b << 32,
                segment.selector.into(),
            ])
        };
        vbox.extend(
            [s.cs, s.ds, s.es, s.fs, s.gs, s.ss]
                .into_iter()
                .flat_map(segment),
        );
        vbox.extend(words([cpu.cr0, cr2, cpu.cr3, cpu.cr4]));
        vbox.extend(words([0xd; 8]));
        for table in [s.gdt, s.idt] {
            vbox.extend(words([table.base, table.limit.into()]));
        }
        vbox.extend([s.ldt, s.tr].into_iter().flat_map(segment));
        vbox.extend(words([0x5e; 3]));
        vbox.extend(words([efer, 1, 2, 3, 4, 5, swapped]));
        let mut bytes = note(
            b"VBCORE\0\0",
            6,
            0xb00,
            &words([0x0001_0006_c01a_c0de, 24, 1 << 32]),
        );
        bytes.extend(note(b"VBCPU\0\0\0", 5, 0xb01, &vbox));
        assert_eq!(read(bytes), [cpu]);
    }
}
