//! The page-table formats of x86.
//!
//! Source: Intel SDM volume 3A, chapter 4 (tables 4-1 to 4-20), and AMD APM volume 2, chapter 5.

use crate::arch::spec::{Above, Flag, Level, Rights, Spec, Target, Test};

const NO_EXEC: Test = Test::set(63);
const RIGHTS_64: Rights = Rights {
    no_write: Test::clear(1),
    user: Test::set(2),
    no_exec: NO_EXEC,
    no_kernel_exec: None,
};
const RIGHTS_32: Rights = Rights {
    no_write: Test::clear(1),
    user: Test::set(2),
    no_exec: Test::NEVER,
    no_kernel_exec: None,
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
/// The last bit is above those of a 32-bit entry.
const FLAGS_32: &[Flag] = match FLAGS_64 {
    [low @ .., _] => low,
    [] => &[],
};

pub(crate) const X86: Spec = Spec {
    entry_bytes: 4,
    va_bits: 32,
    above: Above::Zero,
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

pub(crate) const PAE: Spec = Spec {
    entry_bytes: 8,
    va_bits: 32,
    above: Above::Zero,
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

pub(crate) const FOUR_LEVEL: Spec = Spec {
    entry_bytes: 8,
    va_bits: 48,
    above: Above::Sign,
    root_mask: FRAME_64,
    present: PRESENT,
    levels: &[upper(4, 39), large(3, 30, 0), large(2, 21, 0), lowest(0)],
    flags: FLAGS_64,
};

pub(crate) const FIVE_LEVEL: Spec = Spec {
    entry_bytes: 8,
    va_bits: 57,
    above: Above::Sign,
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
