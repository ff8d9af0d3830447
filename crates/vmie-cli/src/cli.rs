//! The whole command line, and running one.

use std::ffi::OsString;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};

use crate::args::GlobalArgs;
use crate::exit::{Done, Failure, Result, Stop};
use crate::options::Options;
use crate::ordered::ordered;
use crate::output::Format;
use crate::verb::{self, Verb};
use crate::whole::Whole;

const AFTER_HELP: &str = "\
Addresses: 0x and hexadecimal digits, or decimal; where the operating system is known, also a
symbol, a module, module!symbol or a [region], each with or without +0x10 or -0x10.
Ranges: A..B (B excluded), A..+LEN, or what has a name; LEN takes K, M, G (also KiB, KB; all binary).

Exit status: 0 found or done, 1 nothing found, 2 error (also when nothing could be looked at),
3 incomplete under --strict. A closed pipe is success.

Start with `vmie demo`.";

/// Look into a virtual machine's memory from outside
#[derive(Parser, Debug)]
#[command(name = "vmie", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,

    #[command(flatten)]
    pub(crate) global: GlobalArgs,
}

impl Cli {
    /// The whole command line, as it is shown.
    pub(crate) fn shown() -> clap::Command {
        ordered(Self::command())
    }

    /// What was typed.
    pub(crate) fn typed(
        words: impl IntoIterator<Item = OsString>,
    ) -> std::result::Result<Self, clap::Error> {
        Self::from_arg_matches(&Self::shown().try_get_matches_from(words)?)
    }
}

/// Runs what was typed.
pub(crate) fn run(cli: &Cli, options: &Options) -> Result<Done> {
    let whole = Whole {
        command: Cli::shown,
        run: run_words,
    };
    verb::run(&cli.verb, options, &whole)
}

/// Runs words as if they had been typed by whoever typed the rest, and says with which status that would end. For
/// people, also when they pipe it into a pager.
fn run_words(words: Vec<OsString>, typed: &GlobalArgs) -> Result<u8> {
    let mut cli = Cli::typed(std::iter::once("vmie".into()).chain(words))
        .map_err(|error| Failure::new(format!("the demo's command line is wrong: {error}")))?;
    cli.global.color = typed.color;
    cli.global.quiet = typed.quiet;
    cli.global.verbose = typed.verbose;
    cli.global.threads = typed.threads;
    cli.global.output.get_or_insert(Format::Table);
    let options = Options::new(&cli.global)?;
    match run(&cli, &options) {
        Err(Stop::ClosedPipe) => Err(Stop::ClosedPipe),
        result => Ok(options.tell(&result)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
