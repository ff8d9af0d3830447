//! Four bytes of every signature, all positions at once.
//!
//! ```text
//! for each 4 KiB of positions
//!     skip them when they are all zero and no signature could begin to match there
//!     front     which positions may begin a gram of some signature                  [`Front`]
//! for up to 64 KiB of them, when there is enough to do
//!     bitmap    of these, which hash to a bit that a gram has set                   [`Grams`]
//!     table     of these, which may be part of a match by a few bytes nearby; a masked
//!               compare of sixteen bytes
//!     verify    the whole signature
//! ```
//!
//! Each stage passes on all its positions before the next one begins: a stage is then a loop without
//! unpredictable branches over a list in the first-level cache. Testing each position to its end as it
//! was found cost a third of the speed.
//!
//! Which four bytes of a signature are looked for is decided for the whole set, see [`plan`]. A signature
//! without four known bytes in a row is looked for by fewer, in buckets, lists and tables of their own;
//! one without any that are rare enough is left to [`Anchored`].
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
mod blocks;
mod buckets;
mod grams;
mod literal;
mod look;
mod plan;
mod portable;
mod spending;

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use super::anchored::Anchored;
use super::dense;
use super::verify::Verifier;
use crate::signature::{Engine, Hit, Signature};
use crate::sweep::Found;
use blocks::{Blocks, Positions};
use buckets::Lookup;
use grams::{Candidates, Grams, Group, Search};
use literal::GRAM;
use plan::Plan;
use portable::Pairs;
use spending::Spending;

/// Positions that a front looks at together, and that are skipped together when they are zero.
const BATCH: usize = 4096;

/// Bytes behind a batch that a front may read: a vector that begins at the last position, and a gram.
const BEHIND: usize = 64;

/// The bytes of a batch.
type Chunk = [u8; BATCH + BEHIND];

/// Positions whose later stages may run together: a stage that begins has to wait for what the one before
/// it counted, so it should have something to do.
const GROUP: usize = 16 * BATCH;

/// What the stages write to.
struct Scratch {
    /// Of windows of which four bytes count, and of the others.
    blocks: [Blocks; 2],
    passed: Positions,
    positions: Positions,
    candidates: Candidates,
    copy: Chunk,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            blocks: [Blocks::new(), Blocks::new()],
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

/// A vector front with the plan made for it: none where this machine cannot, or where the filter would
/// let most positions pass.
#[cfg(target_arch = "x86_64")]
fn vector_front(kind: FrontKind, signatures: &[Signature]) -> Option<(Plan, Front)> {
    match kind {
        FrontKind::Portable => None,
        FrontKind::Avx2 => {
            let plan = Plan::new(signatures, avx2::Avx2::lookup(signatures.len()));
            let front = avx2::Avx2::new(&plan.buckets)?;
            Some((plan, Front::Avx2(Box::new(front))))
        }
        FrontKind::Avx512 => {
            let plan = Plan::new(signatures, Lookup::Bytes);
            let front = avx512::Avx512::new(&plan.buckets)?;
            Some((plan, Front::Avx512(Box::new(front))))
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn vector_front(_: FrontKind, _: &[Signature]) -> Option<(Plan, Front)> {
    None
}

/// See the module.
#[derive(Debug)]
pub(super) struct Prefilter {
    signatures: Arc<[Signature]>,
    verifiers: Vec<Verifier>,
    front: Front,
    /// Grams of four bytes.
    main: Option<Grams>,
    /// Grams of fewer.
    short: Vec<Grams>,
    pairs: Option<Pairs>,
    /// Signatures that no gram stands for.
    rest: Option<Anchored>,
    budget: usize,
}

/// What may be spent on the tests of one gram, for each byte and signature that has it.
pub(super) const BUDGET: usize = 2;

impl Prefilter {
    /// For all signatures; those without a good gram go to an [`Anchored`] engine inside.
    pub(super) fn new(signatures: &Arc<[Signature]>, kind: FrontKind, budget: usize) -> Self {
        let (plan, front) = match vector_front(kind, signatures) {
            Some((plan, front)) => (plan, Some(front)),
            None => (Plan::new(signatures, Lookup::Grams), None),
        };
        let grams = |len| Some(Grams::new(&plan.windows, len)).filter(|grams| !grams.is_empty());
        let short: Vec<Grams> = (1..GRAM).filter_map(grams).collect();
        Self {
            signatures: Arc::clone(signatures),
            front: front.unwrap_or(Front::Portable),
            verifiers: signatures
                .iter()
                .map(|signature| Verifier::new(signature.nodes()))
                .collect(),
            main: grams(GRAM),
            pairs: (!short.is_empty()).then(|| Pairs::new(&short)),
            short,
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
        if self.tables().next().is_some() {
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
    fn tables(&self) -> impl Iterator<Item = &Grams> {
        self.main.iter().chain(&self.short)
    }

    /// Puts the positions below `count` of a batch, which begins at `at` in its group, that pass into
    /// `blocks`.
    fn pass(&self, chunk: &Chunk, at: usize, count: usize, blocks: &mut [Blocks; 2]) {
        match &self.front {
            Front::Portable => {
                let (main, pairs) = (self.main.as_ref(), self.pairs.as_ref());
                portable::pass(chunk, at, count, main, pairs, blocks);
            }
            #[cfg(target_arch = "x86_64")]
            Front::Avx2(front) => front.pass(chunk, at, count, blocks),
            #[cfg(target_arch = "x86_64")]
            Front::Avx512(front) => front.pass(chunk, at, count, blocks),
        }
    }

    fn list(&self, blocks: &Blocks, out: &mut Positions) {
        match &self.front {
            Front::Portable => blocks.list(out),
            #[cfg(target_arch = "x86_64")]
            Front::Avx2(front) => front.list(blocks, out),
            #[cfg(target_arch = "x86_64")]
            Front::Avx512(front) => front.list(blocks, out),
        }
    }

    fn find_grams(&self, bytes: &[u8], owned: usize, hits: &mut Found<Hit>) {
        let search = Search {
            bytes,
            owned,
            verifiers: &self.verifiers,
        };
        let reach = self.tables().map(Grams::reach).max().unwrap_or(0);
        let end = bytes.len().min(owned + reach);
        let skips_zeros = !self.tables().any(Grams::has_zeros);
        let mut spending: Vec<Spending> = self
            .tables()
            .map(|_| Spending::new(bytes.len(), self.budget))
            .collect();
        // The lists are kept for the next call: clearing them takes as long as searching a page.
        let mut scratch = SCRATCH.take().unwrap_or_default();
        // The first batch is shorter by what lies before the border of a cache line, so that the others
        // begin at one.
        let mut room = BATCH - bytes.as_ptr().addr() % BEHIND;
        let mut base = 0;
        while base < end && !hits.is_full() {
            scratch.blocks.iter_mut().for_each(Blocks::clear);
            let mut next = base;
            let mut is_copy = false;
            while next < end && next - base <= GROUP - BATCH {
                let here = &bytes[next..];
                let chunk = match here.first_chunk() {
                    Some(chunk) => chunk,
                    // The copy makes a group of its own.
                    None if next > base => break,
                    None => {
                        is_copy = true;
                        // What lies behind the end never matches, so zeros do.
                        scratch.copy[..here.len()].copy_from_slice(here);
                        scratch.copy[here.len()..].fill(0);
                        &scratch.copy
                    }
                };
                let count = room.min(end - next);
                if !(skips_zeros && is_zero(chunk)) {
                    self.pass(chunk, next - base, count, &mut scratch.blocks);
                }
                next += count;
                room = BATCH;
                if is_copy || scratch.blocks.iter().any(Blocks::is_full) {
                    break;
                }
            }
            self.test_group(base, is_copy, &search, &mut scratch, &mut spending, hits);
            base = next;
        }
        SCRATCH.set(Some(scratch));
        let lost = self.tables().zip(&spending);
        let mut lost: Vec<usize> = lost
            .flat_map(|(grams, spent)| spent.given_up().flat_map(|first| grams.users(first)))
            .collect();
        if lost.is_empty() {
            return;
        }
        lost.sort_unstable();
        lost.dedup();
        // Some of what is found the other way was found before.
        let known: HashSet<Hit> = hits
            .items()
            .iter()
            .filter(|hit| lost.binary_search(&hit.sig).is_ok())
            .copied()
            .collect();
        let mut view = dense::View::new(bytes);
        for sig in lost {
            if hits.is_full() {
                return;
            }
            let mut all = Found::with_limit(hits.limit());
            view.find(&self.signatures[sig], sig, owned, &mut all);
            let overflow = all.is_full();
            let all = all.into_items().into_iter();
            hits.extend(all.filter(|hit| !known.contains(hit)), overflow);
        }
    }

    /// The stages behind the front, for a group that begins at `base`.
    fn test_group(
        &self,
        base: usize,
        is_copy: bool,
        search: &Search<'_>,
        scratch: &mut Scratch,
        spending: &mut [Spending],
        hits: &mut Found<Hit>,
    ) {
        let Scratch {
            blocks: [main, short],
            passed,
            positions,
            candidates,
            copy,
        } = scratch;
        let region = if is_copy {
            &copy[..]
        } else {
            &search.bytes[base..]
        };
        let group = Group { region, base };
        let mut spending = spending.iter_mut();
        if let Some(grams) = &self.main
            && let Some(spending) = spending.next()
            && !main.is_empty()
        {
            self.list(main, passed);
            // The portable front is this table's bitmap.
            let passed = if matches!(self.front, Front::Portable) {
                &*passed
            } else {
                portable::those_in_bitmap(region, passed, grams, positions);
                &*positions
            };
            grams.test(group, passed, candidates, search, spending, hits);
        }
        let Some(pairs) = &self.pairs else {
            return;
        };
        if short.is_empty() {
            return;
        }
        self.list(short, positions);
        pairs.those(region, positions, passed);
        for (grams, spending) in self.short.iter().zip(spending) {
            portable::those_in_bitmap(region, passed, grams, positions);
            grams.test(group, positions, candidates, search, spending, hits);
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
