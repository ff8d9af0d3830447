//! Writes kallsyms tables the way the kernel's build does, in every arrangement there has been.

use std::collections::BTreeMap;

/// A symbol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sym {
    /// Its address.
    pub va: u64,
    /// Its type as `nm` prints it.
    pub kind: char,
    /// Its name.
    pub name: String,
}

impl Sym {
    /// A symbol.
    pub fn new(va: u64, kind: char, name: impl Into<String>) -> Self {
        Self {
            va,
            kind,
            name: name.into(),
        }
    }
}

/// The order of the tables, and what gives the addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrangement {
    /// Before 4.6: absolute addresses; counts of 64 bits.
    V4_5,
    /// 4.6 to 4.19: offsets from a base, per-CPU symbols absolute; counts of 64 bits.
    V4_19,
    /// 4.20 to 6.0: counts of 32 bits.
    V6_0,
    /// 6.1: lengths of two bytes.
    V6_1,
    /// 6.2 and 6.3: the order of names in a table of its own before the tokens.
    V6_3,
    /// 6.4 to 6.14: addresses behind the tokens.
    V6_14,
    /// 6.15 to 6.19: no rule for per-CPU symbols.
    V6_19,
    /// From 7.0 on: offsets from their own places, tables aligned to 4.
    V7_0,
}

impl Arrangement {
    /// All of them, oldest first.
    pub const ALL: [Self; 8] = [
        Self::V4_5,
        Self::V4_19,
        Self::V6_0,
        Self::V6_1,
        Self::V6_3,
        Self::V6_14,
        Self::V6_19,
        Self::V7_0,
    ];

    /// Whether per-CPU symbols have small absolute addresses.
    pub fn per_cpu(self) -> bool {
        self <= Self::V6_14
    }

    /// Whether names of more than 127 tokens can be written.
    pub fn long_names(self) -> bool {
        self >= Self::V6_1
    }

    fn wide_counts(self) -> bool {
        self <= Self::V4_19
    }
}

impl PartialOrd for Arrangement {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (*self as u8).partial_cmp(&(*other as u8))
    }
}

/// Encoded tables.
#[derive(Clone, Debug)]
pub struct Kallsyms {
    /// All tables, from an address that is a multiple of 8 on.
    pub bytes: Vec<u8>,
    /// Where each table starts in `bytes`, by the name of its label (`kallsyms_names`).
    pub labels: BTreeMap<&'static str, usize>,
}

/// Encodes `symbols`, which ascend by address, for a place at `va`.
///
/// # Panics
///
/// When symbols do not ascend, `va` is not a multiple of 8, or something does not fit the arrangement.
pub fn kallsyms(arrangement: Arrangement, symbols: &[Sym], va: u64) -> Kallsyms {
    assert!(
        symbols.is_sorted_by_key(|symbol| symbol.va),
        "not by address"
    );
    assert!(va.is_multiple_of(8));
    let (tokens, names) = compress(symbols);
    let mut out = Writer {
        bytes: Vec::new(),
        labels: BTreeMap::new(),
        align: if arrangement == Arrangement::V7_0 {
            4
        } else {
            8
        },
        va,
    };
    if arrangement < Arrangement::V6_14 {
        out.addresses(arrangement, symbols);
    }
    out.label("kallsyms_num_syms");
    out.count(arrangement, symbols.len());

    out.label("kallsyms_names");
    let start = out.bytes.len();
    let mut markers = Vec::new();
    for (i, name) in names.iter().enumerate() {
        if i % 256 == 0 {
            markers.push(out.bytes.len() - start);
        }
        match name.len() {
            len @ 1..0x80 => out.bytes.push(len as u8),
            len if arrangement.long_names() => {
                out.bytes
                    .extend([(len & 0x7f) as u8 | 0x80, (len >> 7) as u8]);
            }
            len => out.bytes.push(u8::try_from(len).expect("name too long")),
        }
        out.bytes.extend(name);
    }
    out.label("kallsyms_markers");
    for marker in markers {
        out.count(arrangement, marker);
    }
    if arrangement == Arrangement::V6_3 {
        out.order_of_names(symbols);
    }

    out.label("kallsyms_token_table");
    let start = out.bytes.len();
    let mut index = Vec::new();
    for token in &tokens {
        index.push((out.bytes.len() - start) as u16);
        out.bytes.extend(token);
        out.bytes.push(0);
    }
    out.label("kallsyms_token_index");
    for start in index {
        out.bytes.extend(start.to_le_bytes());
    }
    if arrangement >= Arrangement::V6_14 {
        out.addresses(arrangement, symbols);
        out.order_of_names(symbols);
    }
    Kallsyms {
        bytes: out.bytes,
        labels: out.labels,
    }
}

struct Writer {
    bytes: Vec<u8>,
    labels: BTreeMap<&'static str, usize>,
    align: usize,
    va: u64,
}

impl Writer {
    fn label(&mut self, name: &'static str) {
        let padded = self.bytes.len().next_multiple_of(self.align);
        self.bytes.resize(padded, 0);
        self.labels.insert(name, padded);
    }

    fn count(&mut self, arrangement: Arrangement, number: usize) {
        if arrangement.wide_counts() {
            self.bytes.extend((number as u64).to_le_bytes());
        } else {
            self.bytes.extend((number as u32).to_le_bytes());
        }
    }

    fn addresses(&mut self, arrangement: Arrangement, symbols: &[Sym]) {
        if arrangement == Arrangement::V4_5 {
            self.label("kallsyms_addresses");
            for symbol in symbols {
                self.bytes.extend(symbol.va.to_le_bytes());
            }
            return;
        }
        let absolute = |va: u64| arrangement.per_cpu() && va < 1 << 31;
        let base = symbols
            .iter()
            .map(|symbol| symbol.va)
            .find(|&va| !absolute(va))
            .expect("only per-CPU symbols");
        self.label("kallsyms_offsets");
        for symbol in symbols {
            let here = self.va + self.bytes.len() as u64;
            let offset = match symbol.va {
                va if arrangement == Arrangement::V7_0 => va.wrapping_sub(here),
                va if absolute(va) => va,
                va if arrangement.per_cpu() => base.wrapping_sub(va).wrapping_sub(1),
                va => va.wrapping_sub(base),
            };
            self.bytes.extend((offset as u32).to_le_bytes());
        }
        if arrangement != Arrangement::V7_0 {
            self.label("kallsyms_relative_base");
            self.bytes.extend(base.to_le_bytes());
        }
    }

    /// Three bytes for each symbol, in the order of names.
    fn order_of_names(&mut self, symbols: &[Sym]) {
        self.label("kallsyms_seqs_of_names");
        let mut order: Vec<usize> = (0..symbols.len()).collect();
        order.sort_by_key(|&i| &symbols[i].name);
        for i in order {
            self.bytes.extend(&(i as u32).to_be_bytes()[1..]);
        }
    }
}

/// Replaces the most frequent pairs of bytes by codes that no name uses, again and again, and answers
/// the expansion of all 256 codes with the names in codes.
fn compress(symbols: &[Sym]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut names: Vec<Vec<u8>> = symbols
        .iter()
        .map(|symbol| format!("{}{}", symbol.kind, symbol.name).into_bytes())
        .collect();
    let mut tokens: Vec<Vec<u8>> = vec![Vec::new(); 256];
    for &byte in names.iter().flatten() {
        tokens[usize::from(byte)] = vec![byte];
    }
    for code in (0..=255_u8).rev() {
        if !tokens[usize::from(code)].is_empty() {
            continue;
        }
        let mut pairs = vec![0_u32; 1 << 16];
        for pair in names.iter().flat_map(|name| name.windows(2)) {
            pairs[usize::from(u16::from_be_bytes([pair[0], pair[1]]))] += 1;
        }
        let best = (0..=u16::MAX).max_by_key(|&pair| pairs[usize::from(pair)]);
        let best = best.filter(|&pair| pairs[usize::from(pair)] > 1);
        let Some([first, second]) = best.map(u16::to_be_bytes) else {
            break;
        };
        tokens[usize::from(code)] = [
            &tokens[usize::from(first)][..],
            &tokens[usize::from(second)][..],
        ]
        .concat();
        for name in &mut names {
            let mut shorter = Vec::with_capacity(name.len());
            let mut rest = &name[..];
            while let Some((&byte, next)) = rest.split_first() {
                if byte == first && next.first() == Some(&second) {
                    shorter.push(code);
                    rest = &next[1..];
                } else {
                    shorter.push(byte);
                    rest = next;
                }
            }
            *name = shorter;
        }
    }
    (tokens, names)
}
