//! Four bytes of every signature, all positions at once.
//!
//! ```text
//! for each 4 KiB of positions
//!     skip them when they are all zero and no signature could begin to match there
//!     front     which positions may begin a gram of four bytes of some signature    [`Front`]
//!     bitmap    of these, which hash to a bit that a gram has set                   [`Grams`]
//!     table     of these, which really are a gram; a masked compare of sixteen bytes
//!     verify    the whole signature
//! ```
//!
//! Each stage passes on all its positions before the next one begins: a stage is then a loop without
//! unpredictable branches over a list in the first-level cache. Testing each position to its end as it
//! was found cost a third of the speed.
//!
//! Which four bytes of a signature are looked for is decided for the whole set, see [`plan`]. What has no
//! four bytes that are known and rare enough is left to [`Anchored`].
//!
//! # What a guest can do
//!
//! The front and the bitmap cost the same whatever the bytes are. Tests are charged to the gram that
//! called for them, once a window has used up an allowance that ordinary memory never comes near; a
//! gram that occurs too often is given up for this window, and its signatures are found by the
//! [`dense`](super::dense) engine.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod grams;
mod plan;
mod portable;

use std::cell::Cell;
use std::sync::Arc;

use super::anchored::Anchored;
use super::dense;
use super::verify::Verifier;
use crate::signature::{Engine, Hit, Signature};
use crate::sweep::Found;
use grams::{Batch, Candidates, Grams, Search, Spending};
use plan::{Buckets, Plan};

/// Positions that go through the stages together: few enough for all that is known of them to stay in
/// the first-level cache.
const BATCH: usize = 4096;

/// Bytes behind a batch that a front may read: a vector that begins at the last position, and a gram.
const BEHIND: usize = 64;

/// The bytes of a batch.
type Chunk = [u8; BATCH + BEHIND];

/// Positions in a batch, in ascending order. A front may write up to a vector of them more than it
/// counts.
struct Positions {
    list: [u16; BATCH + 64],
    count: usize,
}

impl Positions {
    fn new() -> Self {
        Self {
            list: [0; BATCH + 64],
            count: 0,
        }
    }
}

/// What the stages write to.
struct Scratch {
    passed: Positions,
    positions: Positions,
    candidates: Candidates,
    copy: Chunk,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            passed: Positions::new(),
            positions: Positions::new(),
            candidates: Candidates::new(),
            copy: [0; BATCH + BEHIND],
        }
    }
}

thread_local! {
    /// Taken for the time of a call.
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// How positions are found. Each passes a superset of the positions at which a gram stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FrontKind {
    /// One position after the other, straight through the bitmap.
    Portable,
    /// 32 positions at once, the bytes looked up by halves.
    Avx2,
    /// 64 positions at once, whole bytes looked up.
    Avx512,
}

impl FrontKind {
    /// Whether this machine can.
    pub(super) fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::Avx2::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::Avx512::is_available(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }
}

/// A front with its tables.
#[derive(Debug)]
enum Front {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(Box<avx2::Avx2>),
    #[cfg(target_arch = "x86_64")]
    Avx512(Box<avx512::Avx512>),
}

impl Front {
    /// The front asked for, or the portable one where this machine has no other, or where the filter
    /// of another would let most positions pass.
    fn new(kind: FrontKind, buckets: &Buckets) -> Self {
        match kind {
            FrontKind::Portable => Self::Portable,
            #[cfg(target_arch = "x86_64")]
            FrontKind::Avx2 => {
                avx2::Avx2::new(buckets).map_or(Self::Portable, |front| Self::Avx2(Box::new(front)))
            }
            #[cfg(target_arch = "x86_64")]
            FrontKind::Avx512 => avx512::Avx512::new(buckets)
                .map_or(Self::Portable, |front| Self::Avx512(Box::new(front))),
            #[cfg(not(target_arch = "x86_64"))]
            FrontKind::Avx2 | FrontKind::Avx512 => {
                let _ = buckets;
                Self::Portable
            }
        }
    }

    /// Puts the positions below `count` that pass into `out`.
    fn pass(&self, chunk: &Chunk, count: usize, grams: &[Grams], out: &mut Positions) {
        match self {
            Self::Portable => portable::every_position(chunk, count, grams, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(front) => front.pass(chunk, count, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(front) => front.pass(chunk, count, out),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Prefilter {
    signatures: Arc<[Signature]>,
    verifiers: Vec<Verifier>,
    front: Front,
    /// Grams of four bytes, and of fewer if there are such.
    grams: Vec<Grams>,
    /// Signatures that no gram stands for.
    rest: Option<Anchored>,
    budget: usize,
}

/// What may be spent on the tests of one gram, for each byte and signature that has it.
pub(super) const BUDGET: usize = 2;

impl Prefilter {
    /// For all signatures; those without a good gram go to an [`Anchored`] engine inside.
    pub(super) fn new(signatures: &Arc<[Signature]>, kind: FrontKind, budget: usize) -> Self {
        let plan = Plan::new(signatures);
        Self {
            signatures: Arc::clone(signatures),
            front: Front::new(kind, &plan.buckets),
            verifiers: signatures
                .iter()
                .map(|signature| Verifier::new(signature.nodes()))
                .collect(),
            grams: (plan::SHORTEST..=plan::GRAM)
                .map(|len| Grams::new(&plan.windows, len))
                .filter(|grams| !grams.is_empty())
                .collect(),
            rest: (!plan.rest.is_empty()).then(|| Anchored::for_some(signatures, &plan.rest)),
            budget,
        }
    }
}

impl Engine for Prefilter {
    fn name(&self) -> &'static str {
        match self.front {
            Front::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Front::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Front::Avx512(_) => "avx512",
        }
    }

    fn find(&self, bytes: &[u8], owned: usize, hits: &mut Found<Hit>) {
        if !self.grams.is_empty() {
            self.find_grams(bytes, owned, hits);
        }
        if let Some(rest) = &self.rest
            && !hits.is_full()
        {
            rest.find(bytes, owned, hits);
        }
    }
}

impl Prefilter {
    fn find_grams(&self, bytes: &[u8], owned: usize, hits: &mut Found<Hit>) {
        let search = Search {
            bytes,
            owned,
            verifiers: &self.verifiers,
        };
        let reach = self.grams.iter().map(Grams::reach).max().unwrap_or(0);
        let end = bytes.len().min(owned + reach);
        let has_zeros = self.grams.iter().any(Grams::has_zeros);
        let mut spending: Vec<Spending> = self
            .grams
            .iter()
            .map(|_| Spending::new(bytes.len(), self.budget))
            .collect();
        // The lists are kept for the next call: clearing them takes as long as searching a page.
        let mut scratch = SCRATCH.take().unwrap_or_default();
        let Scratch {
            passed,
            positions,
            candidates,
            copy,
        } = &mut *scratch;
        // The first batch is shorter by what lies before the border of a cache line, so that the others
        // begin at one.
        let mut next = 0;
        let mut room = BATCH - bytes.as_ptr().addr() % BEHIND;
        while next < end {
            let base = next;
            let count = room.min(end - base);
            next += count;
            room = BATCH;
            let here = &bytes[base..];
            let chunk = match here.first_chunk() {
                Some(chunk) => chunk,
                None => {
                    // What lies behind the end never matches, so zeros do.
                    copy[..here.len()].copy_from_slice(here);
                    copy[here.len()..].fill(0);
                    &*copy
                }
            };
            if !has_zeros && is_zero(chunk) {
                continue;
            }
            self.front.pass(chunk, count, &self.grams, passed);
            for (grams, spending) in self.grams.iter().zip(&mut spending) {
                portable::those_in_bitmap(chunk, passed, grams, positions);
                let batch = Batch { chunk, base };
                grams.test(batch, positions, candidates, &search, spending, hits);
            }
            if hits.is_full() {
                break;
            }
        }
        SCRATCH.set(Some(scratch));
        let lost = self.grams.iter().zip(&spending);
        let mut lost: Vec<usize> = lost
            .flat_map(|(grams, spent)| spent.given_up(grams))
            .collect();
        if lost.is_empty() {
            return;
        }
        lost.sort_unstable();
        lost.dedup();
        let mut view = dense::View::new(bytes);
        for sig in lost {
            if hits.is_full() {
                return;
            }
            view.find(&self.signatures[sig], sig, owned, hits);
        }
    }
}

fn is_zero(chunk: &Chunk) -> bool {
    let lines = chunk.as_chunks::<64>().0;
    // Most pages tell within their first bytes.
    lines
        .iter()
        .all(|line| line.iter().fold(0, |any, &byte| any | byte) == 0)
}
