//! All positions at once, 64 to a word.
//!
//! A signature is worked through from its end to its beginning. At each step there is one bitmap: bit
//! `p` says that the part worked through so far can match from position `p` on.
//!
//! ```text
//! start     every position up to the end of the bytes
//! byte      here(p) = byte p passes the test, and after(p + 1)
//! jump n-m  here(p) = after(p + n) or ... or after(p + m)        by doubling: log2(m - n) shifts
//! ( | )     here    = each branch on its own, or-ed together
//! ```
//!
//! The work is elements x bytes / 64, plus a pass over the bytes for each *different* byte test,
//! whatever the bytes are. That makes it the answer where anchors fail: a signature that has none, and
//! memory made to contain one everywhere. Nothing a guest does makes it slower, and no choice of
//! jumps and alternatives makes it explode.

use std::collections::HashMap;
use std::sync::Arc;

use crate::signature::{ByteTest, Engine, Hit, Node, Signature};
use crate::sweep::Found;

/// See the module.
#[derive(Debug)]
pub(super) struct Dense {
    signatures: Arc<[Signature]>,
}

impl Dense {
    pub(super) fn new(signatures: &Arc<[Signature]>) -> Self {
        Self {
            signatures: Arc::clone(signatures),
        }
    }
}

impl Engine for Dense {
    fn name(&self) -> &'static str {
        "dense"
    }

    fn find(&self, bytes: &[u8], owned: usize, hits: &mut Found<Hit>) {
        let mut view = View::new(bytes);
        for (sig, signature) in self.signatures.iter().enumerate() {
            view.find(signature, sig, owned, hits);
            if hits.is_full() {
                return;
            }
        }
    }
}

/// Bytes, with the answers to the tests that were asked of all of them.
pub(super) struct View<'b> {
    bytes: &'b [u8],
    tests: HashMap<ByteTest, Bits>,
}

impl<'b> View<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self {
            bytes,
            tests: HashMap::new(),
        }
    }

    /// Pushes the hits of one signature, which has index `sig`, that start in `bytes[..owned]`.
    pub(super) fn find(
        &mut self,
        signature: &Signature,
        sig: usize,
        owned: usize,
        hits: &mut Found<Hit>,
    ) {
        if self.bytes.len() < signature.min_len() {
            return;
        }
        let found = self.step(signature.nodes(), Bits::ones(self.bytes.len() + 1));
        for offset in found.iter().take_while(|&offset| offset < owned) {
            hits.push(Hit { offset, sig });
            if hits.is_full() {
                return;
            }
        }
    }

    /// Where `nodes` can begin when what follows them can begin at `after`.
    fn step(&mut self, nodes: &[Node], after: Bits) -> Bits {
        let mut after = after;
        for node in nodes.iter().rev() {
            match node {
                Node::Byte(test) => {
                    after.advance(1);
                    after.and(self.test(*test));
                }
                Node::Skip { min, max } => {
                    after.advance(*min);
                    let wanted = max - min + 1;
                    let mut covered = 1;
                    while covered < wanted {
                        let more = covered.min(wanted - covered);
                        after.or_advanced(more);
                        covered += more;
                    }
                }
                Node::Alt(branches) => {
                    let mut any = Bits::zeros(after.len);
                    for branch in branches {
                        any.or(&self.step(branch, after.clone()));
                    }
                    after = any;
                }
            }
        }
        after
    }

    fn test(&mut self, test: ByteTest) -> &Bits {
        let bytes = self.bytes;
        self.tests
            .entry(test)
            .or_insert_with(|| Bits::of_test(bytes, test))
    }
}

/// A bitmap. Bits from `len` on are zero.
#[derive(Clone)]
struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    fn zeros(len: usize) -> Self {
        Self {
            words: vec![0; len.div_ceil(64)],
            len,
        }
    }

    fn ones(len: usize) -> Self {
        let mut bits = Self {
            words: vec![u64::MAX; len.div_ceil(64)],
            len,
        };
        bits.trim();
        bits
    }

    /// Clears the bits from `len` on.
    fn trim(&mut self) {
        let used = self.len % 64;
        if used > 0
            && let Some(last) = self.words.last_mut()
        {
            *last &= (1 << used) - 1;
        }
    }

    /// Bit `p` says whether byte `p` passes; the bit behind the last byte is zero.
    fn of_test(bytes: &[u8], test: ByteTest) -> Self {
        let mut bits = Self::zeros(bytes.len() + 1);
        let (chunks, rest) = bytes.as_chunks::<64>();
        for (word, chunk) in bits.words.iter_mut().zip(chunks) {
            *word = test_64(chunk, test);
        }
        for (i, &byte) in rest.iter().enumerate() {
            let p = chunks.len() * 64 + i;
            bits.words[p / 64] |= u64::from(test.accepts(byte)) << (p % 64);
        }
        bits
    }

    fn and(&mut self, other: &Self) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= other;
        }
    }

    fn or(&mut self, other: &Self) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
    }

    /// `bit(p) = bit(p + distance)`.
    fn advance(&mut self, distance: usize) {
        self.combine(distance, |_, advanced| advanced);
    }

    /// `bit(p) |= bit(p + distance)`.
    fn or_advanced(&mut self, distance: usize) {
        self.combine(distance, |word, advanced| word | advanced);
    }

    /// Each word becomes what `f` makes of it and of the word `distance` bits further on.
    ///
    /// In ascending order, so a word is read before it is changed.
    fn combine(&mut self, distance: usize, f: impl Fn(u64, u64) -> u64) {
        let (whole, bits) = (distance / 64, distance % 64);
        let words = &mut self.words[..];
        let count = words.len();
        let inner = count.saturating_sub(whole + 1);
        if bits == 0 {
            for i in 0..count.saturating_sub(whole) {
                words[i] = f(words[i], words[i + whole]);
            }
        } else {
            for i in 0..inner {
                let advanced = words[i + whole] >> bits | words[i + whole + 1] << (64 - bits);
                words[i] = f(words[i], advanced);
            }
            if whole < count {
                words[inner] = f(words[inner], words[inner + whole] >> bits);
            }
        }
        for word in words.iter_mut().skip(count.saturating_sub(whole)) {
            *word = f(*word, 0);
        }
    }

    /// The set bits, ascending.
    fn iter(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(i, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros();
                rest &= rest.wrapping_sub(1);
                (bit < 64).then_some(i * 64 + bit as usize)
            })
        })
    }
}

/// 64 byte tests, eight at a time within a word.
fn test_64(chunk: &[u8; 64], test: ByteTest) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const LOW: u64 = 0x7f * ONES;
    // Moves bit 7 of byte i to bit 56 + i.
    const GATHER: u64 = 0x0002_0408_1020_4081;
    let mask = u64::from(test.mask) * ONES;
    let value = u64::from(test.value) * ONES;
    let mut passed = 0;
    for (i, eight) in chunk.as_chunks::<8>().0.iter().enumerate() {
        let differs = u64::from_le_bytes(*eight) & mask ^ value;
        // Bit 7 of each byte of `equal`: whether that byte of `differs` is zero. No carry leaves a
        // byte, so unlike the well-known shorter test this one is exact for every byte.
        let equal = !((differs & LOW).wrapping_add(LOW) | differs | LOW);
        passed |= (equal.wrapping_mul(GATHER) >> 56) << (i * 8);
    }
    if test.negated { !passed } else { passed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn word_tests_equal_byte_tests() {
        let mut chunk = [0; 64];
        for base in [0u8, 64, 128, 192] {
            for (i, byte) in (0u8..).zip(chunk.iter_mut()) {
                *byte = base.wrapping_add(i);
            }
            for (value, mask) in [
                (0, 0xff),
                (0x80, 0xff),
                (0xff, 0xff),
                (0x40, 0xf0),
                (8, 0x0f),
            ] {
                for negated in [false, true] {
                    let test = ByteTest {
                        value,
                        mask,
                        negated,
                    };
                    let word = test_64(&chunk, test);
                    for (i, &byte) in chunk.iter().enumerate() {
                        assert_eq!(word >> i & 1 == 1, test.accepts(byte), "{byte:#x} {test}");
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn advancing_equals_moving_bit_by_bit(
            set in prop::collection::vec(any::<bool>(), 1..400),
            distance in 0usize..500,
        ) {
            let mut bits = Bits::zeros(set.len());
            for (p, &bit) in set.iter().enumerate() {
                bits.words[p / 64] |= u64::from(bit) << (p % 64);
            }
            let at = |p: usize| set.get(p).copied().unwrap_or(false);
            let mut advanced = bits.clone();
            advanced.advance(distance);
            let expected: Vec<usize> = (0..set.len()).filter(|&p| at(p + distance)).collect();
            prop_assert_eq!(advanced.iter().collect::<Vec<_>>(), expected);
            bits.or_advanced(distance);
            let expected: Vec<usize> =
                (0..set.len()).filter(|&p| at(p) || at(p + distance)).collect();
            prop_assert_eq!(bits.iter().collect::<Vec<_>>(), expected);
        }
    }
}
