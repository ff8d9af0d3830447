//! Values, texts and bytes, any number of them in one pass.

use super::lanes::{self, Places};
use super::value::ValueQuery;
use crate::signature::{CompileError, Hit, Set, Signature};
use crate::sweep::{Found, Piece, Scanner};

/// Something to search for.
#[derive(Clone, Debug)]
pub enum Query {
    /// A number.
    Value(ValueQuery),
    /// Bytes, or a [text](super::TextQuery::signature).
    Pattern(Signature),
}

/// What was found: which query, and of a value its bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Sought {
    /// Index of the query.
    pub query: usize,
    /// The bits of the value; zero for patterns.
    pub bits: u64,
    /// How many bytes it takes; of a pattern with a choice the fewest.
    pub len: usize,
}

/// Searches for any number of queries in one pass: a [`Scanner`] to be sent over memory by
/// [`scan`](crate::scan::scan()).
///
/// Cost: patterns as in [`Set`]; values that are aligned to their size at the speed of memory, up to
/// `size` times that where they may stand anywhere.
#[derive(Debug)]
pub struct Finder {
    /// With their index.
    values: Vec<(usize, ValueQuery)>,
    patterns: Option<(Set, Vec<usize>)>,
    align: usize,
    overlap: usize,
}

impl Finder {
    /// A search for `queries` at addresses that are multiples of `align`, a power of two up to
    /// [`Piece::ALIGN`].
    ///
    /// # Errors
    ///
    /// When patterns do not make a set.
    ///
    /// # Panics
    ///
    /// When `align` is no such number.
    pub fn new(queries: Vec<Query>, align: u64) -> Result<Self, CompileError> {
        assert!(
            align.is_power_of_two() && align <= Piece::ALIGN,
            "alignments are powers of two up to {}",
            Piece::ALIGN
        );
        let (mut values, mut signatures, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
        for (index, query) in queries.into_iter().enumerate() {
            match query {
                Query::Value(query) => values.push((index, query)),
                Query::Pattern(signature) => {
                    signatures.push(signature);
                    numbers.push(index);
                }
            }
        }
        let patterns = match signatures {
            none if none.is_empty() => None,
            signatures => Some((Set::compile(signatures)?, numbers)),
        };
        let longest = values.iter().map(|(_, query)| query.ty.size()).max();
        let overlap = longest
            .max(patterns.as_ref().map(|(set, _)| set.max_len()))
            .ok_or(CompileError::Empty)?
            - 1;
        Ok(Self {
            values,
            patterns,
            align: align as usize,
            overlap,
        })
    }

    /// Offset of the first aligned address in a piece.
    fn first(&self, piece: &Piece<'_>) -> usize {
        (piece.phase as usize).wrapping_neg() & (self.align - 1)
    }
}

impl Scanner for Finder {
    type Item = Sought;

    fn behind(&self) -> usize {
        0
    }

    fn overlap(&self) -> usize {
        self.overlap
    }

    fn len_of(&self, sought: &Sought) -> usize {
        sought.len
    }

    fn scan(&self, piece: &Piece<'_>, found: &mut Found<(usize, Sought)>) {
        let first = self.first(piece);
        let mut hits = Found::with_limit(found.limit());
        let places = Places {
            first,
            align: self.align,
            owned: piece.owned,
        };
        for &(query, ref value) in &self.values {
            let len = value.ty.size();
            lanes::each(value, piece.bytes, places, &mut |at, bits| {
                hits.push((at, Sought { query, bits, len }));
                !hits.is_full()
            });
        }
        if let Some((set, numbers)) = &self.patterns {
            let mut matches = Found::with_limit(found.limit());
            set.find(piece.bytes, piece.owned, &mut matches);
            let overflow = matches.is_full();
            let aligned = matches.into_items().into_iter().filter(|hit| {
                hit.offset >= first && (hit.offset - first).is_multiple_of(self.align)
            });
            let sought = |hit: Hit| Sought {
                query: numbers[hit.sig],
                bits: 0,
                len: set.len_at(piece.bytes, hit),
            };
            hits.extend(aligned.map(|hit| (hit.offset, sought(hit))), overflow);
        }
        let overflow = hits.is_full();
        let mut hits = hits.into_items();
        hits.sort_unstable_by_key(|&(at, sought)| (at, sought.query));
        found.extend(hits, overflow);
    }
}

impl Query {
    /// Whether what this finds is `bytes` from the start, and its bits and length: the reference implementation of the search.
    #[cfg(test)]
    fn starts(&self, bytes: &[u8]) -> Option<(u64, usize)> {
        match self {
            Self::Value(query) => {
                let mut bits = [0; 8];
                let size = query.ty.size();
                bits[..size].copy_from_slice(bytes.get(..size)?);
                let bits = u64::from_le_bytes(bits);
                query.accepts(bits).then_some((bits, size))
            }
            Self::Pattern(signature) => {
                let set = Set::compile(vec![signature.clone()]).ok()?;
                // As few bytes as will do.
                let matches = |len: &usize| {
                    let mut found = Found::with_limit(1);
                    set.find(&bytes[..*len], 1, &mut found);
                    !found.items().is_empty()
                };
                (1..=bytes.len()).find(matches).map(|len| (0, len))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow::Continue;

    use proptest::prelude::*;

    use super::*;
    use crate::addr::Gva;
    use crate::search::{Encoding, TextQuery, ValueType};
    use crate::sweep::{SweepOptions, quiet, seek};
    use crate::testmem::TestMemory;

    fn any_query() -> impl Strategy<Value = Query> {
        let numbers = prop::sample::select(ValueType::ALL.to_vec());
        let texts = prop::sample::select(vec![
            "0",
            "1",
            "2",
            "..3",
            "1..=2",
            "..",
            "0x101",
            "..-1",
            "-1",
            "1~1",
            "nan",
            "513..70000",
        ]);
        prop_oneof![
            (numbers, texts)
                .prop_filter_map("a value", |(ty, text)| ValueQuery::parse(ty, text).ok())
                .prop_map(Query::Value),
            prop::sample::select(vec!["01 02", "?? 01", "00 00 00", "(01 | 02 02) 00"])
                .prop_map(|text| Query::Pattern(Signature::parse("", text).unwrap())),
        ]
    }

    proptest! {
        #[test]
        fn every_value_is_found_where_it_stands(
            queries in prop::collection::vec(any_query(), 1..5),
            bytes in prop::collection::vec(
                prop_oneof![6 => 0u8..4, 1 => Just(0xff), 1 => Just(0x7f), 1 => any::<u8>()], 1..700),
            start in 0u64..200,
            hole in prop::option::of((0u64..700, 1u64..20)),
            align in prop::sample::select(vec![1u64, 2, 4, 8, 16, 64]),
            window in prop::sample::select(vec![1usize, 2, 3, 7, 100, 1 << 18]),
            lends: bool,
        ) {
            let mut memory = TestMemory::<Gva>::of(start, &bytes);
            memory.lends = lends;
            let mut end = bytes.len();
            if let Some((at, _)) = hole.filter(|(at, _)| (*at as usize) < bytes.len()) {
                // Absent to the end of its page: the whole rest, as the memory is that small.
                memory = memory.absent(start + at, bytes.len() as u64 - at);
                end = at as usize;
            }
            let mut naive = Vec::new();
            for at in 0..end {
                if !(start + at as u64).is_multiple_of(align) {
                    continue;
                }
                for (query, sought) in queries.iter().enumerate() {
                    if let Some((bits, len)) = sought.starts(&bytes[at..end]) {
                        naive.push((Gva(start + at as u64), Sought { query, bits, len }));
                    }
                }
            }
            let finder = Finder::new(queries, align).unwrap();
            let options = SweepOptions { window, threads: 1, ..SweepOptions::default() };
            let mut found = Vec::new();
            let outcome = seek(&memory, &finder, &options, &mut quiet, |addr, sought| {
                found.push((addr, sought));
                Continue(())
            });
            prop_assert_eq!(found, naive);
            prop_assert_eq!(outcome.coverage.read, end as u64);
        }
    }

    #[test]
    fn texts_and_numbers_come_in_the_order_of_addresses() {
        let memory = TestMemory::<Gva>::of(0x1000, b"\x05\0\0\0five\x05\0\0\0FIVE");
        let text = TextQuery {
            text: "five".to_owned(),
            encoding: Encoding::Utf8,
            ignore_case: true,
        };
        let queries = vec![
            Query::Pattern(text.signature().unwrap()),
            Query::Value(ValueQuery::parse(ValueType::U32, "5").unwrap()),
        ];
        let finder = Finder::new(queries, 4).unwrap();
        let mut found = Vec::new();
        let _ = seek(
            &memory,
            &finder,
            &SweepOptions::default(),
            &mut quiet,
            |addr, sought| {
                found.push((addr.0, sought.query, sought.bits));
                Continue(())
            },
        );
        assert_eq!(
            found,
            [
                (0x1000, 1, 5),
                (0x1004, 0, 0),
                (0x1008, 1, 5),
                (0x100c, 0, 0)
            ]
        );
    }

    #[test]
    fn a_search_for_nothing_is_refused() {
        assert!(matches!(
            Finder::new(Vec::new(), 1),
            Err(CompileError::Empty)
        ));
    }
}
