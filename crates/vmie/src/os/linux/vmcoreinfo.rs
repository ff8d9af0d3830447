//! The VMCOREINFO note: what a kernel tells crash dumps about itself.
//!
//! The kernel keeps it ready as an ELF note in memory of its own, on a page of its own, so that it is
//! found by looking at the start of every page. Layout of the note (Documentation/admin-guide/kdump/
//! vmcoreinfo.rst in the kernel's sources, and the ELF specification for the header):
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 4 | length of the name with its NUL: 11 |
//! | 4 | 4 | length of the text |
//! | 8 | 4 | type: 0 |
//! | 12 | 12 | the name, `VMCOREINFO`, padded to a multiple of 4 |
//! | 24 | | the text: `KEY=VALUE` lines, the first `OSRELEASE=` |
//!
//! A note says nothing about whose it is: memory can hold those of a nested guest, or of a kernel that
//! ran before a warm reboot. What it says is a claim that the search has to verify.

use crate::addr::{Address, Gpa, Gva};
use crate::hints::Hints;
use crate::memory::Memory;

/// Bytes at the start of a page that tell whether a note is there.
pub(super) const PROBE: usize = 34;

/// How many symbols are taken from a note. Kernels have two dozen.
const MAX_SYMBOLS: usize = 256;

/// A parsed note.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct VmCoreInfo {
    text: String,
}

/// Whether a page that starts with `head` looks like a note.
#[inline]
pub(super) fn is_note(head: &[u8]) -> bool {
    // The first four bytes differ nearly always: keep that test apart and cheap.
    head.len() >= PROBE
        && head[..4] == [11, 0, 0, 0]
        && head[8..24] == *b"\0\0\0\0VMCOREINFO\0\0"
        && head[24..34] == *b"OSRELEASE="
}

impl VmCoreInfo {
    /// Reads the note at `gpa`. `None` when there is none after all, or it cannot be read.
    pub(super) fn read(phys: &dyn Memory<Addr = Gpa>, gpa: Gpa) -> Option<Self> {
        let mut head = [0; PROBE];
        phys.read(gpa, &mut head).ok()?;
        if !is_note(&head) {
            return None;
        }
        let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let len = usize::try_from(len).ok()?.min(Hints::MAX_VMCOREINFO);
        let mut text = vec![0; len];
        phys.read(gpa.checked_add(24)?, &mut text).ok()?;
        Self::of_text(&text)
    }

    /// The note with this text, which ends before a NUL; `None` when it does not begin like one.
    pub(super) fn of_text(text: &[u8]) -> Option<Self> {
        let len = text.iter().position(|&b| b == 0).unwrap_or(text.len());
        let text = &text[..len.min(Hints::MAX_VMCOREINFO)];
        text.starts_with(b"OSRELEASE=").then(|| Self {
            text: String::from_utf8_lossy(text).into_owned(),
        })
    }

    /// The value of the first line `KEY=VALUE` with this key.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }

    /// The kernel's release, as `uname -r` prints it.
    pub(super) fn release(&self) -> &str {
        self.value("OSRELEASE").unwrap_or_default()
    }

    /// `SYMBOL(name)`: where a symbol is, address-space randomisation included.
    pub(super) fn symbol(&self, name: &str) -> Option<Gva> {
        let value = self.value(&format!("SYMBOL({name})"))?;
        u64::from_str_radix(value, 16).ok().map(Gva)
    }

    /// All of them, at most [`MAX_SYMBOLS`].
    pub(super) fn symbols(&self) -> impl Iterator<Item = (&str, Gva)> {
        let symbols = self.text.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("SYMBOL(")?.split_once(")=")?;
            let va = u64::from_str_radix(value, 16).ok()?;
            Some((name, Gva(va)))
        });
        symbols.take(MAX_SYMBOLS)
    }

    /// `NUMBER(name)`, which is decimal and may be negative, or hexadecimal with `0x`.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        let value = self.value(&format!("NUMBER({name})"))?;
        match value.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok().map(u64::cast_signed),
            // Some kernels print an unsigned number where others print a signed one.
            None => value
                .parse()
                .ok()
                .or_else(|| value.parse().ok().map(u64::cast_signed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(text: &str) -> VmCoreInfo {
        VmCoreInfo {
            text: text.to_owned(),
        }
    }

    #[test]
    fn values() {
        let n = note(
            "OSRELEASE=6.1.0\nSYMBOL(swapper_pg_dir)=ffffffff97e10000\nNUMBER(phys_base)=-293601280\n\
             NUMBER(VMALLOC_START)=0xffffcf9c00000000\nSYMBOL(bad)=xyz\nNUMBER(sme_mask)=140737488355328\n",
        );
        assert_eq!(n.release(), "6.1.0");
        assert_eq!(n.symbol("swapper_pg_dir"), Some(Gva(0xffff_ffff_97e1_0000)));
        assert_eq!(n.symbol("swapper"), None);
        assert_eq!(n.symbol("bad"), None);
        assert_eq!(n.number("phys_base"), Some(-293_601_280));
        assert_eq!(
            n.number("VMALLOC_START").map(i64::cast_unsigned),
            Some(0xffff_cf9c_0000_0000)
        );
        assert_eq!(n.number("sme_mask"), Some(1 << 47));
    }

    #[test]
    fn heads() {
        let mut head = [0; PROBE];
        head[..4].copy_from_slice(&11_u32.to_le_bytes());
        head[12..24].copy_from_slice(b"VMCOREINFO\0\0");
        head[24..].copy_from_slice(b"OSRELEASE=");
        assert!(is_note(&head));
        for i in (0..4).chain(8..PROBE) {
            let mut broken = head;
            broken[i] ^= 0x55;
            assert!(!is_note(&broken), "byte {i}");
        }
        assert!(!is_note(&head[..33]));
    }
}
