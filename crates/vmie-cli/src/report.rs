//! Everything that goes to standard error: errors, warnings, notes, the coverage line and progress.
//!
//! Results are data and go to standard output; this is talk *about* them. Errors are always printed,
//! all else is silenced by `-q`. `-v` adds details. A progress bar is drawn only on a terminal and is
//! put aside while anything else is written, to whichever stream.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anstream::ColorChoice;
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use vmie::{AddrRange, Address, Coverage, Gap, Gva};

use crate::escape;
use crate::exit::Failure;
use crate::size;

const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default();
const GREEN: Style = AnsiColor::Green.on_default();

/// How long a search may take before its progress is shown.
const PATIENCE: Duration = Duration::from_millis(500);

/// How much is said on standard error.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Level {
    /// Errors only.
    Quiet,
    /// Errors, warnings, notes, coverage, progress.
    Normal,
    /// Details too.
    Verbose,
}

/// A source of several.
#[derive(Clone)]
struct Speaker {
    name: Arc<str>,
    /// Takes lines until it is the source's turn.
    say: Arc<dyn Fn(Vec<u8>) + Send + Sync>,
}

/// The one writer to standard error; clones are the same writer.
#[derive(Clone)]
pub(crate) struct Reporter {
    level: Level,
    color: ColorChoice,
    bar: ProgressBar,
    /// How many searches have begun and ended, for a bar that waits.
    searches: Arc<AtomicU64>,
    /// Warnings that are given once, whoever finds them.
    once: Arc<Mutex<BTreeSet<String>>>,
    /// Where it is one of several sources that speaks.
    of: Option<Speaker>,
}

impl Reporter {
    /// Writes what `level` lets through, coloured by `color`.
    pub(crate) fn new(level: Level, color: ColorChoice) -> Self {
        Self {
            level,
            color,
            bar: ProgressBar::hidden(),
            searches: Arc::default(),
            once: Arc::default(),
            of: None,
        }
    }

    /// One for a source of several: what is said bears its name, and waits for its turn.
    pub(crate) fn of_source(
        &self,
        name: &str,
        say: impl Fn(Vec<u8>) + Send + Sync + 'static,
    ) -> Self {
        Self {
            level: self.level,
            color: self.color,
            bar: ProgressBar::hidden(),
            searches: Arc::default(),
            once: Arc::default(),
            of: Some(Speaker {
                name: name.into(),
                say: Arc::new(say),
            }),
        }
    }

    /// Writes lines that a source has said.
    pub(crate) fn pass_on(&self, lines: &[u8]) {
        self.bar.suspend(|| {
            let mut stderr = anstream::AutoStream::new(std::io::stderr().lock(), self.color);
            // Nobody is left to tell when standard error itself cannot be written.
            let _ = stderr.write_all(lines);
        });
    }

    /// One that says nothing but errors, for what was said before; with details, the same one.
    pub(crate) fn said_once(&self) -> Self {
        Self {
            level: if self.is_verbose() {
                self.level
            } else {
                Level::Quiet
            },
            ..self.clone()
        }
    }

    /// Whether details are wanted.
    pub(crate) fn is_verbose(&self) -> bool {
        self.level >= Level::Verbose
    }

    /// Something the user should know about how the answer came about.
    pub(crate) fn note(&self, text: &str) {
        if self.level >= Level::Normal {
            self.line(CYAN, "note", text);
        }
    }

    /// Something the user should know only when asking for details.
    pub(crate) fn detail(&self, text: &str) {
        if self.is_verbose() {
            self.line(CYAN, "note", text);
        }
    }

    /// Something that may make the answer wrong or incomplete.
    pub(crate) fn warn(&self, text: &str) {
        if self.level >= Level::Normal {
            self.line(YELLOW, "warning", text);
        }
    }

    /// As [`Reporter::warn`], once however often it is found.
    pub(crate) fn warn_once(&self, text: &str) {
        let mut said = self.once.lock().unwrap_or_else(PoisonError::into_inner);
        if said.insert(text.to_owned()) {
            self.warn(text);
        }
    }

    /// Says why an answer has no rows, where it has none.
    pub(crate) fn nothing(&self, found: bool, why: &str) {
        if !found {
            self.note(why);
        }
    }

    /// Something that makes the answer incomplete, with what was found and what to try.
    pub(crate) fn warn_failure(&self, failure: &Failure) {
        if self.level >= Level::Normal {
            self.line(YELLOW, "warning", &failure.what);
            self.found_and_hints(failure);
        }
    }

    /// An error, with what was found and what to try.
    pub(crate) fn failure(&self, failure: &Failure) {
        self.line(RED, "error", &failure.what);
        self.found_and_hints(failure);
    }

    fn found_and_hints(&self, failure: &Failure) {
        for found in &failure.found {
            self.line(CYAN, "  found", found);
        }
        for hint in &failure.hints {
            self.line(GREEN, "  try", hint);
        }
    }

    /// The coverage line; with details, every gap that was kept.
    pub(crate) fn coverage<A: Address>(&self, coverage: &Coverage<A>, words: Words) {
        self.coverage_beyond(coverage, words, None);
    }

    /// As [`Reporter::coverage`], with what is not mapped and belongs to it.
    pub(crate) fn coverage_beyond<A: Address>(
        &self,
        coverage: &Coverage<A>,
        words: Words,
        beyond: Option<Beyond>,
    ) {
        let text = text_beyond(coverage, words, "", beyond);
        let whole = beyond.is_none_or(|beyond| beyond.missing == 0);
        self.coverage_line(coverage.is_complete() && whole, &text);
        self.gaps(coverage, words, "");
    }

    /// With details, prints every gap that was kept. `place` says more of where they are.
    pub(crate) fn gaps<A: Address>(&self, coverage: &Coverage<A>, words: Words, place: &str) {
        if !self.is_verbose() {
            return;
        }
        for gap in words.gaps(coverage) {
            let text = format!("{}..+{:#x}{place}: {}", gap.start, gap.len, gap.cause);
            self.line(CYAN, "  gap", &text);
        }
        let kept = coverage.gaps.len() as u64;
        if coverage.gap_count > kept {
            let more = coverage.gap_count - kept;
            self.line(CYAN, "  gap", &format!("{more} more{place}"));
        }
    }

    /// Prints the coverage line of many spaces together. `place` is where the first gap is.
    pub(crate) fn coverage_of_many(
        &self,
        total: &Coverage<Gva>,
        words: Words,
        spaces: usize,
        place: &str,
        beyond: Option<Beyond>,
    ) {
        let text = text_beyond(total, words, place, beyond);
        let text = format!("{spaces} spaces, {text}");
        let whole = beyond.is_none_or(|beyond| beyond.missing == 0);
        self.coverage_line(words.complete(total) && whole, &text);
    }

    fn coverage_line(&self, complete: bool, text: &str) {
        if self.level >= Level::Normal {
            self.line(if complete { GREEN } else { YELLOW }, "coverage", text);
        }
    }

    /// Whether progress is shown: on a terminal, of a source that is asked alone.
    pub(crate) fn shows_progress(&self) -> bool {
        self.level >= Level::Normal && self.of.is_none() && std::io::stderr().is_terminal()
    }

    /// Begins a progress bar over `total` bytes, where progress is shown. It appears when there is something to wait
    /// for.
    ///
    /// The handle may be used from any thread; the bar disappears with [`Reporter::progress_end`].
    pub(crate) fn progress_begin(&self, verb: &'static str, total: u64) -> ProgressBar {
        if !self.shows_progress() {
            return self.bar.clone();
        }
        if let Ok(style) = ProgressStyle::with_template(
            "{prefix} [{wide_bar}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}",
        ) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.reset();
        self.bar.set_prefix(verb);
        self.bar.set_length(total);
        let (bar, searches) = (self.bar.clone(), Arc::clone(&self.searches));
        let this = searches.fetch_add(1, Ordering::Relaxed) + 1;
        std::thread::spawn(move || {
            std::thread::sleep(PATIENCE);
            if searches.load(Ordering::Relaxed) == this {
                bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
                bar.enable_steady_tick(Duration::from_millis(200));
            }
        });
        self.bar.clone()
    }

    /// Ends the progress bar and removes it from the terminal.
    pub(crate) fn progress_end(&self) {
        self.searches.fetch_add(1, Ordering::Relaxed);
        self.bar.finish_and_clear();
        self.bar.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// Runs `write` with the progress bar out of the way.
    pub(crate) fn suspend<R>(&self, write: impl FnOnce() -> R) -> R {
        self.bar.suspend(write)
    }

    fn line(&self, style: Style, label: &str, text: &str) {
        let text = escape::message(text);
        // Continuation lines stand under the text, not under the label.
        let indent = format!("\n{}", " ".repeat(label.len() + 2));
        let text = text.replace('\n', &indent);
        let Some(of) = &self.of else {
            self.pass_on(format!("{style}{label}:{style:#} {text}\n").as_bytes());
            return;
        };
        // Of an error the first line bears the name, unless it does already.
        let name = escape::message(&of.name);
        let named = label.starts_with(' ') || text.contains(&*name);
        let name = match named {
            true => String::new(),
            false => format!("{name}: "),
        };
        let line = format!("{style}{label}:{style:#} {name}{text}\n");
        (of.say)(line.into_bytes());
    }
}

/// What the three totals of a coverage are called by a verb.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    mapped: &'static str,
    read: &'static str,
    absent: &'static str,
    /// Whether what is not mapped was asked for, and is therefore missing.
    unmapped: bool,
}

impl Words {
    /// For verbs that read certain addresses.
    pub(crate) const READ: Self = Self {
        mapped: "mapped",
        read: "read",
        absent: "absent",
        unmapped: true,
    };
    /// For verbs that read all that is mapped; a range only narrows that.
    pub(crate) const SEARCH: Self = Self {
        unmapped: false,
        ..Self::READ
    };
    /// For comparisons of what two sides map.
    pub(crate) const COMPARE: Self = Self {
        mapped: "mapped in both",
        read: "compared",
        absent: "not readable",
        unmapped: false,
    };
    /// For verbs that list what is mapped without reading it.
    pub(crate) const LIST: Self = Self {
        mapped: "mapped",
        read: "in the image",
        absent: "not",
        unmapped: false,
    };
    /// For what an image says it holds.
    pub(crate) const IMAGE: Self = Self {
        mapped: "declared",
        read: "in the file",
        absent: "missing",
        unmapped: false,
    };
}

impl Words {
    /// Whether nothing is missing. What is not mapped in `--range` was not asked for: the range only
    /// narrows a search.
    pub(crate) fn complete<A: Address>(self, coverage: &Coverage<A>) -> bool {
        coverage.absent == 0 && coverage.lost == 0 && (coverage.unmapped == 0 || !self.unmapped)
    }

    /// The gaps that matter.
    pub(crate) fn gaps<A: Address>(self, coverage: &Coverage<A>) -> impl Iterator<Item = &Gap<A>> {
        coverage
            .gaps
            .iter()
            .filter(move |gap| self.unmapped || !gap.cause.is_unmapped())
    }
}

/// Code that a process has not mapped, in bytes.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Beyond {
    /// In memory, and looked at: of what counts as mapped, so much is not.
    pub(crate) cached: u64,
    /// Not in memory.
    pub(crate) missing: u64,
    /// The first of that.
    pub(crate) first_missing: Option<AddrRange<Gva>>,
}

impl Beyond {
    /// Of two spaces together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            cached: self.cached.saturating_add(other.cached),
            missing: self.missing.saturating_add(other.missing),
            // An address in which of them?
            first_missing: None,
        }
    }
}

/// One line about what was looked at. `place` says more of where the first gap is.
pub(crate) fn coverage_text<A: Address>(
    coverage: &Coverage<A>,
    words: Words,
    place: &str,
) -> String {
    text_beyond(coverage, words, place, None)
}

/// One line about what was looked at, and what is not mapped and belongs to it.
fn text_beyond<A: Address>(
    coverage: &Coverage<A>,
    words: Words,
    place: &str,
    beyond: Option<Beyond>,
) -> String {
    let beyond = beyond.unwrap_or_default();
    let mut text = format!("{} {}", size::approx(coverage.mapped), words.mapped);
    if coverage.mapped == 0 {
        text = format!("nothing {}", words.mapped);
    } else if coverage.absent == 0 && beyond.missing == 0 {
        text.push_str(&format!(", all of it {}", words.read));
    } else if coverage.absent == 0 {
        text.push_str(&format!(", {} {}", size::approx(coverage.read), words.read));
    } else {
        text.push_str(&format!(
            ", {} {}, {} {}",
            size::approx(coverage.read),
            words.read,
            size::approx(coverage.absent),
            words.absent
        ));
    }
    if coverage.lost > 0 {
        text.push_str(&format!("; {} unknown", size::approx(coverage.lost)));
    }
    if coverage.unmapped > 0 && words.unmapped {
        text.push_str(&format!("; {} not mapped", size::approx(coverage.unmapped)));
    }
    if beyond.cached > 0 {
        let cached = size::approx(beyond.cached);
        text.push_str(&format!("; {cached} of it only in the page cache"));
    }
    if beyond.missing > 0 {
        let missing = size::approx(beyond.missing);
        text.push_str(&format!("; {missing} of code not in memory"));
        if let Some(first) = beyond.first_missing {
            text.push_str(&format!(
                ", the first at {}..+{:#x}",
                first.start(),
                first.len()
            ));
        }
    }
    let mut gaps = words.gaps(coverage);
    if let Some(gap) = gaps.next() {
        let first = if gaps.next().is_some() {
            "the first gap is"
        } else {
            "gap"
        };
        text.push_str(&format!(
            "; {first}{place} at {}..+{:#x}: {}",
            gap.start, gap.len, gap.cause
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmie::{Cause, Gpa, Gva};

    #[test]
    fn the_coverage_line_names_every_kind_of_gap() {
        let mut coverage = Coverage::default();
        coverage.add_read(0x2000);
        assert_eq!(
            coverage_text(&coverage, Words::READ, ""),
            "8 KiB mapped, all of it read"
        );
        coverage.add_gap(Gva(0x5000), 0x1000, Cause::Absent { gpa: Gpa(0x9000) });
        coverage.add_gap(
            Gva(0x20_0000),
            0x20_0000,
            Cause::TableAbsent {
                level: 1,
                table: Gpa(0xa000),
            },
        );
        assert_eq!(
            coverage_text(&coverage, Words::READ, ""),
            "12 KiB mapped, 8 KiB read, 4 KiB absent; 2 MiB unknown; the first gap is at \
             0x5000..+0x1000: physical address 0x9000 is not in the image"
        );
    }
}
