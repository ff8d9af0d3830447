//! Files of rules with mistakes in them: what does not compile is left out, the rest is compiled.
//!
//! The compiler stops at the first mistake of a file, and has all rules before it by then. So the file is taken
//! apart into imports, includes and rules, and the compiler goes on behind the one with the mistake; in an included
//! file first, then in the file that includes it. Where something else than what is compiled stood there are
//! blanks, so that lines and columns are those of the file. A file with a syntax error has no parts and is left out
//! as a whole.
//!
//! Rules that refer to what was left out do not compile either, and are named. A global rule is a condition
//! on all others in its file, which would hold too often without it: then nothing of the file is any good.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use boreal::Compiler;
use boreal::compiler::AddRuleError;
use boreal_parser::file::YaraFileComponent;

/// What became of the files so far.
#[derive(Default)]
pub(super) struct Mistakes {
    /// Each with file, line and column.
    pub(super) errors: Vec<String>,
    /// What is odd in rules that compile.
    pub(super) warnings: Vec<String>,
    /// Whether a global rule was left out.
    pub(super) global: bool,
}

impl Mistakes {
    /// Adds what compiles of a file to the compiler.
    pub(super) fn add(&mut self, compiler: &mut Compiler, file: &Path, namespace: &str) {
        match compiler.add_rules_file_in_namespace(file, namespace) {
            Ok(status) => self.warn(file, status.warnings().map(ToString::to_string)),
            Err(error) => self.go_on(compiler, file, namespace, &error),
        }
    }

    fn warn(&mut self, file: &Path, warnings: impl Iterator<Item = String>) {
        self.warnings.extend(warnings.map(|text| named(file, text)));
    }

    /// Goes on behind the first mistake of a file, which the compiler has just met.
    fn go_on(
        &mut self,
        compiler: &mut Compiler,
        file: &Path,
        namespace: &str,
        error: &AddRuleError,
    ) {
        let within = error.path.as_deref();
        let here = within.is_none_or(|path| same(path, file));
        let Some(parts) = Parts::of(file) else {
            self.errors.push(named(file, error.to_string()));
            return;
        };
        let at = if here {
            let at = parts.at(place(error));
            self.left_out(file, error, parts.get(at));
            at
        } else {
            // In what one of the includes leads to; that one first.
            let leads = |part: &Part| match &part.kind {
                Kind::Include(path) => within.is_some_and(|within| leads_to(path, within, 0)),
                _ => false,
            };
            let at = parts.all.iter().position(leads);
            match at.and_then(|at| parts.get(at)).map(|part| &part.kind) {
                Some(Kind::Include(path)) => self.go_on(compiler, path, namespace, error),
                _ => self.errors.push(named(file, error.to_string())),
            }
            at.unwrap_or(parts.all.len())
        };
        self.rest(compiler, file, namespace, &parts, at + 1);
    }

    /// Adds the parts from one on.
    fn rest(
        &mut self,
        compiler: &mut Compiler,
        file: &Path,
        namespace: &str,
        parts: &Parts,
        from: usize,
    ) {
        let mut next = from;
        while let Some(part) = parts.get(next) {
            if let Kind::Include(path) = &part.kind {
                self.add(compiler, path, namespace);
                next += 1;
                continue;
            }
            // All up to the next include at once.
            let run = parts.all[next..].iter();
            let count = run
                .take_while(|part| !matches!(part.kind, Kind::Include(_)))
                .count();
            let end = parts.all[next + count - 1].range.end;
            let text = alone(&parts.text, part.range.start..end);
            match compiler.add_rules_str_in_namespace(text, namespace) {
                Ok(status) => {
                    self.warn(file, status.warnings().map(ToString::to_string));
                    next += count;
                }
                Err(error) => {
                    let at = parts.at(place(&error)).clamp(next, next + count - 1);
                    self.left_out(file, &error, parts.get(at));
                    next = at + 1;
                }
            }
        }
    }

    fn left_out(&mut self, file: &Path, error: &AddRuleError, part: Option<&Part>) {
        self.global |= part.is_some_and(|part| matches!(part.kind, Kind::Global));
        self.errors.push(named(file, error.to_string()));
    }
}

/// An error of a file: what is compiled from a string is called so.
fn named(file: &Path, error: String) -> String {
    match error.strip_prefix("mem:") {
        Some(rest) => format!("{}:{rest}", file.display()),
        None => error,
    }
}

/// Where in the text an error is.
fn place(error: &AddRuleError) -> usize {
    let diagnostic = error.to_diagnostic();
    let label = diagnostic.labels.first();
    label.map_or(0, |label| label.range.start)
}

fn same(a: &Path, b: &Path) -> bool {
    a == b
        || a.canonicalize()
            .is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}

/// Whether a file is another one or includes it. That includes do not go in circles has been looked at before.
fn leads_to(file: &Path, other: &Path, depth: usize) -> bool {
    const DEPTH: usize = 64;
    if same(file, other) {
        return true;
    }
    depth < DEPTH
        && Parts::of(file).is_some_and(|parts| {
            parts.all.iter().any(|part| match &part.kind {
                Kind::Include(path) => leads_to(path, other, depth + 1),
                _ => false,
            })
        })
}

/// A file without syntax errors.
struct Parts {
    text: String,
    all: Vec<Part>,
}

struct Part {
    /// From where it begins to where the next one does.
    range: Range<usize>,
    kind: Kind,
}

enum Kind {
    /// A rule, or an import.
    Plain,
    /// A rule that all others depend on.
    Global,
    Include(PathBuf),
}

impl Parts {
    /// Takes a file apart; nothing of one that cannot be read or has a syntax error.
    fn of(file: &Path) -> Option<Self> {
        let text = fs::read_to_string(file).ok()?;
        let parsed = boreal_parser::parse(&text).ok()?;
        // Where each begins. Of rules, only the place of the name is known.
        let begins = parsed.components.iter().map(|component| match component {
            YaraFileComponent::Rule(rule) => start_of_rule(&text, rule.name_span.start),
            YaraFileComponent::Import(import) => Some(import.span.start),
            YaraFileComponent::Include(include) => Some(include.span.start),
        });
        let begins: Vec<usize> = begins.collect::<Option<_>>()?;
        let ends = begins.iter().copied().skip(1).chain([text.len()]);
        let ranges = begins.iter().copied().zip(ends);
        let folder = file.parent().unwrap_or(Path::new(""));
        let all = parsed.components.iter().zip(ranges);
        let all = all.map(|(component, (start, end))| Part {
            range: start..end.max(start),
            kind: match component {
                YaraFileComponent::Include(include) => Kind::Include(folder.join(&include.path)),
                YaraFileComponent::Rule(rule) if rule.is_global => Kind::Global,
                _ => Kind::Plain,
            },
        });
        let all = all.collect();
        Some(Self { text, all })
    }

    fn get(&self, index: usize) -> Option<&Part> {
        self.all.get(index)
    }

    /// The part that a place in the text is in.
    fn at(&self, place: usize) -> usize {
        let behind = self.all.partition_point(|part| part.range.start <= place);
        behind.saturating_sub(1)
    }
}

/// Where the words before a rule's name begin; `None` when comments stand between them.
fn start_of_rule(text: &str, name: usize) -> Option<usize> {
    let mut before = text.get(..name)?.trim_end().strip_suffix("rule")?;
    let mut start = before.len();
    loop {
        let words = before.trim_end();
        let Some(rest) = ["private", "global"]
            .iter()
            .find_map(|word| words.strip_suffix(word))
        else {
            return Some(start);
        };
        before = rest;
        start = before.len();
    }
}

/// The text with nothing but `range` in it, at the same place.
fn alone(text: &str, range: Range<usize>) -> String {
    let blank = |part: &str| -> String {
        let blank = |c: char| {
            let blank = if c == '\n' { "\n" } else { " " };
            blank.repeat(c.len_utf8())
        };
        part.chars().map(blank).collect()
    };
    format!(
        "{}{}{}",
        blank(&text[..range.start]),
        &text[range.clone()],
        blank(&text[range.end..])
    )
}
