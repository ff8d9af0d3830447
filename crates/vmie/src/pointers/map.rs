//! The index: built, and asked.

use std::marker::PhantomData;

use xxhash_rust::xxh3::Xxh3;

use super::build::{Built, build};
use super::runs::Runs;
use super::tables::{Look, Numbers, Tables};
use super::{BuildError, PointerOptions, Width};
use crate::addr::{AddrRange, Address, PAGE_SIZE};
use crate::memory::{Coverage, Memory};
use crate::scan::Run;

/// How many pages stand for the content of a memory.
const SAMPLES: u64 = 64;

/// A pointer: where it stands and where it leads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Edge<A> {
    /// Address of the word.
    pub at: A,
    /// Its value.
    pub value: A,
}

/// An index of all pointers of a memory at one moment: see the [module](super).
///
/// It takes less than ten bytes a pointer for up to 16 GiB of mapped memory (aligned pointers of 64
/// bits), and can be [saved](PointerMap::save) and [opened](PointerMap::open). Immutable; any number
/// of threads may ask.
///
/// # Example
///
/// ```
/// use vmie::pointers::{PointerMap, PointerOptions};
/// use vmie::scan::Run;
/// use vmie::{AddrRange, Gva};
/// # fn with(space: &dyn vmie::Memory<Addr = Gva>) -> Result<(), Box<dyn std::error::Error>> {
/// let map = PointerMap::build(space, &PointerOptions::default(), Run::new())?;
/// let object = AddrRange::new(Gva(0x7f00_1000), 0x40).expect("not empty");
/// for edge in map.referrers(object) {
///     println!("{} points at {}", edge.at, edge.value);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PointerMap<A> {
    pub(super) runs: Runs,
    pub(super) tables: Tables,
    pub(super) width: Width,
    pub(super) align: u64,
    pub(super) fingerprint: u64,
    pub(super) about: String,
    pub(super) coverage: Coverage<A>,
    pub(super) marker: PhantomData<A>,
}

/// How a memory differs from the one that an index was built over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Foreign {
    /// Other addresses are mapped.
    #[error("other addresses are mapped than in the memory that the index was built over")]
    Mapping,
    /// The same is mapped, but its content differs.
    #[error("the content differs from the memory that the index was built over")]
    Content,
}

impl<A: Address> PointerMap<A> {
    /// Builds the index of what is in memory now.
    ///
    /// # Errors
    ///
    /// When memory or its pointers are too many, see [`BuildError`], or the run was cancelled. Sorting takes one thread.
    ///
    /// # Cost
    ///
    /// One [sweep](crate::sweep()) and a sort of the pointers; up to 32 bytes a pointer while it runs.
    pub fn build(
        memory: &dyn Memory<Addr = A>,
        options: &PointerOptions<A>,
        run: Run<'_>,
    ) -> Result<Self, BuildError> {
        let Built {
            runs,
            tables,
            coverage,
        } = build(memory, options, run)?;
        Ok(Self {
            fingerprint: fingerprint(memory, &runs),
            runs,
            tables,
            width: options.width,
            align: options.alignment(),
            about: String::new(),
            coverage,
            marker: PhantomData,
        })
    }

    /// How many pointers there are.
    #[allow(clippy::len_without_is_empty)] // a map without pointers is as good as any other
    pub fn len(&self) -> u64 {
        self.tables.edges
    }

    /// What was looked at when the index was built. Of a map that was saved and opened, the list of
    /// gaps is empty; their number and sizes are there.
    pub fn coverage(&self) -> &Coverage<A> {
        &self.coverage
    }

    /// How wide the pointers are.
    pub fn width(&self) -> Width {
        self.width
    }

    /// What the pointers' addresses are multiples of.
    pub fn align(&self) -> u64 {
        self.align
    }

    /// The text that was saved with the index.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// The pointers that lead into `range`, by where they lead, then by where they stand.
    ///
    /// Cost: some 200 ns, and a few nanoseconds for each pointer.
    pub fn referrers(&self, range: AddrRange<A>) -> impl Iterator<Item = Edge<A>> + '_ {
        let look = self.tables.look();
        let numbers = self.runs.numbers(range.start().raw(), range.last().raw());
        self.edges(look.ranked(look.ranks(numbers)))
    }

    /// How many pointers lead into `range`.
    pub fn count_referrers(&self, range: AddrRange<A>) -> u64 {
        let look = self.tables.look();
        let numbers = self.runs.numbers(range.start().raw(), range.last().raw());
        let ranks = look.ranks(numbers);
        ranks.end - ranks.start
    }

    /// The pointers that stand in `range` (begin there), by where they stand.
    ///
    /// Cost: some microseconds, and some hundred nanoseconds for each pointer.
    pub fn pointees(&self, range: AddrRange<A>) -> impl Iterator<Item = Edge<A>> + '_ {
        let look = self.tables.look();
        let places = self.places(&look, range);
        self.edges(places.map(move |place| look.placed(place)))
    }

    /// The places of the pointers that begin in `range`.
    pub(super) fn places(&self, look: &Look<'_>, range: AddrRange<A>) -> std::ops::Range<u64> {
        let numbers = self.runs.numbers(range.start().raw(), range.last().raw());
        let unit = |number: u64| number.div_ceil(self.align);
        look.place(unit(numbers.start))..look.place(unit(numbers.end))
    }

    /// Edges as addresses. What has no address is in a file that was made to deceive: left out.
    pub(super) fn edges<'m>(
        &'m self,
        edges: impl Iterator<Item = Numbers> + 'm,
    ) -> impl Iterator<Item = Edge<A>> + 'm {
        edges.filter_map(|edge| {
            Some(Edge {
                at: A::new(self.runs.address(edge.source.checked_mul(self.align)?)?),
                value: A::new(self.runs.address(edge.target)?),
            })
        })
    }

    /// Whether `memory` is what the index was built over, with the same options: the same addresses
    /// are mapped, and of 64 pages spread over them all have the same content.
    ///
    /// # Errors
    ///
    /// What differs. A memory in which little has changed may pass.
    pub fn check(
        &self,
        memory: &dyn Memory<Addr = A>,
        range: Option<AddrRange<A>>,
    ) -> Result<(), Foreign> {
        let spans = memory.spans(range.unwrap_or_else(AddrRange::all));
        let most = self.runs.runs().len();
        match Runs::of(spans, most, u64::MAX) {
            Ok(runs) if runs.runs() == self.runs.runs() => {}
            _ => return Err(Foreign::Mapping),
        }
        if fingerprint(memory, &self.runs) == self.fingerprint {
            Ok(())
        } else {
            Err(Foreign::Content)
        }
    }
}

/// A hash of some pages, spread evenly over what is mapped.
fn fingerprint<A: Address>(memory: &dyn Memory<Addr = A>, runs: &Runs) -> u64 {
    let mut hash = Xxh3::new();
    let step = (runs.total() / SAMPLES).max(1);
    let mut page = [0; PAGE_SIZE as usize];
    for at in (0..runs.total()).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
        let Some(addr) = runs.address(at) else {
            continue;
        };
        let room = runs.find(addr, &mut 0).map_or(0, |run| run.last - addr);
        let len = room.min(PAGE_SIZE - 1 - addr % PAGE_SIZE) as usize + 1;
        match memory.read(A::new(addr), &mut page[..len]) {
            Ok(()) => hash.update(&page[..len]),
            // What cannot be read is a part of what this memory is.
            Err(fault) => hash.update(&fault.addr.raw().to_le_bytes()),
        }
    }
    hash.digest()
}
