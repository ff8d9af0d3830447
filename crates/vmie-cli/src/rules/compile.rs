//! Finds the files of rules and compiles them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use boreal::scanner::{CallbackEvents, FragmentedScanMode, ScanParams};
use boreal::{Compiler, Scanner};

use super::{includes, mistakes};
use crate::escape::shell_word;
use crate::exit::Failure;

/// Mistakes told one by one.
const SHOWN: usize = 32;
/// How often a string is found at most in one space: conditions count no further, and no more are kept. A
/// match takes some 60 bytes, a guest can be full of them, and there are thousands of strings.
pub(crate) const MOST_MATCHES: u32 = 10_000;
/// How deep folders may be nested.
const DEPTH: usize = 64;

/// Compiled rules.
pub(crate) struct Rules {
    pub(crate) scanner: Scanner,
    /// What is odd about them, with file, line and column.
    pub(crate) warnings: Vec<String>,
}

/// Compiles what was typed: files, and all files of rules in folders.
///
/// Each file is a namespace of its own, named as the file is, from the folder on that was typed.
///
/// # Errors
///
/// Names every mistake in every file; in one with a syntax error, that.
pub(crate) fn compile(typed: &[PathBuf]) -> Result<Rules, Failure> {
    let mut compiler = Compiler::new();
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    let mut names = BTreeSet::new();
    for (file, within) in files(typed)? {
        if let Some(wrong) = includes::circle(&file) {
            errors.push(format!("{}: error: {wrong}", file.display()));
            continue;
        }
        let namespace = namespace(&file, &within, &mut names);
        match compiler.add_rules_file_in_namespace(&file, &namespace) {
            Ok(status) => warnings.extend(status.warnings().map(ToString::to_string)),
            Err(error) => errors.extend(mistakes::all(&file, &error)),
        }
    }
    if errors.is_empty() {
        let mut scanner = compiler.finalize();
        scanner.set_scan_params(
            ScanParams::default()
                .compute_full_matches(true)
                .match_max_length(0)
                .string_max_nb_matches(MOST_MATCHES)
                .fragmented_scan_mode(FragmentedScanMode::legacy())
                .callback_events(
                    CallbackEvents::RULE_MATCH | CallbackEvents::STRING_REACHED_MATCH_LIMIT,
                ),
        );
        return Ok(Rules { scanner, warnings });
    }
    let s = if errors.len() == 1 { "" } else { "s" };
    let failure = Failure::new(format!("{} mistake{s} in the rules", errors.len()));
    let mut failure = errors.iter().take(SHOWN).fold(failure, Failure::found);
    if errors.len() > SHOWN {
        failure = failure.found(format!("{} more", errors.len() - SHOWN));
    }
    if errors.iter().any(|error| error.contains("unknown import")) {
        let mut modules: Vec<&str> = compiler.available_modules().collect();
        modules.sort_unstable();
        failure = failure.hint(format!(
            "rules without this module; vmie has {}",
            modules.join(", ")
        ));
    }
    Err(failure)
}

/// The files, each once, with the folder that was typed; in folders by name.
fn files(typed: &[PathBuf]) -> Result<Vec<(PathBuf, PathBuf)>, Failure> {
    let mut all = Vec::new();
    for path in typed {
        if !path.is_dir() {
            let folder = path.parent().unwrap_or(Path::new("")).to_owned();
            all.push((path.clone(), folder));
            continue;
        }
        let mut inside = Vec::new();
        collect(path, 0, &mut inside)?;
        if inside.is_empty() {
            return Err(Failure::new(format!("no rules in {}", shell_word(path)))
                .found("no file whose name ends in .yar or .yara"));
        }
        inside.sort();
        all.extend(inside.into_iter().map(|file| (file, path.clone())));
    }
    let mut seen = BTreeSet::new();
    // What cannot be found is told by the compiler.
    all.retain(|(file, _)| file.canonicalize().map_or(true, |file| seen.insert(file)));
    Ok(all)
}

fn collect(folder: &Path, depth: usize, all: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let error = |error: std::io::Error| {
        Failure::new(format!("cannot read {}: {error}", shell_word(folder)))
    };
    if depth > DEPTH {
        return Err(Failure::new(format!(
            "{} is more than {DEPTH} folders deep",
            shell_word(folder)
        )));
    }
    for entry in fs::read_dir(folder).map_err(error)? {
        let entry = entry.map_err(error)?;
        let path = entry.path();
        // Links to folders are left out: they may lead back.
        if entry.file_type().map_err(error)?.is_dir() {
            collect(&path, depth + 1, all)?;
        } else if is_rules(&path) && path.is_file() {
            all.push(path);
        }
    }
    Ok(())
}

fn is_rules(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str);
    extension.is_some_and(|end| ["yar", "yara"].contains(&&*end.to_ascii_lowercase()))
}

/// A name for a file that no other has.
fn namespace(file: &Path, folder: &Path, names: &mut BTreeSet<String>) -> String {
    let within = file.strip_prefix(folder).unwrap_or(file);
    let choices = [&*within.with_extension(""), within, file];
    let mut choices = choices.iter().map(|path| path.display().to_string());
    let free = choices.find(|name| names.insert(name.clone()));
    free.unwrap_or_else(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, text).expect("writes");
        }
        dir
    }

    const ANY: &str = "rule any { condition: true }";

    #[test]
    fn folders_are_read_by_name_and_files_are_namespaces() {
        let dir = folder(&[
            ("b.yar", ANY),
            ("a/x.YARA", ANY),
            ("a/x.yar", ANY),
            ("a/readme.txt", "no rules"),
            ("c.yara", ANY),
        ]);
        let rules = compile(&[dir.path().to_owned()]).unwrap_or_else(|error| panic!("{error:?}"));
        let names: Vec<&str> = rules.scanner.rules().map(|rule| rule.namespace).collect();
        assert_eq!(names, ["a/x", "a/x.yar", "b", "c"]);
    }

    #[test]
    fn every_mistake_of_every_file_is_named_with_its_place() {
        let dir = folder(&[
            (
                "a.yar",
                "rule one {\n  condition: $a\n}\n\nprivate rule two { condition: nothing }\n",
            ),
            ("b.yar", "import \"hash\"\nrule three { condition: }\n"),
            (
                "c.yar",
                "import \"cuckoo\"\n// rule\nrule ok { condition: true }\nrule ok { condition: true }",
            ),
        ]);
        let failure = compile(&[dir.path().to_owned()]).err().expect("mistakes");
        assert_eq!(failure.what, "5 mistakes in the rules");
        for (line, place) in failure.found.iter().zip([
            "a.yar:2:14: error: ",
            "a.yar:5:31: error: ",
            "b.yar:2:25: error: ",
            "c.yar:1:1: error: unknown import cuckoo",
            "c.yar:4:6: error: ",
        ]) {
            assert!(line.contains(place), "{place}: {line}");
        }
        assert!(
            failure.hints[0].contains("elf, macho, math, pe"),
            "{failure:?}"
        );
    }

    #[test]
    fn where_there_are_no_rules_it_says_so() {
        let dir = folder(&[("a.txt", ANY)]);
        for path in [dir.path().to_owned(), dir.path().join("no.yar")] {
            compile(&[path]).err().expect("no rules");
        }
    }

    #[test]
    fn includes_are_followed_and_circles_are_refused() {
        let dir = folder(&[
            ("a.yar", "include \"sub/b.inc\" rule a { condition: b }"),
            ("sub/b.inc", "include \"c.inc\""),
            ("sub/c.inc", "rule b { condition: true }"),
        ]);
        let rules = compile(&[dir.path().to_owned()]).unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(rules.scanner.rules().count(), 2);
        fs::write(dir.path().join("sub/c.inc"), "include \"../a.yar\"").expect("writes");
        let failure = compile(&[dir.path().to_owned()]).err().expect("a circle");
        assert!(failure.found[0].contains("in a circle"), "{failure:?}");
        fs::write(
            dir.path().join("sub/c.inc"),
            "rule b { condition: nothing }",
        )
        .expect("writes");
        let failure = compile(&[dir.path().to_owned()]).err().expect("a mistake");
        assert!(
            failure.found[0].contains("sub/c.inc:1:21: error"),
            "{failure:?}"
        );
    }
}
