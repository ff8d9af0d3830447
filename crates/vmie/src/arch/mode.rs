//! Paging modes by their names, and what a mode says of a space without a look at its tables.

use std::fmt;
use std::str::FromStr;

use super::Architecture;
use super::spec::Spec;
use super::x86::{CpuState, paging};
use crate::addr::{AddrRange, Address};
use crate::width::ProgramWidth;

/// A paging mode: how a CPU finds physical addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// Two levels of 32-bit entries, 4 KiB and 4 MiB pages (PSE-36 included).
    X86,
    /// Physical address extension: 32-bit addresses, 64-bit entries, 4 KiB and 2 MiB pages.
    Pae,
    /// Long mode, 48-bit addresses; 4 KiB, 2 MiB and 1 GiB pages.
    FourLevel,
    /// Long mode, 57-bit addresses; 4 KiB, 2 MiB and 1 GiB pages.
    FiveLevel,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::X86, Self::Pae, Self::FourLevel, Self::FiveLevel];

    /// The mode's format.
    pub fn spec(self) -> &'static Spec {
        match self {
            Self::X86 => &paging::X86,
            Self::Pae => &paging::PAE,
            Self::FourLevel => &paging::FOUR_LEVEL,
            Self::FiveLevel => &paging::FIVE_LEVEL,
        }
    }

    /// The name the command line uses: `x86`, `pae`, `4level`, `5level`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86",
            Self::Pae => "pae",
            Self::FourLevel => "4level",
            Self::FiveLevel => "5level",
        }
    }

    /// The architecture that has it.
    pub const fn architecture(self) -> Architecture {
        match self {
            Self::X86 | Self::Pae | Self::FourLevel | Self::FiveLevel => Architecture::X86,
        }
    }

    /// Bytes of the smallest page.
    pub fn page_size(self) -> u64 {
        self.spec().page_size()
    }

    /// The part of a space that is user mode's by the address alone; `None` where that is not a matter of the mode.
    ///
    /// The rest of a process's space is the kernel's, the same in every process, and maps all of physical memory:
    /// whoever asks for a process does not ask for that.
    pub fn user_range<A: Address>(self) -> Option<AddrRange<A>> {
        self.spec().halves().map(|[user, _]| user)
    }

    /// The part of a space that is the kernel's by the address alone; `None` where that is not a matter of the mode.
    pub fn kernel_range<A: Address>(self) -> Option<AddrRange<A>> {
        self.spec().halves().map(|[_, kernel]| kernel)
    }

    /// How wide the code that the CPU runs in this mode usually is, and its pointers: those of the kernel whose
    /// tables these are. A 64-bit kernel may run 32-bit programs as well.
    pub const fn width(self) -> ProgramWidth {
        match self {
            Self::X86 | Self::Pae => ProgramWidth::I386,
            Self::FourLevel | Self::FiveLevel => ProgramWidth::X86_64,
        }
    }

    /// The mode a CPU is in; `None` when its paging is off or the source does not tell enough.
    pub fn from_cpu(cpu: &CpuState) -> Option<Self> {
        if !cpu.paging_enabled() {
            return None;
        }
        if !cpu.pae() {
            return Some(Self::X86);
        }
        match cpu.is_long_mode() {
            Some(true) if cpu.la57() => Some(Self::FiveLevel),
            Some(true) => Some(Self::FourLevel),
            Some(false) => Some(Self::Pae),
            // CR4.LA57 can only be set by software that runs in, or is about to enter, long mode.
            None if cpu.la57() => Some(Self::FiveLevel),
            None => None,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The text is not the name of a paging mode.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown paging mode {0:?}: expected x86, pae, 4level or 5level")]
pub struct UnknownMode(String);

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| UnknownMode(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::spec::{EntryKind, Test};

    #[test]
    fn levels_cover_the_address() {
        for mode in Mode::ALL {
            let spec = mode.spec();
            let mut top = spec.va_bits;
            for level in spec.levels {
                assert_eq!(
                    level.shift + level.index_bits,
                    top,
                    "{mode} level {}",
                    level.number
                );
                assert!(level.entries() <= Spec::MAX_ENTRIES);
                top = level.shift;
            }
            assert_eq!(top, 12);
            let last = spec.levels.last().expect("has levels");
            assert_eq!(last.is_page, Test::ALWAYS);
            // The fast run search of the walker relies on this.
            assert_eq!(last.page.high_mask, 0);
        }
    }

    #[test]
    fn canonical_addresses() {
        let four = Mode::FourLevel.spec();
        assert!(four.is_canonical(0x7fff_ffff_ffff) && four.is_canonical(0xffff_8000_0000_0000));
        assert!(!four.is_canonical(0x8000_0000_0000) && !four.is_canonical(1 << 63));
        let five = Mode::FiveLevel.spec();
        assert!(five.is_canonical(0x00ff_ffff_ffff_ffff) && !five.is_canonical(1 << 56));
        assert!(five.is_canonical(0xff00_0000_0000_0000));
        assert!(!Mode::Pae.spec().is_canonical(1 << 32));
        assert_eq!(five.canonical(1 << 56), 0xff00_0000_0000_0000);
    }

    #[test]
    fn mode_from_control_registers() {
        let cpu = |cr0, cr4, efer| CpuState {
            cr0,
            cr4,
            efer,
            ..CpuState::default()
        };
        let pg = 1 << 31;
        assert_eq!(Mode::from_cpu(&cpu(0, 0, None)), None);
        assert_eq!(Mode::from_cpu(&cpu(pg, 0x10, None)), Some(Mode::X86));
        assert_eq!(Mode::from_cpu(&cpu(pg, 0x20, Some(0x800))), Some(Mode::Pae));
        assert_eq!(
            Mode::from_cpu(&cpu(pg, 0x20, Some(0xd01))),
            Some(Mode::FourLevel)
        );
        assert_eq!(
            Mode::from_cpu(&cpu(pg, 0x1020, Some(0xd01))),
            Some(Mode::FiveLevel)
        );
        assert_eq!(Mode::from_cpu(&cpu(pg, 0x20, None)), None);
    }

    #[test]
    fn entries_are_told_apart() {
        let four = Mode::FourLevel.spec();
        let flags = |kind, entry| four.flags_of(kind, entry).collect::<Vec<_>>().join(" ");
        assert_eq!(four.kind_of(1, 0xffe), Some(EntryKind::Empty));
        assert_eq!(four.kind_of(2, 0x1067), Some(EntryKind::Table));
        assert_eq!(four.kind_of(2, 0x20_00e7), Some(EntryKind::Page));
        assert_eq!(four.kind_of(4, 0x10e7), Some(EntryKind::Malformed));
        assert_eq!(four.kind_of(5, 0x1067), None);
        assert_eq!(flags(EntryKind::Table, 0x1067), "P RW US A");
        assert_eq!(flags(EntryKind::Page, 1 << 63 | 0x1161), "P A D G XD");
    }

    #[test]
    fn names_round_trip() {
        for mode in Mode::ALL {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert!("6level".parse::<Mode>().is_err());
    }
}
