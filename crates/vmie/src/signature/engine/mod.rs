//! What finds signatures in bytes.
//!
//! | engine | how | for |
//! |---|---|---|
//! | [`naive`] | every signature at every position | the judge of the others |
//! | [`dense`] | all positions at once, 64 to a word, signature by signature | signatures without anchors; memory that is full of an anchor |
//! | [`anchored`] | search for the anchors, test the signature where they occur | everything else |

mod anchored;
mod dense;
mod grams;
mod naive;
mod search;
mod verify;

use std::fmt;
use std::sync::Arc;

use crate::signature::Signature;
use crate::sweep::Found;

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
    /// Anchors first, with any portable means of finding them.
    Anchored,
}

/// Builds the engine for a set: the one place that decides which is used for what.
pub(super) fn select(signatures: &Arc<[Signature]>, kind: EngineKind) -> Box<dyn Engine> {
    match kind {
        EngineKind::Naive => Box::new(naive::Naive::new(signatures)),
        EngineKind::Dense => Box::new(dense::Dense::new(signatures)),
        // An engine for the vector units of this machine belongs here.
        EngineKind::Auto | EngineKind::Anchored => Box::new(anchored::Anchored::new(signatures)),
    }
}

/// Every engine in every mode it has, for tests that compare them.
#[cfg(test)]
pub(super) fn all(signatures: &Arc<[Signature]>) -> Vec<Box<dyn Engine>> {
    use anchored::{Anchored, Strategy};
    let anchored = |strategy, budget| -> Box<dyn Engine> {
        Box::new(Anchored::with(signatures, strategy, budget))
    };
    vec![
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
    ]
}
