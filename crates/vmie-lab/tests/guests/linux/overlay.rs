//! A guest's memory with some of its pages overwritten, and what `ps` makes of it.
//!
//! Shared by the tests and by `examples/damage.rs`, which tries every page of a kernel's image.

use std::collections::BTreeMap;
use std::sync::Arc;

use vmie::os::{Guest, Process, find};
use vmie::{AddrRange, Fault, Gpa, Gva, Hints, Memory, Spans};

pub(crate) const PAGE: u64 = 4096;

/// Numbers that look like chance and are the same in each run (xorshift64*).
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A page of noise.
    pub(crate) fn page(&mut self) -> Vec<u8> {
        (0..PAGE / 8)
            .flat_map(|_| self.next().to_le_bytes())
            .collect()
    }
}

/// Physical memory with some pages replaced.
pub(crate) struct Overlay {
    memory: Arc<dyn Memory<Addr = Gpa>>,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    /// `pages` by page number.
    pub(crate) fn over(
        memory: &Arc<dyn Memory<Addr = Gpa>>,
        pages: BTreeMap<u64, Vec<u8>>,
    ) -> Arc<dyn Memory<Addr = Gpa>> {
        let memory = Arc::clone(memory);
        Arc::new(Self { memory, pages })
    }

    fn within(&self, range: AddrRange<Gpa>) -> impl Iterator<Item = (&u64, &Vec<u8>)> {
        self.pages
            .range(range.start().0 / PAGE..=range.last().0 / PAGE)
    }
}

impl Memory for Overlay {
    type Addr = Gpa;

    fn spans(&self, range: AddrRange<Gpa>) -> Spans<'_, Gpa> {
        self.memory.spans(range)
    }

    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        self.memory.read(addr, buf)?;
        let Some(range) = AddrRange::new(addr, buf.len() as u64) else {
            return Ok(());
        };
        for (page, bytes) in self.within(range) {
            let from = (page * PAGE).max(addr.0);
            let to = ((page + 1) * PAGE).min(addr.0 + buf.len() as u64);
            let source = &bytes[(from % PAGE) as usize..][..(to - from) as usize];
            buf[(from - addr.0) as usize..][..source.len()].copy_from_slice(source);
        }
        Ok(())
    }

    fn borrow(&self, range: AddrRange<Gpa>) -> Option<&[u8]> {
        match self.within(range).next() {
            None => self.memory.borrow(range),
            Some(_) => None,
        }
    }
}

/// Every page that the kernel's image maps, from `_text` to `_end`: where it is mapped, and where it is.
pub(crate) fn image_pages(guest: &dyn Guest) -> Vec<(Gva, Gpa)> {
    let symbols = guest.symbols().expect("symbols");
    let at = |name| symbols.address_of(name).expect("listed").0;
    (at("_text")..at("_end"))
        .step_by(PAGE as usize)
        .filter_map(|va| {
            let mapped = guest.kernel_space().translate(Gva(va)).ok()?;
            Some((Gva(va), mapped.gpa))
        })
        .collect()
}

/// The numbers of all pages that hold something.
pub(crate) fn pages_that_are_not_zero(memory: &dyn Memory<Addr = Gpa>) -> Vec<u64> {
    let mut full = Vec::new();
    for region in memory.regions(AddrRange::all()) {
        let first = region.start.0.div_ceil(PAGE);
        for page in first..(region.range().last().0 + 1) / PAGE {
            let mut bytes = [0; PAGE as usize];
            if memory.read(Gpa(page * PAGE), &mut bytes).is_ok() && bytes != [0; PAGE as usize] {
                full.push(page);
            }
        }
    }
    full
}

/// What became of a list of processes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Outcome {
    /// Why there is no list.
    pub(crate) refused: Option<String>,
    /// Processes that are not in it.
    pub(crate) missing: Vec<u32>,
    /// Rows for what is no process.
    pub(crate) invented: Vec<u32>,
    /// Rows in which something is not known, and what.
    pub(crate) unknown: Vec<(u32, &'static str)>,
    /// Rows in which something is wrong, and what.
    pub(crate) wrong: Vec<(u32, &'static str)>,
    /// What was said about it.
    pub(crate) findings: Vec<String>,
}

impl Outcome {
    /// Whether every process is listed, and nothing else.
    pub(crate) fn lists_all(&self) -> bool {
        self.refused.is_none() && self.missing.is_empty() && self.invented.is_empty()
    }

    /// Whether something is lost and nothing says so. That a kernel thread is called by its short name is no
    /// loss.
    pub(crate) fn is_silent(&self) -> bool {
        let unknown = self.unknown.iter().any(|&(_, what)| what != "name");
        let lost = !self.missing.is_empty() || unknown;
        lost && self.refused.is_none() && self.findings.is_empty()
    }
}

/// Lists the processes in `memory` and compares them with `truth`.
pub(crate) fn judge(
    memory: &Arc<dyn Memory<Addr = Gpa>>,
    hints: &Hints,
    truth: &[Process],
) -> Outcome {
    let refused = |why: String| Outcome {
        refused: Some(why),
        ..Outcome::default()
    };
    let guest = match find(memory, hints) {
        Ok(guest) => guest,
        Err(error) => return refused(error.to_string()),
    };
    let listing = match guest.processes() {
        Ok(listing) => listing,
        Err(error) => return refused(error.to_string()),
    };
    let mut outcome = Outcome {
        findings: listing.findings.iter().map(ToString::to_string).collect(),
        ..Outcome::default()
    };
    for known in truth {
        let seen = listing.items.iter().find(|row| row.pid == known.pid);
        match seen {
            None => outcome.missing.push(known.pid),
            Some(seen) => compare(known, seen, &mut outcome),
        }
    }
    let mut rest: Vec<u32> = truth.iter().map(|row| row.pid).collect();
    for row in &listing.items {
        match rest.iter().position(|&pid| pid == row.pid) {
            Some(at) => {
                rest.swap_remove(at);
            }
            None => outcome.invented.push(row.pid),
        }
    }
    outcome
}

fn compare(known: &Process, seen: &Process, outcome: &mut Outcome) {
    let pid = known.pid;
    let mut member = |name, same: bool, is_known: bool| match (same, is_known) {
        (true, _) => {}
        (false, true) => outcome.wrong.push((pid, name)),
        (false, false) => outcome.unknown.push((pid, name)),
    };
    member("ppid", known.ppid == seen.ppid, seen.ppid != 0);
    member("uid", known.uid() == seen.uid(), seen.uid().is_some());
    member("euid", known.euid() == seen.euid(), seen.euid().is_some());
    member(
        "name",
        known.name == seen.name,
        !known.name.starts_with(&seen.name),
    );
    member(
        "threads",
        known.threads == seen.threads,
        seen.threads > known.threads,
    );
    member(
        "started",
        known.started == seen.started,
        seen.started.is_some(),
    );
    let unknown = vmie::os::ProcessState::Unknown;
    member("state", known.state == seen.state, seen.state != unknown);
    member("kernel", known.kernel == seen.kernel, true);
    member("root", known.root == seen.root, seen.root.is_some());
    member("object", known.object == seen.object, true);
    let mm = |process: &Process| process.linux().and_then(|linux| linux.mm);
    member("mm", mm(known) == mm(seen), mm(seen).is_some());
}
