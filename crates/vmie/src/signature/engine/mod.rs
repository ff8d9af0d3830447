//! What finds signatures in bytes.
//!
//! | engine | how | for |
//! |---|---|---|
//! | [`naive`] | every signature at every position | the judge of the others |
//! | [`dense`] | all positions at once, 64 to a word, signature by signature | signatures without anchors; memory that is full of an anchor |
//! | [`anchored`] | search for the anchors, test the signature where they occur | few signatures, and those without four known bytes |
//! | [`prefilter`] | four bytes of each signature, all positions at once, with the vector unit that there is | everything else |

mod anchored;
mod dense;
mod grams;
mod naive;
mod prefilter;
mod search;
pub(super) mod verify;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::signature::Signature;
use crate::sweep::Found;
use prefilter::{FrontKind, Prefilter};

/// A signature matches at an offset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Hit {
    /// Offset of the first byte of the match.
    pub offset: usize,
    /// Index of the signature in its set.
    pub sig: usize,
}

/// Finds a fixed set of signatures in a piece of memory.
///
/// An engine sees bytes and nothing else; borders, holes and threads are the sweep's business. It is
/// shared by threads, so what it changes while it works lives on the stack.
pub trait Engine: Send + Sync + fmt::Debug {
    /// What it is called, for people who measure.
    fn name(&self) -> &'static str;

    /// Pushes each hit that starts in `bytes[..owned]` and ends within `bytes`, in any order, and
    /// repeated if that is convenient. `owned` is neither zero nor more than there are bytes.
    ///
    /// It may return as soon as `hits` is full.
    fn find(&self, bytes: &[u8], owned: usize, hits: &mut Found<Hit>);
}

/// The engines there are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum EngineKind {
    /// Whichever is the fastest for the set on this machine.
    #[default]
    Auto,
    /// Every signature at every position, straight from its tree: the judge of all others.
    Naive,
    /// Bit-parallel over all positions: slow for many signatures, but never slower than that,
    /// whatever memory contains.
    Dense,
    /// Anchors first, with well-known searches: a substring search for few, an automaton for many.
    Anchored,
    /// Four bytes of each signature first, position by position.
    Portable,
    /// Four bytes of each signature first, with AVX2.
    Avx2,
    /// Four bytes of each signature first, with AVX-512 VBMI.
    Avx512,
}

impl EngineKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Auto,
        Self::Naive,
        Self::Dense,
        Self::Anchored,
        Self::Portable,
        Self::Avx2,
        Self::Avx512,
    ];

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        self.front().is_none_or(FrontKind::is_available)
    }

    /// Its name, as `Display` shows it and `FromStr` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Naive => "naive",
            Self::Dense => "dense",
            Self::Anchored => "anchored",
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    fn front(self) -> Option<FrontKind> {
        match self {
            Self::Portable => Some(FrontKind::Portable),
            Self::Avx2 => Some(FrontKind::Avx2),
            Self::Avx512 => Some(FrontKind::Avx512),
            Self::Auto | Self::Naive | Self::Dense | Self::Anchored => None,
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// There is no engine of this name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "there is no engine `{0}`: expected auto, avx512, avx2, portable, anchored, dense or naive"
)]
pub struct NoSuchEngine(String);

impl FromStr for EngineKind {
    type Err = NoSuchEngine;

    fn from_str(text: &str) -> Result<Self, NoSuchEngine> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.name() == text)
            .ok_or_else(|| NoSuchEngine(text.to_owned()))
    }
}

/// Builds the engine for a set: the one place that decides which is used for what.
pub(super) fn select(signatures: &Arc<[Signature]>, kind: EngineKind) -> Box<dyn Engine> {
    let prefilter = |front| -> Box<dyn Engine> {
        Box::new(Prefilter::new(signatures, front, prefilter::BUDGET))
    };
    match kind {
        EngineKind::Naive => Box::new(naive::Naive::new(signatures)),
        EngineKind::Dense => Box::new(dense::Dense::new(signatures)),
        EngineKind::Anchored => Box::new(anchored::Anchored::new(signatures)),
        EngineKind::Portable => prefilter(FrontKind::Portable),
        EngineKind::Avx2 => prefilter(FrontKind::Avx2),
        EngineKind::Avx512 => prefilter(FrontKind::Avx512),
        EngineKind::Auto => {
            let fronts = [FrontKind::Avx512, FrontKind::Avx2, FrontKind::Portable];
            let front = fronts.into_iter().find(|front| front.is_available());
            let front = front.unwrap_or(FrontKind::Portable);
            // A substring search for each of a few signatures is faster than one pass for all, and for
            // some more so is a look at every fourth position.
            let few = if front == FrontKind::Portable { 500 } else { 1 };
            if signatures.len() <= few {
                Box::new(anchored::Anchored::new(signatures))
            } else {
                prefilter(front)
            }
        }
    }
}

/// Every engine in every mode it has, for tests that compare them.
#[cfg(test)]
pub(super) fn all(signatures: &Arc<[Signature]>) -> Vec<Box<dyn Engine>> {
    use anchored::{Anchored, Strategy};
    let anchored = |strategy, budget| -> Box<dyn Engine> {
        Box::new(Anchored::with(signatures, strategy, budget))
    };
    let mut engines: Vec<Box<dyn Engine>> = vec![
        Box::new(naive::Naive::new(signatures)),
        Box::new(dense::Dense::new(signatures)),
        Box::new(Anchored::new(signatures)),
        anchored(Strategy::OneByOne, usize::MAX),
        anchored(Strategy::Automaton, usize::MAX),
        anchored(Strategy::Grams(4), usize::MAX),
        anchored(Strategy::Grams(2), usize::MAX),
        anchored(Strategy::Grams(1), usize::MAX),
        // Give up on anchors at once, and after a few tests.
        anchored(Strategy::OneByOne, 0),
        anchored(Strategy::Automaton, 1),
        anchored(Strategy::Grams(1), 1),
    ];
    for front in [FrontKind::Portable, FrontKind::Avx2, FrontKind::Avx512] {
        if front.is_available() {
            for budget in [prefilter::BUDGET, 0] {
                engines.push(Box::new(Prefilter::new(signatures, front, budget)));
            }
        }
    }
    engines
}
