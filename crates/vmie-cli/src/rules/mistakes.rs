//! All mistakes in a file of rules.
//!
//! The compiler stops at the first one. Whoever mends a file wants to see all, so a file with a mistake is
//! taken apart into imports, includes and rules, and each is compiled alone behind those before it that are
//! right. In place of the others stand blanks, so that lines and columns are those of the file.

use std::fs;
use std::ops::Range;
use std::path::Path;

use boreal::Compiler;
use boreal::compiler::AddRuleError;
use boreal_parser::file::YaraFileComponent;

/// The mistakes of a file in which the compiler saw one, each with file, line and column.
pub(super) fn all(file: &Path, first: &AddRuleError) -> Vec<String> {
    let first = vec![first.to_string()];
    let Ok(text) = fs::read_to_string(file) else {
        return first;
    };
    let Some(parts) = parts(&text) else {
        return first;
    };
    let name = file.display().to_string();
    let mut compiler = Compiler::new();
    let mut errors = Vec::new();
    for part in parts {
        let error = match part {
            Part::Include(path) => {
                let path = file.parent().unwrap_or(Path::new("")).join(path);
                compiler.add_rules_file(path).err()
            }
            Part::Text(range) => compiler.add_rules_str(alone(&text, range)).err(),
        };
        errors.extend(error.map(|error| {
            let text = error.to_string();
            // What is compiled from a string is called so.
            match text.strip_prefix("mem:") {
                Some(rest) => format!("{name}:{rest}"),
                None => text,
            }
        }));
    }
    // A mistake that is none when looked at so is one all the same.
    if errors.is_empty() { first } else { errors }
}

enum Part {
    /// A rule, or an import.
    Text(Range<usize>),
    Include(String),
}

/// The parts of a file without syntax errors.
fn parts(text: &str) -> Option<Vec<Part>> {
    let parsed = boreal_parser::parse(text).ok()?;
    // Where each begins. Of rules, only the place of the name is known.
    let begins = parsed.components.iter().map(|component| match component {
        YaraFileComponent::Rule(rule) => start_of_rule(text, rule.name_span.start),
        YaraFileComponent::Import(import) => Some(import.span.start),
        YaraFileComponent::Include(include) => Some(include.span.start),
    });
    let begins: Vec<usize> = begins.collect::<Option<_>>()?;
    let ends = begins.iter().copied().skip(1).chain([text.len()]);
    let ranges = begins.iter().copied().zip(ends);
    let part = |(component, (start, end)): (&YaraFileComponent, (usize, usize))| match component {
        YaraFileComponent::Include(include) => Part::Include(include.path.clone()),
        _ => Part::Text(start..end.max(start)),
    };
    Some(parsed.components.iter().zip(ranges).map(part).collect())
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
        let blank = |c: char| if c == '\n' { '\n' } else { ' ' };
        part.chars().map(blank).collect()
    };
    format!(
        "{}{}{}",
        blank(&text[..range.start]),
        &text[range.clone()],
        blank(&text[range.end..])
    )
}
