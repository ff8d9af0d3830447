//! Images made by an encoder: both widths, every way to count symbols, moved and not, with holes.

mod imports;

use proptest::prelude::*;

use super::{ElfError, ElfImage};
use crate::addr::Gva;
use crate::memory::Prot;
use crate::os::SymbolTable;
use crate::testmem::TestMemory;

const BASE: u64 = 0x7f00_1234_0000;
const PAGE: usize = 4096;

/// How the number of symbols is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hash {
    Old,
    New,
    /// By the distance from symbols to names.
    None,
}

/// A library to make. File and memory are laid out alike:
/// page 0 headers, page 1 code, page 2 tables, page 3 data and dynamic section, page 4 (file only)
/// section headers and their tables.
#[derive(Clone, Copy, Debug)]
struct Plan {
    wide: bool,
    hash: Hash,
    /// Whether the loader has moved the addresses in the dynamic section.
    moved: bool,
    /// Where the file says that it should be.
    linked_at: u64,
    fixed: bool,
}

const PLAIN: Plan = Plan {
    wide: true,
    hash: Hash::New,
    moved: false,
    linked_at: 0,
    fixed: false,
};

/// Name, value from the start of the image, kind and bind, section, and version.
type Sym<'s> = (&'s str, u64, u8, u16, u16);

const SYMBOLS: &[Sym<'_>] = &[
    ("", 0, 0, 0, 0),
    ("imported", 0, 0x12, 0, 1),
    ("memcpy", 0x1000, 0x12, 1, 0x8002),
    ("memcpy", 0x1040, 0x12, 1, 3),
    ("resolver", 0x1080, 0x1a, 1, 3),
    ("weak", 0x10c0, 0x22, 1, 1),
    ("table", 0x2800, 0x11, 2, 1),
    ("variable", 0x3000, 0x11, 3, 1),
    ("zeroed", 0x3f00, 0x11, 3, 1),
    ("per_thread", 0x10, 0x16, 4, 1),
    ("VERSION", 7, 0x10, 0xfff1, 1),
];

const IN_FILE: &[Sym<'_>] = &[
    ("", 0, 0, 0, 0),
    ("main.c", 0, 0x04, 0xfff1, 0),
    ("hidden", 0x1100, 0x02, 1, 0),
    ("variable", 0x3000, 0x11, 3, 0),
];

struct Writer {
    plan: Plan,
    bytes: Vec<u8>,
}

impl Writer {
    fn put(&mut self, at: usize, value: u64, len: usize) {
        self.bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
    }

    /// Fields one after another: value, and width in a narrow and in a wide image.
    fn fields(&mut self, mut at: usize, fields: &[(u64, usize, usize)]) -> usize {
        for &(value, narrow, wide) in fields {
            let len = if self.plan.wide { wide } else { narrow };
            self.put(at, value, len);
            at += len;
        }
        at
    }

    fn symbols(&mut self, mut at: usize, symbols: &[Sym<'_>], names: usize) -> usize {
        let mut name_at = names + 1;
        for &(name, value, info, section, _) in symbols {
            let name_offset = match name {
                "" => 0,
                _ => name_at - names,
            };
            self.bytes[name_at..name_at + name.len()].copy_from_slice(name.as_bytes());
            name_at += name.len() + 1;
            let value = match section {
                0 | 0xfff1 => value,
                _ => value + self.plan.linked_at,
            };
            let (name, info) = (name_offset as u64, u64::from(info));
            at = match self.plan.wide {
                true => self.fields(
                    at,
                    &[
                        (name, 4, 4),
                        (info, 1, 1),
                        (0, 1, 1),
                        (section.into(), 2, 2),
                        (value, 8, 8),
                        (16, 8, 8),
                    ],
                ),
                false => self.fields(
                    at,
                    &[
                        (name, 4, 4),
                        (value, 4, 4),
                        (16, 4, 4),
                        (info, 1, 1),
                        (0, 1, 1),
                        (section.into(), 2, 2),
                    ],
                ),
            };
        }
        name_at
    }
}

/// The bytes of the file.
fn make(plan: Plan) -> Vec<u8> {
    let mut w = Writer {
        plan,
        bytes: vec![0; 5 * PAGE],
    };
    let (header, phdr, sym, dynamic) = match plan.wide {
        true => (64, 56, 24, 16),
        false => (52, 32, 16, 8),
    };
    w.bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 1 + u8::from(plan.wide), 1, 1]);
    let kind = if plan.fixed { 2 } else { 3 };
    let shdr = if plan.wide { 64 } else { 40 };
    w.fields(
        16,
        &[
            (kind, 2, 2),
            (62, 2, 2),
            (1, 4, 4),
            (0, 4, 8),
            (header, 4, 8),
            (4 * PAGE as u64, 4, 8),
            (0, 4, 4),
            (header, 2, 2),
            (phdr, 2, 2),
            (5, 2, 2),
            (shdr, 2, 2),
            (3, 2, 2),
        ],
    );
    let mut at = header as usize;
    let parts = [
        (1, 4, 0, 0x1000, 0x1000),
        (1, 5, 0x1000, 0x1000, 0x1000),
        (1, 4, 0x2000, 0x1000, 0x1000),
        (1, 6, 0x3000, 0xe00, 0x1800),
        (2, 6, 0x3800, 0x200, 0x200),
    ];
    for (kind, flags, offset, file, memory) in parts {
        let va = offset + plan.linked_at;
        at = match plan.wide {
            true => w.fields(
                at,
                &[
                    (kind, 4, 4),
                    (flags, 4, 4),
                    (offset, 8, 8),
                    (va, 8, 8),
                    (va, 8, 8),
                    (file, 8, 8),
                    (memory, 8, 8),
                    (PAGE as u64, 8, 8),
                ],
            ),
            false => w.fields(
                at,
                &[
                    (kind, 4, 4),
                    (offset, 4, 4),
                    (va, 4, 4),
                    (va, 4, 4),
                    (file, 4, 4),
                    (memory, 4, 4),
                    (flags, 4, 4),
                    (PAGE as u64, 4, 4),
                ],
            ),
        };
    }
    let (hash, symbols, versions, definitions) = (0x2000, 0x2200, 0x2600, 0x2700);
    let names = symbols + SYMBOLS.len() * sym;
    let end = w.symbols(symbols, SYMBOLS, names);
    let version_names = end;
    w.bytes[end..end + 8].copy_from_slice(b"OLD\0NEW\0");
    let names_len = end + 8 - names;
    for (i, &(.., version)) in SYMBOLS.iter().enumerate() {
        w.put(versions + 2 * i, version.into(), 2);
    }
    // Versions 2 and 3, each with one name behind it.
    for (i, at) in [(0, definitions), (1, definitions + 28)] {
        let next = if i == 0 { 28 } else { 0 };
        let name = (version_names - names + 4 * i) as u64;
        w.fields(
            at,
            &[
                (1, 2, 2),
                (0, 2, 2),
                (2 + i as u64, 2, 2),
                (1, 2, 2),
                (0, 4, 4),
                (20, 4, 4),
                (next, 4, 4),
                (name, 4, 4),
                (0, 4, 4),
            ],
        );
    }
    let count = SYMBOLS.len() as u64;
    match plan.hash {
        Hash::Old => {
            w.put(hash, 1, 4);
            w.put(hash + 4, count, 4);
        }
        // Two buckets; symbols from 2 on are in chains, of which the second ends with the last.
        Hash::New => {
            let word = if plan.wide { 8 } else { 4 };
            for (i, value) in [2, 2, 1, 0].into_iter().enumerate() {
                w.put(hash + 4 * i, value, 4);
            }
            let buckets = hash + 16 + word;
            w.put(buckets, 2, 4);
            w.put(buckets + 4, 5, 4);
            for index in 2..count {
                let last = u64::from(index == 4 || index == count - 1);
                w.put(buckets + 8 + 4 * (index as usize - 2), 0x100 | last, 4);
            }
        }
        Hash::None => {}
    }
    let moved = match (plan.moved, plan.fixed) {
        (true, false) => BASE,
        _ => plan.linked_at,
    };
    let hash_tag = match plan.hash {
        Hash::Old => 4,
        Hash::New => 0x6fff_fef5,
        Hash::None => 0x6fff_0000,
    };
    let mut at = 0x3800;
    for (tag, value) in [
        (hash_tag, hash as u64 + moved),
        (5, names as u64 + moved),
        (6, symbols as u64 + moved),
        (10, names_len as u64),
        (0x6fff_fff0, versions as u64 + moved),
        (0x6fff_fffc, definitions as u64 + moved),
        (0, 0),
        (6, 0x1234),
    ] {
        w.fields(at, &[(tag, 4, 8), (value, 4, 8)]);
        at += dynamic;
    }
    // Section headers: none, symbols, names.
    let (table, strings) = (4 * PAGE + 0x200, 4 * PAGE + 0x400);
    let end = w.symbols(table, IN_FILE, strings);
    for (i, kind, offset, len, link) in [
        (1, 2, table, IN_FILE.len() * sym, 2),
        (2, 3, strings, end - strings, 0),
    ] {
        w.fields(
            4 * PAGE + i * shdr as usize,
            &[
                (0, 4, 4),
                (kind, 4, 4),
                (0, 4, 8),
                (0, 4, 8),
                (offset as u64, 4, 8),
                (len as u64, 4, 8),
                (link, 4, 4),
            ],
        );
    }
    w.bytes
}

fn base(plan: Plan) -> u64 {
    match (plan.fixed, plan.wide) {
        (true, _) => plan.linked_at,
        (false, true) => BASE,
        (false, false) => BASE & 0xffff_ffff,
    }
}

/// What a loader maps: all but the last page, and a page of zeros.
fn load(bytes: &[u8], base: u64) -> TestMemory<Gva> {
    let mut image = bytes[..4 * PAGE].to_vec();
    image.resize(5 * PAGE, 0);
    TestMemory::new().part(base, &image, Prot::R)
}

fn no_file(_: u64, _: &mut [u8]) -> bool {
    false
}

/// Name, address from the base, and letter.
fn listed(table: &SymbolTable, base: u64) -> Vec<(String, u64, char)> {
    let mut symbols: Vec<_> = table
        .iter()
        .map(|s| (s.name.to_owned(), s.va.0.wrapping_sub(base), s.kind))
        .collect();
    symbols.sort();
    symbols
}

fn expected(base: u64) -> Vec<(String, u64, char)> {
    let mut symbols: Vec<(String, u64, char)> = [
        ("VERSION", 7_u64.wrapping_sub(base), 'A'),
        ("memcpy", 0x1040, 'T'),
        ("memcpy@OLD", 0x1000, 'T'),
        ("resolver", 0x1080, 'i'),
        ("table", 0x2800, 'R'),
        ("variable", 0x3000, 'D'),
        ("weak", 0x10c0, 'W'),
        ("zeroed", 0x3f00, 'B'),
    ]
    .map(|(name, va, letter)| (name.to_owned(), va, letter))
    .to_vec();
    symbols.sort();
    symbols
}

fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for wide in [true, false] {
        for hash in [Hash::Old, Hash::New, Hash::None] {
            for (moved, linked_at, fixed) in [
                (false, 0, false),
                (true, 0, false),
                (false, 0x40_0000, true),
                (false, 0x10_0000, false),
            ] {
                // 32-bit images are loaded where their addresses fit.
                if wide || !moved {
                    plans.push(Plan {
                        wide,
                        hash,
                        moved,
                        linked_at,
                        fixed,
                    });
                }
            }
        }
    }
    plans
}

#[test]
fn dynamic_symbols_are_found_in_every_sort_of_image() {
    for plan in plans() {
        let base = base(plan);
        let memory = load(&make(plan), base);
        let image = ElfImage::open(&memory, Gva(base)).expect("an image");
        assert_eq!(image.base(), Gva(base));
        assert_eq!(image.range().start(), Gva(base), "{plan:?}");
        assert_eq!(image.range().len(), 0x5000, "{plan:?}");
        assert_eq!(image.bias(), base - plan.linked_at, "{plan:?}");
        let symbols = image.symbols(&no_file).expect("symbols");
        assert_eq!(listed(&symbols, base), expected(base), "{plan:?}");
        assert_eq!(symbols.missing(), 0);
    }
}

#[test]
fn symbols_of_the_file_are_added_once() {
    for plan in plans() {
        let base = base(plan);
        let bytes = make(plan);
        let memory = load(&bytes, base);
        let file = |offset: u64, buf: &mut [u8]| {
            assert!(offset as usize / PAGE == (offset as usize + buf.len() - 1) / PAGE);
            buf.copy_from_slice(&bytes[offset as usize..offset as usize + buf.len()]);
            true
        };
        let image = ElfImage::open(&memory, Gva(base)).expect("an image");
        let symbols = image.symbols(&file).expect("symbols");
        let mut all = expected(base);
        all.push(("hidden".into(), 0x1100, 't'));
        all.sort();
        assert_eq!(listed(&symbols, base), all, "{plan:?}");
    }
}

#[test]
fn what_is_in_a_hole_is_counted() {
    let bytes = make(PLAIN);
    // The page with symbols and names.
    let memory = load(&bytes, BASE).absent(BASE + 0x2000, 0x1000);
    let image = ElfImage::open(&memory, Gva(BASE)).expect("an image");
    let symbols = image.symbols(&no_file).expect("how many is known");
    assert!(symbols.is_empty());
    assert_eq!(symbols.missing(), SYMBOLS.len());
}

#[test]
fn images_without_symbols_say_why() {
    let bytes = make(PLAIN);
    let symbols = |memory: &TestMemory<Gva>| {
        let image = ElfImage::open(memory, Gva(BASE)).expect("an image");
        image.symbols(&no_file).map(|table| table.len())
    };
    let memory = load(&bytes, BASE).absent(BASE + 0x3000, 0x1000);
    assert!(matches!(
        symbols(&memory),
        Err(ElfError::Unreadable {
            what: "dynamic section",
            ..
        })
    ));
    let mut without = bytes.clone();
    without[64 + 4 * 56] = 0;
    assert_eq!(symbols(&load(&without, BASE)), Err(ElfError::NoSymbols));
    let mut outside = bytes;
    outside[64 + 4 * 56 + 16 + 4] = 0x77;
    assert!(matches!(
        symbols(&load(&outside, BASE)),
        Err(ElfError::Damaged(_))
    ));
}

#[test]
fn what_is_no_image_is_refused() {
    let open = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = make(PLAIN);
        change(&mut bytes);
        let memory = load(&bytes, BASE);
        ElfImage::open(&memory, Gva(BASE)).map(|image| image.range().len())
    };
    assert_eq!(open(&|_| ()), Ok(0x5000));
    assert_eq!(open(&|b| b[0] = 0), Err(ElfError::NotElf));
    assert!(matches!(open(&|b| b[5] = 2), Err(ElfError::Unsupported(_))));
    assert!(matches!(
        open(&|b| b[16] = 1),
        Err(ElfError::Unsupported(_))
    ));
    // A program that is not to be moved, elsewhere than it should be.
    assert!(matches!(open(&|b| b[16] = 2), Err(ElfError::Damaged(_))));
    // Absurd numbers and sizes of program headers.
    assert!(matches!(open(&|b| b[57] = 0xff), Err(ElfError::Damaged(_))));
    assert!(matches!(open(&|b| b[54] = 1), Err(ElfError::Damaged(_))));
    assert!(matches!(
        open(&|b| b[39] = 0xff),
        Err(ElfError::Damaged(_) | ElfError::Unreadable { .. })
    ));
    // A segment that wraps around.
    assert!(matches!(
        open(&|b| b[64 + 56 + 40..64 + 56 + 48].fill(0xff)),
        Err(ElfError::Damaged(_))
    ));
    let memory = TestMemory::<Gva>::new();
    assert!(matches!(
        ElfImage::open(&memory, Gva(BASE)),
        Err(ElfError::Unreadable { what: "header", .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    /// Whatever is overwritten: symbols or a refusal, and no more than there is room for.
    #[test]
    fn any_damage_ends(
        plan in 0..plans().len(),
        damage in proptest::collection::vec((0_usize..6, any::<u16>(), any::<u64>(), 1_usize..9), 1..6),
    ) {
        let plan = plans()[plan];
        let base = base(plan);
        let mut bytes = make(plan);
        for (part, at, value, len) in damage {
            // Most of it where it matters: headers, tables, dynamic section.
            let (start, size) = [(0, 64), (64, 300), (0x2000, 0x800), (0x3800, 0x80), (0x4000, 0x500), (0, 0x4fff)][part];
            let at = (start + at as usize % size).min(bytes.len() - 8);
            bytes[at..at + len.min(8)].copy_from_slice(&value.to_le_bytes()[..len.min(8)]);
        }
        let memory = load(&bytes, base);
        let file = |offset: u64, buf: &mut [u8]| {
            let from = usize::try_from(offset).unwrap_or(usize::MAX);
            let Some(part) = from.checked_add(buf.len()).and_then(|to| bytes.get(from..to)) else {
                return false;
            };
            buf.copy_from_slice(part);
            true
        };
        if let Ok(image) = ElfImage::open(&memory, Gva(base))
            && let Ok(symbols) = image.symbols(&file)
        {
            prop_assert!(symbols.len() < 5 * PAGE);
        }
        if let Ok(image) = ElfImage::open(&memory, Gva(base))
            && let Ok(imports) = image.imports(&file)
        {
            prop_assert!(imports.slots.len() < 5 * PAGE);
        }
    }
}
