//! What is asked of one space: the targets, the ways that lead to them by imports, and the code that is
//! looked through.

use vmie::os::{Code, Route, Routes, UnmappedCode};
use vmie::xref::{InstructionSet, Xrefs};
use vmie::{AddrRange, Gva, Prot};

use crate::exit::Failure;
use crate::guest::tell_findings;
use crate::report::{Beyond, Reporter};
use crate::space::{Space, Target};

/// Ways that lie no further apart are looked for as one range. Stubs and slots stand side by side, and each
/// range costs a pass.
const NEAR: u64 = 64;

/// So many ways are looked for one by one.
const FEW: usize = 16;

/// Slots that lead elsewhere are told one by one up to here, in all.
const ASTRAY_SHOWN: usize = 8;

/// What is asked of a space.
pub(super) struct Asked {
    targets: Vec<AddrRange<Gva>>,
    routes: Routes,
    unmapped: UnmappedCode,
    /// Whether all that leads to the targets is known.
    pub(super) complete: bool,
}

impl Asked {
    /// Finds out what leads to `targets`, and which code in `range` is not mapped.
    pub(super) fn new(
        space: &Space<'_>,
        targets: Vec<AddrRange<Gva>>,
        range: Option<AddrRange<Gva>>,
        perm: Prot,
        reporter: &Reporter,
    ) -> Result<Self, Failure> {
        let mut asked = Self {
            targets,
            routes: Routes::default(),
            unmapped: UnmappedCode::default(),
            complete: true,
        };
        let Some((os, process)) = space.names.process() else {
            return Ok(asked);
        };
        let range = range.unwrap_or_else(AddrRange::all);
        if !asked.targets.is_empty() {
            match Routes::of_process(os.guest(), process, &asked.targets) {
                Ok(routes) => {
                    asked.routes = routes;
                    asked.complete = !tell_findings(&asked.routes.findings, reporter);
                }
                // What refers to the target itself is found all the same.
                Err(error) => {
                    asked.complete = false;
                    reporter.warn(&format!(
                        "what leads there by imports (PLT, GOT) is not known: {error}"
                    ));
                }
            }
        }
        match os.guest().unmapped_code(process, range, perm) {
            Ok(unmapped) => asked.unmapped = unmapped,
            Err(error) => {
                asked.complete = false;
                reporter.warn(&format!("only code that is mapped is looked at: {error}"));
            }
        }
        Ok(asked)
    }

    /// The memory with the code that is not mapped; `None` where there is none.
    pub(super) fn code<'c>(&'c self, space: &'c Space<'_>) -> Option<Code<'c>> {
        match &space.of.target {
            Target::Virtual(memory) if !self.unmapped.cached.is_empty() => {
                Some(Code::new(memory, &self.unmapped))
            }
            _ => None,
        }
    }

    /// What is to be looked for.
    pub(super) fn xrefs(&self, set: InstructionSet) -> Xrefs {
        let mut ranges = self.targets.clone();
        let routes = self.routes.all();
        let near = if routes.len() > FEW { NEAR } else { 0 };
        let mut last: Option<AddrRange<Gva>> = None;
        for at in routes.iter().map(|route| route.at) {
            last = match last {
                Some(before) if at.0 - before.last().0 <= near => {
                    AddrRange::inclusive(before.start(), at)
                }
                before => {
                    ranges.extend(before);
                    AddrRange::inclusive(at, at)
                }
            };
        }
        ranges.extend(last);
        Xrefs::to_any(ranges, set)
    }

    /// Whether an address was asked for itself. Without targets all are.
    pub(super) fn is_direct(&self, va: Gva) -> bool {
        self.targets.is_empty() || self.targets.iter().any(|target| target.contains(va))
    }

    /// The way that begins at an address.
    pub(super) fn route(&self, va: Gva) -> Option<&Route> {
        self.routes.at(va)
    }

    /// Whether the process has not mapped an address that is looked at.
    pub(super) fn is_unmapped(&self, va: Gva) -> bool {
        self.unmapped.is_cached(va)
    }

    /// How much of the code is not mapped.
    pub(super) fn beyond(&self) -> Beyond {
        Beyond {
            cached: self.unmapped.cached_bytes(),
            missing: self.unmapped.missing,
            first_missing: self.unmapped.first_missing,
        }
    }

    /// Whether it is a process that is asked, so that there may be code which it has not mapped.
    pub(super) fn of_process(space: &Space<'_>) -> bool {
        space.names.process().is_some()
    }

    /// Says which slots are named after a target and lead elsewhere, and which variables have moved.
    pub(super) fn tell_astray(&self, space: &Space<'_>, teller: &mut Teller<'_>) {
        let named = |va: Gva| match space.names.name(va.0) {
            Some(name) => format!("{name} ({va})"),
            None => va.to_string(),
        };
        for moved in &self.routes.moved {
            teller.tell(&format!(
                "{} has moved into {}: the copy that is used is {} (a copy relocation); --to {:#x}",
                moved.symbol,
                moved.image,
                named(moved.to),
                moved.to.0
            ));
        }
        // All uses of a variable that has moved lead to where it is now.
        let is_moved = |value: Gva| self.routes.moved.iter().any(|moved| moved.to == value);
        let astray = self.routes.astray.iter();
        for slot in astray.filter(|slot| !is_moved(slot.value)) {
            teller.tell(&format!(
                "the slot of {} for {} at {} leads elsewhere: to {}",
                slot.image,
                slot.symbol,
                slot.slot,
                named(slot.value)
            ));
        }
        teller.untold += self.routes.astray_count - self.routes.astray.len();
    }
}

/// Tells what is no reference and looks like one, up to a bound.
pub(super) struct Teller<'r> {
    reporter: &'r Reporter,
    /// Whose memory it is about, where there are many.
    pub(super) whose: Option<String>,
    told: usize,
    untold: usize,
}

impl<'r> Teller<'r> {
    pub(super) fn new(reporter: &'r Reporter) -> Self {
        Self {
            reporter,
            whose: None,
            told: 0,
            untold: 0,
        }
    }

    fn tell(&mut self, text: &str) {
        if self.told == ASTRAY_SHOWN {
            self.untold += 1;
            return;
        }
        self.told += 1;
        match &self.whose {
            Some(whose) => self.reporter.note(&format!("{whose}: {text}")),
            None => self.reporter.note(text),
        }
    }

    /// Says how much was not told.
    pub(super) fn end(self) {
        if self.untold > 0 {
            let text = format!("{} more slots of these names lead elsewhere", self.untold);
            self.reporter.note(&text);
        }
    }
}
