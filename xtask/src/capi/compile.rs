//! Compiling headers and test programs, by every compiler, and running the programs under watch.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::guests::Subject;
use super::install::{self, Installed};
use super::{HEADERS, shown, sources};
use crate::{Fallible, output};

const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-Werror", "-pedantic"];

/// What valgrind is told: memory that is lost, and bytes without a value, are errors.
const VALGRIND: [&str; 5] = [
    "--quiet",
    "--error-exitcode=99",
    "--leak-check=full",
    "--errors-for-leak-kinds=definite,indirect",
    // Threads take turns; without this one may wait for ever.
    "--fair-sched=yes",
];

/// Compiles each header alone, as C and as C++.
pub(crate) fn headers(installed: &Installed) -> Fallible<()> {
    for header in install::headers()? {
        let name = header.file_name().ok_or("a header without a name")?;
        let unit = installed.prefix.join("alone.in");
        fs::write(&unit, format!("#include <{}>\n", name.to_string_lossy()))?;
        for (compiler, standard, language) in [
            ("gcc", "-std=c11", "c"),
            ("clang", "-std=c11", "c"),
            ("g++", "-std=c++17", "c++"),
            ("clang++", "-std=c++17", "c++"),
        ] {
            output(
                Command::new(compiler)
                    .args([standard, "-fsyntax-only", "-x", language])
                    .args(STRICT)
                    .arg("-I")
                    .arg(installed.include())
                    .arg(&unit),
            )?;
        }
    }
    Ok(())
}

/// A test program in all its forms.
pub(crate) struct Program {
    pub(crate) header: &'static str,
    /// Compiled by gcc, by clang, by gcc with AddressSanitizer, and by gcc with the static library.
    forms: Vec<Form>,
    /// A directory that tests may write to.
    room: PathBuf,
    env: Vec<(&'static str, PathBuf)>,
}

struct Form {
    path: PathBuf,
    /// A program that watches it, with arguments.
    watch: &'static [&'static str],
}

/// Compiles the test programs.
pub(crate) fn tests(installed: &Installed, dir: &Path) -> Fallible<Vec<Program>> {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir)?;
    fs::write(dir.join("bare.h"), super::guests::bare_header())?;
    HEADERS
        .iter()
        .map(|&header| {
            let room = dir.join(format!("{header}.room"));
            fs::create_dir_all(&room)?;
            let source = sources().join("tests").join(format!("{header}.c"));
            let compile = |form: &str, compiler: &str, more: &[&str], library: &[&str]| {
                let path = dir.join(format!("{header}.{form}"));
                output(
                    Command::new(compiler)
                        .args(["-std=c11", "-g", "-O1", "-pthread"])
                        .args(STRICT)
                        .args(more)
                        .arg("-I")
                        .arg(installed.include())
                        .arg("-I")
                        .arg(dir)
                        .arg(&source)
                        .arg("-L")
                        .arg(installed.lib())
                        .args(library)
                        .arg("-o")
                        .arg(&path),
                )?;
                Ok::<_, Box<dyn std::error::Error>>(path)
            };
            let shared = ["-lvmie"];
            let asan = ["-fsanitize=address", "-fno-omit-frame-pointer"];
            let gcc = compile("gcc", "gcc", &[], &shared)?;
            let mut forms = vec![
                Form {
                    path: compile("clang", "clang", &[], &shared)?,
                    watch: &[],
                },
                Form {
                    path: compile("asan", "gcc", &asan, &shared)?,
                    watch: &[],
                },
                Form {
                    path: gcc.clone(),
                    watch: &["valgrind"],
                },
            ];
            if header == HEADERS[0] {
                // What vmie.pc says about linking statically is right.
                let private = private(installed)?;
                let mut library = vec!["-l:libvmie.a"];
                library.extend(private.split_whitespace());
                forms.push(Form {
                    path: compile("static", "gcc", &[], &library)?,
                    watch: &[],
                });
            }
            forms.insert(
                0,
                Form {
                    path: gcc,
                    watch: &[],
                },
            );
            Ok(Program {
                header,
                forms,
                room,
                env: vec![("LD_LIBRARY_PATH", installed.lib())],
            })
        })
        .collect()
}

/// What a static link needs besides the library, by pkg-config.
fn private(installed: &Installed) -> Fallible<String> {
    let flags = output(installed.env(&mut Command::new("pkg-config")).args([
        "--static",
        "--libs-only-l",
        "vmie",
    ]))?;
    let flags = String::from_utf8(flags)?;
    Ok(flags.replace("-lvmie", ""))
}

impl Program {
    /// Lets the program test itself, rightly and wrongly used, on the bare guest.
    pub(crate) fn check(&self, bare: &Subject) -> Fallible<()> {
        for form in &self.forms {
            let source = shown(&bare.source);
            let cr3 = format!("{:#x}", bare.cr3);
            self.run(form, &["check", &source, &cr3, &shown(&self.room)])?;
        }
        Ok(())
    }

    /// What the program reads from a guest: the same in all forms.
    pub(crate) fn read(&self, words: &[&str]) -> Fallible<String> {
        let mut answers = self.forms.iter().map(|form| self.run(form, words));
        let first = answers.next().ok_or("a program without forms")??;
        for (answer, form) in answers.zip(&self.forms[1..]) {
            if answer? != first {
                return Err(format!(
                    "{} says something else than {} about {words:?}",
                    form.path.display(),
                    self.forms[0].path.display()
                )
                .into());
            }
        }
        Ok(first)
    }

    /// The program in all forms that nothing watches from outside, to be given words and run.
    pub(crate) fn unwatched(&self) -> impl Iterator<Item = Command> {
        let forms = self.forms.iter().filter(|form| form.watch.is_empty());
        forms.map(|form| self.command(form))
    }

    fn run(&self, form: &Form, words: &[&str]) -> Fallible<String> {
        let mut command = self.command(form);
        command.args(words).current_dir(&self.room);
        Ok(String::from_utf8(output(&mut command)?)?)
    }

    fn command(&self, form: &Form) -> Command {
        let mut command = match form.watch {
            [] => Command::new(&form.path),
            [watch, more @ ..] => {
                let mut command = Command::new(watch);
                command.args(VALGRIND).args(more).arg(&form.path);
                command
            }
        };
        command.env("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0");
        for (name, value) in &self.env {
            command.env(name, value);
        }
        command
    }
}
