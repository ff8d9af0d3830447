//! Page-table formats as data.
//!
//! Everything the walker knows about a format is in a [`Spec`]: how an address is cut into indexes,
//! and for each level which bits say present, page or table, where the frame number stands, and which
//! bits carry rights. The walker has no `match` on a mode, so a new architecture is a new `static`
//! here (the checklist is in ARCHITECTURE.md), and bits of either polarity can be described: a right
//! is a [`Test`], not a bit number.
//!
//! Source of the x86 formats: Intel SDM volume 3A, chapter 4 (tables 4-1 to 4-20), and AMD APM
//! volume 2, chapter 5.

use std::fmt;
use std::str::FromStr;

use crate::cpu::CpuState;
use crate::memory::Prot;
use crate::width::ProgramWidth;

/// A question about an entry: do the bits under `mask` have this `value`?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Test {
    /// The bits looked at.
    pub mask: u64,
    /// What they must be.
    pub value: u64,
}

impl Test {
    /// Holds for every entry.
    pub const ALWAYS: Self = Self { mask: 0, value: 0 };
    /// Holds for no entry.
    pub const NEVER: Self = Self { mask: 0, value: 1 };

    /// Holds when bit `n` is set.
    pub const fn set(n: u8) -> Self {
        Self {
            mask: 1 << n,
            value: 1 << n,
        }
    }

    /// Whether it holds for `entry`.
    #[inline]
    pub const fn holds(self, entry: u64) -> bool {
        entry & self.mask == self.value
    }
}

/// Which bits of an entry carry rights. Read permission comes with being present.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rights {
    /// Writing is allowed.
    pub write: Test,
    /// User mode is allowed.
    pub user: Test,
    /// Execution is forbidden.
    pub no_exec: Test,
}

impl Rights {
    /// An entry without rights of its own: it takes nothing away.
    pub const NEUTRAL: Self = Self {
        write: Test::ALWAYS,
        user: Test::ALWAYS,
        no_exec: Test::NEVER,
    };

    /// What this entry allows.
    #[inline]
    pub const fn of(self, entry: u64) -> Prot {
        let mut prot = Prot::R;
        if self.write.holds(entry) {
            prot = prot.union(Prot::W);
        }
        if self.user.holds(entry) {
            prot = prot.union(Prot::USER);
        }
        if !self.no_exec.holds(entry) {
            prot = prot.union(Prot::X);
        }
        prot
    }

    const fn mask(self) -> u64 {
        self.write.mask | self.user.mask | self.no_exec.mask
    }
}

/// How an entry names the physical address it points at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// Bits that are the physical address as they stand.
    pub frame: u64,
    /// Further address bits, kept elsewhere in the entry: `(entry & high_mask) << high_shift`.
    pub high_mask: u64,
    /// See `high_mask`.
    pub high_shift: u8,
    /// Bits that must be zero; the CPU faults where they are not.
    pub reserved: u64,
    /// Rights this entry grants.
    pub rights: Rights,
}

impl Target {
    /// The physical address `entry` points at.
    #[inline]
    pub const fn address(&self, entry: u64) -> u64 {
        (entry & self.frame) | ((entry & self.high_mask) << self.high_shift)
    }

    /// Bits that decide everything but the address: entries that agree in them are alike.
    pub const fn key(&self) -> u64 {
        self.reserved | self.rights.mask()
    }
}

/// One level of tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Level {
    /// Its number as people count: 1 holds the smallest pages.
    pub number: u8,
    /// The lowest address bit of the index into this table; an entry spans `1 << shift` bytes.
    pub shift: u8,
    /// How many address bits the index has.
    pub index_bits: u8,
    /// Which present entries map a page at this level.
    pub is_page: Test,
    /// How a page entry is read.
    pub page: Target,
    /// How an entry that points at the next table is read.
    pub table: Target,
}

impl Level {
    /// Number of entries in a table of this level.
    pub const fn entries(&self) -> usize {
        1 << self.index_bits
    }

    /// Bytes of address space that one entry spans.
    pub const fn span(&self) -> u64 {
        1 << self.shift
    }
}

/// A bit of an entry that has a name, for people who look at tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flag {
    /// Short name, as the CPU's manual abbreviates it.
    pub name: &'static str,
    /// Which entries have it.
    pub test: Test,
    /// Whether it means something only in entries that map a page.
    pub pages_only: bool,
}

/// What an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EntryKind {
    /// Not present.
    Empty,
    /// It maps a page.
    Page,
    /// It points at the next table.
    Table,
    /// Present, but it sets reserved bits: the CPU faults on it.
    Malformed,
}

/// A page-table format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spec {
    /// Bytes in an entry: 4 or 8, little-endian.
    pub entry_bytes: usize,
    /// Bits of a virtual address that are translated.
    pub va_bits: u8,
    /// Whether addresses are sign-extended from the top translated bit (else the space ends there).
    pub sign_extended: bool,
    /// The bits of the root register that locate the root table.
    pub root_mask: u64,
    /// Which entries are present, at every level.
    pub present: Test,
    /// The levels from the root down; the last one holds pages only.
    pub levels: &'static [Level],
    /// Named bits of present entries. The walker does not look at them.
    pub flags: &'static [Flag],
}

impl Spec {
    /// No table of any format has more entries than this.
    pub const MAX_ENTRIES: usize = 1024;

    /// What `entry` is when it stands in a table of the level with this number; `None` when the
    /// format has no such level.
    pub fn kind_of(&self, level: u8, entry: u64) -> Option<EntryKind> {
        let level = self.levels.iter().find(|known| known.number == level)?;
        Some(if !self.present.holds(entry) {
            EntryKind::Empty
        } else if level.is_page.holds(entry) {
            match entry & level.page.reserved {
                0 => EntryKind::Page,
                _ => EntryKind::Malformed,
            }
        } else {
            match entry & level.table.reserved {
                0 => EntryKind::Table,
                _ => EntryKind::Malformed,
            }
        })
    }

    /// Names of the flags that a present entry of this kind has set.
    pub fn flags_of(&self, kind: EntryKind, entry: u64) -> impl Iterator<Item = &'static str> {
        self.flags
            .iter()
            .filter(move |flag| flag.test.holds(entry))
            .filter(move |flag| kind == EntryKind::Page || !flag.pages_only)
            .map(|flag| flag.name)
    }

    /// Whether the format can translate `va` at all.
    #[inline]
    pub const fn is_canonical(&self, va: u64) -> bool {
        let unused = 64 - self.va_bits as u32;
        if self.sign_extended {
            ((va << unused) as i64 >> unused) as u64 == va
        } else {
            (va << unused) >> unused == va
        }
    }

    /// The address whose translated bits are `bits`, in the form the CPU accepts.
    #[inline]
    pub const fn canonical(&self, bits: u64) -> u64 {
        let unused = 64 - self.va_bits as u32;
        if self.sign_extended {
            ((bits << unused) as i64 >> unused) as u64
        } else {
            bits
        }
    }
}

const NO_EXEC: Test = Test::set(63);
const RIGHTS_64: Rights = Rights {
    write: Test::set(1),
    user: Test::set(2),
    no_exec: NO_EXEC,
};
const RIGHTS_32: Rights = Rights {
    write: Test::set(1),
    user: Test::set(2),
    no_exec: Test::NEVER,
};
/// Bits 51:12; the CPU's own MAXPHYADDR may be lower, but no memory image tells it.
const FRAME_64: u64 = 0x000f_ffff_ffff_f000;

const fn target(frame: u64, reserved: u64, rights: Rights) -> Target {
    Target {
        frame,
        high_mask: 0,
        high_shift: 0,
        reserved,
        rights,
    }
}

/// Never taken: the filler where a level has no pages, or no tables below it.
const NOTHING: Target = target(0, 0, Rights::NEUTRAL);

const fn upper(number: u8, shift: u8) -> Level {
    Level {
        number,
        shift,
        index_bits: 9,
        is_page: Test::NEVER,
        page: NOTHING,
        // Bit 7 (page size) is reserved where the level has no pages.
        table: target(FRAME_64, 1 << 7, RIGHTS_64),
    }
}

const fn large(number: u8, shift: u8, extra_reserved: u64) -> Level {
    let frame = FRAME_64 & !((1 << shift) - 1);
    // The address bits below the page size are reserved, but for bit 12 (PAT).
    let reserved = (FRAME_64 & !frame & !(1 << 12)) | extra_reserved;
    Level {
        number,
        shift,
        index_bits: 9,
        is_page: Test::set(7),
        page: target(frame, reserved, RIGHTS_64),
        table: target(FRAME_64, extra_reserved, RIGHTS_64),
    }
}

const fn lowest(extra_reserved: u64) -> Level {
    Level {
        number: 1,
        shift: 12,
        index_bits: 9,
        is_page: Test::ALWAYS,
        page: target(FRAME_64, extra_reserved, RIGHTS_64),
        table: NOTHING,
    }
}

const PRESENT: Test = Test::set(0);

const fn flag(name: &'static str, bit: u8) -> Flag {
    Flag {
        name,
        test: Test::set(bit),
        pages_only: false,
    }
}

const fn page_flag(name: &'static str, bit: u8) -> Flag {
    Flag {
        name,
        test: Test::set(bit),
        pages_only: true,
    }
}

const FLAGS_32: &[Flag] = &[
    flag("P", 0),
    flag("RW", 1),
    flag("US", 2),
    flag("PWT", 3),
    flag("PCD", 4),
    flag("A", 5),
    page_flag("D", 6),
    page_flag("G", 8),
];
const FLAGS_64: &[Flag] = &[
    flag("P", 0),
    flag("RW", 1),
    flag("US", 2),
    flag("PWT", 3),
    flag("PCD", 4),
    flag("A", 5),
    page_flag("D", 6),
    page_flag("G", 8),
    flag("XD", 63),
];

pub(super) static X86: Spec = Spec {
    entry_bytes: 4,
    va_bits: 32,
    sign_extended: false,
    root_mask: 0xffff_f000,
    present: PRESENT,
    levels: &[
        Level {
            number: 2,
            shift: 22,
            index_bits: 10,
            is_page: Test::set(7),
            // PSE-36: bits 20:13 of a 4 MiB entry are physical address bits 39:32; bit 21 is reserved.
            page: Target {
                frame: 0xffc0_0000,
                high_mask: 0x001f_e000,
                high_shift: 19,
                reserved: 1 << 21,
                rights: RIGHTS_32,
            },
            table: target(0xffff_f000, 0, RIGHTS_32),
        },
        Level {
            number: 1,
            shift: 12,
            index_bits: 10,
            is_page: Test::ALWAYS,
            page: target(0xffff_f000, 0, RIGHTS_32),
            table: NOTHING,
        },
    ],
    flags: FLAGS_32,
};

/// With PAE bits 62:52 are reserved in every entry.
const PAE_RESERVED: u64 = 0x7ff0_0000_0000_0000;

pub(super) static PAE: Spec = Spec {
    entry_bytes: 8,
    va_bits: 32,
    sign_extended: false,
    root_mask: 0xffff_ffe0,
    present: PRESENT,
    levels: &[
        Level {
            number: 3,
            shift: 30,
            index_bits: 2,
            is_page: Test::NEVER,
            page: NOTHING,
            // A page-directory-pointer entry has no rights; bits 1, 2, 5-8 and 63:52 are reserved.
            table: target(FRAME_64, 0xfff0_0000_0000_01e6, Rights::NEUTRAL),
        },
        large(2, 21, PAE_RESERVED),
        lowest(PAE_RESERVED),
    ],
    flags: FLAGS_64,
};

pub(super) static FOUR_LEVEL: Spec = Spec {
    entry_bytes: 8,
    va_bits: 48,
    sign_extended: true,
    root_mask: FRAME_64,
    present: PRESENT,
    levels: &[upper(4, 39), large(3, 30, 0), large(2, 21, 0), lowest(0)],
    flags: FLAGS_64,
};

pub(super) static FIVE_LEVEL: Spec = Spec {
    entry_bytes: 8,
    va_bits: 57,
    sign_extended: true,
    root_mask: FRAME_64,
    present: PRESENT,
    levels: &[
        upper(5, 48),
        upper(4, 39),
        large(3, 30, 0),
        large(2, 21, 0),
        lowest(0),
    ],
    flags: FLAGS_64,
};

/// A paging mode of x86.
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
            Self::X86 => &X86,
            Self::Pae => &PAE,
            Self::FourLevel => &FOUR_LEVEL,
            Self::FiveLevel => &FIVE_LEVEL,
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
