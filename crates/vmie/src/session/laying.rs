//! How a raw image is laid out that nobody told of: plausible layouts are tried, and the one that proves itself is taken.
//!
//! Evidence ([`evidence`](super::evidence)) is looked for in three steps, each when the one before it was not enough and somebody asks what it
//! takes:
//!
//! 1. *When the image is opened*: page tables that are found without a search ([`os::likely_roots`]). Milliseconds, and with
//!    nearly all guests of a known system the end of it.
//! 2. *When a root is given*: the page tables under it.
//! 3. *When the operating system is looked for*: it is looked for under each layout, first where that costs little. Then its page tables
//!    speak, and its processes', and what it counts as RAM.
//!
//! Until then, and where nothing decides, memory is taken as one piece, and [`LayoutInfo`] says that this is not known. The search under
//! another layout is made only if the first one met something that leads to a system: layouts move memory, and change nothing in it.
//!
//! The same evidence tells when the file was cut: tables that lie beyond its end, or RAM that the system counts and the file does not
//! have. What is missing is declared, as in other formats.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::evidence::{self, Candidate, Proof, Score, Verdict};
use super::info::{LayoutInfo, LayoutKnown, SourceInfo};
use super::space::Root;
use crate::addr::{Gpa, Gva};
use crate::hints::Hints;
use crate::image::{Image, Layout, LayoutPart, OpenOptions};
use crate::os::{self, Effort, FindError, FindOptions, Guest, Phys, Process, RamCount};
use crate::paging::{AddressSpace, detect};

/// How many processes are asked for evidence.
const PROCESSES: usize = 64;

/// Memory as a layout has it, and what is known about it.
pub(super) struct Laid {
    pub(super) memory: Phys,
    pub(super) info: SourceInfo,
}

/// A raw image whose layout nobody told.
pub(super) struct Laying {
    path: PathBuf,
    size: u64,
}

impl Laying {
    /// For the image at this path, which was opened as one piece.
    pub(super) fn new(path: &Path, size: u64) -> Self {
        Self {
            path: path.to_owned(),
            size,
        }
    }

    /// What is known before anything was looked at.
    pub(super) fn begin(&self) -> LayoutInfo {
        let mut others = Layout::plausible(self.size);
        let layout = others.remove(0);
        LayoutInfo {
            layout,
            known: match others.is_empty() {
                true => LayoutKnown::Only,
                false => LayoutKnown::Open,
            },
            others,
        }
    }

    /// The plausible layouts. One that cannot be opened is none.
    fn candidates(&self) -> Vec<Candidate> {
        let all = Layout::plausible(self.size);
        all.into_iter()
            .filter_map(|layout| self.candidate(layout))
            .collect()
    }

    fn candidate(&self, layout: Layout) -> Option<Candidate> {
        let image = self.image(layout.resolve(self.size)).ok()?;
        Some(Candidate {
            parts: layout.resolve(self.size),
            layout,
            memory: Arc::new(image),
        })
    }

    fn image(&self, parts: Vec<LayoutPart>) -> Result<Image, crate::image::OpenError> {
        let options = OpenOptions {
            layout: Some(Layout::Explicit(parts)),
            ..OpenOptions::default()
        };
        Image::open_with(&self.path, &options)
    }

    /// Decides by page tables that are found without a search; `None` where that does not settle it, or changes nothing.
    pub(super) fn glance(&self, hints: &Hints) -> Option<Laid> {
        let candidates = self.candidates();
        let scores = self.scores(&candidates, |one| {
            let roots = os::likely_roots(&one.memory, hints);
            roots.into_iter().map(|root| root.space).collect()
        });
        self.conclude(&candidates, &scores, None)
    }

    /// Decides by the page tables under a root.
    pub(super) fn by_root(&self, root: Root) -> Option<Laid> {
        let candidates = self.candidates();
        let scores = self.scores(&candidates, |one| {
            let mode = root
                .mode
                .or_else(|| Some(detect(&*one.memory, root.gpa, &[]).ok()?.mode));
            let space = mode.map(|mode| AddressSpace::new(Arc::clone(&one.memory), root.gpa, mode));
            space.into_iter().collect()
        });
        self.conclude(&candidates, &scores, None)
    }

    /// Scores each candidate by spaces that it has.
    fn scores(
        &self,
        candidates: &[Candidate],
        spaces: impl Fn(&Candidate) -> Vec<AddressSpace>,
    ) -> Vec<Score> {
        let score = |(own, one): (usize, &Candidate)| {
            let mut score = Score::default();
            for space in spaces(one) {
                score.look(&space, own, candidates, self.size);
            }
            score
        };
        candidates.iter().enumerate().map(score).collect()
    }

    /// Memory as the evidence has it; `None` where that leaves it as it was.
    fn conclude(
        &self,
        candidates: &[Candidate],
        scores: &[Score],
        count: Option<RamCount>,
    ) -> Option<Laid> {
        let chosen = match evidence::decide(candidates, scores, count) {
            Verdict::By(chosen, proof) => (chosen, known(proof, &scores[chosen], count)),
            // The only one there is.
            Verdict::Open(_) if candidates.len() == 1 => (0, LayoutKnown::Only),
            Verdict::Open(_) => return None,
        };
        let (index, known) = chosen;
        let (one, score) = (&candidates[index], &scores[index]);
        let cut = self.cut(one, score, count);
        if candidates.len() == 1 && cut.is_none() {
            return None;
        }
        self.lay(one, known, Vec::new(), cut)
    }

    /// How a candidate is known to be cut: where RAM ends, and what says so.
    fn cut(&self, one: &Candidate, score: &Score, count: Option<RamCount>) -> Option<Cut> {
        let end = one.end();
        let counted = count.filter(|count| count.end > end);
        match (counted, score.beyond.filter(|&beyond| beyond > end)) {
            (Some(count), _) => {
                // All but what firmware takes, where that is a usual place.
                let usual = |low_end: Gpa| {
                    let usual = Layout::low_ends();
                    let usual = usual.filter(|&usual| evidence::fills(low_end, usual));
                    usual.min().unwrap_or(low_end)
                };
                Some(Cut {
                    low_end: count.low_end.map(usual),
                    end: count.end,
                    why: format!("the operating system counts RAM up to {}", count.end),
                })
            }
            (None, Some(beyond)) => Some(Cut {
                low_end: None,
                end: beyond,
                why: format!(
                    "page tables lie beyond its end, up to {beyond}, and more may be missing"
                ),
            }),
            (None, None) => None,
        }
    }

    /// Opens the image as it is laid out.
    fn lay(
        &self,
        one: &Candidate,
        known: LayoutKnown,
        others: Vec<Layout>,
        cut: Option<Cut>,
    ) -> Option<Laid> {
        let mut parts = one.parts.clone();
        let mut notes = Vec::new();
        if let Some(cut) = cut {
            notes.push(format!("the file was cut: {}", cut.why));
            parts = evidence::extended(&parts, self.size, cut.low_end, cut.end);
        }
        let image = self.image(parts).ok()?;
        let mut info = SourceInfo::from(image.info());
        // Nobody gave these parts, and the note before says what is missing.
        info.notes.retain(|note| !note.starts_with("layout part "));
        info.notes.splice(0..0, notes);
        info.layout = Some(LayoutInfo {
            layout: one.layout.clone(),
            known,
            others,
        });
        Some(Laid {
            memory: Arc::new(image),
            info,
        })
    }

    /// Looks for the operating system, and decides by it. `settled` is memory where its layout is known already.
    ///
    /// Answers the system, and memory as it is laid out then, if that is news.
    pub(super) fn by_system(
        &self,
        settled: Option<(&Phys, &LayoutInfo)>,
        hints: &Hints,
        known: &FindOptions,
    ) -> Result<(Box<dyn Guest>, Option<Laid>), FindError> {
        let mut candidates = match settled {
            Some((memory, info)) => vec![Candidate {
                layout: info.layout.clone(),
                parts: info.layout.resolve(self.size),
                memory: Arc::clone(memory),
            }],
            None => self.candidates(),
        };
        let guest = find(&candidates, hints, known)?;
        let count = guest.ram();
        if settled.is_none() {
            self.add_counted(&mut candidates, count);
        }
        let trail = FindOptions {
            trail: Some(guest.trail().clone()),
            effort: Effort::Hints,
            ..known.clone()
        };
        let score = |own: usize| {
            let one = &candidates[own];
            let mut score = Score::default();
            let space = on(guest.kernel_space(), &one.memory);
            score.look(&space, own, &candidates, self.size);
            let marks = &guest.trail().marks;
            if candidates.len() > 1 && leads_alike(guest.kernel_space(), &space, marks) {
                self.ask_processes(&mut score, own, &candidates, hints, &trail);
            }
            score
        };
        let scores: Vec<Score> = (0..candidates.len()).map(score).collect();
        let laid = match settled {
            Some((_, info)) => self
                .cut(&candidates[0], &scores[0], count)
                .and_then(|cut| self.lay(&candidates[0], info.known, Vec::new(), Some(cut))),
            None => self
                .conclude(&candidates, &scores, count)
                .or_else(|| self.still_open(&candidates, &scores, &*guest)),
        };
        let Some(laid) = laid else {
            return Ok((guest, None));
        };
        // The same system in memory as it is laid out.
        let trail = FindOptions {
            effort: known.effort,
            ..trail
        };
        match os::find_with(&laid.memory, hints, &trail) {
            Ok(guest) => Ok((guest, Some(laid))),
            Err(_) => Ok((guest, None)),
        }
    }

    /// That nothing decides: memory as the system was found in it.
    fn still_open(
        &self,
        candidates: &[Candidate],
        scores: &[Score],
        guest: &dyn Guest,
    ) -> Option<Laid> {
        if candidates.len() == 1 {
            return None;
        }
        let Verdict::Open(possible) = evidence::decide(candidates, scores, None) else {
            return None;
        };
        let phys = guest.kernel_space().phys();
        let found = candidates
            .iter()
            .position(|one| Arc::ptr_eq(&one.memory, phys))?;
        let others = possible.into_iter().filter(|&other| other != found);
        let others = others.map(|other| candidates[other].layout.clone());
        self.lay(
            &candidates[found],
            LayoutKnown::Open,
            others.collect(),
            None,
        )
    }

    /// Adds the layout that has just what the system counts, unless it is there: machines may be told where to begin the hole.
    fn add_counted(&self, candidates: &mut Vec<Candidate>, count: Option<RamCount>) {
        let four = Gpa(4 << 30);
        let Some(count) = count.filter(|count| count.end > four) else {
            return;
        };
        let Some(low_end) = self.size.checked_sub(count.end.0 - four.0).map(Gpa) else {
            return;
        };
        let told = count.low_end;
        if told.is_none_or(|told| !evidence::fills(told, low_end)) || low_end > four {
            return;
        }
        let layout = Layout::split(low_end, self.size, None);
        let parts = layout.resolve(self.size);
        if candidates.iter().all(|one| one.parts != parts) {
            candidates.extend(self.candidate(layout.named(self.size)));
        }
    }

    /// What the processes of the system say, as they are listed in memory of one layout: their top page tables map the kernel as its own
    /// does.
    fn ask_processes(
        &self,
        score: &mut Score,
        own: usize,
        candidates: &[Candidate],
        hints: &Hints,
        trail: &FindOptions,
    ) {
        let Ok(guest) = os::find_with(&candidates[own].memory, hints, trail) else {
            return;
        };
        let Ok(listing) = guest.processes() else {
            return;
        };
        if listing.findings.iter().any(os::Finding::costs_rows) {
            score.count(false);
        }
        let kernel = guest.kernel_space();
        let roots = listing.items.iter().filter_map(|one: &Process| one.root);
        for root in roots.take(PROCESSES) {
            let space = kernel.with_root(root);
            if evidence::is_disputed(root, candidates, self.size) {
                // With page tables of its own for user mode, a process may map less of the kernel.
                let marks = &guest.trail().marks;
                score.count(leads_alike(kernel, &space, &marks[..marks.len().min(1)]));
            }
            score.look(&space, own, candidates, self.size);
        }
    }
}

/// Where a file was cut.
struct Cut {
    /// Where RAM ends below 4 GiB, where that is known.
    low_end: Option<Gpa>,
    end: Gpa,
    why: String,
}

fn known(proof: Proof, score: &Score, count: Option<RamCount>) -> LayoutKnown {
    match (proof, count) {
        (Proof::Count, Some(count)) => LayoutKnown::Count(count),
        (Proof::Tables, _) => LayoutKnown::Tables(score.sound),
        _ => LayoutKnown::Others,
    }
}

/// Looks for the system under each candidate, first where that costs little.
fn find(
    candidates: &[Candidate],
    hints: &Hints,
    known: &FindOptions,
) -> Result<Box<dyn Guest>, FindError> {
    let mut missed = FindError {
        searches: Vec::new(),
        led: false,
    };
    for effort in [Effort::Hints, Effort::Notes, Effort::Everywhere] {
        if effort > known.effort {
            break;
        }
        let options = FindOptions {
            effort,
            ..known.clone()
        };
        for (index, one) in candidates.iter().enumerate() {
            match os::find_with(&one.memory, hints, &options) {
                Ok(guest) => return Ok(guest),
                Err(error) => {
                    // What leads to a system is there under every layout, or under none.
                    let hopeless = !error.led && effort > Effort::Hints;
                    if index == 0 {
                        missed = error;
                    }
                    if hopeless {
                        break;
                    }
                }
            }
        }
    }
    Err(missed)
}

/// The same space in other memory, as the CPU sees it.
fn on(space: &AddressSpace, memory: &Phys) -> AddressSpace {
    space.in_memory(Arc::clone(memory))
}

/// Whether addresses lead to the same places in two spaces.
fn leads_alike(one: &AddressSpace, other: &AddressSpace, addresses: &[Gva]) -> bool {
    addresses.iter().all(|&va| {
        let (one, other) = (one.translate(va), other.translate(va));
        matches!((one, other), (Ok(one), Ok(other)) if one.gpa == other.gpa)
    })
}
