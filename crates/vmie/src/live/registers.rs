//! What `info registers -a` says about the CPUs.

use crate::arch::x86::{CpuState, DescriptorTable, Segment, Segments};

/// The CPUs in QEMU's text; one whose text lacks CR0, CR3 or CR4 is left out.
pub(super) fn parse(text: &str) -> Vec<CpuState> {
    let mut cpus = Vec::new();
    let mut blocks = text.split("CPU#");
    blocks.next();
    for block in blocks {
        cpus.extend(parse_one(block));
    }
    cpus
}

/// One CPU: its number, then `NAME=VALUE` in hexadecimal, lines and blanks between them.
fn parse_one(block: &str) -> Option<CpuState> {
    let (index, rest) = block.split_once('\n')?;
    let index = index.trim().parse().ok()?;
    CpuState::from_names(index, |name| register(rest, name), segments(rest))
}

/// A register by its name. 32-bit guests have EAX and the like, and none with numbers.
fn register(text: &str, name: &str) -> Option<u64> {
    let one = |name: &str| hex(words(text, name)?.next()?);
    if name == "rflags" {
        return one("RFL").or_else(|| one("EFL"));
    }
    let name = name.to_ascii_uppercase();
    let known = one(&name);
    match name.strip_prefix('R') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => known.or(Some(0)),
        Some(rest) => known.or_else(|| one(&format!("E{rest}"))),
        None => known,
    }
}

/// The words behind `NAME=`, where a name may be padded with a blank.
fn words<'t>(text: &'t str, name: &str) -> Option<impl Iterator<Item = &'t str> + use<'t>> {
    let starts = |at: usize| at == 0 || text.as_bytes()[at - 1].is_ascii_whitespace();
    let (at, _) = text.match_indices(name).find(|&(at, _)| {
        let rest = &text[at + name.len()..];
        starts(at) && rest.trim_start_matches(' ').starts_with('=')
    })?;
    let (_, values) = text[at..].split_once('=')?;
    Some(values.split_ascii_whitespace())
}

fn hex(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok()
}

/// `NAME =SELECTOR BASE LIMIT FLAGS ...`, and of tables `NAME= BASE LIMIT`.
fn segments(text: &str) -> Option<Segments> {
    let segment = |name: &str| {
        let mut words = words(text, &name.to_ascii_uppercase())?;
        Some(Segment {
            selector: u16::try_from(hex(words.next()?)?).ok()?,
            base: hex(words.next()?)?,
        })
    };
    let table = |name: &str| {
        let mut words = words(text, &name.to_ascii_uppercase())?;
        Some(DescriptorTable {
            base: hex(words.next()?)?,
            limit: u32::try_from(hex(words.next()?)?).ok()?,
        })
    };
    Segments::from_names(segment, table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Mode;
    use crate::arch::x86::Registers;

    /// As QEMU 7.2 writes it, shortened.
    const TEXT: &str = "\
\r\nCPU#0\r\nRAX=0000000000061ff1 RBX=0000000000006aa1 RCX=0000000000000093 RDX=7bc2c29006d51c14\r
RSI=0000000000006464 RDI=0000000000000000 RBP=0000000000006aa2 RSP=00007fff03c775f0\r
R8 =0000000000000007 R9 =000055556be17c10\r
R10=0000000000000000 R11=0000000000000001 R12=0000000000000012 R13=0000000000000013\r
R14=0000000000000014 R15=0000000000000015\r
RIP=00007f05d7d6726c RFL=00000202 [-------] CPL=3 II=0 A20=1 SMM=0 HLT=0\r
ES =0000 0000000000000000 00000000 00000000\r
CS =0033 0000000000000000 ffffffff 00a0fb00 DPL=3 CS64 [-RA]\r
SS =002b 0000000000000000 ffffffff 00c0f300 DPL=3 DS   [-WA]\r
DS =0000 0000000000000000 00000000 00000000\r
FS =0000 00007f05d7c61740 00000000 00000000\r
GS =0000 0000000000000000 00000000 00000000\r
LDT=0000 0000000000000000 00000000 00008200 DPL=0 LDT\r
TR =0040 fffffe0000003000 00004087 00008900 DPL=0 TSS64-avl\r
GDT=     fffffe0000001000 0000007f\r
IDT=     fffffe0000000000 00000fff\r
CR0=80050033 CR2=00000000004c8000 CR3=0000000001a76000 CR4=00751ef0\r
EFER=0000000000000d01\r\n\r
CPU#1\r\nEAX=0001fd70 EBX=0001f408 ECX=0001f3f8 EDX=0001e13c\r
ESI=0001f408 EDI=0001e2a8 EBP=04895918 ESP=000a1f24\r
EIP=0001042d EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\r
CR0=00000011 CR2=00000000 CR3=00000000 CR4=00000000\r
EFER=0000000000000000\r\n\r
CPU#2\r\nCR0=garbage CR3=0 CR4=0 EIP=0 ESP=0\r\n";

    fn segment(selector: u16, base: u64) -> Segment {
        Segment { selector, base }
    }

    fn table(base: u64, limit: u32) -> DescriptorTable {
        DescriptorTable { base, limit }
    }

    #[test]
    fn registers_of_each_cpu_are_read() {
        let cpus = parse(TEXT);
        assert_eq!(cpus.len(), 2, "what cannot be read is left out");
        let first = CpuState {
            index: 0,
            cr0: 0x8005_0033,
            cr3: 0x1a7_6000,
            cr4: 0x75_1ef0,
            efer: Some(0xd01),
            long_mode: None,
            rip: 0x7f05_d7d6_726c,
            rsp: 0x7fff_03c7_75f0,
            cr2: Some(0x4c_8000),
            general: Some(Registers {
                rax: 0x6_1ff1,
                rbx: 0x6aa1,
                rcx: 0x93,
                rdx: 0x7bc2_c290_06d5_1c14,
                rsi: 0x6464,
                rdi: 0,
                rbp: 0x6aa2,
                r8: 7,
                r9: 0x5555_6be1_7c10,
                r10: 0,
                r11: 1,
                r12: 0x12,
                r13: 0x13,
                r14: 0x14,
                r15: 0x15,
                rflags: 0x202,
            }),
            segments: Some(Segments {
                cs: segment(0x33, 0),
                ss: segment(0x2b, 0),
                fs: segment(0, 0x7f05_d7c6_1740),
                tr: segment(0x40, 0xffff_fe00_0000_3000),
                gdt: table(0xffff_fe00_0000_1000, 0x7f),
                idt: table(0xffff_fe00_0000_0000, 0xfff),
                ..Segments::default()
            }),
            kernel_gs_base: None,
        };
        assert_eq!(cpus[0], first);
        let second = cpus[1].general.expect("of 32 bits");
        assert_eq!(
            (second.rax, second.rbp, second.r8),
            (0x1_fd70, 0x489_5918, 0)
        );
        assert_eq!(cpus[1].segments, None, "not all are there");
        assert_eq!(Mode::from_cpu(&cpus[0]), Some(Mode::FiveLevel));
        assert_eq!((cpus[1].rip, cpus[1].rsp), (0x1042d, 0xa1f24));
        assert_eq!(Mode::from_cpu(&cpus[1]), None);
    }

    #[test]
    fn all_of_it_is_known_but_what_swapgs_brings() {
        let cpu = CpuState::sample();
        let (g, s) = (cpu.general.expect("known"), cpu.segments.expect("known"));
        let segment = |name: &str, of: Segment| {
            format!(
                "{name:3}={:04x} {:016x} ffffffff 00a09b00\r\n",
                of.selector, of.base
            )
        };
        let table = |name: &str, of: DescriptorTable| {
            format!("{name}=     {:016x} {:08x}\r\n", of.base, of.limit)
        };
        let mut text = "\r\nCPU#0\r\n".to_owned();
        for (name, value) in [
            ("RAX", g.rax),
            ("RBX", g.rbx),
            ("RCX", g.rcx),
            ("RDX", g.rdx),
            ("RSI", g.rsi),
            ("RDI", g.rdi),
            ("RBP", g.rbp),
            ("RSP", cpu.rsp),
            ("R8 ", g.r8),
            ("R9 ", g.r9),
            ("R10", g.r10),
            ("R11", g.r11),
            ("R12", g.r12),
            ("R13", g.r13),
            ("R14", g.r14),
            ("R15", g.r15),
            ("RIP", cpu.rip),
            ("RFL", g.rflags),
        ] {
            text += &format!("{name}={value:016x}\r\n");
        }
        text += "[---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\r\n";
        for (name, of) in [
            ("ES", s.es),
            ("CS", s.cs),
            ("SS", s.ss),
            ("DS", s.ds),
            ("FS", s.fs),
            ("GS", s.gs),
            ("LDT", s.ldt),
            ("TR", s.tr),
        ] {
            text += &segment(name, of);
        }
        text += &(table("GDT", s.gdt) + &table("IDT", s.idt));
        let (cr2, efer) = (cpu.cr2.expect("known"), cpu.efer.expect("known"));
        text += &format!(
            "CR0={:08x} CR2={cr2:016x} CR3={:016x} CR4={:08x}\r\n",
            cpu.cr0, cpu.cr3, cpu.cr4
        );
        text += &format!("EFER={efer:016x}\r\n");
        let known = CpuState {
            kernel_gs_base: None,
            ..cpu
        };
        assert_eq!(parse(&text), [known]);
    }

    #[test]
    fn garbage_has_no_cpus() {
        for text in [
            "",
            "CPU#",
            "CPU#x\n",
            "CPU#0\n",
            "CPU#0\nCR0=1",
            "no such thing",
        ] {
            assert_eq!(parse(text), []);
        }
    }
}
