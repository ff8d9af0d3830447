//! ELF images in memory where somebody has been at the bytes.

use crate::bodies::read_elf::read_elf;
use vmie_synth::guest::Rng;

const ROUNDS: usize = 3000;

/// Of the header: says where the image is, and which of its pages are not in memory and in its file.
const PLACE: usize = 9;
const HOLES: usize = 10;
const FILE_HOLES: usize = 11;

const PAGE: usize = 4096;

/// Where things are, in file and memory alike; the second page is data, the third only in the file.
const HEADERS: usize = 0x40;
const SYMBOLS: usize = 0x200;
const NAMES: usize = 0x300;
const GNU_HASH: usize = 0x380;
const HASH: usize = 0x400;
const VERSIONS: usize = 0x440;
const DEFINITIONS: usize = 0x480;
const NEEDED: usize = 0x4c0;
const RELOCATIONS: usize = 0x800;
const STUBS: usize = 0xb00;
const SLOTS: usize = PAGE + 0x900;
const DYNAMIC: usize = PAGE;
const SECTIONS: usize = 2 * PAGE;
const FILE_SYMBOLS: usize = SECTIONS + 0x200;
const FILE_NAMES: usize = SECTIONS + 0x300;

/// Name, value, kind, section, and version.
type Sym = (&'static str, u64, u64, u64, u16);

const EXPORTED: [Sym; 5] = [
    ("", 0, 0, 0, 0),
    ("imported", 0, 0x12, 0, 0),
    ("old", 0x500, 0x12, 1, 0x8002),
    ("open", 0x600, 0x12, 1, 2),
    ("data", 0x1800, 0x11, 2, 1),
];

const IN_FILE: [Sym; 3] = [
    ("", 0, 0, 0, 0),
    ("hidden", 0x700, 0x02, 1, 0),
    ("open", 0x600, 0x12, 1, 0),
];

/// A library, of one class or the other.
struct Elf {
    wide: bool,
    bytes: Vec<u8>,
}

impl Elf {
    fn new(wide: bool) -> Self {
        let mut elf = Self {
            wide,
            bytes: vec![0; 3 * PAGE],
        };
        let class = if wide { 2 } else { 1 };
        elf.bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1, 1]);
        elf.bytes[PLACE] = 1;
        let headers = HEADERS as u64;
        elf.fields(
            16,
            &[(3, 2, 2), (62, 2, 2), (1, 4, 4), (0, 4, 8), (headers, 4, 8)],
        );
        let (header, section) = elf.by_class((32, 40), (56, 64));
        let at = if wide { 40 } else { 32 };
        elf.fields(
            at,
            &[
                (SECTIONS as u64, 4, 8),
                (0, 4, 4),
                (64, 2, 2),
                (header, 2, 2),
                (3, 2, 2),
                (section, 2, 2),
                (3, 2, 2),
            ],
        );
        // Kind, place, length in file and in memory, rights.
        for (i, (kind, place, file, memory, flags)) in [
            (1, 0, PAGE, PAGE, 5),
            (1, PAGE, PAGE, 2 * PAGE, 6),
            (2, DYNAMIC, 0x100, 0x100, 6),
        ]
        .into_iter()
        .enumerate()
        {
            let at = HEADERS + i * header as usize;
            let [place, file, memory] = [place, file, memory].map(|n| n as u64);
            let place = [(place, 4, 8); 3];
            let lens = [(file, 4, 8), (memory, 4, 8)];
            let fields: Vec<_> = match wide {
                true => [(kind, 4, 4), (flags, 4, 4)].into_iter(),
                false => [(kind, 4, 4), (0, 0, 0)].into_iter(),
            }
            .chain(place)
            .chain(lens)
            .chain([(flags, 4, 0)])
            .collect();
            elf.fields(at, &fields);
        }
        elf.symbols(SYMBOLS, NAMES, &EXPORTED);
        elf.bytes[NAMES + 0x40..NAMES + 0x44].copy_from_slice(b"V_1\0");
        for (i, &(.., version)) in EXPORTED.iter().enumerate() {
            elf.fields(VERSIONS + 2 * i, &[(version.into(), 2, 2)]);
        }
        // A version's definition: number 2, its name 20 bytes behind.
        elf.fields(
            DEFINITIONS + 4,
            &[(2, 2, 2), (1, 2, 2), (0, 4, 4), (20, 4, 4)],
        );
        elf.fields(DEFINITIONS + 20, &[(0x40, 4, 4)]);
        elf.fields(HASH, &[(1, 4, 4), (EXPORTED.len() as u64, 4, 4)]);
        // One bucket that starts with symbol 2, a filter word, and a chain that ends with symbol 4.
        elf.fields(
            GNU_HASH,
            &[
                (1, 4, 4),
                (2, 4, 4),
                (1, 4, 4),
                (0, 4, 4),
                (0, 4, 8),
                (2, 4, 4),
            ],
        );
        let chain = GNU_HASH + if wide { 28 } else { 24 };
        elf.fields(chain, &[(2, 4, 4), (4, 4, 4), (7, 4, 4)]);
        // A version that the imported symbol does not have, needed of nobody in particular.
        elf.fields(NEEDED, &[(1, 2, 2), (1, 2, 2), (0, 4, 4), (16, 4, 4)]);
        elf.fields(NEEDED + 22, &[(3, 2, 2), (0x40, 4, 4)]);
        let mut end = RELOCATIONS;
        for (slot, kind) in [
            (SLOTS, 7),
            (SLOTS + 8, 6),
            (SLOTS + 16, 1),
            (SLOTS + 24, 37),
        ] {
            let info = if wide { 1 << 32 | kind } else { 1 << 8 | kind };
            end = elf.fields(end, &[(slot as u64, 4, 8), (info, 4, 8), (0x600, 4, 8)]);
        }
        for (at, slot) in [(STUBS, SLOTS), (STUBS + 16, SLOTS + 24)] {
            elf.bytes[at..at + 2].copy_from_slice(&[0xff, 0x25]);
            elf.fields(at + 2, &[((slot - at - 6) as u64, 4, 4), (0x68, 1, 1)]);
            elf.bytes[at + 11] = 0xe9;
        }
        let relocations = (end - RELOCATIONS) as u64;
        let dynamic = [
            (7, RELOCATIONS as u64),
            (8, relocations),
            (23, RELOCATIONS as u64),
            (2, relocations / 4),
            (20, 7),
            (3, SLOTS as u64),
            (0x6fff_fffe, NEEDED as u64),
            (5, NAMES as u64),
            (6, SYMBOLS as u64),
            (10, 0x80),
            (0x6fff_fef5, GNU_HASH as u64),
            (4, HASH as u64),
            (0x6fff_fff0, VERSIONS as u64),
            (0x6fff_fffc, DEFINITIONS as u64),
            (0, 0),
        ];
        let mut at = DYNAMIC;
        for (tag, value) in dynamic {
            at = elf.fields(at, &[(tag, 4, 8), (value, 4, 8)]);
        }
        let symbols = IN_FILE.len() as u64 * elf.by_class((16, 0), (24, 0)).0;
        for (i, (kind, place, len)) in [
            (2, FILE_SYMBOLS as u64, symbols),
            (3, FILE_NAMES as u64, 0x40),
        ]
        .into_iter()
        .enumerate()
        {
            let at = SECTIONS + (i + 1) * section as usize;
            elf.fields(
                at,
                &[
                    (0, 4, 4),
                    (kind, 4, 4),
                    (0, 4, 8),
                    (0, 4, 8),
                    (place, 4, 8),
                    (len, 4, 8),
                    (2, 4, 4),
                ],
            );
        }
        elf.symbols(FILE_SYMBOLS, FILE_NAMES, &IN_FILE);
        elf
    }

    fn by_class(&self, narrow: (u64, u64), wide: (u64, u64)) -> (u64, u64) {
        if self.wide { wide } else { narrow }
    }

    /// Fields one after another: value, and width in a narrow and in a wide image.
    fn fields(&mut self, mut at: usize, fields: &[(u64, usize, usize)]) -> usize {
        for &(value, narrow, wide) in fields {
            let len = if self.wide { wide } else { narrow };
            self.bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
            at += len;
        }
        at
    }

    fn symbols(&mut self, mut at: usize, names: usize, symbols: &[Sym]) {
        let mut name = 1;
        for &(text, value, kind, section, _) in symbols {
            let index = if text.is_empty() { 0 } else { name as u64 };
            self.bytes[names + name..names + name + text.len()].copy_from_slice(text.as_bytes());
            name += text.len() + 1;
            let fields: &[(u64, usize, usize)] = match self.wide {
                true => &[
                    (index, 4, 4),
                    (kind, 1, 1),
                    (0, 1, 1),
                    (section, 2, 2),
                    (value, 8, 8),
                    (16, 8, 8),
                ],
                false => &[
                    (index, 4, 4),
                    (value, 4, 4),
                    (16, 4, 4),
                    (kind, 1, 1),
                    (0, 1, 1),
                    (section, 2, 2),
                ],
            };
            at = self.fields(at, fields);
        }
    }
}

/// Names of the symbols that are read, in the order of their addresses.
fn names(bytes: &[u8]) -> Option<Vec<String>> {
    let symbols = read_elf(bytes)?;
    Some(
        symbols
            .iter()
            .map(|symbol| symbol.name.to_owned())
            .collect(),
    )
}

#[test]
fn images_that_nobody_has_touched() {
    for wide in [false, true] {
        let mut bytes = Elf::new(wide).bytes;
        for place in 0..3 {
            bytes[PLACE] = place;
            let all = [
                "old@V_1",
                "open",
                "hidden",
                "imported@plt",
                "open@plt",
                "data",
            ];
            let all = all.map(str::to_owned);
            assert_eq!(names(&bytes), Some(all.to_vec()), "{wide} {place}");
        }
        // Its third page would be behind the end of all addresses.
        bytes[PLACE] = 3;
        assert_eq!(names(&bytes), None);

        bytes[PLACE] = 1;
        bytes[FILE_HOLES] = 4;
        let exported = ["old@V_1", "open", "imported@plt", "open@plt", "data"].map(str::to_owned);
        assert_eq!(names(&bytes), Some(exported.to_vec()), "{wide}");
        bytes[FILE_HOLES] = 0;
        bytes[HOLES] = 2;
        let in_file = ["open", "hidden"].map(str::to_owned);
        assert_eq!(names(&bytes), Some(in_file.to_vec()), "{wide}");
        bytes[FILE_HOLES] = 4;
        assert_eq!(names(&bytes), None, "{wide}");
    }
}

#[test]
fn images_that_are_damaged() {
    let mut rng = Rng::new(21);
    for wide in [false, true] {
        let good = Elf::new(wide).bytes;
        let mut read = 0;
        for _ in 0..ROUNDS {
            let mut bytes = good.clone();
            bytes[PLACE] = rng.below(4) as u8;
            if rng.below(4) == 0 {
                bytes[HOLES] = rng.below(8) as u8;
                bytes[FILE_HOLES] = rng.below(8) as u8;
            }
            for _ in 0..1 + rng.below(4) {
                // Where something is: nearly all of a page is zeros.
                let used = [
                    (16, 48),
                    (HEADERS, 0xa8),
                    (SYMBOLS, 0x300),
                    (DYNAMIC, 0xf0),
                    (RELOCATIONS, 0x60),
                    (STUBS, 0x20),
                    (SECTIONS, 0xc0),
                    (FILE_SYMBOLS, 0x180),
                ];
                let (start, len) = used[rng.below(used.len() as u64) as usize];
                let at = start + rng.below(len) as usize;
                let end = at + 1 + rng.below(8) as usize;
                match rng.below(4) {
                    0 => bytes[at..end].fill(0),
                    1 => bytes[at..end].fill(0xff),
                    2 => rng.fill(&mut bytes[at..end]),
                    _ => bytes[at] ^= 1 << rng.below(8),
                }
            }
            if rng.below(16) == 0 {
                bytes.truncate(rng.below(bytes.len() as u64) as usize);
            }
            read += usize::from(read_elf(&bytes).is_some());
        }
        assert!(read > ROUNDS / 10, "only {read} were read at all");
    }
}
