//! Byte signatures: one syntax, compiled sets, and the engines that find them in one pass.
//!
//! ```text
//! parse   text -> Signature                    every syntax people paste, one tree
//! Set     signatures -> engine                 compiled once, then immutable and shared
//! Engine  bytes -> hits                        sees only &[u8]; nothing of memory, windows, threads
//! scan    Memory + Set -> matches, coverage    see the module `scan`: it brings the bytes
//! ```
//!
//! # What a match is
//!
//! The answer is the *set* of pairs (address, signature) such that the signature matches at the
//! address with some choice of its alternatives and some length of its jumps. All matches are found,
//! overlapping ones too; a place where two choices match counts once. Every byte of a match must be
//! readable, wildcards included: a signature that ends in `??` does not match at the last byte but
//! one before a hole. Two equal signatures both report. Matches come by address, then by number of
//! the signature.
//!
//! # Adding an engine
//!
//! Implement [`Engine`] in a file of `engine/`, add it to [`EngineKind`] and to the choice in
//! `engine::select`; the tests then compare it with the naive engine.

mod anchor;
mod dialect;
mod display;
mod engine;
mod error;
mod matcher;
mod parse;
mod rarity;
mod scanner;
#[cfg(test)]
mod tests;
mod warning;

pub use anchor::Anchor;
pub use engine::{Engine, EngineKind, Hit, NoSuchEngine};
pub use error::{CompileError, ParseError};
pub use matcher::Matcher;
pub use scanner::Matched;
pub use warning::Warning;

use std::str::FromStr;
use std::sync::Arc;

use crate::sweep::Found;
use engine::verify;

/// The longest jump: `[n-m]` and `[n]` take up to this many bytes.
pub const MAX_JUMP: usize = 4096;

/// The most bytes one signature can span.
pub const MAX_LEN: usize = 16 << 10;

/// How deep alternatives nest.
pub const MAX_DEPTH: usize = 16;

/// The most elements (bytes, jumps, branches) that the signatures of one set may have together.
pub const MAX_SET_ELEMENTS: usize = 8 << 20;

/// A condition on one byte: `(byte & mask == value) != negated`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct ByteTest {
    /// No bits outside `mask`.
    pub(crate) value: u8,
    /// 0xff, 0xf0 or 0x0f; never zero, a byte that may be anything is [`Node::Skip`].
    pub(crate) mask: u8,
    pub(crate) negated: bool,
}

impl ByteTest {
    pub(crate) fn accepts(self, byte: u8) -> bool {
        (byte & self.mask == self.value) != self.negated
    }

    /// The one byte accepted, when there is only one.
    pub(crate) fn literal(self) -> Option<u8> {
        (self.mask == 0xff && !self.negated).then_some(self.value)
    }
}

/// An element of a signature.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Node {
    /// One byte under a condition.
    Byte(ByteTest),
    /// `min` to `max` bytes of any value; `max` is not zero. Those of one length never follow each
    /// other, they are joined.
    Skip { min: usize, max: usize },
    /// One of two or more sequences, none of them empty.
    Alt(Vec<Vec<Node>>),
}

impl Node {
    /// Least and greatest number of bytes it takes.
    pub(crate) fn len_bounds(&self) -> (usize, usize) {
        match self {
            Self::Byte(_) => (1, 1),
            Self::Skip { min, max } => (*min, *max),
            Self::Alt(branches) => branches
                .iter()
                .map(|branch| len_bounds(branch))
                .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
                .unwrap_or((0, 0)),
        }
    }

    fn elements(&self) -> usize {
        match self {
            Self::Byte(_) | Self::Skip { .. } => 1,
            Self::Alt(branches) => 1 + branches.iter().map(|b| elements(b)).sum::<usize>(),
        }
    }
}

/// Least and greatest number of bytes a sequence takes.
pub(crate) fn len_bounds(nodes: &[Node]) -> (usize, usize) {
    nodes.iter().fold((0, 0), |(min, max), node| {
        let (node_min, node_max) = node.len_bounds();
        (min + node_min, max + node_max)
    })
}

fn elements(nodes: &[Node]) -> usize {
    nodes.iter().map(Node::elements).sum()
}

/// A byte pattern with a name.
///
/// It spans between 1 and [`MAX_LEN`] bytes and constrains at least one of them. `Display` gives
/// the canonical form, which parses back to the same signature.
///
/// # Syntax
///
/// | | |
/// |---|---|
/// | `48 8B 05`, `488B05`, `48-8B-05`, `0x48, 0x8B` | bytes, in either case, spaces optional |
/// | `??` and `..`, or `?`, `.`, `*` standing alone | any byte |
/// | `4?`, `?8`, `4.` | any byte with this half |
/// | `~E8`, `~4?` | any byte but this, any byte without this half |
/// | `[4]`, `[2-6]` | that many bytes of any value, at most [`MAX_JUMP`]; not at either end |
/// | `(E8 \| E9 90)` | one of these; may be nested |
/// | `"text"`, `u"text"` | the bytes of text in UTF-8, in UTF-16 (little-endian); `\"` and `\\` inside |
/// | `{ ... }` | braces around the whole, as in YARA, are optional |
/// | `// ...`, `/* ... */` | comments |
/// | `\x48\x8B\x00 xx?`, `"\x48\x8B", "x?"` | bytes as in C, then a mask of `x` and `?`; without a mask all bytes count |
/// | `48 8B 00 xx?` | the same for bytes without wildcards |
/// | `48 8B 05 : FF F8 00` | bytes, and for each the bits that count |
/// | `0x48, 0x8B, 0x00 0b011` | bytes with `0x`, and a bit for each that counts, that of the first byte *last* |
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Signature {
    name: String,
    nodes: Vec<Node>,
    min_len: usize,
    max_len: usize,
}

impl Signature {
    /// Reads a signature in any of the forms above; `name` may be anything.
    ///
    /// # Errors
    ///
    /// What was expected and found, and where.
    pub fn parse(name: impl Into<String>, text: &str) -> Result<Self, ParseError> {
        Self::parse_noting(name, text).map(|(signature, _)| signature)
    }

    /// As [`Signature::parse`], with remarks on what may have been meant otherwise: bytes that are wildcards in the
    /// signatures of other tools and are looked for as they are.
    ///
    /// # Errors
    ///
    /// As [`Signature::parse`].
    pub fn parse_noting(
        name: impl Into<String>,
        text: &str,
    ) -> Result<(Self, Vec<String>), ParseError> {
        let (nodes, notes) = parse::parse(text)?;
        let (min_len, max_len) = len_bounds(&nodes);
        let signature = Self {
            name: name.into(),
            nodes,
            min_len,
            max_len,
        };
        Ok((signature, notes))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fewest bytes a match can have.
    pub fn min_len(&self) -> usize {
        self.min_len
    }

    /// The most bytes a match can have.
    pub fn max_len(&self) -> usize {
        self.max_len
    }

    /// The bytes that engines look for first: every match contains one of them. Empty when there is
    /// no such choice, as for `4? ?8`; then every position is tested, which is slower.
    pub fn anchors(&self) -> Vec<Anchor> {
        anchor::choose(&self.nodes)
    }

    /// How many matches are expected by chance in a GiB of memory that is in use (pages of zeros aside).
    ///
    /// An estimate: literal bytes in a row are taken to be as frequent as in the programs and libraries
    /// of a Linux system, and everything else as independent of what stands beside it. A signature of
    /// which thousands are expected tells little about the place where it matches.
    pub fn expected_per_gib(&self) -> f64 {
        rarity::chance(&self.nodes) * f64::from(1 << 30)
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }
}

impl FromStr for Signature {
    type Err = ParseError;

    /// A signature without a name.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse("", text)
    }
}

/// Signatures compiled to be found together in one pass.
///
/// It never changes once it is compiled, so threads can share it. [`scan`](crate::scan::scan()) finds it in a memory; over
/// bytes from anywhere else it works by itself, with a [`Matcher`] where there are many pieces of them:
///
/// ```
/// use vmie::signature::{Hit, Set, Signature};
///
/// let set = Set::compile(vec![
///     Signature::parse("call", "E8 ?? ?? ?? ?? 48")?,
///     Signature::parse("name", "\"demo\"")?,
/// ])?;
/// let bytes = b"..demo..\xe8\x10\0\0\0\x48";
/// assert_eq!(
///     set.matches(bytes),
///     [Hit { offset: 2, sig: 1 }, Hit { offset: 8, sig: 0 }]
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Set {
    signatures: Arc<[Signature]>,
    max_len: usize,
    engine: Box<dyn Engine>,
}

impl Set {
    /// Compiles signatures; a match names one by its index here.
    ///
    /// # Errors
    ///
    /// When there are none, or too many.
    pub fn compile(signatures: Vec<Signature>) -> Result<Self, CompileError> {
        Self::compile_for(signatures, EngineKind::Auto)
    }

    /// As [`Set::compile`], with a certain engine.
    ///
    /// # Errors
    ///
    /// As [`Set::compile`], and when this machine cannot run the engine.
    pub fn compile_for(signatures: Vec<Signature>, kind: EngineKind) -> Result<Self, CompileError> {
        if !kind.is_available() {
            return Err(CompileError::Unavailable(kind));
        }
        let max_len = signatures
            .iter()
            .map(Signature::max_len)
            .max()
            .ok_or(CompileError::Empty)?;
        let total = signatures.iter().map(|s| elements(&s.nodes)).sum();
        if total > MAX_SET_ELEMENTS {
            return Err(CompileError::TooLarge { elements: total });
        }
        let signatures = signatures.into();
        let engine = engine::select(&signatures, kind);
        Ok(Self {
            signatures,
            max_len,
            engine,
        })
    }

    /// The set once for every engine there is, in every mode it has.
    #[cfg(test)]
    fn with_every_engine(signatures: &[Signature]) -> Vec<Self> {
        engine::all(&signatures.into())
            .into_iter()
            .map(|engine| Self {
                engine,
                ..Self::compile(signatures.to_vec()).unwrap()
            })
            .collect()
    }

    /// The signatures, in the order they were given.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The most bytes a match of any of them can have.
    pub fn max_len(&self) -> usize {
        self.max_len
    }

    /// The engine that finds them.
    pub fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    /// All matches in some bytes, overlapping ones too, by offset, then by signature.
    ///
    /// There can be as many as bytes times signatures; [`Set::find`] bounds their number.
    pub fn matches(&self, bytes: &[u8]) -> Vec<Hit> {
        let mut found = Found::with_limit(usize::MAX);
        self.find(bytes, bytes.len(), &mut found);
        found.into_items()
    }

    /// Pushes the hits that start in `bytes[..owned]` and end within `bytes`, each once, by offset,
    /// then by signature. More owned bytes than there are count as all.
    ///
    /// This is what a scan does with each window; use it where bytes come from elsewhere.
    pub fn find(&self, bytes: &[u8], owned: usize, found: &mut Found<Hit>) {
        let mut raw = Found::with_limit(found.limit());
        self.find_raw(bytes, owned, &mut raw);
        let overflow = raw.is_full();
        found.extend(raw.into_items(), overflow);
    }

    /// How many bytes of `bytes` a hit in them takes: the fewest, where there is a choice. Where that takes more than some
    /// thousand steps to tell (jumps of thousands of bytes), it is the fewest that the signature ever takes.
    ///
    /// Cost: none, except of signatures with jumps or alternatives of several lengths.
    pub fn len_at(&self, bytes: &[u8], hit: Hit) -> usize {
        let signature = &self.signatures()[hit.sig];
        let (least, most) = (signature.min_len(), signature.max_len());
        if least == most {
            return least;
        }
        let rest = bytes.get(hit.offset..).unwrap_or_default();
        let rest = &rest[..rest.len().min(most)];
        verify::fewest(signature.nodes(), rest).unwrap_or(least)
    }

    /// As [`Set::find`], into an empty list.
    fn find_raw(&self, bytes: &[u8], owned: usize, found: &mut Found<Hit>) {
        let owned = owned.min(bytes.len());
        if owned > 0 {
            // The engine pushes in any order, and a hit more than once.
            self.engine.find(bytes, owned, found);
            found.sort();
        }
    }
}
