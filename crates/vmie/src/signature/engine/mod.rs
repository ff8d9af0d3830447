//! What finds signatures in bytes.

mod naive;

use std::fmt;

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
    /// repeated if that is convenient.
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
}

/// Builds the engine for a set: the one place that decides which is used for what.
pub(super) fn select(signatures: &[Signature], kind: EngineKind) -> Box<dyn Engine> {
    match kind {
        EngineKind::Auto | EngineKind::Naive => Box::new(naive::Naive::new(signatures)),
    }
}
