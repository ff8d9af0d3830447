//! `vmie`: look into a virtual machine's memory from outside.
//!
//! The command is a thin layer over the engine. It goes one way:
//!
//! ```text
//! cli       the whole command line: the verbs            (clap, no I/O)
//! args      what several verbs take                      (clap, no I/O)
//! options   what to do: format, colour, threads         (terminals, environment)
//! source    the guest's physical memory                 (opens the image)
//! guest     its operating system                        (found when a verb first needs it)
//! space     the memory that is meant                    (an address space, or physical memory)
//! names     what its addresses are called              (the engine's resolver, made when needed)
//! verb/*    one file per verb: its arguments; asks the engine, pushes rows
//! output    rows (`vmie-rows` defines them) to standard output: table, jsonl, json, csv
//! report    everything else to standard error
//! exit      how it ended
//! ```
//!
//! To add a verb: its row in `vmie-rows`, a file under `verb/` with its arguments, a line in
//! [`verb::run`], a transcript under `tests/golden/`, and its line in the README.

mod addr;
mod advice;
mod answer;
mod args;
mod asm;
mod candidates;
mod cli;
mod escape;
mod exit;
mod glob;
mod guest;
mod interrupt;
mod layout;
#[cfg(target_os = "linux")]
mod live;
mod mistyped;
mod names;
mod options;
mod ordered;
mod origin;
mod output;
mod pages;
mod pointers;
#[cfg(test)]
mod reference;
mod regions;
mod report;
mod rows;
#[cfg(feature = "yara")]
mod rules;
mod salvage;
mod saved;
mod seek;
mod several;
mod sigfile;
mod signatures;
mod size;
mod source;
mod space;
mod spaces;
#[cfg(test)]
#[path = "../../vmie/src/testmem.rs"]
mod testmem;
mod texts;
mod unread;
mod unseen;
mod verb;
mod whole;
mod width;

use std::process::ExitCode;

use crate::cli::Cli;
use crate::exit::Stop;
use crate::options::Options;

fn main() -> ExitCode {
    let cli = match Cli::typed(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return mistyped::tell(&error),
    };
    let options = match Options::new(&cli.global) {
        Ok(options) => options,
        Err(failure) => return mistyped::tell_failure(&failure),
    };
    #[cfg(target_os = "linux")]
    let guests = live::Opened;
    let result = cli::run(&cli, &options);
    // A guest that has quit, or stands although it should run, is an error whatever was found.
    #[cfg(target_os = "linux")]
    let result = match guests.finish(&options.reporter) {
        Ok(()) => result,
        Err(failure) => {
            if let Err(Stop::Failed(first)) = &result
                && **first != failure
            {
                options.reporter.failure(first);
            }
            Err(failure.into())
        }
    };
    ExitCode::from(options.tell(&result))
}
