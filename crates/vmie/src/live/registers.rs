//! What `info registers -a` says about the CPUs.

use crate::cpu::CpuState;

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

/// One CPU: its number, then `NAME=VALUE` in hexadecimal, lines and blanks between them. 32-bit guests
/// have EIP and ESP.
fn parse_one(block: &str) -> Option<CpuState> {
    let (index, rest) = block.split_once('\n')?;
    let value = |name: &str| {
        let mut words = rest.split_ascii_whitespace();
        let digits = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
        u64::from_str_radix(digits, 16).ok()
    };
    Some(CpuState {
        index: index.trim().parse().ok()?,
        cr0: value("CR0")?,
        cr3: value("CR3")?,
        cr4: value("CR4")?,
        efer: value("EFER"),
        long_mode: None,
        rip: value("RIP").or_else(|| value("EIP"))?,
        rsp: value("RSP").or_else(|| value("ESP"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paging::Mode;

    /// As QEMU 7.2 writes it, shortened.
    const TEXT: &str = "\
\r\nCPU#0\r\nRAX=0000000000061ff1 RBX=0000000000006aa1 RCX=0000000000000093 RDX=7bc2c29006d51c14\r
RSI=0000000000006464 RDI=0000000000000000 RBP=0000000000006aa2 RSP=00007fff03c775f0\r
R8 =0000000000000007 R9 =000055556be17c10\r
RIP=00007f05d7d6726c RFL=00000202 [-------] CPL=3 II=0 A20=1 SMM=0 HLT=0\r
CR0=80050033 CR2=00000000004c8000 CR3=0000000001a76000 CR4=00751ef0\r
EFER=0000000000000d01\r\n\r
CPU#1\r\nEAX=0001fd70 EBX=0001f408 ECX=0001f3f8 EDX=0001e13c\r
ESI=0001f408 EDI=0001e2a8 EBP=04895918 ESP=000a1f24\r
EIP=0001042d EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\r
CR0=00000011 CR2=00000000 CR3=00000000 CR4=00000000\r
EFER=0000000000000000\r\n\r
CPU#2\r\nCR0=garbage CR3=0 CR4=0 EIP=0 ESP=0\r\n";

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
        };
        assert_eq!(cpus[0], first);
        assert_eq!(Mode::from_cpu(&cpus[0]), Some(Mode::FiveLevel));
        assert_eq!((cpus[1].rip, cpus[1].rsp), (0x1042d, 0xa1f24));
        assert_eq!(Mode::from_cpu(&cpus[1]), None);
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
