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
//! [`tables`] checks and decodes tables whose places are known.

mod shape;
mod tables;
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

/// The expanded tokens.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Tokens {
    text: Vec<u8>,
    starts: [u16; TOKENS],
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
        Some((Self { text, starts }, at))
    }

    /// Whether `bytes` start with the index that belongs to these tokens.
    fn index_is(&self, bytes: &[u8]) -> bool {
        bytes.len() >= 2 * TOKENS
            && bytes
                .chunks_exact(2)
                .zip(self.starts)
                .all(|(entry, start)| entry == start.to_le_bytes())
    }

    fn get(&self, token: u8) -> &[u8] {
        let token = usize::from(token);
        let start = usize::from(self.starts[token]);
        let end = match self.starts.get(token + 1) {
            Some(&next) => usize::from(next),
            None => self.text.len(),
        };
        &self.text[start..end - 1]
    }
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
    /// One for each symbol. Virtual addresses, except that a place-relative form that was found in
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

    /// Expands all names; `slide` is added to every address.
    ///
    /// Cost: about 50 ns a symbol.
    pub(super) fn symbols(&self, slide: u64) -> SymbolTable {
        let mut builder =
            SymbolTableBuilder::with_capacity(self.addresses.len(), self.addresses.len() * 24);
        let mut rest = &self.names[..];
        for &address in &self.addresses {
            let Some((tokens, next)) = next_name(rest, self.lengths) else {
                break;
            };
            rest = next;
            let va = Gva(address.wrapping_add(slide));
            let mut parts = tokens.iter().map(|&token| self.tokens.get(token));
            // The first letter is the type; the first token may well be that letter alone.
            let Some((&kind, first)) = parts.by_ref().find_map(<[u8]>::split_first) else {
                continue;
            };
            builder.push_parts(std::iter::once(first).chain(parts), va, kind);
        }
        let image = |va: &&u64| (IMAGE_START..=IMAGE_LAST).contains(*va);
        let slid: Vec<u64> = self
            .addresses
            .iter()
            .map(|a| a.wrapping_add(slide))
            .collect();
        let first = slid.iter().find(image);
        let last = slid.iter().rfind(image);
        let extent = first
            .zip(last)
            .and_then(|(&first, &last)| AddrRange::inclusive(Gva(first), Gva(last)));
        builder.build(extent)
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
