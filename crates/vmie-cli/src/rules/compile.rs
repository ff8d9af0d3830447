//! Finds the files of rules and compiles them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use boreal::compiler::CompilerBuilder;
use boreal::module::Console;
use boreal::scanner::{CallbackEvents, FragmentedScanMode, ScanParams};
use boreal::{Compiler, Scanner};

use super::mistakes::Mistakes;
use super::{define, includes};
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
    /// What does not compile and was left out, with file, line and column, and what can be done about it.
    pub(crate) left_out: Option<Failure>,
    /// What they have to say while they are evaluated.
    pub(crate) said: Said,
}

/// Messages of rules, by `console.log`: so many until they are taken.
#[derive(Clone, Default)]
pub(crate) struct Said(Arc<Mutex<Vec<String>>>);

impl Said {
    const MOST: usize = 256;
    const LONGEST: usize = 1024;

    fn push(&self, text: String) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < Self::MOST {
            all.push(text.chars().take(Self::LONGEST).collect());
        }
    }

    /// Takes what was said so far, in order.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Compiles what was typed: files, and all files of rules in folders; with external variables as they were typed.
///
/// Each file is a namespace of its own, named as the file is, from the folder on that was typed. What does not
/// compile is left out.
///
/// # Errors
///
/// When nothing is left; names every mistake in every file, in one with a syntax error that.
pub(crate) fn compile(typed: &[PathBuf], defined: &[String]) -> Result<Rules, Failure> {
    let said = Said::default();
    let files = files(typed)?;
    let mut spoilt = BTreeSet::new();
    let mut errors = Vec::new();
    loop {
        let heard = said.clone();
        let console = Console::with_callback(move |text| heard.push(text));
        let mut compiler = CompilerBuilder::new().add_module(console).build();
        define::define(&mut compiler, defined)?;
        let mut mistakes = Mistakes::default();
        let mut names = BTreeSet::new();
        let spoilt_before = spoilt.len();
        for (file, within) in &files {
            let namespace = namespace(file, within, &mut names);
            if spoilt.contains(file) {
                continue;
            }
            if let Some(wrong) = includes::circle(file) {
                let wrong = format!("{}: error: {wrong}", file.display());
                mistakes.errors.push(wrong);
                continue;
            }
            let before = mistakes.errors.len();
            mistakes.add(&mut compiler, file, &namespace);
            if std::mem::take(&mut mistakes.global) {
                // Without it, the others would hold where they should not.
                errors.extend(mistakes.errors.drain(before..));
                errors.push(format!(
                    "{}: error: a global rule does not compile, so no other rule of this file can be used",
                    file.display()
                ));
                spoilt.insert(file.clone());
            }
        }
        // The compiler has rules of those files; it cannot forget them.
        if spoilt.len() > spoilt_before {
            continue;
        }
        errors.append(&mut mistakes.errors);
        let modules = available(&compiler);
        let mut scanner = compiler.finalize();
        let count = scanner.rules().count();
        let left_out = (!errors.is_empty()).then(|| failure(&errors, &modules, count));
        if let Some(failure) = left_out.as_ref().filter(|_| count == 0) {
            return Err(failure.clone());
        }
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
        return Ok(Rules {
            scanner,
            warnings: mistakes.warnings,
            left_out,
            said,
        });
    }
}

fn available(compiler: &Compiler) -> String {
    let mut modules: Vec<&str> = compiler.available_modules().collect();
    modules.sort_unstable();
    modules.join(", ")
}

/// What is wrong with the rules, of which so many are left.
fn failure(errors: &[String], modules: &str, count: usize) -> Failure {
    let s = if errors.len() == 1 { "" } else { "s" };
    let mut what = format!("{} mistake{s} in the rules", errors.len());
    if count > 0 {
        let s = if count == 1 { "" } else { "s" };
        what = format!("{what}: what does not compile is left out, {count} rule{s} left");
    }
    let failure = Failure::new(what);
    let mut failure = errors.iter().take(SHOWN).fold(failure, Failure::found);
    if errors.len() > SHOWN {
        failure = failure.found(format!("{} more", errors.len() - SHOWN));
    }
    let imports = |name: &str| {
        let error = format!("unknown import {name}");
        errors.iter().any(|text| text.ends_with(&error))
    };
    if errors.iter().any(|error| error.contains("unknown import")) {
        failure = failure.hint(format!("rules without this module; vmie has {modules}"));
        for (name, why) in [
            (
                "magic",
                "asks libmagic of what kind a file is, and memory is no file",
            ),
            ("cuckoo", "is about the report of a sandbox"),
        ] {
            if imports(name) {
                failure = failure.hint(format!("nothing for `{name}`: it {why}"));
            }
        }
    }
    if errors
        .iter()
        .any(|error| error.contains("unknown identifier"))
    {
        failure = failure.hint("-d NAME=VALUE, if the identifier is an external variable");
    }
    failure
}

/// The files, each once, with the folder that was typed; in folders by name.
fn files(typed: &[PathBuf]) -> Result<Vec<(PathBuf, PathBuf)>, Failure> {
    let mut all = Vec::new();
    for path in typed {
        if !path.is_dir() {
            // A typing mistake, and no matter of what is in a file.
            fs::metadata(path).map_err(|error| {
                Failure::new(format!("cannot read {}: {error}", shell_word(path)))
                    .hint("a file of rules, or a folder of them")
            })?;
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
    // What cannot be read is told by the compiler.
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
        let rules =
            compile(&[dir.path().to_owned()], &[]).unwrap_or_else(|error| panic!("{error:?}"));
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
                "import \"cuckoo\"\n// rule\nrule ok { condition: cuckoo }\nrule ok { condition: x }",
            ),
        ]);
        let failure = compile(&[dir.path().to_owned()], &[])
            .err()
            .expect("mistakes");
        assert_eq!(failure.what, "6 mistakes in the rules");
        for (line, place) in failure.found.iter().zip([
            "a.yar:2:14: error: ",
            "a.yar:5:31: error: ",
            "b.yar:2:25: error: ",
            "c.yar:1:1: error: unknown import cuckoo",
            "c.yar:3:22: error: unknown identifier",
            "c.yar:4:22: error: unknown identifier",
        ]) {
            assert!(line.contains(place), "{place}: {line}");
        }
        assert!(
            failure.hints[0].contains("elf, hash, macho, math, pe"),
            "{failure:?}"
        );
        assert!(failure.hints[1].contains("sandbox"), "{failure:?}");
        assert!(failure.hints[2].contains("-d NAME=VALUE"), "{failure:?}");
    }

    fn rules(dir: &tempfile::TempDir, defined: &[&str]) -> (Vec<String>, Vec<String>) {
        let defined: Vec<String> = defined.iter().map(|&text| text.to_owned()).collect();
        let rules = compile(&[dir.path().to_owned()], &defined);
        let rules = rules.unwrap_or_else(|error| panic!("{error:?}"));
        let names = rules.scanner.rules().map(|rule| rule.name.to_owned());
        let names = names.collect();
        (
            names,
            rules
                .left_out
                .map(|failure| failure.found)
                .unwrap_or_default(),
        )
    }

    #[test]
    fn what_does_not_compile_is_left_out() {
        let dir = folder(&[
            (
                "a.yar",
                "import \"magic\"\nrule one { condition: true }\n/* \u{e4} */ rule bad { condition: filename == \"x\" }\n\
                 rule two { condition: one }\nrule after { condition: bad }\nrule three { condition: size > 1 }",
            ),
            ("b.yar", "rule syntax { condition: }"),
            ("c.yar", "rule four { condition: true }"),
        ]);
        let (names, errors) = rules(&dir, &[]);
        assert_eq!(names, ["one", "two", "four"]);
        for (error, place) in errors.iter().zip([
            "a.yar:1:1: error: unknown import magic",
            "a.yar:3:31: error: unknown identifier \"filename\"",
            "a.yar:5:25: error: unknown identifier \"bad\"",
            "a.yar:6:25: error: unknown identifier \"size\"",
            "b.yar:1:26: error: ",
        ]) {
            assert!(error.contains(place), "{place}: {error}");
        }
        assert_eq!(errors.len(), 5, "{errors:?}");
        let (names, errors) = rules(&dir, &["filename=x", "size=2"]);
        assert_eq!(names, ["one", "bad", "two", "after", "three", "four"]);
        assert_eq!(errors.len(), 2, "{errors:?}");
        // A number is not compared with a text.
        let (_, errors) = rules(&dir, &["filename=1", "size=x"]);
        assert_eq!(errors.len(), 5, "{errors:?}");
    }

    #[test]
    fn the_rest_of_included_files_is_used_too() {
        let dir = folder(&[
            (
                "a.yar",
                "rule before { condition: true }\ninclude \"sub/b.inc\"\nrule a { condition: b and before }",
            ),
            (
                "sub/b.inc",
                "include \"c.inc\"\nrule wrong { condition: nothing }\nrule b { condition: c }\ninclude \"none.inc\"",
            ),
            (
                "sub/c.inc",
                "rule no { condition: nothing }\nrule c { condition: true }",
            ),
        ]);
        let (names, errors) = rules(&dir, &[]);
        assert_eq!(names, ["before", "c", "b", "a"]);
        for (error, place) in
            errors
                .iter()
                .zip(["sub/c.inc:1:22: error", "sub/b.inc:2:25: error", "none.inc"])
        {
            assert!(error.contains(place), "{place}: {error}");
        }
        assert_eq!(errors.len(), 3, "{errors:?}");
    }

    /// Rules that should hold only where a global one does.
    #[test]
    fn a_file_whose_global_rule_does_not_compile_is_left_out() {
        let dir = folder(&[
            (
                "a.yar",
                "rule one { condition: true }\nprivate global rule all { condition: nothing }\nrule two { condition: true }",
            ),
            ("b.yar", ANY),
        ]);
        let (names, errors) = rules(&dir, &[]);
        assert_eq!(names, ["any"]);
        assert!(errors[0].contains("a.yar:2:38: error"), "{errors:?}");
        assert!(errors[1].contains("global rule"), "{errors:?}");
    }

    #[test]
    fn modules_that_make_sense_on_memory_are_there() {
        for (import, condition) in [
            ("hash", "hash.md5(\"x\") == \"\""),
            ("pe", "pe.imphash() == \"\""),
            ("elf", "elf.type == 3"),
            ("dotnet", "dotnet.is_dotnet"),
            ("dex", "dex.number_of_fields == 1"),
            ("macho", "macho.cputype == 1"),
            ("math", "math.abs(-1) == 1"),
            ("string", "string.to_int(\"1\") == 1"),
            ("time", "time.now() > 1"),
            ("console", "console.log(\"x\")"),
        ] {
            let text = format!("import \"{import}\" rule a {{ condition: {condition} }}");
            let dir = folder(&[("a.yar", &text)]);
            assert_eq!(rules(&dir, &[]), (vec!["a".to_owned()], vec![]), "{import}");
        }
    }

    #[test]
    fn where_there_are_no_rules_it_says_so() {
        let dir = folder(&[("a.txt", ANY)]);
        for path in [dir.path().to_owned(), dir.path().join("no.yar")] {
            compile(&[path], &[]).err().expect("no rules");
        }
    }

    #[test]
    fn includes_are_followed_and_circles_are_refused() {
        let dir = folder(&[
            ("a.yar", "include \"sub/b.inc\" rule a { condition: b }"),
            ("sub/b.inc", "include \"c.inc\""),
            ("sub/c.inc", "rule b { condition: true }"),
        ]);
        let rules =
            compile(&[dir.path().to_owned()], &[]).unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(rules.scanner.rules().count(), 2);
        fs::write(dir.path().join("sub/c.inc"), "include \"../a.yar\"").expect("writes");
        let failure = compile(&[dir.path().to_owned()], &[])
            .err()
            .expect("a circle");
        assert!(failure.found[0].contains("in a circle"), "{failure:?}");
        fs::write(
            dir.path().join("sub/c.inc"),
            "rule b { condition: nothing }",
        )
        .expect("writes");
        let failure = compile(&[dir.path().to_owned()], &[])
            .err()
            .expect("a mistake");
        assert!(
            failure.found[0].contains("sub/c.inc:1:21: error"),
            "{failure:?}"
        );
        assert!(failure.found[1].contains("a.yar:1:"), "{failure:?}");
    }
}
