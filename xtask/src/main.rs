//! The workspace's chores: `cargo xtask test`, `cargo xtask lab`, `cargo xtask bench`, `cargo xtask install`,
//! `cargo xtask reference`.
//!
//! Everything that a fresh machine needs is installed or named by [`tools`]; everything that is
//! downloaded or built for the lab is kept under `target/lab` and reused.

mod bench;
mod capi;
mod damage;
mod lab;
mod reference;
mod test;
mod tools;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Errors of xtask are for people: a message that says what was tried and what to do.
type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [--no-lab]         all tests: the workspace's, then those on real guests
  lab [VARIANT...]        boot the lab guests and keep images and truth under target/lab
  lab list                the variants, and which have a snapshot
  lab up [VARIANT]        leave one guest running to try vmie on, until Ctrl-C
  lab matrix [VARIANT...] more machines and kernels, and the lab's tests on each; takes long
  lab live [--hold]       the tests on guests that run; or keep these guests, to try a command on
  lab damage [VARIANT...] what overwritten pages of a guest's memory cost `ps`; `--every N` tries fewer
  lab clean               remove everything under target/lab
  install --prefix DIR    build the C library and install it: libvmie, its headers, vmie.pc
  capi [--no-lab]         the tests of the C library, by gcc, clang, valgrind and AddressSanitizer
  reference               write docs/reference anew from the definitions of rows
  bench [paging|spaces|signatures|scan|xref|ps]  benchmarks beside memcpy and peers, printed as tables
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["test", rest @ ..] => test::run_all(rest),
        ["lab", "damage", rest @ ..] => damage::run(rest),
        ["lab", rest @ ..] => lab::run(rest),
        ["bench", rest @ ..] => bench::run(rest),
        ["capi", rest @ ..] => capi::run(rest),
        ["reference"] => reference::write(),
        ["install", rest @ ..] => capi::install(rest),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        _ => Err(USAGE.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's directory.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder of the workspace")
}

/// Where cargo puts what it builds.
fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace().join("target"), |dir| workspace().join(dir))
}

/// The cargo that runs us, in the workspace.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// A cargo command for the whole workspace but its benches, whose peers take longer to build than all of vmie.
///
/// Which features a dependency has depends on what is built together. With one selection for everything that is
/// tested, nothing is compiled twice.
fn everything(what: &str) -> Command {
    let mut command = cargo();
    command.args([what, "--workspace", "--exclude", "vmie-bench"]);
    command
}

/// Builds the command, the C library and the tests, in the selection of the tests.
fn build_for_tests() -> Fallible<()> {
    run(everything("build").args(["--lib", "--bins", "--tests"]))
}

/// Runs a command that talks to the user, and fails when it fails.
fn run(command: &mut Command) -> Fallible<()> {
    let shown = show(command);
    let status = command
        .status()
        .map_err(|error| format!("cannot run {shown}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{shown}: {status}").into())
    }
}

/// Runs a command quietly and returns what it printed; its errors are part of ours when it fails.
fn output(command: &mut Command) -> Fallible<Vec<u8>> {
    let shown = show(command);
    let output = command
        .output()
        .map_err(|error| format!("cannot run {shown}: {error}"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(format!("{shown}: {}\n{}", output.status, errors.trim_end()).into())
    }
}

fn show(command: &Command) -> String {
    let mut shown = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        shown.push(' ');
        shown.push_str(&arg.to_string_lossy());
    }
    shown
}
