//! kallsyms: the kernel's own table of its symbols.
//!
//! A kernel keeps the names of its symbols compressed. 256 *tokens* stand for the pieces that occur
//! most often; a name is a length and so many token numbers, and the first letter of the expanded name
//! is its type as `nm` prints it. `scripts/kallsyms.c` in the kernel's sources writes these tables,
//! `kernel/kallsyms.c` reads them. On x86-64:
//!
//! | table | content |
//! |---|---|
//! | `num_syms` | number of symbols, u32 (u64 before 4.20) |
//! | `names` | for each symbol its length (one byte; from 6.1 on a set top bit adds a second one) and its tokens |
//! | `markers` | where in `names` every 256th symbol starts, u32 each (u64 before 4.20) |
//! | `token_table` | the tokens, each with a NUL |
//! | `token_index` | where each token starts in `token_table`, 256 u16 |
//! | addresses | see below |
//!
//! | kernel | order of the tables, and what gives the addresses |
//! |---|---|
//! | before 4.6 | `addresses` (u64, absolute), `num_syms`, `names`, `markers`, `token_table`, `token_index` |
//! | 4.6 to 6.3 | `offsets`, `relative_base`, `num_syms`, `names`, `markers`, (6.2: `seqs_of_names`), `token_table`, `token_index` |
//! | 6.4 to 6.14 | `num_syms`, `names`, `markers`, `token_table`, `token_index`, `offsets`, `relative_base`, `seqs_of_names` |
//! | 6.15 to 6.19 | the same; `offsets` are u32 from `relative_base`, without the rule for per-CPU symbols |
//! | from 7.0 on | the same without `relative_base`; each offset counts from its own place; tables are aligned to 4, not 8 |
//!
//! The rule for per-CPU symbols up to 6.14: an offset that is not negative is the value itself, a
//! negative one stands for `relative_base - 1 - offset`.
//!
//! **No version is looked at.** Distributions backport, and a damaged or hostile guest may claim any
//! version. Instead every arrangement is tried, and one is accepted when it verifies: the token index
//! equals the recomputed one, every marker falls on a symbol, names fill their table exactly, and
//! addresses ascend and lie in the kernel's window. The checks are strong enough that two
//! arrangements never pass (a wrong reading of offsets turns their order around).
//!
//! The module is split by what is known beforehand: [`shape`] finds all tables from nothing but bytes,
//! [`tables`] checks and decodes tables whose places are known. What is left of damaged tables is the
//! subject of [`salvage`].

mod salvage;
mod shape;
mod tables;
pub(in crate::os::linux) use salvage::{around_digits, from_damaged_places};
pub(in crate::os::linux) use shape::{DIGITS, NotFound, locate};
pub(in crate::os::linux) use tables::{Places, from_places};

use crate::addr::{AddrRange, Address, Gva};
use crate::os::symbols::{SymbolTable, SymbolTableBuilder};

/// Where the kernel's own image is mapped on x86-64: from here to [`IMAGE_LAST`].
pub(in crate::os) const IMAGE_START: u64 = 0xffff_ffff_8000_0000;
/// The last address that the kernel's image can have: it is given at most a gigabyte.
pub(in crate::os) const IMAGE_LAST: u64 = 0xffff_ffff_bfff_ffff;

const TOKENS: usize = 256;

/// The longest expanded name that is accepted; kernels allow 512 bytes.
const MAX_NAME: usize = 1024;

/// The longest `names` table that is looked at. Distribution kernels have about 2 MiB.
const MAX_NAMES: usize = 32 << 20;

/// How `names` gives lengths.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lengths {
    /// One byte.
    Byte,
    /// One byte, or two when the first one's top bit is set.
    Long,
}

/// How addresses are given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// As they are.
    Absolute,
    /// Offsets from a base, with the rule for per-CPU symbols.
    BaseWithPerCpu,
    /// Offsets from a base.
    Base,
    /// Offsets from each offset's own place.
    PlaceRelative,
}

impl Form {
    /// In words.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Absolute => "absolute",
            Self::BaseWithPerCpu => "relative to a base, with per-CPU symbols",
            Self::Base => "relative to a base",
            Self::PlaceRelative => "relative to their places",
        }
    }
}

/// Stands for an address that is lost.
const LOST: u64 = u64::MAX;

/// The expanded tokens.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Tokens {
    text: Vec<u8>,
    starts: [u16; TOKENS],
    /// Which are lost; `None` for a table that is whole.
    lost: Option<Box<[bool; TOKENS]>>,
}

impl Tokens {
    /// Splits `bytes`, which start with a token table, and answers the tokens with the length of the
    /// table. `None` when there are not 256 of them within reach of a 16-bit index.
    fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut starts = [0; TOKENS];
        let mut at = 0_usize;
        for start in &mut starts {
            *start = u16::try_from(at).ok()?;
            at += memchr::memchr(0, bytes.get(at..)?)? + 1;
        }
        let text = bytes[..at].to_vec();
        let lost = None;
        Some((Self { text, starts, lost }, at))
    }

    /// Whether `bytes` start with the index that belongs to these tokens.
    fn index_is(&self, bytes: &[u8]) -> bool {
        bytes.len() >= 2 * TOKENS
            && bytes
                .chunks_exact(2)
                .zip(self.starts)
                .all(|(entry, start)| entry == start.to_le_bytes())
    }

    fn is_lost(&self, token: u8) -> bool {
        let lost = self.lost.as_deref();
        lost.is_some_and(|lost| lost[usize::from(token)])
    }

    /// The text of a token; nothing for one that is lost.
    fn get(&self, token: u8) -> &[u8] {
        if self.lost.is_some() {
            let start = usize::from(self.starts[usize::from(token)]);
            let rest = self.text.get(start..).filter(|_| !self.is_lost(token));
            let rest = rest.unwrap_or_default();
            return &rest[..memchr::memchr(0, rest).unwrap_or(0)];
        }
        let token = usize::from(token);
        let start = usize::from(self.starts[token]);
        let end = match self.starts.get(token + 1) {
            Some(&next) => usize::from(next),
            None => self.text.len(),
        };
        &self.text[start..end - 1]
    }
}

/// A run of symbols whose names stand one behind the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Piece {
    /// The number of the first symbol.
    first: usize,
    /// How many there are.
    count: usize,
    /// Where the first name starts.
    at: usize,
}

impl Piece {
    fn contains(self, index: usize) -> bool {
        index >= self.first && index - self.first < self.count
    }
}

/// Symbols in a row that are lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LostSymbols {
    /// How many there are.
    pub(super) count: usize,
    /// The first and the last address that they can have, where that is known.
    pub(super) first: Option<Gva>,
    pub(super) last: Option<Gva>,
}

/// A symbol table of a kernel that was found and verified, names still compressed.
///
/// `A` is the space it was found in.
#[derive(Debug)]
pub(super) struct Kallsyms<A> {
    /// Where its token table is: the address that stands for the whole find.
    pub(super) token_table: A,
    /// How addresses are given.
    pub(super) form: Form,
    tokens: Tokens,
    names: Vec<u8>,
    lengths: Lengths,
    /// Where the names are, ascending; what is not in any is lost.
    pieces: Vec<Piece>,
    /// Whether parts of the tables are damaged.
    damaged: bool,
    /// One for each symbol, [`LOST`] where it is. Virtual addresses, except that a place-relative form that was found in
    /// physical memory gives physical ones.
    addresses: Vec<u64>,
}

impl<A: Address> Kallsyms<A> {
    /// Number of symbols.
    pub(super) fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Where the digit tokens are, from which [`locate`] finds it all again.
    pub(super) fn digits(&self) -> A {
        let before = self.tokens.starts[usize::from(b'0')];
        A::new(self.token_table.raw() + u64::from(before))
    }

    /// Whether the addresses of the symbols are not virtual ones but of the space that the table was
    /// found in, so that they have yet to be moved.
    pub(super) fn is_place_relative(&self) -> bool {
        self.form == Form::PlaceRelative
    }

    /// Whether parts of the tables are damaged.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// Expands all names; `slide` is added to every address.
    ///
    /// Cost: about 50 ns a symbol.
    pub(super) fn symbols(&self, slide: u64) -> SymbolTable {
        let mut builder =
            SymbolTableBuilder::with_capacity(self.addresses.len(), self.addresses.len() * 24);
        let mut pushed = 0;
        self.each(|_, address, tokens| {
            let va = Gva(address.wrapping_add(slide));
            let mut parts = tokens.iter().map(|&token| self.tokens.get(token));
            // The first letter is the type; the first token may well be that letter alone.
            if let Some((&kind, first)) = parts.by_ref().find_map(<[u8]>::split_first) {
                builder.push_parts(std::iter::once(first).chain(parts), va, kind);
                pushed += 1;
            }
        });
        if self.damaged {
            builder.note_missing(self.addresses.len() - pushed);
        }
        let image = |va: &u64| (IMAGE_START..=IMAGE_LAST).contains(va);
        let slid = || {
            let known = self.addresses.iter().filter(|&&address| address != LOST);
            known.map(|address| address.wrapping_add(slide))
        };
        let first = slid().find(image);
        let last = slid().rev().find(image);
        let extent = first
            .zip(last)
            .and_then(|(first, last)| AddrRange::inclusive(Gva(first), Gva(last)));
        builder.build(extent)
    }

    /// The symbols that are lost, by ascending number.
    pub(super) fn lost(&self, slide: u64) -> Vec<LostSymbols> {
        if !self.damaged {
            return Vec::new();
        }
        let mut known = vec![false; self.addresses.len()];
        self.each(|index, _, _| known[index] = true);
        let address = |index: usize| self.addresses.get(index).filter(|&&va| va != LOST);
        let slid = |va: &u64| Gva(va.wrapping_add(slide));
        let mut runs = Vec::new();
        let mut at = 0;
        while at < known.len() {
            let start = at;
            while at < known.len() && !known[at] {
                at += 1;
            }
            if at > start {
                let first = (0..=start).rev().find_map(address).map(slid);
                let last = (at - 1..known.len()).find_map(address).map(slid);
                runs.push(LostSymbols {
                    count: at - start,
                    first,
                    last,
                });
            }
            at += 1;
        }
        runs
    }

    /// Calls `found` for each symbol that is not lost: its number, address and tokens.
    fn each(&self, mut found: impl FnMut(usize, u64, &[u8])) {
        for piece in &self.pieces {
            let mut rest = self.names.get(piece.at..).unwrap_or_default();
            for index in piece.first..piece.first + piece.count {
                let Some((tokens, next)) = next_name(rest, self.lengths) else {
                    break;
                };
                rest = next;
                let Some(&address) = self.addresses.get(index) else {
                    break;
                };
                let is_lost = || tokens.iter().any(|&token| self.tokens.is_lost(token));
                if !self.damaged || address != LOST && !is_lost() {
                    found(index, address, tokens);
                }
            }
        }
    }
}

/// Takes one name off the front of `names`: its tokens, and what follows.
#[inline]
fn next_name(names: &[u8], lengths: Lengths) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = names.split_first()?;
    let (len, rest) = match lengths {
        Lengths::Long if first >= 0x80 => {
            let (&second, rest) = rest.split_first()?;
            (usize::from(first & 0x7f) | usize::from(second) << 7, rest)
        }
        _ => (usize::from(first), rest),
    };
    (len > 0 && len <= MAX_NAME)
        .then(|| rest.split_at_checked(len))
        .flatten()
}

/// Steps over `count` names. `marker` is asked about the place of every 256th; answers where they end.
fn walk_names(
    names: &[u8],
    count: usize,
    lengths: Lengths,
    mut marker: impl FnMut(usize, usize) -> bool,
) -> Option<usize> {
    let mut rest = names;
    for i in 0..count {
        if i % 256 == 0 && !marker(i / 256, names.len() - rest.len()) {
            return None;
        }
        rest = next_name(rest, lengths)?.1;
    }
    Some(names.len() - rest.len())
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
}

#[inline]
fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
}
