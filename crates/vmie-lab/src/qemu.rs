//! What QEMU's monitor says about a stopped guest, parsed from its text.
//!
//! The forms are those of QEMU 7.2 and later, `target/i386/monitor.c` and `cpu-dump.c`.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::hex;

/// One leaf entry of the page tables: a line of `info tlb`. The flags are those of the *leaf* alone;
/// levels above may restrict further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TlbEntry {
    /// Virtual address of the page.
    pub va: u64,
    /// Physical address of the page.
    pub gpa: u64,
    /// No-execute is set.
    pub nx: bool,
    /// User mode may use it.
    pub user: bool,
    /// It may be written.
    pub write: bool,
    /// It is larger than 4 KiB; how large, the line does not say.
    pub large: bool,
}

/// A line of `info mem`: a range with the same *effective* user and write protection. QEMU leaves
/// no-execute out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemRange {
    /// Virtual addresses; the end of the last one may be 0, for 2^64.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// User mode may use it.
    pub user: bool,
    /// It may be written.
    pub write: bool,
}

/// What `gva2gpa` answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// The virtual address.
    pub va: u64,
    /// The physical address, or `None` where nothing is mapped.
    pub gpa: Option<u64>,
}

/// Registers of one CPU.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Registers {
    /// Its number.
    pub cpu: u32,
    /// Privilege level; 3 is user mode.
    pub cpl: u8,
    /// Control registers.
    #[serde(with = "hex")]
    pub cr0: u64,
    /// CR3 as it stands, PCID and flag bits included.
    #[serde(with = "hex")]
    pub cr3: u64,
    /// CR4.
    #[serde(with = "hex")]
    pub cr4: u64,
    /// EFER.
    #[serde(with = "hex")]
    pub efer: u64,
    /// Instruction pointer.
    #[serde(with = "hex")]
    pub rip: u64,
    /// Stack pointer.
    #[serde(with = "hex")]
    pub rsp: u64,
    /// R14 and R15: what the guest programs show to be recognised by. In 32-bit code, where QEMU does not show
    /// these two, ESI and EDI together stand for R14.
    #[serde(with = "hex")]
    pub r14: u64,
    /// R15; in 32-bit code EDX.
    #[serde(with = "hex")]
    pub r15: u64,
}

/// Bits of CR3 that are the address of the top table (Intel SDM vol. 3A, 4.5.2).
const CR3_TABLE: u64 = 0x000f_ffff_ffff_f000;

impl Registers {
    /// The root that CR3 points at.
    pub fn root(&self) -> u64 {
        self.cr3 & CR3_TABLE
    }

    /// Reads the answer of `info registers`.
    ///
    /// # Errors
    ///
    /// The register that is missing.
    pub fn parse(cpu: u32, text: &str) -> Result<Self, String> {
        // `R8 =0000...`: the names are padded to three characters.
        let text = text.replace(" =", "=");
        let registers: BTreeMap<&str, &str> = text
            .split_whitespace()
            .filter_map(|word| word.split_once('='))
            .collect();
        let get = |name: &str| {
            registers
                .get(name)
                .and_then(|value| u64::from_str_radix(value, 16).ok())
                .ok_or_else(|| format!("no {name} in the answer of `info registers`"))
        };
        let wide = registers.contains_key("RIP");
        let pick = |long: &str, short: &str| get(if wide { long } else { short });
        Ok(Self {
            cpu,
            cpl: u8::try_from(get("CPL")?).map_err(|_| "CPL is not a level".to_owned())?,
            cr0: get("CR0")?,
            cr3: get("CR3")?,
            cr4: get("CR4")?,
            efer: get("EFER")?,
            rip: pick("RIP", "EIP")?,
            rsp: pick("RSP", "ESP")?,
            r14: if wide {
                get("R14")?
            } else {
                get("ESI")? << 32 | get("EDI")?
            },
            r15: pick("R15", "EDX")?,
        })
    }
}

/// Reads the answer of `info tlb`: `VA: GPA XGPDACTUW`, a letter or `-` for each flag.
///
/// # Errors
///
/// The first line that is not understood, or that there is none.
pub fn parse_tlb(text: &str) -> Result<Vec<TlbEntry>, String> {
    parse_lines(text, |line| {
        let (va, rest) = line.split_once(": ")?;
        let (gpa, flags) = rest.split_once(' ')?;
        let flags = flags.as_bytes();
        if flags.len() != 9 {
            return None;
        }
        Some(TlbEntry {
            va: u64::from_str_radix(va, 16).ok()?,
            gpa: u64::from_str_radix(gpa, 16).ok()?,
            nx: flags[0] == b'X',
            large: flags[2] == b'P',
            user: flags[7] == b'U',
            write: flags[8] == b'W',
        })
    })
}

/// Reads the answer of `info mem`: `START-END LEN urw`.
///
/// # Errors
///
/// The first line that is not understood, or that there is none.
pub fn parse_mem(text: &str) -> Result<Vec<MemRange>, String> {
    parse_lines(text, |line| {
        let mut words = line.split(' ');
        let (start, _end) = words.next()?.split_once('-')?;
        let len = words.next()?;
        let flags = words.next()?.as_bytes();
        if flags.len() != 3 {
            return None;
        }
        Some(MemRange {
            start: u64::from_str_radix(start, 16).ok()?,
            len: u64::from_str_radix(len, 16).ok()?,
            user: flags[0] == b'u',
            write: flags[2] == b'w',
        })
    })
}

/// Reads a list of `VA GPA` or `VA -`, as the lab writes it from the answers of `gva2gpa`.
///
/// # Errors
///
/// The first line that is not understood, or that there is none.
pub fn parse_translations(text: &str) -> Result<Vec<Translation>, String> {
    parse_lines(text, |line| {
        let (va, gpa) = line.split_once(' ')?;
        Some(Translation {
            va: u64::from_str_radix(va, 16).ok()?,
            gpa: match gpa {
                "-" => None,
                gpa => Some(u64::from_str_radix(gpa, 16).ok()?),
            },
        })
    })
}

/// Reads the flat view of the `memory` address space in the answer of `info mtree -f`, and finds
/// where the RAM block called `name` is visible: physical range and offset in the block.
///
/// # Errors
///
/// When the block is nowhere visible.
pub fn parse_mtree(text: &str, name: &str) -> Result<Vec<(Range<u64>, u64)>, String> {
    // FlatView #0
    //  AS "memory", root: system
    //   0000000000000000-000000000009ffff (prio 0, ram): vmie-ram KVM
    //   00000000000c0000-00000000000c3fff (prio 0, rom): vmie-ram @00000000000c0000
    let mut views = text.split("FlatView #");
    let view = views
        .find(|view| view.contains(" AS \"memory\""))
        .ok_or("`info mtree -f` shows no address space \"memory\"")?;
    let mut parts: Vec<(Range<u64>, u64)> = Vec::new();
    for line in view.lines() {
        let Some((range, rest)) = line.trim().split_once(" (prio ") else {
            continue;
        };
        let Some((_, what)) = rest.split_once("): ") else {
            continue;
        };
        let mut words = what.split(' ');
        if words.next() != Some(name) {
            continue;
        }
        let hex = |text| u64::from_str_radix(text, 16).map_err(|_| format!("line {line:?}"));
        let (first, last) = range.split_once('-').ok_or(format!("line {line:?}"))?;
        let range = hex(first)?..hex(last)?.saturating_add(1);
        let offset = words
            .find_map(|word| word.strip_prefix('@'))
            .map_or(Ok(0), hex)?;
        match parts.last_mut() {
            Some((before, at))
                if before.end == range.start && *at + (before.end - before.start) == offset =>
            {
                before.end = range.end;
            }
            _ => parts.push((range, offset)),
        }
    }
    if parts.is_empty() {
        return Err(format!(
            "RAM block {name:?} is not in the physical address space"
        ));
    }
    Ok(parts)
}

fn parse_lines<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    let rows = text
        .lines()
        .map(|line| parse(line.trim_end()).ok_or_else(|| format!("line {line:?}")))
        .collect::<Result<Vec<_>, _>>()?;
    if rows.is_empty() {
        return Err("empty".to_owned());
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monitor_texts() {
        let tlb = parse_tlb(
            "0000000000400000: 0000000009230000 X--DA--U-\r\nffff888000200000: \
             0000000000200000 XGPDA---W\r\n",
        )
        .expect("valid");
        assert_eq!(
            tlb[0],
            TlbEntry {
                va: 0x40_0000,
                gpa: 0x923_0000,
                nx: true,
                user: true,
                write: false,
                large: false
            }
        );
        assert!(tlb[1].large && tlb[1].write && !tlb[1].user);
        let mem = parse_mem("ffffffffff5fd000-ffffffffff600000 0000000000003000 -rw\n");
        assert_eq!(
            mem,
            Ok(vec![MemRange {
                start: 0xffff_ffff_ff5f_d000,
                len: 0x3000,
                user: false,
                write: true
            }])
        );
        assert!(parse_tlb("").is_err() && parse_tlb("PG disabled\n").is_err());
    }

    #[test]
    fn registers() {
        let text = "\nCPU#0\nRAX=0000000000000000 R8 =00000000000000f0 R14=0000000000000001 \
                    R15=0000000000000062\nRIP=0000000000401a30 RFL=00000246 [---Z-P-] CPL=3 \
                    II=0 A20=1\nRSP=00007ffc0\nCR0=80050033 CR2=0 CR3=0000000002d0a003 \
                    CR4=000006f0\nEFER=0000000000000d01\n";
        let registers = Registers::parse(0, text).expect("valid");
        assert_eq!((registers.cpl, registers.root()), (3, 0x2d0_a000));
        let text = "\nCPU#0\nEAX=00000000 EBX=f7f13fe8 ECX=0000fffe EDX=00000071\nESI=564d4945 \
                    EDI=4c414221 EBP=ffb8f8f8 ESP=ffb8f8c4\nEIP=08049351 EFL=00000202 [-------] CPL=3 \
                    II=0 A20=1\nCR0=80050033 CR2=0 CR3=0000000002d0a000 CR4=000006f0\n\
                    EFER=0000000000000d01\n";
        let registers = Registers::parse(0, text).expect("valid");
        assert_eq!(
            (registers.r14, registers.r15),
            (0x564d_4945_4c41_4221, 0x71)
        );
        assert_eq!(registers.rip, 0x804_9351);
        assert!(Registers::parse(0, "CPL=3").is_err());
    }

    #[test]
    fn memory_tree() {
        let text = "FlatView #0\n AS \"I/O\", root: io\n  0000-ffff (prio 0, i/o): io\n\
                    FlatView #1\n AS \"memory\", root: system\n AS \"cpu-memory-0\", root: system\n \
                    Root memory region: system\n  0000000000000000-000000000009ffff (prio 0, ram): ram\n  \
                    00000000000a0000-00000000000bffff (prio 1, i/o): vga\n  \
                    00000000000c0000-00000000000cffff (prio 0, rom): ram @00000000000c0000\n  \
                    00000000000d0000-000000001fffffff (prio 0, ram): ram @00000000000d0000\n";
        assert_eq!(
            parse_mtree(text, "ram"),
            Ok(vec![(0..0xa_0000, 0), (0xc_0000..0x2000_0000, 0xc_0000)])
        );
    }
}
