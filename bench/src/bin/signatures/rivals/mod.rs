//! The contenders of other people.

mod automata;
mod hyperscan;

use std::time::Duration;

use crate::image::Image;
use crate::sample::Pattern;

pub(crate) use hyperscan::{Library, libraries};

/// How many matches, and which.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) matches: u64,
    checksum: u64,
}

impl Tally {
    /// Counts a match. The sum does not depend on the order.
    pub(crate) fn add(&mut self, at: usize, pattern: usize) {
        let mixed = (at as u64 ^ (pattern as u64) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.matches += 1;
        self.checksum = self.checksum.wrapping_add(mixed ^ mixed >> 29);
    }
}

/// One of them, ready to run.
pub(crate) struct Rival {
    pub(crate) name: String,
    pub(crate) built: Duration,
    pub(crate) run: Box<dyn Fn(&Image) -> Tally>,
}

/// All that are there.
pub(crate) fn all(patterns: &[Pattern], libraries: &[Library]) -> Vec<Rival> {
    let mut rivals = automata::all(patterns);
    rivals.extend(
        libraries
            .iter()
            .filter_map(|library| library.rival(patterns)),
    );
    rivals
}

/// Bytes around what is not zero that can belong to a match.
fn margin(patterns: &[Pattern]) -> usize {
    patterns.iter().map(Pattern::len).max().unwrap_or(1) - 1
}
