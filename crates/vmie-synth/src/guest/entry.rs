//! The page-table formats: geometry, and entries as numbers.
//!
//! Written from the Intel 64 and IA-32 Architectures Software Developer's Manual, volume 3A, chapter
//! 4: "32-bit paging" (4.3, table 4-4 to 4-6), "PAE paging" (4.4, tables 4-8 to 4-11) and "4-level
//! paging and 5-level paging" (4.5, tables 4-14 to 4-20). The tests quote entries assembled by hand
//! from those tables.
//!
//! Levels are counted from the page up: level 1 is the table whose entries map 4 KiB pages. Reserved
//! bits depend on the CPU's physical-address width, MAXPHYADDR; this module takes it to be 52, the
//! architecture's maximum (40 for the 4 MiB pages of two-level paging), so it never calls a bit
//! reserved that some CPU would accept.

/// How a guest translates addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub enum Paging {
    /// Two levels of 4-byte entries, with 4 MiB pages (PSE, PSE-36).
    X86,
    /// Three levels of 8-byte entries for 32-bit addresses, with 2 MiB pages.
    Pae,
    /// Four levels, 48-bit addresses, 2 MiB and 1 GiB pages.
    FourLevel,
    /// Five levels, 57-bit addresses, 2 MiB and 1 GiB pages.
    FiveLevel,
}

/// Size of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub enum PageSize {
    /// 4 KiB, mapped at level 1.
    Size4K,
    /// 2 MiB, mapped at level 2 of every mode with 8-byte entries.
    Size2M,
    /// 4 MiB, mapped at level 2 of two-level paging.
    Size4M,
    /// 1 GiB, mapped at level 3 of 4- and 5-level paging.
    Size1G,
}

impl PageSize {
    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Size4K => 4 << 10,
            Self::Size2M => 2 << 20,
            Self::Size4M => 4 << 20,
            Self::Size1G => 1 << 30,
        }
    }

    /// Level of the table whose entries map such pages.
    pub const fn level(self) -> u8 {
        match self {
            Self::Size4K => 1,
            Self::Size2M | Self::Size4M => 2,
            Self::Size1G => 3,
        }
    }
}

impl Paging {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::X86, Self::Pae, Self::FourLevel, Self::FiveLevel];

    /// Number of levels, which is also the level of the root table.
    pub const fn levels(self) -> u8 {
        match self {
            Self::X86 => 2,
            Self::Pae => 3,
            Self::FourLevel => 4,
            Self::FiveLevel => 5,
        }
    }

    /// Bytes of an entry: 4 or 8.
    pub const fn entry_bytes(self) -> u64 {
        match self {
            Self::X86 => 4,
            Self::Pae | Self::FourLevel | Self::FiveLevel => 8,
        }
    }

    /// Entries in a table of `level`: 1024, 512, or the 4 of PAE's root.
    pub const fn entries(self, level: u8) -> u64 {
        match (self, level) {
            (Self::X86, _) => 1024,
            (Self::Pae, 3) => 4,
            _ => 512,
        }
    }

    /// Bytes of virtual memory that one entry of `level` stands for.
    pub const fn span(self, level: u8) -> u64 {
        let index_bits = match self {
            Self::X86 => 10,
            Self::Pae | Self::FourLevel | Self::FiveLevel => 9,
        };
        1 << (12 + index_bits * (level as u32 - 1))
    }

    /// Which entry of a table of `level` is used for `va`.
    pub const fn index(self, level: u8, va: u64) -> u64 {
        va / self.span(level) % self.entries(level)
    }

    /// Bits of a virtual address: 32, 48 or 57.
    pub const fn va_bits(self) -> u32 {
        match self {
            Self::X86 | Self::Pae => 32,
            Self::FourLevel => 48,
            Self::FiveLevel => 57,
        }
    }

    /// The address with the bits above [`Paging::va_bits`] made what the mode wants them to be: zero
    /// for the 32-bit modes, copies of the top bit for the others.
    pub const fn canonical(self, va: u64) -> u64 {
        let unused = 64 - self.va_bits();
        match self {
            Self::X86 | Self::Pae => va << unused >> unused,
            Self::FourLevel | Self::FiveLevel => ((va << unused) as i64 >> unused) as u64,
        }
    }

    /// The page sizes of the mode.
    pub const fn page_sizes(self) -> &'static [PageSize] {
        match self {
            Self::X86 => &[PageSize::Size4K, PageSize::Size4M],
            Self::Pae => &[PageSize::Size4K, PageSize::Size2M],
            Self::FourLevel | Self::FiveLevel => {
                &[PageSize::Size4K, PageSize::Size2M, PageSize::Size1G]
            }
        }
    }

    /// Physical addresses of tables (and of 4 KiB pages) lie below this.
    pub const fn frame_limit(self) -> u64 {
        match self {
            Self::X86 => 1 << 32,
            Self::Pae | Self::FourLevel | Self::FiveLevel => 1 << 52,
        }
    }

    /// The root table lies below this: CR3 has 32 bits outside long mode.
    pub const fn root_limit(self) -> u64 {
        match self {
            Self::X86 | Self::Pae => 1 << 32,
            Self::FourLevel | Self::FiveLevel => 1 << 52,
        }
    }

    /// Whether an entry of `level` has write, user and execute-disable bits at all; PAE's root
    /// entries do not.
    pub const fn has_rights(self, level: u8) -> bool {
        !matches!((self, level), (Self::Pae, 3))
    }

    /// Whether entries have an execute-disable bit; those of two-level paging do not.
    pub const fn has_nx(self) -> bool {
        !matches!(self, Self::X86)
    }
}

/// What an entry says besides the address. What the format cannot express is left out of the entry
/// and does not count in the truth either: `nx` under two-level paging, all three rights in PAE's
/// root entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags {
    /// R/W, bit 1.
    pub write: bool,
    /// U/S, bit 2.
    pub user: bool,
    /// XD, bit 63.
    pub nx: bool,
    /// Further bits to set: accessed, global, PAT, software's own. The caller's business to choose
    /// ones that are not reserved; the address, PS and P bits are refused.
    pub extra: u64,
}

impl Flags {
    /// User code: read and execute.
    pub const CODE: Self = Self::of(false, true, false);
    /// User data: read and write.
    pub const DATA: Self = Self::of(true, true, true);
    /// User constants: read.
    pub const CONST: Self = Self::of(false, true, true);
    /// Kernel code.
    pub const KERNEL_CODE: Self = Self::of(false, false, false);
    /// Kernel data.
    pub const KERNEL_DATA: Self = Self::of(true, false, true);
    /// Kernel constants.
    pub const KERNEL_CONST: Self = Self::of(false, false, true);
    /// Everything allowed: what a table entry says that leaves the decision to the levels below.
    pub const OPEN: Self = Self::of(true, true, false);

    /// The three rights, without further bits.
    pub const fn of(write: bool, user: bool, nx: bool) -> Self {
        Self {
            write,
            user,
            nx,
            extra: 0,
        }
    }

    /// These flags with further bits set.
    #[must_use]
    pub const fn with(self, extra: u64) -> Self {
        Self { extra, ..self }
    }
}

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const NX: u64 = 1 << 63;

/// The flag bits of an entry; `address` is what `extra` may not touch.
fn flag_bits(paging: Paging, level: u8, flags: Flags, address: u64) -> u64 {
    assert!(
        flags.extra & (address | PRESENT) == 0,
        "extra bits {:#x} belong to the address or the present bit",
        flags.extra
    );
    assert!(
        paging.entry_bytes() == 8 || flags.extra >> 32 == 0,
        "the entry has 32 bits"
    );
    let mut bits = PRESENT | flags.extra;
    if paging.has_rights(level) {
        bits |= if flags.write { WRITE } else { 0 };
        bits |= if flags.user { USER } else { 0 };
        bits |= if flags.nx && paging.has_nx() { NX } else { 0 };
    }
    bits
}

/// The entry of a table of `level` that refers to the next table at `gpa`.
///
/// # Panics
/// When the format cannot hold the address or the flags.
pub fn table_entry(paging: Paging, level: u8, gpa: u64, flags: Flags) -> u64 {
    let address = (paging.frame_limit() - 1) & !0xfff;
    assert!(
        (2..=paging.levels()).contains(&level) && gpa & !address == 0,
        "a level-{level} entry of {paging:?} cannot refer to a table at {gpa:#x}"
    );
    assert!(flags.extra & LARGE == 0, "PS would make the table a page");
    gpa | flag_bits(paging, level, flags, address)
}

/// The entry that maps a page of `size` at `gpa`.
///
/// # Panics
/// When the mode has no such pages, or the format cannot hold the address or the flags.
pub fn leaf_entry(paging: Paging, size: PageSize, gpa: u64, flags: Flags) -> u64 {
    assert!(
        paging.page_sizes().contains(&size),
        "{paging:?} has no pages of {size:?}"
    );
    let level = size.level();
    match size {
        PageSize::Size4K => {
            let address = (paging.frame_limit() - 1) & !0xfff;
            assert!(gpa & !address == 0, "no 4 KiB page at {gpa:#x}");
            gpa | flag_bits(paging, level, flags, address)
        }
        PageSize::Size4M => {
            // PSE-36: bits 39:32 of the address stand in bits 20:13 of the entry.
            let address = 0xff_ffc0_0000;
            assert!(gpa & !address == 0, "no 4 MiB page at {gpa:#x}");
            let high = gpa >> 32 << 13;
            let low = gpa & 0xffff_ffff;
            low | high | LARGE | flag_bits(paging, level, flags, 0xffdf_e000)
        }
        PageSize::Size2M | PageSize::Size1G => {
            let address = ((1 << 52) - 1) & !(size.bytes() - 1);
            assert!(gpa & !address == 0, "no page of {size:?} at {gpa:#x}");
            gpa | LARGE | flag_bits(paging, level, flags, address)
        }
    }
}

/// Bits that must be zero in a present entry of `level`, whether it maps a page (`leaf`) or refers
/// to a table, on a CPU with the widest physical addresses and execute-disable turned on.
///
/// PS counts as reserved in a table entry where the level has no pages, and bit 7 of a 4 KiB entry
/// is PAT.
pub fn reserved_bits(paging: Paging, level: u8, leaf: bool) -> u64 {
    let range = |high: u32, low: u32| (u64::MAX >> (63 - high)) & (u64::MAX << low);
    match (paging, level, leaf) {
        (Paging::X86, 2, true) => range(21, 21),
        (Paging::X86, ..) => 0,
        (Paging::Pae, 3, _) => range(2, 1) | range(8, 5) | range(63, 52),
        (Paging::Pae, 2, true) => range(20, 13) | range(62, 52),
        (Paging::Pae, ..) => range(62, 52),
        (_, 4 | 5, _) => LARGE,
        (_, 3, true) => range(29, 13),
        (_, 2, true) => range(20, 13),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PageSize::{Size1G, Size2M, Size4K, Size4M};
    use Paging::{FiveLevel, FourLevel, Pae, X86};

    /// Entries put together by hand from the manual's tables, bit by bit.
    #[test]
    fn entries_by_hand() {
        let no = Flags::default();
        let cases: &[(&str, u64, u64)] = &[
            // Table 4-15, PML4E: P 0, R/W 1, U/S 2, A 5, address M-1:12, XD 63.
            (
                "PML4E present, writable, user",
                table_entry(FourLevel, 4, 0x1_2345_6000, Flags::OPEN),
                0x0000_0001_2345_6007,
            ),
            (
                "PML4E read-only, supervisor, XD, accessed",
                table_entry(
                    FourLevel,
                    4,
                    0x7000,
                    Flags::of(false, false, true).with(1 << 5),
                ),
                0x8000_0000_0000_7021,
            ),
            // Table 4-14, PML5E, with the highest address that fits.
            (
                "PML5E",
                table_entry(
                    FiveLevel,
                    5,
                    0xf_ffff_ffff_f000,
                    Flags::of(true, false, false),
                ),
                0x000f_ffff_ffff_f003,
            ),
            // Table 4-16, PDPTE that maps a 1 GiB page: PS 7, G 8, PAT 12, address M-1:30.
            (
                "PDPTE, 1 GiB page at 5 GiB, global, PAT",
                leaf_entry(FourLevel, Size1G, 0x1_4000_0000, no.with(1 << 8 | 1 << 12)),
                0x0000_0001_4000_1181,
            ),
            // Table 4-18, PDE that maps a 2 MiB page: address M-1:21, protection key 62:59.
            (
                "PDE, 2 MiB page, writable, user, XD, dirty, key 15",
                leaf_entry(
                    FourLevel,
                    Size2M,
                    0x4060_0000,
                    Flags::DATA.with(0xf << 59 | 1 << 6),
                ),
                0xf800_0000_4060_00c7,
            ),
            // Table 4-20, PTE: PWT 3, PCD 4, A 5, D 6, PAT 7, G 8.
            (
                "PTE with every low flag",
                leaf_entry(FiveLevel, Size4K, 0xabc_def0_1000, Flags::OPEN.with(0x1f8)),
                0x0000_0abc_def0_11ff,
            ),
            // Table 4-8, PAE PDPTE: P 0, PWT 3, PCD 4; bits 2:1 and 8:5 reserved, no XD.
            (
                "PAE PDPTE never says writable, user or XD",
                table_entry(Pae, 3, 0x2_0000_3000, Flags::of(true, true, true)),
                0x0000_0002_0000_3001,
            ),
            // Table 4-9 and 4-11.
            (
                "PAE PDE, 2 MiB page above 4 GiB",
                leaf_entry(Pae, Size2M, 0x1_0020_0000, Flags::DATA),
                0x8000_0001_0020_0087,
            ),
            (
                "PAE PTE",
                leaf_entry(Pae, Size4K, 0xf_f000, Flags::CODE),
                0x0000_0000_000f_f005,
            ),
            // Table 4-4, 32-bit PDE that maps a 4 MiB page: address 31:22 in place, 39:32 in 20:13.
            (
                "PDE, 4 MiB page below 4 GiB; no XD bit exists",
                leaf_entry(X86, Size4M, 0xffc0_0000, Flags::DATA),
                0xffc0_0087,
            ),
            (
                "PDE, 4 MiB page at 0xa5_0040_0000 (PSE-36)",
                leaf_entry(X86, Size4M, 0xa5_0040_0000, no),
                0x0054_a081,
            ),
            (
                "PDE, 4 MiB page in the highest place",
                leaf_entry(X86, Size4M, 0xff_ffc0_0000, no.with(1 << 12)),
                0xffdf_f081,
            ),
            // Tables 4-5 and 4-6.
            (
                "PDE that refers to a table",
                table_entry(X86, 2, 0xffff_f000, Flags::OPEN),
                0xffff_f007,
            ),
            (
                "PTE",
                leaf_entry(X86, Size4K, 0x1000, Flags::of(false, true, false)),
                0x1005,
            ),
        ];
        for &(what, got, want) in cases {
            assert_eq!(got, want, "{what}: {got:#x} is not {want:#x}");
        }
    }

    #[test]
    fn geometry_of_the_manual() {
        // Figures 4-2, 4-5, 4-8: which address bits select the entry at which level.
        let bits = |paging: Paging, level| {
            let low = paging.span(level).trailing_zeros();
            (low + paging.entries(level).trailing_zeros() - 1, low)
        };
        assert_eq!([1, 2].map(|l| bits(X86, l)), [(21, 12), (31, 22)]);
        assert_eq!(
            [1, 2, 3].map(|l| bits(Pae, l)),
            [(20, 12), (29, 21), (31, 30)]
        );
        assert_eq!(
            [1, 2, 3, 4, 5].map(|l| bits(FiveLevel, l)),
            [(20, 12), (29, 21), (38, 30), (47, 39), (56, 48)]
        );
        assert_eq!(FourLevel.index(4, 0xffff_f6fb_7dbe_d000), 0x1ed);
        for paging in Paging::ALL {
            for size in paging.page_sizes() {
                assert_eq!(paging.span(size.level()), size.bytes());
            }
        }
    }

    #[test]
    fn canonical_addresses() {
        assert_eq!(FourLevel.canonical(0x8000_0000_0000), 0xffff_8000_0000_0000);
        assert_eq!(FourLevel.canonical(0x7fff_ffff_f000), 0x7fff_ffff_f000);
        assert_eq!(
            FiveLevel.canonical(0x0100_0000_0000_0000),
            0xff00_0000_0000_0000
        );
        assert_eq!(FiveLevel.canonical(0x8000_0000_0000), 0x8000_0000_0000);
        assert_eq!(Pae.canonical(0xffff_ffff_c000_0000), 0xc000_0000);
    }

    #[test]
    fn reserved_bits_of_the_manual() {
        assert_eq!(reserved_bits(X86, 2, true), 0x0020_0000);
        assert_eq!(
            reserved_bits(X86, 2, false) | reserved_bits(X86, 1, true),
            0
        );
        assert_eq!(reserved_bits(Pae, 3, false), 0xfff0_0000_0000_01e6);
        assert_eq!(reserved_bits(Pae, 2, true), 0x7ff0_0000_001f_e000);
        assert_eq!(reserved_bits(Pae, 1, true), 0x7ff0_0000_0000_0000);
        assert_eq!(reserved_bits(FiveLevel, 5, false), 0x80);
        assert_eq!(reserved_bits(FourLevel, 4, false), 0x80);
        assert_eq!(reserved_bits(FourLevel, 3, true), 0x3fff_e000);
        assert_eq!(reserved_bits(FourLevel, 2, true), 0x001f_e000);
        assert_eq!(reserved_bits(FourLevel, 1, true), 0);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let refused: &[fn() -> u64] = &[
            || leaf_entry(X86, Size4K, 1 << 32, Flags::OPEN),
            || leaf_entry(X86, Size4M, 1 << 40, Flags::OPEN),
            || leaf_entry(X86, Size2M, 0, Flags::OPEN),
            || leaf_entry(Pae, Size1G, 0, Flags::OPEN),
            || leaf_entry(FourLevel, Size2M, 0x1000, Flags::OPEN),
            || leaf_entry(FourLevel, Size4K, 0, Flags::OPEN.with(1 << 12)),
            || table_entry(FourLevel, 4, 1 << 52, Flags::OPEN),
            || table_entry(FourLevel, 2, 0, Flags::OPEN.with(LARGE)),
            || table_entry(FourLevel, 5, 0, Flags::OPEN),
        ];
        for (i, make) in refused.iter().enumerate() {
            assert!(std::panic::catch_unwind(make).is_err(), "case {i}");
        }
    }
}
