//! How something is reached from a fixed base: chains of pointers.
//!
//! A *path* begins at a base, follows pointers, adds an offset after each, and ends at the target:
//!
//! ```text
//! [[base] + offsets[0]] + offsets[1] ... = target        the base is a place that holds a pointer
//! [[base + offsets[0]] + offsets[1]] ... = target        the base is a pointer: a register's value
//! ```
//!
//! Its *depth* is the number of pointers that are followed. All chains up to a depth are found, whose
//! offsets lie within bounds; a chain may pass through the bases again, or through one place twice, unless
//! [`PathOptions::loops`] says otherwise.
//!
//! # The search
//!
//! It goes backwards from the target, a *level* at a time: level 1 are the pointers that lead to the
//! target or closely below, level `n + 1` those that lead to a place of level `n` or closely below. The
//! windows of a level are merged, so each level is looked up once, however many chains share its
//! places. A place from which no base is near enough to be reached forward (in what is left of the depth)
//! is not taken into its level; how far the bases reach is worked out when a level is large enough to be
//! worth it.
//!
//! Then chains are written down from the bases: each step goes to a place of the level below, which is
//! known to lead to the target, so no step is in vain. Shortest chains come first, then by base, then by
//! offsets.
//!
//! Levels hold places, not chains. Chains multiply with each level: a search that follows each on its
//! own looks at the last levels once for every chain.

mod chains;
mod indexed;
mod intervals;
mod levels;
mod once;
mod reach;

use std::fmt;
use std::ops::ControlFlow;

use super::PointerMap;
use crate::addr::{AddrRange, Address};
use crate::memory::{Fault, Memory};
use crate::pointers::Width;
use crate::scan::Run;
use indexed::Indexed;
use levels::levels;
pub use once::find_paths_once;
use reach::Reach;

/// Where paths begin, how long and how wide they are.
#[derive(Clone, Debug)]
pub struct PathOptions<A: Address> {
    /// Places in these ranges are bases: the data of a module, for one.
    pub ranges: Vec<AddrRange<A>>,
    /// Pointers that are bases themselves: values of registers.
    pub values: Vec<A>,
    /// The most pointers that are followed.
    pub depth: usize,
    /// The largest offset.
    pub max_offset: u64,
    /// How far below a pointer a path may go on: the offsets are `-back..=max_offset`.
    pub back: u64,
    /// Whether a path may come to a place twice.
    pub loops: bool,
    /// Places that are kept, at most, 16 bytes each. Where there are more the search goes no deeper,
    /// and says so.
    pub max_places: usize,
}

impl<A: Address> Default for PathOptions<A> {
    fn default() -> Self {
        Self {
            ranges: Vec::new(),
            values: Vec::new(),
            depth: 4,
            max_offset: 0x400,
            back: 0,
            loops: true,
            max_places: 1 << 26,
        }
    }
}

/// Where a path begins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Base<A> {
    /// A place that holds the first pointer.
    Place(A),
    /// The first pointer.
    Value(A),
}

impl<A: Copy> Base<A> {
    /// The address.
    pub fn addr(self) -> A {
        match self {
            Self::Place(addr) | Self::Value(addr) => addr,
        }
    }
}

/// A chain of pointers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Path<A> {
    /// Where it begins.
    pub base: Base<A>,
    /// What is added to each pointer, in the order in which they are followed.
    pub offsets: Vec<i64>,
}

/// Each step: what is added to a pointer, and where that is read: `[[0x404000]+0x28]+0x40`.
impl<A: Address> fmt::Display for Path<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reads = match self.base {
            Base::Place(_) => self.offsets.len(),
            Base::Value(_) => self.offsets.len().saturating_sub(1),
        };
        (0..reads).try_for_each(|_| f.write_str("["))?;
        write!(f, "{:#x}", self.base.addr().raw())?;
        if matches!(self.base, Base::Place(_)) {
            f.write_str("]")?;
        }
        for (step, offset) in self.offsets.iter().enumerate() {
            match offset {
                0 => {}
                1.. => write!(f, "+{offset:#x}")?,
                _ => write!(f, "-{:#x}", offset.unsigned_abs())?,
            }
            if step + 1 < self.offsets.len() {
                f.write_str("]")?;
            }
        }
        Ok(())
    }
}

impl<A: Address> Path<A> {
    /// Follows the path in a memory and answers where it leads.
    ///
    /// # Errors
    ///
    /// The first pointer that cannot be read. A sum that leaves the address space is
    /// [`Cause::NonCanonical`](crate::Cause::NonCanonical).
    pub fn follow(&self, memory: &dyn Memory<Addr = A>, width: Width) -> Result<A, Fault<A>> {
        let mut pointer = match self.base {
            Base::Place(place) => read(memory, place, width)?,
            Base::Value(value) => value,
        };
        for (index, &offset) in self.offsets.iter().enumerate() {
            let sum = pointer.raw().checked_add_signed(offset).ok_or(Fault {
                addr: pointer,
                cause: crate::Cause::NonCanonical,
            })?;
            pointer = A::new(sum);
            if index + 1 < self.offsets.len() {
                pointer = read(memory, pointer, width)?;
            }
        }
        Ok(pointer)
    }
}

fn read<A: Address>(memory: &dyn Memory<Addr = A>, place: A, width: Width) -> Result<A, Fault<A>> {
    Ok(A::new(match width {
        Width::Four => u64::from(memory.read_u32(place)?),
        Width::Eight => memory.read_u64(place)?,
    }))
}

/// What became of a search.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a search that was cut short has not found all paths"]
pub struct PathOutcome {
    /// Whether the run was cancelled, or `emit` ended the search.
    pub stopped: bool,
    /// The depth up to which all paths were found (unless it was stopped): less than what was asked
    /// for where [`PathOptions::max_places`] was reached.
    pub depth: usize,
}

/// Searches an index for paths to `target`, shortest first.
///
/// `emit` is called with each path, and may end the search, as cancelling the run does. Nothing else of the run counts.
///
/// # Cost
///
/// Grows with the number of places that lead to the target, and with that of paths. Memory: 16 bytes for
/// each place of a level; paths are not kept.
pub fn find_paths<A: Address>(
    map: &PointerMap<A>,
    target: A,
    options: &PathOptions<A>,
    run: &Run<'_>,
    emit: &mut dyn FnMut(Path<A>) -> ControlFlow<()>,
) -> PathOutcome {
    PathFinder::new(map, options).find(target, run, emit)
}

impl<A: Address> PointerMap<A> {
    /// All paths to `target`, shortest first; [`find_paths`] hands them on one by one.
    pub fn paths(&self, target: A, options: &PathOptions<A>) -> Vec<Path<A>> {
        let mut paths = Vec::new();
        let _ = find_paths(self, target, options, &Run::new(), &mut |path| {
            paths.push(path);
            ControlFlow::Continue(())
        });
        paths
    }
}

/// Searches an index for paths to one target after another: what was worked out about the bases serves
/// all of them.
#[derive(Debug)]
pub struct PathFinder<'m, A: Address> {
    map: &'m PointerMap<A>,
    options: &'m PathOptions<A>,
    reach: Reach,
}

impl<'m, A: Address> PathFinder<'m, A> {
    /// A search of an index. Costs nothing yet.
    pub fn new(map: &'m PointerMap<A>, options: &'m PathOptions<A>) -> Self {
        Self {
            map,
            options,
            reach: Reach::new(options),
        }
    }

    /// As [`find_paths`].
    pub fn find(
        &mut self,
        target: A,
        run: &Run<'_>,
        emit: &mut dyn FnMut(Path<A>) -> ControlFlow<()>,
    ) -> PathOutcome {
        let mut source = Indexed::new(self.map, &mut self.reach, self.options);
        let (levels, mut outcome) = levels(&mut source, target, self.options, &mut || run.check());
        if !outcome.stopped {
            outcome.stopped =
                chains::write(&levels, target, self.options, &mut || run.check(), emit).is_break();
        }
        outcome
    }
}
